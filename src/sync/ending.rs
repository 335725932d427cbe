//! How work ends, as whoever asked for it is told.

use serde_json::Value;

use super::{Consequence, EntityOutcome, SyncError};
use crate::{
    entity::Entity,
    store::{RequestEnd, Verdict},
};

/// What a check of one entity found, when it was not stopped by an error.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Findings {
    /// Whether it came to its end; one that could not prove that is never complete.
    pub(super) verdict: Verdict,
    /// Whether the mirror differs from the portal.
    pub(super) differs: bool,
    /// What it found in words, without the entity and the verdict; more lines may follow.
    pub(super) line: String,
    /// The same for programs.
    pub(super) result: Option<Value>,
}

/// How the work on one entity ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// Which entity.
    pub entity: &'static Entity,
    /// Whether the work came to its end.
    pub verdict: Verdict,
    /// Whether it came to its end and found the mirror different from the portal.
    pub differs: bool,
    /// For people: entity, verdict and what was done or found. May have several lines.
    pub line: String,
    /// What was found, for programs.
    pub result: Option<Value>,
}

impl Ending {
    /// The ending of a backfill or a cycle that went so; `None` when it goes on in the
    /// next process.
    pub(super) fn of(outcome: &EntityOutcome) -> Option<Self> {
        if outcome.result.as_ref().is_err_and(goes_on) {
            return None;
        }
        Some(outcome.into())
    }

    /// The ending of a cycle that went so. What the daemon has read by its own schedule
    /// is not in those figures, and they say so.
    pub(super) fn of_cycle(outcome: &EntityOutcome) -> Option<Self> {
        let mut ending = Self::of(outcome)?;
        if outcome.result.is_ok() {
            ending.line.push_str(" in this cycle; the daemon's own cycles are not counted");
        }
        Some(ending)
    }

    /// The ending of a check that went so; `None` when it goes on in the next process.
    pub(super) fn of_check(
        entity: &'static Entity,
        result: Result<Findings, SyncError>,
    ) -> Option<Self> {
        match result {
            Err(error) if goes_on(&error) => None,
            Err(error) => Some(Self::failed(entity, &error)),
            Ok(Findings { verdict, differs, line, result }) => {
                let pause = if verdict == Verdict::Complete { "," } else { ":" };
                let line = format!("{}: {}{pause} {line}", entity.name, verdict.as_str());
                Some(Self { entity, verdict, differs, line, result })
            }
        }
    }

    /// The ending of work that an error stopped.
    pub(super) fn failed(entity: &'static Entity, error: &SyncError) -> Self {
        Self::without_result(entity, error.verdict(), &error.reason())
    }

    /// The ending of work that was taken back.
    pub(super) fn cancelled(entity: &'static Entity, and_now: &str) -> Self {
        Self::without_result(entity, Verdict::Incomplete, &format!("cancelled{and_now}"))
    }

    /// The ending of work that was not done, and why.
    pub(super) fn without_result(entity: &'static Entity, verdict: Verdict, why: &str) -> Self {
        let line = format!("{}: {}: {why}", entity.name, verdict.as_str());
        Self { entity, verdict, differs: false, line, result: None }
    }

    /// Several entities' endings as one, in the order of the entities' names.
    #[must_use]
    pub fn together(mut endings: Vec<Self>) -> RequestEnd {
        endings.sort_by_key(|ending| ending.entity.name);
        let verdict = endings.iter().map(|ending| ending.verdict).fold(Verdict::Complete, worse);
        let differs = endings.iter().any(|ending| ending.differs);
        let lines: Vec<&str> = endings.iter().map(|ending| ending.line.as_str()).collect();
        let message = lines.join("\n");
        let results: serde_json::Map<String, Value> = endings
            .into_iter()
            .filter_map(|ending| Some((ending.entity.name.to_owned(), ending.result?)))
            .collect();
        let result = (!results.is_empty()).then_some(Value::Object(results));
        RequestEnd { verdict, differs, message, result }
    }
}

impl From<&EntityOutcome> for Ending {
    fn from(outcome: &EntityOutcome) -> Self {
        Self {
            entity: outcome.entity,
            verdict: outcome.verdict(),
            differs: false,
            line: outcome.line(),
            result: None,
        }
    }
}

fn goes_on(error: &SyncError) -> bool {
    error.consequence() == Consequence::Leave
}

fn worse(one: Verdict, other: Verdict) -> Verdict {
    match (one, other) {
        (Verdict::Stopped, _) | (_, Verdict::Stopped) => Verdict::Stopped,
        (Verdict::Complete, other) => other,
        (one, _) => one,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entity::{CONTACTS, LEADS};

    fn found(verdict: Verdict, differs: bool, result: Option<Value>) -> Findings {
        Findings { verdict, differs, line: "200 compared".to_owned(), result }
    }

    #[test]
    fn a_check_that_found_a_difference_is_complete_and_says_that_it_differs() {
        let contacts = found(Verdict::Complete, true, Some(json!({ "missing": [7] })));
        let leads = found(Verdict::Complete, false, None);
        let end = Ending::together(vec![
            Ending::of_check(&LEADS, Ok(leads)).unwrap(),
            Ending::of_check(&CONTACTS, Ok(contacts)).unwrap(),
        ]);
        assert_eq!((end.verdict, end.differs), (Verdict::Complete, true));
        assert_eq!(end.message, "contacts: complete, 200 compared\nleads: complete, 200 compared");
        assert_eq!(end.result, Some(json!({ "contacts": { "missing": [7] } })));
    }

    #[test]
    fn the_worst_verdict_is_the_request_s() {
        let end = |verdicts: &[Verdict]| {
            let one = |verdict: &Verdict| Ending::without_result(&CONTACTS, *verdict, "why");
            Ending::together(verdicts.iter().map(one).collect()).verdict
        };
        let (complete, incomplete) = (Verdict::Complete, Verdict::Incomplete);
        assert_eq!(end(&[]), complete);
        assert_eq!(end(&[complete, incomplete]), incomplete);
        assert_eq!(end(&[incomplete, complete]), incomplete);
        assert_eq!(end(&[incomplete, Verdict::Stopped, complete]), Verdict::Stopped);
    }

    #[test]
    fn work_that_the_next_process_goes_on_with_has_no_ending() {
        assert_eq!(Ending::of_check(&CONTACTS, Err(SyncError::Stopping)), None);
    }
}
