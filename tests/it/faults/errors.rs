//! What a portal may answer instead of what was asked for, and what has to come of it:
//! written from the vendor's pages and from what kernels were seen to do, and not from
//! the client's own table, which it holds to account.

use b24mirror::simulator::FaultKind;

/// What has to come of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It passes: struck once, the work completes all the same.
    Passes,
    /// It passes by itself, whatever the number of strikes.
    WaitedOut,
    /// The work cannot go on now and tries again later.
    Later,
    /// Nothing helps but a person.
    Stops,
    /// It passes if the status says that the portal failed, and stops otherwise.
    ByStatus,
}

/// An error as the portal words it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wording {
    pub(super) code: &'static str,
    pub(super) text: &'static str,
    /// The documented status, and the kernel's where it differs.
    pub(super) statuses: &'static [u16],
    pub(super) fate: Fate,
}

const fn error(
    code: &'static str,
    text: &'static str,
    statuses: &'static [u16],
    fate: Fate,
) -> Wording {
    Wording { code, text, statuses, fate }
}

/// Every error of the vendor's pages (`system-errors`, the pages of the methods, REST 3.0,
/// the authorization server) and of the kernels.
pub(super) const ERRORS: &[Wording] = {
    use Fate::{ByStatus, Later, Passes, Stops, WaitedOut};
    &[
        error("INTERNAL_SERVER_ERROR", "Internal server error", &[500], Passes),
        error("ERROR_UNEXPECTED_ANSWER", "Server returned an unexpected response", &[500], Passes),
        error("QUERY_LIMIT_EXCEEDED", "Too many requests", &[503], WaitedOut),
        error(
            "OPERATION_TIME_LIMIT",
            "Method is blocked due to operation time limit.",
            &[429],
            WaitedOut,
        ),
        error("OVERLOAD_LIMIT", "REST API is blocked due to overload", &[503, 401], Stops),
        error(
            "ERROR_BATCH_METHOD_NOT_ALLOWED",
            "Method is not allowed for batch usage",
            &[405],
            Stops,
        ),
        error("ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded", &[400], Stops),
        error("NO_AUTH_FOUND", "Wrong authorization data", &[401], Stops),
        error("INVALID_REQUEST", "Https required.", &[400, 401], Stops),
        error(
            "ACCESS_DENIED",
            "REST API is available only on commercial plans.",
            &[403, 401],
            Stops,
        ),
        error("ACCESS_DENIED", "Access denied!", &[403], Stops),
        error("", "Access denied.", &[400], Stops),
        error("INVALID_CREDENTIALS", "Invalid request credentials", &[403, 401], Stops),
        error("ERROR_MANIFEST_IS_NOT_AVAILABLE", "Manifest is not available", &[404], Stops),
        error(
            "insufficient_scope",
            "The request requires higher privileges than provided by the webhook token",
            &[403, 401],
            Stops,
        ),
        error("expired_token", "The access token provided has expired.", &[401], Stops),
        error("invalid_token", "", &[401], Stops),
        error(
            "user_access_error",
            "The user does not have access to the application.",
            &[403, 401],
            Stops,
        ),
        error("authorization_error", "Unable to authorize user", &[401], Stops),
        error("APPLICATION_NOT_FOUND", "Application not found", &[401], Stops),
        error("CONNECTION_ERROR", "Error connecting to authorization server", &[401], Passes),
        error("ERROR_OAUTH", "", &[401], Stops),
        error(
            "WRONG_AUTH_TYPE",
            "Current authorization type is denied for this method",
            &[403],
            Stops,
        ),
        error("PORTAL_DELETED", "Portal was deleted", &[500, 403, 410], Stops),
        error("ERROR_METHOD_NOT_FOUND", "Method not found!", &[404], Stops),
        error("ERROR_ARGUMENT", "The value of an argument is wrong", &[400], Stops),
        error("ERROR_CORE", "SQL query error!", &[500], Passes),
        error("ERROR_CORE", "Something was wrapped", &[400], Stops),
        error("ERROR_NOT_FOUND", "Not found", &[400], Later),
        error("NOT_FOUND", "Not found", &[400], Later),
        error("", "Not found", &[400], Later),
        error("", "ID is not defined or invalid.", &[400], Stops),
        error("", "Parameter 'order' must be array.", &[400], Stops),
        error("", "Parameter 'filter' must be array.", &[400], Stops),
        error("", "Failed to get list. General error.", &[400], Passes),
        error("INVALID_ARG_VALUE", "Invalid filter: field 'x' is not allowed", &[400], Stops),
        error("100", "Could not find value for parameter {filter}", &[400], Stops),
        error(
            "allowed_only_intranet_user",
            "Action is allowed for intranet users only",
            &[403],
            Stops,
        ),
        error("METHOD_CONFIRM_WAITING", "Waiting for confirmation", &[401], Later),
        error("METHOD_CONFIRM_DENIED", "Method call denied", &[403], Stops),
        error("INTERNAL_WRONG_TRANSPORT", "Wrong transport", &[500], Stops),
        error("INTERNAL_WRONG_HANDLER_CLASS", "Wrong handler class", &[500], Passes),
        error("WRONG_ENCODING", "Wrong request encoding", &[200], Stops),
        error("invalid_grant", "", &[400], Stops),
        error("invalid_client", "", &[400], Stops),
        error("PAYMENT_REQUIRED", "Payment required", &[401], Stops),
        error("NOT_INSTALLED", "Application not installed", &[401], Stops),
        error("WRONG_CLIENT", "", &[200], Stops),
        error(
            "BITRIX_REST_V3_EXCEPTION_VALIDATION_REQUESTVALIDATIONEXCEPTION",
            "The request is not valid",
            &[400],
            Stops,
        ),
        error(
            "BITRIX_REST_V3_EXCEPTION_INVALIDFILTEREXCEPTION",
            "The filter is not valid",
            &[400],
            Stops,
        ),
        error(
            "BITRIX_REST_V3_EXCEPTION_ENTITYNOTFOUNDEXCEPTION",
            "The entity was not found",
            &[400],
            Stops,
        ),
        error("BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION", "Access denied", &[403], Stops),
        error(
            "BITRIX_REST_V3_EXCEPTION_INSUFFICIENTSCOPEEXCEPTION",
            "The scope does not suffice",
            &[403],
            Stops,
        ),
        // What nobody has heard of yet.
        error("SOMETHING_NEW", "Nobody knows it", &[500, 200], Passes),
        error("", "Nobody knows it", &[500], ByStatus),
        error("", "", &[503], ByStatus),
    ]
};

