//! `b24mirror purge`

use std::time::Duration;

use super::{
    Exit,
    output::say,
    wiring::{self, Patience},
};
use crate::{
    entity::{Entity, RecordId},
    lifecycle::Lifecycle,
    settings::Settings,
    sync::counted,
};

/// Tombstones younger than this still guard against answers that are on their way.
const SHORTEST: Duration = Duration::from_hours(1);

/// A hundred years.
const LONGEST: Duration = Duration::from_hours(24 * 36_525);

/// Removes what was deleted in the portal long ago.
pub(super) async fn run(
    settings: &Settings,
    lifecycle: &Lifecycle,
    named: &[&'static Entity],
    older_than: Duration,
) -> anyhow::Result<Exit> {
    let stop = lifecycle.soft();
    let database = wiring::database(settings, "purge", Patience::Command, &stop).await?;
    let store = &database.store;
    wiring::migrated(settings, store, &stop).await?;
    let before = store.ago(older_than).await?;
    let stored = store.entities().await?;
    let is_named = |entity: &&'static Entity| named.iter().any(|named| named.covers(entity));
    let entities = match named {
        [] => stored,
        _ => stored.into_iter().filter(is_named).collect(),
    };
    let day = before.format("%Y-%m-%d %H:%M:%S UTC");
    for entity in entities {
        let (mut purged, mut above) = (0, RecordId::ZERO);
        loop {
            // Between two transactions, so that what has been removed is told.
            if stop.is_cancelled() {
                let purged = counted(purged, "record");
                say!("{}: interrupted after {purged}; run it again", entity.name);
                return Ok(Exit::NotTrue);
            }
            let Some((removed, last)) = store.purge_some(entity, before, above).await? else {
                break;
            };
            (purged, above) = (purged + removed, last);
        }
        let purged = counted(purged, "record");
        say!("{}: {purged} purged that were deleted before {day}", entity.name);
    }
    Ok(Exit::Done)
}

/// Reads the age from which on tombstones go.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    let form = "must be a time with its unit, such as 90d, from 1h to 36525d";
    let age = humantime::parse_duration(text.trim()).map_err(|_| form.to_owned())?;
    if (SHORTEST..=LONGEST).contains(&age) { Ok(age) } else { Err(form.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sensible_ages_are_taken() {
        assert_eq!(age("90d"), Ok(Duration::from_hours(24 * 90)));
        assert_eq!(age(" 1h "), Ok(SHORTEST));
        for nonsense in ["", "0", "0s", "90", "-90d", "59m", "36526d", "1000000y", "soon", "all"] {
            let refused = age(nonsense).unwrap_err();
            assert!(refused.contains("90d"), "{nonsense}: {refused}");
        }
    }
}
