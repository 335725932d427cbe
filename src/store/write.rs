//! The batch transaction.
//!
//! In this order: prove the lease; look up which records differ; write those; make
//! their children equal; tell the history what changed; open, confirm and resolve quarantine entries; store the progress
//! and the run's counts; commit. Records that PostgreSQL refuses are found by halving the
//! batch between savepoints, so that the rest still goes into the same transaction.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    io,
    ops::Range,
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};
use tokio::time::{sleep, timeout};

use super::{
    Checkpoint, Generation, Run, Seen, Segment, Store, StoreError, SweepStep, checkpoint, children,
    error::state_of,
    history::{Journal, Told},
    quarantine::{self, Entry},
    read, run_log, segments, sweep, upsert,
};
use crate::entity::{
    Entity, RecordId,
    phone::PhoneRules,
    record::{Record, Reject},
};

/// How often a transaction is run again after a deadlock or a lost COMMIT.
const ATTEMPTS: u32 = 5;

/// So many records are written by one statement: enough to make the round trips cheap, and
/// few enough to keep what is on its way to the server small.
const PART: usize = 500;

/// How long a batch may take before its connection counts as dead.
const PATIENCE: Duration = Duration::from_mins(3);

/// What one answer of the portal brought, and the progress it stands for.
#[derive(Debug)]
pub struct Batch<'a> {
    /// What the records are.
    pub entity: &'static Entity,
    /// Proves that the lease is ours.
    pub generation: Generation,
    /// [`Store::clock`] before the request was sent.
    pub asked_at: DateTime<Utc>,
    /// The records; if an ID comes twice, the later copy counts.
    pub records: Vec<Record>,
    /// What could not be decoded at all.
    pub rejects: Vec<Reject>,
    /// Stored with the records.
    pub progress: Progress<'a>,
    /// The run whose counts are stored with the records, this batch's outcome added.
    pub run: Option<&'a Run>,
}

/// The progress that a batch stands for.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// None, as for records that were read again out of turn.
    Nothing,
    /// The state of an incremental cycle.
    Checkpoint(&'a Checkpoint),
    /// How far segments have come: the one that was read, and one whose end it lowered.
    Segments(&'a [Segment]),
    /// How far a sweep has come, and what it did not find.
    Sweep(SweepStep<'a>),
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Records new in the mirror.
    pub inserted: u64,
    /// Records that differed, and tombstones that came to life again.
    pub updated: u64,
    /// Records that came as they are; nothing was touched.
    pub unchanged: u64,
    /// Quarantine entries that this batch opened; those already open do not count again.
    pub quarantined: u64,
    /// Rows that a later answer has written and that differ from this one or are
    /// tombstones. They were left alone and are to be read again at once.
    pub left_alone: Vec<RecordId>,
}

/// How one attempt at a batch failed.
enum Failure {
    /// Nothing was written.
    Clean(StoreError),
    /// The answer to COMMIT was lost.
    CommitUnknown { transaction: String, written: Written, error: StoreError },
}

impl<E: Into<StoreError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Clean(error.into())
    }
}

impl Store {
    /// Writes a batch in one transaction.
    ///
    /// Records that PostgreSQL refuses are set aside in the quarantine, and the rest is
    /// written. Deadlocks are retried, and a lost answer to COMMIT is looked up.
    ///
    /// # Errors
    /// Nothing was written, with one exception: after an error that
    /// [is unavailability](StoreError::is_unavailable) the batch may have been committed,
    /// so read the progress again before going on.
    pub async fn write(&self, batch: Batch<'_>) -> Result<Written, StoreError> {
        self.rewrite(batch, &[]).await
    }

