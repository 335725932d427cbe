//! Sweeps: how far one has come, what it has found, and the tombstones that it sets.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{FromRow, PgConnection};

use super::{
    Generation, Refusal, Run, Store, StoreError, checkpoint::read_id, history, quarantine,
    refusals::drop_refusals, run_log, statements::Statements,
};
use crate::entity::{Entity, RecordId, Sight};

/// A sweep under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepProgress {
    /// When it began, by the database's clock.
    pub started_at: DateTime<Utc>,
    /// Everything up to this ID has been listed and compared.
    pub cursor: RecordId,
    /// Whether the listing has come to its end.
    pub listed: bool,
    /// Records that the portal has listed so far.
    pub rows: i64,
    /// When the last stored answer was asked for, by the database's clock.
    pub asked_at: Option<DateTime<Utc>>,
}

/// How sweeps of an entity stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepStanding {
    /// The one under way.
    pub under_way: Option<SweepProgress>,
    /// Whether one is due at once, whatever the schedule says.
    pub wanted: bool,
    /// When the last complete one began: the mirror has no record that was deleted before.
    pub swept_from: Option<DateTime<Utc>>,
    /// When the last complete one ended.
    pub swept_at: Option<DateTime<Utc>>,
    /// The one that waits for a person's decision.
    pub refused: Option<Refusal>,
}

/// A record of the mirror as a sweep compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MirrorKey {
    /// The record.
    pub id: RecordId,
    /// Its modification time, if it has a readable one.
    pub modified: Option<DateTime<Utc>>,
    /// Whether it is a tombstone.
    pub deleted: bool,
    /// Whether it was written, or confirmed as deleted, by a question that was asked later
    /// than the given one.
    pub newer: bool,
}

/// What an answer of the listing adds to a sweep.
#[derive(Debug, Clone, Copy)]
pub struct SweepStep<'a> {
    /// How far it has come with it.
    pub progress: &'a SweepProgress,
    /// Records that it did not find.
    pub missing: &'a [RecordId],
}

/// What has been confirmed about records that a sweep did not find.
#[derive(Debug, Clone, Copy)]
pub struct Confirmed<'a> {
    /// When the confirming question was asked, by the database's clock.
    pub asked_at: DateTime<Utc>,
    /// The portal has them no more.
    pub gone: &'a [RecordId],
    /// They are there.
    pub there: &'a [RecordId],
}

impl Store {
    /// How sweeps of an entity stand.
    pub async fn sweep_standing(
        &self,
        entity: &'static Entity,
    ) -> Result<SweepStanding, StoreError> {
        let row: Option<SweepRow> = sqlx::query_as(
            "select started_at, cursor_id, listed, rows_listed, asked_at, wanted, swept_from, \
                swept_at, refused_run, refused_at, refused_why, \
                (select count(*) from sweep_refusals r \
                 where r.entity = s.entity and r.run = s.refused_run) as refused_records \
             from sweeps s where entity = $1",
        )
        .bind(entity.name)
        .fetch_optional(&self.pool)
        .await?;
        row.map_or_else(|| Ok(SweepStanding::default()), TryInto::try_into)
    }

