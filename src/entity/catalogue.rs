//! The portal's own description of an entity's fields (`crm.contact.fields`), as data.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Dialect, Entity, json};

/// The description could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the portal's field description is not a JSON object of fields")]
pub struct UnreadableCatalogue(#[source] serde_json::Error);

/// Every field of one entity, as the portal describes it now. The set changes at
/// any time, so it is read again with every cycle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    fields: BTreeMap<String, Field>,
}

/// One field's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The portal's type word: `string`, `date`, `enumeration`, `crm_status` …
    pub kind: String,
    /// The label that people see in the portal.
    pub label: Option<String>,
    /// Whether it holds several values.
    pub multiple: bool,
    /// Whether it is a user field (`UF_*`).
    pub custom: bool,
    /// Whether only the portal writes it.
    pub read_only: bool,
    /// The directory of a `crm_status` field.
    pub status_type: Option<String>,
    /// The values of an enumeration, as canonical JSON text.
    pub items: Option<String>,
}

impl Catalogue {
    /// Reads the answer of a `*.fields` method; gives the fields our names.
    ///
    /// # Errors
    /// [`UnreadableCatalogue`] when it is no object of objects (PHP's `[]` for none is fine).
    pub fn parse(
        raw: &RawValue,
        entity: &Entity,
        dialect: Dialect,
    ) -> Result<Self, UnreadableCatalogue> {
        if raw.get().starts_with('[') && raw.get()[1..].trim_start().starts_with(']') {
            return Ok(Self::default());
        }
        let wire: BTreeMap<String, Wire<'_>> =
            serde_json::from_str(raw.get()).map_err(UnreadableCatalogue)?;
        let known = |(name, wire): (String, Wire<'_>)| {
            let name = dialect.field_of(entity, &name)?.into_owned();
            let mut field = Field::from(wire);
            // Not every source marks them.
            field.custom |= name.starts_with("UF_");
            Some((name, field))
        };
        Ok(Self { fields: wire.into_iter().filter_map(known).collect() })
    }

    /// One field's description, unless the portal does not know the field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(name)
    }

    /// Every field with its name, in the order of names.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Field)> {
        self.fields.iter().map(|(name, field)| (name.as_str(), field))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(borrow, default)]
    title: Option<&'a RawValue>,
    #[serde(borrow, default)]
    form_label: Option<&'a RawValue>,
    #[serde(borrow, default)]
    list_label: Option<&'a RawValue>,
    #[serde(default)]
    is_multiple: bool,
    #[serde(default)]
    is_dynamic: bool,
    #[serde(default)]
    is_read_only: bool,
    #[serde(borrow, default)]
    status_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    items: Option<&'a RawValue>,
}

impl From<Wire<'_>> for Field {
    fn from(wire: Wire<'_>) -> Self {
        let text = |raw: Option<&RawValue>| {
            raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
                .map(|text| text.replace('\0', ""))
                .filter(|text| !text.is_empty())
        };
        // A user field's title is its code; people know it by its form label.
        let label =
            text(wire.form_label).or_else(|| text(wire.list_label)).or_else(|| text(wire.title));
        Self {
            kind: wire.kind,
            label,
            multiple: wire.is_multiple,
            custom: wire.is_dynamic,
            read_only: wire.is_read_only,
            status_type: text(wire.status_type),
            items: wire.items.and_then(|items| json::canonical_without_nul(items.into()).ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::CONTACTS;

    #[test]
    fn a_user_field_is_known_by_its_form_label() {
        let raw = RawValue::from_string(
            r#"{"ID":{"type":"integer","isReadOnly":true,"title":"ID"},
                "UF_CRM_1":{"type":"enumeration","isMultiple":true,"isDynamic":true,
                "title":"UF_CRM_1","formLabel":"Colour","listLabel":"",
                "items":[{"ID":"44","VALUE":"red"}]}}"#
                .to_owned(),
        )
        .unwrap();
        let catalogue = Catalogue::parse(&raw, &CONTACTS, Dialect::Classic).unwrap();
        let field = catalogue.field("UF_CRM_1").unwrap();
        assert_eq!(field.label.as_deref(), Some("Colour"));
        assert!(field.multiple && field.custom && !field.read_only);
        assert_eq!(field.items.as_deref(), Some(r#"[{"ID":"44","VALUE":"red"}]"#));
        assert!(catalogue.field("ID").unwrap().read_only);
    }

    #[test]
    fn an_empty_description_may_be_a_list() {
        let raw = RawValue::from_string("[ ]".to_owned()).unwrap();
        assert_eq!(
            Catalogue::parse(&raw, &CONTACTS, Dialect::Classic).unwrap(),
            Catalogue::default()
        );
    }
}
