//! `batch`: commands as texts, references between them, and the five maps of
//! its answer (vendor page `batch`).

use super::directories::{method_not_found, scope_of};
use super::entity::Entity;
use super::php::{Array, Key, Losses, Php, Writing, parse_str, write_int, write_text};
use super::portal::{Answer, Failure, Portal, RequestState, TimeBlock, family};

const MAX_COMMANDS: usize = 50;

/// A command of a batch, before its references are resolved.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) key: Key,
    pub(super) method: String,
    params: Array,
    losses: Losses,
}

/// A batch, being executed.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) commands: Vec<Command>,
    too_many: Vec<Key>,
    pub(super) halt: bool,
    answers: Vec<(Key, Answer)>,
    errors: Vec<(Key, Failure)>,
    times: Vec<(Key, TimeBlock)>,
}

impl Batch {
    /// Reads `cmd` and `halt`, under these names in any case.
    pub(super) fn read(params: &Array, max_input_vars: usize) -> Self {
        let find = |name: &str| params.get(name).or_else(|| params.get(&name.to_uppercase()));
        let mut batch = Self { halt: find("halt").is_some_and(Php::truthy), ..Self::default() };
        let Some(Php::Array(commands)) = find("cmd") else {
            return batch;
        };
        for (key, command) in commands.iter() {
            let Php::Text(text) = command else { continue };
            if batch.commands.len() >= MAX_COMMANDS {
                batch.too_many.push(key.clone());
                continue;
            }
            let (text, fragment) = match text.split_once('#') {
                Some((text, _)) => (text, true),
                None => (text.as_str(), false),
            };
            let (method, query) = text.split_once('?').unwrap_or((text, ""));
            let (params, mut losses) = parse_str(query, max_input_vars);
            losses.text |= fragment;
            batch.commands.push(Command {
                key: key.clone(),
                method: method.to_lowercase(),
                params,
                losses,
            });
        }
        batch
    }

    /// The commands' methods, and the families that they ask about.
    pub(super) fn calls(&self) -> Vec<(String, Option<Entity>)> {
        let commands = self.commands.iter();
        commands
            .map(|command| (command.method.clone(), family(&command.method, &command.params)))
            .collect()
    }

    /// Executes the command at a place; says how long the portal takes for it,
    /// and whether the batch goes on.
    pub(super) fn step(
        &mut self,
        portal: &mut Portal,
        request: &mut RequestState,
        place: usize,
    ) -> (std::time::Duration, bool) {
        let command = self.commands[place].clone();
        if command.losses.text {
            portal.stats.spring(32);
        }
        if command.losses.key {
            portal.stats.spring(39);
        }
        let mut params = command.params;
        let mut lost = Lost::default();
        self.resolve(&mut params, &mut lost);
        if lost.short_page {
            portal.stats.spring(6);
        }
        if lost.failed {
            portal.stats.spring(7);
        }
        let refusal = match scope_of(&command.method) {
            _ if command.method == "batch" => Some(Failure::new(
                405,
                "ERROR_BATCH_METHOD_NOT_ALLOWED",
                "Method is not allowed for batch usage",
            )),
            None => Some(method_not_found()),
            Some(scope) => portal.refuse_scope(scope),
        };
        if let Some(failure) = refusal {
            portal.note_failure(&failure);
            self.errors.push((command.key, failure));
            return (std::time::Duration::ZERO, !self.halt);
        }
        let executed = portal.execute(request, &command.method, &params, place, true);
        let goes_on = match executed.outcome {
            Ok(answer) => {
                if lost.short_page || lost.failed {
                    portal.stats.rows_restarted += u64::try_from(answer.rows.len()).unwrap_or(0);
                }
                self.times.push((command.key.clone(), executed.time));
                self.answers.push((command.key, answer));
                true
            }
            Err(failure) => {
                self.errors.push((command.key, failure));
                !self.halt
            }
        };
        (executed.sleep, goes_on)
    }

    /// Writes the `result` of the whole batch.
    pub(super) fn write(&mut self, portal: &mut Portal, out: &mut Vec<u8>) {
        for key in self.too_many.drain(..) {
            let text = "Max batch length exceeded";
            let failure = Failure::new(400, "ERROR_BATCH_LENGTH_EXCEEDED", text);
            self.errors.push((key, failure));
        }
        if self.answers.is_empty() && !self.errors.is_empty() {
            portal.stats.spring(8);
        }
        let writing = portal.writing();
        let mut lists = 0;
        out.reserve(self.answers.iter().map(|(_, answer)| answer.body.len() + 500).sum());
        out.extend_from_slice(b"{\"result\":");
        let answers = self.answers.iter().map(|(key, answer)| (key, &answer.body));
        lists += write_map(out, answers, writing, |out, body| {
            out.extend_from_slice(body);
        });
        out.extend_from_slice(b",\"result_error\":");
        let places: Vec<Key> = (0_i64..).map(Key::Int).take(self.errors.len()).collect();
        let unkeyed = portal.options.unkeyed_errors;
        let errors = self.errors.iter().zip(&places);
        let errors = errors.map(|((key, failure), place)| {
            let key = if unkeyed { place } else { key };
            (key, failure)
        });
        lists += write_map(out, errors, writing, |out, failure| {
            failure.write(out, writing);
        });
        let figures = |figure: fn(&Answer) -> Option<i64>| {
            self.answers.iter().filter_map(move |(key, answer)| Some((key, figure(answer)?)))
        };
        out.extend_from_slice(b",\"result_total\":");
        lists += write_map(out, figures(|a| a.total), writing, |out, n| {
            write_int(out, n);
        });
        out.extend_from_slice(b",\"result_next\":");
        lists += write_map(out, figures(|a| a.next), writing, |out, n| {
            write_int(out, n);
        });
        out.extend_from_slice(b",\"result_time\":");
        let times = self.times.iter().map(|(key, time)| (key, time));
        lists += write_map(out, times, writing, |out, time| {
            portal.write_time(out, time);
        });
        out.push(b'}');
        portal.stats.spring_times(9, lists);
    }

