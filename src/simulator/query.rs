//! The filter and the order of a list (vendor pages `crm-contact-list`,
//! `crm-lead-list`): what the portal understands of them, and what it drops.

use std::cmp::Ordering;

use super::clock::{Clock, strtotime};
use super::content::STAGES;
use super::fields::{Content, Entity, MULTI, Type, UserField, UserFieldType};
use super::php::{Array, Php};
use super::records::{Custom, Facts, Plain, Record};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    In,
    NotIn,
    /// LIKE `%value%`.
    Holds,
    /// LIKE with the caller's own wildcards.
    Like,
    HoldsNot,
    NotLike,
}

/// Longest first.
const PREFIXES: [(&str, Op); 16] = [
    ("!=%", Op::NotLike),
    ("!%=", Op::NotLike),
    ("!%", Op::HoldsNot),
    ("!@", Op::NotIn),
    ("!=", Op::Ne),
    (">=", Op::Ge),
    ("<=", Op::Le),
    ("=%", Op::Like),
    ("%=", Op::Like),
    ("!", Op::Ne),
    (">", Op::Gt),
    ("<", Op::Lt),
    ("@", Op::In),
    ("%", Op::Holds),
    ("=", Op::Eq),
    ("", Op::Eq),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Plain(usize),
    Custom(usize),
    Multi(usize),
}

/// How the values of a condition compare.
#[derive(Clone, Debug, PartialEq)]
enum Values {
    Ints(Vec<i64>),
    Numbers(Vec<f64>),
    /// Lower case.
    Texts(Vec<String>),
    /// An unreadable date.
    IsNull,
}

#[derive(Clone, Debug)]
struct Condition {
    target: Target,
    op: Op,
    values: Values,
}

/// A record's value, as a condition or an order sees it.
#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Null,
    Int(i64),
    Number(f64),
    Text(String),
}

/// What was lost while a filter was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Misread {
    pub(super) dropped_keys: usize,
    pub(super) null_dates: usize,
}

