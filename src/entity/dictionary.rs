//! What the codes in records mean: directories, people, departments, currencies.
//!
//! Their rows are few and small, so they are read whole. The readers are as lenient as
//! those of records: a value that cannot be read is left out, and only a row without a
//! usable key is no entry.

use std::{borrow::Cow, collections::BTreeSet};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Entity, SMART_ITEMS,
    column::{Column, ColumnType},
    json::{Raw, raw::Shape},
    record,
    value::{self, Unreadable},
};

/// A list of the portal's that explains codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dictionary {
    /// Every directory of codes: lead stages, sources, contact types and the rest.
    Statuses,
    /// People.
    Users,
    /// The tree of departments.
    Departments,
    /// Currencies with their rates.
    Currencies,
    /// The pipelines of deals and of whatever else has some.
    Pipelines,
    /// The smart processes, which decide what is mirrored of their items.
    SmartProcesses,
}

impl Dictionary {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 6] = [
        Self::Statuses,
        Self::Users,
        Self::Departments,
        Self::Currencies,
        Self::Pipelines,
        Self::SmartProcesses,
    ];

    /// Those that explain what these entities hold, in their order, and what smart processes
    /// there are if those are among them.
    #[must_use]
    pub fn explaining(entities: &[&'static Entity]) -> Vec<Self> {
        let needed: BTreeSet<Self> = entities
            .iter()
            .flat_map(|entity| entity.coded())
            .map(|(_, explained)| explained.dictionary())
            // Where people belong.
            .chain([Self::Departments])
            .chain(entities.contains(&&SMART_ITEMS).then_some(Self::SmartProcesses))
            .collect();
        needed.into_iter().collect()
    }

    /// The name of its table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Statuses => "statuses",
            Self::Users => "users",
            Self::Departments => "departments",
            Self::Currencies => "currencies",
            Self::Pipelines => "pipelines",
            Self::SmartProcesses => "smart_processes",
        }
    }

    /// Finds a dictionary by the name of its table.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dictionary| dictionary.name() == name)
    }

    /// The method that lists it.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Statuses => "crm.status.list",
            Self::Users => "user.get",
            Self::Departments => "department.get",
            Self::Currencies => "crm.currency.list",
            Self::Pipelines => "crm.category.list",
            Self::SmartProcesses => "crm.type.list",
        }
    }

    /// The right that the webhook needs for it, as the vendor's pages of the methods name it.
    #[must_use]
    pub const fn scope(self) -> &'static str {
        match self {
            Self::Statuses | Self::Currencies | Self::Pipelines | Self::SmartProcesses => "crm",
            Self::Users => "user",
            Self::Departments => "department",
        }
    }

    /// What people do not see where it cannot be read.
    #[must_use]
    pub const fn explains(self) -> &'static str {
        match self {
            Self::Statuses => "the names of stages, sources and contact types",
            Self::Users => "the names of people",
            Self::Departments => "the names of departments",
            Self::Currencies => "the names of currencies",
            Self::Pipelines => "the names of pipelines",
            Self::SmartProcesses => "the smart processes",
        }
    }

    /// Reads a row of the portal's list.
    ///
    /// # Errors
    /// [`NoKey`] for a row that is no object or that says nothing usable of what it is.
    pub fn read(self, row: &RawValue) -> Result<Entry, NoKey> {
        let mut row = Row::new(row);
        match self {
            Self::Statuses => row.status(),
            Self::Users => row.user(),
            Self::Departments => row.department(),
            Self::Currencies => row.currency(),
            Self::Pipelines => row.pipeline(),
            Self::SmartProcesses => row.smart_process(),
        }
        .ok_or(NoKey { dictionary: self })
    }
}

