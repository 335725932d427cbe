//! A backfill on paper: the very segments and the very limiter of a real one, on a clock
//! that is set by hand, against a portal that answers from a [`Space`] and books operating
//! time as a real one does.

use std::{collections::VecDeque, time::Duration};

use chrono::DateTime;

use super::space::Space;
use crate::{
    entity::RecordId,
    portal::{Lane, Limits, MAX_COMMANDS, OperatingLimit, RehearsedLimiter, RehearsedPermit},
    store::{Segment, SegmentKind},
    sync::{
        pass::{PAGE_ROWS, PageFacts},
        segments::{Next, Segments, Shown, Stretch},
    },
};

/// How fast a portal answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// What one command takes.
    pub command: Duration,
    /// The operating time that it books.
    pub operating: Duration,
    /// What a request takes besides its commands.
    pub request: Duration,
}

/// What a backfill costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rehearsal {
    /// Records read.
    pub records: u64,
    /// HTTP requests.
    pub requests: u64,
    /// Commands inside them.
    pub commands: u64,
    /// Commands that the portal refuses for the operating time.
    pub refused: u64,
    /// From the first request to the last answer.
    pub took: Duration,
}

/// Rehearses the backfill of so many records, a share of whose IDs is missing, with so
/// many chains in flight.
#[must_use]
pub fn rehearse_evenly(
    records: i64,
    missing: f64,
    limits: &Limits,
    pace: Pace,
    ways: u32,
) -> Rehearsal {
    rehearse(&Space::even(records, missing), limits, pace, ways)
}

/// Rehearses the backfill of a space with so many chains in flight.
pub(super) fn rehearse(space: &Space, limits: &Limits, pace: Pace, ways: u32) -> Rehearsal {
    rehearse_watched(space, limits, pace, ways, |_, _| {})
}

/// What happens in a rehearsal.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(test), expect(dead_code, reason = "only tests look on"))]
enum Event {
    /// So many commands are asked for.
    Asked { number: u64, commands: usize },
    /// An answer has come.
    Answered {
        number: u64,
        pages: usize,
        /// Since it was asked for, waits for the limits left out.
        took: Duration,
        /// What is read, and what there is in all as it looks now.
        progress: (i64, Option<i64>),
        /// The least time that the limits need for the rest.
        least: Duration,
    },
}

/// Rehearses, and shows when something happens.
fn rehearse_watched(
    space: &Space,
    limits: &Limits,
    pace: Pace,
    ways: u32,
    mut watch: impl FnMut(Duration, Event),
) -> Rehearsal {
    let mut stage = Stage {
        space,
        pace,
        limiter: RehearsedLimiter::new(limits),
        account: Account { limit: limits.operating, pieces: VecDeque::new() },
        now: Duration::ZERO,
        asked: VecDeque::new(),
        flights: Vec::new(),
        cost: Rehearsal::default(),
    };
    let ways = usize::try_from(ways).unwrap_or(usize::MAX);
    let newest = space.newest();
    let whole = (newest > RecordId::ZERO).then(|| segment(1, RecordId::ZERO, newest));
    let mut segments = Segments::new(whole.into_iter().collect(), ways);
    let (mut number, mut asked) = (1, 0);
    loop {
        loop {
            match segments.next(MAX_COMMANDS) {
                Next::Read(stretch) => {
                    asked += 1;
                    let commands = stretch.pages + usize::from(stretch.tail.is_some());
                    watch(stage.now, Event::Asked { number: asked, commands });
                    stage.asked.push_back(Asked { number: asked, at: stage.now, stretch });
                }
                Next::Cut(cut) => {
                    number += 1;
                    let upper = segment(number, cut.lower.up_to, cut.end);
                    segments.was_cut(cut, &upper);
                }
                Next::Nothing => break,
            }
        }
        let wake = stage.send();
        let Some(Answer { asked, waited, pages, tail }) = stage.next_answer(wake) else {
            if stage.asked.is_empty() && stage.flights.is_empty() {
                stage.cost.took = stage.now;
                return stage.cost;
            }
            continue;
        };
        let rows = pages.iter().chain(&tail).map(|page| page.rows as u64).sum::<u64>();
        let shown = Shown { pages: pages.iter().collect(), tail: tail.as_ref() };
        // What the space shows fits the question.
        if let Ok(taken) =
            segments.take(&asked.stretch, &shown, DateTime::UNIX_EPOCH, Duration::ZERO)
        {
            stage.cost.records += rows - u64::from(taken.again.is_some());
        }
        stage.cost.took = stage.now;
        let left = segments.pages_left();
        let requests = left.div_ceil(MAX_COMMANDS);
        let event = Event::Answered {
            number: asked.number,
            pages: pages.len() + usize::from(tail.is_some()),
            took: stage.now.saturating_sub(asked.at).saturating_sub(waited),
            progress: segments.progress(),
            least: stage.limiter.least_time(stage.now, Lane::Backfill, left, requests),
        };
        watch(stage.now, event);
    }
}

