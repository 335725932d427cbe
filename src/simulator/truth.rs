//! What a right mirror of the portal holds: every live record as typed facts,
//! free of the quirks of the wire.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::clock::{Clock, Moment, day_text, local_to_unix, strtotime, utc_text};
use super::entity::Entity;
use super::fields::{Content, MULTI, Type};
use super::php::{Php, Writing};
use super::records::{Custom, Facts, Plain, Record};
use super::rows::has;
use super::user_fields::{UserField, UserFieldType};

/// One value of a multi-field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrueMulti {
    /// The portal's own id of the value.
    pub id: i64,
    /// The value as entered.
    pub value: String,
    /// `WORK`, `MOBILE` or whatever an integration stored.
    pub value_type: String,
}

/// One live record.
///
/// Values of `fields` are text or null, integer or null, boolean or null;
/// decimals are canonical text (`"15000"`, `"0.5"`), days `"2001-11-11"`,
/// instants `"2024-05-01T09:00:00Z"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrueRecord {
    /// The record's id.
    pub id: i64,
    /// Documented fields by the portal's name; `PHOTO` is `PHOTO_ID`, a number.
    pub fields: BTreeMap<String, Value>,
    /// Links by the portal's name of the field, `COMPANY_IDS` or `CONTACT_IDS` and
    /// `OBSERVERS`, the primary one first; only where `crm.item.list` was asked about.
    #[serde(default)]
    pub links: BTreeMap<String, Vec<i64>>,
    /// Always the five types, values sorted by id; none where a family has no such fields.
    pub multi_fields: BTreeMap<String, Vec<TrueMulti>>,
    /// `UF_*` and `PARENT_ID_*`, empties dropped, dates and times normalised,
    /// files reduced to their ids.
    pub custom_fields: Map<String, Value>,
    /// Values malformed on purpose, as sent: null in `fields`, for the quarantine.
    pub unreadable: BTreeMap<String, Value>,
    /// Fields whose text had a U+0000, which is removed here.
    pub nul_removed: Vec<String>,
}

/// What the truth depends on besides the record.
#[derive(Clone, Copy)]
pub(super) struct Teller<'a> {
    pub(super) entity: Entity,
    pub(super) clock: &'a Clock,
    pub(super) user_fields: &'a [UserField],
    /// Whether `crm.item.list` is the source, and not the classic list.
    pub(super) items: bool,
}

