//! Local applications: access by tokens, the authorization server that renews them, and
//! the portal's host, which may change (vendor pages `auto-renewal`, `error-codes` and
//! `change-domen`).

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Response, Uri, header};
use axum::routing::any;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::php::{Array, Php, parse_str};
use super::portal::{Failure, Portal};
use super::server::{Reply, Shared, finish, instead};
use super::wire::{Peer, WireFault};

/// By this name faults strike the authorization server.
const TOKEN_METHOD: &str = "oauth/token";

/// What every access token begins with; the rest is its number.
const ACCESS: &str = "s1macc3sst0ken";

/// What every refresh token but the first begins with.
const REFRESH: &str = "s1mrefresht0ken";

/// An application that is installed on the portal.
#[derive(Clone, Debug)]
pub struct ApplicationOptions {
    /// Its code.
    pub client_id: String,
    /// Its secret key.
    pub client_secret: String,
    /// The refresh token that its installation has given out.
    pub refresh_token: String,
    /// The portal's identity, whatever its host.
    pub member_id: String,
    /// How long an access token is good for.
    pub lifetime: Duration,
    /// Whether the refresh token before the last one still works.
    pub grace: bool,
}

impl Default for ApplicationOptions {
    fn default() -> Self {
        Self {
            client_id: "local.5d1a7f3c9e2b40.12345678".to_owned(),
            client_secret: "s1mcl13nts3cr3tLJSl0lNB76B5YY6u0YVQ3AW0DrVADcRTw".to_owned(),
            refresh_token: "s1mf1rstrefresht0ken000000000000".to_owned(),
            member_id: "a223c6b3710f85df22e9377d6c4f7553".to_owned(),
            lifetime: Duration::from_hours(1),
            grace: false,
        }
    }
}

/// Something that happens to the application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationEvent {
    /// Every access token expires now.
    Expire,
    /// Every access token expires after so many more commands that came with one.
    ExpireAfter(u64),
    /// Every access token is unknown from now on, as after an accident of the vendor's.
    Invalidate,
    /// It is taken off the portal, or put back; its tokens stay as they are.
    Removed(bool),
    /// Its paid period is over, or is renewed.
    Unpaid(bool),
    /// New tokens are made, and the answers that should carry them never come.
    Silent(bool),
    /// Somebody authorizes it anew with this refresh token; the old ones are dead.
    Authorized(String),
    /// Whether the refresh token before the last one still works.
    Grace(bool),
}

/// The state of the application, and the portal's host.
#[derive(Debug, Default)]
pub(super) struct Applications {
    issued: u64,
    /// Access tokens and when they expire.
    access: Vec<(String, f64)>,
    /// The refresh token in force; that of the options before the first renewal.
    refresh: Option<String>,
    spent: Vec<String>,
    removed: bool,
    unpaid: bool,
    silent: bool,
    expire_after: Option<u64>,
    /// `127.0.0.1:port`, where the simulator listens.
    pub(super) address: String,
    /// The host that the portal has now; any other is answered with a redirect.
    pub(super) host: Option<String>,
}

pub(super) fn router() -> Router<Shared> {
    Router::new().route("/oauth/token", any(token)).route("/oauth/token/", any(token))
}

/// The token of a call, in the order in which the kernel looks for it.
pub(super) fn token_of(headers: &HeaderMap, params: &Array) -> Option<String> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(|token| token.trim().to_owned());
    let parameter = || text(params, "access_token");
    bearer.filter(|token| !token.is_empty()).or_else(|| token_in(params)).or_else(parameter)
}

/// The token of a call of REST 3.0, which has one place for it (vendor page `rest-v3`).
pub(super) fn token_in(params: &Array) -> Option<String> {
    text(params, "auth")
}

