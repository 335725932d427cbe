//! What a column holds of a custom field.

use crate::reporting::FieldDescription;

/// What a column holds of its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The value as it is.
    Text,
    /// A number.
    Number,
    /// A truth value.
    Flag,
    /// A day.
    Day,
    /// An instant.
    Time,
    /// The amount of a sum of money.
    Amount,
    /// The currency of a sum of money.
    Currency,
    /// The label of an enumeration's choice.
    Option,
    /// The name of a user.
    Person,
    /// The ID of a user.
    PersonId,
    /// The label of a directory's code.
    Status,
    /// The code of a directory's entry.
    StatusCode,
    /// The ID of a file or of another record.
    Id,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Text,
        Self::Number,
        Self::Flag,
        Self::Day,
        Self::Time,
        Self::Amount,
        Self::Currency,
        Self::Option,
        Self::Person,
        Self::PersonId,
        Self::Status,
        Self::StatusCode,
        Self::Id,
    ];

    /// The columns that a field of this type has. What we do not know is text.
    pub(super) fn of(field: &FieldDescription) -> &'static [Self] {
        match field.kind.as_str() {
            _ if field.field.starts_with("PARENT_ID_") => &[Self::Id],
            // A gateway's word is the last one.
            "integer" | "double" | "number" => &[Self::Number],
            "boolean" | "char" => &[Self::Flag],
            "date" => &[Self::Day],
            "datetime" => &[Self::Time],
            "money" => &[Self::Amount, Self::Currency],
            "enumeration" => &[Self::Option],
            "employee" | "user" => &[Self::Person, Self::PersonId],
            "crm_status" => &[Self::Status, Self::StatusCode],
            "file" => &[Self::Id],
            _ => &[Self::Text],
        }
    }

    /// The word in the table of names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Flag => "flag",
            Self::Day => "day",
            Self::Time => "time",
            Self::Amount => "amount",
            Self::Currency => "currency",
            Self::Option => "option",
            Self::Person => "person",
            Self::PersonId => "person_id",
            Self::Status => "status",
            Self::StatusCode => "status_code",
            Self::Id => "id",
        }
    }

    /// Reads the word in the table of names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// What follows the field's name where it has several columns.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Currency => "_currency",
            Self::PersonId => "_id",
            Self::StatusCode => "_code",
            _ => "",
        }
    }

    /// What tells the columns of a field apart that has changed its type.
    pub(super) fn word(self, multiple: bool) -> String {
        let word = match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Flag => "flag",
            Self::Day => "date",
            Self::Time => "time",
            Self::Amount | Self::Currency => "money",
            Self::Option => "option",
            Self::Person | Self::PersonId => "person",
            Self::Status | Self::StatusCode => "status",
            Self::Id => "id",
        };
        if multiple { format!("_{word}_list") } else { format!("_{word}") }
    }

    /// The type, as PostgreSQL spells it.
    pub(super) fn sql_type(self, multiple: bool) -> String {
        let one = match self {
            Self::Text
            | Self::Currency
            | Self::Option
            | Self::Person
            | Self::Status
            | Self::StatusCode => "text",
            Self::Number | Self::Amount => "numeric",
            Self::Flag => "boolean",
            Self::Day => "date",
            Self::Time => "timestamp with time zone",
            Self::PersonId | Self::Id => "bigint",
        };
        if multiple { format!("{one}[]") } else { one.to_owned() }
    }

    /// What its comment has to add.
    pub(super) const fn note(self) -> Option<&'static str> {
        match self {
            Self::Amount => Some("the amount"),
            Self::Currency => Some("the currency"),
            Self::Person => Some("the user's name, null where the portal hides it"),
            Self::PersonId => Some("the user's ID"),
            Self::Status => Some("what people see"),
            Self::StatusCode => Some("the code"),
            _ => None,
        }
    }
}
