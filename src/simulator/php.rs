//! Request parameters and answers as PHP sees them: ordered arrays with integer
//! or text keys, `parse_str`, casts, and JSON in which an empty map is `[]`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// How texts are written into JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Writing {
    /// `/` and everything beyond ASCII is escaped, as PHP does by default.
    #[default]
    Escaped,
    /// Plain UTF-8, only what JSON itself demands is escaped.
    Plain,
}

/// An array key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Int(i64),
    Text(String),
}

impl Key {
    /// Turns a canonical decimal into an integer key, as PHP does.
    pub(super) fn of(text: &str) -> Self {
        match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Self::Int(number),
            _ => Self::Text(text.to_owned()),
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Int(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// A value of a parameter or of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Php {
    Null,
    Bool(bool),
    Int(i64),
    /// A number that is written exactly so.
    Number(String),
    Text(String),
    Array(Array),
}

/// PHP's ordered array.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Array {
    entries: Vec<(Key, Php)>,
    next: i64,
}

impl Array {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Key, Php)> {
        self.entries.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut (Key, Php)> {
        self.entries.iter_mut()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Php> {
        self.entries.iter().map(|(_, value)| value)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Php> {
        let key = Key::of(key);
        self.entries.iter().find(|(own, _)| *own == key).map(|(_, value)| value)
    }

    /// Appends under the next free integer key.
    pub(super) fn push(&mut self, value: Php) {
        self.entries.push((Key::Int(self.next), value));
        self.next += 1;
    }

    /// Sets a key, in place if it exists.
    pub(super) fn set(&mut self, key: Key, value: Php) {
        *self.slot(key) = value;
    }

    /// Sets a text key and hands the array on, to build answers.
    pub(super) fn with(mut self, key: &str, value: impl Into<Php>) -> Self {
        self.set(Key::Text(key.to_owned()), value.into());
        self
    }

    fn slot(&mut self, key: Key) -> &mut Php {
        if let Some(at) = self.entries.iter().position(|(own, _)| *own == key) {
            return &mut self.entries[at].1;
        }
        if let Key::Int(number) = key
            && number >= self.next
        {
            self.next = number.saturating_add(1);
        }
        self.entries.push((key, Php::Null));
        let last = self.entries.len() - 1;
        &mut self.entries[last].1
    }

    /// Whether PHP's `json_encode` writes this array with `[` and `]`.
    pub(super) fn is_list(&self) -> bool {
        self.entries.iter().zip(0_i64..).all(|((key, _), at)| *key == Key::Int(at))
    }
}

impl Php {
    /// PHP's cast to an integer: a leading number of a text, 1 for an array with content.
    pub(super) fn to_int(&self) -> i64 {
        match self {
            Self::Null => 0,
            Self::Bool(value) => i64::from(*value),
            Self::Int(value) => *value,
            Self::Number(text) | Self::Text(text) => leading_int(text),
            Self::Array(array) => i64::from(!array.is_empty()),
        }
    }

    /// The scalar's text, `None` for arrays.
    pub(super) fn to_text(&self) -> Option<String> {
        match self {
            Self::Null | Self::Bool(false) => Some(String::new()),
            Self::Bool(true) => Some("1".to_owned()),
            Self::Int(value) => Some(value.to_string()),
            Self::Number(text) | Self::Text(text) => Some(text.clone()),
            Self::Array(_) => None,
        }
    }

    pub(super) fn as_array(&self) -> Option<&Array> {
        match self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }

    /// PHP's truth value.
    pub(super) fn truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Number(text) | Self::Text(text) => !text.is_empty() && text != "0",
            Self::Array(array) => !array.is_empty(),
        }
    }

    /// Writes the value as PHP's `json_encode` would.
    pub(super) fn write(&self, out: &mut Vec<u8>, writing: Writing) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(value) => write_int(out, *value),
            Self::Number(text) => out.extend_from_slice(text.as_bytes()),
            Self::Text(text) => write_text(out, text, writing),
            Self::Array(array) if array.is_list() => {
                out.push(b'[');
                for (at, value) in array.values().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    value.write(out, writing);
                }
                out.push(b']');
            }
            Self::Array(array) => {
                out.push(b'{');
                for (at, (key, value)) in array.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    write_text(out, &key.text(), writing);
                    out.push(b':');
                    value.write(out, writing);
                }
                out.push(b'}');
            }
        }
    }
}

