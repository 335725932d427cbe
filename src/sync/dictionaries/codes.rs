//! Which codes are explained, and which were met that are not.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    entity::{
        Entity,
        dictionary::{Dictionary, Explained},
        record::{Record, Value},
    },
    store::Code,
};

/// So many codes are remembered until the next reading; more are met again.
const MOST_OPEN: usize = 10_000;

/// No code of a dictionary is so long, in bytes.
const LONGEST: usize = 200;

/// What a process knows of codes. Clones share it.
#[derive(Debug, Clone, Default)]
pub(in crate::sync) struct Codes(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Woken when a reading is asked for.
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Explained, or known to be hidden.
    settled: Sets,
    /// Met in records that were written, and not settled.
    open: Sets,
    /// The dictionaries that a pass has asked for at its end.
    asked: BTreeSet<Dictionary>,
}

/// Codes by what explains them.
#[derive(Debug, Default)]
struct Sets {
    numbers: HashMap<Explained, HashSet<i64>>,
    texts: HashMap<Explained, HashSet<String>>,
}

impl Sets {
    fn has(&self, explained: Explained, value: &Value) -> bool {
        match value {
            Value::Integer(id) => self.numbers.get(&explained).is_some_and(|ids| ids.contains(id)),
            Value::Text(text) => {
                self.texts.get(&explained).is_some_and(|codes| codes.contains(text.as_str()))
            }
            _ => true,
        }
    }

    fn insert(&mut self, explained: Explained, code: &str) {
        if explained.is_numbered() {
            self.numbers.entry(explained).or_default().extend(code.parse::<i64>().ok());
        } else {
            self.texts.entry(explained).or_default().insert(code.to_owned());
        }
    }

    fn remove(&mut self, explained: Explained, code: &str) {
        if let (Some(ids), Ok(id)) = (self.numbers.get_mut(&explained), code.parse::<i64>()) {
            ids.remove(&id);
        }
        if let Some(codes) = self.texts.get_mut(&explained) {
            codes.remove(code);
        }
    }

    fn len(&self) -> usize {
        let numbers = self.numbers.values().map(HashSet::len).sum::<usize>();
        numbers + self.texts.values().map(HashSet::len).sum::<usize>()
    }

    fn contains(&self, code: &Code) -> bool {
        explained(code).is_some_and(|explained| {
            let number = || code.code.parse().ok();
            if explained.is_numbered() {
                let ids = self.numbers.get(&explained);
                ids.zip(number()).is_some_and(|(ids, id)| ids.contains(&id))
            } else {
                self.texts.get(&explained).is_some_and(|codes| codes.contains(&code.code))
            }
        })
    }

    /// Every code of a dictionary.
    fn of(&self, dictionary: Dictionary) -> Vec<Code> {
        let numbers = self
            .numbers
            .iter()
            .flat_map(|(explained, ids)| ids.iter().map(|id| (*explained, id.to_string())));
        let texts = self
            .texts
            .iter()
            .flat_map(|(explained, codes)| codes.iter().map(|code| (*explained, code.clone())));
        numbers
            .chain(texts)
            .filter(|(explained, _)| explained.dictionary() == dictionary)
            .map(|(explained, code)| Code {
                dictionary,
                directory: explained.directory().into_owned(),
                code,
            })
            .collect()
    }
}

/// What explains a stored code, if any column holds codes of that kind.
fn explained(code: &Code) -> Option<Explained> {
    Explained::of(code.dictionary, &code.directory)
}

/// Codes that a batch of records holds and that are not settled.
#[derive(Debug, Default)]
pub(in crate::sync) struct Unsettled(Vec<(Explained, String)>);

