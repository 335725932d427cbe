//! What can go wrong on the way to the portal, and the one table of what to do about it.
//!
//! No error here holds an address, a secret or a record: descriptions are cut short and
//! scrubbed, bodies are never kept, and transport errors have lost their URL.

mod application;

use std::{fmt, path::PathBuf, time::Duration};

pub use self::application::TokenRefusal;
use super::{gateway::GatewayFailure, tokens::TokenStoreError};
use crate::retry::Disposition;

/// The longest description that is kept, in characters.
const DESCRIPTION_CHARS: usize = 200;

/// What is kept of it until the secrets are out. A secret that is cut in half here lies behind
/// what is kept in the end.
const UNCLEARED_CHARS: usize = 10 * DESCRIPTION_CHARS;

/// The portal's own name for a failure. It may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ErrorCode(String);

impl ErrorCode {
    /// Takes a code as it came, cut to a sensible length.
    #[must_use]
    pub fn new(code: &str) -> Self {
        Self(code.trim().chars().take(DESCRIPTION_CHARS).collect())
    }

    /// The code; often an empty string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is that code. The portal's letter case varies, so it does not matter.
    #[must_use]
    pub fn is(&self, code: &str) -> bool {
        self.0.eq_ignore_ascii_case(code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "an error without a code" } else { &self.0 })
    }
}

/// An error that the portal itself put into an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiFailure {
    /// The method that failed.
    pub method: String,
    /// The portal's code; branch on this first.
    pub code: ErrorCode,
    /// The HTTP status; `None` for a command inside a batch, whose status says nothing.
    pub status: Option<u16>,
    /// The portal's description: at most 200 characters, without secrets.
    pub description: String,
    /// Whether the call came with an application's token, and not by a webhook.
    pub by_application: bool,
    /// Whether a new token may help.
    pub renewable: bool,
}

impl ApiFailure {
    /// Takes an error as it came.
    #[must_use]
    pub fn new(method: &str, code: &str, status: Option<u16>, description: &str) -> Self {
        Self {
            method: method.to_owned(),
            code: ErrorCode::new(code),
            status,
            description: description.trim().chars().take(UNCLEARED_CHARS).collect(),
            by_application: false,
            renewable: false,
        }
    }

    /// Puts the secrets out of it by `scrub`, then shortens it: half a secret would not be known
    /// as one.
    pub(super) fn clear(&mut self, scrub: impl Fn(&str) -> String) {
        self.description = scrub(&self.description).chars().take(DESCRIPTION_CHARS).collect();
    }

