//! The portal's two limits: the leaky bucket of requests and the operating
//! budget of each method (vendor page `limits`).

use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The request limit of a portal and source address.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BucketLimit {
    /// A request is refused while the counter is above this.
    pub threshold: f64,
    /// What the counter loses once a second.
    pub rate: f64,
    /// Whether a refused request counts, too.
    pub refused_count: bool,
}

impl Default for BucketLimit {
    fn default() -> Self {
        Self { threshold: 50.0, rate: 2.0, refused_count: true }
    }
}

/// What became of a request at the bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Admission {
    /// Let in, with the counter after it.
    Admitted(f64),
    /// Refused; whether it filled the bucket all the same.
    Refused(bool),
}

#[derive(Clone, Copy, Debug, Default)]
struct Level {
    counter: f64,
    tick: f64,
}

/// The buckets, one per source address.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    levels: HashMap<IpAddr, Level>,
}

impl Buckets {
    /// Counts a request at `now`, in seconds since the portal started.
    pub(super) fn admit(&mut self, limit: BucketLimit, from: IpAddr, now: f64) -> Admission {
        let level = self.levels.entry(from).or_default();
        let tick = now.floor();
        level.counter = (level.counter - limit.rate * (tick - level.tick)).max(0.0);
        level.tick = tick;
        let refused = level.counter > limit.threshold;
        if !refused || limit.refused_count {
            level.counter += 1.0;
        }
        if refused {
            Admission::Refused(limit.refused_count)
        } else {
            Admission::Admitted(level.counter)
        }
    }

    /// Empties all buckets.
    pub(super) fn clear(&mut self) {
        self.levels.clear();
    }
}

/// Where a command's time is booked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Booking {
    /// On the command's own method, as documented.
    #[default]
    Command,
    /// A batch's commands on `batch` as a whole.
    Batch,
}

/// The operating budget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatingLimit {
    /// Seconds per window and method; a method is refused once it is above.
    pub limit: f64,
    /// Length of the window in seconds; it has ten buckets.
    pub window: f64,
    /// Whether requests of up to 0.1 s for a method go unrecorded.
    pub floor: bool,
    /// Where time is booked.
    pub booking: Booking,
    /// Whether answers say `operating` and `operating_reset_at`.
    pub report: bool,
    /// Seconds for which a method is blocked once it is above its limit, all of it forgotten
    /// afterwards; if absent, until enough of the window has passed.
    #[serde(default)]
    pub block: Option<f64>,
}

impl Default for OperatingLimit {
    fn default() -> Self {
        Self {
            limit: 480.0,
            window: 600.0,
            floor: true,
            booking: Booking::Command,
            report: true,
            block: None,
        }
    }
}

/// Seconds of one request and method that go unrecorded.
const FLOOR: f64 = 0.1;

#[derive(Clone, Debug, Default)]
struct Ledger {
    /// (slice number, time of its first call, seconds)
    slices: Vec<(i64, f64, f64)>,
    /// What the last request booked.
    last_request: f64,
    /// Whether one more such command, or request, would cross the limit.
    near: bool,
    full: bool,
    /// Until when it is blocked for a fixed time.
    blocked_until: Option<f64>,
}

/// What one request has used so far, per method.
#[derive(Debug, Default)]
pub(super) struct RequestUse {
    unrecorded: HashMap<String, f64>,
    recorded: HashMap<String, f64>,
}

/// A method's account after a command.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Account {
    /// Seconds used in the window.
    pub(super) operating: f64,
    /// Seconds from now until the oldest slice leaves the window.
    pub(super) reset_in: f64,
    /// The next command like this one would cross the limit, and that is new.
    pub(super) came_near: bool,
    /// The next request like this one would cross the limit, and that is new.
    pub(super) came_full: bool,
}

/// The operating accounts of the webhook.
#[derive(Debug, Default)]
pub(super) struct Operating {
    ledgers: HashMap<String, Ledger>,
}

impl Operating {
    /// Seconds that a method has used in the window that ends `now`.
    pub(super) fn used(&mut self, limit: &OperatingLimit, method: &str, now: f64) -> f64 {
        self.ledgers.get_mut(method).map_or(0.0, |ledger| ledger.sum(limit, now))
    }

    /// Whether a method is blocked: above its limit before the call.
    pub(super) fn blocked(&mut self, limit: &OperatingLimit, method: &str, now: f64) -> bool {
        let above = self.used(limit, method, now) > limit.limit;
        let Some(seconds) = limit.block else { return above };
        let Some(ledger) = self.ledgers.get_mut(method) else { return false };
        match ledger.blocked_until {
            Some(until) if now < until => true,
            Some(_) => {
                *ledger = Ledger::default();
                false
            }
            None => {
                ledger.blocked_until = above.then_some(now + seconds);
                above
            }
        }
    }

    /// Books `seconds` on a method.
    pub(super) fn book(
        &mut self,
        limit: &OperatingLimit,
        request: &mut RequestUse,
        method: &str,
        seconds: f64,
        now: f64,
    ) -> Account {
        let ledger = self.ledgers.entry(method.to_owned()).or_default();
        let pending = request.unrecorded.entry(method.to_owned()).or_default();
        *pending += seconds;
        let so_far = request.recorded.entry(method.to_owned()).or_default();
        if !limit.floor || *so_far > 0.0 || *pending > FLOOR {
            ledger.add(limit, *pending, now);
            *so_far += *pending;
            *pending = 0.0;
        }
        let operating = ledger.sum(limit, now);
        if *so_far > 0.0 {
            ledger.last_request = *so_far;
        }
        let near = seconds > 0.0 && operating + seconds > limit.limit;
        let full = ledger.last_request > 0.0 && operating + ledger.last_request > limit.limit;
        let account = Account {
            operating,
            reset_in: ledger.reset_in(limit, now),
            came_near: near && !ledger.near,
            came_full: full && !ledger.full,
        };
        ledger.near = near;
        ledger.full = full;
        account
    }

