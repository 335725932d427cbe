//! User fields: kept as the portal's JSON, whatever their type, but for the few types
//! whose values may not be kept as they come.

use std::fmt::Write as _;

use super::{
    json::{
        self, Losses, NotCanonical, Raw, Writer,
        raw::{Quoted, Shape},
    },
    record::Value,
    value,
};

/// How a user field's value is kept: as the portal's JSON, but for what would not look the
/// same twice (days, instants, and yes or no: classic lists say `true` or `"1"`, items `Y`)
/// and what carries a secret (files).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CustomKind {
    Date,
    DateTime,
    Boolean,
    File,
    Reference,
    Other,
}

impl CustomKind {
    /// The kind for the field's name and the portal's type word, which is unknown where
    /// the catalogue lacks the field.
    pub(super) fn of(name: &str, kind: Option<&str>) -> Self {
        match kind {
            // The parent in a smart process: one such field for each that is linked.
            _ if name.starts_with("PARENT_ID_") => Self::Reference,
            Some("date") => Self::Date,
            Some("datetime") => Self::DateTime,
            Some("boolean") => Self::Boolean,
            // Files of activities come with a token in their URLs.
            Some("file" | "diskfile") => Self::File,
            _ => Self::Other,
        }
    }

    /// Appends the value as canonical JSON, nothing for any form of empty; says what it
    /// lost. What was appended before a failure is for the caller to remove.
    pub(super) fn write(self, raw: Raw<'_>, out: &mut String) -> Result<Losses, NotCanonical> {
        let none = Losses::default();
        match raw.shape() {
            Shape::Null | Shape::EmptyCompound => return Ok(none),
            Shape::Bool(false) if self != Self::Boolean => return Ok(none),
            Shape::Text(text) if text.is_empty() => return Ok(none),
            // A text in one list and a number in the other.
            reference if self == Self::Reference => match value::integer(&reference) {
                Ok(Some(0)) => return Ok(none),
                Ok(Some(id)) => {
                    Writer::new(out).verbatim(&id.to_string());
                    return Ok(none);
                }
                _ => {}
            },
            _ => {}
        }
        let mut writer = Writer::new(out);
        self.part(raw, &mut writer, 0)?;
        Ok(writer.losses)
    }

    /// Replaces what may not be kept as it came, in lists too.
    fn part(self, raw: Raw<'_>, writer: &mut Writer<'_>, depth: usize) -> Result<(), NotCanonical> {
        match raw.shape() {
            Shape::Text(text) if self == Self::Date || self == Self::DateTime => {
                match self.moment(text) {
                    Some(moment) => writer.verbatim(&moment),
                    None => return writer.value(raw, depth),
                }
            }
            shape @ (Shape::Text(_) | Shape::Number(_)) if self == Self::Boolean => {
                match value::flag(&shape) {
                    Ok(Value::Flag(flag)) => writer.verbatim(if flag { "true" } else { "false" }),
                    _ => return writer.value(raw, depth),
                }
            }
            Shape::Object if self.is_file(raw) => match value::file_id(raw) {
                Some(id) => writer.verbatim(&id.to_string()),
                // Without an ID nothing of it may be kept: the URLs carry the secret.
                None => writer.withhold(),
            },
            Shape::List if depth < json::MAX_DEPTH => {
                return writer.list(raw, |writer, item| self.part(item, writer, depth + 1));
            }
            _ => return writer.value(raw, depth),
        }
        Ok(())
    }

    /// A day or an instant in its own spelling, if the text is one.
    fn moment(self, text: Quoted<'_>) -> Option<String> {
        let text = text.read().ok()?;
        let mut json = String::with_capacity(24);
        // `write!` to a String cannot fail.
        let _ = if self == Self::Date {
            write!(json, "\"{}\"", value::day(text.trim())?)
        } else {
            let instant = value::instant(text.trim())?.naive_utc();
            write!(json, "\"{}T{}Z\"", instant.date(), instant.time())
        };
        Some(json)
    }

    /// A file by its type, or by its shape where the type is unknown.
    fn is_file(self, raw: Raw<'_>) -> bool {
        let is_url = |key: Quoted<'_>| key.read().is_ok_and(|key| json::FILE_URLS.contains(&&*key));
        self == Self::File || raw.fields().any(|(key, _)| is_url(key))
    }
}
