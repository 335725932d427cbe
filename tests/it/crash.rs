//! What a crash costs: the answers under way, and nothing else.

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

/// The last cycle of a backfill reads the newest page.
const NEWEST_PAGE: u64 = 50;

/// What a crash makes the seam between two ID ranges cost at most: the page below it and
/// the record that ends the lower range are read once more.
const SEAM: u64 = 51;

/// How many chains are in flight unless the settings say otherwise.
const CHAINS: u64 = 4;

/// How soon a process that was told to stop has to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// A portal that takes its time, and a table of a dozen batches.
fn slow_portal(contacts: u64) -> TestPortal {
    let latency = Duration::from_millis(250);
    TestPortal::with(Options { contacts, leads: 0, latency, ..unlimited() })
}

/// Starts a backfill of the contacts in so many chains.
fn backfill_in(chains: u64, portal: &TestPortal, database: &Database) -> Process {
    let settings = format!(
        "max_in_flight = {chains}\n[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n"
    );
    let settings = portal.settings_with(database, &settings);
    Run::b24mirror(&["backfill", "contacts"]).config(&settings).spawn()
}

fn start(portal: &TestPortal, database: &Database, arguments: &[&str]) -> Process {
    Run::b24mirror(arguments).config(&portal.settings(database)).spawn()
}

/// How many rows the backfill has committed.
async fn committed(database: &Database) -> u64 {
    let rows = "select coalesce(sum(rows_read), 0)::bigint from bitrix24.backfill_segments";
    value::<i64>(database.pool(), rows).await.try_into().unwrap()
}

/// How many ID ranges the backfill was cut into.
async fn ranges(database: &Database) -> u64 {
    let count = "select count(*) from bitrix24.backfill_segments where entity = 'contacts'";
    value::<i64>(database.pool(), count).await.try_into().unwrap()
}

/// Fails unless every record was committed, and none twice but at the seams.
async fn assert_all_committed(database: &Database, records: u64) {
    let (committed, ranges) = (committed(database).await, ranges(database).await);
    let most = records + (ranges - 1) * SEAM;
    assert!((records..=most).contains(&committed), "{committed} of {records}, {ranges} ranges");
}

