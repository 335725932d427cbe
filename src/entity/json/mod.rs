//! Canonical JSON text: one spelling per value, whatever the portal's writer did.
//!
//! Keys sorted (the last of a repeated key counts, as in `jsonb`), no white space,
//! numbers without exponent or superfluous zeros, strings escaped in one way. So a
//! value read back from `jsonb` has the spelling that was written.

pub(super) mod raw;

use std::borrow::Cow;

use serde_json::value::RawValue;

pub use self::raw::Raw;
use self::raw::{HalfSurrogate, Piece, Quoted, Shape};

/// Deeper nesting than this is refused instead of risking the stack.
pub(super) const MAX_DEPTH: usize = 64;

/// A number with more digits than this is refused; PostgreSQL's own limit is far above.
const MAX_DIGITS: usize = 1000;

/// A value that has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// Nested deeper than 64 levels.
    #[error("the value is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A number of more than a thousand digits.
    #[error("a number has more than {MAX_DIGITS} digits")]
    TooLong,
    /// Not JSON, or a string with half a surrogate pair.
    #[error("the value is not valid JSON text")]
    Malformed,
}

/// The keys under which file objects carry URLs with the caller's secret in them.
/// No canonical text has them.
pub(super) const FILE_URLS: [&str; 5] =
    ["downloadUrl", "showUrl", "urlMachine", "DOWNLOAD_URL", "SHOW_URL"];

impl From<HalfSurrogate> for NotCanonical {
    fn from(HalfSurrogate: HalfSurrogate) -> Self {
        Self::Malformed
    }
}

/// Writes a value in its one canonical spelling; U+0000 stays, escaped.
///
/// # Errors
/// [`NotCanonical`] for values that no table could hold.
pub fn canonical(raw: &RawValue) -> Result<String, NotCanonical> {
    let raw = Raw::from(raw);
    let mut out = String::with_capacity(raw.text().len());
    Writer { keep_nul: true, ..Writer::new(&mut out) }.value(raw, 0)?;
    Ok(out)
}

/// A value as the quarantine keeps it: canonical where possible, and always
/// something, since it is evidence; never a file's URL.
pub(super) fn evidence(raw: Raw<'_>) -> String {
    let text = raw.text();
    let mut out = String::with_capacity(text.len());
    let mut writer = Writer { evidence: true, keep_nul: true, ..Writer::new(&mut out) };
    match writer.value(raw, 0) {
        Ok(()) => out,
        Err(reason) => {
            let (bytes, hash) = (text.len(), xxhash_rust::xxh3::xxh3_64(text.as_bytes()));
            quoted(&format!("({reason}; {bytes} bytes, hash {hash:016x})"))
        }
    }
}

/// Like [`canonical`], but leaves U+0000 out, because `jsonb` refuses it.
pub(super) fn canonical_without_nul(raw: Raw<'_>) -> Result<String, NotCanonical> {
    let mut out = String::with_capacity(raw.text().len());
    Writer::new(&mut out).value(raw, 0)?;
    Ok(out)
}

/// One string in canonical JSON spelling.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

/// Appends one string in canonical JSON spelling.
pub(super) fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Appends the inside of a string, with the escapes that JSON demands and no others.
fn push_escaped(out: &mut String, text: &str) {
    let mut rest = text;
    let special = |byte: u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    while let Some(at) = rest.bytes().position(special) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        match tail.as_bytes()[0] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            8 => out.push_str("\\b"),
            12 => out.push_str("\\f"),
            other => {
                let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value & 15)]);
                out.push_str("\\u00");
                out.push(digit(other >> 4));
                out.push(digit(other));
            }
        }
        rest = &tail[1..];
    }
    out.push_str(rest);
}

/// What a user field's value lost when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Losses {
    /// U+0000 was left out.
    pub(super) nul_removed: bool,
    /// A file without an ID was left out: its addresses carry the secret.
    pub(super) withheld: bool,
}

/// Writes values in their canonical spelling.
pub(super) struct Writer<'o> {
    out: &'o mut String,
    /// A string that cannot be read stays as it was sent instead of failing the value.
    evidence: bool,
    keep_nul: bool,
    pub(super) losses: Losses,
}

impl<'o> Writer<'o> {
    /// Appends to a text; leaves U+0000 out.
    pub(super) const fn new(out: &'o mut String) -> Self {
        Self {
            out,
            evidence: false,
            keep_nul: false,
            losses: Losses { nul_removed: false, withheld: false },
        }
    }

