//! Deriving phones anew when the rules change, beside everything else.

use std::time::Duration;

use super::{session::Errand, session::Session};
use crate::{
    entity::Entity,
    store::{Generation, Store, StoreError},
};

/// How often the holder looks whether the rules have changed: the portal's country is read
/// with its dictionaries.
const EVERY: Duration = Duration::from_secs(5);

/// Between two parts, so that other work goes first.
const PAUSE: Duration = Duration::from_millis(50);

/// Derives what has to be derived, again and again, until it is given up.
pub(super) async fn keep_phones(errand: Errand) {
    loop {
        if let Err(error) = derive(&errand.store, errand.generation, PAUSE).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "phones could not be derived; trying again later"
            );
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Settles the rules and derives every phone that was derived by others.
async fn derive(store: &Store, generation: Generation, pause: Duration) -> Result<(), StoreError> {
    store.settle_phone_rules(generation).await?;
    for entity in Entity::ALL {
        while store.derive_some_phones(generation, entity).await? {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}

impl Session {
    /// Derives every phone that was derived by other rules, for commands that end; until the
    /// session ends. What is left the next holder of the lease goes on with.
    pub async fn derive_phones(&self) {
        let deriving = derive(self.store(), self.generation(), Duration::ZERO);
        if let Some(Err(error)) = self.stop().run_until_cancelled(deriving).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "phones are not all in their international form yet; the next command goes on"
            );
        }
    }
}
