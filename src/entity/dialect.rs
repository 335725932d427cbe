//! How a source spells what an entity has: the names of fields, the shape of rows.
//!
//! Everything behind the decoder knows the classic names only, so that a record is the same
//! whatever it was read by. The names of items follow the vendor's pages
//! `universal/crm-item-list` and `universal/object-fields`.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use super::{
    ColumnType, Entity, RecordId,
    decode::{Decoded, record_id},
    json::{self, Raw},
    record::{CustomFields, Note, Reason, Reject, Value},
    value,
};

/// The way in which a source names fields and shapes rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `crm.contact.list` and its like: names in capitals, one key for each multi-field.
    Classic,
    /// `crm.item.list`: names in camel case, one list of all multi-values.
    Item,
    /// The VibeCode gateway: like items, with some names of its own.
    Vibecode,
}

/// What all items call fields whose names do not follow from the classic ones.
const ITEM_NAMES: [(&str, &str); 5] = [
    ("DATE_CREATE", "createdTime"),
    ("DATE_MODIFY", "updatedTime"),
    ("CREATED_BY_ID", "createdBy"),
    ("MODIFY_BY_ID", "updatedBy"),
    ("MOVED_BY_ID", "movedBy"),
];

/// What the VibeCode gateway calls fields that it renames, where items call them otherwise
/// (vendor pages `docs/filtering` and `docs/entities` of the gateway). The items' names are
/// understood beside them: which of both a gateway uses, its own description of the fields says.
const VIBECODE_NAMES: [(&str, &str); 3] =
    [("OPPORTUNITY", "amount"), ("DATE_CREATE", "createdAt"), ("DATE_MODIFY", "updatedAt")];

/// What items repeat, have switched off, or keep for themselves (vendor page
/// `universal/object-fields`): it is no part of a record. The addresses among them are always
/// empty, and would take the place of what the classic lists bring.
const ITEM_NOISE: [&str; 33] = [
    "accountCurrencyId",
    "address",
    "begindateShort",
    "closedateShort",
    "contacts",
    "dateCreateShort",
    "dateModifyShort",
    "email",
    "emailHome",
    "emailMailing",
    "emailWork",
    "entityTypeId",
    "eventDateShort",
    "hasProducts",
    "icq",
    "imol",
    "isConvert",
    "isLose",
    "isWon",
    "isWork",
    "login",
    "lostAmount",
    "opportunityAccount",
    "phone",
    "phoneMailing",
    "phoneMobile",
    "phoneWork",
    "productId",
    "receivedAmount",
    "searchContent",
    "shortName",
    "skype",
    "taxValueAccount",
];

/// What the codes of user fields begin with, and what items make of that.
const USER_FIELD: &str = "UF_CRM_";
const ITEM_USER_FIELD: &str = "ufCrm";

impl Dialect {
    /// How an entity is read where nothing is set: by a list of its own, if there is one.
    #[must_use]
    pub const fn default_of(entity: &Entity) -> Self {
        if entity.item.is_some() && entity.classic.is_none() { Self::Item } else { Self::Classic }
    }

