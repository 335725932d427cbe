//! One HTTP exchange: a POST with a JSON body, and the answer's bytes or what became of it.

use std::{
    fs,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use reqwest::{
    Certificate, Client, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue, LOCATION},
    redirect,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use url::Url;

use super::PortalOptions;
use crate::portal::{
    auth::{Credentials, authority, is_loopback, is_secure},
    body::{Buffer, Buffers},
    error::PortalError,
    retry_after,
};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Idle connections are closed before the portal's front end would close them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// What the path of a webhook's address begins with, and what REST 3.0 has in its place.
const CLASSIC_ROOT: &str = "/rest/";
const V3_ROOT: &str = "/rest/api/";

/// The connections to one portal.
pub(super) struct Http {
    client: Client,
    credentials: Credentials,
    timeout: Duration,
    max_body: usize,
    place: RwLock<Place>,
    buffers: Buffers,
}

/// Which of the portal's REST dialects a method belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `/rest/USER/SECRET/METHOD.json`
    Classic,
    /// REST 3.0: `/rest/api/USER/SECRET/METHOD`
    V3,
}

/// A method, and how it is addressed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) method: &'a str,
    pub(super) dialect: Dialect,
}

impl<'a> Target<'a> {
    pub(super) const fn classic(method: &'a str) -> Self {
        Self { method, dialect: Dialect::Classic }
    }

    pub(super) const fn v3(method: &'a str) -> Self {
        Self { method, dialect: Dialect::V3 }
    }
}

/// Where the portal is.
struct Place {
    /// Where it was last seen to answer, or is configured to be.
    home: Url,
    /// Where it has sent us and has not answered yet.
    moved: Option<Url>,
    /// Where it has answered last, once it has.
    answered: Option<String>,
}

/// What a POST brought.
pub(super) enum Reply {
    /// An answer, whatever it says.
    Answer(Whole),
    /// The portal lives elsewhere now; the same request should be sent again.
    Moved,
}