impl From<&str> for Php {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Php {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Php {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Php {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<Array> for Php {
    fn from(array: Array) -> Self {
        Self::Array(array)
    }
}

impl FromIterator<Php> for Array {
    fn from_iter<I: IntoIterator<Item = Php>>(values: I) -> Self {
        let mut array = Self::default();
        for value in values {
            array.push(value);
        }
        array
    }
}

fn leading_int(text: &str) -> i64 {
    let text = text.trim_start();
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let mut value: i64 = 0;
    for digit in digits.bytes().take_while(u8::is_ascii_digit) {
        value = value.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
    }
    if negative { -value } else { value }
}

/// Writes a decimal without going through the formatting machinery.
pub(super) fn write_int(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b"0123456789"[usize::try_from(rest % 10).unwrap_or(0)];
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes a JSON string literal.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str, writing: Writing) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let plain = match byte {
            b'"' | b'\\' | 0..=0x1f => false,
            b'/' | 0x80.. => writing == Writing::Plain,
            _ => true,
        };
        if plain {
            at += 1;
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        if byte < 0x80 {
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'/' => out.extend_from_slice(b"\\/"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                0x08 => out.extend_from_slice(b"\\b"),
                0x0c => out.extend_from_slice(b"\\f"),
                other => write_escape(out, u16::from(other)),
            }
            at += 1;
        } else {
            // `at` stands on the first byte of a character.
            let mut units = [0_u16; 2];
            let character = text[at..].chars().next().unwrap_or('\u{fffd}');
            for unit in character.encode_utf16(&mut units) {
                write_escape(out, *unit);
            }
            at += character.len_utf8();
        }
        from = at;
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

fn write_escape(out: &mut Vec<u8>, unit: u16) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let nibble = |shift: u16| HEX[usize::from((unit >> shift) & 15)];
    out.extend_from_slice(&[b'\\', b'u', nibble(12), nibble(8), nibble(4), nibble(0)]);
}

impl<'de> Deserialize<'de> for Php {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PhpVisitor)
    }
}

struct PhpVisitor;

impl<'de> Visitor<'de> for PhpVisitor {
    type Value = Php;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Php, E> {
        Ok(Php::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Php, E> {
        Ok(Php::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Php, E> {
        Ok(Php::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Php, E> {
        Ok(i64::try_from(value).map_or_else(|_| Php::Number(value.to_string()), Php::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Php, E> {
        Ok(Php::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Php, E> {
        Ok(Php::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Php, A::Error> {
        let mut array = Array::default();
        while let Some(value) = access.next_element()? {
            array.push(value);
        }
        Ok(Php::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Php, A::Error> {
        let mut array = Array::default();
        while let Some((key, value)) = access.next_entry::<String, Php>()? {
            array.set(Key::of(&key), value);
        }
        Ok(Php::Array(array))
    }
}

/// What a careless encoding lost on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Text went to an unescaped `&`, `#` or `+`.
    pub(super) text: bool,
    /// The first `=` ended a key inside its brackets.
    pub(super) key: bool,
}

/// Decodes a query string by the rules of PHP's `parse_str`.
pub(super) fn parse_str(query: &str, max_variables: usize) -> (Array, Losses) {
    let mut array = Array::default();
    let mut losses = Losses::default();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    for (count, pair) in pairs.enumerate() {
        if count >= max_variables {
            break;
        }
        losses.text |= pair.contains('+');
        let (raw_key, raw_value) = if let Some(both) = pair.split_once('=') {
            both
        } else {
            losses.text = true;
            (pair, "")
        };
        let key = url_decode(raw_key);
        let value = url_decode(raw_value);
        losses.key |= key.contains('[') && !key.contains(']') && value.contains(']');
        assign(&mut array, &key, Php::Text(value));
    }
    (array, losses)
}

/// Percent-decoding with `+` as a space.
pub(super) fn url_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => match (hex(at + 1), hex(at + 2)) {
                (Some(high), Some(low)) => {
                    out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                    at += 2;
                }
                _ => out.push(b'%'),
            },
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn assign(array: &mut Array, key: &str, value: Php) {
    let key = key.trim_start_matches(' ');
    let end = key.find('\0').unwrap_or(key.len());
    let key = &key[..end];
    if key.is_empty() {
        return;
    }
    let bracket = key.find('[').filter(|at| *at > 0);
    let indexed = bracket.filter(|at| key[*at..].contains(']'));
    let Some(bracket) = indexed else {
        // An unclosed bracket is a character like any other that a name cannot hold.
        array.set(Key::of(&mangle(key, true)), value);
        return;
    };
    let mut path = vec![Some(mangle(&key[..bracket], false))];
    let mut rest = &key[bracket..];
    while let Some(inner) = rest.strip_prefix('[') {
        let Some(end) = inner.find(']') else { break };
        let index = &inner[..end];
        path.push((!index.is_empty()).then(|| index.to_owned()));
        rest = &inner[end + 1..];
    }
    descend(array, &path, value);
}

fn descend(array: &mut Array, path: &[Option<String>], value: Php) {
    let Some((head, tail)) = path.split_first() else {
        return;
    };
    let key = head.as_ref().map_or(Key::Int(array.next), |text| Key::of(text));
    let slot = array.slot(key);
    if tail.is_empty() {
        *slot = value;
        return;
    }
    if !matches!(slot, Php::Array(_)) {
        *slot = Php::Array(Array::default());
    }
    if let Php::Array(inner) = slot {
        descend(inner, tail, value);
    }
}

fn mangle(name: &str, brackets: bool) -> String {
    let mut first_bracket = brackets;
    name.chars()
        .map(|character| match character {
            '.' | ' ' => '_',
            '[' if first_bracket => {
                first_bracket = false;
                '_'
            }
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &Php) -> String {
        let mut out = Vec::new();
        value.write(&mut out, Writing::Plain);
        String::from_utf8(out).unwrap()
    }

    fn parsed(query: &str) -> String {
        json(&Php::Array(parse_str(query, 1000).0))
    }

    #[test]
    fn nested_names_become_nested_arrays() {
        assert_eq!(
            parsed("filter%5B%3EID%5D=5&select[]=A&select[]=B&a.b c=1"),
            r#"{"filter":{">ID":"5"},"select":["A","B"],"a_b_c":"1"}"#
        );
    }

    #[test]
    fn the_first_equals_sign_ends_an_unescaped_key() {
        let (array, losses) = parse_str("filter[>=DATE_MODIFY]=2024&start=-1", 1000);
        assert!(losses.key);
        assert_eq!(json(&Php::Array(array)), r#"{"filter_>":"DATE_MODIFY]=2024","start":"-1"}"#);
    }

    #[test]
    fn plus_is_a_space_and_is_noted() {
        let (array, losses) = parse_str("a=1+2", 1000);
        assert_eq!(array.get("a"), Some(&Php::from("1 2")));
        assert!(losses.text);
        assert!(!parse_str("a=1%2B2", 1000).1.text);
    }

    #[test]
    fn variables_beyond_the_maximum_are_dropped() {
        assert_eq!(parse_str("a=1&b=2&c=3", 2).0.len(), 2);
    }

    #[test]
    fn empty_maps_and_counted_keys_are_lists() {
        assert_eq!(json(&Php::Array(Array::default())), "[]");
        assert_eq!(parsed("0=a&1=b"), r#"["a","b"]"#);
        assert_eq!(parsed("1=b&0=a"), r#"{"1":"b","0":"a"}"#);
    }

    #[test]
    fn casts_follow_php() {
        assert_eq!(Php::from("12abc").to_int(), 12);
        assert_eq!(Php::from("abc").to_int(), 0);
        assert_eq!(Php::from(" -7").to_int(), -7);
        assert_eq!(Php::Array(Array::default()).to_int(), 0);
        assert_eq!(Php::Array(std::iter::once(Php::Null).collect()).to_int(), 1);
    }

    #[test]
    fn json_keeps_the_order_of_keys() {
        let value: Php = serde_json::from_str(r#"{"z":1,"a":[1.5,null],"m":{"x":true}}"#).unwrap();
        assert_eq!(json(&value), r#"{"z":1,"a":[1.5,null],"m":{"x":true}}"#);
    }

    #[test]
    fn both_writings_read_back_the_same() {
        let text = "Ё/\"\\\u{0}\u{1}\t\n\u{1f600}\u{7f}z";
        for writing in [Writing::Escaped, Writing::Plain] {
            let mut out = Vec::new();
            write_text(&mut out, text, writing);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            assert_eq!(out.is_ascii(), writing == Writing::Escaped);
        }
    }
}
