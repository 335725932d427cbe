//! The lists that explain codes: `crm.status.list`, `user.get`, `department.get`,
//! `crm.currency.list` and their like, and what the portal says of itself.
//!
//! They are paged by `start`, and a `start` behind the end quietly becomes the first page.
//! So a page counts only if the page before it named its `start` as `next`; the pages that
//! `total` foretells are asked for ahead, together, and thrown away where that was wrong.
//! Currencies come all at once, and with them `total` is 0 whatever there is.

use std::collections::BTreeSet;

use serde_json::{Value, json, value::RawValue};

use super::{MAX_COMMANDS, PAGE_ROWS};
use crate::{
    entity::dictionary::Dictionary,
    portal::{
        Answer, BatchAnswer, Commands, Lane, Patience, Portal, PortalError, envelope::PhpMap,
    },
};

const PROFILE: &str = "profile";
const APP: &str = "app";

/// No portal has so many rows; whoever lists more goes round in circles.
const MOST_PAGES: usize = 4_000;

/// Lists that one request reads, beside what the first one asks.
const AT_ONCE: usize = MAX_COMMANDS - 2;

/// What the portal says of records that have no pipelines.
const UNSUPPORTED: &str = "ENTITY_TYPE_NOT_SUPPORTED";

/// What it says of a smart process that somebody has removed.
const NOT_FOUND: &str = "NOT_FOUND";

/// Reads the lists that explain codes.
#[derive(Debug, Clone)]
pub struct DictionarySource {
    portal: Portal,
    /// The numbers of the records whose pipelines are read.
    pipelines_of: Vec<u32>,
}

/// One list, read to its end.
#[derive(Debug, Default)]
pub struct Listed {
    /// The rows, not parsed any further.
    pub rows: Vec<Box<RawValue>>,
    /// The pages they came on. What changes while several are read may fall between them.
    pub pages: usize,
    /// How many rows there should be by the last page, where it says so.
    pub total: Option<u64>,
    /// Why a part did not come, of what comes in several lists.
    pub refused: Option<PortalError>,
}

impl Listed {
    /// How many rows are lacking although the list came to its end.
    #[must_use]
    pub fn lacking(&self) -> u64 {
        let came = self.rows.len() as u64;
        self.total.map_or(0, |total| total.saturating_sub(came))
    }

    /// Both as one.
    fn and(mut self, mut other: Self) -> Self {
        let lacking = self.lacking() + other.lacking();
        self.rows.append(&mut other.rows);
        // Each is as whole as its own pages.
        self.pages = self.pages.max(other.pages);
        self.total = Some(self.rows.len() as u64 + lacking);
        self.refused = self.refused.or(other.refused);
        self
    }
}

/// The answer to a question about dictionaries.
#[derive(Debug)]
pub struct HeardDictionaries {
    /// What was asked for, or why it did not come.
    pub lists: Vec<(Dictionary, Result<Listed, PortalError>)>,
    /// The time zone that the portal's profile names.
    pub time_zone: Option<String>,
    /// The portal's licence.
    pub licence: Option<String>,
}

/// A list on its way.
struct Reading {
    dictionary: Dictionary,
    /// The number of the records whose pipelines it lists.
    of: Option<u32>,
    /// Where the next page starts.
    start: u64,
    listed: Listed,
    /// Whether nothing follows, or why nothing more can be read.
    end: Option<Result<(), PortalError>>,
}

impl DictionarySource {
    /// Reads from that portal.
    #[must_use]
    pub const fn new(portal: Portal) -> Self {
        Self { portal, pipelines_of: Vec::new() }
    }

    /// The same, with pipelines of the records that have these numbers.
    #[must_use]
    pub fn with_pipelines_of(self, kinds: impl IntoIterator<Item = u32>) -> Self {
        let kinds: BTreeSet<u32> = kinds.into_iter().collect();
        Self { pipelines_of: kinds.into_iter().collect(), ..self }
    }

