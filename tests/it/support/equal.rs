//! Whether the mirror equals the portal: every column of every row, every child row,
//! every custom field, every note about what cannot be stored.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use b24mirror::{
    entity::{ColumnType, Dialect, Entity},
    simulator::{self, TrueMulti, TrueRecord},
};
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Row as _, Transaction};
use tokio::time::Instant;

use super::portal::TestPortal;

/// Fails with the first differences unless the mirror equals the portal.
pub(crate) async fn assert_equal(portal: &TestPortal, pool: &PgPool) {
    for entity in Entity::BY_DEFAULT {
        let differences = differences(portal, pool, entity).await;
        assert!(differences.is_empty(), "{} differ from the portal:\n{differences}", entity.name);
    }
}

/// Waits until the mirror equals the portal, and fails when that takes too long.
pub(crate) async fn equal_within(portal: &TestPortal, pool: &PgPool, limit: Duration) {
    equal_but_for(&BTreeSet::new(), portal, pool, Instant::now() + limit).await;
}

/// Waits until the mirror equals the portal in all but some records, and fails when it
/// does not by the deadline.
pub(crate) async fn equal_but_for(
    left_out: &BTreeSet<(simulator::Entity, i64)>,
    portal: &TestPortal,
    pool: &PgPool,
    deadline: Instant,
) {
    loop {
        let look = Look::prepare(pool).await;
        let looked = Instant::now();
        let differing = look.take().await.differing(portal, left_out);
        if differing.is_empty() {
            return;
        }
        let over = looked.saturating_duration_since(deadline);
        assert!(over.is_zero(), "not equal to the portal {over:?} after it was due:\n{differing}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Fails unless the mirror as it is at that moment equals the portal in all but some
/// records. What reading and comparing take afterwards does not count.
pub(crate) async fn equal_at(
    moment: Instant,
    left_out: &BTreeSet<(simulator::Entity, i64)>,
    portal: &TestPortal,
    pool: &PgPool,
) {
    let look = Look::prepare(pool).await;
    assert!(Instant::now() < moment, "too late to look at that moment");
    tokio::time::sleep_until(moment).await;
    let differing = look.take().await.differing(portal, left_out);
    if differing.is_empty() {
        return;
    }
    // By when the cycles came to their ends tells a lost change from a slow machine.
    let cycles = "select jsonb_build_object('now', now()) || to_jsonb(c) - 'cycle' \
                  from bitrix24.sync_checkpoints c";
    let cycles: Vec<Value> = sqlx::query_scalar(cycles).fetch_all(pool).await.unwrap();
    let late = moment.elapsed();
    panic!("not equal to the portal when it was due, {late:?} before {cycles:#?}:\n{differing}");
}

/// A transaction that will see all tables as they are when it reads the first of them.
struct Look(Transaction<'static, Postgres>);

impl Look {
    async fn prepare(pool: &PgPool) -> Self {
        let mut transaction = pool.begin().await.unwrap();
        // Instants are printed in UTC.
        for setting in
            ["set transaction isolation level repeatable read", "set local time zone 'UTC'"]
        {
            sqlx::query(setting).execute(&mut *transaction).await.unwrap();
        }
        Self(transaction)
    }

    /// Everything there is.
    async fn take(mut self) -> Snapshot {
        let mut records = Vec::new();
        for entity in Entity::BY_DEFAULT {
            records.push((entity, mirrored(&mut self.0, entity, None).await));
        }
        Snapshot(records)
    }
}

/// The live records at one moment.
struct Snapshot(Vec<(&'static Entity, BTreeMap<i64, Mirrored>)>);

impl Snapshot {
    /// The first differences in words; empty if there are none.
    fn differing(
        &self,
        portal: &TestPortal,
        left_out: &BTreeSet<(simulator::Entity, i64)>,
    ) -> String {
        let mut differing = String::new();
        for (entity, mirror) in &self.0 {
            let family = family(entity);
            let mut found = differing_records(&truth(portal, entity), mirror, entity);
            found.retain(|(id, _)| !left_out.contains(&(family, *id)));
            differing.push_str(&in_words(entity, &found));
        }
        differing
    }
}

/// A live record as the tables have it.
struct Mirrored {
    columns: Map<String, Value>,
    multi_fields: BTreeMap<&'static str, Vec<TrueMulti>>,
    /// In the portal's order.
    links: BTreeMap<&'static str, Vec<i64>>,
    /// Those that are the primary ones.
    primaries: BTreeMap<&'static str, Vec<i64>>,
    /// Open notes: field and reason.
    notes: BTreeSet<(String, String)>,
}

/// The first differences in words; empty if there are none.
pub(crate) async fn differences(
    portal: &TestPortal,
    pool: &PgPool,
    entity: &'static Entity,
) -> String {
    let mut look = Look::prepare(pool).await;
    let mirror = mirrored(&mut look.0, entity, None).await;
    in_words(entity, &differing_records(&truth(portal, entity), &mirror, entity))
}

/// The first differences in words of a mirror that reads items; empty if there are none.
pub(crate) async fn item_differences(
    portal: &TestPortal,
    pool: &PgPool,
    entity: &'static Entity,
) -> String {
    let mut look = Look::prepare(pool).await;
    let mirror = mirrored(&mut look.0, entity, None).await;
    in_words(entity, &differing(&item_truth(portal, entity), &mirror, entity, Dialect::Item))
}

/// What the simulated gateway does not show, by our names.
pub(crate) const HIDDEN_BY_GATEWAY: [&str; 2] = ["WEBFORM_ID", "OBSERVERS"];

/// The first differences in words of a mirror that reads items where some fields are hidden
/// from it (`UF_*` for all user fields); empty if there are none.
pub(crate) async fn differences_unless_hidden(
    portal: &TestPortal,
    pool: &PgPool,
    entity: &'static Entity,
    hidden: &[&str],
) -> String {
    let mut look = Look::prepare(pool).await;
    let mirror = mirrored(&mut look.0, entity, None).await;
    in_words(entity, &differing_unless_hidden(item_truth(portal, entity), &mirror, entity, hidden))
}

fn differing_unless_hidden(
    mut truth: BTreeMap<i64, TrueRecord>,
    mirror: &BTreeMap<i64, Mirrored>,
    entity: &'static Entity,
    hidden: &[&str],
) -> Vec<(i64, String)> {
    for record in truth.values_mut() {
        record.fields.retain(|field, _| !hidden.contains(&field.as_str()));
        record.links.retain(|field, _| !hidden.contains(&field.as_str()));
        record.unreadable.retain(|field, _| !hidden.contains(&field.as_str()));
        record.nul_removed.retain(|field| !hidden.contains(&field.as_str()));
    }
    let hides_user_fields = hidden.contains(&"UF_*");
    let mut found = differing(&truth, mirror, entity, Dialect::Item);
    let silent: Vec<String> = hidden
        .iter()
        .map(|field| format!("the truth says nothing of {}", field.to_lowercase()))
        .collect();
    found.retain(|(_, line)| {
        !(silent.contains(line) || hides_user_fields && line.starts_with("UF_"))
    });
    found
}

/// The first differences in words in all but some records; records that are gone from the
/// portal may still be in the mirror.
pub(crate) async fn differences_but_for(
    left_out: &BTreeSet<i64>,
    portal: &TestPortal,
    pool: &PgPool,
    entity: &'static Entity,
    dialect: Dialect,
) -> String {
    let mut look = Look::prepare(pool).await;
    let mut mirror = mirrored(&mut look.0, entity, None).await;
    let mut truth = match dialect {
        Dialect::Classic => truth(portal, entity),
        Dialect::Item | Dialect::Vibecode => item_truth(portal, entity),
    };
    truth.retain(|id, _| !left_out.contains(id));
    mirror.retain(|id, _| truth.contains_key(id));
    let found = match dialect {
        Dialect::Vibecode => differing_unless_hidden(truth, &mirror, entity, &HIDDEN_BY_GATEWAY),
        _ => differing(&truth, &mirror, entity, dialect),
    };
    in_words(entity, &found)
}

/// The same where comparing everything takes too long: which records exist, and the
/// content of one in `every`.
pub(crate) async fn sampled_differences(
    portal: &TestPortal,
    pool: &PgPool,
    entity: &'static Entity,
    every: usize,
) -> String {
    let truth = truth(portal, entity);
    let select = format!("select id from bitrix24.{} where deleted_at is null", entity.name);
    let live: BTreeSet<i64> = sqlx::query_scalar(AssertSqlSafe(select))
        .fetch_all(pool)
        .await
        .unwrap()
        .into_iter()
        .collect();
    let existing: BTreeSet<i64> = truth.keys().copied().collect();
    let mut found: Vec<(i64, String)> = live
        .symmetric_difference(&existing)
        .map(|id| (*id, "in the mirror or in the portal, but not in both".to_owned()))
        .collect();
    let sample: BTreeMap<i64, TrueRecord> = truth.into_iter().step_by(every).collect();
    let ids: Vec<i64> = sample.keys().copied().collect();
    let mut look = Look::prepare(pool).await;
    let mirror = mirrored(&mut look.0, entity, Some(&ids)).await;
    found.extend(differing_records(&sample, &mirror, entity));
    in_words(entity, &found)
}

fn item_truth(portal: &TestPortal, entity: &'static Entity) -> BTreeMap<i64, TrueRecord> {
    let records = portal.item_truth(family(entity));
    records.into_iter().map(|record| (record.id, record)).collect()
}

fn truth(portal: &TestPortal, entity: &'static Entity) -> BTreeMap<i64, TrueRecord> {
    portal.truth(entity).into_iter().map(|record| (record.id, record)).collect()
}

/// Every difference from what classic lists show, with the record's ID.
fn differing_records(
    truth: &BTreeMap<i64, TrueRecord>,
    mirror: &BTreeMap<i64, Mirrored>,
    entity: &'static Entity,
) -> Vec<(i64, String)> {
    differing(truth, mirror, entity, Dialect::Classic)
}

/// Every difference, with the record's ID.
fn differing(
    truth: &BTreeMap<i64, TrueRecord>,
    mirror: &BTreeMap<i64, Mirrored>,
    entity: &'static Entity,
    dialect: Dialect,
) -> Vec<(i64, String)> {
    let mut found: Vec<(i64, String)> = mirror
        .keys()
        .filter(|id| !truth.contains_key(id))
        .map(|id| (*id, "in the mirror, not in the portal".to_owned()))
        .collect();
    for (id, record) in truth {
        match mirror.get(id) {
            None => found.push((*id, "missing".to_owned())),
            Some(mirrored) => {
                let mut differing = Vec::new();
                compare(entity, dialect, record, mirrored, &mut differing);
                found.extend(differing.into_iter().map(|line| (*id, line)));
            }
        }
    }
    found
}

fn in_words(entity: &'static Entity, found: &[(i64, String)]) -> String {
    let mut text = String::new();
    for (id, line) in found.iter().take(12) {
        let _ = writeln!(text, "{} {id}: {line}", entity.singular);
    }
    if found.len() > 12 {
        let _ = writeln!(text, "… and {} more", found.len() - 12);
    }
    text
}

fn compare(
    entity: &'static Entity,
    dialect: Dialect,
    truth: &TrueRecord,
    mirror: &Mirrored,
    found: &mut Vec<String>,
) {
    let mut compared = BTreeSet::new();
    for (field, value) in &truth.fields {
        let column = field.to_lowercase();
        let stored = mirror.columns.get(&column).unwrap_or(&Value::Null);
        if stored != value {
            found.push(format!("{column}: {stored} instead of {value}"));
        }
        compared.insert(column);
    }
    for column in entity.columns {
        let known = compared.contains(column.name) || !is_brought(entity, dialect, column.field);
        if !known && entity.smart_process().is_some() {
            // A smart process has what its switches allow.
            if mirror.columns[column.name] != Value::Null {
                found.push(format!("{}: the portal has no such field", column.name));
            }
        } else if !known {
            found.push(format!("the truth says nothing of {}", column.name));
        }
        if is_implied(entity, dialect, column.field)
            && mirror.columns[column.name].as_i64() != Some(0)
        {
            found.push(format!("{}: not what all of the list have", column.name));
        }
    }
    let custom = Value::Object(truth.custom_fields.clone());
    if mirror.columns["custom_fields"] != custom {
        let stored = mirror.columns["custom_fields"].as_object().unwrap();
        for key in stored.keys().chain(truth.custom_fields.keys()).collect::<BTreeSet<_>>() {
            if stored.get(key) != truth.custom_fields.get(key) {
                let (stored, true_one) = (stored.get(key), truth.custom_fields.get(key));
                found.push(format!("{key}: {stored:?} instead of {true_one:?}"));
            }
        }
    }
    for multi in entity.multi_fields.iter().filter(|multi| multi.link.is_some()) {
        let stored = mirror.links.get(multi.field).cloned().unwrap_or_default();
        let linked = truth.links.get(multi.field).cloned().unwrap_or_default();
        if dialect == Dialect::Item && stored != linked {
            found.push(format!("{}: {stored:?} instead of {linked:?}", multi.field));
        }
        let primary = multi.link.and_then(|link| entity.position(link.primary?));
        let primary = primary.and_then(|at| mirror.columns[entity.columns[at].name].as_i64());
        let expected: Vec<i64> = linked.into_iter().filter(|id| Some(*id) == primary).collect();
        let marked = mirror.primaries.get(multi.field).cloned().unwrap_or_default();
        if dialect == Dialect::Item && marked != expected {
            found.push(format!("{}: {marked:?} are primary, not {expected:?}", multi.field));
        }
    }
    for multi in entity.multi_fields.iter().filter(|multi| multi.is_values()) {
        let stored = mirror.multi_fields.get(multi.field).cloned().unwrap_or_default();
        let values = truth.multi_fields.get(multi.field).cloned().unwrap_or_default();
        if stored != values {
            found.push(format!("{}: {stored:?} instead of {values:?}", multi.field));
        }
    }
    for field in truth.unreadable.keys() {
        if !mirror.notes.contains(&(field.clone(), "unreadable_value".to_owned())) {
            found.push(format!("{field}: unreadable, but not in the quarantine"));
        }
    }
    for field in &truth.nul_removed {
        if !mirror.notes.contains(&(field.clone(), "nul_removed".to_owned())) {
            found.push(format!("{field}: lost U+0000 without a note"));
        }
    }
}

/// The live records with these IDs; all of them if none are given.
async fn mirrored(
    transaction: &mut PgConnection,
    entity: &'static Entity,
    ids: Option<&[i64]>,
) -> BTreeMap<i64, Mirrored> {
    let (table, key) = (entity.name, entity.key());
    let decimals: Vec<String> = entity
        .columns
        .iter()
        .filter(|column| column.kind.sql_type() == "numeric")
        .map(|column| format!("'{0}', trim_scale({0})::text", column.name))
        .collect();
    let rows = sqlx::query(AssertSqlSafe(format!(
        "select id, to_jsonb(t) || jsonb_build_object({}) as columns from bitrix24.{table} t \
         where deleted_at is null and ($1::bigint[] is null or id = any($1))",
        decimals.join(", ")
    )))
    .bind(ids)
    .fetch_all(&mut *transaction)
    .await
    .unwrap();
    let mut records = BTreeMap::new();
    for row in rows {
        let mut columns: Map<String, Value> =
            row.get::<sqlx::types::Json<Map<String, Value>>, _>("columns").0;
        for column in entity.columns.iter().filter(|c| c.kind == ColumnType::Timestamp) {
            if let Some(Value::String(text)) = columns.get_mut(column.name) {
                *text = text.replace("+00:00", "Z");
            }
        }
        let mirrored = Mirrored {
            columns,
            multi_fields: BTreeMap::new(),
            links: BTreeMap::new(),
            primaries: BTreeMap::new(),
            notes: BTreeSet::new(),
        };
        records.insert(row.get::<i64, _>("id"), mirrored);
    }
    for multi in entity.multi_fields {
        let Some(link) = multi.link else { continue };
        let is_primary = if link.primary.is_some() { "is_primary" } else { "false" };
        let linked: Vec<(i64, i64, bool)> = sqlx::query_as(AssertSqlSafe(format!(
            "select {key}, {}, {is_primary} from bitrix24.{} \
             where $1::bigint[] is null or {key} = any($1) order by 1, position",
            link.column, multi.table
        )))
        .bind(ids)
        .fetch_all(&mut *transaction)
        .await
        .unwrap();
        for (parent, id, is_primary) in linked {
            if let Some(record) = records.get_mut(&parent) {
                record.links.entry(multi.field).or_default().push(id);
                if is_primary {
                    record.primaries.entry(multi.field).or_default().push(id);
                }
            }
        }
    }
    for multi in entity.multi_fields.iter().filter(|multi| multi.is_values()) {
        let children = sqlx::query(AssertSqlSafe(format!(
            "select {key} as parent, id, coalesce(value, '') as value, \
             coalesce(value_type, '') as value_type from bitrix24.{} \
             where $1::bigint[] is null or {key} = any($1) order by 1, 2",
            multi.table
        )))
        .bind(ids)
        .fetch_all(&mut *transaction)
        .await
        .unwrap();
        for child in children {
            if let Some(record) = records.get_mut(&child.get::<i64, _>("parent")) {
                record.multi_fields.entry(multi.field).or_default().push(TrueMulti {
                    id: child.get("id"),
                    value: child.get("value"),
                    value_type: child.get("value_type"),
                });
            }
        }
    }
    let notes = sqlx::query(
        "select record_id, field, reason from bitrix24.sync_quarantine \
         where entity = $1 and resolved_at is null and record_id is not null",
    )
    .bind(entity.name)
    .fetch_all(&mut *transaction)
    .await
    .unwrap();
    for note in notes {
        if let Some(record) = records.get_mut(&note.get::<i64, _>("record_id")) {
            record.notes.insert((note.get("field"), note.get("reason")));
        }
    }
    records
}

/// Whether a source brings a column; the simulator's own lists say what items lack.
fn is_brought(entity: &Entity, dialect: Dialect, field: &str) -> bool {
    match dialect {
        Dialect::Classic => {
            let classic = entity.classic.unwrap();
            !classic.lacks.contains(&field) && !is_implied(entity, dialect, field)
        }
        Dialect::Item | Dialect::Vibecode => {
            !field.starts_with("ADDRESS")
                && !["FACE_ID", "LAST_COMMUNICATION_TIME"].contains(&field)
        }
    }
}

/// Whether a column is the same in everything that a list shows.
fn is_implied(entity: &Entity, dialect: Dialect, field: &str) -> bool {
    let classic = entity.classic.filter(|_| dialect == Dialect::Classic);
    classic.is_some_and(|classic| classic.implies.iter().any(|(own, _)| *own == field))
}

/// The simulator's family of an entity of ours.
pub(crate) fn family(entity: &'static Entity) -> simulator::Entity {
    match entity.name {
        "contacts" => simulator::Entity::Contacts,
        "leads" => simulator::Entity::Leads,
        "companies" => simulator::Entity::Companies,
        "deals" => simulator::Entity::Deals,
        "quotes" => simulator::Entity::Quotes,
        "smart_invoices" => simulator::Entity::SmartInvoices,
        "smart_items_128" => simulator::Entity::Projects,
        "smart_items_1036" => simulator::Entity::Equipment,
        "activities" => simulator::Entity::Activities,
        other => panic!("the simulator has no {other}"),
    }
}
