//! When a backfill will end, foretold from what its answers have taken.
//!
//! An answer takes what the portal says that its commands took, and something besides: the
//! way there and back, decoding, storing. Both show in the first short answers, long before
//! the first long chain has come. The rest of the work is shared by the chains, and what a
//! chain in flight has taken is behind us. So neither a start in which one answer waits for
//! the other misleads it, nor answers that come in bunches. What requests wait for at the
//! limits is left out of all that: the limits themselves say how much of it is to come.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::pass::PAGE_ROWS;
use crate::portal::MAX_COMMANDS;

/// Answers that are remembered.
const REMEMBERED: usize = 256;

/// Answers that tell what the next will take, at least.
const FEWEST: usize = 8;

/// What one answer took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Pages that came.
    pub(super) pages: usize,
    /// From the question until its records were stored, waits for the limits left out.
    pub(super) took: Duration,
    /// The part of it that the portal says its commands took; zero if it says nothing.
    pub(super) worked: Duration,
}

/// What is known of a backfill's end.
#[derive(Debug, Clone)]
pub(super) struct Outlook {
    /// Answers that may be under way at once.
    ways: usize,
    next: u64,
    flights: BTreeMap<u64, Flight>,
    efforts: VecDeque<Effort>,
    /// Pages that are neither stored nor on their way into the database.
    pages_left: Option<f64>,
    /// The portal's limits allow no earlier end.
    ends_after: Instant,
}

/// An answer under way.
#[derive(Debug, Clone, Copy)]
struct Flight {
    since: Instant,
    pages: f64,
    /// It has come, and is being stored.
    came: bool,
}

/// What an answer is expected to take, in seconds.
#[derive(Debug, Clone, Copy)]
struct Price {
    request: f64,
    page: f64,
}

impl Price {
    fn of(&self, pages: f64) -> f64 {
        self.request + self.page * pages
    }
}

impl Outlook {
    pub(super) const fn new(now: Instant, ways: usize) -> Self {
        Self {
            ways,
            next: 0,
            flights: BTreeMap::new(),
            efforts: VecDeque::new(),
            pages_left: None,
            ends_after: now,
        }
    }

    /// So many pages are asked for; gives the answer's number.
    pub(super) fn ask(&mut self, now: Instant, pages: usize) -> u64 {
        self.next += 1;
        let flight = Flight { since: now, pages: float(pages), came: false };
        self.flights.insert(self.next, flight);
        self.next
    }

