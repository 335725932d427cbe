//! What is mirrored: one declaration per entity, and how its values are read.
//!
//! This module promises that a portal's record, however oddly its values are
//! typed, becomes the same [`record::Record`] with the same content hash every
//! time, and that what cannot be read becomes a note instead of a loss. It does
//! no IO and knows neither HTTP nor SQL.

mod activity;
pub mod catalogue;
mod column;
mod company;
mod contact;
mod custom_field;
mod deal;
pub mod decode;
pub mod dialect;
pub mod dictionary;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod json;
mod lead;
mod mail_recipient;
mod multi_field;
pub mod phone;
pub mod privacy;
pub mod product_row;
mod quote;
pub mod record;
mod smart_invoice;
mod smart_item;
mod stage_history;
mod value;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use self::record::{Record, Value};
pub use self::{
    activity::ACTIVITIES,
    column::{Column, ColumnType},
    company::COMPANIES,
    contact::CONTACTS,
    deal::DEALS,
    dialect::Dialect,
    lead::LEADS,
    mail_recipient::MAIL_RECIPIENTS,
    multi_field::{Link, MultiField},
    quote::QUOTES,
    smart_invoice::SMART_INVOICES,
    smart_item::{SMART_ITEMS, of_type as smart_process},
    stage_history::{DEAL_STAGE_HISTORY, LEAD_STAGE_HISTORY, SMART_INVOICE_STAGE_HISTORY},
};

/// Everything that the mirror has to know about one kind of record.
///
/// The declaration drives the portal's `select`, the decoder, the content hash,
/// the upsert and the child tables; a test holds it against the migrated database.
/// Fields have the names of the classic lists, whatever they are read by.
#[derive(Debug, PartialEq, Eq)]
pub struct Entity {
    /// Plural; the name in settings and commands, and the record table.
    pub name: &'static str,
    /// Singular; the prefix of child tables and, with `_id`, their parent column.
    pub singular: &'static str,
    /// The classic methods, where it is read by them.
    pub classic: Option<Classic>,
    /// What `crm.item.*` calls it and its fields, where it is an item.
    pub item: Option<Item>,
    /// Every documented field but `ID`, in table order.
    pub columns: &'static [Column],
    /// The columns that hold codes of directories which are not the same for all entities.
    pub codes: &'static [(&'static str, dictionary::Explained)],
    /// The fields with several values and their child tables.
    pub multi_fields: &'static [MultiField],
}

/// How an entity is read by methods of its own, such as `crm.contact.list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classic {
    /// The list method.
    pub list: &'static str,
    /// The `entityTypeId` that goes with every call, where one method lists several entities.
    pub entity_type_id: Option<u32>,
    /// Whether the answer holds the rows under `items`, instead of being the list itself.
    pub in_items: bool,
    /// The method that describes the fields, where there is one. Without it every column is
    /// asked for by its name, since nothing else would be known to be a field.
    pub fields: Option<&'static str>,
    /// The field that says when a record was modified last.
    pub modified: &'static str,
    /// The columns that it never brings; they keep their last values.
    pub lacks: &'static [&'static str],
    /// The columns that it does not bring because they are the same in all that it lists.
    pub implies: &'static [(&'static str, i64)],
    /// Documented fields without a column: objects, which stand with the user fields.
    pub objects: &'static [&'static str],
}

/// How an entity is read by `crm.item.list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// The vendor's number of the entity (vendor page `crm/data-types`, object types).
    pub entity_type_id: u32,
    /// Fields whose names follow neither from the column's nor from what all items share.
    pub names: &'static [(&'static str, &'static str)],
}

impl Classic {
    /// A list with a method that describes its fields, as most are.
    const fn described(list: &'static str, fields: &'static str) -> Self {
        Self {
            list,
            entity_type_id: None,
            in_items: false,
            fields: Some(fields),
            modified: Entity::MODIFIED,
            lacks: &[],
            implies: &[],
            objects: &[],
        }
    }
}

/// Which records of an entity a source shows at all. What is out of its sight has not gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// All of them.
    Everything,
    /// Those alone that have what [`Classic::implies`].
    Implied,
}

