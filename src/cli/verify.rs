//! `b24mirror verify`

use super::{
    Exit,
    one_shot::{OneShot, Printing},
    wiring,
};
use crate::{
    entity::Entity,
    lifecycle::Lifecycle,
    settings::Settings,
    sync::{Level, Work},
};

/// Holds the mirror against the portal, and repairs what differs if that is wanted.
pub(super) async fn run(
    settings: &Settings,
    lifecycle: &Lifecycle,
    named: &[&'static Entity],
    (level, repair): (Level, bool),
    json: bool,
) -> anyhow::Result<Exit> {
    let entities = wiring::chosen(settings, named)?;
    let (command, work, printing) =
        ("verify", Work::Verify { level, repair }, Printing::from(json));
    OneShot { settings, lifecycle, command, work, entities, printing }.run().await
}

/// Reads `--level`.
pub(super) fn level(word: &str) -> Result<Level, String> {
    match word {
        "counts" => Ok(Level::Counts),
        "ids" => Ok(Level::Ids),
        "full" => Ok(Level::Full),
        _ => Err("there is no level of this name; known are counts, ids, full".to_owned()),
    }
}
