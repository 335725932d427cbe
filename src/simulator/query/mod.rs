//! The filter and the order of a list (vendor pages `crm-contact-list`,
//! `crm-lead-list`, `crm-item-list`): what the portal understands of them, what it drops
//! and what it refuses.

mod condition;
mod schema;
mod sheet;

use std::cmp::Ordering;

use super::fields::Content;
use super::php::{Array, Key, Php};
use super::portal::Failure;
use super::records::{Facts, Record};
use condition::{Condition, Op, Values};
use schema::Target;

pub(super) use condition::Cell;
pub(super) use schema::{Dialect, ItemReading, Schema};
pub(super) use sheet::{Columns, Sheet};

fn refused(text: &str) -> Failure {
    Failure::new(400, "INVALID_ARG_VALUE", text)
}

/// A condition, or several in brackets.
#[derive(Clone, Debug)]
enum Node {
    One(Condition),
    Group { any: bool, nodes: Vec<Node> },
}

/// What was lost while a filter was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Misread {
    pub(super) dropped_keys: usize,
    pub(super) null_dates: usize,
}

/// A filter that the portal has understood.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// Inclusive bounds of the id.
    pub(super) ids: (i64, i64),
    /// Inclusive bounds of the local modification time.
    pub(super) modified: (i64, i64),
    /// Only these ids, sorted.
    pub(super) only: Option<Vec<i64>>,
    /// Whether nothing can match.
    pub(super) nothing: bool,
    /// Whether `DATE_MODIFY` has a lower bound; and the upper one, if any.
    pub(super) by_date: bool,
    pub(super) upper_bound: Option<i64>,
    /// Records whose ID is a multiple of it do not match.
    hides: Option<u64>,
    rest: Vec<Node>,
    pub(super) misread: Misread,
}

/// Faults that concern the reading of a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Blindness {
    pub(super) ignores_filter: bool,
    pub(super) misreads_dates: bool,
    pub(super) hides: Option<u64>,
}

impl Filter {
    pub(super) fn read(
        schema: Schema<'_>,
        filter: &Array,
        blindness: Blindness,
    ) -> Result<Self, Failure> {
        let mut read = Self {
            ids: (i64::MIN, i64::MAX),
            modified: (i64::MIN, i64::MAX),
            only: None,
            nothing: false,
            hides: blindness.hides,
            by_date: false,
            upper_bound: None,
            rest: Vec::new(),
            misread: Misread::default(),
        };
        let mut dropped = 0;
        let (any, nodes) = group(schema, filter, blindness, &mut dropped)?;
        read.misread.dropped_keys = dropped;
        if any {
            read.rest.push(Node::Group { any, nodes });
            return Ok(read);
        }
        for node in nodes {
            match node {
                Node::One(condition) => read.take(schema, condition),
                group @ Node::Group { .. } => read.rest.push(group),
            }
        }
        Ok(read)
    }

    /// Whether the filter lets everything pass.
    pub(super) fn is_trivial(&self) -> bool {
        self.ids == (i64::MIN, i64::MAX)
            && self.modified == (i64::MIN, i64::MAX)
            && self.only.is_none()
            && !self.nothing
            && self.rest.is_empty()
    }

    /// Whether matching needs a record's facts and not only its head.
    pub(super) fn needs_facts(&self) -> bool {
        !self.rest.is_empty()
    }

    fn take(&mut self, schema: Schema<'_>, condition: Condition) {
        if condition.values == Values::IsNull {
            self.misread.null_dates += 1;
        }
        let content = schema.content(condition.target);
        let bounds = match content {
            Content::Id => &mut self.ids,
            Content::Modified => &mut self.modified,
            _ => {
                self.rest.push(Node::One(condition));
                return;
            }
        };
        let Values::Ints(values) = &condition.values else {
            // These two columns are never null.
            self.nothing = true;
            return;
        };
        if content == Content::Modified {
            self.by_date |= matches!(condition.op, Op::Gt | Op::Ge);
            if matches!(condition.op, Op::Lt | Op::Le) {
                self.upper_bound = values.iter().max().copied();
            }
        }
        let least = values.iter().min().copied().unwrap_or(i64::MAX);
        let most = values.iter().max().copied().unwrap_or(i64::MIN);
        match condition.op {
            Op::Gt => bounds.0 = bounds.0.max(least.saturating_add(1)),
            Op::Ge => bounds.0 = bounds.0.max(least),
            Op::Lt => bounds.1 = bounds.1.min(most.saturating_sub(1)),
            Op::Le => bounds.1 = bounds.1.min(most),
            Op::Eq | Op::In if content == Content::Id => {
                let mut wanted = values.clone();
                wanted.sort_unstable();
                wanted.dedup();
                if let Some(before) = &self.only {
                    wanted.retain(|id| before.binary_search(id).is_ok());
                }
                self.only = Some(wanted);
            }
            _ => self.rest.push(Node::One(condition)),
        }
    }

