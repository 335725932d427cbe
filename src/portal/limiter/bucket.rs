//! The portal's leaky bucket, and how not to make it run over.
//!
//! The portal keeps a counter C per caller: plus one for every HTTP request, minus Y once
//! a second, never below zero; above X it refuses (vendor page `limits`). We cannot see
//! when its second ticks, so we keep a fluid level F that drains continuously at Y.
//!
//! **C ≤ F + Y.** Let N(s, t] be the requests between s and t. Both quantities are the
//! largest value, over every earlier moment s, of what came in since minus what went out
//! since: F(t) = max N(s, t] − Y·(t − s), and C(t) = max N(s, t] − Y·ticks(s, t]. An
//! interval of length t − s holds at least t − s − 1 ticks, so C(t) ≤ F(t) + Y. The same
//! holds with any slower drain in place of Y.
//!
//! **C never passes X.** A request is sent only while F ≤ X − Y − Y/10, so that before it
//! C ≤ X − Y/10, and after it C < X + 1; C is a whole number, so C ≤ X. The tenth pays for
//! requests that bunch up on their way by up to 0.1 s. Where X is so small that this would
//! be below zero, we drain more slowly than the portal.
//!
//! A refusal means that somebody else fills the same bucket: everyone pauses, F is set above
//! X, and we claim only half the drain, growing back to all of it within a minute.

use std::time::Duration;

use tokio::time::Instant;

use super::{Lane, Limits, Share};
use crate::retry::{Delays, RetryPolicy};

/// Pauses after refusals: they grow while refusals go on.
const REFUSED: RetryPolicy =
    match RetryPolicy::new(1, Duration::from_secs(1), Duration::from_mins(1)) {
        Ok(policy) => policy,
        Err(_) => panic!("the constants above are valid"),
    };

/// How long it takes until the whole drain is claimed again after a refusal.
const RECOVERY: Duration = Duration::from_mins(1);

/// The smallest share of the drain that is claimed, however many refusals there are.
const LEAST_SHARE: f64 = 1.0 / 16.0;

/// One second's drain, and a tenth of one for requests that bunch up on their way.
const HEADROOM: f64 = 1.1;

/// The most places that are kept free for incremental cycles.
const RESERVED_PLACES: f64 = 10.0;

/// A model of the portal's counter that is never below what matters. Pure: every method
/// takes the present moment, which must not go backwards.
#[derive(Debug)]
pub(super) struct Bucket {
    capacity: f64,
    rate: f64,
    level: f64,
    at: Instant,
    /// The last refusal, and the share of the drain that was claimed right after it.
    slowed: Option<(Instant, f64)>,
    paused_until: Option<Instant>,
    pauses: Delays,
}

