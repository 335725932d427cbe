//! The backfill: one at a time, since it takes every ID range that is open.
//!
//! A backfill that a person asks for while the daemon works on it changes lanes, and
//! changes back when the last who wanted it takes that back.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::{
    Stage, Worker, answer, is_away,
    slot::{Backoff, Slot},
};
use crate::{
    portal::Lane,
    retry::RetryPolicy,
    store::RunKind,
    sync::{
        SyncError,
        ending::Ending,
        mirror::Tally,
        orders::{Task, taken_back},
    },
};

/// A cycle that a check asked for ends without a word to the worker.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The backfill and who waits for it.
pub(super) struct Fills {
    pub(super) slot: Slot<Result<Tally, SyncError>>,
    /// The one under way is in the lane of people.
    by_hand: bool,
    /// What it reads was complete before, and is read again for people only.
    refill: bool,
    /// Open segments may be left to read.
    unfilled: bool,
    /// Who asked for one that cannot begin yet.
    pub(super) pending: Vec<Task>,
    /// Who waits for the end.
    pub(super) waiting: Vec<Task>,
    pub(super) backoff: Backoff,
}

impl Fills {
    pub(super) fn new(retry: RetryPolicy) -> Self {
        Self {
            slot: Slot::new(),
            by_hand: false,
            refill: false,
            unfilled: true,
            pending: Vec::new(),
            waiting: Vec::new(),
            backoff: Backoff::new(retry.delays()),
        }
    }

    /// Whether nothing is left to read, as far as this process knows.
    pub(super) fn are_done(&self) -> bool {
        !self.unfilled && self.slot.is_empty() && self.pending.is_empty()
    }

    /// Whether something is left to read and nobody reads it.
    pub(super) fn are_open(&self) -> bool {
        self.unfilled && self.slot.is_empty()
    }
}

impl Worker {
    /// Takes up the backfills that were asked for and can begin.
    pub(super) async fn take_up_fills(&mut self) {
        if self.stage >= Stage::Prepared {
            // The checkpoint is replaced by a restart, so no cycle may be working on it.
            let idle = self.cycles.slot.is_empty() && self.mirror.turn_is_free();
            let ready: Vec<Task> =
                self.fills.pending.extract_if(.., |task| idle || !task.restarts()).collect();
            for task in ready {
                self.begin_backfill(task).await;
            }
        }
    }

    /// When to look again whether a restart can begin that a check's cycle held up.
    pub(super) fn next_restart_at(&self) -> Option<Instant> {
        let held_up = self.stage >= Stage::Prepared
            && !self.fills.pending.is_empty()
            && self.cycles.slot.is_empty();
        held_up.then(|| Instant::now() + LOOK_AGAIN)
    }

    /// Reads on where something is left to read.
    pub(super) fn proceed_with_fills(&mut self) {
        if self.stage >= Stage::Prepared && self.fills.are_open() && self.fills.backoff.is_over() {
            self.fills.unfilled = false;
            self.fills.by_hand = !self.fills.waiting.is_empty();
            let by_hand = self.fills.by_hand;
            self.fills
                .slot
                .begin(&self.mirror, async move |mirror| Ok(mirror.backfill(by_hand).await?.tally));
        }
    }

    pub(super) async fn backfilled(&mut self, result: Result<Tally, SyncError>) {
        self.fills.by_hand = false;
        match &result {
            Ok(tally) => {
                self.fills.backoff.reset();
                self.fills.refill = false;
                if tally.read > 0 {
                    tracing::info!(
                        entity = self.mirror.entity().name,
                        records = tally.read,
                        "the backfill is complete"
                    );
                }
            }
            Err(error) => {
                self.fills.unfilled = true;
                super::failed(&self.mirror, &mut self.fills.backoff, error).await;
            }
        }
        // A backfill whose database was away goes on by itself, and they go on waiting.
        if is_away(&result) {
            return;
        }
        let (waiting, mut result) = (std::mem::take(&mut self.fills.waiting), result);
        if let (Ok(tally), Some(first)) =
            (&mut result, waiting.iter().map(|task| task.asked_at).min())
        {
            *tally = self.read_since(first).await.unwrap_or(*tally);
        }
        let outcome = self.outcome(result);
        answer(waiting, Ending::of(&outcome).as_ref());
    }

