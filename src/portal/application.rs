//! A local application: what it identifies itself with at the authorization server.

use std::fmt;

use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::auth::{PortalHost, is_loopback, is_secure};

/// The authorization server of portals in most of the world.
const INTERNATIONAL: &str = "https://oauth.bitrix.info/oauth/token/";

/// That of the zones below.
const EASTERN: &str = "https://oauth.bitrix24.tech/oauth/token/";

/// Top-level domains whose portals have an authorization server of their own.
const EASTERN_ZONES: [&str; 3] = [".ru", ".by", ".kz"];

/// The path below which an authorization server renews tokens.
const TOKEN_PATH: &str = "/oauth/token/";

/// What the operator knows of an application.
#[derive(Debug, Clone)]
pub struct ApplicationOptions {
    /// The portal's host, with the port where it is not the scheme's own.
    pub host: String,
    /// The application's code.
    pub client_id: String,
    /// The application's secret key; sent to the authorization server only.
    pub client_secret: SecretString,
    /// The refresh token of the last authorization by a person.
    pub refresh_token: SecretString,
    /// The authorization server, where it is not the one of the portal's zone.
    pub token_server: Option<String>,
}

/// An application on a portal. Shows nothing but the portal's host.
#[derive(Clone)]
pub struct Application {
    options: ApplicationOptions,
    portal: PortalHost,
    token_server: Option<Url>,
    zone_server: Url,
}

/// Why an application's settings were refused. Never repeats a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidApplication {
    /// Not a host.
    #[error(
        "`portal.oauth.host` must be the portal's host and nothing else, such as \"example.bitrix24.com\""
    )]
    Host,
    /// The secret key would travel in clear text, or nowhere.
    #[error(
        "`portal.oauth.token_server` must be an https:// address, such as \"https://oauth.bitrix.info/oauth/token/\"; http:// is accepted for 127.0.0.1 only"
    )]
    TokenServer,
}

impl Application {
    /// Checks and takes what the operator knows.
    pub fn new(options: ApplicationOptions) -> Result<Self, InvalidApplication> {
        let portal: PortalHost = options.host.parse().map_err(|_| InvalidApplication::Host)?;
        let token_server = match &options.token_server {
            None => None,
            Some(address) => Some(
                Url::parse(address.trim())
                    .ok()
                    .filter(|url| is_secure(url) && url.host_str().is_some())
                    .filter(|url| url.query().is_none() && url.fragment().is_none())
                    .filter(|url| url.username().is_empty() && url.password().is_none())
                    .ok_or(InvalidApplication::TokenServer)?,
            ),
        };
        let zone_server = zone_server(portal.base()).ok_or(InvalidApplication::Host)?;
        Ok(Self { options, portal, token_server, zone_server })
    }

    /// The portal's host, with the port where it is not the scheme's own.
    #[must_use]
    pub fn host(&self) -> &str {
        self.portal.name()
    }

    /// The address that method names are appended to.
    pub(super) const fn base(&self) -> &Url {
        self.portal.base()
    }

    pub(super) fn client_id(&self) -> &str {
        &self.options.client_id
    }

    pub(super) const fn client_secret(&self) -> &SecretString {
        &self.options.client_secret
    }

    /// The refresh token of the settings, for as long as no pair has come of it.
    pub(super) const fn refresh_token(&self) -> &SecretString {
        &self.options.refresh_token
    }

    /// Which authorization this is: the same for the same refresh token of the same
    /// application. It is a hash under the token itself, which has too much chance in it to
    /// be guessed, and depends on no key that may be exchanged.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let key = self.options.refresh_token.expose_secret().as_bytes();
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let text = format!("b24mirror, the refresh token of {}", self.options.client_id);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hmac::sign(&key, text.as_bytes()).as_ref());
        fingerprint
    }

    /// The authorization server to ask: the setting, else what it last said of itself, else
    /// the one of the portal's zone.
    pub(super) fn token_server(&self, last_said: Option<&str>) -> Url {
        let said = || last_said.and_then(|said| self.trusted(said));
        self.token_server.clone().or_else(said).unwrap_or_else(|| self.zone_server.clone())
    }

    /// Where the secret key may go on the word of the authorization server.
    fn trusted(&self, address: &str) -> Option<Url> {
        Url::parse(address)
            .ok()
            .filter(|url| is_secure(url) && (!is_loopback(url) || is_loopback(self.base())))
    }

    /// The address that renews tokens, from the `server_endpoint` of an answer.
    pub(super) fn renewing_at(&self, server_endpoint: &str) -> Option<Url> {
        let mut url = self.trusted(server_endpoint)?;
        url.set_path(TOKEN_PATH);
        url.set_query(None);
        url.set_fragment(None);
        Some(url)
    }

    /// The address of the portal, from the `client_endpoint` of an answer.
    pub(super) fn calling_at(&self, client_endpoint: &str) -> Option<Url> {
        let mut url = self.trusted(client_endpoint)?;
        let path = format!("{}/", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.set_query(None);
        url.set_fragment(None);
        Some(url)
    }
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Application({})", self.host())
    }
}

