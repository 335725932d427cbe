//! The cycles: one at a time, since they share a checkpoint.
//!
//! A cycle by hand that is held back in the lane of people when the daemon's own falls
//! due makes way for it, so nobody's freshness waits for a person.

use super::{
    Stage, Worker, answer, is_away,
    slot::{Backoff, Slot},
};
use crate::{
    portal::Lane,
    retry::RetryPolicy,
    store::RunKind,
    sync::{Consequence, SyncError, ending::Ending, mirror::Tally, orders::Task},
};

/// The cycles and who waits for them.
pub(super) struct Cycles {
    /// The one under way, or the preparation before the first.
    pub(super) slot: Slot<Step>,
    lane: Lane,
    /// The schedule asks for one.
    due: bool,
    /// Who waits for one that begins after they asked.
    pub(super) asking: Vec<Task>,
    /// Who waits for the one under way.
    pub(super) served: Vec<Task>,
    pub(super) backoff: Backoff,
}

/// What the cycle's task has done.
pub(super) enum Step {
    Prepared(Result<(), SyncError>),
    Cycled(Result<Tally, SyncError>),
}

impl Cycles {
    pub(super) fn new(retry: RetryPolicy) -> Self {
        Self {
            slot: Slot::new(),
            lane: Lane::Incremental,
            due: false,
            asking: Vec::new(),
            served: Vec::new(),
            backoff: Backoff::new(retry.delays()),
        }
    }

    /// Asks for one of the daemon's own without waiting for the schedule.
    pub(super) const fn begin_at_once(&mut self) {
        self.due = true;
    }
}

impl Worker {
    /// Begins a cycle, or the preparation before the first, where one is wanted.
    pub(super) fn proceed_with_cycles(&mut self) {
        let restarting = self.stage >= Stage::Prepared && !self.fills.pending.is_empty();
        let unprepared = self.stage == Stage::New
            && (!self.fills.pending.is_empty() || !self.checks.asked.is_empty());
        let wanted = self.cycles.due || unprepared || !self.cycles.asking.is_empty();
        if wanted && !restarting && self.cycles.slot.is_empty() && self.cycles.backoff.is_over() {
            self.begin_cycle();
        }
    }

    fn begin_cycle(&mut self) {
        if self.stage == Stage::New {
            self.cycles.lane = Lane::Incremental;
            self.cycles.slot.begin(&self.mirror, async |mirror| {
                Step::Prepared(mirror.prepare(Lane::Incremental, false).await)
            });
            return;
        }
        let own = std::mem::take(&mut self.cycles.due) || self.stage < Stage::Cycled;
        let lane = if own { Lane::Incremental } else { Lane::People };
        self.cycles.lane = lane;
        self.cycles.served.append(&mut self.cycles.asking);
        self.cycles.slot.begin(&self.mirror, async move |mirror| {
            Step::Cycled(mirror.cycle_in_turn(lane).await)
        });
    }

    /// The schedule asks for a cycle.
    pub(super) async fn fall_due(&mut self) {
        if self.is_paused || !self.cycles.backoff.is_over() {
            return;
        }
        self.cycles.due = true;
        let portal = self.mirror.portal();
        let held_back = self.cycles.slot.task().is_some_and(|task| portal.holds_back(task));
        if self.cycles.lane == Lane::People && held_back {
            let why = "goes on in the daemon's own lane";
            self.cycles.slot.give_up(&self.mirror, RunKind::Incremental, why).await;
            self.cycles.asking.append(&mut self.cycles.served);
        }
    }

    pub(super) async fn stepped(&mut self, step: Step) {
        match step {
            Step::Prepared(Ok(())) => self.stage = Stage::Prepared,
            Step::Prepared(Err(error)) => {
                self.cycles.due = false;
                super::failed(&self.mirror, &mut self.cycles.backoff, &error).await;
                if error.consequence() != Consequence::AwaitDatabase {
                    let checks = self.checks.asked.drain(..);
                    let fills = self.fills.pending.drain(..);
                    let everybody: Vec<Task> =
                        self.cycles.asking.drain(..).chain(fills).chain(checks).collect();
                    let outcome = self.outcome(Err(error));
                    answer(everybody, Ending::of(&outcome).as_ref());
                }
            }
            Step::Cycled(result) => self.cycle_ended(result).await,
        }
    }

    async fn cycle_ended(&mut self, result: Result<Tally, SyncError>) {
        let result = match result {
            Ok(tally) => {
                self.stage = Stage::Cycled;
                self.cycles.backoff.reset();
                self.mirror.report_health(None).await;
                if self.cycles.served.is_empty() {
                    return;
                }
                self.mirror.refuse_unfilled().await.map(|()| tally)
            }
            Err(error) => {
                super::failed(&self.mirror, &mut self.cycles.backoff, &error).await;
                if error.consequence() != Consequence::AwaitDatabase
                    && !self.cycles.asking.is_empty()
                {
                    // Whoever has asked meanwhile is answered by a cycle of his own, and does not
                    // wait out a pause that began after he had asked.
                    self.cycles.backoff.reset();
                }
                Err(error)
            }
        };
        if is_away(&result) {
            // They go on waiting, as the daemon does.
            self.cycles.asking.append(&mut self.cycles.served);
            return;
        }
        let served = std::mem::take(&mut self.cycles.served);
        let outcome = self.outcome(result);
        answer(served, Ending::of_cycle(&outcome).as_ref());
    }
}
