//! Writes to records: what people and other programs do to a CRM.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::actions::{Action, ActionError, Outcome};
use super::content::alter;
use super::dataset::salt;
use super::entity::Entity;
use super::fields::{Content, MULTI};
use super::history::StagePlace;
use super::php::Php;
use super::pipelines::{Standing, move_to};
use super::portal::{Pending, Portal};
use super::products::Product;
use super::records::{Body, Custom, Facts, Multi, Plain, Record};
use super::undocumented::Unlinking;

const DAY: i64 = 86_400;

/// The place of a documented field that rows have.
fn plain(entity: Entity, name: &str) -> Option<usize> {
    entity.fields().iter().position(|field| field.name == name && field.is_stored())
}

impl Portal {
    pub(super) fn write(&mut self, action: Action) -> Result<Outcome, ActionError> {
        let mut outcome = Outcome::default();
        let now = self.clock.now_local();
        match action {
            Action::Change { entity, ids, count, visible_after } => {
                outcome.ids = self.chosen(entity, ids, count)?;
                for id in &outcome.ids {
                    self.change(entity, *id, now, visible_after)?;
                }
            }
            Action::Delete { entity, ids, count } => {
                outcome.gone = self.chosen(entity, ids, count)?;
                for id in &outcome.gone {
                    self.delete(entity, *id)?;
                    self.stats.spring(16);
                }
            }
            Action::Merge { entity, ids, count } => {
                let mut ids = self.chosen(entity, ids, count)?;
                outcome.gone = ids.split_off(ids.len().min(1));
                outcome.ids = ids;
                for id in &outcome.gone {
                    self.delete(entity, *id)?;
                }
                for id in &outcome.ids {
                    self.change(entity, *id, now, 0.0)?;
                }
                self.stats.spring(17);
            }
            Action::Restore { entity, ids, count, visible_after } => {
                for id in self.deleted(entity, ids, count) {
                    let new = self.restore(entity, id, visible_after)?;
                    outcome.ids.push(new);
                    self.stats.spring(14);
                }
            }
            Action::Touch { entity, id, field, value, keep_date } => {
                self.touch(entity, id, &field, &value, keep_date)?;
                outcome.ids.push(id);
            }
            Action::Omit { entity, id, field } => {
                let at = plain(entity, &field).ok_or(ActionError::NoField(field))?;
                self.edit(entity, id, false, |facts| facts.plain[at] = Plain::Absent)?;
                outcome.ids.push(id);
            }
            Action::SetMulti { entity, id, field, values } => {
                self.set_multi(entity, id, &field, values)?;
                outcome.ids.push(id);
            }
            Action::SetLinks { entity, id, field, ids, keep_date } => {
                self.set_links(entity, id, &field, ids, keep_date)?;
                outcome.ids.push(id);
            }
            Action::MoveStage { entity, ids, count, stage } => {
                outcome.ids = self.chosen(entity, ids, count)?;
                for id in &outcome.ids {
                    self.move_stage(entity, *id, stage.as_deref(), now)?;
                }
            }
            Action::SetProducts { entity, id, products } => {
                self.set_products(entity, id, products)?;
                outcome.ids.push(id);
            }
            Action::Activity { entity, id, bumps } => {
                self.edit(entity, id, !bumps, |facts| {
                    let fields = entity.fields().iter();
                    for (field, value) in fields.zip(&mut facts.plain) {
                        if field.content == Content::Active {
                            *value = Plain::Local(now);
                        }
                    }
                })?;
                outcome.ids.push(id);
            }
            other => outcome.ids = self.write_new(&other, now),
        }
        Ok(outcome)
    }

    fn write_new(&mut self, action: &Action, now: i64) -> Vec<i64> {
        let (entity, count, modified, visible_after) = match action {
            Action::Create { entity, count, visible_after } => {
                (*entity, *count, now, *visible_after)
            }
            Action::Import { entity, count, days, visible_after } => {
                let count = *count;
                self.stats.spring_times(15, usize::try_from(count).unwrap_or(0));
                (*entity, count, now - i64::from(*days) * DAY, *visible_after)
            }
            _ => return Vec::new(),
        };
        let created = if modified < now { modified - DAY } else { now };
        (0..count).map(|_| self.add(entity, created, modified, visible_after)).collect()
    }

