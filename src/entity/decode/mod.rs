//! From one page of the portal's answer to records, rejects and notes.

use std::{borrow::Cow, collections::HashMap, ops::Range, sync::Arc};

use chrono::{DateTime, Utc};

use super::{
    Column, ColumnType, Entity, RecordId,
    catalogue::Catalogue,
    custom_field::CustomKind,
    json::{
        self, Raw,
        raw::{Quoted, Shape},
    },
    privacy::Privacy,
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
    slots: HashMap<Cow<'static, str>, Slot>,
    /// For each multi-field, where the flag that proves it stands among the columns.
    flags: Vec<Option<usize>>,
    /// For each multi-field, whether it is left out.
    left_out: Vec<bool>,
    /// Flags that prove something and are left out all the same.
    hidden_flags: Vec<usize>,
    privacy: Arc<Privacy>,
}

/// What becomes of a field.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Id,
    Column(usize, Column, Kept),
    MultiField(usize, Kept),
    Custom(CustomKind, Kept),
    LeftOut,
}

/// How a value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    AsItCame,
    Hashed,
}

impl Decoder {
    /// Prepares the look-up of the entity's fields; everything is kept as it comes.
    #[must_use]
    pub fn new(entity: &'static Entity) -> Self {
        Self::keeping(entity, Arc::new(Privacy::none()))
    }

    /// The same where rules say that fields are left out or hashed.
    #[must_use]
    pub fn keeping(entity: &'static Entity, privacy: Arc<Privacy>) -> Self {
        let kept = |field| if privacy.is_hashed(field) { Kept::Hashed } else { Kept::AsItCame };
        let left_out: Vec<bool> =
            entity.multi_fields.iter().map(|multi| privacy.is_excluded(multi.field)).collect();
        let flags: Vec<Option<usize>> = entity
            .multi_fields
            .iter()
            .zip(&left_out)
            .map(|(multi, left_out)| {
                // What is left out need not come, whatever its flag says.
                multi.flag.filter(|_| !left_out).and_then(|flag| entity.position(flag))
            })
            .collect();
        let mut slots: HashMap<Cow<'static, str>, Slot> = privacy
            .rules()
            .excluded()
            .iter()
            .map(|field| (field.clone().into(), Slot::LeftOut))
            .collect();
        slots.insert("ID".into(), Slot::Id);
        let mut hidden_flags = Vec::new();
        for (index, column) in entity.columns.iter().enumerate() {
            if privacy.is_excluded(column.field) {
                if !flags.contains(&Some(index)) {
                    continue;
                }
                hidden_flags.push(index);
            }
            slots.insert(column.field.into(), Slot::Column(index, *column, kept(column.field)));
        }
        for (index, multi) in entity.multi_fields.iter().enumerate() {
            if !left_out[index] {
                slots.insert(multi.field.into(), Slot::MultiField(index, kept(multi.field)));
            }
        }
        Self { entity, slots, flags, left_out, hidden_flags, privacy }
    }

    /// The rules that records are read by.
    #[must_use]
    pub fn privacy(&self) -> &Privacy {
        &self.privacy
    }

    /// By what a value that is kept so is hashed.
    fn veil(&self, kept: Kept) -> Option<&Privacy> {
        (kept == Kept::Hashed).then_some(&*self.privacy)
    }

    fn whole(&self, raw: Raw<'_>, reason: Reason) -> Reject {
        let mut raw_text = json::evidence(raw);
        if !self.privacy.rules().is_empty() {
            // What cannot be taken apart cannot be cleared of single fields either.
            raw_text = self.privacy.withheld(raw.text(), &raw_text);
        }
        Reject { id: None, note: Note { field: String::new(), reason, raw: raw_text } }
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
            for flag in &self.hidden_flags {
                draft.values[*flag] = Value::Null;
            }
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
            if self.left_out[index] {
                continue;
            }
            let denied =
                self.flags[index].is_some_and(|flag| draft.values[flag] == Value::Flag(false));
            if !denied && draft.children[index] != ChildList::Untrusted {
                draft.children[index] = ChildList::Untrusted;
                draft.note(multi.field, Reason::ChildrenMissing, "null".to_owned());
            }
        }
    }
}