    /// What has to be read: pipelines of everything that has some.
    fn readings(&self, wanted: &[Dictionary]) -> Vec<Reading> {
        let of = |dictionary: &Dictionary| match dictionary {
            Dictionary::Pipelines => self
                .pipelines_of
                .iter()
                .map(|kind| Reading::new(*dictionary, Some(*kind)))
                .collect(),
            _ => vec![Reading::new(*dictionary, None)],
        };
        wanted.iter().flat_map(of).collect()
    }

    /// Reads lists to their ends, several in each request.
    ///
    /// # Errors
    /// What [`Portal::batch`] returns. A list that fails alone has its error in its place.
    pub async fn read(
        &self,
        lane: Lane,
        wanted: &[Dictionary],
    ) -> Result<HeardDictionaries, PortalError> {
        let mut readings = self.readings(wanted);
        let (mut time_zone, mut licence) = (None, None);
        let mut first = true;
        while first || readings.iter().any(Reading::is_open) {
            let open = readings.iter().filter(|reading| reading.is_open()).count();
            // Where there are more, the others have their turn when these have ended.
            let room = AT_ONCE / open.clamp(1, AT_ONCE);
            let mut commands = Commands::new();
            if first {
                commands.push(PROFILE, "profile", &json!({}))?;
                commands.push(APP, "app.info", &json!({}))?;
            }
            for reading in readings.iter().filter(|reading| reading.is_open()).take(AT_ONCE) {
                reading.ask(room, &mut commands)?;
            }
            let mut answer = self.portal.batch(lane, &commands, Patience::Persist).await?;
            if std::mem::take(&mut first) {
                time_zone = field(answer.take(PROFILE).ok(), "TIME_ZONE");
                licence = field(answer.take(APP).ok(), "LICENSE");
            }
            for reading in readings.iter_mut().filter(|reading| reading.is_open()).take(AT_ONCE) {
                reading.take(room, &mut answer);
            }
        }
        let lists = joined(wanted, readings);
        Ok(HeardDictionaries { lists, time_zone, licence })
    }

    /// Asks for the first page of each list, to see whether they may be read. Gives how
    /// many rows each has, or a page of them.
    ///
    /// # Errors
    /// What [`Portal::batch`] returns.
    pub async fn try_each(
        &self,
        lane: Lane,
        wanted: &[Dictionary],
    ) -> Result<Vec<(Dictionary, Result<u64, PortalError>)>, PortalError> {
        let mut readings = self.readings(wanted);
        for some in readings.chunks_mut(MAX_COMMANDS) {
            let mut commands = Commands::new();
            for reading in &*some {
                reading.ask(1, &mut commands)?;
            }
            let mut answer = self.portal.batch(lane, &commands, Patience::Persist).await?;
            for reading in some {
                reading.take(1, &mut answer);
            }
        }
        let seen = |(dictionary, listed): (Dictionary, Result<Listed, PortalError>)| {
            let rows = listed.and_then(|listed| match listed.refused {
                Some(error) => Err(error),
                None => Ok(listed.total.unwrap_or(0).max(listed.rows.len() as u64)),
            });
            (dictionary, rows)
        };
        Ok(joined(wanted, readings).into_iter().map(seen).collect())
    }
}

/// The lists, those of one dictionary as one. One that does not come takes nothing from the others.
fn joined(
    wanted: &[Dictionary],
    readings: Vec<Reading>,
) -> Vec<(Dictionary, Result<Listed, PortalError>)> {
    let mut finished: Vec<_> = readings.into_iter().map(Reading::finish).collect();
    let mut of = |dictionary: Dictionary| {
        let (own, others) = finished.drain(..).partition(|(own, _)| *own == dictionary);
        finished = others;
        let mut own: Vec<(Dictionary, Result<Listed, PortalError>)> = own;
        let listed =
            match own.pop() {
                Some((_, only)) if own.is_empty() => only,
                last => Ok(own.into_iter().chain(last).fold(Listed::default(), |all, (_, one)| {
                    all.and(one.unwrap_or_else(|error| Listed {
                        refused: Some(error),
                        ..Listed::default()
                    }))
                })),
            };
        (dictionary, listed)
    };
    wanted.iter().map(|dictionary| of(*dictionary)).collect()
}

