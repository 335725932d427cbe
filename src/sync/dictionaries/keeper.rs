//! Reads dictionaries and stores them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    codes::Codes,
    timetable::{Fate, Timetable},
};
use crate::{
    entity::{
        Entity, SMART_ITEMS,
        dictionary::{Dictionary, EntryRow, country_of_licence},
    },
    portal::{DictionarySource, HeardDictionaries, Lane, Listed, Portal, PortalError},
    retry::Disposition,
    store::{Code, DictionaryRows, Generation, Store, StoreError},
    sync::{Mirrored, SyncError, counted, reporting::ReportBell},
};

/// A daemon's first cycles go first.
const START_AFTER: Duration = Duration::from_secs(2);

/// A database that is away is looked for so often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Other work waits no longer for the portal's country, or for its smart processes.
const FACTS_WITHIN: Duration = Duration::from_secs(20);

/// Keeps the dictionaries of a session fresh.
#[derive(Clone)]
pub(in crate::sync) struct Keeper {
    pub(in crate::sync) store: Store,
    pub(in crate::sync) portal: Portal,
    pub(in crate::sync) generation: Generation,
    pub(in crate::sync) codes: Codes,
    /// Those that explain what is mirrored.
    pub(in crate::sync) dictionaries: Vec<Dictionary>,
    /// The numbers of the mirrored records that have pipelines, but for smart processes.
    pub(in crate::sync) pipelines_of: Vec<u32>,
    /// Between two readings.
    pub(in crate::sync) interval: Duration,
    /// The smart processes that the session mirrors.
    pub(in crate::sync) processes: Vec<&'static Entity>,
    /// Those that it cannot mirror, since their tables could not be made.
    pub(in crate::sync) without_tables: Vec<&'static Entity>,
    /// Rung when the portal's time zone, in which reports count days, becomes known, and when
    /// the titles of smart processes may have changed.
    pub(in crate::sync) reports: ReportBell,
    /// Ends with the session: answers are abandoned, transactions are not.
    pub(in crate::sync) stop: CancellationToken,
}

/// Why a reading is not whole, or did not come at all.
#[derive(Clone)]
struct Problem {
    fate: Fate,
    text: String,
}

/// The rows of a reading that can be used.
struct Decoded {
    rows: Vec<EntryRow>,
    /// Rows without a usable key.
    nameless: usize,
}

impl Keeper {
    /// Reads what is due, again and again, until the session ends.
    pub(in crate::sync) async fn keep(self) {
        let stop = self.stop.clone();
        if !self.portal.is_open() {
            return stop.cancelled().await;
        }
        let Some(mut timetable) = stop.run_until_cancelled(self.begin()).await else { return };
        let mut told = Vec::new();
        loop {
            let (now, asked) = (Instant::now(), self.codes.asked());
            let due = timetable.due(now, &asked);
            if due.is_empty() {
                let wanted: Vec<Dictionary> = asked.iter().copied().collect();
                if !wanted.is_empty() && wanted != told {
                    self.tell_wanted(&wanted).await;
                    told = wanted;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.codes.wait() => {}
                    () = sleep_until(timetable.next(now, &asked)) => {}
                }
                continue;
            }
            let fates = self.read(&due).await;
            if stop.is_cancelled() {
                return;
            }
            told.clear();
            timetable.took(now, Instant::now(), &asked, &fates);
            if fates.contains(&(Dictionary::SmartProcesses, Fate::Read)) {
                self.reports.ring();
                if self.other_processes().await {
                    tracing::info!("the portal has other smart processes now; beginning anew");
                    // The next session, which begins at once, mirrors what there is now.
                    stop.cancel();
                    return;
                }
            }
        }
    }

