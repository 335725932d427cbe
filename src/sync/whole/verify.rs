//! `verify` for what is read as a whole: one reading is held against the table, and what seems
//! to differ is believed only if a second reading shows the same and nobody has written the row
//! in between. Where a daemon runs, a reading is stored first, so that what is merely new since
//! the last one is not reported.

use std::collections::HashMap;

use super::Gathered;
use crate::{
    entity::{RecordId, decode::Decoded},
    portal::Lane,
    store::{Batch, Progress, RunKind, Seen, Stored, StoredKey},
    sync::{
        SyncError,
        ending::Findings,
        mirror::{Entry, Mirror, Tally},
        sweep::allowance,
        verify::{
            Difference, Kind, Repaired, Verification, as_shown, difference, findings, version,
        },
        work::Level,
    },
};

/// Keys, and whole rows, that are read from the database at a time.
const KEYS: u32 = 10_000;
const ROWS: usize = 2_400;

/// A complete reading by ID.
struct Shown {
    asked_at: chrono::DateTime<chrono::Utc>,
    entries: HashMap<RecordId, Decoded>,
    nameless: u64,
}

/// What seemed to differ at first sight.
struct Suspect {
    seen: Seen,
    /// What the portal showed of it.
    shown: Option<Decoded>,
}

/// A verification under way.
struct Comparison<'a> {
    mirror: &'a Mirror,
    lane: Lane,
    level: Level,
    report: Verification,
    tally: Tally,
    entry: Entry,
}

impl Mirror {
    /// Holds the mirror against the portal, and repairs what differs if that is wanted.
    pub(super) async fn verify_whole(
        &self,
        lane: Lane,
        level: Level,
        repair: bool,
    ) -> Result<Findings, SyncError> {
        let entry = self.begin_run(RunKind::Verify, self.portal().meter()).await?;
        let mut report = Verification::new(self.entity().name, level);
        report.repaired = repair.then(Repaired::default);
        let tally = Tally::default();
        let mut comparison = Comparison { mirror: self, lane, level, report, tally, entry };
        let outcome = comparison.all().await;
        let Comparison { report, tally, entry, .. } = comparison;
        if let Err(error) = outcome {
            self.finish_run(entry, tally, Some(&error)).await;
            return Err(error);
        }
        let (found, message) = findings(&report);
        self.finish_run_as(entry, tally, found.verdict, message.as_deref()).await;
        Ok(found)
    }
}

