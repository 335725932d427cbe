//! What is stored is made to follow the rules before anything else is done.
//!
//! Rules are settings, and settings change while rows stay. So the rules that the rows follow
//! are kept beside them: whatever is new in the settings is erased or hashed in one
//! transaction, and every record is read again afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use sqlx::{AssertSqlSafe, PgConnection};

use super::{Generation, Store, StoreError};
use crate::entity::{
    Entity,
    privacy::{HASH_DIGITS, HashKey, Privacy, PrivacyRules},
};

/// The rules of the settings, by the name of the entity's section.
#[derive(Debug, Clone, Default)]
pub struct PrivacyOptions {
    rules: BTreeMap<&'static str, PrivacyRules>,
    /// Whether the stored rules are kept where these would show more.
    guarded: bool,
}

impl FromIterator<(&'static Entity, PrivacyRules)> for PrivacyOptions {
    fn from_iter<T: IntoIterator<Item = (&'static Entity, PrivacyRules)>>(rules: T) -> Self {
        let rules = rules.into_iter().map(|(entity, rules)| (entity.name, rules)).collect();
        Self { rules, guarded: false }
    }
}

impl PrivacyOptions {
    fn of(&self, entity: &'static Entity) -> PrivacyRules {
        self.rules.get(entity.family().name).cloned().unwrap_or_default()
    }
}

/// The rules that the stored rows of one entity follow.
#[derive(Default)]
struct Stored {
    excluded: BTreeSet<String>,
    hashed: BTreeSet<String>,
}

impl Stored {
    async fn read(connection: &mut PgConnection, entity: &Entity) -> Result<Self, StoreError> {
        let stored: Option<(Vec<String>, Vec<String>)> =
            sqlx::query_as("select excluded, hashed from privacy_rules where entity = $1")
                .bind(entity.name)
                .fetch_optional(connection)
                .await?;
        let (excluded, hashed) = stored.unwrap_or_default();
        Ok(Self { excluded: excluded.into_iter().collect(), hashed: hashed.into_iter().collect() })
    }

    /// The hashed fields that other rules store as they come.
    fn revealed(&self, rules: &PrivacyRules) -> Vec<&String> {
        let hidden =
            |field: &&String| rules.hashed().contains(*field) || rules.excluded().contains(*field);
        self.hashed.iter().filter(|field| !hidden(field)).collect()
    }
}

/// Logs what became of the rules of an entity.
fn tell(entity: &Entity, rows: u64, overdue: &Overdue, stored: &Stored, rules: &PrivacyRules) {
    let entity = entity.name;
    if !overdue.is_empty() {
        tracing::info!(
            entity,
            rows,
            fields = named(overdue.all()),
            "fields are excluded or hashed now; what was stored of them is erased or hashed, too"
        );
    }
    let back = stored.excluded.intersection(rules.hashed());
    let shown = stored.excluded.union(&stored.hashed);
    let shown = shown
        .filter(|field| !rules.excluded().contains(*field) && !rules.hashed().contains(*field));
    for (fields, told) in [
        (named(back), "fields that were excluded are stored as hashes from now on"),
        (named(shown), "fields are neither excluded nor hashed any more"),
    ] {
        if !fields.is_empty() {
            tracing::info!(entity, fields, "{told}; every record is read again for them");
        }
    }
}