    fn resolve(&self, params: &mut Array, lost: &mut Lost) {
        for (_, value) in params.iter_mut() {
            match value {
                Php::Array(inner) => self.resolve(inner, lost),
                Php::Text(text) if text.contains('$') => *value = self.substitute(text, lost),
                _ => {}
            }
        }
    }

    fn substitute(&self, text: &str, lost: &mut Lost) -> Php {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let tail = &rest[at..];
            let end = tail.find(char::is_whitespace).unwrap_or(tail.len());
            let Some(value) = self.reference(&tail[..end], lost) else {
                out.push_str(&rest[..=at]);
                rest = &rest[at + 1..];
                continue;
            };
            if at == 0 && end == text.len() {
                return value;
            }
            out.push_str(&rest[..at]);
            if let Php::Text(_) | Php::Int(_) | Php::Number(_) = value {
                out.push_str(&value.to_text().unwrap_or_default());
            }
            rest = &tail[end..];
        }
        out.push_str(rest);
        Php::Text(out)
    }

    /// The value of `$result[key][path]…`; a missing step leaves the value that
    /// was reached before it.
    fn reference(&self, text: &str, lost: &mut Lost) -> Option<Php> {
        let (name, path) = text.split_once('[')?;
        let path = path.strip_suffix(']')?;
        let mut path = path.split("][");
        let key = path.next()?;
        let own = |own: &Key| own.text() == key;
        let answer = self.answers.iter().find(|(key, _)| own(key));
        let numbers = |figure: fn(&Answer) -> Option<i64>| {
            let found = answer.and_then(|(_, answer)| figure(answer)).map(Php::Int);
            found.or_else(|| Some(Php::Array(Array::default())))
        };
        match name {
            "$result" => {}
            "$next" => return numbers(|answer| answer.next),
            "$total" => return numbers(|answer| answer.total),
            "$error" | "$time" => return Some(Php::Array(Array::default())),
            _ => return None,
        }
        let Some((_, answer)) = answer else {
            lost.failed = true;
            // Only whether it is empty can matter to the one who inserts it.
            let whole = self.answers.iter().map(|_| Php::Bool(true)).collect();
            return Some(Php::Array(whole));
        };
        Some(descend(answer, &path.collect::<Vec<_>>(), lost))
    }
}

/// What references did not find.
#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    short_page: bool,
    failed: bool,
}

fn descend(answer: &Answer, path: &[&str], lost: &mut Lost) -> Php {
    let parse = |bytes: &[u8]| serde_json::from_slice::<Php>(bytes).unwrap_or(Php::Null);
    let to_row = match answer.under {
        Some(step) if path.first() == Some(&step) => &path[1..],
        Some(_) => &[],
        None => path,
    };
    let row = to_row.first().and_then(|place| place.parse::<usize>().ok());
    let (mut value, rest) = match row {
        Some(place) if place < answer.rows.len() => {
            let (id, span) = &answer.rows[place];
            if answer.id_key.is_some_and(|key| to_row.get(1) == Some(&key)) {
                return Php::Text(id.to_string());
            }
            (parse(&answer.body[span.clone()]), &to_row[1..])
        }
        _ => (parse(&answer.body), path),
    };
    for step in rest {
        let Some(next) = value.as_array().and_then(|array| array.get(step)) else {
            lost.short_page = true;
            break;
        };
        value = next.clone();
    }
    value
}

/// Writes a PHP map; 1 if it went out as an array.
fn write_map<'a, T>(
    out: &mut Vec<u8>,
    entries: impl Iterator<Item = (&'a Key, T)>,
    writing: Writing,
    mut write: impl FnMut(&mut Vec<u8>, T),
) -> usize {
    let entries: Vec<(&Key, T)> = entries.collect();
    let list = entries.iter().zip(0_i64..).all(|((key, _), at)| **key == Key::Int(at));
    out.push(if list { b'[' } else { b'{' });
    for (at, (key, value)) in entries.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        if !list {
            write_text(out, &key.text(), writing);
            out.push(b':');
        }
        write(out, value);
    }
    out.push(if list { b']' } else { b'}' });
    usize::from(list)
}
