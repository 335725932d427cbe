//! The governor at work: portals that book operating time in every way there is, others
//! that spend it, and what people learn of the waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use b24mirror::{
    entity::CONTACTS,
    simulator::{Action, Booking, BucketLimit, Cost, Entity, OperatingLimit, Options},
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::{
    Company, Database, Finished, Run, TestPortal, database, equal::sampled_differences, eventually,
    http, tables::value, unlimited,
};

/// A few windows of 10 s.
const PATIENCE: Duration = Duration::from_mins(3);

const LIST: &str = "crm.contact.list";

/// A portal with contacts only, each page of which costs so much; to count them costs
/// more than anybody should spend.
fn costly(contacts: u64, cost: f64, operating: Option<OperatingLimit>) -> Options {
    let cost = Cost { seconds: cost, count_seconds: 6.0, real: false };
    Options {
        contacts,
        leads: 0,
        bucket: Some(BucketLimit::default()),
        operating,
        costs: [(LIST.to_owned(), cost)].into(),
        ..unlimited()
    }
}

fn limit(limit: f64, window: f64) -> OperatingLimit {
    OperatingLimit { limit, window, ..OperatingLimit::default() }
}

/// The section of the settings with these limits.
fn told(limit: f64, window: u32) -> String {
    format!(
        "[portal.limits]\nburst = 50\nrequests_per_second = 2.0\n\
         operating_seconds = {limit:.1}\noperating_window = \"{window}s\"\n"
    )
}

/// Backfills the contacts, which must end complete.
async fn backfilled(portal: &TestPortal, database: &Database, limits: &str) -> Finished {
    let settings = portal.settings_with(database, limits);
    let run = Run::b24mirror(&["backfill", "contacts"]).config(&settings).spawn();
    let finished = run.finish_within(PATIENCE).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let differences = sampled_differences(portal, database.pool(), &CONTACTS, 10).await;
    assert!(differences.is_empty(), "contacts differ from the portal:\n{differences}");
    finished
}

fn lines_with(finished: &Finished, text: &str) -> usize {
    finished.stderr.lines().filter(|line| line.contains(text)).count()
}

