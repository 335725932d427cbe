//! What was found is put right, and nothing else.

use std::collections::HashMap;

use super::{Comparison, GIVEN, Kind, confirm::Wrong};
use crate::{
    entity::{RecordId, decode::Decoded},
    portal::Lane,
    store::{Batch, Progress, Run, Seen},
    sync::{
        SyncError,
        mirror::{Brought, Mirror, Tally},
        room::Memory,
        sweep::{Trust, allowance},
    },
};

/// What became of records that were written whatever their rows said.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::sync) struct Rewritten {
    pub(in crate::sync) tally: Tally,
    /// Records that came and could not be stored.
    refused: u64,
}

impl Comparison<'_> {
    /// Repairs what differs; what is extra waits until it is known how much that is.
    pub(super) async fn repair(&mut self, wrong: &[Wrong]) -> Result<(), SyncError> {
        let (extra, wrong): (Vec<Wrong>, Vec<Wrong>) =
            wrong.iter().partition(|wrong| wrong.kind == Kind::Extra);
        self.extra.extend(extra.iter().map(|wrong| wrong.seen));
        if wrong.is_empty() {
            return Ok(());
        }
        let mirror = self.mirror;
        let asked_at = mirror.now().await?;
        let seen: Vec<Seen> = wrong.iter().map(|wrong| wrong.seen).collect();
        let ids: Vec<RecordId> = seen.iter().map(|seen| seen.id).collect();
        let shown = mirror.shown(self.lane, &ids).await?;
        // Neither the portal nor the mirror shows these any more.
        let settled = |seen: &&Seen| {
            let live = seen.version.is_some_and(|(_, deleted)| deleted.is_none());
            !live && !shown.contains_key(&seen.id)
        };
        let gone = seen.iter().filter(settled).count() as u64;
        self.entry.count(&self.tally, mirror.portal().meter());
        let rows = shown.into_values().collect();
        let done = mirror.rewrite(self.lane, asked_at, rows, &seen, &self.entry.run).await?;
        self.tally += done.tally;
        if let Some(repaired) = &mut self.report.repaired {
            repaired.written += done.tally.inserted + done.tally.updated;
            repaired.moot += done.tally.unchanged + gone;
            repaired.set_aside += done.refused;
        }
        Ok(())
    }

    /// Deletes what is extra, where it is gone for certain and not too much.
    pub(super) async fn delete_extra(&mut self) -> Result<(), SyncError> {
        let extra = std::mem::take(&mut self.extra);
        if extra.is_empty() {
            return Ok(());
        }
        let mirror = self.mirror;
        let counting = async { Ok(mirror.store().live(mirror.entity(), mirror.sight()).await?) };
        let live = mirror.unless_stopped(counting).await?;
        let allowed = allowance(live, mirror.checks().max_delete_share);
        if i64::try_from(extra.len()).is_ok_and(|extra| extra > allowed) {
            if let Some(repaired) = &mut self.report.repaired {
                repaired.refused = Some(format!(
                    "{} of {live} records are extra, and repairing deletes no more than \
                     {allowed}: `b24mirror sweep {}` looks into it and says what to do",
                    extra.len(),
                    mirror.entity().name,
                ));
            }
            return Ok(());
        }
        let deleted = mirror.delete_gone(self.lane, &extra).await?;
        self.tally.deleted += deleted;
        if let Some(repaired) = &mut self.report.repaired {
            repaired.deleted += deleted;
            repaired.moot += extra.len() as u64 - deleted;
        }
        Ok(())
    }
}

impl Mirror {
    /// Writes records as any pass does, and those that were seen to be wrong whatever
    /// their rows say.
    pub(in crate::sync) async fn rewrite(
        &self,
        lane: Lane,
        asked_at: chrono::DateTime<chrono::Utc>,
        rows: Vec<Decoded>,
        seen: &[Seen],
        run: &Run,
    ) -> Result<Rewritten, SyncError> {
        let came = rows.len() as u64;
        let (mut records, mut rejects) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            match row {
                Decoded::Record(record) => records.push(*record),
                Decoded::Reject(reject) => rejects.push(reject),
            }
        }
        let unsettled = self.unsettled(&records);
        let batch = Batch {
            entity: self.entity(),
            generation: self.generation(),
            asked_at,
            records,
            rejects,
            progress: Progress::Nothing,
            run: Some(run),
        };
        let written = self.store().rewrite(batch, seen).await?;
        if written.inserted + written.updated > 0 {
            self.ask_meaning(unsettled);
        }
        let left_alone = written.left_alone.len() as u64;
        let stored = written.inserted + written.updated + written.unchanged + left_alone;
        let mut tally = Tally {
            read: came,
            inserted: written.inserted,
            updated: written.updated,
            unchanged: written.unchanged,
            deleted: 0,
            quarantined: written.quarantined,
        };
        if left_alone > 0 {
            // A later answer has written them: the ordinary way decides.
            let asked_at = self.now().await?;
            let reading = self.reader().given(lane, &written.left_alone);
            let rows = self.unless_stopped(reading).await?;
            let rows = Brought { asked_at, rows, memory: Memory::default() };
            tally += self.write(lane, rows, Progress::Nothing, Some(run)).await?;
        }
        Ok(Rewritten { tally, refused: came.saturating_sub(stored) })
    }

    /// Makes tombstones of rows whose records have gone in the portal, once more asked for
    /// beside records that are known to be there, and returns how many. Rows that were
    /// written since they were seen stay.
    pub(in crate::sync) async fn delete_gone(
        &self,
        lane: Lane,
        seen: &[Seen],
    ) -> Result<u64, SyncError> {
        let mut deleted = 0;
        let mut trust = Trust::new(self);
        for part in seen.chunks(GIVEN) {
            let mut left: HashMap<RecordId, Seen> =
                part.iter().map(|seen| (seen.id, *seen)).collect();
            while !left.is_empty() {
                let mut ids: Vec<RecordId> = left.keys().copied().collect();
                ids.sort_unstable();
                let Some(round) = self.ask_for(lane, &ids).await? else {
                    return Err(self.unproven(
                        "the portal lists no record any more, so nothing proves that single ones \
                         are gone; nothing was deleted",
                    ));
                };
                let gone: Vec<Seen> =
                    round.proven.gone.iter().filter_map(|id| left.remove(id)).collect();
                for there in &round.proven.there {
                    left.remove(there);
                }
                deleted += self
                    .store()
                    .delete_seen(self.generation(), self.entity(), &gone, round.asked_at)
                    .await?;
                trust.weigh(round.doubt()).await?;
            }
        }
        Ok(deleted)
    }
}
