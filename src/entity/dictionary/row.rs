//! A row of the portal's, read by its names: leniently, for a value that cannot be read is left out.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::entry::{Currency, Department, Entry, EntryRow, Pipeline, SmartProcess, Status, User};
use crate::entity::{
    column::ColumnType,
    json::{Raw, raw::Shape},
    record,
    value::{self, Unreadable},
};

/// A row's values by the portal's names.
pub(super) struct Row<'a> {
    fields: Vec<(String, Raw<'a>)>,
    unread: Vec<&'static str>,
}

impl<'a> Row<'a> {
    pub(super) fn new(row: &'a RawValue) -> Self {
        let fields = Raw::from(row)
            .fields()
            .filter_map(|(name, value)| Some((name.read().ok()?.into_owned(), value)))
            .collect();
        Self { fields, unread: Vec::new() }
    }

    fn raw(&self, name: &str) -> Option<Raw<'a>> {
        let named = |(own, value): &(String, Raw<'a>)| (own == name).then_some(*value);
        self.fields.iter().rev().find_map(named)
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Raw<'a>) -> Result<Option<T>, Unreadable>,
    ) -> Option<T> {
        let value = self.raw(name)?;
        read(value).unwrap_or_else(|Unreadable| {
            self.unread.push(name);
            None
        })
    }

    fn text(&mut self, name: &'static str) -> Option<String> {
        self.read(name, text).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn id(&mut self, name: &'static str) -> Option<i64> {
        self.read(name, |value| value::integer(&value.shape())).filter(|id| *id > 0)
    }

    fn number(&mut self, name: &'static str) -> Option<i32> {
        self.read(name, |value| {
            let number = value::integer(&value.shape())?;
            number.map(|number| i32::try_from(number).map_err(|_| Unreadable)).transpose()
        })
    }

    fn decimal(&mut self, name: &'static str) -> Option<String> {
        self.read(name, |raw| match value::read(ColumnType::Decimal, raw)?.value {
            record::Value::Decimal(number) => Ok(Some(number)),
            _ => Ok(None),
        })
    }

    fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.read(name, |raw| match raw.shape() {
            Shape::Text(text) if matches!(&*text.read()?, "true" | "TRUE") => Ok(Some(true)),
            Shape::Text(text) if matches!(&*text.read()?, "false" | "FALSE") => Ok(Some(false)),
            _ => match value::read(ColumnType::Flag, raw)?.value {
                record::Value::Flag(flag) => Ok(Some(flag)),
                _ => Ok(None),
            },
        })
    }

    fn instant(&mut self, name: &'static str) -> Option<DateTime<Utc>> {
        self.read(name, |raw| match value::read(ColumnType::Timestamp, raw)?.value {
            record::Value::Timestamp(instant) => Ok(Some(instant)),
            _ => Ok(None),
        })
    }

