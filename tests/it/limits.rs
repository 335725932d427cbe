//! The portal's limits: used up, never overrun, and shared with others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use b24mirror::{
    entity::CONTACTS,
    simulator::{BucketLimit, Cost, OperatingLimit, Options, Stats},
};
use tokio::time::interval;

use crate::support::{
    Database, Run, TestPortal, database, equal::sampled_differences, http, unlimited,
};

/// A thousand pages cost 400 s of operating time, of which 60 s fit into 10 s.
const PATIENCE: Duration = Duration::from_mins(6);

fn many_contacts() -> Options {
    Options { contacts: 50_000, leads: 0, ..unlimited() }
}

/// Backfills the contacts with these limits in the settings.
async fn backfilled(portal: &TestPortal, database: &Database, limits: &str) {
    let settings = portal.settings_with(database, &format!("[portal.limits]\n{limits}"));
    let run = Run::b24mirror(&["backfill", "contacts"]).config(&settings).spawn();
    let finished = run.finish_within(PATIENCE).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
}

async fn assert_contacts_equal(portal: &TestPortal, database: &Database) {
    let differences = sampled_differences(portal, database.pool(), &CONTACTS, 25).await;
    assert!(differences.is_empty(), "contacts differ from the portal:\n{differences}");
}

fn assert_never_refused(stats: &Stats) {
    assert_eq!((stats.refusals, stats.operating_refusals), (0, 0), "{stats:#?}");
}

/// Time spent waiting for the limits, as the run log has it.
async fn waited(database: &Database) -> Duration {
    let waited: i64 = sqlx::query_scalar("select sum(waited_ms)::bigint from bitrix24.sync_runs")
        .fetch_one(database.pool())
        .await
        .unwrap();
    Duration::from_millis(waited.unsigned_abs())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_uses_a_small_bucket_up_and_is_never_refused() {
    let bucket = BucketLimit { threshold: 3.0, rate: 2.0, refused_count: true };
    let portal = TestPortal::with(Options { bucket: Some(bucket), ..many_contacts() });
    let database = database().await;
    backfilled(&portal, &database, "burst = 3\nrequests_per_second = 2.0\n").await;

    let stats = portal.stats();
    assert_never_refused(&stats);
    assert!(stats.bucket_near >= 2, "the limit never bound: {stats:#?}");
    assert!(waited(&database).await > Duration::ZERO);
    assert_contacts_equal(&portal, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_uses_the_operating_time_up_and_is_never_refused() {
    let limit = OperatingLimit { limit: 60.0, window: 10.0, ..OperatingLimit::default() };
    let cost = Cost { seconds: 0.4, ..Cost::default() };
    let portal = TestPortal::with(Options {
        bucket: Some(BucketLimit::default()),
        operating: Some(limit),
        costs: [("crm.contact.list".to_owned(), cost)].into(),
        ..many_contacts()
    });
    let database = database().await;
    let limits = "burst = 50\nrequests_per_second = 2.0\n\
                  operating_seconds = 60.0\noperating_window = \"10s\"\n";
    backfilled(&portal, &database, limits).await;

    let stats = portal.stats();
    assert_never_refused(&stats);
    assert!(stats.operating_full >= 2, "the limit never bound: {stats:#?}");
    assert!(waited(&database).await > Duration::from_secs(10));
    assert_contacts_equal(&portal, &database).await;
}

/// A program that spends half of what a portal with one request a second grants, always
/// five requests at once.
async fn other_program(address: String, sent: Arc<AtomicU64>, refused: Arc<AtomicU64>) {
    let mut ticks = interval(Duration::from_secs(10));
    loop {
        ticks.tick().await;
        for _ in 0..5 {
            sent.fetch_add(1, Ordering::Relaxed);
            match http::get(&address).await.0 {
                200 => {}
                503 => _ = refused.fetch_add(1, Ordering::Relaxed),
                status => panic!("the other program got {status}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_gives_way_to_another_program_that_eats_half_the_bucket() {
    let bucket = BucketLimit { threshold: 4.0, rate: 1.0, refused_count: true };
    let options = Options { contacts: 20_000, bucket: Some(bucket), ..many_contacts() };
    let portal = TestPortal::with(options);
    let database = database().await;
    let (sent, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let address = format!("{}server.time", portal.webhook_url());
    let other = tokio::spawn(other_program(address, Arc::clone(&sent), Arc::clone(&refused)));
    backfilled(&portal, &database, "burst = 4\nrequests_per_second = 1.0\n").await;
    other.abort();

    let (sent, refused) = (sent.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    let stats = portal.stats();
    let ours = stats.refusals - refused;
    assert!(ours >= 1, "the bucket was large enough for both");
    // One refusal a burst, and a second one where the first retry came too early.
    assert!(ours <= 2 * sent.div_ceil(5), "{ours} refusals are a storm, {sent} others");
    assert!(refused <= sent / 2, "the other program was kept out: {refused} of {sent}");
    assert!(waited(&database).await >= Duration::from_secs(1));
    assert_contacts_equal(&portal, &database).await;
}
