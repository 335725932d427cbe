//! The work: what is read when, and what may be concluded from it.
//!
//! # Passes
//! A pass pages by ID. The order of IDs never changes, whereas the order of
//! modification times changes while it is being read, so paging by ID sees every
//! record that stays exactly once (`pass`). An ID range is read as a chain of pages
//! in one batch request; each page is held against its own question before a row of
//! it is used.
//!
//! A **backfill** reads every ID up to the highest that existed when it began, in several
//! chains at once (`segments`). Before its first page it stores the watermark, so that the
//! **incremental cycles**, which run beside it from then on, miss nothing that happens
//! meanwhile.
//!
//! # The incremental cycle
//! Two scans with one boundary: what was *modified* after the floor, up to the
//! boundary; and what is *new* above it, whatever its date, because restored and
//! imported records come with old dates. The portal stores whole seconds of local
//! time, sets them before it saves, and may show a record seconds later than its own
//! date. Hence an overlap of minutes, and two depths (`cycle`):
//!
//! - a **deep** cycle starts `overlap` before the last complete deep one, and above the
//!   **mark**;
//! - a **shallow** cycle starts seconds before the last complete cycle, and above the
//!   newest record seen. It keeps the mirror fresh while a bulk change would make
//!   every deep cycle read the same thousands of records again.
//!
//! A source that cannot be asked for changes by their time (a gateway may be one) leaves the
//! first scan out of shallow cycles, and reads everything up to the mark in deep ones, which
//! are rare then and in the lowest lane.
//!
//! # The mark
//! An ID is given when a record is created, but a record with a lower ID may become
//! visible after one with a higher. So the highest ID seen may not become the
//! boundary of a deep cycle at once: it becomes the *successor*, and takes the mark's
//! place only when a deep cycle that began at least `overlap` later is complete.
//! Whatever became visible below it within the overlap has then been read. (The
//! simpler rule, "the end of a scan that is `overlap` old", loses records.)
//!
//! # The watermark
//! It is the portal's own clock at the beginning of the cycle's first answer, and it
//! moves only when the cycle is complete. Our clock plays no part. A portal clock that
//! falls back, or a local hour that repeats in autumn, is noticed in the first answer
//! of a cycle, which then begins again with a lower floor.
//!
//! # What a crash costs
//! A batch's rows and the checkpoint that says so commit in one transaction, so a crash
//! costs the answer in flight and nothing else. A cycle or a backfill that was under
//! way resumes with the bounds that it had.
//!
//! # Who may write
//! One process holds the lease and talks to the portal ([`session`]); commands that
//! find it taken leave a request and follow it ([`requests`]).

mod backfill;
mod causes;
mod checks;
mod counted;
mod cycle;
mod dictionaries;
mod ending;
mod forget;
mod halt;
mod housekeeping;
mod incremental;
mod isolate;
mod mirror;
mod orders;
mod outlook;
mod pass;
mod patience;
mod pauses;
mod phones;
pub mod plan;
mod prepare;
mod progress;
mod reader;
mod recent;
mod refresh;
mod reporting;
pub mod requests;
mod room;
mod scheduler;
mod segments;
pub mod session;
pub mod status;
mod sweep;
mod tokens;
mod verify;
mod whole;
mod work;
mod worker;

use std::time::Duration;

use chrono::{DateTime, Utc};

pub(crate) use self::counted::counted;
pub use self::{
    backfill::BackfillOutcome,
    checks::CheckOptions,
    ending::Ending,
    incremental::CycleOutcome,
    mirror::Mirror,
    mirror::Tally,
    pass::Mismatch,
    patience::{DATABASE_PATIENCE, outlast},
    progress::{EntityProgress, ProgressBoard},
    reporting::refresh_reports,
    scheduler::run,
    session::{EntityOutcome, LEASE_TTL, Opened, Session},
    tokens::{settle as settle_tokens, visit},
    verify::{Difference, Kind, RangeCount, Repaired, Verification},
    work::{Level, Selection, UnreadableWork, Work},
};
use crate::{
    entity::{Dialect, Entity, RecordId, catalogue::UnreadableCatalogue, decode::Mutilated},
    portal::PortalError,
    reporting::ReportOptions,
    retry::{Disposition, RetryPolicy},
    store::{StoreError, Verdict},
};