    /// Goes on with the sweep under way unless it began too long ago, else begins one.
    ///
    /// Confirmations of an earlier process are forgotten: records may have come back since.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's.
    pub async fn open_sweep(
        &self,
        generation: Generation,
        entity: &'static Entity,
        resumable: TimeDelta,
    ) -> Result<SweepProgress, StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        let resumed: Option<ProgressRow> = sqlx::query_as(
            "select started_at, cursor_id, listed, rows_listed, asked_at from sweeps \
             where entity = $1 and started_at > clock_timestamp() - make_interval(secs => $2)",
        )
        .bind(entity.name)
        .bind(resumable.as_seconds_f64())
        .fetch_optional(&mut *transaction)
        .await?;
        let progress = if let Some(resumed) = resumed {
            sqlx::query(
                "update sweep_candidates set confirmed_at = null \
                 where entity = $1 and confirmed_at is not null",
            )
            .bind(entity.name)
            .execute(&mut *transaction)
            .await?;
            resumed
        } else {
            drop_candidates(&mut transaction, entity).await?;
            sqlx::query_as(
                "insert into sweeps (entity, started_at) values ($1, clock_timestamp()) \
                 on conflict (entity) do update \
                 set started_at = excluded.started_at, cursor_id = 0, listed = false, \
                    rows_listed = 0 \
                 returning started_at, cursor_id, listed, rows_listed, asked_at",
            )
            .bind(entity.name)
            .fetch_one(&mut *transaction)
            .await?
        };
        transaction.commit().await?;
        progress.try_into()
    }

    /// Forgets the sweep under way, because what it has found is not to be trusted.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's.
    pub async fn drop_sweep(
        &self,
        generation: Generation,
        entity: &'static Entity,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        drop_candidates(&mut transaction, entity).await?;
        sqlx::query("update sweeps set started_at = null where entity = $1")
            .bind(entity.name)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// The mirror's records with IDs in `(after, up_to]`, tombstones included, in their
    /// order; at most so many. `asked_at` is what [`MirrorKey::newer`] refers to.
    pub async fn mirror_keys(
        &self,
        entity: &'static Entity,
        sight: Sight,
        after: RecordId,
        up_to: Option<RecordId>,
        asked_at: DateTime<Utc>,
        at_most: u32,
    ) -> Result<Vec<MirrorKey>, StoreError> {
        let rows: Vec<(i64, Option<DateTime<Utc>>, bool, bool)> =
            sqlx::query_as(Statements::of(entity).in_sight(sight).keys())
                .bind(after.get())
                .bind(up_to.map_or(i64::MAX, RecordId::get))
                .bind(asked_at)
                .bind(i64::from(at_most))
                .fetch_all(&self.pool)
                .await?;
        rows.into_iter()
            .map(|(id, modified, deleted, newer)| {
                Ok(MirrorKey { id: read_id(id, entity.name, "id")?, modified, deleted, newer })
            })
            .collect()
    }

    /// How many live records the mirror has above an ID, counted no further than `at_most`.
    pub async fn records_above(
        &self,
        entity: &'static Entity,
        sight: Sight,
        after: RecordId,
        at_most: u32,
    ) -> Result<usize, StoreError> {
        let count: i64 = sqlx::query_scalar(Statements::of(entity).in_sight(sight).count_above())
            .bind(after.get())
            .bind(i64::from(at_most))
            .fetch_one(&self.pool)
            .await?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Records that the sweep did not find and that are not confirmed yet, in the order of
    /// their IDs.
    pub async fn unconfirmed(
        &self,
        entity: &'static Entity,
        at_most: u32,
    ) -> Result<Vec<RecordId>, StoreError> {
        let ids: Vec<i64> = sqlx::query_scalar(
            "select id from sweep_candidates where entity = $1 and confirmed_at is null \
             order by id limit $2",
        )
        .bind(entity.name)
        .bind(i64::from(at_most))
        .fetch_all(&self.pool)
        .await?;
        ids.into_iter().map(|id| read_id(id, "sweep_candidates", "id")).collect()
    }

    /// Stores what was confirmed about records that the sweep did not find.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's.
    pub async fn settle_candidates(
        &self,
        generation: Generation,
        entity: &'static Entity,
        confirmed: Confirmed<'_>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        note_asked(&mut transaction, entity, confirmed.asked_at).await?;
        sqlx::query(
            "update sweep_candidates set confirmed_at = $3 where entity = $1 and id = any($2)",
        )
        .bind(entity.name)
        .bind(numbers(confirmed.gone))
        .bind(confirmed.asked_at)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("delete from sweep_candidates where entity = $1 and id = any($2)")
            .bind(entity.name)
            .bind(numbers(confirmed.there))
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// How many records are confirmed to be gone and still live in the mirror.
    pub async fn confirmed_gone(&self, entity: &'static Entity) -> Result<i64, StoreError> {
        let count = sqlx::query_scalar(Statements::of(entity).count_confirmed());
        Ok(count.bind(entity.name).fetch_one(&self.pool).await?)
    }

    /// Makes tombstones of at most so many records that are confirmed to be gone. Returns
    /// how many there were to do, and how many tombstones were set: a row that was written
    /// by a later question is left alone.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's.
    pub async fn delete_confirmed(
        &self,
        generation: Generation,
        entity: &'static Entity,
        at_most: u32,
        run: &Run,
    ) -> Result<(usize, u64), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        let gone: Vec<(i64, DateTime<Utc>)> = sqlx::query_as(
            "delete from sweep_candidates c using ( \
                select id from sweep_candidates \
                where entity = $1 and confirmed_at is not null order by id limit $2) as part \
             where c.entity = $1 and c.id = part.id returning c.id, c.confirmed_at",
        )
        .bind(entity.name)
        .bind(i64::from(at_most))
        .fetch_all(&mut *transaction)
        .await?;
        let (ids, confirmed): (Vec<i64>, Vec<DateTime<Utc>>) = gone.into_iter().unzip();
        let told = self.history.is_kept(entity);
        let deleted = tombstones(&mut transaction, entity, &ids, &confirmed, (run, told)).await?;
        transaction.commit().await?;
        Ok((ids.len(), deleted))
    }

    /// Ends the sweep under way as complete: every refusal before it is settled.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's.
    pub async fn complete_sweep(
        &self,
        generation: Generation,
        entity: &'static Entity,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        drop_candidates(&mut transaction, entity).await?;
        drop_refusals(&mut transaction, entity).await?;
        sqlx::query(
            "update sweeps set swept_from = started_at, swept_at = clock_timestamp(), \
                started_at = null, wanted = false, refused_run = null, refused_from = null, \
                refused_at = null, refused_why = null \
             where entity = $1 and started_at is not null",
        )
        .bind(entity.name)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Has an entity swept at once and from the beginning: what a sweep under way has found
    /// was seen with other rights.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's.
    pub async fn want_sweep(
        &self,
        generation: Generation,
        entity: &'static Entity,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        drop_candidates(&mut transaction, entity).await?;
        sqlx::query(
            "insert into sweeps (entity, wanted) values ($1, true) \
             on conflict (entity) do update set wanted = true, started_at = null",
        )
        .bind(entity.name)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }
}

/// Stores how far a sweep has come, inside a batch's transaction.
pub(super) async fn store_step(
    connection: &mut PgConnection,
    entity: &'static Entity,
    step: SweepStep<'_>,
) -> Result<(), StoreError> {
    let SweepStep { progress, missing } = step;
    sqlx::query(
        "insert into sweep_candidates (entity, id) select $1, unnest($2::bigint[]) \
         on conflict do nothing",
    )
    .bind(entity.name)
    .bind(numbers(missing))
    .execute(&mut *connection)
    .await?;
    let stored = sqlx::query(
        "update sweeps set cursor_id = $3, listed = $4, rows_listed = $5, asked_at = $6 \
         where entity = $1 and started_at = $2",
    )
    .bind(entity.name)
    .bind(progress.started_at)
    .bind(progress.cursor.get())
    .bind(progress.listed)
    .bind(progress.rows)
    .bind(progress.asked_at)
    .execute(&mut *connection)
    .await?;
    if stored.rows_affected() == 0 {
        return Err(StoreError::SweepGone { entity: entity.name });
    }
    Ok(())
}

/// Sets tombstones, each as of when it was confirmed, counts them in the run, and tells of
/// them where the entity has a history.
pub(super) async fn tombstones(
    connection: &mut PgConnection,
    entity: &'static Entity,
    ids: &[i64],
    confirmed: &[DateTime<Utc>],
    (run, told): (&Run, bool),
) -> Result<u64, StoreError> {
    let gone: Vec<(i64, DateTime<Utc>)> = sqlx::query_as(Statements::of(entity).tombstones())
        .bind(ids)
        .bind(confirmed)
        .fetch_all(&mut *connection)
        .await?;
    quarantine::resolve_gone(connection, entity, &gone).await?;
    if told {
        history::deleted(connection, entity, &gone).await?;
    }
    let deleted = gone.len() as u64;
    let mut counts = run.counts;
    counts.deleted += deleted;
    run_log::store_counts(connection, run.id(), &counts).await?;
    Ok(deleted)
}

/// No later question may seem to have been asked before this one.
pub(super) async fn note_asked(
    connection: &mut PgConnection,
    entity: &'static Entity,
    asked_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query("update sweeps set asked_at = greatest(asked_at, $2) where entity = $1")
        .bind(entity.name)
        .bind(asked_at)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn drop_candidates(
    connection: &mut PgConnection,
    entity: &'static Entity,
) -> Result<(), StoreError> {
    sqlx::query("delete from sweep_candidates where entity = $1")
        .bind(entity.name)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) fn numbers(ids: &[RecordId]) -> Vec<i64> {
    ids.iter().map(|id| id.get()).collect()
}

#[derive(FromRow)]
struct ProgressRow {
    started_at: DateTime<Utc>,
    cursor_id: i64,
    listed: bool,
    rows_listed: i64,
    asked_at: Option<DateTime<Utc>>,
}

impl TryFrom<ProgressRow> for SweepProgress {
    type Error = StoreError;

    fn try_from(row: ProgressRow) -> Result<Self, StoreError> {
        Ok(Self {
            started_at: row.started_at,
            cursor: read_id(row.cursor_id, "sweeps", "cursor_id")?,
            listed: row.listed,
            rows: row.rows_listed,
            asked_at: row.asked_at,
        })
    }
}

#[derive(FromRow)]
struct SweepRow {
    started_at: Option<DateTime<Utc>>,
    cursor_id: i64,
    listed: bool,
    rows_listed: i64,
    asked_at: Option<DateTime<Utc>>,
    wanted: bool,
    swept_from: Option<DateTime<Utc>>,
    swept_at: Option<DateTime<Utc>>,
    refused_run: Option<i64>,
    refused_at: Option<DateTime<Utc>>,
    refused_why: Option<String>,
    refused_records: i64,
}

impl TryFrom<SweepRow> for SweepStanding {
    type Error = StoreError;

    fn try_from(row: SweepRow) -> Result<Self, StoreError> {
        let under_way = row.started_at.map(|started_at| {
            SweepProgress::try_from(ProgressRow {
                started_at,
                cursor_id: row.cursor_id,
                listed: row.listed,
                rows_listed: row.rows_listed,
                asked_at: row.asked_at,
            })
        });
        let refused = match (row.refused_run, row.refused_at, row.refused_why) {
            (Some(run), Some(at), Some(why)) => {
                Some(Refusal { run, at, why, records: row.refused_records })
            }
            _ => None,
        };
        Ok(Self {
            under_way: under_way.transpose()?,
            wanted: row.wanted,
            swept_from: row.swept_from,
            swept_at: row.swept_at,
            refused,
        })
    }
}
