//! `b24mirror pause` and `b24mirror resume`

use anyhow::Context as _;

use super::{
    Exit,
    output::say,
    wiring::{self, Patience},
};
use crate::{
    entity::Entity,
    lifecycle::Lifecycle,
    settings::Settings,
    store::{Pause, Store},
};

/// Stops reading and writing entities until they are resumed.
pub(super) async fn pause(
    settings: &Settings,
    lifecycle: &Lifecycle,
    entities: &[&'static Entity],
) -> anyhow::Result<Exit> {
    let database =
        wiring::database(settings, "pause", Patience::Command, &lifecycle.soft()).await?;
    let store = &database.store;
    wiring::migrated(settings, store, &lifecycle.soft()).await?;
    let by = who()?;
    for entity in entities {
        match store.pause(entity, &by).await? {
            None => say!("{}: paused; `b24mirror resume {0}` lifts that", entity.name),
            Some(pause) => say!("{}: has been paused already, {}", entity.name, since(&pause)),
        }
        tell_if_off(settings, entity);
    }
    tell_about_the_holder(store).await?;
    Ok(Exit::Done)
}

/// Ends the pause of entities.
pub(super) async fn resume(
    settings: &Settings,
    lifecycle: &Lifecycle,
    entities: &[&'static Entity],
) -> anyhow::Result<Exit> {
    let database =
        wiring::database(settings, "resume", Patience::Command, &lifecycle.soft()).await?;
    let store = &database.store;
    wiring::migrated(settings, store, &lifecycle.soft()).await?;
    for entity in entities {
        match store.resume(entity).await? {
            None => say!("{}: is not paused", entity.name),
            Some(pause) => say!("{}: resumed; it was paused {}", entity.name, since(&pause)),
        }
        tell_if_off(settings, entity);
    }
    tell_about_the_holder(store).await?;
    Ok(Exit::Done)
}

/// Says of an entity that these settings do not enable that nothing reads it anyway. That is no
/// error: the pause holds when it is enabled, and the service may have other settings.
fn tell_if_off(settings: &Settings, entity: &'static Entity) {
    let section = entity.family().name;
    if settings.entities.by_name(section).is_none_or(|entity| !entity.enabled) {
        say!(
            "{}: is not mirrored, as `entities.{section}.enabled` is false in these settings",
            entity.name
        );
    }
}

async fn tell_about_the_holder(store: &Store) -> anyhow::Result<()> {
    let lease = store.lease_row().await?;
    match lease.holder.filter(|_| lease.held) {
        Some(holder) => say!("{holder}, takes note within two seconds"),
        None => say!("no process is mirroring now; the next one takes note"),
    }
    Ok(())
}

fn since(pause: &Pause) -> String {
    format!("since {} by {}", pause.since.format("%Y-%m-%d %H:%M:%S UTC"), pause.by)
}

/// The account and the host.
fn who() -> anyhow::Result<String> {
    let host = wiring::host()?;
    let uid = nix::unistd::getuid();
    let account = nix::unistd::User::from_uid(uid).context("cannot read the accounts")?;
    // An account without a name, as in a container.
    let account = account.map_or_else(|| format!("user {uid}"), |account| account.name);
    Ok(format!("{account} on {host}"))
}
