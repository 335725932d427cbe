//! From one page of the portal's answer to records, rejects and notes.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    fmt,
};

use serde::{
    Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    Column, ColumnType, Entity, RecordId,
    catalogue::Catalogue,
    custom_field::CustomKind,
    json::{self, Text},
    record::{Child, ChildList, Note, Reason, Record, Reject, Value},
    value::{self, Shape},
};

/// Raised whenever the same answer would decode to other content, so that every
/// stored record is read again.
pub(super) const DECODER_VERSION: u32 = 1;

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

/// Reads the rows of one entity.
pub struct Decoder {
    entity: &'static Entity,
    slots: HashMap<&'static str, Slot>,
    /// For each multi-field, where the flag that proves it stands among the columns.
    flags: Vec<Option<usize>>,
}

enum Slot {
    Id,
    Column(usize, Column),
    MultiField(usize),
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

    /// Decodes one page of full rows.
    ///
    /// # Errors
    /// [`Mutilated`] when two or more rows must have values of a multi-field and
    /// none carries any. A single such row keeps its stored values and gets a note.
    pub fn page(&self, rows: &[&RawValue], catalogue: &Catalogue) -> Result<Page, Mutilated> {
        let mut stale = false;
        let mut drafts: Vec<_> =
            rows.iter().map(|raw| self.draft(raw, catalogue, &mut stale)).collect();
        for index in 0..self.flags.len() {
            self.hold_against_flag(index, &mut drafts)?;
        }
        let rows = drafts
            .into_iter()
            .map(|draft| match draft {
                Ok(draft) => Decoded::Record(Box::new(draft.finish())),
                Err(reject) => Decoded::Reject(reject),
            })
            .collect();
        Ok(Page { rows, catalogue_is_stale: stale })
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

    fn draft(
        &self,
        raw: &RawValue,
        catalogue: &Catalogue,
        stale: &mut bool,
    ) -> Result<Draft, Reject> {
        let visitor = RowVisitor { decoder: self, catalogue, stale };
        let mut json = serde_json::Deserializer::from_str(raw.get());
        match json.deserialize_map(visitor) {
            Ok(draft) if draft.id == RecordId::ZERO => Err(whole(raw, Reason::NoUsableId)),
            Ok(draft) => Ok(draft),
            Err(_) => Err(whole(raw, Reason::UnparsableRecord)),
        }
    }
}

fn whole(raw: &RawValue, reason: Reason) -> Reject {
    Reject { id: None, note: Note { field: String::new(), reason, raw: json::evidence(raw) } }
}

/// A record that is being put together.
struct Draft {
    id: RecordId,
    values: Vec<Value>,
    custom_fields: BTreeMap<String, String>,
    children: Vec<ChildList>,
    notes: Vec<Note>,
}

impl Draft {
    fn note(&mut self, field: &str, reason: Reason, raw: String) {
        self.notes.push(Note { field: field.to_owned(), reason, raw });
    }

    fn finish(self) -> Record {
        Record::new(self.id, self.values, self.custom_fields, self.children, self.notes)
    }

    fn column(&mut self, index: usize, column: Column, raw: &RawValue) {
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

    fn custom_field(&mut self, name: &str, raw: &RawValue, kind: CustomKind) {
        let (name, _) = value::without_nul(name.into());
        match kind.read(raw) {
            Ok(None) => {}
            Ok(Some((json, nul_removed))) => {
                if nul_removed {
                    self.note(&name, Reason::NulRemoved, json::evidence(raw));
                }
                self.custom_fields.insert(name, json);
            }
            Err(_) => self.note(&name, Reason::UnreadableValue, json::evidence(raw)),
        }
    }

    fn children(&mut self, index: usize, field: &str, raw: &RawValue) {
        let Some(items) = child_items(raw) else {
            self.children[index] = ChildList::Untrusted;
            self.note(field, Reason::UnreadableChildren, json::evidence(raw));
            return;
        };
        let mut children: BTreeMap<i64, Child> = BTreeMap::new();
        for item in items {
            let Some((child, nul_removed)) = child(item) else {
                self.note(field, Reason::ChildWithoutId, json::evidence(item));
                continue;
            };
            if nul_removed {
                self.note(field, Reason::NulRemoved, json::evidence(item));
            }
            match children.entry(child.id) {
                Entry::Vacant(free) => _ = free.insert(child),
                Entry::Occupied(_) => {
                    self.note(field, Reason::DuplicateChildId, json::evidence(item));
                }
            }
        }
        self.children[index] = ChildList::Known(children.into_values().collect());
    }
}

struct RowVisitor<'d> {
    decoder: &'d Decoder,
    catalogue: &'d Catalogue,
    stale: &'d mut bool,
}

impl<'de> Visitor<'de> for RowVisitor<'_> {
    type Value = Draft;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut row: A) -> Result<Draft, A::Error> {
        let entity = self.decoder.entity;
        let mut draft = Draft {
            id: RecordId::ZERO,
            values: vec![Value::Null; entity.columns.len()],
            custom_fields: BTreeMap::new(),
            children: vec![ChildList::Known(Vec::new()); entity.multi_fields.len()],
            notes: Vec::new(),
        };
        while let Some((Text(name), raw)) = row.next_entry::<Text<'de>, &'de RawValue>()? {
            match self.decoder.slots.get(&*name) {
                Some(Slot::Id) => draft.id = record_id(raw).unwrap_or(RecordId::ZERO),
                Some(Slot::Column(index, column)) => draft.column(*index, *column, raw),
                Some(Slot::MultiField(index)) => draft.children(*index, &name, raw),
                None => {
                    let field = self.catalogue.field(&name);
                    *self.stale |= field.is_none() && name.starts_with("UF_");
                    draft.custom_field(&name, raw, CustomKind::of(field.map(|f| f.kind.as_str())));
                }
            }
        }
        Ok(draft)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, _: A) -> Result<Draft, A::Error> {
        Err(A::Error::custom("a list is no record"))
    }
}

