//! From one page of the portal's answer to records, rejects and notes.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use chrono::{DateTime, Utc};

use super::{
    Column, ColumnType, Entity, RecordId,
    catalogue::Catalogue,
    custom_field::CustomKind,
    json::{
        self, Raw,
        raw::{Quoted, Shape},
    },
    record::{Child, ChildList, CustomFields, Note, Reason, Record, Reject, Value},
    value::{self, Reading},
};

/// Raised whenever the same answer would decode to other content, so that every
/// stored record is read again.
pub(super) const DECODER_VERSION: u32 = 3;

/// One row of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A record to store.
    Record(Box<Record>),
    /// Something that cannot be stored.
    Reject(Reject),
}

impl Decoded {
    /// The row's ID, where it has a usable one.
    #[must_use]
    pub fn id(&self) -> Option<RecordId> {
        match self {
            Self::Record(record) => Some(record.id()),
            Self::Reject(reject) => reject.id,
        }
    }
}

/// Several rows say that they have values of a multi-field and none carries any:
/// the portal dropped the field from the whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{rows} rows of one page say that they have {field} values and none carries any")]
pub struct Mutilated {
    /// The multi-field that is missing.
    pub field: &'static str,
    /// How many rows of the page should have it.
    pub rows: usize,
}

/// A decoded page, in the order of its rows.
#[derive(Debug)]
pub struct Page {
    /// Every row, stored or rejected.
    pub rows: Vec<Decoded>,
    /// A user field occurred that the catalogue does not describe: it is older than the page.
    pub catalogue_is_stale: bool,
}

/// Reads the rows of one entity. It keeps nothing of them, so any thread may use it.
#[derive(Debug)]
pub struct Decoder {
    entity: &'static Entity,
    slots: HashMap<&'static str, Slot>,
    /// For each multi-field, where the flag that proves it stands among the columns.
    flags: Vec<Option<usize>>,
}

/// What becomes of a field.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Id,
    Column(usize, Column),
    MultiField(usize),
    Custom(CustomKind),
}

impl Decoder {
    /// Prepares the look-up of the entity's fields.
    #[must_use]
    pub fn new(entity: &'static Entity) -> Self {
        let columns = entity.columns.iter().enumerate();
        let multi_fields = entity.multi_fields.iter().enumerate();
        let slots = std::iter::once(("ID", Slot::Id))
            .chain(columns.map(|(index, column)| (column.field, Slot::Column(index, *column))))
            .chain(multi_fields.map(|(index, multi)| (multi.field, Slot::MultiField(index))))
            .collect();
        let flags = entity
            .multi_fields
            .iter()
            .map(|multi| multi.flag.and_then(|flag| entity.position(flag)))
            .collect();
        Self { entity, slots, flags }
    }

