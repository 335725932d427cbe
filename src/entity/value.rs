//! The lenient readers: whatever JSON type the portal chose, one value comes out.
//!
//! Lists answer decimal strings where items answer numbers, unset is `null`, `""`,
//! `"0"`, `false` or an absent key, and dates come as shifted midnights (vendor
//! pages `crm.contact.list`, `crm.lead.list`, `data-types`).

use std::borrow::Cow;

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveTime, SubsecRound, Utc};

use super::{
    column::ColumnType,
    json::{
        self, Raw,
        raw::{HalfSurrogate, Shape},
    },
    record::Value,
};

/// A value that is not of its column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

impl From<HalfSurrogate> for Unreadable {
    fn from(HalfSurrogate: HalfSurrogate) -> Self {
        Self
    }
}

/// A value as read, and whether U+0000 had to be removed from it.
pub(super) struct Reading {
    pub(super) value: Value,
    pub(super) nul_removed: bool,
}

/// The text of a number, however it was sent; `None` where nothing was.
fn numeral<'a>(shape: &Shape<'a>) -> Result<Option<Cow<'a, str>>, Unreadable> {
    match shape {
        Shape::Null | Shape::Bool(false) | Shape::EmptyCompound => Ok(None),
        Shape::Number(number) => Ok(Some(Cow::Borrowed(number))),
        Shape::Text(text) => Ok(trimmed(text.read()?)),
        Shape::Bool(true) | Shape::List | Shape::Object => Err(Unreadable),
    }
}

/// Text without white space around it; `None` if there is no other.
fn trimmed(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let trimmed = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    };
    Some(trimmed).filter(|text| !text.is_empty())
}

/// Reads a value for a column of the given type.
pub(super) fn read(kind: ColumnType, raw: Raw<'_>) -> Result<Reading, Unreadable> {
    let shape = raw.shape();
    let value = match kind {
        ColumnType::Text => return text(shape),
        ColumnType::Integer => integer(&shape)?.map_or(Value::Null, Value::Integer),
        ColumnType::Reference => match integer(&shape)? {
            None | Some(0) => Value::Null,
            Some(id) => Value::Integer(id),
        },
        ColumnType::Flag => flag(&shape)?,
        ColumnType::Decimal => match numeral(&shape)? {
            None => Value::Null,
            Some(numeral) => Value::Decimal(json::decimal(&numeral).ok_or(Unreadable)?),
        },
        ColumnType::Date => match date_text(&shape)? {
            None => Value::Null,
            Some(text) => Value::Date(day(&text).ok_or(Unreadable)?),
        },
        ColumnType::Timestamp => match date_text(&shape)? {
            None => Value::Null,
            Some(text) => Value::Timestamp(instant(&text).ok_or(Unreadable)?),
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
            let (text, nul_removed) = without_nul(text.read()?);
            let value = if text.is_empty() { Value::Null } else { Value::Text(text) };
            Ok(Reading { value, nul_removed })
        }
        Shape::Bool(true) | Shape::List | Shape::Object => Err(Unreadable),
    }
}

/// Text as PostgreSQL can hold it, and whether U+0000 was removed.
pub(super) fn without_nul(text: Cow<'_, str>) -> (String, bool) {
    if text.contains('\0') { (text.replace('\0', ""), true) } else { (text.into_owned(), false) }
}

/// A whole number; `None` where nothing was sent.
pub(super) fn integer(shape: &Shape<'_>) -> Result<Option<i64>, Unreadable> {
    let Some(numeral) = numeral(shape)? else {
        return Ok(None);
    };
    if let Ok(number) = numeral.parse() {
        return Ok(Some(number));
    }
    // PHP may print a whole number as a float: 12.0.
    let whole = json::decimal(&numeral).ok_or(Unreadable)?;
    whole.parse().map(Some).map_err(|_| Unreadable)
}

pub(super) fn flag(shape: &Shape<'_>) -> Result<Value, Unreadable> {
    let numeral = match shape {
        Shape::Bool(flag) => return Ok(Value::Flag(*flag)),
        other => numeral(other)?,
    };
    match numeral.as_deref() {
        None => Ok(Value::Null),
        Some("Y" | "y" | "1") => Ok(Value::Flag(true)),
        Some("N" | "n" | "0") => Ok(Value::Flag(false)),
        Some(_) => Err(Unreadable),
    }
}

