//! From one page of the portal's answer to records, rejects and notes.

use std::{borrow::Cow, collections::HashMap, ops::Range};

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
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::entity::{CONTACTS, LEADS};

    fn catalogue() -> Catalogue {
        let raw = serde_json::value::to_raw_value(&json!({
            "UF_CRM_DAY": {"type": "date"},
            "UF_CRM_DAYS": {"type": "date", "isMultiple": true},
            "UF_CRM_MOMENT": {"type": "datetime"},
            "UF_CRM_YES": {"type": "boolean"},
            "UF_CRM_TEXT": {"type": "string"},
            "UF_CRM_FILE": {"type": "file"},
            "UF_CRM_FILES": {"type": "file", "isMultiple": true},
        }));
        Catalogue::parse(&raw.unwrap()).unwrap()
    }

    fn page(entity: &'static Entity, rows: &[Json]) -> Result<Page, Mutilated> {
        let texts: Vec<String> = rows.iter().map(ToString::to_string).collect();
        Decoder::new(entity).page(texts.iter().map(|text| Raw::well_formed(text)), &catalogue())
    }

    fn contact(row: &Json) -> Record {
        let mut page = page(&CONTACTS, std::slice::from_ref(row)).unwrap();
        match page.rows.pop().unwrap() {
            Decoded::Record(record) => *record,
            Decoded::Reject(reject) => panic!("rejected: {reject:?}"),
        }
    }

    #[test]
    fn typed_custom_and_multi_values_find_their_places() {
        let record = contact(&json!({
            "ID": "12", "NAME": "Анна", "BIRTHDATE": "2001-11-11T02:00:00+02:00",
            "COMPANY_ID": "0", "OPENED": "Y", "DATE_MODIFY": "2021-05-31T15:10:16+02:00",
            "PHOTO": {"id": 9, "downloadUrl": "/rest/1/secret/x"},
            "PHONE": [{"ID": "3", "VALUE_TYPE": "WORK", "VALUE": "+7", "TYPE_ID": "PHONE"},
                      {"ID": "2", "VALUE_TYPE": "HOME", "VALUE": "", "TYPE_ID": "PHONE"}],
            "PARENT_ID_128": "7", "UF_CRM_TEXT": "", "UF_CRM_YES": false,
            "UF_CRM_DAY": "2001-11-10T19:00:00-05:00", "UF_CRM_DAYS": ["2020-01-01T03:00:00+03:00"],
            "UF_CRM_MOMENT": "2020-01-01T03:00:00+03:00",
            "UF_CRM_FILES": [{"id": 5, "showUrl": "s"}, {"id": "6", "downloadUrl": "d"}],
        }));
        let value = |field| &record.values()[CONTACTS.position(field).unwrap()];
        assert_eq!(record.id().get(), 12);
        assert_eq!(value("NAME"), &Value::Text("Анна".to_owned()));
        assert_eq!(value("BIRTHDATE"), &Value::Date("2001-11-11".parse().unwrap()));
        assert_eq!(value("COMPANY_ID"), &Value::Null);
        assert_eq!(value("PHOTO"), &Value::Integer(9));
        let custom =
            r#"{"PARENT_ID_128":"7","UF_CRM_DAY":"2001-11-11","UF_CRM_DAYS":["2020-01-01"],"#
                .to_owned()
                + r#""UF_CRM_FILES":[5,6],"UF_CRM_MOMENT":"2020-01-01T00:00:00Z","UF_CRM_YES":false}"#;
        assert_eq!(record.custom_fields().as_str(), custom);
        let ChildList::Known(phones) = &record.children()[0] else { panic!("untrusted") };
        assert_eq!(phones.iter().map(|child| child.id).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(phones[0].value, None);
        assert!(record.notes().is_empty());
    }

    #[test]
    fn what_never_means_a_change_never_changes_the_hash() {
        let plain = contact(&json!({
            "ID": 12, "NAME": "С/", "COMPANY_ID": null, "POST": "",
            "DATE_CREATE": "2021-05-31T15:10:16+02:00", "BIRTHDATE": "2001-11-11T02:00:00+02:00",
            "EMAIL": [{"ID": 1, "VALUE": "a"}, {"ID": 2, "VALUE": "b"}], "UF_CRM_TEXT": null,
        }));
        let other = r#"{"UF_CRM_TEXT":false,"EMAIL":{"0":{"ID":"2","VALUE":"b"},"5":{"ID":"1","VALUE":"a"}},
            "ID":"12","NAME":"\u0421\/","COMPANY_ID":"0","DATE_CREATE":"2021-05-31T16:10:16+03:00",
            "BIRTHDATE":"2001-11-11T03:00:00+03:00"}"#;
        let other: Json = serde_json::from_str(other).unwrap();
        assert_eq!(plain.hash(), contact(&other).hash());
    }

    #[test]
    fn an_unreadable_value_is_null_noted_and_part_of_the_hash() {
        let bad = |text: &str| contact(&json!({"ID": 1, "BIRTHDATE": text}));
        let record = bad("31.31.2020");
        assert_eq!(record.values()[CONTACTS.position("BIRTHDATE").unwrap()], Value::Null);
        assert_eq!(record.notes()[0].reason, Reason::UnreadableValue);
        assert_eq!(record.notes()[0].raw, r#""31.31.2020""#);
        assert_ne!(record.hash(), bad("32.31.2020").hash());
        assert_ne!(record.hash(), contact(&json!({"ID": 1})).hash());
    }

    #[test]
    fn nul_is_removed_with_a_note_wherever_it_stands() {
        let record = contact(&json!({
            "ID": 1, "NAME": "a\0b", "UF_CRM_TEXT": "c\0d", "PHONE": [{"ID": 1, "VALUE": "\u{0}7"}],
        }));
        let noted: Vec<_> = record.notes().iter().map(|note| note.field.as_str()).collect();
        assert_eq!(noted, ["NAME", "PHONE", "UF_CRM_TEXT"]);
        assert_eq!(record.values()[CONTACTS.position("NAME").unwrap()], Value::Text("ab".into()));
        assert_eq!(record.custom_fields().as_str(), r#"{"UF_CRM_TEXT":"cd"}"#);
    }

    #[test]
    fn a_record_without_a_usable_id_is_rejected_alone() {
        let rows = [json!({"ID": "x", "NAME": "a"}), json!([1]), json!({"ID": "2"}), json!({})];
        let reasons: Vec<_> = page(&CONTACTS, &rows)
            .unwrap()
            .rows
            .into_iter()
            .map(|row| match row {
                Decoded::Record(_) => None,
                Decoded::Reject(reject) => Some(reject.note.reason),
            })
            .collect();
        let expected = [
            Some(Reason::NoUsableId),
            Some(Reason::UnparsableRecord),
            None,
            Some(Reason::NoUsableId),
        ];
        assert_eq!(reasons, expected);
    }

    #[test]
    fn children_keep_the_first_of_an_id_and_note_the_rest() {
        let record = contact(&json!({"ID": 1, "PHONE": [
            {"ID": 1, "VALUE": "a"}, {"ID": "1", "VALUE": "b"}, {"VALUE": "c"}, {"ID": 0}, 5,
        ]}));
        let ChildList::Known(phones) = &record.children()[0] else { panic!("untrusted") };
        assert_eq!(phones.len(), 1);
        assert_eq!(phones[0].value.as_deref(), Some("a"));
        assert_eq!(record.notes().len(), 4);
    }

    #[test]
    fn a_page_that_lost_its_phones_is_refused_and_a_single_row_keeps_its_own() {
        let promised = |id: i64| json!({"ID": id, "HAS_PHONE": "Y", "HAS_EMAIL": "N"});
        let error = page(&LEADS, &[promised(1), promised(2)]).unwrap_err();
        assert_eq!(error, Mutilated { field: "PHONE", rows: 2 });

        let complete = json!({"ID": 3, "HAS_PHONE": "Y", "PHONE": [{"ID": 1, "VALUE": "7"}]});
        let page = page(&LEADS, &[promised(1), complete, promised(2)]).unwrap();
        let Decoded::Record(record) = &page.rows[0] else { panic!("rejected") };
        assert_eq!(record.children()[0], ChildList::Untrusted);
        assert_eq!(record.notes()[0].reason, Reason::ChildrenMissing);
    }

    #[test]
    fn a_row_that_lost_its_phones_keeps_all_that_it_does_not_deny_to_have() {
        let untrusted = |row: &Json| -> Vec<&str> {
            let record = contact(row);
            let lists = CONTACTS.multi_fields.iter().zip(record.children());
            let lost = lists.filter(|(_, list)| **list == ChildList::Untrusted);
            let fields: Vec<_> = lost.map(|(multi, _)| multi.field).collect();
            assert_eq!(fields.len(), record.notes().len());
            fields
        };
        let mut row = json!({"ID": 1, "HAS_PHONE": "Y", "HAS_EMAIL": "N"});
        assert_eq!(untrusted(&row), ["PHONE", "WEB", "IM", "LINK"]);
        row["WEB"] = json!([{"ID": 1, "VALUE": "w"}]);
        assert_eq!(untrusted(&row), ["PHONE"]);
        row["HAS_PHONE"] = json!("N");
        assert!(untrusted(&row).is_empty());
    }

    #[test]
    fn a_parent_with_the_id_zero_is_none() {
        let row = json!({"ID": 1, "PARENT_ID_128": "0", "PARENT_ID_129": 0, "PARENT_ID_130": "30"});
        let record = contact(&row);
        assert_eq!(record.custom_fields().to_map().keys().collect::<Vec<_>>(), ["PARENT_ID_130"]);
    }

    #[test]
    fn an_undescribed_user_field_shows_that_the_catalogue_is_stale() {
        assert!(page(&LEADS, &[json!({"ID": 1, "UF_CRM_NEW": "x"})]).unwrap().catalogue_is_stale);
        assert!(!page(&LEADS, &[json!({"ID": 1, "UF_CRM_DAY": ""})]).unwrap().catalogue_is_stale);
    }

    #[test]
    fn no_file_url_is_kept_whatever_its_shape() {
        let record = contact(&json!({
            "ID": 1, "UF_CRM_FILE": {"id": 1, "downloadUrl": "s3cret"},
            "UF_CRM_UNKNOWN": [{"downloadUrl": "s3cret"}], "UF_CRM_FILES": {"url": "s3cret"},
            "PHOTO": {"url": "s3cret"}, "UF_CRM_DEEP": {"a": {"showUrl": "s3cret"}},
        }));
        assert!(!format!("{record:?}").contains("s3cret"), "{record:?}");
        // A file without an ID leaves nothing else behind that tells of it.
        for lost in ["PHOTO", "UF_CRM_UNKNOWN", "UF_CRM_FILES"] {
            let told = |note: &Note| note.field == lost && note.reason == Reason::UnreadableValue;
            assert!(record.notes().iter().any(told), "{lost}: {record:?}");
        }
    }

    proptest! {
        #[test]
        fn any_row_decodes_to_a_record_or_a_reject(
            id in prop_oneof![Just(json!(5)), Just(json!("5")), Just(json!(null)), Just(json!([]))],
            field in prop::sample::select(vec!["NAME", "OPENED", "BIRTHDATE", "PHONE", "EMAIL",
                "DATE_MODIFY", "PHOTO", "UF_CRM_DAYS", "UF_CRM_FILES", "UF_CRM_MOMENT", "FACE_ID"]),
            value in prop_oneof![
                any::<i64>().prop_map(|n| json!(n)), ".*".prop_map(|s| json!(s)),
                prop::collection::vec(".*", 0..3).prop_map(|list| json!(list)),
                (any::<i64>(), ".*").prop_map(|(id, s)| json!([{"ID": id, "VALUE": s}])),
                (any::<i64>(), ".*").prop_map(|(id, s)| json!({"id": id, "x": s})),
                any::<bool>().prop_map(|b| json!(b)),
            ],
        ) {
            let row = json!({"ID": id, field: value});
            let decoded = page(&CONTACTS, std::slice::from_ref(&row)).unwrap().rows;
            prop_assert_eq!(decoded.len(), 1);
            prop_assert_eq!(&page(&CONTACTS, &[row]).unwrap().rows, &decoded);
        }
    }
}