/// What explains the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Explained {
    /// The directory of this name.
    Directory(&'static str),
    /// The directories of an entity's pipelines, each of which has stages of its own: that of
    /// this name, and those whose names go on with `_` and the pipeline's ID. No two of them
    /// have a code in common.
    Stages(&'static str),
    /// The people.
    User,
    /// The currencies.
    Currency,
    /// The pipelines of the records that have this number (`entityTypeId`); those of smart
    /// processes, each its own, for [`ALL_PROCESSES`].
    Pipeline(u32),
}

/// Stands for the numbers of all smart processes, as in [`SMART_ITEMS`].
pub const ALL_PROCESSES: u32 = 0;

impl Explained {
    /// The dictionary that has it.
    #[must_use]
    pub const fn dictionary(self) -> Dictionary {
        match self {
            Self::Directory(_) | Self::Stages(_) => Dictionary::Statuses,
            Self::User => Dictionary::Users,
            Self::Currency => Dictionary::Currencies,
            Self::Pipeline(_) => Dictionary::Pipelines,
        }
    }

    /// The name of the directory, of several the first; for pipelines the number of the records
    /// that they are of; empty for other dictionaries.
    #[must_use]
    pub fn directory(self) -> Cow<'static, str> {
        match self {
            Self::Directory(directory) | Self::Stages(directory) => Cow::Borrowed(directory),
            Self::Pipeline(kind) => Cow::Owned(kind.to_string()),
            Self::User | Self::Currency => Cow::Borrowed(""),
        }
    }

    /// What explains the codes of a directory, if any column holds such.
    #[must_use]
    pub fn of(dictionary: Dictionary, directory: &str) -> Option<Self> {
        if dictionary == Dictionary::Pipelines {
            return directory.parse().ok().map(Self::Pipeline);
        }
        let all = Entity::families().flat_map(Entity::coded).map(|(_, explained)| explained);
        all.into_iter().find(|one| one.dictionary() == dictionary && one.covers(directory))
    }

    /// Whether its codes are numbers.
    #[must_use]
    pub const fn is_numbered(self) -> bool {
        matches!(self, Self::User | Self::Pipeline(_))
    }

    /// Whether codes of this directory are among those that it explains.
    #[must_use]
    pub fn covers(self, directory: &str) -> bool {
        let name = self.directory();
        directory == name
            || matches!(self, Self::Stages(_))
                && directory.strip_prefix(&*name).is_some_and(|rest| rest.starts_with('_'))
    }
}

impl Entity {
    /// What explains a column's values, if anything does. The portal says the same of its
    /// fields (`crm_status`, `user`, `crm_currency`), and a test holds one against the other.
    #[must_use]
    pub fn explained(&self, column: &Column) -> Option<Explained> {
        let own = self.codes.iter().find(|(field, _)| *field == column.field);
        if let Some((_, explained)) = own {
            return Some(*explained);
        }
        Some(match column.field {
            "SOURCE_ID" => Explained::Directory("SOURCE"),
            "HONORIFIC" => Explained::Directory("HONORIFIC"),
            "CURRENCY_ID" => Explained::Currency,
            // What the vendor calls a category (vendor page `universal/category`).
            "CATEGORY_ID" => Explained::Pipeline(self.kind()?),
            "ASSIGNED_BY_ID" | "CREATED_BY_ID" | "MODIFY_BY_ID" | "MOVED_BY_ID"
            | "LAST_ACTIVITY_BY" => Explained::User,
            _ => return None,
        })
    }

    /// The number of the records that it is, or whose steps it is.
    fn kind(&self) -> Option<u32> {
        let item = self.item.map(|item| item.entity_type_id);
        item.or_else(|| self.classic?.entity_type_id)
    }

    /// The numbers of the records whose pipelines explain something here.
    pub fn pipelines(&self) -> impl Iterator<Item = u32> {
        self.coded().filter_map(|(_, explained)| match explained {
            Explained::Pipeline(kind) if kind != ALL_PROCESSES => Some(kind),
            _ => None,
        })
    }

    /// The columns that hold codes: their places in a record's values, and what explains them.
    pub fn coded(&self) -> impl Iterator<Item = (usize, Explained)> {
        self.columns
            .iter()
            .enumerate()
            .filter_map(|(place, column)| Some((place, self.explained(column)?)))
    }
}

/// A row says nothing usable of what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row of {} has no usable key", dictionary.method())]
pub struct NoKey {
    dictionary: Dictionary,
}

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
        super::smart_process(u32::try_from(process.entity_type_id).ok()?)
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

/// A row's values by the portal's names.
struct Row<'a> {
    fields: Vec<(String, Raw<'a>)>,
    unread: Vec<&'static str>,
}

