//! The open ID ranges of a backfill: which pages are asked for next, and where a range
//! is cut so that several chains can be read side by side. Pure; `backfill.rs` performs it.
//!
//! # Where a range is cut
//! Half-way between where its chain in flight is expected to end and its upper end. That
//! is arithmetic, and the ID space has gaps of any width; so the first request behind a
//! cut brings two pages that tell what lies there: the first one above the cut, and the
//! *tail*, the last one below it. The lower part then ends at a record that the portal
//! has shown, however wide the gap between the two, and both pages bring new records.
//! Before its first long chain a range is cut in any case: its width says nothing about
//! how much is in it.
//!
//! # How long a chain is
//! As long as the rest of its range by the density of the pages seen last, at both of its
//! ends: a command behind the last record is wasted. Where the ends disagree the sparser
//! one counts, and the chain doubles as long as it comes full.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};

use super::pass::{EndRule, Mismatch, PAGE_ROWS, PageFacts, Scan};
use crate::{entity::RecordId, store::Segment};

/// Fewer pages beyond the chain in flight than this are not worth a request of their own.
const WORTH_CUTTING: f64 = 8.0;

/// Towards the end the rest is shared out in chains, but in none shorter than this.
const SHORTEST_SHARE: usize = 10;

/// A chain in flight may come further than its pages span on average.
const OVERREACH: f64 = 1.1;

/// What to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Ask for this.
    Read(Stretch),
    /// Cut a segment, and say so with [`Segments::was_cut`].
    Cut(Cut),
    /// Wait for an answer; without any in flight, the backfill is complete.
    Nothing,
}

/// Where a segment is to be cut.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    /// The lower part as it will be.
    pub(super) lower: Segment,
    /// Where the upper part ends.
    pub(super) end: RecordId,
    /// The estimate for the upper part.
    pub(super) expected_above: Option<i64>,
}

/// One request: the next pages of a segment, and perhaps the last page below a cut.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    segment: i64,
    /// Where the pages begin and how far they may go.
    pub(super) scan: Scan,
    /// Chained pages, at least one.
    pub(super) pages: usize,
    /// The part below a cut, whose last page travels along.
    pub(super) tail: Option<Tail>,
}

/// The range `(after, up_to]` below a cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    segment: i64,
    pub(super) after: RecordId,
    pub(super) up_to: RecordId,
}

/// What an answer means for what is stored.
#[derive(Debug)]
pub(super) struct Taken {
    /// The segments as they are to be stored with the answer's rows.
    pub(super) segments: Vec<Segment>,
    /// The record that ended the chain and had come before, with the tail.
    pub(super) again: Option<RecordId>,
}

/// The answer to a [`Stretch`].
#[derive(Debug)]
pub(super) struct Shown<'a> {
    /// The chain, in order.
    pub(super) pages: Vec<&'a PageFacts>,
    /// The last page below the cut, highest ID first, if it came.
    pub(super) tail: Option<&'a PageFacts>,
}

/// The open segments of one backfill.
#[derive(Debug)]
pub(super) struct Segments {
    ways: usize,
    open: BTreeMap<i64, Reading>,
    /// Records of those that are done.
    rows_done: i64,
}

/// A segment that is being read.
#[derive(Debug)]
struct Reading {
    segment: Segment,
    /// IDs that a page spans, at the cursor and at the upper end.
    span: Option<f64>,
    span_at_end: Option<f64>,
    /// Pages of the last chain that came.
    chain: usize,
    /// Where the chain in flight is expected to end.
    reach: Option<RecordId>,
    /// The record at the upper end, if it has come with the tail.
    shown: Option<RecordId>,
    /// What the first request has to bring of the part below.
    tail: Option<Tail>,
    /// What lies on both sides of its last cut has been seen. Before that the lower part
    /// is neither read on, nor is either cut again: in a wide gap, cut after cut would find
    /// nothing.
    settled: bool,
    /// Nobody has looked into its middle.
    whole: bool,
}

