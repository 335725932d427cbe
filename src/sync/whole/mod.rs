//! What can only be read as a whole: the mail address book of the webhook's user.
//!
//! The portal lists it in no documented order, without a filter, a count or a time of
//! modification. So there is one way to learn what has changed, and that is to read all of it.
//!
//! A **reading** is complete when it proves that whoever was in the list throughout has been
//! shown (`windows`); one that proves nothing is tried again, and in the end the pass is
//! incomplete. Whatever rows it brought are right and are written all the same: decoded,
//! hashed, set aside and upserted as every other record.
//!
//! A complete reading is what other entities call an incremental cycle, and a backfill as well.
//! It deletes nothing. A **sweep** reads once more where the first complete reading did not show
//! somebody whom the mirror has: who is not in the second one either, and is not found by an
//! address (`unlisted`), becomes a tombstone, under the guard that holds for every sweep. A reading that misses nobody is a complete sweep in
//! itself; one that does makes the daemon sweep at once, or after `sync.sweep_interval` where a
//! sweep has been refused already.
//!
//! `verify` holds one reading against the table, and believes only what a second one shows, too.

mod gone;
mod unlisted;
mod verify;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use self::windows::{Broken, Key, Step, Windows};
use super::{
    SyncError,
    checks::Check,
    ending::Findings,
    mirror::{Entry, Mirror, Tally},
};
use crate::{
    entity::{RecordId, catalogue::Catalogue, decode::Decoded, json::Raw},
    portal::{Lane, MailRecipientSource, PortalTime},
    store::{Batch, Checkpoint, Progress, Run, RunKind, Verdict, Watermark},
};

/// How often a reading is begun before the pass is incomplete.
const ATTEMPTS: usize = 4;

/// So many entries are written in one transaction.
const BATCH: usize = 2_500;

/// Keys that are read from the database at a time.
const KEYS: u32 = 10_000;

/// What a complete reading did and showed.
pub(super) struct Whole {
    pub(super) tally: Tally,
    /// How many the mirror has that it did not show, and that were not there unlisted before.
    pub(super) missing: usize,
    /// How many it did not show that were.
    pub(super) unlisted: usize,
}

/// A complete reading, stored.
struct Seen {
    /// The database's clock before its first question.
    asked_at: DateTime<Utc>,
    shown: BTreeSet<RecordId>,
    /// Rows without a usable ID: whoever is missing may be one of them.
    nameless: usize,
}

/// What a reading brought, complete or not.
struct Gathered {
    asked_at: DateTime<Utc>,
    time: Option<PortalTime>,
    /// Each entry once; the later copy.
    rows: Vec<Decoded>,
    ended: Result<(), SyncError>,
}

impl Mirror {
    /// Reads all of it and stores what differs. Deletes nothing.
    ///
    /// # Errors
    /// [`SyncError`] when it could not come to its end; what it brought is stored.
    pub(super) async fn read_whole(&self, lane: Lane, kind: RunKind) -> Result<Whole, SyncError> {
        // A reading that finds nothing new leaves no entry in the log, but a backfill does.
        let mut entry = match kind {
            RunKind::Incremental => None,
            kind => Some(self.begin_run(kind, self.portal().meter()).await?),
        };
        let mut tally = Tally::default();
        let done = self.read_and_tell(lane, kind, &mut entry, &mut tally).await;
        if let Some(entry) = entry {
            self.finish_run(entry, tally, done.as_ref().err()).await;
        }
        done.map(|(missing, unlisted)| Whole { tally, missing, unlisted })
    }

    async fn read_and_tell(
        &self,
        lane: Lane,
        kind: RunKind,
        entry: &mut Option<Entry>,
        tally: &mut Tally,
    ) -> Result<(usize, usize), SyncError> {
        let (store, generation, entity) = (self.store(), self.generation(), self.entity());
        let before = self.portal().meter();
        // Its time is when the reading began, should it turn out that nobody is missing.
        let sweep = store.open_sweep(generation, entity, chrono::TimeDelta::zero()).await?;
        let run = entry.as_ref().map(|entry| entry.run.clone());
        let seen = self.read_and_store(lane, run.as_ref(), tally).await;
        if entry.is_none() && tally.wrote() {
            *entry = Some(self.begin_run(kind, before).await?);
        }
        let missing = match seen {
            Ok(seen) => self.missing(&seen).await?,
            Err(error) => {
                store.drop_sweep(generation, entity).await?;
                return Err(error);
            }
        };
        tracing::debug!(
            entity = entity.name,
            read = tally.read,
            missing = missing.len(),
            began = %sweep.started_at,
            "a reading is complete"
        );
        if missing.is_empty() {
            store.complete_sweep(generation, entity).await?;
        } else {
            store.drop_sweep(generation, entity).await?;
        }
        let known = self.unlisted();
        let unlisted = missing.iter().filter(|id| known.contains(id)).count();
        Ok((missing.len() - unlisted, unlisted))
    }

