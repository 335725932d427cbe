//! What a backfill has done so far, for whoever draws it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// The backfills of one process, by entity. Clones share the board.
#[derive(Debug, Clone, Default)]
pub struct ProgressBoard(Arc<Mutex<BTreeMap<&'static str, Tracked>>>);

#[derive(Debug, Clone, Copy)]
struct Tracked {
    started: Instant,
    /// Records that an earlier process had read before.
    before: i64,
    expected: Option<i64>,
    records: u64,
}

/// How far one entity's backfill has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntityProgress {
    /// The entity's name.
    pub entity: String,
    /// Share of the expected records that has been read, 0 to 1; unknown without an estimate.
    pub share: Option<f64>,
    /// Records read by this process.
    pub records: u64,
    /// Records a second since it began.
    pub per_second: f64,
    /// Time left at that pace, in seconds; unknown without an estimate.
    pub seconds_left: Option<f64>,
}

impl ProgressBoard {
    pub(super) fn start(&self, entity: &'static str, before: i64, expected: Option<i64>) {
        let tracked = Tracked { started: Instant::now(), before, expected, records: 0 };
        self.lock().insert(entity, tracked);
    }

    pub(super) fn expect(&self, entity: &'static str, expected: Option<i64>) {
        if let Some(tracked) = self.lock().get_mut(entity) {
            tracked.expected = expected;
        }
    }

    pub(super) fn advance(&self, entity: &'static str, records: u64) {
        if let Some(tracked) = self.lock().get_mut(entity) {
            tracked.records += records;
        }
    }

    pub(super) fn finish(&self, entity: &'static str) {
        self.lock().remove(entity);
    }

    /// Every backfill under way.
    #[must_use]
    pub fn snapshot(&self) -> Vec<EntityProgress> {
        self.lock().iter().map(|(entity, tracked)| tracked.progress(entity)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Tracked>> {
        // A panic while holding it leaves numbers that only a progress bar reads.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracked {
    #[expect(clippy::cast_precision_loss, reason = "a share on a progress bar")]
    fn progress(&self, entity: &str) -> EntityProgress {
        let seconds = self.started.elapsed().max(Duration::from_millis(1)).as_secs_f64();
        let per_second = self.records as f64 / seconds;
        let read = self.before as f64 + self.records as f64;
        EntityProgress {
            entity: entity.to_owned(),
            share: share(read, self.expected),
            records: self.records,
            per_second,
            seconds_left: seconds_left(read, self.expected, per_second),
        }
    }
}

/// The share of the expected records that has been read. An estimate that turns out
/// too low must not look like an end.
#[expect(clippy::cast_precision_loss, reason = "a share for people")]
pub(super) fn share(read: f64, expected: Option<i64>) -> Option<f64> {
    expected.filter(|expected| *expected > 0).map(|expected| (read / expected as f64).min(0.999))
}

/// The time left for the rest of the expected records.
#[expect(clippy::cast_precision_loss, reason = "a time for people")]
pub(super) fn seconds_left(read: f64, expected: Option<i64>, per_second: f64) -> Option<f64> {
    let expected = expected.filter(|expected| *expected > 0)?;
    let left = (expected as f64 - read).max(0.0);
    (per_second > 0.0).then(|| left / per_second)
}
