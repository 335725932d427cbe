//! The operating time that each method has used, and whether more of it fits.
//!
//! The portal adds up, per method and caller, the seconds that its calls took within a
//! sliding window, and blocks a method whose sum is above the limit (vendor page
//! `limits`). Every answer carries the sum, per command inside a batch.
//!
//! We reserve the expected time of a command when it is sent and settle it by what the
//! answer says. What we spent leaves our books one whole window after the answer, never
//! earlier than it leaves the portal's. A reported sum above our books is somebody
//! else's use; it counts until the portal's next reset, and then a single command finds
//! out how much is left of it. The cost of a command is known once one answer has shown
//! two of them; until then a method is tried with one command, then with two. A portal that reports no figures at all is not limited by
//! us, but its refusals are obeyed.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{Demand, Lane, OperatingLimit, WaitReason};

/// The share of the limit that is used up at most.
const USABLE: f64 = 0.95;

/// The share of the limit that lower lanes leave to incremental cycles at least.
const LEAST_RESERVE: f64 = 0.02;

/// What one command is taken to cost before anything is known, in seconds.
const UNKNOWN_COST: f64 = 0.5;

/// What is reserved, as a multiple of the expected cost: some pages are dearer.
const CAUTION: f64 = 1.25;

/// The chain that lower lanes wait for, as long as it takes no more than a tenth of the
/// limit.
const DECENT_CHAIN: usize = 10;
const DECENT_SHARE: f64 = 0.1;

/// How long a method stays blocked when the portal does not say.
const BLOCKED_FOR: Duration = Duration::from_mins(1);

/// Beyond the reset that the portal names.
const AFTER_RESET: Duration = Duration::from_secs(1);

/// What an answer says about operating time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(in crate::portal) struct Figures {
    /// The method's sum within the window, this call included, in seconds.
    pub(in crate::portal) operating: Option<f64>,
    /// The seconds that the call itself took, as far as the portal shows them.
    pub(in crate::portal) spent: Option<f64>,
    /// How long from now the oldest part of the sum stays.
    pub(in crate::portal) reset_in: Option<Duration>,
}

/// The books of all methods. Pure: every method takes the present moment.
#[derive(Debug)]
pub(super) struct Operating {
    limit: Option<OperatingLimit>,
    methods: BTreeMap<String, Method>,
}

/// The books of one method, in seconds.
#[derive(Debug)]
struct Method {
    booked: VecDeque<Booked>,
    /// What one command is expected to cost.
    expected: f64,
    /// Commands sent and not settled, and their expected cost.
    in_flight: usize,
    reserved: f64,
    /// Reservations made so far; tells whether an answer had the method to itself.
    sent: u64,
    /// Use by others, and until when it counts.
    foreign: f64,
    foreign_until: Instant,
    /// When the oldest part of the reported sum goes.
    reset: Option<Instant>,
    blocked_until: Option<Instant>,
    knowledge: Knowledge,
    /// Whether a command's cost was ever seen as the difference of two sums.
    measured: bool,
}

#[derive(Debug)]
struct Booked {
    at: Instant,
    cost: f64,
    lane: Lane,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    /// Nothing heard yet, or what was heard is out of date: one command finds out.
    Unknown,
    /// The sum is known, but of a command's cost only what the portal says it took.
    Guessed,
    /// The books are right.
    Known,
    /// The portal answers without figures.
    Silent,
}

/// What a request has reserved of one method.
#[derive(Debug)]
pub(super) struct Reservation {
    method: String,
    commands: usize,
    cost: f64,
    /// Whether nothing of the method was in flight, and the count of reservations then.
    alone: bool,
    sent: u64,
}

impl Reservation {
    pub(super) fn method(&self) -> &str {
        &self.method
    }
}

impl Operating {
    pub(super) const fn new(limit: Option<OperatingLimit>) -> Self {
        Self { limit, methods: BTreeMap::new() }
    }