    /// Performs a check of what is read as a whole.
    ///
    /// # Errors
    /// As [`Mirror::check`].
    pub(super) async fn check_whole(
        &self,
        lane: Lane,
        check: &Check,
    ) -> Result<Findings, SyncError> {
        match check {
            Check::Sweep { accept } => self.sweep_whole(lane, *accept).await,
            Check::Verify { level, repair } => {
                self.refuse_unready(check).await?;
                self.verify_whole(lane, *level, *repair).await
            }
            Check::Forget(records) => self.forget(records).await,
            // Single entries cannot be asked for, so all of them are.
            Check::Refresh(_) | Check::Rolling => {
                let mut found = self.sweep_whole(lane, None).await?;
                if found.verdict == Verdict::Complete {
                    found.line = format!("read as a whole: {}", found.line);
                }
                Ok(found)
            }
        }
    }

    /// Reads all of it, and stores what differs with the checkpoint that says so.
    async fn read_and_store(
        &self,
        lane: Lane,
        run: Option<&Run>,
        tally: &mut Tally,
    ) -> Result<Seen, SyncError> {
        let Gathered { asked_at, time, rows, ended } = self.gather(lane).await?;
        let shown = rows.iter().filter_map(Decoded::id).collect();
        let nameless = rows.iter().filter(|row| row.id().is_none()).count();
        let checkpoint = match ended {
            Ok(()) => Some(self.checkpoint_of(asked_at, time).await?),
            Err(_) => None,
        };
        let mut rows = rows.into_iter();
        loop {
            let part: Vec<Decoded> = rows.by_ref().take(BATCH).collect();
            let progress = match &checkpoint {
                Some(checkpoint) if rows.len() == 0 => Progress::Checkpoint(checkpoint),
                _ => Progress::Nothing,
            };
            if let (true, Progress::Checkpoint(checkpoint)) = (part.is_empty(), progress) {
                let (generation, entity) = (self.generation(), self.entity());
                self.store().save_checkpoint(generation, entity, checkpoint).await?;
            } else if !part.is_empty() {
                *tally += self.store_part(asked_at, part, progress, run).await?;
            }
            if rows.len() == 0 {
                break;
            }
        }
        ended.map(|()| Seen { asked_at, shown, nameless })
    }

