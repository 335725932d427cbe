//! The portal's envelope: `result`, `error` and `time`, and the ways in which PHP bends them.
//!
//! An error in the body counts before the status, for errors arrive with 200 and good
//! answers never carry one. Every part may be missing; numbers may be text. A PHP array
//! becomes a JSON list when its keys are 0, 1, 2 … and when it is empty, else an object,
//! so every map is read from either form.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, error::Category, value::RawValue};

use super::{
    error::{ApiFailure, PortalError},
    limiter::Figures,
};

/// The portal's clock, as an answer shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortalTime {
    /// The instant when the portal began to work on the request.
    pub clock: DateTime<Utc>,
    /// The portal's offset from UTC in seconds; it changes with daylight saving.
    pub offset_seconds: i32,
}

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    /// What the method returned, unparsed.
    pub result: Box<RawValue>,
    /// Where the next page starts, for methods that page by offset.
    pub next: Option<u64>,
    /// The number of matching rows; 0 or absent when it was not counted.
    pub total: Option<u64>,
    /// The portal's clock, where the answer shows it.
    pub time: Option<PortalTime>,
}

/// A successful answer that still borrows the body.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    pub(super) result: &'a RawValue,
    pub(super) next: Option<u64>,
    pub(super) total: Option<u64>,
    pub(super) time: TimeBlock,
}

impl<'a> Envelope<'a> {
    /// Tells a good answer from every kind of bad one.
    pub(super) fn read(method: &str, status: u16, body: &'a [u8]) -> Result<Self, PortalError> {
        let method = || method.to_owned();
        let trimmed = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
        match trimmed.first() {
            None => {
                return Err(PortalError::EmptyBody { method: method(), status });
            }
            Some(b'{') => {}
            Some(_) => {
                return Err(PortalError::Gateway { method: method(), status });
            }
        }
        let map: PhpMap<'a> =
            serde_json::from_slice(trimmed).map_err(|error| match error.classify() {
                Category::Eof => PortalError::CutBody { method: method(), bytes: body.len() },
                _ => PortalError::Garbled { method: method() },
            })?;
        if let Some(failure) = failure(&method(), Some(status), &map) {
            return Err(failure.into());
        }
        if !(200..300).contains(&status) {
            return Err(PortalError::Gateway { method: method(), status });
        }
        let result = map
            .get("result")
            .ok_or_else(|| PortalError::unusable(&method(), "it has neither result nor error"))?;
        Ok(Self {
            result,
            next: map.get("next").and_then(whole),
            total: map.get("total").and_then(whole),
            time: TimeBlock::read(map.get("time")),
        })
    }

    /// Copies the result out of the body.
    pub(super) fn into_answer(self) -> Answer {
        Answer {
            result: self.result.to_owned(),
            next: self.next,
            total: self.total,
            time: self.time.portal_time(),
        }
    }
}

/// Reads the error in an answer or in `result_error`, if there is one.
pub(super) fn failure(method: &str, status: Option<u16>, map: &PhpMap<'_>) -> Option<ApiFailure> {
    let error: Value = serde_json::from_str(map.get("error")?.get()).ok()?;
    let description = map
        .get("error_description")
        .and_then(|text| serde_json::from_str::<Value>(text.get()).ok());
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let (code, description) = match &error {
        Value::Null if map.get("result").is_some() => return None,
        // The newer dialect nests both, and system errors of either may meet us.
        Value::Object(parts) => (
            text(parts.get("code").unwrap_or(&Value::Null)),
            parts.get("message").or(description.as_ref()).map(text),
        ),
        other => (text(other), description.as_ref().map(text)),
    };
    Some(ApiFailure::new(method, &code, status, &description.unwrap_or_default()))
}

/// The `time` block of an answer or of one command, every part optional.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct TimeBlock {
    start: Option<f64>,
    finish: Option<f64>,
    spent: Option<f64>,
    operating: Option<f64>,
    reset_at: Option<f64>,
    date: Option<DateTime<chrono::FixedOffset>>,
}