    /// Why and until when a demand has to wait; `None` if it may go.
    ///
    /// Extra calls are waited for as far as they make a decent chain. More than could
    /// ever fit may go once nothing is booked.
    pub(super) fn wait(
        &mut self,
        now: Instant,
        lane: Lane,
        demand: &Demand,
    ) -> Option<(WaitReason, Instant)> {
        let limit = self.limit;
        demand.calls.iter().find_map(|(name, calls)| {
            let method = self.methods.get_mut(name)?;
            method.expire(now, limit);
            if let Some(until) = method.blocked_until {
                let reason = WaitReason::MethodBlocked { method: name.clone() };
                return Some((reason, until));
            }
            let limit = limit?;
            let extra = demand.extra.as_ref().filter(|(extra, _)| extra == name);
            let wanted = calls + extra.map_or(0, |(_, extra)| *extra);
            let calls = match lane {
                Lane::Incremental => *calls,
                _ => wanted.min(method.decent_chain(limit)).max(*calls),
            };
            let until = method.fits_at(now, limit, lane, calls)?;
            let reason = WaitReason::OperatingTime { method: name.clone() };
            Some((reason, until))
        })
    }

    /// How many commands of a method fit now.
    pub(super) fn affordable(&mut self, now: Instant, lane: Lane, name: &str) -> usize {
        let limit = self.limit;
        let Some(method) = self.methods.get_mut(name) else {
            return if limit.is_some() { 1 } else { usize::MAX };
        };
        method.expire(now, limit);
        if method.blocked_until.is_some() {
            return 0;
        }
        match limit {
            Some(limit) => method.affordable(limit, lane),
            None => usize::MAX,
        }
    }

    /// Reserves what the calls are expected to cost; gives the number of extra calls
    /// that fit as well.
    pub(super) fn reserve(
        &mut self,
        now: Instant,
        lane: Lane,
        demand: &Demand,
    ) -> (Vec<Reservation>, usize) {
        let mut granted = 0;
        let mut reservations = Vec::with_capacity(demand.calls.len());
        for (name, calls) in &demand.calls {
            let mut commands = *calls;
            if let Some((_, extra)) = demand.extra.as_ref().filter(|(extra, _)| extra == name) {
                let affordable = self.affordable(now, lane, name);
                granted = affordable.saturating_sub(*calls).min(*extra);
                commands += granted;
            }
            let method = self.method(now, name);
            let reservation = Reservation {
                method: name.clone(),
                commands,
                cost: method.reservation(commands),
                alone: method.in_flight == 0,
                sent: method.sent,
            };
            method.sent += 1;
            method.in_flight += commands;
            method.reserved += reservation.cost;
            reservations.push(reservation);
        }
        (reservations, granted)
    }

