//! `b24mirror backfill`

use super::{
    Exit,
    one_shot::{OneShot, Printing},
    wiring,
};
use crate::{entity::Entity, lifecycle::Lifecycle, settings::Settings, sync::Work};

/// Reads every record that has not been read yet, or all of them anew.
pub(super) async fn run(
    settings: &Settings,
    lifecycle: &Lifecycle,
    named: &[&'static Entity],
    restart: bool,
) -> anyhow::Result<Exit> {
    let entities = wiring::chosen(settings, named)?;
    let (command, work, printing) = ("backfill", Work::Backfill { restart }, Printing::Lines);
    OneShot { settings, lifecycle, command, work, entities, printing }.run().await
}