impl Teller<'_> {
    pub(super) fn tell(&self, record: &Record, facts: &Facts) -> TrueRecord {
        let mut truth = TrueRecord {
            id: record.id,
            fields: BTreeMap::new(),
            links: BTreeMap::new(),
            multi_fields: BTreeMap::new(),
            custom_fields: Map::new(),
            unreadable: BTreeMap::new(),
            nul_removed: Vec::new(),
        };
        for at in 0..self.entity.fields().len() {
            self.plain(&mut truth, record, facts, at);
        }
        let multi = if self.entity.has_multi_fields() { &facts.multi[..] } else { &[] };
        for (kind, values) in MULTI.iter().zip(multi) {
            let mut values: Vec<TrueMulti> = values
                .iter()
                .map(|multi| TrueMulti {
                    id: multi.id,
                    value: multi.value.to_string(),
                    value_type: multi.value_type.to_string(),
                })
                .collect();
            values.sort_by_key(|value| value.id);
            truth.multi_fields.insert((*kind).to_owned(), values);
        }
        for field in self.user_fields {
            let place = usize::try_from(field.id).unwrap_or(1) - 1;
            if let Some(custom) = facts.custom.get(place) {
                self.custom(&mut truth, field, custom);
            }
        }
        truth
    }

    fn plain(&self, truth: &mut TrueRecord, record: &Record, facts: &Facts, at: usize) {
        let field = &self.entity.fields()[at];
        let zone = self.clock.zone;
        let instant = |local: i64| Value::String(utc_text(local_to_unix(zone, local)));
        let tells = if self.items { field.tells_in_items() } else { field.in_classic_rows() };
        if !tells {
            return;
        }
        let file = format!("{}_ID", field.name);
        let name = if field.kind == Type::Photo { file.as_str() } else { field.name };
        let value = match (&facts.plain[at], field.content) {
            (_, Content::Links) => {
                truth.links.insert(name.to_owned(), facts.links(self.entity));
                return;
            }
            (_, Content::Observers) => {
                truth.links.insert(name.to_owned(), facts.observers.clone());
                return;
            }
            (Plain::Absent, _) => Value::Null,
            (Plain::Raw(raw), _) => self.read(raw, field.kind).unwrap_or_else(|| {
                truth.unreadable.insert(field.name.to_owned(), json(raw));
                Value::Null
            }),
            (_, Content::Id) => Value::from(record.id),
            (_, Content::Created) => instant(record.created),
            (_, Content::Modified) => instant(record.modified),
            (Plain::Unset, Content::Category) => Value::from(record.category),
            (_, Content::HasPhone | Content::HasEmail | Content::HasOpenLine) => {
                Value::Bool(has(facts, field.content))
            }
            (Plain::Unset, _) => Value::Null,
            (Plain::Text(json), Content::Addresses) => {
                let object = serde_json::from_str(json).unwrap_or(Value::Null);
                truth.custom_fields.insert(name.to_owned(), object);
                return;
            }
            (Plain::Text(text), _) => Value::String(text.to_string()),
            (Plain::Int(value), Content::Parent) => {
                truth.custom_fields.insert(name.to_owned(), Value::from(*value));
                return;
            }
            (Plain::Int(value), _) => Value::from(*value),
            (Plain::Decimal(value), _) => canonical_decimal(value).into(),
            (Plain::Flag(value), _) => Value::Bool(*value),
            (Plain::Local(local), _) => instant(*local),
            (Plain::Day(day), _) => Value::String(day_text(*day)),
        };
        if field.content == Content::Parent {
            if value != Value::Null {
                truth.custom_fields.insert(name.to_owned(), value);
            }
            return;
        }
        let value = without_nul(value, field.name, &mut truth.nul_removed);
        truth.fields.insert(name.to_owned(), value);
    }

    fn custom(&self, truth: &mut TrueRecord, field: &UserField, custom: &Custom) {
        let zone = self.clock.zone;
        let shape = |values: Vec<Value>| {
            if field.multiple {
                Value::Array(values)
            } else {
                values.into_iter().next().unwrap_or(Value::Null)
            }
        };
        let value = match custom {
            Custom::Empty => return,
            Custom::Json(raw) if field.kind == UserFieldType::Boolean => yes_or_no(raw),
            Custom::Json(raw) => json(raw),
            Custom::Days(days) => {
                shape(days.iter().map(|day| Value::String(day_text(*day))).collect())
            }
            Custom::Locals(locals) => shape(
                locals
                    .iter()
                    .map(|local| Value::String(utc_text(local_to_unix(zone, *local))))
                    .collect(),
            ),
            Custom::Files(files) => shape(files.iter().map(|id| Value::from(*id)).collect()),
        };
        let dropped = match &value {
            Value::Null => true,
            Value::Bool(false) => field.kind != UserFieldType::Boolean,
            Value::String(text) => text.is_empty(),
            Value::Array(values) => values.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if dropped {
            return;
        }
        let value = without_nul(value, &field.code, &mut truth.nul_removed);
        truth.custom_fields.insert(field.code.clone(), value);
    }

    /// Reads a raw value as its type; `None` when it cannot be read.
    fn read(&self, raw: &Php, kind: Type) -> Option<Value> {
        let empty = match raw {
            Php::Null => true,
            Php::Text(text) => text.is_empty(),
            Php::Bool(value) => !*value && kind != Type::Flag,
            Php::Array(array) => array.is_empty(),
            Php::Int(_) | Php::Number(_) => false,
        };
        if empty {
            return Some(Value::Null);
        }
        match kind {
            Type::Flag => flag(raw).map(Value::Bool),
            Type::Photo => {
                let id = raw.as_array().map_or(Some(raw), |file| file.get("id"))?;
                whole(id).map(pointer)
            }
            Type::Integer | Type::Category | Type::Enumerated(_) => whole(raw).map(Value::from),
            kind if kind.is_reference() => whole(raw).map(pointer),
            Type::Double => canonical_decimal(&scalar(raw)?).map(Value::String),
            Type::DateTime => match strtotime(&scalar(raw)?, self.clock)? {
                Moment::Unix(unix) => Some(Value::String(utc_text(unix))),
                Moment::Local(_) => None,
            },
            Type::Date => birthday(&scalar(raw)?, self.clock.zone, self.clock),
            _ => scalar(raw).map(Value::String),
        }
    }
}

