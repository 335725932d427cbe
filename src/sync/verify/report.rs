//! What a verification found, for people and for programs.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::{
    entity::RecordId,
    sync::{Level, counted},
};

/// In which way a record differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The portal lists it, and the mirror has never had it.
    Missing,
    /// The mirror shows it as live, and the portal does not list it.
    Extra,
    /// A column, a custom field or a quarantine note is not what the portal's record makes it.
    Stale,
    /// The record is right, and its phones, e-mails, websites, messengers or links are not.
    ChildWrong,
    /// Everything is right but the stored content hash.
    HashWrong,
    /// The mirror says that it was deleted, and the portal lists it.
    TombstoneWrong,
}

impl Kind {
    /// Every kind, in the order in which they are shown.
    pub const ALL: [Self; 6] = [
        Self::Missing,
        Self::Extra,
        Self::Stale,
        Self::ChildWrong,
        Self::HashWrong,
        Self::TombstoneWrong,
    ];

    /// What people read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Stale => "stale",
            Self::ChildWrong => "child wrong",
            Self::HashWrong => "hash wrong",
            Self::TombstoneWrong => "tombstone wrong",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One record that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The record.
    pub id: RecordId,
    /// In which way.
    pub kind: Kind,
    /// The names of the columns, custom fields and children that differ; never a value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<String>,
}

/// A range of IDs in which the two sides count differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeCount {
    /// Below the first ID.
    pub after: RecordId,
    /// The last ID; `None` for everything above `after`.
    pub up_to: Option<RecordId>,
    /// Records that the portal counts.
    pub portal: u64,
    /// Live records of the mirror.
    pub mirror: u64,
}

/// What repairing did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// Records that were fetched and written.
    pub written: u64,
    /// Records that were confirmed as gone and are tombstones now.
    pub deleted: u64,
    /// Differences that had gone by themselves before it was their turn.
    pub moot: u64,
    /// Records that the database or the portal refuses; they are in the quarantine.
    pub set_aside: u64,
    /// Why records that are extra were not deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What the comparison of one entity found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The entity's name.
    pub entity: String,
    /// How closely it was compared.
    pub level: Level,
    /// Records that the portal listed, or counted; without those that have been forgotten.
    pub compared: u64,
    /// Records that the next incremental cycle reads by itself. They do not count as different.
    pub behind: u64,
    /// Rows of the portal without a usable ID; they are in the quarantine if anywhere.
    pub nameless: u64,
    /// Records that were something else at each look; nothing can be said about them.
    pub moving: u64,
    /// How many records differ; [`Self::differences`] may list fewer.
    pub different: u64,
    /// The records that differ, by ID; at most [`Self::LISTED`].
    pub differences: Vec<Difference>,
    /// Ranges in which the two sides count differently.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<RangeCount>,
    /// What was done about the differences, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired: Option<Repaired>,
}

impl Verification {
    /// So many differences are listed one by one. More call for a backfill.
    pub const LISTED: usize = 100_000;

    pub(in crate::sync) fn new(entity: &str, level: Level) -> Self {
        Self {
            entity: entity.to_owned(),
            level,
            compared: 0,
            behind: 0,
            nameless: 0,
            moving: 0,
            different: 0,
            differences: Vec::new(),
            ranges: Vec::new(),
            repaired: None,
        }
    }

    pub(in crate::sync) fn add(&mut self, difference: Difference) {
        self.different += 1;
        if self.differences.len() < Self::LISTED {
            self.differences.push(difference);
        }
    }

    /// Takes records out of what the portal has counted: they are no concern of the mirror.
    pub(super) fn uncount(&mut self, ids: impl Iterator<Item = RecordId>) {
        for id in ids {
            self.compared = self.compared.saturating_sub(1);
            let reaches = |range: &&mut RangeCount| {
                range.after < id && range.up_to.is_none_or(|up_to| id <= up_to)
            };
            if let Some(range) = self.ranges.iter_mut().find(reaches) {
                range.portal = range.portal.saturating_sub(1);
            }
        }
    }

    /// How many of the listed differences are of a kind.
    #[must_use]
    pub fn kinds(&self, kind: Kind) -> usize {
        self.differences.iter().filter(|difference| difference.kind == kind).count()
    }

    /// Whether nothing differs, or everything that did was repaired, and everything could
    /// be judged.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        let left = match &self.repaired {
            None => self.different,
            Some(repaired) => {
                let done = repaired.written + repaired.deleted + repaired.moot;
                self.different.saturating_sub(done)
            }
        };
        left == 0 && self.moving == 0
    }

    /// One line for people, without the entity.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { compared, different, .. } = self;
        let looked = match self.level {
            Level::Counts => "counted",
            Level::Ids => "IDs compared",
            Level::Full => "records compared",
        };
        let mut line = match different {
            0 => format!("equal, {compared} {looked}"),
            _ => format!("{different} different ({}), {compared} {looked}", self.by_kind()),
        };
        let Self { behind, nameless, moving, .. } = self;
        // `write!` to a String cannot fail.
        if *behind > 0 {
            let _ = write!(line, ", {behind} behind");
        }
        if *nameless > 0 {
            let _ = write!(line, ", {} without a usable ID left out", counted(*nameless, "row"));
        }
        if *moving > 0 {
            let again = "run `b24mirror verify` again";
            let _ = write!(line, ", {moving} changed at every look and not judged: {again}");
        }
        if let Some(repaired) = &self.repaired {
            line.push_str(&repaired.words());
        }
        line
    }
}

impl Verification {
    /// How many differences of each kind there are, among those that are listed.
    fn by_kind(&self) -> String {
        let kinds = Kind::ALL.map(|kind| (self.kinds(kind), kind));
        let some = kinds.iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = some.map(|(count, kind)| format!("{count} {kind}")).collect();
        words.join(", ")
    }

    /// The first so many differences, one in a line: kind, ID and what differs.
    #[must_use]
    pub fn table(&self, rows: usize) -> Vec<String> {
        let range = |range: &RangeCount| {
            let up_to = range.up_to.map_or_else(|| "on".to_owned(), |id| format!("to {id}"));
            format!(
                "IDs above {} {up_to}: {} in the portal, {} in the mirror",
                range.after, range.portal, range.mirror
            )
        };
        let mut lines: Vec<String> = self.ranges.iter().take(rows).map(range).collect();
        lines.extend(self.differences.iter().take(rows).map(Difference::row));
        let shown = self.differences.len().min(rows) as u64;
        if self.different > shown {
            lines.push(format!("… and {} more; `--json` lists them", self.different - shown));
        }
        lines
    }
}

impl Difference {
    fn row(&self) -> String {
        let Self { id, kind, what } = self;
        let row = format!("{kind:15}  {id:>10}  {}", what.join(", "));
        row.trim_end().to_owned()
    }
}

impl Repaired {
    fn words(&self) -> String {
        let Self { written, deleted, moot, set_aside, refused } = self;
        let mut words = format!("; repaired: {written} written, {deleted} deleted");
        if *moot > 0 {
            let _ = write!(words, ", {moot} equal by then");
        }
        if *set_aside > 0 {
            let _ = write!(words, ", {set_aside} refused and in the quarantine");
        }
        if let Some(refused) = refused {
            words.push_str("; ");
            words.push_str(refused);
        }
        words
    }
}
