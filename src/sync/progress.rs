//! What a backfill has done so far, for whoever draws it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Answers that are remembered for the pace; beyond that every second one is forgotten.
const SAMPLES: usize = 256;

/// The pace is that of so many answers at least, however long they took.
const FEWEST: usize = 3;

/// The backfills of one process, by entity. Clones share the board.
#[derive(Debug, Clone, Default)]
pub struct ProgressBoard(Arc<Mutex<BTreeMap<&'static str, Tracked>>>);

#[derive(Debug, Clone)]
struct Tracked {
    /// Records that an earlier process had read before.
    before: i64,
    expected: Option<i64>,
    /// The portal's limits allow no earlier end.
    ends_after: Instant,
    records: u64,
    pace: Pace,
}

/// How far one entity's backfill has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntityProgress {
    /// The entity's name.
    pub entity: String,
    /// Share of the expected records that has been read, 0 to 1; unknown without an estimate.
    pub share: Option<f64>,
    /// Records read so far, by earlier processes too.
    pub records: u64,
    /// Records that there are in all, estimated; for people.
    pub expected: Option<u64>,
    /// Records a second, lately.
    pub per_second: f64,
    /// Time left at that pace, in seconds; unknown without an estimate.
    pub seconds_left: Option<f64>,
}

impl ProgressBoard {
    pub(super) fn start(&self, entity: &'static str, before: i64, expected: Option<i64>) {
        let now = Instant::now();
        let pace = Pace::new(now);
        let tracked = Tracked { before, expected, ends_after: now, records: 0, pace };
        self.lock().insert(entity, tracked);
    }

    /// `least` is the time that the portal's limits need for the rest.
    pub(super) fn expect(&self, entity: &'static str, expected: Option<i64>, least: Duration) {
        if let Some(tracked) = self.lock().get_mut(entity) {
            tracked.expected = expected;
            let now = Instant::now();
            tracked.ends_after = now.checked_add(least).unwrap_or(now);
        }
    }

    pub(super) fn advance(&self, entity: &'static str, records: u64) {
        if let Some(tracked) = self.lock().get_mut(entity) {
            tracked.records += records;
            tracked.pace.note(Instant::now(), tracked.records);
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
        let (per_second, silent) = self.pace.now(Instant::now());
        let records = u64::try_from(self.before).unwrap_or(0).saturating_add(self.records);
        let read = records as f64;
        let left = seconds_left(read, self.expected, per_second);
        let by_limits = self.ends_after.saturating_duration_since(Instant::now()).as_secs_f64();
        EntityProgress {
            entity: entity.to_owned(),
            share: share(read, self.expected),
            records,
            expected: self.expected.and_then(|expected| u64::try_from(expected).ok()),
            per_second,
            // What the answer under way has taken is behind us.
            seconds_left: left.map(|left| (left - silent.as_secs_f64()).max(by_limits)),
        }
    }
}

/// How fast records come: measured over the second half of the time, so that neither a
/// slow start nor a first burst within the portal's limits is taken for the rule.
///
/// Records come by the answer, thousands at once. Measured from answer to answer the pace
/// does not saw up and down between them; the answer that is being waited for counts as
/// soon as it takes longer than the others did.
#[derive(Debug, Clone)]
struct Pace {
    /// When how many records had come; the first is the start.
    samples: VecDeque<(Instant, u64)>,
    /// Answers that one sample stands for.
    stride: usize,
    /// Answers since the last sample.
    skipped: usize,
    last: (Instant, u64),
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { samples: VecDeque::from([(now, 0)]), stride: 1, skipped: 0, last: (now, 0) }
    }

    fn note(&mut self, now: Instant, records: u64) {
        self.last = (now, records);
        self.skipped += 1;
        if self.skipped < self.stride {
            return;
        }
        self.skipped = 0;
        self.samples.push_back(self.last);
        if self.samples.len() > SAMPLES {
            let mut place = 0;
            self.samples.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.stride *= 2;
        }
    }

