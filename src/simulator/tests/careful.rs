//! The truth, held against what a careful client reads from the rows.

use serde_json::{Value, json};

use super::{Desk, ids};
use crate::simulator::*;
use chrono::DateTime;

/// Reads a value as a careful client does, by the field's type alone.
fn careful(kind: &str, value: &Value) -> Option<Value> {
    let text = match value {
        Value::Null | Value::Bool(false) if kind != "char" => return Some(Value::Null),
        Value::String(text) if text.is_empty() => return Some(Value::Null),
        Value::String(text) => text.replace('\0', ""),
        other => other.to_string(),
    };
    match kind {
        "string" | "crm_status" | "crm_currency" => Some(text.into()),
        "char" => match text.as_str() {
            "Y" => Some(true.into()),
            "N" => Some(false.into()),
            "null" => Some(Value::Null),
            _ => None,
        },
        "double" => {
            let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
            let digits = if text.contains('e') { format!("{number:.2}") } else { text };
            let shorter = digits.trim_end_matches('0').trim_end_matches('.');
            let fraction = digits.contains('.');
            Some(if fraction { shorter } else { &digits }.into())
        }
        "datetime" => {
            let instant = DateTime::parse_from_rfc3339(&text).ok()?.to_utc();
            Some(instant.format("%Y-%m-%dT%H:%M:%SZ").to_string().into())
        }
        "date" => {
            let printed = DateTime::parse_from_rfc3339(&text).ok()?;
            let day = printed.date_naive();
            let behind = printed.offset().local_minus_utc() < 0 && !text.contains("T00:00:00");
            Some((day + chrono::Days::new(behind.into())).to_string().into())
        }
        "file" => Some(value["id"].clone()).and_then(|id| match id {
            Value::String(id) => id.parse::<i64>().ok().map(Value::from),
            id => Some(id),
        }),
        _ => {
            let number: i64 = text.parse().ok()?;
            let unset = number == 0 && kind != "integer";
            Some(if unset { Value::Null } else { number.into() })
        }
    }
}

/// What a careful client makes of a row, to be held against the truth.
fn assert_row_tells(truth: &TrueRecord, row: &Value, catalogue: &Value) {
    for (name, info) in catalogue.as_object().unwrap() {
        let kind = info["type"].as_str().unwrap();
        let multiple = info["isMultiple"] == true;
        let at = format!("{} {name}", truth.id);
        if kind == "crm_multifield" {
            let mut sent: Vec<TrueMulti> = row.get(name).map_or(Vec::new(), |values| {
                let item = |value: &Value| TrueMulti {
                    id: ids(&json!([value]))[0],
                    value: value["VALUE"].as_str().unwrap().to_owned(),
                    value_type: value["VALUE_TYPE"].as_str().unwrap().to_owned(),
                };
                values.as_array().unwrap().iter().map(item).collect()
            });
            sent.sort_by_key(|value| value.id);
            assert_eq!(truth.multi_fields[name], sent, "{at}");
        } else if info["isDynamic"] == true || name.starts_with("PARENT_ID_") {
            let sent = row.get(name).cloned().unwrap_or(Value::Null);
            let nothing = matches!(&sent, Value::Null)
                || sent == ""
                || sent == json!([])
                || (kind == "crm_entity" && (sent == 0 || sent == "0"))
                || (sent == false && kind != "boolean");
            let read = |value: &Value| match (kind, value) {
                ("date" | "datetime" | "file", value) => careful(kind, value).unwrap(),
                (_, Value::String(text)) => text.replace('\0', "").into(),
                (_, other) => other.clone(),
            };
            let sent = match sent {
                _ if nothing => None,
                Value::Array(values) => Some(values.iter().map(read).collect()),
                value => Some(read(&value)),
            };
            assert_eq!(truth.custom_fields.get(name), sent.as_ref(), "{at}");
        } else if !multiple {
            let column = if name == "PHOTO" { "PHOTO_ID" } else { name };
            let sent = row.get(name).unwrap_or(&Value::Null);
            // `Value` keeps numbers as floats, which hold no 16 digits.
            if sent.is_f64() && sent.to_string().len() > 16 {
                continue;
            }
            let read = careful(kind, sent);
            assert_eq!(truth.unreadable.contains_key(name), read.is_none(), "{at}");
            assert_eq!(truth.fields[column], read.unwrap_or(Value::Null), "{at}");
        }
    }
}

#[test]
fn the_truth_is_what_a_careful_client_reads() {
    for zone in [chrono_tz::Tz::Europe__Moscow, chrono_tz::Tz::America__New_York] {
        let mut desk = Desk::new(Options {
            contacts: 1_500,
            leads: 1_500,
            malformed: 40,
            zone,
            ..Options::default()
        });
        for (entity, name) in [(Entity::Contacts, "contact"), (Entity::Leads, "lead")] {
            desk.apply(json!({"action": "change", "entity": entity, "count": 200}));
            desk.apply(json!({"action": "create", "entity": entity, "count": 20}));
            let fields = desk.call(&format!("crm.{name}.fields"), "").unwrap();
            let select: String = ["PHONE", "EMAIL", "WEB", "IM", "LINK", "*", "UF_*"]
                .map(|name| format!("&select[]={name}"))
                .concat();
            let mut unreadable = 0;
            let truth = desk.portal.truth(entity);
            for page in truth.chunks(50) {
                let after = page[0].id - 1;
                let query = format!("filter[%3EID]={after}&order[ID]=ASC&start=-1{select}");
                let rows = desk.call(&format!("crm.{name}.list"), &query).unwrap();
                let rows = rows["result"].as_array().unwrap();
                assert_eq!(rows.len(), page.len());
                for (record, row) in page.iter().zip(rows) {
                    assert_row_tells(record, row, &fields["result"]);
                    unreadable += record.unreadable.len();
                }
            }
            assert!(unreadable > 10);
        }
    }
}
