//! What the codes and numbers in documented columns stand for.

use super::{Blueprint, sql};
use crate::entity::{Column, Entity, dictionary::Explained};

/// Where the label of a column's value is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A code, a user or a currency.
    Explained(Explained),
    /// How a stage ends.
    Semantics,
    /// A company.
    Company,
    /// A deal.
    Deal,
    /// A quote.
    Quote,
    /// A contact.
    Contact,
    /// A lead.
    Lead,
    /// A smart invoice.
    SmartInvoice,
}

impl Meaning {
    /// The meaning of a documented column; `None` where the value speaks for itself, or for
    /// something that is not mirrored.
    pub(super) fn of(entity: &Entity, column: &Column) -> Option<Self> {
        if let Some(explained) = entity.explained(column) {
            return Some(Self::Explained(explained));
        }
        // By the columns' names: those of links say what they link to, whatever the portal's do.
        Some(match column.name {
            "status_semantic_id" | "stage_semantic_id" => Self::Semantics,
            "contact_id" => Self::Contact,
            "lead_id" => Self::Lead,
            "company_id" | "mycompany_id" => Self::Company,
            "deal_id" => Self::Deal,
            "quote_id" => Self::Quote,
            "smart_invoice_id" => Self::SmartInvoice,
            _ => return None,
        })
    }

    /// The label of `value`, an SQL expression.
    pub(super) fn label(self, plan: &Blueprint, value: &str) -> String {
        match self {
            Self::Explained(Explained::User) => {
                format!("{} ->> {value}::text", people(plan))
            }
            Self::Explained(Explained::Currency) => format!("{} ->> {value}", currencies(plan)),
            Self::Explained(Explained::Pipeline) => format!(
                "(select jsonb_object_agg(d.id::text, d.name) from {} d) ->> {value}::text",
                plan.table("pipelines")
            ),
            Self::Explained(directory) => {
                format!("{} ->> {value}", directories(plan, directory))
            }
            Self::Semantics => format!(
                "case {value} when 'P' then 'in progress' when 'S' then 'successful' \
                 when 'F' then 'failed' end"
            ),
            Self::Company => titled(plan, "companies", value),
            Self::Deal => titled(plan, "deals", value),
            Self::Quote => titled(plan, "quotes", value),
            Self::SmartInvoice => titled(plan, "smart_invoices", value),
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
            Self::Explained(Explained::User) => {
                format!("Name of the user in {of}; null where the portal hides it.")
            }
            Self::Explained(Explained::Currency) => format!("Name of the currency in {of}."),
            Self::Explained(Explained::Pipeline) => format!("Name of the pipeline in {of}."),
            Self::Explained(_) => format!("What people see for {of}."),
            Self::Company => format!("Name of the company in {of}, where companies are mirrored."),
            Self::Deal => format!("Title of the deal in {of}, where deals are mirrored."),
            Self::Quote => format!("Title of the quote in {of}, where quotes are mirrored."),
            Self::SmartInvoice => {
                format!("Title of the invoice in {of}, where smart invoices are mirrored.")
            }
            Self::Semantics => "in progress, successful or failed.".to_owned(),
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

/// What people call a record: its title, or the name of the person that it is about.
pub(super) fn called(entity: &Entity, row: &str) -> (String, &'static str) {
    match (entity.position("TITLE"), entity.position("LAST_NAME")) {
        (Some(_), Some(_)) => {
            let name = format!("coalesce({row}.title, {})", full_name(row));
            (name, "Title of the lead, or the name in it.")
        }
        (Some(_), None) => (format!("{row}.title"), "Its title."),
        (None, _) => (full_name(row), "Full name of the contact."),
    }
}

/// The fields that make a full name.
pub(super) const NAMES: [&str; 3] = ["NAME", "SECOND_NAME", "LAST_NAME"];

/// The fields of which one is what a record is called by.
pub(super) const CALLED: [&str; 4] = ["TITLE", "NAME", "SECOND_NAME", "LAST_NAME"];

/// The full name of a contact or of the person in a lead.
pub(super) fn full_name(row: &str) -> String {
    format!("nullif(btrim(concat_ws(' ', {row}.name, {row}.second_name, {row}.last_name)), '')")
}

/// The title of another record.
fn titled(plan: &Blueprint, table: &str, value: &str) -> String {
    format!("(select o.title from {} o where o.id = {value})", plan.table(table))
}

/// A directory as a map from code to name.
pub(super) fn statuses(plan: &Blueprint, directory: &str) -> String {
    named_codes(plan, &format!("d.directory = {}", sql::literal(directory)))
}

/// A directory, or those of all pipelines, as a map from code to name.
fn directories(plan: &Blueprint, explained: Explained) -> String {
    let name = explained.directory();
    match explained {
        Explained::Stages(_) => {
            let pattern = sql::literal(&format!("{}\\_%", name.replace('_', "\\_")));
            let own = sql::literal(name);
            named_codes(plan, &format!("d.directory = {own} or d.directory like {pattern}"))
        }
        _ => statuses(plan, name),
    }
}

fn named_codes(plan: &Blueprint, condition: &str) -> String {
    format!(
        "(select jsonb_object_agg(d.code, d.name) from {} d where {condition})",
        plan.table("statuses")
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
