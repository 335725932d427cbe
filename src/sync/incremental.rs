//! Performs the incremental cycle that `cycle.rs` plans.

use std::{sync::Arc, time};

use chrono::{DateTime, Duration, TimeDelta, Utc};

use super::{
    SyncError,
    cycle::{Clocks, Cycle, Depth},
    mirror::{Brought, Entry, Mirror, Tally},
    pass::Scan,
    reader::{Question, Range, Reply, bound},
};
use crate::{
    entity::{RecordId, decode::Decoded},
    portal::{Changes, Lane},
    store::{Checkpoint, Progress, RunKind},
};

/// A complete cycle.
#[derive(Debug, Clone, Copy, Default)]
pub struct CycleOutcome {
    /// What it read and wrote.
    pub tally: Tally,
}

impl Mirror {
    /// Performs one cycle for a person, who is told if older records are still unread.
    ///
    /// # Errors
    /// [`SyncError::Unfilled`] after a complete cycle beside an open backfill.
    pub(super) async fn catch_up(&self, lane: Lane) -> Result<Tally, SyncError> {
        if self.checkpoint().await?.is_some() {
            self.prepare(lane, false).await?;
        }
        let tally = self.cycle_in_turn(lane).await?;
        self.refuse_unfilled().await?;
        Ok(tally)
    }

    /// Fails while ID ranges are left to read.
    pub(super) async fn refuse_unfilled(&self) -> Result<(), SyncError> {
        if self.segments().await?.iter().all(|segment| segment.done) {
            return Ok(());
        }
        Err(SyncError::Unfilled { entity: self.entity().name })
    }

    /// Performs one incremental cycle to its end, or resumes the one under way.
    ///
    /// `probe` asks in the same request whether the portal understands our filter.
    ///
    /// # Errors
    /// [`SyncError`]; the checkpoint then holds how far the cycle came.
    pub(super) async fn cycle(&self, lane: Lane, probe: bool) -> Result<CycleOutcome, SyncError> {
        let (mut tally, mut entry) = (Tally::default(), None);
        let outcome = self.perform_cycle(lane, probe, &mut tally, &mut entry).await;
        if let Some(entry) = entry {
            self.finish_run(entry, tally, outcome.as_ref().err()).await;
        }
        outcome.map(|()| CycleOutcome { tally })
    }

    /// The cycle itself. A run is logged from the moment on when something was written:
    /// an idle cycle only touches its checkpoint.
    async fn perform_cycle(
        &self,
        lane: Lane,
        mut probe: bool,
        tally: &mut Tally,
        entry: &mut Option<Entry>,
    ) -> Result<(), SyncError> {
        let entity = self.entity();
        let before = self.portal().meter();
        let mut checkpoint =
            self.checkpoint().await?.ok_or(SyncError::NeverBackfilled { entity: entity.name })?;
        let changes = async { Ok(self.reader().source.changes(lane).await?) };
        let changes = self.unless_stopped(changes).await?;
        self.note_changes(changes).await?;
        let mut asked_at = self.now().await?;
        let mut cycle = self.resumed_or_planned(&checkpoint, changes, asked_at);
        // It takes a while to read everything, and what it finds has waited for long anyway.
        let reads_all = changes != Changes::ByDate && cycle.depth == Depth::Deep;
        let lane = if reads_all && lane == Lane::Incremental { Lane::Rolling } else { lane };
        probe &= changes == Changes::ByDate;
        loop {
            let question = self.question(&cycle, &checkpoint, lane, probe);
            let reply = self.ask(lane, &question).await?;
            self.keep_catalogue(reply.catalogue.as_ref()).await?;
            if std::mem::take(&mut probe) {
                self.judge_probes(&reply, &checkpoint, lane).await?;
            }
            if cycle.fresh() {
                let clocks = self.clocks(&reply, asked_at).await?;
                if let Some(again) = cycle.begin(&mut checkpoint, self.overlap(), clocks) {
                    tracing::warn!(
                        entity = entity.name,
                        "the portal's clock fell back; the cycle begins again with a lower floor"
                    );
                    cycle = again;
                    asked_at = self.now().await?;
                    continue;
                }
            }
            let rows = take(&mut cycle, asked_at, reply)
                .map_err(|source| SyncError::Mismatch { entity: entity.name, source })?;
            checkpoint.asked_at = asked_at;
            self.remember(&cycle, &rows);
            if cycle.ended() {
                let now = self.now().await?;
                cycle.complete(&mut checkpoint, self.overlap(), now);
            } else {
                checkpoint.cycle = serde_json::to_value(&cycle).ok();
            }
            let progress = Progress::Checkpoint(&checkpoint);
            let run = entry.as_ref().map(|entry| &entry.run);
            *tally += self.write(lane, rows, progress, run).await?;
            if entry.is_none() && tally.wrote() {
                *entry = Some(self.begin_run(RunKind::Incremental, before).await?);
            }
            if cycle.ended() {
                tracing::debug!(
                    entity = entity.name,
                    depth = ?cycle.depth,
                    read = tally.read,
                    inserted = tally.inserted,
                    updated = tally.updated,
                    "a cycle is complete"
                );
                return Ok(());
            }
            asked_at = self.now().await?;
        }
    }

    /// Tells people who see the database alone by what changes arrive.
    async fn note_changes(&self, changes: Changes) -> Result<(), SyncError> {
        if !self.are_news(changes) {
            return Ok(());
        }
        let every = match changes {
            Changes::ByDate => None,
            Changes::ByReadingAll { every } => Some(every),
        };
        self.store().note_full_passes(self.generation(), self.entity(), every).await?;
        self.learn_changes(changes);
        Ok(())
    }

