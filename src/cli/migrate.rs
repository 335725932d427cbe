//! `b24mirror migrate`

use anyhow::Context as _;

use super::{
    Exit,
    output::say,
    wiring::{self, Patience},
};
use crate::{lifecycle::Lifecycle, settings::Settings};

/// Brings the schema up to date, whatever `database.migrate` says.
pub(super) async fn run(settings: &Settings, lifecycle: &Lifecycle) -> anyhow::Result<Exit> {
    let stop = lifecycle.soft();
    let database = wiring::database(settings, "migrate", Patience::Command, &stop).await?;
    let migrating = stop.run_until_cancelled(database.store.migrate()).await;
    migrating.context("interrupted; nothing of the step under way is kept")??;
    say!("schema `{}` is up to date", database.store.schema());
    Ok(Exit::Done)
}
