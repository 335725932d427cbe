//! What a call identifies itself with: an inbound webhook, or an application's token; or that
//! there is a gateway's key alone, by which the portal itself cannot be asked.

use std::{fmt, str::FromStr};

use secrecy::{ExposeSecret as _, SecretString};
use url::{Host, Url};

use super::application::Application;

/// How the portal is entered.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// By an inbound webhook.
    Webhook(WebhookUrl),
    /// By the tokens of an application.
    Application(Box<Application>),
    /// Not at all: everything is read through a gateway, by its key.
    GatewayAlone(PortalHost),
}

impl Credentials {
    /// The portal's host as configured, with the port where it is not the scheme's own.
    #[must_use]
    pub fn host(&self) -> &str {
        match self {
            Self::Webhook(webhook) => webhook.host(),
            Self::Application(application) => application.host(),
            Self::GatewayAlone(portal) => portal.name(),
        }
    }

    /// The setting that names the host.
    #[must_use]
    pub const fn host_key(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "portal.webhook_url",
            Self::Application(_) => "portal.oauth.host",
            Self::GatewayAlone(_) => "portal.vibecode.portal_host",
        }
    }

    /// The address that method names are appended to. A secret, if it is a webhook's.
    pub(super) fn base(&self) -> Option<Url> {
        match self {
            Self::Webhook(webhook) => Url::parse(webhook.base()).ok(),
            Self::Application(application) => Some(application.base().clone()),
            Self::GatewayAlone(portal) => Some(portal.base().clone()),
        }
    }
}

/// Where a portal is, and nothing that opens it.
#[derive(Debug, Clone)]
pub struct PortalHost {
    base: Url,
    name: String,
}

/// What was to be a portal's host is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it must be the portal's host and nothing else, such as \"example.bitrix24.com\"")]
pub struct InvalidHost;

impl PortalHost {
    /// The host, with the port where it is not the scheme's own.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address that method names are appended to.
    pub(super) const fn base(&self) -> &Url {
        &self.base
    }
}

/// `example.bitrix24.com` → `https://example.bitrix24.com/rest/`.
impl FromStr for PortalHost {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let host = text.trim();
        if host.is_empty() || host.contains(['/', '@', '?', '#', '\\', ' ']) {
            return Err(InvalidHost);
        }
        let base = |scheme: &str| Url::parse(&format!("{scheme}://{host}/rest/"));
        let mut url = base("https").map_err(|_| InvalidHost)?;
        if is_loopback(&url) {
            url = base("http").map_err(|_| InvalidHost)?;
        }
        let name = authority(&url).ok_or(InvalidHost)?;
        Ok(Self { base: url, name })
    }
}

impl From<PortalHost> for Credentials {
    fn from(portal: PortalHost) -> Self {
        Self::GatewayAlone(portal)
    }
}

impl From<WebhookUrl> for Credentials {
    fn from(webhook: WebhookUrl) -> Self {
        Self::Webhook(webhook)
    }
}

impl From<Application> for Credentials {
    fn from(application: Application) -> Self {
        Self::Application(Box::new(application))
    }
}

/// The address of an inbound webhook: `https://{portal}/rest/{user}/{secret}/`.
///
/// The address *is* the credential, so it is never shown: `Debug` and `Display` print
/// the scheme and the host only. Plain `http` is accepted for loopback alone.
#[derive(Clone)]
pub struct WebhookUrl {
    base: SecretString,
    secret: SecretString,
    scheme: String,
    host: String,
    user_id: u64,
    loopback: bool,
}

/// Why a webhook address was refused. Never repeats the address, which is a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWebhook {
    /// Not a URL at all.
    #[error(
        "`portal.webhook_url` is not a URL; copy the inbound webhook's address from the portal, like https://example.bitrix24.com/rest/1/…/"
    )]
    NotAUrl,
    /// The secret would travel in clear text.
    #[error(
        "`portal.webhook_url` must begin with https://; plain http:// would send the webhook's secret in clear text and is accepted for 127.0.0.1 only"
    )]
    Insecure,
    /// The path has not the form of an inbound webhook.
    #[error(
        "`portal.webhook_url` must have the form https://PORTAL/rest/USER/SECRET/, with nothing after the secret; copy it from the inbound webhook's page in the portal"
    )]
    WrongPath,
}

