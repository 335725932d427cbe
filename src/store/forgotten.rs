//! Records that are to be no more: removed from every table, and kept out for good.
//!
//! What remains is a keyed hash of entity and ID. The hashes are in memory, so nothing is
//! looked up, and nothing at all is hashed as long as nothing is forgotten.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{PoisonError, RwLock},
};

use sqlx::{AssertSqlSafe, PgConnection, Postgres, Transaction};

use super::{Generation, Store, StoreError, history, lease, statements::Statements};
use crate::entity::{Entity, RecordId, privacy::HashKey};

/// How often a transaction is run again after a deadlock.
const ATTEMPTS: u32 = 5;

/// What is known of the forgotten; empty until the lease's holder has looked.
#[derive(Default)]
pub(super) struct Forgotten(RwLock<Known>);

#[derive(Default)]
struct Known {
    key: Option<HashKey>,
    hashes: HashSet<String>,
}

fn hash(key: &HashKey, entity: &'static Entity, id: RecordId) -> String {
    key.hash(&format!("{}/{id}", entity.name))
}

impl Forgotten {
    /// Whether anything is forgotten.
    pub(super) fn any(&self) -> bool {
        !self.0.read().unwrap_or_else(PoisonError::into_inner).hashes.is_empty()
    }

    pub(super) fn contains(&self, entity: &'static Entity, id: RecordId) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match &known.key {
            Some(key) if !known.hashes.is_empty() => known.hashes.contains(&hash(key, entity, id)),
            _ => false,
        }
    }

    fn learn(&self, key: HashKey, hashes: impl IntoIterator<Item = String>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.key = Some(key);
        known.hashes.extend(hashes);
    }

    /// Takes records in, and gives their hashes.
    fn add(&self, entity: &'static Entity, ids: &[RecordId]) -> Option<Vec<String>> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let key = known.key.clone()?;
        let hashes: Vec<String> = ids.iter().map(|id| hash(&key, entity, *id)).collect();
        known.hashes.extend(hashes.iter().cloned());
        Some(hashes)
    }
}

/// How many rows went from a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The table.
    pub table: String,
    /// Rows that were removed from it, or cleared of the record's ID.
    pub rows: u64,
}

impl Store {
    /// Whether any record has been forgotten.
    #[must_use]
    pub fn has_forgotten(&self) -> bool {
        self.forgotten.any()
    }

    /// Whether a record has been forgotten.
    #[must_use]
    pub fn is_forgotten(&self, entity: &'static Entity, id: RecordId) -> bool {
        self.forgotten.contains(entity, id)
    }

    /// Reads what has been forgotten.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn remember_forgotten(&self, key: HashKey) -> Result<(), StoreError> {
        let hashes: Vec<String> =
            sqlx::query_scalar("select hash from forgotten").fetch_all(&self.pool).await?;
        self.forgotten.learn(key, hashes);
        Ok(())
    }

    /// Takes those IDs in a text out of the requests that have been forgotten since it began to
    /// be written.
    pub(super) async fn unname_forgotten(
        &self,
        connection: &mut PgConnection,
        text: &str,
    ) -> Result<(), StoreError> {
        if !self.has_forgotten() {
            return Ok(());
        }
        let numbers =
            text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
        let named: BTreeSet<RecordId> = numbers.filter_map(RecordId::new).collect();
        for entity in self.entities_on(connection).await? {
            let forgotten = named.iter().filter(|id| self.is_forgotten(entity, **id));
            let forgotten: Vec<i64> = forgotten.map(|id| id.get()).collect();
            if !forgotten.is_empty() {
                unname(connection, entity, &forgotten).await?;
            }
        }
        Ok(())
    }

    /// Removes records from every table, and keeps them out from now on. Returns what was
    /// removed from which tables.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's. After an error the records may
    /// still be stored, but are not written any more; the same may be done again.
    pub async fn forget(
        &self,
        generation: Generation,
        entity: &'static Entity,
        ids: &[RecordId],
    ) -> Result<Vec<Removed>, StoreError> {
        // In memory first: a batch whose transaction begins after ours knows of it, and for
        // those that began before, ours waits.
        let Some(hashes) = self.forgotten.add(entity, ids) else {
            return Err(StoreError::LeaseLost);
        };
        let mut attempt = 1;
        loop {
            match self.try_to_forget(generation, entity, ids, &hashes).await {
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
                done => return done,
            }
        }
    }

    async fn try_to_forget(
        &self,
        generation: Generation,
        entity: &'static Entity,
        ids: &[RecordId],
        hashes: &[String],
    ) -> Result<Vec<Removed>, StoreError> {
        let mut transaction = self.begin().await?;
        // Every batch holds this row to its end.
        sqlx::query("select from sync_lease for update").execute(&mut *transaction).await?;
        lease::hold(&mut transaction, generation).await?;
        sqlx::query("insert into forgotten select unnest($1::text[]) on conflict do nothing")
            .bind(hashes)
            .execute(&mut *transaction)
            .await?;
        let numbers: Vec<i64> = ids.iter().map(|id| id.get()).collect();
        let removed = remove(&mut transaction, entity, &numbers).await?;
        transaction.commit().await?;
        Ok(removed)
    }
}

