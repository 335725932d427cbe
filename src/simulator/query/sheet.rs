//! Filters and orders of the small tables beside the records: stage history and product
//! rows. They speak the stricter dialect of `crm.item.list`, over flat rows.

use std::cmp::Ordering;

use super::condition::{Cell, Condition, Op, PREFIXES, Values, without_like};
use super::refused;
use super::schema::Target;
use crate::simulator::clock::{Clock, strtotime};
use crate::simulator::fields::Type;
use crate::simulator::php::{Array, Php};
use crate::simulator::portal::Failure;

/// The columns of a table; the first one is the id.
pub(in crate::simulator) type Columns = &'static [(&'static str, Type)];

/// What is asked of a table.
#[derive(Debug)]
pub(in crate::simulator) struct Sheet {
    conditions: Vec<Condition>,
    order: Vec<(usize, bool)>,
}

impl Sheet {
    pub(in crate::simulator) fn read(
        columns: Columns,
        clock: &Clock,
        filter: &Array,
        order: &Array,
    ) -> Result<Self, Failure> {
        let place = |name: &str| columns.iter().position(|(own, _)| *own == name);
        let mut read = Self { conditions: Vec::new(), order: Vec::new() };
        for (key, value) in filter.iter() {
            let key = key.text();
            let name = key.trim_start_matches(['!', '=', '<', '>', '@', '%']);
            let found = PREFIXES.iter().find_map(|(prefix, op)| {
                let at = place(key.strip_prefix(prefix)?)?;
                Some((*op, at))
            });
            let Some((op, at)) = found else {
                let text = format!("Invalid filter: field '{name}' is not allowed in filter");
                return Err(refused(&text));
            };
            let condition = condition(columns[at].1, clock, op, at, value).ok_or_else(|| {
                refused(&format!("Invalid filter: field '{name}' has invalid value"))
            })?;
            read.conditions.push(condition);
        }
        for (key, direction) in order.iter() {
            let name = key.text();
            let Some(at) = place(&name) else {
                let text = format!("Invalid order: field '{name}' is not allowed in order");
                return Err(refused(&text));
            };
            let direction = direction.to_text().unwrap_or_default();
            read.order.push((at, !direction.eq_ignore_ascii_case("asc")));
        }
        Ok(read)
    }

    /// No row before this id can match.
    pub(in crate::simulator) fn least_id(&self) -> i64 {
        let bound = |condition: &Condition| match (&condition.values, condition.op) {
            (Values::Ints(values), Op::Gt | Op::Ge) if condition.target == Target::Plain(0) => {
                values.iter().min().copied()
            }
            _ => None,
        };
        self.conditions.iter().filter_map(bound).max().unwrap_or(i64::MIN)
    }

    /// Whether rows come in the order of their ids, as they are stored.
    pub(in crate::simulator) fn is_by_id(&self) -> bool {
        matches!(self.order.first(), None | Some((0, false)))
    }

    pub(in crate::simulator) fn admits(&self, cells: &[Cell]) -> bool {
        self.conditions.iter().all(|condition| match condition.target {
            Target::Plain(at) => condition.admits(&cells[at..=at]),
            _ => false,
        })
    }

    pub(in crate::simulator) fn compare(&self, left: &[Cell], right: &[Cell]) -> Ordering {
        let by_key = |(at, descending): &(usize, bool)| {
            let order = left[*at].compare(&right[*at]);
            if *descending { order.reverse() } else { order }
        };
        let first = self.order.iter().map(by_key).find(|order| order.is_ne());
        first.unwrap_or_else(|| left[0].compare(&right[0]))
    }
}

/// None if the value cannot be read.
fn condition(kind: Type, clock: &Clock, op: Op, at: usize, value: &Php) -> Option<Condition> {
    let several = value.as_array();
    let scalars: Vec<&Php> = match several {
        Some(_) if matches!(op, Op::Gt | Op::Ge | Op::Lt | Op::Le) => return None,
        Some(array) => array.values().collect(),
        None => vec![value],
    };
    let texts = scalars.iter().map(|value| value.to_text());
    let values = match kind {
        kind if kind.is_whole() => Values::Ints(scalars.iter().copied().map(Php::to_int).collect()),
        Type::Double => {
            Values::Numbers(texts.map(|text| text?.parse().ok()).collect::<Option<_>>()?)
        }
        Type::DateTime => {
            let local = |text: &str| Some(strtotime(text, clock)?.local(clock.zone));
            Values::Ints(texts.map(|text| local(&text?)).collect::<Option<_>>()?)
        }
        _ => Values::Texts(texts.map(|text| Some(text?.to_lowercase())).collect::<Option<_>>()?),
    };
    let op = if kind.has_like() { op } else { without_like(op) };
    let op = if op == Op::Eq && several.is_some() { Op::In } else { op };
    Some(Condition { target: Target::Plain(at), op, values })
}
