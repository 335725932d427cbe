//! Failures and how they are dressed.

use b24mirror::{
    entity::{CONTACTS, Entity},
    simulator::{Action, Fault, FaultKind, Options, Rights},
    sync::Consequence,
};

use super::{Bench, CONTACT, LEAD, change, complete, contacts_failed, leads_went_on};
use crate::support::{TestPortal, unlimited};

fn command_error(code: &str, description: &str) -> FaultKind {
    let (code, description) = (code.to_owned(), description.to_owned());
    FaultKind::CommandError { status: 500, code, description }
}

fn status(status: u16, code: &str, description: &str) -> FaultKind {
    let (code, description) = (code.to_owned(), description.to_owned());
    FaultKind::Status { status, code, description }
}

fn medium() -> TestPortal {
    TestPortal::with(Options { contacts: 400, leads: 150, ..unlimited() })
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_08_a_batch_whose_every_command_failed_moves_nothing() {
    let bench = Bench::new(medium()).await;
    bench.fill().await;
    let before = bench.checkpoints().await;
    let fault = command_error("INTERNAL_SERVER_ERROR", "Internal server error");
    bench.portal.fault(Fault::once("*", fault).forever());
    bench.portal.happens(change(CONTACT, 3));
    bench.portal.happens(Action::Create { entity: CONTACT, count: 3, visible_after: 0.0 });
    for outcome in bench.try_cycle().await {
        let error = outcome.result.unwrap_err();
        assert_eq!(error.consequence(), Consequence::TryLater, "{error:?}");
    }
    assert!(bench.sprung(8) > 0);
    assert_eq!(bench.checkpoints().await, before);

    bench.portal.happens(Action::ClearFaults);
    bench.cycle().await;
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_09_maps_that_go_out_as_lists_are_read_all_the_same() {
    for unkeyed_errors in [false, true] {
        let options = Options { contacts: 400, leads: 150, unkeyed_errors, ..unlimited() };
        let bench = Bench::new(TestPortal::with(options)).await;
        let fault = command_error("INTERNAL_SERVER_ERROR", "Internal server error");
        bench.portal.fault(Fault::once("crm.contact.list", fault.clone()).at_command(1));
        bench.portal.fault(Fault::once("crm.lead.list", fault).at_command(0));
        bench.fill().await;
        assert!(bench.sprung(9) > 0);
        assert_eq!(bench.portal.stats().faults["command_error"], 2);
        bench.assert_equal().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_23_the_code_decides_and_not_the_status() {
    use Consequence::{Stop, TryLater};
    let errors = [
        ("CONNECTION_ERROR", "Error connecting to authorization server", [401, 403], TryLater),
        ("CONNECTION_ERROR", "Error connecting to authorization server", [400, 500], TryLater),
        ("INVALID_CREDENTIALS", "Invalid request credentials", [403, 401], Stop),
        ("insufficient_scope", "The request requires higher privileges", [403, 401], Stop),
        ("INSUFFICIENT_SCOPE", "The request requires higher privileges", [400, 500], Stop),
        ("user_access_error", "The user does not have access", [403, 401], Stop),
        ("ACCESS_DENIED", "REST API is available only on commercial plans", [403, 401], Stop),
        ("expired_token", "The access token provided has expired", [401, 403], Stop),
        ("OVERLOAD_LIMIT", "REST API is blocked due to overload", [503, 401], Stop),
        ("INVALID_REQUEST", "Https required.", [400, 401], Stop),
        ("PORTAL_DELETED", "Portal was deleted", [403, 410], Stop),
        ("PORTAL_DELETED", "Portal was deleted", [500, 404], Stop),
    ];
    let bench =
        Bench::new(TestPortal::with(Options { contacts: 60, leads: 60, ..unlimited() })).await;
    bench.fill().await;
    let before = bench.checkpoints().await;
    bench.portal.reset_stats();
    for (code, description, statuses, expected) in errors {
        for http in statuses {
            bench.portal.fault(Fault::once("batch", status(http, code, description)).forever());
            let requests = bench.portal.stats().requests;
            for outcome in bench.try_cycle().await {
                let error = outcome.result.unwrap_err();
                assert_eq!(error.consequence(), expected, "{code} with {http}: {error:?}");
            }
            // What cannot be helped by asking again is asked once per entity.
            let tried = bench.portal.stats().requests - requests;
            assert_eq!(tried > 2, expected == TryLater, "{code} with {http}: {tried} requests");
            bench.portal.happens(Action::ClearFaults);
        }
        if expected == TryLater {
            // Once is no reason for anybody to notice.
            bench.portal.fault(Fault::once("batch", status(statuses[0], code, description)));
            complete(bench.session().sync(&[&CONTACTS]).await);
        } else {
            assert_eq!(bench.checkpoints().await.len(), before.len());
        }
    }
    assert!(bench.sprung(23) >= 16);
    bench.portal.happens(change(CONTACT, 3));
    bench.cycle().await;
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_25_a_redirect_keeps_the_body_and_the_new_host_is_not_stored() {
    let portal = medium();
    let moved = portal.url().replace("127.0.0.1", "localhost");
    let bench = Bench::new(portal).await;
    let redirect = FaultKind::Redirect { location: moved, status: 302 };
    bench.portal.fault(Fault::times("batch", 3, redirect.clone()));
    bench.fill().await;
    // Each was asked for at the old host: nothing remembers the new one.
    assert_eq!((bench.sprung(25), bench.portal.stats().faults["redirect"]), (3, 3));
    bench.portal.happens(change(CONTACT, 3));
    bench.portal.fault(Fault::once("batch", redirect));
    bench.cycle().await;
    assert_eq!(bench.sprung(25), 4);
    bench.assert_equal().await;
    assert_eq!(bench.sprung(38), 0);

    let host = bench.portal.url().replace("http://", "");
    assert_eq!(bench.count(&format!("portal p where to_jsonb(p)::text like '%{host}%'")).await, 1);
    assert_eq!(bench.count("portal p where to_jsonb(p)::text like '%localhost%'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_26_html_cut_and_empty_bodies_cost_an_attempt_and_nothing_else() {
    let kinds = [
        FaultKind::Html { status: 502 },
        FaultKind::Html { status: 200 },
        FaultKind::Cut { bytes: 3_000 },
        FaultKind::Cut { bytes: 10 },
        FaultKind::Empty,
    ];
    for kind in kinds {
        let bench = Bench::new(medium()).await;
        for method in ["crm.contact.list", "crm.lead.list"] {
            // Once on a chain, and once again on what it is shortened to.
            bench.portal.fault(Fault::times(method, 2, kind.clone()).after(2));
        }
        let tallies = bench.fill().await;
        assert!(bench.sprung(26) >= 4, "{kind:?}: {}", bench.sprung(26));
        assert_eq!((tallies[0].inserted, tallies[1].inserted), (400, 150), "{kind:?}");
        bench.assert_equal().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_27_an_error_inside_a_200_is_an_error() {
    let bench = Bench::new(medium()).await;
    bench.fill().await;
    let before = bench.checkpoints().await;
    bench.portal.happens(change(CONTACT, 3));
    let codes = [
        ("INTERNAL_SERVER_ERROR", "Internal server error", Consequence::TryLater),
        ("INVALID_CREDENTIALS", "Invalid request credentials", Consequence::Stop),
        ("", "Access denied.", Consequence::Stop),
        ("SOMETHING_NEW", "", Consequence::TryLater),
    ];
    for (code, description, expected) in codes {
        bench.portal.fault(Fault::once("batch", status(200, code, description)).forever());
        for outcome in bench.try_cycle().await {
            let error = outcome.result.unwrap_err();
            assert_eq!(error.consequence(), expected, "{code}: {error:?}");
        }
        bench.portal.happens(Action::ClearFaults);
    }
    assert!(bench.sprung(27) >= 8);
    assert_eq!(bench.checkpoints().await, before);
    bench.portal.fault(Fault::once("batch", status(200, "INTERNAL_SERVER_ERROR", "")));
    bench.cycle().await;
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_28_an_error_without_a_code_stops_its_entity_and_no_other() {
    let mut bench = Bench::new(medium()).await;
    bench.fill().await;
    bench.portal.reset_stats();
    bench.portal.happens(Action::Rights { entity: CONTACT, rights: Rights::None });
    bench.portal.happens(change(LEAD, 5));
    let outcomes = bench.try_cycle().await;
    leads_went_on(&outcomes);
    let error = contacts_failed(outcomes);
    assert_eq!(error.consequence(), Consequence::Stop, "{error:?}");
    assert!(error.reason().contains("right"), "{}", error.reason());
    // Not asked again and again.
    let stats = bench.portal.stats();
    assert!(stats.trap(28) > 0);
    assert_eq!(stats.commands["crm.contact.fields"], 1, "{stats:?}");
    assert_eq!(bench.count("contacts where deleted_at is not null").await, 0);

    bench.portal.happens(Action::Rights { entity: CONTACT, rights: Rights::Full });
    bench.reopen().await;
    complete(bench.session().backfill(&Entity::BY_DEFAULT, false).await);
    bench.assert_equal().await;
}
