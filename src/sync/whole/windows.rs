//! A reading of a list that moves while it is read, as a pure state machine.
//!
//! The list is paged by offset, so an entry that moves to the front, or goes, shifts all
//! others. Windows therefore overlap: each has to show the last entry of the window before,
//! the *anchor*, and only what stands behind it is new. Where the anchor is not where it was
//! left the list has moved, and the reading goes on behind it all the same; nothing between is
//! lost. Where it is not to be found, the reading has to begin again.
//!
//! What moves from the part that is still to be read into the part that has been read would be
//! missed. In a list with the latest first it moves to the front. So at the end the front is
//! looked at once more: what has come there is read, and behind it the old front has to follow.
//!
//! A window that shows nothing behind the anchor is the end. A full one that does so is a
//! portal that takes no notice of the offset.

use crate::entity::RecordId;

/// So many windows are more entries than an address book has; whoever lists more goes round in
/// circles.
const MOST_WINDOWS: usize = 20_000;

/// Which entry a row is: its ID, or a fingerprint of the text where that is not usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Id(RecordId),
    Text(u64),
}

/// What a reading needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The window from this offset on.
    Ask(usize),
    /// Nothing: every entry that stayed has been shown.
    Complete,
}

/// Why a reading proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the list moved by more than its pages overlap while it was read")]
    Lost,
    #[error("the front of the list changed too much while it was read")]
    Front,
    #[error("the portal shows the same page whatever its offset")]
    Stuck,
    #[error("the list has no end")]
    Endless,
}

/// A reading under way.
#[derive(Debug)]
pub(super) struct Windows {
    full: usize,
    /// Everything that was shown, in the order of the list.
    shown: Vec<Key>,
    offset: usize,
    /// Rows that the next window should show once more.
    overlap: usize,
    /// How many windows were shown.
    taken: usize,
    /// The list has been read to its end, and its front is looked at again.
    closing: bool,
}

impl Windows {
    /// Begins a reading in pages of at most so many rows.
    pub(super) const fn new(full: usize) -> Self {
        Self { full, shown: Vec::new(), offset: 0, overlap: 0, taken: 0, closing: false }
    }

    /// Takes the window that was asked for, and says what is needed next.
    pub(super) fn take(&mut self, rows: &[Key]) -> Result<Step, Broken> {
        self.taken += 1;
        if self.taken > MOST_WINDOWS {
            return Err(Broken::Endless);
        }
        if self.closing {
            return if follows(&self.shown, rows) {
                Ok(Step::Complete)
            } else {
                Err(Broken::Front)
            };
        }
        let Some(anchor) = self.shown.last().copied() else {
            self.shown = rows.to_vec();
            return Ok(if rows.is_empty() { Step::Complete } else { self.next(rows) });
        };
        // The first of several equal ones: rather something twice than never.
        let place = rows.iter().position(|row| *row == anchor).ok_or(Broken::Lost)?;
        let behind = &rows[place + 1..];
        if !behind.is_empty() {
            self.shown.extend_from_slice(behind);
            return Ok(self.next(rows));
        }
        if rows.len() >= self.full {
            return Err(Broken::Stuck);
        }
        Ok(self.end(rows))
    }

    fn next(&mut self, rows: &[Key]) -> Step {
        // A quarter of what came: a portal may give less at once than it was asked for.
        self.overlap = (rows.len() / 4).max(1);
        self.offset += rows.len() - self.overlap;
        Step::Ask(self.offset)
    }

    fn end(&mut self, rows: &[Key]) -> Step {
        // What came in one answer was there at one moment.
        let in_one = self.taken == 2 && self.shown.len() < self.full;
        if in_one && rows.len() == self.overlap {
            return Step::Complete;
        }
        self.closing = true;
        Step::Ask(0)
    }
}