impl Codes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces what is settled by what the database says.
    pub(super) fn settle(&self, settled: &[Code]) {
        let mut sets = Sets::default();
        for code in settled {
            if let Some(explained) = explained(code) {
                sets.insert(explained, &code.code);
            }
        }
        let mut state = self.state();
        let open = Dictionary::ALL.into_iter().flat_map(|dictionary| state.open.of(dictionary));
        for code in open.filter(|code| sets.contains(code)).collect::<Vec<_>>() {
            state.close(&code);
        }
        let State { open, asked, .. } = &mut *state;
        // No code leads to a smart process.
        asked.retain(|dictionary| {
            *dictionary == Dictionary::SmartProcesses || !open.of(*dictionary).is_empty()
        });
        state.settled = sets;
    }

    /// The codes in these records that are neither settled nor noted yet.
    pub(in crate::sync) fn unsettled(
        &self,
        entity: &'static Entity,
        records: &[Record],
    ) -> Unsettled {
        let coded: Vec<(usize, Explained)> = entity.coded().collect();
        let state = self.state();
        let mut found = Vec::new();
        for record in records {
            for (place, explained) in &coded {
                let Some(value) = record.values().get(*place) else { continue };
                if state.settled.has(*explained, value) || state.open.has(*explained, value) {
                    continue;
                }
                match value {
                    Value::Integer(id) => found.push((*explained, id.to_string())),
                    Value::Text(text) if text.len() <= LONGEST => {
                        found.push((*explained, text.clone()));
                    }
                    _ => {}
                }
            }
        }
        Unsettled(found)
    }

    /// Takes note of codes whose records were written.
    pub(in crate::sync) fn note(&self, Unsettled(found): Unsettled) {
        if found.is_empty() {
            return;
        }
        let mut state = self.state();
        for (explained, code) in found {
            if state.open.len() < MOST_OPEN {
                state.open.insert(explained, &code);
            }
        }
    }

    /// Asks for the dictionaries of every code that was noted: a pass is at its end.
    pub(in crate::sync) fn ask(&self) {
        let mut state = self.state();
        let lacking: Vec<Dictionary> = Dictionary::ALL
            .into_iter()
            .filter(|dictionary| !state.open.of(*dictionary).is_empty())
            .collect();
        if lacking.is_empty() {
            return;
        }
        state.asked.extend(lacking);
        drop(state);
        self.0.asked.notify_one();
    }

    /// Asks for a dictionary for another reason than a code.
    pub(in crate::sync) fn ask_for(&self, dictionary: Dictionary) {
        self.state().asked.insert(dictionary);
        self.0.asked.notify_one();
    }

    /// The dictionaries that are asked for.
    pub(super) fn asked(&self) -> BTreeSet<Dictionary> {
        self.state().asked.clone()
    }

    /// Waits until a reading is asked for.
    pub(super) async fn wait(&self) {
        self.0.asked.notified().await;
    }

    /// The codes that a reading of these dictionaries, about to begin, has to explain.
    pub(super) fn begin(&self, dictionaries: &[Dictionary]) -> Vec<Code> {
        let mut state = self.state();
        state.asked.retain(|dictionary| !dictionaries.contains(dictionary));
        dictionaries.iter().flat_map(|dictionary| state.open.of(*dictionary)).collect()
    }

    /// Of these codes, those that are not settled.
    pub(super) fn left(&self, codes: Vec<Code>) -> Vec<Code> {
        let state = self.state();
        codes.into_iter().filter(|code| !state.settled.contains(code)).collect()
    }

    /// Settles codes that a fresh reading did not bring: they ask no more.
    pub(super) fn hide(&self, codes: &[Code]) {
        let mut state = self.state();
        for code in codes {
            if let Some(explained) = explained(code) {
                state.settled.insert(explained, &code.code);
            }
            state.close(code);
        }
    }
}

impl State {
    fn close(&mut self, code: &Code) {
        if let Some(explained) = explained(code) {
            self.open.remove(explained, &code.code);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::entity::{CONTACTS, RecordId, record::ChildList};

    fn contact(source: &str, assigned: i64) -> Record {
        let mut values = vec![Value::Null; CONTACTS.columns.len()];
        values[CONTACTS.position("SOURCE_ID").unwrap()] = Value::Text(source.to_owned());
        values[CONTACTS.position("ASSIGNED_BY_ID").unwrap()] = Value::Integer(assigned);
        let children = vec![ChildList::Known(Vec::new()); CONTACTS.multi_fields.len()];
        let custom = BTreeMap::new();
        Record::new(RecordId::new(1).unwrap(), values, custom, children, Vec::new())
    }

    fn code(dictionary: Dictionary, directory: &str, code: &str) -> Code {
        Code { dictionary, directory: directory.to_owned(), code: code.to_owned() }
    }

    fn meet(codes: &Codes, source: &str, assigned: i64) {
        codes.note(codes.unsettled(&CONTACTS, &[contact(source, assigned)]));
        codes.ask();
    }

    #[test]
    fn only_codes_that_are_not_settled_ask_for_their_dictionary() {
        let codes = Codes::default();
        let call = code(Dictionary::Statuses, "SOURCE", "CALL");
        codes.settle(&[call, code(Dictionary::Users, "", "7")]);
        meet(&codes, "CALL", 7);
        assert_eq!(codes.asked(), BTreeSet::new());
        meet(&codes, "CALL", 8);
        assert_eq!(codes.asked(), BTreeSet::from([Dictionary::Users]));
        // A stage of that name is no source.
        codes.settle(&[code(Dictionary::Statuses, "STATUS", "CALL")]);
        meet(&codes, "CALL", 8);
        assert_eq!(codes.asked(), BTreeSet::from([Dictionary::Statuses, Dictionary::Users]));
    }

    #[test]
    fn what_a_reading_did_not_bring_asks_no_more() {
        let codes = Codes::default();
        meet(&codes, "NEW", 8);
        let both = [Dictionary::Statuses, Dictionary::Users];
        let begun = codes.begin(&both);
        assert_eq!((begun.len(), codes.asked()), (2, BTreeSet::new()));
        // Met while the reading is on its way, which may be too late for it.
        meet(&codes, "NEWER", 8);
        codes.settle(&[code(Dictionary::Statuses, "SOURCE", "NEW")]);
        let left = codes.left(begun);
        assert_eq!(left, [code(Dictionary::Users, "", "8")]);
        codes.hide(&left);
        meet(&codes, "NEW", 8);
        assert_eq!(codes.begin(&both), [code(Dictionary::Statuses, "SOURCE", "NEWER")]);
    }

    #[test]
    fn nonsense_is_no_code() {
        let codes = Codes::default();
        codes.settle(&[code(Dictionary::Users, "", "7")]);
        meet(&codes, &"x".repeat(LONGEST + 1), 7);
        assert_eq!(codes.asked(), BTreeSet::new());
    }
}
