//! A stored record read back.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{Row as _, postgres::PgRow};

use super::{
    Store, StoreError,
    children::{self, Children},
    quarantine,
    statements::Statements,
};
use crate::entity::{
    ColumnType, Entity, RecordId, json,
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

impl Store {
    /// Reads records, tombstones included, in the order of their IDs, all as of one moment.
    pub async fn read_records(
        &self,
        entity: &'static Entity,
        ids: &[RecordId],
    ) -> Result<Vec<Stored>, StoreError> {
        let statements = Statements::of(entity);
        let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
        let mut snapshot =
            self.pool.begin_with("begin isolation level repeatable read read only").await?;
        let rows = sqlx::query(statements.read()).bind(&ids).fetch_all(&mut *snapshot).await?;
        let mut children = Vec::with_capacity(statements.children().len());
        for table in statements.children() {
            children.push(children::read(&mut snapshot, table, &ids).await?);
        }
        let mut notes = quarantine::open_notes(&mut snapshot, entity, &ids).await?;
        snapshot.commit().await?;
        rows.iter().map(|row| rebuild(entity, row, &mut children, &mut notes)).collect()
    }

    /// Counts an entity's records. Reads the whole table.
    pub async fn counts(&self, entity: &'static Entity) -> Result<RecordCounts, StoreError> {
        let (live, deleted) =
            sqlx::query_as(Statements::of(entity).count()).fetch_one(&self.pool).await?;
        Ok(RecordCounts { live, deleted })
    }
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
    let mut values = Vec::with_capacity(entity.columns.len());
    for (index, column) in entity.columns.iter().enumerate() {
        values.push(read_value(row, index + 1, column.kind)?);
    }
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
