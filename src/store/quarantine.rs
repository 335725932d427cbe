//! What could not be stored as it came.
//!
//! An entry is open as long as the fault is there. A record that was written, or came
//! unchanged, resolves what is no longer true of it, and so does its tombstone. The open
//! entries of a record are part of its content: they are read back with it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::{Generation, Store, StoreError};
use crate::entity::{
    Entity, RecordId,
    record::{ChildList, CustomFields, Note, Reason, Record, Reject, Value},
};

/// `last_seen` moves at most this often, so that a fault that stays costs next to nothing.
const REFRESH: TimeDelta = TimeDelta::days(1);

/// How many quarantine entries of one kind are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuarantineCount {
    /// Why the entries are there.
    pub reason: Reason,
    /// How many.
    pub entries: i64,
}

/// One fault, as an open entry identifies it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) record_id: Option<RecordId>,
    field: String,
    reason: &'static str,
    raw: String,
}

impl Entry {
    fn new(record_id: Option<RecordId>, note: &Note) -> Self {
        // Canonical JSON never holds U+0000, but what cannot be parsed at all might,
        // and the quarantine must not refuse anything.
        let storable = |text: &str| text.replace('\0', "\\u0000");
        Self {
            record_id,
            field: storable(&note.field),
            reason: note.reason.as_str(),
            raw: storable(&note.raw),
        }
    }

    pub(super) fn of_reject(reject: &Reject) -> Self {
        Self::new(reject.id, &reject.note)
    }

    /// A record that PostgreSQL refused, with everything that we tried to store.
    pub(super) fn of_refusal(
        entity: &'static Entity,
        record: &Record,
        error: &sqlx::Error,
    ) -> Self {
        let message = error.as_database_error().map_or("", |refusal| refusal.message());
        let note = Note {
            field: String::new(),
            reason: Reason::RefusedByDatabase,
            raw: evidence(entity, record, message),
        };
        Self::new(Some(record.id()), &note)
    }
}

/// Whether the reason speaks of a whole record that was not stored, so that the entry
/// is no part of the stored record.
pub(super) const fn is_reject(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoUsableId
            | Reason::UnparsableRecord
            | Reason::RefusedByDatabase
            | Reason::Undeliverable
    )
}

/// The notes of an open entry by record, as they belong to the stored record.
pub(super) async fn open_notes(
    connection: &mut PgConnection,
    entity: &'static Entity,
    ids: &[i64],
) -> Result<HashMap<i64, Vec<Note>>, StoreError> {
    let mut notes: HashMap<i64, Vec<Note>> = HashMap::new();
    for row in open_rows(connection, entity, ids).await? {
        let reason = read_reason(&row.reason)?;
        if !is_reject(reason) {
            let note = Note { field: row.field, reason, raw: row.raw };
            notes.entry(row.record_id).or_default().push(note);
        }
    }
    Ok(notes)
}

/// Brings the quarantine in line with a batch, and returns how many entries are new.
///
/// `written` records have exactly their own notes open afterwards. `unchanged` ones have
/// the notes that they had (their hash says so), but are evidently deliverable and
/// storable. `faults` are records that were not stored.
pub(super) async fn reconcile(
    connection: &mut PgConnection,
    entity: &'static Entity,
    asked_at: DateTime<Utc>,
    written: &[&Record],
    unchanged: &[&Record],
    faults: Vec<Entry>,
) -> Result<u64, StoreError> {
    let ids: Vec<i64> = written.iter().chain(unchanged).map(|record| record.id().get()).collect();
    let rewritten: HashSet<i64> = written.iter().map(|record| record.id().get()).collect();

    let mut wanted: BTreeSet<Entry> = faults.into_iter().collect();
    for record in written {
        wanted.extend(record.notes().iter().map(|note| Entry::new(Some(record.id()), note)));
    }
    let mut resolved = Vec::new();
    for row in open_rows(connection, entity, &ids).await? {
        let reason = read_reason(&row.reason)?;
        let entry = Entry {
            record_id: RecordId::new(row.record_id),
            field: row.field,
            reason: reason.as_str(),
            raw: row.raw,
        };
        let fresh = row.last_seen >= asked_at - REFRESH;
        if wanted.contains(&entry) {
            if fresh {
                wanted.remove(&entry);
            }
        } else if rewritten.contains(&row.record_id) || is_reject(reason) {
            // An entry that a later answer has opened or confirmed stays.
            if row.last_seen <= asked_at {
                resolved.push(row.id);
            }
        } else if !fresh {
            wanted.insert(entry);
        }
    }
    if !resolved.is_empty() {
        sqlx::query(
            "update sync_quarantine set resolved_at = clock_timestamp() \
             where id = any($1) and resolved_at is null",
        )
        .bind(resolved)
        .execute(&mut *connection)
        .await?;
    }
    open(connection, entity, asked_at, &wanted).await
}

