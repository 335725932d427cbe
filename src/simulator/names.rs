//! What the portal's codes mean: directories, people, departments, currencies.

use serde::{Deserialize, Serialize};

use super::actions::{Action, ActionError, Outcome};
use super::content::{
    COMPANY_TYPES, CONTACT_TYPES, DEAL_TYPES, EMPLOYEES, EVENT_TYPES, HONORIFICS, KNOWN_USERS,
    SOURCES,
};
use super::entity::Entity;
use super::options::Options;
use super::php::{Array, Php};

/// The category that classic lists of contacts and companies hide.
const HIDDEN_CATEGORY: i64 = 5;

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrueStatus {
    /// The portal's number of it.
    pub id: i64,
    /// `STATUS`, `SOURCE`, …
    pub directory: String,
    /// What records hold.
    pub code: String,
    /// What people see.
    pub name: String,
    /// Its place, smallest first.
    pub sort: i64,
    /// `S` or `F` for an end.
    pub semantics: Option<String>,
}

/// A person whom `user.get` lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrueUser {
    /// What records hold.
    pub id: i64,
    /// First name.
    pub name: String,
    /// Last name.
    pub last_name: String,
    /// Whether the person was not dismissed.
    pub active: bool,
    /// The departments.
    pub departments: Vec<i64>,
}

/// A department.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrueDepartment {
    /// Its number.
    pub id: i64,
    /// What people see.
    pub name: String,
    /// The one above.
    pub parent: Option<i64>,
    /// Who leads it.
    pub head: Option<i64>,
}

/// A currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrueCurrency {
    /// What records hold.
    pub code: String,
    /// What people see.
    pub name: String,
    /// What one is worth in the base currency.
    pub rate: String,
    /// Whether it is the base currency.
    pub base: bool,
}

/// A pipeline, which the portal also calls a category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TruePipeline {
    /// What its records are.
    pub entity: Entity,
    /// What records hold.
    pub id: i64,
    /// What people see.
    pub name: String,
    /// Its place, smallest first.
    pub sort: i64,
    /// Whether new records go there.
    pub default: bool,
}

/// What a right mirror knows of the names behind codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrueNames {
    /// All directories.
    pub statuses: Vec<TrueStatus>,
    /// Those whom the portal lists.
    pub users: Vec<TrueUser>,
    /// The tree.
    pub departments: Vec<TrueDepartment>,
    /// All currencies.
    pub currencies: Vec<TrueCurrency>,
    /// Those of everything that has some.
    pub pipelines: Vec<TruePipeline>,
}

/// The names as the portal keeps them.
#[derive(Debug)]
pub(super) struct Names {
    statuses: Vec<TrueStatus>,
    users: Vec<Person>,
    departments: Vec<TrueDepartment>,
    currencies: Vec<TrueCurrency>,
    pipelines: Vec<TruePipeline>,
    next_status: i64,
}

#[derive(Debug)]
struct Person {
    user: TrueUser,
    /// A bot or a mail user: records name it, `user.get` does not.
    hidden: bool,
}

impl Names {
    /// The names that a portal starts with. A directory is there if records use it.
    pub(super) fn new(options: &Options) -> Self {
        let mut names = Self {
            statuses: Vec::new(),
            users: Vec::new(),
            departments: departments(),
            currencies: currencies(),
            pipelines: Entity::EVERY.into_iter().flat_map(pipelines).collect(),
            next_status: 1,
        };
        names.add_stages(Entity::Leads);
        for code in SOURCES {
            names.add_status("SOURCE", code, &format!("Источник {code}"), "");
        }
        for code in CONTACT_TYPES {
            names.add_status("CONTACT_TYPE", code, &format!("Тип {code}"), "");
        }
        for code in HONORIFICS {
            names.add_status("HONORIFIC", code, "г-н / г-жа", "");
        }
        // More than a page, so that a reader has to follow `next`.
        for number in 1..=45 {
            let code = format!("INDUSTRY_{number}");
            names.add_status("INDUSTRY", &code, &format!("Отрасль {number}"), "");
        }
        for entity in [Entity::Deals, Entity::Quotes, Entity::SmartInvoices, Entity::Projects] {
            if options.count(entity) > 0 {
                names.add_stages(entity);
            }
        }
        for (entity, directory, codes) in [
            (Entity::Companies, "COMPANY_TYPE", &COMPANY_TYPES[..]),
            (Entity::Companies, "EMPLOYEES", &EMPLOYEES[..]),
            (Entity::Deals, "DEAL_TYPE", &DEAL_TYPES[..]),
            (Entity::Deals, "EVENT_TYPE", &EVENT_TYPES[..]),
        ] {
            for code in codes.iter().filter(|_| options.count(entity) > 0) {
                names.add_status(directory, code, &format!("{directory} «{code}»"), "");
            }
        }
        // The last ones are colleagues whom no record names, so that there are two pages.
        for id in (1..=KNOWN_USERS).chain(1_000..1_020) {
            let user = TrueUser {
                id,
                name: format!("Имя{id}"),
                last_name: format!("Фамилия{id}"),
                active: id % 7 != 0,
                departments: vec![1 + id % 57],
            };
            names.users.push(Person { user, hidden: false });
        }
        names
    }