impl Segments {
    /// Takes up the segments that are not done, to be read in so many chains at once.
    pub(super) fn new(stored: Vec<Segment>, ways: usize) -> Self {
        let (done, open): (Vec<_>, Vec<_>) = stored.into_iter().partition(|stored| stored.done);
        Self {
            ways: ways.max(1),
            open: open.into_iter().map(|open| (open.id, Reading::new(open))).collect(),
            rows_done: done.iter().map(|segment| segment.rows).sum(),
        }
    }

    /// Says what to ask for next; `longest` is the longest chain that is worth sending.
    pub(super) fn next(&mut self, longest: usize) -> Next {
        if self.in_flight() >= self.ways {
            return Next::Nothing;
        }
        let share = self.share();
        // First what others wait for.
        let awaited = self.open.values().find(|reading| reading.tail.is_some());
        let idle = || self.open.values().find(|reading| reading.settled && reading.reach.is_none());
        if let Some(reading) = awaited.or_else(idle) {
            let blind = reading.whole && reading.span.is_some();
            if blind
                && reading.pages_left() >= WORTH_CUTTING
                && let Some(cut) = reading.cut(reading.segment.cursor)
            {
                return Next::Cut(cut);
            }
            let id = reading.segment.id;
            let read = self.open.get_mut(&id).map(|reading| reading.stretch(longest.min(share)));
            return read.map_or(Next::Nothing, Next::Read);
        }
        let largest = self
            .open
            .values()
            .filter(|reading| reading.settled)
            .map(|reading| (reading.pages_beyond_reach(), reading))
            .filter(|(pages, _)| *pages >= WORTH_CUTTING)
            .max_by(|(one, _), (other, _)| one.total_cmp(other));
        let cut = largest.and_then(|(_, reading)| reading.cut(reading.reach?));
        cut.map_or(Next::Nothing, Next::Cut)
    }

    /// Takes note that a segment was cut, with its upper part as it is stored. Its stored
    /// end may be older than the one that is known here: what lies between has been read,
    /// but perhaps not written yet.
    pub(super) fn was_cut(&mut self, cut: Cut, upper: &Segment) {
        let Cut { lower, end, expected_above } = cut;
        let mut above =
            Reading::new(Segment { up_to: end, expected: expected_above, ..upper.clone() });
        if let Some(below) = self.open.get_mut(&lower.id) {
            let after = below.reach.unwrap_or(below.segment.cursor);
            above.tail = Some(Tail { segment: lower.id, after, up_to: lower.up_to });
            above.span_at_end = below.span_at_end.take();
            above.shown = below.shown.take();
            below.segment = lower;
            (above.settled, below.settled) = (false, false);
            (above.whole, below.whole) = (false, false);
        }
        self.open.insert(above.segment.id, above);
    }

    /// Takes an answer in. `worked` is the time since the answer before.
    ///
    /// # Errors
    /// The answer belongs to another question; nothing is changed then.
    pub(super) fn take(
        &mut self,
        stretch: &Stretch,
        shown: &Shown<'_>,
        asked_at: DateTime<Utc>,
        worked: Duration,
    ) -> Result<Taken, Mismatch> {
        let mut scan = stretch.scan.clone();
        for page in &shown.pages {
            scan.take(page)?;
        }
        let end = shown.tail.map(ascending);
        if let (Some(tail), Some(page)) = (stretch.tail, &end) {
            Scan::above(tail.after, EndRule::EmptyPage).up_to(tail.up_to).check(page)?;
        }
        let (mut changed, mut again) = (Vec::with_capacity(2), None);
        if let Some(reading) = self.open.get_mut(&stretch.segment) {
            let ends = |page: &&PageFacts| page.keys.last().map(|(id, _)| *id) == reading.shown;
            again = shown.pages.last().filter(|page| ends(page)).and(reading.shown);
            reading.advance(&scan, &shown.pages, again);
            reading.segment.asked_at = asked_at;
            reading.segment.busy += worked;
            reading.settled |= stretch.tail.is_some();
            changed.push(reading.segment.clone());
        }
        if let Some(tail) = stretch.tail
            && let Some(below) = self.open.get_mut(&tail.segment)
        {
            below.settled = true;
            if let Some(page) = &end {
                below.lower(tail.after, page);
                changed.push(below.segment.clone());
            }
        }
        let over = |_: &i64, reading: &mut Reading| reading.segment.done && reading.reach.is_none();
        for (_, reading) in self.open.extract_if(.., over) {
            self.rows_done += reading.segment.rows;
        }
        Ok(Taken { segments: changed, again })
    }

