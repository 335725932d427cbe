//! Delays and dispositions: what a failure asks for, and how long to wait before trying again.
//!
//! There is one retry layer. The HTTP client and the database driver never retry by
//! themselves; they hand their error to [`RetryPolicy::run`], whose caller classifies it.
//! This is the only file that knows the `backoff` crate: it supplies a sequence of
//! jittered delays, while counting, classifying and sleeping happen here, on tokio's clock.

use std::{fmt, future::Future, time::Duration};

use backoff::backoff::Backoff as _;

/// What a failure asks for. Every error of the portal and of the database maps to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// Transient: try again after a growing, jittered delay.
    Retry,
    /// Perhaps transient: try again a few times, then give up.
    RetryFew,
    /// The portal refuses every request for now; the limiter holds all of them back.
    WaitPortal,
    /// The portal refuses one method for now; the limiter holds that method back.
    WaitMethod,
    /// An administrator has to confirm the call in the portal first.
    WaitConfirmation,
    /// The access token has expired: renew it, then try once more.
    RefreshToken,
    /// No right to this kind of record: stop the entity, the others go on.
    StopEntity,
    /// Nothing works with these credentials or on this portal: stop everything.
    StopPortal,
    /// The request itself is wrong; sending it again cannot help.
    CallerBug,
    /// The record that was asked for does not exist.
    Missing,
}

impl Disposition {
    /// What the retry loop does about it.
    ///
    /// The two waits try again without counting, because the limiter does the waiting:
    /// a portal whose budget somebody else eats delays the work and never fails it.
    #[must_use]
    pub const fn step(self) -> Step {
        match self {
            Self::Retry => Step::Again,
            Self::RetryFew => Step::AgainFew,
            Self::WaitPortal | Self::WaitMethod => Step::AgainWhenAdmitted,
            Self::WaitConfirmation
            | Self::RefreshToken
            | Self::StopEntity
            | Self::StopPortal
            | Self::CallerBug
            | Self::Missing => Step::Stop,
        }
    }
}

/// What the retry loop does after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Pause, then try again, up to the policy's attempts.
    Again,
    /// Pause, then try again, up to three attempts.
    AgainFew,
    /// Try again at once and do not count it; the operation itself waits for admission.
    AgainWhenAdmitted,
    /// Pause once, then return the error.
    StopAfterPause,
    /// Return the error.
    Stop,
}

/// Attempts that [`Step::AgainFew`] allows.
const FEW: u32 = 3;

/// How often and how patiently something is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    attempts: u32,
    first: Duration,
    max: Duration,
}

/// Why a [`RetryPolicy`] was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// Zero attempts would never try at all.
    #[error("a retry policy needs at least one attempt")]
    NoAttempts,
    /// Without a first delay, retries would storm.
    #[error("the first retry delay must be longer than zero")]
    NoDelay,
    /// The longest delay is below the first.
    #[error("the longest retry delay must not be shorter than the first")]
    MaxBelowFirst,
}

impl RetryPolicy {
    /// Takes the number of attempts in all (the first included), the first delay, and
    /// the longest delay.
    pub const fn new(attempts: u32, first: Duration, max: Duration) -> Result<Self, InvalidPolicy> {
        if attempts == 0 {
            return Err(InvalidPolicy::NoAttempts);
        }
        if first.is_zero() {
            return Err(InvalidPolicy::NoDelay);
        }
        if max.as_nanos() < first.as_nanos() {
            return Err(InvalidPolicy::MaxBelowFirst);
        }
        Ok(Self { attempts, first, max })
    }

    /// Attempts in all, the first included.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Starts a sequence of delays.
    #[must_use]
    pub fn delays(&self) -> Delays {
        #[expect(clippy::disallowed_types, reason = "this is the file that may know it")]
        let sequence = backoff::ExponentialBackoff {
            current_interval: self.first,
            initial_interval: self.first,
            multiplier: 2.0,
            max_interval: self.max,
            // Its clock is the standard library's, which a test cannot pause.
            max_elapsed_time: None,
            ..backoff::ExponentialBackoff::default()
        };
        Delays { sequence, max: self.max }
    }