impl<'a> Row<'a> {
    fn new(row: &'a RawValue) -> Self {
        let fields = Raw::from(row)
            .fields()
            .filter_map(|(name, value)| Some((name.read().ok()?.into_owned(), value)))
            .collect();
        Self { fields, unread: Vec::new() }
    }

    fn raw(&self, name: &str) -> Option<Raw<'a>> {
        let named = |(own, value): &(String, Raw<'a>)| (own == name).then_some(*value);
        self.fields.iter().rev().find_map(named)
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Raw<'a>) -> Result<Option<T>, Unreadable>,
    ) -> Option<T> {
        let value = self.raw(name)?;
        read(value).unwrap_or_else(|Unreadable| {
            self.unread.push(name);
            None
        })
    }

    fn text(&mut self, name: &'static str) -> Option<String> {
        self.read(name, text).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn id(&mut self, name: &'static str) -> Option<i64> {
        self.read(name, |value| value::integer(&value.shape())).filter(|id| *id > 0)
    }

    fn number(&mut self, name: &'static str) -> Option<i32> {
        self.read(name, |value| {
            let number = value::integer(&value.shape())?;
            number.map(|number| i32::try_from(number).map_err(|_| Unreadable)).transpose()
        })
    }

    fn decimal(&mut self, name: &'static str) -> Option<String> {
        self.read(name, |raw| match value::read(ColumnType::Decimal, raw)?.value {
            record::Value::Decimal(number) => Ok(Some(number)),
            _ => Ok(None),
        })
    }

    fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.read(name, |raw| match raw.shape() {
            Shape::Text(text) if matches!(&*text.read()?, "true" | "TRUE") => Ok(Some(true)),
            Shape::Text(text) if matches!(&*text.read()?, "false" | "FALSE") => Ok(Some(false)),
            _ => match value::read(ColumnType::Flag, raw)?.value {
                record::Value::Flag(flag) => Ok(Some(flag)),
                _ => Ok(None),
            },
        })
    }

    fn instant(&mut self, name: &'static str) -> Option<DateTime<Utc>> {
        self.read(name, |raw| match value::read(ColumnType::Timestamp, raw)?.value {
            record::Value::Timestamp(instant) => Ok(Some(instant)),
            _ => Ok(None),
        })
    }

