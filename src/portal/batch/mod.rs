//! Many commands in one request, and the answer taken apart again.
//!
//! A command is a line of text, `method?query`, that the portal reads with PHP's
//! `parse_str` (vendor pages `batch` and `data-encoding`): an unescaped `=` in a name
//! ends it, `+` is a space, `#` cuts the rest off. A filter damaged like that is not an
//! error there but the whole table, so everything inside a command is percent-encoded
//! except the brackets that give names their structure.

use std::collections::HashMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, value::RawValue};

use super::{
    body::Body,
    envelope::{
        Answer, ByKey, Envelope, Found, PhpMap, PortalTime, Rows, Sought, TimeBlock, Timing, at,
        failure, whole,
    },
    error::{ApiFailure, PortalError},
    limiter::{BATCH, Costs, Figures},
    source::{MAX_COMMANDS, Page, RowsIn},
};

/// Everything but what never needs an escape.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The commands of one batch request, in order.
///
/// A value may refer to an earlier command's result, as in `$result[key][49][ID]`; the
/// portal resolves it after parsing, so the reference is encoded like any other value.
#[derive(Debug, Clone, Default)]
pub struct Commands {
    list: Vec<Command>,
}

#[derive(Debug, Clone)]
struct Command {
    key: String,
    method: String,
    query: String,
    /// Where its rows are, if its result is wanted as a page of them.
    rows: Option<RowsIn>,
}

impl Commands {
    /// Starts an empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a command. `params` is a JSON object, nested as deep as the method wants.
    ///
    /// Keys should be text: a map keyed by numbers comes back without its keys.
    ///
    /// # Errors
    /// [`PortalError::Inexpressible`] for a 51st command, a key used twice, and for what a
    /// query cannot carry: null, an empty list or object, a name with a bracket in it. To
    /// leave such a part out silently would turn a filter into the whole table.
    pub fn push(&mut self, key: &str, method: &str, params: &Value) -> Result<(), PortalError> {
        self.append(key, method, params, None)
    }

    /// Appends a command that returns a list of rows; see [`BatchAnswer::take_page`].
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(super) fn push_list(
        &mut self,
        key: &str,
        method: &str,
        params: &Value,
        rows: RowsIn,
    ) -> Result<(), PortalError> {
        self.append(key, method, params, Some(rows))
    }

    fn append(
        &mut self,
        key: &str,
        method: &str,
        params: &Value,
        rows: Option<RowsIn>,
    ) -> Result<(), PortalError> {
        let refuse = |what: String| PortalError::Inexpressible { method: method.to_owned(), what };
        if self.list.len() == MAX_COMMANDS {
            return Err(refuse(format!("a batch takes {MAX_COMMANDS} commands")));
        }
        if self.list.iter().any(|command| command.key == key) {
            return Err(refuse(format!("the key {key} is taken")));
        }
        self.list.push(Command {
            key: key.to_owned(),
            method: method.to_owned(),
            query: query(params).map_err(refuse)?,
            rows,
        });
        Ok(())
    }

    /// The number of commands.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are no commands yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether a command has that key.
    pub(super) fn contains(&self, key: &str) -> bool {
        self.list.iter().any(|command| command.key == key)
    }

    /// Where that command's rows are, if its result is wanted as a page.
    fn rows(&self, key: &str) -> Option<RowsIn> {
        self.list.iter().find(|command| command.key == key)?.rows
    }

    /// How often each method is called.
    pub(super) fn by_method(&self) -> Vec<(String, usize)> {
        let mut counts: Vec<(String, usize)> = Vec::new();
        for command in &self.list {
            match counts.iter_mut().find(|(method, _)| *method == command.method) {
                Some((_, count)) => *count += 1,
                None => counts.push((command.method.clone(), 1)),
            }
        }
        counts
    }
}

/// The request body. `halt` is off, so that a failed command leaves the others alone.
impl Serialize for Commands {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Lines<'a>(&'a [Command]);

        impl Serialize for Lines<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.iter().map(|command| {
                    let Command { key, method, query, .. } = command;
                    let separator = if query.is_empty() { "" } else { "?" };
                    (key, format!("{method}{separator}{query}"))
                }))
            }
        }

        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("halt", &0)?;
        map.serialize_entry("cmd", &Lines(&self.list))?;
        map.end()
    }
}