/// Names of fields for a log line.
fn named<'a>(fields: impl Iterator<Item = &'a String>) -> String {
    fields.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Fields of one entity that are to be erased or hashed where they are stored.
#[derive(Default)]
struct Overdue {
    erased: BTreeSet<String>,
    hashed: BTreeSet<String>,
}

impl Store {
    /// The same store under rules; without this call it stores everything as it comes.
    #[must_use]
    pub fn with_privacy(mut self, privacy: PrivacyOptions) -> Self {
        self.privacy = privacy.into();
        self
    }

    /// The same store, which refuses rules that would show more than the stored ones do: for
    /// whoever may have been given other settings than the process that mirrors.
    #[must_use]
    pub fn guarding_privacy(mut self) -> Self {
        Arc::make_mut(&mut self.privacy).guarded = true;
        self
    }

    /// Makes what is stored follow the rules, and gives the rules of every entity with the
    /// schema's key, which is made when there is none. Reads what has been forgotten, too.
    ///
    /// # Errors
    /// [`StoreError::Reveals`] when the rules would show more than they may; then nothing is
    /// changed. [`StoreError::LeaseLost`] when the lease is another's; then, and after every
    /// other error, what is stored of the entity at hand is as it was.
    pub async fn settle_privacy(
        &self,
        generation: Generation,
    ) -> Result<Vec<(&'static Entity, Arc<Privacy>)>, StoreError> {
        if self.privacy.guarded {
            self.refuse_revealing().await?;
        }
        let key = self.hash_key(generation).await?;
        self.remember_forgotten(key.clone()).await?;
        let mut settled = Vec::new();
        for entity in self.entities().await? {
            let rules = self.privacy.of(entity);
            self.settle(generation, entity, &rules, &key).await?;
            settled.push((entity, Arc::new(Privacy::new(rules, key.clone()))));
        }
        Ok(settled)
    }

    /// Only the lease's holder changes the stored rules, so they are still these afterwards.
    async fn refuse_revealing(&self) -> Result<(), StoreError> {
        let entities = self.entities().await?;
        let mut connection = self.pool.acquire().await?;
        let mut lacking = BTreeSet::new();
        for entity in entities.into_iter().filter(|entity| !entity.is_read_whole()) {
            let (stored, wanted) =
                (Stored::read(&mut connection, entity).await?, self.privacy.of(entity));
            for (key, fields) in [
                ("exclude_fields", stored.excluded.difference(wanted.excluded()).collect()),
                ("hash_fields", stored.revealed(&wanted)),
            ] {
                if !fields.is_empty() {
                    let fields: Vec<&str> = fields.iter().map(|field| field.as_str()).collect();
                    let fields = fields.join(", ");
                    let section = entity.family().name;
                    lacking.insert(format!("`entities.{section}.{key}` lacks {fields}"));
                }
            }
        }
        if lacking.is_empty() {
            Ok(())
        } else {
            let lacking = lacking.into_iter().collect::<Vec<_>>().join(", ");
            Err(StoreError::Reveals { lacking })
        }
    }

    async fn hash_key(&self, generation: Generation) -> Result<HashKey, StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        // Two random UUIDs have 244 random bits; the hash makes 32 bytes of them.
        sqlx::query(
            "insert into privacy_salt (salt) \
             select sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')) \
             on conflict do nothing",
        )
        .execute(&mut *transaction)
        .await?;
        let salt: Vec<u8> = sqlx::query_scalar("select salt from privacy_salt")
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        let inconsistent = StoreError::Inconsistent { table: "privacy_salt", column: "salt" };
        Ok(HashKey::new(salt.try_into().map_err(|_| inconsistent)?))
    }

    async fn settle(
        &self,
        generation: Generation,
        entity: &'static Entity,
        rules: &PrivacyRules,
        key: &HashKey,
    ) -> Result<(), StoreError> {
        // Not below the time of anything that has been written.
        let now = self.clock().await?;
        let mut transaction = self.begin_leased(generation).await?;
        let stored = Stored::read(&mut transaction, entity).await?;
        if (&stored.excluded, &stored.hashed) == (rules.excluded(), rules.hashed()) {
            return Ok(());
        }
        let overdue = Overdue {
            erased: rules.excluded() - &stored.excluded,
            hashed: &(rules.hashed() - &stored.hashed) - &stored.excluded,
        };
        let rows = overdue.apply(&mut transaction, entity, key).await?;
        sqlx::query("delete from privacy_reveals where entity = $1 and field = any($2)")
            .bind(entity.name)
            .bind(overdue.all().collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "insert into privacy_reveals (entity, field, revealed_at) \
             select $1, field, $3 from unnest($2::text[]) as field",
        )
        .bind(entity.name)
        .bind(stored.revealed(rules))
        .bind(now)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "insert into privacy_rules (entity, excluded, hashed, applied_at) \
             values ($1, $2, $3, clock_timestamp()) \
             on conflict (entity) do update set excluded = excluded.excluded, \
                hashed = excluded.hashed, applied_at = excluded.applied_at",
        )
        .bind(entity.name)
        .bind(rules.excluded().iter().collect::<Vec<_>>())
        .bind(rules.hashed().iter().collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await?;
        // No mapping has this fingerprint, so every record is read again.
        sqlx::query("update sync_checkpoints set fingerprint = 0 where entity = $1")
            .bind(entity.name)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        tell(entity, rows, &overdue, &stored, rules);
        Ok(())
    }
}

