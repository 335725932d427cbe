//! One HTTP exchange with a gateway. A redirect is no answer: the key goes to no other host.

use std::{fs, time::Duration};

use reqwest::{
    Certificate, Client, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
    redirect,
};
use serde_json::{Map, Value};
use url::form_urlencoded::Serializer;

use super::{
    GatewayOptions,
    envelope::GatewayAnswer,
    failure::GatewayFailure,
    key::{GatewayKey, GatewayUrl},
};
use crate::portal::{
    body::{Body, Buffer, Buffers},
    error::PortalError,
    retry_after,
};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Idle connections are closed before the gateway would close them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// What goes with a request, and how it is sent.
#[derive(Debug, Clone)]
pub(in crate::portal) enum Parameters {
    /// Nothing; by GET.
    None,
    /// In the address; by GET.
    Query(String),
    /// As JSON; by POST.
    Body(String),
}

impl Parameters {
    /// JSON for a body.
    pub(in crate::portal) fn body(json: &Value) -> Self {
        Self::Body(json.to_string())
    }

    /// The same as a query, with the names of nested objects in brackets and lists with commas
    /// (vendor page "List contacts").
    pub(in crate::portal) fn query(json: &Map<String, Value>) -> Self {
        let mut query = Serializer::new(String::new());
        for (name, value) in json {
            write(&mut query, name, value);
        }
        Self::Query(query.finish())
    }
}

fn write(query: &mut Serializer<'_, String>, name: &str, value: &Value) {
    match value {
        Value::Object(parts) => {
            for (part, value) in parts {
                write(query, &format!("{name}[{part}]"), value);
            }
        }
        Value::Array(values) => {
            let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
            query.append_pair(name, &texts.join(","));
        }
        Value::String(text) => {
            query.append_pair(name, text);
        }
        other => {
            query.append_pair(name, &other.to_string());
        }
    }
}

/// The header that carries the key.
const API_KEY: &str = "X-Api-Key";

/// The connections to one gateway.
pub(super) struct Exchange {
    client: Client,
    url: GatewayUrl,
    key: GatewayKey,
    timeout: Duration,
    max_body: usize,
    buffers: Buffers,
}

impl Exchange {
    /// Sets up connections; sends nothing.
    pub(super) fn new(options: GatewayOptions) -> Result<Self, PortalError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificates = match &options.ca_file {
            Some(path) => {
                let pem = fs::read(path)
                    .map_err(|source| PortalError::CaFile { path: path.clone(), source })?;
                Certificate::from_pem_bundle(&pem)
                    .map_err(|_| PortalError::CaCertificate { path: path.clone() })?
            }
            None => Vec::new(),
        };
        let builder = Client::builder()
            .user_agent(concat!("b24mirror/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .gzip(true)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .default_headers(headers(&options.key))
            .connect_timeout(CONNECT_TIMEOUT.min(options.timeout))
            .timeout(options.timeout)
            .pool_idle_timeout(IDLE_TIMEOUT);
        let builder = if options.url.is_loopback() {
            builder.no_proxy().tls_certs_only(certificates)
        } else {
            builder.tls_certs_merge(certificates)
        };
        let client = builder
            .build()
            .map_err(|source| PortalError::Setup { source: source.without_url() })?;
        Ok(Self {
            client,
            url: options.url,
            key: options.key,
            timeout: options.timeout,
            max_body: options.max_body,
            buffers: Buffers::default(),
        })
    }

    pub(super) fn host(&self) -> &str {
        self.url.host()
    }

    /// Sends one request and reads its answer to the end.
    pub(super) async fn ask(
        &self,
        path: &str,
        parameters: &Parameters,
    ) -> Result<GatewayAnswer, PortalError> {
        let mut address = self.url.of(path).ok_or_else(|| PortalError::Inexpressible {
            method: path.to_owned(),
            what: "it cannot be part of an address".to_owned(),
        })?;
        let request = match parameters {
            Parameters::Body(body) => self
                .client
                .post(address)
                .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .body(body.clone()),
            Parameters::Query(query) => {
                address.set_query(Some(query));
                self.client.get(address)
            }
            Parameters::None => self.client.get(address),
        };
        #[expect(clippy::disallowed_methods, reason = "this is the one place that asks gateways")]
        let response =
            request.send().await.map_err(|error| self.broken(path, error.without_url()))?;
        let status = response.status().as_u16();
        let retry_after = retry_after::read(response.headers());
        let date = retry_after::date(response.headers());
        let body = match Body::new(path, status, self.collected(path, response).await?) {
            // Whatever stands before the gateway refuses with a page, and says for how long.
            Err(PortalError::Gateway { .. }) if status == 429 || retry_after.is_some() => {
                return Err(GatewayFailure::new(path, "", status, "", retry_after).into());
            }
            body => body?,
        };
        let mut answer = GatewayAnswer::read(path, status, body, retry_after, &self.key)?;
        answer.date = date;
        Ok(answer)
    }

    async fn collected(&self, path: &str, mut response: Response) -> Result<Buffer, PortalError> {
        let method = || path.to_owned();
        let mut body = self.buffers.take();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > self.max_body => {
                    return Err(PortalError::BodyTooLarge {
                        method: method(),
                        limit: self.max_body,
                    });
                }
                Ok(Some(chunk)) => body.extend(&chunk).await,
                Ok(None) => return Ok(body),
                Err(error) if error.is_timeout() => return Err(self.timed_out(path)),
                Err(_) => {
                    return Err(PortalError::CutBody { method: method(), bytes: body.len() });
                }
            }
        }
    }

    /// Names a failure before an answer; the error must have lost its URL already.
    fn broken(&self, path: &str, source: reqwest::Error) -> PortalError {
        let host = self.host().to_owned();
        if source.is_connect() {
            PortalError::Connect { host, source }
        } else if source.is_timeout() {
            self.timed_out(path)
        } else {
            PortalError::Transport { host, method: path.to_owned(), source }
        }
    }

    fn timed_out(&self, path: &str) -> PortalError {
        PortalError::Timeout { method: path.to_owned(), after: self.timeout }
    }
}

/// The headers of every request; those that hold secrets are marked, so that nobody shows them.
fn headers(key: &GatewayKey) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let secret = |text: &str| {
        let mut value = HeaderValue::from_str(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    };
    if let Some(key) = secret(key.key()) {
        headers.insert(API_KEY, key);
    }
    let session = key.session().map(|session| format!("Bearer {session}"));
    if let Some(session) = session.and_then(|session| secret(&session)) {
        headers.insert(AUTHORIZATION, session);
    }
    headers
}