impl TimeBlock {
    /// Reads what can be read; an absent or strange block is an empty one.
    pub(super) fn read(raw: Option<&RawValue>) -> Self {
        let Some(Value::Object(parts)) =
            raw.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok())
        else {
            return Self::default();
        };
        let number = |name: &str| parts.get(name).and_then(number);
        let date = |name: &str| {
            let text = parts.get(name)?.as_str()?;
            DateTime::parse_from_rfc3339(text).ok()
        };
        Self {
            start: number("start"),
            finish: number("finish"),
            spent: number("processing").or_else(|| number("duration")),
            operating: number("operating"),
            reset_at: number("operating_reset_at"),
            date: date("date_start").or_else(|| date("date_finish")),
        }
    }

    /// The portal's clock; needs a date for its offset.
    pub(super) fn portal_time(&self) -> Option<PortalTime> {
        let date = self.date?;
        Some(PortalTime {
            clock: self.start.and_then(instant).unwrap_or_else(|| date.to_utc()),
            offset_seconds: date.offset().local_minus_utc(),
        })
    }

    /// What the limiter wants to know.
    pub(super) fn figures(&self) -> Figures {
        let now = self.finish.or(self.start);
        Figures {
            operating: self.operating.filter(|seconds| *seconds >= 0.0),
            spent: self.spent.filter(|seconds| *seconds >= 0.0),
            reset_in: self
                .reset_at
                .zip(now)
                .and_then(|(reset, now)| Duration::try_from_secs_f64(reset - now).ok()),
        }
    }
}

/// A number, also as text; never infinite.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number| number.is_finite())
}

/// A count, also as text.
pub(super) fn whole(raw: &RawValue) -> Option<u64> {
    raw.get().trim_matches('"').parse().ok()
}

/// An instant from unix seconds, to the microsecond.
fn instant(seconds: f64) -> Option<DateTime<Utc>> {
    let since_epoch = Duration::try_from_secs_f64(seconds).ok()?;
    DateTime::from_timestamp(
        i64::try_from(since_epoch.as_secs()).ok()?,
        since_epoch.subsec_micros() * 1_000,
    )
}

/// A PHP array: an object, a list (then keyed 0, 1, 2 …) or null (then empty). The
/// values stay unparsed.
#[derive(Debug, Default)]
pub(super) struct PhpMap<'a> {
    entries: Vec<(String, &'a RawValue)>,
    is_list: bool,
}

impl<'a> PhpMap<'a> {
    /// Reads an absent value as an empty map; `None` for anything that is no PHP array.
    pub(super) fn read(raw: Option<&'a RawValue>) -> Option<Self> {
        raw.map_or_else(|| Some(Self::default()), |raw| serde_json::from_str(raw.get()).ok())
    }