impl Overdue {
    /// Erases or hashes the fields wherever they are stored; returns how many rows that took.
    async fn apply(
        &self,
        connection: &mut PgConnection,
        entity: &'static Entity,
        key: &HashKey,
    ) -> Result<u64, StoreError> {
        if self.is_empty() {
            return Ok(0);
        }
        let [outer, inner] = key.pads();
        let mut rows = 0;
        for statement in self.hashing(entity) {
            rows += sqlx::query(AssertSqlSafe(statement))
                .bind(&outer)
                .bind(&inner)
                .execute(&mut *connection)
                .await?
                .rows_affected();
        }
        for statement in self.erasing(entity) {
            rows += sqlx::query(AssertSqlSafe(statement))
                .execute(&mut *connection)
                .await?
                .rows_affected();
        }
        let custom: Vec<&String> = self.all().filter(|field| !is_declared(entity, field)).collect();
        if !custom.is_empty() {
            let erase = format!(
                "update \"{}\" set custom_fields = custom_fields - $1::text[] \
                 where custom_fields ?| $1::text[]",
                entity.name
            );
            rows += sqlx::query(AssertSqlSafe(erase))
                .bind(&custom)
                .execute(&mut *connection)
                .await?
                .rows_affected();
        }
        // What is hashed in the rows is hashed in the history, and erased with them there.
        let hashed_in_place =
            |field: &&String| self.hashed.contains(*field) && is_declared(entity, field);
        let lines: Vec<String> = self
            .all()
            .filter(|field| !hashed_in_place(field))
            .flat_map(|field| [field.clone(), format!("{field}.VALUE_TYPE")])
            .collect();
        let erase = format!("delete from \"{}_changes\" where field = any($1)", entity.singular);
        rows += sqlx::query(AssertSqlSafe(erase))
            .bind(lines)
            .execute(&mut *connection)
            .await?
            .rows_affected();
        let coded = |field: &String| {
            entity.coded().any(|(place, _)| entity.columns[place].field == field.as_str())
        };
        if self.all().any(coded) {
            // Codes that nothing explains are gathered again where their field is kept.
            let forget = sqlx::query("delete from sync_hidden_codes");
            rows += forget.execute(&mut *connection).await?.rows_affected();
        }
        Ok(rows + self.clear_notes(connection, entity).await?)
    }

    fn is_empty(&self) -> bool {
        self.erased.is_empty() && self.hashed.is_empty()
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.erased.iter().chain(&self.hashed)
    }

    /// Notes of the fields are erased: a fault that stays is noted again, without its value.
    /// Of records that were set aside whole, only the fact is kept.
    async fn clear_notes(
        &self,
        connection: &mut PgConnection,
        entity: &'static Entity,
    ) -> Result<u64, StoreError> {
        let erased =
            sqlx::query("delete from sync_quarantine where entity = $1 and field = any($2)")
                .bind(entity.name)
                .bind(self.all().collect::<Vec<_>>())
                .execute(&mut *connection)
                .await?;
        // Each by its number, since open notes of one kind may not say the same.
        let cleared = sqlx::query(
            "update sync_quarantine set raw = to_json(format('(withheld since, note %s)', id)) \
             where entity = $1 and field = '' and reason <> 'undeliverable'",
        )
        .bind(entity.name)
        .execute(&mut *connection)
        .await?;
        Ok(erased.rows_affected() + cleared.rows_affected())
    }