/// Reads a row's ID leniently.
fn record_id(raw: &RawValue) -> Option<RecordId> {
    let shape = Shape::of(raw).ok()?;
    value::integer(&shape).ok().flatten().and_then(RecordId::new)
}

/// The ID and modification time of a keys-only row (`select` = `ID`, `DATE_MODIFY`).
///
/// `None` when the row has no usable ID.
#[must_use]
pub fn key_of(raw: &RawValue) -> Option<RecordId> {
    #[derive(serde::Deserialize)]
    struct Keys<'a> {
        #[serde(rename = "ID", borrow)]
        id: &'a RawValue,
    }
    let keys: Keys<'_> = serde_json::from_str(raw.get()).ok()?;
    record_id(keys.id)
}

/// The reject for a row without a usable ID.
#[must_use]
pub fn nameless(raw: &RawValue) -> Decoded {
    Decoded::Reject(whole(raw, Reason::NoUsableId))
}

/// The items of a multi-field: a list, PHP's object for a list with holes, or nothing.
fn child_items(raw: &RawValue) -> Option<Vec<&RawValue>> {
    match Shape::of(raw).ok()? {
        Shape::Null | Shape::Bool(false) | Shape::EmptyCompound => Some(Vec::new()),
        Shape::Text(text) if text.is_empty() => Some(Vec::new()),
        Shape::Compound if raw.get().starts_with('[') => serde_json::from_str(raw.get()).ok(),
        Shape::Compound => {
            let items: BTreeMap<Text<'_>, &RawValue> = serde_json::from_str(raw.get()).ok()?;
            items.keys().all(|Text(key)| key.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
            Some(items.into_values().collect())
        }
        Shape::Bool(true) | Shape::Number(_) | Shape::Text(_) => None,
    }
}

fn child(raw: &RawValue) -> Option<(Child, bool)> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    struct Wire<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
        #[serde(borrow, default)]
        value: Option<&'a RawValue>,
        #[serde(borrow, default)]
        value_type: Option<&'a RawValue>,
    }
    let wire: Wire<'_> = serde_json::from_str(raw.get()).ok()?;
    let id = value::integer(&Shape::of(wire.id).ok()?).ok().flatten().filter(|id| *id > 0)?;
    let mut nul_removed = false;
    let mut text = |raw: Option<&RawValue>| match raw.map(Shape::of) {
        Some(Ok(Shape::Text(text))) => {
            let (text, removed) = value::without_nul(text);
            nul_removed |= removed;
            Some(text).filter(|text| !text.is_empty())
        }
        Some(Ok(Shape::Number(number))) => Some(number.to_owned()),
        _ => None,
    };
    let child = Child { id, value: text(wire.value), value_type: text(wire.value_type) };
    Some((child, nul_removed))
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
        let page: Vec<&RawValue> =
            texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        Decoder::new(entity).page(&page, &catalogue())
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
        let custom: Vec<_> = record.custom_fields().iter().collect();
        let expected = [
            ("PARENT_ID_128", r#""7""#),
            ("UF_CRM_DAY", r#""2001-11-11""#),
            ("UF_CRM_DAYS", r#"["2020-01-01"]"#),
            ("UF_CRM_FILES", "[5,6]"),
            ("UF_CRM_MOMENT", r#""2020-01-01T00:00:00Z""#),
            ("UF_CRM_YES", "false"),
        ];
        assert!(custom.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected), "{custom:?}");
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
        assert_eq!(record.custom_fields()["UF_CRM_TEXT"], r#""cd""#);
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
