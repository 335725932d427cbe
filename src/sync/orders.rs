//! What people ask of a worker, and what they are told in the end.

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::{Consequence, EntityOutcome};
use crate::{
    entity::Entity,
    store::{RequestKind, Verdict},
};

/// What the desk passes to a worker.
pub(super) enum Order {
    /// Something that a person wants done now.
    Work(Task),
    /// Whoever asked for it has taken it back.
    Cancel {
        /// The request's number.
        request: i64,
    },
}

/// One entity's part of a request.
pub(super) struct Task {
    /// The request's number.
    pub(super) request: i64,
    pub(super) kind: RequestKind,
    /// Read everything again instead of only what is missing.
    pub(super) restart: bool,
    /// An earlier holder has begun to read a complete mirror again for this request.
    pub(super) refilling: bool,
    /// When it was asked for, by the database's clock.
    pub(super) asked_at: DateTime<Utc>,
    /// Dropped when the worker ends before the task is done.
    pub(super) done: oneshot::Sender<Ending>,
}

impl Task {
    /// Tells whoever asked how it ended.
    pub(super) fn end(self, ending: Ending) {
        // Whoever no longer listens has gone away.
        let _ = self.done.send(ending);
    }
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) verdict: Verdict,
    /// For people.
    pub(super) line: String,
}

impl Ending {
    /// The ending of work that went so; `None` when it goes on in the next process.
    pub(super) fn of(outcome: &EntityOutcome) -> Option<Self> {
        let failed = outcome.result.as_ref().err();
        if failed.is_some_and(|error| error.consequence() == Consequence::Leave) {
            return None;
        }
        Some(Self { verdict: outcome.verdict(), line: outcome.line() })
    }

    /// The ending of a cycle that went so. What the daemon has read by its own schedule
    /// is not in those figures, and they say so.
    pub(super) fn of_cycle(outcome: &EntityOutcome) -> Option<Self> {
        let mut ending = Self::of(outcome)?;
        if outcome.result.is_ok() {
            ending.line.push_str(" in this cycle; the daemon's own cycles are not counted");
        }
        Some(ending)
    }

    /// The ending of a task that was taken back.
    pub(super) fn cancelled(entity: &'static Entity, and_now: &str) -> Self {
        let line = format!("{}: incomplete: cancelled{and_now}", entity.name);
        Self { verdict: Verdict::Incomplete, line }
    }
}

/// Takes the tasks of a request out of a list.
pub(super) fn taken_back(tasks: &mut Vec<Task>, request: i64) -> Vec<Task> {
    tasks.extract_if(.., |task| task.request == request).collect()
}
