//! The worker of what is read as a whole: one piece of work at a time, since every one of them
//! reads everything. Readings come on a schedule, a sweep follows a reading that misses
//! somebody, and what people ask for goes first.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use super::{
    answer, failed, is_away,
    slot::{Backoff, Slot},
};
use crate::{
    portal::Lane,
    retry::RetryPolicy,
    store::{RunKind, Verdict},
    sync::{
        EntityOutcome, SyncError,
        checks::Check,
        ending::{Ending, Findings},
        mirror::Mirror,
        orders::{Order, Task},
        whole::Whole,
        work::Work,
    },
};

/// Works for one such entity until the session ends.
pub(in crate::sync) struct WholeWorker {
    mirror: Arc<Mirror>,
    interval: Duration,
    orders: mpsc::Receiver<Order>,
    is_paused: bool,
    slot: Slot<Done>,
    under_way: Option<UnderWay>,
    /// What people asked for, the oldest first.
    asked: VecDeque<Task>,
    /// Whether it has ever been read.
    is_filled: bool,
    /// When the schedule wants a reading; unknown until the database has been asked.
    due_at: Option<Instant>,
    /// When somebody who is missing is looked for.
    sweep_at: Option<Instant>,
    backoff: Backoff,
}

/// What has the slot, and who waits for it.
struct UnderWay {
    kind: RunKind,
    task: Option<Task>,
}

enum Done {
    Read(Result<Whole, SyncError>),
    Checked(Result<Findings, SyncError>),
}

impl WholeWorker {
    pub(in crate::sync) fn new(
        mirror: Arc<Mirror>,
        interval: Duration,
        orders: mpsc::Receiver<Order>,
        retry: RetryPolicy,
    ) -> Self {
        Self {
            mirror,
            interval,
            orders,
            is_paused: false,
            slot: Slot::new(),
            under_way: None,
            asked: VecDeque::new(),
            is_filled: false,
            due_at: None,
            sweep_at: None,
            backoff: Backoff::new(retry.delays()),
        }
    }