impl Comparison<'_> {
    async fn all(&mut self) -> Result<(), SyncError> {
        let mirror = self.mirror;
        let first = self.read().await?;
        self.report.compared = first.entries.len() as u64;
        self.report.nameless = first.nameless;
        let suspects = self.suspects(first).await?;
        if suspects.is_empty() {
            return Ok(());
        }
        if mirror.is_on_schedule() {
            mirror.read_and_store(self.lane, Some(&self.entry.run), &mut self.tally).await?;
        }
        let mut second = self.read().await?;
        let (mut wrong, mut extra) = (Vec::new(), Vec::new());
        for part in suspects.chunks(ROWS) {
            let ids: Vec<RecordId> = part.iter().map(|suspect| suspect.seen.id).collect();
            let rows = mirror.rows(&ids).await?;
            for Suspect { seen, shown } in part {
                let (now, row) = (second.entries.get(&seen.id), rows.get(&seen.id));
                let Some((kind, what)) = self.difference(now, row) else { continue };
                if version(row) != seen.version || now != shown.as_ref() {
                    self.report.moving += 1;
                    continue;
                }
                if kind == Kind::Extra {
                    extra.push(*seen);
                } else {
                    self.report.add(Difference { id: seen.id, kind, what });
                    wrong.push(*seen);
                }
            }
        }
        let extra = self.leave_unlisted(extra, &mut wrong, &mut second).await?;
        if self.report.repaired.is_some() {
            self.rewrite(&wrong, &second).await?;
            self.delete(&extra, &second).await?;
        }
        Ok(())
    }

    /// Takes out who is there although it is not listed; what is found of it is compared as if
    /// it had been.
    async fn leave_unlisted(
        &mut self,
        extra: Vec<Seen>,
        wrong: &mut Vec<Seen>,
        second: &mut Shown,
    ) -> Result<Vec<Seen>, SyncError> {
        if extra.is_empty() {
            return Ok(extra);
        }
        let (mirror, run) = (self.mirror, self.entry.run.clone());
        let ids: Vec<RecordId> = extra.iter().map(|seen| seen.id).collect();
        let unlisted = mirror.search(self.lane, &ids, &run).await?;
        let mut gone = Vec::new();
        for part in extra.chunks(ROWS) {
            let ids: Vec<RecordId> = part.iter().map(|seen| seen.id).collect();
            let rows = mirror.rows(&ids).await?;
            for seen in part {
                let found = unlisted.found(seen.id);
                if found.is_none() && unlisted.stays(seen.id) {
                    continue;
                }
                let Some((kind, what)) = self.difference(found, rows.get(&seen.id)) else {
                    continue;
                };
                self.report.add(Difference { id: seen.id, kind, what });
                match found {
                    Some(found) => {
                        second.entries.insert(seen.id, found.clone());
                        wrong.push(*seen);
                    }
                    None => gone.push(*seen),
                }
            }
        }
        Ok(gone)
    }

    async fn read(&mut self) -> Result<Shown, SyncError> {
        let Gathered { asked_at, rows, ended, .. } = self.mirror.gather(self.lane).await?;
        ended?;
        self.tally.read += rows.len() as u64;
        let nameless = rows.iter().filter(|row| row.id().is_none()).count() as u64;
        let mut entries: Vec<(RecordId, Decoded)> =
            rows.into_iter().filter_map(|row| Some((row.id()?, row))).collect();
        self.mirror.leave_out_forgotten(&mut entries, |(id, _)| *id);
        Ok(Shown { asked_at, entries: entries.into_iter().collect(), nameless })
    }

    /// In which way an entry differs, as closely as is asked for.
    fn difference(
        &self,
        shown: Option<&Decoded>,
        row: Option<&Stored>,
    ) -> Option<(Kind, Vec<String>)> {
        let found = difference(self.mirror.entity(), &as_shown(shown), row)?;
        let exists = matches!(found.0, Kind::Missing | Kind::Extra | Kind::TombstoneWrong);
        (exists || self.level == Level::Full).then_some(found)
    }

    async fn suspects(&self, mut first: Shown) -> Result<Vec<Suspect>, SyncError> {
        let mirror = self.mirror;
        let (mut suspects, mut after) = (Vec::new(), RecordId::ZERO);
        loop {
            let reading = async {
                Ok(mirror
                    .store()
                    .stored_keys(mirror.entity(), mirror.sight(), after, None, KEYS)
                    .await?)
            };
            let keys = mirror.unless_stopped(reading).await?;
            let Some(last) = keys.last() else { break };
            after = last.id;
            for part in keys.chunks(ROWS) {
                let ids: Vec<RecordId> = part.iter().map(|key| key.id).collect();
                let rows = mirror.rows(&ids).await?;
                for StoredKey { id, .. } in part {
                    let (shown, row) = (first.entries.remove(id), rows.get(id));
                    if self.difference(shown.as_ref(), row).is_some() {
                        let seen = Seen { id: *id, version: version(row) };
                        suspects.push(Suspect { seen, shown });
                    }
                }
            }
        }
        // No row at all stands against these.
        let missing = first
            .entries
            .into_iter()
            .map(|(id, shown)| Suspect { seen: Seen { id, version: None }, shown: Some(shown) });
        suspects.extend(missing);
        suspects.sort_by_key(|suspect| suspect.seen.id);
        Ok(suspects)
    }

    async fn rewrite(&mut self, wrong: &[Seen], second: &Shown) -> Result<(), SyncError> {
        let (mut records, mut rejects) = (Vec::new(), Vec::new());
        for row in wrong.iter().filter_map(|seen| second.entries.get(&seen.id)) {
            match row {
                Decoded::Record(record) => records.push((**record).clone()),
                Decoded::Reject(reject) => rejects.push(reject.clone()),
            }
        }
        let came = (records.len() + rejects.len()) as u64;
        if came == 0 {
            return Ok(());
        }
        let mirror = self.mirror;
        self.entry.count(&self.tally, mirror.portal().meter());
        let batch = Batch {
            entity: mirror.entity(),
            generation: mirror.generation(),
            asked_at: second.asked_at,
            records,
            rejects,
            progress: Progress::Nothing,
            run: Some(&self.entry.run),
        };
        let written = mirror.store().rewrite(batch, wrong).await?;
        self.tally.inserted += written.inserted;
        self.tally.updated += written.updated;
        self.tally.unchanged += written.unchanged;
        self.tally.quarantined += written.quarantined;
        let done = written.inserted + written.updated;
        // A row that a later answer has written is that answer's.
        let moot = written.unchanged + written.left_alone.len() as u64;
        if let Some(repaired) = &mut self.report.repaired {
            repaired.written += done;
            repaired.moot += moot;
            repaired.set_aside += came.saturating_sub(done + moot);
        }
        Ok(())
    }

    /// Makes tombstones of entries that neither reading showed, where that is not too much.
    async fn delete(&mut self, extra: &[Seen], second: &Shown) -> Result<(), SyncError> {
        if extra.is_empty() {
            return Ok(());
        }
        let (mirror, entity) = (self.mirror, self.mirror.entity());
        let live = mirror.store().counts(entity).await?.live;
        let allowed = allowance(live, mirror.checks().max_delete_share);
        let too_many = i64::try_from(extra.len()).is_ok_and(|extra| extra > allowed);
        if too_many || second.nameless > 0 || second.entries.is_empty() {
            if let Some(repaired) = &mut self.report.repaired {
                repaired.refused = Some(format!(
                    "{} of {live} entries are extra and were not deleted: `b24mirror sweep {}` \
                     looks into it and says what to do",
                    extra.len(),
                    entity.name,
                ));
            }
            return Ok(());
        }
        let (store, generation) = (mirror.store(), mirror.generation());
        let deleted = store.delete_seen(generation, entity, extra, second.asked_at).await?;
        self.tally.deleted += deleted;
        if let Some(repaired) = &mut self.report.repaired {
            repaired.deleted += deleted;
            repaired.moot += extra.len() as u64 - deleted;
        }
        Ok(())
    }
}