    /// The value of a key. If a key comes twice the last one counts, as in PHP.
    pub(super) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.entries.iter().rev().find_map(|(name, value)| (name == key).then_some(*value))
    }

    /// The values, in order.
    pub(super) fn values(&self) -> impl Iterator<Item = &'a RawValue> {
        self.entries.iter().map(|(_, value)| *value)
    }

    /// Whether it came as a list with something in it, so that the keys are lost.
    pub(super) const fn is_unkeyed(&self) -> bool {
        self.is_list && !self.entries.is_empty()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for PhpMap<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor;

        impl<'de> Visitor<'de> for MapVisitor {
            type Value = PhpMap<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object, a list or null")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(PhpMap { entries, is_list: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(value) = list.next_element()? {
                    entries.push((entries.len().to_string(), value));
                }
                Ok(PhpMap { entries, is_list: true })
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
                Ok(PhpMap::default())
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
                // PHP code returns false for "none".
                if value { Err(E::custom("true is not a map")) } else { Ok(PhpMap::default()) }
            }
        }

        deserializer.deserialize_any(MapVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Disposition;

    fn read(status: u16, body: &str) -> Result<Answer, PortalError> {
        Envelope::read("crm.contact.list", status, body.as_bytes()).map(Envelope::into_answer)
    }

    #[test]
    fn a_good_answer_gives_result_paging_and_clock() {
        let answer = read(
            200,
            r#"{"result":[{"ID":"1"}],"next":50,"total":"120","time":{"start":1653124229.933892,
               "finish":1653124229.99,"duration":0.05,"processing":0.01,
               "date_start":"2022-05-21T12:10:29+03:00","operating":0}}"#,
        )
        .unwrap();
        assert_eq!(answer.result.get(), r#"[{"ID":"1"}]"#);
        assert_eq!((answer.next, answer.total), (Some(50), Some(120)));
        let time = answer.time.unwrap();
        assert_eq!(time.clock.to_rfc3339(), "2022-05-21T09:10:29.933892+00:00");
        assert_eq!(time.offset_seconds, 10_800);
    }

    #[test]
    fn every_part_of_the_time_block_may_be_missing_or_strange() {
        for time in ["", r#","time":null"#, r#","time":[]"#, r#","time":{"start":"x"}"#] {
            let answer = read(200, &format!(r#"{{"result":null{time}}}"#)).unwrap();
            assert_eq!(answer.time, None, "{time}");
            assert_eq!(answer.result.get(), "null");
        }
        let answer = read(200, r#"{"result":1,"time":{"date_start":"2024-01-01T00:00:00-05:00"}}"#);
        let time = answer.unwrap().time.unwrap();
        assert_eq!(time.clock.to_rfc3339(), "2024-01-01T05:00:00+00:00");
        assert_eq!(time.offset_seconds, -18_000);
    }

    #[test]
    fn operating_figures_are_read_from_numbers_and_text() {
        let raw = RawValue::from_string(
            r#"{"start":100.5,"finish":"101.5","duration":1,"operating":"2.5","operating_reset_at":161}"#
                .to_owned(),
        )
        .unwrap();
        let figures = TimeBlock::read(Some(&raw)).figures();
        assert_eq!(figures.operating, Some(2.5));
        assert_eq!(figures.spent, Some(1.0));
        assert_eq!(figures.reset_in, Some(Duration::from_millis(59_500)));
    }

    #[test]
    fn an_error_in_the_body_counts_before_the_status() {
        for status in [200, 400, 500] {
            let error = read(status, r#"{"error":"","error_description":"Access denied."}"#);
            let error = error.unwrap_err();
            assert_eq!(error.code().unwrap().as_str(), "");
            if status < 500 {
                assert_eq!(error.disposition(), Disposition::StopEntity);
            }
        }
        let error = read(200, r#"{"result":[],"error":"WRONG_ENCODING"}"#).unwrap_err();
        assert_eq!(error.disposition(), Disposition::CallerBug);
    }

    #[test]
    fn codes_come_as_text_as_numbers_and_nested() {
        for (body, code) in [
            (r#"{"error":"expired_token"}"#, "expired_token"),
            (r#"{"error":100,"error_description":"x"}"#, "100"),
            (
                r#"{"error":{"code":"BITRIX_REST_V3_EXCEPTION_X","message":"m"}}"#,
                "BITRIX_REST_V3_EXCEPTION_X",
            ),
            (r#"{"error":null}"#, ""),
        ] {
            assert_eq!(read(400, body).unwrap_err().code().unwrap().as_str(), code, "{body}");
        }
        assert!(read(200, r#"{"result":1,"error":null}"#).is_ok());
    }

    #[test]
    fn bodies_that_are_no_answer_are_told_apart() {
        use PortalError as E;
        assert!(matches!(read(200, "").unwrap_err(), E::EmptyBody { .. }));
        assert!(matches!(read(200, " \r\n").unwrap_err(), E::EmptyBody { .. }));
        assert!(matches!(read(502, "<html>").unwrap_err(), E::Gateway { status: 502, .. }));
        assert!(matches!(read(200, "<html>").unwrap_err(), E::Gateway { status: 200, .. }));
        assert!(matches!(read(200, "[]").unwrap_err(), E::Gateway { .. }));
        assert!(matches!(
            read(503, r#"{"message":"x"}"#).unwrap_err(),
            E::Gateway { status: 503, .. }
        ));
        assert!(matches!(
            read(200, r#"{"result":[{"ID"#).unwrap_err(),
            E::CutBody { bytes: 15, .. }
        ));
        assert!(matches!(read(200, r#"{"result":[}"#).unwrap_err(), E::Garbled { .. }));
        assert!(matches!(read(200, r#"{"time":{}}"#).unwrap_err(), E::Unusable { .. }));
        for body in ["", "<html>", r#"{"result":"#, r#"{"result":[}"#] {
            let error = read(200, body).unwrap_err();
            assert!(error.is_heavy(), "{error}");
            assert_eq!(error.disposition(), Disposition::Retry, "{error}");
        }
    }

    #[test]
    fn a_map_is_read_from_a_list_an_object_or_nothing() {
        let read = |json: &str| {
            let raw = RawValue::from_string(json.to_owned()).unwrap();
            let map = PhpMap::read(Some(&raw))?;
            Some((map.get("0").map(|v| v.get().to_owned()), map.is_unkeyed()))
        };
        assert_eq!(read(r#"["a"]"#), Some((Some("\"a\"".to_owned()), true)));
        assert_eq!(read(r#"{"0":"a"}"#), Some((Some("\"a\"".to_owned()), false)));
        for empty in ["[]", "{}", "null", "false"] {
            assert_eq!(read(empty), Some((None, false)), "{empty}");
        }
        for wrong in ["1", "\"x\"", "true"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!(PhpMap::read(None).is_some());
    }
}
