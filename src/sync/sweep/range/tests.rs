use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn id(id: i64) -> RecordId {
    RecordId::new(id).unwrap()
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

fn key((number, second): (i64, i64)) -> Key {
    (id(number), Some(at(second)))
}

fn page(keys: &[(i64, i64)]) -> PageFacts {
    PageFacts { rows: keys.len(), keys: keys.iter().copied().map(key).collect() }
}

fn ids(numbers: &[i64]) -> Vec<RecordId> {
    numbers.iter().map(|number| id(*number)).collect()
}

fn full(after: i64) -> PageFacts {
    page(&(after + 1..=after + 50).map(|number| (number, 0)).collect::<Vec<_>>())
}

fn own(number: i64, second: i64) -> Own {
    Own { id: id(number), modified: Some(at(second)), deleted: false, newer: false }
}

#[test]
fn what_differs_is_fetched_and_what_is_not_listed_is_a_candidate() {
    let listed: Vec<Key> = [(1, 0), (2, 0), (3, 9), (5, 0), (7, 0), (8, 9)].map(key).to_vec();
    let mirror = [
        own(1, 0),
        own(3, 0),
        own(4, 0),
        Own { deleted: true, ..own(5, 0) },
        Own { deleted: true, ..own(6, 0) },
        Own { newer: true, deleted: true, ..own(7, 0) },
        Own { newer: true, ..own(8, 0) },
        Own { newer: true, ..own(9, 0) },
        own(10, 0),
    ];
    let difference = Difference::between(&listed, &mirror);
    assert_eq!(difference.fetch, ids(&[2, 3, 5]));
    assert_eq!(difference.stale, ids(&[3]));
    assert_eq!(difference.gone, ids(&[4, 10]));
}

#[test]
fn an_unreadable_time_is_the_same_on_both_sides() {
    let mirror = [Own { modified: None, ..own(1, 0) }];
    assert_eq!(Difference::between(&[(id(1), None)], &mirror), Difference::default());
}

#[test]
fn a_page_closes_the_range_up_to_its_last_record_and_no_further() {
    let mut listing = Listing::above(id(10));
    let listed = listing.take(&[full(20), page(&[(90, 0), (95, 0)])], None).unwrap().unwrap();
    assert_eq!((listed.after, listed.up_to), (id(10), Some(id(95))));
    assert_eq!(listed.keys.len(), 52);
    assert!(!listing.ended());
}

#[test]
fn only_an_empty_page_that_the_newest_page_agrees_with_ends_the_listing() {
    let mut listing = Listing::above(id(10));
    let short = page(&[(20, 0)]);
    listing.take(&[short], None).unwrap();
    assert_eq!(listing.wanted(700, 50), Wanted { after: id(20), pages: 1, newest: true });

    // Alone, against a newer record, and against a table that is said to be empty.
    let empty = page(&[]);
    assert_eq!(listing.take(std::slice::from_ref(&empty), None), Ok(None));
    assert_eq!(
        listing.take(std::slice::from_ref(&empty), Some(&page(&[(21, 0), (20, 0)]))),
        Ok(None)
    );
    assert_eq!(listing.take(std::slice::from_ref(&empty), Some(&empty)), Ok(None));
    assert!(!listing.ended());

    let closed = listing.take(&[empty], Some(&page(&[(20, 0), (4, 0)]))).unwrap().unwrap();
    assert_eq!((closed.after, closed.up_to, closed.keys.len()), (id(20), None, 0));
    assert!(listing.ended());
}

#[test]
fn an_empty_portal_is_listed_to_its_end() {
    let mut listing = Listing::above(RecordId::ZERO);
    let wanted = listing.wanted(0, 50);
    assert_eq!(wanted, Wanted { after: RecordId::ZERO, pages: 1, newest: true });
    let closed = listing.take(&[page(&[])], Some(&page(&[]))).unwrap().unwrap();
    assert_eq!((closed.after, closed.up_to), (RecordId::ZERO, None));
    assert!(listing.ended());
}

#[test]
fn a_page_that_answers_another_question_is_refused_and_nothing_is_taken() {
    let mut listing = Listing::above(id(10));
    let refused = [
        listing.take(&[full(0)], None),
        listing.take(&[full(10), full(20)], None),
        listing.take(&[PageFacts { rows: 3, keys: Vec::new() }], None),
        listing.take(&[page(&[(11, 0)])], Some(&page(&[(11, 0), (12, 0)]))),
        listing.take(&[page(&[])], Some(&PageFacts { rows: 2, keys: vec![key((9, 0))] })),
    ];
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
    assert_eq!(listing.cursor(), id(10));
    assert!(listing.take(&[full(10)], None).unwrap().is_some());
}

#[test]
fn chains_are_as_long_as_what_the_mirror_has_and_grow_where_it_has_nothing() {
    let mut listing = Listing::above(RecordId::ZERO);
    assert_eq!(listing.wanted(2_500, 50).pages, 50);
    assert_eq!(listing.wanted(2_500, 7).pages, 7);
    assert_eq!(listing.wanted(101, 50).pages, 3);
    let mut after = 0;
    let mut lengths = Vec::new();
    for _ in 0..8 {
        let pages = listing.wanted(0, 50).pages;
        lengths.push(pages);
        let chain: Vec<PageFacts> =
            (0..pages).map(|at| full(after + 50 * i64::try_from(at).unwrap())).collect();
        after += 50 * i64::try_from(pages).unwrap();
        listing.take(&chain, None).unwrap();
    }
    assert_eq!(lengths, [1, 1, 2, 4, 8, 16, 32, 50]);
}

/// The portal's table: when each record was modified.
type Table = BTreeMap<i64, i64>;

/// What happens at the portal between two requests, and what is wrong with an answer.
#[derive(Debug, Clone)]
enum Event {
    Delete(i64),
    Save(i64, i64),
    /// The process dies; only the cursor is left.
    Crash,
    /// A page of the next answer comes empty, and all after it.
    EmptyPage(usize),
    /// A page of the next answer lacks rows at its end, and the chain ends there.
    Trimmed(usize, usize),
    /// A page of the next answer ignores its filter.
    FilterIgnored(usize),
    /// The newest page comes empty.
    EmptyNewest,
    Quiet,
}

fn event() -> impl Strategy<Value = Event> {
    let number = 1i64..600;
    prop_oneof![
        3 => number.clone().prop_map(Event::Delete),
        3 => (number, 100i64..200).prop_map(|(number, second)| Event::Save(number, second)),
        1 => Just(Event::Crash),
        1 => (0usize..3).prop_map(Event::EmptyPage),
        1 => (0usize..3, 1usize..50).prop_map(|(page, rows)| Event::Trimmed(page, rows)),
        1 => (0usize..3).prop_map(Event::FilterIgnored),
        1 => Just(Event::EmptyNewest),
        2 => Just(Event::Quiet),
    ]
}

/// Answers as a portal does, apart from what the event spoils.
fn serve(table: &Table, wanted: Wanted, event: &Event) -> (Vec<PageFacts>, Option<PageFacts>) {
    let mut pages = Vec::new();
    let mut after = wanted.after.get();
    for at in 0..wanted.pages {
        let from =
            if matches!(event, Event::FilterIgnored(page) if *page == at) { 0 } else { after };
        let mut rows: Vec<(i64, i64)> =
            table.range(from + 1..).take(50).map(|(id, second)| (*id, *second)).collect();
        match event {
            Event::EmptyPage(page) if *page == at => rows.clear(),
            Event::Trimmed(page, left) if *page == at => rows.truncate(*left),
            _ => {}
        }
        pages.push(page(&rows));
        match rows.last() {
            Some((last, _)) if rows.len() == 50 => after = *last,
            _ => break,
        }
    }
    let newest: Vec<(i64, i64)> = match event {
        Event::EmptyNewest => Vec::new(),
        _ => table.iter().rev().take(50).map(|(id, second)| (*id, *second)).collect(),
    };
    (pages, wanted.newest.then(|| page(&newest)))
}

proptest! {
    #[test]
    fn whatever_happens_the_gone_are_found_and_nobody_who_stays_is_taken_for_gone(
        table in prop::collection::btree_map(1i64..600, 0i64..3, 0..500),
        mirror in prop::collection::btree_map(1i64..600, 0i64..3, 0..500),
        events in prop::collection::vec(event(), 0..40),
        at_most in 1usize..5,
    ) {
        let mut table: Table = table;
        // What was there all the time, and as it was; what was never there.
        let mut stayed = table.clone();
        let mut ever: BTreeSet<i64> = table.keys().copied().collect();
        let (mut fetched, mut gone) = (BTreeSet::new(), BTreeSet::new());
        let mut listing = Listing::above(RecordId::ZERO);
        let mut events = events.into_iter();
        let mut requests = 0;
        while !listing.ended() {
            requests += 1;
            prop_assert!(requests < 1_000, "the listing does not come to its end");
            let event = events.next().unwrap_or(Event::Quiet);
            match event {
                Event::Delete(number) => {
                    table.remove(&number);
                    stayed.remove(&number);
                }
                Event::Save(number, second) => {
                    table.insert(number, second);
                    ever.insert(number);
                    stayed.remove(&number);
                }
                Event::Crash => listing = Listing::above(listing.cursor()),
                _ => {}
            }
            let above = mirror.range(listing.cursor().get() + 1..).count();
            let wanted = listing.wanted(above, at_most);
            let (pages, newest) = serve(&table, wanted, &event);
            // A listing that answers another question is asked for again.
            let Ok(Some(listed)) = listing.take(&pages, newest.as_ref()) else { continue };
            let end = listed.up_to.map_or(i64::MAX, RecordId::get);
            let rows: Vec<Own> = mirror
                .range(listed.after.get() + 1..)
                .take_while(|(number, _)| **number <= end)
                .map(|(number, second)| own(*number, *second))
                .collect();
            let difference = Difference::between(&listed.keys, &rows);
            fetched.extend(difference.fetch.iter().map(|id| id.get()));
            gone.extend(difference.gone.iter().map(|id| id.get()));
        }
        for number in mirror.keys() {
            prop_assert!(ever.contains(number) || gone.contains(number), "{number} was not found");
            prop_assert!(!stayed.contains_key(number) || !gone.contains(number), "{number} stayed");
        }
        for (number, second) in &stayed {
            let differs = mirror.get(number) != Some(second);
            prop_assert_eq!(differs, fetched.contains(number), "{}", number);
        }
    }
}
