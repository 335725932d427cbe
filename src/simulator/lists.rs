//! `crm.contact.list`, `crm.lead.list` and their `get`.

use super::dataset::mix;
use super::faults::FaultKind;
use super::fields::{Content, Entity, MULTI};
use super::php::{Array, Php};
use super::portal::{Answer, Failure, Portal, RequestState, Rights, parameter};
use super::query::{Blindness, Filter, Order};
use super::records::{Facts, Record};
use super::rows::needs_facts;

const PAGE: usize = 50;
/// Up to so many rows of a date range are sorted by id; denser ranges are read
/// in the order of ids at once.
const SORTED_AT_MOST: usize = 65_536;

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

struct Found {
    ids: Vec<i64>,
    /// Matches altogether, when they were counted.
    total: Option<usize>,
    hidden: usize,
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
        let blindness = Blindness {
            ignores_filter: faults.contains(&FaultKind::IgnoreFilter),
            misreads_dates: faults.contains(&FaultKind::MisreadDate),
            hides: faults.iter().find_map(|fault| match fault {
                FaultKind::HideRows { every } => Some((*every).max(1)),
                _ => None,
            }),
        };
        let filter = Filter::read(self.schema(entity), filter, blindness);
        let order = Order::read(self.schema(entity), order);
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
        let found = self.find(entity, &filter, &order, wanted);
        self.note_query(entity, &filter, &order, &found);
        if select.all_plain && !named_multi && !found.ids.is_empty() {
            self.stats.spring(18);
        }
        let mut answer = Answer::default();
        if let (Some(mut offset), Some(total)) = (wanted, found.total) {
            self.stats.counts += 1;
            if offset > 0 && offset >= total {
                offset = 0;
                if total > 0 {
                    self.stats.spring(4);
                }
            }
            let next = offset + PAGE;
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

    fn note_query(&mut self, entity: Entity, filter: &Filter, order: &Order, found: &Found) {
        let stats = &mut self.stats;
        stats.spring_times(1, filter.misread.dropped_keys);
        stats.spring_times(2, filter.misread.null_dates);
        stats.spring_times(29, found.hidden);
        if *order == Order::Unspecified && !found.ids.is_empty() {
            stats.spring(34);
            if !found.ids.is_sorted() {
                stats.spring(41);
            }
        }
        let table = &self.tables[entity.index()];
        if filter.by_date {
            let served = found.ids.iter().filter_map(|id| table.get(*id));
            let latest = served.map(|record| record.modified).max();
            let until = &mut self.served_until[entity.index()];
            *until = (*until).max(latest.unwrap_or(i64::MIN));
        }
        if let Some(bound) = filter.upper_bound {
            let bounds = &mut self.upper_bounds[entity.index()];
            bounds.insert(bound);
            if bounds.len() > 8 {
                bounds.pop_first();
            }
        }
    }

    fn is_readable(&self, entity: Entity, record: &Record) -> bool {
        match self.rights[entity.index()] {
            Rights::Full => true,
            Rights::None => false,
            Rights::Without(share) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a share between 0 and 1"
                )]
                let hidden = (share.clamp(0.0, 1.0) * 10_000.0) as u64;
                mix(record.id.unsigned_abs(), 0xace) % 10_000 >= hidden
            }
        }
    }

    /// The ids of one page. Without an offset nothing is counted.
    fn find(&self, entity: Entity, filter: &Filter, order: &Order, offset: Option<usize>) -> Found {
        let table = &self.tables[entity.index()];
        let mut found = Found { ids: Vec::new(), total: None, hidden: 0 };
        if filter.nothing {
            found.total = offset.map(|_| 0);
            return found;
        }
        let mut candidates = self.candidates(entity, filter, order);
        let schema = self.schema(entity);
        let mut hidden = 0;
        let mut matches = |id: &i64| {
            let Some(record) = table.get(*id).filter(|record| filter.admits_head(record)) else {
                return false;
            };
            if record.category != 0 {
                hidden += 1;
                return false;
            }
            self.is_readable(entity, record)
                && (!filter.needs_facts()
                    || filter.admits(schema, record, &self.facts(entity, record)))
        };
        let by_fields = matches!(order, Order::Fields(_));
        let counted_already = filter.is_trivial() && self.rights[entity.index()] == Rights::Full;
        if by_fields || (offset.is_some() && !counted_already) {
            let mut all: Vec<i64> = candidates.filter(|id| matches(id)).collect();
            if by_fields {
                self.sort(entity, order, &mut all);
            }
            let total = all.len();
            let from = offset.filter(|from| *from < total).unwrap_or(0);
            found.ids = all.into_iter().skip(from).take(PAGE).collect();
            found.total = offset.map(|_| total);
        } else {
            let total = offset.map(|_| table.listed());
            let from = offset.filter(|from| total.is_none_or(|total| *from < total)).unwrap_or(0);
            let mut skipped = 0;
            while found.ids.len() < PAGE
                && let Some(id) = candidates.next()
            {
                if !matches(&id) {
                    continue;
                }
                if skipped < from {
                    skipped += 1;
                } else {
                    found.ids.push(id);
                }
            }
            found.total = total;
        }
        found.hidden = hidden;
        found
    }

    fn candidates<'a>(
        &'a self,
        entity: Entity,
        filter: &'a Filter,
        order: &Order,
    ) -> Box<dyn Iterator<Item = i64> + 'a> {
        let table = &self.tables[entity.index()];
        let (from, to) = filter.ids;
        let (since, until) = filter.modified;
        let modified = |id: &i64| table.get(*id).map(|record| record.modified);
        if let Some(only) = &filter.only {
            let mut ids = only.clone();
            match order {
                Order::Unspecified => ids.sort_by_key(modified),
                Order::Id { descending: true } => ids.reverse(),
                _ => {}
            }
            return Box::new(ids.into_iter());
        }
        if from > to || since > until {
            return Box::new(std::iter::empty());
        }
        if *order == Order::Unspecified {
            return Box::new(table.modified_between(since, until));
        }
        let descending = *order == Order::Id { descending: true };
        if since > i64::MIN {
            let mut ids: Vec<i64> =
                table.modified_between(since, until).take(SORTED_AT_MOST).collect();
            if ids.len() < SORTED_AT_MOST {
                ids.retain(|id| (from..=to).contains(id));
                ids.sort_unstable();
                if descending {
                    ids.reverse();
                }
                return Box::new(ids.into_iter());
            }
        }
        let ids = table.range(from..=to).map(|record| record.id);
        if descending { Box::new(ids.rev()) } else { Box::new(ids) }
    }

    fn sort(&self, entity: Entity, order: &Order, ids: &mut [i64]) {
        let table = &self.tables[entity.index()];
        let schema = self.schema(entity);
        let mut rows: Vec<(&Record, Facts)> = ids
            .iter()
            .filter_map(|id| table.get(*id))
            .map(|record| (record, self.facts(entity, record)))
            .collect();
        rows.sort_by(|left, right| order.compare(schema, (left.0, &left.1), (right.0, &right.1)));
        for (place, (record, _)) in ids.iter_mut().zip(rows) {
            *place = record.id;
        }
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
