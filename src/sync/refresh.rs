//! `refresh`: given records read again now, whatever their rows say.
//!
//! What is there and differs is written, what has gone is confirmed as a sweep confirms it
//! and becomes a tombstone, and what the quarantine holds is tried once more.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use serde_json::{Map, json};

use super::{
    Selection, SyncError,
    ending::Findings,
    mirror::{Entry, Mirror, Tally},
    verify::{GIVEN, as_shown, difference, version},
};
use crate::{
    entity::{RecordId, decode::Decoded, record::ContentHash},
    portal::Lane,
    store::{RunKind, Seen, Stored, Verdict},
};

/// So many IDs of one outcome are named in a line for people.
const NAMED: usize = 20;

/// What became of a record that was read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    New,
    Changed,
    Revived,
    Unchanged,
    /// It has gone in the portal.
    Deleted,
    /// It had gone before.
    StillDeleted,
    /// It cannot be stored or delivered.
    SetAside,
    /// Neither the portal nor the mirror has it.
    Unknown,
    /// The source does not show such records, so it cannot tell whether this one is there.
    OutOfSight,
    /// It has been forgotten, and was not asked for.
    Forgotten,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Revived => "revived",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
            Self::StillDeleted => "still_deleted",
            Self::SetAside => "set_aside",
            Self::Unknown => "unknown",
            Self::OutOfSight => "out_of_sight",
            Self::Forgotten => "forgotten",
        }
    }

    /// What people read behind the number.
    const fn words(self) -> &'static str {
        match self {
            Self::New => "new in the mirror",
            Self::Changed => "changed",
            Self::Revived => "were tombstones and are live again",
            Self::Unchanged => "unchanged",
            Self::Deleted => "gone in the portal, tombstones now",
            Self::StillDeleted => "tombstones as before",
            Self::SetAside => "set aside; `sync_quarantine` says why",
            Self::Unknown => "neither in the portal nor in the mirror",
            Self::OutOfSight => {
                "kept as they were: `source = \"classic\"` does not show such records"
            }
            Self::Forgotten => "forgotten, and stay so",
        }
    }

    /// Whether the mirror now has what the portal shows.
    const fn is_true(self) -> bool {
        !matches!(self, Self::SetAside | Self::Unknown | Self::OutOfSight)
    }
}

/// How the portal showed a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Not,
    /// It is listed, and cannot be delivered or decoded.
    Unusable,
    As(ContentHash),
}

impl Came {
    fn of(row: &Decoded) -> Self {
        match row {
            Decoded::Record(record) => Self::As(record.hash()),
            Decoded::Reject(_) => Self::Unusable,
        }
    }
}

/// What became of a record: how its row was before, whether the portal showed it, and how
/// its row is now.
fn outcome(before: Option<&Stored>, came: Came, after: Option<&Stored>) -> Outcome {
    let live = |row: &Stored| row.deleted_at.is_none();
    let Came::As(hash) = came else {
        return match (came, before) {
            (Came::Unusable, _) => Outcome::SetAside,
            (_, None) => Outcome::Unknown,
            // Whoever brought it back meanwhile knows better.
            (_, Some(_)) if after.is_some_and(live) => Outcome::Unchanged,
            (_, Some(row)) if live(row) => Outcome::Deleted,
            (_, Some(_)) => Outcome::StillDeleted,
        };
    };
    match (before, after) {
        (_, None) => Outcome::SetAside,
        (_, Some(row)) if !live(row) => Outcome::Deleted,
        (None, Some(_)) => Outcome::New,
        (Some(old), Some(_)) if !live(old) => Outcome::Revived,
        (Some(old), Some(new)) if old.synced_at != new.synced_at => Outcome::Changed,
        // It came, and was not written: PostgreSQL refuses it.
        (Some(old), Some(_)) if old.record.hash() != hash => Outcome::SetAside,
        _ => Outcome::Unchanged,
    }
}

impl Mirror {
    /// Reads records again.
    ///
    /// # Errors
    /// [`SyncError`]; what was written until then stays.
    pub(super) async fn refresh(
        &self,
        lane: Lane,
        selection: &Selection,
    ) -> Result<Findings, SyncError> {
        let mut entry = self.begin_run(RunKind::Refresh, self.portal().meter()).await?;
        let mut tally = Tally::default();
        let outcome = self.read_again(lane, selection, &mut tally, &mut entry).await;
        self.finish_run(entry, tally, outcome.as_ref().err()).await;
        Ok(findings(selection, &outcome?))
    }