    async fn store_part(
        &self,
        asked_at: DateTime<Utc>,
        rows: Vec<Decoded>,
        progress: Progress<'_>,
        run: Option<&Run>,
    ) -> Result<Tally, SyncError> {
        let read = rows.len() as u64;
        let (mut records, mut rejects) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            match row {
                Decoded::Record(record) => records.push(*record),
                Decoded::Reject(reject) => rejects.push(reject),
            }
        }
        let (entity, generation) = (self.entity(), self.generation());
        let batch = Batch { entity, generation, asked_at, records, rejects, progress, run };
        // What a later question has written is left alone: the next reading sees it, too.
        let written = self.store().write(batch).await?;
        Ok(Tally {
            read,
            inserted: written.inserted,
            updated: written.updated,
            unchanged: written.unchanged,
            deleted: 0,
            quarantined: written.quarantined,
        })
    }

    /// Reads until a reading is complete, or often enough.
    async fn gather(&self, lane: Lane) -> Result<Gathered, SyncError> {
        let begun_at = self.now().await?;
        let mut delays = self.retry().delays();
        let (mut all, mut time) = (BTreeMap::new(), None);
        let mut broken = None;
        for attempt in 0..ATTEMPTS {
            let asked_at = if attempt == 0 { begun_at } else { self.now().await? };
            let mut rows = BTreeMap::new();
            let ended = match self.read_once(lane, &mut rows, &mut time).await {
                Ok(Ok(())) => {
                    let rows = rows.into_values().collect();
                    return Ok(Gathered { asked_at, time, rows, ended: Ok(()) });
                }
                Ok(Err(why)) => {
                    tracing::debug!(entity = self.entity().name, %why, "a reading begins again");
                    broken = Some(why);
                    None
                }
                Err(SyncError::Stopping) => return Err(SyncError::Stopping),
                Err(error) => Some(error),
            };
            all.extend(rows);
            if let Some(error) = ended {
                let rows = all.into_values().collect();
                return Ok(Gathered { asked_at: begun_at, time, rows, ended: Err(error) });
            }
            self.rest(delays.next_delay()).await?;
        }
        let why = broken.map_or_else(String::new, |why| why.to_string());
        let ended = Err(self.incomplete(format!("{why}, {ATTEMPTS} times in a row")));
        let rows = all.into_values().collect();
        Ok(Gathered { asked_at: begun_at, time, rows, ended })
    }

    /// One reading from the front to the end.
    async fn read_once(
        &self,
        lane: Lane,
        rows: &mut BTreeMap<Key, Decoded>,
        time: &mut Option<PortalTime>,
    ) -> Result<Result<(), Broken>, SyncError> {
        let source = MailRecipientSource::new(self.portal().clone());
        let mut windows = Windows::new(MailRecipientSource::PAGE_ROWS);
        let mut offset = 0;
        loop {
            let reading = async { Ok(source.page(lane, offset).await?) };
            let page = self.unless_stopped(reading).await?;
            *time = time.or(page.time);
            let raw = || page.rows.iter().map(|row| Raw::well_formed(row));
            let decoded = self.reader().decoder().page(raw(), &Catalogue::default())?;
            let keyed = decoded.rows.into_iter().zip(&page.rows).map(|(row, text)| {
                let fingerprint = || Key::Text(xxhash_rust::xxh3::xxh3_64(text.as_bytes()));
                (row.id().map_or_else(fingerprint, Key::Id), row)
            });
            let keyed: Vec<(Key, Decoded)> = keyed.collect();
            let keys: Vec<Key> = keyed.iter().map(|(key, _)| *key).collect();
            rows.extend(keyed);
            match windows.take(&keys) {
                Ok(Step::Ask(next)) => offset = next,
                Ok(Step::Complete) => return Ok(Ok(())),
                Err(broken) => return Ok(Err(broken)),
            }
        }
    }

    /// The checkpoint of a complete reading; it has neither mark nor boundary.
    async fn checkpoint_of(
        &self,
        asked_at: DateTime<Utc>,
        time: Option<PortalTime>,
    ) -> Result<Checkpoint, SyncError> {
        let watermark = Watermark {
            portal: time.map_or(asked_at, |time| time.clock),
            offset_seconds: time.map_or(0, |time| time.offset_seconds),
            database: asked_at,
        };
        Ok(Checkpoint {
            fingerprint: self.fingerprint(),
            mark: RecordId::ZERO,
            successor: None,
            newest: RecordId::ZERO,
            deep: watermark,
            deep_fitted: true,
            last: watermark,
            shift: None,
            cycle: None,
            asked_at,
            completed_at: Some(self.now().await?),
        })
    }

    /// Whom the mirror has and a reading did not show.
    async fn missing(&self, seen: &Seen) -> Result<Vec<RecordId>, SyncError> {
        let (mut missing, mut after) = (Vec::new(), RecordId::ZERO);
        loop {
            let reading = async {
                Ok(self.store().stored_keys(self.entity(), self.sight(), after, None, KEYS).await?)
            };
            let keys = self.unless_stopped(reading).await?;
            let Some(last) = keys.last() else { return Ok(missing) };
            after = last.id;
            let gone = keys.iter().filter(|key| {
                key.deleted_at.is_none()
                    && key.synced_at <= seen.asked_at
                    && !seen.shown.contains(&key.id)
            });
            missing.extend(gone.map(|key| key.id));
        }
    }

    fn incomplete(&self, why: impl Into<String>) -> SyncError {
        SyncError::Incomplete { entity: self.entity().name, why: why.into() }
    }
}