    /// Appends a value that stands inside of `depth` others.
    pub(super) fn value(&mut self, raw: Raw<'_>, depth: usize) -> Result<(), NotCanonical> {
        if depth > MAX_DEPTH {
            return Err(NotCanonical::TooDeep);
        }
        match raw.shape() {
            Shape::Text(text) => match self.string(text) {
                Err(_) if self.evidence => self.out.push_str(raw.text()),
                written => written?,
            },
            Shape::Number(number) if is_plain(number) => self.out.push_str(number),
            Shape::Number(number) => {
                self.out.push_str(&decimal(number).ok_or(NotCanonical::TooLong)?);
            }
            Shape::Null | Shape::Bool(_) => self.out.push_str(raw.text()),
            Shape::EmptyCompound if raw.text().starts_with('[') => self.out.push_str("[]"),
            Shape::EmptyCompound => self.out.push_str("{}"),
            Shape::List => self.list(raw, |writer, item| writer.value(item, depth + 1))?,
            Shape::Object => self.object(raw, depth)?,
        }
        Ok(())
    }

    /// Appends a list whose items somebody else appends.
    pub(super) fn list(
        &mut self,
        raw: Raw<'_>,
        mut write: impl FnMut(&mut Self, Raw<'_>) -> Result<(), NotCanonical>,
    ) -> Result<(), NotCanonical> {
        self.out.push('[');
        for (index, item) in raw.items().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            write(self, item)?;
        }
        self.out.push(']');
        Ok(())
    }

    /// Appends nothing in the place of a value of which nothing may be kept.
    pub(super) fn withhold(&mut self) {
        self.losses.withheld = true;
        self.out.push_str("null");
    }

    /// Appends text that is canonical JSON already.
    pub(super) fn verbatim(&mut self, json: &str) {
        self.out.push_str(json);
    }

    fn object(&mut self, raw: Raw<'_>, depth: usize) -> Result<(), NotCanonical> {
        let mut fields = Vec::new();
        for (key, value) in raw.fields() {
            let key = self.without_nul(key.read()?);
            if !FILE_URLS.contains(&&*key) {
                fields.push((key, value));
            }
        }
        keep_last_of_each(&mut fields);
        self.out.push('{');
        for (index, (key, value)) in fields.into_iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            push_quoted(self.out, &key);
            self.out.push(':');
            self.value(value, depth + 1)?;
        }
        self.out.push('}');
        Ok(())
    }

    /// Appends nothing if it fails.
    fn string(&mut self, text: Quoted<'_>) -> Result<(), NotCanonical> {
        let before = self.out.len();
        self.out.push('"');
        for piece in text.pieces() {
            match piece {
                // What stands for itself needs no escape.
                Ok(Piece::Plain(plain)) => self.out.push_str(plain),
                Ok(Piece::Escaped('\0')) if !self.keep_nul => self.losses.nul_removed = true,
                Ok(Piece::Escaped(character @ (' '..='!' | '#'..='[' | ']'..))) => {
                    self.out.push(character);
                }
                Ok(Piece::Escaped(character)) => {
                    push_escaped(self.out, character.encode_utf8(&mut [0; 4]));
                }
                Err(half) => {
                    self.out.truncate(before);
                    return Err(half.into());
                }
            }
        }
        self.out.push('"');
        Ok(())
    }

    fn without_nul<'a>(&mut self, text: Cow<'a, str>) -> Cow<'a, str> {
        if self.keep_nul || !text.contains('\0') {
            return text;
        }
        self.losses.nul_removed = true;
        Cow::Owned(text.replace('\0', ""))
    }
}

/// Sorts by key; of a repeated key the last one stays, as in `jsonb`.
pub(super) fn keep_last_of_each<K: Ord, V>(fields: &mut Vec<(K, V)>) {
    fields.sort_by(|(left, _), (right, _)| left.cmp(right));
    fields.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            std::mem::swap(later, earlier);
        }
        same
    });
}

/// Whether a number is a short whole one without a superfluous zero, hence canonical.
fn is_plain(number: &str) -> bool {
    number.len() < 20
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && (number.len() == 1 || !number.starts_with('0'))
}

