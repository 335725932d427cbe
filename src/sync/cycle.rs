//! The incremental cycle as data: what it reads, and what it may conclude when it is
//! complete. Pure; `incremental.rs` performs it. The reasons stand at the head of `sync`.

use chrono::{DateTime, Duration, DurationRound, FixedOffset, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::pass::{EndRule, Scan};
use crate::{
    entity::RecordId,
    store::{Checkpoint, ClockShift, Successor, Watermark},
};

/// How far below the last complete cycle a shallow one starts.
const SHALLOW_OVERLAP: Duration = Duration::seconds(2);

/// `DATE_MODIFY` has whole seconds: one less makes `>` as good as `>=`.
const ONE_SECOND: Duration = Duration::seconds(1);

/// Rows dated further ahead than this come in every cycle until their day; shallow
/// cycles leave them to the deep ones.
const FAR_AHEAD: Duration = Duration::days(1);

/// A portal clock that fell back by less than this is noise.
const CLOCK_NOISE: Duration = Duration::seconds(1);

/// One answer may come faster than another by so much.
const HASTE: Duration = Duration::seconds(30);

/// How far back a cycle looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Depth {
    /// From `overlap` before the last complete deep cycle, and above the mark.
    Deep,
    /// From seconds before the last complete cycle, and above the newest record seen.
    Shallow,
}

/// One cycle: two disjoint scans with one boundary. Stored in the checkpoint while
/// it is under way, so that a crash resumes it with the same bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cycle {
    pub(super) depth: Depth,
    boundary: RecordId,
    /// What was modified after the floor, up to the boundary.
    pub(super) changed: Scan,
    /// What lies above the boundary, whatever its date: restored and imported records.
    pub(super) new: Scan,
    /// The clocks at the cycle's first answer; the watermark once it is complete.
    began: Option<Clocks>,
}

/// The clocks around one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clocks {
    /// The portal's clock when it began to answer.
    pub(super) portal: DateTime<Utc>,
    /// The portal's UTC offset at that moment.
    pub(super) offset_seconds: i32,
    /// The database's clock before the request was sent.
    pub(super) asked_at: DateTime<Utc>,
    /// The database's clock after the answer had come.
    pub(super) heard_at: DateTime<Utc>,
}

impl Clocks {
    pub(super) fn watermark(self) -> Watermark {
        Watermark {
            portal: self.portal,
            offset_seconds: self.offset_seconds,
            database: self.heard_at,
        }
    }
}

impl Cycle {
    /// Plans the next cycle of a source that cannot be asked for changes: a deep one reads
    /// everything up to the mark so often, and when a process takes up a mirror that was
    /// complete before; the others look for what is new only.
    pub(super) fn plan_without_dates(
        checkpoint: &Checkpoint,
        every: Duration,
        now: DateTime<Utc>,
        first: bool,
    ) -> Self {
        let due = now - checkpoint.deep.database >= every;
        // Before the first complete cycle, a backfill is reading it all anyway.
        let deep = due || (first && checkpoint.completed_at.is_some());
        let (depth, from, boundary) = if deep {
            (Depth::Deep, RecordId::ZERO, checkpoint.mark)
        } else {
            (Depth::Shallow, checkpoint.newest, checkpoint.newest)
        };
        Self {
            depth,
            boundary,
            changed: Scan::above(from, EndRule::EmptyPage).up_to(boundary),
            new: Scan::above(boundary, EndRule::ShortPage),
            began: None,
        }
    }

    /// Plans the next cycle. `now` is the database's clock; `first` says that this is
    /// the first new cycle of the process, which is always deep.
    pub(super) fn plan(
        checkpoint: &Checkpoint,
        overlap: Duration,
        now: DateTime<Utc>,
        first: bool,
    ) -> Self {
        // The extra second keeps a bulk change that a deep cycle has just met above the
        // whole-second floor of the next one only, and not of the one after it.
        let due = now - checkpoint.deep.database >= overlap + ONE_SECOND;
        let deep = first || checkpoint.deep_fitted || due;
        let (depth, since, boundary) = if deep {
            (Depth::Deep, &checkpoint.deep, checkpoint.mark)
        } else {
            (Depth::Shallow, &checkpoint.last, checkpoint.newest)
        };
        let portal_now = since.portal + (now - since.database);
        let shift = checkpoint.shift.and_then(|shift| shift.since(since.database));
        let back = if deep { overlap } else { SHALLOW_OVERLAP } + shift.unwrap_or_default();
        let ceiling = (!deep).then_some(portal_now + FAR_AHEAD);
        Self::between(depth, boundary, since.portal - back, ceiling)
    }

