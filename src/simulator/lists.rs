//! `crm.contact.list`, `crm.lead.list` and their `get`.

use super::entity::Entity;
use super::faults::FaultKind;
use super::fields::{Content, MULTI};
use super::php::{Array, Php};
use super::portal::{Answer, Failure, Portal, RequestState, Rights, parameter};
use super::query::{Blindness, Filter, Order};
use super::rows::needs_facts;
use super::search::PAGE;

/// What a `select` names.
#[derive(Debug, Default)]
struct Select {
    all_plain: bool,
    all_custom: bool,
    plain: Vec<usize>,
    custom: Vec<usize>,
    multi: [bool; 5],
}

impl Select {
    fn read(portal: &Portal, entity: Entity, select: Option<&Php>) -> Self {
        let mut read = Self::default();
        let names: Vec<String> = match select {
            Some(Php::Array(names)) => names.values().filter_map(Php::to_text).collect(),
            Some(name) => name.to_text().into_iter().collect(),
            None => Vec::new(),
        };
        if names.iter().all(String::is_empty) {
            read.all_plain = true;
            read.all_custom = true;
            return read;
        }
        let id = entity.fields().iter().position(|f| f.content == Content::Id);
        read.plain.extend(id);
        for name in names {
            if let Some(kind) = MULTI.iter().position(|own| *own == name) {
                read.multi[kind] = true;
                continue;
            }
            let name = name.to_uppercase();
            match name.as_str() {
                "*" => read.all_plain = true,
                "UF_*" => read.all_custom = true,
                _ => {
                    let plain = entity.fields().iter().position(|own| own.name == name);
                    read.plain.extend(plain.filter(|at| !read.plain.contains(at)));
                    let fields = &portal.user_fields[entity.index()];
                    read.custom.extend(fields.iter().position(|own| own.code == name));
                }
            }
        }
        read
    }

    fn needs_facts(&self, entity: Entity) -> bool {
        self.all_plain
            || self.all_custom
            || !self.custom.is_empty()
            || self.multi.contains(&true)
            || self.plain.iter().any(|at| needs_facts(entity.fields()[*at].content))
    }
}

/// What faults do to the reading of a filter.
pub(super) fn blindness(faults: &[FaultKind]) -> Blindness {
    Blindness {
        ignores_filter: faults.contains(&FaultKind::IgnoreFilter),
        misreads_dates: faults.contains(&FaultKind::MisreadDate),
        hides: faults.iter().find_map(|fault| match fault {
            FaultKind::HideRows { every } => Some((*every).max(1)),
            _ => None,
        }),
    }
}

impl Portal {
    pub(super) fn list(
        &mut self,
        request: &mut RequestState,
        entity: Entity,
        params: &Array,
        faults: &[FaultKind],
    ) -> Result<Answer, Failure> {
        if self.rights[entity.index()] == Rights::None {
            self.stats.spring(16);
            return Err(Failure::new(400, "", "Access denied."));
        }
        let none = Array::default();
        let map = |name: &str| match parameter(params, name) {
            None | Some(Php::Null) => Ok(&none),
            Some(Php::Array(array)) => Ok(array),
            Some(_) => {
                let text = format!("Parameter '{name}' must be array.");
                Err(Failure::new(400, "", &text))
            }
        };
        let (order, filter) = (map("order")?, map("filter")?);
        let schema = self.schema(entity);
        let filter = Filter::read(schema, filter, blindness(faults))?;
        let order = Order::read(schema, order)?;
        let mut select = Select::read(self, entity, parameter(params, "select"));
        let named_multi = select.multi.contains(&true);
        if faults.contains(&FaultKind::DropMultiFields) {
            select.multi = [false; 5];
        }
        if params.get("start").is_none() && params.get("START").is_some() {
            self.stats.spring(5);
        }
        let start = params.get("start").map_or(0, Php::to_int);
        let wanted = usize::try_from(start).ok().map(|start| start / PAGE * PAGE);
        let found = self.find(self.schema(entity), &filter, &order, wanted);
        self.note_query(entity, &filter, &order, &found);
        if select.all_plain && !named_multi && !found.ids.is_empty() {
            self.stats.spring(18);
        }
        let mut answer = Answer::default();
        if let (Some(wanted), Some(total)) = (wanted, found.total) {
            self.stats.counts += 1;
            if wanted > 0 && wanted >= total && total > 0 {
                self.stats.spring(4);
            }
            let next = self.overrun(true).offset(wanted, total) + PAGE;
            let total = self.counted(total);
            answer.next = (next < total).then(|| i64::try_from(next).unwrap_or(0));
            answer.total = i64::try_from(total).ok();
        } else {
            answer.total = (!self.options.total_absent).then_some(0);
            if answer.total == Some(0) && !found.ids.is_empty() {
                self.stats.spring(3);
            }
        }
        self.write_rows(request, entity, &select, &found.ids, &mut answer);
        Ok(answer)
    }

