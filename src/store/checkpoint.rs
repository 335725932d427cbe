//! How far the incremental reading has come.

use chrono::{DateTime, Utc};

use sqlx::{FromRow, PgConnection};

use super::{Generation, Store, StoreError};
use crate::entity::{Entity, RecordId};

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// The portal's clock.
    pub portal: DateTime<Utc>,
    /// The portal's UTC offset at that moment.
    pub offset_seconds: i32,
    /// The database's clock.
    pub database: DateTime<Utc>,
}

/// The end of a scan that waits to become the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Successor {
    /// The newest ID that the scan saw.
    pub id: RecordId,
    /// When the scan ended, by the database's clock.
    pub at: DateTime<Utc>,
}

/// A portal clock that has fallen back: floors are lowered for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockShift {
    /// By how much.
    pub by_seconds: i64,
    /// Until when, by the database's clock.
    pub until: DateTime<Utc>,
}

impl ClockShift {
    /// By how much the floor of a cycle is lowered that goes on from a watermark of that
    /// moment, by the database's clock.
    #[must_use]
    pub fn since(self, watermark: DateTime<Utc>) -> Option<chrono::Duration> {
        (watermark < self.until).then(|| chrono::Duration::seconds(self.by_seconds))
    }
}

/// How far the incremental reading of one entity has come.
///
/// Instants keep their microseconds: PostgreSQL stores no more, so finer ones do not
/// come back as they were.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The mapping under which the records were read.
    pub fingerprint: i64,
    /// The boundary of deep cycles: everything up to it has settled.
    pub mark: RecordId,
    /// What becomes the mark next.
    pub successor: Option<Successor>,
    /// The newest ID seen; the boundary of shallow cycles.
    pub newest: RecordId,
    /// The start of the last complete deep cycle.
    pub deep: Watermark,
    /// Whether that cycle's changes fitted into one page.
    pub deep_fitted: bool,
    /// The start of the last complete cycle.
    pub last: Watermark,
    /// A portal clock that has fallen back, as long as it matters.
    pub shift: Option<ClockShift>,
    /// The state of a cycle under way.
    pub cycle: Option<serde_json::Value>,
    /// When the last stored answer was asked for, by the database's clock.
    pub asked_at: DateTime<Utc>,
    /// When the last cycle was completed, by the database's clock.
    pub completed_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Reads an entity's checkpoint.
    pub async fn checkpoint(
        &self,
        entity: &'static Entity,
    ) -> Result<Option<Checkpoint>, StoreError> {
        let row: Option<CheckpointRow> = sqlx::query_as(
            "select fingerprint, mark, successor_id, successor_at, newest, deep_portal_at, \
                deep_portal_offset, deep_database_at, deep_fitted, last_portal_at, \
                last_portal_offset, last_database_at, shift_seconds, shift_until, cycle, \
                asked_at, completed_at \
             from sync_checkpoints where entity = $1",
        )
        .bind(entity.name)
        .fetch_optional(&self.pool)
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Stores an entity's checkpoint apart from a batch, as an idle cycle does.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn save_checkpoint(
        &self,
        generation: Generation,
        entity: &'static Entity,
        checkpoint: &Checkpoint,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        store_checkpoint(&mut transaction, entity, checkpoint).await?;
        Ok(transaction.commit().await?)
    }
}

/// Whether the stored records were mapped with another fingerprint.
pub(super) async fn is_mapped_otherwise(
    connection: &mut PgConnection,
    entity: &'static Entity,
    fingerprint: i64,
) -> Result<bool, StoreError> {
    let stored: Option<i64> =
        sqlx::query_scalar("select fingerprint from sync_checkpoints where entity = $1")
            .bind(entity.name)
            .fetch_optional(connection)
            .await?;
    Ok(stored.is_some_and(|stored| stored != fingerprint))
}