/// A portal on this machine is the simulator, which renews tokens itself.
fn zone_server(base: &Url) -> Option<Url> {
    if is_loopback(base) {
        return base.join(TOKEN_PATH).ok();
    }
    let name = base.host_str()?.trim_end_matches('.');
    let is_eastern = EASTERN_ZONES.iter().any(|zone| name.ends_with(zone));
    Url::parse(if is_eastern { EASTERN } else { INTERNATIONAL }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(host: &str) -> ApplicationOptions {
        ApplicationOptions {
            host: host.to_owned(),
            client_id: "local.1".to_owned(),
            client_secret: "s3cretKey".into(),
            refresh_token: "r3freshToken".into(),
            token_server: None,
        }
    }

    #[test]
    fn the_zone_decides_whom_to_ask_until_somebody_says_it() {
        for (host, server) in [
            ("example.bitrix24.com", INTERNATIONAL),
            ("example.bitrix24.de", INTERNATIONAL),
            ("Example.Bitrix24.RU", EASTERN),
            ("example.bitrix24.by", EASTERN),
            ("example.bitrix24.kz", EASTERN),
            ("127.0.0.1:8480", "http://127.0.0.1:8480/oauth/token/"),
        ] {
            let application = Application::new(options(host)).unwrap();
            assert_eq!(application.token_server(None).as_str(), server, "{host}");
        }
        let mut chosen = options("example.bitrix24.ru");
        let application = Application::new(chosen.clone()).unwrap();
        let said = application.renewing_at("https://oauth.example/rest/").unwrap();
        assert_eq!(said.as_str(), "https://oauth.example/oauth/token/");
        assert_eq!(application.token_server(Some(said.as_str())), said);
        for unsafe_place in ["http://oauth.example/rest/", "http://127.0.0.1:9/rest/", "nonsense"] {
            assert_eq!(application.renewing_at(unsafe_place), None);
            assert_eq!(application.calling_at(unsafe_place), None);
            assert_eq!(application.token_server(Some(unsafe_place)).as_str(), EASTERN);
        }
        chosen.token_server = Some("https://own.example/oauth/token/".to_owned());
        let application = Application::new(chosen).unwrap();
        let own = "https://own.example/oauth/token/";
        assert_eq!(application.token_server(Some(said.as_str())).as_str(), own);
    }

    #[test]
    fn anything_but_a_host_is_refused_and_secrets_are_never_shown() {
        for host in ["", "https://example.com", "example.com/rest/", "a@b.c", "a b"] {
            let error = Application::new(options(host)).unwrap_err();
            assert_eq!(error, InvalidApplication::Host, "{host}");
        }
        for server in ["oauth.bitrix.info", "http://oauth.bitrix.info/", "https://u:p@x.y/"] {
            let mut options = options("example.com");
            options.token_server = Some(server.to_owned());
            let error = Application::new(options).unwrap_err();
            assert_eq!(error, InvalidApplication::TokenServer, "{server}");
        }
        let application = Application::new(options("Example.com:8443")).unwrap();
        assert_eq!(application.host(), "example.com:8443");
        let shown = format!("{application:?} {:?}", application.options);
        assert!(!shown.contains("s3cretKey") && !shown.contains("r3freshToken"), "{shown}");
    }

    #[test]
    fn an_authorization_is_known_by_its_token_and_its_application() {
        let one = Application::new(options("a.b")).unwrap().fingerprint();
        let mut other = options("c.d");
        other.client_secret = "another".into();
        assert_eq!(Application::new(other.clone()).unwrap().fingerprint(), one);
        other.refresh_token = "another".into();
        assert_ne!(Application::new(other).unwrap().fingerprint(), one);
        let mut other = options("a.b");
        other.client_id = "local.2".to_owned();
        assert_ne!(Application::new(other).unwrap().fingerprint(), one);
    }
}
