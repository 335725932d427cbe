//! What every command that reads the portal shares: doing the work under the lease, or
//! handing it to the process that holds it and following it there.

use std::time::Duration;

use tokio::time::sleep;

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
    store::{RequestEnd, StoreError},
    sync::{Ending, Opened, Session, SyncError, Work, outlast, requests::HandedOver},
};

/// When a lease is looked at again that nobody can have but we ourselves.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The work of a one-shot command.
pub(super) struct OneShot<'a> {
    pub(super) settings: &'a Settings,
    pub(super) lifecycle: &'a Lifecycle,
    pub(super) command: &'static str,
    pub(super) work: Work,
    pub(super) entities: Vec<&'static Entity>,
    pub(super) printing: Printing,
}

/// How the end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Printing {
    /// In lines for people.
    Lines,
    /// As one JSON object and nothing else.
    Json,
}

impl From<bool> for Printing {
    /// Reads the flag `--json`.
    fn from(json: bool) -> Self {
        if json { Self::Json } else { Self::Lines }
    }
}

/// How the end of some work is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report<'a> {
    pub(super) printing: Printing,
    /// Entities of which something is to be proven, one way or the other. Where that could
    /// not be done, the command has failed: it may not look like a difference.
    pub(super) to_prove: &'a [&'static Entity],
}

impl Report<'_> {
    /// Prints how the work ended and says what the exit code has to be.
    pub(super) fn tell(self, end: &RequestEnd) -> Exit {
        let unproven = self.unproven(end);
        match self.printing {
            Printing::Lines => {
                say!("{}", end.message);
                if !unproven.is_empty() {
                    say!(
                        "not compared to the end, so neither equal nor different: {}",
                        unproven.join(", ")
                    );
                }
            }
            Printing::Json => {
                let mut told = serde_json::json!({
                    "verdict": end.verdict.as_str(),
                    "differs": end.differs,
                    "message": end.message,
                    "entities": end.result,
                });
                if !self.to_prove.is_empty() {
                    told["not_compared"] = unproven.as_slice().into();
                }
                say!("{told:#}");
            }
        }
        if !unproven.is_empty() {
            Exit::Failed
        } else if end.is_true() {
            Exit::Done
        } else {
            Exit::NotTrue
        }
    }

    /// The exit code of work whose end nobody waits for.
    pub(super) const fn unfinished(self) -> Exit {
        if self.to_prove.is_empty() { Exit::NotTrue } else { Exit::Failed }
    }

    /// The names of the entities of which nothing was proven.
    fn unproven(self, end: &RequestEnd) -> Vec<&'static str> {
        let found = |entity: &Entity| {
            end.result.as_ref().is_some_and(|result| result.get(entity.name).is_some())
        };
        self.to_prove.iter().filter(|entity| !found(entity)).map(|entity| entity.name).collect()
    }
}

impl OneShot<'_> {
    /// Does the work, here or where the lease is, and prints how each entity ended.
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let stop = self.lifecycle.soft();
        let portal = wiring::portal(self.settings)?;
        wiring::spare_tokens(self.lifecycle, &portal);
        let database =
            wiring::database(self.settings, self.command, Patience::Command, &stop).await?;
        // A shell may lack what the service is given. Backfilling is how rules are changed without
        // a service; whatever else is asked for must not change them on its way.
        let store = match self.work {
            Work::Backfill { .. } => database.store.clone(),
            _ => database.store.clone().guarding_privacy(),
        };
        let store = &store;
        let options = wiring::sync_options(self.settings, self.command)?;
        let retry = options.retry;
        let each_of = || async { Ok(store.each_of(&self.entities).await?) };
        wiring::migrated(self.settings, store, &stop).await?;
        let mut handed: Option<HandedOver> = None;
        loop {
            let opening = || Session::open(store, &portal, &options, &stop);
            let opened = match outlast(retry, &stop, opening).await {
                // An answer was lost, and with it what we had begun.
                Err(SyncError::Store(StoreError::LeaseLost)) => None,
                Ok(Opened::HeldBy { holder, .. }) if holder == options.holder => None,
                opened => Some(opened?),
            };
            let Some(opened) = opened else {
                let pause = stop.run_until_cancelled(sleep(LOOK_AGAIN));
                pause.await.ok_or(SyncError::Stopping)?;
                continue;
            };
            match opened {
                Opened::Session(session) => {
                    let drawing = Drawing::of(options.board.clone());
                    let begun = match &handed {
                        Some(handed) => outlast(retry, &stop, || handed.begun_anew()).await?,
                        None => Vec::new(),
                    };
                    // What a dead holder has begun anew does not begin once more.
                    let endings = session.perform(&self.work, &self.entities, &begun).await;
                    let end = Ending::together(endings);
                    let entities = outlast(retry, &stop, each_of).await?;
                    session.derive_phones().await;
                    session.refresh_reports().await;
                    drawing.finish().await;
                    if let Some(handed) = &handed {
                        let closing = || handed.close(session.generation(), end.clone());
                        outlast(retry, &stop, closing).await?;
                    }
                    session.close().await;
                    return Ok(self.report(&entities).tell(&end));
                }
                Opened::HeldBy { holder, .. } => {
                    let mut entities = outlast(retry, &stop, each_of).await?;
                    if entities.is_empty() {
                        // Not the same as none, which would mean everything.
                        entities.clone_from(&self.entities);
                    }
                    let handed = match &mut handed {
                        // Its first holder is gone, and another was quicker than we to
                        // take over.
                        Some(handed) => handed,
                        none => {
                            // Not tried again: what was left unheard would be done twice.
                            let handing = HandedOver::new(store, &self.work, &entities, retry);
                            none.insert(handing.await?)
                        }
                    };
                    let report = self.report(&entities);
                    let following = Following::begin(handed, self.lifecycle, &holder, report);
                    if let Some(exit) = following.watch().await? {
                        return Ok(exit);
                    }
                }
            }
        }
    }

    fn report<'a>(&self, entities: &'a [&'static Entity]) -> Report<'a> {
        let proves = matches!(self.work, Work::Verify { .. });
        let to_prove = if proves { entities } else { &[] };
        Report { printing: self.printing, to_prove }
    }
}
