//! A view as it should be, and how it becomes so without disturbing what people built upon it.

use std::{collections::BTreeSet, fmt::Write as _};

use super::sql;

/// One view as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) comment: String,
    pub(super) columns: Vec<ViewColumn>,
    /// Everything from the word `from` on.
    pub(super) source: String,
}

/// One column of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ViewColumn {
    pub(super) name: String,
    /// As PostgreSQL spells it.
    pub(super) sql_type: String,
    /// What it shows.
    pub(super) expression: String,
    /// What it says of itself.
    pub(super) comment: String,
}

/// A column that a view has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// Its name.
    pub name: String,
    /// Its type, as PostgreSQL spells it.
    pub sql_type: String,
}

impl View {
    /// Its name in the report schema.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fingerprint of what it shows.
    #[must_use]
    pub fn definition(&self) -> i64 {
        fingerprint(&self.create(&[]))
    }

    /// The fingerprint of what it says of itself.
    #[must_use]
    pub fn comments(&self) -> i64 {
        fingerprint(&self.comment_on(&[]))
    }

    /// The statement that makes it so. Columns that it has keep name, type and place, since
    /// PostgreSQL allows nothing else and people rely on it; new ones are appended.
    #[must_use]
    pub fn create(&self, existing: &[Existing]) -> String {
        let mut text = format!(
            "create or replace view {}.{} as\nselect",
            sql::name(&self.schema),
            sql::name(&self.name)
        );
        for (index, column) in self.fitted(existing).iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // `write!` to a String cannot fail.
            let _ = write!(
                text,
                "{comma}\n    ({})::{} as {}",
                column.expression,
                column.sql_type,
                sql::name(&column.name)
            );
        }
        let _ = write!(text, "\n{}", self.source);
        text
    }

    /// The statements that let the view and its columns speak for themselves.
    #[must_use]
    pub fn comment_on(&self, existing: &[Existing]) -> String {
        let view = format!("{}.{}", sql::name(&self.schema), sql::name(&self.name));
        let mut text = format!("comment on view {view} is {};\n", sql::literal(&self.comment));
        for column in self.fitted(existing) {
            let _ = writeln!(
                text,
                "comment on column {view}.{} is {};",
                sql::name(&column.name),
                sql::literal(&column.comment)
            );
        }
        text
    }

    /// The columns, those that exist first and as they are.
    fn fitted(&self, existing: &[Existing]) -> Vec<ViewColumn> {
        let has = |name: &str, sql_type: &str| {
            existing.iter().any(|column| column.name == name && column.sql_type == sql_type)
        };
        let mut wanted: Vec<&ViewColumn> = self.columns.iter().collect();
        let mut fitted = Vec::with_capacity(wanted.len());
        for column in existing {
            let same =
                |one: &&ViewColumn| one.name == column.name && one.sql_type == column.sql_type;
            let later = |one: &&ViewColumn| {
                one.sql_type == column.sql_type
                    && !has(&one.name, &one.sql_type)
                    && is_later(&column.name, &one.name)
            };
            let place = wanted.iter().position(same).or_else(|| wanted.iter().position(later));
            fitted.push(match place {
                Some(place) => {
                    ViewColumn { name: column.name.clone(), ..wanted.remove(place).clone() }
                }
                None => ViewColumn {
                    name: column.name.clone(),
                    sql_type: column.sql_type.clone(),
                    expression: "null".to_owned(),
                    comment: "No longer filled.".to_owned(),
                },
            });
        }
        let mut taken: BTreeSet<String> = fitted.iter().map(|column| column.name.clone()).collect();
        for column in wanted {
            let mut column = column.clone();
            let name = column.name.clone();
            let mut number = 2;
            while !taken.insert(column.name.clone()) {
                column.name = format!("{name}_{number}");
                number += 1;
            }
            fitted.push(column);
        }
        fitted
    }
}

/// Whether a name was made of another when its type changed.
fn is_later(name: &str, first: &str) -> bool {
    let number = name.strip_prefix(first).and_then(|rest| rest.strip_prefix('_'));
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

fn fingerprint(text: &str) -> i64 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes()).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, sql_type: &str) -> ViewColumn {
        ViewColumn {
            name: name.to_owned(),
            sql_type: sql_type.to_owned(),
            expression: format!("t.{name}"),
            comment: format!("The {name}."),
        }
    }

    fn existing(name: &str, sql_type: &str) -> Existing {
        Existing { name: name.to_owned(), sql_type: sql_type.to_owned() }
    }

    #[test]
    fn a_column_that_exists_keeps_name_type_and_place() {
        let view = View {
            schema: "r".to_owned(),
            name: "contacts".to_owned(),
            comment: "Contacts.".to_owned(),
            columns: vec![column("id", "bigint"), column("new", "text"), column("old", "numeric")],
            source: "from t".to_owned(),
        };
        let fitted = view.fitted(&[
            existing("gone", "date"),
            existing("old", "text"),
            existing("id", "bigint"),
        ]);
        let shape: Vec<_> = fitted
            .iter()
            .map(|column| (&*column.name, &*column.sql_type, &*column.expression))
            .collect();
        assert_eq!(
            shape,
            [
                ("gone", "date", "null"),
                ("old", "text", "null"),
                ("id", "bigint", "t.id"),
                ("new", "text", "t.new"),
                ("old_2", "numeric", "t.old"),
            ]
        );
        // Made once more, it is the same.
        let made: Vec<Existing> =
            fitted.iter().map(|column| existing(&column.name, &column.sql_type)).collect();
        assert_eq!(view.fitted(&made), fitted);
    }
}