    /// Runs until the work has to end; then returns when nothing is being written.
    pub(in crate::sync) async fn run(mut self) {
        self.mirror.put_on_schedule();
        let stop = self.mirror.stop().clone();
        let mut pausing = self.mirror.pausing().clone();
        self.heed_pause().await;
        loop {
            self.proceed().await;
            let next = self.next_at();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = self.slot.ended() => self.ended(done).await,
                Ok(()) = pausing.changed() => self.heed_pause().await,
                Some(order) = self.orders.recv() => self.obey(order).await,
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)),
                    if next.is_some() => {}
            }
        }
        // It abandons its answer by itself and finishes its transaction.
        while self.slot.ended().await.is_some() {}
    }

    /// When something can begin that nothing else announces.
    fn next_at(&self) -> Option<Instant> {
        if self.is_paused || !self.slot.is_empty() {
            return None;
        }
        let due = [self.due_at, self.sweep_at].into_iter().flatten().min();
        let due = if self.asked.is_empty() { due } else { Some(Instant::now()) };
        due.map(|due| due.max(self.backoff.ends_at()))
    }

    async fn proceed(&mut self) {
        if self.is_paused || !self.slot.is_empty() {
            return;
        }
        if self.due_at.is_none() {
            self.due_at = Some(self.first_due().await);
        }
        if !self.backoff.is_over() {
            return;
        }
        let past = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        if let Some(task) = self.asked.pop_front() {
            self.begin_task(task);
        } else if past(self.due_at) {
            let kind = if self.is_filled { RunKind::Incremental } else { RunKind::Backfill };
            self.begin_reading(Lane::Incremental, kind, None);
        } else if past(self.sweep_at) {
            self.begin_check(Lane::Sweep, Check::Sweep { accept: None }, None);
        }
    }

    /// A restart does not read again what has been read within the interval.
    async fn first_due(&mut self) -> Instant {
        let mirror = Arc::clone(&self.mirror);
        let age = async {
            let Some(checkpoint) = mirror.checkpoint().await? else { return Ok(None) };
            self.is_filled = true;
            // Whatever changed how entries become rows has everything read again, and so has a
            // webhook of another user.
            let sweeps = mirror.store().sweep_standing(mirror.entity()).await?;
            let current = checkpoint.fingerprint == mirror.fingerprint() && !sweeps.wanted;
            let Some(completed) = checkpoint.completed_at.filter(|_| current) else {
                return Ok(None);
            };
            Ok::<_, SyncError>(Some((mirror.now().await? - completed).to_std()))
        };
        match age.await {
            Ok(Some(age)) => Instant::now() + self.interval.saturating_sub(age.unwrap_or_default()),
            Ok(None) | Err(_) => Instant::now(),
        }
    }

    fn begin_task(&mut self, task: Task) {
        if let Some(check) = Check::of(&task.work) {
            return self.begin_check(Lane::People, check, Some(task));
        }
        let kind = match task.work {
            Work::Backfill { .. } => RunKind::Backfill,
            _ => RunKind::Incremental,
        };
        self.begin_reading(Lane::People, kind, Some(task));
    }

    fn begin_reading(&mut self, lane: Lane, kind: RunKind, task: Option<Task>) {
        self.under_way = Some(UnderWay { kind, task });
        self.slot.begin(&self.mirror, async move |mirror| {
            Done::Read(Box::pin(mirror.read_whole(lane, kind)).await)
        });
    }

    fn begin_check(&mut self, lane: Lane, check: Check, task: Option<Task>) {
        self.under_way = Some(UnderWay { kind: check.kind(), task });
        self.slot.begin(&self.mirror, async move |mirror| {
            Done::Checked(mirror.check(lane, &check).await)
        });
    }

    async fn ended(&mut self, done: Done) {
        let Some(UnderWay { task, .. }) = self.under_way.take() else { return };
        match done {
            Done::Read(result) => self.read(task, result).await,
            Done::Checked(result) => self.checked(task, result),
        }
    }

    async fn read(&mut self, task: Option<Task>, result: Result<Whole, SyncError>) {
        let away = is_away(&result);
        let result = match result {
            Ok(Whole { tally, missing, unlisted }) => {
                self.backoff.reset();
                self.is_filled = true;
                self.mirror.report_health(None).await;
                self.due_at = Some(Instant::now() + self.interval);
                self.sweep_at = match (missing, unlisted) {
                    (0, 0) => None,
                    (0, _) => Some(self.sweep_later()),
                    _ => Some(self.sweep_due().await),
                };
                Ok(tally)
            }
            Err(error) => {
                failed(&self.mirror, &mut self.backoff, &error).await;
                self.due_at = Some(self.backoff.ends_at());
                Err(error)
            }
        };
        match task {
            // Whoever asked goes on waiting, as the daemon does.
            Some(task) if away => self.asked.push_front(task),
            task => {
                let outcome = EntityOutcome { entity: self.mirror.entity(), result };
                answer(task, Ending::of(&outcome).as_ref());
            }
        }
    }

    /// When whoever is missing is to be looked for: at once, unless a sweep has been refused
    /// already and only a person can help.
    async fn sweep_due(&self) -> Instant {
        let standing = self.mirror.store().sweep_standing(self.mirror.entity()).await;
        if standing.is_ok_and(|sweeps| sweeps.refused.is_none()) {
            return Instant::now();
        }
        self.sweep_later()
    }

    fn sweep_later(&self) -> Instant {
        let later = Instant::now() + self.mirror.checks().sweep_interval;
        self.sweep_at.map_or(later, |at| at.min(later))
    }

    fn checked(&mut self, task: Option<Task>, result: Result<Findings, SyncError>) {
        let entity = self.mirror.entity();
        if is_away(&result) {
            if let Err(error) = &result {
                self.backoff.after(error);
            }
            self.asked.extend(task);
            return;
        }
        self.backoff.reset();
        let Some(task) = task else {
            self.sweep_at = match &result {
                Ok(Findings { verdict: Verdict::Complete, line, .. }) => {
                    tracing::info!(entity = entity.name, found = line, "a sweep is complete");
                    None
                }
                Ok(Findings { line, .. }) => {
                    let found = line;
                    tracing::warn!(entity = entity.name, found, "a sweep did not come to its end");
                    Some(Instant::now() + self.mirror.checks().sweep_interval)
                }
                // The next reading says whether somebody is still missing.
                Err(error) => {
                    let reason = error.reason();
                    tracing::warn!(entity = entity.name, reason, "a sweep did not come to its end");
                    None
                }
            };
            return;
        };
        answer([task], Ending::of_check(entity, result).as_ref());
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Work(task) => match self.mirror.refuse_paused() {
                Err(paused) if self.is_paused => {
                    task.end(Ending::failed(self.mirror.entity(), &paused));
                }
                _ => {
                    self.backoff.reset();
                    self.asked.push_back(task);
                }
            },
            Order::Cancel { request } => self.cancel(request).await,
        }
    }

    async fn cancel(&mut self, request: i64) {
        let asked = std::mem::take(&mut self.asked);
        let (mut theirs, others): (VecDeque<_>, VecDeque<_>) =
            asked.into_iter().partition(|task| task.request == request);
        self.asked = others;
        let of_theirs = |under_way: &UnderWay| {
            under_way.task.as_ref().is_some_and(|task| task.request == request)
        };
        if self.under_way.as_ref().is_some_and(of_theirs) {
            theirs.extend(self.give_up(&format!("cancelled by request {request}")).await);
        }
        answer(theirs, Some(&Ending::cancelled(self.mirror.entity(), "")));
    }

    /// Ends what is under way; gives back who waits for it.
    async fn give_up(&mut self, why: &str) -> Option<Task> {
        let UnderWay { kind, task } = self.under_way.take()?;
        self.slot.give_up(&self.mirror, kind, why).await;
        task
    }

    async fn heed_pause(&mut self) {
        let paused = self.mirror.refuse_paused();
        let was_paused = std::mem::replace(&mut self.is_paused, paused.is_err());
        let entity = self.mirror.entity();
        match paused {
            Err(paused) if !was_paused => {
                let why = paused.reason();
                tracing::info!(entity = entity.name, why, "an entity rests");
                let under_way = self.give_up(&why).await;
                let waiting = self.asked.drain(..).chain(under_way);
                answer(waiting, Some(&Ending::failed(entity, &paused)));
            }
            Ok(()) if was_paused => {
                tracing::info!(entity = entity.name, "an entity is resumed");
                self.backoff.reset();
                self.due_at = Some(Instant::now());
            }
            _ => {}
        }
    }
}