    /// Puts a record where lists see it, at once or later.
    fn store(&mut self, entity: Entity, record: Record, visible_after: f64) {
        self.stats.writes += 1;
        let until = self.served_until[entity.index()];
        if record.modified >= self.clock.now_local() - 1 && record.modified <= until {
            self.stats.spring(10);
        }
        if visible_after > 0.0 {
            self.pending.push(Pending { due: self.clock.mono() + visible_after, entity, record });
        } else {
            self.tables[entity.index()].put(record);
        }
    }

    fn add(&mut self, entity: Entity, created: i64, modified: i64, visible_after: f64) -> i64 {
        self.keep_history(entity);
        let id = self.tables[entity.index()].allocate();
        let record = Record {
            id,
            category: 0,
            created,
            modified,
            body: Body::Generated { origin: id, edit: 0 },
            had: 0,
            row: None,
            item: None,
        };
        self.note_creation(entity, &record);
        self.store(entity, record, visible_after);
        id
    }

    fn note_creation(&mut self, entity: Entity, record: &Record) {
        let place = match &record.body {
            Body::Own(facts) => StagePlace::of(entity, facts),
            Body::Generated { origin, .. } => Some(self.generator.standing(entity, *origin).into()),
        };
        if let Some(place) = place.filter(|_| !entity.pipelines().is_empty()) {
            self.append_step(entity, record.id, record.created, place, true);
        }
    }

    /// A live record out of its table; a late write of it is committed first,
    /// as the second writer of a row waits for the first.
    fn take(&mut self, entity: Entity, id: i64) -> Result<Record, ActionError> {
        let late = |pending: &Pending| pending.entity == entity && pending.record.id == id;
        while let Some(at) = self.pending.iter().position(late) {
            let pending = self.pending.remove(at);
            self.tables[entity.index()].put(pending.record);
        }
        self.tables[entity.index()].take(id).ok_or(ActionError::NoRecord(id))
    }

    /// Sets the time of modification and remembers what the record had.
    fn stamp(&mut self, entity: Entity, record: &mut Record, now: i64) {
        let escaped = self.upper_bounds[entity.index()]
            .iter()
            .any(|bound| record.modified <= *bound && now > *bound);
        if escaped {
            self.stats.spring(33);
        }
        record.modified = now;
        record.forget_rows();
        record.had = self.generator.had(entity, record);
    }

    fn change(
        &mut self,
        entity: Entity,
        id: i64,
        now: i64,
        visible_after: f64,
    ) -> Result<(), ActionError> {
        let mut record = self.take(entity, id)?;
        let old = record.clone();
        self.stamp(entity, &mut record, now);
        match &mut record.body {
            Body::Generated { edit, .. } => *edit += 1,
            Body::Own(facts) => {
                let edit = u32::try_from(self.rng.below(1 << 20)).unwrap_or(1);
                let facts = Arc::make_mut(facts);
                alter(facts, entity, salt(edit.into(), entity, id), id, edit);
            }
        }
        if visible_after > 0.0 {
            self.tables[entity.index()].put(old);
        }
        self.store(entity, record, visible_after);
        Ok(())
    }

    fn delete(&mut self, entity: Entity, id: i64) -> Result<(), ActionError> {
        let record = self.take(entity, id)?;
        self.stats.writes += 1;
        self.tables[entity.index()].bin.insert(id, record);
        self.unlink(entity, id)
    }

    /// Takes a deleted contact or company out of the records that are linked to it, if the
    /// portal does that.
    fn unlink(&mut self, entity: Entity, gone: i64) -> Result<(), ActionError> {
        let keep_date = match self.options.undocumented.unlinking {
            Unlinking::Stays => return Ok(()),
            Unlinking::Quiet => true,
            Unlinking::Dated => false,
        };
        let (one, all) = match entity {
            Entity::Contacts => ("CONTACT_ID", "CONTACT_IDS"),
            Entity::Companies => ("COMPANY_ID", "COMPANY_IDS"),
            _ => return Ok(()),
        };
        for other in Entity::EVERY {
            let lists = other.fields().iter().any(|own| own.name == all);
            let Some(at) = plain(other, one) else { continue };
            let ids: Vec<i64> = self.tables[other.index()].iter().map(|record| record.id).collect();
            for id in ids {
                let Some(record) = self.tables[other.index()].get(id) else { continue };
                let facts = self.facts(other, record);
                let mut links = facts.links(other);
                if lists && links.contains(&gone) {
                    links.retain(|id| *id != gone);
                    self.set_links(other, id, all, links, keep_date)?;
                } else if facts.plain[at] == Plain::Int(gone) {
                    self.edit(other, id, keep_date, |facts| facts.plain[at] = Plain::Unset)?;
                }
            }
        }
        Ok(())
    }

