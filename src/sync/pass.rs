//! One scan of one ID range: a pure state machine that says what to read next and
//! holds every answer against its own question.
//!
//! A portal silently ignores a filter that it does not understand and serves the
//! first page of the whole table where a chained reference is missing. So no page
//! is believed: its rows must ascend strictly from the cursor, stay inside the
//! range, carry a modification time above the floor, and be at most fifty.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use crate::entity::RecordId;

/// Rows of a full page, fixed by the portal (vendor page `huge-data`).
pub(super) const PAGE_ROWS: usize = 50;

/// A row's time is printed in the zone of the portal, whose double hour in autumn
/// makes one local time two instants; no zone shifts by more than this.
const CLOCK_CHANGE: Duration = Duration::hours(3);

/// When a scan is at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EndRule {
    /// After a page with fewer than fifty rows: enough where the next cycle looks again.
    ShortPage,
    /// Only after an empty page: nothing will look at this range again for a long time.
    EmptyPage,
}

/// What one page showed about itself.
#[derive(Debug, Clone)]
pub(super) struct PageFacts {
    /// Rows as they came, whether they could be decoded or not.
    pub(super) rows: usize,
    /// The usable IDs in the order of the rows, each with its modification time if readable.
    pub(super) keys: Vec<(RecordId, Option<DateTime<Utc>>)>,
}

/// The portal answered another question than was asked. Nothing of the answer is used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// More rows than a page can have.
    #[error("a page has {rows} rows where the portal's pages have at most {PAGE_ROWS}")]
    TooManyRows {
        /// How many came.
        rows: usize,
    },
    /// A row at or below the cursor, or out of order.
    #[error(
        "record {id} came after {after}, although only IDs above it were asked for in ascending \
         order: the portal ignored the filter on ID or the order"
    )]
    NotAscending {
        /// The row's ID.
        id: RecordId,
        /// The ID that it had to exceed.
        after: RecordId,
    },
    /// A row out of order where the newest were asked for first.
    #[error(
        "record {id} came after {after}, although the newest records were asked for first: the \
         portal ignored the order"
    )]
    NotDescending {
        /// The row's ID.
        id: RecordId,
        /// The ID before it.
        after: RecordId,
    },
    /// A row above the range.
    #[error(
        "record {id} came although only IDs up to {up_to} were asked for: the portal ignored the filter on ID"
    )]
    AboveRange {
        /// The row's ID.
        id: RecordId,
        /// The end of the range.
        up_to: RecordId,
    },
    /// A row older than the floor.
    #[error(
        "record {id} was modified at {modified}, although only changes after {floor} were asked \
         for: the portal ignored the filter on DATE_MODIFY"
    )]
    BelowFloor {
        /// The row's ID.
        id: RecordId,
        /// Its modification time.
        modified: DateTime<Utc>,
        /// The floor that was asked for.
        floor: DateTime<Utc>,
    },
    /// A page without a single usable ID: there is no way past it.
    #[error("a page has no record with a usable ID, so the scan cannot go past it")]
    NoWayOn,
}

/// A scan of the IDs in `(cursor, up_to]`, optionally of changes after a floor only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Scan {
    cursor: RecordId,
    up_to: Option<RecordId>,
    floor: Option<DateTime<Utc>>,
    ceiling: Option<DateTime<Utc>>,
    end: EndRule,
    ended: bool,
    pages: u64,
    /// IDs that the latest page spanned; estimates what is left of a bounded range.
    span: Option<i64>,
}

impl Scan {
    /// A scan above `after`.
    pub(super) fn above(after: RecordId, end: EndRule) -> Self {
        Self {
            cursor: after,
            up_to: None,
            floor: None,
            ceiling: None,
            end,
            ended: false,
            pages: 0,
            span: None,
        }
    }

    /// Ends the range; an empty range needs no reading.
    pub(super) fn up_to(mut self, up_to: RecordId) -> Self {
        self.ended = up_to <= self.cursor;
        self.up_to = Some(up_to);
        self
    }

    /// Reads only what was modified after `floor` and, where given, up to `ceiling`.
    pub(super) fn modified(mut self, floor: DateTime<Utc>, ceiling: Option<DateTime<Utc>>) -> Self {
        self.floor = Some(floor);
        self.ceiling = ceiling;
        self
    }

    pub(super) const fn cursor(&self) -> RecordId {
        self.cursor
    }