    /// What the source calls the ID.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Classic => "ID",
            Self::Item | Self::Vibecode => "id",
        }
    }

    /// What the source calls the time of the last modification.
    #[must_use]
    pub const fn modified(self, entity: &Entity) -> &'static str {
        match self {
            Self::Classic => entity.modified(),
            Self::Item | Self::Vibecode => self.modified_names()[0],
        }
    }

    /// Every name that the time of the last modification may have where the dialect and not
    /// the entity decides it; a gateway uses one of them.
    #[must_use]
    pub const fn modified_names(self) -> &'static [&'static str] {
        match self {
            Self::Classic => &[],
            Self::Item => &["updatedTime"],
            Self::Vibecode => &["updatedAt", "updatedTime", "dateModify"],
        }
    }

    /// Whether several names may stand for one field, so that names which are not expected
    /// are looked up by what they mean.
    #[must_use]
    pub(super) const fn has_synonyms(self) -> bool {
        matches!(self, Self::Vibecode)
    }

    /// Whether the values of all multi-fields come in one list.
    #[must_use]
    pub(super) const fn lists_multi_values(self) -> bool {
        matches!(self, Self::Item | Self::Vibecode)
    }

    /// What the source calls a field of ours.
    #[must_use]
    pub fn name_of<'a>(self, entity: &Entity, field: &'a str) -> Cow<'a, str> {
        match self {
            Self::Classic => Cow::Borrowed(field),
            Self::Item => item_name(entity, field).unwrap_or_else(|| camel_case(field)),
            Self::Vibecode if field.starts_with(USER_FIELD) => user_field_name(field).into(),
            Self::Vibecode => VIBECODE_NAMES
                .iter()
                .find(|(own, _)| *own == field)
                .map(|(_, name)| Cow::Borrowed(*name))
                .or_else(|| item_name(entity, field))
                .unwrap_or_else(|| camel_case(field)),
        }
    }

    /// What we call a field of the source's; `None` for what is no part of a record.
    #[must_use]
    pub fn field_of<'a>(self, entity: &Entity, name: &'a str) -> Option<Cow<'a, str>> {
        match self {
            Self::Classic => Some(Cow::Borrowed(name)),
            Self::Item | Self::Vibecode if ITEM_NOISE.binary_search(&name).is_ok() => None,
            Self::Vibecode if name == "fm" => None,
            // Items are asked for user fields by their own names.
            Self::Item | Self::Vibecode if name.starts_with("UF_") => Some(Cow::Borrowed(name)),
            Self::Item => Some(item_field(entity, name, &[])),
            Self::Vibecode => Some(item_field(entity, name, &VIBECODE_NAMES)),
        }
    }

    /// The ID of a row of keys (those of [`Self::id`] and [`Self::modified`]).
    ///
    /// `None` when the row has no usable ID.
    #[must_use]
    pub fn key_of(self, raw: Raw<'_>) -> Option<RecordId> {
        field(raw, self.id()).and_then(record_id)
    }

    /// The modification time in a row of keys, as the decoder of full records reads it:
    /// `None` when it is unset or unreadable.
    #[must_use]
    pub fn date_of(self, entity: &Entity, raw: Raw<'_>) -> Option<DateTime<Utc>> {
        let date = self.raw_date(entity, raw)?;
        let reading = value::read(ColumnType::Timestamp, date).ok()?;
        match reading.value {
            Value::Timestamp(instant) => Some(instant),
            _ => None,
        }
    }

    /// The reject for a row of keys without a usable ID. Nothing is kept of it but the keys
    /// that were asked for: what else came may be of a field that is not to be stored.
    #[must_use]
    pub fn nameless(self, entity: &Entity, raw: Raw<'_>) -> Decoded {
        let date = self.raw_date(entity, raw);
        let keys = [(entity.modified(), date), ("ID", field(raw, self.id()))].into_iter();
        let keys: Vec<(&str, String)> =
            keys.filter_map(|(own, value)| Some((own, json::evidence(value?)))).collect();
        let raw = CustomFields::of_sorted(keys.iter().map(|(name, json)| (*name, json.as_str())));
        let raw = raw.as_str().to_owned();
        let note = Note { field: String::new(), reason: Reason::NoUsableId, raw };
        Decoded::Reject(Reject { id: None, note })
    }

    fn raw_date<'a>(self, entity: &Entity, raw: Raw<'a>) -> Option<Raw<'a>> {
        match self {
            Self::Classic => field(raw, entity.modified()),
            Self::Item | Self::Vibecode => {
                self.modified_names().iter().find_map(|name| field(raw, name))
            }
        }
    }
}

/// A field by its name, spelled without escapes; the last one if it is repeated.
fn field<'a>(raw: Raw<'a>, name: &str) -> Option<Raw<'a>> {
    raw.fields().filter(|(key, _)| key.unescaped() == Some(name)).last().map(|(_, value)| value)
}

