//! The checks: one at a time, beside cycles and backfills.
//!
//! What people ask for comes first, in the order in which they asked and in their lane.
//! What the schedule wants waits, and makes way when a person asks for something: it goes
//! on from where it stood, or begins again, as each check does after a crash.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    STOPPED_RETRY, Stage, Worker,
    slot::{Backoff, Slot},
};
use crate::{
    portal::Lane,
    retry::{Delays, RetryPolicy},
    store::{RunKind, StoreError, Verdict},
    sync::{
        SyncError,
        checks::{Check, CheckOptions, ROLLING_EVERY},
        ending::{Ending, Findings},
        mirror::Mirror,
        orders::Task,
    },
};

/// The first sweep comes so soon after the first fill, or when its overlap has passed. What
/// was imported with an old date and became visible while it went on is found by nothing else:
/// before it there was no mark.
const FIRST_SWEEP: Duration = Duration::from_mins(10);

/// The checks and who waits for them.
pub(super) struct Checks {
    pub(super) slot: Slot<Result<Findings, SyncError>>,
    under_way: Option<UnderWay>,
    /// What people asked for, the oldest first.
    pub(super) asked: VecDeque<Task>,
    duties: Vec<Duty>,
    pub(super) backoff: Backoff,
}

/// The check that has the slot.
struct UnderWay {
    check: Check,
    on_behalf: OnBehalf,
}

enum OnBehalf {
    Person(Task),
    /// By its place in the list.
    Duty(usize),
}

/// A check that the schedule wants again and again.
struct Duty {
    check: Check,
    lane: Lane,
    every: Duration,
    /// Unknown until the run log has been asked.
    due_at: Option<Instant>,
    delays: Delays,
}

impl Checks {
    pub(super) fn new(options: &CheckOptions, retry: RetryPolicy) -> Self {
        let duty =
            |check, lane, every| Duty { check, lane, every, due_at: None, delays: retry.delays() };
        let sweep = duty(Check::Sweep { accept: None }, Lane::Sweep, options.sweep_interval);
        let mut duties = vec![sweep];
        if options.rolling_check.is_some() {
            duties.push(duty(Check::Rolling, Lane::Rolling, ROLLING_EVERY));
        }
        Self {
            slot: Slot::new(),
            under_way: None,
            asked: VecDeque::new(),
            duties,
            backoff: Backoff::new(retry.delays()),
        }
    }

    /// When the schedule wants something next.
    fn next_due(&self) -> Option<Instant> {
        self.duties.iter().filter_map(|duty| duty.due_at).min()
    }
}

impl Duty {
    /// The next time, after a check that came to its end.
    fn done(&mut self) {
        self.delays.reset();
        self.due_at = Some(Instant::now() + self.every);
    }

    /// The next time, after one that did not.
    fn failed(&mut self, pause: Duration) {
        self.due_at = Some(Instant::now() + pause.max(STOPPED_RETRY).min(self.every));
    }
}

impl Worker {
    /// When a check can begin that nothing else announces.
    pub(super) fn next_check_at(&self) -> Option<Instant> {
        if self.stage < Stage::Prepared || !self.checks.slot.is_empty() {
            return None;
        }
        if !self.checks.asked.is_empty() {
            let backoff = &self.checks.backoff;
            return (!backoff.is_over()).then(|| backoff.ends_at());
        }
        if self.fills.are_done() { self.checks.next_due() } else { None }
    }

    /// Begins a check where one is wanted and the mirror is ready for it.
    pub(super) async fn proceed_with_checks(&mut self) {
        if self.stage < Stage::Prepared {
            return;
        }
        self.make_way_for_people().await;
        if !self.checks.slot.is_empty() {
            return;
        }
        if self.checks.asked.is_empty() {
            self.do_a_duty().await;
        } else if self.checks.backoff.is_over() {
            self.do_what_was_asked().await;
        }
    }

    /// Ends a scheduled check that somebody's would have to wait for.
    async fn make_way_for_people(&mut self) {
        let Some(first) = self.checks.asked.front() else { return };
        let why = format!("makes way for request {}", first.request);
        if let Some(UnderWay { on_behalf: OnBehalf::Duty(_), .. }) = self.checks.under_way {
            self.end_check(&why).await;
        }
    }

    async fn do_what_was_asked(&mut self) {
        let Some(task) = self.checks.asked.pop_front() else { return };
        // Whoever handed it over has told a check from other work.
        let Some(check) = Check::of(&task.work) else { return };
        if !self.fills.are_done() {
            match self.mirror.refuse_unready(&check).await {
                // Before the first look at the open ID ranges; it has begun already.
                Ok(()) if check.needs_a_filled_mirror() => {
                    self.checks.asked.push_front(task);
                    return;
                }
                Ok(()) => {}
                Err(error) => {
                    self.answer_check(task, &check, Err(error));
                    return;
                }
            }
        }
        self.begin_check(check, Lane::People, OnBehalf::Person(task));
    }

    async fn do_a_duty(&mut self) {
        if !self.fills.are_done() {
            return;
        }
        for duty in &mut self.checks.duties {
            if duty.due_at.is_none() {
                duty.due_at = Some(due_at(&self.mirror, duty).await);
            }
        }
        let now = Instant::now();
        let due = |duty: &Duty| duty.due_at.is_some_and(|at| at <= now);
        if let Some(place) = self.checks.duties.iter().position(due) {
            let duty = &self.checks.duties[place];
            self.begin_check(duty.check.clone(), duty.lane, OnBehalf::Duty(place));
        }
    }

