//! The simulator's own list of fields, and the answers of `*.fields` and
//! `*.userfield.list`.
//!
//! Written from the vendor's pages `crm-contact-fields` and `crm-lead-fields`,
//! not from the mirror's declarations: a wrong declaration must not be hidden
//! by a simulator that shares it.

use serde::{Deserialize, Serialize};

use super::php::{Array, Key, Php};

/// A family of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entity {
    /// `crm.contact.*`
    Contacts,
    /// `crm.lead.*`
    Leads,
}

impl Entity {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::Contacts, Self::Leads];

    pub(super) fn index(self) -> usize {
        match self {
            Self::Contacts => 0,
            Self::Leads => 1,
        }
    }

    pub(super) fn fields(self) -> &'static [Field] {
        match self {
            Self::Contacts => CONTACT,
            Self::Leads => LEAD,
        }
    }

    /// The name in method names and in user-field entities.
    pub(super) fn portal_name(self) -> &'static str {
        match self {
            Self::Contacts => "contact",
            Self::Leads => "lead",
        }
    }
}

/// The type of a documented field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Integer,
    Text,
    Status(&'static str),
    Flag,
    User,
    Company,
    Contact,
    Lead,
    Entity,
    Photo,
    Date,
    DateTime,
    Double,
    Currency,
    Multi,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Text => "string",
            Self::Status(_) => "crm_status",
            Self::Flag => "char",
            Self::User => "user",
            Self::Company => "crm_company",
            Self::Contact => "crm_contact",
            Self::Lead => "crm_lead",
            Self::Entity => "crm_entity",
            Self::Photo => "file",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Double => "double",
            Self::Currency => "crm_currency",
            Self::Multi => "crm_multifield",
        }
    }

    /// Whether an unset value may be the text `"0"`.
    pub(super) fn is_reference(self) -> bool {
        matches!(self, Self::User | Self::Company | Self::Contact | Self::Lead | Self::Entity)
    }
}

/// What the generator puts into a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Id,
    Title,
    Honorific,
    First,
    Second,
    Last,
    Photo,
    Birth,
    Company,
    Contact,
    Lead,
    Source,
    Stage,
    Semantic,
    ContactType,
    Job,
    Note,
    Address,
    Zip,
    CountryCode,
    Address2,
    LocationId,
    Comments,
    Money,
    Currency,
    Yes,
    Sometimes,
    HasPhone,
    HasEmail,
    HasOpenLine,
    Assigned,
    Author,
    Editor,
    Created,
    Modified,
    Moved,
    Closed,
    Active,
    Origin,
    Utm,
    Parent,
    Rare,
    /// Not part of any row.
    Unlisted,
}

/// One documented field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Type,
    pub(super) content: Content,
    read_only: bool,
    multiple: bool,
    deprecated: bool,
}

const fn field(name: &'static str, kind: Type, content: Content) -> Field {
    Field { name, kind, content, read_only: false, multiple: false, deprecated: false }
}

const fn read_only(name: &'static str, kind: Type, content: Content) -> Field {
    Field { read_only: true, ..field(name, kind, content) }
}

const fn several(name: &'static str, kind: Type) -> Field {
    Field { multiple: true, ..field(name, kind, Content::Unlisted) }
}

const fn deprecated(name: &'static str, kind: Type, content: Content) -> Field {
    Field { deprecated: true, ..field(name, kind, content) }
}

/// The multi-fields, in the order in which records hold them.
pub(super) const MULTI: [&str; 5] = ["PHONE", "EMAIL", "WEB", "IM", "LINK"];

use Content as C;
use Type as T;

