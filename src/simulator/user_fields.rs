//! User fields, and the answers of `*.userfield.list`.

use serde::{Deserialize, Serialize};

use super::entity::Entity;
use super::fields::description;
use super::php::{Array, Key, Php};

/// The type of a user field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the portal's own")]
pub enum UserFieldType {
    String,
    Integer,
    Double,
    Boolean,
    #[serde(rename = "datetime")]
    DateTime,
    Date,
    Money,
    Url,
    Address,
    Enumeration,
    File,
    Employee,
    CrmStatus,
    IblockSection,
    IblockElement,
    Crm,
    /// Registered by some application.
    #[serde(rename = "rest_7_rating")]
    Rating,
}

impl UserFieldType {
    pub(super) const ALL: [Self; 17] = [
        Self::String,
        Self::Integer,
        Self::Double,
        Self::Boolean,
        Self::DateTime,
        Self::Date,
        Self::Money,
        Self::Url,
        Self::Address,
        Self::Enumeration,
        Self::File,
        Self::Employee,
        Self::CrmStatus,
        Self::IblockSection,
        Self::IblockElement,
        Self::Crm,
        Self::Rating,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::DateTime => "datetime",
            Self::Date => "date",
            Self::Money => "money",
            Self::Url => "url",
            Self::Address => "address",
            Self::Enumeration => "enumeration",
            Self::File => "file",
            Self::Employee => "employee",
            Self::CrmStatus => "crm_status",
            Self::IblockSection => "iblock_section",
            Self::IblockElement => "iblock_element",
            Self::Crm => "crm",
            Self::Rating => "rest_7_rating",
        }
    }
}

/// A user field as the portal knows it at this moment.
#[derive(Clone, Debug)]
pub(super) struct UserField {
    /// Never used again for another field.
    pub(super) id: u32,
    pub(super) code: String,
    /// The name in `crm.item.*`, unless the caller wants the original one.
    pub(super) camel: String,
    pub(super) kind: UserFieldType,
    pub(super) multiple: bool,
    pub(super) label: String,
    /// Enumeration: element id and text.
    pub(super) options: Vec<(i64, String)>,
}

impl UserField {
    pub(super) fn new(
        id: u32,
        code: String,
        kind: UserFieldType,
        multiple: bool,
        label: String,
    ) -> Self {
        let (camel, options) = (camel_code(&code), initial_options(kind, id));
        Self { id, code, camel, kind, multiple, label, options }
    }

    /// What `*.fields` says of it.
    pub(super) fn description(&self) -> Array {
        let mut info = description(self.kind.name(), false, self.multiple, true);
        if self.kind == UserFieldType::Enumeration {
            let items: Array = self
                .options
                .iter()
                .map(|(id, text)| {
                    let item = Array::default().with("ID", id.to_string());
                    item.with("VALUE", text.as_str()).into()
                })
                .collect();
            info = info.with("items", items);
        }
        if self.kind == UserFieldType::CrmStatus {
            info = info.with("statusType", "SOURCE");
        }
        info.with("title", self.code.as_str())
            .with("listLabel", self.label.as_str())
            .with("formLabel", self.label.as_str())
            .with("filterLabel", self.label.as_str())
            .with("settings", settings(self.kind))
    }
}

/// The name of items (vendor page `crm/universal`, field naming conventions): digits alone or
/// letters alone are converted, of mixed ones only the beginning.
fn camel_code(code: &str) -> String {
    let Some(own) = code.strip_prefix("UF_CRM_") else {
        return format!("uf{}", words(code.trim_start_matches("UF_")));
    };
    let (number, rest) = match own.split_once('_') {
        Some((number, rest)) if digits_only(number) => (number, rest),
        _ => ("", own),
    };
    let digits = rest.contains(|letter: char| letter.is_ascii_digit());
    let letters = rest.contains(|letter: char| letter.is_ascii_alphabetic());
    match (digits, letters) {
        (true, false) if !number.is_empty() => format!("ufCrm{number}_{rest}"),
        (true, _) => format!("ufCrm_{own}"),
        (false, _) => format!("ufCrm{number}{}", words(rest)),
    }
}

fn digits_only(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_digit())
}

/// `STRING_LIST` as `StringList`.
fn words(code: &str) -> String {
    let word = |part: &str| {
        let (first, rest) = part.split_at_checked(1).unwrap_or((part, ""));
        first.to_uppercase() + &rest.to_lowercase()
    };
    code.split('_').map(word).collect()
}

