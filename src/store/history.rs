//! What changed in records, told line by line in the transaction that changes them.
//!
//! A line says of one field what it was and what it is now. It is made from the row as the
//! transaction finds it, locked, and from the record that replaces it, so that two lanes
//! which write the same record tell one story.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::{Generation, Store, StoreError, privacy::looks_hashed, read, statements::Statements};
use crate::entity::{
    Entity, RecordId,
    record::{Child, ChildList, CustomFields, Record, Value},
};

/// Carried by every line beside the time of the modification, so that a change of them alone is
/// none.
const MODIFIED_BY: &str = "MODIFY_BY_ID";

/// Lines that one transaction removes at most.
const ROWS: i64 = 5_000;

/// Which histories are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryOptions {
    /// The entities with a history.
    pub entities: Vec<&'static Entity>,
    /// How long lines are kept; `None`: for good.
    pub keep: Option<Duration>,
}

impl HistoryOptions {
    pub(super) fn is_kept(&self, entity: &'static Entity) -> bool {
        self.entities.iter().any(|kept| kept.covers(entity))
    }
}

/// What happened to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Created,
    Changed,
    Deleted,
    Revived,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Revived => "revived",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    record: i64,
    kind: Kind,
    field: Option<String>,
    value_id: Option<i64>,
    old: Option<String>,
    new: Option<String>,
}

impl Line {
    const fn of(record: i64, kind: Kind) -> Self {
        Self { record, kind, field: None, value_id: None, old: None, new: None }
    }
}

/// A row as it was before this transaction wrote it.
struct Past {
    /// When it was asked for.
    synced_at: DateTime<Utc>,
    values: Vec<Value>,
    custom_fields: CustomFields,
    deleted: bool,
}

impl Past {
    /// Whether the record has been modified since, by the portal's own account.
    fn is_older(&self, entity: &Entity, record: &Record) -> bool {
        let modified = entity.position(entity.modified());
        modified.is_none_or(|place| self.values.get(place) != record.values().get(place))
    }
}

/// The lines of the records that one statement writes.
pub(super) struct Journal {
    entity: &'static Entity,
    told: Told,
    before: HashMap<i64, Past>,
    /// Records that are not told of.
    passed_over: HashSet<i64>,
    lines: Vec<Line>,
}

/// What a batch has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// A record that is seen for the first time gets a line.
    pub(super) new: bool,
    /// Records whose modification time did not move get lines. Where everything is read again
    /// because it is read in another way, such a difference is nobody's work.
    pub(super) unmoved: bool,
}

impl Journal {
    /// Locks the rows that are about to be written, in the order of their IDs, and
    /// remembers what is in them.
    pub(super) async fn open(
        connection: &mut PgConnection,
        entity: &'static Entity,
        records: &[&Record],
        told: Told,
    ) -> Result<Self, StoreError> {
        let ids: Vec<i64> = records.iter().map(|record| record.id().get()).collect();
        let rows = sqlx::query(Statements::of(entity).read_locked())
            .bind(ids)
            .fetch_all(connection)
            .await?;
        let mut before = HashMap::with_capacity(rows.len());
        for row in &rows {
            let after = entity.columns.len() + 1;
            let past = Past {
                synced_at: row.try_get(after + 2)?,
                values: read::values(entity, row)?,
                // Somebody else may have written another form of JSON there.
                custom_fields: CustomFields::from_stored(row.try_get(after)?).unwrap_or_default(),
                deleted: row.try_get::<Option<DateTime<Utc>>, _>(after + 3)?.is_some(),
            };
            before.insert(row.try_get(0)?, past);
        }
        Ok(Self { entity, told, before, passed_over: HashSet::new(), lines: Vec::new() })
    }

