//! What of a record may not be stored as it comes: fields that are left out, and fields of
//! which only a keyed hash is kept.
//!
//! Hashes are HMAC-SHA-256 with a key of the schema's own, cut to 128 bits, in hexadecimal.
//! Equal values have equal hashes, so duplicates can still be found; phones are hashed by
//! their digits and e-mails without surrounding space and in lower case, so that spelling does
//! not part them. Whoever has the key can try values out; nobody else can.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt::{self, Write as _},
};

use ring::hmac;

use super::{ColumnType, Entity, json};

/// Hexadecimal digits of a hash: enough that no two values of any portal share one.
pub const HASH_DIGITS: usize = 32;

/// The least likeness at which a field is offered as the one that was meant.
const LIKENESS: f64 = 0.6;

/// Which fields of an entity are left out, and which are hashed; by the portal's names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrivacyRules {
    excluded: BTreeSet<String>,
    hashed: BTreeSet<String>,
}

/// A field that a rule cannot be about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnusableRule {
    /// No field of the entity has this name.
    #[error("names `{field}`, which is no field of {entity}; {hint}")]
    Unknown {
        /// The name.
        field: String,
        /// The entity.
        entity: &'static str,
        /// What may have been meant.
        hint: String,
    },
    /// The mirror cannot work without it.
    #[error("names `{field}`, which the mirror cannot do without; remove it from the list")]
    Needed {
        /// The name.
        field: String,
    },
    /// The column cannot hold a hash.
    #[error("names `{field}`, which is no text; exclude it instead")]
    NoText {
        /// The name.
        field: String,
    },
    /// The field stands in both lists.
    #[error("names `{field}`, which is excluded as well; keep it in one of the lists")]
    InBoth {
        /// The name.
        field: String,
    },
}

impl PrivacyRules {
    /// Reads the list of fields that are left out.
    ///
    /// # Errors
    /// [`UnusableRule`] by the first name that cannot be used.
    pub fn excluding(entity: &'static Entity, fields: &[String]) -> Result<Self, UnusableRule> {
        for field in fields {
            known(entity, field)?;
        }
        Ok(Self { excluded: fields.iter().cloned().collect(), hashed: BTreeSet::new() })
    }

    /// The same with a list of fields that are hashed.
    ///
    /// # Errors
    /// [`UnusableRule`] by the first name that cannot be used.
    pub fn hashing(
        mut self,
        entity: &'static Entity,
        fields: &[String],
    ) -> Result<Self, UnusableRule> {
        for name in fields {
            let field = name.clone();
            if known(entity, name)?.is_some_and(|kind| kind != ColumnType::Text)
                || name.starts_with("PARENT_ID_")
            {
                return Err(UnusableRule::NoText { field });
            }
            if self.excluded.contains(name) {
                return Err(UnusableRule::InBoth { field });
            }
            self.hashed.insert(field);
        }
        Ok(self)
    }

    /// Whether everything is stored as it comes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.excluded.is_empty() && self.hashed.is_empty()
    }

    /// The fields that are left out.
    #[must_use]
    pub const fn excluded(&self) -> &BTreeSet<String> {
        &self.excluded
    }

    /// The fields that are hashed.
    #[must_use]
    pub const fn hashed(&self) -> &BTreeSet<String> {
        &self.hashed
    }
}

/// Finds a field; gives the type of its column, if it has one.
fn known(entity: &'static Entity, field: &str) -> Result<Option<ColumnType>, UnusableRule> {
    // The mirror itself cannot do without these. What a classic list implies says which
    // records it shows at all: unknown, hidden ones would look deleted.
    let classic = entity.classic.as_ref();
    let implied = classic.map_or(&[][..], |classic| classic.implies);
    let needed: Vec<&str> = ["ID", entity.modified()]
        .into_iter()
        .chain(implied.iter().map(|(field, _)| *field))
        .collect();
    if needed.contains(&field) {
        return Err(UnusableRule::Needed { field: field.to_owned() });
    }
    if let Some(column) = entity.columns.iter().find(|column| column.field == field) {
        return Ok(Some(column.kind));
    }
    let objects = classic.map_or(&[][..], |classic| classic.objects);
    if objects.contains(&field) {
        return Ok(None);
    }
    let custom = ["UF_", "PARENT_ID_"].iter().any(|prefix| {
        field.strip_prefix(prefix).is_some_and(|rest| {
            let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            !rest.is_empty() && rest.chars().all(plain)
        })
    });
    if let Some(multi) = entity.multi_fields.iter().find(|multi| multi.field == field) {
        // Neither links nor rows of several values are texts.
        return Ok((!multi.is_values()).then_some(ColumnType::Reference));
    }
    if custom {
        return Ok(None);
    }
    let names = entity.columns.iter().map(|column| column.field);
    let nearest = names
        .chain(entity.multi_fields.iter().map(|multi| multi.field))
        .chain(objects.iter().copied())
        .filter(|known| !needed.contains(known))
        .map(|known| {
            (strsim::normalized_damerau_levenshtein(&field.to_ascii_uppercase(), known), known)
        })
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .reduce(|best, other| if other.0 > best.0 { other } else { best });
    let hint = nearest.map_or_else(
        || "use the portal's names, such as `COMMENTS`, `PHONE` or `UF_CRM_1704817278`".to_owned(),
        |(_, known)| format!("did you mean `{known}`?"),
    );
    Err(UnusableRule::Unknown { field: field.to_owned(), entity: entity.name, hint })
}

