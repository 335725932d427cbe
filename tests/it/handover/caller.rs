//! Whoever asked: what is drawn, what Ctrl-C means, and what a cancellation does.

use std::time::{Duration, Instant};

use b24mirror::simulator::{self, Action, Options};
use nix::sys::signal::Signal;

use super::{lazy_daemon_with, work_has_begun};
use crate::support::{
    Company, Database, Process, Run, Terminal, TestPortal, assert_equal, database, eventually,
    tables::{hold_a_commit, let_the_lease_run_out, value},
    terminal::CTRL_C,
    unlimited,
};

/// A portal of contacts only.
fn contacts(contacts: u64) -> TestPortal {
    TestPortal::with(Options { contacts, leads: 0, ..unlimited() })
}

/// A lazy daemon that sends seven requests in ten seconds, so that backfills take a while.
async fn slow_daemon(portal: &TestPortal, database: &Database) -> (Process, String) {
    let slow = "[portal.limits]\nrequests_per_second = 0.7\nburst = 4\n";
    lazy_daemon_with(portal.settings_with(database, slow), database).await
}

/// The mirror of a portal.
async fn backfilled(count: u64) -> (TestPortal, Database) {
    let (portal, database) = (contacts(count), database().await);
    portal.backfilled(&database).await;
    (portal, database)
}

/// Whether the contacts were read to their end, each of them once.
fn read_all(said: &str, contacts: u64) -> bool {
    said.contains(&format!("contacts: complete, {contacts} read, "))
}

async fn verdict(database: &Database, request: i64) -> Option<String> {
    let verdict = format!("select verdict from bitrix24.sync_requests where id = {request}");
    value(database.pool(), &verdict).await
}

/// Open ID ranges, and what the newest run of a backfill says about its end.
async fn left_to_read(database: &Database) -> (i64, Option<String>) {
    let open = "select count(*) from bitrix24.backfill_segments where not done";
    let last = "select concat(verdict, ': ', message) from bitrix24.sync_runs \
                where kind = 'backfill' order by id desc limit 1";
    (value(database.pool(), open).await, value(database.pool(), last).await)
}