/// An entity that is mirrored, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mirrored {
    /// What.
    pub entity: &'static Entity,
    /// By which list.
    pub dialect: Dialect,
    /// Between the starts of two cycles.
    pub interval: Duration,
    /// Whether with the product rows of its records.
    pub product_rows: bool,
}

impl Mirrored {
    /// An entity that is read as it is where nothing is set.
    #[must_use]
    pub fn new(entity: &'static Entity, interval: Duration) -> Self {
        let dialect = Dialect::default_of(entity);
        Self { entity, dialect, interval, product_rows: false }
    }
}

/// What the work needs to know of the settings.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// The entities to mirror.
    pub entities: Vec<Mirrored>,
    /// How late a record may become visible in the portal's lists.
    pub overlap: Duration,
    /// Chains of one entity's backfill that may be in flight at once.
    pub max_in_flight: u32,
    /// Between two readings of what codes mean.
    pub dictionary_interval: Duration,
    /// When the mirror is checked, and what a check may do.
    pub checks: CheckOptions,
    /// What the views for people need to know of the settings.
    pub reports: ReportOptions,
    /// Delays between attempts.
    pub retry: RetryPolicy,
    /// Who holds the lease, as other processes will read it: host, process, command.
    pub holder: String,
    /// Where backfills under way are shown to whoever draws them.
    pub board: ProgressBoard,
}

/// Why work on an entity did not go on.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The portal refused or failed.
    #[error("the portal's answer stopped the work")]
    Portal(#[from] PortalError),
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The portal answered another question than was asked; nothing of it was used.
    #[error(
        "the portal did not answer the question about {entity}; nothing of that answer was used"
    )]
    Mismatch {
        /// The entity.
        entity: &'static str,
        /// In what way.
        #[source]
        source: Mismatch,
    },
    /// Multi-fields were dropped from a whole page, again and again.
    #[error("the portal drops multi-values from its answers; nothing of them was used")]
    Mutilated(#[from] Mutilated),
    /// A record came that was not asked for by its ID.
    #[error(
        "{entity} {id} came although other IDs were asked for: the portal ignored the filter on ID"
    )]
    NotAskedFor {
        /// The entity.
        entity: &'static str,
        /// The record that came.
        id: RecordId,
    },
    /// The field descriptions are unusable.
    #[error("the portal's field descriptions cannot be read")]
    Catalogue(#[from] UnreadableCatalogue),
    /// Records came with fields that only a new description could explain, and none came.
    #[error("the portal does not describe the fields of {entity}, so their values cannot be read")]
    Undescribed {
        /// The entity.
        entity: &'static str,
        /// What the portal answered instead.
        #[source]
        source: PortalError,
    },
    /// The probe for the far future gave rows.
    #[error(
        "the portal ignores the filter on {field} of {entity}: asked for changes after the \
         year 2099, it returned records; incremental cycles would read the whole table"
    )]
    FilterIgnored {
        /// The entity.
        entity: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The probe for 1970 gave no rows although records exist.
    #[error(
        "the portal misreads the filter on {field} of {entity}: asked for changes since 1970, \
         it returned nothing although records exist; incremental cycles would see no change"
    )]
    FilterMisread {
        /// The entity.
        entity: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The answer does not say what time it is in the portal.
    #[error("the portal's answer about {entity} carries no clock, so no watermark can be set")]
    NoPortalClock {
        /// The entity.
        entity: &'static str,
    },
    /// A cycle was complete, but older records are still to be read.
    #[error(
        "what is new and changed has been read, but the backfill of {entity} is not finished; run `b24mirror backfill {entity}`"
    )]
    Unfilled {
        /// The entity.
        entity: &'static str,
    },
    /// A check was asked for before the first fill, or a full pass, came to its end.
    #[error(
        "the backfill of {entity} is not finished, so there is nothing to check yet; `b24mirror status` shows how it stands"
    )]
    NotFilled {
        /// The entity.
        entity: &'static str,
    },
    /// A person has paused the entity.
    #[error(
        "paused since {since} by {by}; `b24mirror resume {entity}` lifts that",
        since = since.format("%Y-%m-%d %H:%M:%S UTC")
    )]
    Paused {
        /// The entity.
        entity: &'static str,
        /// Since when, by the database's clock.
        since: DateTime<Utc>,
        /// Who paused it.
        by: String,
    },
    /// What a check has to know could not be proven; nothing was concluded from it.
    #[error("the check of {entity} proves nothing: {why}")]
    Unproven {
        /// The entity.
        entity: &'static str,
        /// What the portal did instead.
        why: String,
    },
    /// What is read as a whole moved or changed too much while it was read.
    #[error("the reading of {entity} is not complete: {why}")]
    Incomplete {
        /// The entity.
        entity: &'static str,
        /// What stands against it.
        why: String,
    },
    /// A person accepts what no sweep has refused.
    #[error("run {run} is not a sweep that refused to delete {entity}{}", latest_refusal(*latest))]
    NothingRefused {
        /// The entity.
        entity: &'static str,
        /// The run that was named.
        run: i64,
        /// The run that did refuse last, if one waits for a decision.
        latest: Option<i64>,
    },
    /// The work was told to end; what is stored is complete up to its checkpoint.
    #[error("the work was told to end; it goes on from its checkpoint next time")]
    Stopping,
    /// The entity has never been backfilled.
    #[error(
        "{entity} have never been read from this portal; run `b24mirror backfill {entity}` first"
    )]
    NeverBackfilled {
        /// The entity.
        entity: &'static str,
    },
}

