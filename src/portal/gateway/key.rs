//! What a gateway is asked with: its address, and the key that names portal and user.

use std::{fmt, str::FromStr};

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::portal::auth::{authority, is_loopback, is_secure};

/// The address of a gateway, without the path of its methods. No secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayUrl {
    base: Url,
    host: String,
}

/// Why a gateway's address was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGatewayUrl {
    /// Not the address of a host.
    #[error("`portal.vibecode.url` must be an address like https://vibecode.bitrix24.tech")]
    NotAHost,
    /// A webhook's address, which is a secret and is not where the gateway is.
    #[error(
        "`portal.vibecode.url` holds the address of a webhook; that belongs into `portal.webhook_url`"
    )]
    Webhook,
    /// The key would travel in clear text.
    #[error(
        "`portal.vibecode.url` must begin with https://; plain http:// would send the key in clear text and is accepted for 127.0.0.1 only"
    )]
    Insecure,
}

impl GatewayUrl {
    /// Where the vendor runs it.
    pub const VENDORS: &'static str = "https://vibecode.bitrix24.tech";

    /// The host, with the port where it is not the scheme's own.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.base)
    }

    /// The address of a path below `/v1/`.
    pub(super) fn of(&self, path: &str) -> Option<Url> {
        self.base.join(&format!("v1/{path}")).ok()
    }
}

impl FromStr for GatewayUrl {
    type Err = InvalidGatewayUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut base = Url::parse(text.trim()).map_err(|_| InvalidGatewayUrl::NotAHost)?;
        let host = authority(&base).ok_or(InvalidGatewayUrl::NotAHost)?;
        if !base.username().is_empty() || base.query().is_some() || base.fragment().is_some() {
            return Err(InvalidGatewayUrl::NotAHost);
        }
        if base.path().starts_with("/rest/") {
            return Err(InvalidGatewayUrl::Webhook);
        }
        if !is_secure(&base) {
            return Err(InvalidGatewayUrl::Insecure);
        }
        let path = base.path().trim_end_matches('/');
        let path = format!("{}/", path.strip_suffix("/v1").unwrap_or(path));
        base.set_path(&path);
        Ok(Self { base, host })
    }
}

/// A gateway's key, and the session of a user where the key is an application's. Never shown.
#[derive(Clone)]
pub struct GatewayKey {
    key: SecretString,
    session: Option<SecretString>,
}

/// Why a key was refused. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGatewayKey {
    /// It has not the form of a key that may read records.
    #[error(
        "`portal.vibecode.api_key` must begin with vibe_api_ (a personal key) or vibe_app_ (an application's); keys that begin with vibe_live_ may not read records"
    )]
    WrongKind,
    /// An application's key alone names no user.
    #[error(
        "`portal.vibecode.api_key` is an application's key, which needs the session token of a user as `portal.vibecode.session_token`"
    )]
    NoSession,
    /// It could not be sent.
    #[error("`portal.vibecode` holds a key or a token with characters that none has")]
    Unprintable,
}

impl GatewayKey {
    /// Checks and takes a key and, for an application's, the session token.
    pub fn new(
        key: &SecretString,
        session: Option<&SecretString>,
    ) -> Result<Self, InvalidGatewayKey> {
        let trimmed = |secret: &SecretString| secret.expose_secret().trim().to_owned();
        let (key, session) = (trimmed(key), session.map(trimmed));
        let printable = |text: &String| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable(&key) || !session.as_ref().is_none_or(printable) {
            return Err(InvalidGatewayKey::Unprintable);
        }
        let is_app = key.starts_with("vibe_app_");
        if !is_app && !key.starts_with("vibe_api_") {
            return Err(InvalidGatewayKey::WrongKind);
        }
        if is_app && session.is_none() {
            return Err(InvalidGatewayKey::NoSession);
        }
        Ok(Self { key: key.into(), session: session.map(SecretString::from) })
    }

    pub(super) fn key(&self) -> &str {
        self.key.expose_secret()
    }

    pub(super) fn session(&self) -> Option<&str> {
        self.session.as_ref().map(SecretString::expose_secret)
    }

    /// Replaces the secrets wherever a text from the gateway repeats them.
    pub(super) fn scrub(&self, text: &str) -> String {
        let text = text.replace(self.key(), "***");
        match self.session() {
            Some(session) if !session.is_empty() => text.replace(session, "***"),
            _ => text,
        }
    }
}

impl fmt::Debug for GatewayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewayKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str, session: Option<&str>) -> Result<GatewayKey, InvalidGatewayKey> {
        GatewayKey::new(&text.into(), session.map(SecretString::from).as_ref())
    }

    #[test]
    fn only_keys_that_may_read_records_are_taken() {
        assert!(key("vibe_api_abc\n", None).is_ok());
        assert!(key("vibe_app_abc", Some("token")).is_ok());
        assert_eq!(key("vibe_app_abc", None).unwrap_err(), InvalidGatewayKey::NoSession);
        assert_eq!(key("vibe_live_abc", None).unwrap_err(), InvalidGatewayKey::WrongKind);
        assert_eq!(key("vibe_api_a\nb", None).unwrap_err(), InvalidGatewayKey::Unprintable);
    }

    #[test]
    fn neither_key_nor_session_is_ever_shown() {
        let key = key("vibe_app_hidden", Some("secret-session")).unwrap();
        assert_eq!(format!("{key:?}"), "GatewayKey(***)");
        assert_eq!(key.scrub("vibe_app_hidden, secret-session?"), "***, ***?");
    }

    #[test]
    fn an_address_is_taken_with_and_without_the_version() {
        for text in ["https://gate.example", "https://gate.example/v1/", " https://gate.example/ "]
        {
            let url: GatewayUrl = text.parse().unwrap();
            let address = url.of("contacts/search").unwrap();
            assert_eq!(address.as_str(), "https://gate.example/v1/contacts/search");
        }
        assert!("http://127.0.0.1:8080".parse::<GatewayUrl>().unwrap().is_loopback());
        for (text, error) in [
            ("http://gate.example", InvalidGatewayUrl::Insecure),
            ("gate.example", InvalidGatewayUrl::NotAHost),
            ("https://a:b@gate.example", InvalidGatewayUrl::NotAHost),
            ("https://portal.example/rest/1/secret/", InvalidGatewayUrl::Webhook),
        ] {
            assert_eq!(text.parse::<GatewayUrl>().unwrap_err(), error, "{text}");
        }
    }
}
