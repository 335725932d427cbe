//! How one portal field becomes one SQL column.

/// One documented field of an entity and the column it is stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The portal's name, for example `DATE_MODIFY`.
    pub field: &'static str,
    /// The SQL name, the portal's own in lower case (`date_modify`); files get the suffix `_id`.
    pub name: &'static str,
    /// What the value is, hence how it is read, hashed and stored.
    pub kind: ColumnType,
}

/// What a column holds. It decides the lenient reader (`value.rs`) and the SQL type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// Text; `""` is NULL.
    Text,
    /// A whole number that is no reference; `"0"` is zero.
    Integer,
    /// The ID of another record or a user; `"0"` is NULL.
    Reference,
    /// `"Y"` or `"N"`.
    Flag,
    /// A decimal number, kept as text all the way and never a float.
    Decimal,
    /// A calendar day, sent by the portal as a shifted midnight.
    Date,
    /// An instant.
    Timestamp,
    /// A file; only its ID is kept, because its URLs carry the webhook's secret.
    File,
}

impl ColumnType {
    /// The SQL type of the column, as `information_schema` spells it.
    #[must_use]
    pub const fn sql_type(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer | Self::Reference | Self::File => "bigint",
            Self::Flag => "boolean",
            Self::Decimal => "numeric",
            Self::Date => "date",
            Self::Timestamp => "timestamp with time zone",
        }
    }
}

/// Declares a column; used by the entity declarations only.
pub(super) const fn column(field: &'static str, name: &'static str, kind: ColumnType) -> Column {
    Column { field, name, kind }
}
