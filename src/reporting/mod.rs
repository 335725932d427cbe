//! What people query: views with names in place of codes, what they say of themselves, and
//! the indexes that make the answers come at once.
//!
//! This module promises that
//! - the views follow from the declarations, the portal's field descriptions and the names
//!   given before: the same input gives the same statements;
//! - a column keeps its name, type and place for good, so that what people build upon a view
//!   goes on working;
//! - no text of the portal becomes part of a statement but as a quoted name or literal.
//!
//! It does no IO: [`crate::store`] reads what it needs and runs its statements, and
//! [`crate::sync`] decides when.
//!
//! # How labels are found
//! By maps: `(select jsonb_object_agg(code, name) from statuses …) ->> source_id`. The server
//! makes such a map once per query, and only for columns that the query uses. Joins would be
//! planned with every query upon the view, and a dozen of them spoils its plan.

pub mod custom;
pub mod indexes;
mod meaning;
mod multi_values;
pub mod page;
pub mod ready;
mod records;
mod sql;
mod view;

use std::collections::BTreeMap;

use self::ready::Place;
pub use self::{
    custom::NamedColumn,
    view::{Existing, View},
};
use crate::entity::{Entity, SMART_ITEMS};

/// What the views need to know of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportOptions {
    /// The schema of the views.
    pub schema: String,
    /// The time zone in which reports count days, by its IANA name; the portal's own if none
    /// is set.
    pub time_zone: Option<String>,
    /// The country of phone numbers that name none; the portal's own if none is set.
    pub default_region: Option<String>,
}

/// One field as the portal last described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDescription {
    /// The entity's plural name.
    pub entity: String,
    /// The portal's name of it.
    pub field: String,
    /// The portal's type word.
    pub kind: String,
    /// What people see in the portal.
    pub label: Option<String>,
    /// Whether it holds several values.
    pub multiple: bool,
    /// Whether it is a user field.
    pub custom: bool,
    /// The directory of a `crm_status` field.
    pub status_type: Option<String>,
    /// Whether the portal no longer has it.
    pub gone: bool,
}

impl FieldDescription {
    /// The label, where it says more than the field's own name.
    fn telling_label(&self) -> Option<&str> {
        let label = self.label.as_deref()?.trim();
        (!label.is_empty() && label != self.field).then_some(label)
    }
}

/// A field that is not stored as it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateField {
    /// The entity's plural name.
    pub entity: String,
    /// The portal's name of it.
    pub field: String,
    /// Whether its hash is stored; nothing is otherwise.
    pub hashed: bool,
}

impl PrivateField {
    /// What a column says of itself that shows the field.
    const fn note(&self) -> &'static str {
        if self.hashed {
            "Hashed: only a keyed hash of it is stored."
        } else {
            "Left out: it is not stored."
        }
    }
}

/// A column of one of the mirror's own tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// The table.
    pub table: String,
    /// The column.
    pub name: String,
    /// Its type, as PostgreSQL spells it.
    pub sql_type: String,
    /// What it says of itself.
    pub comment: Option<String>,
}

/// Everything that the views follow from.
#[derive(Debug, Clone)]
pub struct Blueprint {
    /// The schema of the mirror's own tables.
    pub data_schema: String,
    /// The schema of the views.
    pub report_schema: String,
    /// The time zone in which reports count days.
    pub time_zone: String,
    /// Every field of every entity.
    pub fields: Vec<FieldDescription>,
    /// The columns of the mirror's tables, in their order.
    pub tables: Vec<TableColumn>,
    /// The fields that are left out or hashed.
    pub private: Vec<PrivateField>,
    /// The names that custom fields have, in the order of their columns.
    pub names: Vec<NamedColumn>,
    /// The smart processes whose items have tables, with their titles.
    pub processes: Vec<(&'static Entity, String)>,
}

impl Blueprint {
    /// Every view, each before those that are made of it.
    #[must_use]
    pub fn views(&self) -> Vec<View> {
        let mut views = Vec::new();
        let processes = self.processes.iter().map(|(entity, _)| *entity);
        for entity in Entity::ALL.into_iter().chain([&SMART_ITEMS]).chain(processes) {
            views.push(records::view(self, entity));
            for multi_field in entity.multi_fields {
                views.push(multi_values::view(self, entity, multi_field));
            }
            // Custom fields are those of one process.
            if *entity != SMART_ITEMS {
                views.extend(custom::views(self, entity));
            }
        }
        views.extend(ready::views().iter().map(|report| report.view(self.place())));
        views
    }

    fn place(&self) -> Place<'_> {
        Place {
            data_schema: &self.data_schema,
            report_schema: &self.report_schema,
            time_zone: &self.time_zone,
        }
    }

    /// An entity as sentences name it.
    fn called(&self, entity: &'static Entity) -> String {
        match self.processes.iter().find(|(own, _)| *own == entity) {
            Some((_, title)) => format!("items of the smart process \u{201c}{title}\u{201d}"),
            None if *entity == SMART_ITEMS => "items of all smart processes".to_owned(),
            None => entity.name.to_owned(),
        }
    }

    fn table(&self, table: &str) -> String {
        format!("{}.{}", sql::name(&self.data_schema), sql::name(table))
    }

    fn function(&self, name: &str) -> String {
        format!("{}.{name}", sql::name(&self.data_schema))
    }

    fn field(&self, entity: &Entity, field: &str) -> Option<&FieldDescription> {
        self.fields.iter().find(|known| known.entity == entity.name && known.field == field)
    }

    fn private(&self, entity: &Entity, field: &str) -> Option<&PrivateField> {
        self.private.iter().find(|known| known.entity == entity.name && known.field == field)
    }

    /// What a column says of itself, and that one of the fields in it is not shown as it is.
    fn noted(&self, entity: &Entity, fields: &[&str], text: &str) -> String {
        let hidden: Vec<_> = fields
            .iter()
            .filter_map(|field| Some((*field, self.private(entity, field)?)))
            .collect();
        let notes: Vec<String> = match (hidden.as_slice(), fields.len()) {
            ([(_, private)], 1) => vec![private.note().to_owned()],
            (several, _) => several
                .iter()
                .map(|(field, private)| format!("{field}: {}", private.note()))
                .collect(),
        };
        let text = (!text.is_empty()).then(|| text.to_owned());
        text.into_iter().chain(notes).collect::<Vec<_>>().join(" ")
    }

    /// The comments of a table's columns.
    fn comments(&self, table: &str) -> BTreeMap<&str, &str> {
        let columns = self.tables.iter().filter(|column| column.table == table);
        columns
            .filter_map(|column| Some((column.name.as_str(), column.comment.as_deref()?)))
            .collect()
    }
}

impl Default for ReportOptions {
    /// As without any setting.
    fn default() -> Self {
        Self { schema: "bitrix24_report".to_owned(), time_zone: None, default_region: None }
    }
}
