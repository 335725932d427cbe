//! The table of errors, row by row.

use super::*;

/// The vendor's errors as pages, kernels and SDKs show them, with the reaction that
/// each asks for. Statuses differ between them; every one that was seen is a row.
#[rustfmt::skip]
const TABLE: &[(&[u16], &str, &str, Disposition)] = {
    use Disposition::{
        CallerBug as Bug, Missing, RefreshToken, Retry, RetryFew as Few, StopEntity, StopPortal as Stop,
        WaitConfirmation, WaitMethod, WaitPortal,
    };
    &[
        (&[500], "INTERNAL_SERVER_ERROR", "Internal server error", Few),
        (&[500], "ERROR_UNEXPECTED_ANSWER", "Server returned an unexpected response", Few),
        (&[503], "QUERY_LIMIT_EXCEEDED", "Too many requests", WaitPortal),
        (&[429], "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.", WaitMethod),
        (&[503, 401], "OVERLOAD_LIMIT", "REST API is blocked due to overload", Stop),
        (&[405], "ERROR_BATCH_METHOD_NOT_ALLOWED", "Method is not allowed for batch usage", Bug),
        (&[400], "ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded", Bug),
        (&[401], "NO_AUTH_FOUND", "Wrong authorization data", Stop),
        (&[400, 401], "INVALID_REQUEST", "Https required.", Bug),
        (&[403, 401], "ACCESS_DENIED", "REST API is available only on commercial plans.", Stop),
        (&[403, 401], "ACCESS_DENIED", "REST is available only on commercial plans", Stop),
        (&[403], "ACCESS_DENIED", "Access denied!", StopEntity),
        (&[400], "", "Access denied.", StopEntity),
        (&[403, 401], "INVALID_CREDENTIALS", "Invalid request credentials", Stop),
        (&[404], "ERROR_MANIFEST_IS_NOT_AVAILABLE", "Manifest is not available", Bug),
        (&[403, 401], "insufficient_scope", "The request requires higher privileges than provided by the webhook token", Stop),
        (&[401], "expired_token", "The access token provided has expired.", RefreshToken),
        (&[401], "invalid_token", "", RefreshToken),
        (&[403, 401], "user_access_error", "The user does not have access to the application.", Stop),
        (&[401], "authorization_error", "Unable to authorize user", Stop),
        (&[401], "APPLICATION_NOT_FOUND", "Application not found", Stop),
        (&[401], "CONNECTION_ERROR", "Error connecting to authorization server", Retry),
        (&[401], "ERROR_OAUTH", "", Stop),
        (&[403], "WRONG_AUTH_TYPE", "Current authorization type is denied for this method", Bug),
        (&[500, 403, 410], "PORTAL_DELETED", "Portal was deleted", Stop),
        (&[404], "ERROR_METHOD_NOT_FOUND", "Method not found!", Bug),
        (&[400], "ERROR_ARGUMENT", "Argument 'x' is null or empty", Bug),
        (&[500], "ERROR_CORE", "SQL query error!", Few),
        (&[400], "ERROR_CORE", "Something else", Bug),
        (&[400], "ERROR_NOT_FOUND", "Not found", Missing),
        (&[400], "NOT_FOUND", "Element not found", Missing),
        (&[400], "", "Not found", Missing),
        (&[400], "", "ID is not defined or invalid.", Bug),
        (&[400], "", "Parameter 'order' must be array.", Bug),
        (&[400], "", "Parameter 'filter' must be array.", Bug),
        (&[400], "", "Failed to get list. General error.", Few),
        (&[400], "INVALID_ARG_VALUE", "Invalid filter: field 'X' is not allowed in filter", Bug),
        (&[400], "100", "Could not find value for parameter {entityTypeId}", Bug),
        (&[403], "allowed_only_intranet_user", "Action is allowed for intranet users only", Stop),
        (&[401], "METHOD_CONFIRM_WAITING", "Waiting for confirmation", WaitConfirmation),
        (&[403], "METHOD_CONFIRM_DENIED", "Method call denied", Stop),
        (&[500], "INTERNAL_WRONG_TRANSPORT", "", Bug),
        (&[500], "INTERNAL_WRONG_HANDLER_CLASS", "", Few),
        (&[200], "WRONG_ENCODING", "Wrong request encoding", Bug),
        (&[400], "invalid_grant", "", Stop),
        (&[400], "invalid_client", "", Stop),
        (&[400], "invalid_request", "", Bug),
        (&[401], "PAYMENT_REQUIRED", "Payment required", Stop),
        (&[401], "NOT_INSTALLED", "", Stop),
        (&[200], "WRONG_CLIENT", "", Stop),
        (&[400], "BITRIX_REST_V3_EXCEPTION_VALIDATION_REQUESTVALIDATIONEXCEPTION", "", Bug),
        (&[400], "BITRIX_REST_V3_EXCEPTION_VALIDATION_DTOVALIDATIONEXCEPTION", "", Bug),
        (&[400], "BITRIX_REST_V3_EXCEPTION_INVALIDJSONEXCEPTION", "", Bug),
        (&[400], "BITRIX_REST_V3_EXCEPTION_INVALIDFILTEREXCEPTION", "", Bug),
        (&[400], "BITRIX_REST_V3_EXCEPTION_INVALIDSELECTEXCEPTION", "", Bug),
        (&[400], "BITRIX_REST_V3_EXCEPTION_INVALIDPAGINATIONEXCEPTION", "", Bug),
        (&[400], "BITRIX_REST_V3_EXCEPTION_UNKNOWNDTOPROPERTYEXCEPTION", "", Bug),
        (&[400], "BITRIX_REST_V3_EXCEPTION_UNKNOWNFILTEROPERATOREXCEPTION", "", Bug),
        (&[400], "BITRIX_REST_V3_EXCEPTION_ENTITYNOTFOUNDEXCEPTION", "", Bug),
        (&[400], "BITRIX_REST_V3_EXCEPTION_METHODNOTFOUNDEXCEPTION", "", Bug),
        (&[403], "BITRIX_REST_V3_EXCEPTION_ACCESSDENIEDEXCEPTION", "", Stop),
        (&[403], "BITRIX_REST_V3_EXCEPTION_INSUFFICIENTSCOPEEXCEPTION", "", Stop),
        (&[422], "BITRIX_REST_V3_EXCEPTION_IDEMPOTENCYKEYREUSEDEXCEPTION", "", Bug),
        (&[400], "BITRIX_REST_V3_EXCEPTION_INVALIDIDEMPOTENCYKEYEXCEPTION", "", Bug),
    ]
};

