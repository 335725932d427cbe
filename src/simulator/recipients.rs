//! The mail address book of the webhook's user, over REST 3.0:
//! `/rest/api/{user}/{secret}/mail.recipient.listcontacts`.
//!
//! The newest come first: whoever is added or used moves to the front and shifts all others,
//! so pages by offset are of a list that moves; the order, and whether all of it is listed, are
//! switches. REST 3.0 reads JSON bodies only, knows no
//! `total` and no `next`, and has an envelope of its own for errors.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::actions::{Action, ActionError, Outcome};
use super::dataset::{Rng, mix};
use super::php::{Array, Php};
use super::portal::{Answer, Failure, Portal};
use super::undocumented::{RecipientOrder, Undocumented};

/// What the codes of the newer dialect begin with.
pub(super) const CODES: &str = "BITRIX_REST_V3_EXCEPTION_";

/// Methods that exist under `/rest/api/` and nowhere else, with the scope that each needs.
const METHODS: [(&str, &str); 1] = [("mail.recipient.listcontacts", "mail")];

/// Rows of a page where nothing is said.
const DEFAULT_LIMIT: i64 = 50;

/// The most rows of a page, whatever is said.
const MOST: i64 = 200;

/// The scope that a method needs; `None` for an unknown method.
pub(super) fn scope_of(method: &str) -> Option<&'static str> {
    METHODS.iter().find(|(name, _)| *name == method).map(|(_, scope)| *scope)
}

/// A failure in the words of the newer dialect.
pub(super) fn failure(status: u16, exception: &str, text: &str) -> Failure {
    Failure::new(status, &format!("{CODES}{exception}"), text)
}

/// One entry of the address book, as a right mirror has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrueRecipient {
    /// Its ID.
    pub id: i64,
    /// The address, as somebody typed it.
    pub email: String,
    /// The name; often empty.
    pub name: String,
}

/// An entry, and how it is listed if not as it should be.
#[derive(Clone, Debug)]
struct Entry {
    recipient: TrueRecipient,
    garbled: Option<Php>,
}

/// The address book, the newest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Recipients {
    entries: Vec<Entry>,
    next: i64,
}

impl Recipients {
    /// An address book that follows from the seed.
    pub(super) fn populate(seed: u64, count: u64) -> Self {
        let mut rng = Rng::new(mix(seed, 77));
        let mut book = Self { entries: Vec::new(), next: 1 };
        for place in 0..count {
            // As after years of additions and removals.
            book.next += rng.between(0, 3);
            let email = match place % 5 {
                0 => format!("Client.{place}@Example.ORG"),
                1 => format!(" user{place}@example.com "),
                _ => format!("recipient{place}@mail.example.net"),
            };
            let name = match place % 6 {
                0 => String::new(),
                1 => format!("Иванова \"Анна\" & K° {place}"),
                2 => format!("Élodie <{place}> 🙂"),
                _ => format!("Recipient {place}"),
            };
            book.add(email, name);
        }
        book
    }

    fn add(&mut self, email: String, name: String) -> i64 {
        let id = self.next;
        self.next += 1;
        let recipient = TrueRecipient { id, email, name };
        self.entries.insert(0, Entry { recipient, garbled: None });
        id
    }

    /// By ascending ID.
    pub(super) fn truth(&self) -> Vec<TrueRecipient> {
        let mut truth: Vec<_> = self.entries.iter().map(|one| one.recipient.clone()).collect();
        truth.sort_by_key(|recipient| recipient.id);
        truth
    }

    fn place(&self, id: i64) -> Result<usize, ActionError> {
        let found = self.entries.iter().position(|entry| entry.recipient.id == id);
        found.ok_or(ActionError::NoRecord(id))
    }

