//! A page of a small table beside the records.

use super::php::{Array, Php};
use super::portal::{Answer, Portal};
use super::query::{Cell, Sheet};
use super::search::PAGE;

impl Portal {
    /// The page that is asked for, under `key`; rows stand in the order of their ids.
    pub(super) fn sheet_page<T>(
        &mut self,
        key: &str,
        sheet: &Sheet,
        rows: impl Iterator<Item = (Vec<Cell>, T)>,
        start: i64,
        write: impl Fn(&Self, T) -> Array,
    ) -> Answer {
        let offset = usize::try_from(start).ok().map(|start| start / PAGE * PAGE);
        let mut matching = rows.filter(|(cells, _)| sheet.admits(cells));
        let mut found: Vec<(Vec<Cell>, T)> = if offset.is_none() && sheet.is_by_id() {
            matching.by_ref().take(PAGE).collect()
        } else {
            matching.collect()
        };
        if !sheet.is_by_id() {
            found.sort_by(|left, right| sheet.compare(&left.0, &right.0));
        }
        let total = found.len();
        let from = offset.unwrap_or(0);
        let page: Vec<T> = found.into_iter().skip(from).take(PAGE).map(|(_, row)| row).collect();
        let mut answer = Answer::default();
        if offset.is_some() {
            self.stats.counts += 1;
            let next = from + page.len();
            let goes_on = !page.is_empty() && next < total;
            answer.next = goes_on.then(|| i64::try_from(next).unwrap_or(0));
            answer.total = i64::try_from(total).ok();
        } else {
            answer.total = self.options.item_total_zero.then_some(0);
        }
        let rows: Array = page.into_iter().map(|row| Php::from(write(self, row))).collect();
        let result: Php = Array::default().with(key, rows).into();
        result.write(&mut answer.body, self.writing());
        answer
    }
}
