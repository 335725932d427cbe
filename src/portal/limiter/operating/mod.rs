//! The operating time that each account has used, and whether more of it fits.
//!
//! The portal adds up, per method and caller, the seconds that its calls took within a
//! sliding window, and blocks a method whose sum is above the limit (vendor page
//! `limits`). Every answer carries the sum, per command inside a batch. There are portals
//! that book a batch as a whole on `batch`, and show the sum only beside the batch; and
//! portals without any figure. The answers show which kind it is.
//!
//! We reserve the expected time of a command when it is sent and settle it by what the
//! answer says (`books`, `expectation.rs`). A portal that reports no figures is not limited by us, but
//! its refusals are obeyed.

mod books;
mod expectation;

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use self::books::{Books, Flight};
use super::{Demand, Lane, OperatingLimit, Share, WaitReason};

/// The account of a portal that books a batch as a whole.
pub(in crate::portal) const BATCH: &str = "batch";

/// The time of the portal's that one request may be expected to take. It cuts requests
/// off at 60 s (vendor page `limits`), and some pages are dearer than others.
const LONGEST_REQUEST: f64 = 20.0;

/// What an answer says about operating time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(in crate::portal) struct Figures {
    /// The account's sum within the window, this call included, in seconds.
    pub(in crate::portal) operating: Option<f64>,
    /// The seconds that the call itself took, as far as the portal shows them.
    pub(in crate::portal) spent: Option<f64>,
    /// The seconds from the call's start to its end, waiting included.
    pub(in crate::portal) took: Option<f64>,
    /// How long from now the oldest part of the sum stays.
    pub(in crate::portal) reset_in: Option<Duration>,
}

/// The books of all accounts. Pure: every method takes the present moment.
#[derive(Debug)]
pub(super) struct Operating {
    limit: Option<OperatingLimit>,
    /// The part of the limit that is ours to use.
    share: f64,
    /// Whether the portal books a batch as a whole.
    on_batch: bool,
    accounts: BTreeMap<String, Books>,
}

/// What a request has reserved of one account.
#[derive(Debug)]
pub(super) struct Reservation {
    account: String,
    flight: Flight,
}

/// What a demand asks of one account.
struct Charge<'a> {
    account: &'a str,
    calls: usize,
    extra: usize,
}

impl Operating {
    pub(super) const fn new(limit: Option<OperatingLimit>) -> Self {
        Self { limit, share: 1.0, on_batch: false, accounts: BTreeMap::new() }
    }

    /// Leaves the rest of the limit to others from now on.
    pub(super) const fn restrict(&mut self, share: Share) {
        self.share = share.get();
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
        self.blocked(now, demand).or_else(|| {
            let (limit, share) = (self.limit?, self.share);
            self.charges(demand).into_iter().find_map(|charge| {
                let books = self.accounts.get_mut(charge.account)?;
                books.expire(now, limit.window);
                let method = || charge.account.to_owned();
                if let Some(until) = books.awaits_an_answer(now, lane) {
                    return Some((WaitReason::CostUnknown { method: method() }, until));
                }
                let commands = match lane {
                    Lane::Incremental => charge.calls,
                    _ => (charge.calls + charge.extra)
                        .min(books.decent_chain(limit, share, lane))
                        .min(books.chain_of(lane, LONGEST_REQUEST))
                        .max(charge.calls),
                };
                let until = books.fits_at(now, limit, share, lane, commands)?;
                Some((WaitReason::OperatingTime { method: method() }, until))
            })
        })
    }

    /// How many commands of a method are expected to take no longer than a request may.
    pub(super) fn in_time(&self, lane: Lane, name: &str) -> usize {
        let account = if self.on_batch { BATCH } else { name };
        let books = self.accounts.get(account);
        books.map_or(usize::MAX, |books| books.chain_of(lane, LONGEST_REQUEST).max(1))
    }

    /// How many commands of a method may go in one request now.
    pub(super) fn affordable(&mut self, now: Instant, lane: Lane, name: &str) -> usize {
        let (limit, share) = (self.limit, self.share);
        if self.accounts.get(name).is_some_and(|books| books.blocked_until(now).is_some()) {
            return 0;
        }
        let account = self.account(name);
        let by_time = self.in_time(lane, name);
        let Some(books) = self.accounts.get_mut(account) else {
            return if limit.is_some() { 1 } else { usize::MAX };
        };
        let by_limit = match limit {
            _ if books.blocked_until(now).is_some() => 0,
            None => usize::MAX,
            Some(limit) => {
                books.expire(now, limit.window);
                books.affordable(now, limit, share, lane)
            }
        };
        by_time.min(by_limit)
    }

    /// What one command of a method costs a lane, once one was seen.
    pub(super) fn cost(&self, lane: Lane, name: &str) -> Option<f64> {
        self.accounts.get(self.account(name))?.cost(lane)
    }

    /// The least time in which so many more commands of a method can be sent.
    pub(super) fn least_time(
        &self,
        now: Instant,
        lane: Lane,
        name: &str,
        commands: usize,
    ) -> Duration {
        let books = self.accounts.get(self.account(name));
        self.limit.zip(books).map_or(Duration::ZERO, |(limit, books)| {
            books.least_time(now, limit, self.share, lane, commands)
        })
    }

