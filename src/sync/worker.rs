//! One entity's worker: cycles on a schedule, the backfill beside them, and what people
//! ask for in its turn.
//!
//! Cycles and the backfill are tasks of their own, so that the worker hears every order
//! at once, a cancellation above all. There is one cycle at a time, since cycles share a
//! checkpoint, and one backfill, since it takes every ID range that is open.
//!
//! What people ask for goes in their lane. A cycle by hand that is held back there when
//! the daemon's own falls due makes way for it, so nobody's freshness waits for a person.
//! A backfill that a person asks for while the daemon works on it changes lanes, and
//! changes back when the last who wanted it takes that back.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{Instant, MissedTickBehavior},
};

use super::{
    Consequence, EntityOutcome, SyncError,
    mirror::{Mirror, Tally},
    orders::{Ending, Order, Task, taken_back},
};
use crate::{
    portal::Lane,
    retry::{Delays, RetryPolicy},
    store::{RequestKind, RunKind},
};

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
    cycles: Cycles,
    fills: Fills,
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

/// The cycles and who waits for them.
struct Cycles {
    /// The one under way, or the preparation before the first.
    task: JoinSet<Step>,
    lane: Lane,
    /// The schedule asks for one.
    due: bool,
    /// Who waits for one that begins after they asked.
    asking: Vec<Task>,
    /// Who waits for the one under way.
    served: Vec<Task>,
    backoff: Backoff,
}

/// The backfill and who waits for it.
struct Fills {
    task: JoinSet<Result<Tally, SyncError>>,
    /// The one under way is in the lane of people.
    by_hand: bool,
    /// What it reads was complete before, and is read again for people only.
    refill: bool,
    /// Open segments may be left to read.
    unfilled: bool,
    /// Who asked for one that cannot begin yet.
    pending: Vec<Task>,
    /// Who waits for the end.
    waiting: Vec<Task>,
    backoff: Backoff,
}

/// What the cycle's task has done.
enum Step {
    Prepared(Result<(), SyncError>),
    Cycled(Result<Tally, SyncError>),
}

/// When something that failed is tried again.
struct Backoff {
    not_before: Instant,
    delays: Delays,
}

impl Backoff {
    fn new(delays: Delays) -> Self {
        Self { not_before: Instant::now(), delays }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.not_before
    }

    fn reset(&mut self) {
        self.not_before = Instant::now();
        self.delays.reset();
    }
}

impl Worker {
    pub(super) fn new(
        mirror: Arc<Mirror>,
        interval: Duration,
        orders: mpsc::Receiver<Order>,
        retry: RetryPolicy,
    ) -> Self {
        Self {
            mirror,
            interval,
            orders,
            stage: Stage::New,
            cycles: Cycles {
                task: JoinSet::new(),
                lane: Lane::Incremental,
                due: false,
                asking: Vec::new(),
                served: Vec::new(),
                backoff: Backoff::new(retry.delays()),
            },
            fills: Fills {
                task: JoinSet::new(),
                by_hand: false,
                refill: false,
                unfilled: true,
                pending: Vec::new(),
                waiting: Vec::new(),
                backoff: Backoff::new(retry.delays()),
            },
        }
    }

