//! Where the mirror goes: PostgreSQL, and nothing but PostgreSQL.
//!
//! This module promises that
//! - a batch's rows, its child rows, its quarantine notes and the progress that they
//!   stand for commit in one transaction, or not at all;
//! - nothing is written by a process that has lost the lease;
//! - a record that came unchanged costs no row lock, no dead tuple and no WAL;
//! - an answer that was asked for earlier never overwrites one that was asked for later;
//! - what PostgreSQL refuses is set aside with its reason and never stops the rest;
//! - nothing is written of a record that has been forgotten.
//!
//! Table names are unqualified everywhere: the schema comes from the connection's
//! `search_path`. Statements are literals, or made once from the declarations' names;
//! everything else is bound.

mod checkpoint;
mod children;
mod connect;
mod dictionaries;
mod error;
mod field_options;
mod fields;
mod forgotten;
mod health;
mod history;
mod in_sight;
mod indexes;
mod lease;
mod pauses;
mod phones;
mod portal;
mod privacy;
mod quarantine;
mod read;
mod refusals;
mod repair;
mod reporting;
mod requests;
mod retention;
mod rolling;
mod run_log;
mod schema;
mod segments;
mod smart_processes;
mod statements;
mod sweep;
mod switches;
mod tokens;
mod trust;
mod upsert;
mod verify_statements;
mod words;
mod write;

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sqlx::{PgPool, Postgres, Transaction};

pub use self::{
    checkpoint::{Checkpoint, ClockShift, Successor, Watermark},
    dictionaries::{Code, DictionaryRows, DictionaryStanding},
    error::{DriverError, MigrationError, StoreError},
    forgotten::Removed,
    health::{Health, HealthSince},
    history::HistoryOptions,
    lease::{Acquired, Generation, HolderWait, Lease, LeaseRow},
    pauses::Pause,
    portal::{PortalClaim, PortalIdentity, PortalRow},
    privacy::PrivacyOptions,
    quarantine::QuarantineCount,
    read::{LiveRange, RecordCounts, Stored, StoredKey},
    refusals::Refusal,
    repair::Seen,
    reporting::ReportStanding,
    requests::{Request, RequestEnd, RequestKind, Verdict},
    rolling::RollingRound,
    run_log::{Run, RunCounts, RunKind, RunRow},
    schema::{SchemaName, SchemaState},
    segments::{Fill, Foretold, Segment, SegmentKind},
    smart_processes::SmartProcess,
    sweep::{Confirmed, MirrorKey, SweepProgress, SweepStanding, SweepStep},
    tokens::{InvalidTokenKey, StoredTokens, TokenKey},
    write::{Batch, Progress, Written},
};
use self::{forgotten::Forgotten, phones::Phones, run_log::Unlogged, trust::Trust};

/// What the store needs to know about its database.
pub struct StoreOptions {
    /// `postgres://user:password@host/database`; sockets as `?host=/directory`.
    pub url: SecretString,
    /// The schema that holds the mirror.
    pub schema: SchemaName,
    /// Upper bound of open connections.
    pub max_connections: u32,
    /// How the connections call themselves in `pg_stat_activity`.
    pub application_name: String,
}

/// A mirror's schema in a database. Cheap to clone; clones share one pool.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    schema: SchemaName,
    trust: Trust,
    unlogged: Arc<Unlogged>,
    phones: Arc<Phones>,
    history: Arc<HistoryOptions>,
    privacy: Arc<PrivacyOptions>,
    forgotten: Arc<Forgotten>,
    token_key: Option<Arc<TokenKey>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Store {
    /// Connects and looks at the server once, so that wrong settings show at once.
    ///
    /// # Errors
    /// [`StoreError::is_misconfigured`] when waiting cannot help, otherwise mostly
    /// [`StoreError::is_unavailable`].
    pub async fn connect(options: &StoreOptions) -> Result<Self, StoreError> {
        connect::connect(options).await
    }

    /// The schema of the mirror.
    #[must_use]
    pub const fn schema(&self) -> &SchemaName {
        &self.schema
    }

    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// The database's clock, never below the highest `asked_at` of any stored progress:
    /// what a batch takes as `asked_at` before its request is sent.
    pub async fn clock(&self) -> Result<DateTime<Utc>, StoreError> {
        sqlx::query_scalar(
            "select greatest(clock_timestamp(), \
                (select max(asked_at) from sync_checkpoints), \
                (select max(asked_at) from backfill_segments), \
                (select max(asked_at) from sweeps))",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::from)
        .inspect_err(|error| self.trust.look(error))
    }

    /// Begins a transaction.
    ///
    /// Work is given up wherever it waits. The driver would forget a transaction whose
    /// BEGIN is given up before it is answered, and hand its connection on inside of it;
    /// so a task that nobody gives up waits for that answer.
    async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        let pool = self.pool.clone();
        match tokio::spawn(async move { pool.begin().await }).await {
            Ok(begun) => Ok(begun?),
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The process is ending.
                Err(_) => Err(sqlx::Error::PoolClosed.into()),
            },
        }
    }

    /// Begins a transaction that holds the lease to its end, hence writes nothing
    /// unless the lease is ours.
    async fn begin_leased(
        &self,
        generation: Generation,
    ) -> Result<Transaction<'static, Postgres>, StoreError> {
        Ok(self.begin_known(generation).await?.0)
    }

    /// The same with the transaction's ID, by which the server can tell later how it ended.
    async fn begin_known(
        &self,
        generation: Generation,
    ) -> Result<(Transaction<'static, Postgres>, String), StoreError> {
        let mut transaction = self.begin().await?;
        let held = lease::hold(&mut transaction, generation).await;
        let id = held.inspect_err(|error| self.trust.look(error))?;
        Ok((transaction, id))
    }
}
