//! Work handed to the process that holds the lease, and followed to its verdict.

use std::time::Duration;

use serde_json::json;

use super::{EntityProgress, SyncError, patience::Patience};
use crate::{
    entity::Entity,
    retry::RetryPolicy,
    store::{RequestKind, Store, Verdict},
};

/// How often the request is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How a request that was handed over ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handed {
    /// The holder has done it.
    Finished {
        /// How it ended.
        verdict: Verdict,
        /// One line per entity, for people.
        message: String,
    },
    /// The holder is gone: whoever takes the lease next does the work and closes the
    /// request, be it the caller or another.
    HolderGone,
}

/// Leaves a request for the holder. Returns its number, to be [followed](follow).
///
/// # Errors
/// Errors of the database.
pub async fn hand_over(
    store: &Store,
    kind: RequestKind,
    entities: &[&'static Entity],
    restart: bool,
) -> Result<i64, SyncError> {
    Ok(store.enqueue(kind, entities, &json!({ "restart": restart })).await?)
}

/// Follows a request to its verdict; `draw` is shown the progress.
///
/// # Errors
/// Errors of the database, once it has been away for longer than a command waits.
pub async fn follow(
    store: &Store,
    request: i64,
    retry: RetryPolicy,
    mut draw: impl FnMut(&[EntityProgress]),
) -> Result<Handed, SyncError> {
    let mut patience = Patience::new(retry);
    loop {
        tokio::time::sleep(LOOK).await;
        match look(store, request, &mut draw).await {
            Ok(None) => patience = Patience::new(retry),
            Ok(Some(ended)) => return Ok(ended),
            Err(error) => patience.bear(error).await?,
        }
    }
}

/// How the request stands; `None` while it is being worked on.
async fn look(
    store: &Store,
    request: i64,
    draw: &mut impl FnMut(&[EntityProgress]),
) -> Result<Option<Handed>, SyncError> {
    // In this order: a holder that finishes and leaves in between has finished.
    let held = store.lease_row().await?.held;
    let Some(row) = store.request(request).await? else {
        return Ok(Some(Handed::HolderGone));
    };
    if let Some(verdict) = row.verdict {
        let message = row.message.unwrap_or_default();
        return Ok(Some(Handed::Finished { verdict, message }));
    }
    let progress = row.progress.and_then(|json| serde_json::from_value(json).ok());
    draw(&progress.unwrap_or_else(Vec::new));
    Ok((!held).then_some(Handed::HolderGone))
}