/// What the fields mean for filters and orders.
#[derive(Clone, Copy)]
pub(super) struct Schema<'a> {
    pub(super) entity: Entity,
    pub(super) user_fields: &'a [UserField],
    pub(super) clock: &'a Clock,
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
    rest: Vec<Condition>,
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
    pub(super) fn read(schema: Schema<'_>, filter: &Array, blindness: Blindness) -> Self {
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
        for (key, value) in filter.iter() {
            match schema.condition(&key.text(), value, blindness) {
                Some(condition) => read.take(schema, condition),
                None => read.misread.dropped_keys += 1,
            }
        }
        read
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
        let content = match condition.target {
            Target::Plain(at) => schema.entity.fields()[at].content,
            _ => Content::Unlisted,
        };
        let bounds = match content {
            Content::Id => &mut self.ids,
            Content::Modified => &mut self.modified,
            _ => {
                self.rest.push(condition);
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
            _ => self.rest.push(condition),
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
        self.rest
            .iter()
            .all(|condition| condition.admits(&schema.cells(condition.target, record, facts)))
    }
}

impl Condition {
    fn admits(&self, cells: &[Cell]) -> bool {
        let negative = matches!(self.op, Op::Ne | Op::NotIn | Op::HoldsNot | Op::NotLike);
        if negative {
            cells.iter().all(|cell| self.admits_cell(cell))
        } else {
            cells.iter().any(|cell| self.admits_cell(cell))
        }
    }

    fn admits_cell(&self, cell: &Cell) -> bool {
        let null = *cell == Cell::Null;
        match (&self.values, self.op) {
            (Values::IsNull, _) => null,
            // `= 0` and `= ""` match rows without a value, too.
            (_, Op::Eq) => self.any(cell, Ordering::is_eq) || (null && self.has_blank()),
            (_, Op::Ne) => null || !self.any(cell, Ordering::is_eq),
            (_, Op::In) => self.any(cell, Ordering::is_eq),
            (_, Op::NotIn) => !null && !self.any(cell, Ordering::is_eq),
            (_, Op::Gt) => self.any(cell, Ordering::is_gt),
            (_, Op::Ge) => self.any(cell, Ordering::is_ge),
            (_, Op::Lt) => self.any(cell, Ordering::is_lt),
            (_, Op::Le) => self.any(cell, Ordering::is_le),
            (_, Op::Holds) => self.like(cell, |text, value| text.contains(value)),
            (_, Op::HoldsNot) => null || !self.like(cell, |text, value| text.contains(value)),
            (_, Op::Like) => self.like(cell, wildcard),
            (_, Op::NotLike) => null || !self.like(cell, wildcard),
        }
    }

    fn any(&self, cell: &Cell, wanted: fn(Ordering) -> bool) -> bool {
        let found = |order: Option<Ordering>| order.is_some_and(wanted);
        match (&self.values, cell) {
            (Values::Ints(values), Cell::Int(own)) => {
                values.iter().any(|value| found(Some(own.cmp(value))))
            }
            (Values::Numbers(values), Cell::Number(own)) => {
                values.iter().any(|value| found(own.partial_cmp(value)))
            }
            (Values::Texts(values), Cell::Text(own)) => {
                values.iter().any(|value| found(Some(own.as_str().cmp(value.as_str()))))
            }
            _ => false,
        }
    }

    fn like(&self, cell: &Cell, matches: fn(&str, &str) -> bool) -> bool {
        match (&self.values, cell) {
            (Values::Texts(values), Cell::Text(own)) => {
                values.iter().any(|value| matches(own, value))
            }
            _ => self.any(cell, Ordering::is_eq),
        }
    }

    fn has_blank(&self) -> bool {
        match &self.values {
            Values::Ints(values) => values.contains(&0),
            Values::Numbers(values) => values.iter().any(|value| value.abs() < f64::EPSILON),
            Values::Texts(values) => values.iter().any(String::is_empty),
            Values::IsNull => true,
        }
    }
}

/// SQL's LIKE with `%` and `_`.
fn wildcard(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let pattern: Vec<char> = pattern.chars().collect();
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for sign in pattern {
        let mut next = vec![false; text.len() + 1];
        if sign == '%' {
            let mut seen = false;
            for at in 0..=text.len() {
                seen |= reached[at];
                next[at] = seen;
            }
        } else {
            for at in 0..text.len() {
                next[at + 1] = reached[at] && (sign == '_' || sign == text[at]);
            }
        }
        reached = next;
    }
    reached[text.len()]
}

impl Schema<'_> {
    fn target(self, name: &str) -> Option<Target> {
        if let Some(at) = MULTI.iter().position(|own| *own == name) {
            return Some(Target::Multi(at));
        }
        let fields = self.entity.fields();
        let known = |at: &usize| fields[*at].content != Content::Unlisted;
        if let Some(at) = fields.iter().position(|own| own.name == name).filter(known) {
            return Some(Target::Plain(at));
        }
        let at = self.user_fields.iter().position(|own| own.code == name)?;
        Some(Target::Custom(at))
    }

    fn condition(self, key: &str, value: &Php, blindness: Blindness) -> Option<Condition> {
        let (op, target) = PREFIXES.iter().find_map(|(prefix, op)| {
            let name = key.strip_prefix(prefix)?;
            self.target(name).map(|target| (*op, target))
        })?;
        let content = match target {
            Target::Plain(at) => self.entity.fields()[at].content,
            _ => Content::Unlisted,
        };
        let watched = matches!(content, Content::Id | Content::Modified);
        if blindness.ignores_filter && watched {
            return None;
        }
        let empty_in = value.as_array().is_some_and(Array::is_empty);
        let scalars: Vec<&Php> = match value {
            Php::Array(array) if !self.casts_arrays(target, op) => array.values().collect(),
            other => vec![other],
        };
        let mut op = op;
        let values = match self.kind(target) {
            Type::Integer
            | Type::User
            | Type::Company
            | Type::Contact
            | Type::Lead
            | Type::Entity
            | Type::Photo => {
                op = without_like(op);
                Values::Ints(scalars.into_iter().map(Php::to_int).collect())
            }
            Type::Double => {
                op = without_like(op);
                let read = |value: &Php| value.to_text().and_then(|text| text.parse().ok());
                Values::Numbers(scalars.into_iter().filter_map(read).collect())
            }
            kind @ (Type::Date | Type::DateTime) => {
                op = without_like(op);
                let misread = blindness.misreads_dates && content == Content::Modified;
                let read = |value: &Php| {
                    let text = value.to_text().filter(|_| !misread)?;
                    let local = strtotime(&text, self.clock)?.local(self.clock.zone);
                    Some(match kind {
                        Type::Date => local.div_euclid(86_400),
                        _ => local,
                    })
                };
                let moments: Option<Vec<i64>> = scalars.into_iter().map(read).collect();
                moments.map_or(Values::IsNull, Values::Ints)
            }
            kind => {
                if matches!(kind, Type::Status(_) | Type::Multi | Type::Flag) {
                    op = without_like(op);
                }
                let read = |value: &Php| value.to_text().map(|text| text.to_lowercase());
                Values::Texts(scalars.into_iter().filter_map(read).collect())
            }
        };
        let op = match op {
            Op::Eq if value.as_array().is_some() && !empty_in => Op::In,
            op => op,
        };
        Some(Condition { target, op, values })
    }

    /// Comparisons of integers cast their value, arrays included.
    fn casts_arrays(self, target: Target, op: Op) -> bool {
        self.kind(target) == Type::Integer && matches!(op, Op::Gt | Op::Ge | Op::Lt | Op::Le)
    }

    fn kind(self, target: Target) -> Type {
        match target {
            Target::Plain(at) => self.entity.fields()[at].kind,
            Target::Multi(_) => Type::Multi,
            Target::Custom(at) => match self.user_fields[at].kind {
                UserFieldType::Date => Type::Date,
                UserFieldType::DateTime => Type::DateTime,
                UserFieldType::Integer
                | UserFieldType::Enumeration
                | UserFieldType::Employee
                | UserFieldType::Boolean
                | UserFieldType::File
                | UserFieldType::IblockElement
                | UserFieldType::IblockSection => Type::User,
                UserFieldType::Double => Type::Double,
                _ => Type::Text,
            },
        }
    }

    fn cells(self, target: Target, record: &Record, facts: &Facts) -> Vec<Cell> {
        match target {
            Target::Plain(at) => vec![self.plain(at, record, facts)],
            Target::Multi(kind) if facts.multi[kind].is_empty() => vec![Cell::Null],
            Target::Multi(kind) => facts.multi[kind]
                .iter()
                .map(|multi| Cell::Text(multi.value.to_lowercase()))
                .collect(),
            Target::Custom(at) => {
                let place = usize::try_from(self.user_fields[at].id).unwrap_or(1) - 1;
                let custom = facts.custom.get(place).unwrap_or(&Custom::Empty);
                let ints = |values: &[i64]| values.iter().copied().map(Cell::Int).collect();
                match custom {
                    Custom::Empty => vec![Cell::Null],
                    Custom::Days(values) | Custom::Locals(values) | Custom::Files(values) => {
                        ints(values)
                    }
                    Custom::Json(Php::Array(values)) => {
                        values.values().map(|value| self.json(target, value)).collect()
                    }
                    Custom::Json(value) => vec![self.json(target, value)],
                }
            }
        }
    }

    fn json(self, target: Target, value: &Php) -> Cell {
        match self.kind(target) {
            Type::User => Cell::Int(value.to_int()),
            Type::Double => {
                value.to_text().and_then(|text| text.parse().ok()).map_or(Cell::Null, Cell::Number)
            }
            _ => value.to_text().map_or(Cell::Null, |text| Cell::Text(text.to_lowercase())),
        }
    }

    fn plain(self, at: usize, record: &Record, facts: &Facts) -> Cell {
        let content = self.entity.fields()[at].content;
        let flag = |value: bool| Cell::Text(if value { "y" } else { "n" }.to_owned());
        match content {
            Content::Id => return Cell::Int(record.id),
            Content::Created => return Cell::Int(record.created),
            Content::Modified => return Cell::Int(record.modified),
            Content::HasPhone | Content::HasEmail | Content::HasOpenLine => {
                return flag(super::rows::has(facts, content));
            }
            _ => {}
        }
        match &facts.plain[at] {
            Plain::Unset | Plain::Raw(_) | Plain::Absent => Cell::Null,
            Plain::Text(text) => Cell::Text(text.to_lowercase()),
            Plain::Int(value) | Plain::Local(value) | Plain::Day(value) => Cell::Int(*value),
            Plain::Decimal(text) => text.parse().map_or(Cell::Null, Cell::Number),
            Plain::Flag(value) => flag(*value),
        }
    }
}