    fn write_rows(
        &mut self,
        request: &mut RequestState,
        entity: Entity,
        select: &Select,
        ids: &[i64],
        answer: &mut Answer,
    ) {
        // Whole parts come from the cache; a mixture is encoded as it is asked for.
        let parts = select.all_plain && select.custom.is_empty();
        if parts {
            answer.body.reserve(ids.len() * 3_600);
        }
        answer.id_key = Some("ID");
        answer.body.push(b'[');
        for id in ids {
            if answer.body.len() > 1 {
                answer.body.push(b',');
            }
            let from = answer.body.len();
            answer.body.push(b'{');
            if parts {
                self.write_parts(entity, select, *id, &mut answer.body);
            } else {
                self.write_named(entity, select, *id, &mut answer.body);
            }
            answer.body.push(b'}');
            answer.rows.push((*id, from..answer.body.len()));
            if select.all_plain
                && let Some(kind) = self.faults.poison(entity, *id)
            {
                request.poison = Some(kind.clone());
            }
        }
        answer.body.push(b']');
        let count = u64::try_from(ids.len()).unwrap_or(0);
        self.stats.rows += count;
        if select.all_plain {
            self.stats.rows_full += count;
            self.stats.spring_times(20, ids.len());
        } else {
            self.stats.rows_narrow += count;
        }
    }

    fn write_parts(&mut self, entity: Entity, select: &Select, id: i64, out: &mut Vec<u8>) {
        let Some(row) = self.row(entity, id) else {
            return;
        };
        out.extend_from_slice(row.plain());
        if select.all_custom {
            out.extend_from_slice(row.custom());
        }
        for (kind, wanted) in select.multi.iter().enumerate() {
            if *wanted {
                out.extend_from_slice(row.multi(kind));
            }
        }
        let marks = row.marks;
        let named = select.multi.contains(&true);
        self.stats.spring_times(18, usize::from(marks.lost_key && named));
        self.stats.spring_times(19, usize::from(marks.shuffled && named));
        self.stats.spring_times(31, usize::from(marks.unresolved_user));
        self.stats.spring_times(35, usize::from(marks.secret));
    }

    fn write_named(&self, entity: Entity, select: &Select, id: i64, out: &mut Vec<u8>) {
        let Some(record) = self.tables[entity.index()].get(id) else {
            return;
        };
        let facts = select.needs_facts(entity).then(|| self.facts(entity, record));
        let encoder = self.encoder(entity);
        if select.all_plain {
            for at in 0..entity.fields().len() {
                encoder.plain(out, record, facts.as_ref(), at);
            }
        } else {
            for at in &select.plain {
                encoder.plain(out, record, facts.as_ref(), *at);
            }
        }
        let Some(facts) = &facts else { return };
        if select.all_custom {
            for at in 0..self.user_fields[entity.index()].len() {
                encoder.custom(out, record, facts, at);
            }
        } else {
            for at in &select.custom {
                encoder.custom(out, record, facts, *at);
            }
        }
        for (kind, values) in facts.multi.iter().enumerate() {
            if select.multi[kind] {
                encoder.multi(out, record, kind, values);
            }
        }
    }

    pub(super) fn get(
        &mut self,
        request: &mut RequestState,
        entity: Entity,
        params: &Array,
    ) -> Result<Answer, Failure> {
        let id = params.get("id").or_else(|| params.get("ID")).map_or(0, Php::to_int);
        if id <= 0 {
            return Err(Failure::new(400, "", "ID is not defined or invalid."));
        }
        let record = self.tables[entity.index()].get(id).filter(|record| record.category == 0);
        let Some(record) = record else {
            return Err(Failure::new(400, "", "Not found"));
        };
        if !self.is_readable(entity, record) {
            return Err(Failure::new(400, "", "Access denied."));
        }
        let facts = self.facts(entity, record);
        let mut encoder = self.encoder(entity);
        encoder.sorted = true;
        let parts = encoder.parts(&mut Vec::new(), record, &facts);
        let mut answer = Answer::default();
        answer.body.push(b'{');
        answer.body.extend_from_slice(parts.whole());
        answer.body.push(b'}');
        request.poison = self.faults.poison(entity, id).cloned();
        self.stats.spring(20);
        Ok(answer)
    }
}