async fn remove(
    transaction: &mut Transaction<'static, Postgres>,
    entity: &'static Entity,
    ids: &[i64],
) -> Result<Vec<Removed>, StoreError> {
    let mut removed = Vec::new();
    let mut told = |table: &str, rows: u64| {
        if rows > 0 {
            removed.push(Removed { table: table.to_owned(), rows });
        }
    };
    for multi in entity.multi_fields {
        // They would go with their parents, and nobody would know how many.
        let delete =
            format!("delete from \"{}\" where \"{}\" = any($1)", multi.table, entity.key());
        let done = sqlx::query(AssertSqlSafe(delete)).bind(ids).execute(&mut **transaction).await?;
        told(multi.table, done.rows_affected());
    }
    let statements = Statements::of(entity);
    let done = sqlx::query(statements.remove()).bind(ids).execute(&mut **transaction).await?;
    told(entity.name, done.rows_affected());
    let lines = history::remove(transaction, entity, ids).await?;
    told(&format!("{}_changes", entity.singular), lines);
    for (table, column) in
        [("sync_quarantine", "record_id"), ("sweep_candidates", "id"), ("sweep_refusals", "id")]
    {
        let delete = format!("delete from {table} where entity = $1 and {column} = any($2)");
        let done = sqlx::query(AssertSqlSafe(delete))
            .bind(entity.name)
            .bind(ids)
            .execute(&mut **transaction)
            .await?;
        told(table, done.rows_affected());
    }
    let (requests, runs) = unname(transaction, entity, ids).await?;
    told("sync_requests", requests);
    told("sync_runs", runs);
    Ok(removed)
}

/// Takes the IDs out of what people have asked for and were told, and out of the run log.
async fn unname(
    connection: &mut PgConnection,
    entity: &'static Entity,
    ids: &[i64],
) -> Result<(u64, u64), StoreError> {
    let numbers: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let named = format!("\\m({})\\M", numbers.join("|"));
    // Arguments stay readable: a request that is open is done for the others.
    let requests = sqlx::query(
        "update sync_requests set \
            arguments = case \
                when jsonb_typeof(arguments->'records') = 'array' \
                then jsonb_set(arguments, '{records}', (select coalesce(jsonb_agg(kept.value), '[]') \
                    from jsonb_array_elements(arguments->'records') as kept \
                    where not (kept.value::text = any($2)))) \
                when jsonb_typeof(arguments#>'{records,ids}') = 'array' \
                then jsonb_set(arguments, '{records,ids}', (select coalesce(jsonb_agg(kept.value), '[]') \
                    from jsonb_array_elements(arguments#>'{records,ids}') as kept \
                    where not (kept.value::text = any($2)))) \
                else arguments end, \
            progress = case when progress::text ~ $3 then null else progress end, \
            result = case when result::text ~ $3 then null else result end, \
            message = regexp_replace(message, $3, '…', 'g') \
         where (entities = '{}' or entities && $1::text[]) and kind in ('refresh', 'verify', 'forget') \
            and concat_ws(' ', arguments, progress, result, message) ~ $3",
    )
    .bind([entity.name, entity.family().name])
    .bind(&numbers)
    .bind(&named)
    .execute(&mut *connection)
    .await?;
    let runs = sqlx::query(
        "update sync_runs set message = regexp_replace(message, $2, '…', 'g') \
         where entity = $1 and message ~ $2",
    )
    .bind(entity.name)
    .bind(&named)
    .execute(connection)
    .await?;
    Ok((requests.rows_affected(), runs.rows_affected()))
}
