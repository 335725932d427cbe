//! The families of records that a portal keeps.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::families::{
    ACTIVITY, COMPANY, CONTACT, DEAL, EQUIPMENT, LEAD, PROJECT, QUOTE, SMART_INVOICE,
};
use super::fields::{Content, Field};

/// How many families there are.
pub(super) const FAMILIES: usize = 9;

/// A family of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entity {
    /// `crm.contact.*`, and `crm.item.*` with the type 3
    Contacts,
    /// `crm.lead.*`, and `crm.item.*` with the type 1
    Leads,
    /// `crm.item.*` with the type 4
    Companies,
    /// `crm.item.*` with the type 2
    Deals,
    /// `crm.item.*` with the type 7
    Quotes,
    /// `crm.item.*` with the type 31
    SmartInvoices,
    /// A smart process with stages and clients: `crm.item.*` with the type 128
    Projects,
    /// A smart process without any of that: `crm.item.*` with the type 1036
    Equipment,
    /// Calls, mails and meetings: `crm.activity.list`, and no item
    Activities,
}

impl Entity {
    /// The families of people, which have a classic list and are items as well.
    pub const ALL: [Self; 2] = [Self::Contacts, Self::Leads];

    /// All families.
    pub const EVERY: [Self; FAMILIES] = [
        Self::Contacts,
        Self::Leads,
        Self::Companies,
        Self::Deals,
        Self::Quotes,
        Self::SmartInvoices,
        Self::Projects,
        Self::Equipment,
        Self::Activities,
    ];

    /// Those that are in `crm.item.*`.
    pub(super) fn items() -> impl Iterator<Item = Self> {
        Self::EVERY.into_iter().filter(|entity| *entity != Self::Activities)
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Contacts => 0,
            Self::Leads => 1,
            Self::Companies => 2,
            Self::Deals => 3,
            Self::Quotes => 4,
            Self::SmartInvoices => 5,
            Self::Projects => 6,
            Self::Equipment => 7,
            Self::Activities => 8,
        }
    }

    /// The vendor's number of the family, the `entityTypeId` of `crm.item.*`.
    #[must_use]
    pub fn type_id(self) -> i64 {
        match self {
            Self::Contacts => 3,
            Self::Leads => 1,
            Self::Companies => 4,
            Self::Deals => 2,
            Self::Quotes => 7,
            Self::SmartInvoices => 31,
            Self::Projects => 128,
            Self::Equipment => 1036,
            Self::Activities => 6,
        }
    }

    /// The family of items that an `entityTypeId` means.
    pub(super) fn of_type(id: i64) -> Option<Self> {
        Self::items().find(|entity| entity.type_id() == id)
    }

    pub(super) fn fields(self) -> &'static [Field] {
        match self {
            Self::Contacts => CONTACT,
            Self::Leads => LEAD,
            Self::Companies => COMPANY,
            Self::Deals => DEAL,
            Self::Quotes => QUOTE,
            Self::SmartInvoices => SMART_INVOICE,
            Self::Projects => PROJECT,
            Self::Equipment => EQUIPMENT,
            Self::Activities => ACTIVITY,
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
                let contacts = entity == Entity::Contacts;
                let wanted = if contacts { Content::Company } else { Content::Contact };
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
            Self::Companies => "company",
            Self::Deals => "deal",
            Self::Quotes => "quote",
            Self::SmartInvoices => "smart_invoice",
            Self::Projects => "3",
            Self::Equipment => "7",
            Self::Activities => "activity",
        }
    }

    /// What the codes of its user fields begin with.
    pub(super) fn user_field_prefix(self) -> &'static str {
        match self {
            Self::SmartInvoices => "UF_CRM_SMART_INVOICE_",
            Self::Projects => "UF_CRM_3_",
            Self::Equipment => "UF_CRM_7_",
            _ => "UF_CRM_",
        }
    }

    /// What product rows call it; none for families without product rows.
    pub(super) fn product_code(self) -> Option<&'static str> {
        match self {
            Self::Leads => Some("L"),
            Self::Deals => Some("D"),
            Self::Quotes => Some("Q"),
            Self::SmartInvoices => Some("SI"),
            Self::Projects => Some("T80"),
            Self::Contacts | Self::Companies | Self::Equipment | Self::Activities => None,
        }
    }

    /// Whether the portal's people have made it up.
    pub(super) fn is_smart_process(self) -> bool {
        matches!(self, Self::Projects | Self::Equipment)
    }

    /// Whether people may give it fields of their own.
    pub(super) fn has_user_fields(self) -> bool {
        self != Self::Activities
    }

    /// Whether records have phones and the like.
    pub(super) fn has_multi_fields(self) -> bool {
        matches!(self, Self::Contacts | Self::Leads | Self::Companies)
    }

    /// Whether records may be of a category that the classic lists hide.
    pub(super) fn has_hidden_categories(self) -> bool {
        matches!(self, Self::Contacts | Self::Companies)
    }
}