    fn restore(&mut self, entity: Entity, id: i64, visible_after: f64) -> Result<i64, ActionError> {
        self.keep_history(entity);
        let table = &mut self.tables[entity.index()];
        let mut record = table.bin.remove(&id).ok_or(ActionError::NotDeleted(id))?;
        record.id = table.allocate();
        record.forget_rows();
        let new = record.id;
        self.note_creation(entity, &record);
        self.store(entity, record, visible_after);
        Ok(new)
    }

    fn edit(
        &mut self,
        entity: Entity,
        id: i64,
        keep_date: bool,
        change: impl FnOnce(&mut Facts),
    ) -> Result<(), ActionError> {
        self.keep_history(entity);
        let mut record = self.take(entity, id)?;
        let mut facts = self.facts(entity, &record);
        facts.products = self.products(entity, &record);
        let before = StagePlace::of(entity, &facts);
        let date = record.modified;
        let now = self.clock.now_local();
        self.stamp(entity, &mut record, now);
        if keep_date {
            record.modified = date;
        }
        change(&mut facts);
        if let Some(after) = StagePlace::of(entity, &facts)
            && before.as_ref() != Some(&after)
        {
            self.append_step(entity, id, now, after, false);
        }
        record.body = Body::Own(Arc::new(facts));
        self.store(entity, record, 0.0);
        Ok(())
    }

    fn touch(
        &mut self,
        entity: Entity,
        id: i64,
        name: &str,
        value: &Value,
        keep_date: bool,
    ) -> Result<(), ActionError> {
        let missing = || ActionError::NoField(name.to_owned());
        let value: Php = serde_json::from_str(&value.to_string()).map_err(|_| missing())?;
        let plain = plain(entity, name);
        let custom = self.user_fields[entity.index()]
            .iter()
            .find(|field| field.code == name)
            .and_then(|field| usize::try_from(field.id).ok());
        self.tables[entity.index()].get(id).ok_or(ActionError::NoRecord(id))?;
        match (plain, custom) {
            (Some(at), _) => self.edit(entity, id, keep_date, |facts| {
                facts.plain[at] = Plain::Raw(value);
            }),
            (None, Some(number)) => self.edit(entity, id, keep_date, |facts| {
                let length = facts.custom.len().max(number);
                facts.custom.resize(length, Custom::Empty);
                facts.custom[number - 1] = Custom::Json(value);
            }),
            (None, None) => Err(missing()),
        }
    }

    fn set_multi(
        &mut self,
        entity: Entity,
        id: i64,
        field: &str,
        values: Vec<(String, String)>,
    ) -> Result<(), ActionError> {
        let kind = MULTI
            .iter()
            .position(|name| *name == field)
            .ok_or_else(|| ActionError::NoField(field.to_owned()))?;
        let first_new = self.next_value_id;
        self.next_value_id += i64::try_from(values.len()).unwrap_or(0);
        self.edit(entity, id, false, |facts| {
            let mut before = std::mem::take(&mut facts.multi[kind]);
            for ((value, value_type), new) in values.into_iter().zip(first_new..) {
                let same = before.iter().position(|multi| multi.value == value);
                let id = same.map_or(new, |at| before.remove(at).id);
                facts.multi[kind].push(Multi {
                    id,
                    value: Cow::Owned(value),
                    value_type: Cow::Owned(value_type),
                });
            }
        })
    }

    fn set_products(
        &mut self,
        entity: Entity,
        id: i64,
        products: Vec<(String, String, String)>,
    ) -> Result<(), ActionError> {
        if entity.product_code().is_none() {
            return Err(ActionError::NoField("productRows".to_owned()));
        }
        let first_new = self.next_value_id;
        self.next_value_id += i64::try_from(products.len()).unwrap_or(0);
        self.edit(entity, id, false, |facts| {
            let mut before = std::mem::take(&mut facts.products);
            for ((name, price, quantity), new) in products.into_iter().zip(first_new..) {
                let same = before.iter().position(|product| product.name == name);
                let old = same.map(|at| before.remove(at));
                facts.products.push(Product {
                    id: old.as_ref().map_or(new, |old| old.id),
                    catalogued: old.map_or(0, |old| old.catalogued),
                    name: Cow::Owned(name),
                    price,
                    quantity,
                });
            }
        })
    }

