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
    /// A sweep for what was deleted.
    Sweep,
    /// A comparison with the portal.
    Verify,
    /// Some records, read again.
    Refresh,
    /// Some records, removed and kept out.
    Forget,
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

stored_words!(RequestKind {
    Backfill = "backfill",
    Sync = "sync",
    Sweep = "sweep",
    Verify = "verify",
    Refresh = "refresh",
    Forget = "forget",
});

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
    /// When whoever asked for it took it back.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Entities whose complete mirror is read again only because of this request.
    pub refilling: Vec<&'static Entity>,
    /// What the holder has last reported.
    pub progress: Option<serde_json::Value>,
    /// How it ended; `None` while it is open.
    pub end: Option<RequestEnd>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestEnd {
    /// Whether the work came to its end, everywhere it was asked for.
    pub verdict: Verdict,
    /// Whether it came to its end and found the mirror different from the portal.
    pub differs: bool,
    /// One line per entity, for people.
    pub message: String,
    /// What was found, by entity, for programs.
    pub result: Option<serde_json::Value>,
}

impl RequestEnd {
    /// Work that was not done, and why.
    #[must_use]
    pub fn incomplete(message: impl Into<String>) -> Self {
        let (verdict, message) = (Verdict::Incomplete, message.into());
        Self { verdict, differs: false, message, result: None }
    }

    /// Whether the work was done and the mirror is as the portal is, as far as it looked.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.verdict == Verdict::Complete && !self.differs
    }
}

/// The columns of a [`RequestRow`].
macro_rules! columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " id, kind, entities, arguments, created_at, taken_by, cancelled_at, refilling, \
             progress, verdict, message, differs, result ",
            $after
        )
    };
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
    /// did not finish. Closes those that this version cannot read, and says so there.
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
        let row: Option<RequestRow> = sqlx::query_as(columns!(
            "update sync_requests set taken_by = $2, taken_at = clock_timestamp() \
             where id = $1 and finished_at is null returning",
            ""
        ))
        .bind(id)
        .bind(generation.get())
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let Some(row) = row else { return Ok(None) };
        match row.try_into() {
            Ok(request) => Ok(Some(request)),
            Err(error) => {
                // Whoever asked would follow it for ever.
                let why = format!(
                    "not done: {error}; whoever asked may run another version of b24mirror than \
                     the process that mirrors: use the same for both"
                );
                self.finish_request(generation, id, &RequestEnd::incomplete(why)).await?;
                Err(error)
            }
        }
    }

    /// Reports on a request that this generation has taken. Returns whether it is still
    /// wanted, which it is not once it has been [cancelled](Self::cancel_request).
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another generation has taken it since.
    pub async fn report_progress(
        &self,
        generation: Generation,
        id: i64,
        progress: &serde_json::Value,
    ) -> Result<bool, StoreError> {
        let wanted: Option<bool> = sqlx::query_scalar(
            "update sync_requests set progress = $3 \
             where id = $1 and taken_by = $2 and finished_at is null \
             returning cancelled_at is null",
        )
        .bind(id)
        .bind(generation.get())
        .bind(progress)
        .fetch_optional(&self.pool)
        .await?;
        wanted.ok_or(StoreError::LeaseLost)
    }

    /// Takes a request back; needs no lease. The holder stops working for it, and closes
    /// it. Changes nothing about one that is closed.
    pub async fn cancel_request(&self, id: i64) -> Result<(), StoreError> {
        sqlx::query(
            "update sync_requests set cancelled_at = clock_timestamp() \
             where id = $1 and finished_at is null and cancelled_at is null",
        )
        .bind(id)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Notes that an entity's complete mirror is being read again only because of this
    /// request.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another generation has taken it since.
    pub async fn note_refill(
        &self,
        generation: Generation,
        id: i64,
        entity: &'static Entity,
    ) -> Result<(), StoreError> {
        let noted = sqlx::query(
            "update sync_requests set refilling = array_append(array_remove(refilling, $3), $3) \
             where id = $1 and taken_by = $2 and finished_at is null",
        )
        .bind(id)
        .bind(generation.get())
        .bind(entity.name)
        .execute(&self.pool)
        .await?;
        if noted.rows_affected() == 0 { Err(StoreError::LeaseLost) } else { Ok(()) }
    }

    /// Drops what is left of a backfill that nobody wants any more: the mirror was complete
    /// before it, so no record goes missing. Full passes stay, since every record needs them.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn drop_refill(
        &self,
        generation: Generation,
        entity: &'static Entity,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        sqlx::query(
            "delete from backfill_segments \
             where entity = $1 and kind = 'backfill' and not done",
        )
        .bind(entity.name)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Closes a request that this generation has taken.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when another generation has taken it since.
    pub async fn finish_request(
        &self,
        generation: Generation,
        id: i64,
        end: &RequestEnd,
    ) -> Result<(), StoreError> {
        // Whoever forgets a record waits for this, or we for them.
        let mut transaction = self.begin_leased(generation).await?;
        let finished = sqlx::query(
            "update sync_requests set verdict = $3, message = $4, differs = $5, result = $6, \
                finished_at = clock_timestamp() \
             where id = $1 and taken_by = $2 and finished_at is null",
        )
        .bind(id)
        .bind(generation.get())
        .bind(end.verdict.as_str())
        .bind(&end.message)
        .bind(end.differs)
        .bind(&end.result)
        .execute(&mut *transaction)
        .await?;
        if finished.rows_affected() == 0 {
            return Err(StoreError::LeaseLost);
        }
        let result = end.result.as_ref().map(ToString::to_string).unwrap_or_default();
        self.unname_forgotten(&mut transaction, &format!("{} {result}", end.message)).await?;
        Ok(transaction.commit().await?)
    }

    /// Reads a request; `None` if there is none of this number.
    pub async fn request(&self, id: i64) -> Result<Option<Request>, StoreError> {
        let row: Option<RequestRow> =
            sqlx::query_as(columns!("select", "from sync_requests where id = $1"))
                .bind(id)
                .fetch_optional(&self.pool)
                .await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Reads the requests that are not closed yet, the oldest first.
    pub async fn open_requests(&self) -> Result<Vec<Request>, StoreError> {
        let rows: Vec<RequestRow> = sqlx::query_as(columns!(
            "select",
            "from sync_requests where finished_at is null order by id"
        ))
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
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
    cancelled_at: Option<DateTime<Utc>>,
    refilling: Vec<String>,
    progress: Option<serde_json::Value>,
    verdict: Option<String>,
    message: Option<String>,
    differs: bool,
    result: Option<serde_json::Value>,
}

impl TryFrom<RequestRow> for Request {
    type Error = StoreError;

    fn try_from(row: RequestRow) -> Result<Self, StoreError> {
        let inconsistent = |column| StoreError::Inconsistent { table: "sync_requests", column };
        let entities = |names: &[String], column| {
            names
                .iter()
                .map(|name| Entity::by_name(name).ok_or_else(|| inconsistent(column)))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            id: row.id,
            kind: RequestKind::from_word(&row.kind).ok_or_else(|| inconsistent("kind"))?,
            entities: entities(&row.entities, "entities")?,
            arguments: row.arguments,
            created_at: row.created_at,
            taken_by: row.taken_by.map(Generation),
            cancelled_at: row.cancelled_at,
            refilling: entities(&row.refilling, "refilling")?,
            progress: row.progress,
            end: Verdict::read(row.verdict.as_deref(), "sync_requests")?.map(|verdict| {
                RequestEnd {
                    verdict,
                    differs: row.differs,
                    message: row.message.unwrap_or_default(),
                    result: row.result,
                }
            }),
        })
    }
}
