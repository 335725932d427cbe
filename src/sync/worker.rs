//! One entity's worker: cycles on a schedule, the backfill beside them, and orders
//! from people in between.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};

use super::{
    Consequence, EntityOutcome, SyncError,
    mirror::{Mirror, Tally},
    patience::Patience,
};
use crate::{
    portal::Lane,
    retry::{Delays, RetryPolicy},
    store::{RequestKind, Verdict},
};

/// A stopped entity is tried again so often: rights may have been given back.
const STOPPED_RETRY: Duration = Duration::from_mins(5);

/// A database that is away is our own: it is tried again at least so often.
const DATABASE_RETRY: Duration = Duration::from_secs(5);

/// Workers start within this time of each other, so that several entities or portals
/// of one host do not ask in the same instant for ever.
const LONGEST_JITTER: Duration = Duration::from_secs(1);

/// Something that a person wants done now.
pub(super) struct Order {
    pub(super) kind: RequestKind,
    /// Read everything again instead of only what is missing.
    pub(super) restart: bool,
    /// Dropped when the worker ends before the order is done.
    pub(super) done: oneshot::Sender<Ending>,
}

/// How an order ended.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    pub(super) verdict: Verdict,
    /// For people.
    pub(super) line: String,
}

/// Works for one entity until the session ends.
pub(super) struct Worker {
    mirror: Arc<Mirror>,
    interval: Duration,
    orders: mpsc::Receiver<Order>,
    backfill: JoinSet<Result<Tally, SyncError>>,
    /// Who waits for the backfill under way.
    waiting: Vec<oneshot::Sender<Ending>>,
    prepared: bool,
    /// Open segments may be left to read.
    unfilled: bool,
    cycles: Backoff,
    fills: Backoff,
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
            backfill: JoinSet::new(),
            waiting: Vec::new(),
            prepared: false,
            unfilled: true,
            cycles: Backoff::new(retry.delays()),
            fills: Backoff::new(retry.delays()),
        }
    }

    /// Runs until the work has to end; then returns when nothing is being written.
    pub(super) async fn run(mut self) {
        let stop = self.mirror.stop().clone();
        let mut ticks = tokio::time::interval_at(Instant::now() + self.jitter(), self.interval);
        // A cycle that took long is not made up for: the next one sees it all.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(filled) = self.backfill.join_next() => self.backfilled(filled).await,
                Some(order) = self.orders.recv() => self.obey(order).await,
                _ = ticks.tick() => self.turn().await,
            }
        }
        // The backfill abandons its answer by itself and finishes its transaction.
        while self.backfill.join_next().await.is_some() {}
    }

    fn jitter(&self) -> Duration {
        let [random, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
        self.interval.min(LONGEST_JITTER) * u32::from(random) / 256
    }

    async fn turn(&mut self) {
        if !self.cycles.is_over() {
            return;
        }
        match self.cycle(Lane::Incremental).await {
            Ok(_) => {
                self.cycles.reset();
                self.mirror.report_health(None).await;
            }
            Err(error) => failed(&self.mirror, &mut self.cycles, &error).await,
        }
    }

    async fn cycle(&mut self, lane: Lane) -> Result<Tally, SyncError> {
        if !self.prepared {
            self.mirror.prepare(lane, false).await?;
            self.prepared = true;
        }
        if self.unfilled && self.backfill.is_empty() && self.fills.is_over() {
            self.fill(false);
        }
        let probe = self.mirror.probe_is_due();
        Ok(self.mirror.cycle(lane, probe).await?.tally)
    }

    fn fill(&mut self, by_hand: bool) {
        self.unfilled = false;
        let mirror = Arc::clone(&self.mirror);
        self.backfill.spawn(async move { Ok(mirror.backfill(by_hand).await?.tally) });
    }

    async fn backfilled(
        &mut self,
        filled: Result<Result<Tally, SyncError>, tokio::task::JoinError>,
    ) {
        let result = match filled {
            Ok(result) => result,
            // Aborted to start anew; whoever waits goes on waiting for the new one.
            Err(aborted) if aborted.is_cancelled() => return,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        match &result {
            Ok(tally) => {
                self.fills.reset();
                if tally.read > 0 {
                    tracing::info!(
                        entity = self.mirror.entity().name,
                        records = tally.read,
                        "the backfill is complete"
                    );
                }
            }
            Err(error) => {
                self.unfilled = true;
                failed(&self.mirror, &mut self.fills, error).await;
            }
        }
        // A backfill whose database was away goes on by itself, and they go on waiting.
        if !matches!(&result, Err(error) if error.consequence() == Consequence::AwaitDatabase) {
            let waiting = std::mem::take(&mut self.waiting);
            self.answer(waiting, result);
        }
    }

    /// Tells those who wait how it ended; nothing when it goes on in the next process.
    fn answer(
        &self,
        waiting: impl IntoIterator<Item = oneshot::Sender<Ending>>,
        result: Result<Tally, SyncError>,
    ) {
        if matches!(&result, Err(error) if error.consequence() == Consequence::Leave) {
            return;
        }
        let outcome = EntityOutcome { entity: self.mirror.entity(), result };
        let ending = Ending { verdict: outcome.verdict(), line: outcome.line() };
        for one in waiting {
            // Whoever no longer listens has gone away.
            let _ = one.send(ending.clone());
        }
    }

    async fn obey(&mut self, order: Order) {
        self.cycles.reset();
        self.fills.reset();
        match order.kind {
            RequestKind::Sync => {
                let result = self.sync_by_hand().await;
                self.mirror.report_health(result.as_ref().err()).await;
                self.answer([order.done], result);
            }
            RequestKind::Backfill => match self.prepare_anew(order.restart).await {
                Ok(()) => {
                    self.prepared = true;
                    self.waiting.push(order.done);
                    if self.backfill.is_empty() {
                        self.fill(true);
                    }
                }
                Err(error) => {
                    self.mirror.report_health(Some(&error)).await;
                    self.answer([order.done], Err(error));
                }
            },
        }
    }

    async fn sync_by_hand(&mut self) -> Result<Tally, SyncError> {
        let mut patience = Patience::new(self.mirror.retry());
        loop {
            let result = match self.cycle(Lane::People).await {
                Ok(tally) => self.mirror.refuse_unfilled().await.map(|()| tally),
                failed => failed,
            };
            match result {
                Ok(tally) => return Ok(tally),
                Err(error) => self.mirror.unless_stopped(patience.bear(error)).await?,
            }
        }
    }

    async fn prepare_anew(&mut self, restart: bool) -> Result<(), SyncError> {
        if restart {
            // Before its ID ranges are taken away.
            self.backfill.shutdown().await;
        }
        self.mirror.outlast(|| self.mirror.prepare(Lane::People, restart)).await
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