    fn resumed_or_planned(
        &self,
        checkpoint: &Checkpoint,
        changes: Changes,
        now: DateTime<Utc>,
    ) -> Cycle {
        let resumed = Cycle::resume(checkpoint);
        // What can be asked may have changed since.
        let resumed =
            resumed.filter(|cycle| changes == Changes::ByDate || cycle.changed.floor().is_none());
        resumed.unwrap_or_else(|| match changes {
            Changes::ByDate => {
                Cycle::plan(checkpoint, self.overlap(), now, self.take_first_cycle())
            }
            Changes::ByReadingAll { every } => {
                let every = Duration::from_std(every).unwrap_or(Duration::hours(1));
                Cycle::plan_without_dates(checkpoint, every, now, self.take_first_cycle())
            }
        })
    }

    /// Every deep cycle meets again what the shallow ones before it have read.
    fn remember(&self, cycle: &Cycle, rows: &Brought) {
        match cycle.depth {
            Depth::Shallow => self.recent().note(rows.rows.iter().filter_map(Decoded::id)),
            Depth::Deep if cycle.ended() => self.recent().forget(),
            Depth::Deep => {}
        }
    }

    fn question(
        &self,
        cycle: &Cycle,
        checkpoint: &Checkpoint,
        lane: Lane,
        probes: bool,
    ) -> Question {
        let open = [&cycle.changed, &cycle.new].into_iter().filter(|scan| !scan.ended());
        // Commands for the catalogue and the probes travel in the same batch.
        let longest =
            self.reader().longest_chain(lane).saturating_sub(3) / open.clone().count().max(1);
        let recent = self.recent();
        let expected = |scan: &Scan| match cycle.depth {
            Depth::Deep => recent.pages(scan),
            Depth::Shallow => 0,
        };
        let offset_seconds = checkpoint.last.offset_seconds;
        let pages = |scan: &Scan| scan.chain_length(expected(scan), longest);
        let ranges = open.map(|scan| range(scan, offset_seconds, pages(scan))).collect();
        Question { ranges, catalogue: cycle.fresh(), probes }
    }

    /// A filter that is ignored would make a full table pass for news, and one that is
    /// misread would make silence pass for peace.
    async fn judge_probes(
        &self,
        reply: &Reply,
        checkpoint: &Checkpoint,
        lane: Lane,
    ) -> Result<(), SyncError> {
        let (entity, field) = (self.entity().name, self.entity().modified());
        let Some(probes) = &reply.probes else { return Ok(()) };
        if !probes.future_gave_none {
            return Err(SyncError::FilterIgnored { entity, field });
        }
        if !probes.past_gave_rows && checkpoint.newest > RecordId::ZERO {
            // An entity that has been emptied gives no rows to any filter, and one that was
            // empty for a moment has given none to this one.
            let (existing, _) = self.newest(lane).await?;
            if !existing.is_empty() {
                let question = Question { probes: true, ..Question::default() };
                let again = self.ask(lane, &question).await?;
                if again.probes.is_some_and(|again| !again.past_gave_rows) {
                    return Err(SyncError::FilterMisread { entity, field });
                }
            }
        }
        self.probed();
        Ok(())
    }

    pub(super) async fn clocks(
        &self,
        reply: &Reply,
        asked_at: DateTime<Utc>,
    ) -> Result<Clocks, SyncError> {
        let time =
            reply.time.as_ref().ok_or(SyncError::NoPortalClock { entity: self.entity().name })?;
        // Measured first, so that the clock is never put before the moment it was heard.
        let since = reply.told_at.map_or(time::Duration::ZERO, |told_at| told_at.elapsed());
        let heard_at = self.now().await? - TimeDelta::from_std(since).unwrap_or_default();
        Ok(Clocks { portal: time.clock, offset_seconds: time.offset_seconds, asked_at, heard_at })
    }
}

/// The next chain of a scan, as the reader takes it.
fn range(scan: &Scan, offset_seconds: i32, pages: usize) -> Range {
    Range {
        after: scan.cursor(),
        up_to: scan.bound(),
        floor: bound(scan.floor(), offset_seconds),
        ceiling: bound(scan.ceiling(), offset_seconds),
        pages,
        newest_first: false,
    }
}

/// Moves the open scans over the answer and returns its rows.
fn take(
    cycle: &mut Cycle,
    asked_at: DateTime<Utc>,
    reply: Reply,
) -> Result<Brought, super::Mismatch> {
    let mut rows = Vec::new();
    let open = [&mut cycle.changed, &mut cycle.new].into_iter().filter(|scan| !scan.ended());
    for (scan, pages) in open.collect::<Vec<_>>().into_iter().zip(reply.ranges) {
        for page in pages {
            scan.take(&page.facts)?;
            rows.extend(page.rows);
        }
    }
    Ok(Brought { asked_at, rows, memory: reply.memory })
}

impl Mirror {
    /// Stores the field descriptions when they differ from those stored before.
    pub(super) async fn keep_catalogue(
        &self,
        catalogue: Option<&Arc<crate::entity::catalogue::Catalogue>>,
    ) -> Result<(), SyncError> {
        let Some(catalogue) = catalogue else { return Ok(()) };
        if self.catalogue_is_stored(catalogue) {
            return Ok(());
        }
        self.store().save_fields(self.generation(), self.entity(), catalogue).await?;
        self.catalogue_was_stored(catalogue);
        self.reports_are_outdated();
        Ok(())
    }
}