    /// Tells what became of the rows of the written records.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] when a row was inserted by another transaction since
    /// [`Self::open`]: what it was is not known here.
    pub(super) fn records(
        &mut self,
        records: &[&Record],
        written: &HashMap<RecordId, bool>,
    ) -> Result<(), StoreError> {
        for record in records {
            let id = record.id().get();
            match (written.get(&record.id()), self.before.get(&id)) {
                (None, _) => {}
                (Some(true), _) => {
                    if self.told.new {
                        self.lines.push(Line::of(id, Kind::Created));
                    }
                }
                (Some(false), Some(past)) => {
                    if self.told.unmoved || past.deleted || past.is_older(self.entity, record) {
                        tell_row(self.entity, past, record, &mut self.lines);
                    } else {
                        self.passed_over.insert(id);
                    }
                }
                (Some(false), None) => {
                    return Err(StoreError::Overtaken { entity: self.entity.name });
                }
            }
        }
        Ok(())
    }

    /// Tells what became of the values of one multi-field of a record that was there before.
    pub(super) fn children(&mut self, field: &str, parent: i64, old: &[Child], new: &[Child]) {
        if !self.passed_over.contains(&parent) {
            tell_children(field, parent, old, new, &mut self.lines);
        }
    }

    /// Writes the lines.
    pub(super) async fn close(
        mut self,
        connection: &mut PgConnection,
        records: &[&Record],
        asked_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        // Stable: what is told of a row stands before what is told of its children.
        self.lines.sort_by_key(|line| line.record);
        let by_id: HashMap<i64, &Record> =
            records.iter().map(|record| (record.id().get(), *record)).collect();
        let by = self.entity.position(MODIFIED_BY);
        let (mut modified, mut modified_by) = (Vec::new(), Vec::new());
        let mut before = Vec::new();
        for line in &self.lines {
            let record = by_id.get(&line.record);
            before.push(self.before.get(&line.record).map(|past| past.synced_at));
            modified.push(
                record.and_then(|record| record.timestamp(self.entity, self.entity.modified())),
            );
            modified_by.push(record.and_then(|record| match record.values().get(by?) {
                Some(Value::Integer(user)) => Some(*user),
                _ => None,
            }));
        }
        let versions =
            Versions { before, seen_at: vec![asked_at; self.lines.len()], modified, modified_by };
        insert(connection, self.entity, &self.lines, versions).await
    }
}

/// Tells of tombstones, each with when it was confirmed.
pub(super) async fn deleted(
    connection: &mut PgConnection,
    entity: &'static Entity,
    gone: &[(i64, DateTime<Utc>)],
) -> Result<(), StoreError> {
    if gone.is_empty() {
        return Ok(());
    }
    let lines: Vec<Line> = gone.iter().map(|(id, _)| Line::of(*id, Kind::Deleted)).collect();
    let versions = Versions {
        before: vec![None; lines.len()],
        seen_at: gone.iter().map(|(_, at)| *at).collect(),
        // Whoever deleted it, the portal does not say.
        modified: vec![None; lines.len()],
        modified_by: vec![None; lines.len()],
    };
    insert(connection, entity, &lines, versions).await
}

/// Removes everything that was told of some records.
pub(super) async fn remove(
    connection: &mut PgConnection,
    entity: &'static Entity,
    ids: &[i64],
) -> Result<u64, StoreError> {
    let remove =
        format!("delete from \"{}_changes\" where \"{}\" = any($1)", entity.singular, entity.key());
    let removed = sqlx::query(AssertSqlSafe(remove)).bind(ids).execute(connection).await?;
    Ok(removed.rows_affected())
}

/// The versions between which each line stands.
struct Versions {
    /// When the one before was asked for.
    before: Vec<Option<DateTime<Utc>>>,
    seen_at: Vec<DateTime<Utc>>,
    modified: Vec<Option<DateTime<Utc>>>,
    modified_by: Vec<Option<i64>>,
}