    /// Writes a batch, and those of its records that were `seen` to be wrong whatever
    /// their rows say: a hash that claims to be equal, or a time that is later than any
    /// answer's. Rows that were written since they were seen follow the ordinary rules.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn rewrite(&self, batch: Batch<'_>, seen: &[Seen]) -> Result<Written, StoreError> {
        // Sorted, so that concurrent batches lock rows in the same order.
        let mut records: Vec<&Record> = batch.records.iter().rev().collect();
        records.sort_by_key(|record| record.id());
        records.dedup_by_key(|record| record.id());
        timeout(PATIENCE, self.write_patiently(&batch, &records, seen))
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()).into()))
    }

    async fn write_patiently(
        &self,
        batch: &Batch<'_>,
        records: &[&Record],
        seen: &[Seen],
    ) -> Result<Written, StoreError> {
        let mut attempt = 1;
        loop {
            let error = match self.attempt(batch, records, seen).await {
                Ok(written) => return Ok(written),
                Err(Failure::Clean(error)) if error.is_conflict() => error,
                Err(Failure::Clean(error)) => return Err(error),
                Err(Failure::CommitUnknown { transaction, written, error }) => {
                    if self.was_committed(&transaction, batch).await? {
                        return Ok(written);
                    }
                    error
                }
            };
            if attempt == ATTEMPTS {
                return Err(error);
            }
            tracing::debug!(entity = batch.entity.name, attempt, %error, "batch is written again");
            sleep(pause(attempt)).await;
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        batch: &Batch<'_>,
        records: &[&Record],
        seen: &[Seen],
    ) -> Result<Written, Failure> {
        // Held to the end of the transaction, so that no number is derived by rules that have
        // changed meanwhile.
        let rules = self.phones.hold().await;
        let phones = rules.unwrap_or_else(|| self.phones.unsettled());
        let (mut transaction, transaction_id) = self.begin_known(batch.generation).await?;
        // Looked at inside the transaction: whoever forgets a record waits for its end.
        let content = self.content(batch, records, seen, phones);
        let writing = write_all(&mut transaction, batch, &content).await;
        let written = writing.inspect_err(|error| self.trust.look(error))?;
        // Else every connection of the pool would come to hold the largest batch's memory.
        transaction.shrink_buffers();
        match transaction.commit().await.map_err(StoreError::from) {
            Ok(()) => Ok(written),
            Err(error) if error.is_unavailable() && !error.is_conflict() => {
                Err(Failure::CommitUnknown { transaction: transaction_id, written, error })
            }
            Err(error) => Err(Failure::Clean(error)),
        }
    }

    /// What of a batch is to be written: nothing of what has been forgotten.
    fn content<'a>(
        &self,
        batch: &'a Batch<'_>,
        records: &[&'a Record],
        seen: &'a [Seen],
        phones: PhoneRules,
    ) -> Content<'a> {
        let missing = match batch.progress {
            Progress::Sweep(SweepStep { missing, .. }) => missing,
            _ => &[],
        };
        let mut content = Content {
            records: records.to_vec(),
            rejects: batch.rejects.iter().collect(),
            missing: missing.to_vec(),
            seen,
            manner: Manner { phones, told: self.history.is_kept(batch.entity) },
        };
        if self.forgotten.any() {
            let kept = |id: RecordId| !self.is_forgotten(batch.entity, id);
            content.records.retain(|record| kept(record.id()));
            content.rejects.retain(|reject| reject.id.is_none_or(kept));
            content.missing.retain(|id| kept(*id));
        }
        content
    }

    /// Whether a transaction whose COMMIT got no answer was committed nevertheless.
    ///
    /// The server remembers how transactions ended. The stored progress is compared as
    /// well, because a standby that has taken over may count its transactions anew.
    async fn was_committed(
        &self,
        transaction: &str,
        batch: &Batch<'_>,
    ) -> Result<bool, StoreError> {
        let mut attempt = 1;
        loop {
            let status: Result<Option<String>, sqlx::Error> =
                sqlx::query_scalar("select pg_xact_status($1::text::xid8)")
                    .bind(transaction)
                    .fetch_one(&self.pool)
                    .await;
            match status.as_ref().map(Option::as_deref) {
                Ok(Some("committed")) => return self.has_progress_of(batch).await,
                // The server is still at it, or has not noticed that we are gone.
                Ok(Some("in progress")) if attempt < 100 => sleep(pause(attempt)).await,
                Ok(_) => return Ok(false),
                // An ID from the future of the server that has taken over.
                Err(error) if state_of(error).as_deref() == Some("22023") => return Ok(false),
                Err(_) => status.map(drop)?,
            }
            attempt += 1;
        }
    }

    async fn has_progress_of(&self, batch: &Batch<'_>) -> Result<bool, StoreError> {
        Ok(match batch.progress {
            Progress::Nothing => true,
            Progress::Checkpoint(ours) => {
                self.checkpoint(batch.entity).await?.is_some_and(|stored| {
                    (stored.asked_at, &stored.cycle) == (ours.asked_at, &ours.cycle)
                })
            }
            Progress::Sweep(SweepStep { progress: ours, .. }) => {
                self.sweep_standing(batch.entity).await?.under_way.as_ref() == Some(ours)
            }
            Progress::Segments(ours) => {
                let stored = self.segments(batch.entity).await?;
                let same = |ours: &Segment, stored: &Segment| {
                    (ours.id, ours.cursor, ours.asked_at)
                        == (stored.id, stored.cursor, stored.asked_at)
                };
                ours.iter().all(|ours| stored.iter().any(|stored| same(ours, stored)))
            }
        })
    }
}

