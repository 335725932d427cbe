//! From one page of the portal's answer to records, rejects and notes.

use std::{borrow::Cow, collections::HashMap, ops::Range, sync::Arc};

use super::{
    Column, ColumnType, Dialect, Entity, Link, MultiField, RecordId,
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
pub(super) const DECODER_VERSION: u32 = 6;

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
    dialect: Dialect,
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
    /// The values of all multi-fields in one list.
    MultiValues,
    Custom(CustomKind, Kept),
    LeftOut,
}

/// The key under which items have the values of all multi-fields.
const MULTI_VALUES: &str = "fm";

/// How a value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    AsItCame,
    Hashed,
}

impl Decoder {
    /// Prepares the look-up of the entity's fields; everything is kept as it comes.
    #[must_use]
    pub fn new(entity: &'static Entity, dialect: Dialect) -> Self {
        Self::keeping(entity, dialect, Arc::new(Privacy::none()))
    }

    /// The same where rules say that fields are left out or hashed.
    #[must_use]
    pub fn keeping(entity: &'static Entity, dialect: Dialect, privacy: Arc<Privacy>) -> Self {
        let name_of = |field: &'static str| dialect.name_of(entity, field);
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
            .map(|field| (dialect.name_of(entity, field).into_owned().into(), Slot::LeftOut))
            .collect();
        slots.insert(dialect.id().into(), Slot::Id);
        let mut hidden_flags = Vec::new();
        for (index, column) in entity.columns.iter().enumerate() {
            if privacy.is_excluded(column.field) {
                if !flags.contains(&Some(index)) {
                    continue;
                }
                hidden_flags.push(index);
            }
            let name = name_of(column.field);
            // What the source has under that name may be something else.
            if dialect.field_of(entity, &name).is_some() {
                slots.insert(name, Slot::Column(index, *column, kept(column.field)));
            }
        }
        for (index, multi) in entity.multi_fields.iter().enumerate() {
            match (dialect.lists_multi_values(), multi.link) {
                // Product rows come beside the records, and not in them.
                _ if left_out[index] || multi.product_rows.is_some() => {}
                // Where they come in one list, their names stand for something else.
                (true, None) => {
                    slots.insert(MULTI_VALUES.into(), Slot::MultiValues);
                }
                _ => {
                    slots.insert(name_of(multi.field), Slot::MultiField(index, kept(multi.field)));
                }
            }
        }
        Self { entity, dialect, slots, flags, left_out, hidden_flags, privacy }
    }

    /// The fingerprint of how records become rows.
    #[must_use]
    pub fn fingerprint(&self) -> i64 {
        let rules = self.privacy.fingerprint(self.entity);
        match self.dialect {
            Dialect::Classic => rules,
            Dialect::Item | Dialect::Vibecode => {
                let mapping = format!("{rules} {:?}", self.dialect);
                xxhash_rust::xxh3::xxh3_64(mapping.as_bytes()).cast_signed()
            }
        }
    }

    /// A record of which nothing is known yet: what the source brings is empty until it comes,
    /// what it lacks is kept as it is stored.
    fn blank(&self, catalogue: &Catalogue) -> Draft {
        let mut draft = Draft::new(self.entity);
        let described = |field: &str| catalogue.field(field).is_some();
        let classic = self.entity.classic.filter(|_| self.dialect == Dialect::Classic);
        for (column, value) in self.entity.columns.iter().zip(&mut draft.values) {
            let implied = classic.and_then(|classic| {
                classic.implies.iter().find_map(|(field, value)| {
                    (*field == column.field).then_some(Value::Integer(*value))
                })
            });
            let brought = match self.dialect {
                Dialect::Classic => {
                    classic.is_none_or(|classic| !classic.lacks.contains(&column.field))
                }
                Dialect::Item | Dialect::Vibecode => described(column.field),
            };
            *value = implied.unwrap_or(if brought { Value::Null } else { Value::Kept });
        }
        for (index, multi) in self.entity.multi_fields.iter().enumerate() {
            let brought = match (self.dialect, multi.link) {
                _ if multi.product_rows.is_some() => false,
                (Dialect::Classic | Dialect::Item, None) => true,
                // A gateway says nothing of the list that they would come in.
                (Dialect::Vibecode, None) | (Dialect::Classic, Some(_)) => false,
                (Dialect::Item | Dialect::Vibecode, Some(_)) => described(multi.field),
            };
            if !brought && !self.left_out[index] {
                draft.children[index] = ChildList::Kept;
            }
        }
        for field in self.privacy.rules().excluded() {
            if let Some(place) = self.entity.position(field) {
                draft.values[place] = Value::Null;
            }
        }
        draft
    }

    /// The rules that records are read by.
    #[must_use]
    pub fn privacy(&self) -> &Privacy {
        &self.privacy
    }