async fn insert(
    connection: &mut PgConnection,
    entity: &'static Entity,
    lines: &[Line],
    versions: Versions,
) -> Result<(), StoreError> {
    let (singular, key) = (entity.singular, entity.key());
    // A field that is not hashed any more has left its hash in a row that was last written before.
    let insert = format!(
        "insert into \"{singular}_changes\" (\"{key}\", kind, field, value_id, old_value, \
            new_value, seen_at, date_modify, modify_by_id, old_is_hash, new_is_hash) \
         select u.record, u.kind, u.field, u.value_id, u.old_value, u.new_value, u.seen_at, \
            u.date_modify, u.modify_by_id, \
            coalesce(u.old_value is not null and (u.field = any(rules.hashed) \
                or u.before < revealed.revealed_at and {}), false), \
            coalesce(u.new_value is not null and u.field = any(rules.hashed), false) \
         from unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], \
            $7::timestamptz[], $8::timestamptz[], $9::bigint[], $10::timestamptz[]) with ordinality \
            as u (record, kind, field, value_id, old_value, new_value, seen_at, date_modify, \
            modify_by_id, before, place) \
         left join privacy_rules as rules on rules.entity = $11 \
         left join privacy_reveals as revealed \
            on revealed.entity = $11 and revealed.field = u.field \
         order by u.place",
        looks_hashed("u.old_value")
    );
    let records: Vec<i64> = lines.iter().map(|line| line.record).collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line.kind.as_str()).collect();
    let fields: Vec<Option<&str>> = lines.iter().map(|line| line.field.as_deref()).collect();
    let value_ids: Vec<Option<i64>> = lines.iter().map(|line| line.value_id).collect();
    let old: Vec<Option<&str>> = lines.iter().map(|line| line.old.as_deref()).collect();
    let new: Vec<Option<&str>> = lines.iter().map(|line| line.new.as_deref()).collect();
    sqlx::query(AssertSqlSafe(insert))
        .bind(records)
        .bind(kinds)
        .bind(fields)
        .bind(value_ids)
        .bind(old)
        .bind(new)
        .bind(versions.seen_at)
        .bind(versions.modified)
        .bind(versions.modified_by)
        .bind(versions.before)
        .bind(entity.name)
        .execute(connection)
        .await?;
    Ok(())
}

fn tell_row(entity: &'static Entity, past: &Past, record: &Record, lines: &mut Vec<Line>) {
    let id = record.id().get();
    if past.deleted {
        lines.push(Line::of(id, Kind::Revived));
    }
    let mut tell = |field: &str, old: Option<String>, new: Option<String>| {
        if old != new {
            let field = Some(field.to_owned());
            lines.push(Line { field, old, new, ..Line::of(id, Kind::Changed) });
        }
    };
    let values = past.values.iter().zip(record.values());
    for (column, (old, new)) in entity.columns.iter().zip(values) {
        let carried = [entity.modified(), MODIFIED_BY].contains(&column.field);
        if old != new && !carried {
            tell(column.field, as_text(old), as_text(new));
        }
    }
    if past.custom_fields == *record.custom_fields() {
        return;
    }
    let (mut old, new) = (past.custom_fields.to_map(), record.custom_fields().to_map());
    for (field, json) in &new {
        let before = old.remove(field);
        if !before.as_ref().is_some_and(|before| is_other_spelling(before, json)) {
            tell(field, before.map(plain), Some(plain(json.clone())));
        }
    }
    for (field, json) in old {
        tell(&field, Some(plain(json)), None);
    }
}

/// Whether a flag was stored as a source spells it, before there was one spelling for all.
fn is_other_spelling(old: &str, new: &str) -> bool {
    matches!((old, new), ("\"1\"" | "\"Y\"" | "1", "true") | ("\"0\"" | "\"N\"" | "0", "false"))
}