    fn begin_check(&mut self, check: Check, lane: Lane, on_behalf: OnBehalf) {
        self.checks.under_way = Some(UnderWay { check: check.clone(), on_behalf });
        self.checks.slot.begin(&self.mirror, async move |mirror| mirror.check(lane, &check).await);
    }

    pub(super) fn checked(&mut self, result: Result<Findings, SyncError>) {
        match self.checks.under_way.take() {
            None => {}
            Some(UnderWay { check, on_behalf: OnBehalf::Person(task) }) => {
                self.answer_check(task, &check, result);
            }
            Some(UnderWay { check, on_behalf: OnBehalf::Duty(place) }) => {
                self.duty_ended(place, &check, result);
            }
        }
    }

    fn answer_check(&mut self, task: Task, check: &Check, result: Result<Findings, SyncError>) {
        if super::is_away(&result) {
            if let Err(error) = &result {
                self.checks.backoff.after(error);
            }
            self.checks.asked.push_front(task);
            return;
        }
        self.checks.backoff.reset();
        // It may have done a duty's work, which the run log tells.
        for duty in &mut self.checks.duties {
            if duty.check.kind() == check.kind() {
                duty.due_at = None;
            }
        }
        if let Some(ending) = Ending::of_check(self.mirror.entity(), result) {
            task.end(ending);
        }
    }

    fn duty_ended(&mut self, place: usize, check: &Check, result: Result<Findings, SyncError>) {
        let (entity, kind) = (self.mirror.entity().name, check.kind().as_str());
        let duty = &mut self.checks.duties[place];
        match result {
            Ok(Findings { verdict: Verdict::Complete, differs, line, .. }) => {
                duty.done();
                if differs {
                    tracing::warn!(entity, kind, found = line, "a check found differences");
                } else {
                    tracing::info!(entity, kind, found = line, "a check is complete");
                }
            }
            Ok(Findings { verdict, line, .. }) => {
                // Only a person can help one that has stopped.
                let pause =
                    if verdict == Verdict::Stopped { duty.every } else { duty.delays.next_delay() };
                duty.failed(pause);
                tracing::warn!(
                    entity,
                    kind,
                    verdict = verdict.as_str(),
                    found = line,
                    "a check did not come to its end"
                );
            }
            Err(error) => {
                let Some(pause) = super::pause_after(&error, &mut duty.delays) else { return };
                duty.failed(pause);
                let reason = error.reason();
                tracing::warn!(entity, kind, reason, "a check did not come to its end");
            }
        }
    }

    /// Ends the check that is under way; gives back who waits for it.
    pub(super) async fn end_check(&mut self, why: &str) -> Option<Task> {
        let UnderWay { check, on_behalf } = self.checks.under_way.take()?;
        self.checks.slot.give_up(&self.mirror, check.kind(), why).await;
        match on_behalf {
            OnBehalf::Person(task) => Some(task),
            OnBehalf::Duty(place) => {
                self.checks.duties[place].due_at = Some(Instant::now());
                None
            }
        }
    }

    /// Takes back what a request asked for; answers whoever waits.
    pub(super) async fn cancel_checks(&mut self, request: i64) {
        let entity = self.mirror.entity();
        let asked = std::mem::take(&mut self.checks.asked);
        let (theirs, others): (VecDeque<_>, VecDeque<_>) =
            asked.into_iter().partition(|task| task.request == request);
        self.checks.asked = others;
        super::answer(theirs, Some(&Ending::cancelled(entity, "")));
        if let Some(UnderWay { on_behalf: OnBehalf::Person(task), .. }) = &self.checks.under_way
            && task.request == request
        {
            let theirs = self.end_check(&format!("cancelled by request {request}")).await;
            super::answer(theirs, Some(&Ending::cancelled(entity, "")));
        }
    }
}

/// When a duty is due, by the run log.
async fn due_at(mirror: &Mirror, duty: &Duty) -> Instant {
    if duty.check.kind() == RunKind::Sweep
        && mirror.store().sweep_standing(mirror.entity()).await.is_ok_and(|sweeps| sweeps.wanted)
    {
        return Instant::now();
    }
    Instant::now() + time_until(mirror, duty).await.unwrap_or(STOPPED_RETRY.min(duty.every))
}

async fn time_until(mirror: &Mirror, duty: &Duty) -> Result<Duration, StoreError> {
    let (store, entity) = (mirror.store(), mirror.entity());
    if let Some(ago) = store.since_last(entity, duty.check.kind()).await? {
        return Ok(duty.every.saturating_sub(ago));
    }
    let first = match duty.check.kind() {
        RunKind::Sweep => {
            let overlap = mirror.overlap().to_std().unwrap_or_default();
            FIRST_SWEEP.max(overlap).min(duty.every)
        }
        // The first fill has read everything.
        _ => duty.every,
    };
    let filled = store.since_filled(entity).await?;
    // There was nothing to read then; whatever has come since, cycles have brought.
    Ok(filled.map_or(first, |ago| first.saturating_sub(ago)))
}
