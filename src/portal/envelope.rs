//! The portal's envelope: `result`, `error` and `time`, and the ways in which PHP bends them.
//!
//! An error in the body counts before the status, for errors arrive with 200 and good
//! answers never carry one. Every part may be missing; numbers may be text. A PHP array
//! becomes a JSON list when its keys are 0, 1, 2 … and when it is empty, else an object,
//! so every map is read from either form.

use std::{borrow::Cow, fmt, marker::PhantomData, ops::AddAssign, time::Duration};

use chrono::{DateTime, Utc};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, error::Category, value::RawValue};

use super::{
    body::Body,
    error::{ApiFailure, PortalError},
    limiter::Figures,
    source::RowsIn,
};

/// The portal's clock, as an answer shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortalTime {
    /// The instant when the portal began to work on the request.
    pub clock: DateTime<Utc>,
    /// The portal's offset from UTC in seconds; it changes with daylight saving.
    pub offset_seconds: i32,
}

/// Where the time of an answer went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// What the request waited for at the portal's limits before it was sent.
    pub waited: Duration,
    /// What its commands took at the portal; zero where it does not say.
    pub worked: Duration,
}

impl AddAssign for Timing {
    fn add_assign(&mut self, other: Self) {
        self.waited += other.waited;
        self.worked += other.worked;
    }
}

/// A successful answer.
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

/// Without the result: file addresses inside of it carry the webhook's secret.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("next", &self.next)
            .field("total", &self.total)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

/// A successful answer that still borrows the body.
pub(super) struct Envelope<R> {
    pub(super) result: R,
    pub(super) next: Option<u64>,
    pub(super) total: Option<u64>,
    pub(super) time: TimeBlock,
}

impl<R> Envelope<R> {
    /// Tells a good answer from every kind of bad one. The body is read once: `result`
    /// says how to read what the method returned, and must accept any value.
    pub(super) fn read<'a>(
        method: &str,
        status: u16,
        body: &'a Body,
        result: impl DeserializeSeed<'a, Value = R> + Copy,
    ) -> Result<Self, PortalError> {
        let garbled = || PortalError::Garbled { method: method.to_owned() };
        let parts =
            PhpMap::read_by_key(body.json(), at("result", result)).map_err(|error| match error
                .classify()
            {
                Category::Eof => {
                    PortalError::CutBody { method: method.to_owned(), bytes: body.len() }
                }
                _ => garbled(),
            })?;
        let (result, others) = parts.ok_or_else(garbled)?.split();
        if let Some(failure) = failure(method, Some(status), &others, result.is_some()) {
            return Err(failure.into());
        }
        if !(200..300).contains(&status) {
            return Err(PortalError::Gateway { method: method.to_owned(), status });
        }
        Ok(Self {
            result: result
                .ok_or_else(|| PortalError::unusable(method, "it has neither result nor error"))?,
            next: others.get("next").and_then(|raw| whole(raw)),
            total: others.get("total").and_then(|raw| whole(raw)),
            time: TimeBlock::read(others.get("time").copied()),
        })
    }
}

impl<'a> Envelope<&'a RawValue> {
    /// Reads an answer whose result is of no interest here.
    pub(super) fn read_raw(method: &str, status: u16, body: &'a Body) -> Result<Self, PortalError> {
        Self::read(method, status, body, PhantomData)
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

/// Reads the error in an answer or in `result_error`, if there is one. `answered` says
/// whether there is a result as well.
pub(super) fn failure(
    method: &str,
    status: Option<u16>,
    map: &PhpMap<'_>,
    answered: bool,
) -> Option<ApiFailure> {
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
        Value::Null if answered => return None,
        // The newer dialect nests both, and system errors of either may meet us.
        Value::Object(parts) => (
            text(parts.get("code").unwrap_or(&Value::Null)),
            parts
                .get("message")
                .or(description.as_ref())
                .map(|message| format!("{}{}", text(message), objections(parts))),
        ),
        other => (text(other), description.as_ref().map(text)),
    };
    Some(ApiFailure::new(method, &code, status, &description.unwrap_or_default()))
}

/// What the newer dialect says against single fields.
fn objections(error: &serde_json::Map<String, Value>) -> String {
    let list = error.get("validation").and_then(Value::as_array);
    let part = |one: &Value, name: &str| Some(one.get(name)?.as_str()?.to_owned());
    list.into_iter()
        .flatten()
        .filter_map(|one| Some(format!("; {}: {}", part(one, "field")?, part(one, "message")?)))
        .collect()
}

/// The `time` block of an answer or of one command, every part optional.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct TimeBlock {
    start: Option<f64>,
    finish: Option<f64>,
    spent: Option<f64>,
    took: Option<f64>,
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
            took: number("duration").or_else(|| number("processing")),
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
            took: self.took.filter(|seconds| *seconds >= 0.0),
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

/// A PHP array: an object, a list (then keyed 0, 1, 2 …) or null or false (then empty).
#[derive(Debug)]
pub(super) struct PhpMap<'a, V = &'a RawValue> {
    entries: Vec<(Cow<'a, str>, V)>,
    is_list: bool,
}

impl<V> Default for PhpMap<'_, V> {
    fn default() -> Self {
        Self { entries: Vec::new(), is_list: false }
    }
}

impl<'a> PhpMap<'a> {
    /// Leaves the values unparsed. Reads an absent value as an empty map; `None` for
    /// anything that is no PHP array.
    pub(super) fn read(raw: Option<&'a RawValue>) -> Option<Self> {
        let Some(raw) = raw else { return Some(Self::default()) };
        Self::read_by_key(raw.get(), |_: &str| PhantomData).ok().flatten()
    }
}

impl<'a, V> PhpMap<'a, V> {
    /// Reads each value as its key demands; `None` for anything that is no PHP array.
    pub(super) fn read_by_key<S: DeserializeSeed<'a, Value = V>>(
        json: &'a str,
        value_of: impl Fn(&str) -> S + Copy,
    ) -> Result<Option<Self>, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_str(json);
        let map = ByKey(value_of).deserialize(&mut json)?;
        json.end().map(|()| map)
    }

    /// The value of a key. If a key comes twice the last one counts, as in PHP.
    pub(super) fn get(&self, key: &str) -> Option<&V> {
        self.entries.iter().rev().find_map(|(name, value)| (name == key).then_some(value))
    }

    /// The values, in order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// Whether it came as a list with something in it, so that the keys are lost.
    pub(super) const fn is_unkeyed(&self) -> bool {
        self.is_list && !self.entries.is_empty()
    }
}

