//! What the codes and numbers in documented columns stand for.

use super::{Blueprint, sql};
use crate::entity::{Column, Entity};

/// Where the label of a column's value is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A code of one of the portal's directories.
    Status(&'static str),
    /// How a lead's stage ends.
    Semantics,
    /// A user.
    Person,
    /// A currency.
    Currency,
    /// A contact.
    Contact,
    /// A lead.
    Lead,
}

impl Meaning {
    /// The meaning of a documented column; `None` where the value speaks for itself, or for
    /// something that is not mirrored.
    pub(super) fn of(column: &Column) -> Option<Self> {
        Some(match column.field {
            "HONORIFIC" => Self::Status("HONORIFIC"),
            "TYPE_ID" => Self::Status("CONTACT_TYPE"),
            "SOURCE_ID" => Self::Status("SOURCE"),
            "STATUS_ID" => Self::Status("STATUS"),
            "STATUS_SEMANTIC_ID" => Self::Semantics,
            "CURRENCY_ID" => Self::Currency,
            "ASSIGNED_BY_ID" | "CREATED_BY_ID" | "MODIFY_BY_ID" | "MOVED_BY_ID"
            | "LAST_ACTIVITY_BY" => Self::Person,
            "CONTACT_ID" => Self::Contact,
            "LEAD_ID" => Self::Lead,
            _ => return None,
        })
    }

    /// The label of `value`, an SQL expression.
    pub(super) fn label(self, plan: &Blueprint, value: &str) -> String {
        match self {
            Self::Status(directory) => format!("{} ->> {value}", statuses(plan, directory)),
            Self::Semantics => format!(
                "case {value} when 'P' then 'in progress' when 'S' then 'successful' \
                 when 'F' then 'failed' end"
            ),
            Self::Person => format!("{} ->> {value}::text", people(plan)),
            Self::Currency => format!("{} ->> {value}", currencies(plan)),
            Self::Contact => format!(
                "(select {} from {} o where o.id = {value})",
                full_name("o"),
                plan.table("contacts")
            ),
            Self::Lead => format!(
                "(select coalesce(o.title, {}) from {} o where o.id = {value})",
                full_name("o"),
                plan.table("leads")
            ),
        }
    }

    /// What the label's column says of itself.
    pub(super) fn comment(self, column: &Column) -> String {
        let of = column.name;
        match self {
            Self::Status(_) => format!("What people see for {of}."),
            Self::Semantics => "in progress, successful or failed.".to_owned(),
            Self::Person => format!("Name of the user in {of}; null where the portal hides it."),
            Self::Currency => format!("Name of the currency in {of}."),
            Self::Contact => format!("Full name of the contact in {of}."),
            Self::Lead => format!("Title of the lead in {of}, or the name in it."),
        }
    }
}

/// The name of the column that holds a column's label.
pub(super) fn label_name(column: &Column) -> String {
    match column.name.strip_suffix("_id") {
        Some(rest) => rest.to_owned(),
        None => format!("{}_name", column.name),
    }
}

/// The full name of a contact or of the person in a lead.
pub(super) fn full_name(row: &str) -> String {
    format!("nullif(btrim(concat_ws(' ', {row}.name, {row}.second_name, {row}.last_name)), '')")
}

/// A directory as a map from code to name.
pub(super) fn statuses(plan: &Blueprint, directory: &str) -> String {
    format!(
        "(select jsonb_object_agg(d.code, d.name) from {} d where d.directory = {})",
        plan.table("statuses"),
        sql::literal(directory)
    )
}

/// The users as a map from ID to full name.
pub(super) fn people(plan: &Blueprint) -> String {
    format!("(select jsonb_object_agg(d.id::text, d.full_name) from {} d)", plan.table("users"))
}

fn currencies(plan: &Blueprint) -> String {
    format!("(select jsonb_object_agg(d.code, d.name) from {} d)", plan.table("currencies"))
}

/// The choices of an enumeration as a map from ID to label.
pub(super) fn options(plan: &Blueprint, entity: &Entity, field: &str) -> String {
    format!(
        "(select jsonb_object_agg(d.id, d.label) from {} d where d.entity = {} and d.field = {})",
        plan.table("field_options"),
        sql::literal(entity.name),
        sql::literal(field)
    )
}
