//! What goes wrong for an application only: the portal's errors that mean something else to it
//! than to a webhook, and the refusals of the authorization server.

use super::{DESCRIPTION_CHARS, ErrorCode};

/// What to do about an error that means something else to an application.
pub(super) fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "EXPIRED_TOKEN" | "INVALID_TOKEN" | "NO_AUTH_FOUND" | "INVALID_CREDENTIALS" => {
            "the portal does not accept a token that was renewed just now: check that `portal.oauth.host` is the portal on which the application of `portal.oauth.client_id` was authorized, or authorize it again and put the new refresh token into `portal.oauth.refresh_token`"
        }
        "APPLICATION_NOT_FOUND" | "NOT_INSTALLED" | "ERROR_OAUTH" => {
            "the application of `portal.oauth.client_id` is not installed on the portal any more: install and authorize it again, and put its new refresh token into `portal.oauth.refresh_token`"
        }
        "INSUFFICIENT_SCOPE" | "BITRIX_REST_V3_EXCEPTION_INSUFFICIENTSCOPEEXCEPTION" => {
            "give the application of `portal.oauth.client_id` the right `crm` (and `user`, `department` for the dictionaries, `mail` for the address book) on its page in the portal, and authorize it again"
        }
        "USER_ACCESS_ERROR" | "AUTHORIZATION_ERROR" | "ALLOWED_ONLY_INTRANET_USER" => {
            "the user who authorized the application was dismissed or may not use it: authorize it again as an employee with access to the CRM, best an administrator, and put the new refresh token into `portal.oauth.refresh_token`"
        }
        "PORTAL_DELETED" => "the portal of `portal.oauth.host` no longer exists",
        "METHOD_CONFIRM_WAITING" | "METHOD_CONFIRM_DENIED" => {
            "an administrator must confirm the call for the application in the portal"
        }
        _ => return None,
    })
}

/// The authorization server's answer when it gives no tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRefusal {
    /// The authorization server.
    pub server: String,
    /// Its code.
    pub code: ErrorCode,
    /// The HTTP status; often 200 or 400 whatever it means.
    pub status: u16,
    /// Its description, cut short and without secrets.
    pub description: String,
}

impl TokenRefusal {
    /// Takes a refusal without the secrets that it may repeat.
    #[must_use]
    pub fn new(server: &str, code: &str, status: u16, description: &str) -> Self {
        Self {
            server: server.to_owned(),
            code: ErrorCode::new(code),
            status,
            description: description.trim().chars().take(DESCRIPTION_CHARS).collect(),
        }
    }

    /// Whether asking again cannot help (vendor page `error-codes` of OAuth).
    pub(in crate::portal) fn is_final(&self) -> bool {
        let own = [
            "invalid_grant",
            "invalid_client",
            "invalid_request",
            "invalid_scope",
            "insufficient_scope",
            "payment_required",
            "not_installed",
            "wrong_client",
        ];
        own.iter().any(|code| self.code.is(code)) || (self.status < 500 && self.status != 429)
    }

    pub(super) fn advice(&self) -> &'static str {
        match self.code.as_str().to_ascii_uppercase().as_str() {
            "INVALID_GRANT" => {
                "the refresh token was used up, revoked, or has expired: authorize the application again in the portal and put the new refresh token into `portal.oauth.refresh_token`"
            }
            "INVALID_CLIENT" | "WRONG_CLIENT" => {
                "compare `portal.oauth.client_id` and `portal.oauth.client_secret` with the application's page in the portal, where it must be installed"
            }
            "NOT_INSTALLED" => {
                "the application of `portal.oauth.client_id` is not installed on the portal any more: install and authorize it again, and put its new refresh token into `portal.oauth.refresh_token`"
            }
            "PAYMENT_REQUIRED" => {
                "renew the portal's subscription or the application's payment; if the application was removed, install it again"
            }
            "INVALID_SCOPE" | "INSUFFICIENT_SCOPE" => {
                "add the missing rights to the application's page in the portal, and authorize it again"
            }
            _ if !self.is_final() => "the authorization server failed by itself; it is asked again",
            _ => {
                "check `portal.oauth.client_id`, `portal.oauth.client_secret` and `portal.oauth.token_server`"
            }
        }
    }
}
