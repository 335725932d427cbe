//! Who has gone from a list that is read as a whole.

use chrono::TimeDelta;

use super::Seen;
use crate::{
    entity::RecordId,
    portal::Lane,
    store::{Batch, Confirmed, Progress, RunKind, SweepProgress, SweepStep, Verdict},
    sync::{
        SyncError,
        ending::Findings,
        mirror::{Entry, Mirror, Tally},
        sweep::allowance,
    },
};

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
}

impl Mirror {
    /// Sweeps, or deletes what an earlier sweep refused to delete.
    pub(super) async fn sweep_whole(
        &self,
        lane: Lane,
        accept: Option<i64>,
    ) -> Result<Findings, SyncError> {
        let entry = self.begin_run(RunKind::Sweep, self.portal().meter()).await?;
        let mut sweeper = Sweeper { mirror: self, lane, tally: Tally::default(), entry };
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
    async fn sweep(&mut self) -> Result<End, SyncError> {
        let (store, generation) = (self.mirror.store(), self.mirror.generation());
        let entity = self.mirror.entity();
        let progress = store.open_sweep(generation, entity, TimeDelta::zero()).await?;
        let ended = self.find_gone(progress).await;
        match &ended {
            Ok(End::Complete(_)) => store.complete_sweep(generation, entity).await?,
            // A refusal has ended it.
            Ok(End::Refused(_)) => {}
            Err(_) => store.drop_sweep(generation, entity).await?,
        }
        ended
    }

    async fn find_gone(&mut self, progress: SweepProgress) -> Result<End, SyncError> {
        let (mirror, entity) = (self.mirror, self.mirror.entity());
        let first = self.read().await?;
        let listed = first.shown.len();
        let missing = mirror.missing(&first).await?;
        if !missing.is_empty() {
            self.refuse_nameless(&first)?;
            self.note(progress, &first, &missing).await?;
            let second = self.read().await?;
            self.refuse_nameless(&second)?;
            let (mut there, gone): (Vec<RecordId>, Vec<RecordId>) =
                missing.into_iter().partition(|id| second.shown.contains(id));
            let (staying, gone) = self.without_unlisted(gone).await?;
            there.extend(staying);
            let confirmed = Confirmed { asked_at: second.asked_at, gone: &gone, there: &there };
            mirror.store().settle_candidates(mirror.generation(), entity, confirmed).await?;
            if let Some(refused) = self.guard(&second).await? {
                return Ok(refused);
            }
            self.delete().await?;
        }
        let Tally { inserted, updated, deleted, .. } = self.tally;
        Ok(End::Complete(format!(
            "{listed} listed, {inserted} new, {updated} changed, {deleted} deleted{}",
            self.tally.told_notes()
        )))
    }

    /// Tells those who are there although they are not listed from those who have gone.
    async fn without_unlisted(
        &mut self,
        gone: Vec<RecordId>,
    ) -> Result<(Vec<RecordId>, Vec<RecordId>), SyncError> {
        let (mirror, run) = (self.mirror, self.entry.run.clone());
        let unlisted = mirror.search(self.lane, &gone, &run).await?;
        self.tally += mirror.store_found(&unlisted, &run).await?;
        Ok(gone.into_iter().partition(|id| unlisted.stays(*id)))
    }

    async fn read(&mut self) -> Result<Seen, SyncError> {
        self.entry.count(&self.tally, self.mirror.portal().meter());
        let mut tally = Tally::default();
        let seen = self.mirror.read_and_store(self.lane, Some(&self.entry.run), &mut tally).await;
        self.tally += tally;
        seen
    }

    /// Whoever is missing may be one of the rows that have no usable ID.
    fn refuse_nameless(&self, seen: &Seen) -> Result<(), SyncError> {
        match seen.nameless {
            0 => Ok(()),
            rows => Err(self.mirror.incomplete(format!(
                "{rows} rows have no usable ID and may be those that are missing, so nothing was \
                 deleted; see `sync_quarantine`"
            ))),
        }
    }

    /// Stores who is missing from a first complete reading.
    async fn note(
        &self,
        progress: SweepProgress,
        seen: &Seen,
        missing: &[RecordId],
    ) -> Result<(), SyncError> {
        let rows = i64::try_from(seen.shown.len()).unwrap_or(i64::MAX);
        let progress =
            SweepProgress { listed: true, rows, asked_at: Some(seen.asked_at), ..progress };
        let batch = Batch {
            entity: self.mirror.entity(),
            generation: self.mirror.generation(),
            asked_at: seen.asked_at,
            records: Vec::new(),
            rejects: Vec::new(),
            progress: Progress::Sweep(SweepStep { progress: &progress, missing }),
            run: None,
        };
        self.mirror.store().write(batch).await?;
        Ok(())
    }

    /// Refuses to delete more than a sweep may unasked, and the last ones above all.
    async fn guard(&self, seen: &Seen) -> Result<Option<End>, SyncError> {
        let (mirror, entity) = (self.mirror, self.mirror.entity());
        let gone = mirror.store().confirmed_gone(entity).await?;
        let live = mirror.store().counts(entity).await?.live;
        let allowed = allowance(live, mirror.checks().max_delete_share);
        let what = if gone > 0 && seen.shown.is_empty() {
            format!("the address book came empty, and {live} entries were known")
        } else if gone > allowed {
            format!(
                "{gone} of {live} entries are gone, and a sweep deletes no more than {allowed} \
                 unasked"
            )
        } else {
            return Ok(None);
        };
        let (run, name) = (self.entry.run.id(), entity.name);
        let why = format!(
            "{what}; nothing was deleted. A webhook of another user has another address book, and \
             looks exactly like this. If they were removed there, run \
             `b24mirror sweep {name} --accept {run}`"
        );
        mirror.store().refuse_sweep(mirror.generation(), entity, &self.entry.run, &why).await?;
        Ok(Some(End::Refused(why)))
    }

    async fn delete(&mut self) -> Result<(), SyncError> {
        let (mirror, entity) = (self.mirror, self.mirror.entity());
        loop {
            self.entry.count(&self.tally, mirror.portal().meter());
            let (store, run) = (mirror.store(), &self.entry.run);
            let deleting =
                store.delete_confirmed(mirror.generation(), entity, DELETED_AT_ONCE, run);
            let (done, deleted) = deleting.await?;
            self.tally.deleted += deleted;
            if done == 0 {
                return Ok(());
            }
        }
    }

    /// Deletes exactly what a run refused to delete, where it is still gone.
    async fn accept(&mut self, refused: i64) -> Result<End, SyncError> {
        let (mirror, entity) = (self.mirror, self.mirror.entity());
        let (store, generation) = (mirror.store(), mirror.generation());
        let latest = store.sweep_standing(entity).await?.refused.map(|refusal| refusal.run);
        if latest != Some(refused) {
            let of = store.refused_entity(refused).await?;
            if of.is_some_and(|of| of != entity.name) {
                return Ok(End::Complete(format!("nothing to accept from run {refused}")));
            }
            return Err(SyncError::NothingRefused { entity: entity.name, run: refused, latest });
        }
        let seen = self.read().await?;
        self.refuse_nameless(&seen)?;
        let mut back = 0;
        loop {
            let accepted = store.refused_records(entity, refused, DELETED_AT_ONCE).await?;
            if accepted.is_empty() {
                break;
            }
            let (mut there, gone): (Vec<RecordId>, Vec<RecordId>) =
                accepted.into_iter().partition(|id| seen.shown.contains(id));
            let (staying, gone) = self.without_unlisted(gone).await?;
            there.extend(staying);
            back += there.len();
            let confirmed = Confirmed { asked_at: seen.asked_at, gone: &gone, there: &there };
            self.entry.count(&self.tally, mirror.portal().meter());
            let run = &self.entry.run;
            let deleting = store.delete_refused(generation, entity, refused, confirmed, run);
            self.tally.deleted += deleting.await?;
        }
        store.settle_refusal(generation, entity, refused).await?;
        let back = match back {
            0 => String::new(),
            back => format!(", {back} are there again and stay"),
        };
        Ok(End::Complete(format!(
            "{} deleted that run {refused} had refused to delete{back}",
            self.tally.deleted
        )))
    }
}
