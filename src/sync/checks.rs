//! The checks that prove a mirror equal to its portal, or make it so: how each is
//! performed, and what the schedule wants of them.

use std::time::Duration;

use super::{
    SyncError,
    ending::Findings,
    mirror::Mirror,
    work::{Level, Selection, Work},
};
use crate::{entity::RecordId, portal::Lane, store::RunKind};

/// A share of the rolling check is due so often: a little at a time, around the clock.
pub(super) const ROLLING_EVERY: Duration = Duration::from_hours(1);

/// What the checks need to know of the settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckOptions {
    /// Between the starts of two sweeps.
    pub sweep_interval: Duration,
    /// The largest share of the live records that a sweep may delete unasked, 0 to 1.
    pub max_delete_share: f64,
    /// Within which time the content of every record is compared once; `None`: never.
    pub rolling_check: Option<Duration>,
    /// How long runs and resolved quarantine notes are kept.
    pub keep_runs: Duration,
}

impl Default for CheckOptions {
    /// As the settings' defaults are.
    fn default() -> Self {
        let day = Duration::from_hours(24);
        Self {
            sweep_interval: day,
            max_delete_share: 0.02,
            rolling_check: Some(day * 7),
            keep_runs: day * 90,
        }
    }
}

/// A check of one entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Check {
    /// See [`Work::Sweep`].
    Sweep { accept: Option<i64> },
    /// See [`Work::Verify`].
    Verify { level: Level, repair: bool },
    /// See [`Work::Refresh`].
    Refresh(Selection),
    /// See [`Work::Forget`]. No check, but done like one: in its turn, and not by the schedule.
    Forget(Vec<RecordId>),
    /// Compares the content of the next share of all records.
    Rolling,
}

impl Check {
    /// The check that a person asked for; `None` for work that is no check.
    pub(super) fn of(work: &Work) -> Option<Self> {
        match work {
            Work::Backfill { .. } | Work::Sync => None,
            Work::Sweep { accept } => Some(Self::Sweep { accept: *accept }),
            Work::Verify { level, repair } => Some(Self::Verify { level: *level, repair: *repair }),
            Work::Refresh { records } => Some(Self::Refresh(records.clone())),
            Work::Forget { records } => Some(Self::Forget(records.clone())),
        }
    }

    /// What kind of run it leaves in the log.
    pub(super) const fn kind(&self) -> RunKind {
        match self {
            Self::Sweep { .. } => RunKind::Sweep,
            Self::Verify { .. } => RunKind::Verify,
            // Forgetting leaves none, for its counts would be all that is known of a record.
            Self::Refresh(_) | Self::Forget(_) => RunKind::Refresh,
            Self::Rolling => RunKind::RollingCheck,
        }
    }

    /// Whether it says nothing as long as records are still to be read for the first time.
    pub(super) const fn needs_a_filled_mirror(&self) -> bool {
        !matches!(self, Self::Refresh(_) | Self::Forget(_))
    }
}

impl Mirror {
    /// Performs a check to its end.
    ///
    /// # Errors
    /// [`SyncError::NeverBackfilled`] and [`SyncError::NotFilled`] when it would prove
    /// nothing yet; others when it could not come to its end.
    pub(super) async fn check(&self, lane: Lane, check: &Check) -> Result<Findings, SyncError> {
        if self.entity().is_read_whole() {
            return Box::pin(self.check_whole(lane, check)).await;
        }
        self.refuse_unready(check).await?;
        let (entity, kind) = (self.entity().name, check.kind().as_str());
        tracing::debug!(entity, kind, ?lane, "a check begins");
        // Boxed: whoever waits for a check need not have room for the largest of them.
        match check {
            Check::Sweep { accept } => Box::pin(self.sweep(lane, *accept)).await,
            Check::Verify { level, repair } => Box::pin(self.verify(lane, *level, *repair)).await,
            Check::Refresh(selection) => Box::pin(self.refresh(lane, selection)).await,
            Check::Forget(records) => self.forget(records).await,
            Check::Rolling => Box::pin(self.rolling_check(lane)).await,
        }
    }

    /// Refuses a check that would prove nothing yet.
    ///
    /// # Errors
    /// [`SyncError::NeverBackfilled`], [`SyncError::NotFilled`].
    pub(super) async fn refuse_unready(&self, check: &Check) -> Result<(), SyncError> {
        let entity = self.entity().name;
        if matches!(check, Check::Forget(_)) {
            return Ok(());
        }
        if self.checkpoint().await?.is_none() {
            return Err(SyncError::NeverBackfilled { entity });
        }
        if check.needs_a_filled_mirror() && !self.is_filled().await? {
            return Err(SyncError::NotFilled { entity });
        }
        Ok(())
    }

    /// Whether every record has been read as records are mapped now.
    pub(super) async fn is_filled(&self) -> Result<bool, SyncError> {
        let fingerprint = self.fingerprint();
        let checkpoint = self.checkpoint().await?;
        Ok(checkpoint.is_some_and(|checkpoint| checkpoint.fingerprint == fingerprint)
            && self.segments().await?.iter().all(|segment| segment.done))
    }
}
