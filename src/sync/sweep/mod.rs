//! The sweep: what was deleted in the portal, and what changed without anybody noticing.
//!
//! A list never says what has gone. So every ID is listed, with its modification time and
//! nothing else, and each range that an answer closes is compared with the mirror (`range`).
//! What is missing here, or of another time, is read and written as by any other pass. What
//! is here and was not listed becomes a *candidate*: a list may err, and a mirror that
//! forgets records is worse than one that remembers too many.
//!
//! At the end the candidates are asked for by their IDs, beside a record that is known to be
//! there (`proof`). Who comes after all proves the listing wrong: then nothing is deleted.
//! Who does not come gets a tombstone, with the time of that question; content and children
//! stay. When a record is seen again, whoever sees it brings it back to life.
//!
//! A webhook that has lost its rights sees the same as one whose records were deleted. So a
//! sweep that would delete more than it may unasked stops, keeps the set, and waits for a
//! person.
//!
//! Progress is stored with what it stands for, so a sweep that was killed goes on where it
//! was. Only the confirmations are asked for again: they are about now.

mod ask;
mod proof;
mod range;

pub(super) use self::{
    proof::allowance,
    range::{Key, Listed, Listing, Wanted},
};

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use self::{
    ask::Round,
    proof::CANDIDATES,
    range::{Difference, Own},
};
use super::{
    SyncError, counted,
    ending::Findings,
    mirror::{Brought, Entry, Mirror, Tally},
    room::Memory,
};
use crate::{
    entity::{RecordId, decode::Decoded},
    portal::{Lane, MAX_COMMANDS},
    store::{Confirmed, MirrorKey, Progress, RunKind, Store, SweepProgress, SweepStep, Verdict},
};

/// A sweep that began longer ago begins anew: what it has compared is too old to be called
/// complete.
const RESUMABLE: TimeDelta = TimeDelta::hours(24);

/// Records of the mirror that are compared at once.
const OWN_AT_ONCE: u32 = 10_000;

/// Records of one request, all its pages full.
const LONGEST: u32 = 2_500;

/// Candidates of one request.
const ASKED_AT_ONCE: u32 = 2_450;
const _: () = assert!(ASKED_AT_ONCE as usize == CANDIDATES * MAX_COMMANDS);

/// Tombstones that are set in one transaction.
const DELETED_AT_ONCE: u32 = 2_000;

/// How a sweep ended.
enum End {
    Complete(String),
    /// It would have deleted too much.
    Refused(String),
}

/// A sweep at work.
struct Sweeper<'a> {
    mirror: &'a Mirror,
    lane: Lane,
    tally: Tally,
    entry: Entry,
    /// Records that the portal has listed.
    listed: i64,
    /// Those that it lists and that have been forgotten; counted anew after a restart.
    forgotten: i64,
}

impl Mirror {
    /// Sweeps, or deletes what an earlier sweep refused to delete.
    ///
    /// # Errors
    /// [`SyncError`] when it could not come to its end; what it has found is stored.
    pub(super) async fn sweep(
        &self,
        lane: Lane,
        accept: Option<i64>,
    ) -> Result<Findings, SyncError> {
        let entry = self.begin_run(RunKind::Sweep, self.portal().meter()).await?;
        let tally = Tally::default();
        let mut sweeper = Sweeper { mirror: self, lane, tally, entry, listed: 0, forgotten: 0 };
        let ended = match accept {
            None => sweeper.sweep().await,
            Some(run) => sweeper.accept(run).await,
        };
        let Sweeper { tally, entry, .. } = sweeper;
        let (verdict, told) = match ended {
            Ok(End::Complete(told)) => (Verdict::Complete, told),
            Ok(End::Refused(why)) => (Verdict::Stopped, why),
            Err(error) => {
                self.finish_run(entry, tally, Some(&error)).await;
                return Err(error);
            }
        };
        self.finish_run_as(entry, tally, verdict, Some(&told)).await;
        Ok(Findings { verdict, differs: false, line: told, result: None })
    }
}

