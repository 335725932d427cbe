//! The books of one account: what it has used, and what one command costs.
//!
//! What we spent leaves our books one whole window after the answer, never earlier than
//! it leaves the portal's. The portal's reported sum is the truth, and corrects them both
//! ways. A sum above what the books explain is somebody else's use, and stays for a
//! window too. What was booked before a request was sent is contained in the sum that
//! its answer shows, or has left the portal's window: so where the sum is lower, the
//! oldest entries go. When a larger foreign use has reached the portal's next reset, one
//! request finds out how much is left of it.
//!
//! The sums of successive commands differ by what a command cost, as long as nothing else
//! of ours runs. With several requests under way a difference may contain the others'
//! commands as well: as many as there were requests on average, if the portal runs them
//! side by side, or none, if it runs them in turn. In between, what was expected is
//! believed, unless the sum as a whole shows that it is too little.
//!
//! The cost of a command is known once one answer has shown two of them, or two answers
//! one each. Until then requests go one at a time, with one command and then with two.

mod settlement;

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    super::OperatingLimit,
    Lane,
    expectation::{Expectation, count, whole},
};

/// The share of the limit that is used up at most.
const USABLE: f64 = 0.95;

/// The share of the limit that lower lanes leave to incremental cycles at least.
const LEAST_RESERVE: f64 = 0.02;

/// The commands that lower lanes leave room for at least: an idle cycle or two.
const RESERVED_COMMANDS: usize = 4;

/// What one command is taken to cost before anything is known, in seconds.
const UNKNOWN_COST: f64 = 0.5;

/// What is reserved, as a multiple of the expected cost: some pages are dearer.
const CAUTION: f64 = 1.25;

/// The chain that lower lanes wait for, as long as it takes no more than a tenth of the
/// limit.
const DECENT_CHAIN: usize = 10;
const DECENT_SHARE: f64 = 0.1;

/// How long a method stays blocked when the portal does not say: until the next of its
/// ten slices of the window has gone (vendor page `limits`), or so long without a window.
const SLICES: u32 = 10;
const BLOCKED_FOR: Duration = Duration::from_mins(1);

/// Beyond the reset that the portal names.
const AFTER_RESET: Duration = Duration::from_secs(1);

/// Smaller than anything that is booked.
const NOTHING: f64 = 1e-9;

/// The books of one account, in seconds.
#[derive(Debug)]
pub(super) struct Books {
    since: Instant,
    booked: VecDeque<Booked>,
    /// What commands of cycles and of all other lanes are expected to be like: an idle
    /// cycle finds nothing, and must not make full pages look cheap.
    cycles: Expectation,
    pages: Expectation,
    /// Requests that are under way, and what they have reserved.
    in_flight: usize,
    reserved: f64,
    /// Requests under way, added up over time up to a moment.
    crowd: (Instant, f64),
    /// Requests sent so far; tells whether an answer had the account to itself.
    sent: u64,
    /// When the oldest part of the reported sum goes.
    reset: Option<Instant>,
    /// When use by others has to be looked at again.
    look_again: Option<Instant>,
    blocked_until: Option<Instant>,
    knowledge: Knowledge,
    /// By how much the last report was above what is booked: what requests under way have
    /// used already, or what those before cost beyond what they were booked with.
    deficit: f64,
}

#[derive(Debug)]
struct Booked {
    at: Instant,
    cost: f64,
    /// On whose behalf; `None` for others' use.
    lane: Option<Lane>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    /// Nothing heard yet, or what was heard is out of date: one command finds out.
    Unknown,
    /// The books are right.
    Known,
    /// The portal answers without figures.
    Silent,
}

/// What is booked, added up.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    own: f64,
    /// The part of it that incremental cycles used.
    cycles: f64,
    foreign: f64,
    /// By how much a whole window is longer than what the books cover.
    scale: f64,
}

impl Used {
    fn count(&mut self, lane: Option<Lane>, cost: f64) {
        match lane {
            None => self.foreign += cost,
            Some(lane) => {
                self.own += cost;
                if lane == Lane::Incremental {
                    self.cycles += cost;
                }
            }
        }
    }
}