/// The names of an item's own, if the entity is one.
fn item_names(entity: &Entity) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    entity.item.iter().flat_map(|item| item.names)
}

/// What items call a field whose name does not follow from the classic one.
fn item_name(entity: &Entity, field: &str) -> Option<Cow<'static, str>> {
    let known = item_names(entity).chain(&ITEM_NAMES);
    known.into_iter().find(|(own, _)| *own == field).map(|(_, name)| Cow::Borrowed(*name))
}

/// What we call a field of an item, or of a dialect with further names.
fn item_field<'a>(
    entity: &Entity,
    name: &'a str,
    further: &'static [(&'static str, &'static str)],
) -> Cow<'a, str> {
    let known = further.iter().chain(item_names(entity)).chain(&ITEM_NAMES);
    known
        .into_iter()
        .find(|(_, theirs)| *theirs == name)
        .map(|(own, _)| Cow::Borrowed(*own))
        .or_else(|| user_field(name))
        .unwrap_or_else(|| capitals(name))
}

/// `UF_CRM_3_DIGIT` of a smart process becomes `ufCrm3Digit`, `UF_CRM_3_1747309727` becomes
/// `ufCrm3_1747309727`. Where letters and digits are mixed, only the beginning changes:
/// `UF_CRM_3_DIGIT10` becomes `ufCrm_3_DIGIT10` (vendor page `crm/universal`, field naming
/// conventions).
fn user_field_name(field: &str) -> String {
    let own = field.trim_start_matches(USER_FIELD);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (of_type, rest) = match own.split_once('_') {
        Some((number, rest)) if is_number(number) => (number, rest),
        _ => ("", own),
    };
    if !of_type.is_empty() && rest.split('_').all(is_number) {
        return format!("{ITEM_USER_FIELD}{of_type}_{rest}");
    }
    if rest.bytes().any(|byte| byte.is_ascii_digit()) {
        return format!("{ITEM_USER_FIELD}_{own}");
    }
    let mut name = format!("{ITEM_USER_FIELD}{of_type}");
    for part in rest.split('_') {
        let mut letters = part.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.extend(letters.map(|letter| letter.to_ascii_lowercase()));
    }
    name
}

/// What we call a user field that came under an item's name; `None` for any other field.
fn user_field<'a>(name: &str) -> Option<Cow<'a, str>> {
    let own = name.strip_prefix(ITEM_USER_FIELD)?.strip_prefix('_')?;
    Some(format!("{USER_FIELD}{own}").into())
}

/// `SOURCE_ID` becomes `sourceId`, `PARENT_ID_128` becomes `parentId128`.
fn camel_case(field: &str) -> Cow<'_, str> {
    if field.starts_with("UF_") {
        return Cow::Borrowed(field);
    }
    let mut name = String::with_capacity(field.len());
    let mut raised = false;
    for letter in field.chars() {
        match letter {
            '_' => raised = true,
            _ if raised => {
                name.push(letter);
                raised = false;
            }
            _ => name.push(letter.to_ascii_lowercase()),
        }
    }
    name.into()
}