    /// Records a second, and for how long none has come.
    #[expect(clippy::cast_precision_loss, reason = "a pace for people")]
    fn now(&self, now: Instant) -> (f64, Duration) {
        let (Some((start, _)), (last, records)) = (self.samples.front(), self.last) else {
            return (0.0, Duration::ZERO);
        };
        let silent = now - last;
        let middle = *start + (last - *start) / 2;
        let later = self.samples.partition_point(|(at, _)| *at <= middle);
        let from = later.min(self.samples.len().saturating_sub(FEWEST + 1));
        let (since, before) = self.samples[from];
        let answers = (self.samples.len() - 1 - from) * self.stride + self.skipped;
        if answers == 0 {
            return (0.0, silent);
        }
        let apart = (last - since).as_secs_f64() / answers as f64;
        let apart = apart.max((now - since).as_secs_f64() / (answers + 1) as f64).max(0.001);
        ((records - before) as f64 / answers as f64 / apart, silent)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::advance;

    use super::*;

    const ENTITY: &str = "contacts";

    fn seen(board: &ProgressBoard) -> EntityProgress {
        board.snapshot().pop().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_left_of_even_work_is_right_once_a_tenth_is_done() {
        let board = ProgressBoard::default();
        board.start(ENTITY, 0, Some(100_000));
        // The first answer takes longer: connecting, a short chain, the estimate.
        advance(Duration::from_secs(3)).await;
        for answer in 1..40_u32 {
            board.advance(ENTITY, 2_500);
            for quarter in 0..4_u32 {
                if answer >= 4 {
                    let left = seen(&board).seconds_left.unwrap();
                    let truth = 0.5 * f64::from(40 - answer) - 0.125 * f64::from(quarter);
                    assert!((left - truth).abs() <= 0.15 * truth, "{left} instead of {truth}");
                }
                advance(Duration::from_millis(125)).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_burst_is_not_taken_for_the_rule() {
        let board = ProgressBoard::default();
        board.start(ENTITY, 0, Some(1_000_000));
        for _ in 0..50 {
            advance(Duration::from_millis(50)).await;
            board.advance(ENTITY, 2_500);
        }
        for _ in 0..50 {
            advance(Duration::from_millis(500)).await;
            board.advance(ENTITY, 2_500);
        }
        let progress = seen(&board);
        assert!((4_900.0..5_100.0).contains(&progress.per_second), "{progress:?}");
        assert_eq!((progress.records, progress.share), (250_000, Some(0.25)));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_stands_still_slows_down() {
        let board = ProgressBoard::default();
        board.start(ENTITY, 5_000, Some(50_000));
        for _ in 0..10 {
            advance(Duration::from_secs(1)).await;
            board.advance(ENTITY, 1_000);
        }
        let steady = seen(&board);
        assert_eq!((steady.records, steady.share), (15_000, Some(0.3)), "{steady:?}");
        advance(Duration::from_mins(1)).await;
        let stalled = seen(&board);
        assert!(stalled.per_second < steady.per_second / 5.0, "{stalled:?} after {steady:?}");
        board.finish(ENTITY);
        assert_eq!(board.snapshot(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_foretold_before_the_first_answer_or_without_an_estimate() {
        let board = ProgressBoard::default();
        board.start(ENTITY, 0, None);
        advance(Duration::from_secs(2)).await;
        let progress = seen(&board);
        assert_eq!((progress.share, progress.seconds_left), (None, None));
        board.expect(ENTITY, Some(10_000), Duration::ZERO);
        assert_eq!(seen(&board).seconds_left, None);
        board.advance(ENTITY, 2_500);
        assert_eq!(seen(&board).seconds_left, Some(6.0));
    }

    proptest! {
        #[test]
        fn an_even_pace_is_found_however_many_answers_there_were(
            answers in 1_u32..3_000, records in 1_u32..5_000, apart in 1_u32..5_000,
        ) {
            let start = Instant::now();
            let mut pace = Pace::new(start);
            for answer in 1..=answers {
                let at = start + Duration::from_millis(apart.into()) * answer;
                pace.note(at, u64::from(records) * u64::from(answer));
            }
            let (per_second, _) = pace.now(start + Duration::from_millis(apart.into()) * answers);
            let truth = f64::from(records) / (f64::from(apart) / 1_000.0);
            prop_assert!((per_second - truth).abs() < truth * 1e-6, "{} {}", per_second, truth);
            prop_assert!(pace.samples.len() <= SAMPLES);
        }
    }
}