    /// What a field means that came under another name than is expected. A user field that
    /// is left out stays so under any name.
    fn slot_of_synonym(&self, field: &str) -> Option<Slot> {
        if self.privacy.is_excluded(field) {
            return Some(Slot::LeftOut);
        }
        if !self.dialect.has_synonyms() {
            return None;
        }
        self.slots.get(&*self.dialect.name_of(self.entity, field)).copied()
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
        let carried = |(list, multi): (&ChildList, &MultiField)| {
            multi.is_values() && matches!(list, ChildList::Known(list) if !list.is_empty())
        };
        if !mutilated || draft.children.iter().zip(self.entity.multi_fields).any(carried) {
            return;
        }
        for (index, multi) in self.entity.multi_fields.iter().enumerate() {
            if self.left_out[index] || !multi.is_values() {
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
    /// What every record begins as.
    blank: Draft,
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
            blank: decoder.blank(catalogue),
        }
    }

    fn draft(&mut self, raw: Raw<'a>) -> Result<Draft, Reject> {
        if !raw.text().starts_with('{') {
            return Err(self.decoder.whole(raw, Reason::UnparsableRecord));
        }
        let decoder = self.decoder;
        let mut draft = self.blank.clone();
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
                    let multi = &decoder.entity.multi_fields[index];
                    match multi.link {
                        None => draft.children(index, multi.field, value, decoder.veil(kept)),
                        Some(_) => draft.links(index, multi.field, value),
                    }
                }
                Slot::MultiValues => draft.multi_values(decoder, value),
                Slot::Custom(kind, kept) => {
                    // Without a slot of its own it has passed `field_of` already.
                    let field = match name {
                        Cow::Borrowed(name) => decoder.dialect.field_of(decoder.entity, name),
                        Cow::Owned(name) => decoder
                            .dialect
                            .field_of(decoder.entity, &name)
                            .map(|field| field.into_owned().into()),
                    };
                    if let Some(field) = field {
                        self.custom_field(&mut draft, field, value, (kind, decoder.veil(kept)));
                    }
                }
                Slot::LeftOut => {}
            }
        }
        draft.custom_fields = self.take_custom_fields();
        draft.mark_primary(decoder.entity);
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
            let Some(name) = self.decoder.dialect.field_of(self.decoder.entity, name) else {
                return Slot::LeftOut;
            };
            if let Some(slot) = self.decoder.slot_of_synonym(&name) {
                return slot;
            }
            let field = self.catalogue.field(&name);
            self.stale |= field.is_none() && name.starts_with("UF_");
            let kind = CustomKind::of(&name, field.map(|field| field.kind.as_str()));
            let hashed = self.decoder.privacy.is_hashed(&name);
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
        if place.is_empty() && !is_always_brought(&name) {
            draft.emptied.push(name.clone().into_owned());
        }
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
#[derive(Clone)]
struct Draft {
    id: RecordId,
    values: Vec<Value>,
    custom_fields: CustomFields,
    /// Fields without a column that came empty, and that not every source brings.
    emptied: Vec<String>,
    children: Vec<ChildList>,
    notes: Vec<Note>,
}

impl Draft {
    fn new(entity: &Entity) -> Self {
        Self {
            id: RecordId::ZERO,
            values: vec![Value::Null; entity.columns.len()],
            custom_fields: CustomFields::default(),
            emptied: Vec::new(),
            children: vec![ChildList::Known(Vec::new()); entity.multi_fields.len()],
            notes: Vec::new(),
        }
    }

    fn note(&mut self, field: &str, reason: Reason, raw: String) {
        self.notes.push(Note { field: field.to_owned(), reason, raw });
    }