    /// Runs an operation until it succeeds or its failure says to stop.
    ///
    /// `classify` turns a failure into a step. `on_retry` is told of every failure that
    /// is tried again, with the pause before it (zero when the operation waits by itself).
    pub async fn run<T, E, F>(
        &self,
        mut operation: impl FnMut() -> F,
        classify: impl Fn(&E) -> Step,
        mut on_retry: impl FnMut(&E, Duration),
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut delays = self.delays();
        let mut failures = 0;
        loop {
            let error = match operation().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let allowed = match classify(&error) {
                Step::Stop => return Err(error),
                Step::StopAfterPause => {
                    tokio::time::sleep(delays.next_delay()).await;
                    return Err(error);
                }
                Step::AgainWhenAdmitted => {
                    on_retry(&error, Duration::ZERO);
                    continue;
                }
                Step::Again => self.attempts,
                Step::AgainFew => self.attempts.min(FEW),
            };
            failures += 1;
            if failures >= allowed {
                return Err(error);
            }
            let pause = delays.next_delay();
            on_retry(&error, pause);
            tokio::time::sleep(pause).await;
        }
    }
}

/// An endless sequence of growing, jittered delays, none longer than the policy's maximum.
pub struct Delays {
    #[expect(clippy::disallowed_types, reason = "this is the file that may know it")]
    sequence: backoff::ExponentialBackoff,
    max: Duration,
}

impl Delays {
    /// The next delay: between half and one and a half times a doubling interval.
    pub fn next_delay(&mut self) -> Duration {
        // The jitter is applied after the cap, hence the clamp; without an elapsed
        // time the sequence never ends, hence the unreached fallback.
        self.sequence.next_backoff().unwrap_or(self.max).min(self.max)
    }

    /// Starts over with the first delay.
    pub fn reset(&mut self) {
        self.sequence.reset();
    }
}

impl fmt::Debug for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delays").field("max", &self.max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;

    fn policy(attempts: u32) -> RetryPolicy {
        RetryPolicy::new(attempts, Duration::from_secs(1), Duration::from_secs(8)).unwrap()
    }

    async fn failing(policy: RetryPolicy, step: Step) -> (u32, Duration) {
        let tries = Cell::new(0);
        let start = Instant::now();
        let result: Result<(), &str> = policy
            .run(
                || {
                    tries.set(tries.get() + 1);
                    async { Err("no") }
                },
                |_| step,
                |_, _| {},
            )
            .await;
        assert_eq!(result, Err("no"));
        (tries.get(), start.elapsed())
    }

    #[test]
    fn nonsense_is_refused_on_construction() {
        let second = Duration::from_secs(1);
        assert_eq!(RetryPolicy::new(0, second, second), Err(InvalidPolicy::NoAttempts));
        assert_eq!(RetryPolicy::new(1, Duration::ZERO, second), Err(InvalidPolicy::NoDelay));
        assert_eq!(
            RetryPolicy::new(1, second, Duration::from_millis(999)),
            Err(InvalidPolicy::MaxBelowFirst)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_persistent_failure_uses_every_attempt_and_pauses_in_between() {
        let (tries, waited) = failing(policy(5), Step::Again).await;
        assert_eq!(tries, 5);
        // 1 + 2 + 4 + 8 seconds, each half to one and a half times, clamped to 8.
        assert!(waited >= Duration::from_millis(7_500), "{waited:?}");
        assert!(waited <= Duration::from_millis(18_501), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn few_means_three() {
        assert_eq!(failing(policy(9), Step::AgainFew).await.0, 3);
        assert_eq!(failing(policy(2), Step::AgainFew).await.0, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_final_failure_is_returned_at_once() {
        assert_eq!(failing(policy(5), Step::Stop).await, (1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_can_be_returned_after_one_pause() {
        let (tries, waited) = failing(policy(5), Step::StopAfterPause).await;
        assert_eq!(tries, 1);
        assert!(waited >= Duration::from_millis(500), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_by_the_limiter_do_not_use_up_attempts() {
        let tries = Cell::new(0);
        let result: Result<u32, &str> = policy(2)
            .run(
                || {
                    tries.set(tries.get() + 1);
                    let tries = tries.get();
                    async move { if tries < 50 { Err("busy") } else { Ok(tries) } }
                },
                |_| Disposition::WaitPortal.step(),
                |_, pause| assert!(pause.is_zero()),
            )
            .await;
        assert_eq!(result, Ok(50));
    }

    proptest! {
        #[test]
        fn delays_stay_inside_the_window(first in 1_u64..5_000, extra in 0_u64..60_000) {
            let first = Duration::from_millis(first);
            let max = first + Duration::from_millis(extra);
            let mut delays = RetryPolicy::new(3, first, max).unwrap().delays();
            for _ in 0..40 {
                let delay = delays.next_delay();
                prop_assert!(delay <= max);
                prop_assert!(delay >= first / 2);
            }
        }
    }
}
