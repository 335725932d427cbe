//! One entity's mirror: the reader and the store joined, and the step that every pass
//! ends with: rows in, one transaction, and what was left alone read again.

use std::{
    collections::BTreeSet,
    ops::AddAssign,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Mirrored, SyncError,
    causes::Causes,
    checks::CheckOptions,
    counted,
    dictionaries::{Codes, Unsettled},
    halt::Halt,
    pauses::Pausing,
    progress::ProgressBoard,
    reader::{Question, Reader, Reply},
    recent::Recent,
    reporting::ReportBell,
    room::{Memory, Room},
};
use crate::{
    entity::{
        Entity, RecordId, Sight, catalogue::Catalogue, decode::Decoded, dictionary::Dictionary,
        privacy::Privacy, record::Record,
    },
    portal::{Changes, Lane, Meter, Portal, PortalTime},
    retry::RetryPolicy,
    store::{
        Batch, Checkpoint, Generation, Progress, Run, RunCounts, RunKind, Segment, Store, Verdict,
    },
};

/// The probes of the filter are repeated this often.
const PROBE_INTERVAL: Duration = Duration::from_hours(1);

/// Rows left alone are read again at most so often; each time only what another lane
/// wrote in between is left.
const REREADS: usize = 5;

/// What passes did, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that came, decodable or not.
    pub read: u64,
    /// Records that were new here.
    pub inserted: u64,
    /// Records whose content differed.
    pub updated: u64,
    /// Records that were the same.
    pub unchanged: u64,
    /// Records that got a tombstone.
    pub deleted: u64,
    /// Quarantine notes and rejects.
    pub quarantined: u64,
}

impl Tally {
    /// Whether anything was written.
    #[must_use]
    pub const fn wrote(&self) -> bool {
        self.inserted + self.updated + self.deleted + self.quarantined > 0
    }

    /// What people have to know of the quarantine, to be put behind the rest of a line.
    pub(super) fn told_notes(&self) -> String {
        match self.quarantined {
            0 => String::new(),
            notes => format!(", {} in the quarantine", counted(notes, "note")),
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.deleted += other.deleted;
        self.quarantined += other.quarantined;
    }
}

/// The rows of one answer, on their way into the database.
pub(super) struct Brought {
    /// The database's clock before they were asked for.
    pub(super) asked_at: DateTime<Utc>,
    pub(super) rows: Vec<Decoded>,
    pub(super) memory: Memory,
}

/// What every mirror of a session shares.
#[derive(Clone)]
pub(super) struct Ground {
    pub(super) store: Store,
    pub(super) portal: Portal,
    pub(super) generation: Generation,
    pub(super) overlap: chrono::Duration,
    pub(super) retry: RetryPolicy,
    pub(super) board: ProgressBoard,
    pub(super) room: Room,
    /// Which codes are explained.
    pub(super) codes: Codes,
    /// Which failures were told lately.
    pub(super) causes: Causes,
    /// Chains of one backfill that may be in flight at once.
    pub(super) max_in_flight: usize,
    pub(super) checks: CheckOptions,
    /// Rung when fields change.
    pub(super) reports: ReportBell,
    /// When the work has to end.
    pub(super) halt: Halt,
}

/// One entity's mirror under one lease.
pub struct Mirror {
    entity: &'static Entity,
    ground: Ground,
    reader: Reader,
    pausing: Pausing,
    learnt: Arc<Learnt>,
}

/// What a process learns of an entity as it works, whichever piece of work learns it.
struct Learnt {
    /// Held by whoever performs a cycle: cycles share a checkpoint.
    turn: tokio::sync::Mutex<()>,
    /// A daemon's cycles keep the mirror fresh while other work goes on.
    on_schedule: AtomicBool,
    /// The first new cycle of a process is deep: what happened while it was away may
    /// have become visible late.
    first_cycle: AtomicBool,
    recent: Mutex<Recent>,
    probed: Mutex<Option<Instant>>,
    /// Who is not listed, and was found or may be there all the same.
    unlisted: Mutex<BTreeSet<RecordId>>,
    /// How changes are found, as it is noted in the database.
    changes: Mutex<Option<Changes>>,
    stored_catalogue: Mutex<Option<Arc<Catalogue>>>,
}

impl Mirror {
    pub(super) fn new(
        Mirrored { entity, dialect, product_rows, .. }: Mirrored,
        ground: Ground,
        pausing: Pausing,
        privacy: Arc<Privacy>,
    ) -> Self {
        let (portal, room) = (ground.portal.clone(), ground.room.clone());
        let reader = Reader::new(entity, dialect, portal, ground.retry, room);
        let reader = if product_rows { reader.with_product_rows() } else { reader };
        Self {
            entity,
            reader: reader.keeping(privacy),
            ground,
            pausing,
            learnt: Arc::new(Learnt {
                turn: tokio::sync::Mutex::new(()),
                on_schedule: AtomicBool::new(false),
                first_cycle: AtomicBool::new(true),
                recent: Mutex::default(),
                probed: Mutex::new(None),
                unlisted: Mutex::default(),
                changes: Mutex::new(None),
                stored_catalogue: Mutex::new(None),
            }),
        }
    }

