//! One record, one page or one answer that the portal cannot deliver holds up nothing else.

use std::collections::BTreeSet;

use b24mirror::{
    entity::CONTACTS,
    simulator::{Action, Entity, Fault, FaultKind, Options, Poison},
};
use tokio::time::Instant;

use crate::support::{
    Database, Finished, Run, TestPortal, assert_equal, database, equal_but_for, unlimited,
};

/// Open notes of a reason, as (entity, record).
async fn noted(database: &Database, reason: &str) -> BTreeSet<(String, i64)> {
    let open: Vec<(String, i64)> = sqlx::query_as(
        "select entity, record_id from bitrix24.sync_quarantine \
         where reason = $1 and resolved_at is null",
    )
    .bind(reason)
    .fetch_all(database.pool())
    .await
    .unwrap();
    open.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_breaks_every_page_is_set_aside_and_everything_else_arrives() {
    let portal = TestPortal::with(Options { contacts: 400, leads: 60, ..unlimited() });
    let database = database().await;
    let entity = Entity::Contacts;
    let poisoned = portal.truth(&CONTACTS)[137].id;
    let fault = FaultKind::Html { status: 502 };
    portal.happens(Action::Poison { poison: Poison { entity, id: poisoned, fault } });

    let finished = portal.command(&database, &["backfill"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let expected = BTreeSet::from([("contacts".to_owned(), poisoned)]);
    assert_eq!(noted(&database, "undeliverable").await, expected);
    let left_out = BTreeSet::from([(entity, poisoned)]);
    equal_but_for(&left_out, &portal, database.pool(), Instant::now()).await;

    // Once it can be delivered again, it arrives like any other change.
    portal.happens(Action::ClearFaults);
    let (ids, count) = (vec![poisoned], 1);
    portal.happens(Action::Change { entity, ids, count, visible_after: 0.0 });
    let finished = portal.command(&database, &["sync"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
    assert_eq!(noted(&database, "undeliverable").await, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_without_its_multi_fields_is_refused_and_read_again() {
    let portal = TestPortal::small();
    let database = database().await;
    portal.backfilled(&database).await;
    portal.reset_stats();
    let dropped = Fault::once("crm.contact.list", FaultKind::DropMultiFields).after(4);
    portal.fault(dropped);
    let finished = portal.command(&database, &["backfill", "--restart", "contacts"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(portal.stats().faults.get("drop_multi_fields"), Some(&1));
    assert_equal(&portal, database.pool()).await;
    assert_eq!(noted(&database, "children_missing").await, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_row_without_its_multi_fields_keeps_the_stored_ones() {
    let portal = TestPortal::small();
    let database = database().await;
    portal.backfilled(&database).await;
    let entity = Entity::Contacts;
    let id =
        portal.truth(&CONTACTS).iter().find(|c| !c.multi_fields["PHONE"].is_empty()).unwrap().id;
    let (count, visible_after) = (1, 0.0);
    portal.happens(Action::SetMulti {
        entity,
        id,
        field: "PHONE".to_owned(),
        values: vec![("+7 495 000-00-00".to_owned(), "WORK".to_owned())],
    });
    let finished = portal.command(&database, &["sync"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;

    portal.happens(Action::Touch {
        entity,
        id,
        field: "NAME".to_owned(),
        value: "Ada".into(),
        keep_date: false,
    });
    // The first command of a cycle asks for what was changed.
    portal.fault(Fault::once("crm.contact.list", FaultKind::DropMultiFields).at_command(0));
    let finished = portal.command(&database, &["sync", "contacts"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let expected = BTreeSet::from([("contacts".to_owned(), id)]);
    assert_eq!(noted(&database, "children_missing").await, expected);
    assert_equal(&portal, database.pool()).await;

    portal.happens(Action::Change { entity, ids: vec![id], count, visible_after });
    let finished = portal.command(&database, &["sync", "contacts"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
    assert_eq!(noted(&database, "children_missing").await, BTreeSet::new());
}

/// Backfills with another limit on the size of an answer.
async fn backfilled_with_max_body(portal: &TestPortal, database: &Database, max: &str) -> Finished {
    let run = Run::b24mirror(&["backfill"]).config(&portal.settings(database));
    let finished = run.env("B24MIRROR__PORTAL__MAX_BODY", max).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finished
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_halve_when_an_answer_is_cut_and_the_backfill_finishes() {
    let portal = TestPortal::with(Options { contacts: 3_000, leads: 100, ..unlimited() });
    let database = database().await;
    // Something on the way lets no more than this through: six pages.
    portal.fault(Fault::once("batch", FaultKind::Cut { bytes: 1_000_000 }).forever());
    let finished = backfilled_with_max_body(&portal, &database, "32MiB").await;
    assert!(finished.stderr.contains("half as many pages"), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_halve_when_an_answer_is_too_large_and_the_backfill_finishes() {
    let portal = TestPortal::with(Options { contacts: 3_000, leads: 100, ..unlimited() });
    let database = database().await;
    let finished = backfilled_with_max_body(&portal, &database, "1MiB").await;
    assert!(finished.stderr.contains("half as many pages"), "{finished:#?}");
    // The length that fits is remembered: it is not found out anew for every chain.
    let stats = portal.stats();
    // Each look at the names behind codes begins with the portal's profile.
    let requests = stats.requests - stats.commands.get("profile").copied().unwrap_or(0);
    assert!(requests < 40, "{requests} requests for 62 pages of which six fit");
    assert_equal(&portal, database.pool()).await;
}
