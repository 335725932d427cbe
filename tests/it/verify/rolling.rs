//! The rolling check: a share of the records at a time, for ever.

use b24mirror::{
    entity::CONTACTS,
    simulator::{Action, Entity},
};

use super::{backfilled, contacts, touched};
use crate::support::{
    Database, Process, TestPortal, assert_equal, database, eventually, tables::value,
};

/// Lets so many days pass for whatever is done on a schedule.
async fn days_pass(database: &Database, days: i32) {
    for (table, columns) in
        [("sync_runs", &["started_at", "finished_at"][..]), ("rolling_checks", &["started_at"][..])]
    {
        for column in columns {
            let sql = format!(
                "update bitrix24.{table} set {column} = {column} - make_interval(days => {days})"
            );
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(database.pool()).await.unwrap();
        }
    }
}

/// Waits until so many rolling checks have come to their end.
async fn checked(database: &Database, times: i64) {
    eventually("a rolling check", || async {
        let ended = "select count(*) from bitrix24.sync_runs \
                     where kind = 'rolling_check' and entity = 'contacts' and verdict = 'complete'";
        value::<i64>(database.pool(), ended).await >= times
    })
    .await;
}

async fn stopped(daemon: Process) {
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(daemon.finish().await.code, Some(0));
}

async fn cursor(database: &Database) -> i64 {
    let cursor = "select cursor_id from bitrix24.rolling_checks where entity = 'contacts'";
    value(database.pool(), cursor).await
}

async fn deleted(database: &Database) -> i64 {
    let tombstones = "select count(*) from bitrix24.contacts where deleted_at is not null";
    value(database.pool(), tombstones).await
}

fn names(portal: &TestPortal) -> Vec<i64> {
    portal.truth(&CONTACTS).iter().map(|record| record.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_compared_within_the_days_across_restarts() {
    let (portal, database) = (contacts(700), database().await);
    backfilled(&portal, &database).await;
    let ids = names(&portal);
    portal.happens(touched(ids[3], "in the first share"));
    portal.happens(touched(ids[600], "in the last share"));
    days_pass(&database, 1).await;

    let daemon = portal.daemon(&database);
    checked(&database, 1).await;
    stopped(daemon).await;
    // A share of an hour out of seven days is less than a page.
    let first = cursor(&database).await;
    assert_eq!(first, ids[49]);
    let found = "select (message ~ '1 different' and message ~ 'name') and updated = 1 \
                 from bitrix24.sync_runs where kind = 'rolling_check' and entity = 'contacts'";
    assert!(value::<bool>(database.pool(), found).await);

    // Half of the time has passed, so half of the records are due.
    days_pass(&database, 3).await;
    let daemon = portal.daemon(&database);
    checked(&database, 2).await;
    stopped(daemon).await;
    let second = cursor(&database).await;
    assert!(second > first && second < ids[600], "{second}");

    days_pass(&database, 5).await;
    let daemon = portal.daemon(&database);
    checked(&database, 3).await;
    stopped(daemon).await;
    let complete = "select checked_at is not null and cursor_id = 0 and compared = 0 \
                    from bitrix24.rolling_checks where entity = 'contacts'";
    assert!(value::<bool>(database.pool(), complete).await);
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_check_leaves_deletions_to_the_sweep() {
    let (portal, database) = (contacts(200), database().await);
    backfilled(&portal, &database).await;
    let ids = names(&portal);
    days_pass(&database, 1).await;
    // The sweep that is due as well must not be first to see it.
    let swept = "insert into bitrix24.sync_runs \
                    (entity, kind, generation, started_at, finished_at, verdict) \
                 select 'contacts', 'sweep', 1, now(), now(), 'complete'";
    sqlx::query(swept).execute(database.pool()).await.unwrap();
    portal.happens(Action::Delete { entity: Entity::Contacts, ids: vec![ids[4]], count: 1 });
    portal.happens(touched(ids[7], "beside it"));
    let daemon = portal.daemon(&database);
    checked(&database, 1).await;
    stopped(daemon).await;
    let told: String = value(
        database.pool(),
        "select message from bitrix24.sync_runs \
         where kind = 'rolling_check' and entity = 'contacts' limit 1",
    )
    .await;
    assert!(told.contains("1 extra, left to the next sweep"), "{told}");
    assert!(told.contains("repaired: 1 written, 0 deleted"), "{told}");
    assert_eq!(deleted(&database).await, 0);
}