fn segment(id: i64, after: RecordId, up_to: RecordId) -> Segment {
    Segment {
        id,
        kind: SegmentKind::Backfill,
        after,
        up_to,
        cursor: after,
        done: false,
        asked_at: DateTime::UNIX_EPOCH,
        started_at: DateTime::UNIX_EPOCH,
        rows: 0,
        expected: None,
        busy: Duration::ZERO,
        foretold: None,
    }
}

/// A request that waits for the limits.
struct Asked {
    number: u64,
    at: Duration,
    stretch: Stretch,
}

/// A request on its way.
struct Flight {
    ends: Duration,
    asked: Asked,
    waited: Duration,
    pages: Vec<PageFacts>,
    tail: Option<PageFacts>,
    /// The sum after each command that ran.
    sums: Vec<Option<Duration>>,
    permit: RehearsedPermit,
}

/// What was asked, the chain's pages, and the last page below a cut.
struct Answer {
    asked: Asked,
    waited: Duration,
    pages: Vec<PageFacts>,
    tail: Option<PageFacts>,
}

/// The portal, the limiter, and what is between them.
struct Stage<'a> {
    space: &'a Space,
    pace: Pace,
    limiter: RehearsedLimiter,
    account: Account,
    now: Duration,
    asked: VecDeque<Asked>,
    flights: Vec<Flight>,
    cost: Rehearsal,
}

impl Stage<'_> {
    /// Sends what the limiter admits, in order; says when it admits the next.
    fn send(&mut self) -> Option<Duration> {
        while let Some(Asked { stretch, .. }) = self.asked.front() {
            let least = 1 + usize::from(stretch.tail.is_some());
            let extra = stretch.pages - 1;
            match self.limiter.admit(self.now, Lane::Backfill, least, extra) {
                Ok(permit) => {
                    if let Some(asked) = self.asked.pop_front() {
                        let flight = self.perform(asked, permit);
                        self.flights.push(flight);
                    }
                }
                Err(at) => return Some(at),
            }
        }
        None
    }

    /// What the portal answers, and when.
    fn perform(&mut self, asked: Asked, permit: RehearsedPermit) -> Flight {
        let (stretch, waited) = (&asked.stretch, self.now.saturating_sub(asked.at));
        self.cost.requests += 1;
        let chained = permit.commands() - usize::from(stretch.tail.is_some());
        let (mut pages, mut sums, mut cursor) = (Vec::new(), Vec::new(), stretch.scan.cursor());
        let mut ends = self.now + self.pace.request;
        let up_to = stretch.scan.bound().unwrap_or(RecordId::ZERO);
        let mut run = |stage: &mut Self, sums: &mut Vec<Option<Duration>>| {
            stage.cost.commands += 1;
            ends += stage.pace.command;
            let sum = stage.account.run(ends, stage.pace.operating);
            stage.cost.refused += u64::from(sum.is_err());
            sums.extend(sum);
            sum.is_ok()
        };
        let mut short = false;
        for _ in 0..chained {
            if run(self, &mut sums) && !short {
                let page = self.space.page(cursor, up_to, false);
                cursor = page.keys.last().map_or(cursor, |(id, _)| *id);
                short = page.rows < PAGE_ROWS;
                pages.push(page);
            }
        }
        let tail = stretch.tail.filter(|_| run(self, &mut sums));
        let tail = tail.map(|tail| self.space.page(tail.after, tail.up_to, true));
        Flight { ends, asked, waited, pages, tail, sums, permit }
    }

    /// The next answer, if one comes before something else can be sent.
    fn next_answer(&mut self, wake: Option<Duration>) -> Option<Answer> {
        let first = (0..self.flights.len()).min_by_key(|index| self.flights[*index].ends);
        let ends = first.map(|index| self.flights[index].ends);
        match (first, wake) {
            (Some(index), wake) if wake.is_none_or(|wake| ends <= Some(wake)) => {
                let flight = self.flights.swap_remove(index);
                self.now = self.now.max(flight.ends);
                let Flight { asked, waited, pages, tail, sums, permit, .. } = flight;
                self.limiter.answered(self.now, permit, self.pace.operating, &sums);
                Some(Answer { asked, waited, pages, tail })
            }
            (_, Some(wake)) => {
                self.now = self.now.max(wake);
                None
            }
            _ => None,
        }
    }
}

