//! What is removed again: old runs and requests, notes that are resolved, and tombstones
//! when a person asks for it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Generation, Store, StoreError, history, statements::Statements};
use crate::entity::{Entity, RecordId};

/// Rows that one transaction removes at most: readers and writers hardly notice it.
const ROWS: i64 = 500;

impl Store {
    /// Removes some runs, closed requests and resolved notes that are older than `keep`.
    /// The latest run of each entity, kind and verdict stays whatever its age, since
    /// `status` and the schedule go by it. Returns whether there may be more.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is removed then.
    pub async fn remove_outdated(
        &self,
        generation: Generation,
        keep: Duration,
    ) -> Result<bool, StoreError> {
        let statements = [
            "delete from sync_runs where id in ( \
                select old.id from sync_runs old \
                where old.finished_at < clock_timestamp() - make_interval(secs => $1) \
                  and exists (select from sync_runs later \
                     where later.entity = old.entity and later.kind = old.kind \
                       and later.verdict = old.verdict and later.id > old.id) \
                order by old.id limit $2)",
            "delete from sync_requests where id in ( \
                select id from sync_requests \
                where finished_at < clock_timestamp() - make_interval(secs => $1) \
                order by id limit $2)",
            "delete from sync_quarantine where id in ( \
                select id from sync_quarantine \
                where resolved_at < clock_timestamp() - make_interval(secs => $1) \
                order by id limit $2)",
        ];
        let mut more = false;
        for statement in statements {
            let mut transaction = self.begin_leased(generation).await?;
            let removed = sqlx::query(statement)
                .bind(keep.as_secs_f64())
                .bind(ROWS)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            more |= i64::try_from(removed.rows_affected()).is_ok_and(|removed| removed >= ROWS);
        }
        Ok(more)
    }

    /// Removes some records that were deleted in the portal before a moment, with their
    /// children, their history and every note about them; needs no lease. Begins above an ID; returns how
    /// many, and the ID to go on above, or `None` when none is left.
    ///
    /// A record that comes back at the same time is either kept whole or simply new.
    pub async fn purge_some(
        &self,
        entity: &'static Entity,
        before: DateTime<Utc>,
        above: RecordId,
    ) -> Result<Option<(u64, RecordId)>, StoreError> {
        let statements = Statements::of(entity);
        let mut transaction = self.begin().await?;
        // Locked in the order in which they are written, and looked at again once locked.
        let gone: Vec<i64> = sqlx::query_scalar(statements.lock_deleted())
            .bind(before)
            .bind(above.get())
            .bind(ROWS)
            .fetch_all(&mut *transaction)
            .await?;
        let Some(last) = gone.last().copied().and_then(RecordId::new) else { return Ok(None) };
        sqlx::query("delete from sync_quarantine where entity = $1 and record_id = any($2)")
            .bind(entity.name)
            .bind(&gone)
            .execute(&mut *transaction)
            .await?;
        history::remove(&mut transaction, entity, &gone).await?;
        // The children go with their parents.
        let removed =
            sqlx::query(statements.remove()).bind(&gone).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Some((removed.rows_affected(), last)))
    }

    /// The moment so long ago, by the database's clock.
    pub async fn ago(&self, duration: Duration) -> Result<DateTime<Utc>, StoreError> {
        Ok(sqlx::query_scalar("select clock_timestamp() - make_interval(secs => $1)")
            .bind(duration.as_secs_f64())
            .fetch_one(&self.pool)
            .await?)
    }
}