    /// An answer has come; so many records are left without it, and the limits need so long
    /// for them at least.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        number: u64,
        records_left: Option<i64>,
        least: Duration,
    ) {
        if let Some(flight) = self.flights.get_mut(&number) {
            flight.came = true;
        }
        self.pages_left = records_left
            .and_then(|left| u32::try_from(left.max(0)).ok())
            .map(|left| f64::from(left) / float(PAGE_ROWS));
        self.ends_after = now.checked_add(least).unwrap_or(now);
    }

    /// An answer is stored.
    pub(super) fn store(&mut self, number: u64, effort: Effort) {
        self.flights.remove(&number);
        self.efforts.push_back(effort);
        if self.efforts.len() > REMEMBERED {
            self.efforts.pop_front();
        }
    }

    /// The time that is left; unknown before the first answer, and where nobody knows how
    /// much there is.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let (price, pages_left) = (self.price()?, self.pages_left?);
        let limits = self.ends_after.saturating_duration_since(now);
        // They say when the last request can be sent.
        let last = if limits.is_zero() { Duration::ZERO } else { self.last(price, pages_left) };
        Some(self.work(now, price, pages_left).max(limits.saturating_add(last)))
    }

    /// What the last answer will take.
    fn last(&self, price: Price, pages_left: f64) -> Duration {
        let pages = (pages_left / float(self.ways.max(1))).clamp(1.0, self.longest());
        Duration::try_from_secs_f64(price.of(pages)).unwrap_or_default()
    }

    /// How long the chains need for so many pages, those in flight included.
    fn work(&self, now: Instant, price: Price, pages_left: f64) -> Duration {
        let rests = self.flights.values().map(|flight| {
            let passed = now.saturating_duration_since(flight.since).as_secs_f64();
            (price.of(flight.pages) - passed).max(0.0)
        });
        let (mut work, mut longest) = (0.0, 0.0_f64);
        for rest in rests {
            work += rest;
            longest = longest.max(rest);
        }
        let asked: f64 = self.flights.values().filter(|one| !one.came).map(|one| one.pages).sum();
        let unasked = (pages_left - asked).max(0.0);
        work += price.page * unasked + price.request * self.requests(unasked);
        let seconds = longest.max(work / float(self.ways.max(1)));
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// In how many requests so many pages will come.
    fn requests(&self, pages: f64) -> f64 {
        (pages / self.longest()).ceil()
    }

    /// The longest chain of late.
    fn longest(&self) -> f64 {
        let sizes = self.flights.values().map(|flight| flight.pages);
        let sizes = sizes.chain(self.recent().map(|effort| float(effort.pages)));
        sizes.fold(1.0, f64::max).min(float(MAX_COMMANDS))
    }

    /// The latest half of the answers: a first burst is no rule. Two of each chain at least,
    /// and so many that one that took long for once is no rule either.
    fn recent(&self) -> impl Iterator<Item = &Effort> + Clone {
        let answers = self.efforts.len();
        let recent = (answers / 2).max(2 * self.ways).max(FEWEST).min(answers);
        self.efforts.range(answers - recent..)
    }

    /// What answers take by their length. The portal's own figure says what a page takes
    /// there; of the rest, as much goes by the page as long and short answers show.
    fn price(&self) -> Option<Price> {
        let recent = self.recent();
        let answers = float(recent.clone().count());
        let pages: f64 = recent.clone().map(|effort| float(effort.pages)).sum();
        if pages <= 0.0 {
            return None;
        }
        let worked = |effort: &Effort| effort.worked.min(effort.took).as_secs_f64();
        let beside = |effort: &Effort| effort.took.as_secs_f64() - worked(effort);
        let all_worked: f64 = recent.clone().map(worked).sum();
        let all_beside: f64 = recent.clone().map(beside).sum();
        let (mean_pages, mean_beside) = (pages / answers, all_beside / answers);
        let (mut together, mut spread) = (0.0, 0.0);
        for effort in recent {
            let longer = float(effort.pages) - mean_pages;
            together += longer * (beside(effort) - mean_beside);
            spread += longer * longer;
        }
        let slope = if spread > 0.0 { together / spread } else { 0.0 };
        let slope = slope.clamp(0.0, all_beside / pages);
        Some(Price { request: mean_beside - slope * mean_pages, page: all_worked / pages + slope })
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of pages and answers")]
const fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// Backfills so many pages on paper, in chains of so many, and holds what is foretold
    /// from a tenth on against the end that comes.
    ///
    /// A first page, then a short chain in each way, one after another, come first.
    fn worst(
        pages: usize,
        ways: usize,
        longest: usize,
        request: f64,
        page: f64,
        said: bool,
    ) -> f64 {
        let start = Instant::now();
        let mut outlook = Outlook::new(start, ways);
        let took = |pages: usize| seconds(page.mul_add(float(pages), request));
        let worked =
            |pages: usize| if said { seconds(page * float(pages)) } else { Duration::ZERO };
        let (mut now, mut unasked, mut left) = (start, pages, pages);
        let mut foretold = Vec::new();
        let mut flights: Vec<(Instant, u64, usize)> = Vec::new();
        for short in [1, 3] {
            for _ in 0..if short == 1 { 1 } else { ways } {
                let number = outlook.ask(now, short);
                now += took(short);
                unasked -= short;
                left -= short;
                outlook.hear(now, number, i64::try_from(left * PAGE_ROWS).ok(), Duration::ZERO);
                outlook.store(
                    number,
                    Effort { pages: short, took: took(short), worked: worked(short) },
                );
            }
        }
        loop {
            while flights.len() < ways && unasked > 0 {
                let share = unasked.div_ceil(ways).max(10).min(longest).min(unasked);
                unasked -= share;
                flights.push((now + took(share), outlook.ask(now, share), share));
            }
            flights.sort_unstable();
            if flights.is_empty() {
                break;
            }
            let (ends, number, chain) = flights.remove(0);
            // Anybody may look in between.
            for part in 0..4_u32 {
                let at = now + (ends - now) * part / 4;
                foretold.push((at, outlook.left(at).unwrap()));
            }
            now = ends;
            left -= chain;
            outlook.hear(now, number, i64::try_from(left * PAGE_ROWS).ok(), Duration::ZERO);
            outlook
                .store(number, Effort { pages: chain, took: took(chain), worked: worked(chain) });
        }
        let whole = (now - start).as_secs_f64();
        let off = |(at, left): &(Instant, Duration)| {
            ((*at + *left).duration_since(start).as_secs_f64() - whole).abs() / whole
        };
        let tenth = start + seconds(whole / 10.0);
        foretold.iter().filter(|(at, _)| *at >= tenth).map(off).fold(0.0, f64::max)
    }

    proptest! {
        #[test]
        fn the_end_is_foretold_from_a_tenth_on(
            pages in 300_usize..5_000,
            ways in 1_usize..9,
            longest in 15_usize..50,
            request in 0.0..0.4,
            page in 0.01..0.5,
        ) {
            let worst = worst(pages, ways, longest, request, page, true);
            prop_assert!(worst <= 0.15, "off by {:.3}", worst);
        }
    }

    #[test]
    fn a_portal_that_does_not_say_what_its_commands_take_is_measured() {
        for (ways, request) in [(1, 0.0), (4, 0.04), (4, 0.2), (6, 0.0)] {
            let worst = worst(400, ways, 50, request, 0.1, false);
            assert!(worst <= 0.15, "off by {worst:.3} with {ways} chains");
        }
    }

    #[test]
    fn the_limits_allow_no_earlier_end() {
        let start = Instant::now();
        let mut outlook = Outlook::new(start, 4);
        assert_eq!(outlook.left(start), None);
        let number = outlook.ask(start, 1);
        let now = start + seconds(1.0);
        outlook.hear(now, number, Some(200), seconds(60.0));
        outlook.store(number, Effort { pages: 1, took: seconds(1.0), worked: seconds(1.0) });
        // The last request can be sent then; four pages are left.
        assert_eq!(outlook.left(now), Some(seconds(61.0)));
        assert_eq!(outlook.left(now + seconds(61.0)), Some(seconds(1.0)));
        outlook.hear(now, number, None, seconds(60.0));
        assert_eq!(outlook.left(now), None, "nobody knows how much there is");
    }
}
