//! Laws that hold for any value whatever; `fuzz/` looks for exceptions.

use std::sync::LazyLock;

use chrono::{Datelike, NaiveDate};
use serde_json::{Value as Json, value::RawValue};

use super::{
    CONTACTS, ColumnType, Dialect,
    catalogue::Catalogue,
    custom_field::CustomKind,
    decode::{Decoded, Decoder},
    json::{self, Raw},
    record::{ChildList, Record, Value},
    value,
};

/// Any form of "nothing was sent".
fn is_nothing(json: &Json) -> bool {
    match json {
        Json::Null => true,
        Json::Bool(flag) => !flag,
        Json::String(text) => text.trim().is_empty(),
        Json::Array(list) => list.is_empty(),
        Json::Object(map) => map.is_empty(),
        Json::Number(_) => false,
    }
}

/// A number zero, however it was sent: the ID of nothing.
fn is_zero(json: &Json) -> bool {
    let text = match json {
        Json::Number(number) => number.to_string(),
        Json::String(text) => text.clone(),
        _ => return false,
    };
    json::decimal(text.trim()).as_deref() == Some("0")
}

fn decoded(row: &str, catalogue: &Catalogue) -> Option<Decoded> {
    static DECODER: LazyLock<Decoder> = LazyLock::new(|| Decoder::new(&CONTACTS, Dialect::Classic));
    let page = DECODER.page([Raw::well_formed(row)], catalogue).ok()?;
    assert_eq!(page.rows.len(), 1, "one row became {}", page.rows.len());
    page.rows.into_iter().next()
}

/// The record of a row that has nothing but an ID and one more field.
fn with_field(name: &str, json: &str, catalogue: &Catalogue) -> Record {
    let row = format!("{{\"ID\":\"7\",\"{name}\":{json}}}");
    match decoded(&row, catalogue) {
        Some(Decoded::Record(record)) => *record,
        other => panic!("{row} became {other:?}"),
    }
}

fn has_note(record: &Record, field: &str) -> bool {
    record.notes().iter().any(|note| note.field == field)
}

/// One JSON text, if it is one.
fn json_in(data: &[u8]) -> Option<(&str, Json)> {
    let text = std::str::from_utf8(data).ok()?.trim_ascii();
    serde_json::from_str::<&RawValue>(text).ok()?;
    // What is too deep or too large a number for a value is JSON all the same.
    Some((text, serde_json::from_str(text).unwrap_or(Json::Bool(true))))
}

/// A value in any column becomes a value of the column's type, or nothing where nothing
/// was sent, or a note. The first byte chooses the column.
///
/// # Panics
/// When the law is broken.
pub fn readers(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let Some((text, json)) = json_in(rest) else { return };
    let index = usize::from(*first) % CONTACTS.columns.len();
    let column = CONTACTS.columns[index];
    let record = with_field(column.field, text, &Catalogue::default());
    let noted = has_note(&record, column.field);
    match &record.values()[index] {
        Value::Null => {
            let id_of_nothing = matches!(column.kind, ColumnType::Reference | ColumnType::File)
                && (is_zero(&json) || json.get("id").or(json.get("ID")).is_some_and(is_zero));
            let empty = is_nothing(&json) || id_of_nothing;
            assert!(noted || empty, "{} = {text} was lost", column.field);
        }
        Value::Text(read) => {
            let sent = match &json {
                Json::String(sent) => sent.clone(),
                _ => text.to_owned(),
            };
            assert_eq!(*read, sent.replace('\0', ""), "{} was changed", column.field);
            assert_eq!(noted, sent.contains('\0'), "{}: U+0000", column.field);
        }
        Value::Integer(read) => assert!(!noted, "{} = {read} is noted, too", column.field),
        Value::Decimal(read) => {
            assert_eq!(json::decimal(read).as_ref(), Some(read), "{text} has two spellings");
        }
        Value::Date(day) => assert!((1..=10_000).contains(&day.year()), "{text} became {day}"),
        Value::Flag(_) | Value::Timestamp(_) => {}
        Value::Kept => panic!("{} = {text} was overlooked", column.field),
    }
    let again = with_field(column.field, text, &Catalogue::default());
    assert_eq!(record.hash(), again.hash(), "{text} has two hashes");
}

/// A whole row becomes a record or a reject, with as many children as were sent or a
/// note about those that are missing.
///
/// # Panics
/// When the law is broken.
pub fn rows(data: &[u8]) {
    let Some((text, json)) = json_in(data) else { return };
    let Some(decoded) = decoded(text, &Catalogue::default()) else {
        panic!("a single row cannot prove that a page was mutilated");
    };
    let Decoded::Record(record) = decoded else { return };
    for (index, multi) in CONTACTS.multi_fields.iter().enumerate() {
        let sent = match json.get(multi.field) {
            Some(Json::Array(items)) => items.len(),
            _ => continue,
        };
        match &record.children()[index] {
            ChildList::Known(children) => {
                let complete = children.len() == sent || has_note(&record, multi.field);
                assert!(complete, "{} of {sent} {} of {text}", children.len(), multi.field);
            }
            ChildList::Untrusted => assert!(has_note(&record, multi.field), "{text}"),
            ChildList::Kept => panic!("{} of {text} was overlooked", multi.field),
        }
    }
}

