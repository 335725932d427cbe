//! A decoded record, its content hash, and what happens to what cannot be decoded.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Entity, RecordId,
    json::{self, NotCanonical, Raw, raw::Quoted},
};

/// One value of a typed column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Absent, empty, or unreadable (then the record carries a note).
    Null,
    /// Text without U+0000.
    Text(String),
    /// Integers, references and file IDs.
    Integer(i64),
    /// `Y` or `N`.
    Flag(bool),
    /// A canonical decimal: no exponent, no superfluous zeros.
    Decimal(String),
    /// A calendar day.
    Date(NaiveDate),
    /// An instant, to the second.
    Timestamp(DateTime<Utc>),
    /// Not brought by the source that the record was read from: what is stored stays.
    Kept,
}

/// One value of a multi-field, keyed by the portal's own value ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The portal's ID of the value; stable as long as the value lives.
    pub id: i64,
    /// The value as entered.
    pub value: Option<String>,
    /// `WORK`, `MOBILE` …; an open set.
    pub value_type: Option<String>,
}

/// The values of one multi-field of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildList {
    /// What the record has, sorted by ID without duplicates; often nothing.
    Known(Vec<Child>),
    /// The answer contradicts itself: the stored children stay, and a note says so.
    Untrusted,
    /// Not brought by the source that the record was read from: what is stored stays.
    Kept,
}

/// Every field that has no column of its own, as the canonical text of one JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomFields(String);

impl CustomFields {
    /// Reads the object back as the database spells it.
    ///
    /// # Errors
    /// [`NotCanonical`] where something else stands there.
    pub fn from_stored(text: &str) -> Result<Self, NotCanonical> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|_| NotCanonical::Malformed)?;
        json::canonical(raw).map(Self)
    }

    /// Joins fields, sorted by name and each in canonical JSON text.
    pub(super) fn of_sorted<'a>(fields: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let length = fields.clone().map(|(name, json)| name.len() + json.len() + 4).sum::<usize>();
        let mut text = String::with_capacity(length + 2);
        text.push('{');
        for (name, json) in fields {
            if text.len() > 1 {
                text.push(',');
            }
            json::push_quoted(&mut text, name);
            text.push(':');
            text.push_str(json);
        }
        text.push('}');
        Self(text)
    }

    /// The fields by name, each in canonical JSON text.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let text = |(key, value): (Quoted<'_>, Raw<'_>)| {
            Some((key.read().ok()?.into_owned(), value.text().to_owned()))
        };
        Raw::well_formed(&self.0).fields().filter_map(text).collect()
    }

    /// The object's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for CustomFields {
    fn default() -> Self {
        Self("{}".to_owned())
    }
}

impl From<BTreeMap<String, String>> for CustomFields {
    /// Joins fields, each in canonical JSON text.
    fn from(fields: BTreeMap<String, String>) -> Self {
        Self::of_sorted(fields.iter().map(|(name, json)| (name.as_str(), json.as_str())))
    }
}

/// Why something was set aside in the quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The value is not of its column's type; the column is NULL.
    UnreadableValue,
    /// U+0000 was removed, because PostgreSQL cannot store it.
    NulRemoved,
    /// The row says that it has values of this multi-field, but none came.
    ChildrenMissing,
    /// A multi-field came in a shape that cannot be read.
    UnreadableChildren,
    /// A multi-field value without a usable ID was left out.
    ChildWithoutId,
    /// A second multi-field value with the same ID was left out.
    DuplicateChildId,
    /// The record has no usable ID.
    NoUsableId,
    /// The record is not a JSON object.
    UnparsableRecord,
    /// PostgreSQL refused the record.
    RefusedByDatabase,
    /// The portal could not deliver the record, although it lists its ID.
    Undeliverable,
}

impl Reason {
    /// Every reason; for reading one back.
    pub const ALL: [Self; 10] = [
        Self::UnreadableValue,
        Self::NulRemoved,
        Self::ChildrenMissing,
        Self::UnreadableChildren,
        Self::ChildWithoutId,
        Self::DuplicateChildId,
        Self::NoUsableId,
        Self::UnparsableRecord,
        Self::RefusedByDatabase,
        Self::Undeliverable,
    ];