/// Whether a front continues as the list was shown, but for entries that have come before.
fn follows(before: &[Key], now: &[Key]) -> bool {
    if now.is_empty() {
        // It says nothing of where the entries have gone.
        return before.is_empty();
    }
    // The old list begins where its entries follow in their old order to the window's end.
    let enough = (now.len() / 4).max(1);
    (0..=now.len().saturating_sub(enough)).any(|start| {
        let tail = &now[start..];
        before.windows(tail.len()).any(|part| part == tail)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What a list goes through between two pages.
    #[derive(Debug, Clone)]
    enum Event {
        Add,
        Touch(usize),
        Remove(usize),
    }

    fn key(id: i64) -> Key {
        Key::Id(RecordId::new(id).unwrap())
    }

    /// Reads a list once. Gives what was shown, and whether the reading says it is complete.
    fn read(
        list: &mut Vec<i64>,
        full: usize,
        mut events: impl FnMut(usize, &mut Vec<i64>),
    ) -> (BTreeSet<i64>, Result<(), Broken>) {
        let (mut windows, mut shown) = (Windows::new(full), BTreeSet::new());
        let (mut offset, mut page) = (0, 0);
        loop {
            let rows: Vec<i64> = list.iter().copied().skip(offset).take(full).collect();
            shown.extend(&rows);
            let keys: Vec<Key> = rows.into_iter().map(key).collect();
            match windows.take(&keys) {
                Ok(Step::Ask(next)) => offset = next,
                Ok(Step::Complete) => return (shown, Ok(())),
                Err(broken) => return (shown, Err(broken)),
            }
            page += 1;
            events(page, list);
        }
    }

    #[test]
    fn a_quiet_list_is_read_whole_whatever_its_length() {
        for count in [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 100] {
            let mut list: Vec<i64> = (1..=count).collect();
            let (shown, end) = read(&mut list, 8, |_, _| {});
            assert_eq!(end, Ok(()), "{count}");
            assert_eq!(shown, (1..=count).collect(), "{count}");
        }
    }

    #[test]
    fn who_moves_to_the_front_between_two_pages_is_not_missed() {
        let mut list: Vec<i64> = (1..=40).collect();
        let (shown, end) = read(&mut list, 8, |page, list| {
            if page == 2 {
                let oldest = list.pop().unwrap();
                list.insert(0, oldest);
            }
        });
        assert_eq!((end, shown), (Ok(()), (1..=40).collect()));
    }

    #[test]
    fn whoever_follows_one_that_has_gone_is_not_missed() {
        let mut list: Vec<i64> = (1..=40).collect();
        let (shown, end) = read(&mut list, 8, |page, list| {
            if page == 2 {
                list.remove(0);
            }
        });
        assert_eq!((end, shown), (Ok(()), (1..=40).collect()));
    }

    #[test]
    fn a_portal_that_ignores_the_offset_is_found_out() {
        let page: Vec<Key> = (1..=8).map(key).collect();
        let mut windows = Windows::new(8);
        assert_eq!(windows.take(&page), Ok(Step::Ask(6)));
        assert_eq!(windows.take(&page), Err(Broken::Stuck));
    }

    #[test]
    fn a_portal_with_shorter_pages_than_asked_for_is_read_to_the_end() {
        let list: Vec<Key> = (1..=40).map(key).collect();
        let (mut windows, mut offset, mut shown) = (Windows::new(200), 0, BTreeSet::new());
        loop {
            let rows: Vec<Key> = list.iter().copied().skip(offset).take(8).collect();
            shown.extend(rows.iter().copied());
            match windows.take(&rows).unwrap() {
                Step::Ask(next) => offset = next,
                Step::Complete => break,
            }
        }
        assert_eq!(shown, list.into_iter().collect());
    }

    #[test]
    fn a_list_that_is_gone_half_way_is_no_end() {
        let mut windows = Windows::new(8);
        let page: Vec<Key> = (1..=8).map(key).collect();
        assert_eq!(windows.take(&page), Ok(Step::Ask(6)));
        assert_eq!(windows.take(&[]), Err(Broken::Lost));
    }

    #[test]
    fn an_empty_front_proves_nothing_of_a_list_that_was_shown() {
        let page: Vec<Key> = (1..=8).map(key).collect();
        let mut windows = Windows::new(8);
        assert_eq!(windows.take(&page), Ok(Step::Ask(6)));
        assert_eq!(windows.take(&page[6..]), Ok(Step::Ask(0)));
        assert_eq!(windows.take(&[]), Err(Broken::Front));
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Add),
            (0..200_usize).prop_map(Event::Touch),
            (0..200_usize).prop_map(Event::Remove),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_complete_reading_shows_whoever_was_there_throughout(
            count in 0..120_i64,
            events in proptest::collection::vec((1..12_usize, event()), 0..5),
        ) {
            let mut list: Vec<i64> = (1..=count).collect();
            let (mut removed, mut next) = (BTreeSet::new(), 1_000);
            let (shown, end) = read(&mut list, 16, |page, list| {
                for (_, event) in events.iter().filter(|(at, _)| *at == page) {
                    match event {
                        Event::Add => {
                            list.insert(0, next);
                            next += 1;
                        }
                        Event::Touch(place) if !list.is_empty() => {
                            let id = list.remove(place % list.len());
                            list.insert(0, id);
                        }
                        Event::Remove(place) if !list.is_empty() => {
                            removed.insert(list.remove(place % list.len()));
                        }
                        Event::Touch(_) | Event::Remove(_) => {}
                    }
                }
            });
            if end.is_ok() {
                let stayed: BTreeSet<i64> = (1..=count).filter(|id| !removed.contains(id)).collect();
                prop_assert!(stayed.is_subset(&shown), "missed {:?}", &stayed - &shown);
            }
            if events.is_empty() {
                prop_assert_eq!(end, Ok(()));
            }
        }
    }
}
