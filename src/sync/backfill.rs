//! The backfill: every record up to the highest ID that existed when it began, in
//! several chains at once.
//!
//! Three stages work side by side: chains are read and decoded in tasks of their own,
//! `segments` says what comes next as soon as an answer is there, and one writer stores
//! the answers in the order in which they came. Each answer commits with the progress of
//! its segment, and until then it counts as in flight: a crash costs one answer per chain
//! and no more.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};

use super::{
    SyncError,
    dictionaries::Unsettled,
    mirror::{Brought, Entry, Mirror, Tally},
    outlook::Effort,
    reader::{Question, Range, Reader, Reply},
    segments::{Cut, Next, Segments, Shown, Stretch},
};
use crate::{
    entity::decode::Decoded,
    portal::{Lane, MAX_COMMANDS, Timing},
    store::{Foretold, Progress, RunKind, Segment, SegmentKind, Store},
};

/// A complete backfill.
#[derive(Debug, Clone, Copy, Default)]
pub struct BackfillOutcome {
    /// What it read and wrote.
    pub tally: Tally,
}

/// A chain's place among those in flight; free again when what it brought is committed.
struct Place {
    _permit: OwnedSemaphorePermit,
    /// Its number on the board.
    number: u64,
}

/// An answer and what was asked.
struct Fetched {
    place: Place,
    stretch: Stretch,
    asked_at: DateTime<Utc>,
    /// The same moment by our own clock.
    asked: Instant,
    reply: Reply,
}

/// An answer that is to be stored.
struct Pending {
    place: Place,
    rows: Brought,
    segments: Vec<Segment>,
    /// When it was asked for, what it brought, and where the time went.
    asked: Instant,
    pages: usize,
    timing: Timing,
}

impl Mirror {
    /// Reads every open segment to its end; returns at once where there is none.
    ///
    /// `by_hand` says that a person waits for it.
    ///
    /// # Errors
    /// [`SyncError`]; each segment keeps how far it came.
    pub(super) async fn backfill(&self, by_hand: bool) -> Result<BackfillOutcome, SyncError> {
        let mut stored = self.segments().await?;
        let Some(open) = stored.iter().find(|segment| !segment.done) else {
            return Ok(BackfillOutcome::default());
        };
        let lane = match open.kind {
            _ if by_hand => Lane::People,
            SegmentKind::Backfill => Lane::Backfill,
            SegmentKind::FullPass => Lane::Rolling,
        };
        let mut entry = self.begin_run(RunKind::Backfill, self.portal().meter()).await?;
        let mut tally = Tally::default();
        // A cut whose answer was lost with a connection may be committed after the segments
        // were read: only what the database says now tells that nothing is open.
        let outcome = loop {
            if let Err(error) = self.fill(lane, stored, &mut tally, &mut entry).await {
                break Err(error);
            }
            match self.segments().await {
                Ok(now) if now.iter().all(|segment| segment.done) => break Ok(()),
                Ok(now) => stored = now,
                Err(error) => break Err(error),
            }
        };
        self.board().finish(self.entity().name);
        self.ask_meaning(Unsettled::default());
        self.finish_run(entry, tally, outcome.as_ref().err()).await;
        if outcome.is_ok() {
            // What is filled gets its indexes.
            self.reports_are_outdated();
        }
        outcome.map(|()| BackfillOutcome { tally })
    }

    async fn fill(
        &self,
        lane: Lane,
        stored: Vec<Segment>,
        tally: &mut Tally,
        entry: &mut Entry,
    ) -> Result<(), SyncError> {
        let segments = Segments::new(stored, self.max_in_flight());
        let (rows, expected) = segments.progress();
        self.board().start(self.entity().name, rows, expected, self.max_in_flight());
        let (answers, pending) = mpsc::channel(self.max_in_flight());
        // Joined, not raced: a transaction is always finished.
        let (read, written) = tokio::join!(
            self.read_segments(lane, segments, answers),
            self.write_segments(lane, pending, tally, entry),
        );
        written.and(read)
    }

