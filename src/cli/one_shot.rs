//! What `backfill` and `sync` share: doing the work under the lease, or handing it to
//! the process that holds it and following it there.

use super::{
    Exit,
    output::say,
    progress::Drawing,
    wiring::{self, Patience},
};
use crate::{
    entity::Entity,
    lifecycle::Lifecycle,
    settings::Settings,
    store::{RequestKind, Store, Verdict},
    sync::{
        EntityOutcome, Opened, Session, SyncError, SyncOptions,
        requests::{Handed, follow, hand_over},
    },
};

/// The work of a one-shot command.
pub(super) struct OneShot<'a> {
    pub(super) settings: &'a Settings,
    pub(super) lifecycle: &'a Lifecycle,
    pub(super) command: &'static str,
    pub(super) kind: RequestKind,
    pub(super) entities: Vec<&'static Entity>,
    pub(super) restart: bool,
}

impl OneShot<'_> {
    /// Does the work, here or where the lease is, and prints how each entity ended.
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let stop = self.lifecycle.soft();
        let portal = wiring::portal(self.settings)?;
        let database =
            wiring::database(self.settings, self.command, Patience::Command, &stop).await?;
        let store = &database.store;
        wiring::migrated(self.settings, store).await?;
        let options = wiring::sync_options(self.settings, self.command)?;
        let mut request = None;
        loop {
            match Session::open(store, &portal, &options, &stop).await? {
                Opened::Session(session) => {
                    let drawing = Drawing::of(options.board.clone());
                    let outcomes = self.work(&session).await;
                    drawing.finish().await;
                    if let Some(request) = request {
                        close_request(store, &session, request, &outcomes).await?;
                    }
                    session.close().await;
                    return Ok(report(&outcomes));
                }
                Opened::HeldBy { holder, .. } => {
                    if let Some(exit) = self.follow(store, &options, &holder, &mut request).await? {
                        return Ok(exit);
                    }
                }
            }
        }
    }

    async fn work(&self, session: &Session) -> Vec<EntityOutcome> {
        match self.kind {
            RequestKind::Backfill => session.backfill(&self.entities, self.restart).await,
            RequestKind::Sync => session.sync(&self.entities).await,
        }
    }

    /// Follows the work at its holder; `None` when the holder died over it.
    async fn follow(
        &self,
        store: &Store,
        options: &SyncOptions,
        holder: &str,
        request: &mut Option<i64>,
    ) -> anyhow::Result<Option<Exit>> {
        let number = match *request {
            // Its first holder is gone, and another was quicker than we to take over.
            Some(number) => number,
            None => hand_over(store, self.kind, &self.entities, self.restart).await?,
        };
        *request = Some(number);
        tracing::info!(holder, "another process holds the lease; the work is handed to it");
        let mut drawing = Drawing::elsewhere();
        let following = follow(store, number, options.retry, |progress| drawing.draw(progress));
        let Some(handed) = self.lifecycle.soft().run_until_cancelled(following).await else {
            say!("interrupted; {holder} goes on with the work");
            return Ok(Some(Exit::Failed));
        };
        drawing.finish().await;
        match handed? {
            Handed::Finished { verdict, message } => {
                say!("{message}");
                let done = verdict == Verdict::Complete;
                Ok(Some(if done { Exit::Done } else { Exit::NotTrue }))
            }
            Handed::HolderGone => {
                tracing::warn!("the process that held the lease is gone; taking over");
                Ok(None)
            }
        }
    }
}

/// Closes the request that a dead holder left behind, now that its work is done.
async fn close_request(
    store: &Store,
    session: &Session,
    request: i64,
    outcomes: &[EntityOutcome],
) -> Result<(), SyncError> {
    let verdict = outcomes
        .iter()
        .map(EntityOutcome::verdict)
        .find(|verdict| *verdict != Verdict::Complete)
        .unwrap_or(Verdict::Complete);
    while let Some(open) = store.take_open(session.generation()).await? {
        if open.id == request {
            let message = "done by the command itself, because the holder died";
            store.finish_request(session.generation(), request, verdict, message).await?;
            break;
        }
    }
    Ok(())
}

/// Prints one line per entity and says what the exit code has to be.
fn report(outcomes: &[EntityOutcome]) -> Exit {
    let mut exit = Exit::Done;
    for outcome in outcomes {
        say!("{}", outcome.line());
        if outcome.verdict() != Verdict::Complete {
            exit = Exit::NotTrue;
        }
    }
    exit
}
