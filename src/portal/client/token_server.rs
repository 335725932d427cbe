//! The authorization server: one question, a pair of tokens for a refresh token (vendor
//! pages `auto-renewal` and `error-codes`).

use std::time::Duration;

use chrono::DateTime;
use reqwest::{Client, header::ACCEPT};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::portal::{
    application::Application,
    auth::authority,
    error::{PortalError, TokenRefusal},
    tokens::Tokens,
};

/// A longer answer is no pair of tokens.
const MAX_BODY: usize = 64 * 1024;

/// An answer. It is never shown: it holds the tokens.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    error_description: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    member_id: Option<String>,
    #[serde(default)]
    client_endpoint: Option<String>,
    #[serde(default)]
    server_endpoint: Option<String>,
    #[serde(default)]
    expires: Option<Value>,
    #[serde(default)]
    user_id: Option<Value>,
}

/// How long the authorization server may take. Shorter than a lease lasts, so that nobody else
/// takes over and spends the same token meanwhile.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Buys a new pair. The old one has ended when this succeeds, and may have ended when it fails.
pub(super) async fn renew(
    client: &Client,
    application: &Application,
    server: &Url,
    refresh: &SecretString,
) -> Result<Tokens, PortalError> {
    let name = authority(server).unwrap_or_default();
    let unusable = |what: &str| PortalError::TokenServer {
        server: name.clone(),
        what: what.to_owned(),
        source: None,
    };
    let mut address = server.clone();
    address
        .query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", application.client_id())
        .append_pair("client_secret", application.client_secret().expose_secret())
        .append_pair("refresh_token", refresh.expose_secret());
    let request = client.get(address).header(ACCEPT, "application/json").timeout(TIMEOUT);
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks for tokens")]
    let response = request.send().await;
    // The address holds both secrets.
    let broken = |error: reqwest::Error| PortalError::TokenServer {
        server: name.clone(),
        what: "the connection failed".to_owned(),
        source: Some(error.without_url()),
    };
    let mut response = response.map_err(broken)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BODY {
            return Err(unusable("its answer is too long"));
        }
    }
    if status.is_redirection() {
        return Err(unusable("it redirects elsewhere"));
    }
    let Ok(said) = serde_json::from_slice::<Said>(&body) else {
        let what = format!("it answered with something other than tokens (HTTP {status})");
        return Err(unusable(&what));
    };
    if let Some(code) = said.error {
        // Whatever it repeats of our question is not shown.
        let hide = |text: &str, secret: &SecretString| text.replace(secret.expose_secret(), "***");
        let description = said.error_description.unwrap_or_default();
        let description = hide(&hide(&description, application.client_secret()), refresh);
        let refusal = TokenRefusal::new(&name, &code, status.as_u16(), &description);
        return Err(refusal.into());
    }
    let given = |token: Option<String>| token.filter(|token| !token.trim().is_empty());
    let (Some(access), Some(refresh), Some(member_id)) =
        (given(said.access_token), given(said.refresh_token), given(said.member_id))
    else {
        return Err(unusable("its answer lacks a token or the portal's member_id"));
    };
    let endpoint = said.client_endpoint.and_then(|said| application.calling_at(&said));
    let said_server = said.server_endpoint.and_then(|said| application.renewing_at(&said));
    Ok(Tokens {
        access: access.into(),
        refresh: refresh.into(),
        member_id,
        user_id: said.user_id.as_ref().and_then(number).and_then(|id| u64::try_from(id).ok()),
        endpoint: endpoint.map(String::from),
        token_server: said_server.unwrap_or_else(|| server.clone()).into(),
        expires_at: said
            .expires
            .as_ref()
            .and_then(number)
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
    })
}

/// A whole number, also as text.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}