    /// The word stored in `sync_quarantine.reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnreadableValue => "unreadable_value",
            Self::NulRemoved => "nul_removed",
            Self::ChildrenMissing => "children_missing",
            Self::UnreadableChildren => "unreadable_children",
            Self::ChildWithoutId => "child_without_id",
            Self::DuplicateChildId => "duplicate_child_id",
            Self::NoUsableId => "no_usable_id",
            Self::UnparsableRecord => "unparsable_record",
            Self::RefusedByDatabase => "refused_by_database",
            Self::Undeliverable => "undeliverable",
        }
    }

    /// Reads the stored word back.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// One thing about a record that could not be stored as it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The portal's field name; empty when the whole record is meant.
    pub field: String,
    /// What is wrong.
    pub reason: Reason,
    /// The value as canonical JSON text (for [`Reason::RefusedByDatabase`] with the
    /// database's own message). It may hold personal data: never log it.
    pub raw: String,
}

/// A record that cannot be stored at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Its ID, where that much could be read.
    pub id: Option<RecordId>,
    /// Why, with the record itself as raw value.
    pub note: Note,
}

/// The fingerprint of everything that is stored about one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(i64);

impl ContentHash {
    /// A hash read back from the database.
    #[must_use]
    pub const fn from_stored(hash: i64) -> Self {
        Self(hash)
    }

    /// The number, as `content_hash` stores it.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// A record as the mirror stores it.
///
/// Two records are equal in content exactly when their hashes are: list order,
/// escaping, a clock change, or `""` instead of null never look like a change, and
/// a changed unreadable value does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    id: RecordId,
    values: Vec<Value>,
    custom_fields: CustomFields,
    children: Vec<ChildList>,
    notes: Vec<Note>,
    hash: ContentHash,
    /// Fields without a column that came empty; see [`Self::completed`].
    emptied: Vec<String>,
}

impl Record {
    /// Joins the parts and computes the content hash. `values` follows
    /// `Entity::columns` and `children` follows `Entity::multi_fields`.
    #[must_use]
    pub fn new(
        id: RecordId,
        values: Vec<Value>,
        custom_fields: impl Into<CustomFields>,
        children: Vec<ChildList>,
        mut notes: Vec<Note>,
    ) -> Self {
        notes.sort_unstable();
        notes.dedup();
        let custom_fields = custom_fields.into();
        let hash = content_hash(&values, &custom_fields, &children, &notes);
        Self { id, values, custom_fields, children, notes, hash, emptied: Vec::new() }
    }

    /// Remembers which fields without a column came empty.
    pub(super) fn emptied(self, emptied: Vec<String>) -> Self {
        Self { emptied, ..self }
    }

    /// The record with what its source does not bring taken from what is stored of it, so
    /// that the whole of it can be compared and written. `None` if it is whole already.
    ///
    /// Its own hash takes what is kept for empty. So it equals the stored hash only where
    /// nothing is stored that would be kept, and then the two are equal indeed.
    #[must_use]
    pub fn completed(&self, entity: &Entity, stored: &Self) -> Option<Self> {
        let kept_values = self.values.contains(&Value::Kept);
        let kept_lists = self.children.contains(&ChildList::Kept);
        let mut custom_fields = self.custom_fields.to_map();
        let own = custom_fields.len();
        for (field, json) in stored.custom_fields.to_map() {
            if !is_always_brought(&field) && !self.emptied.contains(&field) {
                custom_fields.entry(field).or_insert(json);
            }
        }
        if !kept_values && !kept_lists && custom_fields.len() == own {
            return None;
        }
        let mut notes = self.notes.clone();
        let mut keep_notes = |field: &str| {
            notes.extend(stored.notes.iter().filter(|note| note.field == field).cloned());
        };
        let mut values = self.values.clone();
        for ((column, value), old) in entity.columns.iter().zip(&mut values).zip(&stored.values) {
            if *value == Value::Kept {
                *value = old.clone();
                keep_notes(column.field);
            }
        }
        let mut children = self.children.clone();
        for ((multi, list), old) in
            entity.multi_fields.iter().zip(&mut children).zip(&stored.children)
        {
            if *list == ChildList::Kept {
                *list = old.clone();
                keep_notes(multi.field);
            }
        }
        Some(Self::new(self.id, values, custom_fields, children, notes))
    }