/// The key of a schema's hashes.
#[derive(Clone)]
pub struct HashKey {
    salt: [u8; 32],
    key: hmac::Key,
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(…)")
    }
}

impl HashKey {
    /// The key that a salt makes.
    #[must_use]
    pub fn new(salt: [u8; 32]) -> Self {
        Self { salt, key: hmac::Key::new(hmac::HMAC_SHA256, &salt) }
    }

    /// The hash of a text.
    #[must_use]
    pub fn hash(&self, text: &str) -> String {
        let tag = hmac::sign(&self.key, text.as_bytes());
        let mut hash = String::with_capacity(HASH_DIGITS);
        for byte in &tag.as_ref()[..HASH_DIGITS / 2] {
            // `write!` to a String cannot fail.
            let _ = write!(hash, "{byte:02x}");
        }
        hash
    }

    /// The salt as HMAC mixes it into the outer and into the inner of its two hashes (RFC
    /// 2104), so that a database can compute the same without knowing HMAC.
    #[must_use]
    pub fn pads(&self) -> [Vec<u8>; 2] {
        [0x5c, 0x36].map(|pad| {
            let mut block = vec![pad; 64];
            for (byte, salt) in block.iter_mut().zip(self.salt) {
                *byte ^= salt;
            }
            block
        })
    }
}

/// The rules of an entity with the key that they hash by.
#[derive(Debug, Clone)]
pub struct Privacy {
    rules: PrivacyRules,
    key: HashKey,
}

impl Privacy {
    /// Joins rules and key.
    #[must_use]
    pub const fn new(rules: PrivacyRules, key: HashKey) -> Self {
        Self { rules, key }
    }

    /// Everything is stored as it comes.
    #[must_use]
    pub fn none() -> Self {
        // Without rules nothing is ever hashed.
        Self::new(PrivacyRules::default(), HashKey::new([0; 32]))
    }

