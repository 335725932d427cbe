//! How a command bears a database that goes away while it works: it waits as long as
//! it would have waited at its start, and goes on from what is stored.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Consequence, SyncError};
use crate::retry::{Delays, RetryPolicy};

/// How long commands wait for a database that is away. Daemons wait for ever.
pub const DATABASE_PATIENCE: Duration = Duration::from_secs(30);

/// The database is our own, so it is tried at least so often.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One command's patience with its database.
pub(super) struct Patience {
    delays: Delays,
    began: Instant,
    away_since: Option<Instant>,
}

impl Patience {
    pub(super) fn new(retry: RetryPolicy) -> Self {
        Self { delays: retry.delays(), began: Instant::now(), away_since: None }
    }

    /// Pauses after a failed attempt where another one may help. Hands the error back
    /// when it is about something else, or when the database has been away too long.
    pub(super) async fn bear(&mut self, error: SyncError) -> Result<(), SyncError> {
        if error.consequence() != Consequence::AwaitDatabase {
            return Err(error);
        }
        let now = Instant::now();
        // An attempt that worked for longer than that found a database.
        if now - self.began > DATABASE_PATIENCE {
            self.away_since = None;
            self.delays.reset();
        }
        let pause = self.delays.next_delay().min(LONGEST_PAUSE);
        if now + pause - *self.away_since.get_or_insert(now) > DATABASE_PATIENCE {
            return Err(error);
        }
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            retry_in_seconds = pause.as_secs_f64(),
            "waiting for the database"
        );
        sleep(pause).await;
        self.began = Instant::now();
        Ok(())
    }
}

/// Does something of a command again while the database is away, for as long as a command
/// waits for it.
///
/// # Errors
/// What the work fails with for other reasons, or once the database has been away for too
/// long; [`SyncError::Stopping`] when `stop` is cancelled in a pause.
pub async fn outlast<T, W>(
    retry: RetryPolicy,
    stop: &CancellationToken,
    mut work: impl FnMut() -> W,
) -> Result<T, SyncError>
where
    W: Future<Output = Result<T, SyncError>>,
{
    let mut patience = Patience::new(retry);
    loop {
        match work().await {
            Ok(done) => return Ok(done),
            Err(error) => {
                let bearing = stop.run_until_cancelled(patience.bear(error));
                bearing.await.unwrap_or(Err(SyncError::Stopping))?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;

    fn away() -> SyncError {
        StoreError::from(sqlx::Error::PoolTimedOut).into()
    }

    fn patience() -> Patience {
        let (first, max) = (Duration::from_millis(500), Duration::from_mins(1));
        Patience::new(RetryPolicy::new(6, first, max).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_stays_away_is_given_up_after_half_a_minute() {
        let mut patience = patience();
        let begun = Instant::now();
        while patience.bear(away()).await.is_ok() {}
        let took = begun.elapsed();
        assert!(took <= DATABASE_PATIENCE && took > DATABASE_PATIENCE / 2, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn work_in_between_renews_the_patience() {
        let mut patience = patience();
        for _ in 0..20 {
            patience.bear(away()).await.unwrap();
            sleep(DATABASE_PATIENCE + Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_failures_are_not_waited_for() {
        let begun = Instant::now();
        patience().bear(StoreError::LeaseLost.into()).await.unwrap_err();
        patience().bear(SyncError::Stopping).await.unwrap_err();
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