/// What of a batch is to be written.
struct Content<'a> {
    /// In the order of their IDs.
    records: Vec<&'a Record>,
    rejects: Vec<&'a Reject>,
    /// What a sweep did not find.
    missing: Vec<RecordId>,
    seen: &'a [Seen],
    manner: Manner,
}

async fn write_all(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    content: &Content<'_>,
) -> Result<Written, StoreError> {
    let Batch { entity, asked_at, .. } = *batch;
    let Content { records, rejects, missing, seen, manner } = content;
    let mut written = Written::default();

    let distrusted = upsert::distrust(connection, entity, seen, asked_at).await?;
    let ids: Vec<i64> = records.iter().map(|record| record.id().get()).collect();
    let known = upsert::known(connection, entity, &ids, asked_at).await?;
    let (mut candidates, mut unchanged) = (Vec::new(), Vec::new());
    for record in records {
        match known.get(&record.id().get()) {
            Some(_) if distrusted.contains(&record.id()) => candidates.push(*record),
            Some(row) if row.hash == record.hash() && !row.deleted => unchanged.push(*record),
            Some(row) if row.newer => written.left_alone.push(record.id()),
            _ => candidates.push(*record),
        }
    }
    let there: Vec<&Record> = candidates
        .iter()
        .copied()
        .filter(|record| known.contains_key(&record.id().get()))
        .collect();
    let completed = complete(connection, entity, &there).await?;
    candidates.retain_mut(|record| {
        let Some(whole) = completed.get(&record.id()) else { return true };
        *record = whole;
        let row = known.get(&record.id().get());
        let equal = row.is_some_and(|row| row.hash == whole.hash() && !row.deleted)
            && !distrusted.contains(&record.id());
        if equal {
            unchanged.push(*record);
        }
        !equal
    });
    written.unchanged = unchanged.len() as u64;

    let Outcome { stored, refused } =
        write_halving(connection, batch, &candidates, *manner).await?;
    for record in &candidates {
        match stored.get(&record.id()) {
            Some(true) => written.inserted += 1,
            Some(false) => written.updated += 1,
            None if refused.iter().any(|entry| entry.record_id == Some(record.id())) => {}
            // Another lane has written it since the look-up.
            None => written.left_alone.push(record.id()),
        }
    }
    written.left_alone.sort_unstable();

    candidates.retain(|record| stored.contains_key(&record.id()));
    let mut faults = refused;
    faults.extend(rejects.iter().map(|reject| Entry::of_reject(reject)));
    written.quarantined =
        quarantine::reconcile(connection, entity, asked_at, &candidates, &unchanged, faults)
            .await?;

    match batch.progress {
        Progress::Nothing => {}
        Progress::Checkpoint(progress) => {
            checkpoint::store_checkpoint(connection, entity, progress).await?;
        }
        Progress::Sweep(SweepStep { progress, .. }) => {
            sweep::store_step(connection, entity, SweepStep { progress, missing }).await?;
        }
        Progress::Segments(progress) => {
            for segment in progress {
                segments::store_segment(connection, segment).await?;
            }
        }
    }
    if let Some(run) = batch.run {
        let mut counts = run.counts;
        counts.add(&written);
        run_log::store_counts(connection, run.id(), &counts).await?;
    }
    Ok(written)
}

