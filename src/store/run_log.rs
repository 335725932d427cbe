//! The log of passes that did something.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};

use sqlx::PgConnection;

use super::{
    Generation, Store, StoreError, Verdict, Written,
    words::{read_count, stored_count, stored_words},
};
use crate::entity::Entity;

/// Of a run whose end could not be recorded when it came.
pub(super) const UNRECORDED: &str = "how it ended could not be recorded";

/// What kind of pass a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// The first fill, or a full pass over a filled mirror.
    Backfill,
    /// An incremental cycle.
    Incremental,
    /// A sweep for what was deleted, asked for or scheduled.
    Sweep,
    /// A comparison that a person asked for.
    Verify,
    /// Records that a person had read again.
    Refresh,
    /// A share of the scheduled comparison of all content.
    RollingCheck,
}

stored_words!(RunKind {
    Backfill = "backfill",
    Incremental = "incremental",
    Sweep = "sweep",
    Verify = "verify",
    Refresh = "refresh",
    RollingCheck = "rolling_check",
});

/// What a run has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunCounts {
    /// HTTP requests sent, retries included.
    pub requests: u64,
    /// How many of them were retries.
    pub retries: u64,
    /// Time spent waiting for the portal's limits; stored in milliseconds.
    pub waited: Duration,
    /// Records read.
    pub read: u64,
    /// Records new in the mirror.
    pub inserted: u64,
    /// Records that differed.
    pub updated: u64,
    /// Records that came as they are.
    pub unchanged: u64,
    /// Tombstones set.
    pub deleted: u64,
    /// Records and values set aside.
    pub quarantined: u64,
}

impl RunCounts {
    /// Adds what became of a batch.
    pub fn add(&mut self, written: &Written) {
        self.inserted += written.inserted;
        self.updated += written.updated;
        self.unchanged += written.unchanged;
        self.quarantined += written.quarantined;
    }
}

/// A run under way. The caller counts in `counts`; each batch stores them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    id: i64,
    /// What it has done; a batch adds its own outcome when it stores them, and the
    /// caller adds the batch's [`Written`] afterwards by [`RunCounts::add`].
    pub counts: RunCounts,
}

impl Run {
    /// The database's own number.
    #[must_use]
    pub const fn id(&self) -> i64 {
        self.id
    }
}

/// How a run ended.
#[derive(Debug)]
struct End {
    run: Run,
    verdict: Verdict,
    message: Option<String>,
}

/// Runs that ended while the database was away. A run without an end would pass for one
/// that is under way.
#[derive(Debug, Default)]
pub(super) struct Unlogged(Mutex<Vec<End>>);

impl Unlogged {
    fn push(&self, end: End) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(end);
    }

    fn pop(&self) -> Option<End> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// A run as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// The database's own number.
    pub id: i64,
    /// What kind of pass it is.
    pub kind: RunKind,
    /// When it began, by the database's clock.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// What it did.
    pub counts: RunCounts,
    /// How it ended.
    pub verdict: Option<Verdict>,
    /// The verdict in words.
    pub message: Option<String>,
}

