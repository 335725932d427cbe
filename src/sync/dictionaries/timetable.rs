//! When which dictionary is read. Pure, on a clock that is given.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::{entity::dictionary::Dictionary, store::DictionaryStanding};

/// Unknown codes ask for a reading at most so often.
const ASKED_EVERY: Duration = Duration::from_mins(1);

/// What failed for a reason that passes is tried again after this time.
const FAILED_RETRY: Duration = Duration::from_mins(1);

/// How a reading went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It came.
    Read,
    /// It did not, and will not until somebody changes something.
    Refused,
    /// It did not this time.
    Failed,
}

/// When each dictionary is due.
#[derive(Debug)]
pub(super) struct Timetable {
    interval: Duration,
    due: BTreeMap<Dictionary, Instant>,
    /// Those that unknown codes ask for in vain.
    refused: BTreeSet<Dictionary>,
    /// When unknown codes were last heard.
    heard: Option<Instant>,
}

impl Timetable {
    /// Goes on where another process left off. `afresh` tries at once what that one could
    /// not read: rights may have been given since, a daemon begins seldom, and who asks for a
    /// backfill wants everything.
    pub(super) fn of(
        interval: Duration,
        standings: &[DictionaryStanding],
        (database, now): (DateTime<Utc>, Instant),
        afresh: bool,
    ) -> Self {
        let (mut due, mut refused) = (BTreeMap::new(), BTreeSet::new());
        for standing in standings {
            let failed = standing.problem.is_some();
            let at_once = standing.wanted_at.is_some() && !failed || afresh && failed;
            let left = standing.tried_at.filter(|_| !at_once).map_or(Duration::ZERO, |tried| {
                // A clock that was set back does not put a reading off for ever.
                let passed = (database - tried).to_std().unwrap_or_default();
                interval.saturating_sub(passed)
            });
            due.insert(standing.dictionary, now + left);
            if failed {
                refused.insert(standing.dictionary);
            }
        }
        Self { interval, due, refused, heard: None }
    }

    /// What is to be read now.
    pub(super) fn due(&self, now: Instant, asked: &BTreeSet<Dictionary>) -> Vec<Dictionary> {
        let mut due: BTreeSet<Dictionary> = self
            .due
            .iter()
            .filter_map(|(dictionary, at)| (*at <= now).then_some(*dictionary))
            .collect();
        if self.hears_at(now) <= now {
            due.extend(self.heeded(asked));
        }
        due.into_iter().collect()
    }

    /// When something will be due.
    pub(super) fn next(&self, now: Instant, asked: &BTreeSet<Dictionary>) -> Instant {
        let scheduled = self.due.values().min().copied();
        let hears = self.heeded(asked).next().map(|_| self.hears_at(now));
        scheduled.into_iter().chain(hears).min().unwrap_or(now + self.interval)
    }

    /// Takes note of how a reading went that began then.
    pub(super) fn took(
        &mut self,
        began: Instant,
        now: Instant,
        asked: &BTreeSet<Dictionary>,
        fates: &[(Dictionary, Fate)],
    ) {
        if fates.iter().any(|(dictionary, _)| asked.contains(dictionary)) {
            self.heard = Some(began);
        }
        for (dictionary, fate) in fates {
            let pause = match fate {
                Fate::Read | Fate::Refused => self.interval,
                Fate::Failed => FAILED_RETRY.min(self.interval),
            };
            self.due.insert(*dictionary, now + pause);
            match fate {
                Fate::Read => self.refused.remove(dictionary),
                Fate::Refused | Fate::Failed => self.refused.insert(*dictionary),
            };
        }
    }

    fn hears_at(&self, now: Instant) -> Instant {
        self.heard.map_or(now, |heard| heard + ASKED_EVERY)
    }