/// A parameter that is a text, and not an empty one.
fn text(params: &Array, name: &str) -> Option<String> {
    match params.get(name) {
        Some(Php::Text(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

impl Portal {
    /// Where a call of another host than the portal's is sent.
    pub(super) fn renamed(&self, headers: &HeaderMap, uri: &Uri) -> Option<String> {
        let host = self.applications.host.as_ref()?;
        let asked = headers.get(header::HOST).and_then(|value| value.to_str().ok());
        (asked != Some(host)).then(|| {
            let path = uri.path_and_query().map_or("", |path| path.as_str());
            format!("http://{host}{path}")
        })
    }

    /// Whether a token opens the portal, in the order of the kernel's checks.
    pub(super) fn check_token(&mut self, token: &str, scope: &str) -> Result<(), Failure> {
        let known = self.applications.access.iter().find(|(known, _)| known == token);
        let Some((_, until)) = known else {
            let text = "The access token provided is invalid";
            return Err(Failure::new(401, "invalid_token", text));
        };
        if self.applications.removed {
            return Err(Failure::new(401, "APPLICATION_NOT_FOUND", "Application not found"));
        }
        if *until <= self.clock.mono() {
            return Err(expired());
        }
        match self.refuse_scope(scope) {
            Some(failure) => {
                let text = failure.text.replace("webhook token", "access token");
                Err(Failure { text, ..failure })
            }
            None => Ok(()),
        }
    }

    /// Whether the token of a command is good for it; counts the command.
    pub(super) fn spend_token(&mut self, token: &str) -> Result<(), Failure> {
        if let Some(left) = &mut self.applications.expire_after {
            if *left == 0 {
                self.applications.expire_after = None;
                self.expire();
            } else {
                *left -= 1;
            }
        }
        let now = self.clock.mono();
        let good = |(known, until): &(String, f64)| known == token && *until > now;
        if self.applications.access.iter().any(good) { Ok(()) } else { Err(expired()) }
    }

    fn expire(&mut self) {
        for (_, until) in &mut self.applications.access {
            *until = f64::NEG_INFINITY;
        }
    }

    pub(super) fn happen_to_application(&mut self, event: ApplicationEvent) {
        let state = &mut self.applications;
        match event {
            ApplicationEvent::Expire => self.expire(),
            ApplicationEvent::ExpireAfter(commands) => state.expire_after = Some(commands),
            ApplicationEvent::Invalidate => state.access.clear(),
            ApplicationEvent::Removed(removed) => state.removed = removed,
            ApplicationEvent::Unpaid(unpaid) => state.unpaid = unpaid,
            ApplicationEvent::Silent(silent) => state.silent = silent,
            ApplicationEvent::Authorized(token) => {
                state.refresh = Some(token);
                state.access.clear();
                state.spent.clear();
            }
            ApplicationEvent::Grace(grace) => self.options.application.grace = grace,
        }
    }

    /// Renews the tokens: the JSON of the answer, or why there is none.
    fn renew_tokens(&mut self, params: &Array) -> Result<String, Failure> {
        self.stats.token_requests += 1;
        let read = |name: &str| match params.get(name) {
            Some(Php::Text(text)) if !text.is_empty() => Some(text.as_str()),
            _ => None,
        };
        let options = &self.options.application;
        let (Some("refresh_token"), Some(id), Some(secret), Some(refresh)) =
            (read("grant_type"), read("client_id"), read("client_secret"), read("refresh_token"))
        else {
            return Err(Failure::new(400, "invalid_request", "Invalid request"));
        };
        if id != options.client_id {
            return Err(Failure::new(200, "WRONG_CLIENT", "Wrong client"));
        }
        if secret != options.client_secret {
            return Err(Failure::new(400, "invalid_client", "Invalid client"));
        }
        let state = &mut self.applications;
        if state.removed {
            return Err(Failure::new(401, "NOT_INSTALLED", "Application not installed"));
        }
        if state.unpaid {
            return Err(Failure::new(401, "PAYMENT_REQUIRED", "Payment required"));
        }
        let current = state.refresh.as_ref().unwrap_or(&options.refresh_token);
        let in_grace = options.grace && state.spent.last().is_some_and(|last| last == refresh);
        if state.spent.iter().any(|spent| spent == refresh) {
            self.stats.spring(24);
        }
        if refresh != current && !in_grace {
            return Err(Failure::new(400, "invalid_grant", "Invalid grant"));
        }
        self.stats.renewals += 1;
        if refresh == current {
            state.spent.push(refresh.to_owned());
        }
        state.issued += 1;
        let number = state.issued;
        let (access, refresh) = (format!("{ACCESS}{number:018}"), format!("{REFRESH}{number:017}"));
        state.access.push((access.clone(), self.clock.mono() + options.lifetime.as_secs_f64()));
        state.refresh = Some(refresh.clone());
        let address = &state.address;
        let host = state.host.as_ref().unwrap_or(address);
        let lifetime = options.lifetime.as_secs();
        let body = json!({
            "access_token": access,
            "client_endpoint": format!("http://{host}/rest/"),
            "domain": "oauth.bitrix.info",
            "expires": self.clock.now() + i64::try_from(lifetime).unwrap_or(0),
            "expires_in": lifetime,
            "member_id": options.member_id,
            "refresh_token": refresh,
            "scope": self.options.scopes.join(","),
            "server_endpoint": format!("http://{address}/rest/"),
            "status": "L",
            "user_id": self.options.user,
        });
        Ok(body.to_string())
    }
}

fn expired() -> Failure {
    Failure::new(401, "expired_token", "The access token provided has expired.")
}

/// The authorization server.
async fn token(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    body: Bytes,
) -> Response<Body> {
    peer.arm(WireFault::None);
    let fault = shared.lock().faults.strike_request((TOKEN_METHOD, None), &[]);
    if let Some(fault) = &fault
        && let Some(reply) = instead(&shared, &peer, fault, &uri).await
    {
        return finish(&shared, reply);
    }
    let mut params = parse_str(uri.query().unwrap_or_default(), 100).0;
    for (key, value) in parse_str(&String::from_utf8_lossy(&body), 100).0.iter() {
        params.set(key.clone(), value.clone());
    }
    let (renewed, silent) = {
        let mut portal = shared.lock();
        (portal.renew_tokens(&params), portal.applications.silent)
    };
    let reply = match renewed {
        Ok(_) if silent => std::future::pending().await,
        Ok(body) => Reply::json(200, body.into_bytes()),
        Err(failure) => {
            let portal = shared.lock();
            Reply::failure(&portal, &failure)
        }
    };
    finish(&shared, reply)
}