    pub(super) const fn bound(&self) -> Option<RecordId> {
        self.up_to
    }

    pub(super) const fn floor(&self) -> Option<DateTime<Utc>> {
        self.floor
    }

    pub(super) const fn ceiling(&self) -> Option<DateTime<Utc>> {
        self.ceiling
    }

    pub(super) const fn ended(&self) -> bool {
        self.ended
    }

    /// Pages taken so far.
    pub(super) const fn pages(&self) -> u64 {
        self.pages
    }

    /// How many chained pages are worth asking for: never more than have come already or
    /// are `expected` of a scan that begins, since a command behind the last record costs
    /// the portal a query for nothing, nor more than a bounded range should have left by
    /// the density of its latest page.
    pub(super) fn chain_length(&self, expected: usize, at_most: usize) -> usize {
        let come = match self.pages {
            0 => expected,
            come => usize::try_from(come).unwrap_or(usize::MAX),
        };
        let left = match (self.up_to, self.span) {
            (Some(up_to), Some(span)) => {
                let left = up_to.get().saturating_sub(self.cursor.get());
                usize::try_from(left / span.max(1)).unwrap_or(usize::MAX).saturating_add(1)
            }
            _ => usize::MAX,
        };
        come.min(left).clamp(1, at_most.max(1))
    }

    /// Takes the next page, or refuses it and stays as it was.
    pub(super) fn take(&mut self, page: &PageFacts) -> Result<(), Mismatch> {
        self.check(page)?;
        let last = page.keys.last().map(|(id, _)| *id);
        if last.is_none() && page.rows == PAGE_ROWS {
            return Err(Mismatch::NoWayOn);
        }
        if let Some(last) = last {
            let spanned = last.get() - self.cursor.get();
            // A page that leaps a gap says nothing about the density behind it.
            if page.rows == PAGE_ROWS && self.cursor > RecordId::ZERO {
                let dense = self.span.map_or(spanned, |span| spanned.min(span.saturating_mul(8)));
                self.span = Some(dense.max(1));
            }
            self.cursor = last;
        }
        self.pages += 1;
        self.ended = match self.end {
            EndRule::ShortPage => page.rows < PAGE_ROWS,
            // Behind a short page without a usable ID there is no way to ask on.
            EndRule::EmptyPage => page.rows == 0 || last.is_none(),
        } || self.up_to.is_some_and(|up_to| self.cursor >= up_to);
        Ok(())
    }