    /// Reserves what the calls are expected to cost; gives the number of extra calls
    /// that fit as well.
    pub(super) fn reserve(
        &mut self,
        now: Instant,
        lane: Lane,
        demand: &Demand,
    ) -> (Vec<Reservation>, usize) {
        let charges = self.charges(demand);
        let pace = |charge: &Charge<'_>| {
            self.accounts.get(charge.account).map_or(0.0, |books| books.seconds(lane, charge.calls))
        };
        let left = LONGEST_REQUEST - charges.iter().map(pace).sum::<f64>();
        let mut granted = 0;
        let mut reservations = Vec::with_capacity(charges.len());
        for Charge { account, calls, extra } in charges {
            let mut commands = calls;
            if extra > 0 {
                let affordable = self.affordable(now, lane, account).saturating_sub(calls);
                let in_time =
                    self.accounts.get(account).map_or(extra, |books| books.chain_of(lane, left));
                granted = extra.min(affordable).min(in_time);
                commands += granted;
            }
            let account = account.to_owned();
            let flight = self.books(now, &account).depart(now, lane, commands);
            reservations.push(Reservation { account, flight });
        }
        (reservations, granted)
    }

    /// Books what a request really cost, by the figures of the commands that ran, in
    /// order, account by account.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        lane: Lane,
        reservations: Vec<Reservation>,
        figures: &[(String, Vec<Figures>)],
    ) {
        let window = self.limit.map(|limit| limit.window);
        let reported = |(_, figures): &&(String, Vec<Figures>)| {
            figures.iter().any(|figures| figures.operating.is_some())
        };
        if let Some((account, _)) = figures.iter().find(reported) {
            self.on_batch = account == BATCH;
        }
        let commands = reservations.iter().map(|reservation| reservation.flight.commands()).sum();
        let mut flights = Vec::with_capacity(reservations.len());
        for Reservation { account, flight } in reservations {
            let books = self.books(now, &account);
            if let Some(window) = window {
                books.expire(now, window);
            }
            flights.push((account, books.land(now, &flight)));
        }
        for (account, figures) in figures {
            let flight = flights.iter().find(|(own, _)| own == account).map(|(_, flight)| flight);
            let limit = self.own_limit();
            let whole = (account == BATCH).then_some(commands);
            self.books(now, account).settle(now, limit, lane, flight, whole, figures);
        }
    }

    /// Books the expected cost of commands whose answer never came: they may have run.
    pub(super) fn forfeit(&mut self, now: Instant, lane: Lane, reservation: &Reservation) {
        let books = self.books(now, &reservation.account);
        let landed = books.land(now, &reservation.flight);
        books.forfeit(now, lane, &landed);
    }

    /// Gives back what was reserved for commands that did not run.
    pub(super) fn cancel(&mut self, now: Instant, reservation: &Reservation) {
        self.books(now, &reservation.account).land(now, &reservation.flight);
    }

    /// Holds a method back after the portal has refused it.
    pub(super) fn block(&mut self, now: Instant, name: &str) {
        // `batch` is refused only where it is accounted for.
        self.on_batch |= name == BATCH;
        let window = self.limit.map(|limit| limit.window);
        self.books(now, name).block(now, window);
    }

    /// Holds a method back for so long at the least.
    pub(super) fn pause(&mut self, now: Instant, name: &str, wait: Duration) {
        self.books(now, name).pause(now, wait);
    }

    /// Whether a demand asks for what another one waits for.
    pub(super) fn concerns(&self, reason: &WaitReason, demand: &Demand) -> bool {
        let (WaitReason::OperatingTime { method } | WaitReason::CostUnknown { method }) = reason
        else {
            return false;
        };
        self.charges(demand).iter().any(|charge| charge.account == method)
    }

    /// The part of the limit that is ours.
    fn own_limit(&self) -> Option<OperatingLimit> {
        let OperatingLimit { limit, window } = self.limit?;
        Some(OperatingLimit { limit: limit.mul_f64(self.share), window })
    }

    /// The account that a method's calls are booked on.
    fn account<'a>(&self, name: &'a str) -> &'a str {
        if self.on_batch { BATCH } else { name }
    }

    fn blocked(&self, now: Instant, demand: &Demand) -> Option<(WaitReason, Instant)> {
        let whole = self.on_batch.then_some(BATCH);
        demand.calls.iter().map(|(name, _)| name.as_str()).chain(whole).find_map(|name| {
            let until = self.accounts.get(name)?.blocked_until(now)?;
            Some((WaitReason::MethodBlocked { method: name.to_owned() }, until))
        })
    }

    fn charges<'a>(&self, demand: &'a Demand) -> Vec<Charge<'a>> {
        let extra = demand.extra.as_ref();
        if self.on_batch && !demand.calls.is_empty() {
            let calls = demand.calls.iter().map(|(_, calls)| calls).sum();
            return vec![Charge { account: BATCH, calls, extra: extra.map_or(0, |(_, n)| *n) }];
        }
        let of = |name: &str| extra.filter(|(extra, _)| extra == name).map_or(0, |(_, n)| *n);
        demand
            .calls
            .iter()
            .map(|(name, calls)| Charge { account: name, calls: *calls, extra: of(name) })
            .collect()
    }

    fn books(&mut self, now: Instant, account: &str) -> &mut Books {
        self.accounts.entry(account.to_owned()).or_insert_with(|| Books::new(now))
    }
}
