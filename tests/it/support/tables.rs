//! The tables of the mirror as a test looks at them: untouched or not, held or not.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};

use super::eventually;

/// Every version of every row of every table, by table: which transaction wrote it and
/// where it lies. Differs after any write, even one that changed no value.
pub(crate) async fn row_versions(pool: &PgPool) -> BTreeMap<String, String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class \
         where relnamespace = 'bitrix24'::regnamespace and relkind = 'r'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut versions = BTreeMap::new();
    for table in tables {
        let version: String = sqlx::query_scalar(AssertSqlSafe(format!(
            "select count(*) || ' ' || coalesce(md5(string_agg(xmin::text || ctid::text, ',' \
             order by ctid)), '') from bitrix24.{table}"
        )))
        .fetch_one(pool)
        .await
        .unwrap();
        versions.insert(table, version);
    }
    versions
}

/// The record and child tables of [`row_versions`].
pub(crate) fn without_bookkeeping(
    mut versions: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    versions.retain(|table, _| {
        ["contact", "lead"].iter().any(|record| table.starts_with(record))
            || ["sync_quarantine", "fields"].contains(&table.as_str())
    });
    assert_eq!(
        versions.len(),
        23,
        "three record tables, fifteen child tables, three histories, notes, fields"
    );
    versions
}

/// One number, text or truth value.
pub(crate) async fn value<T>(pool: &PgPool, query: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres> + Send + Unpin,
{
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
}

/// Makes a lease whose holder is dead run out now instead of in a quarter of a minute.
pub(crate) async fn let_the_lease_run_out(pool: &PgPool) {
    sqlx::query("update bitrix24.sync_lease set expires_at = now() where holder is not null")
        .execute(pool)
        .await
        .unwrap();
}

/// Waits until the mirror's run log has an open backfill of the contacts.
pub(crate) async fn backfill_begun(pool: &PgPool) {
    eventually("an open backfill run", || async {
        let begun = "select to_regclass('bitrix24.sync_runs') is not null";
        value::<bool>(pool, begun).await
            && value::<bool>(
                pool,
                "select exists (select from bitrix24.sync_runs \
                 where entity = 'contacts' and kind = 'backfill' and finished_at is null)",
            )
            .await
    })
    .await;
}

/// Locks the rows which the last statement of a batch's transaction updates, and waits
/// until a batch stands before it. It commits when the lock is dropped.
pub(crate) async fn hold_a_commit(pool: &PgPool) -> Transaction<'static, Postgres> {
    backfill_begun(pool).await;
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("select from bitrix24.sync_runs for update").execute(&mut *lock).await.unwrap();
    eventually("a transaction that waits before its commit", || async {
        value::<bool>(
            pool,
            "select exists (select from pg_stat_activity where datname = current_database() \
             and wait_event_type = 'Lock' and query like 'update sync_runs set requests%')",
        )
        .await
    })
    .await;
    lock
}

/// Waits until the server has noticed that the program's connections are gone.
pub(crate) async fn nobody_connected(pool: &PgPool) {
    eventually("the program's connections are gone", || async {
        value::<bool>(
            pool,
            "select not exists (select from pg_stat_activity \
             where datname = current_database() and application_name like 'b24mirror%')",
        )
        .await
    })
    .await;
    // The last of a connection's statistics come a moment after it has gone.
    tokio::time::sleep(Duration::from_millis(50)).await;
}
