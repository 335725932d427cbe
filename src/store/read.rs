//! A stored record read back.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{
    Store, StoreError,
    children::{self, Children},
    quarantine,
    statements::Statements,
};
use crate::entity::{
    ColumnType, Entity, RecordId, Sight, json,
    record::{ChildList, ContentHash, CustomFields, Note, Reason, Record, Value},
};

/// A record as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Rebuilt from its row, its children and its open notes. Its hash differs from
    /// [`Self::hash`] only if somebody else has changed the tables.
    pub record: Record,
    /// The hash as it was stored.
    pub hash: ContentHash,
    /// When this version was asked for, by the database's clock.
    pub synced_at: DateTime<Utc>,
    /// When its deletion was confirmed, by the database's clock.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// How many records the mirror has of one entity; exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordCounts {
    /// Records that the portal lists.
    pub live: i64,
    /// Tombstones.
    pub deleted: i64,
}

/// What the database has of a record beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredKey {
    /// The record.
    pub id: RecordId,
    /// The portal's time of its last modification, as it was stored.
    pub date_modify: Option<DateTime<Utc>>,
    /// When this version was asked for, by the database's clock.
    pub synced_at: DateTime<Utc>,
    /// When its deletion was confirmed, by the database's clock.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// Consecutive IDs, and how many live records the mirror has in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveRange {
    /// Below the first of them.
    pub after: RecordId,
    /// The last of them.
    pub up_to: RecordId,
    /// How many live records there are.
    pub live: i64,
}

impl Store {
    /// The keys of the records in `(after, up_to]`, tombstones included, in the order of
    /// their IDs; at most `limit` of them.
    pub async fn stored_keys(
        &self,
        entity: &'static Entity,
        sight: Sight,
        after: RecordId,
        up_to: Option<RecordId>,
        limit: u32,
    ) -> Result<Vec<StoredKey>, StoreError> {
        type Row = (i64, Option<DateTime<Utc>>, DateTime<Utc>, Option<DateTime<Utc>>);
        let rows: Vec<Row> = sqlx::query_as(Statements::of(entity).in_sight(sight).rows())
            .bind(after.get())
            .bind(up_to.map(RecordId::get))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter()
            .map(|(id, date_modify, synced_at, deleted_at)| {
                let id = RecordId::new(id)
                    .ok_or(StoreError::Inconsistent { table: entity.name, column: "id" })?;
                Ok(StoredKey { id, date_modify, synced_at, deleted_at })
            })
            .collect()
    }

    /// The highest ID of a live record.
    pub async fn highest(
        &self,
        entity: &'static Entity,
        sight: Sight,
    ) -> Result<Option<RecordId>, StoreError> {
        let highest: Option<i64> =
            sqlx::query_scalar(Statements::of(entity).in_sight(sight).highest())
                .fetch_optional(&self.pool)
                .await?;
        Ok(highest.and_then(RecordId::new))
    }

    /// Cuts the IDs into ranges of so many live records each; the last one ends at the
    /// highest live record. Reads the whole index.
    pub async fn live_ranges(
        &self,
        entity: &'static Entity,
        sight: Sight,
        size: u32,
    ) -> Result<Vec<LiveRange>, StoreError> {
        let rows: Vec<(i64, i64)> = sqlx::query_as(Statements::of(entity).in_sight(sight).ranges())
            .bind(i64::from(size.max(1)))
            .fetch_all(&self.pool)
            .await?;
        let mut after = RecordId::ZERO;
        rows.into_iter()
            .map(|(up_to, live)| {
                let up_to = RecordId::new(up_to)
                    .ok_or(StoreError::Inconsistent { table: entity.name, column: "id" })?;
                Ok(LiveRange { after: std::mem::replace(&mut after, up_to), up_to, live })
            })
            .collect()
    }

    /// Reads records, tombstones included, in the order of their IDs, all as of one moment.
    pub async fn read_records(
        &self,
        entity: &'static Entity,
        ids: &[RecordId],
    ) -> Result<Vec<Stored>, StoreError> {
        let mut snapshot =
            self.pool.begin_with("begin isolation level repeatable read read only").await?;
        let stored = records(&mut snapshot, entity, ids).await?;
        snapshot.commit().await?;
        Ok(stored)
    }

    /// Counts the live records that a source could show. Reads the whole table.
    pub async fn live(&self, entity: &'static Entity, sight: Sight) -> Result<i64, StoreError> {
        let live = Statements::of(entity).in_sight(sight).live();
        Ok(sqlx::query_scalar(live).fetch_one(&self.pool).await?)
    }

