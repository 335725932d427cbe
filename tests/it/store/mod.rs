//! The laws of the store, on a real server.
#![expect(clippy::unwrap_used, reason = "what goes wrong here fails the test")]

mod batch;
mod concurrency;
mod forgotten;
mod history;
mod progress;
mod quarantine;
mod repair;
mod round_trip;
mod schema;
mod sweep;

use std::{collections::BTreeMap, time::Duration};

use b24mirror::{
    entity::{
        CONTACTS, Entity, RecordId,
        record::{Child, ChildList, Note, Reason, Record, Value},
    },
    store::{Acquired, Batch, Generation, Progress, Store, StoreOptions, Written},
};
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;

use crate::support::{Database, database};

/// A migrated store whose lease is ours.
struct Mirror {
    store: Store,
    generation: Generation,
    database: Database,
}

async fn mirror() -> Mirror {
    let database = database().await;
    let store = Store::connect(&options(database.url())).await.unwrap();
    store.migrate().await.unwrap();
    let generation = acquire(&store, "test").await;
    Mirror { store, generation, database }
}

fn options(url: SecretString) -> StoreOptions {
    StoreOptions {
        url,
        schema: "bitrix24".parse().unwrap(),
        max_connections: 4,
        application_name: "b24mirror-test".to_owned(),
    }
}

async fn acquire(store: &Store, holder: &str) -> Generation {
    match store.try_acquire(holder, Duration::from_mins(1)).await.unwrap() {
        Acquired::Ours(lease) => lease.generation,
        held @ Acquired::HeldBy { .. } => panic!("{held:?}"),
    }
}

impl Mirror {
    fn batch(&self, asked_at: DateTime<Utc>, records: Vec<Record>) -> Batch<'static> {
        Batch {
            entity: &CONTACTS,
            generation: self.generation,
            asked_at,
            records,
            rejects: Vec::new(),
            progress: Progress::Nothing,
            run: None,
        }
    }

    async fn write(&self, asked_at: DateTime<Utc>, records: Vec<Record>) -> Written {
        self.store.write(self.batch(asked_at, records)).await.unwrap()
    }

    async fn read(&self, ids: impl IntoIterator<Item = i64>) -> Vec<Record> {
        let ids: Vec<RecordId> = ids.into_iter().map(id).collect();
        let stored = self.store.read_records(&CONTACTS, &ids).await.unwrap();
        stored.into_iter().map(|stored| stored.record).collect()
    }

    /// The physical place and the transactions of every row of a table, by its key.
    /// A row that is only locked differs in its `xmax`.
    async fn rows(&self, table: &str, key: &str) -> BTreeMap<String, String> {
        let sql = format!(
            "select concat_ws('/', {key}), concat_ws(' ', ctid, xmin, xmax) from bitrix24.{table}"
        );
        let rows: Vec<(String, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(self.database.pool()).await.unwrap();
        rows.into_iter().collect()
    }

    async fn execute(&self, sql: &'static str) {
        let mut connection = self.database.pool().acquire().await.unwrap();
        sqlx::query("set search_path = bitrix24").execute(&mut *connection).await.unwrap();
        sqlx::query(sql).execute(&mut *connection).await.unwrap();
    }

    async fn number(&self, sql: &'static str) -> i64 {
        let mut connection = self.database.pool().acquire().await.unwrap();
        sqlx::query("set search_path = bitrix24").execute(&mut *connection).await.unwrap();
        sqlx::query_scalar(sql).fetch_one(&mut *connection).await.unwrap()
    }
}

fn id(number: i64) -> RecordId {
    RecordId::new(number).unwrap()
}

/// A minute of a made-up day.
fn minute(minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::minutes(minute)
}

/// A contact with a name and phones.
fn contact(number: i64, name: &str, phones: &[(i64, &str)]) -> Record {
    let phones = phones
        .iter()
        .map(|(id, value)| Child {
            id: *id,
            value: Some((*value).to_owned()),
            value_type: Some("WORK".to_owned()),
        })
        .collect();
    record(&CONTACTS, number, name, ChildList::Known(phones), Vec::new())
}

fn record(
    entity: &'static Entity,
    number: i64,
    name: &str,
    phones: ChildList,
    notes: Vec<Note>,
) -> Record {
    let mut values = vec![Value::Null; entity.columns.len()];
    values[entity.position("NAME").unwrap()] = Value::Text(name.to_owned());
    let mut children = vec![ChildList::Known(Vec::new()); entity.multi_fields.len()];
    children[0] = phones;
    Record::new(id(number), values, BTreeMap::new(), children, notes)
}

fn note(field: &str, reason: Reason, raw: &str) -> Note {
    Note { field: field.to_owned(), reason, raw: raw.to_owned() }
}