const CONTACT: &[Field] = &[
    read_only("ID", T::Integer, C::Id),
    field("HONORIFIC", T::Status("HONORIFIC"), C::Honorific),
    field("NAME", T::Text, C::First),
    field("SECOND_NAME", T::Text, C::Second),
    field("LAST_NAME", T::Text, C::Last),
    field("PHOTO", T::Photo, C::Photo),
    field("BIRTHDATE", T::Date, C::Birth),
    field("TYPE_ID", T::Status("CONTACT_TYPE"), C::ContactType),
    field("SOURCE_ID", T::Status("SOURCE"), C::Source),
    field("SOURCE_DESCRIPTION", T::Text, C::Note),
    field("POST", T::Text, C::Job),
    field("ADDRESS", T::Text, C::Address),
    field("ADDRESS_2", T::Text, C::Address2),
    field("ADDRESS_CITY", T::Text, C::Address),
    field("ADDRESS_POSTAL_CODE", T::Text, C::Zip),
    field("ADDRESS_REGION", T::Text, C::Address2),
    field("ADDRESS_PROVINCE", T::Text, C::Address2),
    field("ADDRESS_COUNTRY", T::Text, C::Address),
    field("ADDRESS_COUNTRY_CODE", T::Text, C::CountryCode),
    field("ADDRESS_LOC_ADDR_ID", T::Integer, C::LocationId),
    field("COMMENTS", T::Text, C::Comments),
    field("OPENED", T::Flag, C::Yes),
    field("EXPORT", T::Flag, C::Sometimes),
    read_only("HAS_PHONE", T::Flag, C::HasPhone),
    read_only("HAS_EMAIL", T::Flag, C::HasEmail),
    read_only("HAS_IMOL", T::Flag, C::HasOpenLine),
    field("ASSIGNED_BY_ID", T::User, C::Assigned),
    read_only("CREATED_BY_ID", T::User, C::Author),
    read_only("MODIFY_BY_ID", T::User, C::Editor),
    read_only("DATE_CREATE", T::DateTime, C::Created),
    read_only("DATE_MODIFY", T::DateTime, C::Modified),
    deprecated("COMPANY_ID", T::Company, C::Company),
    several("COMPANY_IDS", T::Company),
    read_only("LEAD_ID", T::Lead, C::Lead),
    field("ORIGINATOR_ID", T::Text, C::Origin),
    field("ORIGIN_ID", T::Text, C::Origin),
    field("ORIGIN_VERSION", T::Text, C::Rare),
    field("FACE_ID", T::Integer, C::LocationId),
    field("UTM_SOURCE", T::Text, C::Utm),
    field("UTM_MEDIUM", T::Text, C::Utm),
    field("UTM_CAMPAIGN", T::Text, C::Utm),
    field("UTM_CONTENT", T::Text, C::Utm),
    field("UTM_TERM", T::Text, C::Utm),
    field("PARENT_ID_128", T::Entity, C::Parent),
    read_only("LAST_ACTIVITY_TIME", T::DateTime, C::Active),
    read_only("LAST_ACTIVITY_BY", T::User, C::Editor),
    field("LAST_COMMUNICATION_TIME", T::Text, C::Rare),
    several("PHONE", T::Multi),
    several("EMAIL", T::Multi),
    several("WEB", T::Multi),
    several("IM", T::Multi),
    several("LINK", T::Multi),
];

const LEAD: &[Field] = &[
    read_only("ID", T::Integer, C::Id),
    field("TITLE", T::Text, C::Title),
    field("HONORIFIC", T::Status("HONORIFIC"), C::Honorific),
    field("NAME", T::Text, C::First),
    field("SECOND_NAME", T::Text, C::Second),
    field("LAST_NAME", T::Text, C::Last),
    field("BIRTHDATE", T::Date, C::Birth),
    field("COMPANY_TITLE", T::Text, C::Note),
    field("SOURCE_ID", T::Status("SOURCE"), C::Source),
    field("SOURCE_DESCRIPTION", T::Text, C::Note),
    field("STATUS_ID", T::Status("STATUS"), C::Stage),
    field("STATUS_DESCRIPTION", T::Text, C::Note),
    read_only("STATUS_SEMANTIC_ID", T::Text, C::Semantic),
    field("POST", T::Text, C::Job),
    field("ADDRESS", T::Text, C::Address),
    field("ADDRESS_2", T::Text, C::Address2),
    field("ADDRESS_CITY", T::Text, C::Address),
    field("ADDRESS_POSTAL_CODE", T::Text, C::Zip),
    field("ADDRESS_REGION", T::Text, C::Address2),
    field("ADDRESS_PROVINCE", T::Text, C::Address2),
    field("ADDRESS_COUNTRY", T::Text, C::Address),
    field("ADDRESS_COUNTRY_CODE", T::Text, C::CountryCode),
    field("ADDRESS_LOC_ADDR_ID", T::Integer, C::LocationId),
    field("CURRENCY_ID", T::Currency, C::Currency),
    field("OPPORTUNITY", T::Double, C::Money),
    field("IS_MANUAL_OPPORTUNITY", T::Flag, C::Sometimes),
    field("OPENED", T::Flag, C::Yes),
    field("COMMENTS", T::Text, C::Comments),
    read_only("HAS_PHONE", T::Flag, C::HasPhone),
    read_only("HAS_EMAIL", T::Flag, C::HasEmail),
    read_only("HAS_IMOL", T::Flag, C::HasOpenLine),
    field("ASSIGNED_BY_ID", T::User, C::Assigned),
    read_only("CREATED_BY_ID", T::User, C::Author),
    read_only("MODIFY_BY_ID", T::User, C::Editor),
    read_only("MOVED_BY_ID", T::User, C::Editor),
    read_only("DATE_CREATE", T::DateTime, C::Created),
    read_only("DATE_MODIFY", T::DateTime, C::Modified),
    read_only("MOVED_TIME", T::DateTime, C::Moved),
    read_only("DATE_CLOSED", T::DateTime, C::Closed),
    field("COMPANY_ID", T::Company, C::Company),
    deprecated("CONTACT_ID", T::Contact, C::Contact),
    several("CONTACT_IDS", T::Contact),
    read_only("IS_RETURN_CUSTOMER", T::Flag, C::Sometimes),
    field("ORIGINATOR_ID", T::Text, C::Origin),
    field("ORIGIN_ID", T::Text, C::Origin),
    field("UTM_SOURCE", T::Text, C::Utm),
    field("UTM_MEDIUM", T::Text, C::Utm),
    field("UTM_CAMPAIGN", T::Text, C::Utm),
    field("UTM_CONTENT", T::Text, C::Utm),
    field("UTM_TERM", T::Text, C::Utm),
    read_only("LAST_ACTIVITY_TIME", T::DateTime, C::Active),
    read_only("LAST_ACTIVITY_BY", T::User, C::Editor),
    field("PARENT_ID_131", T::Entity, C::Parent),
    several("PHONE", T::Multi),
    several("EMAIL", T::Multi),
    several("WEB", T::Multi),
    several("IM", T::Multi),
    several("LINK", T::Multi),
];

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
    pub(super) kind: UserFieldType,
    pub(super) multiple: bool,
    pub(super) label: String,
    /// Enumeration: element id and text.
    pub(super) options: Vec<(i64, String)>,
}