    /// Runs until the work has to end; then returns when nothing is being written.
    pub(super) async fn run(mut self) {
        let stop = self.mirror.stop().clone();
        let mut ticks = tokio::time::interval_at(Instant::now() + self.jitter(), self.interval);
        // A cycle that took long is not made up for: the next one sees it all.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let again = self.tries_again_at();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = self.cycles.task.join_next() => self.stepped(survived(done)).await,
                Some(filled) = self.fills.task.join_next() => {
                    self.backfilled(survived(filled)).await;
                }
                Some(order) = self.orders.recv() => self.obey(order).await,
                _ = ticks.tick() => self.fall_due().await,
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)),
                    if again.is_some() => {}
            }
            self.proceed().await;
        }
        // Both abandon their answers by themselves and finish their transactions.
        while self.cycles.task.join_next().await.is_some() {}
        while self.fills.task.join_next().await.is_some() {}
    }

    fn jitter(&self) -> Duration {
        let [random, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
        self.interval.min(LONGEST_JITTER) * u32::from(random) / 256
    }

    /// When something that failed, and that does not wait for the schedule, is tried again.
    fn tries_again_at(&self) -> Option<Instant> {
        let somebody = !self.cycles.asking.is_empty()
            || self.stage == Stage::New && !self.fills.pending.is_empty();
        let cycle =
            (self.cycles.task.is_empty() && somebody).then_some(self.cycles.backoff.not_before);
        let open =
            self.stage >= Stage::Prepared && self.fills.unfilled && self.fills.task.is_empty();
        let fill = open.then_some(self.fills.backoff.not_before);
        cycle.into_iter().chain(fill).min()
    }

    /// Begins whatever can begin now.
    async fn proceed(&mut self) {
        if self.stage >= Stage::Prepared {
            // The checkpoint is replaced by a restart, so no cycle may be working on it.
            let idle = self.cycles.task.is_empty();
            let ready: Vec<Task> =
                self.fills.pending.extract_if(.., |task| idle || !task.restart).collect();
            for task in ready {
                self.begin_backfill(task).await;
            }
        }
        let restarting = self.stage >= Stage::Prepared && !self.fills.pending.is_empty();
        let unprepared = self.stage == Stage::New && !self.fills.pending.is_empty();
        let wanted = self.cycles.due || unprepared || !self.cycles.asking.is_empty();
        if wanted && !restarting && self.cycles.task.is_empty() && self.cycles.backoff.is_over() {
            self.begin_cycle();
        }
        if self.stage >= Stage::Prepared
            && self.fills.unfilled
            && self.fills.task.is_empty()
            && self.fills.backoff.is_over()
        {
            self.fills.unfilled = false;
            self.fills.by_hand = !self.fills.waiting.is_empty();
            let (mirror, by_hand) = (Arc::clone(&self.mirror), self.fills.by_hand);
            self.fills.task.spawn(async move { Ok(mirror.backfill(by_hand).await?.tally) });
        }
    }

    fn begin_cycle(&mut self) {
        let mirror = Arc::clone(&self.mirror);
        if self.stage == Stage::New {
            self.cycles.lane = Lane::Incremental;
            self.cycles.task.spawn(async move {
                Step::Prepared(mirror.prepare(Lane::Incremental, false).await)
            });
            return;
        }
        let own = std::mem::take(&mut self.cycles.due) || self.stage < Stage::Cycled;
        self.cycles.lane = if own { Lane::Incremental } else { Lane::People };
        self.cycles.served.append(&mut self.cycles.asking);
        let lane = self.cycles.lane;
        self.cycles.task.spawn(async move {
            let probe = mirror.probe_is_due();
            Step::Cycled(mirror.cycle(lane, probe).await.map(|outcome| outcome.tally))
        });
    }

    /// The schedule asks for a cycle.
    async fn fall_due(&mut self) {
        if !self.cycles.backoff.is_over() {
            return;
        }
        self.cycles.due = true;
        let held_back = self.mirror.portal().limiter().waiting().is_some();
        if self.cycles.lane == Lane::People && !self.cycles.task.is_empty() && held_back {
            self.cycles.task.shutdown().await;
            self.close_runs(RunKind::Incremental, "goes on in the daemon's own lane").await;
            self.cycles.asking.append(&mut self.cycles.served);
        }
    }

    async fn stepped(&mut self, step: Option<Step>) {
        match step {
            None => {}
            Some(Step::Prepared(Ok(()))) => self.stage = Stage::Prepared,
            Some(Step::Prepared(Err(error))) => {
                self.cycles.due = false;
                failed(&self.mirror, &mut self.cycles.backoff, &error).await;
                if error.consequence() != Consequence::AwaitDatabase {
                    let everybody: Vec<Task> =
                        self.cycles.asking.drain(..).chain(self.fills.pending.drain(..)).collect();
                    let outcome = self.outcome(Err(error));
                    answer(everybody, Ending::of(&outcome).as_ref());
                }
            }
            Some(Step::Cycled(result)) => self.cycle_ended(result).await,
        }
    }

    async fn cycle_ended(&mut self, result: Result<Tally, SyncError>) {
        let result = match result {
            Ok(tally) => {
                self.stage = Stage::Cycled;
                self.cycles.backoff.reset();
                self.mirror.report_health(None).await;
                if self.cycles.served.is_empty() {
                    return;
                }
                self.mirror.refuse_unfilled().await.map(|()| tally)
            }
            Err(error) => {
                failed(&self.mirror, &mut self.cycles.backoff, &error).await;
                Err(error)
            }
        };
        if is_away(&result) {
            // They go on waiting, as the daemon does.
            self.cycles.asking.append(&mut self.cycles.served);
            return;
        }
        let served = std::mem::take(&mut self.cycles.served);
        let outcome = self.outcome(result);
        answer(served, Ending::of_cycle(&outcome).as_ref());
    }

    async fn backfilled(&mut self, result: Option<Result<Tally, SyncError>>) {
        let Some(result) = result else { return };
        self.fills.by_hand = false;
        match &result {
            Ok(tally) => {
                self.fills.backoff.reset();
                self.fills.refill = false;
                if tally.read > 0 {
                    tracing::info!(
                        entity = self.mirror.entity().name,
                        records = tally.read,
                        "the backfill is complete"
                    );
                }
            }
            Err(error) => {
                self.fills.unfilled = true;
                failed(&self.mirror, &mut self.fills.backoff, error).await;
            }
        }
        // A backfill whose database was away goes on by itself, and they go on waiting.
        if is_away(&result) {
            return;
        }
        let (waiting, mut result) = (std::mem::take(&mut self.fills.waiting), result);
        if let (Ok(tally), Some(first)) =
            (&mut result, waiting.iter().map(|task| task.asked_at).min())
        {
            *tally = self.read_since(first).await.unwrap_or(*tally);
        }
        let outcome = self.outcome(result);
        answer(waiting, Ending::of(&outcome).as_ref());
    }

    /// What the backfill has read, whatever it was interrupted by and in whatever process.
    async fn read_since(&self, since: DateTime<Utc>) -> Option<Tally> {
        let (store, entity) = (self.mirror.store(), self.mirror.entity());
        let counts = store.records_since(entity, RunKind::Backfill, since).await.ok()?;
        Some(Tally {
            read: counts.read,
            inserted: counts.inserted,
            updated: counts.updated,
            unchanged: counts.unchanged,
            quarantined: counts.quarantined,
        })
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Work(task) => {
                self.cycles.backoff.reset();
                self.fills.backoff.reset();
                match task.kind {
                    RequestKind::Sync => self.cycles.asking.push(task),
                    RequestKind::Backfill => self.fills.pending.push(task),
                }
            }
            Order::Cancel { request } => self.cancel(request).await,
        }
    }

    async fn begin_backfill(&mut self, task: Task) {
        let request = task.request;
        if task.restart {
            if let Err(error) = self.restart().await {
                self.mirror.report_health(Some(&error)).await;
                let outcome = self.outcome(Err(error));
                answer([task], Ending::of(&outcome).as_ref());
                return;
            }
        } else if !self.fills.task.is_empty() && !self.fills.by_hand {
            self.give_up_fill(&format!("goes on in the lane of people for request {request}"))
                .await;
        }
        self.fills.refill |= task.refilling;
        self.fills.unfilled |= self.fills.task.is_empty();
        self.fills.waiting.push(task);
        if self.fills.refill {
            self.note_refill().await;
        }
    }

    /// Opens every ID range again.
    async fn restart(&mut self) -> Result<(), SyncError> {
        // Before its ID ranges are taken away.
        self.give_up_fill("a restart was asked for").await;
        let mirror = Arc::clone(&self.mirror);
        let refill = self.fills.refill || mirror.outlast(|| mirror.is_filled()).await?;
        // Should its answer be lost, its ID ranges are open all the same.
        self.fills.unfilled = true;
        mirror.outlast(|| mirror.prepare(Lane::People, true)).await?;
        self.fills.refill = refill;
        Ok(())
    }

    /// Remembers for whom a complete mirror is read again, should this process end.
    async fn note_refill(&self) {
        let mirror = &self.mirror;
        for task in &self.fills.waiting {
            let noted = mirror.outlast(|| async {
                let (generation, entity) = (mirror.generation(), mirror.entity());
                Ok(mirror.store().note_refill(generation, task.request, entity).await?)
            });
            if let Err(error) = noted.await {
                // The next holder would begin the restart once more.
                tracing::debug!(request = task.request, reason = error.reason(), "not noted");
            }
        }
    }

    async fn cancel(&mut self, request: i64) {
        let entity = self.mirror.entity();
        for tasks in [&mut self.cycles.asking, &mut self.cycles.served, &mut self.fills.pending] {
            let theirs = taken_back(tasks, request);
            answer(theirs, Some(&Ending::cancelled(entity, "")));
        }
        let theirs = taken_back(&mut self.fills.waiting, request);
        if !theirs.is_empty() {
            let and_now = self.let_go(request).await;
            answer(theirs, Some(&Ending::cancelled(entity, and_now)));
        }
    }

    /// Does no more for a request than would be done without it. Says what becomes of
    /// the backfill.
    async fn let_go(&mut self, request: i64) -> &'static str {
        if !self.fills.waiting.is_empty() {
            return "; the backfill goes on for another request";
        }
        let mirror = Arc::clone(&self.mirror);
        if !self.fills.refill {
            self.give_up_fill(&format!("cancelled by request {request}; goes on in its own lane"))
                .await;
            return "; what the mirror lacks goes on being read, in the daemon's own time";
        }
        self.give_up_fill(&format!("cancelled by request {request}")).await;
        let dropped = mirror.outlast(|| async {
            let (generation, entity) = (mirror.generation(), mirror.entity());
            Ok(mirror.store().drop_refill(generation, entity).await?)
        });
        match dropped.await {
            Ok(()) => {
                self.fills.refill = false;
                "; the mirror was complete before, and what was left to read again is dropped"
            }
            Err(_) => "; it could not be dropped and goes on in the daemon's own time",
        }
    }

    /// Stops the backfill where it stands: an answer under way is lost, what is committed
    /// is not. It goes on from there unless somebody takes its ID ranges away.
    async fn give_up_fill(&mut self, why: &str) {
        if self.fills.task.is_empty() {
            return;
        }
        self.fills.task.shutdown().await;
        self.fills.by_hand = false;
        self.fills.unfilled = true;
        self.mirror.board().finish(self.mirror.entity().name);
        self.close_runs(RunKind::Backfill, why).await;
    }

    async fn close_runs(&self, kind: RunKind, why: &str) {
        let mirror = &self.mirror;
        let (store, generation, entity) = (mirror.store(), mirror.generation(), mirror.entity());
        if let Err(error) = store.close_runs(generation, entity, kind, why).await {
            tracing::warn!(
                entity = entity.name,
                error = &error as &dyn std::error::Error,
                "the end of a run could not be logged"
            );
        }
    }

    fn outcome(&self, result: Result<Tally, SyncError>) -> EntityOutcome {
        EntityOutcome { entity: self.mirror.entity(), result }
    }
}

