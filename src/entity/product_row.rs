//! Product rows of leads, deals, quotes and smart invoices, as the vendor's page
//! `universal/product-rows/crm-item-productrow-list` has them.
//!
//! A row belongs to its record and is listed only beside it, so it is a child of the record
//! like a phone is: part of its content hash, compared and repaired with it, gone with it. It
//! is kept as the portal's JSON, of which the table makes typed columns.

use super::{
    RecordId,
    decode::record_id,
    json::{self, Raw},
    record::{Child, CustomFields, Note, Reason},
};

/// What the rows of a record are called among its fields.
pub const FIELD: &str = "PRODUCT_ROWS";

/// What says whose row it is; it stands in the table's keys.
const KEYS: [&str; 3] = ["id", "ownerId", "ownerType"];

/// One row that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRow {
    /// The record that it belongs to.
    pub owner: RecordId,
    /// Its number, and its fields as canonical JSON.
    pub child: Child,
    /// What of it could not be kept as it came.
    pub note: Option<Note>,
}

impl ProductRow {
    /// Reads a row; `None` where it does not say what it is and whose.
    #[must_use]
    pub fn read(raw: Raw<'_>) -> Option<Self> {
        if !raw.text().starts_with('{') {
            return None;
        }
        let (mut id, mut owner) = (None, None);
        let mut fields: Vec<(String, String)> = Vec::new();
        let mut note = None;
        for (key, value) in raw.fields() {
            let name = key.read().ok()?;
            match &*name {
                "id" => id = record_id(value),
                "ownerId" => owner = record_id(value),
                name if KEYS.contains(&name) => {}
                name => match json::canonical_without_nul(value) {
                    Ok(json) => fields.push((name.replace('\0', ""), json)),
                    Err(_) => note = Some(unreadable(value)),
                },
            }
            // An escape of it is written in many ways, and only one of them is searched for.
            if value.text().contains("\\u0000") && note.is_none() {
                note = Some(nul_removed(value));
            }
        }
        // Stable, so that of a name that is repeated the last one stays.
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        fields.reverse();
        fields.dedup_by(|one, other| one.0 == other.0);
        fields.reverse();
        let fields = fields.iter().map(|(name, json)| (name.as_str(), json.as_str()));
        let value = Some(CustomFields::of_sorted(fields).as_str().to_owned());
        Some(Self { owner: owner?, child: Child { id: id?.get(), value, value_type: None }, note })
    }
}

fn unreadable(value: Raw<'_>) -> Note {
    let (field, raw) = (FIELD.to_owned(), json::evidence(value));
    Note { field, reason: Reason::UnreadableValue, raw }
}

fn nul_removed(value: Raw<'_>) -> Note {
    let (field, raw) = (FIELD.to_owned(), json::evidence(value));
    Note { field, reason: Reason::NulRemoved, raw }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_its_fields_whatever_their_order_and_spelling() {
        let read = |text: &str| ProductRow::read(Raw::well_formed(text));
        let row = read(
            r#"{"id":7,"ownerId":"5","ownerType":"D","price":1.50,"productName":"\u0041 1","taxRate":null}"#,
        )
        .unwrap();
        assert_eq!((row.owner, row.child.id), (RecordId::new(5).unwrap(), 7));
        let again = read(
            r#"{"taxRate":null,"productName":"A 1","price":1.5,"ownerType":"D","ownerId":5,"id":"7"}"#,
        );
        assert_eq!(again.as_ref(), Some(&row));
        let other = read(r#"{"id":7,"ownerId":5,"price":1.6,"productName":"A 1","taxRate":null}"#);
        assert_ne!(other.as_ref(), Some(&row));
        assert_eq!(row.note, None);
        let twice = read(r#"{"id":7,"ownerId":5,"price":1,"price":2}"#).unwrap();
        assert_eq!(twice.child.value.as_deref(), Some(r#"{"price":2}"#));
    }

    #[test]
    fn what_does_not_say_whose_it_is_is_no_row() {
        let nothing = [r#"{"id":7}"#, r#"{"ownerId":7}"#, r#"{"id":0,"ownerId":7}"#, "[]", "7"];
        for text in nothing {
            assert_eq!(ProductRow::read(Raw::well_formed(text)), None, "{text}");
        }
    }

    #[test]
    fn what_the_database_cannot_hold_is_left_out_and_noted() {
        let text = r#"{"id":7,"ownerId":5,"productName":"a\u0000b"}"#;
        let row = ProductRow::read(Raw::well_formed(text)).unwrap();
        assert_eq!(row.child.value.as_deref(), Some(r#"{"productName":"ab"}"#));
        assert_eq!(row.note.unwrap().reason, Reason::NulRemoved);
    }
}