async fn status(settings: &str) -> (Value, String) {
    let json = Run::b24mirror(&["status", "--json"]).config(settings).finish().await;
    let text = Run::b24mirror(&["status"]).config(settings).finish().await;
    // While the schema is being migrated it cannot tell.
    (serde_json::from_str(&json.stdout).unwrap_or_default(), text.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heavy_portal_is_read_in_short_chains_and_its_wait_is_told_once() {
    // As 8 s a page of 480 s: sixty pages in a window.
    let portal = TestPortal::with(costly(7_500, 0.8, Some(limit(48.0, 12.0))));
    let database = database().await;
    let settings = portal.settings_with(&database, &told(48.0, 12));
    let run = Run::b24mirror(&["backfill", "contacts"]).config(&settings).spawn();
    let reason = format!("the operating time of {LIST} is used up");
    eventually("status tells what is waited for", || async {
        let migrated = "select to_regclass('bitrix24.sync_lease') is not null";
        if !value::<bool>(database.pool(), migrated).await {
            return false;
        }
        let (json, text) = status(&settings).await;
        let told = json["waits"][0]["reason"] == reason.as_str();
        if told {
            assert!(json["waits"][0]["until"].is_string(), "{json}");
            assert!(text.contains(&format!("waiting   {reason}; going on at ")), "{text}");
        }
        told
    })
    .await;

    let finished = run.finish_within(PATIENCE).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(lines_with(&finished, &format!("waiting: {reason}")), 1, "{finished:#?}");
    assert_eq!(lines_with(&finished, &format!("the wait is over: {reason}")), 1, "{finished:#?}");
    let stats = portal.stats();
    assert_eq!((stats.refusals, stats.operating_refusals), (0, 0), "{stats:#?}");
    // A hundred and fifty pages, and not one by one.
    assert!(stats.requests < 75, "{stats:#?}");
    let (json, _) = status(&settings).await;
    assert_eq!(json["waits"], Value::Array(Vec::new()));
    let differences = sampled_differences(&portal, database.pool(), &CONTACTS, 10).await;
    assert!(differences.is_empty(), "contacts differ from the portal:\n{differences}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_booked_on_the_batch_is_kept_below_the_limit() {
    // A window of ten minutes has shrunk to ten seconds, and with it what an answer may be late.
    let _company = Company::quiet().await;
    let operating = OperatingLimit { booking: Booking::Batch, ..limit(60.0, 10.0) };
    let portal = TestPortal::with(costly(20_000, 0.4, Some(operating)));
    let database = database().await;
    let finished = backfilled(&portal, &database, &told(60.0, 10)).await;
    let stats = portal.stats();
    assert_eq!((stats.refusals, stats.operating_refusals), (0, 0), "{stats:#?}");
    assert!(stats.operating_peak["batch"] > 40.0, "the limit never bound: {stats:#?}");
    let waiting = "waiting: the operating time of batch is used up";
    assert_eq!(lines_with(&finished, waiting), 1, "{finished:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_without_figures_or_limit_is_not_held_back() {
    let portal = TestPortal::with(costly(10_000, 0.4, None));
    let database = database().await;
    // The settings claim a limit that would last for a quarter of it.
    let finished = backfilled(&portal, &database, &told(20.0, 600)).await;
    assert_eq!(lines_with(&finished, "waiting: "), 0, "{finished:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_limits_without_a_word_is_obeyed() {
    let operating = OperatingLimit { report: false, ..limit(30.0, 8.0) };
    let portal = TestPortal::with(costly(7_500, 0.4, Some(operating)));
    let database = database().await;
    let finished = backfilled(&portal, &database, &told(30.0, 8)).await;
    let stats = portal.stats();
    assert!(stats.operating_refusals > 0, "the limit never bound: {stats:#?}");
    // After a refusal one request asks once in a tenth of the window.
    assert!(stats.requests < 80, "{stats:#?}");
    assert!(finished.stderr.lines().count() < 40, "{finished:#?}");
}

/// A program that calls the same method by the same webhook whenever it is let, and has
/// everything counted.
async fn greedy(address: String, stop: Arc<AtomicBool>, refused: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        match http::get(&address).await.0 {
            200 => {}
            429 => {
                refused.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(200)).await;
            }
            status => panic!("the other program got {status}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_others_reach_inside_our_batch_is_waited_out() {
    let _company = Company::quiet().await;
    let options = Options { bucket: None, ..costly(7_500, 0.4, Some(limit(40.0, 6.0))) };
    let portal = TestPortal::with(options);
    let database = database().await;
    let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let address = format!("{}{LIST}", portal.webhook_url());
    let other = tokio::spawn(greedy(address, Arc::clone(&stop), Arc::clone(&refused)));
    let until = Instant::now() + Duration::from_secs(15);
    let limits = told(40.0, 6);
    let (finished, ()) = tokio::join!(backfilled(&portal, &database, &limits), async {
        tokio::time::sleep_until(until).await;
        stop.store(true, Ordering::Relaxed);
    });
    other.await.unwrap();
    let ours = portal.stats().operating_refusals - refused.load(Ordering::Relaxed);
    assert!(ours > 0, "the other program never spent what we counted on");
    let told = lines_with(&finished, &format!("waiting: the portal has blocked {LIST}"))
        + lines_with(&finished, &format!("waiting: the operating time of {LIST} is used up"));
    assert!((1..=2).contains(&told), "{finished:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_keep_arriving_while_a_backfill_has_used_its_operating_time_up() {
    const INTERVAL: Duration = Duration::from_secs(2);
    /// What a cycle itself may take, from its first look into the database to its last.
    const REQUEST: Duration = Duration::from_secs(1);
    let _company = Company::quiet().await;
    let portal = TestPortal::with(costly(20_000, 0.2, Some(limit(60.0, 40.0))));
    let database = database().await;
    let settings = portal.settings_with(&database, &told(60.0, 40));
    let settings = settings.replace("interval = \"1s\"", "interval = \"2s\"");
    let settings = format!("{settings}[entities.leads]\nenabled = false\n");
    let mut daemon = Run::b24mirror(&["run"]).config(&settings).spawn();
    daemon.logged("waiting: the operating time").await;

    for _ in 0..5 {
        let action = Action::Create { entity: Entity::Contacts, count: 3, visible_after: 0.0 };
        // By the database's clock, for we may be late to look. A cycle's run begins when it
        // has brought something.
        let written: String = value(database.pool(), "select clock_timestamp()::text").await;
        let ids = portal.happens(action).ids;
        let ids = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let brought = format!(
            "from bitrix24.sync_runs where kind = 'incremental' and started_at > '{written}'"
        );
        let there = format!(
            "select count(*) = 3 and exists (select {brought}) \
             from bitrix24.contacts where id = any('{{{ids}}}')"
        );
        eventually("the new contacts are there", || value(database.pool(), &there)).await;
        let seconds = format!(
            "select extract(epoch from min(started_at) - '{written}'::timestamptz)::float8 {brought}"
        );
        let took = Duration::from_secs_f64(value(database.pool(), &seconds).await);
        println!("after {took:?}");
        assert!(took <= INTERVAL + REQUEST, "{took:?}");
    }
    let stopped = "select exists (select from bitrix24.backfill_segments where not done)";
    assert!(value::<bool>(database.pool(), stopped).await, "the backfill was over");
    let (json, _) = status(&settings).await;
    assert_eq!(json["waits"][0]["reason"], format!("the operating time of {LIST} is used up"));
    let stats = portal.stats();
    assert_eq!((stats.refusals, stats.operating_refusals), (0, 0), "{stats:#?}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_changes_are_read_in_quiet_hours_by_the_portals_clock() {
    let portal = TestPortal::small();
    let database = database().await;
    // A Wednesday, in Moscow.
    portal.happens(Action::SetClock { to: "2026-03-04T17:59:00+03:00".to_owned() });
    let quiet = "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
                 quiet_hours = [\"mon-fri 09:00-18:00\"]\n";
    let settings = portal.settings_with(&database, quiet);
    let mut daemon = Run::b24mirror(&["run"]).config(&settings).spawn();
    daemon.logged("waiting: quiet hours until 18:00 (portal time)").await;
    eventually("status tells of quiet hours", || async {
        let (json, text) = status(&settings).await;
        let reason = "quiet hours until 18:00 (portal time)";
        json["waits"][0]["reason"] == reason
            && text.contains(&format!("waiting   {reason}"))
            && json["entities"][0]["state"] == "backfilling"
    })
    .await;
    let created =
        portal.happens(Action::Create { entity: Entity::Contacts, count: 1, visible_after: 0.0 });
    let there = format!("select count(*) = 1 from bitrix24.contacts where id = {}", created.ids[0]);
    eventually("the new contact is there", || value(database.pool(), &there)).await;

    portal.happens(Action::SetClock { to: "2026-03-04T18:00:00+03:00".to_owned() });
    eventually("everything is there", || async {
        let (json, _) = status(&settings).await;
        json["entities"][0]["state"] == "fresh"
            && json["entities"][1]["state"] == "fresh"
            && json["waits"] == Value::Array(Vec::new())
    })
    .await;
    let finished = daemon.kill().await;
    assert_eq!(lines_with(&finished, "waiting: quiet hours"), 1, "{finished:#?}");
    assert_eq!(lines_with(&finished, "the wait is over: quiet hours"), 1, "{finished:#?}");
}