    /// Decodes one page of full rows. It takes a while: about 10 µs for a row.
    ///
    /// # Errors
    /// [`Mutilated`] when two or more rows must have values of a multi-field and
    /// none carries any. A single such row keeps its stored values and gets a note.
    pub fn page<'a>(
        &self,
        rows: impl IntoIterator<Item = Raw<'a>>,
        catalogue: &Catalogue,
    ) -> Result<Page, Mutilated> {
        let mut desk = Desk::new(self, catalogue);
        let mut drafts: Vec<_> = rows.into_iter().map(|raw| desk.draft(raw)).collect();
        for index in 0..self.flags.len() {
            self.hold_against_flag(index, &mut drafts)?;
        }
        for draft in drafts.iter_mut().flatten() {
            self.distrust_bare(draft);
        }
        let rows = drafts
            .into_iter()
            .map(|draft| match draft {
                Ok(draft) => Decoded::Record(Box::new(draft.finish())),
                Err(reject) => Decoded::Reject(reject),
            })
            .collect();
        Ok(Page { rows, catalogue_is_stale: desk.stale })
    }

    /// A row whose flag promises values that did not come keeps its stored ones.
    fn hold_against_flag(
        &self,
        index: usize,
        drafts: &mut [Result<Draft, Reject>],
    ) -> Result<(), Mutilated> {
        let Some(flag) = self.flags[index] else {
            return Ok(());
        };
        let promised = |draft: &&mut Draft| draft.values[flag] == Value::Flag(true);
        let missing = |draft: &Draft| matches!(&draft.children[index], ChildList::Known(list) if list.is_empty());
        let mut flagged: Vec<_> =
            drafts.iter_mut().filter_map(|draft| draft.as_mut().ok()).filter(promised).collect();
        let field = self.entity.multi_fields[index].field;
        if flagged.len() >= 2 && flagged.iter().all(|draft| missing(draft)) {
            return Err(Mutilated { field, rows: flagged.len() });
        }
        for draft in flagged.iter_mut().filter(|draft| missing(draft)) {
            draft.children[index] = ChildList::Untrusted;
            draft.note(field, Reason::ChildrenMissing, "null".to_owned());
        }
        Ok(())
    }

    /// A row that carries no multi-field at all although it must has lost every one of
    /// them: those without a flag prove nothing by their absence either.
    fn distrust_bare(&self, draft: &mut Draft) {
        let mutilated = draft.notes.iter().any(|n| n.reason == Reason::ChildrenMissing);
        let carried = |list: &ChildList| matches!(list, ChildList::Known(list) if !list.is_empty());
        if !mutilated || draft.children.iter().any(carried) {
            return;
        }
        for (index, multi) in self.entity.multi_fields.iter().enumerate() {
            let denied =
                self.flags[index].is_some_and(|flag| draft.values[flag] == Value::Flag(false));
            if !denied && draft.children[index] != ChildList::Untrusted {
                draft.children[index] = ChildList::Untrusted;
                draft.note(multi.field, Reason::ChildrenMissing, "null".to_owned());
            }
        }
    }
}

fn whole(raw: Raw<'_>, reason: Reason) -> Reject {
    Reject { id: None, note: Note { field: String::new(), reason, raw: json::evidence(raw) } }
}

/// How far ahead of the last key the next one is looked for.
const AHEAD: usize = 4;

/// So many keys of a page's rows are remembered; real rows have about a hundred.
const REMEMBERED: usize = 1024;