    /// The record with a list that came beside it, and what is to be said of that.
    #[must_use]
    pub fn with_list(&self, place: usize, list: ChildList, notes: Vec<Note>) -> Self {
        let mut children = self.children.clone();
        if let Some(own) = children.get_mut(place) {
            *own = list;
        }
        let notes = self.notes.iter().cloned().chain(notes).collect();
        Self::new(self.id, self.values.clone(), self.custom_fields.clone(), children, notes)
            .emptied(self.emptied.clone())
    }

    /// The record's ID.
    #[must_use]
    pub const fn id(&self) -> RecordId {
        self.id
    }

    /// The typed values, in the order of `Entity::columns`.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Every other field by its portal name.
    #[must_use]
    pub const fn custom_fields(&self) -> &CustomFields {
        &self.custom_fields
    }

    /// The multi-fields, in the order of `Entity::multi_fields`.
    #[must_use]
    pub fn children(&self) -> &[ChildList] {
        &self.children
    }

    /// What could not be stored as it came; sorted, without duplicates.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The content hash.
    #[must_use]
    pub const fn hash(&self) -> ContentHash {
        self.hash
    }

    /// The value of a timestamp column, if it is known and set.
    #[must_use]
    pub fn timestamp(&self, entity: &Entity, field: &str) -> Option<DateTime<Utc>> {
        match self.values.get(entity.position(field)?)? {
            Value::Timestamp(instant) => Some(*instant),
            _ => None,
        }
    }
}

/// Writes every part behind a tag, and behind its length where that varies, so that no
/// two records run together.
fn content_hash(
    values: &[Value],
    custom_fields: &CustomFields,
    children: &[ChildList],
    notes: &[Note],
) -> ContentHash {
    let mut parts = Parts(Vec::with_capacity(1024 + custom_fields.as_str().len()));
    for value in values {
        match value {
            Value::Null | Value::Kept => parts.tag(b'0'),
            Value::Text(text) => parts.text(b't', text),
            Value::Integer(number) => parts.number(b'i', *number),
            Value::Flag(false) => parts.tag(b'n'),
            Value::Flag(true) => parts.tag(b'y'),
            Value::Decimal(text) => parts.text(b'm', text),
            Value::Date(day) => parts.number(b'd', day.num_days_from_ce().into()),
            Value::Timestamp(instant) => parts.number(b'z', instant.timestamp()),
        }
    }
    parts.text(b'j', custom_fields.as_str());
    for list in children {
        match list {
            ChildList::Untrusted => parts.tag(b'u'),
            ChildList::Kept => parts.tag(b'e'),
            ChildList::Known(list) => {
                for child in list {
                    parts.number(b'c', child.id);
                    parts.optional(child.value.as_deref());
                    parts.optional(child.value_type.as_deref());
                }
                parts.tag(b'e');
            }
        }
    }
    for note in notes {
        parts.text(b'q', &note.field);
        parts.text(b'r', note.reason.as_str());
        parts.text(b'v', &note.raw);
    }
    ContentHash(xxh3_64(&parts.0).cast_signed())
}

/// What a hash is taken of: one run of bytes, since hashing many short ones takes longer.
struct Parts(Vec<u8>);

impl Parts {
    fn tag(&mut self, tag: u8) {
        self.0.push(tag);
    }

    fn number(&mut self, tag: u8, number: i64) {
        self.0.push(tag);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, tag: u8, text: &str) {
        self.0.push(tag);
        self.0.extend_from_slice(&text.len().to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(b't', text),
            None => self.tag(b'0'),
        }
    }
}

/// Whether every source brings the field, so that its absence means that it is empty.
pub(super) fn is_always_brought(field: &str) -> bool {
    field.starts_with("UF_") || field.starts_with("PARENT_ID_")
}
