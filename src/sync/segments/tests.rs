//! A backfill as data, on ID spaces of every kind and in any order of answers.

use std::collections::BTreeSet;

use proptest::{collection, prelude::*};

use super::*;
use crate::store::SegmentKind;

fn id(id: i64) -> RecordId {
    RecordId::new(id).unwrap_or(RecordId::ZERO)
}

fn segment(number: i64, after: i64, up_to: i64) -> Segment {
    Segment {
        id: number,
        kind: SegmentKind::Backfill,
        after: id(after),
        up_to: id(up_to),
        cursor: id(after),
        done: false,
        asked_at: DateTime::UNIX_EPOCH,
        started_at: DateTime::UNIX_EPOCH,
        rows: 0,
        expected: None,
        busy: Duration::ZERO,
        foretold: None,
    }
}

fn facts(ids: impl Iterator<Item = i64>) -> PageFacts {
    let keys: Vec<_> = ids.map(|number| (id(number), None)).collect();
    PageFacts { rows: keys.len(), keys }
}

/// The database and the portal of one backfill.
struct World {
    table: BTreeSet<i64>,
    stored: BTreeMap<i64, Segment>,
    seen: BTreeSet<i64>,
    requests: usize,
    commands: usize,
    /// Commands that brought no record for the first time.
    useless: usize,
    most_in_flight: usize,
}

impl World {
    fn new(ids: impl IntoIterator<Item = i64>) -> Self {
        let table: BTreeSet<i64> = ids.into_iter().collect();
        let newest = table.last().copied().unwrap_or(0);
        let stored = if newest > 0 { vec![(1, segment(1, 0, newest))] } else { Vec::new() };
        Self {
            table,
            stored: stored.into_iter().collect(),
            seen: BTreeSet::new(),
            requests: 0,
            commands: 0,
            useless: 0,
            most_in_flight: 0,
        }
    }

    fn see(&mut self, page: &PageFacts) {
        let before = self.seen.len();
        self.seen.extend(page.keys.iter().map(|(id, _)| id.get()));
        self.useless += usize::from(self.seen.len() == before);
    }

    fn answer(&mut self, stretch: &Stretch) -> (Vec<PageFacts>, Option<PageFacts>) {
        self.requests += 1;
        self.commands += stretch.pages + usize::from(stretch.tail.is_some());
        let up_to = stretch.scan.bound().unwrap().get();
        let mut cursor = stretch.scan.cursor().get();
        let mut pages = Vec::new();
        for wasted in (0..stretch.pages).rev() {
            let rows = self.table.range(cursor + 1..=up_to.max(cursor + 1));
            let page = facts(rows.copied().filter(|number| *number <= up_to).take(PAGE_ROWS));
            cursor = page.keys.last().map_or(cursor, |(id, _)| id.get());
            self.see(&page);
            let short = page.rows < PAGE_ROWS;
            pages.push(page);
            if short {
                self.useless += wasted;
                break;
            }
        }
        let tail = stretch.tail.map(|Tail { after, up_to, .. }| {
            let rows = self.table.range(after.get() + 1..=up_to.get().max(after.get() + 1));
            let rows = rows.copied().filter(|number| *number <= up_to.get());
            let page = facts(rows.rev().take(PAGE_ROWS));
            self.see(&page);
            page
        });
        (pages, tail)
    }

    /// Reads on until the end, or until so many answers have come; `pick` says which
    /// chain in flight is answered first, `meanwhile` changes the portal in between.
    fn work(
        &mut self,
        ways: usize,
        answers: usize,
        mut pick: impl FnMut(usize) -> usize,
        mut meanwhile: impl FnMut(&mut BTreeSet<i64>),
    ) {
        let mut segments = Segments::new(self.stored.values().cloned().collect(), ways);
        let mut flying: Vec<(Stretch, Vec<PageFacts>, Option<PageFacts>)> = Vec::new();
        for _ in 0..answers {
            loop {
                match segments.next(PAGE_ROWS) {
                    Next::Read(stretch) => {
                        let (pages, tail) = self.answer(&stretch);
                        flying.push((stretch, pages, tail));
                        meanwhile(&mut self.table);
                    }
                    Next::Cut(cut) => {
                        let number = i64::try_from(self.stored.len()).unwrap() + 1;
                        let stored = self.stored.get_mut(&cut.lower.id).unwrap();
                        let at = cut.lower.up_to;
                        let upper = segment(number, at.get(), stored.up_to.get());
                        stored.up_to = at;
                        self.stored.insert(number, upper.clone());
                        segments.was_cut(cut, &upper);
                    }
                    Next::Nothing => break,
                }
            }
            self.most_in_flight = self.most_in_flight.max(segments.in_flight());
            if flying.is_empty() {
                assert!(self.stored.values().all(|segment| segment.done));
                return;
            }
            let (stretch, pages, tail) = flying.remove(pick(flying.len()));
            let shown = Shown { pages: pages.iter().collect(), tail: tail.as_ref() };
            let taken =
                segments.take(&stretch, &shown, DateTime::UNIX_EPOCH, Duration::ZERO).unwrap();
            for segment in taken.segments {
                self.stored.insert(segment.id, segment);
            }
        }
    }

