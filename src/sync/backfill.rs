//! The backfill: every record up to the highest ID that existed when it began.

use tokio::time::Instant;

use super::{
    SyncError,
    cycle::Clocks,
    incremental::range,
    mirror::{Entry, Mirror, Tally},
    pass::{EndRule, Scan},
    reader::Question,
};
use crate::{
    entity::RecordId,
    portal::{Lane, MAX_COMMANDS, PAGE_ROWS},
    store::{Checkpoint, Fill, Progress, RunKind, Segment, SegmentKind, Successor},
};

/// A complete backfill.
#[derive(Debug, Clone, Copy, Default)]
pub struct BackfillOutcome {
    /// What it read and wrote.
    pub tally: Tally,
}

impl Mirror {
    /// Makes sure that a checkpoint exists and that every record which needs reading
    /// lies in an open segment: on an empty schema, after a change of how records are
    /// mapped, and when `restart` asks for it.
    ///
    /// The watermark is stored first, so that incremental cycles miss nothing from here
    /// on; the mark is the lowest ID of the newest page and its highest is the
    /// successor, since records below may still be on their way into the lists.
    ///
    /// # Errors
    /// [`SyncError`]; nothing is stored then.
    pub(super) async fn prepare(&self, lane: Lane, restart: bool) -> Result<(), SyncError> {
        let entity = self.entity();
        let stored = self.checkpoint().await?;
        let fingerprint = entity.fingerprint();
        match stored {
            Some(checkpoint) if checkpoint.fingerprint == fingerprint && !restart => Ok(()),
            Some(checkpoint) => {
                if checkpoint.fingerprint != fingerprint {
                    tracing::info!(
                        entity = entity.name,
                        "records are mapped differently now; every record is read again"
                    );
                }
                let checkpoint = Checkpoint { fingerprint, ..checkpoint };
                let kind = if restart { SegmentKind::Backfill } else { SegmentKind::FullPass };
                self.refill(kind, &checkpoint).await
            }
            None => self.first_backfill(lane, fingerprint).await,
        }
    }

    /// Opens one segment over everything that the mirror knows of, in place of older ones.
    pub(super) async fn refill(
        &self,
        kind: SegmentKind,
        checkpoint: &Checkpoint,
    ) -> Result<(), SyncError> {
        let live = self.store().counts(self.entity()).await?.live;
        let expected = (live > 0).then_some(live);
        let fill = Fill { kind, up_to: checkpoint.newest, expected };
        self.store().start_backfill(self.generation(), self.entity(), checkpoint, fill).await?;
        Ok(())
    }

    async fn first_backfill(&self, lane: Lane, fingerprint: i64) -> Result<(), SyncError> {
        let entity = self.entity();
        let asked_at = self.now().await?;
        let (ids, time) = self.newest(lane).await?;
        let heard_at = self.now().await?;
        let time = time.ok_or(SyncError::NoPortalClock { entity: entity.name })?;
        let clocks =
            Clocks { portal: time.clock, offset_seconds: time.offset_seconds, asked_at, heard_at };
        let newest = ids.iter().max().copied().unwrap_or(RecordId::ZERO);
        let lowest = ids.iter().min().copied().unwrap_or(RecordId::ZERO);
        let mark = if ids.len() < PAGE_ROWS { RecordId::ZERO } else { lowest };
        let checkpoint = Checkpoint {
            fingerprint,
            mark,
            successor: (newest > mark).then_some(Successor { id: newest, at: heard_at }),
            newest,
            deep: clocks.watermark(),
            deep_fitted: true,
            last: clocks.watermark(),
            shift: None,
            cycle: None,
            asked_at,
            completed_at: None,
        };
        self.refill(SegmentKind::Backfill, &checkpoint).await?;
        self.keep_catalogue(Some(&self.reader().catalogue())).await
    }

    /// Reads every open segment to its end; returns at once where there is none.
    ///
    /// `by_hand` says that a person waits for it.
    ///
    /// # Errors
    /// [`SyncError`]; each segment keeps how far it came.
    pub(super) async fn backfill(&self, by_hand: bool) -> Result<BackfillOutcome, SyncError> {
        let mut tally = Tally::default();
        let segments = self.segments().await?;
        for segment in segments.into_iter().filter(|segment| !segment.done) {
            let lane = match segment.kind {
                _ if by_hand => Lane::People,
                SegmentKind::Backfill => Lane::Backfill,
                SegmentKind::FullPass => Lane::Rolling,
            };
            let mut entry = self.begin_run(RunKind::Backfill, self.portal().meter()).await?;
            let mut filled = Tally::default();
            let outcome = self.fill(lane, segment, &mut filled, &mut entry).await;
            self.board().finish(self.entity().name);
            self.finish_run(entry, filled, outcome.as_ref().err()).await;
            outcome?;
            tally += filled;
        }
        Ok(BackfillOutcome { tally })
    }

    async fn fill(
        &self,
        lane: Lane,
        mut segment: Segment,
        tally: &mut Tally,
        entry: &mut Entry,
    ) -> Result<(), SyncError> {
        let entity = self.entity();
        let mut scan = Scan::above(segment.cursor, EndRule::EmptyPage).up_to(segment.up_to);
        self.board().start(entity.name, segment.rows, segment.expected);
        let mut worked_since = Instant::now();
        while !segment.done {
            // Once the portal's pace is known to allow it: nothing waits for an estimate.
            let allowed = self.portal().limiter().affordable(lane, entity.list_method);
            if segment.expected.is_none() && scan.pages() > 0 && allowed >= MAX_COMMANDS {
                segment.expected = Some(self.estimate(lane, segment.up_to).await);
                self.board().expect(entity.name, segment.expected);
            }
            let asked_at = self.now().await?;
            let mut rows = Vec::new();
            if !scan.ended() {
                let longest = self.reader().longest_chain(lane);
                let question =
                    Question { ranges: vec![range(&scan, 0, longest)], ..Question::default() };
                let reply = self.ask(lane, &question).await?;
                for page in reply.ranges.into_iter().flatten() {
                    scan.take(&page.facts)
                        .map_err(|source| SyncError::Mismatch { entity: entity.name, source })?;
                    rows.extend(page.rows);
                }
            }
            segment.cursor = scan.cursor();
            segment.done = scan.ended();
            segment.asked_at = asked_at;
            segment.busy += std::mem::replace(&mut worked_since, Instant::now()).elapsed();
            segment.rows += i64::try_from(rows.len()).unwrap_or(i64::MAX);
            let read = rows.len() as u64;
            entry.count(tally, self.portal().meter());
            let progress = Progress::Segment(&segment);
            *tally += self.write(lane, asked_at, rows, progress, Some(&entry.run)).await?;
            self.board().advance(entity.name, read);
        }
        Ok(())
    }
}