fn date_text<'a>(shape: &Shape<'a>) -> Result<Option<Cow<'a, str>>, Unreadable> {
    match shape {
        Shape::Number(_) => Err(Unreadable),
        other => numeral(other),
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
    let (printed, moment) = match moment(text) {
        Some(moment) => (moment.date_naive(), Some(moment)),
        None => (text.get(..10)?.parse().ok()?, None),
    };
    if !in_range(printed) {
        return None;
    }
    let day = match moment {
        Some(moment) => {
            let early = moment.offset().local_minus_utc() < 0 && moment.time() != NaiveTime::MIN;
            if early { printed.succ_opt()? } else { printed }
        }
        None if text.len() == 10 => printed,
        None => {
            text.replacen(' ', "T", 1).parse::<chrono::NaiveDateTime>().ok()?;
            printed
        }
    };
    in_range(day).then_some(day)
}

/// An instant to the second; `None` without an offset, since the zone is then unknown.
pub(super) fn instant(text: &str) -> Option<DateTime<Utc>> {
    let moment = moment(text)?;
    // In the portal's zone and in ours: either may be the one beyond the last year.
    let instant = moment.with_timezone(&Utc).trunc_subsecs(0);
    (in_range(moment.date_naive()) && in_range(instant.date_naive())).then_some(instant)
}

/// A local time with its offset.
fn moment(text: &str) -> Option<DateTime<FixedOffset>> {
    as_the_portal_prints(text.as_bytes()).or_else(|| text.replacen(' ', "T", 1).parse().ok())
}

/// Reads `2021-05-31T15:10:16+02:00`; `None` for every other form, which may be right too.
fn as_the_portal_prints(text: &[u8]) -> Option<DateTime<FixedOffset>> {
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        i1,
        i2,
        b':',
        s1,
        s2,
        sign @ (b'+' | b'-'),
        z1,
        z2,
        b':',
        z3,
        z4,
    ] = text
    else {
        return None;
    };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0, |number: u32, digit| {
            digit.is_ascii_digit().then(|| number * 10 + u32::from(**digit - b'0'))
        })
    };
    let year = number(&[y1, y2, y3, y4])?.try_into().ok()?;
    let local = NaiveDate::from_ymd_opt(year, number(&[m1, m2])?, number(&[d1, d2])?)?
        .and_hms_opt(number(&[h1, h2])?, number(&[i1, i2])?, number(&[s1, s2])?)?;
    let (hours, minutes) = (number(&[z1, z2])?, number(&[z3, z4]).filter(|m| *m < 60)?);
    let east = i32::try_from(hours * 3600 + minutes * 60).ok()?;
    let offset = FixedOffset::east_opt(if *sign == b'-' { -east } else { east })?;
    local.and_local_timezone(offset).single()
}

/// PHP prints zero dates as years around 0; they are no days.
fn in_range(day: NaiveDate) -> bool {
    (1..=9999).contains(&day.year())
}

fn file(shape: &Shape<'_>, raw: Raw<'_>) -> Result<Value, Unreadable> {
    let id = match shape {
        Shape::Object => file_id(raw).ok_or(Unreadable)?,
        plain => integer(plain)?.unwrap_or(0),
    };
    Ok(if id == 0 { Value::Null } else { Value::Integer(id) })
}

/// The ID inside a file object `{id, showUrl, downloadUrl}`.
pub(super) fn file_id(raw: Raw<'_>) -> Option<i64> {
    let is_id = |key: &str| matches!(key, "id" | "ID");
    let (_, id) = raw.fields().find(|(key, _)| key.unescaped().is_some_and(is_id))?;
    integer(&id.shape()).ok()?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(kind: ColumnType, json: &str) -> Result<Value, Unreadable> {
        read(kind, Raw::well_formed(json)).map(|reading| reading.value)
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
            // Beyond the last year that has four digits, in one of the two zones.
            (Timestamp, r#""9999-12-31T23:00:00-01:00""#),
            (Date, r#""9999-12-31T23:00:00-01:00""#),
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
        fn the_portals_own_form_is_read_like_any_other(
            text in "(19|20|00|99)[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9][+-][0-2][0-9]:[0-6][0-9]",
        ) {
            let read = as_the_portal_prints(text.as_bytes());
            // A leap second is read the general way.
            if !text[..19].ends_with(":60") {
                prop_assert_eq!(read, text.parse::<DateTime<FixedOffset>>().ok());
            }
        }

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