    /// The table: vendor page `system-errors`, the pages of the methods, and what
    /// kernels and SDKs were seen to do. The code decides, then the status, because
    /// pages, kernels and SDKs disagree about statuses. Keep the retried ones few.
    pub(super) fn disposition(&self) -> Disposition {
        use Disposition as D;
        let code = self.code.as_str().to_ascii_uppercase();
        let text = self.description.to_lowercase();
        match (code.as_str(), self.status) {
            ("QUERY_LIMIT_EXCEEDED", _) => D::WaitPortal,
            ("OPERATION_TIME_LIMIT", _) => D::WaitMethod,
            ("METHOD_CONFIRM_WAITING", _) => D::WaitConfirmation,

            (
                "INTERNAL_SERVER_ERROR"
                | "ERROR_UNEXPECTED_ANSWER"
                | "INTERNAL_WRONG_HANDLER_CLASS",
                _,
            ) => D::RetryFew,
            // It carries 401, yet only means that the portal could not ask its own server.
            ("CONNECTION_ERROR", _) => D::Retry,
            ("ERROR_CORE", Some(status)) if status >= 500 => D::RetryFew,
            ("ERROR_CORE", _) if text.contains("sql query error") => D::RetryFew,

            ("EXPIRED_TOKEN" | "INVALID_TOKEN", _) if self.renewable => D::RefreshToken,

            // Two errors share this code: the plan lacks REST, or the user lacks a right.
            ("ACCESS_DENIED", _) if text.contains("commercial plan") => D::StopPortal,
            ("ACCESS_DENIED", _) => D::StopEntity,
            (
                "EXPIRED_TOKEN"
                | "INVALID_TOKEN"
                | "OVERLOAD_LIMIT"
                | "NO_AUTH_FOUND"
                | "INVALID_CREDENTIALS"
                | "INSUFFICIENT_SCOPE"
                | "USER_ACCESS_ERROR"
                | "AUTHORIZATION_ERROR"
                | "APPLICATION_NOT_FOUND"
                | "ERROR_OAUTH"
                | "PORTAL_DELETED"
                | "ALLOWED_ONLY_INTRANET_USER"
                | "METHOD_CONFIRM_DENIED"
                | "INVALID_GRANT"
                | "INVALID_CLIENT"
                | "PAYMENT_REQUIRED"
                | "NOT_INSTALLED"
                | "WRONG_CLIENT"
                | "BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION"
                | "BITRIX_REST_V3_EXCEPTION_INSUFFICIENTSCOPEEXCEPTION",
                _,
            ) => D::StopPortal,

            ("ERROR_NOT_FOUND" | "NOT_FOUND", _) => D::Missing,

            (
                "ERROR_BATCH_METHOD_NOT_ALLOWED"
                | "ERROR_BATCH_LENGTH_EXCEEDED"
                | "INVALID_REQUEST"
                | "ERROR_MANIFEST_IS_NOT_AVAILABLE"
                | "WRONG_AUTH_TYPE"
                | "ERROR_METHOD_NOT_FOUND"
                | "ERROR_ARGUMENT"
                | "ERROR_CORE"
                | "INVALID_ARG_VALUE"
                | "100"
                | "INTERNAL_WRONG_TRANSPORT"
                | "WRONG_ENCODING",
                _,
            ) => D::CallerBug,
            (code, _) if code.starts_with("BITRIX_REST_V3_EXCEPTION_") => D::CallerBug,

            // The classic lists give no code at all; their texts are fixed and English.
            ("", _) if text.starts_with("not found") => D::Missing,
            ("", _) if text.starts_with("failed to get list") => D::RetryFew,
            ("", _) if text.starts_with("parameter '") || text.starts_with("id is not defined") => {
                D::CallerBug
            }
            // "Access denied.", and anything unknown without a code: asking again and
            // again would hide a lost right.
            ("", status) if status.is_none_or(|status| status < 500) => D::StopEntity,

            (_, Some(429)) => D::WaitMethod,
            (_, Some(401)) => D::StopPortal,
            (_, Some(403)) => D::StopEntity,
            (_, Some(400..=499)) => D::CallerBug,
            _ => D::RetryFew,
        }
    }

