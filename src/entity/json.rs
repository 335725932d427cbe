//! Canonical JSON text: one spelling per value, whatever the portal's writer did.
//!
//! Keys sorted (the last of a repeated key counts, as in `jsonb`), no white space,
//! numbers without exponent or superfluous zeros, strings escaped in one way. So a
//! value read back from `jsonb` has the spelling that was written.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::value::RawValue;

/// Deeper nesting than this is refused instead of risking the stack.
const MAX_DEPTH: usize = 64;

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

/// Writes a value in its one canonical spelling; U+0000 stays, escaped.
///
/// # Errors
/// [`NotCanonical`] for values that no table could hold.
pub fn canonical(raw: &RawValue) -> Result<String, NotCanonical> {
    let mut out = String::with_capacity(raw.get().len());
    let mut writer = Writer { out: &mut out, evidence: false, keep_nul: true, nul_removed: false };
    writer.value(raw, 0)?;
    Ok(out)
}

/// A value as the quarantine keeps it: canonical where possible, and always
/// something, since it is evidence; never a file's URL.
pub(super) fn evidence(raw: &RawValue) -> String {
    let mut out = String::with_capacity(raw.get().len());
    let mut writer = Writer { out: &mut out, evidence: true, keep_nul: true, nul_removed: false };
    match writer.value(raw, 0) {
        Ok(()) => out,
        Err(reason) => {
            let (bytes, hash) = (raw.get().len(), xxhash_rust::xxh3::xxh3_64(raw.get().as_bytes()));
            quoted(&format!("({reason}; {bytes} bytes, hash {hash:016x})"))
        }
    }
}

/// Like [`canonical`], but leaves U+0000 out, because `jsonb` refuses it; says whether it did.
pub(super) fn canonical_without_nul(raw: &RawValue) -> Result<(String, bool), NotCanonical> {
    let mut out = String::with_capacity(raw.get().len());
    let mut writer = Writer { out: &mut out, evidence: false, keep_nul: false, nul_removed: false };
    writer.value(raw, 0)?;
    let nul_removed = writer.nul_removed;
    Ok((out, nul_removed))
}

/// One string in canonical JSON spelling.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A string that borrows from the input unless it holds escapes.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

struct Writer<'o> {
    out: &'o mut String,
    /// A string that cannot be read stays as it was sent instead of failing the value.
    evidence: bool,
    keep_nul: bool,
    nul_removed: bool,
}

impl Writer<'_> {
    fn value(&mut self, raw: &RawValue, depth: usize) -> Result<(), NotCanonical> {
        if depth > MAX_DEPTH {
            return Err(NotCanonical::TooDeep);
        }
        let json = raw.get();
        match json.as_bytes().first() {
            Some(b'{') => {
                let mut fields = BTreeMap::new();
                let parsed: BTreeMap<Text<'_>, &RawValue> = parse(json)?;
                for (Text(key), value) in parsed {
                    if FILE_URLS.contains(&&*key) {
                        continue;
                    }
                    fields.insert(self.without_nul(key), value);
                }
                self.out.push('{');
                for (index, (key, value)) in fields.into_iter().enumerate() {
                    if index > 0 {
                        self.out.push(',');
                    }
                    self.out.push_str(&quoted(&key));
                    self.out.push(':');
                    self.value(value, depth + 1)?;
                }
                self.out.push('}');
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = parse(json)?;
                self.out.push('[');
                for (index, item) in items.into_iter().enumerate() {
                    if index > 0 {
                        self.out.push(',');
                    }
                    self.value(item, depth + 1)?;
                }
                self.out.push(']');
            }
            Some(b'"') => match parse(json) {
                Ok(Text(text)) => {
                    let text = self.without_nul(text);
                    self.out.push_str(&quoted(&text));
                }
                Err(_) if self.evidence => self.out.push_str(json),
                Err(malformed) => return Err(malformed),
            },
            Some(b't' | b'f' | b'n') => self.out.push_str(json),
            _ => self.out.push_str(&decimal(json).ok_or(NotCanonical::TooLong)?),
        }
        Ok(())
    }

    fn without_nul<'a>(&mut self, text: Cow<'a, str>) -> Cow<'a, str> {
        if self.keep_nul || !text.contains('\0') {
            return text;
        }
        self.nul_removed = true;
        Cow::Owned(text.replace('\0', ""))
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, NotCanonical> {
    serde_json::from_str(json).map_err(|_| NotCanonical::Malformed)
}

/// A decimal number in its one canonical spelling: no `+`, no exponent, no
/// superfluous zeros, no `-0`. `None` if it is no decimal number or longer than
/// a thousand digits.
#[must_use]
pub fn decimal(text: &str) -> Option<String> {
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
        assert_eq!(canonical_without_nul(&raw), Ok((r#"["ab","\\u0000"]"#.to_owned(), true)));
        assert_eq!(canonical(&raw).unwrap(), r#"["a\u0000b","\\u0000"]"#);
    }

    #[test]
    fn what_no_table_could_hold_is_refused() {
        let deep = format!("{}1{}", "[".repeat(80), "]".repeat(80));
        assert_eq!(spelled(&deep), Err(NotCanonical::TooDeep));
        assert_eq!(spelled("1e99999"), Err(NotCanonical::TooLong));
        assert_eq!(spelled(r#""\ud800""#), Err(NotCanonical::Malformed));
    }

    #[test]
    fn evidence_keeps_everything_but_file_urls() {
        let evidence = |json: &str| evidence(&RawValue::from_string(json.to_owned()).unwrap());
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