    fn finish(self) -> Record {
        Record::new(self.id, self.values, self.custom_fields, self.children, self.notes)
            .emptied(self.emptied)
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
            found.extend(self.child(field, item, CLASSIC_VALUE, veil));
        }
        self.unique(field, found, veil)
    }

    /// Reads one value, with the text that it came as; a note where it is unusable.
    fn child<'a>(
        &mut self,
        field: &str,
        item: Raw<'a>,
        keys: [&str; 3],
        veil: Option<&Privacy>,
    ) -> Option<(Child, Raw<'a>)> {
        let Some((mut child, flaw)) = child(item, keys) else {
            self.note(field, Reason::ChildWithoutId, evidence(item, veil));
            return None;
        };
        if let Some(reason) = flaw {
            self.note(field, reason, evidence(item, veil));
        }
        if let Some(privacy) = veil {
            child.value = child.value.map(|value| privacy.value(field, &value));
        }
        Some((child, item))
    }

    /// Sorts values by their IDs, of which each counts once.
    fn unique(
        &mut self,
        field: &str,
        mut found: Vec<(Child, Raw<'_>)>,
        veil: Option<&Privacy>,
    ) -> Vec<Child> {
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

    /// Parts the one list that items have of all multi-values.
    fn multi_values(&mut self, decoder: &Decoder, raw: Raw<'_>) {
        let mut found: Vec<Vec<_>> = vec![Vec::new(); decoder.entity.multi_fields.len()];
        match raw.shape() {
            Shape::Null | Shape::Bool(false) | Shape::EmptyCompound => {}
            Shape::List => {
                for item in raw.items() {
                    let Some(index) = decoder.multi_field_of(item) else {
                        // Of a type that nobody knows, or of one that is left out.
                        continue;
                    };
                    let field = decoder.entity.multi_fields[index].field;
                    let veil = decoder.privacy.is_hashed(field).then_some(&*decoder.privacy);
                    found[index].extend(self.child(field, item, ITEM_VALUE, veil));
                }
            }
            _ => {
                for (index, multi) in decoder.entity.multi_fields.iter().enumerate() {
                    if multi.is_values() && !decoder.left_out[index] {
                        let veil =
                            decoder.privacy.is_hashed(multi.field).then_some(&*decoder.privacy);
                        self.children[index] = ChildList::Untrusted;
                        self.note(multi.field, Reason::UnreadableChildren, evidence(raw, veil));
                    }
                }
                return;
            }
        }
        for (index, found) in found.into_iter().enumerate() {
            let multi = &decoder.entity.multi_fields[index];
            if multi.is_values() && !decoder.left_out[index] {
                let veil = decoder.privacy.is_hashed(multi.field).then_some(&*decoder.privacy);
                self.children[index] = ChildList::Known(self.unique(multi.field, found, veil));
            }
        }
    }

    /// Reads a list of linked records; each has its place in it.
    fn links(&mut self, index: usize, field: &str, raw: Raw<'_>) {
        let mut links: Vec<Child> = Vec::new();
        match raw.shape() {
            Shape::Null | Shape::Bool(false) | Shape::EmptyCompound => {}
            Shape::List => {
                for item in raw.items() {
                    match record_id(item) {
                        None => self.note(field, Reason::ChildWithoutId, json::evidence(item)),
                        Some(id) if links.iter().any(|link| link.id == id.get()) => {
                            self.note(field, Reason::DuplicateChildId, json::evidence(item));
                        }
                        Some(id) => {
                            let place = (links.len() + 1).to_string();
                            links.push(Child {
                                id: id.get(),
                                value: Some(place),
                                value_type: None,
                            });
                        }
                    }
                }
            }
            _ => {
                self.children[index] = ChildList::Untrusted;
                self.note(field, Reason::UnreadableChildren, json::evidence(raw));
                return;
            }
        }
        links.sort_by_key(|link| link.id);
        self.children[index] = ChildList::Known(links);
    }

    /// Says which of its links are the primary ones.
    fn mark_primary(&mut self, entity: &Entity) {
        for (index, multi) in entity.multi_fields.iter().enumerate() {
            let Some(primary) = multi.link.and_then(|link| entity.position(link.primary?)) else {
                continue;
            };
            let (Value::Integer(primary), ChildList::Known(links)) =
                (&self.values[primary], &mut self.children[index])
            else {
                continue;
            };
            for link in links.iter_mut().filter(|link| link.id == *primary) {
                link.value_type = Some(Link::PRIMARY.to_owned());
            }
        }
    }
}

impl Decoder {
    /// The multi-field that a value in the list of all belongs to.
    fn multi_field_of(&self, item: Raw<'_>) -> Option<usize> {
        let (_, kind) = item.fields().find(|(key, _)| key.unescaped() == Some("typeId"))?;
        let Shape::Text(kind) = kind.shape() else { return None };
        let kind = kind.read().ok()?;
        let is_it = |multi: &MultiField| multi.is_values() && multi.field == kind;
        let index = self.entity.multi_fields.iter().position(is_it)?;
        (!self.left_out[index]).then_some(index)
    }
}

/// Whether every source brings the field, so that its absence means that it is empty.
pub(super) fn is_always_brought(field: &str) -> bool {
    field.starts_with("UF_") || field.starts_with("PARENT_ID_")
}

/// Reads a row's ID leniently.
pub(super) fn record_id(raw: Raw<'_>) -> Option<RecordId> {
    value::integer(&raw.shape()).ok().flatten().and_then(RecordId::new)
}

/// What a classic list calls the ID, the value and the value type of a value.
const CLASSIC_VALUE: [&str; 3] = ["ID", "VALUE", "VALUE_TYPE"];

/// What items call them.
const ITEM_VALUE: [&str; 3] = ["id", "value", "valueType"];

/// One value of a multi-field, and what is wrong with its text if anything is.
fn child(raw: Raw<'_>, keys: [&str; 3]) -> Option<(Child, Option<Reason>)> {
    let [id, text_of, kind_of] = keys;
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
            Some(key) if key == id => child.id = value::integer(&value.shape()).ok().flatten()?,
            Some(key) if key == text_of => child.value = text(value),
            Some(key) if key == kind_of => child.value_type = text(value),
            _ => {}
        }
    }
    (child.id > 0).then_some((child, flaw))
}

#[cfg(test)]
mod tests;