fn latest_refusal(latest: Option<i64>) -> String {
    latest.map_or_else(
        || "; no refused sweep waits for a decision".to_owned(),
        |run| format!("; run {run} is, see `b24mirror status`"),
    )
}

/// What a failure means for the work on an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// Try again with the next cycle.
    TryLater,
    /// The database is away: wait for it.
    AwaitDatabase,
    /// Nothing can be done until a person acts.
    Stop,
    /// The process ends, or another has taken over: leave everything as it is.
    Leave,
}

impl SyncError {
    /// What the failure means for the work.
    #[must_use]
    pub fn consequence(&self) -> Consequence {
        match self {
            Self::Stopping | Self::Store(StoreError::LeaseLost) => Consequence::Leave,
            Self::Paused { .. } => Consequence::Stop,
            Self::Store(error) if error.is_unavailable() => Consequence::AwaitDatabase,
            Self::Portal(error) => match error.disposition() {
                Disposition::StopEntity | Disposition::StopPortal | Disposition::CallerBug => {
                    Consequence::Stop
                }
                _ => Consequence::TryLater,
            },
            _ => Consequence::TryLater,
        }
    }

    /// How a run that failed so has ended.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.consequence() {
            Consequence::Stop => Verdict::Stopped,
            _ => Verdict::Incomplete,
        }
    }

    /// What happened, its root and what to do about it in one line, for `status` and
    /// the run log.
    #[must_use]
    pub fn reason(&self) -> String {
        // These two only say whose failure it is, and the failure says it better.
        let said: &dyn std::error::Error = match self {
            Self::Portal(error) => error,
            Self::Store(error) => error,
            other => other,
        };
        let mut reason = said.to_string();
        let mut root = None;
        let mut source = said.source();
        while let Some(error) = source {
            root = Some(error);
            source = error.source();
        }
        if let Some(root) = root {
            reason.push_str(": ");
            reason.push_str(&root.to_string());
        }
        if let Self::Portal(error) = self {
            reason.push_str(" (");
            reason.push_str(error.advice());
            reason.push(')');
        }
        reason
    }
}
