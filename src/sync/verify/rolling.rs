//! The rolling check: the content of every record compared, and repaired where it differs,
//! within a set time. Some changes never move `DATE_MODIFY`, and nothing else finds them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Comparison, Kind, Level};
use crate::{
    entity::RecordId,
    portal::{Lane, PAGE_ROWS},
    store::{RollingRound, RunKind},
    sync::{SyncError, checks::ROLLING_EVERY, ending::Findings, mirror::Mirror, sweep::Listing},
};

/// The longest chain of a step: small, so that nobody waits for it.
const PAGES: usize = 10;

impl Mirror {
    /// Compares and repairs as many records as are due by now.
    ///
    /// # Errors
    /// [`SyncError`]; what has been compared until then stays so.
    pub(in crate::sync) async fn rolling_check(&self, lane: Lane) -> Result<Findings, SyncError> {
        let entity = self.entity();
        let reading = async {
            let (round, now) = self.store().rolling_round(entity).await?;
            Ok((round, now, self.store().live(entity, self.sight()).await?))
        };
        let (round, now, live) = self.unless_stopped(reading).await?;
        let mut round = round.unwrap_or(RollingRound {
            started_at: now,
            cursor: RecordId::ZERO,
            compared: 0,
            different: 0,
        });
        let within = self.checks().rolling_check.unwrap_or(Duration::MAX);
        let live = u64::try_from(live).unwrap_or(0);
        let due = due(&round, now, within, ROLLING_EVERY, live);
        let mut comparison =
            self.comparison(RunKind::RollingCheck, lane, Level::Full, true).await?;
        let outcome = comparison.share(&mut round, due).await;
        comparison.finish(outcome).await
    }
}

impl Comparison<'_> {
    /// Goes on with a round until so many records have been compared in it.
    async fn share(&mut self, round: &mut RollingRound, due: u64) -> Result<(), SyncError> {
        let (store, entity, generation) =
            (self.mirror.store(), self.mirror.entity(), self.mirror.generation());
        if round.compared >= due {
            return Ok(());
        }
        let before = *round;
        let end = self.end().await?;
        let mut listing = Listing::above(round.cursor);
        let through =
            |listing: &Listing| listing.ended() || end.is_some_and(|end| listing.cursor() >= end);
        while !through(&listing) && round.compared < due {
            let longest = self.mirror.reader().longest_chain(self.lane).min(PAGES);
            let left = usize::try_from(due - round.compared).unwrap_or(usize::MAX);
            self.look(&mut listing, longest.min(left.div_ceil(PAGE_ROWS))).await?;
            // Before the progress that says that it is done.
            self.confirm().await?;
            self.leave_extra_to_the_sweep();
            round.cursor = listing.cursor();
            round.compared = before.compared + self.report.compared;
            round.different = before.different + self.report.different;
            store.save_rolling(generation, entity, round).await?;
        }
        if through(&listing) {
            store.complete_rolling(generation, entity).await?;
            tracing::info!(
                entity = entity.name,
                compared = round.compared,
                different = round.different,
                "a round of the rolling check is complete"
            );
        }
        Ok(())
    }
}

impl Comparison<'_> {
    /// A share of the IDs does not show how many records are extra altogether, and lost
    /// read rights look like deletions.
    fn leave_extra_to_the_sweep(&mut self) {
        self.extra.clear();
        let extra = self.report.kinds(Kind::Extra);
        if let (1.., Some(repaired)) = (extra, &mut self.report.repaired) {
            repaired.refused = Some(format!("{extra} extra, left to the next sweep"));
        }
    }
}

/// How many records have to be compared in this round until the next share is due, as a
/// round takes `within` and shares come `every` so often.
fn due(
    round: &RollingRound,
    now: DateTime<Utc>,
    within: Duration,
    every: Duration,
    live: u64,
) -> u64 {
    let elapsed = (now - round.started_at).max(TimeDelta::zero()).to_std().unwrap_or_default();
    let part = (elapsed + every).as_secs_f64() / within.as_secs_f64().max(1.0);
    if part >= 1.0 {
        // To the end, however many there are by now.
        return u64::MAX;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a number of records"
    )]
    let records = (live as f64 * part).ceil() as u64;
    // An empty mirror is held against the portal, too.
    records.max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const WEEK: Duration = Duration::from_hours(7 * 24);

    fn round(compared: u64) -> RollingRound {
        let started_at = DateTime::UNIX_EPOCH;
        RollingRound { started_at, cursor: RecordId::ZERO, compared, different: 0 }
    }

    #[test]
    fn a_share_is_small_and_what_was_missed_is_made_up_for() {
        let at = |hours| {
            due(&round(0), DateTime::UNIX_EPOCH + TimeDelta::hours(hours), WEEK, HOUR, 168_000)
        };
        assert_eq!(at(0), 1_000);
        assert_eq!(at(1), 2_000);
        assert_eq!(at(83), 84_000);
        assert_eq!(at(167), u64::MAX);
        assert_eq!(at(1_000), u64::MAX);
        // A clock that fell back asks for no more than the first share.
        assert_eq!(at(-5), 1_000);
    }

    proptest! {
        /// Whatever the table's size: who works off what is due each time is through in time.
        #[test]
        fn a_round_is_over_in_time(live in 0_u64..3_000_000, hours in 1_u64..400) {
            let within = HOUR * u32::try_from(hours).unwrap();
            let mut last = 0;
            for hour in 0..hours {
                let now = DateTime::UNIX_EPOCH + TimeDelta::hours(hour.cast_signed());
                let share = due(&round(0), now, within, HOUR, live);
                prop_assert!(share >= last);
                last = share;
            }
            prop_assert_eq!(last, u64::MAX);
        }
    }
}
