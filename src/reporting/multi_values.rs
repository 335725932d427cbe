//! The views of phones, e-mails, websites, messengers and links.

use super::{
    Blueprint,
    meaning::{CALLED, Meaning, called, full_name, label_name, people},
    records::{documented, until_mirrored},
    sql,
    view::{View, ViewColumn},
};
use crate::entity::{Entity, MultiField, SMART_ITEMS};

/// The view of one kind of multi-value, with the name of the record that has it.
pub(super) fn view(
    plan: &Blueprint,
    entity: &'static Entity,
    multi_field: &'static MultiField,
) -> View {
    let parent = entity.key();
    let mut columns = Vec::new();
    for column in plan.tables.iter().filter(|column| column.table == multi_field.table) {
        let mut comment = documented(None, column.comment.as_deref());
        let mut expression = format!("m.{}", sql::name(&column.name));
        if !["id", "value_type", &parent].contains(&column.name.as_str()) {
            comment = plan.noted(entity, &[multi_field.field], &comment);
            let hashed = plan.private(entity, multi_field.field).is_some_and(|one| one.hashed);
            if hashed && column.name == "digits" {
                // Those of a hash are nobody's.
                "null".clone_into(&mut expression);
            }
        }
        columns.push(ViewColumn {
            name: column.name.clone(),
            sql_type: column.sql_type.clone(),
            expression,
            comment,
        });
        let meaning = multi_field.product_rows.and_then(|_| Meaning::of_product_rows(&column.name));
        if let Some(meaning) = meaning {
            columns.push(ViewColumn {
                name: label_name(&column.name),
                sql_type: "text".to_owned(),
                expression: meaning.label(plan, &format!("m.{}", sql::name(&column.name))),
                comment: plan.noted(entity, &[multi_field.field], &meaning.comment(&column.name)),
            });
        }
        if column.name == parent {
            let (name, comment) = called(entity, "t");
            columns.push(ViewColumn {
                name: entity.family().singular.to_owned(),
                sql_type: "text".to_owned(),
                expression: name,
                comment: plan.noted(entity, &CALLED, comment),
            });
        }
        if multi_field.link.is_some_and(|link| link.column == column.name) {
            columns.extend(linked(plan, &column.name));
        }
    }
    let what = multi_field.table.strip_prefix(entity.singular).unwrap_or(multi_field.table);
    let what = what.trim_start_matches('_');
    View {
        schema: plan.report_schema.clone(),
        name: multi_field.table.to_owned(),
        comment: format!(
            "The {what} of {}, one row per value.{}",
            plan.called(entity),
            until_mirrored(
                entity,
                if multi_field.product_rows.is_some() { "product_rows" } else { "enabled" }
            )
        ),
        columns,
        source: format!(
            "from {} m\njoin {} t on t.id = m.{parent}{}\nwhere t.deleted_at is null",
            plan.table(multi_field.table),
            plan.table(entity.name),
            if *entity == SMART_ITEMS { " and t.entity_type_id = m.entity_type_id" } else { "" }
        ),
    }
}

/// The name of what a link leads to.
fn linked(plan: &Blueprint, column: &str) -> Option<ViewColumn> {
    let value = format!("m.{}", sql::name(column));
    let (name, expression, comment) = match column {
        "user_id" => (
            "user_name",
            format!("{} ->> {value}::text", people(plan)),
            "Name of the user; null where the portal hides it.",
        ),
        "contact_id" => (
            "contact",
            format!(
                "(select {} from {} o where o.id = {value})",
                full_name("o"),
                plan.table("contacts")
            ),
            "Full name of the contact, where contacts are mirrored.",
        ),
        "company_id" => (
            "company",
            format!("(select o.title from {} o where o.id = {value})", plan.table("companies")),
            "Name of the company, where companies are mirrored.",
        ),
        _ => return None,
    };
    Some(ViewColumn {
        name: name.to_owned(),
        sql_type: "text".to_owned(),
        expression,
        comment: comment.to_owned(),
    })
}