    /// The same mirror for a piece of work that can be ended by itself.
    pub(super) fn under(&self, halt: Halt) -> Self {
        Self {
            entity: self.entity,
            ground: Ground { halt, ..self.ground.clone() },
            reader: self.reader.clone(),
            pausing: self.pausing.clone(),
            learnt: Arc::clone(&self.learnt),
        }
    }

    /// The entity that is mirrored.
    #[must_use]
    pub const fn entity(&self) -> &'static Entity {
        self.entity
    }

    pub(super) const fn store(&self) -> &Store {
        &self.ground.store
    }

    pub(super) const fn portal(&self) -> &Portal {
        &self.ground.portal
    }

    /// The method that lists the records; the portal's operating time is counted by it.
    pub(super) fn list_method(&self) -> &'static str {
        self.reader.source.method()
    }

    /// What the source shows of the entity.
    pub(super) fn sight(&self) -> Sight {
        self.entity.sight(self.reader.dialect())
    }

    pub(super) const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The database's clock. Reading may be given up when the work has to end; only
    /// writing may not.
    pub(super) async fn now(&self) -> Result<DateTime<Utc>, SyncError> {
        self.unless_stopped(async { Ok(self.store().clock().await?) }).await
    }

    /// Who is not listed and need not be looked for by every cycle.
    pub(super) fn unlisted(&self) -> BTreeSet<RecordId> {
        self.learnt.unlisted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn keep_unlisted(&self, unlisted: BTreeSet<RecordId>) {
        *self.learnt.unlisted.lock().unwrap_or_else(PoisonError::into_inner) = unlisted;
    }

    /// The entity's checkpoint.
    pub(super) async fn checkpoint(&self) -> Result<Option<Checkpoint>, SyncError> {
        self.unless_stopped(async { Ok(self.store().checkpoint(self.entity).await?) }).await
    }

    /// The fingerprint of how records become rows, by the settings too.
    pub(super) fn fingerprint(&self) -> i64 {
        self.reader.fingerprint()
    }

    /// The entity's ID ranges, read ones included.
    pub(super) async fn segments(&self) -> Result<Vec<Segment>, SyncError> {
        self.unless_stopped(async { Ok(self.store().segments(self.entity).await?) }).await
    }

    /// Asks the portal, unless the work has to end first.
    pub(super) async fn ask(&self, lane: Lane, question: &Question) -> Result<Reply, SyncError> {
        self.unless_stopped(self.reader.read(lane, question)).await
    }

    /// The newest record IDs, highest first, with the clock of the answer.
    pub(super) async fn newest(
        &self,
        lane: Lane,
    ) -> Result<(Vec<RecordId>, Option<PortalTime>), SyncError> {
        self.unless_stopped(self.reader.newest(lane)).await
    }

    pub(super) async fn unless_stopped<T>(
        &self,
        asking: impl Future<Output = Result<T, SyncError>>,
    ) -> Result<T, SyncError> {
        self.stop().run_until_cancelled(asking).await.unwrap_or(Err(SyncError::Stopping))
    }

    pub(super) const fn generation(&self) -> Generation {
        self.ground.generation
    }

    /// Whether this process has not noted before that changes are found so.
    pub(super) fn are_news(&self, changes: Changes) -> bool {
        *self.learnt.changes.lock().unwrap_or_else(PoisonError::into_inner) != Some(changes)
    }

    /// It is noted how changes are found.
    pub(super) fn learn_changes(&self, changes: Changes) {
        *self.learnt.changes.lock().unwrap_or_else(PoisonError::into_inner) = Some(changes);
    }

    pub(super) const fn causes(&self) -> &Causes {
        &self.ground.causes
    }

    pub(super) const fn overlap(&self) -> chrono::Duration {
        self.ground.overlap
    }

    pub(super) const fn retry(&self) -> RetryPolicy {
        self.ground.retry
    }

    /// Cancelled when the work has to end: answers in flight are abandoned, transactions
    /// are not.
    pub(super) const fn stop(&self) -> &CancellationToken {
        self.ground.halt.token()
    }

    pub(super) const fn halt(&self) -> &Halt {
        &self.ground.halt
    }

    pub(super) const fn checks(&self) -> &CheckOptions {
        &self.ground.checks
    }

    /// Says that something changed that the views for people follow from.
    pub(super) fn reports_are_outdated(&self) {
        self.ground.reports.ring();
    }

    pub(super) const fn max_in_flight(&self) -> usize {
        self.ground.max_in_flight
    }

    pub(super) const fn board(&self) -> &ProgressBoard {
        &self.ground.board
    }

    pub(super) const fn pausing(&self) -> &Pausing {
        &self.pausing
    }

    /// The codes in these records that nothing explains yet.
    pub(super) fn unsettled(&self, records: &[Record]) -> Unsettled {
        self.ground.codes.unsettled(self.entity, records)
    }

    /// Asks which smart processes there are: this one seems to be gone.
    pub(super) fn ask_for_processes(&self) {
        self.ground.codes.ask_for(Dictionary::SmartProcesses);
    }

    /// Takes note of codes in records that were written, and asks what they mean.
    pub(super) fn ask_meaning(&self, unsettled: Unsettled) {
        self.ground.codes.note(unsettled);
        self.ground.codes.ask();
    }

    /// Makes the next new cycle a deep one.
    pub(super) fn begin_deep(&self) {
        self.learnt.first_cycle.store(true, Ordering::Relaxed);
    }

    /// Waits for the turn to work on the checkpoint; the turn ends with what is returned.
    pub(super) async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, SyncError> {
        self.unless_stopped(async { Ok(self.learnt.turn.lock().await) }).await
    }

    /// Whether nobody works on the checkpoint.
    pub(super) fn turn_is_free(&self) -> bool {
        self.learnt.turn.try_lock().is_ok()
    }

    /// Performs one cycle in its turn. What is no part of the schedule may ask for one
    /// too, and does so in the lane of incremental cycles, so that the schedule's own
    /// never waits for a cycle in a lower lane.
    pub(super) async fn cycle_in_turn(&self, lane: Lane) -> Result<Tally, SyncError> {
        let _turn = self.turn().await?;
        let probe = self.probe_is_due();
        Ok(self.cycle(lane, probe).await?.tally)
    }

    /// Says that cycles are performed on a schedule from now on.
    pub(super) fn put_on_schedule(&self) {
        self.learnt.on_schedule.store(true, Ordering::Relaxed);
    }

    /// Whether cycles are performed on a schedule beside whatever else is done.
    pub(super) fn is_on_schedule(&self) -> bool {
        self.learnt.on_schedule.load(Ordering::Relaxed)
    }

    pub(super) fn take_first_cycle(&self) -> bool {
        self.learnt.first_cycle.swap(false, Ordering::Relaxed)
    }

    /// What the next deep cycle will meet again.
    pub(super) fn recent(&self) -> MutexGuard<'_, Recent> {
        self.learnt.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the filter has to be probed with the next cycle.
    pub(super) fn probe_is_due(&self) -> bool {
        self.learnt
            .probed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none_or(|probed| probed.elapsed() >= PROBE_INTERVAL)
    }

    pub(super) fn probed(&self) {
        *self.learnt.probed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(super) fn catalogue_is_stored(&self, catalogue: &Arc<Catalogue>) -> bool {
        self.learnt
            .stored_catalogue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .is_some_and(|stored| Arc::ptr_eq(stored, catalogue))
    }

    pub(super) fn catalogue_was_stored(&self, catalogue: &Arc<Catalogue>) {
        *self.learnt.stored_catalogue.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::clone(catalogue));
    }

    /// Stores the rows of one answer and the progress they make, in one transaction.
    /// Rows that another lane asked for later are left alone by it, and read again.
    pub(super) async fn write(
        &self,
        lane: Lane,
        rows: Brought,
        progress: Progress<'_>,
        run: Option<&Run>,
    ) -> Result<Tally, SyncError> {
        let Brought { asked_at, rows, memory } = rows;
        let (mut tally, mut left_alone) = self.write_once(asked_at, rows, progress, run).await?;
        // Before anything is asked for again, which may take a while.
        drop(memory);
        for _ in 0..REREADS {
            if left_alone.is_empty() {
                break;
            }
            let asked_at = self.now().await?;
            let reading = Box::pin(self.reader.given(lane, &left_alone));
            let rows = self.unless_stopped(reading).await?;
            let (again, still) = self.write_once(asked_at, rows, Progress::Nothing, run).await?;
            tally += again;
            left_alone = still;
        }
        Ok(tally)
    }

    async fn write_once(
        &self,
        asked_at: DateTime<Utc>,
        rows: Vec<Decoded>,
        progress: Progress<'_>,
        run: Option<&Run>,
    ) -> Result<(Tally, Vec<RecordId>), SyncError> {
        if let (true, Progress::Checkpoint(checkpoint)) = (rows.is_empty(), progress) {
            self.store().save_checkpoint(self.generation(), self.entity, checkpoint).await?;
            return Ok((Tally::default(), Vec::new()));
        }
        let read = rows.len() as u64;
        let (mut records, mut rejects) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            match row {
                Decoded::Record(record) => records.push(*record),
                Decoded::Reject(reject) => rejects.push(reject),
            }
        }
        let unsettled = self.unsettled(&records);
        let (entity, generation) = (self.entity, self.generation());
        let batch = Batch { entity, generation, asked_at, records, rejects, progress, run };
        let written = self.store().write(batch).await?;
        if written.inserted + written.updated > 0 {
            match progress {
                // A backfill asks once, at its end.
                Progress::Segments(_) => self.ground.codes.note(unsettled),
                _ => self.ask_meaning(unsettled),
            }
        }
        let tally = Tally {
            read,
            inserted: written.inserted,
            updated: written.updated,
            unchanged: written.unchanged,
            deleted: 0,
            quarantined: written.quarantined,
        };
        Ok((tally, written.left_alone))
    }

    /// Begins an entry in the run log.
    /// `before` is what the portal's meter showed when the pass began.
    pub(super) async fn begin_run(&self, kind: RunKind, before: Meter) -> Result<Entry, SyncError> {
        let run = self.store().begin_run(self.generation(), self.entity, kind).await?;
        Ok(Entry { run, before })
    }

    /// Closes an entry with how the pass ended. The log is for people: a failure to
    /// write it is told, and changes nothing about the pass.
    pub(super) async fn finish_run(&self, entry: Entry, tally: Tally, failed: Option<&SyncError>) {
        let verdict = failed.map_or(Verdict::Complete, SyncError::verdict);
        let message = failed.map(|error| match (error, self.halt().why()) {
            (SyncError::Stopping, Some(why)) => why.to_owned(),
            _ => error.reason(),
        });
        self.finish_run_as(entry, tally, verdict, message.as_deref()).await;
    }

    /// Closes an entry with a verdict that no error explains.
    pub(super) async fn finish_run_as(
        &self,
        mut entry: Entry,
        tally: Tally,
        verdict: Verdict,
        message: Option<&str>,
    ) {
        entry.count(&tally, self.portal().meter());
        if let Err(error) = self.store().finish_run(entry.run, verdict, message).await {
            tracing::warn!(
                entity = self.entity.name,
                error = &error as &dyn std::error::Error,
                "the end of a run could not be logged"
            );
        }
    }
}

/// A run in the log, and what the portal's meter showed when it began.
pub(super) struct Entry {
    pub(super) run: Run,
    before: Meter,
}

impl Entry {
    pub(super) fn count(&mut self, tally: &Tally, now: Meter) {
        let meter = now.since(&self.before);
        self.run.counts = RunCounts {
            requests: meter.requests,
            retries: meter.retries,
            waited: meter.waited,
            read: tally.read,
            inserted: tally.inserted,
            updated: tally.updated,
            unchanged: tally.unchanged,
            deleted: tally.deleted,
            quarantined: tally.quarantined,
        };
    }
}