    pub(super) fn truth(&self) -> TrueNames {
        let listed = self.users.iter().filter(|person| !person.hidden);
        TrueNames {
            statuses: self.statuses.clone(),
            users: listed.map(|person| person.user.clone()).collect(),
            departments: self.departments.clone(),
            currencies: self.currencies.clone(),
            pipelines: self.pipelines.clone(),
        }
    }

    /// The code of the base currency.
    pub(super) fn base(&self) -> &str {
        let base = self.currencies.iter().find(|currency| currency.base);
        base.map_or("", |currency| &currency.code)
    }

    pub(super) fn statuses(&self) -> Array {
        self.statuses.iter().map(status_row).collect()
    }

    pub(super) fn users(&self) -> Array {
        let listed = self.users.iter().filter(|person| !person.hidden);
        listed.map(|person| user_row(&person.user)).collect()
    }

    pub(super) fn departments(&self) -> Array {
        self.departments.iter().map(department_row).collect()
    }

    pub(super) fn currencies(&self) -> Array {
        self.currencies.iter().zip(1..).map(|(one, place)| currency_row(one, place)).collect()
    }

    /// The pipelines of a family.
    pub(super) fn pipelines(&self, entity: Entity) -> Array {
        self.pipelines.iter().filter(|one| one.entity == entity).map(pipeline_row).collect()
    }

    /// Does what an action says.
    pub(super) fn apply(&mut self, action: Action) -> Result<Outcome, ActionError> {
        let mut outcome = Outcome::default();
        match action {
            Action::AddStatus { directory, code, name } => {
                self.add_status(&directory, &code, &name, "");
            }
            Action::RenameStatus { directory, code, name } => {
                self.status(&directory, &code)?.name = name;
            }
            Action::RemoveStatus { directory, code } => {
                let id = self.status(&directory, &code)?.id;
                self.statuses.retain(|status| status.id != id);
            }
            Action::RenamePipeline { entity, id, name } => self.pipeline(entity, id)?.name = name,
            Action::RemovePipeline { entity, id } => {
                let gone = self.pipeline(entity, id)?.clone();
                self.pipelines.retain(|one| *one != gone);
            }
            Action::AddUser { name, last_name } => {
                let id = self.users.iter().map(|person| person.user.id).max().unwrap_or(0) + 1;
                let departments = vec![1];
                let user = TrueUser { id, name, last_name, active: true, departments };
                self.users.push(Person { user, hidden: false });
                outcome.ids.push(id);
            }
            Action::DismissUser { id } => self.person(id)?.user.active = false,
            Action::HideUser { id, hidden } => self.person(id)?.hidden = hidden,
            _ => {}
        }
        Ok(outcome)
    }

    fn add_stages(&mut self, entity: Entity) {
        for pipeline in entity.pipelines() {
            for stage in pipeline.stages {
                self.add_status(pipeline.directory, stage.code, stage.name, stage.semantic);
            }
        }
    }

    fn add_status(&mut self, directory: &str, code: &str, name: &str, semantic: &str) {
        let id = self.next_status;
        self.next_status += 1;
        self.statuses.push(TrueStatus {
            id,
            directory: directory.to_owned(),
            code: code.to_owned(),
            name: name.to_owned(),
            sort: id * 10,
            semantics: matches!(semantic, "S" | "F").then(|| semantic.to_owned()),
        });
    }

    fn status(&mut self, directory: &str, code: &str) -> Result<&mut TrueStatus, ActionError> {
        self.statuses
            .iter_mut()
            .find(|status| status.directory == directory && status.code == code)
            .ok_or_else(|| ActionError::NoStatus(format!("{directory} {code}")))
    }

    fn pipeline(&mut self, entity: Entity, id: i64) -> Result<&mut TruePipeline, ActionError> {
        let found = self.pipelines.iter_mut().find(|one| one.entity == entity && one.id == id);
        found.ok_or(ActionError::NoPipeline(entity, id))
    }

    fn person(&mut self, id: i64) -> Result<&mut Person, ActionError> {
        let found = self.users.iter_mut().find(|person| person.user.id == id);
        found.ok_or(ActionError::NoUser(id))
    }
}

/// A tree of more than a page.
fn departments() -> Vec<TrueDepartment> {
    let department = |id: i64| TrueDepartment {
        id,
        name: format!("Отдел {id} / «Продажи»"),
        parent: (id > 1).then_some(1 + id % 3).filter(|parent| *parent < id),
        head: (id % 4 != 0).then_some(1 + id % KNOWN_USERS),
    };
    (1..=57).map(department).collect()
}

