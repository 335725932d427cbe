//! What a gateway refuses with, and the one table of what to do about it.

use std::{fmt, time::Duration};

use crate::{portal::error::ErrorCode, retry::Disposition};

/// The longest message that is kept, in characters.
const MESSAGE_CHARS: usize = 200;

/// An error that the gateway itself put into an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayFailure {
    /// The path that was asked, below `/v1/`.
    pub path: String,
    /// The gateway's code; branch on this first.
    pub code: ErrorCode,
    /// The HTTP status.
    pub status: u16,
    /// The gateway's message: at most 200 characters, without secrets.
    pub message: String,
    /// When the gateway wants to be asked again, if it says so.
    pub retry_after: Option<Duration>,
}

impl GatewayFailure {
    /// Whether it may have been the size of the answer: the gateway's or the portal's time ran
    /// out.
    pub(in crate::portal) const fn is_heavy(&self) -> bool {
        matches!(self.status, 408 | 500 | 502..=504)
    }

    /// Takes an error as it came; the message must hold no secret any more.
    pub(super) fn new(
        path: &str,
        code: &str,
        status: u16,
        message: &str,
        retry_after: Option<Duration>,
    ) -> Self {
        let message = message.trim().chars().take(MESSAGE_CHARS).collect();
        Self { path: path.to_owned(), code: ErrorCode::new(code), status, message, retry_after }
    }

    /// The table (vendor page `docs/errors` of the gateway). The code decides, then the
    /// status. The portal behind the gateway may show through with codes of its own.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        use Disposition as D;
        let code = self.code.as_str().to_ascii_uppercase();
        match (code.as_str(), self.status) {
            ("RATE_LIMITED" | "QUERY_LIMIT_EXCEEDED" | "OPERATION_TIME_LIMIT", _) | (_, 429) => {
                D::WaitPortal
            }
            (
                "MISSING_API_KEY" | "INVALID_API_KEY" | "INVALID_APP_KEY" | "TOKEN_EXPIRED"
                | "TOKEN_MISSING",
                _,
            ) => D::StopPortal,
            ("SCOPE_DENIED" | "ACCESS_DENIED", _) => D::StopEntity,
            ("ENTITY_NOT_FOUND", _) => D::Missing,
            ("MISSING_ENTITY_ID" | "INVALID_MULTIFIELD_SHAPE" | "INVALID_ARG_VALUE", _) => {
                D::CallerBug
            }
            // It gave up waiting for the portal.
            (_, 408 | 502..=504) => D::Retry,
            (_, 401) => D::StopPortal,
            (_, 403) => D::StopEntity,
            (_, 400..=499) => D::CallerBug,
            _ => D::RetryFew,
        }
    }

    pub(in crate::portal) fn advice(&self) -> &'static str {
        let code = self.code.as_str().to_ascii_uppercase();
        match (code.as_str(), self.disposition()) {
            ("TOKEN_EXPIRED" | "TOKEN_MISSING", _) => {
                "the key has no valid access to the portal: sign in to the gateway again, or put a new session token into `portal.vibecode.session_token`"
            }
            ("SCOPE_DENIED", _) => "give the key of `portal.vibecode.api_key` the scope `crm`",
            (_, Disposition::StopPortal) => {
                "check `portal.vibecode.api_key`: the key was deleted or has expired, or this machine's address is not among those that it allows"
            }
            (_, Disposition::StopEntity) => {
                "give the owner of the key of `portal.vibecode.api_key` the CRM right to read these records"
            }
            (_, Disposition::WaitPortal) => {
                "another program shares the key's limit; lower `portal.vibecode.requests_per_minute` if it goes on"
            }
            (_, Disposition::Missing | Disposition::CallerBug) => {
                "the gateway does not understand the question; report it with this message, and read by `source = \"item\"` meanwhile"
            }
            _ => {
                "the gateway or the portal behind it failed by itself; it is tried again, and if it goes on, ask the vendor's support"
            }
        }
    }
}

impl fmt::Display for GatewayFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, code, status, message, .. } = self;
        write!(f, "the VibeCode gateway answered {path} with {code}: {message} (HTTP {status})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_code_has_its_disposition() {
        use Disposition as D;
        for (code, status, disposition) in [
            ("MISSING_API_KEY", 401, D::StopPortal),
            ("INVALID_API_KEY", 401, D::StopPortal),
            ("INVALID_APP_KEY", 401, D::StopPortal),
            ("TOKEN_EXPIRED", 401, D::StopPortal),
            ("TOKEN_MISSING", 401, D::StopPortal),
            ("SCOPE_DENIED", 403, D::StopEntity),
            ("RATE_LIMITED", 429, D::WaitPortal),
            ("ENTITY_NOT_FOUND", 404, D::Missing),
            ("INVALID_MULTIFIELD_SHAPE", 400, D::CallerBug),
            ("MISSING_ENTITY_ID", 400, D::CallerBug),
            ("", 504, D::Retry),
            ("SOMETHING_NEW", 500, D::RetryFew),
            ("something_new", 418, D::CallerBug),
        ] {
            let failure = GatewayFailure::new("contacts/search", code, status, "", None);
            assert_eq!(failure.disposition(), disposition, "{code} {status}");
            assert!(!failure.advice().is_empty());
        }
    }
}