    /// Forgets everything booked.
    pub(super) fn clear(&mut self) {
        self.ledgers.clear();
    }
}

impl Ledger {
    #[expect(clippy::cast_possible_truncation, reason = "slices are counted, not measured")]
    fn slice(limit: &OperatingLimit, now: f64) -> i64 {
        (now * 10.0 / limit.window).floor() as i64
    }

    fn sum(&mut self, limit: &OperatingLimit, now: f64) -> f64 {
        let oldest = Self::slice(limit, now) - 10;
        self.slices.retain(|(slice, _, _)| *slice > oldest);
        self.slices.iter().map(|(_, _, seconds)| seconds).sum()
    }

    fn add(&mut self, limit: &OperatingLimit, seconds: f64, now: f64) {
        let slice = Self::slice(limit, now);
        match self.slices.last_mut() {
            Some(last) if last.0 == slice => last.2 += seconds,
            _ => self.slices.push((slice, now, seconds)),
        }
    }

    fn reset_in(&self, limit: &OperatingLimit, now: f64) -> f64 {
        let first = self.slices.first().map_or(now, |(_, first, _)| *first);
        first + limit.window - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_bucket_of_three_admits_four_and_drains_by_the_tick() {
        let limit = BucketLimit { threshold: 3.0, rate: 2.0, refused_count: false };
        let mut buckets = Buckets::default();
        for level in [1.0, 2.0, 3.0, 4.0] {
            assert_eq!(buckets.admit(limit, HOME, 0.5), Admission::Admitted(level));
        }
        assert_eq!(buckets.admit(limit, HOME, 0.9), Admission::Refused(false));
        assert_eq!(buckets.admit(limit, HOME, 1.0), Admission::Admitted(3.0));
    }

    #[test]
    fn a_refused_request_fills_the_bucket_too() {
        let limit = BucketLimit { threshold: 1.0, rate: 1.0, refused_count: true };
        let mut buckets = Buckets::default();
        let mut admitted = 0;
        for at in 0..50 {
            let now = f64::from(at) * 0.25;
            admitted +=
                i32::from(matches!(buckets.admit(limit, HOME, now), Admission::Admitted(_)));
        }
        assert_eq!(admitted, 2, "a storm keeps itself out");
    }

    #[test]
    fn the_call_that_crosses_the_limit_completes_and_the_next_is_blocked() {
        let limit = OperatingLimit { limit: 1.0, window: 10.0, ..OperatingLimit::default() };
        let mut operating = Operating::default();
        for at in 0..3 {
            let now = f64::from(at);
            assert!(!operating.blocked(&limit, "m", now));
            operating.book(&limit, &mut RequestUse::default(), "m", 0.4, now);
        }
        assert!(operating.blocked(&limit, "m", 3.0));
        assert!(!operating.blocked(&limit, "other", 3.0));
        assert!(operating.blocked(&limit, "m", 9.9));
        assert!(!operating.blocked(&limit, "m", 10.0));
    }

    #[test]
    fn a_block_of_fixed_length_lasts_longer_or_shorter_than_the_window() {
        for seconds in [4.0, 25.0] {
            let limit = OperatingLimit { limit: 1.0, window: 10.0, ..OperatingLimit::default() };
            let limit = OperatingLimit { block: Some(seconds), ..limit };
            let mut operating = Operating::default();
            operating.book(&limit, &mut RequestUse::default(), "m", 1.5, 0.0);
            assert!(operating.blocked(&limit, "m", 1.0));
            assert!(operating.blocked(&limit, "m", 0.9 + seconds));
            assert!(!operating.blocked(&limit, "m", 1.0 + seconds));
            assert!(operating.used(&limit, "m", 1.0 + seconds).abs() < 1e-9);
        }
    }

    #[test]
    fn fast_requests_cost_nothing_but_a_request_sums_up() {
        let limit = OperatingLimit::default();
        let mut operating = Operating::default();
        for _ in 0..100 {
            operating.book(&limit, &mut RequestUse::default(), "m", 0.09, 0.0);
        }
        assert!(operating.used(&limit, "m", 0.0).abs() < 1e-9);
        let mut one = RequestUse::default();
        operating.book(&limit, &mut one, "m", 0.09, 0.0);
        let account = operating.book(&limit, &mut one, "m", 0.09, 0.0);
        assert!((account.operating - 0.18).abs() < 1e-9);
        assert!((account.reset_in - 600.0).abs() < 1e-9);
    }

    #[test]
    fn nearness_is_reported_once_until_the_window_moves_on() {
        let limit =
            OperatingLimit { limit: 1.0, window: 10.0, floor: false, ..OperatingLimit::default() };
        let mut operating = Operating::default();
        let mut came = Vec::new();
        for at in [0, 1, 2, 20, 21, 22] {
            let mut one = RequestUse::default();
            let account = operating.book(&limit, &mut one, "m", 0.4, f64::from(at));
            came.push((account.came_near, account.came_full));
        }
        let twice = [(false, false), (true, true), (false, false)].repeat(2);
        assert_eq!(came, twice);
    }
}
