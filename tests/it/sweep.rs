//! The sweep: what was deleted becomes a tombstone, and nothing that is there ever does.

mod campaign;
mod faults;
mod rights;

use std::{collections::BTreeSet, time::Duration};

use b24mirror::{
    entity::{CONTACTS, Entity},
    simulator::{self, Action, Options},
};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{
    Database, Finished, Process, Run, TestPortal, assert_equal, database,
    equal::differences,
    equal_within, eventually,
    tables::{let_the_lease_run_out, nobody_connected, row_versions, value, without_bookkeeping},
    unlimited,
};

const CONTACT: simulator::Entity = simulator::Entity::Contacts;

/// A filled mirror of a portal.
async fn mirrored(portal: &TestPortal) -> Database {
    let database = database().await;
    portal.backfilled(&database).await;
    database
}

/// Sweeps, which must be complete.
async fn sweep(portal: &TestPortal, database: &Database) -> Finished {
    let finished = portal.command(database, &["sweep"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finished
}

async fn ids(pool: &PgPool, query: &str) -> BTreeSet<i64> {
    let rows: Vec<i64> =
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_all(pool).await.unwrap();
    rows.into_iter().collect()
}

async fn tombstones(pool: &PgPool) -> BTreeSet<i64> {
    ids(pool, "select id from bitrix24.contacts where deleted_at is not null").await
}

async fn execute(pool: &PgPool, statement: &str) -> u64 {
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap().rows_affected()
}

/// The contacts that there are.
fn contacts(portal: &TestPortal) -> Vec<i64> {
    portal.truth(&CONTACTS).iter().map(|record| record.id).collect()
}

fn delete(portal: &TestPortal, ids: &[i64]) {
    portal.happens(Action::Delete { entity: CONTACT, ids: ids.to_vec(), count: 0 });
}

/// Verdict and deletions of the latest sweep of the contacts.
async fn last_run(pool: &PgPool) -> (String, i64) {
    sqlx::query_as(
        "select verdict, deleted from bitrix24.sync_runs \
         where kind = 'sweep' and entity = 'contacts' order by id desc limit 1",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

/// Starts a sweep of the contacts and waits until it has stored its first answer.
async fn half_way(portal: &TestPortal, database: &Database) -> Process {
    let process = Run::b24mirror(&["sweep", "contacts"]).config(&portal.settings(database)).spawn();
    eventually("a sweep has compared its first range", || async {
        value::<bool>(
            database.pool(),
            "select coalesce(bool_or(started_at is not null and rows_listed > 1000), false) \
             from bitrix24.sweeps",
        )
        .await
    })
    .await;
    process
}

/// More contacts than one request lists, and time to do something in between.
fn large() -> TestPortal {
    let latency = Duration::from_millis(400);
    TestPortal::with(Options { contacts: 6_000, leads: 0, latency, ..unlimited() })
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_become_tombstones_and_keep_their_content_and_children() {
    let portal = TestPortal::small();
    let database = mirrored(&portal).await;
    let pool = database.pool();
    let all = contacts(&portal);
    let mut gone: Vec<i64> = all.iter().copied().step_by(40).collect();
    // Far beyond 32 bits, too.
    gone.extend(all.iter().rev().take(3));
    assert!(gone.iter().any(|id| *id > 1 << 31));
    let gone: BTreeSet<i64> = gone.into_iter().collect();
    let content = "select md5(string_agg(to_jsonb(c)::text, '' order by id)) from ( \
                       select id, name, last_name, custom_fields, content_hash, synced_at \
                       from bitrix24.contacts) as c";
    let children = "select count(*) from bitrix24.contact_phones";
    let before: (String, i64) = (value(pool, content).await, value(pool, children).await);

    delete(&portal, &gone.iter().copied().collect::<Vec<_>>());
    let finished = sweep(&portal, &database).await;
    assert!(finished.stdout.contains("contacts: complete"), "{finished:#?}");
    assert!(finished.stdout.contains(&format!("{} deleted", gone.len())), "{finished:#?}");
    assert_eq!(tombstones(pool).await, gone);
    assert_eq!(before, (value(pool, content).await, value(pool, children).await));
    assert_equal(&portal, pool).await;
    let deleted = i64::try_from(gone.len()).unwrap();
    assert_eq!(last_run(pool).await, ("complete".to_owned(), deleted));

    let versions = without_bookkeeping(row_versions(pool).await);
    let requests = portal.stats().requests;
    sweep(&portal, &database).await;
    assert_eq!(without_bookkeeping(row_versions(pool).await), versions, "nothing to write");
    // A page that finds out what one costs, and the others; for each entity.
    assert_eq!(portal.stats().requests - requests, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_differs_in_id_or_time_is_read_again_and_an_unmoved_time_is_not_seen() {
    let portal = TestPortal::small();
    let database = mirrored(&portal).await;
    let pool = database.pool();
    // Survivors change, losers go; nothing but the sweep looks.
    let merged = portal.happens(Action::Merge { entity: CONTACT, ids: Vec::new(), count: 5 });
    assert_eq!(merged.gone.len(), 4);
    portal.happens(Action::Change {
        entity: CONTACT,
        ids: Vec::new(),
        count: 20,
        visible_after: 0.0,
    });
    portal.happens(Action::Create { entity: CONTACT, count: 7, visible_after: 0.0 });
    portal.happens(Action::Restore {
        entity: CONTACT,
        ids: merged.gone[..1].to_vec(),
        count: 1,
        visible_after: 0.0,
    });
    // Damage on our own side: a row lost, a time wrong, a tombstone that is none.
    let there = contacts(&portal);
    let pick = |at: usize| there[at];
    execute(
        pool,
        &format!("delete from bitrix24.contacts where id in ({}, {})", pick(3), pick(200)),
    )
    .await;
    execute(
        pool,
        &format!(
            "update bitrix24.contacts set date_modify = null, content_hash = 1 where id = {}",
            pick(9)
        ),
    )
    .await;
    execute(
        pool,
        &format!(
            "update bitrix24.contacts set deleted_at = clock_timestamp() where id in ({}, {})",
            pick(20),
            pick(300)
        ),
    )
    .await;
    sweep(&portal, &database).await;
    assert_equal(&portal, pool).await;
    assert_eq!(tombstones(pool).await, merged.gone.iter().copied().collect());

    let silent = pick(50);
    portal.happens(Action::Touch {
        entity: CONTACT,
        id: silent,
        field: "NAME".to_owned(),
        value: "changed behind the date".into(),
        keep_date: true,
    });
    sweep(&portal, &database).await;
    let differing = differences(&portal, pool, &CONTACTS).await;
    assert!(differing.starts_with(&format!("contact {silent}: name")), "{differing}");
    assert_eq!(differing.lines().count(), 1, "{differing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_during_a_sweep_is_found_by_it_or_by_the_next_and_never_wrongly() {
    let portal = large();
    let database = mirrored(&portal).await;
    let pool = database.pool();
    let process = half_way(&portal, &database).await;
    let cursor: i64 = value(pool, "select cursor_id from bitrix24.sweeps").await;
    let all = contacts(&portal);
    let (read, to_come): (Vec<i64>, Vec<i64>) = all.iter().partition(|id| **id <= cursor);
    assert!(read.len() > 2_000 && to_come.len() > 2_000, "{} {}", read.len(), to_come.len());
    let behind: Vec<i64> = read.iter().copied().step_by(300).collect();
    let ahead: Vec<i64> = to_come.iter().copied().step_by(300).collect();
    delete(&portal, &behind);
    delete(&portal, &ahead);
    // More than a request lists: they are the incremental cycle's.
    portal.happens(Action::Create { entity: CONTACT, count: 2_600, visible_after: 0.0 });
    let finished = process.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let listed = "select rows_listed from bitrix24.sweeps where entity = 'contacts'";
    let listed: i64 = value(pool, listed).await;
    assert!(listed < 6_200, "{listed} listed, to the end that there was when it began");
    let first = tombstones(pool).await;
    assert!(first.iter().all(|id| ahead.contains(id)), "{first:?}");

    sweep(&portal, &database).await;
    assert_eq!(tombstones(pool).await, behind.iter().chain(&ahead).copied().collect());
    assert_equal(&portal, pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sweep_goes_on_where_it_was_and_deletes_what_it_had_found() {
    let portal = large();
    let database = mirrored(&portal).await;
    let pool = database.pool();
    let all = contacts(&portal);
    let gone: BTreeSet<i64> = all.iter().copied().step_by(200).collect();
    delete(&portal, &gone.iter().copied().collect::<Vec<_>>());
    let process = half_way(&portal, &database).await;
    process.kill().await;
    nobody_connected(pool).await;
    let_the_lease_run_out(pool).await;
    let cursor: i64 = value(pool, "select cursor_id from bitrix24.sweeps").await;
    assert!(tombstones(pool).await.is_empty());
    assert!(value::<i64>(pool, "select count(*) from bitrix24.sweep_candidates").await > 0);
    // Gone as well, but behind the cursor: that is for the next sweep.
    let late = all[1];
    assert!(late < cursor && !gone.contains(&late));
    delete(&portal, &[late]);

    let before = portal.stats();
    sweep(&portal, &database).await;
    let after = portal.stats();
    let left = u64::try_from(all.iter().filter(|id| **id > cursor).count()).unwrap();
    // The pages that end it, and those by which the candidates are confirmed.
    let listed = after.rows_narrow - before.rows_narrow;
    assert!(listed <= left + 250, "{listed} rows for {left} that were left");
    assert_eq!(tombstones(pool).await, gone);
    let verdicts: Vec<String> = sqlx::query_scalar(
        "select verdict from bitrix24.sync_runs \
         where kind = 'sweep' and entity = 'contacts' order by id",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(verdicts, ["interrupted", "complete"]);
    sweep(&portal, &database).await;
    assert_equal(&portal, pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_costs_a_request_for_2500_records_and_counts_nothing() {
    let portal = TestPortal::with(Options { contacts: 20_000, leads: 0, ..unlimited() });
    let database = mirrored(&portal).await;
    portal.reset_stats();
    let finished = portal.command(&database, &["sweep", "contacts"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let stats = portal.stats();
    // Eight full chains, and one page that finds out what a page costs.
    assert!(stats.requests <= 9, "{}", stats.requests);
    assert_eq!((stats.counts, stats.rows_full, stats.rows_restarted), (0, 0, 0));
    assert!(stats.rows_narrow <= 20_050, "{}", stats.rows_narrow);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_without_records_is_swept_like_any_other() {
    let portal = TestPortal::with(Options { contacts: 0, leads: 0, ..unlimited() });
    let database = mirrored(&portal).await;
    let finished = sweep(&portal, &database).await;
    assert!(finished.stdout.contains("contacts: complete, 0 listed"), "{finished:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_is_handed_to_the_daemon_and_its_verdict_comes_back() {
    let portal = TestPortal::small();
    let database = mirrored(&portal).await;
    let gone = contacts(&portal)[7];
    delete(&portal, &[gone]);
    let mut daemon = portal.daemon(&database);
    daemon.logged("mirroring portal").await;
    let finished = sweep(&portal, &database).await;
    assert!(finished.stdout.contains("handed over as request"), "{finished:#?}");
    assert!(finished.stdout.contains("contacts: complete"), "{finished:#?}");
    assert_eq!(tombstones(database.pool()).await, [gone].into());
    equal_within(&portal, database.pool(), Duration::from_mins(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_sweeps_by_schedule_while_people_work() {
    let portal = TestPortal::with(Options { contacts: 1_500, leads: 400, ..unlimited() });
    let database = mirrored(&portal).await;
    let pool = database.pool();
    let settings = portal
        .settings(&database)
        .replace("[sync]\n", "[sync]\nsweep_interval = \"1s\"\nmax_delete_share = 0.5\n");
    let _daemon = Run::b24mirror(&["run"]).config(&settings).spawn();
    let sweeps = || async {
        let complete = "select count(*) from bitrix24.sync_runs \
                        where kind = 'sweep' and verdict = 'complete' and entity = 'contacts'";
        value::<i64>(pool, complete).await
    };
    let mut gone = BTreeSet::new();
    for round in 0..12 {
        let merged = portal.happens(Action::Merge { entity: CONTACT, ids: Vec::new(), count: 4 });
        gone.extend(merged.gone);
        let deleted =
            portal.happens(Action::Delete { entity: CONTACT, ids: Vec::new(), count: 10 });
        gone.extend(deleted.gone);
        for entity in [CONTACT, simulator::Entity::Leads] {
            portal.happens(Action::Create { entity, count: 15, visible_after: 0.0 });
            portal.happens(Action::Import { entity, count: 5, days: 90, visible_after: 0.0 });
            portal.happens(Action::Change {
                entity,
                ids: Vec::new(),
                count: 30,
                visible_after: 0.0,
            });
        }
        if round % 4 == 3 {
            let before = sweeps().await;
            eventually("another sweep by schedule", || async { sweeps().await > before }).await;
        }
    }
    equal_within(&portal, pool, Duration::from_mins(1)).await;
    assert_eq!(tombstones(pool).await, gone);
    assert_equal(&portal, pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_another_user_is_swept_with_once_all_has_been_read_again() {
    let portal = TestPortal::small();
    let database = mirrored(&portal).await;
    let pool = database.pool();
    sweep(&portal, &database).await;
    let gone: BTreeSet<i64> = contacts(&portal)[10..15].iter().copied().collect();
    delete(&portal, &gone.iter().copied().collect::<Vec<_>>());
    // The schema has been filled with another user's rights; the next sweep is a day away.
    execute(pool, "update bitrix24.portal set user_id = 77").await;
    let _daemon = portal.daemon(&database);
    eventually("the deletions are found", || async { tombstones(pool).await == gone }).await;
    equal_within(&portal, pool, Duration::from_mins(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_needs_a_filled_mirror() {
    let (portal, database) = (TestPortal::small(), database().await);
    let finished = portal.command(&database, &["sweep"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    assert!(finished.stdout.contains("run `b24mirror backfill contacts` first"), "{finished:#?}");
    assert!(Entity::BY_DEFAULT.into_iter().all(|entity| finished.stdout.contains(entity.name)));
}
