//! The views of custom fields: a typed column for each, under a name that people can read.
//!
//! A column is made from what its field holds when it is first seen, and then stays: a field
//! that changes its type gets further columns, and the old ones show what still fits them.
//!
//! # Why the values are read as they are
//! The server would unpack a record's custom fields again for every column that reads them.
//! So a lateral subquery, which `offset 0` keeps the planner from dissolving, unpacks them
//! once per record (`|| '{}'` does nothing else), and a column then costs a look-up: all
//! 800 of a view are about as fast as with `jsonb_to_record`, and a few of them ten times
//! faster, since nothing is done for the others.

mod kind;
mod names;

use std::collections::BTreeSet;

pub use self::kind::Kind;
use super::{
    Blueprint, FieldDescription,
    meaning::{options, people, statuses},
    records::{column_names, until_mirrored},
    sql,
    view::{View, ViewColumn},
};
use crate::entity::Entity;

/// A view has at most 1,664 columns, and a select that joins two of them no more.
const COLUMNS_PER_VIEW: usize = 800;

/// A custom field's column, named for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedColumn {
    /// The entity's plural name.
    pub entity: String,
    /// The column's name; unique among all custom columns of the entity.
    pub name: String,
    /// Which of the entity's views it is in, from 1.
    pub part: i32,
    /// The portal's name of the field.
    pub field: String,
    /// What the column holds of it.
    pub kind: Kind,
    /// Whether it holds several values.
    pub multiple: bool,
    /// What the names of the field's columns begin with.
    pub base: String,
}

/// The names for what has none yet, in the order of their columns.
#[must_use]
pub fn name_columns(
    entity: &'static Entity,
    fields: &[FieldDescription],
    named: &[NamedColumn],
) -> Vec<NamedColumn> {
    let named: Vec<&NamedColumn> =
        named.iter().filter(|column| column.entity == entity.name).collect();
    let mut taken: BTreeSet<String> = column_names(entity).into_iter().collect();
    taken.extend(named.iter().map(|column| column.name.clone()));
    let mut part = named.iter().map(|column| column.part).max().unwrap_or(1);
    let mut filled = named.iter().filter(|column| column.part == part).count();

    let mut new = Vec::new();
    for field in fields.iter().filter(|field| field.entity == entity.name) {
        if field.gone || !is_custom(entity, field) {
            continue;
        }
        let has = |kind: &Kind| {
            named.iter().any(|column| {
                column.field == field.field
                    && column.kind == *kind
                    && column.multiple == field.multiple
            })
        };
        let missing: Vec<Kind> =
            Kind::of(field).iter().copied().filter(|kind| !has(kind)).collect();
        let Some(first) = missing.first() else { continue };
        let base = named.iter().find(|column| column.field == field.field);
        // What is added to a field is told apart by its type.
        let (base, type_word) = match base {
            Some(column) => (column.base.clone(), Some(first.word(field.multiple))),
            None => (names::base(field.telling_label(), &field.field), None),
        };
        let suffixes: Vec<String> = missing
            .iter()
            .map(|kind| format!("{}{}", type_word.as_deref().unwrap_or(""), kind.suffix()))
            .collect();
        let chosen = names::unique(&base, &suffixes, &taken);
        if filled + missing.len() > COLUMNS_PER_VIEW {
            (part, filled) = (part + 1, 0);
        }
        filled += missing.len();
        for (kind, name) in missing.into_iter().zip(chosen) {
            taken.insert(name.clone());
            new.push(NamedColumn {
                entity: entity.name.to_owned(),
                name,
                part,
                field: field.field.clone(),
                kind,
                multiple: field.multiple,
                base: base.clone(),
            });
        }
    }
    new
}

/// Whether a field's values lie in `custom_fields`. Lists do not return the documented fields
/// that hold several values.
fn is_custom(entity: &'static Entity, field: &FieldDescription) -> bool {
    let documented = field.field == "ID"
        || entity.position(&field.field).is_some()
        || entity.multi_fields.iter().any(|multi_field| multi_field.field == field.field);
    field.custom || (!documented && !field.multiple)
}