    fn advice(&self) -> &'static str {
        let code = self.code.as_str().to_ascii_uppercase();
        if self.by_application
            && let Some(advice) = application::advice(&code)
        {
            return advice;
        }
        match code.as_str() {
            "NO_AUTH_FOUND"
            | "INVALID_CREDENTIALS"
            | "EXPIRED_TOKEN"
            | "INVALID_TOKEN"
            | "AUTHORIZATION_ERROR" => {
                "check `portal.webhook_url`: the webhook was deleted, has expired, its secret has changed, or its user was dismissed; create an inbound webhook in the portal and put its address there"
            }
            "INSUFFICIENT_SCOPE"
            | "BITRIX_REST_V3_EXCEPTION_INSUFFICIENTSCOPEEXCEPTION"
            | "BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION"
                if self.method.starts_with("mail.") =>
            {
                "give the webhook of `portal.webhook_url` the scope `mail` on its page in the portal, or set `entities.mail_recipients.enabled` to false"
            }
            "ERROR_METHOD_NOT_FOUND" | "BITRIX_REST_V3_EXCEPTION_METHODNOTFOUNDEXCEPTION"
                if self.method.starts_with("mail.") =>
            {
                "the portal has no REST 3.0 for mail; update it, or set `entities.mail_recipients.enabled` to false"
            }
            "INSUFFICIENT_SCOPE" | "BITRIX_REST_V3_EXCEPTION_INSUFFICIENTSCOPEEXCEPTION" => {
                "give the webhook of `portal.webhook_url` the scope `crm` (and `user`, `department` for the dictionaries) on its page in the portal"
            }
            "ACCESS_DENIED" if self.disposition() == Disposition::StopPortal => {
                "REST needs a commercial plan on this portal; renew the plan, then start again"
            }
            "USER_ACCESS_ERROR" | "ALLOWED_ONLY_INTRANET_USER" => {
                "create the webhook of `portal.webhook_url` as an employee with access to the CRM, best as an administrator"
            }
            "OVERLOAD_LIMIT" => {
                "the vendor has blocked REST for this webhook; ask the vendor's support to lift the block"
            }
            "PORTAL_DELETED" => {
                "the portal of `portal.webhook_url` no longer exists; put another portal's webhook there"
            }
            "METHOD_CONFIRM_WAITING" | "METHOD_CONFIRM_DENIED" => {
                "an administrator must confirm the call for the webhook of `portal.webhook_url` in the portal"
            }
            "PAYMENT_REQUIRED" => "renew the portal's subscription, then start again",
            "INVALID_GRANT"
            | "INVALID_CLIENT"
            | "WRONG_CLIENT"
            | "NOT_INSTALLED"
            | "APPLICATION_NOT_FOUND"
            | "ERROR_OAUTH" => {
                "the application is not installed on the portal any more; install and authorize it again"
            }
            "INVALID_REQUEST" => "`portal.webhook_url` must begin with https://",
            "ERROR_METHOD_NOT_FOUND" => {
                "the portal does not know this method: check that `portal.webhook_url` has the form https://PORTAL/rest/USER/SECRET/ and that the portal has the CRM"
            }
            _ => match self.disposition() {
                Disposition::WaitPortal => {
                    "another program shares this portal's request limit; lower `portal.limits.requests_per_second` if it goes on"
                }
                Disposition::WaitMethod => {
                    "the method's operating time is used up and comes back by itself; lower `portal.limits.operating_seconds` if it goes on"
                }
                Disposition::StopEntity => {
                    "give the webhook's user the CRM right to read these records, best all of them as an administrator"
                }
                Disposition::StopPortal => {
                    "check the webhook of `portal.webhook_url` and its user's rights in the portal"
                }
                Disposition::Missing => {
                    "the record does not exist, or the webhook's user may not see it"
                }
                Disposition::CallerBug => {
                    "this is a fault of b24mirror; please report it with this message"
                }
                _ => {
                    "the portal failed by itself; it is tried again, and if it goes on, ask the portal's support"
                }
            },
        }
    }
}

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortalError {
    /// The portal answered with an error of its own.
    #[error("the portal answered {} with {}: {}{}", .0.method, .0.code, .0.description, StatusNote(.0.status))]
    Api(Box<ApiFailure>),
    /// The gateway before the portal answered with an error of its own.
    #[error("{0}")]
    Vibecode(Box<GatewayFailure>),
    /// No connection came about; the portal has not seen the request.
    #[error("cannot connect to the portal {host}")]
    Connect {
        /// The portal.
        host: String,
        /// Why, without any URL.
        source: reqwest::Error,
    },
    /// The connection broke before an answer began.
    #[error("the connection to the portal {host} broke while {method} was waiting for its answer")]
    Transport {
        /// The portal.
        host: String,
        /// The method that was called.
        method: String,
        /// Why, without any URL.
        source: reqwest::Error,
    },
    /// No complete answer in time.
    #[error("the portal did not answer {method} completely within {}", humantime::format_duration(*.after))]
    Timeout {
        /// The method that was called.
        method: String,
        /// The setting `portal.timeout`.
        after: Duration,
    },
    /// An answer that is not the portal's JSON: a gateway's page, mostly.
    #[error("{method} was answered by something other than the portal's REST API (HTTP {status})")]
    Gateway {
        /// The method that was called.
        method: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer breaks off.
    #[error("the portal's answer to {method} breaks off after {bytes} bytes")]
    CutBody {
        /// The method that was called.
        method: String,
        /// What had arrived.
        bytes: usize,
    },
    /// The answer is empty.
    #[error("the portal's answer to {method} is empty (HTTP {status})")]
    EmptyBody {
        /// The method that was called.
        method: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer is longer than allowed.
    #[error("the portal's answer to {method} is longer than {limit} bytes")]
    BodyTooLarge {
        /// The method that was called.
        method: String,
        /// The setting `portal.max_body`.
        limit: usize,
    },
    /// The answer begins as JSON and is none.
    #[error("the portal's answer to {method} is not valid JSON")]
    Garbled {
        /// The method that was called.
        method: String,
    },
    /// Valid JSON of an unexpected shape.
    #[error("the portal's answer to {method} cannot be used: {what}")]
    Unusable {
        /// The method that was called.
        method: String,
        /// What is wrong with it.
        what: String,
    },
    /// A command was left out of a batch answer, so it did not run.
    #[error("the portal did not run the command {key} ({method}) of a batch")]
    MissingCommand {
        /// The command's key.
        key: String,
        /// Its method.
        method: String,
    },
    /// The portal redirects to where a secret may not go.
    #[error("the portal redirects to {target}, which is not an https:// address")]
    InsecureRedirect {
        /// Scheme and host, nothing more.
        target: String,
    },
    /// The portal redirects in circles.
    #[error("the portal {host} redirects again and again")]
    TooManyRedirects {
        /// The portal.
        host: String,
    },
    /// Parameters that a command of a batch cannot carry.
    #[error("the command {method} cannot be sent: {what}")]
    Inexpressible {
        /// The command's method.
        method: String,
        /// What is wrong with it.
        what: String,
    },
    /// The certificate file cannot be read.
    #[error("cannot read the certificate file {}", .path.display())]
    CaFile {
        /// The setting `portal.ca_file`.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The certificate file holds no usable certificate.
    #[error("the certificate file {} holds no usable PEM certificate", .path.display())]
    CaCertificate {
        /// The setting `portal.ca_file`.
        path: PathBuf,
    },
    /// The authorization server gives no new tokens.
    #[error(
        "the authorization server {} gives no tokens, but {}: {} (HTTP {})",
        .0.server, .0.code, .0.description, .0.status
    )]
    TokenRefused(Box<TokenRefusal>),
    /// The authorization server cannot be asked.
    #[error("the authorization server {server} gives no tokens: {what}")]
    TokenServer {
        /// The authorization server.
        server: String,
        /// What happened instead.
        what: String,
        /// Why, without any URL.
        source: Option<reqwest::Error>,
    },
    /// Tokens cannot be read or stored; new ones are not used before they are.
    #[error("the application's tokens cannot be read or stored")]
    TokensNotKept(#[source] TokenStoreError),
    /// The access token has expired, and another process is to renew it.
    #[error("the access token has expired, and it is for {holder} to renew it")]
    NotRenewed {
        /// Host, process and command.
        holder: String,
    },
    /// A call was made before anybody said where tokens are kept.
    #[error("the application has no tokens yet")]
    NoTokens,
    /// The portal itself is asked, and there is a gateway's key alone.
    #[error("{method} is for the portal itself, which a gateway's key does not open")]
    NoEntrance {
        /// The method that was called.
        method: String,
    },
    /// The HTTP client cannot be set up, for want of system certificates mostly.
    #[error("cannot set up the HTTPS client")]
    Setup {
        /// Why.
        source: reqwest::Error,
    },
}

/// The end of a message: the status, where it means something.
struct StatusNote(Option<u16>);

impl fmt::Display for StatusNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => write!(f, " (HTTP {status})"),
            None => f.write_str(" (in a batch)"),
        }
    }
}