    /// The rules.
    #[must_use]
    pub const fn rules(&self) -> &PrivacyRules {
        &self.rules
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &HashKey {
        &self.key
    }

    /// The fingerprint of how records become rows: the entity's own, unless rules change it.
    #[must_use]
    pub fn fingerprint(&self, entity: &Entity) -> i64 {
        if self.rules.is_empty() {
            return entity.fingerprint();
        }
        let key =
            if self.rules.hashed.is_empty() { String::new() } else { self.key.hash("fingerprint") };
        let mapping = format!("{} {:?} {key}", entity.fingerprint(), self.rules);
        xxhash_rust::xxh3::xxh3_64(mapping.as_bytes()).cast_signed()
    }

    pub(super) fn is_excluded(&self, field: &str) -> bool {
        self.rules.excluded.contains(field)
    }

    pub(super) fn is_hashed(&self, field: &str) -> bool {
        self.rules.hashed.contains(field)
    }

    /// The hash of a field's value, whatever its spelling.
    #[must_use]
    pub fn value(&self, field: &str, text: &str) -> String {
        self.key.hash(&normal(field, text))
    }

    /// What stands in a note in place of a value that may not be stored.
    pub(super) fn veiled(&self, evidence: &str) -> String {
        json::quoted(&self.key.hash(evidence))
    }

    /// What stands in a note in place of a whole record.
    pub(super) fn withheld(&self, text: &str, evidence: &str) -> String {
        let (bytes, hash) = (text.len(), self.key.hash(evidence));
        json::quoted(&format!("(withheld: {bytes} bytes, {hash})"))
    }

    /// Appends a canonical JSON value with every text, and whatever else is no list, hashed.
    pub(super) fn push_hashed(&self, value: json::Raw<'_>, out: &mut String) {
        use json::raw::Shape;
        match value.shape() {
            Shape::List => {
                out.push('[');
                for (place, item) in value.items().enumerate() {
                    if place > 0 {
                        out.push(',');
                    }
                    self.push_hashed(item, out);
                }
                out.push(']');
            }
            Shape::Text(text) => {
                let hash = text
                    .read()
                    .map_or_else(|_| self.key.hash(value.text()), |text| self.key.hash(&text));
                json::push_quoted(out, &hash);
            }
            _ => json::push_quoted(out, &self.key.hash(value.text())),
        }
    }
}

/// A value without what parts its spellings. The store's SQL says the same.
fn normal<'a>(field: &str, text: &'a str) -> Cow<'a, str> {
    match field {
        "PHONE" => {
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            if digits.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(digits) }
        }
        "EMAIL" => text.trim_matches([' ', '\t', '\r', '\n']).to_ascii_lowercase().into(),
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{ACTIVITIES, CONTACTS, LEADS};

    fn rules(excluded: &[&str], hashed: &[&str]) -> Result<PrivacyRules, String> {
        let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        PrivacyRules::excluding(&CONTACTS, &owned(excluded))
            .and_then(|rules| rules.hashing(&CONTACTS, &owned(hashed)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_field_can_be_excluded_but_those_that_the_mirror_needs() {
        for column in CONTACTS.columns {
            let needed = ["DATE_MODIFY", "CATEGORY_ID"].contains(&column.field);
            assert_eq!(rules(&[column.field], &[]).is_err(), needed, "{}", column.field);
        }
        assert!(rules(&["PHONE", "LINK", "UF_CRM_1", "PARENT_ID_130"], &[]).is_ok());
        assert!(rules(&["ID"], &[]).unwrap_err().contains("cannot do without"));
        let settings = ["SETTINGS".to_owned()];
        assert!(PrivacyRules::excluding(&ACTIVITIES, &settings).is_ok());
        assert!(PrivacyRules::excluding(&CONTACTS, &settings).is_err());
    }

    #[test]
    fn names_that_are_no_fields_are_answered_with_the_nearest() {
        for (name, says) in [
            ("LASTNAME", "did you mean `LAST_NAME`?"),
            ("comments", "did you mean `COMMENTS`?"),
            ("PHONES", "did you mean `PHONE`?"),
            ("STATUS_SEMANTIC_ID_OF_LEADS_ONLY", "use the portal's names"),
            ("UF_", "no field of contacts"),
            ("UF_crm", "no field of contacts"),
        ] {
            let refused = rules(&[name], &[]).unwrap_err();
            assert!(refused.contains(says), "{name}: {refused}");
            assert_eq!(rules(&[], &[name]).unwrap_err(), refused);
        }
        assert!(PrivacyRules::excluding(&LEADS, &["STATUS_ID".to_owned()]).is_ok());
    }

    #[test]
    fn only_text_is_hashed_and_in_one_list_only() {
        assert!(rules(&[], &["NAME", "EMAIL", "UF_CRM_1"]).is_ok());
        for name in ["BIRTHDATE", "OPENED", "COMPANY_ID", "PHOTO", "DATE_CREATE", "PARENT_ID_7"] {
            assert!(rules(&[], &[name]).unwrap_err().contains("is no text"), "{name}");
        }
        assert!(rules(&["NAME"], &["NAME"]).unwrap_err().contains("excluded as well"));
        let rows = ["PRODUCT_ROWS".to_owned()];
        let rules = PrivacyRules::excluding(&LEADS, &rows).unwrap();
        assert!(rules.excluded().contains("PRODUCT_ROWS"));
        let hashed = PrivacyRules::default().hashing(&LEADS, &rows).unwrap_err().to_string();
        assert!(hashed.contains("is no text"), "{hashed}");
    }

    #[test]
    fn spelling_does_not_part_phones_and_addresses() {
        let privacy = Privacy::none();
        let same = |field: &str, one: &str, other: &str| {
            privacy.value(field, one) == privacy.value(field, other)
        };
        assert!(same("PHONE", "+7 (900) 12-34", "7 900 1234"));
        assert!(!same("PHONE", "нет", "неизвестен"));
        assert!(same("EMAIL", " Anna@Example.ORG\n", "anna@example.org"));
        assert!(!same("NAME", "Anna", "anna"));
        assert_eq!(privacy.value("NAME", "Anna").len(), HASH_DIGITS);
    }

    #[test]
    fn a_hash_is_the_hmac_of_the_standard() {
        // RFC 4231, test case 1, has a key of twenty bytes; zeros behind it change nothing.
        let mut salt = [0; 32];
        salt[..20].fill(0x0b);
        assert_eq!(HashKey::new(salt).hash("Hi There"), "b0344c61d8db38535ca8afceaf0bf12b");
    }

    #[test]
    fn another_rule_or_another_key_is_another_mapping() {
        let of = |excluded: &[&str], hashed: &[&str], salt: u8| {
            let rules = rules(excluded, hashed).unwrap();
            Privacy::new(rules, HashKey::new([salt; 32])).fingerprint(&CONTACTS)
        };
        assert_eq!(of(&[], &[], 1), CONTACTS.fingerprint());
        assert_eq!(of(&["POST"], &[], 1), of(&["POST"], &[], 2));
        let different = [
            of(&[], &[], 1),
            of(&["POST"], &[], 1),
            of(&[], &["POST"], 1),
            of(&[], &["POST"], 2),
            of(&["NAME"], &["POST"], 1),
        ];
        assert_eq!(BTreeSet::from(different).len(), different.len());
    }
}