/// The user fields that a portal starts with: every type, single and multiple.
pub(super) fn initial_user_fields(entity: Entity) -> Vec<UserField> {
    let mut fields = Vec::new();
    for multiple in [false, true] {
        for kind in UserFieldType::ALL {
            let id = u32::try_from(fields.len()).unwrap_or(0) + 1;
            let suffix = if multiple { "_LIST" } else { "" };
            let code = if kind == UserFieldType::String && !multiple {
                // Fields that people create in the interface are named by the clock.
                format!("UF_CRM_159428978326{}", entity.index())
            } else {
                format!("UF_CRM_{}{suffix}", kind.name().to_uppercase())
            };
            let label =
                format!("Поле «{}»{}", kind.name(), if multiple { ", несколько" } else { "" });
            fields.push(UserField {
                id,
                code,
                kind,
                multiple,
                label,
                options: initial_options(kind, id),
            });
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

fn description(kind: &str, read_only: bool, multiple: bool, dynamic: bool) -> Array {
    Array::default()
        .with("type", kind)
        .with("isRequired", false)
        .with("isReadOnly", read_only)
        .with("isImmutable", false)
        .with("isMultiple", multiple)
        .with("isDynamic", dynamic)
}

/// The answer of `crm.contact.fields` or `crm.lead.fields`.
pub(super) fn catalogue(entity: Entity, user_fields: &[UserField]) -> Php {
    let mut answer = Array::default();
    for field in entity.fields() {
        let mut info = description(field.kind.name(), field.read_only, field.multiple, false);
        if field.deprecated {
            info = info.with("isDeprecated", true);
        }
        if let Type::Status(directory) = field.kind {
            info = info.with("statusType", directory);
        }
        if field.kind == Type::Lead {
            info = info.with("settings", Array::default().with("parentEntityTypeId", 1_i64));
        }
        answer = answer.with(field.name, info.with("title", field.name));
    }
    for field in user_fields {
        let mut info = description(field.kind.name(), false, field.multiple, true);
        if field.kind == UserFieldType::Enumeration {
            let items: Array = field
                .options
                .iter()
                .map(|(id, text)| {
                    let item = Array::default().with("ID", id.to_string());
                    item.with("VALUE", text.as_str()).into()
                })
                .collect();
            info = info.with("items", items);
        }
        if field.kind == UserFieldType::CrmStatus {
            info = info.with("statusType", "SOURCE");
        }
        info = info
            .with("title", field.code.as_str())
            .with("listLabel", field.label.as_str())
            .with("formLabel", field.label.as_str())
            .with("filterLabel", field.label.as_str())
            .with("settings", settings(field.kind));
        answer = answer.with(&field.code, info);
    }
    answer.into()
}

fn settings(kind: UserFieldType) -> Array {
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

    #[test]
    fn the_catalogue_names_every_field_once() {
        for entity in Entity::ALL {
            let user_fields = initial_user_fields(entity);
            let catalogue = catalogue(entity, &user_fields);
            assert_eq!(
                catalogue.as_array().unwrap().len(),
                entity.fields().len() + user_fields.len()
            );
        }
    }
}
