//! The record table: which records differ, and writing those.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{Arguments as _, PgConnection, postgres::PgArguments};

use super::{StoreError, statements::Statements};
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

    let ids: Vec<i64> = records.iter().map(|record| record.id().get()).collect();
    arguments.add(ids).map_err(encode)?;
    for (index, column) in entity.columns.iter().enumerate() {
        let mismatch = || StoreError::Declaration { entity: entity.name, column: column.name };
        macro_rules! array {
            ($kind:ty, $variant:ident($value:ident) => $read:expr) => {{
                let values: Option<Vec<Option<$kind>>> = records
                    .iter()
                    .map(|record| match record.values().get(index)? {
                        Value::Null => Some(None),
                        Value::$variant($value) => Some(Some($read)),
                        _ => None,
                    })
                    .collect();
                arguments.add(values.ok_or_else(mismatch)?)
            }};
        }
        match column.kind {
            ColumnType::Text => array!(&str, Text(text) => text.as_str()),
            ColumnType::Integer | ColumnType::Reference | ColumnType::File => {
                array!(i64, Integer(number) => *number)
            }
            ColumnType::Flag => array!(bool, Flag(flag) => *flag),
            ColumnType::Decimal => array!(&str, Decimal(text) => text.as_str()),
            ColumnType::Date => array!(NaiveDate, Date(day) => *day),
            ColumnType::Timestamp => array!(DateTime<Utc>, Timestamp(instant) => *instant),
        }
        .map_err(encode)?;
    }
    let custom: Vec<String> = records.iter().map(|record| object(record.custom_fields())).collect();
    arguments.add(custom).map_err(encode)?;
    let hashes: Vec<i64> = records.iter().map(|record| record.hash().get()).collect();
    arguments.add(hashes).map_err(encode)?;
    arguments.add(asked_at).map_err(encode)?;
    Ok(arguments)
}

/// Joins named JSON texts to the text of one object.
pub(super) fn object(fields: &BTreeMap<String, String>) -> String {
    let size = fields.iter().map(|(name, json)| name.len() + json.len() + 4).sum::<usize>();
    let mut text = String::with_capacity(size + 2);
    text.push('{');
    for (name, json) in fields {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&quoted(name));
        text.push(':');
        text.push_str(json);
    }
    text.push('}');
    text
}

/// A string as JSON text.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{CONTACTS, record::ChildList};

    #[test]
    fn names_are_escaped_in_the_custom_fields() {
        let fields = [("a\"b".to_owned(), "1".to_owned()), ("c".to_owned(), "[]".to_owned())];
        assert_eq!(object(&fields.into()), r#"{"a\"b":1,"c":[]}"#);
        assert_eq!(object(&BTreeMap::new()), "{}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_by_name() {
        let mut values = vec![Value::Null; CONTACTS.columns.len()];
        values[CONTACTS.position("OPENED").unwrap()] = Value::Integer(1);
        let record = Record::new(
            RecordId::new(1).unwrap(),
            values,
            BTreeMap::new(),
            vec![ChildList::Known(Vec::new()); CONTACTS.multi_fields.len()],
            Vec::new(),
        );
        let error = arguments(&CONTACTS, &[&record], DateTime::UNIX_EPOCH).err().unwrap();
        assert!(error.to_string().contains("contacts.opened"), "{error}");
    }
}
