//! The lenient readers: whatever JSON type the portal chose, one value comes out.
//!
//! Lists answer decimal strings where items answer numbers, unset is `null`, `""`,
//! `"0"`, `false` or an absent key, and dates come as shifted midnights (vendor
//! pages `crm.contact.list`, `crm.lead.list`, `data-types`).

use std::borrow::Cow;

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveTime, SubsecRound, Utc};
use serde_json::value::RawValue;

use super::{
    column::ColumnType,
    json::{self, Text},
    record::Value,
};

/// A value that is not of its column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

/// A value as read, and whether U+0000 had to be removed from it.
pub(super) struct Reading {
    pub(super) value: Value,
    pub(super) nul_removed: bool,
}

/// The outermost JSON shape of a value.
pub(super) enum Shape<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(Cow<'a, str>),
    /// `[]` or `{}`: PHP's way to say nothing.
    EmptyCompound,
    Compound,
}

impl<'a> Shape<'a> {
    pub(super) fn of(raw: &'a RawValue) -> Result<Self, Unreadable> {
        let json = raw.get();
        Ok(match json.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'"') => {
                let Text(text) = serde_json::from_str(json).map_err(|_| Unreadable)?;
                Self::Text(text)
            }
            Some(b'[' | b'{') if json[1..json.len() - 1].trim().is_empty() => Self::EmptyCompound,
            Some(b'[' | b'{') => Self::Compound,
            _ => Self::Number(json),
        })
    }

    /// The text of a number, however it was sent; `None` where nothing was.
    fn numeral(&self) -> Result<Option<&str>, Unreadable> {
        match self {
            Self::Null | Self::Bool(false) | Self::EmptyCompound => Ok(None),
            Self::Number(number) => Ok(Some(number)),
            Self::Text(text) if text.trim().is_empty() => Ok(None),
            Self::Text(text) => Ok(Some(text.trim())),
            Self::Bool(true) | Self::Compound => Err(Unreadable),
        }
    }
}

/// Reads a value for a column of the given type.
pub(super) fn read(kind: ColumnType, raw: &RawValue) -> Result<Reading, Unreadable> {
    let shape = Shape::of(raw)?;
    let value = match kind {
        ColumnType::Text => return text(shape),
        ColumnType::Integer => integer(&shape)?.map_or(Value::Null, Value::Integer),
        ColumnType::Reference => match integer(&shape)? {
            None | Some(0) => Value::Null,
            Some(id) => Value::Integer(id),
        },
        ColumnType::Flag => flag(&shape)?,
        ColumnType::Decimal => match shape.numeral()? {
            None => Value::Null,
            Some(numeral) => Value::Decimal(json::decimal(numeral).ok_or(Unreadable)?),
        },
        ColumnType::Date => match date_text(&shape)? {
            None => Value::Null,
            Some(text) => Value::Date(day(text).ok_or(Unreadable)?),
        },
        ColumnType::Timestamp => match date_text(&shape)? {
            None => Value::Null,
            Some(text) => Value::Timestamp(instant(text).ok_or(Unreadable)?),
        },
        ColumnType::File => file(&shape, raw)?,
    };
    Ok(Reading { value, nul_removed: false })
}

fn text(shape: Shape<'_>) -> Result<Reading, Unreadable> {
    let plain = |value| Ok(Reading { value, nul_removed: false });
    match shape {
        Shape::Null | Shape::Bool(false) | Shape::EmptyCompound => plain(Value::Null),
        Shape::Number(number) => plain(Value::Text(number.to_owned())),
        Shape::Text(text) => {
            let (text, nul_removed) = without_nul(text);
            let value = if text.is_empty() { Value::Null } else { Value::Text(text) };
            Ok(Reading { value, nul_removed })
        }
        Shape::Bool(true) | Shape::Compound => Err(Unreadable),
    }
}

/// Text as PostgreSQL can hold it, and whether U+0000 was removed.
pub(super) fn without_nul(text: Cow<'_, str>) -> (String, bool) {
    if text.contains('\0') { (text.replace('\0', ""), true) } else { (text.into_owned(), false) }
}

