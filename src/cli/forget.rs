//! `b24mirror forget`

use std::io::{self, IsTerminal as _};

use super::{
    Exit,
    one_shot::{OneShot, Printing},
    output::prompt,
    wiring,
};
use crate::{
    entity::{Entity, RecordId},
    lifecycle::Lifecycle,
    settings::Settings,
    sync::Work,
};

/// Nobody is there to be asked, and nobody has said yes.
#[derive(Debug, thiserror::Error)]
#[error("forgetting cannot be undone; where no terminal can ask for a yes, say --yes")]
pub(super) struct NobodyToAsk;

/// Removes records from every table and keeps them out, once somebody has said yes.
pub(super) async fn run(
    settings: &Settings,
    lifecycle: &Lifecycle,
    (entity, ids): (&'static Entity, &[RecordId]),
    (yes, json): (bool, bool),
) -> anyhow::Result<Exit> {
    let entities = wiring::chosen(settings, &[entity])?;
    if !yes && !confirmed(entity, ids).await? {
        return Ok(Exit::NotTrue);
    }
    let work = Work::Forget { records: ids.to_vec() };
    let (command, printing) = ("forget", Printing::from(json));
    OneShot { settings, lifecycle, command, work, entities, printing }.run().await
}

/// Asks at the terminal.
async fn confirmed(entity: &'static Entity, ids: &[RecordId]) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(NobodyToAsk.into());
    }
    let named = match ids {
        [id] => format!("{} {id}", entity.singular),
        ids => format!("{} {}", ids.len(), entity.name),
    };
    prompt(&format!(
        "Remove {named} from every table and keep it out for good? This cannot be undone. [y/N] "
    ));
    let reading = tokio::task::spawn_blocking(|| {
        let mut typed = String::new();
        io::stdin().read_line(&mut typed).map(|_| typed)
    });
    Ok(says_yes(&reading.await??))
}

fn says_yes(typed: &str) -> bool {
    matches!(typed.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        for (typed, yes) in [
            ("y\n", true),
            (" YES\r\n", true),
            ("\n", false),
            ("", false),
            ("no\n", false),
            ("yy", false),
        ] {
            assert_eq!(says_yes(typed), yes, "{typed:?}");
        }
    }
}
