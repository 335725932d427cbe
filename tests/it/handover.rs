//! One process talks to a portal: others hand it their work, and take over when it dies.

mod caller;

use std::time::{Duration, Instant};

use b24mirror::{
    entity::Entity,
    simulator::{self, Action, Fault, FaultKind, Options, Rights},
    sync::LEASE_TTL,
};
use nix::sys::signal::Signal;

use crate::support::{
    Database, Gate, Process, Run, TestPortal, assert_equal, database, eventually,
    tables::{let_the_lease_run_out, row_versions, value},
    unlimited,
};

/// A daemon that does nothing by itself once its first cycle is over.
async fn lazy_daemon(portal: &TestPortal, database: &Database) -> (Process, String) {
    lazy_daemon_with(portal.settings(database), database).await
}

/// The same with settings of one's own.
async fn lazy_daemon_with(settings: String, database: &Database) -> (Process, String) {
    let settings = settings.replace("interval = \"1s\"", "interval = \"1h\"");
    let daemon = Run::b24mirror(&["run"]).config(&settings).spawn();
    eventually("the lease is taken", || async {
        let exists = "select to_regclass('bitrix24.sync_lease') is not null";
        value::<bool>(database.pool(), exists).await
            && value::<bool>(database.pool(), "select holder is not null from bitrix24.sync_lease")
                .await
    })
    .await;
    (daemon, settings)
}