    /// The names that begin like a question, where the answer is yes.
    fn switches(&self) -> Vec<String> {
        let is_on = |raw: Raw<'a>| match value::read(ColumnType::Flag, raw) {
            Ok(reading) => reading.value == record::Value::Flag(true),
            Err(_) => false,
        };
        let asks = |name: &str| {
            let rest = name.strip_prefix("is");
            rest.is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_uppercase()))
        };
        let on = self.fields.iter().filter(|(name, raw)| asks(name) && is_on(*raw));
        let names: BTreeSet<&String> = on.map(|(name, _)| name).collect();
        names.into_iter().cloned().collect()
    }

    /// IDs, whether they come as a list, as an object or as a single one.
    fn ids(&mut self, name: &'static str) -> Vec<i64> {
        let ids = self.read(name, |raw| {
            let items: Vec<Raw<'a>> = match raw.shape() {
                Shape::List => raw.items().collect(),
                Shape::Object => raw.fields().map(|(_, value)| value).collect(),
                _ => vec![raw],
            };
            let ids = items.into_iter().map(|item| value::integer(&item.shape()));
            ids.collect::<Result<Vec<Option<i64>>, Unreadable>>().map(Some)
        });
        ids.into_iter().flatten().flatten().filter(|id| *id > 0).collect()
    }

    fn entry(&mut self, row: EntryRow) -> Entry {
        Entry { row, unread: std::mem::take(&mut self.unread) }
    }

    fn status(&mut self) -> Option<Entry> {
        let (directory, code) = (self.text("ENTITY_ID")?, self.text("STATUS_ID")?);
        let within = |row: &Self, name: &str| -> Option<String> {
            let extra = row.raw("EXTRA")?;
            let named = |(key, value): (crate::entity::json::raw::Quoted<'a>, Raw<'a>)| {
                key.read().is_ok_and(|key| key == name).then_some(value)
            };
            text(extra.fields().find_map(named)?).ok().flatten().filter(|text| !text.is_empty())
        };
        let status = Status {
            id: self.id("ID"),
            name: self.text("NAME").unwrap_or_else(|| code.clone()),
            sort: self.number("SORT"),
            semantics: self.text("SEMANTICS").filter(|word| word == "S" || word == "F"),
            color: self.text("COLOR").or_else(|| within(self, "COLOR")),
            category_id: self.id("CATEGORY_ID"),
            directory,
            code,
        };
        Some(self.entry(EntryRow::Status(status)))
    }

    fn user(&mut self) -> Option<Entry> {
        let id = self.id("ID")?;
        let (name, last_name) = (self.text("NAME"), self.text("LAST_NAME"));
        let email = self.text("EMAIL");
        let called: Vec<&str> = [&name, &last_name].into_iter().flatten().map(|s| &**s).collect();
        let full_name = match (called.is_empty(), &email) {
            (false, _) => called.join(" "),
            (true, Some(email)) => email.clone(),
            (true, None) => id.to_string(),
        };
        let user = User {
            id,
            full_name,
            second_name: self.text("SECOND_NAME"),
            work_position: self.text("WORK_POSITION"),
            department_ids: self.ids("UF_DEPARTMENT"),
            active: self.flag("ACTIVE").unwrap_or(true),
            name,
            last_name,
            email,
        };
        Some(self.entry(EntryRow::User(user)))
    }

    fn department(&mut self) -> Option<Entry> {
        let id = self.id("ID")?;
        let department = Department {
            id,
            name: self.text("NAME").unwrap_or_else(|| id.to_string()),
            sort: self.number("SORT"),
            parent_id: self.id("PARENT"),
            head_id: self.id("UF_HEAD"),
        };
        Some(self.entry(EntryRow::Department(department)))
    }

    fn pipeline(&mut self) -> Option<Entry> {
        let id = self.read("id", |value| value::integer(&value.shape())).filter(|id| *id >= 0)?;
        let pipeline = Pipeline {
            entity_type_id: self.id("entityTypeId")?,
            id,
            name: self.text("name").unwrap_or_else(|| id.to_string()),
            sort: self.number("sort"),
            is_default: self.flag("isDefault").unwrap_or(false),
        };
        Some(self.entry(EntryRow::Pipeline(pipeline)))
    }

    fn smart_process(&mut self) -> Option<Entry> {
        let entity_type_id = self.id("entityTypeId")?;
        let process = SmartProcess {
            entity_type_id,
            id: self.id("id"),
            title: self.text("title").unwrap_or_else(|| entity_type_id.to_string()),
            code: self.text("code"),
            switches: self.switches(),
            created_time: self.instant("createdTime"),
            updated_time: self.instant("updatedTime"),
        };
        Some(self.entry(EntryRow::SmartProcess(process)))
    }

    fn currency(&mut self) -> Option<Entry> {
        let code = self.text("CURRENCY")?;
        let currency = Currency {
            name: self.text("FULL_NAME").unwrap_or_else(|| code.clone()),
            rate: self.decimal("AMOUNT"),
            rate_amount: self.decimal("AMOUNT_CNT"),
            base: self.flag("BASE").unwrap_or(false),
            decimals: self.number("DECIMALS"),
            sort: self.number("SORT"),
            code,
        };
        Some(self.entry(EntryRow::Currency(currency)))
    }
}

/// Text as PostgreSQL can hold it.
fn text(raw: Raw<'_>) -> Result<Option<String>, Unreadable> {
    Ok(match value::read(ColumnType::Text, raw)?.value {
        record::Value::Text(text) => Some(text),
        _ => None,
    })
}

