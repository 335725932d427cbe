//! Staying below the portal's limits, so that it never has to refuse us for our own doing.
//!
//! Every HTTP request takes a permit. It is given when the leaky bucket has a place
//! (`bucket.rs`), the operating time of every method in the request suffices
//! (`operating/`), and its lane may work at this time of the week (`quiet.rs`). Among
//! waiting requests the most urgent lane goes first, then the one that came first; one
//! that waits for a method holds up others of the same method only.
//!
//! The limits are the portal's per caller, so there must be one limiter per portal.

mod bucket;
mod limits;
mod operating;
mod quiet;
mod rehearsal;
mod waits;

use std::{
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Datelike as _, NaiveDateTime, TimeDelta, Utc};
use tokio::{sync::Notify, task, time::Instant};

pub(super) use self::operating::{BATCH, Figures};
use self::{
    bucket::Bucket,
    operating::{Operating, Reservation},
    waits::Waits,
};
pub use self::{
    limits::{Limits, OperatingLimit, Restraint, Share},
    quiet::{InvalidQuietHours, QuietHours},
    rehearsal::{RehearsedLimiter, RehearsedPermit},
    waits::{WaitReason, Waiting},
};
use super::envelope::PortalTime;

/// A cycle shows the portal's clock within this time; whoever waits for it looks again.
const CLOCK_WITHIN: Duration = Duration::from_mins(1);

/// Whoever has waited so long while cycles went by will wait for good.
const STARVED: Duration = Duration::from_mins(1);

/// On whose behalf a request is made, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Incremental cycles.
    Incremental,
    /// What people asked for.
    People,
    /// Sweeps, and the lists that explain codes.
    Sweep,
    /// Backfills.
    Backfill,
    /// Rolling checks and full passes.
    Rolling,
}

/// What a request asks of the limiter besides its own place.
#[derive(Debug, Clone, Default)]
pub(super) struct Demand {
    /// Calls per method that the request cannot do without.
    pub(super) calls: Vec<(String, usize)>,
    /// More calls of one of these methods, as many as fit. How many is decided together
    /// with the reservation: a chain that was cut earlier may fit no longer, and would
    /// then wait while shorter ones go.
    pub(super) extra: Option<(String, usize)>,
}

impl Demand {
    /// Exactly these calls.
    pub(super) const fn exactly(calls: Vec<(String, usize)>) -> Self {
        Self { calls, extra: None }
    }
}

/// What an answer says per method: one entry for each command that ran, in order.
pub(super) type Costs = Vec<(String, Vec<Figures>)>;

/// Admits requests one by one.
pub struct Limiter {
    state: Mutex<State>,
    /// Woken whenever something was sent, settled or given up.
    changed: Notify,
}

struct State {
    bucket: Bucket,
    operating: Operating,
    quiet_hours: QuietHours,
    /// Unknown before the first answer.
    clock: Option<LocalClock>,
    /// Who waits, most urgent first.
    waiters: BTreeMap<Ticket, Waiter>,
    next_ticket: u64,
    waits: Waits,
    /// When a cycle's request last went.
    cycle_went: Option<Instant>,
    /// When a request of any other lane last went, or could have.
    other_went: Instant,
}

/// What we know of the portal's local time.
#[derive(Debug, Clone, Copy)]
struct LocalClock {
    /// When it showed what.
    at: Instant,
    shown: NaiveDateTime,
}

impl LocalClock {
    fn new(at: Instant, clock: DateTime<Utc>, offset_seconds: i32) -> Self {
        Self { at, shown: clock.naive_utc() + TimeDelta::seconds(offset_seconds.into()) }
    }

    fn read(&self, now: Instant) -> NaiveDateTime {
        let passed = TimeDelta::from_std(now.saturating_duration_since(self.at));
        self.shown.checked_add_signed(passed.unwrap_or_default()).unwrap_or(self.shown)
    }
}

/// The order of admission.
type Ticket = (Lane, u64);