impl Wording {
    /// What has to come of it with this status; a command of a batch has none.
    pub(super) fn fate(&self, status: Option<u16>) -> Fate {
        match self.fate {
            Fate::ByStatus if status.is_some_and(|status| status >= 500) => Fate::Passes,
            Fate::ByStatus => Fate::Stops,
            fate => fate,
        }
    }
}

/// What else may come instead of an answer.
#[derive(Debug, Clone)]
pub(super) struct Mishap {
    pub(super) kind: FaultKind,
    pub(super) fate: Fate,
    /// What the reason must name where the work stops.
    pub(super) named: &'static str,
    /// Only a client with little patience notices in time.
    pub(super) slow: bool,
}

/// The time-out of a client with little patience, in milliseconds.
pub(super) const HASTY: u64 = 600;

/// Everything that happens to a request as a whole; `elsewhere` is another address of the
/// same portal.
pub(super) fn mishaps(elsewhere: &str) -> Vec<Mishap> {
    let passing = |kind| Mishap { kind, fate: Fate::Passes, named: "", slow: false };
    let slow = |kind| Mishap { slow: true, ..passing(kind) };
    let mut all: Vec<Mishap> = Vec::new();
    all.extend([500, 502, 503, 504, 200].map(|status| passing(FaultKind::Html { status })));
    // The last one cuts chains and spares every single record, however large.
    all.extend([0, 1, 10, 200, 3_000, 400_000].map(|bytes| passing(FaultKind::Cut { bytes })));
    all.extend([passing(FaultKind::Empty), passing(FaultKind::Reset)]);
    all.extend([
        passing(FaultKind::Slow { millis: HASTY / 3 }),
        passing(FaultKind::SlowBody { millis: HASTY / 3 }),
        slow(FaultKind::Slow { millis: HASTY * 2 }),
        slow(FaultKind::SlowBody { millis: HASTY * 4 }),
        slow(FaultKind::Hang),
    ]);
    let redirect =
        |location: &str, status| FaultKind::Redirect { location: location.to_owned(), status };
    all.extend(
        [301, 302, 307, 308]
            .map(|status| Mishap { fate: Fate::WaitedOut, ..passing(redirect(elsewhere, status)) }),
    );
    all.push(Mishap {
        fate: Fate::Stops,
        named: "not an https:// address",
        ..passing(redirect("http://portal.example.com", 302))
    });
    all
}
