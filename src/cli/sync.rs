//! `b24mirror sync`

use super::{
    Exit,
    one_shot::{OneShot, Printing},
    wiring,
};
use crate::{entity::Entity, lifecycle::Lifecycle, settings::Settings, sync::Work};

/// Performs one incremental cycle per entity.
pub(super) async fn run(
    settings: &Settings,
    lifecycle: &Lifecycle,
    named: &[&'static Entity],
) -> anyhow::Result<Exit> {
    let entities = wiring::chosen(settings, named)?;
    let (command, work, printing) = ("sync", Work::Sync, Printing::Lines);
    OneShot { settings, lifecycle, command, work, entities, printing }.run().await
}