/// A whole number; `None` where nothing was sent.
pub(super) fn integer(shape: &Shape<'_>) -> Result<Option<i64>, Unreadable> {
    let Some(numeral) = shape.numeral()? else {
        return Ok(None);
    };
    if let Ok(number) = numeral.parse() {
        return Ok(Some(number));
    }
    // PHP may print a whole number as a float: 12.0.
    let whole = json::decimal(numeral).ok_or(Unreadable)?;
    whole.parse().map(Some).map_err(|_| Unreadable)
}

fn flag(shape: &Shape<'_>) -> Result<Value, Unreadable> {
    let numeral = match shape {
        Shape::Bool(flag) => return Ok(Value::Flag(*flag)),
        other => other.numeral()?,
    };
    match numeral {
        None => Ok(Value::Null),
        Some("Y" | "y" | "1") => Ok(Value::Flag(true)),
        Some("N" | "n" | "0") => Ok(Value::Flag(false)),
        Some(_) => Err(Unreadable),
    }
}

fn date_text<'s>(shape: &'s Shape<'_>) -> Result<Option<&'s str>, Unreadable> {
    match shape {
        Shape::Null | Shape::Bool(false) | Shape::EmptyCompound => Ok(None),
        Shape::Text(text) if text.trim().is_empty() => Ok(None),
        Shape::Text(text) => Ok(Some(text.trim())),
        Shape::Bool(true) | Shape::Number(_) | Shape::Compound => Err(Unreadable),
    }
}

/// A calendar day from a shifted midnight.
///
/// The portal prints local midnight plus the server's *current* offset, with the
/// offset that was valid on that day. So the printed day is right when the printed
/// offset is not negative, and one day early when it is negative and the clock is
/// not at midnight. Converting to UTC would be wrong for days whose historical
/// offset differs from today's (Moscow summers before 2011).
pub(super) fn day(text: &str) -> Option<NaiveDate> {
    let printed: NaiveDate =
        text.get(..10)?.parse().ok().filter(|day: &NaiveDate| in_range(*day))?;
    if text.len() == 10 {
        return Some(printed);
    }
    let with_offset = text.replacen(' ', "T", 1);
    match with_offset.parse::<DateTime<FixedOffset>>() {
        Ok(moment) => {
            let early = moment.offset().local_minus_utc() < 0 && moment.time() != NaiveTime::MIN;
            if early { printed.succ_opt() } else { Some(printed) }
        }
        Err(_) => with_offset.parse::<chrono::NaiveDateTime>().is_ok().then_some(printed),
    }
}

/// An instant to the second; `None` without an offset, since the zone is then unknown.
pub(super) fn instant(text: &str) -> Option<DateTime<Utc>> {
    let moment: DateTime<FixedOffset> = text.replacen(' ', "T", 1).parse().ok()?;
    in_range(moment.date_naive()).then(|| moment.with_timezone(&Utc).trunc_subsecs(0))
}

/// PHP prints zero dates as years around 0; they are no days.
fn in_range(day: NaiveDate) -> bool {
    (1..=9999).contains(&day.year())
}

fn file(shape: &Shape<'_>, raw: &RawValue) -> Result<Value, Unreadable> {
    let id = match shape {
        Shape::Compound => file_id(raw).ok_or(Unreadable)?,
        plain => integer(plain)?.unwrap_or(0),
    };
    Ok(if id == 0 { Value::Null } else { Value::Integer(id) })
}