async fn requests(database: &Database) -> i64 {
    value(
        database.pool(),
        "select count(*) from bitrix24.sync_requests where verdict = 'complete' \
         and taken_by = (select generation from bitrix24.sync_lease)",
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_handed_to_the_holder_and_its_verdict_comes_back() {
    let (portal, database) = (TestPortal::small(), database().await);
    portal.backfilled(&database).await;
    let (_daemon, settings) = lazy_daemon(&portal, &database).await;
    let command =
        |arguments: &'static [&'static str]| Run::b24mirror(arguments).config(&settings).finish();

    portal.happens(Action::Create {
        entity: simulator::Entity::Contacts,
        count: 30,
        visible_after: 0.0,
    });
    let finished = command(&["sync", "contacts"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(finished.stdout.contains("contacts: complete"), "{finished:#?}");
    assert!(!finished.stdout.contains("leads"), "only what was asked for: {finished:#?}");
    assert!(finished.stdout.contains("handed over as request 1"), "{finished:#?}");
    assert_eq!(requests(&database).await, 1);
    assert_equal(&portal, database.pool()).await;

    // A bulk change that moved no date: only a backfill can see it.
    let record = portal.truth(Entity::BY_DEFAULT[1])[7].id;
    portal.happens(Action::Touch {
        entity: simulator::Entity::Leads,
        id: record,
        field: "TITLE".to_owned(),
        value: "changed behind the date".into(),
        keep_date: true,
    });
    let finished = command(&["backfill", "--restart"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    for entity in Entity::BY_DEFAULT {
        let line = finished.stdout.lines().find(|line| line.starts_with(entity.name)).unwrap();
        let read = format!("complete, {} read", portal.truth(entity).len());
        assert!(line.contains(&read), "{line} instead of {read}");
    }
    assert_eq!(requests(&database).await, 2);
    assert_equal(&portal, database.pool()).await;
}

/// How a request ended that was left by hand, as a command of another version leaves it.
async fn ended(database: &Database, kind: &str, arguments: &str) -> (String, String) {
    let request: i64 = sqlx::query_scalar(
        "insert into bitrix24.sync_requests (kind, entities, arguments) \
         values ($1, '{contacts}', $2::jsonb) returning id",
    )
    .bind(kind)
    .bind(arguments)
    .fetch_one(database.pool())
    .await
    .unwrap();
    let closed = format!("from bitrix24.sync_requests where id = {request}");
    eventually("the request is closed", || async {
        value::<bool>(database.pool(), &format!("select verdict is not null {closed}")).await
    })
    .await;
    let text = async |column| value(database.pool(), &format!("select {column} {closed}")).await;
    (text("verdict").await, text("message").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_holder_cannot_read_ends_with_a_clear_line() {
    let (portal, database) = (TestPortal::small(), database().await);
    portal.backfilled(&database).await;
    let (_daemon, settings) = lazy_daemon(&portal, &database).await;
    for (kind, arguments) in [
        ("backfill", r#"{"restart": "yes"}"#),
        ("verify", r#"{"level": "deep", "repair": false}"#),
        ("refresh", "[]"),
    ] {
        let (verdict, message) = ended(&database, kind, arguments).await;
        assert_eq!(verdict, "incomplete", "{message}");
        assert!(message.contains(kind) && message.contains("the same for both"), "{message}");
    }
    let after = Run::b24mirror(&["sync"]).config(&settings).finish().await;
    assert_eq!(after.code, Some(0), "{after:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_not_filled_yet_is_not_checked() {
    let latency = Duration::from_millis(500);
    let options = Options { contacts: 20_000, leads: 0, latency, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    let _daemon = lazy_daemon(&portal, &database).await;
    for (kind, arguments) in
        [("sweep", r#"{"accept": null}"#), ("verify", r#"{"level": "ids", "repair": false}"#)]
    {
        let (verdict, message) = ended(&database, kind, arguments).await;
        assert_eq!(verdict, "incomplete", "{message}");
        assert!(message.contains("the backfill of contacts is not finished"), "{message}");
    }
    let open: bool = value(
        database.pool(),
        "select exists (select from bitrix24.backfill_segments where not done)",
    )
    .await;
    assert!(open, "the backfill was over too soon for this test");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_that_stopped_at_the_holder_is_told_and_makes_two() {
    let (portal, database) = (TestPortal::small(), database().await);
    portal.backfilled(&database).await;
    let (_daemon, settings) = lazy_daemon(&portal, &database).await;
    portal.happens(Action::Rights { entity: simulator::Entity::Leads, rights: Rights::None });
    for arguments in [&["sync"][..], &["backfill", "--restart"][..]] {
        let finished = Run::b24mirror(arguments).config(&settings).finish().await;
        assert_eq!(finished.code, Some(2), "{finished:#?}");
        assert!(finished.stdout.contains("contacts: complete"), "{finished:#?}");
        let line = finished.stdout.lines().find(|line| line.starts_with("leads")).unwrap();
        assert!(line.starts_with("leads: stopped: ") && line.contains("the CRM right"), "{line}");
    }
    // Nobody of several who wait is told that it went well.
    let waiting = || Run::b24mirror(&["backfill", "leads"]).config(&settings).finish();
    let (one, other) = tokio::join!(waiting(), waiting());
    assert_eq!((one.code, other.code), (Some(2), Some(2)), "{one:#?}\n{other:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_while_a_cycle_is_failing_waits_out_no_pause() {
    let options = Options { contacts: 100, leads: 100, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    portal.backfilled(&database).await;
    let (_daemon, settings) = lazy_daemon(&portal, &database).await;
    portal.happens(Action::Rights { entity: simulator::Entity::Leads, rights: Rights::None });
    // Each answer takes so long that the second question comes while the first cycle waits.
    portal.happens(Action::Latency { millis: 5_000 });
    let ask = || Run::b24mirror(&["sync", "leads"]).config(&settings);
    let first = ask().spawn();
    let taken = "select exists (select from bitrix24.sync_requests where taken_by is not null)";
    eventually("the first is at work", || value::<bool>(database.pool(), taken)).await;
    // A pause after such a failure lasts five minutes, longer than a command is waited for here.
    let second = ask().finish().await;
    let first = first.finish().await;
    for finished in [first, second] {
        assert_eq!(finished.code, Some(2), "{finished:#?}");
        assert!(finished.stdout.contains("leads: stopped: "), "{finished:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_that_the_holder_does_not_mirror_is_told_and_makes_two() {
    let (portal, database) = (TestPortal::small(), database().await);
    let settings = portal.settings(&database);
    let contacts_only = format!("{settings}[entities.leads]\nenabled = false\n");
    let mut daemon = Run::b24mirror(&["run"]).config(&contacts_only).spawn();
    daemon.logged("mirroring portal").await;
    let finished = Run::b24mirror(&["backfill"]).config(&settings).finish().await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    assert!(finished.stdout.contains("contacts: complete"), "{finished:#?}");
    assert!(finished.stdout.contains("`entities.leads.enabled` is false"), "{finished:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_a_holder_that_is_told_to_stop_is_taken_over_at_once() {
    let latency = Duration::from_millis(500);
    let options = Options { contacts: 10_000, leads: 0, latency, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    let (daemon, settings) = lazy_daemon(&portal, &database).await;
    let mut command = Run::b24mirror(&["backfill"]).config(&settings).spawn();
    command.printed("handed over as request").await;
    work_has_begun(&database).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish_within(Duration::from_secs(5)).await.code, Some(0));
    let stopped = Instant::now();
    command.logged("the process that held the lease is gone; taking over").await;
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
    let finished = command.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_holder_goes_on_with_the_work_when_its_database_was_away() {
    let latency = Duration::from_millis(500);
    let options = Options { contacts: 10_000, leads: 0, latency, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    let gate = Gate::to(&database.url(), true).await;
    let behind = crate::status::settings_through(&portal, &database, &gate);
    let mut daemon = Run::b24mirror(&["run"]).config(&behind).spawn();
    daemon.logged("mirroring portal").await;
    let settings = portal.settings(&database);
    let mut command = Run::b24mirror(&["backfill"]).config(&settings).spawn();
    command.printed("handed over as request").await;
    work_has_begun(&database).await;
    gate.shut();
    tokio::time::sleep(Duration::from_secs(2)).await;
    gate.open();
    let finished = command.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(finished.stdout.contains("contacts: complete"), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
}

/// Waits until the holder has taken a request and has stored a batch.
async fn work_has_begun(database: &Database) {
    eventually("the holder has taken it and begun", || async {
        value::<bool>(
            database.pool(),
            "select exists (select from bitrix24.sync_requests where taken_by is not null) \
             and exists (select from bitrix24.backfill_segments where rows_read > 0)",
        )
        .await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_a_holder_that_was_killed_is_done_by_the_command_itself() {
    let latency = Duration::from_millis(500);
    let options = Options { contacts: 10_000, leads: 0, latency, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    let (daemon, settings) = lazy_daemon(&portal, &database).await;
    let mut command = Run::b24mirror(&["backfill"]).config(&settings).spawn();
    command.printed("handed over as request").await;
    work_has_begun(&database).await;
    daemon.kill().await;
    let killed = Instant::now();
    command.logged("the process that held the lease is gone; taking over").await;
    // Renewed at the latest four seconds before, and looked at twice a second.
    assert!(killed.elapsed() + Duration::from_secs(6) > LEASE_TTL, "{:?}", killed.elapsed());
    assert!(killed.elapsed() < LEASE_TTL + Duration::from_secs(5), "{:?}", killed.elapsed());

    let finished = command.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(finished.stdout.contains("contacts: complete"), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
    let open: i64 = value(
        database.pool(),
        "select count(*) from bitrix24.sync_requests where finished_at is null",
    )
    .await;
    assert_eq!(open, 0, "nobody does the work a second time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_holder_that_wakes_after_another_took_the_lease_writes_nothing() {
    let options = Options { contacts: 3_000, leads: 0, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    // Frozen while a whole batch is on its way to it.
    let frozen = Run::b24mirror(&["backfill", "contacts"]).config(&portal.settings(&database));
    portal.fault(Fault::once("batch", FaultKind::SlowBody { millis: 1_500 }).after(2));
    let frozen = frozen.spawn();
    let trickling = || portal.stats().faults.contains_key("slow_body");
    eventually("an answer that trickles", || async { trickling() }).await;
    frozen.signal(Signal::SIGSTOP);
    let_the_lease_run_out(database.pool()).await;

    let finished = portal.command(&database, &["backfill"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
    let before = row_versions(database.pool()).await;

    frozen.signal(Signal::SIGCONT);
    let finished = frozen.finish().await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    // By the renewal or by the write, whichever came first.
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert!(said.contains("another process has taken over the lease"), "{finished:#?}");
    assert_eq!(row_versions(database.pool()).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_frozen_inside_a_transaction_is_given_up_on_and_writes_nothing() {
    let options = Options { contacts: 3_000, leads: 0, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    let frozen = Run::b24mirror(&["backfill", "contacts"]).config(&portal.settings(&database));
    portal.happens(Action::Latency { millis: 300 });
    let frozen = frozen.spawn();
    let lock = crate::support::tables::hold_a_commit(database.pool()).await;
    frozen.signal(Signal::SIGSTOP);
    // Its statement ends, its transaction stays open, and nobody commits it.
    lock.rollback().await.unwrap();
    let_the_lease_run_out(database.pool()).await;
    portal.happens(Action::Latency { millis: 0 });

    let finished = portal.command(&database, &["backfill"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
    let before = row_versions(database.pool()).await;

    frozen.signal(Signal::SIGCONT);
    let finished = frozen.finish().await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    assert_eq!(row_versions(database.pool()).await, before);
}
