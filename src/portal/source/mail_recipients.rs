//! The mail address book of the webhook's user: `mail.recipient.listcontacts`, a method of
//! REST 3.0.
//!
//! It says neither how many entries there are nor whether more follow, and its order is not
//! documented. So this reads one page from an offset; what may be concluded from several is
//! for whoever asks. Its fields have small letters; records of the classic lists have
//! capitals, and every record is decoded in one way, so the three known names are changed
//! here and all others stay as they came.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Value, json, value::RawValue};

use crate::portal::{Lane, Portal, PortalError, PortalTime, envelope::PhpMap};

const METHOD: &str = "mail.recipient.listcontacts";

/// Reads the address book.
#[derive(Debug, Clone)]
pub struct MailRecipientSource {
    portal: Portal,
}

/// Entries of the address book from an offset on.
#[derive(Debug)]
pub struct RecipientPage {
    /// The entries, each one JSON text with the names of fields that records have.
    pub rows: Vec<String>,
    /// The portal's clock, where the answer shows it.
    pub time: Option<PortalTime>,
}

impl MailRecipientSource {
    /// The most entries that the portal gives at once.
    pub const PAGE_ROWS: usize = 200;

    /// Reads from that portal.
    #[must_use]
    pub const fn new(portal: Portal) -> Self {
        Self { portal }
    }

    /// Reads the entries from an offset on.
    ///
    /// # Errors
    /// What [`Portal::call_v3`] returns; [`PortalError::Unusable`] when there is no list.
    pub async fn page(&self, lane: Lane, offset: usize) -> Result<RecipientPage, PortalError> {
        let pagination = json!({ "limit": Self::PAGE_ROWS, "offset": offset });
        self.ask(lane, &json!({ "pagination": pagination })).await
    }

    /// Searches for entries by a name or an address.
    ///
    /// # Errors
    /// As [`Self::page`].
    pub async fn search(&self, lane: Lane, text: &str) -> Result<RecipientPage, PortalError> {
        let pagination = json!({ "limit": Self::PAGE_ROWS, "offset": 0 });
        self.ask(lane, &json!({ "query": text, "pagination": pagination })).await
    }

    async fn ask(&self, lane: Lane, params: &Value) -> Result<RecipientPage, PortalError> {
        let answer = self.portal.call_v3(lane, METHOD, params).await?;
        let unusable = || PortalError::unusable(METHOD, "its result has no list of items");
        let rows = rows_in(&answer.result).ok_or_else(unusable)?;
        Ok(RecipientPage { rows, time: answer.time })
    }
}

/// The entries of a result. An empty list is one that is there, and not one that is null.
fn rows_in(result: &RawValue) -> Option<Vec<String>> {
    let result = PhpMap::read(Some(result))?;
    let items = result.get("items").copied().filter(|items| items.get() != "null")?;
    Some(PhpMap::read(Some(items))?.values().map(|row| renamed(row)).collect())
}

/// A row with the names of fields that records have; what is no row stays as it is.
fn renamed(row: &RawValue) -> String {
    let Ok(fields) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(row.get()) else {
        return row.get().to_owned();
    };
    let field = |(name, value): (Cow<'_, str>, &RawValue)| {
        let name = match &*name {
            "id" => "ID",
            "email" => "EMAIL",
            "name" => "NAME",
            other => other,
        };
        format!("{}:{}", json!(name), value.get())
    };
    let fields: Vec<String> = fields.into_iter().map(field).collect();
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_fields_are_renamed_and_nothing_else_is_touched() {
        let row = |json: &str| renamed(&RawValue::from_string(json.to_owned()).unwrap());
        assert_eq!(
            row(r#"{"id": 10, "email":"a@b\u00e9", "name":null, "new\"field":[1, 2]}"#),
            r#"{"EMAIL":"a@b\u00e9","ID":10,"NAME":null,"new\"field":[1, 2]}"#
        );
        for strange in ["17", "[1]", "\"x\"", "null"] {
            assert_eq!(row(strange), strange);
        }
        assert_eq!(row("{}"), "{}");
    }

    #[test]
    fn a_list_that_is_null_is_no_empty_one() {
        let rows = |json: &str| rows_in(&RawValue::from_string(json.to_owned()).unwrap());
        assert_eq!(rows(r#"{"items": []}"#), Some(Vec::new()));
        assert_eq!(rows(r#"{"items": null}"#), None);
        assert_eq!(rows("{}"), None);
    }
}