/// The reverse: a new part begins with each capital and with each number.
fn capitals(name: &str) -> Cow<'_, str> {
    let mut field = String::with_capacity(name.len() + 8);
    let mut last = '_';
    for letter in name.chars() {
        let begins = letter.is_ascii_uppercase()
            || (letter.is_ascii_digit() && !last.is_ascii_digit() && last != '_');
        if begins && !field.is_empty() {
            field.push('_');
        }
        field.push(letter.to_ascii_uppercase());
        last = letter;
    }
    field.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{CONTACTS, LEADS};

    #[test]
    fn every_field_is_found_again_under_its_item_name() {
        for entity in Entity::ALL.into_iter().filter(|entity| entity.item.is_some()) {
            let columns = entity.columns.iter().map(|column| column.field);
            let lists = entity.multi_fields.iter().map(|multi| multi.field);
            for field in columns.chain(lists).chain(["ID", "PARENT_ID_128", "UF_CRM_1_AB"]) {
                let name = Dialect::Item.name_of(entity, field);
                if ITEM_NOISE.contains(&&*name) {
                    continue;
                }
                let back = Dialect::Item.field_of(entity, &name);
                assert_eq!(back.as_deref(), Some(field), "{}: {name}", entity.name);
            }
        }
    }

    #[test]
    fn items_have_names_of_their_own() {
        let name = |entity, field| Dialect::Item.name_of(entity, field).into_owned();
        assert_eq!(name(&LEADS, "STATUS_ID"), "stageId");
        assert_eq!(name(&LEADS, "DATE_MODIFY"), "updatedTime");
        assert_eq!(name(&CONTACTS, "UTM_SOURCE"), "utmSource");
        assert_eq!(name(&CONTACTS, "COMPANY_IDS"), "companyIds");
        assert_eq!(Dialect::Item.field_of(&LEADS, "phoneWork"), None);
        assert_eq!(Dialect::Item.field_of(&LEADS, "someNew2").as_deref(), Some("SOME_NEW_2"));
    }

    #[test]
    fn the_gateway_has_names_of_its_own_and_those_of_items_are_understood_beside_them() {
        let dialect = Dialect::Vibecode;
        for entity in Entity::ALL.into_iter().filter(|entity| entity.item.is_some()) {
            let columns = entity.columns.iter().map(|column| column.field);
            let users = [
                "UF_CRM_1720019876534",
                "UF_CRM_2_1639669411830",
                "UF_CRM_MY_WORDS",
                "UF_CRM_566EB0AC9B7FC",
                "UF_CRM_PASSPORT2",
                "UF_CRM_PASSPORT_2",
            ];
            for field in columns.chain(["ID", "PARENT_ID_128"]).chain(users) {
                let name = dialect.name_of(entity, field);
                if !ITEM_NOISE.contains(&&*name) {
                    let back = dialect.field_of(entity, &name);
                    assert_eq!(back.as_deref(), Some(field), "{}: {name}", entity.name);
                }
            }
        }
        let field = |name| dialect.field_of(&LEADS, name).map(Cow::into_owned);
        for (name, own) in [
            ("amount", "OPPORTUNITY"),
            ("opportunity", "OPPORTUNITY"),
            ("createdAt", "DATE_CREATE"),
            ("createdTime", "DATE_CREATE"),
            ("updatedAt", "DATE_MODIFY"),
            ("updatedTime", "DATE_MODIFY"),
            ("stageId", "STATUS_ID"),
            ("statusId", "STATUS_ID"),
            ("ufCrm_1594289783260", "UF_CRM_1594289783260"),
        ] {
            assert_eq!(field(name).as_deref(), Some(own), "{name}");
        }
        assert_eq!(field("phoneWork"), None);
        assert_eq!(dialect.name_of(&LEADS, "UF_CRM_1594289783260"), "ufCrm_1594289783260");
    }

    #[test]
    fn user_fields_are_named_as_the_vendor_says() {
        for (field, name) in [
            ("UF_CRM_3_DIGIT", "ufCrm3Digit"),
            ("UF_CRM_3_1747309727", "ufCrm3_1747309727"),
            ("UF_CRM_3_DIGIT10", "ufCrm_3_DIGIT10"),
            ("UF_CRM_3_DIGIT_10", "ufCrm_3_DIGIT_10"),
            ("UF_CRM_1747309879", "ufCrm_1747309879"),
            ("UF_CRM_566EB0AC9B7FC", "ufCrm_566EB0AC9B7FC"),
        ] {
            assert_eq!(Dialect::Vibecode.name_of(&LEADS, field), name);
            // Older portals do not know the parameter that keeps the names.
            for dialect in [Dialect::Item, Dialect::Vibecode] {
                assert_eq!(dialect.field_of(&LEADS, name).as_deref(), Some(field));
            }
        }
    }

    #[test]
    fn what_items_repeat_is_in_order() {
        assert!(ITEM_NOISE.is_sorted());
    }
}
