//! A private PostgreSQL server with the settings that the daemon's own would have.

use anyhow::Context as _;
use b24mirror::local_postgres::{LocalOptions, LocalPostgres};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, postgres::PgPoolOptions};
use tempfile::TempDir;

/// A running server: fsync, checksums and full page writes are on, as a user has them.
pub(crate) struct Server {
    // Stopped before its directory is removed.
    postgres: LocalPostgres,
    /// The server's directory; it may write files there.
    pub(crate) home: TempDir,
}

/// A database of the server.
pub(crate) struct Database {
    /// The address, with which the mirror is told about it.
    pub(crate) url: SecretString,
    /// Connections of the benchmark's own.
    pub(crate) pool: PgPool,
}

impl Server {
    /// Starts a server in a temporary directory.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("b24mirror-bench-").tempdir()?;
        let postgres = LocalPostgres::start(LocalOptions::new(home.path())).await?;
        Ok(Self { postgres, home })
    }

    /// Creates a database.
    pub(crate) async fn database(&self, name: &str) -> anyhow::Result<Database> {
        self.postgres.create_database(name).await?;
        let url = self.postgres.url(name);
        let pool = PgPoolOptions::new().max_connections(4).connect(url.expose_secret()).await?;
        Ok(Database { url, pool })
    }

    /// Stops the server and removes its directory.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.postgres.stop().await?;
        Ok(self.home.close()?)
    }
}

impl Database {
    /// Drops the database, so that nothing of it runs on beside the next measurement.
    pub(crate) async fn discard(self) -> anyhow::Result<()> {
        let options = self.pool.connect_options();
        let name = options.get_database().context("the database has no name")?;
        self.pool.close().await;
        let mut admin =
            PgConnection::connect_with(&(*options).clone().database("postgres")).await?;
        let drop = format!("drop database \"{name}\" with (force)");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut admin).await?;
        Ok(admin.close().await?)
    }

    /// Runs a statement.
    pub(crate) async fn run(&self, sql: &str) -> anyhow::Result<()> {
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        query.execute(&self.pool).await.with_context(|| sql.to_owned())?;
        Ok(())
    }

    /// Asks for one whole number.
    pub(crate) async fn count(&self, sql: &str) -> anyhow::Result<u64> {
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql.to_owned()));
        let value = query.fetch_one(&self.pool).await.with_context(|| sql.to_owned())?;
        Ok(u64::try_from(value)?)
    }

    /// How much write-ahead log the server has written so far, in bytes.
    pub(crate) async fn wal_bytes(&self) -> anyhow::Result<u64> {
        self.count("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint").await
    }
}
