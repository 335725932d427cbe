//! Removing what is kept for some time only: runs, closed requests, resolved notes, history.

use std::time::Duration;

use super::session::Errand;
use crate::store::StoreError;

/// How often the holder looks for what is outdated.
const EVERY: Duration = Duration::from_hours(1);

/// Between two batches, so that other work goes first.
const PAUSE: Duration = Duration::from_millis(100);

/// Removes what is older than `keep`, again and again, until it is given up.
pub(super) async fn keep_house(errand: Errand, keep: Duration) {
    loop {
        let pause = match remove_some(&errand, keep).await {
            Ok(true) => PAUSE,
            Ok(false) => EVERY,
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "what is outdated could not be removed; trying again later"
                );
                EVERY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Removes a batch of each kind; says whether there may be more.
async fn remove_some(errand: &Errand, keep: Duration) -> Result<bool, StoreError> {
    let more = errand.store.remove_outdated(errand.generation, keep).await?;
    Ok(errand.store.remove_old_history(errand.generation).await? | more)
}
