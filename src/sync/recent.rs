//! What the shallow cycles have read since the last deep one. The next deep cycle meets
//! all of it again, so its first chain may be as long as that takes, instead of feeling its
//! way through an unknown number of pages.

use std::collections::BTreeSet;

use super::pass::{PAGE_ROWS, Scan};
use crate::{entity::RecordId, portal::MAX_COMMANDS};

/// More records than fit into one request would not make a chain longer.
const MOST: usize = MAX_COMMANDS * PAGE_ROWS;

/// The records, each once. Lost with the process, which costs a few requests.
#[derive(Debug, Default)]
pub(super) struct Recent(BTreeSet<RecordId>);

impl Recent {
    /// Takes note of what a shallow cycle has read.
    pub(super) fn note(&mut self, read: impl IntoIterator<Item = RecordId>) {
        for id in read {
            if self.0.len() == MOST {
                return;
            }
            self.0.insert(id);
        }
    }

    /// A deep cycle is complete.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// The pages that a scan which has not begun will surely need.
    pub(super) fn pages(&self, scan: &Scan) -> usize {
        let within =
            |id: &&RecordId| **id > scan.cursor() && scan.bound().is_none_or(|up_to| **id <= up_to);
        self.0.iter().filter(within).count().div_ceil(PAGE_ROWS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::pass::EndRule;

    fn id(id: i64) -> RecordId {
        RecordId::new(id).unwrap()
    }

    #[test]
    fn each_scan_needs_the_pages_of_what_lies_in_its_range() {
        let mut recent = Recent::default();
        recent.note((1..=120).map(id));
        recent.note((100..=170).map(id));
        let below = Scan::above(RecordId::ZERO, EndRule::ShortPage).up_to(id(150));
        let above = Scan::above(id(150), EndRule::ShortPage);
        assert_eq!((recent.pages(&below), recent.pages(&above)), (3, 1));
        recent.forget();
        assert_eq!((recent.pages(&below), recent.pages(&above)), (0, 0));
    }

    #[test]
    fn no_more_is_remembered_than_one_request_can_bring() {
        let mut recent = Recent::default();
        recent.note((1..=100_000).map(id));
        assert_eq!(recent.pages(&Scan::above(RecordId::ZERO, EndRule::ShortPage)), MAX_COMMANDS);
    }
}