impl WebhookUrl {
    /// Checks and takes an address, with or without the final slash.
    pub fn parse(text: &str) -> Result<Self, InvalidWebhook> {
        let mut url = Url::parse(text.trim()).map_err(|_| InvalidWebhook::NotAUrl)?;
        let loopback = is_loopback(&url);
        if !is_secure(&url) {
            return Err(InvalidWebhook::Insecure);
        }
        let host = authority(&url).ok_or(InvalidWebhook::NotAUrl)?;
        if url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return Err(InvalidWebhook::WrongPath);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        let mut segments = path.split('/').skip(1);
        let (Some("rest"), Some(user), Some(secret), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(InvalidWebhook::WrongPath);
        };
        let user_id = user.parse().map_err(|_| InvalidWebhook::WrongPath)?;
        if user_id == 0 || secret.is_empty() || !secret.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(InvalidWebhook::WrongPath);
        }
        url.set_path(&format!("{path}/"));
        Ok(Self {
            secret: secret.to_owned().into(),
            scheme: url.scheme().to_owned(),
            base: String::from(url).into(),
            host,
            user_id,
            loopback,
        })
    }

    /// The portal's host, with the port where it is not the scheme's own.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The portal user whose rights the webhook has.
    #[must_use]
    pub const fn user_id(&self) -> u64 {
        self.user_id
    }

    /// Whether the portal is on this very machine (the simulator).
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// The address that method names are appended to; ends with a slash. A secret.
    pub(super) fn base(&self) -> &str {
        self.base.expose_secret()
    }

    /// Replaces the secret wherever a text from the portal repeats it.
    pub(super) fn scrub(&self, text: &str) -> String {
        text.replace(self.secret.expose_secret(), "***")
    }
}

impl FromStr for WebhookUrl {
    type Err = InvalidWebhook;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({self})")
    }
}

/// Whether an address points at this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Whether a secret may be sent there: by TLS, or without leaving the machine.
pub(super) fn is_secure(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

/// Host and, where given, port.
pub(super) fn authority(url: &Url) -> Option<String> {
    let host = url.host_str().filter(|host| !host.is_empty())?;
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "abc123secret";

    #[test]
    fn a_webhook_is_read_with_and_without_the_final_slash() {
        for end in ["", "/"] {
            let url = format!(" https://Example.bitrix24.com/rest/17/{SECRET}{end}\n");
            let webhook = WebhookUrl::parse(&url).unwrap();
            assert_eq!(webhook.host(), "example.bitrix24.com");
            assert_eq!(webhook.user_id(), 17);
            assert_eq!(webhook.base(), format!("https://example.bitrix24.com/rest/17/{SECRET}/"));
        }
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for host in ["127.0.0.1:8080", "localhost", "[::1]:9"] {
            let webhook = WebhookUrl::parse(&format!("http://{host}/rest/1/{SECRET}/")).unwrap();
            assert!(webhook.is_loopback());
            assert_eq!(webhook.host(), host);
        }
        for url in ["http://example.com/rest/1/x/", "ftp://127.0.0.1/rest/1/x/"] {
            assert_eq!(WebhookUrl::parse(url).unwrap_err(), InvalidWebhook::Insecure);
        }
    }

    #[test]
    fn anything_but_a_webhook_path_is_refused_without_repeating_it() {
        for path in [
            "",
            "rest",
            "rest/1",
            "rest/x/abc123secret/",
            "rest/0/abc123secret/",
            "rest/1/abc123secret/profile.json",
            "rest/1/abc123secret/?a=b",
            "rest/1/abc-123/",
            "other/1/abc123secret/",
            "rest/1//",
        ] {
            let error = WebhookUrl::parse(&format!("https://example.com/{path}")).unwrap_err();
            assert_eq!(error, InvalidWebhook::WrongPath, "{path}");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(SECRET), "{shown}");
            assert!(shown.contains("portal.webhook_url"), "{shown}");
        }
        assert_eq!(WebhookUrl::parse("example.com").unwrap_err(), InvalidWebhook::NotAUrl);
    }

    #[test]
    fn neither_display_nor_debug_shows_more_than_the_host() {
        let webhook =
            WebhookUrl::parse(&format!("https://a.bitrix24.com/rest/1/{SECRET}/")).unwrap();
        assert_eq!(webhook.to_string(), "https://a.bitrix24.com");
        assert_eq!(format!("{webhook:?}"), "WebhookUrl(https://a.bitrix24.com)");
        assert_eq!(webhook.scrub(&format!("bad {SECRET}!")), "bad ***!");
    }
}