    fn set_links(
        &mut self,
        entity: Entity,
        id: i64,
        field: &str,
        mut ids: Vec<i64>,
        keep_date: bool,
    ) -> Result<(), ActionError> {
        let content = entity.fields().iter().find(|own| own.name == field).map(|own| own.content);
        match (content, entity.primary_link()) {
            (Some(Content::Observers), _) => {
                self.edit(entity, id, keep_date, |facts| facts.observers = ids)
            }
            (Some(Content::Links), Some(at)) => self.edit(entity, id, keep_date, |facts| {
                let further = ids.split_off(ids.len().min(1));
                facts.plain[at] = ids.first().map_or(Plain::Unset, |primary| Plain::Int(*primary));
                facts.linked = further;
            }),
            _ => Err(ActionError::NoField(field.to_owned())),
        }
    }

    fn move_stage(
        &mut self,
        entity: Entity,
        id: i64,
        stage: Option<&str>,
        now: i64,
    ) -> Result<(), ActionError> {
        let missing = || ActionError::NoStage(stage.unwrap_or_default().to_owned());
        let record = self.tables[entity.index()].get(id).ok_or(ActionError::NoRecord(id))?;
        let to = match stage {
            Some(code) => entity.stage(code),
            None => Standing::of(entity, &self.facts(entity, record)).map(Standing::next),
        };
        let to = to.ok_or_else(missing)?;
        self.edit(entity, id, false, |facts| move_to(facts, entity, to, now))
    }

    /// The given records, or random listed ones without a late write.
    fn chosen(
        &mut self,
        entity: Entity,
        ids: Vec<i64>,
        count: u64,
    ) -> Result<Vec<i64>, ActionError> {
        let table = &self.tables[entity.index()];
        if !ids.is_empty() {
            for id in &ids {
                let late = |pending: &Pending| pending.entity == entity && pending.record.id == *id;
                if table.get(*id).is_none() && !self.pending.iter().any(late) {
                    return Err(ActionError::NoRecord(*id));
                }
            }
            return Ok(ids);
        }
        let late: BTreeSet<i64> = self
            .pending
            .iter()
            .filter(|pending| pending.entity == entity)
            .map(|pending| pending.record.id)
            .collect();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let mut chosen = Vec::new();
        if count > table.listed() / 20 {
            let mut all: Vec<i64> = table
                .iter()
                .filter(|record| record.category == 0 && !late.contains(&record.id))
                .map(|record| record.id)
                .collect();
            while chosen.len() < count && !all.is_empty() {
                let at = self.rng.below(u64::try_from(all.len()).unwrap_or(1));
                chosen.push(all.swap_remove(usize::try_from(at).unwrap_or(0)));
            }
            return Ok(chosen);
        }
        let mut seen = late;
        let last = table.last_id().unwrap_or(0);
        let last_small = table.range(..1 << 31).next_back().map_or(0, |r| r.id);
        let first_big = table.range(1 << 31..).next().map_or(0, |r| r.id);
        while chosen.len() < count {
            // Ids beyond 2^31 are few but not to be forgotten.
            let from = if first_big > 0 && self.rng.once_in(10) {
                self.rng.between(first_big, last)
            } else {
                self.rng.between(1, last_small.max(1))
            };
            let mut after = table.range(from..).chain(table.range(..from));
            let next = after.find(|r| r.category == 0 && !seen.contains(&r.id));
            let Some(record) = next else { break };
            seen.insert(record.id);
            chosen.push(record.id);
        }
        Ok(chosen)
    }

    fn deleted(&mut self, entity: Entity, ids: Vec<i64>, count: u64) -> Vec<i64> {
        if !ids.is_empty() {
            return ids;
        }
        let bin = &self.tables[entity.index()].bin;
        let mut all: Vec<i64> = bin.keys().copied().collect();
        let mut chosen = Vec::new();
        for _ in 0..count {
            if all.is_empty() {
                break;
            }
            let at = self.rng.below(u64::try_from(all.len()).unwrap_or(1));
            chosen.push(all.swap_remove(usize::try_from(at).unwrap_or(0)));
        }
        chosen
    }
}
