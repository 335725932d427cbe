//! `verify`: the mirror held against the portal.
//!
//! The portal's list is read from end to end, range by range, and each range is held
//! against the rows in it (`scan`; `counts` for the cheapest level). What seems to differ
//! is looked at again after an incremental cycle (`confirm`), so that what is on its way is
//! not reported; what a difference is, `compare` says. `repair` puts right what was found
//! and nothing else. `rolling` does all of that for a few pages at a time, for ever.

mod compare;
mod confirm;
mod counts;
mod repair;
mod report;
mod rolling;
mod scan;

use self::compare::Suspect;
pub use self::report::{Difference, Kind, RangeCount, Repaired, Verification};
pub(super) use self::{
    compare::{difference, version},
    confirm::as_shown,
};
use super::{
    Level, SyncError,
    ending::Findings,
    mirror::{Entry, Mirror, Tally},
    sweep::Listing,
};
use crate::{
    entity::RecordId,
    portal::Lane,
    store::{RunKind, Seen, Verdict},
};

/// So many suspects are looked at again at a time, which bounds what is kept in memory.
const BLOCK: usize = 10_000;

/// So many differences are told one by one; programs get them all.
const ROWS_TOLD: usize = 50;

/// Records that are asked for by their IDs at a time: what one request carries.
pub(super) const GIVEN: usize = 2_400;

/// A verification under way.
struct Comparison<'a> {
    mirror: &'a Mirror,
    lane: Lane,
    level: Level,
    repairing: bool,
    report: Verification,
    /// What seems to differ and is to be looked at again.
    suspects: Vec<Suspect>,
    /// Records that are extra and are to be deleted, once it is known how many they are.
    extra: Vec<Seen>,
    /// How often in a row the two ends of the portal's list have contradicted each other.
    contradicted: u32,
    tally: Tally,
    entry: Entry,
}

impl Mirror {
    /// Holds the mirror against the portal, and repairs what differs if that is wanted.
    ///
    /// # Errors
    /// [`SyncError`] when not everything could be looked at; then nothing is claimed.
    pub(super) async fn verify(
        &self,
        lane: Lane,
        level: Level,
        repair: bool,
    ) -> Result<Findings, SyncError> {
        let mut comparison = self.comparison(RunKind::Verify, lane, level, repair).await?;
        let outcome = Box::pin(comparison.all()).await;
        comparison.finish(outcome).await
    }

    async fn comparison(
        &self,
        kind: RunKind,
        lane: Lane,
        level: Level,
        repairing: bool,
    ) -> Result<Comparison<'_>, SyncError> {
        let entry = self.begin_run(kind, self.portal().meter()).await?;
        let mut report = Verification::new(self.entity().name, level);
        report.repaired = repairing.then(Repaired::default);
        Ok(Comparison {
            mirror: self,
            lane,
            level,
            repairing,
            report,
            suspects: Vec::new(),
            extra: Vec::new(),
            contradicted: 0,
            tally: Tally::default(),
            entry,
        })
    }
}

/// What a comparison that came to its end has found, and what of it the log keeps.
pub(super) fn findings(report: &Verification) -> (Findings, Option<String>) {
    let verdict = if report.moving == 0 { Verdict::Complete } else { Verdict::Incomplete };
    let mut line = report.line();
    let table = report.table(ROWS_TOLD);
    if !table.is_empty() {
        line.push_str("\n  ");
        line.push_str(&table.join("\n  "));
    }
    let message = (!table.is_empty() || report.moving > 0).then(|| line.clone());
    let result = serde_json::to_value(report).ok();
    (Findings { verdict, differs: !report.is_equal(), line, result }, message)
}

impl Comparison<'_> {
    /// Closes the run with how the comparison ended.
    async fn finish(self, outcome: Result<(), SyncError>) -> Result<Findings, SyncError> {
        let Self { mirror, report, tally, entry, .. } = self;
        if let Err(error) = outcome {
            mirror.finish_run(entry, tally, Some(&error)).await;
            return Err(error);
        }
        let (found, message) = findings(&report);
        mirror.finish_run_as(entry, tally, found.verdict, message.as_deref()).await;
        Ok(found)
    }

    async fn all(&mut self) -> Result<(), SyncError> {
        if self.level == Level::Counts {
            let ranges = self.count().await?;
            if !ranges.is_empty() {
                let end = self.end().await?;
                // An answer may reach into the next range.
                let mut reached = RecordId::ZERO;
                for range in ranges {
                    let after = range.after.max(reached);
                    reached = self.through(after, range.up_to.or(end)).await?;
                }
            }
        } else {
            let end = self.end().await?;
            self.through(RecordId::ZERO, end).await?;
        }
        self.confirm().await?;
        if self.mirror.store().has_forgotten() {
            // What the portal counted beyond ours may have been forgotten, and nothing else.
            self.report.ranges.retain(|range| range.portal != range.mirror);
        }
        self.delete_extra().await
    }

    /// The highest ID of both sides, if there is any. A list that grows while it is read
    /// may never come to an end; what is above this is new, and no concern of a comparison.
    async fn end(&self) -> Result<Option<RecordId>, SyncError> {
        let mirror = self.mirror;
        let (newest, _) = mirror.newest(self.lane).await?;
        let reading = async { Ok(mirror.store().highest(mirror.entity(), mirror.sight()).await?) };
        let highest = mirror.unless_stopped(reading).await?;
        Ok(newest.first().copied().max(highest))
    }

    /// Compares every ID above one, or at least up to another. Returns how far it came.
    async fn through(
        &mut self,
        after: RecordId,
        up_to: Option<RecordId>,
    ) -> Result<RecordId, SyncError> {
        let mut listing = Listing::above(after);
        while !listing.ended() && up_to.is_none_or(|up_to| listing.cursor() < up_to) {
            let longest = match self.level {
                Level::Full => self.mirror.reader().longest_chain(self.lane),
                Level::Counts | Level::Ids => self.mirror.longest_key_chain(self.lane),
            };
            self.look(&mut listing, longest).await?;
            if self.suspects.len() >= BLOCK {
                self.confirm().await?;
            }
        }
        Ok(listing.cursor())
    }
}