    /// Keeps as many chains in flight as there is room for, until nothing is left.
    async fn read_segments(
        &self,
        lane: Lane,
        mut segments: Segments,
        answers: mpsc::Sender<Pending>,
    ) -> Result<(), SyncError> {
        let entity = self.entity().name;
        let places = Arc::new(Semaphore::new(self.max_in_flight()));
        // Dropping it abandons what is in flight.
        let mut flights = JoinSet::new();
        let mut worked_since = Instant::now();
        loop {
            let full = loop {
                let Ok(permit) = Arc::clone(&places).try_acquire_owned() else { break true };
                match segments.next(self.reader().longest_chain(lane)) {
                    Next::Read(stretch) => {
                        let (reader, store) = (self.reader().clone(), self.store().clone());
                        let commands = stretch.pages + usize::from(stretch.tail.is_some());
                        let number = self.board().ask(entity, commands);
                        let place = Place { _permit: permit, number };
                        let fetching = Box::pin(fetch(reader, store, lane, stretch, place));
                        let stop = self.stop().clone();
                        flights
                            .spawn(async move { stop.run_until_cancelled_owned(fetching).await });
                    }
                    Next::Cut(cut) => {
                        let Cut { lower, expected_above, .. } = &cut;
                        let cutting =
                            self.store().cut_segment(self.generation(), lower, *expected_above);
                        let upper = self.unless_stopped(async { Ok(cutting.await?) }).await?;
                        segments.was_cut(cut, &upper);
                    }
                    Next::Nothing => break false,
                }
            };
            let landed = tokio::select! {
                biased;
                Some(landed) = flights.join_next() => landed,
                // The writer makes room.
                _ = places.acquire(), if full => continue,
                else => return Ok(()),
            };
            let fetched = match landed {
                Ok(Some(fetched)) => fetched?,
                Ok(None) => return Err(SyncError::Stopping),
                Err(failed) => match failed.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => return Err(SyncError::Stopping),
                },
            };
            let Fetched { place, stretch, asked_at, asked, reply } = fetched;
            let worked = std::mem::replace(&mut worked_since, Instant::now()).elapsed();
            let mut taken = segments
                .take(&stretch, &shown(&reply), asked_at, worked)
                .map_err(|source| SyncError::Mismatch { entity, source })?;
            let least = self.least_time(lane, segments.pages_left());
            let left = self.board().hear(entity, place.number, segments.progress(), least);
            let foretold = left.and_then(|left| foretold(asked_at, asked, left));
            for segment in &mut taken.segments {
                segment.foretold = foretold;
            }
            tracing::debug!(
                entity,
                after = stretch.scan.cursor().get(),
                up_to = stretch.scan.bound().map(crate::entity::RecordId::get),
                asked = stretch.pages,
                pages = reply.ranges.first().map(Vec::len),
                tail = stretch.tail.is_some(),
                seconds = worked.as_secs_f64(),
                "an answer of the backfill"
            );
            let Reply { ranges, timing, memory, .. } = reply;
            let pages = ranges.iter().map(Vec::len).sum();
            let rows = ranges.into_iter().flatten().flat_map(|page| page.rows);
            let new = |row: &Decoded| taken.again.is_none() || row.id() != taken.again;
            let rows = Brought { asked_at, rows: rows.filter(new).collect(), memory };
            let segments = taken.segments;
            let pending = Pending { place, rows, segments, asked, pages, timing };
            if answers.send(pending).await.is_err() {
                // The writer has failed and says why.
                return Ok(());
            }
        }
    }

    /// The least time in which the portal's limits let so many pages be read.
    fn least_time(&self, lane: Lane, pages: usize) -> Duration {
        let requests = pages.div_ceil(MAX_COMMANDS);
        self.portal().limiter().least_time(lane, self.list_method(), pages, requests)
    }

    async fn write_segments(
        &self,
        lane: Lane,
        mut pending: mpsc::Receiver<Pending>,
        tally: &mut Tally,
        entry: &mut Entry,
    ) -> Result<(), SyncError> {
        let entity = self.entity().name;
        while let Some(answer) = pending.recv().await {
            let Pending { place, rows, segments, asked, pages, timing } = answer;
            let read = rows.rows.len() as u64;
            entry.count(tally, self.portal().meter());
            let progress = Progress::Segments(&segments);
            *tally += self.write(lane, rows, progress, Some(&entry.run)).await?;
            let took = asked.elapsed().saturating_sub(timing.waited);
            let effort = Effort { pages, took, worked: timing.worked };
            self.board().store(entity, place.number, read, effort);
            drop(place);
        }
        Ok(())
    }
}

/// Reads one stretch.
async fn fetch(
    reader: Reader,
    store: Store,
    lane: Lane,
    stretch: Stretch,
    place: Place,
) -> Result<Fetched, SyncError> {
    let (asked_at, asked) = (store.clock().await?, Instant::now());
    let chain = Range {
        up_to: stretch.scan.bound(),
        pages: stretch.pages,
        ..Range::above(stretch.scan.cursor())
    };
    let tail = stretch.tail.map(|tail| Range {
        up_to: Some(tail.up_to),
        newest_first: true,
        ..Range::above(tail.after)
    });
    let ranges = std::iter::once(chain).chain(tail).collect();
    let reply = reader.read(lane, &Question { ranges, ..Question::default() }).await?;
    Ok(Fetched { place, stretch, asked_at, asked, reply })
}

/// The end of the backfill by the database's clock, with so much time left.
fn foretold(asked_at: DateTime<Utc>, asked: Instant, left: Duration) -> Option<Foretold> {
    let at = asked_at.checked_add_signed(TimeDelta::from_std(asked.elapsed()).ok()?)?;
    Some(Foretold { at, end: at.checked_add_signed(TimeDelta::from_std(left).ok()?)? })
}

fn shown(reply: &Reply) -> Shown<'_> {
    let mut ranges = reply.ranges.iter();
    let pages = ranges.next().into_iter().flatten().map(|page| &page.facts).collect();
    let tail = ranges.next().and_then(|pages| pages.first()).map(|page| &page.facts);
    Shown { pages, tail }
}
