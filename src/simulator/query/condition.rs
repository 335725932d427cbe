//! A condition of a filter, and what it makes of a value.

use std::cmp::Ordering;

use super::schema::Target;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
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
pub(super) const PREFIXES: [(&str, Op); 16] = [
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

/// How the values of a condition compare.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    Ints(Vec<i64>),
    Numbers(Vec<f64>),
    /// Lower case.
    Texts(Vec<String>),
    /// An unreadable date.
    IsNull,
}

#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) target: Target,
    pub(super) op: Op,
    pub(super) values: Values,
}

/// A record's value, as a condition or an order sees it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::simulator) enum Cell {
    Null,
    Int(i64),
    Number(f64),
    Text(String),
}

impl Condition {
    pub(super) fn admits(&self, cells: &[Cell]) -> bool {
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

pub(super) fn without_like(op: Op) -> Op {
    match op {
        Op::Holds | Op::Like => Op::Eq,
        Op::HoldsNot | Op::NotLike => Op::Ne,
        other => other,
    }
}

impl Cell {
    pub(super) fn compare(&self, other: &Self) -> Ordering {
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
