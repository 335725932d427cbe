//! The rows of dictionaries, as their tables hold them.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::entity::{Entity, smart_process};

/// One row of a dictionary, as its table holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key and its columns.
    pub row: EntryRow,
    /// The fields whose values could not be read; they are NULL, or what is usual.
    pub unread: Vec<&'static str>,
}

/// The columns of an entry. Their names are those of the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum EntryRow {
    /// An entry of a directory.
    Status(Status),
    /// A person.
    User(User),
    /// A department.
    Department(Department),
    /// A currency.
    Currency(Currency),
    /// A pipeline.
    Pipeline(Pipeline),
    /// A smart process.
    SmartProcess(SmartProcess),
}

impl EntryRow {
    /// What distinguishes it from all others: for statuses the directory and the code, for
    /// pipelines what they are of and the ID.
    #[must_use]
    pub fn key(&self) -> (Cow<'_, str>, String) {
        match self {
            Self::Status(status) => (Cow::Borrowed(&status.directory), status.code.clone()),
            Self::User(user) => (Cow::default(), user.id.to_string()),
            Self::Department(department) => (Cow::default(), department.id.to_string()),
            Self::Currency(currency) => (Cow::default(), currency.code.clone()),
            Self::Pipeline(pipeline) => {
                (Cow::Owned(pipeline.entity_type_id.to_string()), pipeline.id.to_string())
            }
            Self::SmartProcess(process) => (Cow::default(), process.entity_type_id.to_string()),
        }
    }

    /// The items of a smart process. The portal may list kinds of records that are none to us.
    #[must_use]
    pub fn items(&self) -> Option<&'static Entity> {
        let Self::SmartProcess(process) = self else { return None };
        smart_process(u32::try_from(process.entity_type_id).ok()?)
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The directory, the portal's `ENTITY_ID`.
    pub directory: String,
    /// What records hold, the portal's `STATUS_ID`.
    pub code: String,
    /// The portal's ID of the entry.
    pub id: Option<i64>,
    /// What people see; the code where the portal has nothing.
    pub name: String,
    /// The portal's order.
    pub sort: Option<i32>,
    /// `S` or `F` where the stage is an end.
    pub semantics: Option<String>,
    /// The colour.
    pub color: Option<String>,
    /// The pipeline that it belongs to.
    pub category_id: Option<i64>,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// The portal's ID.
    pub id: i64,
    /// Name and last name; the e-mail, then the ID, where the portal gives neither.
    pub full_name: String,
    /// First name.
    pub name: Option<String>,
    /// Middle name.
    pub second_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// E-mail.
    pub email: Option<String>,
    /// Position.
    pub work_position: Option<String>,
    /// The departments' IDs.
    pub department_ids: Vec<i64>,
    /// Whether the person may log in; so where the portal does not say otherwise.
    pub active: bool,
}

/// A department.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Department {
    /// The portal's ID.
    pub id: i64,
    /// What people see; the ID where the portal has nothing.
    pub name: String,
    /// The portal's order.
    pub sort: Option<i32>,
    /// The department above.
    pub parent_id: Option<i64>,
    /// The user who leads it.
    pub head_id: Option<i64>,
}

/// A currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Currency {
    /// What records hold.
    pub code: String,
    /// What people see; the code where the portal has nothing.
    pub name: String,
    /// What [`Self::rate_amount`] of it is worth in the base currency; a decimal number.
    pub rate: Option<String>,
    /// The number of units that the rate is given for; a decimal number.
    pub rate_amount: Option<String>,
    /// Whether it is the base currency.
    pub base: bool,
    /// Digits after the point.
    pub decimals: Option<i32>,
    /// The portal's order.
    pub sort: Option<i32>,
}

/// A pipeline, which the portal also calls a category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pipeline {
    /// The number of the records that it is of: 2 for deals.
    pub entity_type_id: i64,
    /// The portal's ID, unique among those of the same records; the first one of deals has 0.
    pub id: i64,
    /// What people see; the ID where the portal has nothing.
    pub name: String,
    /// The portal's order.
    pub sort: Option<i32>,
    /// Whether new records go there where nothing else is said.
    pub is_default: bool,
}

/// A smart process: a kind of records that people have made up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SmartProcess {
    /// The number by which its items are asked for.
    pub entity_type_id: i64,
    /// The portal's ID of it, which the names of its user fields hold.
    pub id: Option<i64>,
    /// What people see; the number where the portal has nothing.
    pub title: String,
    /// Its code, where it has one.
    pub code: Option<String>,
    /// What is switched on, by the portal's names, in their order.
    pub switches: Vec<String>,
    /// When it was made.
    pub created_time: Option<DateTime<Utc>>,
    /// When its settings were changed last.
    pub updated_time: Option<DateTime<Utc>>,
}