/// Both lists are in the order of their IDs.
fn tell_children(field: &str, parent: i64, old: &[Child], new: &[Child], lines: &mut Vec<Line>) {
    let mut tell = |before: Option<&Child>, after: Option<&Child>| {
        let value = |child: &Child| child.value.clone();
        let value_type = |child: &Child| child.value_type.clone();
        for (suffix, old, new) in [
            ("", before.and_then(value), after.and_then(value)),
            (".VALUE_TYPE", before.and_then(value_type), after.and_then(value_type)),
        ] {
            if old != new {
                lines.push(Line {
                    field: Some(format!("{field}{suffix}")),
                    value_id: after.or(before).map(|child| child.id),
                    old,
                    new,
                    ..Line::of(parent, Kind::Changed)
                });
            }
        }
    };
    let mut old = old.iter().peekable();
    for child in new {
        while let Some(gone) = old.next_if(|old| old.id < child.id) {
            tell(Some(gone), None);
        }
        tell(old.next_if(|old| old.id == child.id), Some(child));
    }
    for gone in old {
        tell(Some(gone), None);
    }
}

/// A value as text that PostgreSQL casts to the column's type.
fn as_text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null | Value::Kept => return None,
        Value::Text(text) | Value::Decimal(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Date(day) => day.to_string(),
        Value::Timestamp(instant) => instant.to_rfc3339_opts(SecondsFormat::Secs, true),
    })
}

/// A JSON text as `->>` shows it.
fn plain(json: String) -> String {
    if json.starts_with('"') { serde_json::from_str(&json).unwrap_or(json) } else { json }
}

/// The lists of a multi-field that are known, with their parents.
pub(super) fn known(record: &Record, index: usize) -> Option<&[Child]> {
    match record.children().get(index)? {
        ChildList::Known(list) => Some(list),
        ChildList::Untrusted | ChildList::Kept => None,
    }
}

impl Store {
    /// The same store with these histories; without this call it keeps none.
    #[must_use]
    pub fn with_history(mut self, history: HistoryOptions) -> Self {
        self.history = history.into();
        self
    }

    /// Records from when on each history is without a gap: those that begin now, those that
    /// go on, and those that are not kept any more.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's.
    pub async fn begin_histories(&self, generation: Generation) -> Result<(), StoreError> {
        let mut entities = self.entities().await?;
        entities.retain(|entity| self.history.is_kept(entity));
        let kept: Vec<&str> = entities.iter().map(|entity| entity.name).collect();
        let mut transaction = self.begin_leased(generation).await?;
        sqlx::query("delete from history where not (entity = any($1))")
            .bind(&kept)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "insert into history (entity, complete_since) \
             select entity, clock_timestamp() from unnest($1::text[]) as entity \
             on conflict do nothing",
        )
        .bind(&kept)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Removes some lines that are older than the settings let them grow, whether or not
    /// the entity still has a history. Returns whether there may be more.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is removed then.
    pub async fn remove_old_history(&self, generation: Generation) -> Result<bool, StoreError> {
        let Some(keep) = self.history.keep else { return Ok(false) };
        let mut more = false;
        for entity in self.entities().await? {
            let remove = format!(
                "delete from \"{table}\" where id in (select id from \"{table}\" \
                 where seen_at < clock_timestamp() - make_interval(secs => $1) \
                 order by seen_at limit $2)",
                table = format_args!("{}_changes", entity.singular),
            );
            let mut transaction = self.begin_leased(generation).await?;
            let removed = sqlx::query(AssertSqlSafe(remove))
                .bind(keep.as_secs_f64())
                .bind(ROWS)
                .execute(&mut *transaction)
                .await?
                .rows_affected();
            sqlx::query(
                "update history set complete_since = clock_timestamp() - make_interval(secs => $1) \
                 where entity = $2 and $3 \
                   and complete_since < clock_timestamp() - make_interval(secs => $1)",
            )
            .bind(keep.as_secs_f64())
            .bind(entity.name)
            .bind(removed > 0)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            more |= i64::try_from(removed).is_ok_and(|removed| removed >= ROWS);
        }
        Ok(more)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::entity::LEADS;

    fn child(id: i64, value: &str, value_type: &str) -> Child {
        Child { id, value: Some(value.to_owned()), value_type: Some(value_type.to_owned()) }
    }

    type Told<'a> = (Option<&'a str>, Option<i64>, Option<&'a str>, Option<&'a str>);

