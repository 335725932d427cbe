//! What `backfill` and `sync` share: doing the work under the lease, or handing it to
//! the process that holds it and following it there.

use super::{
    Exit,
    following::Following,
    output::say,
    progress::Drawing,
    wiring::{self, Patience},
};
use crate::{
    entity::Entity,
    lifecycle::Lifecycle,
    settings::Settings,
    store::{RequestKind, Store, Verdict},
    sync::{EntityOutcome, Opened, Session, SyncError, SyncOptions, requests::HandedOver},
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
        let mut handed = None;
        loop {
            match Session::open(store, &portal, &options, &stop).await? {
                Opened::Session(session) => {
                    let drawing = Drawing::of(options.board.clone());
                    let outcomes = self.work(&session, handed.as_ref()).await?;
                    drawing.finish().await;
                    if let Some(handed) = handed {
                        handed.close(session.generation(), worst(&outcomes)).await?;
                    }
                    session.close().await;
                    return Ok(report(&outcomes));
                }
                Opened::HeldBy { holder, .. } => {
                    let handed = match &mut handed {
                        // Its first holder is gone, and another was quicker than we to
                        // take over.
                        Some(handed) => handed,
                        none => none.insert(self.hand_over(store, &options).await?),
                    };
                    let watching = Following::begin(handed, self.lifecycle, &holder).watch();
                    if let Some(exit) = watching.await? {
                        return Ok(exit);
                    }
                }
            }
        }
    }

    async fn hand_over(
        &self,
        store: &Store,
        options: &SyncOptions,
    ) -> Result<HandedOver, SyncError> {
        HandedOver::new(store, self.kind, &self.entities, self.restart, options.retry).await
    }

    /// Does the work here; what a dead holder has begun anew does not begin once more.
    async fn work(
        &self,
        session: &Session,
        handed: Option<&HandedOver>,
    ) -> Result<Vec<EntityOutcome>, SyncError> {
        if self.kind == RequestKind::Sync {
            return Ok(session.sync(&self.entities).await);
        }
        let begun = match handed {
            Some(handed) => handed.begun_anew().await?,
            None => Vec::new(),
        };
        let (goes_on, begins): (Vec<_>, Vec<_>) =
            self.entities.iter().copied().partition(|entity| begun.contains(entity));
        let (mut outcomes, begun) = tokio::join!(
            session.backfill(&begins, self.restart),
            session.backfill(&goes_on, false)
        );
        outcomes.extend(begun);
        Ok(outcomes)
    }
}

fn worst(outcomes: &[EntityOutcome]) -> Verdict {
    outcomes
        .iter()
        .map(EntityOutcome::verdict)
        .find(|verdict| *verdict != Verdict::Complete)
        .unwrap_or(Verdict::Complete)
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