/// Where the rows of one page are taken apart, with what one row leaves for the next.
struct Desk<'a, 'd> {
    decoder: &'d Decoder,
    catalogue: &'d Catalogue,
    stale: bool,
    /// The keys in the order in which rows brought them, and what they mean. Rows bring
    /// nearly the same keys in the same order, so one comparison mostly finds the next.
    order: Vec<(&'a str, Slot)>,
    /// The canonical texts of a row's custom fields, one behind the other.
    texts: String,
    /// Their names and places.
    custom: Vec<(Cow<'a, str>, Range<usize>)>,
}

impl<'a, 'd> Desk<'a, 'd> {
    fn new(decoder: &'d Decoder, catalogue: &'d Catalogue) -> Self {
        Self {
            decoder,
            catalogue,
            stale: false,
            order: Vec::with_capacity(128),
            texts: String::with_capacity(4096),
            custom: Vec::with_capacity(64),
        }
    }

    fn draft(&mut self, raw: Raw<'a>) -> Result<Draft, Reject> {
        if !raw.text().starts_with('{') {
            return Err(whole(raw, Reason::UnparsableRecord));
        }
        let mut draft = Draft::new(self.decoder.entity);
        let mut next = 0;
        for (key, value) in raw.fields() {
            let Ok(name) = key.read() else {
                return Err(whole(raw, Reason::UnparsableRecord));
            };
            match self.slot(key, &name, &mut next) {
                Slot::Id => draft.id = record_id(value).unwrap_or(RecordId::ZERO),
                Slot::Column(index, column) => draft.column(index, column, value),
                Slot::MultiField(index) => draft.children(index, &name, value),
                Slot::Custom(kind) => self.custom_field(&mut draft, name, value, kind),
            }
        }
        draft.custom_fields = self.take_custom_fields();
        if draft.id == RecordId::ZERO {
            return Err(whole(raw, Reason::NoUsableId));
        }
        Ok(draft)
    }

    /// Finds what a key means. `next` is where in the order it probably stands.
    fn slot(&mut self, key: Quoted<'a>, name: &str, next: &mut usize) -> Slot {
        let ahead = self.order.iter().skip(*next).take(AHEAD);
        if let Some((steps, (_, slot))) = ahead.enumerate().find(|(_, (known, _))| *known == name) {
            *next += steps + 1;
            return *slot;
        }
        let slot = self.decoder.slots.get(name).copied().unwrap_or_else(|| {
            let field = self.catalogue.field(name);
            self.stale |= field.is_none() && name.starts_with("UF_");
            Slot::Custom(CustomKind::of(name, field.map(|field| field.kind.as_str())))
        });
        if let Some(key) = key.unescaped().filter(|_| self.order.len() < REMEMBERED) {
            self.order.insert(*next, (key, slot));
            *next += 1;
        }
        slot
    }

    fn custom_field(
        &mut self,
        draft: &mut Draft,
        name: Cow<'a, str>,
        raw: Raw<'a>,
        kind: CustomKind,
    ) {
        let name = if name.contains('\0') { name.replace('\0', "").into() } else { name };
        let start = self.texts.len();
        let Ok(losses) = kind.write(raw, &mut self.texts) else {
            self.texts.truncate(start);
            draft.note(&name, Reason::UnreadableValue, json::evidence(raw));
            return;
        };
        if losses.nul_removed {
            draft.note(&name, Reason::NulRemoved, json::evidence(raw));
        }
        if losses.withheld {
            // Not even as evidence may it be kept.
            draft.note(&name, Reason::UnreadableValue, "null".to_owned());
        }
        let place = start..self.texts.len();
        // A file's URL is kept nowhere, whatever stands around it.
        if !place.is_empty() && !json::FILE_URLS.contains(&&*name) {
            self.custom.push((name, place));
        }
    }

    fn take_custom_fields(&mut self) -> CustomFields {
        json::keep_last_of_each(&mut self.custom);
        let fields = self.custom.iter().map(|(name, place)| (&**name, &self.texts[place.clone()]));
        let fields = CustomFields::of_sorted(fields);
        self.custom.clear();
        self.texts.clear();
        fields
    }
}

/// A record that is being put together.
struct Draft {
    id: RecordId,
    values: Vec<Value>,
    custom_fields: CustomFields,
    children: Vec<ChildList>,
    notes: Vec<Note>,
}

impl Draft {
    fn new(entity: &Entity) -> Self {
        Self {
            id: RecordId::ZERO,
            values: vec![Value::Null; entity.columns.len()],
            custom_fields: CustomFields::default(),
            children: vec![ChildList::Known(Vec::new()); entity.multi_fields.len()],
            notes: Vec::new(),
        }
    }

    fn note(&mut self, field: &str, reason: Reason, raw: String) {
        self.notes.push(Note { field: field.to_owned(), reason, raw });
    }

    fn finish(self) -> Record {
        Record::new(self.id, self.values, self.custom_fields, self.children, self.notes)
    }

    fn column(&mut self, index: usize, column: Column, raw: Raw<'_>) {
        let Ok(reading) = value::read(column.kind, raw) else {
            // A file object may carry the webhook's secret under any key.
            let raw = match column.kind {
                ColumnType::File => "null".to_owned(),
                _ => json::evidence(raw),
            };
            self.values[index] = Value::Null;
            self.note(column.field, Reason::UnreadableValue, raw);
            return;
        };
        if reading.nul_removed {
            self.note(column.field, Reason::NulRemoved, json::evidence(raw));
        }
        self.values[index] = reading.value;
    }

    fn children(&mut self, index: usize, field: &str, raw: Raw<'_>) {
        let is_index = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let children = match raw.shape() {
            Shape::Null | Shape::Bool(false) | Shape::EmptyCompound => Vec::new(),
            Shape::Text(text) if text.is_empty() => Vec::new(),
            Shape::List => self.child_list(field, raw.items()),
            // PHP's form of a list with holes.
            Shape::Object if raw.fields().all(|(key, _)| key.unescaped().is_some_and(is_index)) => {
                self.child_list(field, raw.fields().map(|(_, item)| item))
            }
            Shape::Bool(true) | Shape::Number(_) | Shape::Text(_) | Shape::Object => {
                self.children[index] = ChildList::Untrusted;
                self.note(field, Reason::UnreadableChildren, json::evidence(raw));
                return;
            }
        };
        self.children[index] = ChildList::Known(children);
    }

    fn child_list<'a>(&mut self, field: &str, items: impl Iterator<Item = Raw<'a>>) -> Vec<Child> {
        let mut found = Vec::new();
        for item in items {
            let Some((child, flaw)) = child(item) else {
                self.note(field, Reason::ChildWithoutId, json::evidence(item));
                continue;
            };
            if let Some(reason) = flaw {
                self.note(field, reason, json::evidence(item));
            }
            found.push((child, item));
        }
        // Stable, so that the first of an ID is the one that stays.
        found.sort_by_key(|(child, _)| child.id);
        let mut children: Vec<Child> = Vec::with_capacity(found.len());
        for (child, item) in found {
            if children.last().is_some_and(|last| last.id == child.id) {
                self.note(field, Reason::DuplicateChildId, json::evidence(item));
            } else {
                children.push(child);
            }
        }
        children
    }
}

/// Reads a row's ID leniently.
fn record_id(raw: Raw<'_>) -> Option<RecordId> {
    value::integer(&raw.shape()).ok().flatten().and_then(RecordId::new)
}

/// The ID of a keys-only row (`select` = `ID`, `DATE_MODIFY`).
///
/// `None` when the row has no usable ID.
#[must_use]
pub fn key_of(raw: Raw<'_>) -> Option<RecordId> {
    field(raw, "ID").and_then(record_id)
}

/// The modification time of a keys-only row, as the decoder of full records reads it:
/// `None` when it is unset or unreadable.
#[must_use]
pub fn date_of(raw: Raw<'_>) -> Option<DateTime<Utc>> {
    match value::read(ColumnType::Timestamp, field(raw, "DATE_MODIFY")?).ok()?.value {
        Value::Timestamp(instant) => Some(instant),
        _ => None,
    }
}

/// The reject for a row without a usable ID.
#[must_use]
pub fn nameless(raw: Raw<'_>) -> Decoded {
    Decoded::Reject(whole(raw, Reason::NoUsableId))
}

/// A field by its name, spelled without escapes; the last one if it is repeated.
fn field<'a>(raw: Raw<'a>, name: &str) -> Option<Raw<'a>> {
    raw.fields().filter(|(key, _)| key.unescaped() == Some(name)).last().map(|(_, value)| value)
}

/// One value of a multi-field, and what is wrong with its text if anything is.
fn child(raw: Raw<'_>) -> Option<(Child, Option<Reason>)> {
    let mut child = Child { id: 0, value: None, value_type: None };
    let mut flaw = None;
    let mut text = |raw: Raw<'_>| {
        let Ok(Reading { value, nul_removed }) = value::read(ColumnType::Text, raw) else {
            flaw = Some(Reason::UnreadableValue);
            return None;
        };
        flaw = nul_removed.then_some(Reason::NulRemoved).or(flaw);
        if let Value::Text(text) = value { Some(text) } else { None }
    };
    for (key, value) in raw.fields() {
        match key.unescaped() {
            Some("ID") => child.id = value::integer(&value.shape()).ok().flatten()?,
            Some("VALUE") => child.value = text(value),
            Some("VALUE_TYPE") => child.value_type = text(value),
            _ => {}
        }
    }
    (child.id > 0).then_some((child, flaw))
}

#[cfg(test)]
mod tests;