/// Resolves what is open of records that have become tombstones, each as of the question
/// that proved it gone: nobody can mend them any more. Who comes back to life is written, and
/// what is still wrong with it is opened again.
pub(super) async fn resolve_gone(
    connection: &mut PgConnection,
    entity: &'static Entity,
    gone: &[(i64, DateTime<Utc>)],
) -> Result<(), StoreError> {
    if gone.is_empty() {
        return Ok(());
    }
    let (ids, asked): (Vec<i64>, Vec<DateTime<Utc>>) = gone.iter().copied().unzip();
    sqlx::query(
        "update sync_quarantine q set resolved_at = clock_timestamp() \
         from unnest($2::bigint[], $3::timestamptz[]) as g (id, asked_at) \
         where q.entity = $1 and q.record_id = g.id and q.resolved_at is null \
            and q.last_seen <= g.asked_at",
    )
    .bind(entity.name)
    .bind(ids)
    .bind(asked)
    .execute(connection)
    .await?;
    Ok(())
}

/// Opens entries, or confirms those that are open; returns how many are new.
async fn open(
    connection: &mut PgConnection,
    entity: &'static Entity,
    asked_at: DateTime<Utc>,
    entries: &BTreeSet<Entry>,
) -> Result<u64, StoreError> {
    if entries.is_empty() {
        return Ok(0);
    }
    let ids: Vec<Option<i64>> =
        entries.iter().map(|entry| entry.record_id.map(RecordId::get)).collect();
    let fields: Vec<&str> = entries.iter().map(|entry| entry.field.as_str()).collect();
    let reasons: Vec<&str> = entries.iter().map(|entry| entry.reason).collect();
    let raws: Vec<&str> = entries.iter().map(|entry| entry.raw.as_str()).collect();
    let inserted: Vec<bool> = sqlx::query_scalar(
        "insert into sync_quarantine as t \
            (entity, record_id, field, reason, raw, first_seen, last_seen) \
         select $1, u.record_id, u.field, u.reason, u.raw, $6, $6 \
         from unnest($2::bigint[], $3::text[], $4::text[], $5::text[]) \
            as u (record_id, field, reason, raw) \
         on conflict (entity, record_id, field, reason, md5(raw)) where resolved_at is null \
         do update set last_seen = excluded.last_seen \
         where t.last_seen < excluded.last_seen - interval '1 day' \
         returning t.xmax = 0",
    )
    .bind(entity.name)
    .bind(ids)
    .bind(fields)
    .bind(reasons)
    .bind(raws)
    .bind(asked_at)
    .fetch_all(connection)
    .await?;
    Ok(inserted.into_iter().filter(|inserted| *inserted).count() as u64)
}

#[derive(sqlx::FromRow)]
struct OpenRow {
    id: i64,
    record_id: i64,
    field: String,
    reason: String,
    raw: String,
    last_seen: DateTime<Utc>,
}

async fn open_rows(
    connection: &mut PgConnection,
    entity: &'static Entity,
    ids: &[i64],
) -> Result<Vec<OpenRow>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as(
        "select id, record_id, field, reason, raw, last_seen from sync_quarantine \
         where entity = $1 and record_id = any($2) and resolved_at is null",
    )
    .bind(entity.name)
    .bind(ids)
    .fetch_all(connection)
    .await
}

fn read_reason(word: &str) -> Result<Reason, StoreError> {
    Reason::from_name(word)
        .ok_or(StoreError::Inconsistent { table: "sync_quarantine", column: "reason" })
}

