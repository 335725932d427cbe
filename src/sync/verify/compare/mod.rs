//! What a difference is: pure comparison of what the portal shows with what is stored.
//!
//! A record is looked at twice, with an incremental cycle in between where a daemon runs.
//! It differs only if the portal shows the same both times, nobody has written the row in
//! between, and no incremental cycle would put it right by itself. Whatever is on its way
//! fails one of the three.

use std::{borrow::Cow, collections::BTreeSet};

use chrono::{DateTime, Utc};

use super::Kind;
use crate::{
    entity::{
        Entity, RecordId,
        record::{ChildList, ContentHash, Note, Record, Reject},
    },
    store::{Checkpoint, Stored, StoredKey},
    sync::sweep::Key,
};

/// What the portal shows of one record.
#[derive(Debug, Clone, Copy)]
pub(in crate::sync) enum Shown<'a> {
    /// It is not in the list.
    Absent,
    /// It came, and could be decoded.
    Whole(&'a Record),
    /// It is in the list, but cannot be delivered or decoded.
    SetAside(&'a Reject),
}

/// What is remembered of what the portal showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sync) enum Sighting {
    Absent,
    /// Its key was listed, with its modification time if that was readable.
    Listed(Option<DateTime<Utc>>),
    Content(ContentHash),
    SetAside,
}

impl Sighting {
    pub(super) fn of(shown: &Shown<'_>) -> Self {
        match shown {
            Shown::Absent => Self::Absent,
            Shown::Whole(record) => Self::Content(record.hash()),
            Shown::SetAside(_) => Self::SetAside,
        }
    }

    /// Whether the record is still what it was at this sighting.
    fn agrees(&self, entity: &Entity, shown: &Shown<'_>) -> bool {
        match (self, shown) {
            (Self::Listed(date), Shown::Whole(record)) => {
                *date == record.timestamp(entity, entity.modified())
            }
            (Self::Listed(_), Shown::SetAside(_)) => true,
            _ => *self == Self::of(shown),
        }
    }
}

/// Which version of a row was looked at; `None` where there was no row.
pub(in crate::sync) type Version = Option<(DateTime<Utc>, Option<DateTime<Utc>>)>;

/// A record that seemed to differ at first sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) id: RecordId,
    pub(super) sighting: Sighting,
    pub(super) version: Version,
}

/// What the next incremental cycle reads by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// Everything above this ID.
    above: RecordId,
    /// Everything modified after this moment, by the portal's clock.
    since: DateTime<Utc>,
}

impl Reach {
    pub(super) fn of(checkpoint: &Checkpoint, overlap: chrono::Duration) -> Self {
        let shift = checkpoint.shift.and_then(|shift| shift.since(checkpoint.deep.database));
        // Portals keep whole seconds.
        let margin = overlap + shift.unwrap_or_default() + chrono::Duration::seconds(1);
        let last = checkpoint.deep.portal.min(checkpoint.last.portal);
        Self { above: checkpoint.mark, since: last - margin }
    }

    fn covers(&self, entity: &Entity, record: &Record) -> bool {
        record.id() > self.above
            || record.timestamp(entity, entity.modified()).is_some_and(|date| date > self.since)
    }
}

/// What a second look at a suspect shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Settled {
    Equal,
    Differs {
        kind: Kind,
        what: Vec<String>,
    },
    /// The next incremental cycle reads it.
    Behind,
    /// The portal shows something else than before, or the row was written: look again.
    Moving,
}

/// Judges a suspect by a second look.
pub(super) fn settle(
    entity: &Entity,
    suspect: &Suspect,
    shown: &Shown<'_>,
    stored: Option<&Stored>,
    reach: &Reach,
) -> Settled {
    let Some((kind, what)) = difference(entity, shown, stored) else { return Settled::Equal };
    if suspect.version != version(stored) || !suspect.sighting.agrees(entity, shown) {
        return Settled::Moving;
    }
    if let Shown::Whole(record) = shown
        && reach.covers(entity, record)
        && kind != Kind::HashWrong
        // A cycle leaves a row alone whose hash says that it is equal.
        && stored.is_none_or(|row| {
            row.deleted_at.is_some() || row.hash != whole(entity, record, row).hash()
        })
    {
        return Settled::Behind;
    }
    Settled::Differs { kind, what }
}

pub(in crate::sync) fn version(stored: Option<&Stored>) -> Version {
    stored.map(|row| (row.synced_at, row.deleted_at))
}

/// How a record differs from its row, if it does, with the names of what differs.
pub(in crate::sync) fn difference(
    entity: &Entity,
    shown: &Shown<'_>,
    stored: Option<&Stored>,
) -> Option<(Kind, Vec<String>)> {
    let live = stored.filter(|row| row.deleted_at.is_none());
    match (shown, live) {
        (Shown::Absent, None) => None,
        (Shown::Absent, Some(_)) => Some((Kind::Extra, Vec::new())),
        (Shown::Whole(_), None) if stored.is_some() => Some((Kind::TombstoneWrong, Vec::new())),
        (Shown::Whole(_), None) => Some((Kind::Missing, Vec::new())),
        (Shown::SetAside(reject), live) => {
            let kind = match (live, stored) {
                (Some(_), _) => Kind::Stale,
                (None, Some(_)) => Kind::TombstoneWrong,
                (None, None) => Kind::Missing,
            };
            Some((kind, vec![format!("quarantine {}", reject.note.reason.as_str())]))
        }
        (Shown::Whole(record), Some(row)) => content(entity, record, row),
    }
}

/// The portal's record with what its source does not bring as it is stored.
fn whole<'a>(entity: &Entity, record: &'a Record, row: &Stored) -> Cow<'a, Record> {
    match record.completed(entity, &row.record) {
        Some(whole) => Cow::Owned(whole),
        None => Cow::Borrowed(record),
    }
}