/// The user fields that a portal starts with: every type, single and multiple.
pub(super) fn initial_user_fields(entity: Entity) -> Vec<UserField> {
    let prefix = entity.user_field_prefix();
    let mut fields = Vec::new();
    if !entity.has_user_fields() {
        return fields;
    }
    for multiple in [false, true] {
        for kind in UserFieldType::ALL {
            let id = u32::try_from(fields.len()).unwrap_or(0) + 1;
            let suffix = if multiple { "_LIST" } else { "" };
            let code = if kind == UserFieldType::String && !multiple {
                // Fields that people create in the interface are named by the clock.
                format!("{prefix}159428978326{}", entity.index())
            } else {
                format!("{prefix}{}{suffix}", kind.name().to_uppercase())
            };
            let label =
                format!("Поле «{}»{}", kind.name(), if multiple { ", несколько" } else { "" });
            fields.push(UserField::new(id, code, kind, multiple, label));
        }
    }
    if entity == Entity::Companies {
        // The document generator's own.
        for code in ["UF_LOGO", "UF_STAMP", "UF_DIRECTOR_SIGN", "UF_ACCOUNTANT_SIGN"] {
            let id = u32::try_from(fields.len()).unwrap_or(0) + 1;
            let label = code.to_owned();
            fields.push(UserField::new(id, code.to_owned(), UserFieldType::File, false, label));
        }
    }
    fields
}

/// The elements of a new enumeration.
pub(super) fn initial_options(kind: UserFieldType, id: u32) -> Vec<(i64, String)> {
    if kind != UserFieldType::Enumeration {
        return Vec::new();
    }
    ["Да", "Нет", "Не \"знаю\"", "Другое/прочее"]
        .into_iter()
        .zip(1..)
        .map(|(text, at)| (i64::from(id) * 100 + at, text.to_owned()))
        .collect()
}
pub(super) fn settings(kind: UserFieldType) -> Array {
    match kind {
        UserFieldType::String | UserFieldType::Url => Array::default()
            .with("SIZE", 20_i64)
            .with("ROWS", 1_i64)
            .with("REGEXP", "")
            .with("MIN_LENGTH", 0_i64)
            .with("MAX_LENGTH", 0_i64)
            .with("DEFAULT_VALUE", Php::Null),
        UserFieldType::Crm => Array::default()
            .with("LEAD", "Y")
            .with("CONTACT", "Y")
            .with("COMPANY", "Y")
            .with("DEAL", "Y"),
        UserFieldType::CrmStatus => Array::default().with("ENTITY_TYPE", "SOURCE"),
        UserFieldType::File => Array::default(),
        _ => Array::default().with("DEFAULT_VALUE", ""),
    }
}
/// The answer of `crm.contact.userfield.list` or `crm.lead.userfield.list`.
pub(super) fn user_field_list(entity: Entity, user_fields: &[UserField], filter: &Array) -> Array {
    let flag = |value: bool| if value { "Y" } else { "N" };
    let mut rows = Array::default();
    for field in user_fields {
        let wanted = |key: &str, own: &str| {
            let value = filter.get(key).and_then(Php::to_text);
            value.is_none_or(|value| value == own)
        };
        if !wanted("FIELD_NAME", &field.code) || !wanted("USER_TYPE_ID", field.kind.name()) {
            continue;
        }
        let mut row = Array::default()
            .with("ID", field.id.to_string())
            .with("ENTITY_ID", format!("CRM_{}", entity.portal_name().to_uppercase()))
            .with("FIELD_NAME", field.code.as_str())
            .with("USER_TYPE_ID", field.kind.name())
            .with("XML_ID", Php::Null)
            .with("SORT", "100")
            .with("MULTIPLE", flag(field.multiple))
            .with("MANDATORY", "N")
            .with("SHOW_FILTER", "E")
            .with("SETTINGS", settings(field.kind));
        if field.kind == UserFieldType::Enumeration {
            let options: Array = field
                .options
                .iter()
                .map(|(id, text)| {
                    Array::default()
                        .with("ID", id.to_string())
                        .with("SORT", "10")
                        .with("VALUE", text.as_str())
                        .with("DEF", "N")
                        .with("XML_ID", format!("x{id}"))
                        .into()
                })
                .collect();
            row = row.with("LIST", options);
        }
        if filter.get("LANG").is_some() {
            for label in ["EDIT_FORM_LABEL", "LIST_COLUMN_LABEL", "LIST_FILTER_LABEL"] {
                row.set(Key::Text(label.to_owned()), field.label.as_str().into());
            }
        }
        rows.push(row.into());
    }
    rows
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_camel_case_as_the_vendor_writes_them() {
        for (code, camel) in [
            ("UF_CRM_1720019876534", "ufCrm_1720019876534"),
            ("UF_CRM_2_1639669411830", "ufCrm2_1639669411830"),
            ("UF_CRM_TASK", "ufCrmTask"),
            ("UF_DIRECTOR_SIGN", "ufDirectorSign"),
            ("UF_CRM_STRING_LIST", "ufCrmStringList"),
            ("UF_CRM_10_DIGIT10", "ufCrm_10_DIGIT10"),
            ("UF_CRM_566EB0AC9B7FC", "ufCrm_566EB0AC9B7FC"),
        ] {
            assert_eq!(camel_code(code), camel);
        }
    }

    #[test]
    fn every_user_field_type_exists_single_and_multiple() {
        let fields = initial_user_fields(Entity::Contacts);
        for kind in UserFieldType::ALL {
            for multiple in [false, true] {
                assert!(
                    fields.iter().any(|field| field.kind == kind && field.multiple == multiple)
                );
            }
        }
    }
}