/// Writes parameters the way PHP's `http_build_query` does.
fn query(params: &Value) -> Result<String, String> {
    let Value::Object(params) = params else {
        return Err("its parameters are not an object".to_owned());
    };
    let mut query = String::new();
    for (name, value) in params {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(format!("`{name}` is no name of a parameter"));
        }
        append(&mut query, name, value)?;
    }
    Ok(query)
}

fn append(query: &mut String, name: &str, value: &Value) -> Result<(), String> {
    let text = match value {
        Value::Null => return Err(format!("`{name}` is null")),
        Value::Bool(flag) => u8::from(*flag).to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            if list.is_empty() {
                return Err(format!("`{name}` is an empty list"));
            }
            for (index, value) in list.iter().enumerate() {
                append(query, &format!("{name}[{index}]"), value)?;
            }
            return Ok(());
        }
        Value::Object(map) => {
            if map.is_empty() {
                return Err(format!("`{name}` is an empty object"));
            }
            for (key, value) in map {
                if key.is_empty()
                    || key.starts_with(|c: char| c.is_whitespace())
                    || key.contains(['[', ']', '\0'])
                {
                    return Err(format!("`{key}` is no name inside `{name}`"));
                }
                append(query, &format!("{name}[{}]", escaped(key)), value)?;
            }
            return Ok(());
        }
    };
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(name);
    query.push('=');
    query.push_str(&escaped(&text));
    Ok(())
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// The answer to a batch, by command key.
#[derive(Debug)]
pub struct BatchAnswer {
    /// The portal's clock when it began the batch.
    pub time: Option<PortalTime>,
    /// Where the time went.
    pub timing: Timing,
    answers: HashMap<String, Result<Answer, PortalError>>,
    pages: HashMap<String, Result<Page, PortalError>>,
}

impl BatchAnswer {
    /// Takes the answer of one command out. [`PortalError::MissingCommand`] for a
    /// command that the portal did not run, or that was taken before.
    pub fn take(&mut self, key: &str) -> Result<Answer, PortalError> {
        self.answers.remove(key).unwrap_or_else(|| Err(missing(key, "batch")))
    }

    /// Takes the rows of one [list command](Commands::push_list) out, likewise.
    pub fn take_page(&mut self, key: &str) -> Result<Page, PortalError> {
        self.pages.remove(key).unwrap_or_else(|| Err(missing(key, "batch")))
    }

    /// The errors that the portal gave for commands.
    pub(super) fn failures(&self) -> impl Iterator<Item = &ApiFailure> {
        let answers = self.answers.values().filter_map(|answer| answer.as_ref().err());
        let pages = self.pages.values().filter_map(|page| page.as_ref().err());
        answers.chain(pages).filter_map(|error| match error {
            PortalError::Api(failure) => Some(&**failure),
            _ => None,
        })
    }

    /// The same, to be changed in place.
    pub(super) fn failures_mut(&mut self) -> impl Iterator<Item = &mut ApiFailure> {
        let answers = self.answers.values_mut().filter_map(|answer| answer.as_mut().err());
        let pages = self.pages.values_mut().filter_map(|page| page.as_mut().err());
        answers.chain(pages).filter_map(|error| match error {
            PortalError::Api(failure) => Some(&mut **failure),
            _ => None,
        })
    }