fn currencies() -> Vec<TrueCurrency> {
    let currency = |(code, name, rate): (&str, &str, &str)| TrueCurrency {
        code: code.to_owned(),
        name: name.to_owned(),
        rate: rate.to_owned(),
        base: code == "RUB",
    };
    [
        ("RUB", "Российский рубль", "1.0000"),
        ("USD", "Доллар США", "92.1532"),
        ("EUR", "Евро", "99.5001"),
        ("KZT", "Тенге", "0.1950"),
    ]
    .map(currency)
    .to_vec()
}

/// The pipelines that a family starts with.
fn pipelines(entity: Entity) -> Vec<TruePipeline> {
    let named: Vec<(i64, &str)> = match entity {
        Entity::Contacts | Entity::Companies => {
            vec![(0, "Общая"), (HIDDEN_CATEGORY, "Контрагенты")]
        }
        // It has one even where pipelines are switched off.
        Entity::Equipment => vec![(0, "Общая")],
        Entity::Leads | Entity::Quotes => Vec::new(),
        _ => entity.pipelines().iter().map(|own| (own.id, own.name)).collect(),
    };
    let pipeline = |((id, name), place): ((i64, &str), i64)| TruePipeline {
        entity,
        id,
        name: name.to_owned(),
        sort: place * 100,
        default: place == 1,
    };
    named.into_iter().zip(1..).map(pipeline).collect()
}

fn pipeline_row(pipeline: &TruePipeline) -> Php {
    let row = Array::default()
        .with("id", pipeline.id)
        .with("name", pipeline.name.as_str())
        .with("sort", pipeline.sort)
        .with("entityTypeId", pipeline.entity.type_id())
        .with("isDefault", if pipeline.default { "Y" } else { "N" });
    // The first pipeline is older than the other two keys.
    let row =
        if pipeline.id == 0 { row } else { row.with("originId", "").with("originatorId", "") };
    row.into()
}

fn status_row(status: &TrueStatus) -> Php {
    let extra = Array::default().with("SEMANTICS", "process").with("COLOR", "#39A8EF");
    Array::default()
        .with("ID", status.id.to_string())
        .with("ENTITY_ID", status.directory.as_str())
        .with("STATUS_ID", status.code.as_str())
        .with("NAME", status.name.as_str())
        .with("NAME_INIT", "")
        .with("SORT", status.sort.to_string())
        .with("SYSTEM", "N")
        .with("CATEGORY_ID", Php::Null)
        .with("COLOR", "")
        .with("SEMANTICS", status.semantics.as_deref().map_or(Php::Null, Php::from))
        .with("EXTRA", extra)
        .into()
}

fn user_row(user: &TrueUser) -> Php {
    let departments: Array = user.departments.iter().map(|id| Php::Int(*id)).collect();
    Array::default()
        .with("ID", user.id.to_string())
        .with("ACTIVE", user.active)
        .with("NAME", user.name.as_str())
        .with("LAST_NAME", user.last_name.as_str())
        .with("SECOND_NAME", "")
        .with("EMAIL", format!("user{}@example.org", user.id))
        .with("LAST_LOGIN", "")
        .with("DATE_REGISTER", "2019-04-01T03:00:00+03:00")
        .with("TIMESTAMP_X", Array::default())
        .with("WORK_POSITION", "менеджер")
        .with("UF_DEPARTMENT", departments)
        .with("USER_TYPE", "employee")
        .into()
}

fn department_row(department: &TrueDepartment) -> Php {
    let mut row = Array::default()
        .with("ID", department.id.to_string())
        .with("NAME", department.name.as_str())
        .with("SORT", 500_i64);
    // The top of the tree has no such key.
    if let Some(parent) = department.parent {
        row = row.with("PARENT", parent.to_string());
    }
    let head = department.head.map_or("0".to_owned(), |head| head.to_string());
    row.with("UF_HEAD", head).into()
}

fn currency_row(currency: &TrueCurrency, place: i64) -> Php {
    Array::default()
        .with("CURRENCY", currency.code.as_str())
        .with("AMOUNT_CNT", "1")
        .with("AMOUNT", currency.rate.as_str())
        .with("SORT", (place * 100).to_string())
        .with("BASE", if currency.base { "Y" } else { "N" })
        .with("FULL_NAME", currency.name.as_str())
        .with("LID", "ru")
        .with("FORMAT_STRING", "# &#8381;")
        .with("DEC_POINT", ".")
        .with("THOUSANDS_SEP", "&nbsp;")
        .with("DECIMALS", "2")
        .with("DATE_UPDATE", "2024-05-01T00:00:00+03:00")
        .into()
}