    /// `$1` and `$2` the key as HMAC mixes it in. What is a hash already stays as it is.
    fn hashing(&self, entity: &'static Entity) -> Vec<String> {
        let mut statements = Vec::new();
        let Entity { name: table, singular, .. } = entity;
        // The field is a name of the declaration.
        let lines = |field: &str| {
            let value = |name: &str| {
                let (value, is_hash) = (format!("{name}_value"), format!("{name}_is_hash"));
                let hash = hash(field, &value);
                format!(
                    "{value} = case when {is_hash} then {value} else {hash} end, \
                     {is_hash} = {value} is not null"
                )
            };
            format!(
                "update \"{singular}_changes\" set {}, {} where field = '{field}'",
                value("old"),
                value("new")
            )
        };
        // From before the field was shown; whatever the clocks have done, it looks like one.
        let in_place = |field: &str, value: &str| {
            let hash = hash(field, value);
            format!(
                "case when t.synced_at < (select revealed_at from privacy_reveals \
                    where entity = '{table}' and field = '{field}') and {} \
                 then {value} else {hash} end",
                looks_hashed(value)
            )
        };
        let (mut sets, mut any) = (String::new(), String::new());
        for column in entity.columns.iter().filter(|column| self.hashed.contains(column.field)) {
            let (name, value) = (format!("\"{}\"", column.name), format!("t.\"{}\"", column.name));
            let (comma, or) = if sets.is_empty() { ("", "") } else { (", ", " or ") };
            let _ = write!(sets, "{comma}{name} = {}", in_place(column.field, &value));
            let _ = write!(any, "{or}{value} is not null");
            statements.push(lines(column.field));
        }
        if !sets.is_empty() {
            statements.push(format!("update \"{table}\" as t set {sets} where {any}"));
        }
        for multi in entity.multi_fields.iter().filter(|multi| self.hashed.contains(multi.field)) {
            // What was derived from the value tells as much as the value.
            let derived = if multi.is_phone() { ", e164 = null" } else { "" };
            statements.push(format!(
                "update \"{}\" as m set value = {}{derived} from \"{table}\" as t \
                 where t.id = m.\"{}\" and m.value is not null",
                multi.table,
                in_place(multi.field, "m.value"),
                entity.key()
            ));
            statements.push(lines(multi.field));
        }
        statements
    }

    fn erasing(&self, entity: &'static Entity) -> Vec<String> {
        let columns = entity.columns.iter().filter(|column| self.erased.contains(column.field));
        let names: Vec<String> = columns.map(|column| format!("\"{}\"", column.name)).collect();
        let tables = entity.multi_fields.iter().filter(|multi| self.erased.contains(multi.field));
        let mut statements: Vec<String> =
            tables.map(|multi| format!("delete from \"{}\"", multi.table)).collect();
        if !names.is_empty() {
            let sets: Vec<String> = names.iter().map(|name| format!("{name} = null")).collect();
            let any: Vec<String> = names.iter().map(|name| format!("{name} is not null")).collect();
            statements.push(format!(
                "update \"{}\" set {} where {}",
                entity.name,
                sets.join(", "),
                any.join(" or ")
            ));
        }
        statements
    }
}

/// Whether the field has a column or a table of its own.
fn is_declared(entity: &'static Entity, field: &str) -> bool {
    entity.position(field).is_some() || entity.multi_fields.iter().any(|multi| multi.field == field)
}

/// Whether a value has the form of a hash.
pub(super) fn looks_hashed(value: &str) -> String {
    format!("(length({value}) = {HASH_DIGITS} and {value} !~ '[^0-9a-f]')")
}

/// The keyed hash of a value, as [`Privacy::value`] computes it.
fn hash(field: &str, value: &str) -> String {
    let normal = match field {
        "PHONE" => {
            format!("coalesce(nullif(regexp_replace({value}, '[^0-9]', '', 'g'), ''), {value})")
        }
        // "C", since other collations would change letters that we leave alone.
        "EMAIL" => format!("lower(btrim({value}, E' \\t\\r\\n') collate \"C\")"),
        _ => value.to_owned(),
    };
    format!(
        "left(encode(sha256($1::bytea || sha256($2::bytea || convert_to({normal}, 'UTF8'))), \
            'hex'), {HASH_DIGITS})"
    )
}