/// Stores a checkpoint inside a batch's transaction.
pub(super) async fn store_checkpoint(
    connection: &mut PgConnection,
    entity: &'static Entity,
    checkpoint: &Checkpoint,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into sync_checkpoints (entity, fingerprint, mark, successor_id, successor_at, \
            newest, deep_portal_at, deep_portal_offset, deep_database_at, deep_fitted, \
            last_portal_at, last_portal_offset, last_database_at, shift_seconds, shift_until, \
            cycle, asked_at, completed_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) \
         on conflict (entity) do update set \
            fingerprint = excluded.fingerprint, \
            mark = excluded.mark, \
            successor_id = excluded.successor_id, \
            successor_at = excluded.successor_at, \
            newest = excluded.newest, \
            deep_portal_at = excluded.deep_portal_at, \
            deep_portal_offset = excluded.deep_portal_offset, \
            deep_database_at = excluded.deep_database_at, \
            deep_fitted = excluded.deep_fitted, \
            last_portal_at = excluded.last_portal_at, \
            last_portal_offset = excluded.last_portal_offset, \
            last_database_at = excluded.last_database_at, \
            shift_seconds = excluded.shift_seconds, \
            shift_until = excluded.shift_until, \
            cycle = excluded.cycle, \
            asked_at = excluded.asked_at, \
            completed_at = excluded.completed_at",
    )
    .bind(entity.name)
    .bind(checkpoint.fingerprint)
    .bind(checkpoint.mark.get())
    .bind(checkpoint.successor.map(|successor| successor.id.get()))
    .bind(checkpoint.successor.map(|successor| successor.at))
    .bind(checkpoint.newest.get())
    .bind(checkpoint.deep.portal)
    .bind(checkpoint.deep.offset_seconds)
    .bind(checkpoint.deep.database)
    .bind(checkpoint.deep_fitted)
    .bind(checkpoint.last.portal)
    .bind(checkpoint.last.offset_seconds)
    .bind(checkpoint.last.database)
    .bind(checkpoint.shift.map(|shift| shift.by_seconds))
    .bind(checkpoint.shift.map(|shift| shift.until))
    .bind(checkpoint.cycle.as_ref())
    .bind(checkpoint.asked_at)
    .bind(checkpoint.completed_at)
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(FromRow)]
struct CheckpointRow {
    fingerprint: i64,
    mark: i64,
    successor_id: Option<i64>,
    successor_at: Option<DateTime<Utc>>,
    newest: i64,
    deep_portal_at: DateTime<Utc>,
    deep_portal_offset: i32,
    deep_database_at: DateTime<Utc>,
    deep_fitted: bool,
    last_portal_at: DateTime<Utc>,
    last_portal_offset: i32,
    last_database_at: DateTime<Utc>,
    shift_seconds: Option<i64>,
    shift_until: Option<DateTime<Utc>>,
    cycle: Option<serde_json::Value>,
    asked_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
}

impl TryFrom<CheckpointRow> for Checkpoint {
    type Error = StoreError;

    fn try_from(row: CheckpointRow) -> Result<Self, StoreError> {
        let id = |id, column| read_id(id, "sync_checkpoints", column);
        Ok(Self {
            fingerprint: row.fingerprint,
            mark: id(row.mark, "mark")?,
            successor: match (row.successor_id, row.successor_at) {
                (Some(successor), Some(at)) => {
                    Some(Successor { id: id(successor, "successor_id")?, at })
                }
                _ => None,
            },
            newest: id(row.newest, "newest")?,
            deep: Watermark {
                portal: row.deep_portal_at,
                offset_seconds: row.deep_portal_offset,
                database: row.deep_database_at,
            },
            deep_fitted: row.deep_fitted,
            last: Watermark {
                portal: row.last_portal_at,
                offset_seconds: row.last_portal_offset,
                database: row.last_database_at,
            },
            shift: row
                .shift_seconds
                .zip(row.shift_until)
                .map(|(by_seconds, until)| ClockShift { by_seconds, until }),
            cycle: row.cycle,
            asked_at: row.asked_at,
            completed_at: row.completed_at,
        })
    }
}

/// A stored ID; zero stands for "before the first".
pub(super) fn read_id(
    id: i64,
    table: &'static str,
    column: &'static str,
) -> Result<RecordId, StoreError> {
    match id {
        0 => Ok(RecordId::ZERO),
        id => RecordId::new(id).ok_or(StoreError::Inconsistent { table, column }),
    }
}