impl Mirror {
    /// Whether every record has been read as records are mapped now.
    async fn is_filled(&self) -> Result<bool, SyncError> {
        let fingerprint = self.entity().fingerprint();
        let checkpoint = self.checkpoint().await?;
        Ok(checkpoint.is_some_and(|checkpoint| checkpoint.fingerprint == fingerprint)
            && self.segments().await?.iter().all(|segment| segment.done))
    }
}

/// What a task returned, unless it was given up; its panic is ours.
fn survived<T>(joined: Result<T, JoinError>) -> Option<T> {
    match joined {
        Ok(done) => Some(done),
        Err(given_up) if given_up.is_cancelled() => None,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
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

/// Records a failure and says when to try again.
async fn failed(mirror: &Mirror, backoff: &mut Backoff, error: &SyncError) {
    let pause = match error.consequence() {
        Consequence::Leave => return,
        Consequence::Stop => STOPPED_RETRY,
        Consequence::TryLater => backoff.delays.next_delay(),
        Consequence::AwaitDatabase => backoff.delays.next_delay().min(DATABASE_RETRY),
    };
    backoff.not_before = Instant::now() + pause;
    mirror.report_health(Some(error)).await;
    tracing::error!(
        entity = mirror.entity().name,
        reason = error.reason(),
        retry_in_seconds = pause.as_secs_f64(),
        "the work on an entity did not go on"
    );
}
