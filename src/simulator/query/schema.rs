//! What names in filters and orders mean, in both dialects of lists.

use super::condition::{Cell, Condition, Op, PREFIXES, Values, without_like};
use super::{Blindness, refused};
use crate::simulator::clock::{Clock, strtotime};
use crate::simulator::entity::Entity;
use crate::simulator::fields::{Content, MULTI, Type};
use crate::simulator::php::{Array, Php};
use crate::simulator::pipelines::LEAD_STAGES;
use crate::simulator::portal::Failure;
use crate::simulator::records::{Custom, Facts, Plain, Record};
use crate::simulator::rows::has;
use crate::simulator::user_fields::{UserField, UserFieldType};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Plain(usize),
    Custom(usize),
    Multi(usize),
}

/// How a family of list methods reads names and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum Dialect {
    /// `crm.contact.list` and its like: upper case; what is not understood is dropped.
    Classic,
    /// `crm.item.list`: camelCase; what is not understood is refused.
    Items(ItemReading),
}

/// The switches of `crm.item.list`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::simulator) struct ItemReading {
    /// User fields go by their original names.
    pub(in crate::simulator) original: bool,
    /// Unreadable dates are IS NULL instead of an error, as on older portals.
    pub(in crate::simulator) null_dates: bool,
    /// Arrays are cast in comparisons of integers instead of refused.
    pub(in crate::simulator) cast_arrays: bool,
}

/// What the fields mean for filters and orders.
#[derive(Clone, Copy)]
pub(in crate::simulator) struct Schema<'a> {
    pub(in crate::simulator) entity: Entity,
    pub(in crate::simulator) user_fields: &'a [UserField],
    pub(in crate::simulator) clock: &'a Clock,
    pub(in crate::simulator) dialect: Dialect,
}

