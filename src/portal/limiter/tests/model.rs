//! The portal's own accounting, as the vendor documents it, and clients that call it.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};

use super::super::{BATCH, Demand, Figures, Lane, Limiter};

/// Requests that take no longer for an account are not recorded.
const FLOOR: f64 = 0.1;

/// Where and whether a portal books and tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Books {
    PerCommand,
    OnBatch,
    Silent,
}

/// A portal: ten slices of the window per account, checked before a command, booked
/// after it; a counter of requests that drains by two once a second and refuses above 50.
#[derive(Debug)]
pub(super) struct Portal {
    books: Books,
    limit: f64,
    window: Duration,
    epoch: Instant,
    /// Slice → its first call and its seconds, per account.
    accounts: BTreeMap<String, BTreeMap<u64, (Instant, f64)>>,
    counter: f64,
    tick: u64,
    /// Commands and requests refused.
    pub(super) refused: usize,
    /// Seconds booked in all, of every lane.
    pub(super) booked: f64,
    /// Requests, and the longest of them.
    pub(super) requests: usize,
    pub(super) longest: Duration,
}

impl Portal {
    /// `phase` is how far its clock is into a slice and a second.
    pub(super) fn new(books: Books, limit: f64, window: Duration, phase: Duration) -> Self {
        Self {
            books,
            limit,
            window,
            epoch: Instant::now() - phase,
            accounts: BTreeMap::new(),
            counter: 0.0,
            tick: 0,
            refused: 0,
            booked: 0.0,
            requests: 0,
            longest: Duration::ZERO,
        }
    }

    fn since(&self, now: Instant) -> Duration {
        now - self.epoch
    }

    fn slice(&self, now: Instant) -> u64 {
        u64::try_from(self.since(now).as_micros() * 10 / self.window.as_micros()).unwrap()
    }

    /// Seconds of an account within the window.
    pub(super) fn sum(&mut self, account: &str, now: Instant) -> f64 {
        let slice = self.slice(now);
        let account = self.accounts.entry(account.to_owned()).or_default();
        account.retain(|key, _| key + 10 > slice);
        account.values().map(|(_, seconds)| seconds).sum()
    }

    fn admit(&mut self, now: Instant) -> bool {
        self.requests += 1;
        let tick = self.since(now).as_secs();
        for _ in self.tick..tick {
            self.counter = (self.counter - 2.0).max(0.0);
        }
        self.tick = tick;
        let refused = self.counter > 50.0;
        self.counter += 1.0;
        self.refused += usize::from(refused);
        !refused
    }

    fn is_blocked(&mut self, account: &str, now: Instant) -> bool {
        let blocked = self.sum(account, now) > self.limit;
        self.refused += usize::from(blocked);
        blocked
    }

    /// Books what a request has used of an account beyond what was booked before.
    pub(super) fn book(&mut self, account: &str, now: Instant, used: f64, booked: &mut f64) {
        if used > FLOOR {
            let slice = self.slice(now);
            let account = self.accounts.entry(account.to_owned()).or_default();
            account.entry(slice).or_insert((now, 0.0)).1 += used - *booked;
            self.booked += used - *booked;
            *booked = used;
        }
    }

    fn figures(&mut self, account: &str, now: Instant, took: f64) -> Figures {
        let operating = self.sum(account, now);
        let first = self.accounts[account].values().next().map_or(now, |(first, _)| *first);
        Figures {
            operating: (self.books != Books::Silent).then_some(operating),
            spent: Some(took),
            took: Some(took),
            reset_in: (self.books != Books::Silent).then(|| first + self.window - now),
        }
    }
}

/// How a portal serves a client's requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    /// What each command costs.
    pub(super) cost: f64,
    /// How long it takes, as a multiple of its cost.
    pub(super) slowness: f64,
    /// What a request takes besides.
    pub(super) latency: Duration,
}

/// Sends one batch; gives how many commands of it were answered.
pub(super) async fn batch(
    limiter: &Limiter,
    portal: &std::sync::Mutex<Portal>,
    lane: Lane,
    demand: &Demand,
    service: Service,
    mut cost: impl FnMut() -> f64,
) -> usize {
    let permit = limiter.acquire(lane, demand).await;
    let sent = Instant::now();
    sleep(service.latency / 2).await;
    let books = portal.lock().unwrap().books;
    if !portal.lock().unwrap().admit(Instant::now()) {
        permit.void();
        limiter.refused();
        return 0;
    }
    if books == Books::OnBatch && portal.lock().unwrap().is_blocked(BATCH, Instant::now()) {
        permit.void();
        limiter.block(BATCH);
        return 0;
    }
    let mut answered = 0;
    let mut blocked = Vec::new();
    let mut costs: Vec<(String, Vec<Figures>)> = Vec::new();
    let mut whole = (0.0, 0.0);
    for (method, calls) in &demand.calls {
        let extra = demand.extra.as_ref().is_some_and(|(name, _)| name == method);
        let calls = calls + if extra { permit.extra() } else { 0 };
        let (mut used, mut booked) = (0.0, 0.0);
        for _ in 0..calls {
            if books != Books::OnBatch && portal.lock().unwrap().is_blocked(method, Instant::now())
            {
                blocked.push(method.clone());
                break;
            }
            let cost = service.cost * cost();
            let took = cost * service.slowness;
            sleep(Duration::from_secs_f64(took)).await;
            let now = Instant::now();
            let mut portal = portal.lock().unwrap();
            used += cost;
            whole.0 += cost;
            whole.1 += took;
            let mut figures = Figures { spent: Some(took), took: Some(took), ..Figures::default() };
            if books != Books::OnBatch {
                portal.book(method, now, used, &mut booked);
                figures = portal.figures(method, now, took);
            }
            answered += 1;
            match costs.iter_mut().find(|(name, _)| name == method) {
                Some((_, list)) => list.push(figures),
                None => costs.push((method.clone(), vec![figures])),
            }
        }
    }
    if books == Books::OnBatch {
        let now = Instant::now();
        let mut portal = portal.lock().unwrap();
        portal.book(BATCH, now, whole.0, &mut 0.0);
        costs = vec![(BATCH.to_owned(), vec![portal.figures(BATCH, now, whole.1)])];
    }
    {
        let mut portal = portal.lock().unwrap();
        portal.longest = portal.longest.max(sent.elapsed());
    }
    sleep(service.latency / 2).await;
    permit.settle(&costs);
    for method in blocked {
        limiter.block(&method);
    }
    answered
}