    async fn read_again(
        &self,
        lane: Lane,
        selection: &Selection,
        tally: &mut Tally,
        entry: &mut Entry,
    ) -> Result<BTreeMap<RecordId, Outcome>, SyncError> {
        let mut ids = match selection {
            Selection::Ids(ids) => ids.clone(),
            Selection::Quarantined => {
                let reading = async { Ok(self.store().quarantined(self.entity()).await?) };
                self.unless_stopped(reading).await?
            }
        };
        ids.sort_unstable();
        ids.dedup();
        let mut outcomes: BTreeMap<RecordId, Outcome> = BTreeMap::new();
        let asked = ids.clone();
        self.leave_out_forgotten(&mut ids, |id| *id);
        outcomes.extend(asked.into_iter().map(|id| (id, Outcome::Forgotten)));
        for part in ids.chunks(GIVEN) {
            self.read_part(lane, part, tally, entry, &mut outcomes).await?;
        }
        Ok(outcomes)
    }

    async fn read_part(
        &self,
        lane: Lane,
        ids: &[RecordId],
        tally: &mut Tally,
        entry: &mut Entry,
        outcomes: &mut BTreeMap<RecordId, Outcome>,
    ) -> Result<(), SyncError> {
        let entity = self.entity();
        let before = self.rows(ids).await?;
        let asked_at = self.now().await?;
        let shown = self.shown(lane, ids).await?;
        let seen = |id: RecordId, row: Option<&Stored>| Seen { id, version: version(row) };
        let live = |id: &RecordId| before.get(id).filter(|row| row.deleted_at.is_none());
        let out_of_sight = |id: &RecordId| {
            let hidden = |row: &Stored| !entity.is_in(self.sight(), &row.record);
            !shown.contains_key(id) && before.get(id).is_some_and(hidden)
        };
        let (hidden, ids): (Vec<RecordId>, Vec<RecordId>) =
            ids.iter().copied().partition(out_of_sight);
        outcomes.extend(hidden.into_iter().map(|id| (id, Outcome::OutOfSight)));
        let gone: Vec<RecordId> =
            ids.iter().copied().filter(|id| !shown.contains_key(id)).collect();
        // Damage that a row does not show by its hash is put right as well.
        let wrong: Vec<Seen> = ids
            .iter()
            .filter(|id| difference(entity, &as_shown(shown.get(id)), before.get(id)).is_some())
            .map(|id| seen(*id, before.get(id)))
            .collect();
        let extra: Vec<Seen> =
            gone.iter().filter_map(|id| Some(seen(*id, Some(live(id)?)))).collect();
        let came: HashMap<RecordId, Came> =
            shown.iter().map(|(id, row)| (*id, Came::of(row))).collect();
        entry.count(tally, self.portal().meter());
        let rows = shown.into_values().collect();
        *tally += self.rewrite(lane, asked_at, rows, &wrong, &entry.run).await?.tally;
        tally.deleted += self.delete_gone(lane, &extra).await?;
        self.store().date_quarantine(self.generation(), entity, &ids, &gone, asked_at).await?;
        let after = self.rows(&ids).await?;
        for id in &ids {
            let came = came.get(id).copied().unwrap_or(Came::Not);
            outcomes.insert(*id, outcome(before.get(id), came, after.get(id)));
        }
        Ok(())
    }
}

/// One line per outcome, and every ID for programs.
fn findings(selection: &Selection, outcomes: &BTreeMap<RecordId, Outcome>) -> Findings {
    let mut by_outcome: BTreeMap<Outcome, Vec<RecordId>> = BTreeMap::new();
    for (id, outcome) in outcomes {
        by_outcome.entry(*outcome).or_default().push(*id);
    }
    let mut line = match (selection, outcomes.len()) {
        (Selection::Quarantined, 0) => "nothing of it is in the quarantine".to_owned(),
        (_, read) => format!("{read} read again"),
    };
    let mut result = Map::new();
    for (outcome, ids) in &by_outcome {
        let named: Vec<String> = ids.iter().take(NAMED).map(ToString::to_string).collect();
        let more = if ids.len() > NAMED { ", …" } else { "" };
        let (count, words, named) = (ids.len(), outcome.words(), named.join(", "));
        if *outcome == Outcome::Forgotten {
            // What is told is stored where it was handed over, and is to name none of them.
            let _ = write!(line, "\n  {count} {words}");
            result.insert(outcome.as_str().to_owned(), json!(count));
            continue;
        }
        // `write!` to a String cannot fail.
        let _ = write!(line, "\n  {count} {words}: {named}{more}");
        result.insert(outcome.as_str().to_owned(), json!(ids));
    }
    let differs = by_outcome.keys().any(|outcome| !outcome.is_true());
    Findings { verdict: Verdict::Complete, differs, line, result: Some(result.into()) }
}