/// A decimal number in its one canonical spelling: no `+`, no exponent, no
/// superfluous zeros, no `-0`. `None` if it is no decimal number or longer than
/// a thousand digits.
#[must_use]
pub fn decimal(text: &str) -> Option<String> {
    if is_plain(text) && !text.is_empty() {
        return Some(text.to_owned());
    }
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], unsigned[at + 1..].parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let point = i64::try_from(whole.len()).ok()? + i64::from(exponent);
    if digits.len() > MAX_DIGITS || point.unsigned_abs() > MAX_DIGITS as u64 {
        return digits.iter().all(|digit| *digit == b'0').then(|| "0".to_owned());
    }

    let digit = |index: i64| -> char {
        usize::try_from(index).ok().and_then(|at| digits.get(at)).map_or('0', |d| char::from(*d))
    };
    let last = i64::try_from(digits.len()).ok()?;
    let whole: String = (0..point).map(digit).collect();
    let fraction: String = (point..last.max(point)).map(digit).collect();
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    if whole.is_empty() && fraction.is_empty() {
        return Some("0".to_owned());
    }
    // What is written has to be readable again, and an exponent writes digits that nobody sent.
    if whole.len().max(1) + fraction.len() > MAX_DIGITS {
        return None;
    }
    let mut out = String::with_capacity(whole.len() + fraction.len() + 3);
    if negative {
        out.push('-');
    }
    out.push_str(if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spelled(json: &str) -> Result<String, NotCanonical> {
        canonical(&RawValue::from_string(json.to_owned()).unwrap())
    }

    #[test]
    fn one_value_has_one_spelling() {
        for (spelling, other) in [
            (r#"{"b":1,"a":"\u0421\/"}"#, r#"{ "a" : "С/", "b" : 1.0 }"#),
            (r"[1e2,0.50,-0]", r"[100,0.5,0]"),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        ] {
            assert_eq!(spelled(spelling), spelled(other));
        }
    }

    #[test]
    fn nul_is_left_out_and_reported() {
        let raw = RawValue::from_string(r#"["a\u0000b","\\u0000"]"#.to_owned()).unwrap();
        let mut out = String::new();
        let mut writer = Writer::new(&mut out);
        writer.value(Raw::from(&*raw), 0).unwrap();
        assert!(writer.losses.nul_removed);
        assert_eq!(out, r#"["ab","\\u0000"]"#);
        assert_eq!(canonical(&raw).unwrap(), r#"["a\u0000b","\\u0000"]"#);
    }

    #[test]
    fn what_no_table_could_hold_is_refused() {
        let deep = format!("{}1{}", "[".repeat(80), "]".repeat(80));
        assert_eq!(spelled(&deep), Err(NotCanonical::TooDeep));
        assert_eq!(spelled("1e99999"), Err(NotCanonical::TooLong));
        assert_eq!(spelled("1e-1000"), Err(NotCanonical::TooLong));
        assert_eq!(spelled(r#""\ud800""#), Err(NotCanonical::Malformed));
    }

    #[test]
    fn evidence_keeps_everything_but_file_urls() {
        let evidence = |json: &str| evidence(Raw::well_formed(json));
        let record = r#"{"PHOTO":{"downloadUrl":"/rest/1/s3cret","id":1},"NAME":"\ud800"}"#;
        assert_eq!(evidence(record), r#"{"NAME":"\ud800","PHOTO":{"id":1}}"#);
        assert!(evidence("1e99999").contains("more than 1000 digits"));
    }

    #[test]
    fn decimals_lose_only_superfluous_characters() {
        for (text, expected) in [
            ("15000.00", Some("15000")),
            ("-0.0", Some("0")),
            ("+007.50", Some("7.5")),
            (".5", Some("0.5")),
            ("5.", Some("5")),
            ("12e-3", Some("0.012")),
            ("1.5E3", Some("1500")),
            ("1,5", None),
            ("", None),
            (".", None),
            ("-", None),
            ("NaN", None),
            ("1e", None),
        ] {
            assert_eq!(decimal(text).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn canonical_text_is_its_own_canonical_text(value in any_json()) {
            let once = spelled(&value.to_string()).unwrap();
            prop_assert_eq!(spelled(&once).unwrap(), once);
        }

        #[test]
        fn a_number_of_any_length_is_refused_or_can_be_read_again(
            digits in "[0-9]{1,1010}",
            point in 0usize..1010,
            exponent in -1010i32..1010,
        ) {
            let (whole, fraction) = digits.split_at(point.min(digits.len()));
            if let Some(once) = decimal(&format!("{whole}.{fraction}e{exponent}")) {
                prop_assert_eq!(decimal(&once), Some(once));
            }
        }

        #[test]
        fn decimals_keep_their_value(whole in 0u64.., fraction in 0u32..1_000_000) {
            let text = decimal(&format!("{whole}.{fraction:06}")).unwrap();
            let (w, f) = text.split_once('.').unwrap_or((&text, ""));
            prop_assert_eq!(w.parse::<u64>().unwrap(), whole);
            prop_assert_eq!(format!("{f:0<6}").parse::<u32>().unwrap(), fraction);
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| map.into_iter().collect()),
            ]
        })
    }
}