impl Reading {
    fn new(dictionary: Dictionary, of: Option<u32>) -> Self {
        Self { dictionary, of, start: 0, listed: Listed::default(), end: None }
    }

    const fn is_open(&self) -> bool {
        self.end.is_none()
    }

    fn finish(self) -> (Dictionary, Result<Listed, PortalError>) {
        let Self { dictionary, listed, end, .. } = self;
        (dictionary, end.unwrap_or(Ok(())).map(|()| listed))
    }

    /// How many pages to ask for together.
    fn ahead(&self, room: usize) -> usize {
        let left = self.listed.total.unwrap_or(0).saturating_sub(self.start);
        usize::try_from(left).unwrap_or(usize::MAX).div_ceil(PAGE_ROWS).clamp(1, room.max(1))
    }

    fn key(&self, page: usize) -> String {
        let of = self.of.map(|kind| format!("{kind}_")).unwrap_or_default();
        format!("{}{of}{page:02}", self.dictionary.name())
    }

    fn ask(&self, room: usize, commands: &mut Commands) -> Result<(), PortalError> {
        for page in 0..self.ahead(room) {
            let start = self.start + (page * PAGE_ROWS) as u64;
            // By ID, because an order by name moves with the names.
            let params = match self.dictionary {
                Dictionary::Statuses => json!({ "order": { "ID": "ASC" }, "start": start }),
                Dictionary::Users | Dictionary::Departments => {
                    json!({ "sort": "ID", "order": "ASC", "start": start })
                }
                Dictionary::Currencies => json!({ "order": { "SORT": "ASC" } }),
                Dictionary::Pipelines => json!({ "entityTypeId": self.of }),
                Dictionary::SmartProcesses => {
                    json!({ "order": { "id": "ASC" }, "start": start })
                }
            };
            commands.push(&self.key(page), self.dictionary.method(), &params)?;
        }
        Ok(())
    }

    fn take(&mut self, room: usize, answer: &mut BatchAnswer) {
        let begun = self.start;
        for page in 0..self.ahead(room) {
            let expected = begun + (page * PAGE_ROWS) as u64;
            // The page before did not lead here.
            if self.end.is_some() || self.start != expected {
                return;
            }
            let taken = answer.take(&self.key(page)).and_then(|page| self.take_page(&page));
            if let Err(error) = taken {
                self.end = Some(if self.has_none(&error) { Ok(()) } else { Err(error) });
            }
        }
    }

    /// Whether an error says that these records have no pipelines, as one of a smart process may
    /// where they are switched off, or that there are no such records any more.
    fn has_none(&self, error: &PortalError) -> bool {
        let code = error.code();
        self.of.is_some() && code.is_some_and(|code| code.is(UNSUPPORTED) || code.is(NOT_FOUND))
    }

    fn take_page(&mut self, page: &Answer) -> Result<(), PortalError> {
        let method = self.dictionary.method();
        let unusable = |what: &str| PortalError::unusable(method, what);
        let no_list = || unusable("its result is not a list of rows");
        let mut rows = PhpMap::read(Some(&page.result)).ok_or_else(no_list)?;
        let under = match self.dictionary {
            Dictionary::Pipelines => Some("categories"),
            Dictionary::SmartProcesses => Some("types"),
            _ => None,
        };
        if let Some(key) = under {
            rows = PhpMap::read(rows.get(key).copied()).ok_or_else(no_list)?;
        }
        self.listed.rows.extend(rows.values().map(|row| (**row).to_owned()));
        self.listed.pages += 1;
        self.listed.total = page.total.filter(|total| *total > 0);
        match page.next {
            None => self.end = Some(Ok(())),
            Some(next) if next <= self.start || self.listed.pages >= MOST_PAGES => {
                return Err(unusable("its pages go round in circles"));
            }
            Some(next) => self.start = next,
        }
        Ok(())
    }
}

/// A text among the fields of an answer, if there is one.
fn field(answer: Option<Answer>, name: &str) -> Option<String> {
    let fields: Value = serde_json::from_str(answer?.result.get()).ok()?;
    let text = fields.get(name)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
