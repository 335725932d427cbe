//! Everything that is not a record: fields, directories, users, the portal itself.

use super::clock::instant_text;
use super::entity::Entity;
use super::fields::catalogue;
use super::php::{Array, Php};
use super::portal::{Answer, Failure, Portal, parameter};
use super::user_fields::user_field_list;

/// Methods that exist, with the scope that each needs.
const METHODS: [(&str, &str); 33] = [
    ("crm.activity.list", "crm"),
    ("crm.activity.get", "crm"),
    ("crm.activity.fields", "crm"),
    ("crm.stagehistory.list", "crm"),
    ("crm.item.productrow.list", "crm"),
    ("crm.category.list", "crm"),
    ("crm.type.list", "crm"),
    ("crm.company.userfield.list", "crm"),
    ("crm.deal.userfield.list", "crm"),
    ("crm.quote.userfield.list", "crm"),
    ("crm.item.list", "crm"),
    ("crm.item.get", "crm"),
    ("crm.item.fields", "crm"),
    ("crm.contact.list", "crm"),
    ("crm.contact.get", "crm"),
    ("crm.contact.fields", "crm"),
    ("crm.contact.userfield.list", "crm"),
    ("crm.lead.list", "crm"),
    ("crm.lead.get", "crm"),
    ("crm.lead.fields", "crm"),
    ("crm.lead.userfield.list", "crm"),
    ("crm.status.list", "crm"),
    ("crm.settings.mode.get", "crm"),
    ("crm.currency.list", "crm"),
    ("crm.currency.base.get", "crm"),
    ("user.get", "user"),
    ("department.get", "department"),
    ("batch", ""),
    ("profile", ""),
    ("server.time", ""),
    ("app.info", ""),
    ("scope", ""),
    ("methods", ""),
];

/// The scope that a method needs, empty for none; `None` for an unknown method.
pub(super) fn scope_of(method: &str) -> Option<&'static str> {
    METHODS.iter().find(|(name, _)| *name == method).map(|(_, scope)| *scope)
}

const PAGE: usize = 50;

impl Portal {
    pub(super) fn directory(&mut self, method: &str, params: &Array) -> Result<Answer, Failure> {
        let result = match method {
            "crm.item.fields" => self.item_fields(params)?,
            "crm.contact.fields" => self.catalogue(Entity::Contacts),
            "crm.lead.fields" => self.catalogue(Entity::Leads),
            "crm.activity.fields" => self.catalogue(Entity::Activities),
            "crm.contact.userfield.list" => {
                return Ok(self.user_fields(Entity::Contacts, params));
            }
            "crm.lead.userfield.list" => return Ok(self.user_fields(Entity::Leads, params)),
            "crm.company.userfield.list" => {
                return Ok(self.user_fields(Entity::Companies, params));
            }
            "crm.deal.userfield.list" => return Ok(self.user_fields(Entity::Deals, params)),
            "crm.quote.userfield.list" => return Ok(self.user_fields(Entity::Quotes, params)),
            "crm.category.list" => return self.categories(params),
            "crm.type.list" => return self.smart_types(),
            "crm.status.list" if self.options.undocumented.whole_statuses => {
                return Ok(self.uncut(self.names.statuses(), params));
            }
            "crm.status.list" => return Ok(self.page(self.names.statuses(), params)),
            "crm.currency.list" => return Ok(self.all(self.names.currencies())),
            "crm.currency.base.get" => self.names.base().into(),
            "crm.settings.mode.get" => Php::Int(1),
            "user.get" => return Ok(self.page(self.names.users(), params)),
            "department.get" => return Ok(self.page(self.names.departments(), params)),
            "profile" => self.profile(),
            "server.time" => instant_text(self.clock.zone, self.clock.now()).into(),
            "app.info" => Array::default()
                .with("SCOPE", self.scopes())
                .with("LICENSE", self.options.license.as_str())
                .into(),
            "scope" => self.scopes().into(),
            "methods" => {
                let names: Array = METHODS.iter().map(|(name, _)| Php::from(*name)).collect();
                names.into()
            }
            _ => return Err(method_not_found()),
        };
        Ok(self.answer(&result))
    }

