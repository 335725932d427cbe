//! `b24mirror sync`

use super::{Exit, one_shot::OneShot, wiring};
use crate::{entity::Entity, lifecycle::Lifecycle, settings::Settings, store::RequestKind};

/// Performs one incremental cycle per entity.
pub(super) async fn run(
    settings: &Settings,
    lifecycle: &Lifecycle,
    named: &[&'static Entity],
) -> anyhow::Result<Exit> {
    let entities = wiring::chosen(settings, named)?;
    let (command, kind) = ("sync", RequestKind::Sync);
    OneShot { settings, lifecycle, command, kind, entities, restart: false }.run().await
}