fn without_like(op: Op) -> Op {
    match op {
        Op::Holds | Op::Like => Op::Eq,
        Op::HoldsNot | Op::NotLike => Op::Ne,
        other => other,
    }
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
    /// Field names in any case; everything but `ASC` is descending; unknown
    /// fields are ignored.
    pub(super) fn read(schema: Schema<'_>, order: &Array) -> Self {
        let mut keys = Vec::new();
        for (key, direction) in order.iter() {
            let name = key.text().to_uppercase();
            let Some(target) = schema.target(&name) else {
                continue;
            };
            let direction = direction.to_text().unwrap_or_default();
            let descending = !direction.eq_ignore_ascii_case("asc");
            keys.push(SortKey { target, descending });
        }
        match keys.first() {
            None => Self::Unspecified,
            Some(SortKey { target: Target::Plain(0), descending }) => {
                Self::Id { descending: *descending }
            }
            Some(_) => Self::Fields(keys),
        }
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

impl Schema<'_> {
    fn sort_cell(self, target: Target, record: &Record, facts: &Facts) -> Cell {
        let cell = self.cells(target, record, facts).into_iter().next().unwrap_or(Cell::Null);
        let by_stage = matches!(target, Target::Plain(at)
            if self.entity.fields()[at].content == Content::Stage);
        match (&cell, by_stage) {
            // Leads are sorted by the stage's place in its directory.
            (Cell::Text(code), true) => STAGES
                .iter()
                .position(|stage| stage.0.eq_ignore_ascii_case(code))
                .and_then(|place| i64::try_from(place).ok())
                .map_or(Cell::Null, Cell::Int),
            _ => cell,
        }
    }
}

impl Cell {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Null, Self::Null) => Ordering::Equal,
            (Self::Null, _) => Ordering::Less,
            (_, Self::Null) => Ordering::Greater,
            (Self::Int(left), Self::Int(right)) => left.cmp(right),
            (Self::Number(left), Self::Number(right)) => left.total_cmp(right),
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            _ => Ordering::Equal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_knows_both_wildcards() {
        assert!(wildcard("иванов", "ива%"));
        assert!(wildcard("abc", "a_c"));
        assert!(!wildcard("abc", "a_"));
        assert!(wildcard("", "%"));
    }
}
