//! The record table: which records differ, and writing those.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{
    Arguments as _, PgConnection,
    postgres::{PgArguments, PgBindIterExt as _},
};

use super::{Seen, StoreError, repair::Versions, statements::Statements};
use crate::entity::{
    ColumnType, Entity, RecordId,
    record::{ContentHash, Record, Value},
};

/// What the database has under a record's ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) hash: ContentHash,
    /// Written, or confirmed as deleted, by an answer that was asked for later.
    pub(super) newer: bool,
    pub(super) deleted: bool,
}

/// Looks up what the database has of these records; reads without locking a row.
pub(super) async fn known(
    connection: &mut PgConnection,
    entity: &'static Entity,
    ids: &[i64],
    asked_at: DateTime<Utc>,
) -> Result<HashMap<i64, Known>, sqlx::Error> {
    let rows: Vec<(i64, i64, bool, bool)> = sqlx::query_as(Statements::of(entity).known())
        .bind(ids)
        .bind(asked_at)
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(id, hash, newer, deleted)| {
            (id, Known { hash: ContentHash::from_stored(hash), newer, deleted })
        })
        .collect())
}

/// Locks the rows that are as they were seen to be wrong, and takes from them what would
/// keep the upsert from writing them: times later than the answer's. Returns their IDs.
pub(super) async fn distrust(
    connection: &mut PgConnection,
    entity: &'static Entity,
    seen: &[Seen],
    asked_at: DateTime<Utc>,
) -> Result<HashSet<RecordId>, sqlx::Error> {
    let Versions { ids, synced, deleted } = Versions::of(seen);
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let locked: Vec<i64> = sqlx::query_scalar(Statements::of(entity).verify().distrust())
        .bind(ids)
        .bind(synced)
        .bind(deleted)
        .bind(asked_at)
        .fetch_all(connection)
        .await?;
    Ok(locked.into_iter().filter_map(RecordId::new).collect())
}

/// Writes records, sorted by ID, and says of each that was written whether it is new.
/// A row that a later answer has written is left alone and missing from the result.
pub(super) async fn upsert(
    connection: &mut PgConnection,
    entity: &'static Entity,
    records: &[&Record],
    asked_at: DateTime<Utc>,
) -> Result<HashMap<RecordId, bool>, StoreError> {
    let arguments = arguments(entity, records, asked_at)?;
    let rows: Vec<(i64, bool)> = sqlx::query_as_with(Statements::of(entity).upsert(), arguments)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().filter_map(|(id, inserted)| Some((RecordId::new(id)?, inserted))).collect())
}

fn arguments(
    entity: &'static Entity,
    records: &[&Record],
    asked_at: DateTime<Utc>,
) -> Result<PgArguments, StoreError> {
    let mut arguments = PgArguments::default();
    let encode = |error| StoreError::from(sqlx::Error::Encode(error));
    let custom = records.iter().map(|record| record.custom_fields().as_str());
    // What the other columns of a record mostly take.
    let others = 1024 * records.len();
    arguments
        .reserve(entity.columns.len() + 4, custom.clone().map(str::len).sum::<usize>() + others);

    arguments.add(records.iter().map(|record| record.id().get()).bind_iter()).map_err(encode)?;
    for (index, column) in entity.columns.iter().enumerate() {
        // Encoded straight from the records: the arrays are most of what we ever write.
        macro_rules! array {
            ($variant:ident($value:ident) => $read:expr) => {{
                let fits = |record: &&Record| {
                    matches!(
                        record.values().get(index),
                        Some(Value::Null | Value::Kept | Value::$variant(_))
                    )
                };
                if !records.iter().all(fits) {
                    let (entity, column) = (entity.name, column.name);
                    return Err(StoreError::Declaration { entity, column });
                }
                let values = records.iter().map(|record| match &record.values()[index] {
                    Value::$variant($value) => Some($read),
                    _ => None,
                });
                arguments.add(values.bind_iter())
            }};
        }
        match column.kind {
            ColumnType::Text => array!(Text(text) => text.as_str()),
            ColumnType::Integer | ColumnType::Reference | ColumnType::File => {
                array!(Integer(number) => *number)
            }
            ColumnType::Flag => array!(Flag(flag) => *flag),
            ColumnType::Decimal => array!(Decimal(text) => text.as_str()),
            ColumnType::Date => array!(Date(day) => *day),
            ColumnType::Timestamp => array!(Timestamp(instant) => *instant),
        }
        .map_err(encode)?;
    }
    arguments.add(custom.bind_iter()).map_err(encode)?;
    arguments.add(records.iter().map(|record| record.hash().get()).bind_iter()).map_err(encode)?;
    arguments.add(asked_at).map_err(encode)?;
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{
        CONTACTS,
        record::{ChildList, CustomFields},
    };

    #[test]
    fn a_value_of_the_wrong_type_is_refused_by_name() {
        let mut values = vec![Value::Null; CONTACTS.columns.len()];
        values[CONTACTS.position("OPENED").unwrap()] = Value::Integer(1);
        let record = Record::new(
            RecordId::new(1).unwrap(),
            values,
            CustomFields::default(),
            vec![ChildList::Known(Vec::new()); CONTACTS.multi_fields.len()],
            Vec::new(),
        );
        let error = arguments(&CONTACTS, &[&record], DateTime::UNIX_EPOCH).err().unwrap();
        assert!(error.to_string().contains("contacts.opened"), "{error}");
    }
}