/// A request under way, as one account sees it.
#[derive(Debug)]
pub(super) struct Flight {
    commands: usize,
    reserved: f64,
    sent_at: Instant,
    /// The crowd when it was sent, the count of requests, and whether it was alone.
    crowd: f64,
    number: u64,
    alone: bool,
}

impl Flight {
    pub(super) const fn commands(&self) -> usize {
        self.commands
    }
}

/// A request that has come back.
#[derive(Debug)]
pub(super) struct Landed {
    reserved: f64,
    sent_at: Instant,
    /// Whether no other request was under way at any time.
    exclusive: bool,
    /// The requests that were under way on average, itself included.
    crowd: f64,
}

impl Books {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            since: now,
            booked: VecDeque::new(),
            cycles: Expectation::NONE,
            pages: Expectation::NONE,
            in_flight: 0,
            reserved: 0.0,
            crowd: (now, 0.0),
            sent: 0,
            reset: None,
            look_again: None,
            blocked_until: None,
            knowledge: Knowledge::Unknown,
            deficit: 0.0,
        }
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, now: Instant, window: Duration) {
        while self.booked.front().is_some_and(|booked| booked.at + window <= now) {
            self.booked.pop_front();
        }
        if self.in_flight == 0 && self.booked.is_empty() {
            self.deficit = 0.0;
        }
        if self.blocked_until.is_some_and(|until| until <= now) {
            self.blocked_until = None;
            self.knowledge = Knowledge::Unknown;
        }
        // The answers to what is under way will tell.
        if self.in_flight == 0 && self.look_again.is_some_and(|look| look <= now) {
            self.look_again = None;
            self.knowledge = Knowledge::Unknown;
        }
    }

    /// Until when the portal refuses the account.
    pub(super) fn blocked_until(&self, now: Instant) -> Option<Instant> {
        self.blocked_until.filter(|until| *until > now)
    }

    /// Whether a request is under way that finds out what is not known; when to look
    /// again at the latest, for its end is told.
    pub(super) fn awaits_an_answer(&self, now: Instant, lane: Lane) -> Option<Instant> {
        let finding_out = match self.knowledge {
            Knowledge::Unknown => true,
            // Cycles are small, and do not wait for others' long chains.
            Knowledge::Known => lane != Lane::Incremental && !self.expectation(lane).measured,
            Knowledge::Silent => false,
        };
        (finding_out && self.in_flight > 0).then(|| now + BLOCKED_FOR)
    }

    const fn expectation(&self, lane: Lane) -> &Expectation {
        match lane {
            Lane::Incremental => &self.cycles,
            _ => &self.pages,
        }
    }

    const fn expectation_mut(&mut self, lane: Lane) -> &mut Expectation {
        match lane {
            Lane::Incremental => &mut self.cycles,
            _ => &mut self.pages,
        }
    }

    /// What one command of a lane is expected to cost; as another lane's where it has
    /// sent none.
    fn expected(&self, lane: Lane) -> f64 {
        let other = self.cycles.cost.or(self.pages.cost).unwrap_or(UNKNOWN_COST);
        self.expectation(lane).cost.unwrap_or(other)
    }

    fn pace(&self, lane: Lane) -> Option<f64> {
        self.expectation(lane).pace.or(self.pages.pace).or(self.cycles.pace)
    }

    /// The chain that is worth waiting for: with every page that leaves the window sent
    /// again alone, requests would run out before operating time does.
    pub(super) fn decent_chain(&self, limit: OperatingLimit, share: f64, lane: Lane) -> usize {
        match self.knowledge {
            Knowledge::Known if self.expected(lane) > 0.0 => {
                let part = limit.limit.as_secs_f64() * share * DECENT_SHARE;
                whole(part / self.reservation(lane, 1)).clamp(1, DECENT_CHAIN)
            }
            _ => 1,
        }
    }

    /// How many commands of a lane are expected to be through after that.
    pub(super) fn chain_of(&self, lane: Lane, seconds: f64) -> usize {
        match self.pace(lane) {
            Some(pace) if pace > NOTHING => whole((seconds / pace).max(0.0)),
            _ => usize::MAX,
        }
    }

    /// How long so many commands are expected to take.
    pub(super) fn seconds(&self, lane: Lane, commands: usize) -> f64 {
        self.pace(lane).unwrap_or(0.0) * count(commands)
    }

    /// How many commands fit now.
    pub(super) fn affordable(
        &self,
        now: Instant,
        limit: OperatingLimit,
        share: f64,
        lane: Lane,
    ) -> usize {
        let used = self.used(now, limit.window);
        let free = self.room(limit, share, lane, &used);
        let fitting = if free < 0.0 {
            0
        } else if self.expected(lane) <= 0.0 {
            usize::MAX
        } else {
            whole(free / self.reservation(lane, 1))
        };
        let alone = self.fits_alone(limit, share, lane, 1, &used);
        let fitting = if alone { fitting.max(1) } else { fitting };
        match self.knowledge {
            Knowledge::Unknown => 1,
            Knowledge::Known if !self.expectation(lane).measured => fitting.min(2),
            Knowledge::Known => fitting,
            Knowledge::Silent => usize::MAX,
        }
    }

    /// When so many commands will fit, if nothing else is sent; `None` for now.
    pub(super) fn fits_at(
        &self,
        now: Instant,
        limit: OperatingLimit,
        share: f64,
        lane: Lane,
        commands: usize,
    ) -> Option<Instant> {
        if matches!(self.knowledge, Knowledge::Silent | Knowledge::Unknown) {
            return None;
        }
        let cost = self.reservation(lane, commands);
        let fits = |used: &Used| {
            self.room(limit, share, lane, used) >= cost
                || self.fits_alone(limit, share, lane, commands, used)
        };
        let mut used = self.used(now, limit.window);
        if fits(&used) {
            return None;
        }
        let look_again = self.look_again.filter(|look| *look > now);
        for booked in &self.booked {
            used.count(booked.lane, -booked.cost);
            if fits(&used) {
                let gone = booked.at + limit.window;
                return Some(look_again.map_or(gone, |look| look.min(gone)));
            }
        }
        // What is in flight has to come back first; its settlement wakes the waiters.
        Some(look_again.unwrap_or(now + limit.window))
    }

    /// What one command of a lane costs, once one was seen.
    pub(super) const fn cost(&self, lane: Lane) -> Option<f64> {
        self.expectation(lane).cost
    }

    /// The least time in which so many commands, those under way included, can be sent, if
    /// nobody else sends any:
    /// what is used comes back one window later, to be used again.
    pub(super) fn least_time(
        &self,
        now: Instant,
        limit: OperatingLimit,
        share: f64,
        lane: Lane,
        commands: usize,
    ) -> Duration {
        let Some(cost) = self.cost(lane).filter(|_| self.knowledge != Knowledge::Silent) else {
            return Duration::ZERO;
        };
        // What is under way will cost less than was reserved for it; the rest is free soon.
        let sent = self.reserved / CAUTION;
        let room = self.room(limit, share, lane, &self.used(now, limit.window));
        let free = (room + self.reserved - sent).max(0.0);
        let mut needed = cost * count(commands) - sent - free;
        let booked = self
            .booked
            .iter()
            .map(|booked| ((booked.at + limit.window).saturating_duration_since(now), booked.cost));
        let spent_now = (limit.window, free + sent);
        let coming: Vec<(Duration, f64)> = booked.chain([spent_now]).collect();
        let each_window: f64 = coming.iter().map(|(_, cost)| cost).sum();
        if needed <= 0.0 || each_window <= NOTHING {
            return Duration::ZERO;
        }
        let windows = (needed / each_window).floor();
        needed -= windows * each_window;
        let whole_windows = limit.window.as_secs_f64() * windows;
        let rest = coming.into_iter().find_map(|(back, cost)| {
            needed -= cost;
            (needed <= 0.0).then_some(back)
        });
        let seconds = whole_windows + rest.unwrap_or(limit.window).as_secs_f64();
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Takes note of a request that is sent.
    pub(super) fn depart(&mut self, now: Instant, lane: Lane, commands: usize) -> Flight {
        self.gather(now);
        let flight = Flight {
            commands,
            reserved: self.reservation(lane, commands),
            sent_at: now,
            crowd: self.crowd.1,
            number: self.sent,
            alone: self.in_flight == 0,
        };
        self.sent += 1;
        self.in_flight += 1;
        self.reserved += flight.reserved;
        flight
    }

    /// Takes note of a request that has come back, and frees what it had reserved.
    pub(super) fn land(&mut self, now: Instant, flight: &Flight) -> Landed {
        self.gather(now);
        let took = (now - flight.sent_at).as_secs_f64();
        let crowd =
            if took > 0.0 { (self.crowd.1 - flight.crowd) / took } else { count(self.in_flight) };
        self.in_flight = self.in_flight.saturating_sub(1);
        self.reserved =
            if self.in_flight == 0 { 0.0 } else { (self.reserved - flight.reserved).max(0.0) };
        Landed {
            reserved: flight.reserved,
            sent_at: flight.sent_at,
            exclusive: flight.alone && self.sent == flight.number + 1,
            crowd: crowd.max(1.0),
        }
    }

    /// Holds the account back after the portal has refused it.
    pub(super) fn block(&mut self, now: Instant, window: Option<Duration>) {
        let until = match self.reset.filter(|reset| *reset > now) {
            Some(reset) => reset + AFTER_RESET,
            None => now + window.map_or(BLOCKED_FOR, |window| window / SLICES),
        };
        self.blocked_until = self.blocked_until.max(Some(until));
    }

    /// Holds a blocked account back for so long at the least.
    pub(super) fn pause(&mut self, now: Instant, wait: Duration) {
        self.blocked_until = self.blocked_until.max(Some(now + wait));
    }

    fn used(&self, now: Instant, window: Duration) -> Used {
        let covered = (now - self.since).clamp(window / SLICES, window);
        let scale = window.as_secs_f64() / covered.as_secs_f64();
        let mut used = Used { scale, ..Used::default() };
        for booked in &self.booked {
            used.count(booked.lane, booked.cost);
        }
        used
    }

    /// What so many commands reserve.
    fn reservation(&self, lane: Lane, commands: usize) -> f64 {
        CAUTION * self.expected(lane) * count(commands)
    }

    /// What a lane may use beyond what is used and reserved.
    ///
    /// Others' use counts against the portal's limit and not against our share of it.
    fn room(&self, limit: OperatingLimit, share: f64, lane: Lane, used: &Used) -> f64 {
        let limit = limit.limit.as_secs_f64();
        // What a report shows beyond the books is mostly what requests under way have used,
        // which is reserved. Lower lanes count it twice to be safe; a cycle's few commands,
        // for which that safety is meant, do not wait for whole chains to land.
        let ahead = match lane {
            Lane::Incremental => self.reserved.max(self.deficit),
            _ => self.reserved + self.deficit,
        };
        let own = used.own + ahead;
        let free = (USABLE * limit * share - own).min(USABLE * limit - own - used.foreign);
        if lane == Lane::Incremental {
            return free;
        }
        // Half at most, or heavy cycles would end every backfill. What the cycles have
        // used is part of what is left to them. Young books show only the beginning of
        // what cycles use in a window.
        let least = LEAST_RESERVE * limit * share;
        let cycles = 2.0 * used.cycles * used.scale;
        let reserve = cycles.max(self.reservation(Lane::Incremental, RESERVED_COMMANDS));
        free - (reserve.clamp(least, limit * share / 2.0) - used.cycles).max(least)
    }

    /// Whether commands that are dearer than any room may go all the same: when nothing
    /// else is booked, or in a lower lane nothing but incremental cycles.
    fn fits_alone(
        &self,
        limit: OperatingLimit,
        share: f64,
        lane: Lane,
        commands: usize,
        used: &Used,
    ) -> bool {
        let all = used.own + used.foreign + self.reserved + self.deficit;
        let usable = USABLE * share * limit.limit.as_secs_f64();
        let beside_cycles = lane != Lane::Incremental
            && all <= used.cycles + NOTHING
            && all + self.expected(lane) * count(commands) <= usable;
        all <= NOTHING || beside_cycles
    }

    /// Adds up how many requests were under way until now.
    fn gather(&mut self, now: Instant) {
        let (at, area) = self.crowd;
        let passed = now.saturating_duration_since(at).as_secs_f64();
        self.crowd = (now, area + passed * count(self.in_flight));
    }
}