    /// Counts an entity's live records, and those among them that a source cannot show, so that
    /// nothing is held against it. Reads the whole table.
    pub async fn live_and_beyond(
        &self,
        entity: &'static Entity,
        sight: Sight,
    ) -> Result<(i64, i64), StoreError> {
        let beyond = Statements::of(entity).in_sight(sight).beyond();
        Ok(sqlx::query_as(beyond).fetch_one(&self.pool).await?)
    }

    /// Counts an entity's records. Reads the whole table.
    pub async fn counts(&self, entity: &'static Entity) -> Result<RecordCounts, StoreError> {
        let (live, deleted) =
            sqlx::query_as(Statements::of(entity).count()).fetch_one(&self.pool).await?;
        Ok(RecordCounts { live, deleted })
    }
}

/// Reads records, tombstones included, in the order of their IDs.
pub(super) async fn records(
    connection: &mut PgConnection,
    entity: &'static Entity,
    ids: &[RecordId],
) -> Result<Vec<Stored>, StoreError> {
    let statements = Statements::of(entity);
    let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
    let rows = sqlx::query(statements.read()).bind(&ids).fetch_all(&mut *connection).await?;
    let mut children = Vec::with_capacity(statements.children().len());
    for table in statements.children() {
        children.push(children::read(connection, table, &ids).await?);
    }
    let mut notes = quarantine::open_notes(connection, entity, &ids).await?;
    rows.iter().map(|row| rebuild(entity, row, &mut children, &mut notes)).collect()
}

fn rebuild(
    entity: &'static Entity,
    row: &PgRow,
    children: &mut [Children],
    notes: &mut HashMap<i64, Vec<Note>>,
) -> Result<Stored, StoreError> {
    let inconsistent = |column| StoreError::Inconsistent { table: entity.name, column };
    let key: i64 = row.try_get(0)?;
    let id = RecordId::new(key).ok_or_else(|| inconsistent("id"))?;
    let values = values(entity, row)?;
    let after = entity.columns.len() + 1;
    // `jsonb` has its own spelling; the canonical one is what was hashed.
    let custom_fields = CustomFields::from_stored(row.try_get(after)?)
        .map_err(|_| inconsistent("custom_fields"))?;

    let notes = notes.remove(&key).unwrap_or_default();
    let children = entity
        .multi_fields
        .iter()
        .zip(children)
        .map(|(multi_field, stored)| {
            let stored = stored.remove(&key).unwrap_or_default();
            if notes.iter().any(|note| is_untrusted(note, multi_field.field)) {
                ChildList::Untrusted
            } else {
                ChildList::Known(stored)
            }
        })
        .collect();

    Ok(Stored {
        record: Record::new(id, values, custom_fields, children, notes),
        hash: ContentHash::from_stored(row.try_get(after + 1)?),
        synced_at: row.try_get(after + 2)?,
        deleted_at: row.try_get(after + 3)?,
    })
}

/// The values of the columns, which follow the ID.
pub(super) fn values(entity: &'static Entity, row: &PgRow) -> Result<Vec<Value>, sqlx::Error> {
    let columns = entity.columns.iter().enumerate();
    columns.map(|(index, column)| read_value(row, index + 1, column.kind)).collect()
}

fn read_value(row: &PgRow, index: usize, kind: ColumnType) -> Result<Value, sqlx::Error> {
    let value = match kind {
        ColumnType::Text => row.try_get::<Option<String>, _>(index)?.map(Value::Text),
        ColumnType::Integer | ColumnType::Reference | ColumnType::File => {
            row.try_get::<Option<i64>, _>(index)?.map(Value::Integer)
        }
        ColumnType::Flag => row.try_get::<Option<bool>, _>(index)?.map(Value::Flag),
        ColumnType::Decimal => row
            .try_get::<Option<String>, _>(index)?
            .map(|text| Value::Decimal(json::decimal(&text).unwrap_or(text))),
        ColumnType::Date => row.try_get::<Option<NaiveDate>, _>(index)?.map(Value::Date),
        ColumnType::Timestamp => {
            row.try_get::<Option<DateTime<Utc>>, _>(index)?.map(Value::Timestamp)
        }
    };
    Ok(value.unwrap_or(Value::Null))
}

/// Whether a note says that the record came without a usable list of this multi-field.
fn is_untrusted(note: &Note, field: &str) -> bool {
    note.field == field
        && matches!(note.reason, Reason::ChildrenMissing | Reason::UnreadableChildren)
}
