//! What a documented field is, and the answers of `*.fields`.

use super::entity::Entity;
use super::php::{Array, Php};
use super::user_fields::UserField;

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
    Category,
    Form,
    Deal,
    Quote,
    Location,
    /// A number from a fixed set, under a name of its own.
    Enumerated(&'static str),
    Object,
}

impl Type {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Integer | Self::Form => "integer",
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
            Self::Category => "crm_category",
            Self::Deal => "crm_deal",
            Self::Quote => "crm_quote",
            Self::Location => "location",
            Self::Enumerated(name) => name,
            Self::Object => "object",
        }
    }

    /// Whether filters compare it as a whole number.
    pub(super) fn is_whole(self) -> bool {
        self.is_reference()
            || matches!(self, Self::Integer | Self::Photo | Self::Category | Self::Enumerated(_))
    }

    /// Whether filters can look for a part of it.
    pub(super) fn has_like(self) -> bool {
        matches!(self, Self::Text | Self::Currency | Self::Location)
    }

    /// Whether an unset value may be the text `"0"`.
    pub(super) fn is_reference(self) -> bool {
        matches!(
            self,
            Self::User
                | Self::Company
                | Self::Contact
                | Self::Lead
                | Self::Deal
                | Self::Quote
                | Self::Entity
                | Self::Form
        )
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
    Counterpart,
    Rare,
    /// A word and a number.
    Numbered(&'static str),
    OneOf(&'static [&'static str]),
    /// One of these numbers.
    Among(&'static [i64]),
    /// The record that an activity is about.
    Owner,
    Percent,
    Small,
    Day,
    Instant,
    /// Whether the stage is an end.
    IsClosed,
    PreviousStage,
    /// The pipeline.
    Pipeline,
    /// Files of an older kind, never any.
    Storage,
    /// The category, which a record keeps apart from its facts.
    Category,
    /// The form that a record came by.
    Form,
    /// The IDs that a record is linked to, the primary one first.
    Links,
    Observers,
    Search,
    /// The `entityTypeId`.
    TypeId,
    /// An object with addresses, as JSON.
    Addresses,
    /// Never a value.
    Nothing,
    /// Not part of any row.
    Unlisted,
}

/// How a field shows in `crm.item.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InItems {
    /// Under its own name in camelCase.
    Same,
    /// Under another name.
    Named(&'static str),
    /// Always null: the vendor calls it disabled.
    Disabled,
    /// Not at all.
    Missing,
}

/// One documented field.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the portal's own flags")]
pub(super) struct Field {
    /// The classic name; where there is none, the name in upper case.
    pub(super) name: &'static str,
    pub(super) kind: Type,
    pub(super) content: Content,
    pub(super) in_items: InItems,
    /// Whether the classic methods know it.
    pub(super) classic: bool,
    pub(super) read_only: bool,
    pub(super) multiple: bool,
    deprecated: bool,
}

impl Field {
    /// Whether classic rows carry it.
    pub(super) fn in_classic_rows(&self) -> bool {
        self.classic && !matches!(self.content, Content::Unlisted | Content::Links)
    }

    /// Whether rows of `crm.item.list` carry it.
    pub(super) fn in_item_rows(&self) -> bool {
        self.in_items != InItems::Missing && self.content != Content::Unlisted
    }

    /// Its name there.
    pub(super) fn item_name(&self) -> String {
        if let InItems::Named(name) = self.in_items {
            return name.to_owned();
        }
        let mut camel = String::new();
        for (place, part) in self.name.split('_').enumerate() {
            let part = part.to_lowercase();
            let (first, rest) = part.split_at_checked(1).unwrap_or((&part, ""));
            if place > 0 {
                camel.push_str(&first.to_uppercase());
                camel.push_str(rest);
            } else {
                camel.push_str(&part);
            }
        }
        camel
    }

    /// Whether it says something about a record there.
    pub(super) fn tells_in_items(&self) -> bool {
        let silent = matches!(self.content, Content::Search | Content::TypeId | Content::Storage);
        self.in_item_rows() && self.in_items != InItems::Disabled && !silent
    }

    /// Whether a record stores a value of its own for it.
    pub(super) fn is_stored(&self) -> bool {
        !matches!(
            self.content,
            Content::Id
                | Content::Unlisted
                | Content::Links
                | Content::Observers
                | Content::Search
                | Content::TypeId
                | Content::Storage
                | Content::Nothing
        )
    }

    /// The same field under another name in `crm.item.*`.
    pub(super) const fn item(self, name: &'static str) -> Self {
        Self { in_items: InItems::Named(name), ..self }
    }

    /// The same field, which `crm.item.*` lacks.
    pub(super) const fn classic_only(self) -> Self {
        Self { in_items: InItems::Missing, ..self }
    }

    /// The same field, which is always null in `crm.item.*`.
    pub(super) const fn disabled_in_items(self) -> Self {
        Self { in_items: InItems::Disabled, ..self }
    }

    /// The same field, which the classic methods lack.
    pub(super) const fn item_only(self) -> Self {
        Self { classic: false, ..self }
    }
}

pub(super) const fn field(name: &'static str, kind: Type, content: Content) -> Field {
    Field {
        name,
        kind,
        content,
        in_items: InItems::Same,
        classic: true,
        read_only: false,
        multiple: false,
        deprecated: false,
    }
}

pub(super) const fn read_only(name: &'static str, kind: Type, content: Content) -> Field {
    Field { read_only: true, ..field(name, kind, content) }
}

pub(super) const fn several(name: &'static str, kind: Type, content: Content) -> Field {
    Field { multiple: true, ..field(name, kind, content) }
}

pub(super) const fn deprecated(name: &'static str, kind: Type, content: Content) -> Field {
    Field { deprecated: true, ..field(name, kind, content) }
}

/// A field of `crm.item.*` that is always null.
pub(super) const fn disabled(name: &'static str, kind: Type) -> Field {
    read_only(name, kind, Content::Nothing).disabled_in_items().item_only()
}

/// The multi-fields, in the order in which records hold them.
pub(super) const MULTI: [&str; 5] = ["PHONE", "EMAIL", "WEB", "IM", "LINK"];
pub(super) fn description(kind: &str, read_only: bool, multiple: bool, dynamic: bool) -> Array {
    Array::default()
        .with("type", kind)
        .with("isRequired", false)
        .with("isReadOnly", read_only)
        .with("isImmutable", false)
        .with("isMultiple", multiple)
        .with("isDynamic", dynamic)
}
/// The answer of `crm.contact.fields` and its like.
pub(super) fn catalogue(entity: Entity, user_fields: &[UserField]) -> Php {
    let mut answer = Array::default();
    for field in entity.fields().iter().filter(|field| field.classic) {
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
        answer = answer.with(&field.code, field.description());
    }
    answer.into()
}

#[cfg(test)]
mod tests {
    use super::super::user_fields::initial_user_fields;
    use super::*;

    #[test]
    fn the_catalogue_names_every_field_once() {
        for entity in Entity::ALL {
            let user_fields = initial_user_fields(entity);
            let catalogue = catalogue(entity, &user_fields);
            let classic = entity.fields().iter().filter(|field| field.classic).count();
            assert_eq!(catalogue.as_array().unwrap().len(), classic + user_fields.len());
        }
    }
}