impl<'a, V> PhpMap<'a, Found<'a, V>> {
    /// The value that was looked for, and the others.
    pub(super) fn split(self) -> (Option<V>, PhpMap<'a>) {
        let mut sought = None;
        let mut others = PhpMap { entries: Vec::new(), is_list: self.is_list };
        for (key, value) in self.entries {
            match value {
                Found::Sought(value) => sought = Some(value),
                Found::Other(raw) => others.entries.push((key, raw)),
            }
        }
        (sought, others)
    }
}

/// A value of a map in which some were looked for.
#[derive(Debug)]
pub(super) enum Found<'a, V> {
    /// One of those, read as it should be.
    Sought(V),
    /// Any other, unparsed.
    Other(&'a RawValue),
}

/// Reads the value of one key in its own way.
pub(super) fn at<S: Copy>(name: &'static str, seed: S) -> impl Fn(&str) -> Sought<S> + Copy {
    move |key| Sought((key == name).then_some(seed))
}

/// Reads a value in its own way where there is one, and leaves it unparsed otherwise.
#[derive(Clone, Copy)]
pub(super) struct Sought<S>(pub(super) Option<S>);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Sought<S> {
    type Value = Found<'de, S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            Some(seed) => seed.deserialize(json).map(Found::Sought),
            None => Deserialize::deserialize(json).map(Found::Other),
        }
    }
}

/// Reads a PHP array, each value as its key demands.
#[derive(Clone, Copy)]
pub(super) struct ByKey<F>(pub(super) F);

impl<'de, S: DeserializeSeed<'de>, F: Fn(&str) -> S> DeserializeSeed<'de> for ByKey<F> {
    type Value = Option<PhpMap<'de, S::Value>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, S: DeserializeSeed<'de>, F: Fn(&str) -> S> Visitor<'de> for ByKey<F> {
    type Value = Option<PhpMap<'de, S::Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            let value = map.next_value_seed(self.0(&key))?;
            entries.push((key, value));
        }
        Ok(Some(PhpMap { entries, is_list: false }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        loop {
            let key = entries.len().to_string();
            let Some(value) = list.next_element_seed(self.0(&key))? else { break };
            entries.push((key.into(), value));
        }
        Ok(Some(PhpMap { entries, is_list: true }))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Some(PhpMap::default()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        // PHP code returns false for "none".
        Ok((!value).then(PhpMap::default))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// A key, borrowed unless it holds escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Splits a list's result into its rows; `None` where there is no list.
#[derive(Clone, Copy)]
pub(super) struct Rows(pub(super) RowsIn);

impl<'de> DeserializeSeed<'de> for Rows {
    type Value = Option<Vec<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            RowsIn::Result => ListItems.deserialize(json),
            RowsIn::Under(name) => {
                let parts = ByKey(at(name, ListItems)).deserialize(json)?;
                Ok(parts.and_then(|parts| parts.split().0).flatten())
            }
        }
    }
}

/// Splits a list into its items; `None` for anything else.
#[derive(Clone, Copy)]
struct ListItems;

impl<'de> DeserializeSeed<'de> for ListItems {
    type Value = Option<Vec<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ListItems {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::with_capacity(super::source::PAGE_ROWS);
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Some(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Disposition;

    fn read(status: u16, body: &str) -> Result<Answer, PortalError> {
        let body = Body::new("crm.contact.list", status, body.into())?;
        Envelope::read_raw("crm.contact.list", status, &body).map(Envelope::into_answer)
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
            (r#"{"error":{"code":"V","message":"m","validation":[{"field":"f"}]}}"#, "V"),
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
            Some((map.get("0").map(|raw| raw.get().to_owned()), map.is_unkeyed()))
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