/// The operating time that the portal has booked: in pieces of the window, the oldest of
/// which leaves as a whole (vendor page `limits`).
struct Account {
    limit: Option<OperatingLimit>,
    pieces: VecDeque<(u128, Duration)>,
}

/// The limit was reached before.
#[derive(Clone, Copy)]
struct Refused;

/// The pieces of a window.
const PIECES: u128 = 10;

impl Account {
    /// Runs one command; gives the sum after it, where the portal keeps one.
    fn run(&mut self, at: Duration, cost: Duration) -> Result<Option<Duration>, Refused> {
        let Some(OperatingLimit { limit, window }) = self.limit else { return Ok(None) };
        let piece = at.as_nanos() / (window.as_nanos() / PIECES).max(1);
        while self.pieces.front().is_some_and(|(oldest, _)| oldest + PIECES <= piece) {
            self.pieces.pop_front();
        }
        let sum: Duration = self.pieces.iter().map(|(_, booked)| *booked).sum();
        if sum > limit {
            return Err(Refused);
        }
        match self.pieces.back_mut() {
            // Requests side by side may end in another order.
            Some((last, booked)) if *last >= piece => *booked += cost,
            _ => self.pieces.push_back((piece, cost)),
        }
        Ok(Some(sum + cost))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::time::Instant;

    use super::*;
    use crate::sync::outlook::{Effort, Outlook};

    fn limits(operating: Option<OperatingLimit>) -> Limits {
        Limits { requests_per_second: 2.0, burst: 50, operating }
    }

    const CLOUD: OperatingLimit =
        OperatingLimit { limit: Duration::from_mins(8), window: Duration::from_mins(10) };

    #[test]
    fn a_million_contacts_take_what_the_operating_time_dictates_and_nothing_is_refused() {
        let command = Duration::from_millis(200);
        let pace = Pace { command, operating: command, request: Duration::from_millis(100) };
        let cost = rehearse_evenly(1_000_000, 0.3, &limits(Some(CLOUD)), pace, 4);
        assert_eq!(cost.refused, 0);
        // A chain that comes further than expected meets the tail of the part above.
        assert!((1_000_000..1_000_050).contains(&cost.records), "{cost:?}");
        // 20,000 commands of 0.2 s, of which 480 s fit into ten minutes.
        let windows = (20_000.0_f64 * 0.2 / 480.0).ceil() - 1.0;
        let took = cost.took.as_secs_f64();
        println!("{cost:?}");
        assert!(took <= 1.05 * 600.0 * windows, "{cost:?}");
        assert!(took >= 600.0 * windows, "nothing is faster than the portal allows: {cost:?}");
    }

    #[test]
    fn without_an_operating_limit_the_portal_s_answering_time_is_shared_by_the_chains() {
        let command = Duration::from_millis(15);
        let pace = Pace { command, operating: command, request: Duration::from_millis(40) };
        let one = rehearse_evenly(20_000, 0.3, &limits(None), pace, 1);
        let four = rehearse_evenly(20_000, 0.3, &limits(None), pace, 4);
        println!("{one:?} {four:?}");
        assert!(one.took > Duration::from_secs(6), "{one:?}");
        assert!(four.took < Duration::from_millis(2_300), "{four:?}");
        assert!(four.requests <= 28, "{four:?}");
    }

    /// By how much the end is off at worst that is foretold from a tenth of the time on, as
    /// a share of the whole. Three looks are taken between any two events.
    fn off(space: &Space, limits: &Limits, pace: Pace, ways: u32) -> (f64, Rehearsal) {
        let start = Instant::now();
        let mut outlook = Outlook::new(start, usize::try_from(ways).unwrap());
        let (mut foretold, mut last, mut numbers) = (Vec::new(), start, BTreeMap::new());
        let cost = rehearse_watched(space, limits, pace, ways, |at, event| {
            let now = start + at;
            for part in 1..4 {
                let at = last + (now - last) * part / 4;
                foretold.extend(outlook.left(at).map(|left| (at, at + left)));
            }
            last = now;
            match event {
                Event::Asked { number, commands } => {
                    numbers.insert(number, outlook.ask(now, commands));
                }
                Event::Answered { number, pages, took, progress: (read, expected), least } => {
                    let worked = pace.command * u32::try_from(pages).unwrap();
                    let left = expected.map(|expected| expected - read);
                    outlook.hear(now, numbers[&number], left, least);
                    outlook.store(numbers[&number], Effort { pages, took, worked });
                }
            }
        });
        let tenth = start + cost.took / 10;
        let off = |(_, end): &(Instant, Instant)| {
            let end = end.duration_since(start);
            end.abs_diff(cost.took).as_secs_f64() / cost.took.as_secs_f64()
        };
        let worst = foretold.iter().filter(|(at, _)| *at >= tenth).map(off).fold(0.0, f64::max);
        (worst, cost)
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// A portal that books what its commands take.
    fn pace(command: f64, request: f64) -> Pace {
        Pace { command: seconds(command), operating: seconds(command), request: seconds(request) }
    }

    #[test]
    fn the_end_is_foretold_within_fifteen_percent_once_a_tenth_is_done() {
        for (records, command, request) in [
            (12_000, 0.06, 0.04),
            (12_000, 0.2, 0.04),
            (20_000, 0.06, 0.04),
            (20_000, 0.015, 0.04),
            (20_000, 0.1, 0.3),
            (60_000, 0.06, 0.1),
            (200_000, 0.015, 0.04),
        ] {
            for ways in [1, 4] {
                let (space, pace) = (Space::even(records, 0.3), pace(command, request));
                let (off, cost) = off(&space, &limits(None), pace, ways);
                println!(
                    "{records} at {command} and {request} in {ways}: {off:.3} {:?}",
                    cost.took
                );
                assert!(off <= 0.15, "{records} at {command} and {request} in {ways}: {off:.3}");
            }
        }
    }

    #[test]
    fn the_end_is_foretold_also_where_the_limits_bind() {
        for (records, command, limit, window) in [
            (1_000_000, 0.2, 480.0, 600.0),
            (200_000, 0.2, 480.0, 600.0),
            (150_000, 0.5, 480.0, 600.0),
            (16_000, 0.1, 5.0, 3.0),
            (12_000, 0.1, 5.0, 3.0),
        ] {
            let operating = OperatingLimit { limit: seconds(limit), window: seconds(window) };
            let (space, pace) = (Space::even(records, 0.3), pace(command, 0.1));
            let (off, cost) = off(&space, &limits(Some(operating)), pace, 4);
            println!("{records} at {command} with {limit}: {off:.3} {:?}", cost.took);
            assert!(off <= 0.15, "{records} at {command} with {limit}: {off:.3}");
        }
    }

    #[test]
    fn the_end_is_foretold_where_the_request_rate_binds() {
        for (rate, burst) in [(2.0, 50), (0.5, 5), (1.0, 10)] {
            let limits = Limits { requests_per_second: rate, burst, operating: None };
            let (space, pace) = (Space::even(400_000, 0.3), pace(0.01, 0.1));
            let (off, cost) = off(&space, &limits, pace, 4);
            println!("{rate} a second: {off:.3} {:?}", cost.took);
            assert!(off <= 0.15, "{rate} a second: {off:.3}");
        }
    }

    #[test]
    fn an_empty_portal_costs_nothing() {
        let pace =
            Pace { command: Duration::ZERO, operating: Duration::ZERO, request: Duration::ZERO };
        assert_eq!(rehearse_evenly(0, 0.0, &limits(None), pace, 4), Rehearsal::default());
    }
}
