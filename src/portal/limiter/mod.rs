//! Staying below the portal's limits, so that it never has to refuse us for our own doing.
//!
//! Every HTTP request takes a permit. It is given when the leaky bucket has a place
//! (`bucket.rs`) and the operating time of every method in the request suffices
//! (`operating.rs`). Among waiting requests the most urgent lane goes first, then the
//! one that came first; one whose method is blocked does not hold up the others.
//!
//! The limits are the portal's per caller, so there must be one limiter per portal.

mod bucket;
mod operating;

use std::{
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

pub(super) use self::operating::Figures;
use self::{
    bucket::Bucket,
    operating::{Operating, Reservation},
};

/// The portal's limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// How many requests the portal forgets per second (2, or 5 on Enterprise).
    pub requests_per_second: f64,
    /// How many requests it remembers before it refuses (50, or 250 on Enterprise).
    pub burst: u32,
    /// The operating time per method; `None` where the portal has no such limit.
    pub operating: Option<OperatingLimit>,
}

/// The operating time that a portal grants each method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatingLimit {
    /// The time granted within the window (480 s).
    pub limit: Duration,
    /// The sliding window (600 s).
    pub window: Duration,
}

/// On whose behalf a request is made, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Incremental cycles.
    Incremental,
    /// What people asked for.
    People,
    /// Sweeps.
    Sweep,
    /// Backfills.
    Backfill,
    /// Rolling checks and full passes.
    Rolling,
}

/// Why requests are being held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    /// The request rate is used up.
    RequestRate,
    /// The portal refused a request; somebody else uses its limit too.
    PortalBusy,
    /// A method's operating time is used up.
    OperatingTime {
        /// The method.
        method: String,
    },
    /// The portal has blocked a method.
    MethodBlocked {
        /// The method.
        method: String,
    },
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestRate => f.write_str("the portal's request rate is used up"),
            Self::PortalBusy => {
                f.write_str("the portal refuses requests; another program shares its limit")
            }
            Self::OperatingTime { method } => {
                write!(f, "the operating time of {method} is used up")
            }
            Self::MethodBlocked { method } => {
                write!(f, "the portal has blocked {method} for its operating time")
            }
        }
    }
}

/// What the most urgent waiting request is waiting for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Why.
    pub reason: WaitReason,
    /// When it is expected to go on.
    pub until: Instant,
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
    /// Who waits, most urgent first.
    waiters: BTreeMap<Ticket, Waiter>,
    next_ticket: u64,
}

/// The order of admission.
type Ticket = (Lane, u64);

struct Waiter {
    demand: Demand,
    waiting: Option<Waiting>,
}

impl Limiter {
    /// Starts with an empty bucket and empty books.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            state: Mutex::new(State {
                bucket: Bucket::new(limits, Instant::now()),
                operating: Operating::new(limits.operating),
                waiters: BTreeMap::new(),
                next_ticket: 0,
            }),
            changed: Notify::new(),
        }
    }

    /// How many commands of a method fit now; callers cut their chains to it.
    ///
    /// At most one as long as nothing is known of the method; `usize::MAX` where nothing
    /// limits it.
    #[must_use]
    pub fn affordable(&self, lane: Lane, method: &str) -> usize {
        let now = Instant::now();
        self.state().operating.affordable(now, lane, method)
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

    fn enqueue(&self, lane: Lane, demand: &Demand) -> Place<'_> {
        let mut state = self.state();
        let ticket = (lane, state.next_ticket);
        state.next_ticket += 1;
        let waiter = Waiter { demand: demand.clone(), waiting: None };
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
        if let Some((reason, until)) = self.operating.wait(now, lane, demand) {
            self.note(ticket, reason, until);
            return Err(Some(until));
        }
        if let Some(until) = self.bucket.wait(now, lane) {
            let reason = if self.bucket.is_paused(now) {
                WaitReason::PortalBusy
            } else {
                WaitReason::RequestRate
            };
            self.note(ticket, reason, until);
            return Err(Some(until));
        }
        // One that is held back by its method lets the others pass.
        let operating = &mut self.operating;
        let overtaken = self
            .waiters
            .range(..ticket)
            .any(|((lane, _), waiter)| operating.wait(now, *lane, &waiter.demand).is_none());
        if overtaken {
            return Err(None);
        }
        self.bucket.fill(now);
        Ok(self.operating.reserve(now, lane, demand))
    }

    fn note(&mut self, ticket: Ticket, reason: WaitReason, until: Instant) {
        if let Some(waiter) = self.waiters.get_mut(&ticket) {
            waiter.waiting = Some(Waiting { reason, until });
        }
    }
}

/// A place in the queue; left when the permit is given or the wait is abandoned.
struct Place<'a> {
    limiter: &'a Limiter,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.limiter.state().waiters.remove(&self.ticket);
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

    /// Books what the answer says, method by method.
    pub(super) fn settle(mut self, figures: &[(String, Vec<Figures>)]) {
        let now = Instant::now();
        let mut state = self.limiter.state();
        for reservation in self.reservations.drain(..) {
            let figures = figures
                .iter()
                .find(|(method, _)| method == reservation.method())
                .map_or(&[][..], |(_, figures)| figures);
            state.operating.settle(now, self.lane, &reservation, figures);
        }
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