impl Store {
    /// Begins a run. There is one of a kind at a time, so one that is still open has come to
    /// an end that could not be recorded, and is closed as incomplete.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's.
    pub async fn begin_run(
        &self,
        generation: Generation,
        entity: &'static Entity,
        kind: RunKind,
    ) -> Result<Run, StoreError> {
        self.log_ends().await?;
        let mut transaction = self.begin_leased(generation).await?;
        close_open_runs(&mut transaction, Some((entity, kind)), UNRECORDED).await?;
        let id = sqlx::query_scalar(
            "insert into sync_runs (entity, kind, generation) values ($1, $2, $3) returning id",
        )
        .bind(entity.name)
        .bind(kind.as_str())
        .bind(generation.get())
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Run { id, counts: RunCounts::default() })
    }

    /// Stores a run's counts apart from a batch.
    pub async fn save_run(&self, run: &Run) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        store_counts(&mut connection, run.id, &run.counts).await
    }

    /// Stores a run's counts and how it ended. A run that a new holder of the lease has
    /// closed as interrupted stays so.
    ///
    /// # Errors
    /// When the database is away, the end is kept, and logged when the lease is renewed or
    /// given back.
    pub async fn finish_run(
        &self,
        run: Run,
        verdict: Verdict,
        message: Option<&str>,
    ) -> Result<(), StoreError> {
        let end = End { run, verdict, message: message.map(str::to_owned) };
        self.log_end(end).await
    }

    /// Logs the ends that could not be logged before.
    pub(super) async fn log_ends(&self) -> Result<(), StoreError> {
        while let Some(end) = self.unlogged.pop() {
            self.log_end(end).await?;
        }
        Ok(())
    }

    async fn log_end(&self, end: End) -> Result<(), StoreError> {
        let logged = self.store_end(&end).await;
        if logged.as_ref().is_err_and(StoreError::is_unavailable) {
            self.unlogged.push(end);
        }
        logged
    }

    async fn store_end(&self, end: &End) -> Result<(), StoreError> {
        let End { run, verdict, message } = end;
        let mut transaction = self.begin().await?;
        store_counts(&mut transaction, run.id, &run.counts).await?;
        sqlx::query(
            "update sync_runs \
             set verdict = $2, message = $3, finished_at = clock_timestamp() \
             where id = $1 and finished_at is null",
        )
        .bind(run.id)
        .bind(verdict.as_str())
        .bind(message)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Closes the runs of a kind that were given up where they stood, and says why.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's.
    pub async fn close_runs(
        &self,
        generation: Generation,
        entity: &'static Entity,
        kind: RunKind,
        message: &str,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        close_open_runs(&mut transaction, Some((entity, kind)), message).await?;
        Ok(transaction.commit().await?)
    }

    /// Adds up the records of the runs of a kind that were under way at some time since.
    pub async fn records_since(
        &self,
        entity: &'static Entity,
        kind: RunKind,
        since: DateTime<Utc>,
    ) -> Result<RunCounts, StoreError> {
        let (read, inserted, updated, unchanged, quarantined): (i64, i64, i64, i64, i64) =
            sqlx::query_as(
                "select coalesce(sum(read), 0)::bigint, coalesce(sum(inserted), 0)::bigint, \
                    coalesce(sum(updated), 0)::bigint, coalesce(sum(unchanged), 0)::bigint, \
                    coalesce(sum(quarantined), 0)::bigint \
                 from sync_runs \
                 where entity = $1 and kind = $2 and coalesce(finished_at, 'infinity') >= $3",
            )
            .bind(entity.name)
            .bind(kind.as_str())
            .bind(since)
            .fetch_one(&self.pool)
            .await?;
        Ok(RunCounts {
            read: read_count(read),
            inserted: read_count(inserted),
            updated: read_count(updated),
            unchanged: read_count(unchanged),
            quarantined: read_count(quarantined),
            ..RunCounts::default()
        })
    }

    /// How long ago the last complete run of a kind began; `None` where none is on record.
    pub async fn since_last(
        &self,
        entity: &'static Entity,
        kind: RunKind,
    ) -> Result<Option<Duration>, StoreError> {
        let seconds: Option<f64> = sqlx::query_scalar(
            "select extract(epoch from clock_timestamp() - ( \
                select started_at from sync_runs \
                where entity = $1 and kind = $2 and verdict = 'complete' \
                order by id desc limit 1))::float8",
        )
        .bind(entity.name)
        .bind(kind.as_str())
        .fetch_one(&self.pool)
        .await?;
        Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
    }

    /// How long ago the first fill ended; `None` where none is on record.
    pub async fn since_filled(
        &self,
        entity: &'static Entity,
    ) -> Result<Option<Duration>, StoreError> {
        let seconds: Option<f64> = sqlx::query_scalar(
            "select extract(epoch from clock_timestamp() - ( \
                select finished_at from sync_runs \
                where entity = $1 and kind = 'backfill' and verdict = 'complete' \
                order by id limit 1))::float8",
        )
        .bind(entity.name)
        .fetch_one(&self.pool)
        .await?;
        Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
    }

    /// Reads an entity's latest runs, the newest first.
    pub async fn runs(
        &self,
        entity: &'static Entity,
        limit: u32,
    ) -> Result<Vec<RunRow>, StoreError> {
        let rows: Vec<StoredRun> = sqlx::query_as(
            "select id, kind, started_at, finished_at, requests, retries, waited_ms, read, \
                inserted, updated, unchanged, deleted, quarantined, verdict, message \
             from sync_runs where entity = $1 order by id desc limit $2",
        )
        .bind(entity.name)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }
}