impl Sweeper<'_> {
    const fn store(&self) -> &Store {
        self.mirror.store()
    }

    async fn sweep(&mut self) -> Result<End, SyncError> {
        let (entity, generation) = (self.mirror.entity(), self.mirror.generation());
        let mut progress = self.store().open_sweep(generation, entity, RESUMABLE).await?;
        if let Err(error) = self.list(&mut progress).await {
            if matches!(error, SyncError::Unproven { .. }) {
                // From where it stands it may never get any further.
                self.store().drop_sweep(generation, entity).await?;
            }
            return Err(error);
        }
        self.listed = progress.rows;
        if let Some(refused) = self.confirm().await? {
            return Ok(refused);
        }
        loop {
            self.count_run();
            let deleting =
                self.store().delete_confirmed(generation, entity, DELETED_AT_ONCE, &self.entry.run);
            let (done, deleted) = deleting.await?;
            self.tally.deleted += deleted;
            if done == 0 {
                break;
            }
        }
        self.store().complete_sweep(generation, entity).await?;
        let Tally { inserted, updated, deleted, .. } = self.tally;
        Ok(End::Complete(format!(
            "{} listed, {inserted} new, {updated} changed, {deleted} deleted{}",
            self.listed,
            self.tally.told_notes()
        )))
    }

    /// Lists every ID that has not been listed yet, and compares. What is newer than the
    /// newest record of the first answer is the incremental cycle's: where records come faster
    /// than they are listed, there would be no end.
    async fn list(&mut self, progress: &mut SweepProgress) -> Result<(), SyncError> {
        let (mirror, entity) = (self.mirror, self.mirror.entity());
        let mut listing = Listing::above(progress.cursor);
        let mut delays = mirror.retry().delays();
        let mut contradicted = 0;
        let highest = async { Ok(self.store().highest(entity, mirror.sight()).await?) };
        let highest = mirror.unless_stopped(highest).await?;
        let mut end = None;
        while !progress.listed {
            let asked_at = mirror.now().await?;
            let (sight, cursor) = (mirror.sight(), listing.cursor());
            let counting =
                async { Ok(self.store().records_above(entity, sight, cursor, LONGEST).await?) };
            let own_above = mirror.unless_stopped(counting).await?;
            let wanted = listing.wanted(own_above, mirror.longest_key_chain(self.lane));
            let asked = Wanted { newest: wanted.newest || end.is_none(), ..wanted };
            let keys = mirror.list_keys(self.lane, asked).await?;
            let newest = || keys.newest.as_ref()?.keys.first().map(|(id, _)| *id);
            end = end.or_else(|| newest().max(newest().and(highest)));
            let listed = listing
                .take(&keys.pages, keys.newest.as_ref().filter(|_| wanted.newest))
                .map_err(|source| SyncError::Mismatch { entity: entity.name, source })?;
            let mut shown = keys.pages.iter().chain(&keys.newest);
            let listed = match listed {
                None if wanted.newest
                    && shown.all(|page| page.rows == 0)
                    && mirror.counts_none(self.lane).await? =>
                {
                    Some(listing.end_empty())
                }
                listed => listed,
            };
            let Some(mut listed) = listed else {
                if wanted.newest {
                    contradicted += 1;
                    if contradicted > mirror.retry().attempts() {
                        return Err(mirror.unproven(
                            "the portal lists nothing above a record, and from the other end it \
                             lists records there",
                        ));
                    }
                    mirror.rest(delays.next_delay()).await?;
                }
                continue;
            };
            contradicted = 0;
            delays.reset();
            let left_out = mirror.leave_out_forgotten(&mut listed.keys, |(id, _)| *id);
            self.forgotten += i64::try_from(left_out.len()).unwrap_or(i64::MAX);
            progress.cursor = listing.cursor();
            let through = end.is_some_and(|end| listing.cursor() >= end);
            progress.listed = listing.ended() || through;
            progress.asked_at = Some(asked_at);
            progress.rows += i64::try_from(listed.keys.len()).unwrap_or(i64::MAX);
            self.tally.read += listed.keys.len() as u64;
            self.take(asked_at, &listed, progress).await?;
        }
        Ok(())
    }

    /// Compares a range with the mirror, brings what is missing here, and stores what is
    /// missing there and how far the sweep has come with it, all in one transaction.
    async fn take(
        &mut self,
        asked_at: DateTime<Utc>,
        listed: &Listed,
        progress: &SweepProgress,
    ) -> Result<(), SyncError> {
        let Difference { fetch, stale, mut gone } = self.compare(asked_at, listed).await?;
        let (asked_at, rows) =
            if fetch.is_empty() { (asked_at, Vec::new()) } else { self.fetch(&fetch).await? };
        let came: BTreeSet<RecordId> = rows.iter().filter_map(Decoded::id).collect();
        // Listed a moment ago, and not there any more.
        gone.extend(stale.into_iter().filter(|id| !came.contains(id)));
        let step = SweepStep { progress, missing: &gone };
        self.write(asked_at, rows, Progress::Sweep(step)).await
    }

    async fn compare(
        &self,
        asked_at: DateTime<Utc>,
        listed: &Listed,
    ) -> Result<Difference, SyncError> {
        let mut difference = Difference::default();
        let (mut after, mut keys): (RecordId, &[Key]) = (listed.after, &listed.keys);
        loop {
            let (store, entity, sight) = (self.store(), self.mirror.entity(), self.mirror.sight());
            let reading = async {
                let (up_to, at_most) = (listed.up_to, OWN_AT_ONCE);
                Ok(store.mirror_keys(entity, sight, after, up_to, asked_at, at_most).await?)
            };
            let own: Vec<Own> =
                self.mirror.unless_stopped(reading).await?.into_iter().map(Own::from).collect();
            let all = own.len() < OWN_AT_ONCE as usize;
            let last = own.last().filter(|_| !all).map(|own| own.id);
            let here = keys.partition_point(|(id, _)| last.is_none_or(|last| *id <= last));
            let (here, rest) = keys.split_at(here);
            difference.add(Difference::between(here, &own));
            match last {
                None => return Ok(difference),
                Some(last) => (after, keys) = (last, rest),
            }
        }
    }

    /// Reads records in full that the portal has just listed. Those that do not come have
    /// to be proven to be gone: a page that comes empty by a fault would lose them.
    async fn fetch(&self, ids: &[RecordId]) -> Result<(DateTime<Utc>, Vec<Decoded>), SyncError> {
        let mirror = self.mirror;
        let asked_at = mirror.now().await?;
        let mut trust = Trust::new(mirror);
        let (mut rows, mut left) = (Vec::new(), ids.to_vec());
        while !left.is_empty() {
            let read = mirror.unless_stopped(mirror.reader().given(self.lane, &left)).await?;
            let came: BTreeSet<RecordId> = read.iter().filter_map(Decoded::id).collect();
            rows.extend(read);
            left.retain(|id| !came.contains(id));
            let part = &left[..left.len().min(ASKED_AT_ONCE as usize)];
            if part.is_empty() {
                break;
            }
            let round = match mirror.ask_for(self.lane, part).await? {
                Some(round) => round,
                None => self.empty_portal(part.to_vec()).await?,
            };
            left.retain(|id| !round.proven.gone.contains(id));
            let doubt = round.doubt.or_else(|| {
                let there = round.proven.there.first()?;
                Some(format!("the portal lists record {there} and does not deliver it"))
            });
            let progressed = !came.is_empty() || !round.proven.gone.is_empty();
            trust.weigh(doubt.filter(|_| !progressed)).await?;
        }
        Ok((asked_at, rows))
    }

    async fn write(
        &mut self,
        asked_at: DateTime<Utc>,
        rows: Vec<Decoded>,
        progress: Progress<'_>,
    ) -> Result<(), SyncError> {
        self.count_run();
        let rows = Brought { asked_at, rows, memory: Memory::default() };
        let writing = self.mirror.write(self.lane, rows, progress, Some(&self.entry.run));
        let written = writing.await?;
        self.tally += written;
        Ok(())
    }

    fn count_run(&mut self) {
        self.entry.count(&self.tally, self.mirror.portal().meter());
    }

    /// Has every candidate confirmed. Gives how the sweep ended if it would delete too much.
    async fn confirm(&mut self) -> Result<Option<End>, SyncError> {
        let (entity, generation) = (self.mirror.entity(), self.mirror.generation());
        let mut trust = Trust::new(self.mirror);
        loop {
            let store = self.store();
            let reading = async { Ok(store.unconfirmed(entity, ASKED_AT_ONCE).await?) };
            let candidates = self.mirror.unless_stopped(reading).await?;
            if candidates.is_empty() {
                break;
            }
            let round = match self.mirror.ask_for(self.lane, &candidates).await? {
                Some(round) => round,
                None if self.mirror.counts_none(self.lane).await? => {
                    return self.refuse("the portal lists no record any more").await.map(Some);
                }
                None => Round::without_witness(self.mirror.now().await?),
            };
            if !round.proven.there.is_empty() {
                let left_out = counted(round.proven.there.len(), "record");
                self.revive(&round.proven.there).await?;
                self.store().drop_sweep(generation, entity).await?;
                return Err(self.mirror.unproven(format!(
                    "the portal's list left out {left_out} that it returned when asked \
                     for by ID, so nothing was deleted; the next sweep lists everything again"
                )));
            }
            self.store().settle_candidates(generation, entity, settled(&round)).await?;
            trust.weigh(round.doubt()).await?;
        }
        let gone = self.store().confirmed_gone(entity).await?;
        if gone <= allowance(0, 0.0) {
            return Ok(None);
        }
        let live = self.store().live(entity, self.mirror.sight()).await?;
        let allowed = allowance(live, self.mirror.checks().max_delete_share);
        if gone <= allowed {
            return Ok(None);
        }
        self.refuse(&format!(
            "{gone} of {live} records are gone, and a sweep deletes no more than {allowed} unasked"
        ))
        .await
        .map(Some)
    }

    /// Ends the sweep without deleting anything, and says what a person has to know.
    async fn refuse(&mut self, what: &str) -> Result<End, SyncError> {
        let (entity, generation) = (self.mirror.entity(), self.mirror.generation());
        let counted = self.mirror.count_records(self.lane).await?;
        let live = self.store().live(entity, self.mirror.sight()).await?;
        let (run, name) = (self.entry.run.id(), entity.name);
        let counted = counted.and_then(|counted| i64::try_from(counted).ok());
        let counted = counted.map(|counted| (counted - self.forgotten).max(0));
        if let Some(counted) = counted
            && (live - counted) * 2 < self.store().confirmed_gone(entity).await?
        {
            self.store().drop_sweep(generation, entity).await?;
            return Err(self.mirror.unproven(format!(
                "{what}, but the portal counts {counted}: its list is not to be trusted, and \
                 nothing was deleted"
            )));
        }
        let seen = counted.map_or_else(String::new, |counted| {
            format!(
                " The webhook's user may see only {counted} of {live} records; lost read rights \
                 look exactly like this."
            )
        });
        let why = format!(
            "{what}; nothing was deleted.{seen} If they still are in the portal, give the webhook's \
             user back the right to read them, and sweep again; if they were deleted there, run \
             `b24mirror sweep {name} --accept {run}`"
        );
        self.store().refuse_sweep(generation, entity, &self.entry.run, &why).await?;
        Ok(End::Refused(why))
    }

    /// Deletes exactly what a run refused to delete, where it is still gone.
    async fn accept(&mut self, refused: i64) -> Result<End, SyncError> {
        let (entity, generation) = (self.mirror.entity(), self.mirror.generation());
        let standing = self.store().sweep_standing(entity).await?;
        let latest = standing.refused.map(|refusal| refusal.run);
        if latest != Some(refused) {
            // A run number is given once, so it can be meant for another entity, which may have
            // been decided by now.
            let of = self.store().refused_entity(refused).await?;
            if of.is_some_and(|of| of != entity.name) {
                return Ok(End::Complete(format!("nothing to accept from run {refused}")));
            }
            return Err(SyncError::NothingRefused { entity: entity.name, run: refused, latest });
        }
        let mut trust = Trust::new(self.mirror);
        let mut dropped = 0;
        loop {
            let store = self.store();
            let reading =
                async { Ok(store.refused_records(entity, refused, ASKED_AT_ONCE).await?) };
            let accepted = self.mirror.unless_stopped(reading).await?;
            if accepted.is_empty() {
                break;
            }
            let round = match self.mirror.ask_for(self.lane, &accepted).await? {
                Some(round) => round,
                None => self.empty_portal(accepted).await?,
            };
            self.count_run();
            let deleting = self.store().delete_refused(
                generation,
                entity,
                refused,
                settled(&round),
                &self.entry.run,
            );
            let deleted = deleting.await?;
            self.tally.deleted += deleted;
            dropped += round.proven.there.len();
            self.revive(&round.proven.there).await?;
            trust.weigh(round.doubt()).await?;
        }
        self.store().settle_refusal(generation, entity, refused).await?;
        let back = match dropped {
            0 => String::new(),
            dropped => format!(", {dropped} are there again and stay"),
        };
        Ok(End::Complete(format!(
            "{} deleted that run {refused} had refused to delete{back}",
            self.tally.deleted
        )))
    }

    /// Nothing can stand witness in a portal without records. Either a person has accepted
    /// that all are gone, or nothing is deleted by it; the portal has to say so in a second way.
    async fn empty_portal(&self, asked: Vec<RecordId>) -> Result<Round, SyncError> {
        let mut round = Round::without_witness(self.mirror.now().await?);
        if self.mirror.counts_none(self.lane).await? {
            round.proven.gone = asked;
        }
        Ok(round)
    }

    /// Reads records that are there after all, and so brings tombstones back to life.
    async fn revive(&mut self, there: &[RecordId]) -> Result<(), SyncError> {
        if there.is_empty() {
            return Ok(());
        }
        let (asked_at, rows) = self.fetch(there).await?;
        self.write(asked_at, rows, Progress::Nothing).await
    }
}