/// Waits until a request has been taken and a bar has been reported for it.
async fn bar_is_reported(database: &Database, request: i64) {
    eventually("the holder reports figures", || async {
        let reported = format!(
            "select coalesce((select progress -> 0 ->> 'seconds_left' is not null \
             from bitrix24.sync_requests where id = {request}), false)"
        );
        value::<bool>(database.pool(), &reported).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_there_are_bars_and_ctrl_c_asks_and_leaves_the_work_running() {
    let (portal, database) = (contacts(10_000), database().await);
    let (daemon, settings) = slow_daemon(&portal, &database).await;
    let mut terminal = Terminal::b24mirror(&["backfill"], &settings);
    let first = format!("process {} (run) is mirroring this portal; ", daemon.id());
    terminal.shows(&first).await;
    terminal.shows("the work was handed over as request 1").await;
    for part in ["contacts [", " % ", " records, ", "/s, ", " left"] {
        terminal.shows(part).await;
    }
    terminal.types(CTRL_C);
    let question = "Leave request 1 running, cancel it, or go on watching? [l/c/w] ";
    let asked = terminal.shows(question).await;
    terminal.types("perhaps\n");
    let asked = terminal.shows_after(asked, question).await;
    terminal.types("w\n");
    let drawn = terminal.shows_after(asked, "contacts [").await;
    terminal.types(CTRL_C);
    terminal.shows_after(drawn, question).await;
    terminal.types("\n");
    let (code, screen) = terminal.finish().await;
    assert_eq!(code, Some(2), "{screen}");
    assert!(screen.contains("not finished: request 1 goes on in host "), "{screen}");
    assert!(screen.contains("`b24mirror status`"), "{screen}");

    let status = Run::b24mirror(&["status"]).config(&settings).finish().await;
    let line = "request   1, backfill of contacts, leads: under way";
    assert!(status.stdout.contains(line), "{status:#?}");
    eventually("the request is done", || async {
        verdict(&database, 1).await.as_deref() == Some("complete")
    })
    .await;
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_leaves_the_work_running() {
    let (portal, database) = (contacts(10_000), database().await);
    let (_daemon, settings) = slow_daemon(&portal, &database).await;
    let mut terminal = Terminal::b24mirror(&["backfill", "contacts"], &settings);
    terminal.shows("contacts [").await;
    terminal.types(CTRL_C);
    terminal.shows("[l/c/w] ").await;
    let again = Instant::now();
    terminal.types(CTRL_C);
    let (code, screen) = terminal.finish().await;
    assert_eq!(code, Some(2), "{screen}");
    assert!(again.elapsed() < Duration::from_secs(2), "{:?}", again.elapsed());
    assert!(screen.contains("not finished: request 1 goes on in host "), "{screen}");
    assert_eq!(verdict(&database, 1).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_comes_even_while_the_question_is_open() {
    let (portal, database) = backfilled(5_000).await;
    let (_daemon, settings) = slow_daemon(&portal, &database).await;
    // However slow the terminal is: no backfill begins before the question stands there.
    let mut hold = database.pool().begin().await.unwrap();
    sqlx::query("lock table bitrix24.sync_runs in share mode").execute(&mut *hold).await.unwrap();
    let mut terminal = Terminal::b24mirror(&["backfill", "--restart"], &settings);
    terminal.shows("handed over as request 1").await;
    terminal.types(CTRL_C);
    terminal.shows("[l/c/w] ").await;
    hold.rollback().await.unwrap();
    let (code, screen) = terminal.finish().await;
    assert_eq!(code, Some(0), "{screen}");
    assert!(read_all(&screen, 5_000), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_restart_of_a_complete_mirror_is_dropped() {
    let (portal, database) = backfilled(10_000).await;
    let (_daemon, settings) = slow_daemon(&portal, &database).await;
    let mut terminal = Terminal::b24mirror(&["backfill", "--restart", "contacts"], &settings);
    terminal.shows("contacts [").await;
    bar_is_reported(&database, 1).await;
    terminal.types(CTRL_C);
    terminal.shows("[l/c/w] ").await;
    let cancelled = Instant::now();
    terminal.types("c\n");
    let (code, screen) = terminal.finish().await;
    assert!(cancelled.elapsed() < Duration::from_secs(4), "{:?}", cancelled.elapsed());
    assert_eq!(code, Some(2), "{screen}");
    assert!(screen.contains("cancelling request 1"), "{screen}");
    let line = "contacts: incomplete: cancelled; the mirror was complete before";
    assert!(screen.contains(line), "{screen}");
    assert_eq!(verdict(&database, 1).await.as_deref(), Some("incomplete"));

    let (open, run) = left_to_read(&database).await;
    assert_eq!((open, run.as_deref()), (0, Some("incomplete: cancelled by request 1")));
    let requests = portal.stats().requests;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(portal.stats().requests, requests, "nobody reads on");
    assert_equal(&portal, database.pool()).await;
    // And it is no obstacle to doing it after all.
    let again = Run::b24mirror(&["backfill", "--restart", "contacts"]).config(&settings);
    let finished = again.finish().await;
    assert!(read_all(&finished.stdout, 10_000), "{finished:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_first_backfill_goes_on_in_the_daemons_own_time() {
    let (portal, database) = (contacts(10_000), database().await);
    let (_daemon, settings) = slow_daemon(&portal, &database).await;
    let mut terminal = Terminal::b24mirror(&["backfill", "contacts"], &settings);
    terminal.shows("contacts [").await;
    terminal.types(CTRL_C);
    terminal.shows("[l/c/w] ").await;
    terminal.types("c\n");
    let (code, screen) = terminal.finish().await;
    assert_eq!(code, Some(2), "{screen}");
    assert!(screen.contains("contacts: incomplete: cancelled; what the mirror lacks"), "{screen}");
    assert_eq!(verdict(&database, 1).await.as_deref(), Some("incomplete"));
    eventually("the daemon has read the rest", || async {
        left_to_read(&database).await == (0, Some("complete: ".to_owned()))
    })
    .await;
    let why: i64 = value(
        database.pool(),
        "select count(*) from bitrix24.sync_runs where verdict = 'incomplete' \
         and message = 'cancelled by request 1; goes on in its own lane'",
    )
    .await;
    assert_eq!(why, 1);
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_still_wants_is_not_cancelled() {
    let (portal, database) = backfilled(10_000).await;
    let (_daemon, settings) = slow_daemon(&portal, &database).await;
    let mut terminal = Terminal::b24mirror(&["backfill", "--restart"], &settings);
    terminal.shows("contacts [").await;
    let mut other = Run::b24mirror(&["backfill", "contacts"]).config(&settings).spawn();
    other.printed("handed over as request 2").await;
    bar_is_reported(&database, 2).await;
    terminal.types(CTRL_C);
    terminal.shows("[l/c/w] ").await;
    terminal.types("c\n");
    let (code, screen) = terminal.finish().await;
    assert_eq!(code, Some(2), "{screen}");
    assert!(screen.contains("cancelled; the backfill goes on for another request"), "{screen}");
    let finished = other.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(read_all(&finished.stdout, 10_000), "{finished:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_a_signal_leaves_the_work_running() {
    let (portal, database) = (contacts(40_000), database().await);
    let (_daemon, settings) = slow_daemon(&portal, &database).await;
    for (request, signal) in [(1, Signal::SIGTERM), (2, Signal::SIGINT)] {
        let mut command = Run::b24mirror(&["backfill", "contacts"]).config(&settings).spawn();
        command.printed(&format!("handed over as request {request}")).await;
        work_has_begun(&database).await;
        command.signal(signal);
        let finished = command.finish_within(Duration::from_secs(3)).await;
        assert_eq!(finished.code, Some(2), "{finished:#?}");
        let left = format!("not finished: request {request} goes on in host ");
        assert!(finished.stdout.contains(&left), "{finished:#?}");
        assert!(finished.stdout.contains("`b24mirror status`"), "{finished:#?}");
        assert_eq!(verdict(&database, request).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_there_is_a_line_now_and_then() {
    let (portal, database) = (contacts(40_000), database().await);
    let (_daemon, settings) = slow_daemon(&portal, &database).await;
    let mut command = Run::b24mirror(&["backfill", "contacts"]).config(&settings).spawn();
    let line = command.logged("backfilling, ").await;
    let told = ["request=1", "entity=\"contacts\"", "percent=", "records=", "per_second=", " left"];
    assert!(told.iter().all(|part| line.contains(part)), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_is_taken_over_does_not_begin_once_more() {
    let (portal, database) = backfilled(10_000).await;
    let (daemon, settings) = slow_daemon(&portal, &database).await;
    let mut command =
        Run::b24mirror(&["backfill", "--restart", "contacts"]).config(&settings).spawn();
    bar_is_reported(&database, 1).await;
    let began = "select min(started_at)::text from bitrix24.backfill_segments";
    let before: Option<String> = value(database.pool(), began).await;
    daemon.signal(Signal::SIGTERM);
    command.logged("the process that held the lease is gone; taking over").await;
    let finished = command.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(value::<Option<String>>(database.pool(), began).await, before);
    assert_eq!(verdict(&database, 1).await.as_deref(), Some("complete"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_is_cancelled_while_nobody_holds_it_is_dropped_by_the_next_holder() {
    let (portal, database) = backfilled(10_000).await;
    let (daemon, settings) = slow_daemon(&portal, &database).await;
    let command = Run::b24mirror(&["backfill", "--restart", "contacts"]).config(&settings).spawn();
    bar_is_reported(&database, 1).await;
    command.kill().await;
    daemon.kill().await;
    assert!(left_to_read(&database).await.0 > 0, "the restart was under way");
    cancel(&database, 1).await;
    let_the_lease_run_out(database.pool()).await;

    let _next = Run::b24mirror(&["run"]).config(&settings).spawn();
    eventually("the request is closed", || async {
        verdict(&database, 1).await.as_deref() == Some("incomplete")
    })
    .await;
    let message = "select message from bitrix24.sync_requests where id = 1";
    let message: String = value(database.pool(), message).await;
    assert!(message.contains("what was left to read again is dropped"), "{message}");
    assert_eq!(left_to_read(&database).await.0, 0);
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_cancelled_comes_to_the_end_of_its_transaction() {
    let (portal, database) = backfilled(10_000).await;
    let (_daemon, settings) = slow_daemon(&portal, &database).await;
    let command = Run::b24mirror(&["backfill", "--restart", "contacts"]).config(&settings).spawn();
    let lock = hold_a_commit(database.pool()).await;
    let read = "select read from bitrix24.sync_runs where kind = 'backfill' \
                order by id desc limit 1";
    let before: i64 = value(database.pool(), read).await;
    cancel(&database, 1).await;
    // The holder looks every second; the answer cannot come before the transaction's end.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(verdict(&database, 1).await, None);
    lock.rollback().await.unwrap();
    let finished = command.finish().await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    let line = "contacts: incomplete: cancelled; the mirror was complete before";
    assert!(finished.stdout.contains(line), "{finished:#?}");
    let after: i64 = value(database.pool(), read).await;
    assert!(after > before, "what was in hand is kept: {before}, {after}");
    let run = (0, Some("incomplete: cancelled by request 1".to_owned()));
    assert_eq!(left_to_read(&database).await, run);
}

/// Takes a request back, as its command would.
async fn cancel(database: &Database, request: i64) {
    sqlx::query("update bitrix24.sync_requests set cancelled_at = now() where id = $1")
        .bind(request)
        .execute(database.pool())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_work_beside_each_other_and_changes_keep_coming() {
    let _company = Company::quiet().await;
    let options = Options { contacts: 15_000, leads: 2_500, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    // Now, because the portal answers nobody while it tells the truth.
    let records = portal.truth(b24mirror::entity::Entity::BY_DEFAULT[0]);
    // Two cycles a second leave one request a second for both backfills.
    let tight = "[portal.limits]\nrequests_per_second = 3\nburst = 8\n";
    let settings = portal.settings_with(&database, tight);
    let mut daemon = Run::b24mirror(&["run"]).config(&settings).spawn();
    daemon.logged("mirroring portal").await;
    work_begins(&database).await;
    let start =
        |arguments: &'static [&'static str]| Run::b24mirror(arguments).config(&settings).spawn();
    let backfills = [start(&["backfill", "contacts"]), start(&["backfill"])];
    for request in [1, 2] {
        bar_is_reported(&database, request).await;
    }
    let sync = start(&["sync", "contacts"]);
    let mut rounds = 0;
    while verdict(&database, 1).await.is_none() && verdict(&database, 2).await.is_none() {
        portal.happens(Action::Touch {
            entity: simulator::Entity::Contacts,
            id: records[rounds].id,
            field: "NAME".to_owned(),
            value: format!("change {rounds}").into(),
            keep_date: false,
        });
        let changed = Instant::now();
        let arrived =
            format!("select exists (select from bitrix24.contacts where name = 'change {rounds}')");
        eventually("the change", || async { value::<bool>(database.pool(), &arrived).await }).await;
        assert!(changed.elapsed() < Duration::from_secs(4), "{:?}", changed.elapsed());
        rounds += 1;
    }
    assert!(rounds >= 3, "the backfill was over too soon: {rounds}");
    let sync = sync.finish().await;
    assert_eq!(sync.code, Some(2), "{sync:#?}");
    assert!(sync.stdout.contains("the backfill of contacts is not finished"), "{sync:#?}");
    for backfill in backfills {
        let finished = backfill.finish().await;
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        assert!(finished.stdout.contains("contacts: complete, "), "{finished:#?}");
    }
    assert_equal(&portal, database.pool()).await;
}

/// Waits until the daemon's own backfill has stored a batch.
async fn work_begins(database: &Database) {
    eventually("the daemon's own backfill", || async {
        let begun = "select to_regclass('bitrix24.backfill_segments') is not null";
        value::<bool>(database.pool(), begun).await
            && value::<bool>(
                database.pool(),
                "select exists (select from bitrix24.backfill_segments where rows_read > 0)",
            )
            .await
    })
    .await;
}