/// An answer that came to its end.
pub(super) struct Whole {
    /// The HTTP status.
    pub(super) status: u16,
    /// The body, decompressed.
    pub(super) body: Buffer,
    /// How long it asks to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl Http {
    /// Sets up connections; sends nothing.
    pub(super) fn new(options: &PortalOptions) -> Result<Self, PortalError> {
        // Whoever comes first installs it; the others find the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("b24mirror/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .gzip(true)
            .redirect(redirect::Policy::none())
            // Retries are counted and paid for in one place, and not here.
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT.min(options.timeout))
            .timeout(options.timeout)
            .pool_idle_timeout(IDLE_TIMEOUT);
        let extra = match &options.ca_file {
            Some(path) => {
                let pem = fs::read(path)
                    .map_err(|source| PortalError::CaFile { path: path.clone(), source })?;
                let unusable = || PortalError::CaCertificate { path: path.clone() };
                let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| unusable())?;
                if certificates.is_empty() {
                    return Err(unusable());
                }
                certificates
            }
            None => Vec::new(),
        };
        let no_host = || PortalError::Inexpressible {
            method: "rest".to_owned(),
            what: "the portal's address cannot be used".to_owned(),
        };
        let home = options.credentials.base().ok_or_else(no_host)?;
        builder = if is_loopback(&home) {
            // A portal on this machine needs neither a proxy nor the system's certificates.
            builder.no_proxy().tls_certs_only(extra)
        } else {
            builder.tls_certs_merge(extra)
        };
        let client = builder
            .build()
            .map_err(|source| PortalError::Setup { source: source.without_url() })?;
        Ok(Self {
            client,
            credentials: options.credentials.clone(),
            timeout: options.timeout,
            max_body: options.max_body,
            place: RwLock::new(Place { home, moved: None, answered: None }),
            buffers: Buffers::default(),
        })
    }

    /// The connections themselves, for another server that belongs to the portal.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Sends one request and reads its answer to the end.
    pub(super) async fn post(
        &self,
        target: Target<'_>,
        body: Vec<u8>,
        token: Option<&SecretString>,
    ) -> Result<Reply, PortalError> {
        let address = self.address(target)?;
        let (body, token) = match (target.dialect, token) {
            (Dialect::V3, Some(token)) => (signed(target.method, &body, token)?, None),
            (_, token) => (body, token),
        };
        let result = self.exchange(target.method, address, body, token).await;
        if result.is_err() {
            self.doubt();
        }
        result
    }

    /// No usable answer has come: an address that has never given one may be the broken part,
    /// so it is back to the last good one.
    pub(super) fn doubt(&self) {
        if self.place().moved.is_some() {
            self.place_mut().moved = None;
        }
    }

    /// The portal has answered as it should: where it has sent us, it lives.
    pub(super) fn settle(&self) {
        let place = self.place();
        if place.moved.is_none() && place.answered.is_some() {
            return;
        }
        drop(place);
        let mut place = self.place_mut();
        if let Some(home) = place.moved.take() {
            place.home = home;
        }
        place.answered = authority(&place.home);
    }

    /// Tries another host than the configured one first: the portal has moved there before.
    pub(super) fn start_at(&self, host: &str) {
        let mut place = self.place_mut();
        let mut home = place.home.clone();
        let Ok(other) = Url::parse(&format!("{}://{host}/", home.scheme())) else { return };
        let known = home.set_host(other.host_str()).is_ok() && home.set_port(other.port()).is_ok();
        let is_safe = is_secure(&home) && (!is_loopback(&home) || is_loopback(&place.home));
        if known && is_safe && home != place.home {
            place.moved = Some(home);
        }
    }

    /// Tries another address from now on, on the word of the authorization server.
    pub(super) fn try_at(&self, address: Url) {
        let mut place = self.place_mut();
        if authority(&address) != authority(&place.home) {
            tracing::info!(
                host = authority(&address),
                "the authorization server names another host"
            );
            place.moved = Some(address);
        }
    }

    /// The host at which the portal has answered last, once it has.
    pub(super) fn found_at(&self) -> Option<String> {
        self.place().answered.clone()
    }

    /// The same, if it is another host than the configured one.
    pub(super) fn renamed_to(&self) -> Option<String> {
        self.found_at().filter(|host| host != self.credentials.host())
    }

    async fn exchange(
        &self,
        method: &str,
        address: Url,
        body: Vec<u8>,
        token: Option<&SecretString>,
    ) -> Result<Reply, PortalError> {
        let host = authority(&address).unwrap_or_default();
        let mut request = self
            .client
            .post(address.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose_secret());
        }
        #[expect(clippy::disallowed_methods, reason = "this is the one place that sends")]
        let mut response = request
            .send()
            .await
            .map_err(|error| self.broken(method, &host, error.without_url()))?;

        let status = response.status();
        if let Some(target) = redirect_target(status, response.headers().get(LOCATION)) {
            self.follow(method, status, &address, target)?;
            return Ok(Reply::Moved);
        }

        let retry_after = retry_after::read(response.headers());
        let mut body = self.buffers.take();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > self.max_body => {
                    return Err(PortalError::BodyTooLarge {
                        method: method.to_owned(),
                        limit: self.max_body,
                    });
                }
                Ok(Some(chunk)) => body.extend(&chunk).await,
                Ok(None) => break,
                Err(error) if error.is_timeout() => return Err(self.timed_out(method)),
                Err(_) => {
                    return Err(PortalError::CutBody {
                        method: method.to_owned(),
                        bytes: body.len(),
                    });
                }
            }
        }
        Ok(Reply::Answer(Whole { status: status.as_u16(), body, retry_after }))
    }

    /// Takes a redirect's target as the new address, if a secret may be sent there.
    ///
    /// A renamed portal keeps the webhook's path and secret (vendor page `change-domen`).
    fn follow(
        &self,
        method: &str,
        status: StatusCode,
        from: &Url,
        target: &str,
    ) -> Result<(), PortalError> {
        let gateway =
            || PortalError::Gateway { method: method.to_owned(), status: status.as_u16() };
        let mut target = from.join(target).map_err(|_| gateway())?;
        let name = authority(&target).ok_or_else(gateway)?;
        if !is_secure(&target) || (is_loopback(&target) && !is_loopback(from)) {
            return Err(PortalError::InsecureRedirect {
                target: format!("{}://{name}", target.scheme()),
            });
        }
        let path = match target.path() {
            // Only the host has changed.
            "" | "/" => from.path(),
            path => path,
        };
        let base = [".json", ""]
            .into_iter()
            .find_map(|suffix| path.strip_suffix(&format!("/{method}{suffix}")))
            // It leads somewhere else, to a login page for example.
            .ok_or_else(gateway)?;
        // What is kept is where the classic methods are; the others follow from it.
        let base = format!("{base}/").replacen(V3_ROOT, CLASSIC_ROOT, 1);
        target.set_path(&base);
        target.set_query(None);
        target.set_fragment(None);
        tracing::warn!(
            host = name,
            setting = self.credentials.host_key(),
            "the portal has moved; put its new host into the settings"
        );
        self.place_mut().moved = Some(target);
        Ok(())
    }

    fn address(&self, Target { method, dialect }: Target<'_>) -> Result<Url, PortalError> {
        let place = self.place();
        let base = place.moved.as_ref().unwrap_or(&place.home).as_str();
        let address = match dialect {
            Dialect::Classic => format!("{base}{method}.json"),
            Dialect::V3 => format!("{}{method}", base.replacen(CLASSIC_ROOT, V3_ROOT, 1)),
        };
        Url::parse(&address).map_err(|_| PortalError::Inexpressible {
            method: method.to_owned(),
            what: "its name cannot be part of an address".to_owned(),
        })
    }

    fn place(&self) -> RwLockReadGuard<'_, Place> {
        self.place.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn place_mut(&self) -> RwLockWriteGuard<'_, Place> {
        self.place.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names a failure before an answer; the error must have lost its URL already.
    fn broken(&self, method: &str, host: &str, source: reqwest::Error) -> PortalError {
        let host = host.to_owned();
        if source.is_connect() {
            PortalError::Connect { host, source }
        } else if source.is_timeout() {
            self.timed_out(method)
        } else {
            PortalError::Transport { host, method: method.to_owned(), source }
        }
    }

    fn timed_out(&self, method: &str) -> PortalError {
        PortalError::Timeout { method: method.to_owned(), after: self.timeout }
    }
}

/// The body with the token in it: an application says who it is there, and nowhere else, where
/// it calls a method of REST 3.0 (vendor page `rest-v3`).
fn signed(method: &str, body: &[u8], token: &SecretString) -> Result<Vec<u8>, PortalError> {
    let inexpressible = |_| PortalError::Inexpressible {
        method: method.to_owned(),
        what: "its parameters are no JSON object".to_owned(),
    };
    let mut params: Map<String, Value> = serde_json::from_slice(body).map_err(inexpressible)?;
    params.insert("auth".to_owned(), token.expose_secret().into());
    serde_json::to_vec(&params).map_err(inexpressible)
}

/// Where a redirect leads that asks for the same request again.
fn redirect_target(status: StatusCode, location: Option<&HeaderValue>) -> Option<&str> {
    match status.as_u16() {
        301 | 302 | 307 | 308 => location?.to_str().ok(),
        _ => None,
    }
}
