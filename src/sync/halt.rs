//! Ending a piece of work where it stands: answers under way are abandoned, transactions
//! are finished.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Tells a piece of work to end, and its run why.
#[derive(Debug, Clone)]
pub(super) struct Halt {
    token: CancellationToken,
    why: Arc<OnceLock<String>>,
}

impl Halt {
    /// Ends with the session.
    pub(super) fn of_session(token: CancellationToken) -> Self {
        Self { token, why: Arc::default() }
    }

    /// One that ends with this one, or alone.
    pub(super) fn child(&self) -> Self {
        Self::of_session(self.token.child_token())
    }

    /// Tells the work to end.
    pub(super) fn halt(&self, why: &str) {
        // The first to say so has ended it.
        let _ = self.why.set(why.to_owned());
        self.token.cancel();
    }

    /// Why this work alone was told to end, if it was.
    pub(super) fn why(&self) -> Option<&str> {
        self.why.get().map(String::as_str)
    }

    pub(super) const fn token(&self) -> &CancellationToken {
        &self.token
    }
}
