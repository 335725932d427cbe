//! What keeps a session alive: it renews the lease, and records beside that what requests wait
//! for and where a renamed portal answers.

use std::time::Duration;

use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::LEASE_TTL;
use crate::{
    portal::{Portal, Waiting},
    store::{Generation, Store, StoreError},
};

/// Renewals come often enough that two may fail.
const RENEW_EVERY: Duration = Duration::from_secs(4);

/// The end of a wait may move by so much before it is recorded anew.
const WAIT_MOVED: Duration = Duration::from_secs(2);

/// What requests wait for is for people; the lease is not kept waiting for it.
const TELL_WITHIN: Duration = Duration::from_secs(2);

/// Renews the lease until it is lost or the session ends.
pub(super) fn keep(
    store: Store,
    portal: Portal,
    generation: Generation,
    stop: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut told = Vec::new();
        let mut noted = None;
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            match store.renew(generation, LEASE_TTL, portal.limiter().level()).await {
                Ok(()) => {}
                Err(StoreError::LeaseLost) => {
                    tracing::warn!(
                        "another process has taken over the lease; this one writes nothing more"
                    );
                    stop.cancel();
                    return;
                }
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the lease could not be renewed; trying again"
                ),
            }
            // Afterwards and not for long: the next renewal must not wait for it.
            let telling = tell_waits(&store, &portal, generation, told.clone());
            told = tokio::time::timeout(TELL_WITHIN, telling).await.unwrap_or(told);
            note_rename(&store, &portal, generation, &mut noted).await;
        }
    })
}

/// Records where a renamed portal answers now, so that the next process goes there at once.
pub(super) async fn note_rename(
    store: &Store,
    portal: &Portal,
    generation: Generation,
    noted: &mut Option<String>,
) {
    let Some(host) = portal.found_at().filter(|host| noted.as_ref() != Some(host)) else {
        return;
    };
    let recording = store.record_rename(generation, &host);
    match tokio::time::timeout(TELL_WITHIN, recording).await {
        Ok(Ok(())) => *noted = Some(host),
        // The portal redirects again, and it is noted then.
        Ok(Err(error)) => tracing::debug!(
            error = &error as &dyn std::error::Error,
            "the portal's new host could not be recorded"
        ),
        Err(_) => {}
    }
}

/// Records what requests wait for, when that has changed; gives what is recorded.
async fn tell_waits(
    store: &Store,
    portal: &Portal,
    generation: Generation,
    told: Vec<Waiting>,
) -> Vec<Waiting> {
    let waits = portal.waits();
    let same = |(now, before): (&Waiting, &Waiting)| {
        let moved = now.until.max(before.until) - now.until.min(before.until);
        now.reason == before.reason && moved < WAIT_MOVED
    };
    if waits.len() == told.len() && waits.iter().zip(&told).all(same) {
        return told;
    }
    let left: Vec<_> = waits
        .iter()
        .map(|wait| (wait.reason.to_string(), wait.until.saturating_duration_since(Instant::now())))
        .collect();
    match store.report_waits(generation, &left).await {
        Ok(()) => waits,
        Err(error) => {
            // The next renewal meets the same trouble, and tells.
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "what is waited for could not be recorded"
            );
            told
        }
    }
}