fn error(code: &str, status: Option<u16>, description: &str) -> PortalError {
    let mut failure = ApiFailure::new("crm.contact.list", code, status, description);
    failure.renewable = true;
    failure.into()
}

#[test]
fn every_documented_error_asks_for_its_own_reaction() {
    for (statuses, code, description, expected) in TABLE {
        for status in *statuses {
            let error = error(code, Some(*status), description);
            assert_eq!(error.disposition(), *expected, "{error}");
        }
    }
}

#[test]
fn a_refusal_of_tokens_is_final_unless_the_server_only_fails() {
    for (status, code, expected, advice) in [
        (400, "invalid_grant", Disposition::StopPortal, "authorize the application again"),
        (400, "invalid_client", Disposition::StopPortal, "`portal.oauth.client_secret`"),
        (200, "WRONG_CLIENT", Disposition::StopPortal, "`portal.oauth.client_id`"),
        (400, "invalid_request", Disposition::StopPortal, "`portal.oauth.token_server`"),
        (403, "invalid_scope", Disposition::StopPortal, "add the missing rights"),
        (400, "insufficient_scope", Disposition::StopPortal, "add the missing rights"),
        (401, "PAYMENT_REQUIRED", Disposition::StopPortal, "renew the portal's subscription"),
        (401, "NOT_INSTALLED", Disposition::StopPortal, "not installed on the portal any more"),
        (500, "invalid_grant", Disposition::StopPortal, "authorize the application again"),
        (500, "INTERNAL_SERVER_ERROR", Disposition::Retry, "asked again"),
        (503, "QUERY_LIMIT_EXCEEDED", Disposition::Retry, "asked again"),
        (429, "", Disposition::Retry, "asked again"),
        (400, "something new", Disposition::StopPortal, "`portal.oauth.token_server`"),
    ] {
        let error: PortalError = TokenRefusal::new("oauth.example", code, status, "why").into();
        assert_eq!(error.disposition(), expected, "{error}");
        assert!(error.advice().contains(advice), "{error}: {}", error.advice());
        assert!(error.to_string().contains("oauth.example"), "{error}");
    }
}