    pub(super) fn check(&self, page: &PageFacts) -> Result<(), Mismatch> {
        if page.rows > PAGE_ROWS {
            return Err(Mismatch::TooManyRows { rows: page.rows });
        }
        let mut after = self.cursor;
        for &(id, modified) in &page.keys {
            if id <= after {
                return Err(Mismatch::NotAscending { id, after });
            }
            if let Some(up_to) = self.up_to.filter(|up_to| id > *up_to) {
                return Err(Mismatch::AboveRange { id, up_to });
            }
            if let (Some(floor), Some(modified)) = (self.floor, modified)
                && modified < floor - CLOCK_CHANGE
            {
                return Err(Mismatch::BelowFloor { id, modified, floor });
            }
            after = id;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn id(id: i64) -> RecordId {
        RecordId::new(id).unwrap()
    }

    fn page(ids: &[i64]) -> PageFacts {
        PageFacts { rows: ids.len(), keys: ids.iter().map(|n| (id(*n), None)).collect() }
    }

    /// What a right portal serves.
    fn serve(table: &BTreeSet<i64>, scan: &Scan) -> PageFacts {
        let up_to = scan.bound().map_or(i64::MAX, RecordId::get);
        let rows: Vec<i64> = table
            .range(scan.cursor().get() + 1..)
            .copied()
            .take_while(|n| *n <= up_to)
            .take(PAGE_ROWS)
            .collect();
        page(&rows)
    }

    #[test]
    fn a_page_that_answers_another_question_is_refused() {
        let scan = Scan::above(id(10), EndRule::ShortPage).up_to(id(20));
        let refused = |page: &PageFacts| scan.clone().take(page).unwrap_err();
        assert_eq!(refused(&page(&[10])), Mismatch::NotAscending { id: id(10), after: id(10) });
        assert_eq!(refused(&page(&[12, 11])), Mismatch::NotAscending { id: id(11), after: id(12) });
        assert_eq!(refused(&page(&[21])), Mismatch::AboveRange { id: id(21), up_to: id(20) });
        let crowd: Vec<i64> = (11..=61).collect();
        let unbounded = Scan::above(id(10), EndRule::ShortPage);
        assert_eq!(unbounded.clone().take(&page(&crowd)), Err(Mismatch::TooManyRows { rows: 51 }));
        let nameless = PageFacts { rows: 50, keys: Vec::new() };
        assert_eq!(unbounded.clone().take(&nameless), Err(Mismatch::NoWayOn));

        let floor = "2026-01-02T00:00:00Z".parse().unwrap();
        let old = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut scan = unbounded.modified(floor, None);
        let stale = PageFacts { rows: 1, keys: vec![(id(11), Some(old))] };
        assert!(matches!(scan.take(&stale), Err(Mismatch::BelowFloor { .. })));
        let double_hour =
            PageFacts { rows: 1, keys: vec![(id(11), Some(floor - Duration::hours(1)))] };
        assert_eq!(scan.take(&double_hour), Ok(()));
    }

    #[test]
    fn only_an_empty_page_ends_a_range_that_nobody_looks_at_again() {
        let mut scan = Scan::above(RecordId::ZERO, EndRule::EmptyPage).up_to(id(100));
        scan.take(&page(&[1, 2])).unwrap();
        assert!(!scan.ended());
        scan.take(&page(&[])).unwrap();
        assert!(scan.ended());
        assert!(Scan::above(id(5), EndRule::EmptyPage).up_to(id(5)).ended());
    }

    #[test]
    fn a_chain_is_no_longer_than_what_has_come_or_what_is_left() {
        let full = |from: i64| page(&(from..from + 50).collect::<Vec<_>>());
        let mut open = Scan::above(id(10), EndRule::ShortPage);
        assert_eq!(open.chain_length(7, 50), 7);
        let mut lengths = Vec::new();
        let mut next = 11;
        while lengths.last() != Some(&50) {
            lengths.push(open.chain_length(0, 50));
            for _ in 0..open.chain_length(0, 50) {
                open.take(&full(next)).unwrap();
                next += 50;
            }
        }
        assert_eq!(lengths, [1, 1, 2, 4, 8, 16, 32, 50]);
        assert_eq!(open.chain_length(0, 5), 5);
        assert_eq!(open.chain_length(900, 50), 50);

        let mut bounded = Scan::above(id(10), EndRule::ShortPage).up_to(id(240));
        bounded.take(&full(11)).unwrap();
        bounded.take(&full(61)).unwrap();
        assert_eq!(bounded.chain_length(0, 50), 2);
        bounded.take(&full(111)).unwrap();
        bounded.take(&full(161)).unwrap();
        assert_eq!(bounded.chain_length(0, 50), 1);
    }

    proptest! {
        #[test]
        fn every_record_that_stays_is_seen_exactly_once(
            stays in prop::collection::btree_set(1i64..3_000, 0..400),
            leaves in prop::collection::btree_set(1i64..3_000, 0..200),
            arrives in prop::collection::btree_set(1i64..3_000, 0..200),
            bound in prop::option::of(1i64..3_000),
            empty_page in any::<bool>(),
        ) {
            let rule = if empty_page { EndRule::EmptyPage } else { EndRule::ShortPage };
            let mut scan = Scan::above(RecordId::ZERO, rule);
            if let Some(bound) = bound { scan = scan.up_to(id(bound)); }
            let mut table: BTreeSet<i64> = stays.union(&leaves).copied().collect();
            let (mut leaves, mut arrives) = (leaves.into_iter(), arrives.into_iter());
            let mut seen = Vec::new();
            while !scan.ended() {
                let page = serve(&table, &scan);
                seen.extend(page.keys.iter().map(|(id, _)| id.get()));
                scan.take(&page).unwrap();
                // The portal changes between two pages.
                leaves.next().filter(|n| !stays.contains(n)).map(|n| table.remove(&n));
                arrives.next().map(|n| table.insert(n));
                // A crash keeps only what the checkpoint holds.
                scan = serde_json::from_str(&serde_json::to_string(&scan).unwrap()).unwrap();
            }
            let unique: BTreeSet<i64> = seen.iter().copied().collect();
            prop_assert_eq!(unique.len(), seen.len());
            let due: BTreeSet<i64> =
                stays.into_iter().filter(|n| bound.is_none_or(|bound| *n <= bound)).collect();
            prop_assert!(due.is_subset(&unique));
        }
    }
}