    fn between(
        depth: Depth,
        boundary: RecordId,
        floor: DateTime<Utc>,
        ceiling: Option<DateTime<Utc>>,
    ) -> Self {
        let floor = floor.duration_trunc(TimeDelta::seconds(1)).unwrap_or(floor) - ONE_SECOND;
        Self {
            depth,
            boundary,
            changed: Scan::above(RecordId::ZERO, EndRule::ShortPage)
                .up_to(boundary)
                .modified(floor, ceiling),
            new: Scan::above(boundary, EndRule::ShortPage),
            began: None,
        }
    }

    /// Reads a cycle back from its checkpoint.
    pub(super) fn resume(checkpoint: &Checkpoint) -> Option<Self> {
        serde_json::from_value(checkpoint.cycle.clone()?).ok()
    }

    pub(super) const fn ended(&self) -> bool {
        self.changed.ended() && self.new.ended()
    }

    /// Whether the first answer is still to come.
    pub(super) const fn fresh(&self) -> bool {
        self.began.is_none()
    }

    /// Takes the clocks of the cycle's first answer. Returns the cycle that has to be
    /// read instead when the portal's clock turned out to be behind what the floor
    /// assumed: changes of that span would otherwise be stored below the floor.
    pub(super) fn begin(
        &mut self,
        checkpoint: &mut Checkpoint,
        overlap: Duration,
        clocks: Clocks,
    ) -> Option<Self> {
        self.began = Some(clocks);
        let since = match self.depth {
            Depth::Deep => &checkpoint.deep,
            Depth::Shallow => &checkpoint.last,
        };
        // From the end of that answer to the asking of this one: a slow answer must
        // not look like a clock that fell back.
        let surely = since.portal + (clocks.asked_at - since.database) - clocks.portal;
        let at_most = since.portal + (clocks.heard_at - since.database) - clocks.portal;
        let fell_back = if surely > CLOCK_NOISE { at_most } else { Duration::zero() };
        // The portal stores local time: an hour that repeats is stored below itself.
        let repeated =
            Duration::seconds(i64::from(since.offset_seconds - clocks.offset_seconds).max(0));
        // What was dated before a leap forward may become visible after it.
        let leapt = if -at_most > CLOCK_NOISE { -at_most } else { Duration::zero() };
        let is_hasty = repeated.is_zero() && leapt <= HASTE;
        let before = checkpoint.shift.and_then(|shift| shift.since(checkpoint.deep.database));
        let before = before.unwrap_or_default();
        // An answer that came faster than the last one looks like a small leap. Many of them in
        // a row must not add up, nor prolong a larger one.
        let is_noise = is_hasty && (leapt.is_zero() || leapt + ONE_SECOND <= before);
        if !is_noise {
            let by = if is_hasty { leapt } else { before.max(repeated) + leapt };
            checkpoint.shift = Some(ClockShift {
                by_seconds: (by + ONE_SECOND).num_seconds(),
                until: clocks.heard_at + repeated + overlap,
            });
        }
        let lower_by = fell_back + repeated;
        if lower_by.is_zero() {
            return None;
        }
        let floor = self.changed.floor()? - lower_by;
        let mut again =
            Self::between(self.depth, self.boundary, floor + ONE_SECOND, self.changed.ceiling());
        again.began = self.began;
        Some(again)
    }

    /// Moves the watermarks and the mark after a complete cycle; `now` is the
    /// database's clock at its end.
    pub(super) fn complete(
        &self,
        checkpoint: &mut Checkpoint,
        overlap: Duration,
        now: DateTime<Utc>,
    ) {
        let Some(began) = self.began else { return };
        let watermark = began.watermark();
        checkpoint.newest = checkpoint.newest.max(self.new.cursor());
        if self.depth == Depth::Deep {
            checkpoint.deep_fitted = self.changed.pages() <= 1 && self.new.pages() <= 1;
            checkpoint.deep = watermark;
            let settled = |successor: &Successor| began.asked_at >= successor.at + overlap;
            if let Some(successor) = checkpoint.successor.take_if(|successor| settled(successor)) {
                checkpoint.mark = checkpoint.mark.max(successor.id);
            }
        }
        if checkpoint.successor.is_none() && checkpoint.newest > checkpoint.mark {
            checkpoint.successor = Some(Successor { id: checkpoint.newest, at: now });
        }
        checkpoint.last = watermark;
        checkpoint.completed_at = Some(now);
        checkpoint.cycle = None;
    }
}

