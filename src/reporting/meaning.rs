//! What the codes and numbers in documented columns stand for.

use super::{Blueprint, sql};
use crate::entity::{
    ACTIVITIES, Column, DEAL_STAGE_HISTORY, Entity, LEAD_STAGE_HISTORY, QUOTES,
    SMART_INVOICE_STAGE_HISTORY, SMART_ITEMS,
    dictionary::{ALL_PROCESSES, Explained},
};

/// Where the label of a column's value is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A code, a user or a currency.
    Explained(Explained),
    /// How a stage ends.
    Semantics,
    /// A number that the vendor's own pages explain, and no directory.
    Words(&'static Words),
    /// What kind of record an activity is about.
    OwnerType,
    /// The record that an activity is about.
    Owner,
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

/// What the numbers of a column stand for.
type Words = [(i64, &'static str)];

/// Records of these kinds have activities (vendor page `crm/data-types`, object types).
const OWNERS: &Words = &[
    (1, "lead"),
    (2, "deal"),
    (3, "contact"),
    (4, "company"),
    (7, "quote"),
    (31, "smart invoice"),
];

/// Numbers of activities (vendor pages `crm_enum_activitytype` and its neighbours).
const TYPES: &Words =
    &[(1, "meeting"), (2, "call"), (3, "task"), (4, "e-mail"), (5, "event"), (6, "other")];
const DIRECTIONS: &Words = &[(1, "incoming"), (2, "outgoing")];
const STATES: &Words = &[(1, "waiting"), (2, "done"), (3, "done by itself")];
const PRIORITIES: &Words = &[(1, "low"), (2, "medium"), (3, "high")];
const UNITS: &Words = &[(1, "minutes"), (2, "hours"), (3, "days")];

/// How a text is written (vendor pages `crm/data-types`, `universal/object-fields`).
const FORMATS: &Words = &[(1, "plain text"), (2, "BBCode"), (3, "HTML")];

/// Numbers of product rows (vendor page `crm/data-types`, `crm_item_product_row`).
const PRODUCTS: &Words = &[
    (1, "simple product"),
    (2, "bundle"),
    (3, "product with offers"),
    (4, "offer"),
    (5, "offer without a product"),
    (6, "invalid product with offers"),
    (7, "service"),
];
const DISCOUNTS: &Words = &[(1, "amount"), (2, "percentage")];

/// What a step through the stages was (vendor page `crm-stage-history-list`).
const STEPS: &Words = &[(1, "created"), (2, "moved on"), (3, "ended"), (5, "moved to a pipeline")];

/// The words for a column's numbers, where the vendor's pages have them.
fn words(entity: &Entity, column: &Column) -> Option<&'static Words> {
    let is_step = [&LEAD_STAGE_HISTORY, &DEAL_STAGE_HISTORY, &SMART_INVOICE_STAGE_HISTORY]
        .iter()
        .any(|steps| **steps == *entity);
    match column.name {
        "type_id" if is_step => Some(STEPS),
        "content_type" | "terms_type" | "comments_type" if *entity == QUOTES => Some(FORMATS),
        _ if *entity != ACTIVITIES => None,
        "description_type" => Some(FORMATS),
        "type_id" => Some(TYPES),
        "direction" => Some(DIRECTIONS),
        "status" => Some(STATES),
        "priority" => Some(PRIORITIES),
        "notify_type" => Some(UNITS),
        _ => None,
    }
}

impl Meaning {
    /// The meaning of a column of product rows.
    pub(super) fn of_product_rows(column: &str) -> Option<Self> {
        Some(Self::Words(match column {
            "type" => PRODUCTS,
            "discount_type_id" => DISCOUNTS,
            _ => return None,
        }))
    }

    /// The meaning of a documented column; `None` where the value speaks for itself, or for
    /// something that is not mirrored.
    pub(super) fn of(entity: &Entity, column: &Column) -> Option<Self> {
        if let Some(explained) = entity.explained(column) {
            return Some(Self::Explained(explained));
        }
        if let Some(words) = words(entity, column) {
            return Some(Self::Words(words));
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
            "owner_type_id" if *entity == ACTIVITIES => Self::OwnerType,
            "owner_id" if *entity == ACTIVITIES => Self::Owner,
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
            Self::Explained(Explained::Pipeline(kind)) => pipelines(plan, kind, value),
            Self::Explained(directory) => {
                format!("{} ->> {value}", directories(plan, directory))
            }
            Self::Semantics => format!(
                "case {value} when 'P' then 'in progress' when 'S' then 'successful' \
                 when 'F' then 'failed' end"
            ),
            Self::Words(words) => in_words(words, value, ""),
            Self::OwnerType => {
                let titles = format!(
                    "else (select jsonb_object_agg(d.entity_type_id::text, d.title) from {} d) \
                     ->> {value}::text ",
                    plan.table("smart_processes")
                );
                in_words(OWNERS, value, &titles)
            }
            Self::Owner => {
                let owner = |(number, meaning): (i64, Self)| {
                    format!("when {number} then {} ", meaning.label(plan, value))
                };
                let owners = [
                    (1, Self::Lead),
                    (2, Self::Deal),
                    (3, Self::Contact),
                    (4, Self::Company),
                    (7, Self::Quote),
                    (31, Self::SmartInvoice),
                ];
                let owners: String = owners.into_iter().map(owner).collect();
                let items = format!(
                    "(select o.title from {} o where o.entity_type_id = t.owner_type_id \
                     and o.id = {value})",
                    plan.table(SMART_ITEMS.name)
                );
                format!("case t.owner_type_id {owners}else {items} end")
            }
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

    /// What the label's column says of itself, by the name of the column that it explains.
    pub(super) fn comment(self, of: &str) -> String {
        match self {
            Self::Explained(Explained::User) => {
                format!("Name of the user in {of}; null where the portal hides it.")
            }
            Self::Explained(Explained::Currency) => format!("Name of the currency in {of}."),
            Self::Explained(Explained::Pipeline(_)) => format!("Name of the pipeline in {of}."),
            Self::Explained(_) => format!("What people see for {of}."),
            Self::Company => format!("Name of the company in {of}, where companies are mirrored."),
            Self::Deal => format!("Title of the deal in {of}, where deals are mirrored."),
            Self::Quote => format!("Title of the quote in {of}, where quotes are mirrored."),
            Self::SmartInvoice => {
                format!("Title of the invoice in {of}, where smart invoices are mirrored.")
            }
            Self::Semantics => "in progress, successful or failed.".to_owned(),
            Self::Words(words) => format!("{of} in words: {}.", listed(words)),
            Self::OwnerType => {
                format!("{of} in words: {}, or the title of a smart process.", listed(OWNERS))
            }
            Self::Owner => {
                "What the record in owner_id is called, where such are mirrored.".to_owned()
            }
            Self::Contact => format!("Full name of the contact in {of}."),
            Self::Lead => format!("Title of the lead in {of}, or the name in it."),
        }
    }
}

/// The name of the column that holds a column's label.
pub(super) fn label_name(column: &str) -> String {
    match column.strip_suffix("_id") {
        Some(rest) => rest.to_owned(),
        None => format!("{column}_name"),
    }
}

/// The word for the number in `value`.
fn in_words(words: &Words, value: &str, otherwise: &str) -> String {
    let word = |(number, word): &(i64, &str)| format!("when {number} then {} ", sql::literal(word));
    let words: String = words.iter().map(word).collect();
    format!("case {value} {words}{otherwise}end")
}

fn listed(words: &Words) -> String {
    words.iter().map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
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
            let own = sql::literal(&name);
            named_codes(plan, &format!("d.directory = {own} or d.directory like {pattern}"))
        }
        _ => statuses(plan, &name),
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

/// The name of a pipeline. Other records may have one of the same ID.
fn pipelines(plan: &Blueprint, kind: u32, value: &str) -> String {
    let table = plan.table("pipelines");
    if kind == ALL_PROCESSES {
        return format!(
            "(select jsonb_object_agg(d.entity_type_id || ' ' || d.id, d.name) from {table} d) \
             ->> (t.entity_type_id || ' ' || {value})"
        );
    }
    format!(
        "(select jsonb_object_agg(d.id::text, d.name) from {table} d \
         where d.entity_type_id = {kind}) ->> {value}::text"
    )
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
