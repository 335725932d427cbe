//! What every command that reads the portal shares: doing the work under the lease, or
//! handing it to the process that holds it and following it there.

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
    store::RequestEnd,
    sync::{Ending, Opened, Session, SyncError, Work, requests::HandedOver},
};

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

impl Printing {
    /// Prints how the work ended and says what the exit code has to be.
    pub(super) fn report(self, end: &RequestEnd) -> Exit {
        match self {
            Self::Lines => say!("{}", end.message),
            Self::Json => {
                let told = serde_json::json!({
                    "verdict": end.verdict.as_str(),
                    "differs": end.differs,
                    "message": end.message,
                    "entities": end.result,
                });
                say!("{told:#}");
            }
        }
        if end.is_true() { Exit::Done } else { Exit::NotTrue }
    }
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
                    let end = self.work(&session, handed.as_ref()).await?;
                    drawing.finish().await;
                    if let Some(handed) = handed {
                        handed.close(session.generation(), end.clone()).await?;
                    }
                    session.close().await;
                    return Ok(self.printing.report(&end));
                }
                Opened::HeldBy { holder, .. } => {
                    let handed = match &mut handed {
                        // Its first holder is gone, and another was quicker than we to
                        // take over.
                        Some(handed) => handed,
                        none => {
                            let handing =
                                HandedOver::new(store, &self.work, &self.entities, options.retry);
                            none.insert(handing.await?)
                        }
                    };
                    let following =
                        Following::begin(handed, self.lifecycle, &holder, self.printing);
                    if let Some(exit) = following.watch().await? {
                        return Ok(exit);
                    }
                }
            }
        }
    }

    /// Does the work here; what a dead holder has begun anew does not begin once more.
    async fn work(
        &self,
        session: &Session,
        handed: Option<&HandedOver>,
    ) -> Result<RequestEnd, SyncError> {
        let begun = match handed {
            Some(handed) => handed.begun_anew().await?,
            None => Vec::new(),
        };
        Ok(Ending::together(session.perform(&self.work, &self.entities, &begun).await))
    }
}