fn scalar(raw: &Php) -> Option<String> {
    match raw {
        Php::Bool(_) | Php::Null => None,
        other => other.to_text(),
    }
}

fn whole(raw: &Php) -> Option<i64> {
    scalar(raw)?.parse().ok()
}

/// Booleans are letters in documented fields, and `true` or `"1"` elsewhere. All of
/// them say yes or no; what says neither is no flag.
pub(super) fn flag(raw: &Php) -> Option<bool> {
    match raw {
        Php::Bool(value) => Some(*value),
        other => match scalar(other)?.as_str() {
            "Y" | "1" => Some(true),
            "N" | "0" => Some(false),
            _ => None,
        },
    }
}

/// One meaning for the spellings of a boolean user field, in a list too.
fn yes_or_no(raw: &Php) -> Value {
    match raw {
        Php::Array(values) => values.iter().map(|(_, value)| yes_or_no(value)).collect(),
        other => flag(other).map_or_else(|| json(other), Value::Bool),
    }
}

/// The ID of something else; nothing has the ID 0.
fn pointer(id: i64) -> Value {
    if id == 0 { Value::Null } else { Value::from(id) }
}

/// The day that a printed midnight means: its first ten characters, or the next
/// day when the printed offset is negative and the clock is not 00:00.
fn birthday(text: &str, zone: Tz, clock: &Clock) -> Option<Value> {
    let first_ten = text.get(..10)?;
    let day = strtotime(first_ten, clock)?.local(zone).div_euclid(86_400);
    strtotime(text, clock)?;
    let tail = text.get(11..).unwrap_or("00:00:00");
    let behind = tail.contains('-') && !tail.starts_with("00:00:00");
    Some(Value::String(day_text(day + i64::from(behind))))
}

/// `"15000.00"` and `1.5e4` as `"15000"`.
pub(super) fn canonical_decimal(text: &str) -> Option<String> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if whole.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    if !(-100..=1000).contains(&point) {
        return None;
    }
    let at = |place: i32| {
        let place = usize::try_from(place).ok()?;
        digits.as_bytes().get(place).map(|byte| char::from(*byte))
    };
    let last = i32::try_from(digits.len()).ok()?;
    let left: String = (0..point).map(|place| at(place).unwrap_or('0')).collect();
    let right: String = (point..last).map(|place| at(place).unwrap_or('0')).collect();
    let left = left.trim_start_matches('0');
    let right = right.trim_end_matches('0');
    let mut out = String::new();
    if negative && !(left.is_empty() && right.is_empty()) {
        out.push('-');
    }
    out.push_str(if left.is_empty() { "0" } else { left });
    if !right.is_empty() {
        out.push('.');
        out.push_str(right);
    }
    Some(out)
}

fn json(raw: &Php) -> Value {
    let mut out = Vec::new();
    raw.write(&mut out, Writing::Plain);
    serde_json::from_slice(&out).unwrap_or(Value::Null)
}

fn without_nul(value: Value, name: &str, removed: &mut Vec<String>) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => {
            if removed.last().is_none_or(|last| last != name) {
                removed.push(name.to_owned());
            }
            Value::String(text.replace('\0', ""))
        }
        Value::Array(values) => Value::Array(
            values.into_iter().map(|value| without_nul(value, name, removed)).collect(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_one_form() {
        for (text, canonical) in [
            ("15000.00", Some("15000")),
            ("0.50", Some("0.5")),
            ("-0.00", Some("0")),
            ("1.0e+15", Some("1000000000000000")),
            ("12,50", None),
            ("NaN", None),
            ("1 000.00", None),
        ] {
            assert_eq!(canonical_decimal(text).as_deref(), canonical, "{text}");
        }
    }
}