struct Waiter {
    /// Whose request it is; unknown outside of a task.
    task: Option<task::Id>,
    since: Instant,
    demand: Demand,
    waiting: Option<Waiting>,
}

impl Limiter {
    /// Starts with an empty bucket and empty books, and without restraint.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State {
                bucket: Bucket::new(limits, now),
                operating: Operating::new(limits.operating),
                quiet_hours: QuietHours::default(),
                clock: None,
                waiters: BTreeMap::new(),
                next_ticket: 0,
                waits: Waits::default(),
                cycle_went: None,
                other_went: now,
            }),
            changed: Notify::new(),
        }
    }

    /// Stays below the portal's limits from now on. To be set before the first request.
    pub fn restrain(&self, restraint: &Restraint) {
        let mut state = self.state();
        state.bucket.restrict(restraint.share);
        state.operating.restrict(restraint.share);
        state.quiet_hours = restraint.quiet_hours.clone();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Takes note of the portal's clock, by which quiet hours go. Until the first answer
    /// shows it, people's requests go by UTC and lower lanes wait.
    pub(super) fn learn_clock(&self, time: Option<PortalTime>) {
        if let Some(PortalTime { clock, offset_seconds }) = time {
            let clock = LocalClock::new(Instant::now(), clock, offset_seconds);
            if self.state().clock.replace(clock).is_none() {
                self.changed.notify_waiters();
            }
        }
    }

    /// How many commands of a method may go in one request now: what fits into its
    /// operating time, and is expected to be through well before the portal cuts a
    /// request off.
    ///
    /// At most one as long as nothing is known of the method; `usize::MAX` where nothing
    /// limits it.
    #[must_use]
    pub fn affordable(&self, lane: Lane, method: &str) -> usize {
        let now = Instant::now();
        self.state().operating.affordable(now, lane, method)
    }

    /// The operating time that one command of a method has cost the lanes below
    /// incremental cycles; unknown before the first answer.
    #[must_use]
    pub fn command_cost(&self, method: &str) -> Option<Duration> {
        let cost = self.state().operating.cost(Lane::Backfill, method)?;
        Duration::try_from_secs_f64(cost).ok()
    }

    /// The least time in which so many commands of a method, those under way included, can
    /// be sent in so many requests, if nobody else sends any.
    #[must_use]
    pub fn least_time(
        &self,
        lane: Lane,
        method: &str,
        commands: usize,
        requests: usize,
    ) -> Duration {
        let now = Instant::now();
        let mut state = self.state();
        let by_operating = state.operating.least_time(now, lane, method, commands);
        by_operating.max(state.bucket.least_time(now, lane, requests))
    }

    /// How many commands of a method are expected to be through well before the portal
    /// cuts a request off; at least one, and `usize::MAX` as long as nothing is known.
    ///
    /// It is the chain to ask for: a request waits for its turn, and is cut to what its
    /// operating time allows only then.
    #[must_use]
    pub fn in_time(&self, lane: Lane, method: &str) -> usize {
        self.state().operating.in_time(lane, method)
    }

    /// How full the bucket is, for handing over to another process.
    #[must_use]
    pub fn level(&self) -> f64 {
        let now = Instant::now();
        self.state().bucket.level(now)
    }

    /// Takes over a bucket that is at least so full; infinity means full.
    pub fn restore(&self, level: f64) {
        let now = Instant::now();
        self.state().bucket.restore(now, level);
    }

    /// What the most urgent waiting request is waiting for, if any is.
    #[must_use]
    pub fn waiting(&self) -> Option<Waiting> {
        self.state().waiters.values().find_map(|waiter| waiter.waiting.clone())
    }

    /// Whether a request that this task makes is waiting for its turn.
    #[must_use]
    pub fn holds_back(&self, task: task::Id) -> bool {
        self.state().waiters.values().any(|waiter| waiter.task == Some(task))
    }

    /// The long waits that requests are in, each reason once.
    #[must_use]
    pub fn waits(&self) -> Vec<Waiting> {
        let now = Instant::now();
        let mut state = self.state();
        state.look(now);
        let State { waits, waiters, .. } = &*state;
        waits.of(&waiters.values().filter_map(|waiter| waiter.waiting.as_ref()))
    }

    /// Waits for a permit. The request counts from now on, whatever becomes of it.
    pub(super) async fn acquire(&self, lane: Lane, demand: &Demand) -> Permit<'_> {
        let ticket = self.enqueue(lane, demand);
        loop {
            // Register interest before looking, so that no change slips through between.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let admitted = self.state().admit(ticket.ticket, demand);
            let until = match admitted {
                Ok((reservations, extra)) => {
                    return Permit { limiter: self, lane, reservations, extra };
                }
                Err(until) => until,
            };
            match until {
                Some(until) => tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// Takes note that the portal refuses every request: all lanes pause.
    pub(super) fn refused(&self) {
        let now = Instant::now();
        self.state().bucket.refused(now);
        self.changed.notify_waiters();
    }

    /// Takes note that the portal has blocked a method.
    pub(super) fn block(&self, method: &str) {
        let now = Instant::now();
        self.state().operating.block(now, method);
        self.changed.notify_waiters();
    }

    /// Leaves the portal alone for so long, as a refusal has asked.
    pub(super) fn pause(&self, wait: Duration) {
        let now = Instant::now();
        self.state().bucket.pause(now, wait);
        self.changed.notify_waiters();
    }

    /// Leaves a blocked method alone for so long, as the refusal has asked.
    pub(super) fn pause_method(&self, method: &str, wait: Duration) {
        let now = Instant::now();
        self.state().operating.pause(now, method, wait);
        self.changed.notify_waiters();
    }

    fn enqueue(&self, lane: Lane, demand: &Demand) -> Place<'_> {
        let mut state = self.state();
        let ticket = (lane, state.next_ticket);
        state.next_ticket += 1;
        let waiter = Waiter {
            task: task::try_id(),
            since: Instant::now(),
            demand: demand.clone(),
            waiting: None,
        };
        state.waiters.insert(ticket, waiter);
        Place { limiter: self, ticket }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No method leaves the state half-changed, so a panic elsewhere does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}

impl State {
    /// Gives a place to the waiter, or says when it should look again: at a moment, or
    /// only after a change.
    fn admit(
        &mut self,
        ticket: Ticket,
        demand: &Demand,
    ) -> Result<(Vec<Reservation>, usize), Option<Instant>> {
        let now = Instant::now();
        let (lane, _) = ticket;
        if let Some((reason, until)) = self.held_back(now, lane, demand) {
            self.note(now, ticket, reason, until);
            return Err(Some(until));
        }
        if let Some(until) = self.bucket.wait(now, lane) {
            let reason = if self.bucket.is_paused(now) {
                WaitReason::PortalBusy
            } else if self.is_starved(now, ticket) {
                WaitReason::CyclesFirst
            } else {
                WaitReason::RequestRate
            };
            self.note(now, ticket, reason, until);
            return Err(Some(until));
        }
        if self.is_overtaken(now, ticket, demand) {
            return Err(None);
        }
        self.bucket.fill(now);
        match lane {
            Lane::Incremental => self.cycle_went = Some(now),
            _ => self.other_went = now,
        }
        Ok(self.operating.reserve(now, lane, demand))
    }

    /// Whether cycles alone have gone for as long as somebody waits.
    fn is_starved(&self, now: Instant, ticket: Ticket) -> bool {
        let (lane, _) = ticket;
        let Some(waiter) = self.waiters.get(&ticket) else { return false };
        let is_long_ago = |at: Instant| now.saturating_duration_since(at) >= STARVED;
        lane > Lane::Incremental
            && is_long_ago(waiter.since.max(self.other_went))
            && self.cycle_went.is_some_and(|at| !is_long_ago(at))
    }

    /// Whatever holds a demand back but the bucket.
    fn held_back(
        &mut self,
        now: Instant,
        lane: Lane,
        demand: &Demand,
    ) -> Option<(WaitReason, Instant)> {
        self.quiet(now, lane, demand).or_else(|| self.operating.wait(now, lane, demand))
    }

    fn quiet(&self, now: Instant, lane: Lane, demand: &Demand) -> Option<(WaitReason, Instant)> {
        // What calls nothing belongs to a request that is under way.
        if lane == Lane::Incremental || demand.calls.is_empty() {
            return None;
        }
        let local = match &self.clock {
            Some(clock) => clock.read(now),
            None if lane > Lane::People && !self.quiet_hours.is_empty() => {
                return Some((WaitReason::ClockUnknown, now + CLOCK_WITHIN));
            }
            None => Utc::now().naive_utc(),
        };
        let end = self.quiet_hours.end(local)?;
        let left = end - local;
        let day = (left >= TimeDelta::days(1)).then(|| end.weekday());
        let reason = WaitReason::QuietHours { day, until: end.time() };
        Some((reason, now + left.to_std().unwrap_or_default().max(Duration::from_millis(1))))
    }

    /// Whether somebody more urgent comes first: one that may go, or one that waits for
    /// a method of ours, or short chains would eat up what it waits for.
    fn is_overtaken(&mut self, now: Instant, ticket: Ticket, demand: &Demand) -> bool {
        let waiters = std::mem::take(&mut self.waiters);
        let overtaken = waiters.range(..ticket).any(|((lane, _), waiter)| {
            match self.held_back(now, *lane, &waiter.demand) {
                None => true,
                Some((reason, _)) => self.operating.concerns(&reason, demand),
            }
        });
        self.waiters = waiters;
        overtaken
    }

    fn note(&mut self, now: Instant, ticket: Ticket, reason: WaitReason, until: Instant) {
        let waiting = Waiting { reason, until };
        self.waits.begin(now, &waiting);
        if let Some(waiter) = self.waiters.get_mut(&ticket) {
            waiter.waiting = Some(waiting);
        }
        self.look(now);
    }

    fn look(&mut self, now: Instant) {
        let waiting = self.waiters.values().filter_map(|waiter| waiter.waiting.as_ref());
        self.waits.look(now, &waiting);
    }
}

/// A place in the queue; left when the permit is given or the wait is abandoned.
struct Place<'a> {
    limiter: &'a Limiter,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.limiter.state();
        state.waiters.remove(&self.ticket);
        state.look(now);
        drop(state);
        self.limiter.changed.notify_waiters();
    }
}

/// The right to send one request, and what it has reserved.
///
/// Dropped without a word, it books the expected costs: the answer never came, but the
/// portal may have done the work.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    limiter: &'a Limiter,
    lane: Lane,
    reservations: Vec<Reservation>,
    extra: usize,
}

impl Permit<'_> {
    /// How many of the extra calls may be made.
    pub(super) const fn extra(&self) -> usize {
        self.extra
    }

    /// Books what the answer says, account by account.
    pub(super) fn settle(mut self, figures: &[(String, Vec<Figures>)]) {
        let now = Instant::now();
        let reservations = std::mem::take(&mut self.reservations);
        self.limiter.state().operating.settle(now, self.lane, reservations, figures);
    }

    /// Gives everything back but the request itself: the portal did not do the work.
    pub(super) fn void(mut self) {
        let now = Instant::now();
        let mut state = self.limiter.state();
        for reservation in self.reservations.drain(..) {
            state.operating.cancel(now, &reservation);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.reservations.is_empty() {
            let now = Instant::now();
            let mut state = self.limiter.state();
            for reservation in self.reservations.drain(..) {
                state.operating.forfeit(now, self.lane, &reservation);
            }
        }
        self.limiter.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
