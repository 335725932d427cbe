//! What people have asked the lease's holder to do.

use chrono::{DateTime, Utc};

use super::{Generation, Store, StoreError, words::stored_words};
use crate::entity::Entity;

/// The work that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// A backfill.
    Backfill,
    /// One incremental cycle.
    Sync,
}

/// How work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Everything was read.
    Complete,
    /// It ended early; the next run goes on from there.
    Incomplete,
    /// It cannot go on until somebody helps.
    Stopped,
    /// Its process died.
    Interrupted,
}

stored_words!(RequestKind { Backfill = "backfill", Sync = "sync" });

stored_words!(Verdict {
    Complete = "complete",
    Incomplete = "incomplete",
    Stopped = "stopped",
    Interrupted = "interrupted",
});

impl Verdict {
    /// Reads the stored word of a run or a request back.
    pub(super) fn read(
        word: Option<&str>,
        table: &'static str,
    ) -> Result<Option<Self>, StoreError> {
        word.map(|word| {
            Self::from_word(word).ok_or(StoreError::Inconsistent { table, column: "verdict" })
        })
        .transpose()
    }
}

/// A request and what has become of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The database's own number.
    pub id: i64,
    /// What to do.
    pub kind: RequestKind,
    /// For which entities; empty means all.
    pub entities: Vec<&'static Entity>,
    /// Whatever else the kind needs.
    pub arguments: serde_json::Value,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// The holder that does it.
    pub taken_by: Option<Generation>,
    /// What the holder has last reported.
    pub progress: Option<serde_json::Value>,
    /// How it ended.
    pub verdict: Option<Verdict>,
    /// The verdict in words.
    pub message: Option<String>,
}

impl Store {
    /// Leaves a request for the lease's holder; needs no lease. Returns its number.
    pub async fn enqueue(
        &self,
        kind: RequestKind,
        entities: &[&'static Entity],
        arguments: &serde_json::Value,
    ) -> Result<i64, StoreError> {
        let entities: Vec<&str> = entities.iter().map(|entity| entity.name).collect();
        Ok(sqlx::query_scalar(
            "insert into sync_requests (kind, entities, arguments) values ($1, $2, $3) \
             returning id",
        )
        .bind(kind.as_str())
        .bind(entities)
        .bind(arguments)
        .fetch_one(&self.pool)
        .await?)
    }

    /// Takes the oldest open request, including those that an earlier holder took and
    /// did not finish.
    pub async fn take_open(&self, generation: Generation) -> Result<Option<Request>, StoreError> {
        // Asked every few seconds, so look before taking locks.
        let open: Option<i64> = sqlx::query_scalar(
            "select id from sync_requests \
             where finished_at is null and taken_by is distinct from $1 order by id limit 1",
        )
        .bind(generation.get())
        .fetch_optional(&self.pool)
        .await?;
        let Some(id) = open else { return Ok(None) };
        let mut transaction = self.begin_leased(generation).await?;
        let row: Option<RequestRow> = sqlx::query_as(
            "update sync_requests set taken_by = $2, taken_at = clock_timestamp() \
             where id = $1 and finished_at is null returning id, kind, entities, arguments, \
                created_at, taken_by, progress, verdict, message",
        )
        .bind(id)
        .bind(generation.get())
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Reports on a request that this generation has taken.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another generation has taken it since.
    pub async fn report_progress(
        &self,
        generation: Generation,
        id: i64,
        progress: &serde_json::Value,
    ) -> Result<(), StoreError> {
        let reported = sqlx::query(
            "update sync_requests set progress = $3 \
             where id = $1 and taken_by = $2 and finished_at is null",
        )
        .bind(id)
        .bind(generation.get())
        .bind(progress)
        .execute(&self.pool)
        .await?;
        if reported.rows_affected() == 0 { Err(StoreError::LeaseLost) } else { Ok(()) }
    }

    /// Closes a request that this generation has taken.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another generation has taken it since.
    pub async fn finish_request(
        &self,
        generation: Generation,
        id: i64,
        verdict: Verdict,
        message: &str,
    ) -> Result<(), StoreError> {
        let finished = sqlx::query(
            "update sync_requests \
             set verdict = $3, message = $4, finished_at = clock_timestamp() \
             where id = $1 and taken_by = $2 and finished_at is null",
        )
        .bind(id)
        .bind(generation.get())
        .bind(verdict.as_str())
        .bind(message)
        .execute(&self.pool)
        .await?;
        if finished.rows_affected() == 0 { Err(StoreError::LeaseLost) } else { Ok(()) }
    }

    /// Reads a request; `None` if there is none of this number.
    pub async fn request(&self, id: i64) -> Result<Option<Request>, StoreError> {
        let row: Option<RequestRow> = sqlx::query_as("select id, kind, entities, arguments, created_at, taken_by, progress, verdict, message \
             from sync_requests where id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.map(TryInto::try_into).transpose()
    }
}

#[derive(sqlx::FromRow)]
struct RequestRow {
    id: i64,
    kind: String,
    entities: Vec<String>,
    arguments: serde_json::Value,
    created_at: DateTime<Utc>,
    taken_by: Option<i64>,
    progress: Option<serde_json::Value>,
    verdict: Option<String>,
    message: Option<String>,
}

impl TryFrom<RequestRow> for Request {
    type Error = StoreError;

    fn try_from(row: RequestRow) -> Result<Self, StoreError> {
        let inconsistent = |column| StoreError::Inconsistent { table: "sync_requests", column };
        Ok(Self {
            id: row.id,
            kind: RequestKind::from_word(&row.kind).ok_or_else(|| inconsistent("kind"))?,
            entities: row
                .entities
                .iter()
                .map(|name| Entity::by_name(name).ok_or_else(|| inconsistent("entities")))
                .collect::<Result<_, _>>()?,
            arguments: row.arguments,
            created_at: row.created_at,
            taken_by: row.taken_by.map(Generation),
            progress: row.progress,
            verdict: Verdict::read(row.verdict.as_deref(), "sync_requests")?,
            message: row.message,
        })
    }
}