    /// Records read so far by the whole backfill, and how many they will be in the end as
    /// far as that can be said.
    pub(super) fn progress(&self) -> (i64, Option<i64>) {
        let open = self.open.values().map(|reading| &reading.segment);
        let rows = self.rows_done + open.clone().map(|segment| segment.rows).sum::<i64>();
        let expected: Option<i64> = open.map(|segment| segment.expected).sum();
        (rows, expected.map(|expected| self.rows_done + expected))
    }

    /// Pages that are left to read, estimated.
    pub(super) fn pages_left(&self) -> usize {
        whole(self.open.values().map(Reading::pages_left).sum())
    }

    fn in_flight(&self) -> usize {
        self.open.values().filter(|reading| reading.reach.is_some()).count()
    }

    /// The pages that one chain should leave for the others.
    fn share(&self) -> usize {
        let left: f64 = self.open.values().map(Reading::pages_left).sum();
        let ways = i32::try_from(self.ways).map_or(1.0, f64::from);
        whole(left / ways).max(SHORTEST_SHARE)
    }
}

impl Reading {
    const fn new(segment: Segment) -> Self {
        Self {
            segment,
            span: None,
            span_at_end: None,
            chain: 0,
            reach: None,
            shown: None,
            tail: None,
            settled: true,
            whole: true,
        }
    }

    /// The next request, which is in flight from now on.
    fn stretch(&mut self, at_most: usize) -> Stretch {
        let Segment { id, cursor, up_to, .. } = self.segment;
        let pages = self.chain_length().clamp(1, at_most.max(1));
        let spanned = OVERREACH * as_float(pages) * self.span.unwrap_or(as_float(PAGE_ROWS));
        let reach = cursor.get().saturating_add(ids(spanned));
        self.reach = Some(RecordId::new(reach).unwrap_or(up_to).min(up_to));
        let scan = Scan::above(cursor, EndRule::EmptyPage).up_to(up_to);
        Stretch { segment: id, scan, pages, tail: self.tail.take() }
    }

    /// How many pages are worth asking for: one as long as nothing is known.
    fn chain_length(&self) -> usize {
        let Some(span) = self.span else { return 1 };
        let left = distance(self.segment.cursor, self.segment.up_to);
        let sparser = span.max(self.span_at_end.unwrap_or(span));
        whole(left / sparser).max(whole(left / span).min(self.chain * 2))
    }

    /// The pages that are left, in flight or not; by the mean density of both ends.
    fn pages_left(&self) -> f64 {
        self.pages_above(self.segment.cursor)
    }

    fn pages_beyond_reach(&self) -> f64 {
        self.reach.map_or(0.0, |reach| self.pages_above(reach))
    }

    fn pages_above(&self, id: RecordId) -> f64 {
        // Before anything is known, IDs are taken to be dense.
        let span = self.span.unwrap_or(as_float(PAGE_ROWS));
        let density = f64::midpoint(1.0 / span, 1.0 / self.span_at_end.unwrap_or(span));
        distance(id, self.segment.up_to) * density
    }

