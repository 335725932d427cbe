//! The limiter on a clock that is set by hand: for saying beforehand how long work takes.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Demand, Lane, Limits,
    bucket::Bucket,
    operating::{Figures, Operating, Reservation},
};

/// The only method that is rehearsed.
const METHOD: &str = "list";

/// Admits requests of one method as a [`Limiter`](super::Limiter) would. Moments are
/// counted from the start, and must not go backwards.
#[derive(Debug)]
pub struct RehearsedLimiter {
    bucket: Bucket,
    operating: Operating,
    start: Instant,
}

/// The right to send one rehearsed request.
#[derive(Debug)]
pub struct RehearsedPermit {
    lane: Lane,
    commands: usize,
    reservations: Vec<Reservation>,
}

impl RehearsedPermit {
    /// The commands that it may carry.
    #[must_use]
    pub const fn commands(&self) -> usize {
        self.commands
    }
}

impl RehearsedLimiter {
    /// Starts with an empty bucket and empty books.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let start = Instant::now();
        Self {
            bucket: Bucket::new(limits, start),
            operating: Operating::new(limits.operating),
            start,
        }
    }

    /// Admits a request of so many commands, and as many more as fit; otherwise says when
    /// to ask again if nothing is answered before.
    ///
    /// # Errors
    /// That moment.
    pub fn admit(
        &mut self,
        at: Duration,
        lane: Lane,
        commands: usize,
        extra: usize,
    ) -> Result<RehearsedPermit, Duration> {
        let now = self.start + at;
        let method = METHOD.to_owned();
        let demand = Demand {
            calls: vec![(method.clone(), commands)],
            extra: (extra > 0).then_some((method, extra)),
        };
        let held = self.operating.wait(now, lane, &demand).map(|(_, until)| until);
        if let Some(until) = held.or_else(|| self.bucket.wait(now, lane)) {
            return Err((until - self.start).max(at + Duration::from_millis(1)));
        }
        self.bucket.fill(now);
        let (reservations, granted) = self.operating.reserve(now, lane, &demand);
        Ok(RehearsedPermit { lane, commands: commands + granted, reservations })
    }

    /// The least time in which so many more commands can be sent in so many requests.
    #[must_use]
    pub fn least_time(
        &mut self,
        at: Duration,
        lane: Lane,
        commands: usize,
        requests: usize,
    ) -> Duration {
        let now = self.start + at;
        let by_operating = self.operating.least_time(now, lane, METHOD, commands);
        by_operating.max(self.bucket.least_time(now, lane, requests))
    }

    /// Takes an answer in: what each command took, and the sum that was shown after each.
    pub fn answered(
        &mut self,
        at: Duration,
        permit: RehearsedPermit,
        cost: Duration,
        sums: &[Option<Duration>],
    ) {
        let figures = sums.iter().map(|sum| Figures {
            operating: sum.map(|sum| sum.as_secs_f64()),
            spent: Some(cost.as_secs_f64()),
            took: Some(cost.as_secs_f64()),
            reset_in: None,
        });
        let figures = vec![(METHOD.to_owned(), figures.collect())];
        self.operating.settle(self.start + at, permit.lane, permit.reservations, &figures);
    }
}
