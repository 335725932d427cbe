//! The ID ranges of a backfill: opened, cut, and how far each has come.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};

use super::{
    Checkpoint, Generation, Store, StoreError,
    checkpoint::{is_mapped_otherwise, read_id, store_checkpoint},
    refusals::forget_findings,
    words::stored_words,
};
use crate::entity::{Entity, RecordId};

/// Why an ID range is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentKind {
    /// The first fill, or a restart that a person asked for.
    Backfill,
    /// A full pass over a filled mirror, because the mapping or the user changed.
    FullPass,
}

stored_words!(SegmentKind { Backfill = "backfill", FullPass = "full_pass" });

/// What a backfill is to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Why.
    pub kind: SegmentKind,
    /// The highest ID to read; zero for an empty portal.
    pub up_to: RecordId,
    /// An estimate of how many records there are; for progress only.
    pub expected: Option<i64>,
}

/// An ID range `(after, up_to]` of a backfill and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The database's own number.
    pub id: i64,
    /// Why it is read.
    pub kind: SegmentKind,
    /// The lower end, not included.
    pub after: RecordId,
    /// The upper end, included. It comes down when the range is cut.
    pub up_to: RecordId,
    /// Everything up to this ID has been read.
    pub cursor: RecordId,
    /// Whether an empty page has closed it, or its last record has been read.
    pub done: bool,
    /// When the last stored answer was asked for, by the database's clock.
    pub asked_at: DateTime<Utc>,
    /// When the backfill was started, by the database's clock.
    pub started_at: DateTime<Utc>,
    /// Records read so far.
    pub rows: i64,
    /// An estimate of how many records the range has; for progress only.
    pub expected: Option<i64>,
    /// The working time spent on it, pauses not counted. What is read side by side counts
    /// once, so the sum over all segments is the backfill's.
    pub busy: Duration,
    /// How the end of the whole backfill looked with the last stored answer; for progress
    /// only.
    pub foretold: Option<Foretold>,
}

/// When a backfill was expected to end, by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foretold {
    /// The moment at which it looked so.
    pub at: DateTime<Utc>,
    /// The end.
    pub end: DateTime<Utc>,
}

/// Whether everything is being read again, because it is read in another way than before.
pub(super) async fn is_read_again(
    connection: &mut PgConnection,
    entity: &'static Entity,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from backfill_segments \
         where entity = $1 and kind = 'full_pass' and not done)",
    )
    .bind(entity.name)
    .fetch_one(connection)
    .await
}

impl Store {
    /// Reads an entity's segments, done ones included, in the order of their IDs.
    pub async fn segments(&self, entity: &'static Entity) -> Result<Vec<Segment>, StoreError> {
        let rows: Vec<SegmentRow> = sqlx::query_as(
            "select id, kind, after_id, up_to_id, cursor_id, done, asked_at, started_at, rows_read, \
                rows_expected, busy_ms, told_at, ends_at \
             from backfill_segments where entity = $1 order by after_id",
        )
        .bind(entity.name)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Starts a backfill: stores the checkpoint and, in place of all older segments,
    /// one open segment `(0, up_to]`, or none when that is zero (an empty portal).
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn start_backfill(
        &self,
        generation: Generation,
        entity: &'static Entity,
        checkpoint: &Checkpoint,
        fill: Fill,
    ) -> Result<Vec<Segment>, StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        if is_mapped_otherwise(&mut transaction, entity, checkpoint.fingerprint).await? {
            forget_findings(&mut transaction, entity).await?;
        }
        store_checkpoint(&mut transaction, entity, checkpoint).await?;
        // The run that worked on them ends here, whatever becomes of its task.
        sqlx::query(
            "update sync_runs set finished_at = clock_timestamp(), verdict = 'interrupted' \
             where entity = $1 and kind = 'backfill' and finished_at is null",
        )
        .bind(entity.name)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("delete from backfill_segments where entity = $1")
            .bind(entity.name)
            .execute(&mut *transaction)
            .await?;
        if fill.up_to > RecordId::ZERO {
            sqlx::query(
                "insert into backfill_segments \
                    (entity, kind, after_id, up_to_id, cursor_id, asked_at, started_at, \
                     rows_expected) \
                 values ($1, $2, 0, $3, 0, $4, clock_timestamp(), $5)",
            )
            .bind(entity.name)
            .bind(fill.kind.as_str())
            .bind(fill.up_to.get())
            .bind(checkpoint.asked_at)
            .bind(fill.expected)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        self.segments(entity).await
    }

    /// Cuts an open segment in two; `lower` is the lower part as it is to be, its end
    /// brought down. Returns the upper part, from there to the old end, with its estimate.
    /// Both parts together are what the segment was.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's, [`StoreError::SegmentGone`]
    /// when a newer backfill has replaced it; nothing is written then.
    pub async fn cut_segment(
        &self,
        generation: Generation,
        lower: &Segment,
        expected_above: Option<i64>,
    ) -> Result<Segment, StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        let upper: Option<SegmentRow> = sqlx::query_as(
            "with upper as ( \
                insert into backfill_segments \
                    (entity, kind, after_id, up_to_id, cursor_id, asked_at, started_at, \
                     rows_expected) \
                select entity, kind, $2, up_to_id, $2, asked_at, started_at, $4 \
                from backfill_segments where id = $1 \
                returning * \
             ), lower as ( \
                update backfill_segments set up_to_id = $2, rows_expected = $3 where id = $1 \
             ) \
             select id, kind, after_id, up_to_id, cursor_id, done, asked_at, started_at, rows_read, \
                rows_expected, busy_ms, told_at, ends_at \
             from upper",
        )
        .bind(lower.id)
        .bind(lower.up_to.get())
        .bind(lower.expected)
        .bind(expected_above)
        .fetch_optional(&mut *transaction)
        .await?;
        let upper = upper.ok_or(StoreError::SegmentGone { id: lower.id })?;
        transaction.commit().await?;
        upper.try_into()
    }
}

