//! One entity's worker: cycles on a schedule, the backfill and the checks beside them, and
//! what people ask for in its turn.
//!
//! Cycles, the backfill and checks are tasks of their own, so that the worker hears every
//! order at once, a cancellation above all. Each has a file of its own here, with who
//! waits for it and what happens when it ends.

mod checks;
mod cycles;
mod fills;
mod pausing;
mod slot;
mod whole;

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};

pub(super) use self::whole::WholeWorker;
use self::{checks::Checks, cycles::Cycles, fills::Fills, slot::Backoff};
use super::{
    Consequence, EntityOutcome, SyncError,
    ending::Ending,
    mirror::{Mirror, Tally},
    orders::{Order, Task, taken_back},
    work::Work,
};
use crate::retry::{Delays, RetryPolicy};

/// A stopped entity is tried again so often: rights may have been given back.
const STOPPED_RETRY: Duration = Duration::from_mins(5);

/// A database that is away is our own: it is tried again at least so often.
const DATABASE_RETRY: Duration = Duration::from_secs(5);

/// Workers start within this time of each other, so that several entities or portals
/// of one host do not ask in the same instant for ever.
const LONGEST_JITTER: Duration = Duration::from_secs(1);

/// Works for one entity until the session ends.
pub(super) struct Worker {
    mirror: Arc<Mirror>,
    interval: Duration,
    orders: mpsc::Receiver<Order>,
    stage: Stage,
    is_paused: bool,
    cycles: Cycles,
    fills: Fills,
    checks: Checks,
}

/// How far this process has come with its entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// There may be no checkpoint yet.
    New,
    /// There is one, and every record that needs reading lies in an open segment.
    Prepared,
    /// A cycle has been completed.
    Cycled,
}

impl Worker {
    pub(super) fn new(
        mirror: Arc<Mirror>,
        interval: Duration,
        orders: mpsc::Receiver<Order>,
        retry: RetryPolicy,
    ) -> Self {
        Self {
            interval,
            orders,
            stage: Stage::New,
            is_paused: false,
            cycles: Cycles::new(retry),
            fills: Fills::new(retry),
            checks: Checks::new(mirror.checks(), retry),
            mirror,
        }
    }

    /// Runs until the work has to end; then returns when nothing is being written.
    pub(super) async fn run(mut self) {
        self.mirror.put_on_schedule();
        let stop = self.mirror.stop().clone();
        let mut pausing = self.mirror.pausing().clone();
        self.heed_pause().await;
        let mut ticks = tokio::time::interval_at(Instant::now() + self.jitter(), self.interval);
        // A cycle that took long is not made up for: the next one sees it all.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let again = self.tries_again_at();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = self.cycles.slot.ended() => self.stepped(done).await,
                Some(filled) = self.fills.slot.ended() => self.backfilled(filled).await,
                Some(found) = self.checks.slot.ended() => self.checked(found),
                Ok(()) = pausing.changed() => self.heed_pause().await,
                Some(order) = self.orders.recv() => self.obey(order).await,
                _ = ticks.tick() => self.fall_due().await,
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)),
                    if again.is_some() => {}
            }
            self.proceed().await;
        }
        // All abandon their answers by themselves and finish their transactions.
        while self.cycles.slot.ended().await.is_some() {}
        while self.fills.slot.ended().await.is_some() {}
        while self.checks.slot.ended().await.is_some() {}
    }

    fn jitter(&self) -> Duration {
        let [random, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
        self.interval.min(LONGEST_JITTER) * u32::from(random) / 256
    }

    /// When something that does not wait for the schedule of cycles can begin.
    fn tries_again_at(&self) -> Option<Instant> {
        if self.is_paused {
            return None;
        }
        let restart = self.next_restart_at();
        let somebody = !self.cycles.asking.is_empty()
            || self.stage == Stage::New
                && (!self.fills.pending.is_empty() || !self.checks.asked.is_empty());
        // A restart that waits goes first.
        let cycle = (self.cycles.slot.is_empty() && somebody && restart.is_none())
            .then(|| self.cycles.backoff.ends_at());
        let open = self.stage >= Stage::Prepared && self.fills.are_open();
        let fill = open.then(|| self.fills.backoff.ends_at());
        [cycle, fill, restart, self.next_check_at()].into_iter().flatten().min()
    }

    /// Begins whatever can begin now.
    async fn proceed(&mut self) {
        if self.is_paused {
            return;
        }
        self.take_up_fills().await;
        self.proceed_with_cycles();
        self.proceed_with_fills();
        self.proceed_with_checks().await;
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Work(task) => {
                let Some(task) = self.turn_away(task) else { return };
                self.cycles.backoff.reset();
                self.fills.backoff.reset();
                self.checks.backoff.reset();
                match task.work {
                    Work::Sync => self.cycles.asking.push(task),
                    Work::Backfill { .. } => self.fills.pending.push(task),
                    Work::Sweep { .. }
                    | Work::Verify { .. }
                    | Work::Refresh { .. }
                    | Work::Forget { .. } => {
                        self.checks.asked.push_back(task);
                    }
                }
            }
            Order::Cancel { request } => self.cancel(request).await,
        }
    }

    async fn cancel(&mut self, request: i64) {
        let entity = self.mirror.entity();
        for tasks in [&mut self.cycles.asking, &mut self.cycles.served] {
            let theirs = taken_back(tasks, request);
            answer(theirs, Some(&Ending::cancelled(entity, "")));
        }
        self.cancel_checks(request).await;
        self.cancel_fills(request).await;
    }

    fn outcome(&self, result: Result<Tally, SyncError>) -> EntityOutcome {
        EntityOutcome { entity: self.mirror.entity(), result }
    }
}

fn is_away<T>(result: &Result<T, SyncError>) -> bool {
    matches!(result, Err(error) if error.consequence() == Consequence::AwaitDatabase)
}

/// Tells those who wait how it ended; nothing when it goes on in the next process.
fn answer(tasks: impl IntoIterator<Item = Task>, ending: Option<&Ending>) {
    for task in tasks {
        if let Some(ending) = ending {
            task.end(ending.clone());
        }
    }
}

/// How long to wait after a failure; `None` when the process is leaving anyway.
fn pause_after(error: &SyncError, delays: &mut Delays) -> Option<Duration> {
    match error.consequence() {
        Consequence::Leave => None,
        Consequence::Stop => Some(STOPPED_RETRY),
        Consequence::TryLater => Some(delays.next_delay()),
        Consequence::AwaitDatabase => Some(delays.next_delay().min(DATABASE_RETRY)),
    }
}

/// Records a failure of what keeps the mirror fresh, and says when to try again.
async fn failed(mirror: &Mirror, backoff: &mut Backoff, error: &SyncError) {
    let Some(pause) = backoff.after(error) else { return };
    mirror.report_health(Some(error)).await;
    if error.consequence() == Consequence::Stop {
        mirror.report_next_attempt(pause).await;
    }
    let (entity, reason) = (mirror.entity().name, error.reason());
    let retry_in_seconds = pause.as_secs_f64();
    if mirror.causes().is_news(entity, &reason) {
        tracing::error!(entity, reason, retry_in_seconds, "the work on an entity did not go on");
    } else {
        tracing::info!(
            entity,
            retry_in_seconds,
            "the work on an entity did not go on, for a reason that was told already"
        );
    }
}