    fn told(lines: &[Line]) -> Vec<Told<'_>> {
        lines
            .iter()
            .map(|line| {
                (line.field.as_deref(), line.value_id, line.old.as_deref(), line.new.as_deref())
            })
            .collect()
    }

    #[test]
    fn a_row_tells_what_differs_and_nothing_else() {
        let values = |changes: &[(&str, Value)]| {
            let mut values = vec![Value::Null; LEADS.columns.len()];
            for (field, value) in changes {
                values[LEADS.position(field).unwrap()] = value.clone();
            }
            values
        };
        let fields = |pairs: &[(&str, &str)]| -> CustomFields {
            let pairs = pairs.iter().map(|(name, json)| ((*name).to_owned(), (*json).to_owned()));
            pairs.collect::<BTreeMap<_, _>>().into()
        };
        let text = |text: &str| Value::Text(text.to_owned());
        let modified = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let past = Past {
            synced_at: modified,
            values: values(&[
                ("STATUS_ID", text("NEW")),
                ("TITLE", text("same")),
                ("OPENED", Value::Flag(true)),
                ("DATE_MODIFY", Value::Timestamp(DateTime::UNIX_EPOCH)),
            ]),
            custom_fields: fields(&[
                ("UF_A", "\"a\""),
                ("UF_GONE", "[1,2]"),
                ("UF_SAME", "1"),
                ("UF_YES", "\"1\""),
            ]),
            deleted: true,
        };
        let record = Record::new(
            RecordId::new(7).unwrap(),
            values(&[
                ("STATUS_ID", text("WON")),
                ("TITLE", text("same")),
                ("DATE_CLOSED", Value::Timestamp(modified)),
                ("DATE_MODIFY", Value::Timestamp(modified)),
                ("MODIFY_BY_ID", Value::Integer(1)),
            ]),
            fields(&[
                ("UF_A", "\"ä\\n\""),
                ("UF_NEW", "{\"x\":1}"),
                ("UF_SAME", "1"),
                ("UF_YES", "true"),
            ]),
            vec![ChildList::Known(Vec::new()); LEADS.multi_fields.len()],
            Vec::new(),
        );
        let mut lines = Vec::new();
        tell_row(&LEADS, &past, &record, &mut lines);
        assert_eq!(lines[0].kind, Kind::Revived);
        assert_eq!(
            told(&lines[1..]),
            [
                (Some("STATUS_ID"), None, Some("NEW"), Some("WON")),
                (Some("OPENED"), None, Some("true"), None),
                (Some("DATE_CLOSED"), None, None, Some("2023-11-14T22:13:20Z")),
                (Some("UF_A"), None, Some("a"), Some("ä\n")),
                (Some("UF_NEW"), None, None, Some("{\"x\":1}")),
                (Some("UF_GONE"), None, Some("[1,2]"), None),
            ]
        );
    }

    #[test]
    fn a_value_is_told_by_its_own_id() {
        let old = [child(1, "same", "WORK"), child(2, "old", "WORK"), child(3, "gone", "HOME")];
        let new = [child(1, "same", "HOME"), child(2, "new", "WORK"), child(4, "more", "WORK")];
        let mut lines = Vec::new();
        tell_children("PHONE", 9, &old, &new, &mut lines);
        assert_eq!(
            told(&lines),
            [
                (Some("PHONE.VALUE_TYPE"), Some(1), Some("WORK"), Some("HOME")),
                (Some("PHONE"), Some(2), Some("old"), Some("new")),
                (Some("PHONE"), Some(3), Some("gone"), None),
                (Some("PHONE.VALUE_TYPE"), Some(3), Some("HOME"), None),
                (Some("PHONE"), Some(4), None, Some("more")),
                (Some("PHONE.VALUE_TYPE"), Some(4), None, Some("WORK")),
            ]
        );
    }
}