    /// The names that begin like a question, where the answer is yes.
    fn switches(&self) -> Vec<String> {
        let is_on = |raw: Raw<'a>| match value::read(ColumnType::Flag, raw) {
            Ok(reading) => reading.value == record::Value::Flag(true),
            Err(_) => false,
        };
        let asks = |name: &str| {
            let rest = name.strip_prefix("is");
            rest.is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_uppercase()))
        };
        let on = self.fields.iter().filter(|(name, raw)| asks(name) && is_on(*raw));
        let names: BTreeSet<&String> = on.map(|(name, _)| name).collect();
        names.into_iter().cloned().collect()
    }

    /// IDs, whether they come as a list, as an object or as a single one.
    fn ids(&mut self, name: &'static str) -> Vec<i64> {
        let ids = self.read(name, |raw| {
            let items: Vec<Raw<'a>> = match raw.shape() {
                Shape::List => raw.items().collect(),
                Shape::Object => raw.fields().map(|(_, value)| value).collect(),
                _ => vec![raw],
            };
            let ids = items.into_iter().map(|item| value::integer(&item.shape()));
            ids.collect::<Result<Vec<Option<i64>>, Unreadable>>().map(Some)
        });
        ids.into_iter().flatten().flatten().filter(|id| *id > 0).collect()
    }

    fn entry(&mut self, row: EntryRow) -> Entry {
        Entry { row, unread: std::mem::take(&mut self.unread) }
    }

    pub(super) fn status(&mut self) -> Option<Entry> {
        let (directory, code) = (self.text("ENTITY_ID")?, self.text("STATUS_ID")?);
        let within = |row: &Self, name: &str| -> Option<String> {
            let extra = row.raw("EXTRA")?;
            let named = |(key, value): (crate::entity::json::raw::Quoted<'a>, Raw<'a>)| {
                key.read().is_ok_and(|key| key == name).then_some(value)
            };
            text(extra.fields().find_map(named)?).ok().flatten().filter(|text| !text.is_empty())
        };
        let status = Status {
            id: self.id("ID"),
            name: self.text("NAME").unwrap_or_else(|| code.clone()),
            sort: self.number("SORT"),
            semantics: self.text("SEMANTICS").filter(|word| word == "S" || word == "F"),
            color: self.text("COLOR").or_else(|| within(self, "COLOR")),
            category_id: self.id("CATEGORY_ID"),
            directory,
            code,
        };
        Some(self.entry(EntryRow::Status(status)))
    }

    pub(super) fn user(&mut self) -> Option<Entry> {
        let id = self.id("ID")?;
        let (name, last_name) = (self.text("NAME"), self.text("LAST_NAME"));
        let email = self.text("EMAIL");
        let called: Vec<&str> = [&name, &last_name].into_iter().flatten().map(|s| &**s).collect();
        let full_name = match (called.is_empty(), &email) {
            (false, _) => called.join(" "),
            (true, Some(email)) => email.clone(),
            (true, None) => id.to_string(),
        };
        let user = User {
            id,
            full_name,
            second_name: self.text("SECOND_NAME"),
            work_position: self.text("WORK_POSITION"),
            department_ids: self.ids("UF_DEPARTMENT"),
            active: self.flag("ACTIVE").unwrap_or(true),
            name,
            last_name,
            email,
        };
        Some(self.entry(EntryRow::User(user)))
    }

    pub(super) fn department(&mut self) -> Option<Entry> {
        let id = self.id("ID")?;
        let department = Department {
            id,
            name: self.text("NAME").unwrap_or_else(|| id.to_string()),
            sort: self.number("SORT"),
            parent_id: self.id("PARENT"),
            head_id: self.id("UF_HEAD"),
        };
        Some(self.entry(EntryRow::Department(department)))
    }

    pub(super) fn pipeline(&mut self) -> Option<Entry> {
        let id = self.read("id", |value| value::integer(&value.shape())).filter(|id| *id >= 0)?;
        let pipeline = Pipeline {
            entity_type_id: self.id("entityTypeId")?,
            id,
            name: self.text("name").unwrap_or_else(|| id.to_string()),
            sort: self.number("sort"),
            is_default: self.flag("isDefault").unwrap_or(false),
        };
        Some(self.entry(EntryRow::Pipeline(pipeline)))
    }

    pub(super) fn smart_process(&mut self) -> Option<Entry> {
        let entity_type_id = self.id("entityTypeId")?;
        let process = SmartProcess {
            entity_type_id,
            id: self.id("id"),
            title: self.text("title").unwrap_or_else(|| entity_type_id.to_string()),
            code: self.text("code"),
            switches: self.switches(),
            created_time: self.instant("createdTime"),
            updated_time: self.instant("updatedTime"),
        };
        Some(self.entry(EntryRow::SmartProcess(process)))
    }

    pub(super) fn currency(&mut self) -> Option<Entry> {
        let code = self.text("CURRENCY")?;
        let currency = Currency {
            name: self.text("FULL_NAME").unwrap_or_else(|| code.clone()),
            rate: self.decimal("AMOUNT"),
            rate_amount: self.decimal("AMOUNT_CNT"),
            base: self.flag("BASE").unwrap_or(false),
            decimals: self.number("DECIMALS"),
            sort: self.number("SORT"),
            code,
        };
        Some(self.entry(EntryRow::Currency(currency)))
    }
}

/// Text as PostgreSQL can hold it.
fn text(raw: Raw<'_>) -> Result<Option<String>, Unreadable> {
    Ok(match value::read(ColumnType::Text, raw)?.value {
        record::Value::Text(text) => Some(text),
        _ => None,
    })
}