    /// Whether the portal has other smart processes than the session mirrors.
    async fn other_processes(&self) -> bool {
        match self.store.present_smart_items().await {
            Ok(present) => present != self.processes,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "not compared");
                false
            }
        }
    }

    /// What a session mirrors: of smart processes each that the portal has, with tables for its
    /// items. The portal is asked which they are if that is due.
    ///
    /// # Errors
    /// Errors of the database.
    pub(in crate::sync) async fn discover(
        &mut self,
        wanted: &[Mirrored],
    ) -> Result<Vec<Mirrored>, StoreError> {
        let mut each = Vec::with_capacity(wanted.len());
        for one in wanted {
            let processes = if *one.entity == SMART_ITEMS {
                Box::pin(self.ask_for_processes()).await?;
                self.store.present_smart_items().await?
            } else if one.entity.smart_process().is_some() {
                vec![one.entity]
            } else {
                each.push(*one);
                continue;
            };
            for entity in processes {
                match self.store.make_smart_tables(Some(self.generation), entity).await {
                    Ok(()) => {
                        self.processes.push(entity);
                        each.push(Mirrored { entity, ..*one });
                    }
                    Err(error @ StoreError::LeaseLost) => return Err(error),
                    // Else it would look as if the portal had no such process.
                    Err(error) if error.is_disconnection() => return Err(error),
                    Err(error) => {
                        tracing::warn!(
                            entity = entity.name,
                            error = &error as &dyn std::error::Error,
                            "the tables of a smart process could not be made, so it is not \
                             mirrored yet"
                        );
                        self.without_tables.push(entity);
                    }
                }
            }
        }
        Ok(each)
    }

    /// Reads which smart processes there are, if that is due or failed before: without it nothing
    /// of them is mirrored. The others wait for it, and not for long: a daemon looks again soon.
    async fn ask_for_processes(&self) -> Result<(), StoreError> {
        let processes = [Dictionary::SmartProcesses];
        let (mut standings, database) = self.store.dictionaries().await?;
        standings.retain(|standing| processes.contains(&standing.dictionary));
        let now = Instant::now();
        let timetable = Timetable::of(self.interval, &standings, (database, now), true);
        if timetable.due(now, &BTreeSet::new()) == processes {
            let reading = timeout(FACTS_WITHIN, self.read(&processes)).await;
            if reading.is_err() {
                tracing::warn!("the portal does not say yet which smart processes it has");
            }
        }
        Ok(())
    }

    /// Waits for the database, lets the first cycles go first, and says what is due when.
    async fn begin(&self) -> Timetable {
        loop {
            match self.load(true).await {
                Ok(timetable) => {
                    sleep(START_AFTER).await;
                    return timetable;
                }
                Err(error) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the state of the dictionaries could not be read; trying again"
                ),
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Reads from the database what is settled and what is due when.
    async fn load(&self, afresh: bool) -> Result<Timetable, StoreError> {
        self.codes.settle(&self.store.settled_codes().await?);
        let (mut standings, database) = self.store.dictionaries().await?;
        standings.retain(|standing| self.dictionaries.contains(&standing.dictionary));
        Ok(Timetable::of(self.interval, &standings, (database, Instant::now()), afresh))
    }

    /// Learns which codes are settled, before a command's own work.
    pub(in crate::sync) async fn prepare(&self) {
        if let Err(error) = self.load(false).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "codes are not known yet");
        }
    }

    /// Asks where the portal is if that is not known: phones are read by its country, and what
    /// is written with it need not be derived anew later.
    pub(in crate::sync) async fn locate(self) {
        if let Err(error) = self.learn_facts().await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the portal's country could not be settled yet"
            );
        }
    }

    async fn learn_facts(&self) -> Result<(), StoreError> {
        if !self.portal.is_open() || self.store.has_portal_facts().await? {
            return Ok(());
        }
        let source = DictionarySource::new(self.portal.clone());
        let asking = timeout(FACTS_WITHIN, source.read(Lane::People, &[]));
        if let Some(Ok(Ok(heard))) = self.stop.run_until_cancelled(asking).await {
            self.save_facts(heard.time_zone.as_deref(), heard.licence.as_deref()).await;
            self.store.settle_phone_rules(self.generation).await?;
        }
        Ok(())
    }

    /// Waits until something is wanted that was not.
    pub(in crate::sync) async fn wanted(&self) {
        self.codes.wait().await;
    }

    /// Reads what is due beside a command's own work, or what its records made wanted. `afresh`
    /// tries at once what could not be read before.
    pub(in crate::sync) async fn read_due(&self, afresh: bool) {
        if !self.portal.is_open() {
            return;
        }
        let reading = async {
            let timetable = self.load(afresh).await?;
            let due = timetable.due(Instant::now(), &self.codes.asked());
            if !due.is_empty() {
                self.read(&due).await;
            }
            Ok::<(), StoreError>(())
        };
        if let Err(error) = reading.await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the names behind codes could not be read"
            );
        }
    }

    async fn tell_wanted(&self, wanted: &[Dictionary]) {
        if let Err(error) = self.store.want_dictionaries(self.generation, wanted).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "not noted");
        }
    }

    /// Reads the pipelines of whatever is mirrored. Each smart process is asked for its own, since
    /// its items name one even where it shows none.
    fn source(&self) -> DictionarySource {
        let processes = self.processes.iter().flat_map(|process| process.pipelines());
        let kinds = self.pipelines_of.iter().copied().chain(processes);
        DictionarySource::new(self.portal.clone()).with_pipelines_of(kinds)
    }

    /// Reads dictionaries; says how each went. What the session's end cuts short is not told.
    async fn read(&self, wanted: &[Dictionary]) -> Vec<(Dictionary, Fate)> {
        let begun = self.codes.begin(wanted);
        let source = self.source();
        let asking = source.read(Lane::Sweep, wanted);
        let Some(heard) = self.stop.run_until_cancelled(asking).await else { return Vec::new() };
        let mut endings = Vec::with_capacity(wanted.len());
        let mut refused_all = false;
        match heard {
            Ok(HeardDictionaries { lists, time_zone, licence }) => {
                self.save_facts(time_zone.as_deref(), licence.as_deref()).await;
                for (dictionary, listed) in lists {
                    let kept = match listed {
                        Ok(listed) => self.keep_rows(&source, dictionary, listed).await,
                        Err(error) => Err(refusal(dictionary, error)),
                    };
                    endings.push((dictionary, kept.err()));
                }
            }
            Err(error) => {
                refused_all = error.disposition() == Disposition::StopPortal;
                let problem = refusal_of_all(error);
                endings.extend(wanted.iter().map(|one| (*one, Some(problem.clone()))));
            }
        }
        if !self.stop.is_cancelled() {
            tell(&endings, refused_all);
        }
        let mut fates = Vec::with_capacity(endings.len());
        for (dictionary, problem) in endings {
            fates.push((dictionary, self.note(dictionary, problem).await));
        }
        let read = |code: &Code| fates.contains(&(code.dictionary, Fate::Read));
        let explained = begun.into_iter().filter(read).collect();
        if let Err(error) = self.settle(explained).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "what the dictionaries explain could not be read back; the next reading will"
            );
        }
        fates
    }

    /// Stores the rows of a reading, and marks what has gone if that is certain.
    async fn keep_rows(
        &self,
        source: &DictionarySource,
        dictionary: Dictionary,
        mut listed: Listed,
    ) -> Result<(), Problem> {
        if listed.pages == 0 && listed.refused.is_none() {
            // Nothing that is mirrored has any.
            return Ok(());
        }
        let decoded = decode(dictionary, &listed.rows);
        let refused = listed.refused.take().map(|error| refusal(dictionary, error));
        let flaw = refused.or_else(|| flaw(&listed, &decoded));
        let whole = flaw.is_none() && !decoded.rows.is_empty();
        let missing = self.save(dictionary, &decoded.rows, whole && listed.pages == 1).await?;
        if let Some(flaw) = flaw {
            return Err(flaw);
        }
        if missing == 0 || listed.pages == 1 && whole {
            return Ok(());
        }
        if decoded.rows.is_empty() {
            return Err(Problem {
                fate: Fate::Refused,
                text: format!(
                    "{} came empty, though {missing} rows were known: that looks like a right \
                     that was lost, so nothing is marked as gone",
                    dictionary.method()
                ),
            });
        }
        self.look_again(source, dictionary, decoded.rows).await
    }

    /// What is missing from several pages may have moved from one to another between them.
    async fn look_again(
        &self,
        source: &DictionarySource,
        dictionary: Dictionary,
        mut rows: Vec<EntryRow>,
    ) -> Result<(), Problem> {
        let again = [dictionary];
        let asking = source.read(Lane::Sweep, &again);
        let heard = self.stop.run_until_cancelled(asking).await;
        let heard = heard.ok_or_else(|| Problem { fate: Fate::Failed, text: String::new() })?;
        let mut lists = heard.map_err(|error| refusal(dictionary, error))?.lists;
        let Some((_, listed)) = lists.pop() else { return Ok(()) };
        let mut listed = listed.map_err(|error| refusal(dictionary, error))?;
        if let Some(error) = listed.refused.take() {
            return Err(refusal(dictionary, error));
        }
        let decoded = decode(dictionary, &listed.rows);
        if let Some(flaw) = flaw(&listed, &decoded) {
            return Err(flaw);
        }
        // The second copy of a row is the newer one.
        rows.extend(decoded.rows);
        self.save(dictionary, &unique(rows), true).await?;
        Ok(())
    }

    async fn save(
        &self,
        dictionary: Dictionary,
        rows: &[EntryRow],
        whole: bool,
    ) -> Result<u64, Problem> {
        let reading = DictionaryRows { dictionary, rows, whole };
        self.store
            .save_dictionary(self.generation, reading)
            .await
            .map_err(|error| Problem { fate: Fate::Failed, text: SyncError::Store(error).reason() })
    }

    /// Notes how a reading went.
    async fn note(&self, dictionary: Dictionary, problem: Option<Problem>) -> Fate {
        if self.stop.is_cancelled() {
            return Fate::Failed;
        }
        let text = problem.as_ref().map(|problem| problem.text.as_str());
        let noted = self.store.dictionary_was_read(self.generation, dictionary, text).await;
        if let Err(error) = noted {
            tracing::debug!(error = &error as &dyn std::error::Error, "not noted");
        }
        problem.map_or(Fate::Read, |problem| problem.fate)
    }

    async fn save_facts(&self, time_zone: Option<&str>, licence: Option<&str>) {
        let country = licence.and_then(country_of_licence);
        let saved = self.store.save_portal_facts(self.generation, time_zone, country).await;
        match saved {
            Ok(true) => self.reports.ring(),
            Ok(false) => {}
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the portal's time zone and country could not be stored"
            ),
        }
    }

    /// Learns what is explained now, and remembers which of the codes are not.
    async fn settle(&self, begun: Vec<Code>) -> Result<(), StoreError> {
        self.codes.settle(&self.store.settled_codes().await?);
        let hidden = self.codes.left(begun);
        if hidden.is_empty() {
            return Ok(());
        }
        tracing::info!(codes = hidden.len(), "the portal does not say what some codes mean");
        self.store.hide_codes(self.generation, &hidden).await?;
        self.codes.hide(&hidden);
        Ok(())
    }
}