/// Closes open runs as incomplete: those of a kind and entity, or all of them.
pub(super) async fn close_open_runs(
    connection: &mut PgConnection,
    of: Option<(&'static Entity, RunKind)>,
    message: &str,
) -> Result<(), StoreError> {
    let (entity, kind) = of.map(|(entity, kind)| (entity.name, kind.as_str())).unzip();
    sqlx::query(
        "update sync_runs \
         set verdict = 'incomplete', message = $3, finished_at = clock_timestamp() \
         where finished_at is null and ($1 is null or entity = $1) and ($2 is null or kind = $2)",
    )
    .bind(entity)
    .bind(kind)
    .bind(message)
    .execute(connection)
    .await?;
    Ok(())
}

/// Stores a run's counts, inside a batch's transaction or apart from one. Once the run
/// is closed they no longer change.
pub(super) async fn store_counts(
    connection: &mut PgConnection,
    id: i64,
    counts: &RunCounts,
) -> Result<(), StoreError> {
    let waited_ms = u64::try_from(counts.waited.as_millis()).unwrap_or(u64::MAX);
    sqlx::query(
        "update sync_runs set requests = $2, retries = $3, waited_ms = $4, read = $5, \
            inserted = $6, updated = $7, unchanged = $8, deleted = $9, quarantined = $10 \
         where id = $1 and finished_at is null",
    )
    .bind(id)
    .bind(stored_count(counts.requests))
    .bind(stored_count(counts.retries))
    .bind(stored_count(waited_ms))
    .bind(stored_count(counts.read))
    .bind(stored_count(counts.inserted))
    .bind(stored_count(counts.updated))
    .bind(stored_count(counts.unchanged))
    .bind(stored_count(counts.deleted))
    .bind(stored_count(counts.quarantined))
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct StoredRun {
    id: i64,
    kind: String,
    started_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    requests: i64,
    retries: i64,
    waited_ms: i64,
    read: i64,
    inserted: i64,
    updated: i64,
    unchanged: i64,
    deleted: i64,
    quarantined: i64,
    verdict: Option<String>,
    message: Option<String>,
}

impl TryFrom<StoredRun> for RunRow {
    type Error = StoreError;

    fn try_from(row: StoredRun) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            kind: RunKind::from_word(&row.kind)
                .ok_or(StoreError::Inconsistent { table: "sync_runs", column: "kind" })?,
            started_at: row.started_at,
            finished_at: row.finished_at,
            counts: RunCounts {
                requests: read_count(row.requests),
                retries: read_count(row.retries),
                waited: Duration::from_millis(read_count(row.waited_ms)),
                read: read_count(row.read),
                inserted: read_count(row.inserted),
                updated: read_count(row.updated),
                unchanged: read_count(row.unchanged),
                deleted: read_count(row.deleted),
                quarantined: read_count(row.quarantined),
            },
            verdict: Verdict::read(row.verdict.as_deref(), "sync_runs")?,
            message: row.message,
        })
    }
}