/// The ID inside a file object `{id, showUrl, downloadUrl}`.
pub(super) fn file_id(raw: &RawValue) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct File<'a> {
        #[serde(borrow, alias = "ID")]
        id: &'a RawValue,
    }
    let file: File<'_> = serde_json::from_str(raw.get()).ok()?;
    integer(&Shape::of(file.id).ok()?).ok()?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(kind: ColumnType, json: &str) -> Result<Value, Unreadable> {
        read(kind, &RawValue::from_string(json.to_owned()).unwrap()).map(|reading| reading.value)
    }

    #[test]
    fn every_form_of_empty_is_null() {
        use ColumnType::{Date, Decimal, File, Integer, Reference, Text, Timestamp};
        for kind in [Text, Integer, Reference, Decimal, Date, Timestamp, File] {
            for empty in ["null", r#""""#, "false", "[]", "{}", "[ ]"] {
                assert_eq!(reading(kind, empty), Ok(Value::Null), "{kind:?} {empty}");
            }
        }
        assert_eq!(reading(Reference, r#""0""#), Ok(Value::Null));
        assert_eq!(reading(Reference, "0"), Ok(Value::Null));
        assert_eq!(reading(Integer, r#""0""#), Ok(Value::Integer(0)));
        assert_eq!(reading(ColumnType::Flag, r#""""#), Ok(Value::Null));
    }

    #[test]
    fn one_value_in_every_type_is_one_value() {
        for json in [r#""5""#, "5", "5.0", r#"" 5 ""#] {
            assert_eq!(reading(ColumnType::Reference, json), Ok(Value::Integer(5)), "{json}");
        }
        for json in [r#""12.50""#, "12.5", "1.25e1"] {
            let decimal = Ok(Value::Decimal("12.5".to_owned()));
            assert_eq!(reading(ColumnType::Decimal, json), decimal, "{json}");
        }
        for json in [r#""Y""#, "true", r#""1""#, "1"] {
            assert_eq!(reading(ColumnType::Flag, json), Ok(Value::Flag(true)), "{json}");
        }
        for json in [r#"{"id":"7","showUrl":"x"}"#, r#"{"ID":7}"#, "7", r#""7""#] {
            assert_eq!(reading(ColumnType::File, json), Ok(Value::Integer(7)), "{json}");
        }
    }

    #[test]
    fn what_is_not_of_the_type_is_unreadable() {
        use ColumnType::{Date, Decimal, Flag, Integer, Text, Timestamp};
        for (kind, json) in [
            (Integer, r#""12a""#),
            (Integer, "1.5"),
            (Integer, "99999999999999999999"),
            (Decimal, r#""1,5""#),
            (Flag, r#""maybe""#),
            (Date, r#""0000-00-00T00:00:00+03:00""#),
            (Date, r#""31.12.2020""#),
            (Timestamp, r#""2020-01-01T00:00:00""#),
            (Timestamp, r#""-0001-11-30T00:00:00+02:30""#),
            (Timestamp, "5"),
            (Text, "[1]"),
            (Text, r#"{"a":1}"#),
            (Text, r#""\ud800""#),
        ] {
            assert_eq!(reading(kind, json), Err(Unreadable), "{kind:?} {json}");
        }
    }

    #[test]
    fn birthdays_follow_the_printed_offset() {
        for (text, expected) in [
            ("2001-11-11T02:00:00+02:00", "2001-11-11"),
            ("2001-11-11T00:00:00+02:00", "2001-11-11"),
            // Moscow summer time of 1985, printed while the server is at +03:00.
            ("1985-07-01T03:00:00+04:00", "1985-07-01"),
            // New York: midnight plus -05:00 is the evening before.
            ("2001-11-10T19:00:00-05:00", "2001-11-11"),
            ("2001-11-11T00:00:00-05:00", "2001-11-11"),
            ("2001-11-11", "2001-11-11"),
            ("2001-11-11 00:00:00", "2001-11-11"),
        ] {
            assert_eq!(day(text), Some(expected.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn instants_compare_across_offsets() {
        assert_eq!(instant("2021-05-31T15:10:16+02:00"), instant("2021-05-31T13:10:16.900Z"));
    }

    proptest! {
        #[test]
        fn a_birthday_survives_any_pair_of_offsets(
            days in 1_000i32..700_000, now in -12i32..=14, then in -12i32..=14,
        ) {
            // The portal's own rule: midnight shifted by today's offset.
            prop_assume!((now >= 0) == (then >= 0));
            let day_of_birth = NaiveDate::from_num_days_from_ce_opt(days).unwrap();
            let shifted = day_of_birth.and_time(NaiveTime::MIN) + chrono::Duration::hours(now.into());
            let sign = if then < 0 { '-' } else { '+' };
            let printed = format!("{}{sign}{:02}:00", shifted.format("%Y-%m-%dT%H:%M:%S"), then.abs());
            prop_assert_eq!(day(&printed), Some(day_of_birth));
        }

        #[test]
        fn no_text_makes_a_reader_panic(text in ".*") {
            for kind in [ColumnType::Text, ColumnType::Integer, ColumnType::Flag, ColumnType::Decimal,
                ColumnType::Date, ColumnType::Timestamp, ColumnType::File, ColumnType::Reference] {
                let _ = reading(kind, &json::quoted(&text));
            }
        }
    }
}
