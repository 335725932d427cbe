//! `b24mirror backfill`

use super::{Exit, one_shot::OneShot, wiring};
use crate::{entity::Entity, lifecycle::Lifecycle, settings::Settings, store::RequestKind};

/// Reads every record that has not been read yet, or all of them anew.
pub(super) async fn run(
    settings: &Settings,
    lifecycle: &Lifecycle,
    named: &[&'static Entity],
    restart: bool,
) -> anyhow::Result<Exit> {
    let entities = wiring::chosen(settings, named)?;
    let (command, kind) = ("backfill", RequestKind::Backfill);
    OneShot { settings, lifecycle, command, kind, entities, restart }.run().await
}
