//! What people ask of a worker.

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::{ending::Ending, work::Work};

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
    pub(super) work: Work,
    /// An earlier holder has begun to read a complete mirror again for this request.
    pub(super) refilling: bool,
    /// When it was asked for, by the database's clock.
    pub(super) asked_at: DateTime<Utc>,
    /// Dropped when the worker ends before the task is done.
    pub(super) done: oneshot::Sender<Ending>,
}

impl Task {
    /// Whether everything is to be read anew.
    pub(super) fn restarts(&self) -> bool {
        self.work == Work::Backfill { restart: true }
    }

    /// Tells whoever asked how it ended.
    pub(super) fn end(self, ending: Ending) {
        // Whoever no longer listens has gone away.
        let _ = self.done.send(ending);
    }
}

/// Takes the tasks of a request out of a list.
pub(super) fn taken_back(tasks: &mut Vec<Task>, request: i64) -> Vec<Task> {
    tasks.extract_if(.., |task| task.request == request).collect()
}
