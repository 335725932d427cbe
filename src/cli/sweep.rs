//! `b24mirror sweep`

use super::{
    Exit,
    one_shot::{OneShot, Printing},
    wiring,
};
use crate::{entity::Entity, lifecycle::Lifecycle, settings::Settings, sync::Work};

/// Sweeps, or deletes what an earlier sweep refused to delete.
pub(super) async fn run(
    settings: &Settings,
    lifecycle: &Lifecycle,
    named: &[&'static Entity],
    accept: Option<i64>,
) -> anyhow::Result<Exit> {
    let entities = wiring::chosen(settings, named)?;
    let (command, work, printing) = ("sweep", Work::Sweep { accept }, Printing::Lines);
    OneShot { settings, lifecycle, command, work, entities, printing }.run().await
}
