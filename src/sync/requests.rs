//! Work handed to the process that holds the lease, and followed to its verdict.

use std::time::Duration;

use tokio::time::sleep;

use super::{EntityProgress, SyncError, patience::Patience, work::Work};
use crate::{
    entity::Entity,
    retry::RetryPolicy,
    store::{Generation, RequestEnd, Store},
};

/// How often the request is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How a request that was handed over stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// The holder has not taken it yet.
    Queued,
    /// The holder works on it; these are the backfills it does for it.
    UnderWay(Vec<EntityProgress>),
    /// It is closed.
    Finished(RequestEnd),
    /// The holder is gone: whoever takes the lease next does the work and closes the
    /// request, be it the caller or another.
    HolderGone,
}

/// A request that was handed over, as whoever asked follows it.
///
/// Dropping it changes nothing about the request.
pub struct HandedOver {
    store: Store,
    request: i64,
    retry: RetryPolicy,
    patience: Patience,
}

impl HandedOver {
    /// Leaves a request for the holder.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn new(
        store: &Store,
        work: &Work,
        entities: &[&'static Entity],
        retry: RetryPolicy,
    ) -> Result<Self, SyncError> {
        let request = store.enqueue(work.kind(), entities, &work.arguments()).await?;
        Ok(Self { store: store.clone(), request, retry, patience: Patience::new(retry) })
    }

    /// The request's number.
    #[must_use]
    pub const fn number(&self) -> i64 {
        self.request
    }

    /// Waits a moment, then looks how the request stands. May be given up while it waits.
    ///
    /// # Errors
    /// Errors of the database, once it has been away for longer than a command waits.
    pub async fn next(&mut self) -> Result<Standing, SyncError> {
        loop {
            sleep(LOOK).await;
            match self.look().await {
                Ok(standing) => {
                    self.patience = Patience::new(self.retry);
                    return Ok(standing);
                }
                Err(error) => self.patience.bear(error).await?,
            }
        }
    }

    async fn look(&self) -> Result<Standing, SyncError> {
        // In this order: a holder that finishes and leaves in between has finished.
        let held = self.store.lease_row().await?.held;
        let Some(row) = self.store.request(self.request).await? else {
            return Ok(Standing::HolderGone);
        };
        if let Some(end) = row.end {
            return Ok(Standing::Finished(end));
        }
        if !held {
            return Ok(Standing::HolderGone);
        }
        if row.taken_by.is_none() {
            return Ok(Standing::Queued);
        }
        let progress = row.progress.and_then(|json| serde_json::from_value(json).ok());
        Ok(Standing::UnderWay(progress.unwrap_or_default()))
    }

    /// Takes the request back. The holder stops working for it within a second or two and
    /// closes it, so go on with [`Self::next`]. What the mirror needs in any case goes on
    /// in the holder's own time.
    ///
    /// # Errors
    /// Errors of the database, once it has been away for longer than a command waits.
    pub async fn cancel(&mut self) -> Result<(), SyncError> {
        while let Err(error) = self.store.cancel_request(self.request).await {
            self.patience.bear(error.into()).await?;
        }
        Ok(())
    }

    /// The entities which the holder had begun to read anew for this request, and which
    /// therefore need not begin once more when another goes on with it.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn begun_anew(&self) -> Result<Vec<&'static Entity>, SyncError> {
        let row = self.store.request(self.request).await?;
        Ok(row.map(|row| row.refilling).unwrap_or_default())
    }

    /// Closes the request, whose work the caller's own session has done because the
    /// holder died.
    ///
    /// # Errors
    /// Errors of the database, such as a lease that was lost.
    pub async fn close(&self, generation: Generation, end: RequestEnd) -> Result<(), SyncError> {
        // Each of them goes back to the queue when this session ends.
        while let Some(open) = self.store.take_open(generation).await? {
            if open.id == self.request {
                let message = "done by the command itself, because the holder died".to_owned();
                let end = RequestEnd { message, ..end };
                self.store.finish_request(generation, open.id, &end).await?;
                break;
            }
        }
        Ok(())
    }
}
