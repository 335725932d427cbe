//! How both dialects of lists find the records of a page.

use super::dataset::mix;
use super::entity::Entity;
use super::portal::{Portal, Rights};
use super::query::{Dialect, Filter, Order, Schema};
use super::records::{Facts, Record};
use super::undocumented::Overrun;

/// Rows of a page.
pub(super) const PAGE: usize = 50;
/// Up to so many rows of a date range are sorted by id; denser ranges are read
/// in the order of ids at once.
const SORTED_AT_MOST: usize = 65_536;

/// A page.
pub(super) struct Found {
    pub(super) ids: Vec<i64>,
    /// Matches altogether, when they were counted.
    pub(super) total: Option<usize>,
    pub(super) hidden: usize,
}

impl Portal {
    pub(super) fn note_query(
        &mut self,
        entity: Entity,
        filter: &Filter,
        order: &Order,
        found: &Found,
    ) {
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

    pub(super) fn is_readable(&self, entity: Entity, record: &Record) -> bool {
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

    /// What a `start` behind the end brings.
    pub(super) fn overrun(&self, classic: bool) -> Overrun {
        let undocumented = &self.options.undocumented;
        if classic { undocumented.overrun } else { undocumented.item_overrun.into() }
    }

    /// How many rows are counted of so many.
    pub(super) fn counted(&self, total: usize) -> usize {
        self.options.undocumented.counts_up_to.map_or(total, |most| total.min(most))
    }

    /// The ids of one page. Without an offset nothing is counted.
    pub(super) fn find(
        &self,
        schema: Schema<'_>,
        filter: &Filter,
        order: &Order,
        offset: Option<usize>,
    ) -> Found {
        let entity = schema.entity;
        let classic = schema.dialect == Dialect::Classic;
        let overrun = self.overrun(classic);
        let table = &self.tables[entity.index()];
        let mut found = Found { ids: Vec::new(), total: None, hidden: 0 };
        if filter.nothing {
            found.total = offset.map(|_| 0);
            return found;
        }
        let mut candidates = self.candidates(entity, filter, order);
        let mut hidden = 0;
        let mut matches = |id: &i64| {
            let Some(record) = table.get(*id).filter(|record| filter.admits_head(record)) else {
                return false;
            };
            if classic && record.category != 0 {
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
                self.sort(schema, order, &mut all);
            }
            let total = all.len();
            let from = offset.map_or(0, |from| overrun.offset(from, total));
            found.ids = all.into_iter().skip(from).take(PAGE).collect();
            found.total = offset.map(|_| total);
        } else {
            let all = if classic { table.listed() } else { table.len() };
            let total = offset.map(|_| all);
            let from = offset.map_or(0, |from| overrun.offset(from, all));
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

    fn sort(&self, schema: Schema<'_>, order: &Order, ids: &mut [i64]) {
        let entity = schema.entity;
        let table = &self.tables[entity.index()];
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
}
