//! A mirror at rest: asking whether something has changed costs next to nothing.

use crate::support::{
    Database, TestPortal, assert_equal, database,
    tables::{nobody_connected, row_versions, value, without_bookkeeping},
};

/// Inserts, updates, deletes and dead tuples of the record and child tables, as the
/// server itself counts them.
async fn writes(database: &Database) -> Vec<i64> {
    nobody_connected(database.pool()).await;
    sqlx::query("select pg_stat_clear_snapshot()").execute(database.pool()).await.unwrap();
    let statistics = "select array[sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del), \
                      sum(n_dead_tup)]::bigint[] from pg_stat_user_tables \
                      where schemaname = 'bitrix24' and relname ~ '^(contact|lead)'";
    value(database.pool(), statistics).await
}

#[tokio::test]
async fn a_sync_with_nothing_changed_sends_one_request_per_entity_and_writes_no_row() {
    let (portal, database) = (TestPortal::small(), database().await);
    portal.backfilled(&database).await;
    // Otherwise it could come in between and count dead tuples away.
    sqlx::query(
        "do $$ declare t text; begin \
         for t in select relname from pg_class \
             where relnamespace = 'bitrix24'::regnamespace and relkind = 'r' loop \
         execute format('alter table bitrix24.%I set (autovacuum_enabled = false)', t); \
         end loop; end $$",
    )
    .execute(database.pool())
    .await
    .unwrap();
    // The first cycle of a process probes the filters in the same request.
    for round in ["first", "second"] {
        let before = writes(&database).await;
        let versions = without_bookkeeping(row_versions(database.pool()).await);
        portal.reset_stats();

        let finished = portal.command(&database, &["sync"]).await;
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        assert!(finished.stdout.contains("contacts: complete"), "{finished:#?}");

        let stats = portal.stats();
        assert_eq!(stats.requests, 2, "{round} sync: {:?}", stats.requests_by_method);
        assert_eq!(writes(&database).await, before, "{round} sync");
        let after = without_bookkeeping(row_versions(database.pool()).await);
        assert_eq!(after, versions, "{round} sync");
    }
    assert_equal(&portal, database.pool()).await;
}
