//! A piece of work that runs beside the worker, and when it is tried again.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::{self, JoinError, JoinSet},
    time::{Instant, timeout},
};

use crate::{
    retry::Delays,
    store::RunKind,
    sync::{SyncError, halt::Halt, mirror::Mirror},
};

/// A transaction in hand may take so long before its task is torn down.
const TO_ITS_END: Duration = Duration::from_secs(10);

/// A place for one task.
pub(super) struct Slot<T> {
    task: JoinSet<T>,
    /// The one that has the place.
    running: Option<(task::Id, Halt)>,
}

impl<T: Send + 'static> Slot<T> {
    pub(super) fn new() -> Self {
        Self { task: JoinSet::new(), running: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.task.is_empty()
    }

    /// Begins a piece of work on its own view of the mirror.
    pub(super) fn begin<W>(&mut self, mirror: &Mirror, work: impl FnOnce(Arc<Mirror>) -> W)
    where
        W: Future<Output = T> + Send + 'static,
    {
        let halt = mirror.halt().child();
        let spawned = self.task.spawn(work(Arc::new(mirror.under(halt.clone()))));
        self.running = Some((spawned.id(), halt));
    }

    /// The task that is running.
    pub(super) fn task(&self) -> Option<task::Id> {
        let (task, _) = self.running.as_ref().filter(|_| !self.is_empty())?;
        Some(*task)
    }

    /// Waits until the task ends; `None` at once where there is none. May be given up.
    pub(super) async fn ended(&mut self) -> Option<T> {
        survived(self.task.join_next().await?)
    }

    /// Ends the task where it stands: an answer under way is abandoned, a transaction is
    /// finished. What is committed stays, and so does where it goes on.
    pub(super) async fn give_up(&mut self, mirror: &Mirror, kind: RunKind, why: &str) {
        if self.task.is_empty() {
            return;
        }
        if let Some((_, halt)) = &self.running {
            halt.halt(why);
        }
        if timeout(TO_ITS_END, self.ended()).await.is_err() {
            self.task.shutdown().await;
            close_runs(mirror, kind, why).await;
        }
    }
}

/// When something that failed is tried again.
pub(super) struct Backoff {
    not_before: Instant,
    delays: Delays,
}

impl Backoff {
    pub(super) fn new(delays: Delays) -> Self {
        Self { not_before: Instant::now(), delays }
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.not_before
    }

    pub(super) const fn ends_at(&self) -> Instant {
        self.not_before
    }

    pub(super) fn reset(&mut self) {
        self.not_before = Instant::now();
        self.delays.reset();
    }

    /// Begins the pause after a failure, which is returned; `None` when the process is
    /// leaving anyway.
    pub(super) fn after(&mut self, error: &SyncError) -> Option<Duration> {
        let pause = super::pause_after(error, &mut self.delays)?;
        self.not_before = Instant::now() + pause;
        Some(pause)
    }
}

/// Closes the runs of a task that was torn down.
async fn close_runs(mirror: &Mirror, kind: RunKind, why: &str) {
    let (store, generation, entity) = (mirror.store(), mirror.generation(), mirror.entity());
    if let Err(error) = store.close_runs(generation, entity, kind, why).await {
        tracing::warn!(
            entity = entity.name,
            error = &error as &dyn std::error::Error,
            "the end of a run could not be logged"
        );
    }
}

/// What a task returned, unless it was torn down; its panic is ours.
fn survived<T>(joined: Result<T, JoinError>) -> Option<T> {
    match joined {
        Ok(done) => Some(done),
        Err(torn_down) if torn_down.is_cancelled() => None,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}
