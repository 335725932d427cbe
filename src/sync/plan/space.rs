//! The ID space as a handful of probes show it: how many records lie where.
//!
//! It is cut into equal parts, and each is asked for its first and its last page of IDs, in
//! one request where that is possible. So the gaps between parts are seen, however wide, and
//! the density inside a part is known at both of its ends. No COUNT is asked for: that alone
//! would take the portal most of a minute on a large table. A gateway has it beside every list.

use crate::{
    entity::RecordId,
    sync::pass::{PAGE_ROWS, PageFacts},
};

/// Records, spread evenly inside each part.
#[derive(Debug, Clone, Default)]
pub(in crate::sync) struct Space {
    parts: Vec<Part>,
}

/// So many records from one ID to another, both of them included.
#[derive(Debug, Clone, Copy)]
struct Part {
    low: i64,
    high: i64,
    count: i64,
}

/// Where the probes are set: so many ranges `(after, up_to]`, fewer where there are fewer IDs.
pub(super) fn parts(newest: RecordId, parts: i64) -> Vec<(i64, i64)> {
    let newest = newest.get();
    let width = newest / parts + 1;
    let starts = (0..parts).map(|part| part * width).take_while(|start| *start < newest);
    starts.map(|start| (start, (start + width).min(newest))).collect()
}

impl Space {
    /// What the probes have shown: of each range the first IDs, and the last, descending.
    pub(super) fn seen(ends: &[(Vec<RecordId>, Vec<RecordId>)]) -> Self {
        Self { parts: ends.iter().filter_map(|(first, last)| Part::seen(first, last)).collect() }
    }

    /// So many records, spread evenly between the first and the last ID that were seen.
    pub(super) fn counted((first, last): &(Vec<RecordId>, Vec<RecordId>), count: i64) -> Self {
        let part = Part::seen(first, last).map(|part| {
            // Records come and go between two questions.
            let count = count.clamp(1, part.high - part.low + 1);
            Part { count, ..part }
        });
        Self { parts: part.into_iter().collect() }
    }

    /// So many records with IDs from 1 on, a share of which is missing.
    pub(super) fn even(count: i64, missing: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "IDs")]
        let high = (count as f64 / (1.0 - missing.clamp(0.0, 0.99))) as i64;
        let part = Part { low: 1, high: high.max(count), count };
        Self { parts: (count > 0).then_some(part).into_iter().collect() }
    }

    /// The estimated number of records.
    pub(super) fn records(&self) -> i64 {
        self.parts.iter().map(|part| part.count).sum()
    }

    /// The highest ID.
    pub(super) fn newest(&self) -> RecordId {
        self.parts.last().and_then(|part| RecordId::new(part.high)).unwrap_or(RecordId::ZERO)
    }

    /// The first page of the range `(after, up_to]`, or the last one, highest ID first.
    pub(super) fn page(&self, after: RecordId, up_to: RecordId, newest_first: bool) -> PageFacts {
        let (after, up_to) = (after.get(), up_to.get());
        let inside = |part: &Part| part.below(after)..part.below(up_to);
        let mut ids: Vec<i64> = Vec::with_capacity(PAGE_ROWS);
        if newest_first {
            for part in self.parts.iter().rev() {
                ids.extend(inside(part).rev().map(|n| part.id(n)).take(PAGE_ROWS - ids.len()));
            }
        } else {
            for part in &self.parts {
                ids.extend(inside(part).map(|n| part.id(n)).take(PAGE_ROWS - ids.len()));
            }
        }
        let keys: Vec<_> = ids.into_iter().filter_map(RecordId::new).map(|id| (id, None)).collect();
        PageFacts { rows: keys.len(), keys }
    }
}

impl Part {
    fn seen(first: &[RecordId], last: &[RecordId]) -> Option<Self> {
        let (low, high) = (first.first()?.get(), last.first()?.get());
        let count = records_between(first, last).clamp(1, high - low + 1);
        Some(Self { low, high, count })
    }

    /// The ID of the record at a position.
    fn id(&self, position: i64) -> i64 {
        let steps = i128::from((self.count - 1).max(1));
        let offset = i128::from(position) * i128::from(self.high - self.low) / steps;
        self.low + i64::try_from(offset).unwrap_or(self.high - self.low)
    }