/// Reads rows, each key once.
fn decode(dictionary: Dictionary, rows: &[Box<RawValue>]) -> Decoded {
    let (mut read, mut nameless) = (Vec::with_capacity(rows.len()), 0);
    for row in rows {
        match dictionary.read(row) {
            Ok(entry) => {
                if !entry.unread.is_empty() {
                    let (directory, code) = entry.row.key();
                    tracing::warn!(
                        dictionary = dictionary.name(),
                        directory = &*directory,
                        code,
                        fields = entry.unread.join(", "),
                        "fields of an entry cannot be read and are left out"
                    );
                }
                read.push(entry.row);
            }
            Err(error) => {
                nameless += 1;
                tracing::warn!(error = &error as &dyn std::error::Error, "left out");
            }
        }
    }
    Decoded { rows: unique(read), nameless }
}

/// Of each key the last row.
fn unique(rows: Vec<EntryRow>) -> Vec<EntryRow> {
    let key = |row: EntryRow| {
        let (directory, code) = row.key();
        let key = (directory.into_owned(), code);
        (key, row)
    };
    rows.into_iter().map(key).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// Why nothing may be concluded from what is missing in a reading.
fn flaw(listed: &Listed, decoded: &Decoded) -> Option<Problem> {
    let text = match (listed.lacking(), decoded.nameless) {
        (0, 0) => return None,
        (0, nameless) => format!("{} left out for want of a usable key", counted(nameless, "row")),
        (lacking, _) => format!("the list ended {} early", counted(lacking, "row")),
    };
    let text = format!("{text}; what is missing is not marked as gone");
    let fate = if listed.lacking() > 0 { Fate::Failed } else { Fate::Refused };
    Some(Problem { fate, text })
}

/// Logs how a reading went, each problem once. What the portal refuses to everybody is told
/// with the records.
fn tell(endings: &[(Dictionary, Option<Problem>)], refused_all: bool) {
    if refused_all {
        tracing::info!("the portal refuses everything, the names behind codes too");
        return;
    }
    let mut problems: BTreeMap<&str, Vec<Dictionary>> = BTreeMap::new();
    for (dictionary, problem) in endings {
        match problem {
            None => tracing::debug!(dictionary = dictionary.name(), "a dictionary was read"),
            Some(problem) => problems.entry(&problem.text).or_default().push(*dictionary),
        }
    }
    for (problem, dictionaries) in problems {
        if let [dictionary] = dictionaries.as_slice() {
            tracing::warn!(
                dictionary = dictionary.name(),
                problem,
                "a dictionary could not be read; {} may be missing or outdated",
                dictionary.explains(),
            );
            continue;
        }
        let names: Vec<_> = dictionaries.iter().map(|dictionary| dictionary.name()).collect();
        tracing::warn!(
            dictionaries = names.join(", "),
            problem,
            "dictionaries could not be read; what they explain may be missing or outdated"
        );
    }
}

/// Why a list did not come.
fn refusal(dictionary: Dictionary, error: PortalError) -> Problem {
    let fate = fate(&error);
    let text = if error.code().is_some_and(|code| code.is("insufficient_scope")) {
        let by_application = matches!(&error, PortalError::Api(failure) if failure.by_application);
        let who = if by_application { "application" } else { "webhook" };
        format!("the {who} lacks the right `{}`", dictionary.scope())
    } else {
        SyncError::Portal(error).reason()
    };
    Problem { fate, text }
}

/// Why nothing came.
fn refusal_of_all(error: PortalError) -> Problem {
    Problem { fate: fate(&error), text: SyncError::Portal(error).reason() }
}

fn fate(error: &PortalError) -> Fate {
    match error.disposition() {
        Disposition::StopEntity | Disposition::StopPortal | Disposition::CallerBug => Fate::Refused,
        _ => Fate::Failed,
    }
}
