//! What a backfill has done so far, for whoever draws it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::outlook::{Effort, Outlook};

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
    records: u64,
    pace: Pace,
    outlook: Outlook,
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
    /// Time left, in seconds; unknown without an estimate.
    pub seconds_left: Option<f64>,
}

impl ProgressBoard {
    /// A backfill begins whose answers may be under way so many at once.
    pub(super) fn start(
        &self,
        entity: &'static str,
        before: i64,
        expected: Option<i64>,
        ways: usize,
    ) {
        let now = Instant::now();
        let (pace, outlook) = (Pace::new(now), Outlook::new(now, ways));
        self.lock().insert(entity, Tracked { before, expected, records: 0, pace, outlook });
    }

    /// So many pages are asked for; gives the answer's number.
    pub(super) fn ask(&self, entity: &'static str, pages: usize) -> u64 {
        let now = Instant::now();
        self.lock().get_mut(entity).map_or(0, |tracked| tracked.outlook.ask(now, pages))
    }

    /// An answer has come. `read` records of `expected` are there now, it included, and
    /// `least` is the time that the portal's limits need for the rest. Gives the time left.
    pub(super) fn hear(
        &self,
        entity: &'static str,
        answer: u64,
        (read, expected): (i64, Option<i64>),
        least: Duration,
    ) -> Option<Duration> {
        let now = Instant::now();
        let mut board = self.lock();
        let tracked = board.get_mut(entity)?;
        tracked.expected = expected;
        tracked.outlook.hear(now, answer, expected.map(|expected| expected - read), least);
        tracked.outlook.left(now)
    }

    /// An answer is stored.
    pub(super) fn store(&self, entity: &'static str, answer: u64, records: u64, effort: Effort) {
        if let Some(tracked) = self.lock().get_mut(entity) {
            tracked.records += records;
            tracked.pace.note(Instant::now(), tracked.records);
            tracked.outlook.store(answer, effort);
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
        let now = Instant::now();
        let records = u64::try_from(self.before).unwrap_or(0).saturating_add(self.records);
        EntityProgress {
            entity: entity.to_owned(),
            share: share(records as f64, self.expected),
            records,
            expected: self.expected.and_then(|expected| u64::try_from(expected).ok()),
            per_second: self.pace.per_second(now),
            seconds_left: self.outlook.left(now).map(|left| left.as_secs_f64()),
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

    /// Records a second.
    #[expect(clippy::cast_precision_loss, reason = "a pace for people")]
    fn per_second(&self, now: Instant) -> f64 {
        let (Some((start, _)), (last, records)) = (self.samples.front(), self.last) else {
            return 0.0;
        };
        let middle = *start + (last - *start) / 2;
        let later = self.samples.partition_point(|(at, _)| *at <= middle);
        let from = later.min(self.samples.len().saturating_sub(FEWEST + 1));
        let (since, before) = self.samples[from];
        let answers = (self.samples.len() - 1 - from) * self.stride + self.skipped;
        if answers == 0 {
            return 0.0;
        }
        let apart = (last - since).as_secs_f64() / answers as f64;
        let apart = apart.max((now - since).as_secs_f64() / (answers + 1) as f64).max(0.001);
        (records - before) as f64 / answers as f64 / apart
    }
}

/// The share of the expected records that has been read. An estimate that turns out
/// too low must not look like an end.
#[expect(clippy::cast_precision_loss, reason = "a share for people")]
pub(super) fn share(read: f64, expected: Option<i64>) -> Option<f64> {
    expected.filter(|expected| *expected > 0).map(|expected| (read / expected as f64).min(0.999))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::advance;

    use super::*;

    const ENTITY: &str = "contacts";

    /// An answer comes and is stored.
    fn answered(board: &ProgressBoard, records: u64) {
        let answer = board.ask(ENTITY, 1);
        let effort = Effort { pages: 1, took: Duration::from_secs(1), worked: Duration::ZERO };
        board.store(ENTITY, answer, records, effort);
    }

    fn seen(board: &ProgressBoard) -> EntityProgress {
        board.snapshot().pop().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_burst_is_not_taken_for_the_rule() {
        let board = ProgressBoard::default();
        board.start(ENTITY, 0, Some(1_000_000), 1);
        for _ in 0..50 {
            advance(Duration::from_millis(50)).await;
            answered(&board, 2_500);
        }
        for _ in 0..50 {
            advance(Duration::from_millis(500)).await;
            answered(&board, 2_500);
        }
        let progress = seen(&board);
        assert!((4_900.0..5_100.0).contains(&progress.per_second), "{progress:?}");
        assert_eq!((progress.records, progress.share), (250_000, Some(0.25)));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_stands_still_slows_down() {
        let board = ProgressBoard::default();
        board.start(ENTITY, 5_000, Some(50_000), 1);
        for _ in 0..10 {
            advance(Duration::from_secs(1)).await;
            answered(&board, 1_000);
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
        board.start(ENTITY, 0, None, 1);
        let answer = board.ask(ENTITY, 1);
        let progress = seen(&board);
        assert_eq!((progress.share, progress.seconds_left), (None, None));
        advance(Duration::from_secs(2)).await;
        assert_eq!(board.hear(ENTITY, answer, (50, Some(200)), Duration::ZERO), None);
        let effort = Effort { pages: 1, took: Duration::from_secs(2), worked: Duration::ZERO };
        board.store(ENTITY, answer, 50, effort);
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
            let per_second = pace.per_second(start + Duration::from_millis(apart.into()) * answers);
            let truth = f64::from(records) / (f64::from(apart) / 1_000.0);
            prop_assert!((per_second - truth).abs() < truth * 1e-6, "{} {}", per_second, truth);
            prop_assert!(pace.samples.len() <= SAMPLES);
        }
    }
}