/// A birthday is a day of the calendar, at most one day after the one that was printed,
/// and its own spelling reads back as itself.
///
/// # Panics
/// When the law is broken.
pub fn birthdays(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(instant) = value::instant(text) {
        let spelled = instant.format("%Y-%m-%dT%H:%M:%S+00:00").to_string();
        assert_eq!(value::instant(&spelled), Some(instant), "{text}");
    }
    let Some(day) = value::day(text) else { return };
    assert!((1..=10_000).contains(&day.year()), "{text} became {day}");
    if day.year() < 10_000 {
        assert_eq!(value::day(&day.format("%Y-%m-%d").to_string()), Some(day), "{text}");
    }
    let is_plain = |first: &&str| first.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let first = text.get(..10).filter(is_plain);
    if let Some(printed) = first.and_then(|first| first.parse::<NaiveDate>().ok()) {
        let later = day.signed_duration_since(printed).num_days();
        assert!((0..=1).contains(&later), "{text} became {day}");
    }
}

/// A user field is kept whole, in one spelling and without addresses of files, or there
/// is a note. The first byte chooses the type.
///
/// # Panics
/// When the law is broken.
pub fn user_fields(data: &[u8]) {
    const KINDS: [&str; 6] = ["string", "date", "datetime", "boolean", "file", "PARENT_ID_128"];
    let Some((first, rest)) = data.split_first() else { return };
    let Some((text, json)) = json_in(rest) else { return };
    let kind = KINDS[usize::from(*first) % KINDS.len()];
    let name = if kind.starts_with("PARENT") { kind } else { "UF_CRM_1" };
    let custom = CustomKind::of(name, Some(kind));
    let description = format!("{{\"UF_CRM_1\":{{\"type\":\"{kind}\"}}}}");
    let catalogue = RawValue::from_string(description).ok();
    let Some(catalogue) =
        catalogue.and_then(|raw| Catalogue::parse(&raw, &CONTACTS, Dialect::Classic).ok())
    else {
        panic!("the catalogue of a {kind} cannot be read");
    };
    let record = with_field(name, text, &catalogue);
    let noted = has_note(&record, name);
    let kept = record.custom_fields().to_map().remove(name);
    match kept {
        None => {
            let nothing = is_nothing(&json) && json != Json::String(" ".to_owned());
            let id_of_nothing = custom == CustomKind::Reference && is_zero(&json);
            assert!(noted || nothing || id_of_nothing, "{kind} {text} was lost");
        }
        Some(kept) => {
            let raw: Result<&RawValue, _> = serde_json::from_str(&kept);
            let Ok(raw) = raw else { panic!("{kind} {text} became {kept}, which is no JSON") };
            assert_eq!(json::canonical(raw).as_ref(), Ok(&kept), "{text} has two spellings");
            let Ok(kept) = serde_json::from_str::<Json>(&kept) else { return };
            assert!(!holds_address(&kept), "{text} became {kept}");
            assert!(noted || alike(&json, &kept, kind), "{kind} {text} became {kept}");
        }
    }
}

/// Whether a file's address is left anywhere.
fn holds_address(kept: &Json) -> bool {
    match kept {
        Json::Array(items) => items.iter().any(holds_address),
        Json::Object(fields) => fields
            .iter()
            .any(|(key, value)| json::FILE_URLS.contains(&key.as_str()) || holds_address(value)),
        _ => false,
    }
}

/// Whether nothing but what has to be replaced was replaced.
fn alike(sent: &Json, kept: &Json, kind: &str) -> bool {
    match (sent, kept) {
        (Json::Array(sent), Json::Array(kept)) => {
            sent.len() == kept.len() && sent.iter().zip(kept).all(|(s, k)| alike(s, k, kind))
        }
        (Json::Object(sent), Json::Object(kept)) => sent
            .iter()
            .filter(|(key, _)| !json::FILE_URLS.contains(&key.as_str()))
            .all(|(key, sent)| kept.get(key).is_some_and(|kept| alike(sent, kept, ""))),
        (Json::String(_) | Json::Number(_), Json::Bool(kept)) if kind == "boolean" => {
            let said = sent.as_str().map_or_else(|| sent.to_string(), str::to_owned);
            let words = if *kept { ["Y", "y", "1"] } else { ["N", "n", "0"] };
            words.contains(&said.trim())
        }
        (Json::String(sent), Json::Number(kept)) if kind.starts_with("PARENT") => {
            sent.trim().parse() == Ok(kept.as_f64().unwrap_or(f64::NAN))
        }
        // A file, reduced to its ID; what is deeper or longer than a plain reader takes.
        (Json::Object(_), Json::Number(_)) | (Json::Bool(true), _) => true,
        (Json::String(sent), Json::String(kept)) => {
            sent == kept || matches!(kind, "date" | "datetime")
        }
        // Another spelling of the same number may be read as its neighbour.
        (Json::Number(sent), Json::Number(kept)) => match (sent.as_f64(), kept.as_f64()) {
            (Some(sent), Some(kept)) => (sent - kept).abs() <= sent.abs() * 1e-12,
            _ => false,
        },
        (sent, kept) => sent == kept,
    }
}

#[cfg(test)]
mod tests {
    use crate::corpus::replay;

    #[test]
    fn values_of_the_corpus_are_read_or_noted() {
        replay("readers", super::readers);
    }

    #[test]
    fn rows_of_the_corpus_keep_their_children_or_say_so() {
        replay("rows", super::rows);
    }

    #[test]
    fn birthdays_of_the_corpus_are_days() {
        replay("birthdays", super::birthdays);
    }

    #[test]
    fn user_fields_of_the_corpus_are_kept_or_noted() {
        replay("user_fields", super::user_fields);
    }
}
