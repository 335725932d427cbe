//! User fields: kept as the portal's JSON, whatever their type, but for the few types
//! whose values may not be kept as they come.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{
    json::{self, Text},
    value::{self, Shape},
};

/// How a user field's value is kept: as the portal's JSON, but for what would never
/// look the same twice (days, instants) and what carries a secret (files).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CustomKind {
    Date,
    DateTime,
    Boolean,
    File,
    Other,
}

impl CustomKind {
    /// The kind for the portal's type word; unknown where the catalogue lacks the field.
    pub(super) fn of(kind: Option<&str>) -> Self {
        match kind {
            Some("date") => Self::Date,
            Some("datetime") => Self::DateTime,
            Some("boolean") => Self::Boolean,
            Some("file") => Self::File,
            _ => Self::Other,
        }
    }

    /// The value as canonical JSON, `None` for every form of empty, and whether
    /// U+0000 was removed.
    pub(super) fn read(self, raw: &RawValue) -> Result<Option<(String, bool)>, json::NotCanonical> {
        let shape = Shape::of(raw).map_err(|_| json::NotCanonical::Malformed)?;
        match shape {
            Shape::Null | Shape::EmptyCompound => return Ok(None),
            Shape::Bool(false) if self != Self::Boolean => return Ok(None),
            Shape::Text(text) if text.is_empty() => return Ok(None),
            _ => {}
        }
        let prepared = self.prepare(raw)?;
        json::canonical_without_nul(prepared.as_deref().unwrap_or(raw)).map(Some)
    }

    /// Replaces the parts that may not be kept as they came; `None` if there are none.
    fn prepare(self, raw: &RawValue) -> Result<Option<Box<RawValue>>, json::NotCanonical> {
        let malformed = |_| json::NotCanonical::Malformed;
        match Shape::of(raw) {
            Ok(Shape::Text(text)) => {
                let replaced = match self {
                    Self::Date => value::day(text.trim()).map(|day| day.to_string()),
                    Self::DateTime => value::instant(text.trim())
                        .map(|instant| instant.format("%Y-%m-%dT%H:%M:%SZ").to_string()),
                    _ => None,
                };
                let quoted = replaced.map(|text| RawValue::from_string(json::quoted(&text)));
                quoted.transpose().map_err(malformed)
            }
            Ok(Shape::Compound) if raw.get().starts_with('{') && self.is_file(raw) => {
                // Without an ID nothing of it may be kept: the URLs carry the secret.
                let id = value::file_id(raw).map_or_else(|| "null".to_owned(), |id| id.to_string());
                RawValue::from_string(id).map(Some).map_err(malformed)
            }
            Ok(Shape::Compound) if raw.get().starts_with('[') => {
                let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(malformed)?;
                let items: Vec<Box<RawValue>> = items
                    .into_iter()
                    .map(|item| Ok(self.prepare(item)?.unwrap_or_else(|| item.to_owned())))
                    .collect::<Result<_, json::NotCanonical>>()?;
                serde_json::value::to_raw_value(&items).map(Some).map_err(malformed)
            }
            _ => Ok(None),
        }
    }

    /// A file by its type, or by its shape where the type is unknown.
    fn is_file(self, raw: &RawValue) -> bool {
        self == Self::File
            || serde_json::from_str::<BTreeMap<Text<'_>, &RawValue>>(raw.get()).is_ok_and(|file| {
                json::FILE_URLS.iter().any(|url| file.contains_key(&Text((*url).into())))
            })
    }
}