    /// Books what the commands really cost, by the figures of those that ran, in order.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        lane: Lane,
        reservation: &Reservation,
        figures: &[Figures],
    ) {
        let limit = self.limit;
        let method = self.method(now, &reservation.method);
        method.expire(now, limit);
        method.release(reservation);
        let exclusive = reservation.alone && method.sent == reservation.sent + 1;
        if let Some(reset) = figures.iter().rev().find_map(|figures| figures.reset_in) {
            method.reset = Some(now + reset);
        }
        let known = |figures: &&Figures| figures.operating.is_some() || figures.spent.is_some();
        let ran = figures.iter().filter(known).count();
        if ran == 0 {
            if method.knowledge == Knowledge::Unknown && !figures.is_empty() {
                method.knowledge = Knowledge::Silent;
            }
            return;
        }
        let sums: Vec<f64> = figures.iter().filter_map(|figures| figures.operating).collect();
        let spent: f64 = figures.iter().filter_map(|figures| figures.spent).sum();
        let cost = match sums.as_slice() {
            [] => spent,
            [sum] => {
                // What our books do not explain is this command's, unless they are blank.
                let unexplained = match method.knowledge {
                    Knowledge::Known if exclusive => sum - method.own() - method.foreign,
                    _ => 0.0,
                };
                spent.max(unexplained).min(*sum)
            }
            [first, rest @ ..] => {
                method.measured = true;
                added(*first, rest)
            }
        };
        method.knowledge =
            if method.measured || sums.is_empty() { Knowledge::Known } else { Knowledge::Guessed };
        // A figure of zero means that the portal books nothing; the next call may still
        // take what this one took.
        let average = if cost > 0.0 { cost } else { spent } / count(ran);
        method.learn(average, ran);
        method.book(now, cost, lane);
        if let Some(report) = sums.last() {
            method.reconcile(now, *report, exclusive, limit);
        }
    }

    /// Books the expected cost of commands whose answer never came: they may have run.
    pub(super) fn forfeit(&mut self, now: Instant, lane: Lane, reservation: &Reservation) {
        let method = self.method(now, &reservation.method);
        method.release(reservation);
        if method.knowledge != Knowledge::Silent {
            method.book(now, reservation.cost, lane);
        }
    }

    /// Gives back what was reserved for commands that did not run.
    pub(super) fn cancel(&mut self, now: Instant, reservation: &Reservation) {
        self.method(now, &reservation.method).release(reservation);
    }

    /// Holds a method back after the portal has refused it.
    pub(super) fn block(&mut self, now: Instant, name: &str) {
        let method = self.method(now, name);
        let until = match method.reset.filter(|reset| *reset > now) {
            Some(reset) => reset + AFTER_RESET,
            None => now + BLOCKED_FOR,
        };
        method.blocked_until = method.blocked_until.max(Some(until));
    }

    fn method(&mut self, now: Instant, name: &str) -> &mut Method {
        self.methods.entry(name.to_owned()).or_insert_with(|| Method {
            booked: VecDeque::new(),
            expected: UNKNOWN_COST,
            in_flight: 0,
            reserved: 0.0,
            sent: 0,
            foreign: 0.0,
            foreign_until: now,
            reset: None,
            blocked_until: None,
            knowledge: Knowledge::Unknown,
            measured: false,
        })
    }
}

impl Method {
    /// Forgets what is over.
    fn expire(&mut self, now: Instant, limit: Option<OperatingLimit>) {
        if let Some(limit) = limit {
            while self.booked.front().is_some_and(|booked| booked.at + limit.window <= now) {
                self.booked.pop_front();
            }
        }
        if self.foreign > 0.0 && self.foreign_until <= now {
            // The oldest part of it is gone; how much stays, only the portal knows.
            self.foreign = 0.0;
            self.knowledge = Knowledge::Unknown;
        }
        if self.blocked_until.is_some_and(|until| until <= now) {
            self.blocked_until = None;
            self.knowledge = Knowledge::Unknown;
        }
    }

    fn own(&self) -> f64 {
        self.booked.iter().map(|booked| booked.cost).sum()
    }

    /// The chain that is worth waiting for: with every page that leaves the window sent
    /// again alone, requests would run out before operating time does.
    fn decent_chain(&self, limit: OperatingLimit) -> usize {
        match self.knowledge {
            Knowledge::Known if self.expected > 0.0 => {
                let part = limit.limit.as_secs_f64() * DECENT_SHARE;
                whole(part / self.reservation(1)).clamp(1, DECENT_CHAIN)
            }
            _ => 1,
        }
    }

    /// What so many commands reserve.
    fn reservation(&self, commands: usize) -> f64 {
        CAUTION * self.expected * count(commands)
    }

    fn used(&self) -> f64 {
        self.own() + self.foreign + self.reserved
    }

    /// What a lane may use in all.
    fn allowance(&self, limit: OperatingLimit, lane: Lane) -> f64 {
        let limit = limit.limit.as_secs_f64();
        if lane == Lane::Incremental {
            return USABLE * limit;
        }
        let incremental: f64 = self
            .booked
            .iter()
            .filter(|booked| booked.lane == Lane::Incremental)
            .map(|booked| booked.cost)
            .sum();
        // Half the limit at most, or heavy cycles would end every backfill.
        let reserve = (2.0 * incremental).clamp(LEAST_RESERVE * limit, limit / 2.0);
        USABLE * limit - reserve
    }

