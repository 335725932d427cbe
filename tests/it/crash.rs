//! What a crash costs: the answer in flight, and nothing else.

use std::time::Duration;

use b24mirror::{
    entity::Entity,
    simulator::{Action, Fault, FaultKind, Options},
};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::support::{
    Database, Process, Run, TestPortal, assert_equal, database, equal_within, eventually,
    tables::{backfill_begun, hold_a_commit, let_the_lease_run_out, nobody_connected, value},
    unlimited,
};

/// Records of one full batch.
const BATCH: u64 = 2_500;

/// What the end of a table costs: the commands of a chain that reaches beyond it start
/// over, which the portal cannot be kept from, and the last cycle reads the newest page.
const END_OF_TABLE: u64 = BATCH + 50;

/// How soon a process that was told to stop has to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// A portal that takes its time, and a table of a dozen batches.
fn slow_portal(contacts: u64) -> TestPortal {
    let latency = Duration::from_millis(250);
    TestPortal::with(Options { contacts, leads: 0, latency, ..unlimited() })
}

fn start(portal: &TestPortal, database: &Database, arguments: &[&str]) -> Process {
    Run::b24mirror(arguments).config(&portal.settings(database)).spawn()
}

/// How many rows the backfill has committed.
async fn committed(database: &Database) -> u64 {
    let rows = "select coalesce(sum(rows_read), 0)::bigint from bitrix24.backfill_segments";
    value::<i64>(database.pool(), rows).await.try_into().unwrap()
}

/// Waits for the next commit of a batch.
async fn another_commit(database: &Database) {
    backfill_begun(database.pool()).await;
    let before = committed(database).await;
    eventually("another batch is committed", || async { committed(database).await > before }).await;
}

/// Where in a batch's life a process is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Fetching,
    BeforeCommit,
    AfterCommit,
}

/// Kills a backfill in its stride, and says how many rows it had been served in vain.
async fn killed(portal: &TestPortal, database: &Database, moment: Moment) -> u64 {
    let (served, stored) = (portal.stats().rows_full, rows_so_far(database).await);
    let process = start(portal, database, &["backfill", "contacts"]);
    match moment {
        Moment::Fetching => {
            another_commit(database).await;
            let trickling = || portal.stats().faults.get("slow_body").copied().unwrap_or(0);
            let before = trickling();
            portal.fault(Fault::once("batch", FaultKind::SlowBody { millis: 3_000 }));
            eventually("an answer that trickles", || async { trickling() > before }).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            process.kill().await;
        }
        Moment::BeforeCommit => {
            another_commit(database).await;
            let lock = hold_a_commit(database.pool()).await;
            process.kill().await;
            lock.rollback().await.unwrap();
        }
        Moment::AfterCommit => {
            another_commit(database).await;
            another_commit(database).await;
            process.kill().await;
        }
    }
    nobody_connected(database.pool()).await;
    let_the_lease_run_out(database.pool()).await;
    let (served, now) = (portal.stats().rows_full - served, rows_so_far(database).await);
    assert!(now > stored, "{moment:?}: nothing was stored between two kills");
    served - (now - stored)
}