#[test]
fn an_application_is_not_advised_about_webhooks() {
    for code in ["INVALID_TOKEN", "USER_ACCESS_ERROR", "PORTAL_DELETED"] {
        let mut failure = ApiFailure::new("crm.contact.list", code, Some(401), "");
        failure.by_application = true;
        let error: PortalError = failure.into();
        assert_eq!(error.disposition(), Disposition::StopPortal);
        assert!(!error.advice().contains("webhook"), "{}", error.advice());
    }
}

#[test]
fn a_code_means_the_same_with_another_status_and_inside_a_batch() {
    for (_, code, description, expected) in TABLE {
        // These two lean on the status: the same code with a known fault's text.
        if *code == "ERROR_CORE" {
            continue;
        }
        for status in [None, Some(200), Some(400), Some(401), Some(403)] {
            let error = error(code, status, description);
            assert_eq!(error.disposition(), *expected, "{error}");
        }
    }
}

#[test]
fn letter_case_of_a_code_does_not_matter() {
    for (statuses, code, description, expected) in TABLE {
        let error = error(&code.to_lowercase(), Some(statuses[0]), description);
        assert_eq!(error.disposition(), *expected, "{error}");
    }
}

#[test]
fn unknown_errors_are_judged_by_their_status() {
    for (status, expected) in [
        (Some(500), Disposition::RetryFew),
        (Some(503), Disposition::RetryFew),
        (Some(429), Disposition::WaitMethod),
        (Some(401), Disposition::StopPortal),
        (Some(403), Disposition::StopEntity),
        (Some(404), Disposition::CallerBug),
        (None, Disposition::RetryFew),
    ] {
        let error = error("SOMETHING_NEW", status, "?");
        assert_eq!(error.disposition(), expected, "{error}");
    }
}

#[test]
fn an_unknown_error_without_a_code_stops_the_entity_and_is_not_retried() {
    for status in [None, Some(200), Some(400), Some(403)] {
        let error = error("", status, "Доступ запрещён");
        assert_eq!(error.disposition(), Disposition::StopEntity, "{error}");
    }
    assert_eq!(error("", Some(500), "").disposition(), Disposition::RetryFew);
}

#[test]
fn a_webhook_has_no_token_to_renew() {
    for code in ["expired_token", "invalid_token"] {
        let failure = ApiFailure::new("profile", code, Some(401), "");
        assert_eq!(failure.disposition(), Disposition::StopPortal);
    }
}

#[test]
fn failures_on_the_way_are_retried() {
    let method = || "crm.contact.list".to_owned();
    let retried = [
        PortalError::Timeout { method: method(), after: Duration::from_secs(75) },
        PortalError::Gateway { method: method(), status: 502 },
        PortalError::CutBody { method: method(), bytes: 3 },
        PortalError::EmptyBody { method: method(), status: 200 },
        PortalError::BodyTooLarge { method: method(), limit: 9 },
        PortalError::Garbled { method: method() },
    ];
    for error in retried {
        assert_eq!(error.disposition(), Disposition::Retry, "{error}");
        assert!(error.is_heavy(), "{error}");
        assert!(!error.advice().is_empty());
    }
    // A gateway that refuses would refuse less as well.
    assert!(!PortalError::Gateway { method: method(), status: 404 }.is_heavy());
}

#[test]
fn messages_name_the_method_the_code_and_the_way_out() {
    let error = error("INVALID_CREDENTIALS", Some(401), "Invalid request credentials");
    assert_eq!(
        error.to_string(),
        "the portal answered crm.contact.list with INVALID_CREDENTIALS: Invalid request credentials (HTTP 401)"
    );
    assert!(error.advice().contains("portal.webhook_url"));
    let error = PortalError::from(ApiFailure::new("crm.lead.list", "", None, "Access denied."));
    assert_eq!(
        error.to_string(),
        "the portal answered crm.lead.list with an error without a code: Access denied. (in a batch)"
    );
    assert!(error.advice().contains("right to read"));
}

#[test]
fn long_descriptions_are_cut() {
    let mut failure = ApiFailure::new("m", &"c".repeat(999), None, &"\u{416}".repeat(5_000));
    failure.clear(str::to_owned);
    assert_eq!(failure.description.chars().count(), 200);
    assert_eq!(failure.code.as_str().len(), 200);
}