    /// How many records have an ID of at most this.
    fn below(&self, id: i64) -> i64 {
        if id < self.low {
            return 0;
        }
        if id >= self.high {
            return self.count;
        }
        let width = i128::from((self.high - self.low).max(1));
        let guess = i128::from(id - self.low) * i128::from(self.count - 1) / width;
        let mut position = i64::try_from(guess).unwrap_or(self.count);
        while position < self.count && self.id(position) <= id {
            position += 1;
        }
        position
    }
}

/// The records of a part whose first IDs and last IDs (descending) are known.
fn records_between(first: &[RecordId], last: &[RecordId]) -> i64 {
    let (Some(lowest), Some(highest)) = (first.first(), last.first()) else { return 0 };
    let (Some(low_end), Some(high_end)) = (first.last(), last.last()) else { return 0 };
    let known = first.len() + last.len();
    let between = high_end.get() - low_end.get();
    if between <= 0 {
        // Both pages meet: what they do not share is all there is.
        return i64::try_from(first.iter().filter(|id| !last.contains(id)).count() + last.len())
            .unwrap_or(i64::MAX);
    }
    let spanned = (low_end.get() - lowest.get()) + (highest.get() - high_end.get()) + 2;
    let known = i64::try_from(known).unwrap_or(i64::MAX);
    let inside = i128::from(between - 1) * i128::from(known) / i128::from(spanned.max(1));
    known.saturating_add(i64::try_from(inside).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(ids: impl IntoIterator<Item = i64>) -> Vec<RecordId> {
        ids.into_iter().filter_map(RecordId::new).collect()
    }

    #[test]
    fn a_part_is_as_dense_as_its_ends() {
        let first = ids((1..=50).map(|n| n * 2));
        let last = ids((1..=50).map(|n| 1_002 - n * 2));
        let estimate = records_between(&first, &last);
        assert!((490..=510).contains(&estimate), "{estimate}");
    }

    #[test]
    fn pages_that_meet_are_counted_once() {
        assert_eq!(records_between(&ids([3, 5, 7]), &ids([7, 5, 3])), 3);
        assert_eq!(records_between(&ids([]), &ids([])), 0);
    }

    #[test]
    fn the_parts_cover_every_id_once() {
        for newest in [1, 23, 24, 25, 49, 1_000_003, i64::from(u32::MAX)] {
            for number in [1, 6, 24] {
                let parts = parts(RecordId::new(newest).unwrap(), number);
                assert_eq!((parts[0].0, parts.last().unwrap().1), (0, newest));
                assert!(parts.windows(2).all(|pair| pair[0].1 == pair[1].0));
                assert!(i64::try_from(parts.len()).unwrap() <= number);
            }
        }
    }

    #[test]
    fn a_counted_space_has_as_many_records_as_were_counted() {
        let ends = (ids(3..=52), ids((951..=1_000).rev()));
        assert_eq!(Space::counted(&ends, 700).records(), 700);
        assert_eq!(Space::counted(&ends, 700).newest().get(), 1_000);
        assert_eq!(Space::counted(&(ids([]), ids([])), 0).records(), 0);
    }

    proptest! {
        #[test]
        fn pages_show_every_record_once_from_either_side(
            count in 1i64..400,
            stretch in 1i64..50,
            low in 1i64..1_000,
        ) {
            let space = Space { parts: vec![Part { low, high: low + count * stretch, count }] };
            let (mut up, mut cursor) = (Vec::new(), RecordId::ZERO);
            let newest = space.newest();
            loop {
                let page = space.page(cursor, newest, false);
                let Some((last, _)) = page.keys.last() else { break };
                cursor = *last;
                up.extend(page.keys.iter().map(|(id, _)| *id));
            }
            prop_assert_eq!(up.len(), usize::try_from(count).unwrap());
            prop_assert!(up.is_sorted());
            let down = space.page(RecordId::ZERO, newest, true);
            prop_assert!(down.keys.iter().map(|(id, _)| id).eq(up.iter().rev().take(PAGE_ROWS)));
        }
    }
}
