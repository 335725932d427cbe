//! A failure that meets every entity is told once in full, by the one that met it first, and
//! not by all of them with the same advice.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The others leave the word to the one that told it for so long; a stopped entity is tried
/// again, and told again, before that.
const TELLERS_TURN: Duration = Duration::from_mins(6);

/// Pieces of work of one entity that fail together are told together.
const TOGETHER: Duration = Duration::from_secs(2);

/// What was told lately, and by whom. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Causes(Arc<Mutex<BTreeMap<String, Told>>>);

#[derive(Debug)]
struct Told {
    by: &'static str,
    at: Instant,
}

impl Causes {
    /// Whether this entity has to tell of this cause, since nobody else does; it counts as told
    /// then.
    pub(super) fn is_news(&self, by: &'static str, cause: &str) -> bool {
        let now = Instant::now();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, told| now - told.at < TELLERS_TURN);
        let known = told.get(cause);
        let is_news = known.is_none_or(|told| told.by == by && now - told.at >= TOGETHER);
        if is_news {
            told.insert(cause.to_owned(), Told { by, at: now });
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cause_is_told_by_one_and_by_another_when_that_one_is_silent() {
        let causes = Causes::default();
        assert!(causes.is_news("contacts", "no webhook"));
        assert!(!causes.is_news("contacts", "no webhook"), "its other work fails with it");
        assert!(!causes.is_news("leads", "no webhook"));
        assert!(causes.is_news("leads", "no right to leads"));
        tokio::time::advance(Duration::from_mins(5)).await;
        assert!(causes.is_news("contacts", "no webhook"), "it was tried again");
        tokio::time::advance(Duration::from_mins(5)).await;
        assert!(!causes.is_news("leads", "no webhook"));
        tokio::time::advance(Duration::from_mins(2)).await;
        assert!(causes.is_news("leads", "no webhook"));
    }
}