    fn answer(&self, result: &Php) -> Answer {
        let mut answer = Answer::default();
        result.write(&mut answer.body, self.writing());
        answer
    }

    fn catalogue(&self, entity: Entity) -> Php {
        catalogue(entity, &self.user_fields[entity.index()])
    }

    fn user_fields(&self, entity: Entity, params: &Array) -> Answer {
        let none = Array::default();
        let filter = filter_of(params).unwrap_or(&none);
        let rows = user_field_list(entity, &self.user_fields[entity.index()], filter);
        let total = i64::try_from(rows.len()).ok();
        let mut answer = self.answer(&rows.into());
        answer.total = total;
        answer
    }

    fn scopes(&self) -> Array {
        let scopes = self.options.scopes.iter();
        scopes.map(|scope| Php::from(scope.as_str())).collect()
    }

    fn profile(&self) -> Php {
        Array::default()
            .with("ID", self.options.user.to_string())
            .with("ADMIN", self.options.admin)
            .with("NAME", "Мария")
            .with("LAST_NAME", "Администраторова")
            .with("PERSONAL_GENDER", "F")
            .with("TIME_ZONE", self.clock.zone.name())
            .with("TIME_ZONE_OFFSET", self.clock.offset())
            .into()
    }

    /// All rows at once, and a `total` that says nothing.
    fn all(&mut self, rows: Array) -> Answer {
        self.stats.spring(3);
        let mut answer = self.answer(&rows.into());
        answer.total = Some(0);
        answer
    }

    /// All rows that match, and how many there are.
    fn uncut(&mut self, rows: Array, params: &Array) -> Answer {
        let rows = matching(rows, filter_of(params));
        self.stats.counts += 1;
        let total = i64::try_from(rows.len()).ok();
        let mut answer = self.answer(&rows.into());
        answer.total = total;
        self.page_answered();
        answer
    }

    fn page(&mut self, rows: Array, params: &Array) -> Answer {
        let rows = matching(rows, filter_of(params));
        let start = params.get("start").map_or(0, Php::to_int);
        let total = rows.len();
        let wanted = usize::try_from(start).map_or(0, |start| start / PAGE * PAGE);
        if wanted > 0 && wanted >= total {
            self.stats.spring(4);
        }
        let offset = self.overrun(true).offset(wanted, total);
        let page: Array = rows.values().skip(offset).take(PAGE).cloned().collect();
        let mut answer = self.answer(&page.into());
        if start < 0 {
            answer.total = (!self.options.total_absent).then_some(0);
        } else {
            self.stats.counts += 1;
            answer.total = i64::try_from(total).ok();
            let next = offset + PAGE;
            answer.next = (next < total).then(|| i64::try_from(next).unwrap_or(0));
        }
        self.page_answered();
        answer
    }
}

pub(super) fn method_not_found() -> Failure {
    Failure::new(404, "ERROR_METHOD_NOT_FOUND", "Method not found!")
}

fn filter_of(params: &Array) -> Option<&Array> {
    parameter(params, "filter").and_then(Php::as_array)
}

/// Rows whose columns equal the filter's values; unknown columns are dropped.
fn matching(rows: Array, filter: Option<&Array>) -> Array {
    let Some(filter) = filter else { return rows };
    let admits = |row: &Php| {
        let Some(row) = row.as_array() else {
            return false;
        };
        filter.iter().all(|(key, value)| {
            let key = key.text().to_uppercase();
            let Some(own) = row.get(&key) else {
                return true;
            };
            let own = match own {
                Php::Bool(value) => i64::from(*value).to_string(),
                other => other.to_text().unwrap_or_default(),
            };
            let wanted = |value: &Php| match value.to_text().as_deref() {
                Some("true" | "Y") => own == "1" || own == "Y",
                Some("false" | "N") => own == "0" || own == "N",
                Some(text) => own == text,
                None => false,
            };
            match value {
                Php::Array(values) => values.values().any(wanted),
                other => wanted(other),
            }
        })
    };
    rows.values().filter(|row| admits(row)).cloned().collect()
}
