//! The families of records that a portal keeps.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::families::{CONTACT, LEAD};
use super::fields::{Content, Field};

/// How many families there are.
pub(super) const FAMILIES: usize = 2;

/// A family of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entity {
    /// `crm.contact.*`, and `crm.item.*` with the type 3
    Contacts,
    /// `crm.lead.*`, and `crm.item.*` with the type 1
    Leads,
}

impl Entity {
    /// The families that have a classic list.
    pub const ALL: [Self; 2] = [Self::Contacts, Self::Leads];

    /// All families; those without a classic list are in `crm.item.*` only.
    pub const EVERY: [Self; FAMILIES] = [Self::Contacts, Self::Leads];

    pub(super) fn index(self) -> usize {
        match self {
            Self::Contacts => 0,
            Self::Leads => 1,
        }
    }

    /// The `entityTypeId` of `crm.item.*`.
    #[must_use]
    pub fn type_id(self) -> i64 {
        match self {
            Self::Contacts => 3,
            Self::Leads => 1,
        }
    }

    /// The family of an `entityTypeId`.
    pub(super) fn of_type(id: i64) -> Option<Self> {
        Self::EVERY.into_iter().find(|entity| entity.type_id() == id)
    }

    pub(super) fn fields(self) -> &'static [Field] {
        match self {
            Self::Contacts => CONTACT,
            Self::Leads => LEAD,
        }
    }

    /// The names of the fields in `crm.item.*`, in the same order.
    pub(super) fn item_names(self) -> &'static [String] {
        static NAMES: LazyLock<[Vec<String>; FAMILIES]> = LazyLock::new(|| {
            Entity::EVERY.map(|entity| entity.fields().iter().map(Field::item_name).collect())
        });
        &NAMES[self.index()]
    }

    /// The place of the field that holds the first of a record's links.
    pub(super) fn primary_link(self) -> Option<usize> {
        static PLACES: LazyLock<[Option<usize>; FAMILIES]> = LazyLock::new(|| {
            Entity::EVERY.map(|entity| {
                let wanted = match entity {
                    Entity::Contacts => Content::Company,
                    Entity::Leads => Content::Contact,
                };
                entity.fields().iter().position(|field| field.content == wanted)
            })
        });
        PLACES[self.index()]
    }

    /// The name in method names and in user-field entities.
    pub(super) fn portal_name(self) -> &'static str {
        match self {
            Self::Contacts => "contact",
            Self::Leads => "lead",
        }
    }

    /// Whether records have phones and the like.
    pub(super) fn has_multi_fields(self) -> bool {
        matches!(self, Self::Contacts | Self::Leads)
    }

    /// Whether records may be of a category that the classic lists hide.
    pub(super) fn has_hidden_categories(self) -> bool {
        self == Self::Contacts
    }
}
