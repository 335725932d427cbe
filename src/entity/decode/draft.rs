//! A record that is being put together, value by value, with notes of what was lost.

use std::borrow::Cow;

use super::{Decoder, MULTI_VALUES, record_id};
use crate::entity::{
    Column, ColumnType, Entity, Link, RecordId,
    json::{self, Raw, raw::Shape},
    privacy::Privacy,
    record::{Child, ChildList, CustomFields, Note, Reason, Record, Value},
    value::{self, Reading},
};

/// A record that is being put together.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) id: RecordId,
    pub(super) values: Vec<Value>,
    pub(super) custom_fields: CustomFields,
    /// Fields without a column that came empty, and that not every source brings.
    pub(super) emptied: Vec<String>,
    pub(super) children: Vec<ChildList>,
    /// Whether it came with the one list of all values.
    pub(super) lists_multi_values: bool,
    pub(super) notes: Vec<Note>,
}

impl Draft {
    pub(super) fn new(entity: &Entity) -> Self {
        Self {
            id: RecordId::ZERO,
            values: vec![Value::Null; entity.columns.len()],
            custom_fields: CustomFields::default(),
            emptied: Vec::new(),
            children: vec![ChildList::Known(Vec::new()); entity.multi_fields.len()],
            lists_multi_values: false,
            notes: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, field: &str, reason: Reason, raw: String) {
        self.notes.push(Note { field: field.to_owned(), reason, raw });
    }

    pub(super) fn finish(self) -> Record {
        Record::new(self.id, self.values, self.custom_fields, self.children, self.notes)
            .emptied(self.emptied)
    }

    pub(super) fn column(
        &mut self,
        index: usize,
        column: Column,
        raw: Raw<'_>,
        veil: Option<&Privacy>,
    ) {
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

    pub(super) fn children(
        &mut self,
        index: usize,
        field: &str,
        raw: Raw<'_>,
        veil: Option<&Privacy>,
    ) {
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
    pub(super) fn multi_values(&mut self, decoder: &Decoder, raw: Raw<'_>) {
        let mut found: Vec<Vec<_>> = vec![Vec::new(); decoder.entity.multi_fields.len()];
        self.lists_multi_values = true;
        match raw.shape() {
            Shape::Null | Shape::Bool(false) | Shape::EmptyCompound => {}
            Shape::List => {
                for item in raw.items() {
                    let Some(kind) = type_of(item) else {
                        let evidence = decoder.withheld_if_ruled(item);
                        self.note(MULTI_VALUES, Reason::UnreadableValue, evidence);
                        continue;
                    };
                    let Some(index) = decoder.multi_field_of(&kind) else {
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
    pub(super) fn links(&mut self, index: usize, field: &str, raw: Raw<'_>) {
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
    pub(super) fn mark_primary(&mut self, entity: &Entity) {
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

/// What a note says of a value: the value itself, or its hash.
pub(super) fn evidence(raw: Raw<'_>, veil: Option<&Privacy>) -> String {
    let evidence = json::evidence(raw);
    match veil {
        Some(privacy) => privacy.veiled(&evidence),
        None => evidence,
    }
}

/// What kind of value one of the list of all is, as `PHONE`.
fn type_of(item: Raw<'_>) -> Option<String> {
    let (_, kind) = item.fields().find(|(key, _)| key.unescaped() == Some("typeId"))?;
    let Shape::Text(kind) = kind.shape() else { return None };
    kind.read().ok().map(Cow::into_owned)
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