/// Everything that we tried to store, as JSON text by the portal's names, with the
/// database's answer under `message`.
fn evidence(entity: &'static Entity, record: &Record, message: &str) -> String {
    let mut fields: BTreeMap<String, String> = record.custom_fields().to_map();
    fields.insert("ID".to_owned(), record.id().to_string());
    fields.insert("message".to_owned(), quoted(message));
    for (column, value) in entity.columns.iter().zip(record.values()) {
        let json = match value {
            Value::Null | Value::Kept => continue,
            Value::Text(text) | Value::Decimal(text) => quoted(text),
            Value::Integer(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
            Value::Date(day) => quoted(&day.to_string()),
            Value::Timestamp(instant) => quoted(&instant.to_rfc3339()),
        };
        fields.insert(column.field.to_owned(), json);
    }
    for (multi_field, list) in entity.multi_fields.iter().zip(record.children()) {
        let ChildList::Known(list) = list else { continue };
        let values: Vec<String> = list
            .iter()
            .map(|child| {
                let text = |text: &Option<String>| {
                    text.as_deref().map_or_else(|| "null".to_owned(), quoted)
                };
                let parts = [
                    ("ID".to_owned(), child.id.to_string()),
                    ("VALUE".to_owned(), text(&child.value)),
                    ("VALUE_TYPE".to_owned(), text(&child.value_type)),
                ];
                object(parts.into())
            })
            .collect();
        if !values.is_empty() {
            fields.insert(multi_field.field.to_owned(), format!("[{}]", values.join(",")));
        }
    }
    object(fields)
}

/// Joins named JSON texts to the text of one object.
fn object(fields: BTreeMap<String, String>) -> String {
    CustomFields::from(fields).as_str().to_owned()
}

/// A string as JSON text.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Store {
    /// Counts an entity's open quarantine entries by reason; empty when there are none.
    pub async fn open_quarantine(
        &self,
        entity: &'static Entity,
    ) -> Result<Vec<QuarantineCount>, StoreError> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "select reason, count(*) from sync_quarantine \
             where entity = $1 and resolved_at is null group by reason order by reason",
        )
        .bind(entity.name)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|(reason, entries)| Ok(QuarantineCount { reason: read_reason(&reason)?, entries }))
            .collect()
    }
}

impl Store {
    /// The records with open entries, in the order of their IDs.
    pub async fn quarantined(&self, entity: &'static Entity) -> Result<Vec<RecordId>, StoreError> {
        let ids: Vec<i64> = sqlx::query_scalar(
            "select distinct record_id from sync_quarantine \
             where entity = $1 and resolved_at is null and record_id > 0 order by record_id",
        )
        .bind(entity.name)
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().filter_map(RecordId::new).collect())
    }

    /// Dates the entries that are still open of records that were asked for once more, and
    /// resolves those of records that were never stored and have gone in the portal. What is
    /// open of a row is part of its content, until it becomes a tombstone.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn date_quarantine(
        &self,
        generation: Generation,
        entity: &'static Entity,
        asked: &[RecordId],
        gone: &[RecordId],
        asked_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let numbers = |ids: &[RecordId]| ids.iter().map(|id| id.get()).collect::<Vec<i64>>();
        let rejects: Vec<&str> = Reason::ALL
            .into_iter()
            .filter(|reason| is_reject(*reason))
            .map(Reason::as_str)
            .collect();
        let mut transaction = self.begin_leased(generation).await?;
        sqlx::query(
            "update sync_quarantine set resolved_at = clock_timestamp() \
             where entity = $1 and record_id = any($2) and resolved_at is null \
                and reason = any($3) and last_seen <= $4",
        )
        .bind(entity.name)
        .bind(numbers(gone))
        .bind(rejects)
        .bind(asked_at)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "update sync_quarantine set last_seen = $3 \
             where entity = $1 and record_id = any($2) and resolved_at is null \
                and last_seen < $3 and not (record_id = any($4))",
        )
        .bind(entity.name)
        .bind(numbers(asked))
        .bind(asked_at)
        .bind(numbers(gone))
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{CONTACTS, record::Child};

    #[test]
    fn a_refused_record_is_kept_whole_and_readable() {
        let mut values = vec![Value::Null; CONTACTS.columns.len()];
        values[CONTACTS.position("NAME").unwrap()] = Value::Text("a\0\"".to_owned());
        let phone = Child { id: 3, value: Some("+7".to_owned()), value_type: None };
        let mut children = vec![ChildList::Known(Vec::new()); CONTACTS.multi_fields.len()];
        children[0] = ChildList::Known(vec![phone]);
        let custom = BTreeMap::from([("UF_1".to_owned(), "[1,2]".to_owned())]);
        let record = Record::new(RecordId::new(9).unwrap(), values, custom, children, Vec::new());
        assert_eq!(
            evidence(&CONTACTS, &record, "no"),
            r#"{"ID":9,"NAME":"a\u0000\"","PHONE":[{"ID":3,"VALUE":"+7","VALUE_TYPE":null}],"UF_1":[1,2],"message":"no"}"#
        );
    }
}
