//! `b24mirror refresh`

use super::{
    Exit, entity, entity_with_ids,
    one_shot::{OneShot, Printing},
    wiring,
};
use crate::{
    entity::{Entity, RecordId},
    lifecycle::Lifecycle,
    settings::Settings,
    sync::{Selection, Work},
};

/// Words that do not say what to read again.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum WrongWords {
    /// Not a single record is named.
    #[error(
        "name an entity and the IDs of its records, as in `b24mirror refresh contacts 4711`, or \
         use --quarantined"
    )]
    Nothing,
    /// The first word is no entity, or with `--quarantined` any of them.
    #[error("`{word}`: {problem}")]
    Entity {
        /// The word.
        word: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A word is no ID.
    #[error("{0}")]
    Id(String),
    /// IDs stand beside `--quarantined`.
    #[error("--quarantined takes entities and no IDs, but `{0}` is a number")]
    IdOfQuarantined(String),
}

/// What the words of the command line name.
pub(super) fn named(
    words: &[String],
    quarantined: bool,
) -> Result<(Vec<&'static Entity>, Selection), WrongWords> {
    let of_entity = |word: &String| {
        entity(word).map_err(|problem| WrongWords::Entity { word: word.clone(), problem })
    };
    if quarantined {
        if let Some(number) = words.iter().find(|word| word.parse::<i64>().is_ok()) {
            return Err(WrongWords::IdOfQuarantined(number.clone()));
        }
        let entities = words.iter().map(of_entity).collect::<Result<_, _>>()?;
        return Ok((entities, Selection::Quarantined));
    }
    let (first, ids) = words.split_first().ok_or(WrongWords::Nothing)?;
    let entity = entity_with_ids(first)
        .map_err(|problem| WrongWords::Entity { word: first.clone(), problem })?;
    if ids.is_empty() {
        return Err(WrongWords::Nothing);
    }
    let ids = ids.iter().map(|word| word.parse::<RecordId>().map_err(WrongWords::Id));
    Ok((vec![entity], Selection::Ids(ids.collect::<Result<_, _>>()?)))
}

/// Reads records again, whatever their rows say.
pub(super) async fn run(
    settings: &Settings,
    lifecycle: &Lifecycle,
    (words, quarantined): (&[String], bool),
    json: bool,
) -> anyhow::Result<Exit> {
    let (entities, records) = named(words, quarantined)?;
    let entities = wiring::chosen(settings, &entities)?;
    let (command, work, printing) = ("refresh", Work::Refresh { records }, Printing::from(json));
    OneShot { settings, lifecycle, command, work, entities, printing }.run().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{CONTACTS, LEADS};

    fn read(
        words: &[&str],
        quarantined: bool,
    ) -> Result<(Vec<&'static Entity>, Selection), String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        named(&words, quarantined).map_err(|error| error.to_string())
    }

    #[test]
    fn an_entity_and_ids_or_entities_with_a_quarantine_are_understood() {
        let ids = [7, 8].map(|id| RecordId::new(id).unwrap()).to_vec();
        assert_eq!(
            read(&["contacts", "7", "8"], false),
            Ok((vec![&CONTACTS], Selection::Ids(ids)))
        );
        assert_eq!(read(&[], true), Ok((Vec::new(), Selection::Quarantined)));
        let both = (vec![&CONTACTS, &LEADS], Selection::Quarantined);
        assert_eq!(read(&["contacts", "leads"], true), Ok(both));
    }

    #[test]
    fn wrong_words_are_answered_with_what_is_wrong() {
        let wrong = |words: &[&str], quarantined, says: &str| {
            let error = read(words, quarantined).unwrap_err();
            assert!(error.contains(says), "{error}");
        };
        wrong(&[], false, "b24mirror refresh contacts 4711");
        wrong(&["contacts"], false, "name an entity and the IDs");
        wrong(&["contact", "7"], false, "known are contacts, leads");
        wrong(&["smart_items", "7"], false, "smart_items_128");
        wrong(&["contacts", "7", "x8"], false, "`x8` is not a record ID");
        wrong(&["contacts", "0"], false, "`0` is not a record ID");
        wrong(&["contacts", "-3"], false, "`-3` is not a record ID");
        wrong(&["contacts", "7"], true, "`7` is a number");
    }
}
