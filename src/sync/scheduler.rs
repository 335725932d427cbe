//! The daemon's heart: stands by for the lease, then runs one worker per entity and
//! hands them what people asked for.

use std::time::Duration;

use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    EntityProgress, SyncError, SyncOptions,
    ending::Ending,
    housekeeping::keep_house,
    orders::{Order, Task},
    phones::keep_phones,
    reporting::keep_reports,
    session::{Errand, NO_SUCH_PROCESS, Opened, Session},
    tokens,
    work::Work,
    worker::{WholeWorker, Worker},
};
use crate::{
    entity::{Entity, SMART_ITEMS},
    portal::Portal,
    retry::Delays,
    store::{Request, RequestEnd, RequestKind, Store, StoreError, Verdict},
};

/// How often requests and pauses are looked for, progress is reported, and a taken lease is tried.
pub(super) const POLL: Duration = Duration::from_secs(1);

/// Mirrors until `stop` is cancelled.
///
/// Stands by while another process holds the lease, and waits while the database is
/// away. Loses nothing when either happens in between.
///
/// # Errors
/// What waiting cannot cure: a schema that belongs to another portal, wrong settings
/// of the database.
pub async fn run(
    store: &Store,
    portal: &Portal,
    options: &SyncOptions,
    stop: &CancellationToken,
) -> Result<(), SyncError> {
    let mut delays = options.retry.delays();
    let mut told = false;
    while !stop.is_cancelled() {
        let opening = Session::open(store, portal, options, stop);
        let Some(opened) = stop.run_until_cancelled(opening).await else { break };
        let pause = match opened {
            Ok(Opened::Session(session)) => {
                tracing::info!(portal = portal.host(), "mirroring");
                (told, delays) = (false, options.retry.delays());
                work(*session, options).await;
                continue;
            }
            Ok(Opened::HeldBy { holder, .. }) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(holder, "another process mirrors this portal; standing by");
                }
                POLL
            }
            Err(SyncError::Store(error)) if error.is_unavailable() => {
                let pause = delays.next_delay();
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    retry_in_seconds = pause.as_secs_f64(),
                    "waiting for the database"
                );
                pause
            }
            Err(SyncError::Store(StoreError::LeaseLost)) => POLL,
            Err(error) => return Err(error),
        };
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    tokens::settle(portal).await;
    Ok(())
}

/// Runs the workers until the session ends, then gives the lease back.
async fn work(session: Session, options: &SyncOptions) {
    let mut workers = JoinSet::new();
    let mut desks = Vec::new();
    for (mirror, interval) in session.mirrors() {
        let (sender, orders) = mpsc::channel(16);
        desks.push((mirror.entity(), sender));
        let (mirror, interval) = (mirror.clone(), *interval);
        if mirror.entity().is_read_whole() {
            workers.spawn(WholeWorker::new(mirror, interval, orders, options.retry).run());
        } else {
            workers.spawn(Worker::new(mirror, interval, orders, options.retry).run());
        }
    }
    // Ends with the session, too, and before the lease is given back.
    workers.spawn(session.dictionaries().clone().keep());
    let mut errands = JoinSet::new();
    errands.spawn(session.dictionaries().clone().locate());
    errands.spawn(keep_house(session.errand(), options.checks.keep_runs));
    errands.spawn(keep_reports(session.errand(), options.reports.clone()));
    errands.spawn(keep_phones(session.errand()));
    let mut delays = options.retry.delays();
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            biased;
            () = session.stop().cancelled() => break,
            Some(ended) = workers.join_next() => {
                // A worker ends only with the session; a panic must not leave a
                // process that looks healthy.
                if let Err(panicked) = ended
                    && let Ok(panic) = panicked.try_into_panic()
                {
                    std::panic::resume_unwind(panic);
                }
            }
            Some(_) = errands.join_next() => {}
            () = tokio::time::sleep(pause) => {
                pause = next_request(&session, &desks, &mut errands, &mut delays).await;
            }
        }
    }
    drop(desks);
    while workers.join_next().await.is_some() {}
    session.close().await;
}

type Desk = (&'static Entity, mpsc::Sender<Order>);

/// Takes one request, if there is one, and says how long to wait before the next look.
async fn next_request(
    session: &Session,
    desks: &[Desk],
    errands: &mut JoinSet<()>,
    delays: &mut Delays,
) -> Duration {
    match session.store().take_open(session.generation()).await {
        Ok(Some(request)) => {
            errands.spawn(fulfil(session.errand(), desks.to_vec(), request));
            Duration::ZERO
        }
        Ok(None) => {
            delays.reset();
            POLL
        }
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "no look at the requests");
            delays.next_delay()
        }
    }
}

