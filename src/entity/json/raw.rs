//! JSON text that has been found well-formed, read without being parsed again.
//!
//! `serde_json` checks every byte of an answer when it splits it into rows. What remains is
//! to find one's way, so nothing here checks anything twice, and nothing is copied.
//! Other text gives wrong values or none, but no panic.

use std::{borrow::Cow, fmt};

use serde_json::value::RawValue;

/// A value as it stands in an answer; well-formed JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a> {
    text: &'a str,
    /// Whether a backslash stands in it, if it is a string.
    escaped: bool,
}

/// Without the text: file addresses inside of it carry the webhook's secret.
impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} bytes)", self.text.len())
    }
}

/// A value by its outermost form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(Quoted<'a>),
    /// `[]` or `{}`: PHP's way to say nothing.
    EmptyCompound,
    List,
    Object,
}

impl<'a> Raw<'a> {
    /// Takes text that a parser has accepted as one value.
    #[must_use]
    pub fn well_formed(text: &'a str) -> Self {
        let text = text.trim_ascii();
        Self { text, escaped: text.contains('\\') }
    }

    /// The text.
    #[must_use]
    pub const fn text(self) -> &'a str {
        self.text
    }

    pub(crate) fn shape(self) -> Shape<'a> {
        let Self { text, escaped } = self;
        match text.as_bytes() {
            [b'n', ..] => Shape::Null,
            [b't', ..] => Shape::Bool(true),
            [b'f', ..] => Shape::Bool(false),
            [b'"', .., b'"'] => Shape::Text(Quoted { inside: &text[1..text.len() - 1], escaped }),
            [b'[' | b'{', inside @ .., _] if inside.trim_ascii().is_empty() => Shape::EmptyCompound,
            [b'[', ..] => Shape::List,
            [b'{', ..] => Shape::Object,
            _ => Shape::Number(text),
        }
    }

    /// The items of a list; none of anything else.
    pub(crate) fn items(self) -> Items<'a> {
        Items(Walker::inside(self.text, b'['))
    }

    /// The fields of an object, in their order and repeated ones too; none of anything else.
    pub(crate) fn fields(self) -> Fields<'a> {
        Fields(Walker::inside(self.text, b'{'))
    }
}

impl<'a> From<&'a RawValue> for Raw<'a> {
    fn from(value: &'a RawValue) -> Self {
        Self::well_formed(value.get())
    }
}

/// A string as it stands between its quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quoted<'a> {
    inside: &'a str,
    escaped: bool,
}

/// Without the text, as above.
impl fmt::Debug for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quoted({} bytes)", self.inside.len())
    }
}

/// Half a surrogate pair, which no text can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HalfSurrogate;

/// A part of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Characters that stand for themselves.
    Plain(&'a str),
    /// The character that an escape stands for.
    Escaped(char),
}

impl<'a> Quoted<'a> {
    /// The text, borrowed where no escape stands for anything else.
    pub(crate) fn read(self) -> Result<Cow<'a, str>, HalfSurrogate> {
        if !self.escaped {
            return Ok(Cow::Borrowed(self.inside));
        }
        let mut text = String::with_capacity(self.inside.len());
        for piece in self.pieces() {
            match piece? {
                Piece::Plain(plain) => text.push_str(plain),
                Piece::Escaped(escaped) => text.push(escaped),
            }
        }
        // Escaped Cyrillic is three times as long as the text.
        text.shrink_to_fit();
        Ok(Cow::Owned(text))
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.inside.is_empty()
    }

    /// The text if no escape stands in it.
    pub(crate) const fn unescaped(self) -> Option<&'a str> {
        if self.escaped { None } else { Some(self.inside) }
    }

    pub(crate) const fn pieces(self) -> Pieces<'a> {
        Pieces { rest: self.inside }
    }
}

/// The pieces of a string, in order.
pub(crate) struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<Piece<'a>, HalfSurrogate>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.rest.as_bytes();
        let plain = bytes.iter().position(|byte| *byte == b'\\').unwrap_or(bytes.len());
        if plain > 0 {
            let (plain, rest) = self.rest.split_at(plain);
            self.rest = rest;
            return Some(Ok(Piece::Plain(plain)));
        }
        let (escaped, length) = match *bytes.get(1)? {
            b'u' => match unicode(bytes) {
                Ok(unicode) => unicode,
                Err(half) => return Some(Err(half)),
            },
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            other => (char::from(other), 2),
        };
        self.rest = self.rest.get(length..).unwrap_or_default();
        Some(Ok(Piece::Escaped(escaped)))
    }
}

/// The character of an escape `\uXXXX` or of a pair of them, and the length of its text.
fn unicode(bytes: &[u8]) -> Result<(char, usize), HalfSurrogate> {
    let unit = |at: usize| {
        bytes
            .get(at + 2..at + 6)?
            .iter()
            .try_fold(0, |unit: u32, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
    };
    let first = unit(0).ok_or(HalfSurrogate)?;
    if let Some(character) = char::from_u32(first) {
        return Ok((character, 6));
    }
    let second = match bytes.get(6..8) {
        Some(b"\\u") => unit(6).ok_or(HalfSurrogate)?,
        _ => return Err(HalfSurrogate),
    };
    char::decode_utf16([first, second].map(|unit| u16::try_from(unit).unwrap_or_default()))
        .next()
        .and_then(Result::ok)
        .filter(|character| u32::from(*character) > 0xffff)
        .map(|character| (character, 12))
        .ok_or(HalfSurrogate)
}

/// The items of a list.
pub(crate) struct Items<'a>(Walker<'a>);

