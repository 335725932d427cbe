//! The indexes that people's questions need, and mirroring does not.
//!
//! They are built once an entity is filled, and not with its tables: an index that grows row
//! by row during the first load costs many times what building it at the end does.

use crate::entity::{Entity, MultiField};

/// An index of one of the mirror's own tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// The table.
    pub table: &'static str,
    /// What is indexed, and of which rows: what follows the table's name in its definition.
    pub on: String,
}

impl Index {
    fn new(table: &'static str, what: &str, on: impl Into<String>) -> Self {
        Self { name: format!("{table}_{what}"), table, on: on.into() }
    }
}

/// What makes a contact's dates impossible, whatever time it is. A report that asks for these
/// rows has to repeat it word for word.
const IMPOSSIBLE: &str = "birthdate < date '1900-01-01' \
    or birthdate > (date_create at time zone 'UTC')::date + 1 \
    or date_modify < date_create";

/// What tells a hash from a number. The reports repeat it word for word, too.
const HASHED: &str = "value ~ '^[0-9a-f]{32}$'";

/// The indexes of an entity's tables. Those of few rows cost a writer hardly more than a look
/// at their condition.
#[must_use]
pub fn indexes(entity: &'static Entity) -> Vec<Index> {
    let of = |what: &str, on: &str| Index::new(entity.name, what, on);
    let named = |field: &str| Some(entity.columns.get(entity.position(field)?)?.name);
    let mut indexes = Vec::new();
    if let Some(modified) = named(entity.modified()) {
        // What changed lately, also for whoever copies the mirror further.
        indexes.push(of(modified, &format!("({modified})")));
    }
    if entity.position("ASSIGNED_BY_ID").is_some() {
        indexes.push(of("assigned_by_id", "(assigned_by_id, id) where deleted_at is null"));
    }
    // Tombstones are few, so reports look for those instead of for every living record.
    indexes.push(of("deleted", "(id) where deleted_at is not null"));
    if let (Some(of_kind), Some(owner)) = (named("OWNER_TYPE_ID"), named("OWNER_ID")) {
        // What was done for a record.
        indexes.push(of(owner, &format!("({owner}, {of_kind}, id) where deleted_at is null")));
    } else if let Some(owner) = named("OWNER_ID") {
        // The steps of a record, one after the other.
        indexes.push(of(owner, &format!("({owner}, created_time, id) where deleted_at is null")));
    }
    if entity.position("CONTACT_ID").is_some() {
        let linked = "(contact_id, id) where contact_id is not null and deleted_at is null";
        indexes.push(of("contact_id", linked));
    }
    if entity.name == "contacts" {
        indexes.extend([
            of("date_create", "(date_create) where deleted_at is null"),
            // Nobody can be reached by a number without digits or an address without @.
            of(
                "unreachable",
                "(id) where has_phone is not true and has_email is not true \
                 and deleted_at is null",
            ),
            of("impossible", &format!("(id) where {IMPOSSIBLE}")),
        ]);
        let unusable = "(contact_id) where address is null or address not like '%@%'";
        indexes.push(Index::new("contact_emails", "unusable", unusable));
    }
    for field in entity.multi_fields {
        indexes.extend(of_values(entity, field));
    }
    indexes
}

/// Who has this number or this address. With the record, so that duplicates are found in the
/// index alone.
fn of_values(entity: &Entity, field: &'static MultiField) -> Vec<Index> {
    let of = |what: &str, on: String| Index::new(field.table, what, on);
    let record = entity.key();
    if field.is_phone() {
        vec![
            of("digits", "(digits)".to_owned()),
            of("e164", format!("(e164, {record}) where e164 is not null")),
            // The few numbers that mean nothing to a numbering plan can still be the same.
            of(
                "unparsed",
                format!(
                    "(digits collate \"C\", {record}) where e164 is null and ({HASHED}) is not true"
                ),
            ),
            // What the settings have hashed is the same where its hash is.
            of("hashed", format!("(value collate \"C\", {record}) where {HASHED}")),
        ]
    } else if field.field == "EMAIL" {
        vec![of("address", format!("(address, {record})"))]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporting::ready;

    #[test]
    fn the_report_asks_for_impossible_dates_in_the_words_of_their_index() {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let report = ready::views().iter().find(|one| one.name == "impossible_dates").unwrap();
        assert!(words(report.text()).contains(&words(IMPOSSIBLE)));
    }

    #[test]
    fn the_reports_tell_hashes_from_numbers_in_the_words_of_their_index() {
        for name in ["duplicates_by_phone", "contacts_without_phone_or_email"] {
            let report = ready::views().iter().find(|one| one.name == name).unwrap();
            assert!(report.text().contains(&format!("({HASHED}) is not true")), "{name}");
        }
    }

    #[test]
    fn no_two_indexes_have_one_name() {
        let all: Vec<Index> = Entity::ALL.into_iter().flat_map(indexes).collect();
        let mut names: Vec<&str> = all.iter().map(|index| index.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
    }
}