impl Schema<'_> {
    pub(super) fn target(self, name: &str) -> Option<Target> {
        let fields = self.entity.fields();
        let Dialect::Items(reading) = self.dialect else {
            if let Some(at) = MULTI.iter().position(|own| *own == name) {
                return Some(Target::Multi(at));
            }
            let known = |at: &usize| fields[*at].in_classic_rows();
            if let Some(at) = fields.iter().position(|own| own.name == name).filter(known) {
                return Some(Target::Plain(at));
            }
            let at = self.user_fields.iter().position(|own| own.code == name)?;
            return Some(Target::Custom(at));
        };
        let names = self.entity.item_names();
        let known = |at: &usize| fields[*at].tells_in_items();
        if let Some(at) = names.iter().position(|own| own == name).filter(known) {
            return Some(Target::Plain(at));
        }
        let own = |field: &UserField| {
            if reading.original { field.code == name } else { field.camel == name }
        };
        self.user_fields.iter().position(own).map(Target::Custom)
    }

    pub(super) fn content(self, target: Target) -> Content {
        match target {
            Target::Plain(at) => self.entity.fields()[at].content,
            _ => Content::Unlisted,
        }
    }

    /// The condition that a key and its value stand for; none if the portal drops it.
    pub(super) fn condition(
        self,
        key: &str,
        value: &Php,
        blindness: Blindness,
    ) -> Result<Option<Condition>, Failure> {
        let found = PREFIXES.iter().find_map(|(prefix, op)| {
            let name = key.strip_prefix(prefix)?;
            self.target(name).map(|target| (*prefix, *op, target))
        });
        let name = key.trim_start_matches(['!', '=', '<', '>', '@', '%']);
        let Some((prefix, op, target)) = found else {
            return match self.dialect {
                Dialect::Classic => Ok(None),
                Dialect::Items(_) => Err(refused(&format!(
                    "Invalid filter: field '{name}' is not allowed in filter"
                ))),
            };
        };
        let content = self.content(target);
        let watched = matches!(content, Content::Id | Content::Modified);
        if blindness.ignores_filter && watched {
            return Ok(None);
        }
        let invalid = || refused(&format!("Invalid filter: field '{name}' has invalid value"));
        let empty_in = value.as_array().is_some_and(Array::is_empty);
        let scalars: Vec<&Php> = match value {
            Php::Array(array) if !self.casts_arrays(target, op) => array.values().collect(),
            Php::Array(_) if self.refuses_arrays() => return Err(invalid()),
            other => vec![other],
        };
        let op = if self.kind(target).has_like() { op } else { without_like(op) };
        let values = match self.kind(target) {
            kind if kind.is_whole() => Values::Ints(scalars.into_iter().map(Php::to_int).collect()),
            Type::Double => {
                let read = |value: &Php| value.to_text().and_then(|text| text.parse().ok());
                Values::Numbers(scalars.into_iter().filter_map(read).collect())
            }
            // The bare sign is missing among those whose dates are converted.
            Type::Date | Type::DateTime if prefix == "!" && self.dialect != Dialect::Classic => {
                Values::Ints(Vec::new())
            }
            kind @ (Type::Date | Type::DateTime) => {
                let misread = blindness.misreads_dates && content == Content::Modified;
                match self.moments(kind, &scalars) {
                    Some(moments) if !misread => Values::Ints(moments),
                    None if !misread && self.refuses_dates() => return Err(invalid()),
                    _ => Values::IsNull,
                }
            }
            _ => {
                let read = |value: &Php| value.to_text().map(|text| text.to_lowercase());
                Values::Texts(scalars.into_iter().filter_map(read).collect())
            }
        };
        let op = match op {
            Op::Eq if value.as_array().is_some() && !empty_in => Op::In,
            op => op,
        };
        Ok(Some(Condition { target, op, values }))
    }

    /// The dates of a condition; none if one of them cannot be read.
    fn moments(self, kind: Type, scalars: &[&Php]) -> Option<Vec<i64>> {
        let read = |value: &&Php| {
            let local = strtotime(&value.to_text()?, self.clock)?.local(self.clock.zone);
            Some(if kind == Type::Date { local.div_euclid(86_400) } else { local })
        };
        scalars.iter().map(read).collect()
    }

    fn refuses_arrays(self) -> bool {
        matches!(self.dialect, Dialect::Items(reading) if !reading.cast_arrays)
    }

    fn refuses_dates(self) -> bool {
        matches!(self.dialect, Dialect::Items(reading) if !reading.null_dates)
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

    pub(super) fn cells(self, target: Target, record: &Record, facts: &Facts) -> Vec<Cell> {
        match target {
            Target::Plain(at) => {
                let ids = match self.entity.fields()[at].content {
                    Content::Links => facts.links(self.entity),
                    Content::Observers => facts.observers.clone(),
                    _ => return vec![self.plain(at, record, facts)],
                };
                if ids.is_empty() {
                    return vec![Cell::Null];
                }
                ids.into_iter().map(Cell::Int).collect()
            }
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
            Content::Category if facts.plain[at] == Plain::Unset => {
                return Cell::Int(record.category.into());
            }
            Content::HasPhone | Content::HasEmail | Content::HasOpenLine => {
                return flag(has(facts, content));
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

impl Schema<'_> {
    pub(super) fn sort_cell(self, target: Target, record: &Record, facts: &Facts) -> Cell {
        let cell = self.cells(target, record, facts).into_iter().next().unwrap_or(Cell::Null);
        let by_stage = self.dialect == Dialect::Classic && self.content(target) == Content::Stage;
        match (&cell, by_stage) {
            // Leads are sorted by the stage's place in its directory.
            (Cell::Text(code), true) => LEAD_STAGES
                .iter()
                .position(|stage| stage.code.eq_ignore_ascii_case(code))
                .and_then(|place| i64::try_from(place).ok())
                .map_or(Cell::Null, Cell::Int),
            _ => cell,
        }
    }
}