impl<'a> Iterator for Items<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        self.0.value()
    }
}

/// The fields of an object.
pub(crate) struct Fields<'a>(Walker<'a>);

impl<'a> Iterator for Fields<'a> {
    type Item = (Quoted<'a>, Raw<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let Shape::Text(key) = self.0.value()?.shape() else { return None };
        Some((key, self.0.value()?))
    }
}

/// Goes from value to value inside a list or an object.
struct Walker<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walker<'a> {
    fn inside(text: &'a str, bracket: u8) -> Self {
        match text.as_bytes() {
            [first, inside @ .., _] if *first == bracket => {
                Self { text: text.get(1..=inside.len()).unwrap_or_default(), at: 0 }
            }
            _ => Self { text: "", at: 0 },
        }
    }

    /// The next value, past separators; a key counts as a value.
    fn value(&mut self) -> Option<Raw<'a>> {
        let bytes = self.text.as_bytes();
        let start = self.at
            + bytes
                .get(self.at..)?
                .iter()
                .position(|byte| !matches!(byte, b',' | b':' | b' ' | b'\n' | b'\r' | b'\t'))?;
        let (end, escaped) = match bytes[start] {
            b'"' => end_of_string(bytes, start + 1),
            b'[' | b'{' => (end_of_compound(bytes, start), false),
            _ => (end_of_word(bytes, start), false),
        };
        self.at = end;
        self.text.get(start..end).map(|text| Raw { text, escaped })
    }
}

/// The place behind the closing quote of the string whose inside starts here, and whether
/// there are escapes in it.
fn end_of_string(bytes: &[u8], mut at: usize) -> (usize, bool) {
    let mut escaped = false;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return (at + 1, escaped),
            b'\\' => {
                escaped = true;
                at += 2;
            }
            _ => at += 1,
        }
    }
    (bytes.len(), escaped)
}

/// The place behind the bracket that closes the one that stands here.
fn end_of_compound(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => (at, _) = end_of_string(bytes, at),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    bytes.len()
}

/// The place behind the number or the word that starts here, at least one byte on.
fn end_of_word(bytes: &[u8], start: usize) -> usize {
    let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t' | b'"');
    let rest = bytes.get(start + 1..).unwrap_or_default();
    start + 1 + rest.iter().position(ends).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Reads a value by way of this module alone.
    fn value(raw: Raw<'_>) -> Value {
        match raw.shape() {
            Shape::Null => Value::Null,
            Shape::Bool(flag) => flag.into(),
            Shape::Number(number) => serde_json::from_str(number).unwrap(),
            Shape::Text(text) => text.read().unwrap().into(),
            Shape::EmptyCompound if raw.text().starts_with('[') => Value::Array(Vec::new()),
            Shape::List => raw.items().map(value).collect(),
            Shape::EmptyCompound | Shape::Object => raw
                .fields()
                .map(|(key, raw)| (key.read().unwrap().into_owned(), value(raw)))
                .collect(),
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[\"\\\\/а-я🙂\u{0}-\u{1f}\\[\\]{},:]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    /// Everything outside of ASCII as escapes, as PHP writes it.
    fn as_php(json: &str) -> String {
        let mut text = String::new();
        for unit in json.encode_utf16() {
            match u8::try_from(unit).ok().filter(u8::is_ascii) {
                Some(b'/') => text.push_str("\\/"),
                Some(byte) => text.push(char::from(byte)),
                None => _ = write!(text, "\\u{unit:04x}"),
            }
        }
        text
    }

    proptest! {
        #[test]
        fn every_value_is_what_the_parser_makes_of_it(json in any_json()) {
            for text in [
                json.to_string(),
                serde_json::to_string_pretty(&json).unwrap(),
                as_php(&json.to_string()),
            ] {
                let parsed: Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(value(Raw::well_formed(&text)), parsed, "{}", text);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\"\\\\u0-9a-fD\\[\\]{},: а🙂]{0,24}") {
            let raw = Raw::well_formed(&text);
            let _ = raw.items().count();
            for (key, value) in raw.fields() {
                let _ = (key.read(), value.items().count());
            }
            if let Shape::Text(text) = raw.shape() {
                let _ = text.read();
            }
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_no_text() {
        for text in
            [r#""\ud800""#, r#""\udc00""#, r#""\ud800\n""#, r#""\ud800\ud800""#, r#""\ud83dx""#]
        {
            let Shape::Text(quoted) = Raw::well_formed(text).shape() else { panic!("{text}") };
            assert_eq!(quoted.read(), Err(HalfSurrogate), "{text}");
        }
        let Shape::Text(pair) = Raw::well_formed(r#""\ud83d\ude42""#).shape() else { panic!() };
        assert_eq!(pair.read().unwrap(), "🙂");
    }
}