    /// Takes a batch's answer apart; gives the figures of every method as well.
    ///
    /// Its bytes are walked once, down to the rows: they are most of what we ever read.
    pub(super) fn read(
        commands: &Commands,
        status: u16,
        body: &Body,
    ) -> Result<(Self, Costs), PortalError> {
        let unusable = |what: &str| PortalError::unusable("batch", what);
        let rows = |key: &str| Sought(commands.rows(key).map(Rows));
        let envelope = Envelope::read("batch", status, body, ByKey(at("result", ByKey(rows))))?;
        let (results, others) =
            envelope.result.ok_or_else(|| unusable("its result is no map of commands"))?.split();
        let map = |name: &str| {
            PhpMap::read(others.get(name).copied())
                .ok_or_else(|| unusable(&format!("{name} is no map")))
        };
        if results.is_none() && others.get("result_error").is_none() {
            return Err(unusable("it has neither result nor result_error"));
        }
        let results = results
            .unwrap_or_else(|| Some(PhpMap::default()))
            .ok_or_else(|| unusable("result is no map"))?;
        let errors = map("result_error")?;
        let (totals, nexts) = (map("result_total")?, map("result_next")?);
        let times = map("result_time")?;

        let mut unkeyed = unkeyed_failures(commands, &results, &errors);
        let mut answer = Self {
            time: envelope.time.portal_time(),
            timing: Timing::default(),
            answers: HashMap::new(),
            pages: HashMap::new(),
        };
        let mut figures: Costs = Vec::new();
        for Command { key, method, rows, .. } in &commands.list {
            let time = times.get(key).map(|raw| TimeBlock::read(Some(raw)));
            // A command that ran without figures is news as well.
            if time.is_some() || results.get(key).is_some() {
                let shown = time.unwrap_or_default().figures();
                match figures.iter_mut().find(|(name, _)| name == method) {
                    Some((_, list)) => list.push(shown),
                    None => figures.push((method.clone(), vec![shown])),
                }
            }
            let result = if errors.is_unkeyed() && results.get(key).is_none() {
                Err(unkeyed(method).into())
            } else if let Some(error) = errors.get(key).filter(|_| !errors.is_unkeyed()) {
                Err(command_failure(method, error).into())
            } else {
                results.get(key).ok_or_else(|| missing(key, method))
            };
            if rows.is_some() {
                let page = result.and_then(|found| match found {
                    Found::Sought(Some(rows)) => Ok(Page::new(body, rows)),
                    _ => Err(PortalError::unusable(method, "its result is not a list of rows")),
                });
                answer.pages.insert(key.clone(), page);
            } else {
                let part = result.and_then(|found| match found {
                    Found::Other(result) => Ok(Answer {
                        result: (*result).to_owned(),
                        next: nexts.get(key).and_then(|raw| whole(raw)),
                        total: totals.get(key).and_then(|raw| whole(raw)),
                        time: time.and_then(|time| time.portal_time()),
                    }),
                    Found::Sought(_) => Err(missing(key, method)),
                });
                answer.answers.insert(key.clone(), part);
            }
        }

        // Some portals book the time of all commands on the batch.
        let whole_batch = envelope.time.figures();
        let booked = |list: &[Figures]| list.iter().any(|figures| figures.operating.is_some());
        let ran = !figures.is_empty();
        if ran && whole_batch.operating.is_some() && !figures.iter().any(|(_, list)| booked(list)) {
            figures = vec![(BATCH.to_owned(), vec![whole_batch])];
        }
        Ok((answer, figures))
    }
}

fn missing(key: &str, method: &str) -> PortalError {
    PortalError::MissingCommand { key: key.to_owned(), method: method.to_owned() }
}

/// What the portal gave for a command: rows, or any other value.
type CommandResult<'a> = Found<'a, Option<Vec<&'a RawValue>>>;

/// Reads one entry of `result_error`, also when it is a bare text.
fn command_failure(method: &str, raw: &RawValue) -> ApiFailure {
    PhpMap::read(Some(raw)).and_then(|map| failure(method, None, &map, false)).unwrap_or_else(
        || {
            let text = serde_json::from_str::<String>(raw.get()).unwrap_or_default();
            ApiFailure::new(method, "", None, &text)
        },
    )
}

/// Hands out the errors of a `result_error` that came as a list without keys: to the
/// commands without a result, one by one if there are as many, else the first to all.
fn unkeyed_failures<'a>(
    commands: &Commands,
    results: &PhpMap<'a, CommandResult<'a>>,
    errors: &PhpMap<'a>,
) -> impl FnMut(&str) -> ApiFailure + use<'a> {
    let list: Vec<&'a RawValue> = errors.values().copied().collect();
    let failed = |command: &&Command| results.get(&command.key).is_none();
    let one_by_one = commands.list.iter().filter(failed).count() == list.len();
    let mut position = 0;
    move |method| {
        let index = if one_by_one { position } else { 0 };
        position += 1;
        list.get(index).map_or_else(
            || ApiFailure::new(method, "", None, ""),
            |raw| command_failure(method, raw),
        )
    }
}

#[cfg(test)]
mod tests;