impl Entity {
    /// What a source shows of the entity.
    #[must_use]
    pub fn sight(&self, dialect: Dialect) -> Sight {
        match (dialect, self.classic) {
            (Dialect::Classic, Some(classic)) if !classic.implies.is_empty() => Sight::Implied,
            _ => Sight::Everything,
        }
    }

    /// Whether a record lies within what a source shows.
    #[must_use]
    pub fn is_in(&self, sight: Sight, record: &Record) -> bool {
        let implied = match sight {
            Sight::Everything => &[],
            Sight::Implied => self.classic.map_or(&[][..], |classic| classic.implies),
        };
        implied.iter().all(|(field, value)| {
            let stored = self.position(field).and_then(|at| record.values().get(at));
            !matches!(stored, Some(Value::Integer(stored)) if stored != value)
        })
    }

    /// What nearly all entities call the time of the last modification.
    const MODIFIED: &'static str = "DATE_MODIFY";

    /// Every entity that is read by ID and that all portals have, in the order in which status
    /// shows them. The smart processes of a portal come on top; its mirror's schema knows them.
    pub const ALL: [&'static Self; 10] = [
        &CONTACTS,
        &LEADS,
        &COMPANIES,
        &DEALS,
        &QUOTES,
        &SMART_INVOICES,
        &LEAD_STAGE_HISTORY,
        &DEAL_STAGE_HISTORY,
        &SMART_INVOICE_STAGE_HISTORY,
        &ACTIVITIES,
    ];

    /// The entities that are mirrored where nothing is set.
    pub const BY_DEFAULT: [&'static Self; 2] = [&CONTACTS, &LEADS];

    /// What the portal lists in no order and without any filter, so that it is read as a
    /// whole each time.
    pub const WHOLE: [&'static Self; 1] = [&MAIL_RECIPIENTS];

    /// Everything that all portals have: what is read by ID, then what is read as a whole.
    pub fn every() -> impl Iterator<Item = &'static Self> {
        Self::ALL.into_iter().chain(Self::WHOLE)
    }

    /// Everything that has a section of its own in the settings; the smart processes share one.
    pub fn families() -> impl Iterator<Item = &'static Self> {
        Self::ALL.into_iter().chain([&SMART_ITEMS]).chain(Self::WHOLE)
    }

    /// Finds an entity by its plural name: one that all portals have, a smart process, or all of
    /// those together.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        Self::every().find(|entity| entity.name == name).or_else(|| smart_item::by_name(name))
    }

    /// The field that says when a record was modified last; of what never changes, when it
    /// was made.
    #[must_use]
    pub const fn modified(&self) -> &'static str {
        match self.classic {
            Some(classic) => classic.modified,
            None => Self::MODIFIED,
        }
    }

    /// Whether it is read as a whole.
    #[must_use]
    pub fn is_read_whole(&self) -> bool {
        Self::WHOLE.contains(&self)
    }

    /// The fingerprint of how records become rows: when it differs from the stored
    /// one, every record is read again.
    #[must_use]
    pub fn fingerprint(&self) -> i64 {
        let mapping = format!("{} {self:?}", decode::DECODER_VERSION);
        xxhash_rust::xxh3::xxh3_64(mapping.as_bytes()).cast_signed()
    }

    /// The position of a field in [`Self::columns`], hence in a record's values.
    #[must_use]
    pub fn position(&self, field: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.field == field)
    }
}

/// A record's ID in its portal. Positive, unique within an entity, and may pass 2³¹.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct RecordId(i64);

impl RecordId {
    /// Below every real ID: where a scan of the whole table starts.
    pub const ZERO: Self = Self(0);

    /// Takes an ID; `None` unless it is positive.
    #[must_use]
    pub const fn new(id: i64) -> Option<Self> {
        if id > 0 { Some(Self(id)) } else { None }
    }

    /// The number, as the database stores it. Zero only for [`Self::ZERO`].
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RecordId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| format!("`{text}` is not a record ID: it must be a positive number"))
    }
}