    /// What the backfill has read, whatever it was interrupted by and in whatever process.
    async fn read_since(&self, since: DateTime<Utc>) -> Option<Tally> {
        let (store, entity) = (self.mirror.store(), self.mirror.entity());
        let counts = store.records_since(entity, RunKind::Backfill, since).await.ok()?;
        Some(Tally {
            read: counts.read,
            inserted: counts.inserted,
            updated: counts.updated,
            unchanged: counts.unchanged,
            deleted: 0,
            quarantined: counts.quarantined,
        })
    }

    async fn begin_backfill(&mut self, task: Task) {
        let request = task.request;
        if task.restarts() {
            if let Err(error) = self.restart().await {
                self.mirror.report_health(Some(&error)).await;
                let outcome = self.outcome(Err(error));
                answer([task], Ending::of(&outcome).as_ref());
                return;
            }
        } else if !self.fills.slot.is_empty() && !self.fills.by_hand {
            self.give_up_fill(&format!("goes on in the lane of people for request {request}"))
                .await;
        }
        self.fills.refill |= task.refilling;
        self.fills.unfilled |= self.fills.slot.is_empty();
        self.fills.waiting.push(task);
        if self.fills.refill {
            self.note_refill().await;
        }
    }

    /// Opens every ID range again.
    async fn restart(&mut self) -> Result<(), SyncError> {
        // Before its ID ranges are taken away.
        self.give_up_fill("a restart was asked for").await;
        let mirror = &self.mirror;
        let refill = self.fills.refill || mirror.outlast(|| mirror.is_filled()).await?;
        // Should its answer be lost, its ID ranges are open all the same.
        self.fills.unfilled = true;
        let _turn = mirror.turn().await?;
        mirror.outlast(|| mirror.prepare(Lane::People, true)).await?;
        self.fills.refill = refill;
        Ok(())
    }

    /// Remembers for whom a complete mirror is read again, should this process end.
    async fn note_refill(&self) {
        let mirror = &self.mirror;
        for task in &self.fills.waiting {
            let noted = mirror.outlast(|| async {
                let (generation, entity) = (mirror.generation(), mirror.entity());
                Ok(mirror.store().note_refill(generation, task.request, entity).await?)
            });
            if let Err(error) = noted.await {
                // The next holder would begin the restart once more.
                tracing::debug!(request = task.request, reason = error.reason(), "not noted");
            }
        }
    }

    /// Takes back what a request asked for; answers whoever waits.
    pub(super) async fn cancel_fills(&mut self, request: i64) {
        let entity = self.mirror.entity();
        let (theirs, begun): (Vec<Task>, Vec<Task>) = taken_back(&mut self.fills.pending, request)
            .into_iter()
            .partition(|task| !task.refilling);
        answer(theirs, Some(&Ending::cancelled(entity, "")));
        // What an earlier holder has begun for it is open, though nobody reads it here yet.
        self.fills.refill |= !begun.is_empty();
        let mut theirs = taken_back(&mut self.fills.waiting, request);
        theirs.extend(begun);
        if !theirs.is_empty() {
            let and_now = self.let_go(request).await;
            answer(theirs, Some(&Ending::cancelled(entity, and_now)));
        }
    }

    /// Does no more for a request than would be done without it. Says what becomes of
    /// the backfill.
    async fn let_go(&mut self, request: i64) -> &'static str {
        if !self.fills.waiting.is_empty() || !self.fills.pending.is_empty() {
            return "; the backfill goes on for another request";
        }
        if !self.fills.refill {
            self.give_up_fill(&format!("cancelled by request {request}; goes on in its own lane"))
                .await;
            return "; what the mirror lacks goes on being read, in the daemon's own time";
        }
        self.give_up_fill(&format!("cancelled by request {request}")).await;
        let mirror = &self.mirror;
        let dropped = mirror.outlast(|| async {
            let (generation, entity) = (mirror.generation(), mirror.entity());
            Ok(mirror.store().drop_refill(generation, entity).await?)
        });
        match dropped.await {
            Ok(()) => {
                self.fills.refill = false;
                "; the mirror was complete before, and what was left to read again is dropped"
            }
            Err(_) => "; it could not be dropped and goes on in the daemon's own time",
        }
    }

    /// Stops the backfill where it stands. It goes on from there unless somebody takes
    /// its ID ranges away.
    pub(super) async fn give_up_fill(&mut self, why: &str) {
        if self.fills.slot.is_empty() {
            return;
        }
        self.fills.slot.give_up(&self.mirror, RunKind::Backfill, why).await;
        self.fills.by_hand = false;
        self.fills.unfilled = true;
        self.mirror.board().finish(self.mirror.entity().name);
    }
}