impl PortalError {
    /// What the failure asks for.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Api(failure) => failure.disposition(),
            Self::Vibecode(failure) => failure.disposition(),
            Self::TokenRefused(refusal) if refusal.is_final() => Disposition::StopPortal,
            Self::TokensNotKept(error) if error.is_lasting() => Disposition::StopPortal,
            Self::Connect { .. }
            | Self::Transport { .. }
            | Self::Timeout { .. }
            | Self::Gateway { .. }
            | Self::CutBody { .. }
            | Self::EmptyBody { .. }
            | Self::BodyTooLarge { .. }
            | Self::Garbled { .. }
            | Self::TokenRefused(_)
            | Self::TokenServer { .. }
            | Self::TokensNotKept(_) => Disposition::Retry,
            Self::Unusable { .. } | Self::MissingCommand { .. } | Self::TooManyRedirects { .. } => {
                Disposition::RetryFew
            }
            Self::InsecureRedirect { .. }
            | Self::CaFile { .. }
            | Self::CaCertificate { .. }
            | Self::Setup { .. }
            | Self::NotRenewed { .. } => Disposition::StopPortal,
            Self::NoEntrance { .. } => Disposition::StopEntity,
            Self::Inexpressible { .. } | Self::NoTokens => Disposition::CallerBug,
        }
    }

    /// One sentence to the operator: what to look at, naming the setting or the right.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Api(failure) => failure.advice(),
            Self::Vibecode(failure) => failure.advice(),
            Self::TokenRefused(refusal) => refusal.advice(),
            Self::TokenServer { .. } => {
                "check the network and `portal.oauth.token_server`; the old tokens stay until new ones have come"
            }
            Self::TokensNotKept(_) => {
                "an application's tokens are stored, encrypted, in the mirror's database before they are used"
            }
            Self::NotRenewed { .. } => {
                "it does so with its next call; `b24mirror status` says how it stands; where the application was authorized anew, restart that process with the new refresh token"
            }
            Self::Connect { .. } | Self::Transport { .. } => {
                "check the host in `portal.webhook_url` (`portal.oauth.host`, `portal.vibecode.url`), the network and, for a private certificate authority, `portal.ca_file`"
            }
            Self::Timeout { .. } => {
                "the portal is slow; `portal.timeout` should stay above the 60 s after which the portal itself gives up"
            }
            Self::Gateway { .. } => {
                "check the host in `portal.webhook_url` (`portal.oauth.host`, `portal.vibecode.url`); if it is right, the portal is overloaded or being maintained"
            }
            Self::BodyTooLarge { .. } => {
                "raise `portal.max_body` if this goes on with a single page"
            }
            Self::CutBody { .. } | Self::EmptyBody { .. } | Self::Garbled { .. } => {
                "the portal or a proxy before it broke the answer off; it is tried again"
            }
            Self::Unusable { .. } | Self::MissingCommand { .. } => {
                "the portal answered in an unknown form; if this goes on, report it with this message"
            }
            Self::InsecureRedirect { .. } | Self::TooManyRedirects { .. } => {
                "the portal was renamed or misconfigured; put its new address into `portal.webhook_url` (or `portal.oauth.host`)"
            }
            Self::NoEntrance { .. } => {
                "set `portal.webhook_url` or `[portal.oauth]`, or read this through the gateway with `source = \"vibecode\"`"
            }
            Self::Inexpressible { .. } | Self::NoTokens => {
                "this is a fault of b24mirror; please report it with this message"
            }
            Self::CaFile { .. } | Self::CaCertificate { .. } => {
                "point `portal.ca_file` at a readable PEM file, or remove the setting"
            }
            Self::Setup { .. } => {
                "install the system's certificates (package ca-certificates) or set `portal.ca_file`"
            }
        }
    }

    /// Whether a shorter chain might have succeeded: a time-out, a gateway's page, a
    /// cut, empty, garbled or too large answer.
    #[must_use]
    pub fn is_heavy(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::CutBody { .. }
            | Self::EmptyBody { .. }
            | Self::BodyTooLarge { .. }
            | Self::Garbled { .. } => true,
            Self::Gateway { status, .. } => !(400..500).contains(status),
            Self::Vibecode(failure) => failure.is_heavy(),
            _ => false,
        }
    }

    /// Whether the portal could not be reached at all.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }

    /// The portal's own code, where the portal gave an error.
    #[must_use]
    pub fn code(&self) -> Option<&ErrorCode> {
        match self {
            Self::Api(failure) => Some(&failure.code),
            Self::Vibecode(failure) => Some(&failure.code),
            _ => None,
        }
    }

    /// An answer of the wrong shape.
    pub(super) fn unusable(method: &str, what: impl Into<String>) -> Self {
        Self::Unusable { method: method.to_owned(), what: what.into() }
    }
}

impl From<TokenRefusal> for PortalError {
    fn from(refusal: TokenRefusal) -> Self {
        Self::TokenRefused(Box::new(refusal))
    }
}

impl From<TokenStoreError> for PortalError {
    fn from(error: TokenStoreError) -> Self {
        Self::TokensNotKept(error)
    }
}

impl From<ApiFailure> for PortalError {
    fn from(failure: ApiFailure) -> Self {
        Self::Api(Box::new(failure))
    }
}

#[cfg(test)]
mod tests;