/// An instant in the portal's own offset, as its filters are sent.
pub(super) fn in_offset(instant: DateTime<Utc>, offset_seconds: i32) -> DateTime<FixedOffset> {
    let utc = FixedOffset::east_opt(0);
    FixedOffset::east_opt(offset_seconds)
        .or(utc)
        .map_or_else(|| instant.fixed_offset(), |offset| instant.with_timezone(&offset))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::sync::pass::PageFacts;

    const OVERLAP: Duration = Duration::seconds(10);

    /// A portal small enough to think about: one-second steps, late commits, a clock
    /// that jumps, and records whose date says nothing about when they came.
    #[derive(Default)]
    struct Portal {
        rows: BTreeMap<i64, Row>,
        late: Vec<(i64, i64, Row)>,
        next_id: i64,
        clock: i64,
        jumped: Option<i64>,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Row {
        version: i64,
        modified: i64,
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Create { late_by: i64, old_date: bool },
        Edit { which: usize, late_by: i64 },
        Jump { by: i64 },
    }

    impl Portal {
        fn happen(&mut self, event: Event, now: i64, version: i64) {
            let modified = now + self.clock;
            match event {
                Event::Create { late_by, old_date } => {
                    self.next_id += 1;
                    let modified = if old_date { modified - 5_000 } else { modified };
                    self.late.push((now + late_by, self.next_id, Row { version, modified }));
                }
                Event::Edit { which, late_by } => {
                    let ids: Vec<i64> = self.rows.keys().copied().collect();
                    if let Some(id) = ids.get(which % ids.len().max(1)) {
                        self.late.push((now + late_by, *id, Row { version, modified }));
                    }
                }
                // A clock that leaves and returns between two cycles cannot be seen by any
                // cycle: that is what the sweep is for.
                Event::Jump { by } if self.jumped.is_none_or(|before| now - before > 30) => {
                    self.clock += by;
                    self.jumped = Some(now);
                }
                Event::Jump { .. } => {}
            }
        }

        fn commit(&mut self, now: i64) {
            let (due, late) = self.late.drain(..).partition(|(at, ..)| *at <= now);
            self.late = late;
            for (_, id, row) in due {
                // Two edits of one record commit in the order of their dates.
                let kept = self.rows.entry(id).or_insert(row);
                if row.version > kept.version {
                    *kept = row;
                }
            }
        }

        fn serve(&self, scan: &Scan) -> (PageFacts, Vec<(i64, Row)>) {
            let up_to = scan.bound().map_or(i64::MAX, RecordId::get);
            let rows: Vec<(i64, Row)> = self
                .rows
                .range(scan.cursor().get() + 1..)
                .take_while(|(id, _)| **id <= up_to)
                .filter(|(_, row)| scan.floor().is_none_or(|floor| at(row.modified) > floor))
                .filter(|(_, row)| scan.ceiling().is_none_or(|top| at(row.modified) <= top))
                .map(|(id, row)| (*id, *row))
                .take(crate::sync::pass::PAGE_ROWS)
                .collect();
            let keys =
                rows.iter().map(|(id, row)| (RecordId::new(*id).unwrap(), Some(at(row.modified))));
            (PageFacts { rows: rows.len(), keys: keys.collect() }, rows)
        }
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
    }

    fn start(portal: &Portal) -> Checkpoint {
        let watermark = Watermark { portal: at(portal.clock), offset_seconds: 0, database: at(0) };
        Checkpoint {
            fingerprint: 0,
            mark: RecordId::ZERO,
            successor: None,
            newest: RecordId::ZERO,
            deep: watermark,
            deep_fitted: true,
            last: watermark,
            shift: None,
            cycle: None,
            asked_at: at(0),
            completed_at: None,
        }
    }

    /// One cycle in which every answer takes no time; `crash` loses it after its first answer.
    fn perform(
        portal: &Portal,
        checkpoint: &mut Checkpoint,
        mirror: &mut BTreeMap<i64, Row>,
        now: i64,
        first: bool,
        crash: bool,
    ) {
        let mut cycle = Cycle::resume(checkpoint)
            .unwrap_or_else(|| Cycle::plan(checkpoint, OVERLAP, at(now), first));
        while !cycle.ended() {
            if cycle.fresh() {
                let clocks = Clocks {
                    portal: at(now + portal.clock),
                    offset_seconds: 0,
                    asked_at: at(now),
                    heard_at: at(now),
                };
                if let Some(again) = cycle.begin(checkpoint, OVERLAP, clocks) {
                    cycle = again;
                }
            }
            for scan in [&mut cycle.changed, &mut cycle.new] {
                if !scan.ended() {
                    let (facts, rows) = portal.serve(scan);
                    scan.take(&facts).unwrap();
                    mirror.extend(rows);
                }
            }
            checkpoint.cycle = serde_json::to_value(&cycle).ok();
            if crash {
                return;
            }
        }
        cycle.complete(checkpoint, OVERLAP, at(now));
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0i64..=9, any::<bool>())
                .prop_map(|(late_by, old_date)| Event::Create { late_by, old_date }),
            4 => (any::<usize>(), 0i64..=9).prop_map(|(which, late_by)| Event::Edit { which, late_by }),
            1 => prop_oneof![Just(-600i64), Just(600), -5i64..=5].prop_map(|by| Event::Jump { by }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn whatever_becomes_visible_within_the_overlap_is_mirrored(
            history in prop::collection::vec((0i64..4, event()), 1..60),
            interval in 1i64..5,
            crashes in prop::collection::vec(prop::bool::weighted(0.1), 60),
        ) {
            let (mut portal, mut mirror) = (Portal::default(), BTreeMap::new());
            let mut checkpoint = start(&portal);
            let (mut now, mut version, mut cycles) = (1, 0, 0usize);
            let mut history = history.into_iter().peekable();
            let mut quiet = 0;
            // After the last event: one overlap and two intervals, as promised.
            while quiet <= OVERLAP.num_seconds() + 2 * interval + 9 {
                match history.peek_mut() {
                    Some((pause, event)) if *pause == 0 => {
                        version += 1;
                        portal.happen(*event, now, version);
                        history.next();
                        continue;
                    }
                    Some((pause, _)) => *pause -= 1,
                    None => quiet += 1,
                }
                portal.commit(now);
                if now % interval == 0 {
                    let crash = quiet == 0 && crashes[cycles % crashes.len()];
                    let first = cycles == 0 || crashes[(cycles - 1) % crashes.len()];
                    perform(&portal, &mut checkpoint, &mut mirror, now, first, crash);
                    cycles += 1;
                }
                now += 1;
            }
            prop_assert_eq!(mirror, portal.rows);
        }
    }

    #[test]
    fn answers_that_come_faster_and_slower_are_no_leaps_that_add_up() {
        let mut checkpoint = start(&Portal::default());
        for round in 1..2_000 {
            let (asked, took) = (15 * round, round % 4);
            let mut cycle = Cycle::plan(&checkpoint, OVERLAP, at(asked), round == 1);
            let clocks = Clocks {
                portal: at(asked),
                offset_seconds: 0,
                asked_at: at(asked),
                heard_at: at(asked + took),
            };
            assert_eq!(cycle.begin(&mut checkpoint, OVERLAP, clocks), None);
            cycle.complete(&mut checkpoint, OVERLAP, at(asked + took));
        }
        let shift = checkpoint.shift.unwrap();
        assert!(shift.by_seconds <= 4, "{shift:?}");
    }

    #[test]
    fn answers_that_come_faster_do_not_prolong_an_hour_that_repeats() {
        let mut checkpoint = start(&Portal::default());
        let until = at(50);
        checkpoint.shift = Some(ClockShift { by_seconds: 3_601, until });
        for asked in (0..300).step_by(4) {
            let mut cycle = Cycle::plan(&checkpoint, OVERLAP, at(asked), asked == 0);
            let took = i64::from(asked % 8 == 0) * 2;
            let clocks = Clocks {
                portal: at(asked),
                offset_seconds: 0,
                asked_at: at(asked),
                heard_at: at(asked + took),
            };
            assert_eq!(cycle.begin(&mut checkpoint, OVERLAP, clocks), None);
            cycle.complete(&mut checkpoint, OVERLAP, at(asked + took));
            let shift = checkpoint.shift.unwrap();
            assert!(shift.by_seconds <= 3 || shift.until == until, "{shift:?}");
        }
        assert!(checkpoint.shift.unwrap().by_seconds <= 3);
    }

    #[test]
    fn a_bulk_edit_is_read_at_most_three_times() {
        let mut portal = Portal::default();
        for id in 1..=20_000 {
            portal.rows.insert(id, Row { version: 0, modified: -9_000 });
        }
        let newest = RecordId::new(20_000).unwrap();
        let mut checkpoint = Checkpoint { mark: newest, newest, ..start(&portal) };
        let (mut read, mut now, mut edited) = (0usize, 1, false);
        while now < 120 {
            if now >= 30 && !edited {
                edited = true;
                for row in portal.rows.values_mut() {
                    *row = Row { version: 1, modified: now };
                }
            }
            let mut cycle = Cycle::plan(&checkpoint, OVERLAP, at(now), now == 1);
            let clocks =
                Clocks { portal: at(now), offset_seconds: 0, asked_at: at(now), heard_at: at(now) };
            assert_eq!(cycle.begin(&mut checkpoint, OVERLAP, clocks), None);
            let before = read;
            while !cycle.ended() {
                for scan in [&mut cycle.changed, &mut cycle.new] {
                    if !scan.ended() {
                        let (facts, rows) = portal.serve(scan);
                        scan.take(&facts).unwrap();
                        read += rows.len();
                    }
                }
            }
            // Twenty thousand records take their time.
            now += if read - before > 1_000 { 5 } else { 1 };
            cycle.complete(&mut checkpoint, OVERLAP, at(now));
        }
        assert!((20_000..=60_000).contains(&read), "{read}");
    }

    #[test]
    fn without_dates_everything_is_read_at_long_intervals_and_news_at_once() {
        let portal = Portal::default();
        let newest = RecordId::new(90).unwrap();
        let mut checkpoint = Checkpoint { mark: newest, newest, ..start(&portal) };
        let every = Duration::hours(1);
        let plan = |checkpoint: &Checkpoint, now: i64, first: bool| {
            Cycle::plan_without_dates(checkpoint, every, at(now), first)
        };
        // A backfill has just begun.
        let cycle = plan(&checkpoint, 5, true);
        assert_eq!((cycle.depth, cycle.changed.ended()), (Depth::Shallow, true));
        assert_eq!(cycle.new.cursor(), newest);
        checkpoint.completed_at = Some(at(5));
        assert_eq!(plan(&checkpoint, 10, false).depth, Depth::Shallow);
        for (now, first) in [(10, true), (3_600, false)] {
            let cycle = plan(&checkpoint, now, first);
            assert_eq!((cycle.depth, cycle.changed.floor()), (Depth::Deep, None));
            assert_eq!(
                (cycle.changed.cursor(), cycle.changed.bound()),
                (RecordId::ZERO, Some(newest))
            );
        }
    }

    #[test]
    fn an_hour_that_repeats_lowers_the_floor_of_that_same_cycle() {
        let portal = Portal::default();
        let mut checkpoint = start(&portal);
        checkpoint.mark = RecordId::new(9).unwrap();
        checkpoint.deep.offset_seconds = 10_800;
        checkpoint.last.offset_seconds = 10_800;
        let mut cycle = Cycle::plan(&checkpoint, OVERLAP, at(60), true);
        let clocks =
            Clocks { portal: at(60), offset_seconds: 7_200, asked_at: at(60), heard_at: at(61) };
        let before = cycle.changed.floor().unwrap();
        let again = cycle.begin(&mut checkpoint, OVERLAP, clocks).unwrap();
        assert_eq!(before - again.changed.floor().unwrap(), Duration::hours(1));
        assert!(!again.fresh());

        // The next cycles look back an hour more, until the hour and the overlap are over.
        again.complete(&mut checkpoint, OVERLAP, at(61));
        let next = Cycle::plan(&checkpoint, OVERLAP, at(90), true);
        assert!(at(60) - next.changed.floor().unwrap() >= Duration::hours(1) + OVERLAP);
        checkpoint.deep.database = at(61) + Duration::hours(1) + OVERLAP;
        checkpoint.deep.portal = checkpoint.deep.database;
        let later = Cycle::plan(&checkpoint, OVERLAP, at(4_000), true);
        let floor = checkpoint.deep.portal - OVERLAP - ONE_SECOND;
        assert_eq!(later.changed.floor().unwrap(), floor);
    }
}
