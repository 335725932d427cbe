//! What sweeps refused to delete, and what people decided about it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{
    Confirmed, Generation, Run, Store, StoreError,
    checkpoint::read_id,
    sweep::{drop_candidates, note_asked, numbers, tombstones},
};
use crate::entity::{Entity, RecordId};

/// A sweep that would have deleted more than it may unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The run that refused.
    pub run: i64,
    /// When it did, by the database's clock.
    pub at: DateTime<Utc>,
    /// Why, and what to do about it.
    pub why: String,
    /// How many records it would have deleted, less those that are settled since.
    pub records: i64,
}

impl Store {
    /// Ends the sweep under way without deleting, and keeps what it would have deleted, in
    /// place of what an earlier one has refused.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's.
    pub async fn refuse_sweep(
        &self,
        generation: Generation,
        entity: &'static Entity,
        run: &Run,
        why: &str,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        drop_refusals(&mut transaction, entity).await?;
        sqlx::query(
            "insert into sweep_refusals (entity, run, id) \
             select entity, $2, id from sweep_candidates where entity = $1",
        )
        .bind(entity.name)
        .bind(run.id())
        .execute(&mut *transaction)
        .await?;
        drop_candidates(&mut transaction, entity).await?;
        sqlx::query(
            "update sweeps set refused_run = $2, refused_from = started_at, \
                refused_at = clock_timestamp(), refused_why = $3, started_at = null \
             where entity = $1 and started_at is not null",
        )
        .bind(entity.name)
        .bind(run.id())
        .bind(why)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// The entity of which that run has refused to delete records, decided or not.
    pub async fn refused_entity(&self, run: i64) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "select entity from sweeps where refused_run = $1 union all \
             select entity from sync_runs \
             where id = $1 and kind = 'sweep' and verdict = 'stopped' limit 1",
        )
        .bind(run)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Records that a run refused to delete, in the order of their IDs.
    pub async fn refused_records(
        &self,
        entity: &'static Entity,
        run: i64,
        at_most: u32,
    ) -> Result<Vec<RecordId>, StoreError> {
        let ids: Vec<i64> = sqlx::query_scalar(
            "select id from sweep_refusals where entity = $1 and run = $2 order by id limit $3",
        )
        .bind(entity.name)
        .bind(run)
        .bind(i64::from(at_most))
        .fetch_all(&self.pool)
        .await?;
        ids.into_iter().map(|id| read_id(id, "sweep_refusals", "id")).collect()
    }

    /// Deletes records that a run had refused to delete and that a person has accepted,
    /// where they are confirmed to be gone; the others are dropped from what is refused.
    /// Returns how many tombstones were set.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's.
    pub async fn delete_refused(
        &self,
        generation: Generation,
        entity: &'static Entity,
        refused: i64,
        confirmed: Confirmed<'_>,
        run: &Run,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        note_asked(&mut transaction, entity, confirmed.asked_at).await?;
        sqlx::query("delete from sweep_refusals where entity = $1 and run = $2 and id = any($3)")
            .bind(entity.name)
            .bind(refused)
            .bind([numbers(confirmed.gone), numbers(confirmed.there)].concat())
            .execute(&mut *transaction)
            .await?;
        let ids = numbers(confirmed.gone);
        let at = vec![confirmed.asked_at; ids.len()];
        let told = self.history.is_kept(entity);
        let deleted = tombstones(&mut transaction, entity, &ids, &at, (run, told)).await?;
        transaction.commit().await?;
        Ok(deleted)
    }

    /// Closes a refusal of which nothing is left: the sweep that refused is complete now.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's.
    pub async fn settle_refusal(
        &self,
        generation: Generation,
        entity: &'static Entity,
        refused: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        sqlx::query(
            "update sweeps s set swept_from = refused_from, swept_at = refused_at, \
                refused_run = null, refused_from = null, refused_at = null, refused_why = null \
             where entity = $1 and refused_run = $2 and not exists ( \
                select from sweep_refusals r where r.entity = s.entity and r.run = $2)",
        )
        .bind(entity.name)
        .bind(refused)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }
}

/// Forgets what sweeps have found and not deleted, because another mapping, of another source
/// perhaps, has found it. Where it had been refused, a new sweep is due.
pub(super) async fn forget_findings(
    connection: &mut PgConnection,
    entity: &'static Entity,
) -> Result<(), StoreError> {
    drop_candidates(connection, entity).await?;
    drop_refusals(connection, entity).await?;
    sqlx::query(
        "update sweeps set started_at = null, wanted = wanted or refused_run is not null, \
            refused_run = null, refused_from = null, refused_at = null, refused_why = null \
         where entity = $1",
    )
    .bind(entity.name)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn drop_refusals(
    connection: &mut PgConnection,
    entity: &'static Entity,
) -> Result<(), StoreError> {
    sqlx::query("delete from sweep_refusals where entity = $1")
        .bind(entity.name)
        .execute(connection)
        .await?;
    Ok(())
}
