//! Ready reports: questions that every sales department asks, answered by one view each.
//!
//! One SQL file holds one report. In it `{data}` and `{report}` stand for the schemas of the
//! records and of the views, `{zone}` for the time zone in which days begin. A report is built
//! upon the mirror's own tables, so that it needs nothing but those, and upon their indexes:
//! each is meant to answer within a second where there are a million contacts and 300,000 leads.
//!
//! Records that were deleted in the portal are in none of them, hence neither are contacts that
//! were merged into others. Whatever is counted beside a code carries the portal's own label.

mod declarations;

use super::{
    sql,
    view::{View, ViewColumn},
};

/// One report.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadyReport {
    /// Its name in the report schema.
    pub name: &'static str,
    /// What it answers, and how.
    pub comment: &'static str,
    /// Its columns, in their order.
    pub columns: &'static [ReportColumn],
    sql: &'static str,
}

/// One column of a report.
#[derive(Debug, PartialEq, Eq)]
pub struct ReportColumn {
    /// Its name.
    pub name: &'static str,
    /// Its type, as PostgreSQL spells it.
    pub sql_type: &'static str,
    /// What it shows.
    pub comment: &'static str,
}

/// Where a report is made, and whose days it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The schema of the mirror's own tables.
    pub data_schema: &'a str,
    /// The schema of the views.
    pub report_schema: &'a str,
    /// The time zone in which days, weeks and months begin, by its IANA name.
    pub time_zone: &'a str,
}

/// Every report.
#[must_use]
pub const fn views() -> &'static [ReadyReport] {
    declarations::REPORTS
}

impl ReadyReport {
    /// The query that answers the question, its places still open.
    #[cfg(test)]
    pub(super) const fn text(&self) -> &'static str {
        self.sql
    }

    /// The query that answers the question.
    #[must_use]
    pub fn select(&self, place: Place<'_>) -> String {
        self.sql
            .replace("{data}", &sql::name(place.data_schema))
            .replace("{report}", &sql::name(place.report_schema))
            .replace("{zone}", &sql::literal(place.time_zone))
    }

    /// The view that answers it.
    pub(super) fn view(&self, place: Place<'_>) -> View {
        View {
            schema: place.report_schema.to_owned(),
            name: self.name.to_owned(),
            comment: self.comment.to_owned(),
            columns: self.columns.iter().map(ReportColumn::in_view).collect(),
            source: format!("from (\n{}\n) as answer", self.select(place)),
        }
    }
}

impl ReportColumn {
    fn in_view(&self) -> ViewColumn {
        ViewColumn {
            name: self.name.to_owned(),
            sql_type: self.sql_type.to_owned(),
            expression: format!("answer.{}", sql::name(self.name)),
            comment: self.comment.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_stands_in_the_place_of_a_name_is_quoted() {
        let place = Place { data_schema: "d\"a", report_schema: "r", time_zone: "O'Zone\\" };
        for report in views() {
            let sql = report.select(place);
            assert!(sql.contains("\"d\"\"a\"."), "{}", report.name);
            // A brace before a digit is a pattern's, as in `[0-9a-f]{32}`.
            let is_place = |rest: &str| !rest.starts_with(|after: char| after.is_ascii_digit());
            assert!(!sql.split('{').skip(1).any(is_place), "{}", report.name);
        }
        let weeks = views().iter().find(|report| report.name == "new_contacts_per_week").unwrap();
        assert!(weeks.select(place).contains("E'O''Zone\\\\'"));
    }

    #[test]
    fn every_report_says_what_it_answers_and_what_each_column_shows() {
        let names: BTreeSet<&str> = views().iter().map(|report| report.name).collect();
        assert_eq!(names.len(), views().len());
        for report in views() {
            assert!(report.comment.ends_with('.'), "{}", report.name);
            assert!(!report.columns.is_empty(), "{}", report.name);
            for column in report.columns {
                assert!(column.comment.ends_with('.'), "{}.{}", report.name, column.name);
            }
        }
    }

    #[test]
    fn every_number_says_in_what_it_counts() {
        let units = [
            ("days", &["day", "Day"][..]),
            ("percent", &["percent"]),
            ("amount", &["currency"]),
            ("price", &["currency"]),
        ];
        for report in views() {
            for column in report.columns.iter().filter(|one| one.sql_type == "numeric") {
                let said = |units: &[&str]| units.iter().any(|unit| column.comment.contains(unit));
                let of = units.iter().find(|(word, _)| column.name.contains(word));
                let told = of.is_none_or(|(_, units)| said(units));
                assert!(told, "{}.{}: {}", report.name, column.name, column.comment);
            }
        }
    }

    #[test]
    fn every_file_is_a_report() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/reporting/ready");
        let files: BTreeSet<String> = std::fs::read_dir(directory)
            .unwrap()
            .filter_map(|file| {
                let name = file.unwrap().file_name().into_string().unwrap();
                Some(name.strip_suffix(".sql")?.to_owned())
            })
            .collect();
        let names: BTreeSet<String> = views().iter().map(|report| report.name.to_owned()).collect();
        assert_eq!(files, names);
    }
}
