//! Building the indexes that only readers need, once there is something to read.

use sqlx::AssertSqlSafe;

use super::{Generation, Store, StoreError};
use crate::reporting::indexes::{Index, indexes};

/// An index takes as long as it takes, whatever the server's settings say of statements. The
/// server takes a second to send an autovacuum out of the way, which comes after every large load.
const NO_HASTE: &str = "set local statement_timeout = 0; set local lock_timeout = '3s'";

impl Store {
    /// The indexes that are lacking on the tables of entities whose first fill is over.
    pub async fn missing_indexes(&self) -> Result<Vec<Index>, StoreError> {
        let filled: Vec<String> = sqlx::query_scalar(
            "select entity from sync_checkpoints c where not exists ( \
                select from backfill_segments s \
                where s.entity = c.entity and s.kind = 'backfill' and not s.done)",
        )
        .fetch_all(&self.pool)
        .await?;
        let built: Vec<String> =
            sqlx::query_scalar("select indexname::text from pg_indexes where schemaname = $1")
                .bind(self.schema.as_str())
                .fetch_all(&self.pool)
                .await?;
        let entities = self.entities().await?;
        Ok(entities
            .into_iter()
            .filter(|entity| !entity.is_read_whole())
            .filter(|entity| filled.iter().any(|name| name == entity.name))
            .flat_map(indexes)
            .filter(|index| !built.contains(&index.name))
            .collect())
    }

    /// Builds an index. Writers of its table wait until it is there, readers do not. Without a
    /// generation nobody needs to hold the lease.
    ///
    /// # Errors
    /// [Unavailability](StoreError::is_unavailable) when the table is in use for long;
    /// [`StoreError::LeaseLost`] when the lease is another's. Nothing is changed then.
    pub async fn build_index(
        &self,
        generation: Option<Generation>,
        index: &Index,
    ) -> Result<(), StoreError> {
        let Index { name, table, on } = index;
        let create = format!("create index if not exists \"{name}\" on \"{table}\" {on}");
        let mut transaction = self.begin_reporting(generation).await?;
        sqlx::raw_sql(NO_HASTE).execute(&mut *transaction).await?;
        sqlx::query(AssertSqlSafe(create)).execute(&mut *transaction).await?;
        sqlx::query("delete from report_views where name = $1")
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}