/// The content of a live row held against the portal's.
fn content(entity: &Entity, record: &Record, row: &Stored) -> Option<(Kind, Vec<String>)> {
    let record = &*whole(entity, record, row);
    // Recomputed from what stands in the tables.
    if row.record.hash() == record.hash() {
        let wrong = row.hash != record.hash();
        return wrong.then(|| (Kind::HashWrong, vec!["content_hash".to_owned()]));
    }
    let mut what = columns(entity, record, &row.record);
    what.extend(custom_fields(record, &row.record));
    what.extend(notes(record.notes(), row.record.notes()));
    let kind = if what.is_empty() { Kind::ChildWrong } else { Kind::Stale };
    what.extend(children(entity, record, &row.record));
    Some((kind, what))
}

fn columns(entity: &Entity, record: &Record, stored: &Record) -> Vec<String> {
    let values = record.values().iter().zip(stored.values());
    let differing = entity.columns.iter().zip(values).filter(|(_, (ours, theirs))| ours != theirs);
    differing.map(|(column, _)| column.name.to_owned()).collect()
}

fn custom_fields(record: &Record, stored: &Record) -> Vec<String> {
    if record.custom_fields() == stored.custom_fields() {
        return Vec::new();
    }
    let (one, other) = (record.custom_fields().to_map(), stored.custom_fields().to_map());
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let mut what: Vec<String> = names
        .into_iter()
        .filter(|name| one.get(*name) != other.get(*name))
        .map(|name| format!("custom_fields.{name}"))
        .collect();
    if what.is_empty() {
        // Something that is no object at all.
        what.push("custom_fields".to_owned());
    }
    what
}

fn notes(record: &[Note], stored: &[Note]) -> Vec<String> {
    let only = |here: &[Note], there: &[Note]| -> Vec<String> {
        let missing = here.iter().filter(|note| !there.contains(note));
        missing.map(|note| format!("quarantine {}", note.field)).collect()
    };
    let both: BTreeSet<String> =
        only(record, stored).into_iter().chain(only(stored, record)).collect();
    both.into_iter().collect()
}

fn children(entity: &Entity, record: &Record, stored: &Record) -> Vec<String> {
    let lists = record.children().iter().zip(stored.children());
    let mut what = Vec::new();
    for (multi_field, lists) in entity.multi_fields.iter().zip(lists) {
        let table = multi_field.table;
        let (ChildList::Known(theirs), ChildList::Known(ours)) = lists else {
            if lists.0 != lists.1 {
                what.push(table.to_owned());
            }
            continue;
        };
        for child in theirs {
            match ours.iter().find(|ours| ours.id == child.id) {
                None => what.push(format!("{table} {} missing", child.id)),
                Some(stored) if stored != child => {
                    what.push(format!("{table} {} changed", child.id));
                }
                Some(_) => {}
            }
        }
        for child in ours {
            if theirs.iter().all(|theirs| theirs.id != child.id) {
                what.push(format!("{table} {} extra", child.id));
            }
        }
    }
    what
}

/// Pairs what two lists have under the same ID; both ascend strictly.
pub(super) fn paired<'a, P, R>(
    portal: &'a [P],
    rows: &'a [R],
    portal_id: impl Fn(&P) -> RecordId,
    row_id: impl Fn(&R) -> RecordId,
) -> Vec<(RecordId, Option<&'a P>, Option<&'a R>)> {
    let mut pairs = Vec::with_capacity(portal.len().max(rows.len()));
    let mut rows = rows.iter().peekable();
    for shown in portal {
        let id = portal_id(shown);
        while let Some(row) = rows.next_if(|row| row_id(row) < id) {
            pairs.push((row_id(row), None, Some(row)));
        }
        pairs.push((id, Some(shown), rows.next_if(|row| row_id(row) == id)));
    }
    pairs.extend(rows.map(|row| (row_id(row), None, Some(row))));
    pairs
}

/// Holds the keys that the portal lists of an ID range against those of the rows in it.
///
/// A record is suspicious when only one side has it, or when both have another
/// modification time.
pub(super) fn suspects_by_key(listed: &[Key], rows: &[StoredKey]) -> Vec<Suspect> {
    let suspicious = |(id, key, row): (RecordId, Option<&Key>, Option<&StoredKey>)| {
        let live = row.filter(|row| row.deleted_at.is_none());
        let equal = match (key, live) {
            (Some((_, modified)), Some(row)) => *modified == row.date_modify,
            (None, None) => true,
            _ => false,
        };
        let sighting = key.map_or(Sighting::Absent, |(_, modified)| Sighting::Listed(*modified));
        let version = row.map(|row| (row.synced_at, row.deleted_at));
        (!equal).then_some(Suspect { id, sighting, version })
    };
    paired(listed, rows, |(id, _)| *id, |row| row.id).into_iter().filter_map(suspicious).collect()
}

/// Holds the records that the portal shows in an ID range against the rows in it.
pub(super) fn suspects_by_content(
    entity: &Entity,
    shown: &[(RecordId, Shown<'_>)],
    rows: &[Stored],
) -> Vec<Suspect> {
    paired(shown, rows, |(id, _)| *id, |row| row.record.id())
        .into_iter()
        .filter_map(|(id, shown, stored)| {
            let shown = shown.map_or(Shown::Absent, |(_, shown)| *shown);
            let sighting = Sighting::of(&shown);
            let suspect = Suspect { id, sighting, version: version(stored) };
            difference(entity, &shown, stored).map(|_| suspect)
        })
        .collect()
}

#[cfg(test)]
mod tests;