    /// What unknown codes ask for, where asking can help. A new colleague may belong to a
    /// new department.
    fn heeded(&self, asked: &BTreeSet<Dictionary>) -> impl Iterator<Item = Dictionary> {
        let departments = asked.contains(&Dictionary::Users).then_some(Dictionary::Departments);
        asked
            .iter()
            .copied()
            .chain(departments)
            .filter(|dictionary| !self.refused.contains(dictionary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn standing(dictionary: Dictionary, tried: Option<DateTime<Utc>>) -> DictionaryStanding {
        let (read_at, tried_at) = (tried, tried);
        DictionaryStanding { dictionary, read_at, tried_at, wanted_at: None, problem: None }
    }

    fn database() -> DateTime<Utc> {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn read_just_now() -> Vec<DictionaryStanding> {
        Dictionary::ALL.map(|dictionary| standing(dictionary, Some(database()))).to_vec()
    }

    fn fates(dictionaries: &[Dictionary], fate: Fate) -> Vec<(Dictionary, Fate)> {
        dictionaries.iter().map(|dictionary| (*dictionary, fate)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_read_at_first_and_then_once_an_interval() {
        let (now, none) = (Instant::now(), BTreeSet::new());
        let never = Dictionary::ALL.map(|dictionary| standing(dictionary, None));
        let mut timetable = Timetable::of(HOUR, &never, (database(), now), true);
        assert_eq!(timetable.due(now, &none), Dictionary::ALL);
        timetable.took(now, now, &none, &fates(&Dictionary::ALL, Fate::Read));
        assert_eq!(timetable.due(now + HOUR - SECOND, &none), []);
        assert_eq!(timetable.next(now, &none), now + HOUR);
        assert_eq!(timetable.due(now + HOUR, &none), Dictionary::ALL);
    }

    #[tokio::test(start_paused = true)]
    async fn another_process_goes_on_where_one_left_off() {
        let (now, none) = (Instant::now(), BTreeSet::new());
        let later = database() + chrono::Duration::minutes(45);
        let timetable = Timetable::of(HOUR, &read_just_now(), (later, now), true);
        assert_eq!(timetable.next(now, &none), now + HOUR / 4);
        let back = database() - chrono::Duration::days(3);
        let timetable = Timetable::of(HOUR, &read_just_now(), (back, now), true);
        assert_eq!(timetable.next(now, &none), now + HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_wanted_when_a_process_died_is_read_by_the_next() {
        let (now, none) = (Instant::now(), BTreeSet::new());
        let mut standings = read_just_now();
        standings[1].wanted_at = Some(database());
        let timetable = Timetable::of(HOUR, &standings, (database(), now), false);
        assert_eq!(timetable.due(now, &none), [Dictionary::Users]);
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_codes_are_heard_at_once_and_then_once_a_minute() {
        let now = Instant::now();
        let mut timetable = Timetable::of(HOUR, &read_just_now(), (database(), now), true);
        let asked = BTreeSet::from([Dictionary::Users]);
        let both = [Dictionary::Users, Dictionary::Departments];
        assert_eq!(timetable.due(now, &asked), both);
        timetable.took(now, now + SECOND, &asked, &fates(&both, Fate::Read));
        assert_eq!(timetable.due(now + ASKED_EVERY - SECOND, &asked), []);
        assert_eq!(timetable.next(now + SECOND, &asked), now + ASKED_EVERY);
        assert_eq!(timetable.due(now + ASKED_EVERY, &asked), both);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_waits_for_the_schedule_or_a_new_daemon() {
        let now = Instant::now();
        let asked = BTreeSet::from([Dictionary::Users]);
        let mut timetable = Timetable::of(HOUR, &read_just_now(), (database(), now), true);
        timetable.took(now, now, &asked, &fates(&[Dictionary::Users], Fate::Refused));
        assert_eq!(timetable.due(now + ASKED_EVERY, &asked), [Dictionary::Departments]);

        let mut standings = read_just_now();
        standings[1].problem = Some("no right".to_owned());
        for (afresh, due) in [(true, vec![Dictionary::Users]), (false, Vec::new())] {
            let timetable = Timetable::of(HOUR, &standings, (database(), now), afresh);
            assert_eq!(timetable.due(now, &BTreeSet::new()), due);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_again_in_a_minute() {
        let (now, none) = (Instant::now(), BTreeSet::new());
        let mut timetable = Timetable::of(HOUR, &read_just_now(), (database(), now), true);
        timetable.took(now, now, &none, &fates(&[Dictionary::Statuses], Fate::Failed));
        assert_eq!(timetable.due(now + FAILED_RETRY, &none), [Dictionary::Statuses]);
    }
}
