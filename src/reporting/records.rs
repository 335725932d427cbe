//! The view of an entity's records: every documented column, with its label beside it.

use super::{
    Blueprint, FieldDescription,
    meaning::{Meaning, NAMES, full_name, label_name},
    sql,
    view::{View, ViewColumn},
};
use crate::entity::{Entity, MultiField, SMART_ITEMS};

/// The view of an entity's live records.
pub(super) fn view(plan: &Blueprint, entity: &'static Entity) -> View {
    let comments = plan.comments(entity.name);
    let shown = |name: &str, sql_type: &str, expression: String, comment: String| ViewColumn {
        name: name.to_owned(),
        sql_type: sql_type.to_owned(),
        expression,
        comment,
    };
    let mut columns = Vec::new();
    if *entity == SMART_ITEMS {
        let comment = comments.get("entity_type_id").copied();
        let number = "t.entity_type_id";
        columns.push(shown(
            "entity_type_id",
            "bigint",
            number.to_owned(),
            documented(None, comment),
        ));
        let titles = format!(
            "(select jsonb_object_agg(d.entity_type_id::text, d.title) from {} d) ->> {number}::text",
            plan.table("smart_processes")
        );
        let comment = "Title of the smart process in entity_type_id.".to_owned();
        columns.push(shown("smart_process", "text", titles, comment));
    }
    columns.push(shown(
        "id",
        "bigint",
        "t.id".to_owned(),
        documented(None, comments.get("id").copied()),
    ));
    for column in entity.columns {
        let label = plan.field(entity, column.field).and_then(FieldDescription::telling_label);
        let value = format!("t.{}", sql::name(column.name));
        let noted = |text: String| plan.noted(entity, &[column.field], &text);
        columns.push(shown(
            column.name,
            column.kind.sql_type(),
            value.clone(),
            noted(documented(label, comments.get(column.name).copied())),
        ));
        if let Some(meaning) = Meaning::of(entity, column) {
            let name = label_name(column.name);
            columns.push(shown(
                &name,
                "text",
                meaning.label(plan, &value),
                noted(documented(label, Some(&meaning.comment(column.name)))),
            ));
        }
    }
    let own = |name: &str, sql_type: &str, expression: String, of: &[&str], comment: &str| {
        shown(name, sql_type, expression, plan.noted(entity, of, comment))
    };
    if entity.position("LAST_NAME").is_some() {
        let comment = "First, middle and last name.";
        columns.push(own("full_name", "text", full_name("t"), &NAMES, comment));
    }
    if let Some(phones) = multi_field(entity, "PHONE") {
        let (first, all) = values(plan, entity, phones, "value");
        columns.push(own(
            "first_phone",
            "text",
            first,
            &["PHONE"],
            "The first phone, as it was typed.",
        ));
        columns.push(own("phones", "text[]", all, &["PHONE"], "Every phone, as it was typed."));
    }
    if let Some(emails) = multi_field(entity, "EMAIL") {
        let (first, all) = values(plan, entity, emails, "address");
        columns.push(own(
            "first_email",
            "text",
            first,
            &["EMAIL"],
            "The first e-mail, in lower case.",
        ));
        columns.push(own("emails", "text[]", all, &["EMAIL"], "Every e-mail, in lower case."));
    }
    View {
        schema: plan.report_schema.clone(),
        name: entity.name.to_owned(),
        comment: format!(
            "The {} that the portal has now, one row each, with names beside codes. {}{}",
            plan.called(entity),
            if *entity == SMART_ITEMS {
                "Those of the process n stand in smart_items_n, too, and their custom fields in \
                 smart_items_n_custom."
                    .to_owned()
            } else {
                format!("Their custom fields are in {}_custom.", entity.name)
            },
            until_mirrored(entity, "enabled")
        ),
        columns,
        source: format!("from {} t\nwhere t.deleted_at is null", plan.table(entity.name)),
    }
}

/// The names of the view's columns, which custom fields must not take.
pub(super) fn column_names(entity: &'static Entity) -> Vec<String> {
    let own = ["id", "full_name", "first_phone", "phones", "first_email", "emails"];
    let mut names: Vec<String> = own.map(str::to_owned).to_vec();
    for column in entity.columns {
        names.push(column.name.to_owned());
        names.extend(Meaning::of(entity, column).map(|_| label_name(column.name)));
    }
    names
}

fn multi_field(entity: &'static Entity, field: &str) -> Option<&'static MultiField> {
    entity.multi_fields.iter().find(|multi_field| multi_field.field == field)
}

/// The first value and the array of all.
fn values(
    plan: &Blueprint,
    entity: &Entity,
    multi_field: &MultiField,
    column: &str,
) -> (String, String) {
    let from = format!(
        "from {} m where m.{} = t.id and m.{column} is not null order by m.id",
        plan.table(multi_field.table),
        entity.key()
    );
    (format!("(select m.{column} {from} limit 1)"), format!("array(select m.{column} {from})"))
}

/// Why a view may be empty, for what is mirrored only where somebody asks for it. True whatever
/// the settings say, now or later, since the views are there in any case.
pub(super) fn until_mirrored(entity: &'static Entity, key: &str) -> String {
    // The tables of a smart process are made when it is mirrored.
    let is_asked_for = entity.smart_process().is_none() && !Entity::BY_DEFAULT.contains(&entity);
    if is_asked_for || key != "enabled" {
        format!(" Empty until they are mirrored (`entities.{}.{key}`).", entity.family().name)
    } else {
        String::new()
    }
}

/// What a column says of itself: the portal's label, then what we know of it.
pub(super) fn documented(label: Option<&str>, doc: Option<&str>) -> String {
    match (label, doc) {
        (Some(label), Some(doc)) => format!("{label}. {doc}"),
        (Some(label), None) => label.to_owned(),
        (None, Some(doc)) => doc.to_owned(),
        (None, None) => String::new(),
    }
}
