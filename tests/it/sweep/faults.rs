//! Answers that fail or lie: nothing is deleted by them, and the next sweep is right.

use b24mirror::simulator::{Action, Fault, FaultKind, Options};

use super::{CONTACT, contacts, delete, last_run, mirrored, sweep, tombstones};
use crate::support::{Database, TestPortal, assert_equal, unlimited};

const LIST: &str = "crm.contact.list";

/// Sixty pages: one that finds out what a page costs, fifty, nine, and the end.
fn portal() -> TestPortal {
    TestPortal::with(Options { contacts: 3_000, leads: 0, ..unlimited() })
}

fn failing(status: u16, code: &str) -> FaultKind {
    FaultKind::Status { status, code: code.to_owned(), description: String::new() }
}

/// Sweeps under a fault, which must not be complete and delete nothing; then without.
async fn nothing_is_deleted_under(
    fault: Fault,
    verdict: &str,
    portal: &TestPortal,
    database: &Database,
) {
    let pool = database.pool();
    let before = tombstones(pool).await;
    let some = contacts(portal)[100..110].to_vec();
    delete(portal, &some);
    portal.fault(fault.clone());
    let finished = portal.command(database, &["sweep", "contacts"]).await;
    assert_eq!(finished.code, Some(2), "{fault:?}: {finished:#?}");
    assert!(finished.stdout.contains(&format!("contacts: {verdict}: ")), "{finished:#?}");
    assert_eq!(last_run(pool).await, (verdict.to_owned(), 0), "{fault:?}");
    assert_eq!(tombstones(pool).await, before, "{fault:?}");

    portal.happens(Action::ClearFaults);
    sweep(portal, database).await;
    assert_equal(portal, pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_fails_half_way_deletes_nothing() {
    let portal = portal();
    let database = mirrored(&portal).await;
    let denied = failing(403, "ACCESS_DENIED");
    for skip in [0, 1, 2] {
        let fault = Fault::once("batch", denied.clone()).after(skip).forever();
        nothing_is_deleted_under(fault, "stopped", &portal, &database).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_ignores_its_filter_deletes_nothing() {
    let portal = portal();
    let database = mirrored(&portal).await;
    // Within a chain, and with its first page.
    for skip in [7, 51] {
        let fault = Fault::once(LIST, FaultKind::IgnoreFilter).after(skip);
        nothing_is_deleted_under(fault, "incomplete", &portal, &database).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_leaves_records_out_deletes_nothing_but_what_is_gone() {
    let portal = portal();
    let database = mirrored(&portal).await;
    // The first pages without every third record: far more than may go unasked.
    let kind = FaultKind::HideRows { every: 3 };
    nothing_is_deleted_under(Fault::times(LIST, 4, kind), "incomplete", &portal, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_agree_on_a_lie_are_found_out_by_the_count() {
    let portal = portal();
    let database = mirrored(&portal).await;
    let lies = Fault::once(LIST, FaultKind::HideRows { every: 3 }).forever();
    nothing_is_deleted_under(lies, "incomplete", &portal, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_comes_empty_is_asked_for_again() {
    let portal = portal();
    let database = mirrored(&portal).await;
    let pool = database.pool();
    let mut gone = tombstones(pool).await;
    // In the middle of a chain, as its first, and as the newest of all.
    for skip in [20_u8, 51, 61] {
        let one = contacts(&portal)[usize::from(skip)];
        delete(&portal, &[one]);
        gone.insert(one);
        portal.fault(Fault::once(LIST, FaultKind::HideRows { every: 1 }).after(skip.into()));
        sweep(&portal, &database).await;
        assert_eq!(tombstones(pool).await, gone);
        portal.happens(Action::ClearFaults);
    }
    assert_equal(&portal, pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_that_comes_empty_or_unfiltered_is_no_proof() {
    let portal = TestPortal::with(Options { contacts: 300, leads: 0, ..unlimited() });
    let database = mirrored(&portal).await;
    let pool = database.pool();
    // Six pages, the empty one with the newest, the newest for a witness: the ninth command
    // is the first that asks for candidates.
    for kind in [FaultKind::HideRows { every: 1 }, FaultKind::IgnoreFilter] {
        let gone = contacts(&portal)[40..45].to_vec();
        delete(&portal, &gone);
        portal.reset_stats();
        portal.fault(Fault::times(LIST, 2, kind).after(9));
        let finished = sweep(&portal, &database).await;
        assert!(finished.stdout.contains("5 deleted"), "{finished:#?}");
        assert_equal(&portal, pool).await;
        portal.happens(Action::ClearFaults);
    }
    portal.happens(Action::Create { entity: CONTACT, count: 3, visible_after: 0.0 });
    sweep(&portal, &database).await;
    assert_equal(&portal, pool).await;
}
