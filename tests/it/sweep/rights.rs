//! Lost read rights look exactly like mass deletion: a sweep stops, says so, and deletes
//! only what a person has accepted.

use std::collections::BTreeSet;

use b24mirror::simulator::{Action, Options, Rights};
use serde_json::Value;

use super::{CONTACT, contacts, delete, ids, last_run, mirrored, sweep, tombstones};
use crate::support::{Database, Finished, TestPortal, assert_equal, tables::value, unlimited};

fn rights(portal: &TestPortal, rights: Rights) {
    portal.happens(Action::Rights { entity: CONTACT, rights });
}

/// Sweeps the contacts, which must be refused. Gives the run and the line.
async fn refused(portal: &TestPortal, database: &Database) -> (i64, String) {
    let finished = portal.command(database, &["sweep", "contacts"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    let line = finished.stdout.trim().to_owned();
    assert!(line.starts_with("contacts: stopped: "), "{line}");
    let run = value(
        database.pool(),
        "select max(id) from bitrix24.sync_runs where kind = 'sweep' and entity = 'contacts'",
    )
    .await;
    assert!(line.contains(&format!("`b24mirror sweep contacts --accept {run}`")), "{line}");
    assert_eq!(last_run(database.pool()).await, ("stopped".to_owned(), 0));
    (run, line)
}

async fn accept(portal: &TestPortal, database: &Database, run: i64) -> Finished {
    portal.command(database, &["sweep", "--accept", &run.to_string()]).await
}

async fn status(portal: &TestPortal, database: &Database) -> (Option<i32>, Value) {
    let finished = portal.command(database, &["status", "--json"]).await;
    let status: Value = serde_json::from_str(&finished.stdout).unwrap();
    let all = status["entities"].as_array().unwrap();
    let contacts = all.iter().find(|entity| entity["entity"] == "contacts").unwrap();
    (finished.code, contacts.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_to_nothing_stop_the_sweep_and_their_return_settles_it() {
    let portal = TestPortal::small();
    let database = mirrored(&portal).await;
    let pool = database.pool();
    rights(&portal, Rights::Without(1.0));
    let (run, line) = refused(&portal, &database).await;
    assert!(line.contains("may see only 0 of 700 records"), "{line}");
    assert!(line.contains("lost read rights"), "{line}");
    assert!(tombstones(pool).await.is_empty());
    let (code, contacts) = status(&portal, &database).await;
    assert_eq!(code, Some(2));
    let told = &contacts["refused_sweep"];
    assert_eq!((told["run"].as_i64(), told["records"].as_i64()), (Some(run), Some(700)), "{told}");
    assert_eq!(told["command"], format!("b24mirror sweep contacts --accept {run}"));
    let text = portal.command(&database, &["status"]).await.stdout;
    assert!(text.contains(&format!("--accept {run}")), "{text}");
    assert!(contacts["swept_at"].is_null());

    rights(&portal, Rights::Full);
    sweep(&portal, &database).await;
    assert!(tombstones(pool).await.is_empty());
    assert_equal(&portal, pool).await;
    let (_, contacts) = status(&portal, &database).await;
    assert!(contacts.get("refused_sweep").is_none(), "{contacts}");
    assert!(contacts["swept_at"].is_string(), "{contacts}");
    let left = "select count(*) from bitrix24.sweep_refusals";
    assert_eq!(value::<i64>(pool, left).await, 0);
    let finished = accept(&portal, &database, run).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    assert!(finished.stdout.contains("no refused sweep waits for a decision"), "{finished:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_denies_access_deletes_nothing() {
    let portal = TestPortal::small();
    let database = mirrored(&portal).await;
    rights(&portal, Rights::None);
    let finished = portal.command(&database, &["sweep"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    assert!(finished.stdout.contains("contacts: stopped: "), "{finished:#?}");
    assert!(finished.stdout.contains("leads: complete"), "{finished:#?}");
    assert!(tombstones(database.pool()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_to_a_half_are_named_and_what_is_there_again_is_never_deleted() {
    let portal = TestPortal::small();
    let database = mirrored(&portal).await;
    let pool = database.pool();
    rights(&portal, Rights::Without(0.5));
    let (run, line) = refused(&portal, &database).await;
    assert!(line.contains("of 700 records; lost read rights look exactly like this"), "{line}");
    let refused = ids(pool, "select id from bitrix24.sweep_refusals").await;
    assert!((250..450).contains(&refused.len()), "{}", refused.len());

    // Accepted by mistake, after the rights have come back.
    rights(&portal, Rights::Full);
    let finished = accept(&portal, &database, run).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let dropped = format!("0 deleted that run {run} had refused to delete, {} are", refused.len());
    assert!(finished.stdout.contains(&dropped), "{finished:#?}");
    assert!(finished.stdout.contains("leads: complete, nothing to accept"), "{finished:#?}");
    assert!(tombstones(pool).await.is_empty());
    assert_equal(&portal, pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_deletion_waits_for_a_person_who_accepts_exactly_that() {
    let portal = TestPortal::with(Options { contacts: 2_000, leads: 0, ..unlimited() });
    let database = mirrored(&portal).await;
    let pool = database.pool();
    let all = contacts(&portal);
    // Two in a hundred are the most that a sweep deletes by itself.
    let few: Vec<i64> = all.iter().copied().step_by(50).collect();
    assert_eq!(few.len(), 40);
    delete(&portal, &few);
    sweep(&portal, &database).await;
    assert_eq!(tombstones(pool).await.len(), 40);

    let many: BTreeSet<i64> = all.iter().copied().skip(1).step_by(50).take(40).collect();
    delete(&portal, &many.iter().copied().collect::<Vec<_>>());
    let (run, line) = refused(&portal, &database).await;
    assert!(line.contains("40 of 1960 records are gone"), "{line}");
    assert!(line.contains("no more than 39 unasked"), "{line}");
    assert_eq!(tombstones(pool).await.len(), 40);

    // Gone after the refusal: not what the person has seen.
    let later: Vec<i64> = all.iter().copied().skip(2).step_by(500).collect();
    delete(&portal, &later);
    let other = accept(&portal, &database, run + 1_000).await;
    assert_eq!(other.code, Some(2), "{other:#?}");
    assert!(other.stdout.contains(&format!("run {run} is")), "{other:#?}");
    assert_eq!(tombstones(pool).await.len(), 40);
    let finished = accept(&portal, &database, run).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let expected: BTreeSet<i64> = few.iter().copied().chain(many).collect();
    assert_eq!(tombstones(pool).await, expected);
    assert_eq!(last_run(pool).await, ("complete".to_owned(), 40));

    sweep(&portal, &database).await;
    assert_equal(&portal, pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_records_of_a_portal_go_only_when_a_person_accepts_it() {
    let portal = TestPortal::with(Options { contacts: 20, leads: 0, ..unlimited() });
    let database = mirrored(&portal).await;
    let pool = database.pool();
    let all = contacts(&portal);
    delete(&portal, &all);
    let (run, line) = refused(&portal, &database).await;
    assert!(line.contains("the portal lists no record any more"), "{line}");
    assert!(tombstones(pool).await.is_empty());
    let finished = accept(&portal, &database, run).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(tombstones(pool).await, all.into_iter().collect());
    sweep(&portal, &database).await;
}
