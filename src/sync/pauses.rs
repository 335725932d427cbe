//! Entities that people have paused: whoever holds the lease notices within a second or
//! two, comes to the end of the transaction in hand, and then neither reads nor writes them.

use std::{pin::pin, sync::Arc};

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{SyncError, mirror::Mirror, scheduler::POLL};
use crate::{
    entity::Entity,
    store::{Pause, Store, StoreError},
};

/// What a mirror sees of the pauses.
pub(super) type Pausing = watch::Receiver<Option<Pause>>;

/// Looks at the pauses for as long as the session lasts.
pub(super) struct Pauses {
    store: Store,
    entities: Vec<(&'static Entity, watch::Sender<Option<Pause>>)>,
}

impl Pauses {
    pub(super) const fn new(store: Store) -> Self {
        Self { store, entities: Vec::new() }
    }

    /// What the mirror of an entity will see.
    pub(super) fn show(&mut self, entity: &'static Entity) -> Pausing {
        let (sender, pausing) = watch::channel(None);
        self.entities.push((entity, sender));
        pausing
    }

    /// Goes on looking.
    pub(super) fn watch(self, stop: CancellationToken) -> JoinHandle<()> {
        tokio::spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
                if let Err(error) = self.look().await {
                    // What was seen last holds.
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "no look at the pauses");
                }
            }
        })
    }

    /// Shows how things stand; to be called before any work begins.
    ///
    /// # Errors
    /// Errors of the database.
    pub(super) async fn look(&self) -> Result<(), StoreError> {
        let stored = self.store.pauses().await?;
        for (entity, sender) in &self.entities {
            let now = stored.iter().find(|pause| pause.entity.covers(entity));
            sender.send_if_modified(|seen| {
                let differs = seen.as_ref() != now;
                *seen = now.cloned();
                differs
            });
        }
        Ok(())
    }
}

impl Mirror {
    /// The pause that the entity is in.
    pub(super) fn pause(&self) -> Option<Pause> {
        self.pausing().borrow().clone()
    }

    /// Fails while the entity is paused.
    ///
    /// # Errors
    /// [`SyncError::Paused`].
    pub(super) fn refuse_paused(&self) -> Result<(), SyncError> {
        match self.pause() {
            None => Ok(()),
            Some(pause) => Err(pause.into()),
        }
    }

    /// Does a piece of work unless the entity is paused, and ends it where it stands when
    /// it is paused meanwhile.
    pub(super) async fn unless_paused<T, W>(
        &self,
        work: impl FnOnce(Arc<Self>) -> W,
    ) -> Result<T, SyncError>
    where
        W: Future<Output = Result<T, SyncError>>,
    {
        self.refuse_paused()?;
        let halt = self.halt().child();
        let mut pausing = self.pausing().clone();
        let mut working = pin!(work(Arc::new(self.under(halt.clone()))));
        tokio::select! {
            done = &mut working => return done,
            Ok(paused) = pausing.wait_for(Option::is_some) => drop(paused),
        }
        // Resumed in the same moment.
        let Err(paused) = self.refuse_paused() else { return working.await };
        halt.halt(&paused.reason());
        match working.await {
            Err(SyncError::Stopping) => Err(paused),
            done => done,
        }
    }
}

impl From<Pause> for SyncError {
    fn from(pause: Pause) -> Self {
        Self::Paused { entity: pause.entity.name, since: pause.since, by: pause.by }
    }
}