impl Bucket {
    /// Starts empty.
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        let capacity = f64::from(limits.burst.max(1));
        let rate = limits.requests_per_second;
        let rate = if rate.is_finite() { rate.max(0.01) } else { 0.01 };
        Self {
            capacity,
            rate: rate.min(capacity / HEADROOM),
            level: 0.0,
            at: now,
            slowed: None,
            paused_until: None,
            pauses: REFUSED.delays(),
        }
    }

    /// Claims only a part of it from now on: a smaller bucket that drains more slowly.
    pub(super) fn restrict(&mut self, share: Share) {
        self.capacity = (self.capacity * share.get()).max(1.0);
        self.rate = (self.rate * share.get()).min(self.capacity / HEADROOM);
    }

    /// When a request of that lane may be sent, if nothing else is sent before: `None`
    /// for now.
    pub(super) fn wait(&mut self, now: Instant, lane: Lane) -> Option<Instant> {
        self.drain(now);
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Some(until);
        }
        let excess = self.level - self.threshold(lane);
        if excess <= 1e-9 {
            return None;
        }
        // The share only grows meanwhile, so this is late rather than early.
        let wait = excess / (self.rate * self.share(now));
        Some(now + Duration::from_secs_f64(wait).max(Duration::from_millis(1)))
    }

    /// The least time in which so many requests of a lane can be sent.
    pub(super) fn least_time(&mut self, now: Instant, lane: Lane, requests: usize) -> Duration {
        self.drain(now);
        let requests = u32::try_from(requests).map_or(f64::MAX, f64::from);
        let excess = self.level + requests - 1.0 - self.threshold(lane);
        Duration::try_from_secs_f64((excess / self.rate).max(0.0)).unwrap_or(Duration::MAX)
    }

    /// Whether the portal has just refused a request.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// Counts a request. It counts however it ends.
    pub(super) fn fill(&mut self, now: Instant) {
        self.drain(now);
        self.level += 1.0;
    }

    /// Takes note that the portal has refused a request.
    pub(super) fn refused(&mut self, now: Instant) {
        self.drain(now);
        // It was above its threshold, or it would not have refused.
        self.level = self.level.max(self.capacity + 1.0);
        if self.is_paused(now) {
            // It was sent before the pause began: the same event, seen again.
            return;
        }
        let share = self.share(now);
        if share >= 1.0 {
            self.pauses.reset();
        }
        self.slowed = Some((now, (share / 2.0).max(LEAST_SHARE)));
        self.paused_until = Some(now + self.pauses.next_delay());
    }

    /// Keeps everyone waiting for so long at the least.
    pub(super) fn pause(&mut self, now: Instant, wait: Duration) {
        self.paused_until = self.paused_until.max(Some(now + wait));
    }

    /// How full it is.
    pub(super) fn level(&mut self, now: Instant) -> f64 {
        self.drain(now);
        self.level
    }

    /// Raises the level to one that is known from elsewhere; infinity means full.
    pub(super) fn restore(&mut self, now: Instant, level: f64) {
        self.drain(now);
        if !level.is_nan() {
            self.level = self.level.max(level.min(self.capacity));
        }
    }

    /// The level up to which a lane may send.
    fn threshold(&self, lane: Lane) -> f64 {
        let own = self.capacity - HEADROOM * self.rate;
        let reserve = match lane {
            Lane::Incremental => 0.0,
            _ => RESERVED_PLACES.min(self.capacity / 5.0),
        };
        (own - reserve).max(0.0)
    }

    /// The share of the drain that is claimed at a moment.
    fn share(&self, now: Instant) -> f64 {
        self.slowed.map_or(1.0, |(since, least)| {
            let recovered = (now - since).as_secs_f64() / RECOVERY.as_secs_f64();
            least + (1.0 - least) * recovered.min(1.0)
        })
    }

    /// Lets out what has drained since the last look: the integral of the share.
    fn drain(&mut self, now: Instant) {
        let claimed = match self.slowed {
            None => now.saturating_duration_since(self.at).as_secs_f64(),
            Some((since, least)) => {
                let recovery = RECOVERY.as_secs_f64();
                let up_to = |moment: Instant| {
                    let elapsed = moment.saturating_duration_since(since).as_secs_f64();
                    let slow = elapsed.min(recovery);
                    least * slow + (1.0 - least) * slow * slow / (2.0 * recovery) + elapsed - slow
                };
                up_to(now) - up_to(self.at)
            }
        };
        self.level = (self.level - self.rate * claimed).max(0.0);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    fn limits(burst: u32, rate: f64) -> Limits {
        Limits { requests_per_second: rate, burst, operating: None }
    }

    /// The portal's side: drains in whole steps, once a second, at a phase we do not know.
    struct Portal {
        counter: f64,
        next_tick: Instant,
        drain: f64,
    }

    impl Portal {
        fn request(&mut self, now: Instant) -> f64 {
            while self.next_tick <= now {
                self.counter = (self.counter - self.drain).max(0.0);
                self.next_tick += Duration::from_secs(1);
            }
            self.counter += 1.0;
            self.counter
        }
    }

    const LANES: [Lane; 5] =
        [Lane::Incremental, Lane::People, Lane::Sweep, Lane::Backfill, Lane::Rolling];

    proptest! {
        #[test]
        fn the_portals_counter_never_passes_its_threshold(
            (burst, rate) in prop_oneof![
                Just((50, 2.0)), Just((250, 5.0)), Just((3, 2.0)), Just((2, 2.0)), Just((10, 1.0)), Just((7, 3.0)),
            ],
            phase in 0_u64..1_000,
            steps in collection::vec((0_usize..5, prop_oneof![3 => Just(0_u64), 1 => 0_u64..3_000]), 1..400),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut bucket = Bucket::new(&limits(burst, rate), now);
            let mut portal = Portal {
                counter: 0.0,
                next_tick: start + Duration::from_millis(phase),
                drain: rate,
            };
            for (lane, idle) in steps {
                now += Duration::from_millis(idle);
                while let Some(until) = bucket.wait(now, LANES[lane]) {
                    prop_assert!(until > now);
                    now = until;
                }
                bucket.fill(now);
                let counter = portal.request(now);
                prop_assert!(counter <= f64::from(burst), "{counter} of {burst}");
            }
        }

        #[test]
        fn the_level_drains_the_same_in_one_step_or_in_many(
            cuts in collection::vec(1_u64..20_000, 1..20),
            refused_at in 0_usize..20,
        ) {
            let start = Instant::now();
            let mut often = Bucket::new(&limits(250, 5.0), start);
            let mut once = Bucket::new(&limits(250, 5.0), start);
            for bucket in [&mut often, &mut once] {
                bucket.restore(start, 240.0);
            }
            let mut now = start;
            for (index, cut) in cuts.iter().enumerate() {
                now += Duration::from_millis(*cut);
                often.drain(now);
                if index == refused_at {
                    often.refused(now);
                    once.refused(now);
                }
            }
            prop_assert!((often.level(now) - once.level(now)).abs() < 1e-6);
        }
    }

    #[test]
    fn the_whole_rate_is_used_in_the_long_run() {
        for (burst, rate) in [(50, 2.0), (3, 2.0), (250, 5.0)] {
            let start = Instant::now();
            let mut now = start;
            let mut bucket = Bucket::new(&limits(burst, rate), now);
            let mut sent = 0.0;
            while now < start + Duration::from_secs(1_000) {
                if let Some(until) = bucket.wait(now, Lane::Backfill) {
                    now = until;
                } else {
                    bucket.fill(now);
                    sent += 1.0;
                }
            }
            let possible = rate.min(f64::from(burst) / HEADROOM) * 1_000.0;
            assert!(sent > possible * 0.99, "{sent} of {possible}");
        }
    }

    #[test]
    fn other_lanes_leave_places_to_incremental_cycles() {
        let now = Instant::now();
        let mut bucket = Bucket::new(&limits(50, 2.0), now);
        let mut sent = 0;
        while bucket.wait(now, Lane::Backfill).is_none() {
            bucket.fill(now);
            sent += 1;
        }
        assert_eq!(sent, 38);
        while bucket.wait(now, Lane::Incremental).is_none() {
            bucket.fill(now);
            sent += 1;
        }
        assert_eq!(sent, 48);
    }

    #[test]
    fn a_refusal_pauses_everyone_and_halves_the_claim_for_a_while() {
        let start = Instant::now();
        let mut bucket = Bucket::new(&limits(50, 2.0), start);
        bucket.refused(start);
        assert!(bucket.is_paused(start));
        assert!((bucket.level(start) - 51.0).abs() < 1e-9);
        let pause = bucket.wait(start, Lane::Incremental).unwrap() - start;
        assert!(pause >= Duration::from_millis(500) && pause <= Duration::from_millis(1_501));
        // A refusal of a request that was under way already is no second event.
        bucket.refused(start);
        assert!((bucket.share(start) - 0.5).abs() < 1e-9);
        let later = start + Duration::from_secs(2);
        bucket.refused(later);
        assert!(bucket.share(later) < 0.27);
        let recovered = later + RECOVERY;
        assert!((bucket.share(recovered) - 1.0).abs() < 1e-9);
        assert!(bucket.wait(recovered, Lane::Backfill).is_none());
    }

    #[test]
    fn refusals_without_end_never_claim_nothing() {
        let mut now = Instant::now();
        let mut bucket = Bucket::new(&limits(50, 2.0), now);
        for _ in 0..100 {
            bucket.refused(now);
            let until = bucket.wait(now, Lane::Backfill).unwrap();
            assert!(until - now <= Duration::from_mins(2), "{:?}", until - now);
            now = until;
        }
    }

    #[test]
    fn a_level_from_elsewhere_is_taken_over_only_upwards() {
        let now = Instant::now();
        let mut bucket = Bucket::new(&limits(50, 2.0), now);
        bucket.restore(now, 30.0);
        bucket.restore(now, 10.0);
        bucket.restore(now, f64::NAN);
        assert!((bucket.level(now) - 30.0).abs() < 1e-9);
        let later = now + Duration::from_secs(5);
        assert!((bucket.level(later) - 20.0).abs() < 1e-9);
    }
}
