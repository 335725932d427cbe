//! `b24mirror run`

use super::{
    Exit,
    progress::Drawing,
    wiring::{self, Patience},
};
use crate::{lifecycle::Lifecycle, settings::Settings, sync};

/// Mirrors until told to stop.
pub(super) async fn run(settings: &Settings, mut lifecycle: Lifecycle) -> anyhow::Result<Exit> {
    let portal = wiring::portal(settings)?;
    let options = wiring::sync_options(settings, "run")?;
    let stop = lifecycle.soft();
    wiring::spare_tokens(&lifecycle, &portal);
    // A database that is away is waited for; to the service manager we are up.
    lifecycle.ready();
    let settings = settings.clone();
    let work = async move {
        let database = wiring::database(&settings, "run", Patience::Forever, &stop).await;
        let database = match database {
            Err(_) if stop.is_cancelled() => return Ok(()),
            connected => connected?,
        };
        while let Err(error) = wiring::migrated(&settings, &database.store, &stop).await {
            if stop.is_cancelled() {
                return Ok(());
            }
            if !wiring::awaits_database(&error) {
                return Err(error);
            }
        }
        let drawing = Drawing::logged(options.board.clone());
        let mirrored = sync::run(&database.store, &portal, &options, &stop).await;
        drawing.finish().await;
        mirrored?;
        anyhow::Ok(())
    };
    lifecycle.supervise(work).await?;
    Ok(Exit::Done)
}