    /// Whether a record's head passes.
    pub(super) fn admits_head(&self, record: &Record) -> bool {
        (self.ids.0..=self.ids.1).contains(&record.id)
            && (self.modified.0..=self.modified.1).contains(&record.modified)
            && self.hides.is_none_or(|every| !record.id.unsigned_abs().is_multiple_of(every))
    }

    /// Whether a record's facts pass.
    pub(super) fn admits(&self, schema: Schema<'_>, record: &Record, facts: &Facts) -> bool {
        self.rest.iter().all(|node| node.admits(schema, record, facts))
    }
}

impl Node {
    fn admits(&self, schema: Schema<'_>, record: &Record, facts: &Facts) -> bool {
        let admits = |node: &Self| node.admits(schema, record, facts);
        match self {
            Self::One(condition) => {
                condition.admits(&schema.cells(condition.target, record, facts))
            }
            Self::Group { any: true, nodes } => nodes.iter().any(admits),
            Self::Group { nodes, .. } => nodes.iter().all(admits),
        }
    }
}

/// The conditions of a group, and whether one of them is enough. Only `crm.item.list`
/// knows groups in groups.
fn group(
    schema: Schema<'_>,
    filter: &Array,
    blindness: Blindness,
    dropped: &mut usize,
) -> Result<(bool, Vec<Node>), Failure> {
    let mut any = false;
    let mut nodes = Vec::new();
    for (key, value) in filter.iter() {
        match (key, value) {
            (Key::Int(_), Php::Array(inner)) if schema.dialect != Dialect::Classic => {
                let (any, nodes_within) = group(schema, inner, blindness, dropped)?;
                nodes.push(Node::Group { any, nodes: nodes_within });
            }
            (Key::Text(name), logic) if name == "logic" && schema.dialect != Dialect::Classic => {
                any = logic.to_text().is_some_and(|logic| logic.eq_ignore_ascii_case("or"));
            }
            _ => match schema.condition(&key.text(), value, blindness)? {
                Some(condition) => nodes.push(Node::One(condition)),
                None => *dropped += 1,
            },
        }
    }
    Ok((any, nodes))
}

/// The order that a list asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    /// None: the portal serves by modification time.
    Unspecified,
    Id {
        descending: bool,
    },
    Fields(Vec<SortKey>),
}

/// One field of an order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SortKey {
    target: Target,
    descending: bool,
}

impl Order {
    /// Classic: field names in any case, everything but `ASC` is descending, unknown
    /// fields are ignored. Items: names and directions as documented, or an error.
    pub(super) fn read(schema: Schema<'_>, order: &Array) -> Result<Self, Failure> {
        let strict = schema.dialect != Dialect::Classic;
        let mut keys = Vec::new();
        for (key, direction) in order.iter() {
            let name = if strict { key.text() } else { key.text().to_uppercase() };
            let direction = direction.to_text().unwrap_or_default();
            let Some(target) = schema.target(&name) else {
                if strict {
                    let text = format!("Invalid order: field '{name}' is not allowed in order");
                    return Err(refused(&text));
                }
                continue;
            };
            let descending = !direction.eq_ignore_ascii_case("asc");
            if strict && descending && !direction.eq_ignore_ascii_case("desc") {
                return Err(refused(&format!(
                    "Invalid order: allowed sort directions are `ASC, DESC`. But got \
                     '{direction}' for field '{name}'"
                )));
            }
            keys.push(SortKey { target, descending });
        }
        Ok(match keys.first() {
            None => Self::Unspecified,
            Some(SortKey { target: Target::Plain(0), descending }) => {
                Self::Id { descending: *descending }
            }
            Some(_) => Self::Fields(keys),
        })
    }

    /// Compares two records under the order's fields.
    pub(super) fn compare(
        &self,
        schema: Schema<'_>,
        left: (&Record, &Facts),
        right: (&Record, &Facts),
    ) -> Ordering {
        let Self::Fields(keys) = self else {
            return left.0.id.cmp(&right.0.id);
        };
        for key in keys {
            let cell = |(record, facts)| schema.sort_cell(key.target, record, facts);
            let order = cell(left).compare(&cell(right));
            let order = if key.descending { order.reverse() } else { order };
            if order.is_ne() {
                return order;
            }
        }
        left.0.modified.cmp(&right.0.modified)
    }
}