/// What a note says of a value: the value itself, or its hash.
fn evidence(raw: Raw<'_>, veil: Option<&Privacy>) -> String {
    let evidence = json::evidence(raw);
    match veil {
        Some(privacy) => privacy.veiled(&evidence),
        None => evidence,
    }
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
            return Err(self.decoder.whole(raw, Reason::UnparsableRecord));
        }
        let decoder = self.decoder;
        let mut draft = Draft::new(decoder.entity);
        let mut next = 0;
        for (key, value) in raw.fields() {
            let Ok(name) = key.read() else {
                return Err(self.decoder.whole(raw, Reason::UnparsableRecord));
            };
            match self.slot(key, &name, &mut next) {
                Slot::Id => draft.id = record_id(value).unwrap_or(RecordId::ZERO),
                Slot::Column(index, column, kept) => {
                    draft.column(index, column, value, decoder.veil(kept));
                }
                Slot::MultiField(index, kept) => {
                    draft.children(index, &name, value, decoder.veil(kept));
                }
                Slot::Custom(kind, kept) => {
                    self.custom_field(&mut draft, name, value, (kind, decoder.veil(kept)));
                }
                Slot::LeftOut => {}
            }
        }
        draft.custom_fields = self.take_custom_fields();
        if draft.id == RecordId::ZERO {
            return Err(self.decoder.whole(raw, Reason::NoUsableId));
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
            let kind = CustomKind::of(name, field.map(|field| field.kind.as_str()));
            let hashed = self.decoder.privacy.is_hashed(name);
            Slot::Custom(kind, if hashed { Kept::Hashed } else { Kept::AsItCame })
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
        (kind, mut veil): (CustomKind, Option<&Privacy>),
    ) {
        let privacy = &self.decoder.privacy;
        let name = if name.contains('\0') {
            let name = name.replace('\0', "");
            // Under the name that it would be stored by.
            if privacy.is_excluded(&name) {
                return;
            }
            veil = privacy.is_hashed(&name).then_some(&**privacy);
            name.into()
        } else {
            name
        };
        let start = self.texts.len();
        let Ok(losses) = kind.write(raw, &mut self.texts) else {
            self.texts.truncate(start);
            draft.note(&name, Reason::UnreadableValue, evidence(raw, veil));
            return;
        };
        if losses.nul_removed {
            draft.note(&name, Reason::NulRemoved, evidence(raw, veil));
        }
        if let Some(privacy) = veil.filter(|_| self.texts.len() > start) {
            let value = self.texts.split_off(start);
            privacy.push_hashed(Raw::well_formed(&value), &mut self.texts);
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

    fn column(&mut self, index: usize, column: Column, raw: Raw<'_>, veil: Option<&Privacy>) {
        let Ok(reading) = value::read(column.kind, raw) else {
            // A file object may carry the webhook's secret under any key.
            let raw = match column.kind {
                ColumnType::File => "null".to_owned(),
                _ => evidence(raw, veil),
            };
            self.values[index] = Value::Null;
            self.note(column.field, Reason::UnreadableValue, raw);
            return;
        };
        if reading.nul_removed {
            self.note(column.field, Reason::NulRemoved, evidence(raw, veil));
        }
        self.values[index] = match (reading.value, veil) {
            (Value::Text(text), Some(privacy)) => Value::Text(privacy.value(column.field, &text)),
            (value, _) => value,
        };
    }

    fn children(&mut self, index: usize, field: &str, raw: Raw<'_>, veil: Option<&Privacy>) {
        let is_index = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let children = match raw.shape() {
            Shape::Null | Shape::Bool(false) | Shape::EmptyCompound => Vec::new(),
            Shape::Text(text) if text.is_empty() => Vec::new(),
            Shape::List => self.child_list(field, raw.items(), veil),
            // PHP's form of a list with holes.
            Shape::Object if raw.fields().all(|(key, _)| key.unescaped().is_some_and(is_index)) => {
                self.child_list(field, raw.fields().map(|(_, item)| item), veil)
            }
            Shape::Bool(true) | Shape::Number(_) | Shape::Text(_) | Shape::Object => {
                self.children[index] = ChildList::Untrusted;
                self.note(field, Reason::UnreadableChildren, evidence(raw, veil));
                return;
            }
        };
        self.children[index] = ChildList::Known(children);
    }

    fn child_list<'a>(
        &mut self,
        field: &str,
        items: impl Iterator<Item = Raw<'a>>,
        veil: Option<&Privacy>,
    ) -> Vec<Child> {
        let mut found = Vec::new();
        for item in items {
            let Some((mut child, flaw)) = child(item) else {
                self.note(field, Reason::ChildWithoutId, evidence(item, veil));
                continue;
            };
            if let Some(reason) = flaw {
                self.note(field, reason, evidence(item, veil));
            }
            if let Some(privacy) = veil {
                child.value = child.value.map(|value| privacy.value(field, &value));
            }
            found.push((child, item));
        }
        // Stable, so that the first of an ID is the one that stays.
        found.sort_by_key(|(child, _)| child.id);
        let mut children: Vec<Child> = Vec::with_capacity(found.len());
        for (child, item) in found {
            if children.last().is_some_and(|last| last.id == child.id) {
                self.note(field, Reason::DuplicateChildId, evidence(item, veil));
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

/// The reject for a keys-only row without a usable ID. Nothing is kept of it but the keys
/// that were asked for: what else came may be of a field that is not to be stored.
#[must_use]
pub fn nameless(raw: Raw<'_>) -> Decoded {
    let keys = ["DATE_MODIFY", "ID"].into_iter();
    let keys = keys.filter_map(|name| Some((name, json::evidence(field(raw, name)?))));
    let keys: Vec<(&str, String)> = keys.collect();
    let raw = CustomFields::of_sorted(keys.iter().map(|(name, json)| (*name, json.as_str())));
    let raw = raw.as_str().to_owned();
    let note = Note { field: String::new(), reason: Reason::NoUsableId, raw };
    Decoded::Reject(Reject { id: None, note })
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
