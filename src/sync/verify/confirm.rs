//! The second look at what seemed to differ.

use std::collections::HashMap;

use super::{
    Comparison, Difference, GIVEN, Kind,
    compare::{Reach, Settled, Shown, Sighting, Suspect, settle, version},
};
use crate::{
    entity::{RecordId, decode::Decoded},
    portal::{Lane, PAGE_ROWS},
    store::{Seen, Stored},
    sync::{SyncError, mirror::Mirror},
};

/// A record that is something else at each of so many looks cannot be judged.
const LOOKS: usize = 5;

/// So many records are tried as the proof that the portal shows records by their IDs.
const PROOFS: usize = 3;

/// A difference, and the row as it was when it was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wrong {
    pub(super) kind: Kind,
    pub(super) seen: Seen,
}

impl Comparison<'_> {
    /// Looks at the suspects again, reports those that differ, and repairs them if that
    /// is wanted.
    pub(super) async fn confirm(&mut self) -> Result<(), SyncError> {
        let mut suspects = std::mem::take(&mut self.suspects);
        for _ in 0..LOOKS {
            if suspects.is_empty() {
                return Ok(());
            }
            if self.mirror.is_on_schedule() {
                // What was changed before the first look is read now.
                self.mirror.cycle_in_turn(Lane::Incremental).await?;
            }
            suspects = self.look_again(&suspects).await?;
        }
        self.report.moving += suspects.len() as u64;
        Ok(())
    }

    /// Returns those that cannot be judged yet.
    async fn look_again(&mut self, suspects: &[Suspect]) -> Result<Vec<Suspect>, SyncError> {
        let (mirror, entity) = (self.mirror, self.mirror.entity());
        let mut moving = Vec::new();
        for part in suspects.chunks(GIVEN) {
            // Before the portal is asked: what it shows may be newer than this, and then
            // counts as behind.
            let checkpoint = mirror.checkpoint().await?;
            let checkpoint =
                checkpoint.ok_or(SyncError::NeverBackfilled { entity: entity.name })?;
            let reach = Reach::of(&checkpoint, mirror.overlap());
            let ids: Vec<RecordId> = part.iter().map(|suspect| suspect.id).collect();
            let shown = mirror.shown(self.lane, &ids).await?;
            let stored = mirror.rows(&ids).await?;
            let mut wrong = Vec::new();
            for suspect in part {
                let shown = as_shown(shown.get(&suspect.id));
                let row = stored.get(&suspect.id);
                match settle(entity, suspect, &shown, row, &reach) {
                    Settled::Equal => {}
                    Settled::Behind => self.report.behind += 1,
                    Settled::Moving => moving.push(Suspect {
                        id: suspect.id,
                        sighting: Sighting::of(&shown),
                        version: version(row),
                    }),
                    Settled::Differs { kind, what } => {
                        let seen = Seen { id: suspect.id, version: version(row) };
                        wrong.push(Wrong { kind, seen });
                        self.report.add(Difference { id: suspect.id, kind, what });
                    }
                }
            }
            if self.repairing {
                self.repair(&wrong).await?;
            }
        }
        Ok(moving)
    }
}

impl Mirror {
    /// What the portal shows of these records. Each command of the question carries a
    /// record that the portal has just listed: one that does not bring it has shown nothing.
    ///
    /// # Errors
    /// [`SyncError::Unproven`] when no such record is to be had.
    pub(in crate::sync) async fn shown(
        &self,
        lane: Lane,
        ids: &[RecordId],
    ) -> Result<HashMap<RecordId, Decoded>, SyncError> {
        for _ in 0..PROOFS {
            let (newest, _) = self.newest(lane).await?;
            let Some(witness) = newest.first().copied() else {
                return Err(self.unproven(
                    "the portal lists no record any more, so nothing proves that it shows those \
                     that are asked for by their IDs",
                ));
            };
            let others: Vec<RecordId> = ids.iter().copied().filter(|id| *id != witness).collect();
            // The reader fills one command after the other.
            let parts: Vec<&[RecordId]> = others.chunks(PAGE_ROWS - 1).collect();
            let mut asked = Vec::with_capacity(others.len() + parts.len() + 1);
            for part in &parts {
                asked.extend_from_slice(part);
                asked.push(witness);
            }
            if asked.is_empty() {
                asked.push(witness);
            }
            let rows = self.unless_stopped(self.reader().given(lane, &asked)).await?;
            let seen = rows.iter().filter(|row| row.id() == Some(witness)).count();
            if seen >= parts.len().max(1) {
                let wanted = |row: Decoded| Some((row.id()?, row));
                let mut shown: HashMap<_, _> = rows.into_iter().filter_map(wanted).collect();
                if !ids.contains(&witness) {
                    shown.remove(&witness);
                }
                return Ok(shown);
            }
            // It may have been deleted meanwhile.
        }
        Err(self.unproven(
            "asked for records by their IDs, the portal again and again left out one that it had \
             just listed",
        ))
    }

    /// The rows of these records, in the order of their IDs.
    pub(super) async fn rows_of(&self, ids: &[RecordId]) -> Result<Vec<Stored>, SyncError> {
        self.unless_stopped(async { Ok(self.store().read_records(self.entity(), ids).await?) })
            .await
    }

    /// The rows of these records.
    pub(in crate::sync) async fn rows(
        &self,
        ids: &[RecordId],
    ) -> Result<HashMap<RecordId, Stored>, SyncError> {
        let rows = self.rows_of(ids).await?;
        Ok(rows.into_iter().map(|row| (row.record.id(), row)).collect())
    }
}

/// A record as it came, if it did.
pub(in crate::sync) const fn as_shown(row: Option<&Decoded>) -> Shown<'_> {
    match row {
        None => Shown::Absent,
        Some(Decoded::Record(record)) => Shown::Whole(record),
        Some(Decoded::Reject(reject)) => Shown::SetAside(reject),
    }
}
