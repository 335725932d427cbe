//! What is removed again: old runs by the daemon, tombstones by `purge`.

use b24mirror::simulator::{self, Action};
use sqlx::AssertSqlSafe;

use crate::support::{
    Database, TestPortal, assert_equal, cycles::cycled, database, equal, eventually, tables::value,
};

async fn execute(database: &Database, statement: &str) {
    let statement = AssertSqlSafe(statement.to_owned());
    sqlx::query(statement).execute(database.pool()).await.unwrap();
}

async fn count(database: &Database, of: &str) -> i64 {
    value(database.pool(), &format!("select count(*) from bitrix24.{of}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn old_runs_go_and_the_latest_of_each_kind_and_verdict_stay() {
    let (portal, database) = (TestPortal::small(), database().await);
    portal.backfilled(&database).await;
    let runs = "insert into bitrix24.sync_runs \
                (entity, kind, generation, started_at, finished_at, verdict) \
                select entity, kind, 0, now() - age, now() - age, verdict from \
                unnest(array['contacts', 'leads']) as entity, \
                unnest(array['sweep', 'incremental']) as kind, \
                unnest(array['complete', 'stopped']) as verdict, \
                unnest(array['200 days', '100 days', '80 days']::interval[]) as age \
                order by age desc";
    execute(&database, runs).await;
    let only_old = "update bitrix24.sync_runs set finished_at = now() - interval '1 year' \
                    where kind = 'backfill' or verdict = 'stopped'";
    execute(&database, only_old).await;
    // More than one batch holds.
    let many = "insert into bitrix24.sync_runs (entity, kind, generation, finished_at, verdict) \
                select 'contacts', 'verify', 0, now() - interval '91 days', 'complete' \
                from generate_series(1, 1200)";
    execute(&database, many).await;
    let requests = "insert into bitrix24.sync_requests (kind, entities, finished_at, verdict) \
                    values ('sync', '{}', now() - interval '91 days', 'complete'), \
                        ('sync', '{}', now() - interval '89 days', 'complete')";
    execute(&database, requests).await;
    let notes = "insert into bitrix24.sync_quarantine \
                 (entity, record_id, field, reason, raw, first_seen, last_seen, resolved_at) \
                 select 'contacts', 999999, 'OLD', 'unreadable_value', n::text, \
                    now() - interval '1 year', now() - interval '1 year', resolved \
                 from unnest(array[now() - interval '91 days', now() - interval '89 days', null]) \
                    with ordinality as note (resolved, n)";
    execute(&database, notes).await;

    let _daemon = portal.daemon(&database);
    let left = "sync_runs where kind = 'verify'";
    eventually("all but one are gone", || async { count(&database, left).await == 1 }).await;
    let left = "sync_quarantine where field = 'OLD'";
    eventually("one note is gone", || async { count(&database, left).await == 2 }).await;
    assert_eq!(count(&database, "sync_quarantine where field = 'OLD' and raw = '1'").await, 0);
    assert_eq!(count(&database, "sync_requests").await, 1);
    // Of each of four: complete after 80 days; stopped, which all are a year old.
    for kind in ["sweep", "incremental"] {
        for verdict in ["complete", "stopped"] {
            let of = format!(
                "sync_runs where kind = '{kind}' and verdict = '{verdict}' and generation = 0"
            );
            assert_eq!(count(&database, &of).await, 2, "{kind} {verdict}: one for each entity");
        }
    }
    let kept = "sync_runs where kind = 'backfill' and finished_at < now() - interval '300 days'";
    assert_eq!(count(&database, kept).await, 2, "the latest stays however old it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_what_was_deleted_long_ago_and_nothing_else_beside_daemon_and_readers() {
    let (portal, database) = (TestPortal::small(), database().await);
    portal.backfilled(&database).await;
    let _daemon = portal.daemon(&database);
    cycled(database.pool()).await;
    let truth = portal.truth(b24mirror::entity::Entity::BY_DEFAULT[0]);
    let ids = |range: std::ops::Range<usize>| -> Vec<i64> {
        truth[range].iter().map(|record| record.id).collect()
    };
    let (long_ago, lately) = (ids(0..40), ids(40..60));
    for (ids, age) in [(&long_ago, "100 days"), (&lately, "80 days")] {
        sqlx::query(
            "with note as (insert into bitrix24.sync_quarantine \
                (entity, record_id, field, reason, raw, first_seen, last_seen, resolved_at) \
                select 'contacts', id, 'PURGED', 'unreadable_value', '1', now(), now(), now() \
                from unnest($1::bigint[]) as id) \
             update bitrix24.contacts set deleted_at = now() - $2::text::interval \
             where id = any($1)",
        )
        .bind(ids)
        .bind(age)
        .execute(database.pool())
        .await
        .unwrap();
    }
    let live = "contacts where deleted_at is null";
    let before = (count(&database, live).await, count(&database, "leads").await);
    let pool = database.pool().clone();
    let reader = tokio::spawn(async move {
        loop {
            let halves: i64 = sqlx::query_scalar(
                "select count(*) from bitrix24.contact_phones p \
                 left join bitrix24.contacts c on c.id = p.contact_id where c.id is null",
            )
            .fetch_one(&pool)
            .await
            .unwrap();
            assert_eq!(halves, 0);
            tokio::task::yield_now().await;
        }
    });

    let purged = portal.command(&database, &["purge", "--older-than", "90d"]).await;
    assert!(!reader.is_finished());
    reader.abort();
    assert_eq!(purged.code, Some(0), "{purged:#?}");
    assert!(purged.stdout.contains("contacts: 40 records purged that were deleted"), "{purged:#?}");
    assert!(purged.stdout.contains("leads: 0 records purged"), "{purged:#?}");
    assert_eq!((count(&database, live).await, count(&database, "leads").await), before);
    let remaining: Vec<i64> = sqlx::query_scalar(
        "select id from bitrix24.contacts where deleted_at is not null order by id",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();
    assert_eq!(remaining, lately);
    let notes = count(&database, "sync_quarantine where field = 'PURGED'").await;
    assert_eq!(notes, 20, "notes go with their records");

    // What comes back is simply new, and a tombstone that still stands is lifted.
    let (entity, count) = (simulator::Entity::Contacts, 1);
    let ids = long_ago.into_iter().chain(lately).collect();
    portal.happens(Action::Change { entity, ids, count, visible_after: 0.0 });
    equal::equal_within(&portal, database.pool(), std::time::Duration::from_mins(1)).await;
    let again = portal.command(&database, &["purge", "--older-than", "90d", "contacts"]).await;
    assert!(again.stdout.starts_with("contacts: 0 records purged"), "{again:#?}");
    assert!(!again.stdout.contains("leads"), "{again:#?}");
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test]
async fn a_purge_says_how_old_and_never_means_everything() {
    let (portal, database) = (TestPortal::small(), database().await);
    for arguments in [
        &["purge"][..],
        &["purge", "contacts"][..],
        &["purge", "--older-than", "0s"][..],
        &["purge", "--older-than", "90"][..],
        &["purge", "--older-than", "-90d"][..],
        &["purge", "--older-than", "30m"][..],
    ] {
        let refused = portal.command(&database, arguments).await;
        assert_eq!(refused.code, Some(64), "{refused:#?}");
        assert!(refused.stderr.contains("--older-than"), "{refused:#?}");
    }
    assert_eq!(portal.stats().requests, 0);
}