/// How often in a row the portal has proven nothing.
pub(super) struct Trust<'a> {
    mirror: &'a Mirror,
    delays: crate::retry::Delays,
    doubts: u32,
}

impl<'a> Trust<'a> {
    pub(super) fn new(mirror: &'a Mirror) -> Self {
        Self { mirror, delays: mirror.retry().delays(), doubts: 0 }
    }

    /// Waits before the next round when there is doubt about this one.
    ///
    /// # Errors
    /// [`SyncError::Unproven`] after too many in a row.
    pub(super) async fn weigh(&mut self, doubt: Option<String>) -> Result<(), SyncError> {
        let Some(doubt) = doubt else {
            self.doubts = 0;
            self.delays.reset();
            return Ok(());
        };
        self.doubts += 1;
        if self.doubts >= self.mirror.retry().attempts() {
            return Err(self.mirror.unproven(format!(
                "whether records are gone could not be confirmed, so they were not deleted: \
                 {doubt}"
            )));
        }
        self.mirror.rest(self.delays.next_delay()).await
    }
}

fn settled(round: &Round) -> Confirmed<'_> {
    let Round { asked_at, proven, .. } = round;
    Confirmed { asked_at: *asked_at, gone: &proven.gone, there: &proven.there }
}

impl From<MirrorKey> for Own {
    fn from(key: MirrorKey) -> Self {
        let MirrorKey { id, modified, deleted, newer } = key;
        Self { id, modified, deleted, newer }
    }
}