    fn finish(&mut self, ways: usize) {
        self.work(ways, usize::MAX, |_| 0, |_| {});
    }
}

/// A reproducible coin.
fn coins(seed: u64) -> impl FnMut(u64) -> bool {
    let mut state = seed;
    move |percent| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % 100 < percent
    }
}

fn spread(count: usize, start: i64, gaps: u64) -> Vec<i64> {
    let mut gap = coins(start.unsigned_abs() + gaps);
    (start..).filter(|_| !gap(gaps)).take(count).collect()
}

const FAR: i64 = 1 << 31;

#[test]
fn few_commands_and_requests_are_wasted_whatever_the_gaps() {
    let spaces: [(&str, Vec<i64>); 8] = [
        ("dense", spread(200_000, 1, 0)),
        ("a third missing", spread(200_000, 1, 30)),
        ("a third missing, few", spread(20_000, 1, 30)),
        ("nearly all missing", spread(100_000, 1, 90)),
        ("far block", [spread(180_000, 1, 30), spread(20_000, FAR, 30)].concat()),
        ("small far block", [spread(50_000, 1, 90), spread(130, FAR, 0)].concat()),
        ("sparse, then dense", [spread(30_000, 1, 95), spread(70_000, 900_000, 0)].concat()),
        ("dense, then sparse", [spread(70_000, 1, 0), spread(30_000, 70_001, 95)].concat()),
    ];
    for (name, space) in spaces {
        let count = space.len();
        let mut world = World::new(space);
        world.finish(4);
        println!(
            "{name}: {} requests, {} commands, {} useless",
            world.requests, world.commands, world.useless
        );
        assert_eq!(world.seen.len(), count, "{name}");
        let rows: i64 = world.stored.values().map(|segment| segment.rows).sum();
        println!("{name}: {rows} rows");
        assert_eq!(world.most_in_flight, 4, "{name}");
        let share = as_float(world.useless) / as_float(world.commands);
        assert!(share <= 0.02, "{name}: {share:.3} of the commands brought nothing new");
        let bound = 1.02 * as_float(count) / 2_500.0 + 22.0;
        let requests = world.requests;
        assert!(as_float(requests) <= bound, "{name}: {requests} requests, {bound:.0} allowed");
    }
}

#[test]
fn a_small_table_is_not_cut() {
    let mut world = World::new(1..=40);
    world.finish(4);
    assert_eq!((world.requests, world.commands, world.stored.len()), (1, 1, 1));
    World::new([]).finish(4);
}

#[test]
fn an_answer_to_another_question_changes_nothing() {
    let mut segments = Segments::new(vec![segment(1, 0, 100_000)], 2);
    let Next::Read(_) = segments.next(50) else { panic!() };
    let Next::Cut(cut) = segments.next(50) else { panic!() };
    let upper = segment(2, cut.lower.up_to.get(), cut.end.get());
    segments.was_cut(cut, &upper);
    let Next::Read(above) = segments.next(50) else { panic!() };
    let good = facts(60_000..60_050);
    let bad = facts(60_000..60_050);
    let shown = Shown { pages: vec![&good], tail: Some(&bad) };
    let refused = segments.take(&above, &shown, DateTime::UNIX_EPOCH, Duration::ZERO);
    assert!(matches!(refused, Err(Mismatch::NotAscending { .. } | Mismatch::AboveRange { .. })));
    assert_eq!(segments.in_flight(), 2);
}

proptest! {
    #[test]
    fn every_record_that_stays_is_read_in_whatever_order_answers_come(
        stays in collection::btree_set(1i64..6_000, 0..3_000),
        far in collection::btree_set(FAR..FAR + 3_000, 0..1_500),
        leaves in collection::btree_set(1i64..6_000, 0..300),
        ways in 1usize..6,
        order in collection::vec(any::<usize>(), 1..200),
        crashes in collection::vec(0usize..12, 0..6),
    ) {
        let stays: BTreeSet<i64> = stays.union(&far).copied().collect();
        let leaving: Vec<i64> = leaves.difference(&stays).copied().collect();
        let mut world = World::new(stays.iter().chain(&leaving).copied());
        let (mut turn, mut leaving) = (0, leaving.into_iter());
        let mut pick = |count: usize| {
            turn += 1;
            order[turn % order.len()] % count
        };
        for answers in crashes {
            // What was in flight is lost; only what is stored goes on.
            world.work(ways, answers, &mut pick, |table| {
                leaving.next().map(|gone| table.remove(&gone));
            });
        }
        world.work(ways, usize::MAX, &mut pick, |table| {
            leaving.next().map(|gone| table.remove(&gone));
        });
        prop_assert!(stays.is_subset(&world.seen));
    }
}
