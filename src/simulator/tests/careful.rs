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
                ("date" | "datetime" | "file" | "crm_entity", value) => {
                    careful(kind, value).unwrap()
                }
                ("boolean", Value::String(text)) => (text == "1").into(),
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

/// What a careful client makes of an item, to be held against the truth.
fn assert_item_tells(entity: Entity, truth: &TrueRecord, row: &Value, catalogue: &Value) {
    let names = entity.fields().iter().zip(entity.item_names());
    for (field, name) in names.filter(|(field, _)| field.tells_in_items()) {
        let at = format!("{entity:?} {} {name}", truth.id);
        let sent = row.get(name).unwrap_or(&Value::Null);
        let kind = match catalogue[name]["type"].as_str().unwrap() {
            "boolean" => "char",
            "text" | "location" => "string",
            // The one integer for which 0 is nothing.
            "integer" if name == "webformId" => "crm_form",
            "crm_category" => "integer",
            kind => kind,
        };
        let column =
            if kind == "file" { format!("{}_ID", field.name) } else { field.name.to_owned() };
        if catalogue[name]["isMultiple"] == true {
            assert_eq!(json!(truth.links[&column]), *sent, "{at}");
        } else if name.starts_with("parentId") {
            let read = Some(sent).filter(|sent| !sent.is_null() && **sent != 0);
            assert_eq!(truth.custom_fields.get(&column), read, "{at}");
        // `Value` keeps numbers as floats, which hold no 16 digits.
        } else if !(sent.is_f64() && sent.to_string().len() > 15) {
            let read = careful(kind, sent);
            assert_eq!(truth.unreadable.contains_key(field.name), read.is_none(), "{at}");
            assert_eq!(truth.fields[&column], read.unwrap_or(Value::Null), "{at}");
        }
    }
    for (kind, values) in &truth.multi_fields {
        let of_kind = |value: &&Value| value["typeId"] == *kind;
        let mut sent: Vec<TrueMulti> = row["fm"]
            .as_array()
            .unwrap()
            .iter()
            .filter(of_kind)
            .map(|value| TrueMulti {
                id: value["id"].as_i64().unwrap(),
                value: value["value"].as_str().unwrap().to_owned(),
                value_type: value["valueType"].as_str().unwrap().to_owned(),
            })
            .collect();
        sent.sort_by_key(|value| value.id);
        assert_eq!(*values, sent, "{entity:?} {} {kind}", truth.id);
    }
    let stored = |name: &&String| name.starts_with("UF_");
    for name in truth.custom_fields.keys().filter(stored) {
        assert!(
            row.get(name).is_some_and(|sent| !sent.is_null()),
            "{entity:?} {} {name}",
            truth.id
        );
        if let Value::Bool(truth) = truth.custom_fields[name] {
            assert_eq!(row[name], if truth { "Y" } else { "N" }, "{entity:?} {name}");
        }
    }
}

#[test]
fn the_truth_of_items_is_what_a_careful_client_reads() {
    for zone in [chrono_tz::Tz::Europe__Moscow, chrono_tz::Tz::America__New_York] {
        let mut desk = Desk::new(Options {
            contacts: 600,
            leads: 600,
            companies: 600,
            deals: 600,
            quotes: 300,
            smart_invoices: 300,
            projects: 300,
            equipment: 100,
            malformed: 40,
            zone,
            ..Options::default()
        });
        for entity in Entity::items() {
            desk.apply(json!({"action": "change", "entity": entity, "count": 60}));
            let query = format!("entityTypeId={}&useOriginalUfNames=Y", entity.type_id());
            let fields = desk.call("crm.item.fields", &query).unwrap();
            let truth = desk.portal.item_truth(entity);
            for page in truth.chunks(50) {
                let after = page[0].id - 1;
                let query = format!("{query}&filter[%3Eid]={after}&order[id]=ASC&start=-1");
                let rows = desk.call("crm.item.list", &query).unwrap();
                let rows = rows["result"]["items"].as_array().unwrap();
                assert_eq!(rows.len(), page.len());
                for (record, row) in page.iter().zip(rows) {
                    assert_item_tells(entity, record, row, &fields["result"]["fields"]);
                }
            }
            let unreadable: usize = truth.iter().map(|record| record.unreadable.len()).sum();
            assert!(unreadable > 0 || entity == Entity::Equipment, "{entity:?}");
        }
    }
}
