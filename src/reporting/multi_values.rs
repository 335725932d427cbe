//! The views of phones, e-mails, websites, messengers and links.

use super::{
    Blueprint,
    meaning::full_name,
    records::documented,
    sql,
    view::{View, ViewColumn},
};
use crate::entity::{Entity, MultiField};

/// The view of one kind of multi-value, with the name of the record that has it.
pub(super) fn view(
    plan: &Blueprint,
    entity: &'static Entity,
    multi_field: &'static MultiField,
) -> View {
    let parent = format!("{}_id", entity.singular);
    let mut columns = Vec::new();
    for column in plan.tables.iter().filter(|column| column.table == multi_field.table) {
        columns.push(ViewColumn {
            name: column.name.clone(),
            sql_type: column.sql_type.clone(),
            expression: format!("m.{}", sql::name(&column.name)),
            comment: documented(None, column.comment.as_deref()),
        });
        if column.name == parent {
            let (name, comment) = if entity.position("TITLE").is_some() {
                (
                    format!("coalesce(t.title, {})", full_name("t")),
                    "Title of the lead, or the name in it.",
                )
            } else {
                (full_name("t"), "Full name of the contact.")
            };
            columns.push(ViewColumn {
                name: entity.singular.to_owned(),
                sql_type: "text".to_owned(),
                expression: name,
                comment: comment.to_owned(),
            });
        }
    }
    let (_, what) = multi_field.table.split_once('_').unwrap_or(("", multi_field.table));
    View {
        schema: plan.report_schema.clone(),
        name: multi_field.table.to_owned(),
        comment: format!("The {what} of {}, one row per value.", entity.name),
        columns,
        source: format!(
            "from {} m\njoin {} t on t.id = m.{parent}\nwhere t.deleted_at is null",
            plan.table(multi_field.table),
            plan.table(entity.name)
        ),
    }
}
