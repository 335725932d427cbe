//! Connections that must not be used again.
//!
//! A session keeps what it was told when it began. One that began while the database was
//! read-only, or gave statements too little time, stays so after that was put right for
//! everybody else, and would stay in the pool.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{StoreError, error::state_of};

/// Which of the pool's connections may be used. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust(Arc<Mutex<Option<Instant>>>);

impl Trust {
    /// Whether a connection of that age may be used.
    pub(super) fn has(&self, age: Duration) -> bool {
        let lost = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lost.is_none_or(|lost| age < lost.elapsed())
    }

    /// Ends the trust in every connection so far if one of them was refused a write because
    /// it is read-only, or had a statement cancelled.
    pub(super) fn look(&self, error: &StoreError) {
        let StoreError::Unavailable(refusal) = error else { return };
        if matches!(state_of(refusal).as_deref(), Some("25006" | "57014")) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }
}
