//! What people have set up in a CRM: pipelines and smart processes (vendor pages
//! `crm-category-list`, `crm-type-list`).

use super::entity::Entity;
use super::items::entity_of;
use super::options::Options;
use super::php::{Array, Php};
use super::portal::{Answer, Failure, Portal};

fn smart_type(entity: Entity, title: &str, full: bool, time: &str) -> Array {
    let flag = |value: bool| if value { "Y" } else { "N" };
    let own = entity.portal_name().parse::<i64>().unwrap_or(0);
    let mut row = Array::default()
        .with("id", own)
        .with("title", title)
        .with("code", "")
        .with("createdBy", 1_i64)
        .with("entityTypeId", entity.type_id())
        .with("customSectionId", Php::Null);
    for (name, value) in [
        ("isCategoriesEnabled", full),
        ("isStagesEnabled", full),
        ("isBeginCloseDatesEnabled", full),
        ("isClientEnabled", full),
        ("isUseInUserfieldEnabled", true),
        ("isLinkWithProductsEnabled", full),
        ("isMycompanyEnabled", false),
        ("isDocumentsEnabled", false),
        ("isSourceEnabled", full),
        ("isObserversEnabled", full),
        ("isRecyclebinEnabled", true),
        ("isAutomationEnabled", full),
        ("isBizProcEnabled", false),
        ("isSetOpenPermissions", true),
        ("isPaymentsEnabled", false),
        ("isCountersEnabled", false),
    ] {
        row = row.with(name, flag(value));
    }
    row.with("createdTime", time).with("updatedTime", time).with("updatedBy", 1_i64)
}

/// The smart processes that a portal begins with: those that are to have records.
pub(super) fn processes(options: &Options) -> impl Iterator<Item = Entity> {
    let made = |entity: &Entity| entity.is_smart_process() && options.count(*entity) > 0;
    Entity::EVERY.into_iter().filter(made)
}

impl Portal {
    /// Whether the portal has such a family at all: smart processes are made by its people.
    pub(super) fn has_family(&self, entity: Entity) -> bool {
        !entity.is_smart_process() || self.processes.contains(&entity)
    }

    /// Makes or removes a smart process; nothing happens to other families.
    pub(super) fn set_process(&mut self, entity: Entity, exists: bool) {
        if exists && entity.is_smart_process() {
            self.processes.insert(entity);
        } else {
            self.processes.remove(&entity);
        }
    }

    pub(super) fn categories(&mut self, params: &Array) -> Result<Answer, Failure> {
        let entity = entity_of(self, params)?;
        let switched_off = entity == Entity::Equipment && self.options.pipelines_refused;
        if switched_off || matches!(entity, Entity::Leads | Entity::Quotes) {
            let name = entity.portal_name().to_uppercase();
            let text = format!("Entity type {name} is not supported");
            return Err(Failure::new(400, "ENTITY_TYPE_NOT_SUPPORTED", &text));
        }
        let rows = self.names.pipelines(entity);
        Ok(self.whole("categories", rows))
    }

    pub(super) fn smart_types(&mut self) -> Result<Answer, Failure> {
        if !self.options.admin {
            return Err(Failure::new(400, "ACCESS_DENIED", "Access denied"));
        }
        let time = "2024-07-08T17:24:55+03:00";
        let rows = [(Entity::Projects, "Проекты", true), (Entity::Equipment, "Станки", false)];
        let rows = rows
            .into_iter()
            .filter(|(entity, ..)| self.has_family(*entity))
            .map(|(entity, title, full)| smart_type(entity, title, full, time).into())
            .collect();
        Ok(self.whole("types", rows))
    }

    /// All rows under one key, with their number.
    fn whole(&mut self, key: &str, rows: Array) -> Answer {
        self.stats.counts += 1;
        let total = i64::try_from(rows.len()).ok();
        let mut answer = Answer { total, ..Answer::default() };
        let result: Php = Array::default().with(key, rows).into();
        result.write(&mut answer.body, self.writing());
        answer
    }
}
