//! What the codes in records mean: directories, people, departments, currencies.
//!
//! Their rows are few and small, so they are read whole. The readers are as lenient as
//! those of records: a value that cannot be read is left out, and only a row without a
//! usable key is no entry.

mod entry;
mod row;

use std::{borrow::Cow, collections::BTreeSet};

use serde_json::value::RawValue;

pub use self::entry::{
    Currency, Department, Entry, EntryRow, Pipeline, SmartProcess, Status, User,
};
use self::row::Row;
use super::{Entity, SMART_ITEMS, column::Column};

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
mod tests;