/// The views of an entity's custom fields: at least one, empty at first, so that people can
/// rely on it.
pub(super) fn views(plan: &Blueprint, entity: &'static Entity) -> Vec<View> {
    let named = plan.names.iter().filter(|column| column.entity == entity.name);
    let parts = named.clone().map(|column| column.part).max().unwrap_or(1);
    let view = |part: i32| {
        let mut columns = vec![ViewColumn {
            name: "id".to_owned(),
            sql_type: "bigint".to_owned(),
            expression: "t.id".to_owned(),
            comment: "The portal's ID.".to_owned(),
        }];
        let own = named.clone().filter(|column| column.part == part);
        columns.extend(own.map(|column| typed(plan, entity, column)));
        let more = if parts > 1 { " There are too many for one view." } else { "" };
        View {
            schema: plan.report_schema.clone(),
            name: match part {
                1 => format!("{}_custom", entity.name),
                _ => format!("{}_custom_{part}", entity.name),
            },
            comment: format!(
                "Custom fields of the {} that the portal has now, one row each.{more}{}",
                plan.called(entity),
                until_mirrored(entity, "enabled")
            ),
            columns,
            source: format!(
                "from {} t\n\
                 cross join lateral (select t.custom_fields || '{{}}'::jsonb as fields offset 0) r\n\
                 where t.deleted_at is null",
                plan.table(entity.name)
            ),
        }
    };
    (1..=parts).map(view).collect()
}

fn typed(plan: &Blueprint, entity: &'static Entity, column: &NamedColumn) -> ViewColumn {
    let field = plan.field(entity, &column.field);
    let shown = |expression: String| ViewColumn {
        name: column.name.clone(),
        sql_type: column.kind.sql_type(column.multiple),
        expression,
        comment: plan.noted(entity, &[&column.field], &comment(column, field)),
    };
    if field.is_none_or(|field| field.gone) {
        // Records keep what they had until they are written again, some sooner than others.
        return shown("null".to_owned());
    }
    let key = sql::literal(&column.field);
    let (text, list) = (format!("(r.fields ->> {key})"), format!("(r.fields -> {key})"));
    let labels = match column.kind {
        Kind::Option => options(plan, entity, &column.field),
        Kind::Person => people(plan),
        Kind::Status => {
            statuses(plan, field.and_then(|field| field.status_type.as_deref()).unwrap_or(""))
        }
        _ => String::new(),
    };
    let call = |one: &str, several: &str| {
        if column.multiple {
            format!("{}({list})", plan.function(several))
        } else {
            format!("{}({text})", plan.function(one))
        }
    };
    let expression = match (column.kind, column.multiple) {
        (Kind::Text | Kind::StatusCode, false) => text.clone(),
        (Kind::Text | Kind::StatusCode, true) => call("", "report_texts"),
        (Kind::Number, _) => call("report_number", "report_numbers"),
        (Kind::Flag, _) => call("report_flag", "report_flags"),
        (Kind::Day, _) => call("report_day", "report_days"),
        (Kind::Time, _) => call("report_time", "report_times"),
        (Kind::Amount, _) => call("report_amount", "report_amounts"),
        (Kind::Currency, _) => call("report_currency", "report_currencies"),
        (Kind::PersonId | Kind::Id, _) => call("report_id", "report_ids"),
        (Kind::Option, false) => format!("coalesce({labels} ->> {text}, {text})"),
        (Kind::Option, true) => {
            format!("{}({list}, {labels})", plan.function("report_labels_or_codes"))
        }
        (Kind::Person | Kind::Status, false) => format!("{labels} ->> {text}"),
        (Kind::Person | Kind::Status, true) => {
            format!("{}({list}, {labels})", plan.function("report_labels"))
        }
    };
    shown(expression)
}

fn comment(column: &NamedColumn, field: Option<&FieldDescription>) -> String {
    let code = &column.field;
    let mut text = match field.and_then(FieldDescription::telling_label) {
        Some(label) => format!("{label}. Field {code}"),
        None => format!("Field {code}"),
    };
    if let Some(note) = column.kind.note() {
        text.push_str(": ");
        text.push_str(note);
    }
    match field {
        Some(field) if !field.gone => {
            let several = if field.multiple { ", several values" } else { "" };
            text.extend([" (in the portal ", &field.kind, several, ")."]);
        }
        _ => text.push_str(". The portal no longer has it."),
    }
    text
}

#[cfg(test)]
mod tests;