/// The two letters of the country that a licence is for, where it names one.
///
/// Licences look like `ru_std` (vendor page `app.info`). Some of their zones are languages
/// or continents: `en`, `eu`, `la` say nothing about a country.
#[must_use]
pub fn country_of_licence(licence: &str) -> Option<&'static str> {
    const COUNTRIES: [(&str, &str); 19] = [
        ("ru", "RU"),
        ("by", "BY"),
        ("kz", "KZ"),
        ("ua", "UA"),
        ("uz", "UZ"),
        ("de", "DE"),
        ("fr", "FR"),
        ("it", "IT"),
        ("pl", "PL"),
        ("uk", "GB"),
        ("tr", "TR"),
        ("br", "BR"),
        ("mx", "MX"),
        ("co", "CO"),
        ("in", "IN"),
        ("id", "ID"),
        ("cn", "CN"),
        ("jp", "JP"),
        ("vn", "VN"),
    ];
    let zone = licence.split_once('_')?.0.to_ascii_lowercase();
    COUNTRIES.into_iter().find_map(|(own, country)| (own == zone).then_some(country))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(dictionary: Dictionary, row: &Value) -> Result<Entry, NoKey> {
        dictionary.read(&RawValue::from_string(row.to_string()).unwrap())
    }

    fn columns(dictionary: Dictionary, row: &Value) -> Value {
        let entry = read(dictionary, row).unwrap();
        assert_eq!(entry.unread, Vec::<&str>::new());
        serde_json::to_value(entry.row).unwrap()
    }

    #[test]
    fn a_user_has_a_name_whatever_the_portal_gives() {
        let name = |row: Value| columns(Dictionary::Users, &row)["full_name"].clone();
        assert_eq!(name(json!({"ID": "7", "NAME": "Анна", "LAST_NAME": "Ли"})), "Анна Ли");
        assert_eq!(name(json!({"ID": "7", "NAME": "", "LAST_NAME": " Ли "})), "Ли");
        assert_eq!(name(json!({"ID": 7, "NAME": null, "EMAIL": "a@example.org"})), "a@example.org");
        assert_eq!(name(json!({"ID": 7})), "7");
    }

    #[test]
    fn whether_a_user_is_active_is_understood_in_every_spelling() {
        for (active, expected) in [
            (json!(true), true),
            (json!("Y"), true),
            (json!("true"), true),
            (json!(1), true),
            (json!(null), true),
            (json!(false), false),
            (json!("N"), false),
            (json!("false"), false),
            (json!("0"), false),
        ] {
            let row = columns(Dictionary::Users, &json!({"ID": "7", "ACTIVE": active}));
            assert_eq!(row["active"], expected, "{active}");
        }
    }

    #[test]
    fn departments_of_a_user_come_in_many_forms() {
        for (departments, expected) in [
            (json!([1, "2"]), json!([1, 2])),
            (json!({"0": 1, "3": "2"}), json!([1, 2])),
            (json!("5"), json!([5])),
            (json!([]), json!([])),
            (json!(false), json!([])),
            (json!(null), json!([])),
            (json!([0]), json!([])),
        ] {
            let row = columns(Dictionary::Users, &json!({"ID": 7, "UF_DEPARTMENT": departments}));
            assert_eq!(row["department_ids"], expected, "{departments}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_read_costs_itself_only() {
        let row = json!({"ID": "7", "NAME": ["x"], "LAST_NAME": "Ли", "ACTIVE": "maybe"});
        let entry = read(Dictionary::Users, &row).unwrap();
        assert_eq!(entry.unread, ["NAME", "ACTIVE"]);
        let row = serde_json::to_value(entry.row).unwrap();
        assert_eq!((&row["full_name"], &row["active"]), (&json!("Ли"), &json!(true)));
    }

    #[test]
    fn a_row_without_a_key_is_no_entry() {
        for (dictionary, row) in [
            (Dictionary::Users, json!({"ID": "0"})),
            (Dictionary::Users, json!({"NAME": "x"})),
            (Dictionary::Users, json!("x")),
            (Dictionary::Statuses, json!({"ENTITY_ID": "STATUS", "STATUS_ID": ""})),
            (Dictionary::Departments, json!({"ID": "x"})),
            (Dictionary::Currencies, json!({"CURRENCY": null})),
            (Dictionary::Pipelines, json!({"id": 5, "name": "x"})),
            (Dictionary::Pipelines, json!({"id": -1, "entityTypeId": 2})),
        ] {
            let error = read(dictionary, &row).unwrap_err().to_string();
            assert!(error.contains(dictionary.method()), "{error}");
        }
    }

    #[test]
    fn a_status_keeps_what_reports_need() {
        let row = json!({"ID": "3", "ENTITY_ID": "STATUS", "STATUS_ID": "UC_9X/Y",
            "NAME": "Успех\u{0}", "SORT": "30", "SEMANTICS": "S", "CATEGORY_ID": null,
            "COLOR": "", "EXTRA": {"SEMANTICS": "success", "COLOR": "#39A8EF"}});
        assert_eq!(
            columns(Dictionary::Statuses, &row),
            json!({"directory": "STATUS", "code": "UC_9X/Y", "id": 3, "name": "Успех",
                "sort": 30, "semantics": "S", "color": "#39A8EF", "category_id": null}),
        );
        let going_on = json!({"ENTITY_ID": "STATUS", "STATUS_ID": "1", "SEMANTICS": "P"});
        let row = columns(Dictionary::Statuses, &going_on);
        assert_eq!((&row["semantics"], &row["name"]), (&Value::Null, &json!("1")));
    }

    #[test]
    fn a_currency_keeps_its_rate_to_the_last_digit() {
        let row = json!({"CURRENCY": "USD", "AMOUNT": "59.7700", "AMOUNT_CNT": 1, "BASE": "N",
            "SORT": "200", "FULL_NAME": "Доллар США", "DECIMALS": "2", "DATE_UPDATE": {}});
        assert_eq!(
            columns(Dictionary::Currencies, &row),
            json!({"code": "USD", "name": "Доллар США", "rate": "59.77", "rate_amount": "1",
                "base": false, "decimals": 2, "sort": 200}),
        );
    }

    #[test]
    fn a_pipeline_says_what_it_is_of() {
        let row = json!({"id": 0, "name": " Общая ", "sort": "300", "entityTypeId": 2,
            "isDefault": "Y"});
        assert_eq!(
            columns(Dictionary::Pipelines, &row),
            json!({"entity_type_id": 2, "id": 0, "name": "Общая", "sort": 300,
                "is_default": true}),
        );
    }

    #[test]
    fn pipelines_are_those_of_the_records_that_name_them() {
        use crate::entity::{CONTACTS, DEAL_STAGE_HISTORY, DEALS, LEADS, smart_process};
        let of = |entity: &Entity| entity.pipelines().collect::<Vec<u32>>();
        assert_eq!(
            (of(&DEALS), of(&DEAL_STAGE_HISTORY), of(&CONTACTS)),
            (vec![2], vec![2], vec![3])
        );
        assert_eq!((of(&LEADS), of(&SMART_ITEMS)), (Vec::new(), Vec::new()));
        assert_eq!(of(smart_process(1036).unwrap()), [1036]);
        assert!(Dictionary::explaining(&[&SMART_ITEMS]).contains(&Dictionary::Pipelines));
        let explained = Explained::of(Dictionary::Pipelines, "1036");
        assert_eq!(explained, Some(Explained::Pipeline(1036)));
    }

    #[test]
    fn a_smart_process_keeps_what_decides_about_its_items() {
        let row = json!({"id": 37, "title": "Проекты", "code": "", "createdBy": 1,
            "entityTypeId": "1256", "isStagesEnabled": "Y", "isClientEnabled": "N", "isle": "Y",
            "isCountersEnabled": ["x"], "isBizProcEnabled": true,
            "createdTime": "2024-07-08T17:24:55+02:00", "updatedTime": null});
        assert_eq!(
            columns(Dictionary::SmartProcesses, &row),
            json!({"entity_type_id": 1256, "id": 37, "title": "Проекты", "code": null,
                "switches": ["isBizProcEnabled", "isStagesEnabled"],
                "created_time": "2024-07-08T15:24:55Z", "updated_time": null}),
        );
        for number in [json!("x"), json!(0), json!(null)] {
            let row = json!({"id": 1, "title": "x", "entityTypeId": number});
            assert!(read(Dictionary::SmartProcesses, &row).is_err(), "{number}");
        }
    }

    #[test]
    fn a_licence_names_a_country_or_none() {
        for (licence, country) in [
            ("ru_std", Some("RU")),
            ("UK_pro", Some("GB")),
            ("en_team", None),
            ("eu_basic", None),
            ("la_std", None),
            ("ru", None),
            ("", None),
            ("self_hosted", None),
        ] {
            assert_eq!(country_of_licence(licence), country, "{licence}");
        }
    }
}