    /// Does what an action says.
    pub(super) fn apply(&mut self, action: Action) -> Result<Outcome, ActionError> {
        let mut outcome = Outcome::default();
        match action {
            Action::AddRecipient { email, name } => outcome.ids.push(self.add(email, name)),
            Action::ChangeRecipient { id, email, name } => {
                let place = self.place(id)?;
                let recipient = &mut self.entries[place].recipient;
                if let Some(email) = email {
                    recipient.email = email;
                }
                if let Some(name) = name {
                    recipient.name = name;
                }
                outcome.ids.push(id);
            }
            Action::RemoveRecipient { ids } => {
                for id in ids {
                    let place = self.place(id)?;
                    self.entries.remove(place);
                    outcome.gone.push(id);
                }
            }
            Action::TouchRecipient { id } => {
                let place = self.place(id)?;
                let entry = self.entries.remove(place);
                self.entries.insert(0, entry);
                outcome.ids.push(id);
            }
            Action::GarbleRecipient { id, row } => {
                let place = self.place(id)?;
                self.entries[place].garbled = row.map(garbled);
                outcome.ids.push(id);
            }
            _ => {}
        }
        Ok(outcome)
    }

    /// The rows from an offset on.
    fn rows(
        &self,
        undocumented: &Undocumented,
        query: &str,
        (offset, limit): (usize, usize),
    ) -> Array {
        let query = query.trim().to_lowercase();
        let window = undocumented.recipient_window.filter(|_| query.is_empty());
        let matches = |entry: &&Entry| {
            let TrueRecipient { email, name, .. } = &entry.recipient;
            email.to_lowercase().contains(&query) || name.to_lowercase().contains(&query)
        };
        let shown = self.entries.iter().filter(matches).take(window.unwrap_or(usize::MAX));
        let mut rows: Vec<&Entry> = shown.collect();
        match undocumented.recipient_order {
            RecipientOrder::Newest => {}
            RecipientOrder::Id => rows.sort_by_key(|entry| entry.recipient.id),
            RecipientOrder::Name => rows.sort_by(|one, other| {
                let (one, other) = (&one.recipient, &other.recipient);
                (&one.name, one.id).cmp(&(&other.name, other.id))
            }),
        }
        let rows = rows.into_iter().skip(offset).take(limit);
        rows.map(|entry| entry.garbled.clone().unwrap_or_else(|| row(&entry.recipient))).collect()
    }
}

fn row(recipient: &TrueRecipient) -> Php {
    Array::default()
        .with("id", recipient.id)
        .with("email", recipient.email.as_str())
        .with("name", recipient.name.as_str())
        .into()
}

fn garbled(row: Value) -> Php {
    serde_json::from_value(row).unwrap_or(Php::Null)
}

impl Portal {
    /// Answers `mail.recipient.listcontacts`.
    pub(super) fn list_recipients(&mut self, params: &Array) -> Result<Answer, Failure> {
        let none = Array::default();
        let pagination = match params.get("pagination") {
            None => &none,
            Some(Php::Array(pagination)) => pagination,
            Some(other) => return Err(self.unrecognized(other)),
        };
        let Some(window) = window(pagination) else {
            return Err(self.unrecognized(&Php::Array(pagination.clone())));
        };
        let query = params.get("query").and_then(Php::to_text).unwrap_or_default();
        let items = self.recipients.rows(&self.options.undocumented, &query, window);
        let result: Php = Array::default().with("items", items).into();
        let mut answer = Answer::default();
        result.write(&mut answer.body, self.writing());
        self.page_answered();
        Ok(answer)
    }

    fn unrecognized(&self, pagination: &Php) -> Failure {
        let mut json = Vec::new();
        pagination.write(&mut json, self.writing());
        let json = String::from_utf8_lossy(&json);
        let text = format!("Unable to recognize pagination parameter `{json}`");
        failure(400, "INVALIDPAGINATIONEXCEPTION", &text)
    }
}

/// Offset and limit of a page; `None` where they are none.
fn window(pagination: &Array) -> Option<(usize, usize)> {
    let number = |name: &str| match pagination.get(name) {
        None => Some(None),
        Some(Php::Int(value)) => Some(Some(*value)),
        Some(Php::Text(text)) => text.parse().ok().map(Some),
        Some(_) => None,
    };
    let (page, limit, offset) = (number("page")?, number("limit")?, number("offset")?);
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if limit < 1 {
        return None;
    }
    let limit = limit.min(MOST);
    let offset = match (page, offset) {
        // A page decides where both are given.
        (Some(page), _) => (page - 1).max(0).checked_mul(limit)?,
        (None, offset) => offset.unwrap_or(0),
    };
    Some((usize::try_from(offset).ok()?, usize::try_from(limit).ok()?))
}