    fn affordable(&self, limit: OperatingLimit, lane: Lane) -> usize {
        if self.knowledge == Knowledge::Silent {
            return usize::MAX;
        }
        let used = self.used();
        let free = self.allowance(limit, lane) - used;
        let fitting = if free < 0.0 {
            0
        } else if self.expected <= 0.0 {
            usize::MAX
        } else {
            whole(free / self.reservation(1))
        };
        let fitting = if used <= 0.0 { fitting.max(1) } else { fitting };
        match self.knowledge {
            Knowledge::Unknown => fitting.min(1),
            Knowledge::Guessed => fitting.min(2),
            _ => fitting,
        }
    }

    /// When so many commands will fit, if nothing else is sent; `None` for now.
    fn fits_at(
        &self,
        now: Instant,
        limit: OperatingLimit,
        lane: Lane,
        commands: usize,
    ) -> Option<Instant> {
        if self.knowledge == Knowledge::Silent {
            return None;
        }
        let cost = self.reservation(commands);
        let allowance = self.allowance(limit, lane);
        let mut used = self.used();
        let fits = |used: f64| used <= 1e-9 || used + cost <= allowance;
        if fits(used) {
            return None;
        }
        let foreign = (self.foreign > 0.0).then_some((self.foreign_until, self.foreign));
        let mut going: Vec<(Instant, f64)> = self
            .booked
            .iter()
            .map(|booked| (booked.at + limit.window, booked.cost))
            .chain(foreign)
            .collect();
        going.sort_by_key(|(at, _)| *at);
        for (at, gone) in &going {
            used -= gone;
            if fits(used) {
                return Some(*at);
            }
        }
        // What is in flight has to come back first; its settlement wakes the waiters.
        Some(now + limit.window)
    }

    fn release(&mut self, reservation: &Reservation) {
        self.in_flight = self.in_flight.saturating_sub(reservation.commands);
        self.reserved =
            if self.in_flight == 0 { 0.0 } else { (self.reserved - reservation.cost).max(0.0) };
    }

    /// Goes up at once and down slowly, faster for many commands than for few: cheap
    /// commands of an idle cycle must not make a backfill's look cheap.
    fn learn(&mut self, average: f64, commands: usize) {
        if average >= self.expected || self.booked.is_empty() {
            self.expected = average;
        } else {
            self.expected += (average - self.expected) * (count(commands) / 500.0).min(1.0);
        }
    }

    fn book(&mut self, at: Instant, cost: f64, lane: Lane) {
        if cost > 0.0 {
            self.booked.push_back(Booked { at, cost, lane });
        }
    }

    /// Holds our books against the portal's sum.
    fn reconcile(
        &mut self,
        now: Instant,
        report: f64,
        exclusive: bool,
        limit: Option<OperatingLimit>,
    ) {
        let own = self.own();
        if exclusive {
            // Nothing else of ours was under way, so the portal's sum is the truth.
            let mut surplus = own - report;
            while surplus > 0.0 {
                let Some(oldest) = self.booked.front_mut() else {
                    break;
                };
                let cut = surplus.min(oldest.cost);
                oldest.cost -= cut;
                surplus -= cut;
                if oldest.cost <= 0.0 {
                    self.booked.pop_front();
                }
            }
            self.foreign = 0.0;
        }
        let foreign = report - own - self.reserved;
        if foreign > self.foreign.max(1e-6) {
            self.foreign = foreign;
            self.foreign_until = self
                .reset
                .filter(|reset| *reset > now)
                .unwrap_or_else(|| now + limit.map_or(BLOCKED_FOR, |limit| limit.window));
        }
    }
}

/// What the commands of one answer added to their method's sum.
///
/// Differences of successive sums are exact. The first sum has no predecessor in the
/// answer, so the first command counts as the others did on average.
fn added(first: f64, rest: &[f64]) -> f64 {
    let mut previous = first;
    let mut added = 0.0;
    for sum in rest {
        added += (sum - previous).max(0.0);
        previous = *sum;
    }
    added + (added / count(rest.len())).min(first)
}

#[expect(clippy::cast_precision_loss, reason = "numbers of commands are small")]
const fn count(commands: usize) -> f64 {
    commands as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "never negative, and the cast saturates"
)]
const fn whole(number: f64) -> usize {
    number as usize
}