/// The records with what their source does not bring taken from what is stored of them; those
/// that are whole already are missing.
async fn complete(
    connection: &mut PgConnection,
    entity: &'static Entity,
    records: &[&Record],
) -> Result<HashMap<RecordId, Record>, StoreError> {
    let mut completed = HashMap::new();
    for part in records.chunks(PART) {
        let ids: Vec<RecordId> = part.iter().map(|record| record.id()).collect();
        let stored = read::records(connection, entity, &ids).await?;
        let mut stored = stored.iter().peekable();
        // Both are in the order of IDs.
        for record in part {
            while stored.next_if(|stored| stored.record.id() < record.id()).is_some() {}
            let own = stored.next_if(|stored| stored.record.id() == record.id());
            let whole = own.and_then(|stored| record.completed(entity, &stored.record));
            completed.extend(whole.map(|whole| (record.id(), whole)));
        }
    }
    Ok(completed)
}

/// What else is written with the records.
#[derive(Clone, Copy)]
struct Manner {
    /// How their numbers get their international form.
    phones: PhoneRules,
    /// Whether their changes are told in the history.
    told: bool,
}

/// What became of the records that differ.
#[derive(Default)]
struct Outcome {
    /// Those that were written, and whether each is new.
    stored: HashMap<RecordId, bool>,
    /// Those that PostgreSQL refused.
    refused: Vec<Entry>,
}

/// Writes records and their children in parts; halves a part when PostgreSQL refuses it,
/// until the refused records stand alone.
async fn write_halving(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    records: &[&Record],
    manner: Manner,
) -> Result<Outcome, StoreError> {
    let mut outcome = Outcome::default();
    let part = |start: usize| start..records.len().min(start + PART);
    let mut ranges: Vec<Range<usize>> = (0..records.len()).step_by(PART).map(part).rev().collect();
    while let Some(range) = ranges.pop() {
        let mut savepoint = connection.begin().await?;
        let part = &records[range.clone()];
        match write_part(&mut savepoint, batch, part, manner).await {
            Ok(stored) => {
                savepoint.commit().await?;
                outcome.stored.extend(stored);
            }
            Err(StoreError::Database(error)) if is_about_data(&error) => {
                savepoint.rollback().await?;
                if let [record] = part {
                    outcome.refused.push(Entry::of_refusal(batch.entity, record, &error));
                } else {
                    let middle = range.start + part.len() / 2;
                    ranges.push(middle..range.end);
                    ranges.push(range.start..middle);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(outcome)
}

async fn write_part(
    connection: &mut PgConnection,
    batch: &Batch<'_>,
    records: &[&Record],
    Manner { phones, told }: Manner,
) -> Result<HashMap<RecordId, bool>, StoreError> {
    let Batch { entity, asked_at, .. } = *batch;
    if !told {
        let stored = upsert::upsert(connection, entity, records, asked_at).await?;
        children::replace(connection, entity, records, &stored, phones, None).await?;
        return Ok(stored);
    }
    let told = Told {
        // What a fill reads for the first time has been in the portal for long.
        new: !matches!(batch.progress, Progress::Segments(_)),
        unmoved: !segments::is_read_again(connection, entity).await?,
    };
    let mut journal = Journal::open(connection, entity, records, told).await?;
    let stored = upsert::upsert(connection, entity, records, asked_at).await?;
    journal.records(records, &stored)?;
    children::replace(connection, entity, records, &stored, phones, Some(&mut journal)).await?;
    journal.close(connection, records, asked_at).await?;
    Ok(stored)
}

/// Whether the server refused the data: SQLSTATE classes 22 (data exception), 23
/// (constraint) and 54 (a limit of the program, as an index entry that is too large).
fn is_about_data(error: &sqlx::Error) -> bool {
    state_of(error).is_some_and(|state| matches!(&state[..2], "22" | "23" | "54"))
}

/// A pause that grows with the attempts and differs between processes.
fn pause(attempt: u32) -> Duration {
    let jitter = RandomState::new().hash_one(attempt) % 50;
    Duration::from_millis(u64::from(attempt.min(10)) * 20 + jitter)
}