/// Hands a request to the workers it names, reports their progress, passes on that it is
/// no longer wanted, and closes it.
async fn fulfil(errand: Errand, desks: Vec<Desk>, request: Request) {
    let work = match Work::read(request.kind, &request.arguments) {
        Ok(work) => work,
        Err(unreadable) => {
            let end = RequestEnd::incomplete(format!("not done: {unreadable}"));
            close(&errand, request.id, &end).await;
            return;
        }
    };
    let mut part = Part { answers: JoinSet::new(), desks: Vec::new(), endings: Vec::new() };
    if part.hand_out(&request, &work, desks).await.is_none() {
        // The session is ending; whoever holds the lease next takes the request up.
        return;
    }
    let mut wanted = request.cancelled_at.is_none();
    if !wanted && part.cancel(request.id).await.is_none() {
        return;
    }
    let mut reports = tokio::time::interval(POLL);
    loop {
        tokio::select! {
            answer = part.answers.join_next() => match answer {
                None => break,
                Some(Ok(Ok(ending))) => part.endings.push(ending),
                // The session ended before the worker answered: another takes it up.
                Some(_) => return,
            },
            _ = reports.tick() => {
                let progress = json!(part.progress(&errand, request.kind));
                let reported =
                    errand.store.report_progress(errand.generation, request.id, &progress).await;
                match reported {
                    Err(StoreError::LeaseLost) => return,
                    Ok(false) if std::mem::replace(&mut wanted, false) => {
                        tracing::info!(request = request.id, "cancelled by whoever asked for it");
                        if part.cancel(request.id).await.is_none() {
                            return;
                        }
                    }
                    // Reported again in a second.
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }
    close(&errand, request.id, &Ending::together(part.endings)).await;
}

/// The workers that have a part in a request, and what they answered.
struct Part {
    answers: JoinSet<Result<Ending, oneshot::error::RecvError>>,
    desks: Vec<Desk>,
    endings: Vec<Ending>,
}

impl Part {
    /// Tells the workers what to do; `None` when the session is ending.
    async fn hand_out(&mut self, request: &Request, work: &Work, desks: Vec<Desk>) -> Option<()> {
        for entity in &request.entities {
            if !desks.iter().any(|(ours, _)| entity.covers(ours)) {
                let why = if *entity.family() == SMART_ITEMS {
                    NO_SUCH_PROCESS.to_owned()
                } else {
                    format!(
                        "`entities.{}.enabled` is false in the process that mirrors",
                        entity.name
                    )
                };
                let ending = Ending::without_result(entity, Verdict::Incomplete, &why);
                self.endings.push(ending);
            }
        }
        for (entity, desk) in desks {
            let is_meant = request.entities.iter().any(|named| named.covers(entity));
            if !request.entities.is_empty() && !is_meant {
                continue;
            }
            let refilling = request.refilling.contains(&entity);
            if request.cancelled_at.is_some() && !refilling {
                self.endings.push(Ending::cancelled(entity, ""));
                continue;
            }
            let (done, answer) = oneshot::channel();
            // What another holder has begun anew goes on.
            let goes_on = Work::Backfill { restart: false };
            let task = Task {
                request: request.id,
                work: if refilling { goes_on } else { work.clone() },
                refilling,
                asked_at: request.created_at,
                done,
            };
            desk.send(Order::Work(task)).await.ok()?;
            self.answers.spawn(answer);
            self.desks.push((entity, desk));
        }
        Some(())
    }

    /// Tells the workers that nobody waits any more; `None` when the session is ending.
    async fn cancel(&self, request: i64) -> Option<()> {
        for (_, desk) in &self.desks {
            desk.send(Order::Cancel { request }).await.ok()?;
        }
        Some(())
    }

    /// The backfills that are done for this request.
    fn progress(&self, errand: &Errand, kind: RequestKind) -> Vec<EntityProgress> {
        let mut progress = errand.board.snapshot();
        progress.retain(|one| {
            kind == RequestKind::Backfill
                && self.desks.iter().any(|(entity, _)| entity.name == one.entity)
        });
        progress
    }
}

/// Closes a request; whoever asked follows it until that is done.
async fn close(errand: &Errand, request: i64, end: &RequestEnd) {
    loop {
        let Err(error) = errand.store.finish_request(errand.generation, request, end).await else {
            return;
        };
        tracing::warn!(
            request,
            error = &error as &dyn std::error::Error,
            "a request was fulfilled, but could not be closed"
        );
        if !error.is_unavailable() {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}
