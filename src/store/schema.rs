//! The mirror's schema: its name and its migrations.

use std::{collections::BTreeSet, fmt, str::FromStr};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, migrate::MigrateError};

use super::{Store, StoreError};

/// The first half of the advisory lock's key; the second is the schema's name.
const MIGRATION_LOCK: i32 = 0x6232_346d;

/// The name of the mirror's schema; safe to quote into SQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SchemaName(String);

impl SchemaName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SchemaName {
    type Err = StoreError;

    fn from_str(name: &str) -> Result<Self, StoreError> {
        let refuse = |reason| Err(StoreError::SchemaName { name: name.to_owned(), reason });
        if name.is_empty() || name.len() > 63 {
            return refuse("it must have 1 to 63 characters");
        }
        let mut bytes = name.bytes();
        if !bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
            || !bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            return refuse("only a-z, 0-9 and _ are allowed, and no digit at the start");
        }
        if name.starts_with("pg_") || name == "information_schema" {
            return refuse("PostgreSQL keeps this name for itself");
        }
        Ok(Self(name.to_owned()))
    }
}

/// How the schema in the database relates to the migrations in this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaState {
    /// Never migrated.
    Missing,
    /// Migrated by an older program; `migrate` brings it up to date.
    Older,
    /// What this program expects.
    Current,
    /// Migrated by a newer program, which this one must not write to.
    Newer,
}

impl Store {
    /// Creates the schema if it is missing and runs the migrations that it lacks, under
    /// a lock, so that several processes may call this at once.
    ///
    /// # Errors
    /// [`StoreError::SchemaNewer`], [`StoreError::Denied`], [`StoreError::Migration`].
    pub async fn migrate(&self) -> Result<(), StoreError> {
        // A connection of its own: closing it gives the lock back whatever happens.
        let mut connection = self.pool.acquire().await?.detach();
        let outcome = self.migrate_on(&mut connection).await;
        let _ = connection.close().await;
        outcome
    }

    async fn migrate_on(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        sqlx::query("select pg_advisory_lock($1, hashtext($2))")
            .bind(MIGRATION_LOCK)
            .bind(self.schema.as_str())
            .execute(&mut *connection)
            .await?;
        let exists: bool =
            sqlx::query_scalar("select exists (select from pg_namespace where nspname = $1)")
                .bind(self.schema.as_str())
                .fetch_one(&mut *connection)
                .await?;
        // Not `if not exists`: that asks for the right to create schemas even where an
        // administrator has already created this one.
        if !exists {
            let create = format!("create schema \"{}\"", self.schema);
            sqlx::query(AssertSqlSafe(create)).execute(&mut *connection).await?;
        }
        let mut migrator = sqlx::migrate!("./migrations");
        migrator.set_locking(false);
        migrator.run_direct(None, connection, false).await.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: MigrateError) -> StoreError {
        let schema = self.schema.clone();
        match error {
            MigrateError::VersionMissing(_) => StoreError::SchemaNewer { schema },
            MigrateError::Execute(source) => source.into(),
            MigrateError::ExecuteMigration(source, version) => match source.into() {
                StoreError::Database(source) => {
                    let source = MigrateError::ExecuteMigration(source.into_inner(), version);
                    StoreError::Migration { schema, source: source.into() }
                }
                other => other,
            },
            source => StoreError::Migration { schema, source: source.into() },
        }
    }

    /// Compares the schema in the database with this program's migrations.
    pub async fn schema_state(&self) -> Result<SchemaState, StoreError> {
        let table: Option<String> =
            sqlx::query_scalar("select to_regclass('_sqlx_migrations')::text")
                .fetch_one(&self.pool)
                .await?;
        if table.is_none() {
            return Ok(SchemaState::Missing);
        }
        let applied: BTreeSet<i64> =
            sqlx::query_scalar("select version from _sqlx_migrations where success")
                .fetch_all(&self.pool)
                .await?
                .into_iter()
                .collect();
        let ours: BTreeSet<i64> =
            sqlx::migrate!("./migrations").iter().map(|migration| migration.version).collect();
        Ok(if applied.is_empty() {
            SchemaState::Missing
        } else if !applied.is_subset(&ours) {
            SchemaState::Newer
        } else if applied == ours {
            SchemaState::Current
        } else {
            SchemaState::Older
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_schema_names_are_accepted() {
        for name in ["bitrix24", "_x", "user", &"a".repeat(63)] {
            assert_eq!(name.parse::<SchemaName>().unwrap().as_str(), name);
        }
        for name in ["", "Bitrix", "1a", "a-b", "a\"b", "ж", "pg_x", &"a".repeat(64)] {
            let error = name.parse::<SchemaName>().unwrap_err();
            assert!(error.to_string().contains("database.schema"), "{error}");
        }
    }
}