async fn rows_so_far(database: &Database) -> u64 {
    let exists = "select to_regclass('bitrix24.backfill_segments') is not null";
    if value::<bool>(database.pool(), exists).await { committed(database).await } else { 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backfill_goes_on_and_fetches_at_most_the_answer_in_flight_again() {
    let (portal, database) = (slow_portal(30_000), database().await);
    let mut kills = 0;
    let mut in_vain = 0;
    for _ in 0..2 {
        for moment in [Moment::Fetching, Moment::BeforeCommit, Moment::AfterCommit] {
            let again = killed(&portal, &database, moment).await;
            assert!(again <= BATCH, "{moment:?}: {again} rows were fetched in vain");
            kills += 1;
            in_vain += again;
        }
    }
    let records = u64::try_from(portal.truth(Entity::ALL[0]).len()).unwrap();
    let stored = committed(&database).await;
    assert!(stored < records, "the kills came too late: {stored} of {records} were there");

    let finished = start(&portal, &database, &["backfill", "contacts"]).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
    assert_eq!(committed(&database).await, records, "every row is committed exactly once");
    assert!(in_vain <= kills * BATCH);
    let served = portal.stats().rows_full;
    assert!(served <= records + in_vain + END_OF_TABLE, "{served} rows for {records} records");
    let verdicts: Vec<String> = sqlx::query_scalar(
        "select verdict from bitrix24.sync_runs where kind = 'backfill' order by id",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();
    let (last, killed) = verdicts.split_last().unwrap();
    assert_eq!(last, "complete");
    assert_eq!(*killed, vec!["interrupted"; 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_told_to_stop_during_its_backfill_is_gone_in_time_and_resumes() {
    let (portal, database) = (slow_portal(10_000), database().await);
    let process = start(&portal, &database, &["run"]);
    another_commit(&database).await;
    // An answer that would take longer than the process may.
    portal.happens(Action::Latency { millis: 20_000 });
    another_request_is_on_its_way(&portal).await;
    process.signal(Signal::SIGTERM);
    let finished = process.finish_within(GONE_WITHIN).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let holder: Option<String> =
        value(database.pool(), "select holder from bitrix24.sync_lease").await;
    assert_eq!(holder, None, "a clean exit gives the lease back");
    let stored = committed(&database).await;
    assert!(stored > 0);

    portal.happens(Action::Latency { millis: 0 });
    let process = start(&portal, &database, &["run"]);
    equal_within(&portal, database.pool(), Duration::from_mins(1)).await;
    process.signal(Signal::SIGINT);
    let finished = process.finish_within(GONE_WITHIN).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let segments: i64 = value(
        database.pool(),
        "select count(*) from bitrix24.backfill_segments where entity = 'contacts'",
    )
    .await;
    assert_eq!(segments, 1, "the backfill went on where it was");
}

/// The portal counts a request when it looks at it, which is after its latency.
async fn another_request_is_on_its_way(portal: &TestPortal) {
    let before = portal.stats().requests;
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline && portal.stats().requests < before + 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_told_to_stop_is_gone_in_time_says_so_and_resumes() {
    let (portal, database) = (slow_portal(10_000), database().await);
    let process = start(&portal, &database, &["backfill", "contacts"]);
    another_commit(&database).await;
    process.signal(Signal::SIGTERM);
    let finished = process.finish_within(GONE_WITHIN).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    assert!(finished.stdout.contains("contacts: incomplete"), "{finished:#?}");
    let stored = committed(&database).await;
    assert!(stored > 0);

    let served = portal.stats().rows_full;
    let finished = start(&portal, &database, &["backfill", "contacts"]).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let (again, missing) = (portal.stats().rows_full - served, 10_000 - stored);
    assert!(again <= missing + END_OF_TABLE, "{again} rows for {missing} that were missing");
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_cannot_finish_is_dropped_after_the_grace_and_nothing_is_half_written() {
    for command in ["run", "backfill"] {
        let (portal, database) = (slow_portal(6_000), database().await);
        let process = start(&portal, &database, &[command]);
        another_commit(&database).await;
        let lock = hold_a_commit(database.pool()).await;
        let stored = committed(&database).await;
        process.signal(Signal::SIGTERM);
        let finished = process.finish_within(GONE_WITHIN).await;
        assert_eq!(finished.code, Some(1), "{command}: {finished:#?}");
        assert!(finished.stderr.contains("abandoned"), "{command}: {finished:#?}");
        lock.rollback().await.unwrap();
        nobody_connected(database.pool()).await;
        // The cycles beside a backfill have read the newest page, above its cursor.
        let below = "select count(*) from bitrix24.contacts \
                     where id <= (select cursor_id from bitrix24.backfill_segments \
                                  where entity = 'contacts')";
        let rows: i64 = value(database.pool(), below).await;
        assert_eq!(u64::try_from(rows).unwrap(), stored, "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once() {
    for command in ["run", "backfill"] {
        let (portal, database) = (slow_portal(6_000), database().await);
        let mut process = start(&portal, &database, &[command]);
        let lock = hold_a_commit(database.pool()).await;
        process.signal(Signal::SIGTERM);
        process.logged("stopping").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        process.signal(Signal::SIGTERM);
        // Far less than the grace that a first signal leaves.
        let finished = process.finish_within(Duration::from_secs(2)).await;
        assert_eq!(finished.code, Some(1), "{command}: {finished:#?}");
        drop(lock);
    }
}