    /// Half-way between an ID and the upper end.
    fn cut(&self, above: RecordId) -> Option<Cut> {
        let Segment { after, up_to, expected, .. } = self.segment;
        let (low, high) = (above.get(), up_to.get());
        let at = RecordId::new(low + (high - low) / 2).filter(|at| *at > self.segment.cursor)?;
        let share = distance(at, up_to) / distance(after, up_to).max(1.0);
        let expected_above = match self.span {
            Some(_) => Some(ids(self.pages_above(at) * as_float(PAGE_ROWS))),
            None => expected.map(|expected| ids(distance_of(expected) * share)),
        };
        let left = |expected: i64| (expected - expected_above.unwrap_or(0)).max(self.segment.rows);
        let lower = Segment { up_to: at, expected: expected.map(left), ..self.segment.clone() };
        Some(Cut { lower, end: up_to, expected_above })
    }

    /// Moves over the chain that was in flight.
    fn advance(&mut self, scan: &Scan, pages: &[&PageFacts], again: Option<RecordId>) {
        let rows: usize = pages.iter().map(|page| page.rows).sum();
        let rows = rows - usize::from(again.is_some());
        self.chain = pages.len();
        self.span = median_span(pages).or(self.span);
        self.reach = None;
        let segment = &mut self.segment;
        segment.cursor = segment.cursor.max(scan.cursor());
        segment.done |= scan.ended() || segment.cursor >= segment.up_to;
        segment.rows = segment.rows.saturating_add(i64::try_from(rows).unwrap_or(i64::MAX));
        self.expect();
    }

    /// Brings the upper end down to the lowest record of its last page.
    fn lower(&mut self, after: RecordId, page: &PageFacts) {
        self.span_at_end = median_span(&[page]).or(self.span_at_end);
        let lowest = page.keys.first().map(|(id, _)| *id);
        let end = if page.rows == 0 { Some(after) } else { lowest };
        let segment = &mut self.segment;
        segment.rows = segment.rows.saturating_add(i64::try_from(page.rows).unwrap_or(i64::MAX));
        match end {
            Some(end) if end <= segment.cursor => segment.done = true,
            Some(end) => {
                segment.up_to = segment.up_to.min(end);
                self.shown = lowest;
            }
            None => {}
        }
        self.expect();
    }

    fn expect(&mut self) {
        let left = match (self.segment.done, self.span) {
            (true, _) => 0,
            (false, Some(_)) => ids(self.pages_left() * as_float(PAGE_ROWS)),
            (false, None) => return,
        };
        self.segment.expected = Some(self.segment.rows.saturating_add(left));
    }
}

/// A page that came highest ID first, the other way round.
fn ascending(page: &PageFacts) -> PageFacts {
    PageFacts { rows: page.rows, keys: page.keys.iter().rev().copied().collect() }
}

/// How many IDs a full page spans; pages that leap over a gap do not count.
fn median_span(pages: &[&PageFacts]) -> Option<f64> {
    let full = pages.iter().filter(|page| page.rows == PAGE_ROWS);
    let mut spans: Vec<i64> = full
        .filter_map(|page| match (page.keys.first(), page.keys.last()) {
            (Some((first, _)), Some((last, _))) => Some((last.get() - first.get()).abs() + 1),
            _ => None,
        })
        .collect();
    spans.sort_unstable();
    spans.get(spans.len() / 2).map(|span| distance_of(*span).max(1.0))
}

fn distance(low: RecordId, high: RecordId) -> f64 {
    distance_of(high.get().saturating_sub(low.get()).max(0))
}

#[expect(clippy::cast_precision_loss, reason = "estimates")]
fn distance_of(ids: i64) -> f64 {
    ids as f64
}

#[expect(clippy::cast_precision_loss, reason = "a number of pages")]
fn as_float(count: usize) -> f64 {
    count as f64
}

/// Rounded up; a number of pages.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(pages: f64) -> usize {
    pages.ceil() as usize
}

#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn ids(count: f64) -> i64 {
    count.ceil() as i64
}

#[cfg(test)]
mod tests;