/// Rows served that a client can use. The portal starts a chained command over when the
/// page before was short, which no client can keep it from.
fn served(portal: &TestPortal) -> u64 {
    let stats = portal.stats();
    stats.rows_full - stats.rows_restarted
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
async fn killed(chains: u64, portal: &TestPortal, database: &Database, moment: Moment) -> u64 {
    let (before, stored) = (served(portal), rows_so_far(database).await);
    let process = backfill_in(chains, portal, database);
    match moment {
        Moment::Fetching => {
            another_commit(database).await;
            let trickling = || portal.stats().faults.get("slow_body").copied().unwrap_or(0);
            let before = trickling();
            portal.fault(Fault::once("batch", FaultKind::SlowBody { millis: 6_000 }));
            eventually("an answer that trickles", || async { trickling() > before }).await;
            // Time enough to write what came before.
            tokio::time::sleep(Duration::from_millis(1_500)).await;
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
    let now = rows_so_far(database).await;
    assert!(now > stored, "{moment:?}: nothing was stored between two kills");
    (served(portal) - before).saturating_sub(now - stored)
}

async fn rows_so_far(database: &Database) -> u64 {
    let exists = "select to_regclass('bitrix24.backfill_segments') is not null";
    if value::<bool>(database.pool(), exists).await { committed(database).await } else { 0 }
}

/// Kills a backfill again and again, lets the last one finish, and holds it to the law.
async fn kill_and_finish(chains: u64, contacts: u64, moments: &[Moment]) {
    let (portal, database) = (slow_portal(contacts), database().await);
    let mut in_vain = 0;
    for moment in moments {
        let again = killed(chains, &portal, &database, *moment).await;
        assert!(again <= chains * BATCH, "{moment:?}: {again} rows were fetched in vain");
        in_vain += again;
    }
    let records = u64::try_from(portal.truth(Entity::BY_DEFAULT[0]).len()).unwrap();
    let stored = committed(&database).await;
    assert!(stored < records, "the kills came too late: {stored} of {records} were there");

    let finished = backfill_in(chains, &portal, &database).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
    assert_all_committed(&database, records).await;
    let seams = (ranges(&database).await - 1) * SEAM;
    let (served, most) = (served(&portal), records + in_vain + seams + NEWEST_PAGE);
    assert!(served <= most, "{served} rows for {records} records and {in_vain} in vain");
    let verdicts: Vec<String> = sqlx::query_scalar(
        "select verdict from bitrix24.sync_runs where kind = 'backfill' order by id",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();
    let (last, killed) = verdicts.split_last().unwrap();
    assert_eq!(last, "complete");
    assert_eq!(*killed, vec!["interrupted"; moments.len()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backfill_goes_on_and_fetches_at_most_what_was_under_way_again() {
    let moments = [Moment::Fetching, Moment::BeforeCommit, Moment::AfterCommit].repeat(2);
    kill_and_finish(1, 40_000, &moments).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backfill_of_several_chains_fetches_at_most_what_was_under_way_again() {
    let moments = [Moment::Fetching, Moment::BeforeCommit, Moment::AfterCommit];
    kill_and_finish(CHAINS, 60_000, &moments).await;
}

/// Every range that is done, as it is stored.
async fn ranges_done(database: &Database) -> Vec<serde_json::Value> {
    let done = "select to_jsonb(s) from bitrix24.backfill_segments s where done order by id";
    sqlx::query_scalar(done).fetch_all(database.pool()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_to_its_end_before_a_kill_is_not_read_again() {
    let (portal, database) = (slow_portal(40_000), database().await);
    let process = backfill_in(CHAINS, &portal, &database);
    backfill_begun(database.pool()).await;
    eventually("a range is done, and others are half read", || async {
        value::<bool>(
            database.pool(),
            "select count(*) filter (where done) >= 1 \
                and count(*) filter (where not done and cursor_id > after_id) >= 2 \
             from bitrix24.backfill_segments",
        )
        .await
    })
    .await;
    process.kill().await;
    nobody_connected(database.pool()).await;
    let_the_lease_run_out(database.pool()).await;
    let (done, stored, before) =
        (ranges_done(&database).await, committed(&database).await, served(&portal));

    let finished = backfill_in(CHAINS, &portal, &database).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
    let after = ranges_done(&database).await;
    assert!(done.iter().all(|range| after.contains(range)), "{done:#?} became {after:#?}");
    let (again, missing) = (served(&portal) - before, 40_000 - stored);
    let most = missing + (ranges(&database).await - 1) * SEAM + NEWEST_PAGE;
    assert!(again <= most, "{again} rows for {missing} that were missing");
}

/// Three batches.
const CONTACTS: u64 = 6_000;

/// Kills a command in its stride and starts it again at once, while the lease that it
/// took with it still runs. Gives the process that goes on with the work, and the portal
/// and the database around it.
async fn killed_and_started_again(arguments: &[&str]) -> (Process, TestPortal, Database) {
    let (portal, database) = (slow_portal(CONTACTS), database().await);
    let pool = database.pool();
    let process = start(&portal, &database, arguments);
    another_commit(&database).await;
    process.kill().await;
    nobody_connected(pool).await;
    let (stored, asked) = (committed(&database).await, portal.stats().requests);
    assert!(stored < CONTACTS, "the kill came too late");
    let left: f64 = value(
        pool,
        "select extract(epoch from expires_at - now())::float8 from bitrix24.sync_lease",
    )
    .await;
    assert!((5.0..=15.0).contains(&left), "{arguments:?}: the lease runs for {left} s");

    let process = start(&portal, &database, arguments);
    loop {
        let so_far = portal.stats().requests;
        let held = "select expires_at > clock_timestamp() and generation = 1 \
                    from bitrix24.sync_lease where holder is not null";
        if !value::<bool>(pool, held).await {
            break;
        }
        assert_eq!(so_far, asked, "{arguments:?}: the portal was asked beside a valid lease");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let run_out = Instant::now();
    let taken = "select generation = 2 from bitrix24.sync_lease";
    eventually("the lease is taken over", || async { value::<bool>(pool, taken).await }).await;
    let waited = run_out.elapsed();
    assert!(waited < Duration::from_secs(3), "{arguments:?}: taken over {waited:?} too late");
    (process, portal, database)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_waits_until_a_dead_holders_lease_runs_out_and_goes_on_with_its_work() {
    let (process, portal, database) = killed_and_started_again(&["backfill", "contacts"]).await;
    let finished = process.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
    assert_all_committed(&database, CONTACTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_waits_until_a_dead_ones_lease_runs_out_and_goes_on_with_its_work() {
    let (process, portal, database) = killed_and_started_again(&["run"]).await;
    equal_within(&portal, database.pool(), Duration::from_mins(1)).await;
    process.signal(Signal::SIGTERM);
    let finished = process.finish_within(GONE_WITHIN).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_all_committed(&database, CONTACTS).await;
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
    let begun = begun_at(&database).await;

    portal.happens(Action::Latency { millis: 0 });
    let process = start(&portal, &database, &["run"]);
    equal_within(&portal, database.pool(), Duration::from_mins(1)).await;
    process.signal(Signal::SIGINT);
    let finished = process.finish_within(GONE_WITHIN).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(begun_at(&database).await, begun, "the backfill went on where it was");
    assert_eq!(begun.len(), 1, "{begun:?}");
    assert_all_committed(&database, 10_000).await;
}

/// When the backfills whose ranges are stored were begun.
async fn begun_at(database: &Database) -> Vec<String> {
    let begun = "select distinct started_at::text from bitrix24.backfill_segments";
    sqlx::query_scalar(begun).fetch_all(database.pool()).await.unwrap()
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

    let before = served(&portal);
    let finished = start(&portal, &database, &["backfill", "contacts"]).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let (again, missing) = (served(&portal) - before, 10_000 - stored);
    let most = missing + (ranges(&database).await - 1) * SEAM + NEWEST_PAGE;
    assert!(again <= most, "{again} rows for {missing} that were missing");
    assert_equal(&portal, database.pool()).await;
}

/// What backfills have stored: how far they say they came, and how many records they wrote
/// at or below an ID.
async fn backfilled(database: &Database, up_to: i64) -> (u64, i64) {
    let records = format!("select count(*) from bitrix24.contacts where id <= {up_to}");
    (committed(database).await, value(database.pool(), &records).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_cannot_finish_is_dropped_after_the_grace_and_nothing_is_half_written() {
    for command in ["run", "backfill"] {
        let (portal, database) = (slow_portal(6_000), database().await);
        let process = start(&portal, &database, &[command]);
        another_commit(&database).await;
        let lock = hold_a_commit(database.pool()).await;
        // The cycles beside a backfill read what is above the mark.
        let mark = "select mark from bitrix24.sync_checkpoints where entity = 'contacts'";
        let mark: i64 = value(database.pool(), mark).await;
        let before = backfilled(&database, mark).await;
        process.signal(Signal::SIGTERM);
        let finished = process.finish_within(GONE_WITHIN).await;
        assert_eq!(finished.code, Some(1), "{command}: {finished:#?}");
        assert!(finished.stderr.contains("abandoned"), "{command}: {finished:#?}");
        lock.rollback().await.unwrap();
        nobody_connected(database.pool()).await;
        assert_eq!(backfilled(&database, mark).await, before, "{command}");
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