/// Stores a segment's progress inside a batch's transaction. Its end only comes down: it
/// may have been cut since the answer that is stored here.
pub(super) async fn store_segment(
    connection: &mut PgConnection,
    segment: &Segment,
) -> Result<(), StoreError> {
    let stored = sqlx::query(
        "update backfill_segments \
         set cursor_id = $2, done = $3, asked_at = $4, rows_read = $5, rows_expected = $6, \
            busy_ms = $7, up_to_id = least(up_to_id, $8), told_at = $9, ends_at = $10 \
         where id = $1",
    )
    .bind(segment.id)
    .bind(segment.cursor.get())
    .bind(segment.done)
    .bind(segment.asked_at)
    .bind(segment.rows)
    .bind(segment.expected)
    .bind(i64::try_from(segment.busy.as_millis()).unwrap_or(i64::MAX))
    .bind(segment.up_to.get())
    .bind(segment.foretold.map(|foretold| foretold.at))
    .bind(segment.foretold.map(|foretold| foretold.end))
    .execute(connection)
    .await?;
    if stored.rows_affected() == 0 {
        return Err(StoreError::SegmentGone { id: segment.id });
    }
    Ok(())
}

#[derive(FromRow)]
struct SegmentRow {
    id: i64,
    kind: String,
    after_id: i64,
    up_to_id: i64,
    cursor_id: i64,
    done: bool,
    asked_at: DateTime<Utc>,
    started_at: DateTime<Utc>,
    rows_read: i64,
    rows_expected: Option<i64>,
    busy_ms: i64,
    told_at: Option<DateTime<Utc>>,
    ends_at: Option<DateTime<Utc>>,
}

impl TryFrom<SegmentRow> for Segment {
    type Error = StoreError;

    fn try_from(row: SegmentRow) -> Result<Self, StoreError> {
        let id = |id, column| read_id(id, "backfill_segments", column);
        Ok(Self {
            id: row.id,
            kind: SegmentKind::from_word(&row.kind)
                .ok_or(StoreError::Inconsistent { table: "backfill_segments", column: "kind" })?,
            after: id(row.after_id, "after_id")?,
            up_to: id(row.up_to_id, "up_to_id")?,
            cursor: id(row.cursor_id, "cursor_id")?,
            done: row.done,
            asked_at: row.asked_at,
            started_at: row.started_at,
            rows: row.rows_read,
            expected: row.rows_expected,
            busy: Duration::from_millis(u64::try_from(row.busy_ms).unwrap_or(0)),
            foretold: row.told_at.zip(row.ends_at).map(|(at, end)| Foretold { at, end }),
        })
    }
}
