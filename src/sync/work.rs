//! What people can ask for, and how it is written down for another process.
//!
//! The holder of the lease may be an older or a newer b24mirror than the command that
//! asks. What it cannot read to the last word it does not do: half of a request may be
//! the dangerous half.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{entity::RecordId, store::RequestKind};

/// A piece of work for some entities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Work {
    /// Read every record that has not been read yet.
    Backfill {
        /// Read everything again instead.
        #[serde(default)]
        restart: bool,
    },
    /// Perform one incremental cycle.
    Sync,
    /// Find what was deleted in the portal, and what changed unnoticed.
    Sweep {
        /// Delete what the run of this number refused to delete.
        accept: Option<i64>,
    },
    /// Compare the mirror with the portal.
    Verify {
        /// How closely.
        level: Level,
        /// Read again what differs.
        repair: bool,
    },
    /// Read some records again.
    Refresh {
        /// Which ones.
        records: Selection,
    },
    /// Remove some records and keep them out.
    Forget {
        /// Which ones.
        records: Vec<RecordId>,
    },
}

/// How closely a mirror is compared with its portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// How many records there are, by ID range.
    Counts,
    /// Which records there are.
    Ids,
    /// The content of every record and of its children.
    Full,
}

/// Some records of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Those with these IDs.
    Ids(Vec<RecordId>),
    /// Those with open entries in the quarantine.
    Quarantined,
}

/// A request that this version cannot read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the arguments of this `{kind}` request cannot be read ({problem}); whoever asked may run \
     another version of b24mirror than the process that mirrors: use the same for both",
    kind = kind.as_str()
)]
pub struct UnreadableWork {
    kind: RequestKind,
    problem: String,
}

impl Work {
    /// The kind that the request is stored under.
    #[must_use]
    pub const fn kind(&self) -> RequestKind {
        match self {
            Self::Backfill { .. } => RequestKind::Backfill,
            Self::Sync => RequestKind::Sync,
            Self::Sweep { .. } => RequestKind::Sweep,
            Self::Verify { .. } => RequestKind::Verify,
            Self::Refresh { .. } => RequestKind::Refresh,
            Self::Forget { .. } => RequestKind::Forget,
        }
    }

    /// Everything but the kind, as the request stores it.
    #[must_use]
    pub fn arguments(&self) -> Value {
        // Plain enumerations of numbers and words always have a JSON form.
        let mut arguments = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = arguments.as_object_mut() {
            fields.remove("kind");
        }
        arguments
    }

    /// Reads a stored request back.
    ///
    /// # Errors
    /// [`UnreadableWork`] when anything in the arguments is unknown here.
    pub fn read(kind: RequestKind, arguments: &Value) -> Result<Self, UnreadableWork> {
        let unreadable = |problem: String| UnreadableWork { kind, problem };
        let mut fields = arguments
            .as_object()
            .cloned()
            .ok_or_else(|| unreadable("they are no JSON object".to_owned()))?;
        fields.insert("kind".to_owned(), kind.as_str().into());
        serde_json::from_value(Value::Object(fields)).map_err(|error| unreadable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn every_kind() -> Vec<Work> {
        let ids = [7, 4_000_000_000].map(|id| RecordId::new(id).unwrap()).to_vec();
        vec![
            Work::Backfill { restart: false },
            Work::Backfill { restart: true },
            Work::Sync,
            Work::Sweep { accept: None },
            Work::Sweep { accept: Some(12) },
            Work::Verify { level: Level::Counts, repair: false },
            Work::Verify { level: Level::Full, repair: true },
            Work::Forget { records: ids.clone() },
            Work::Forget { records: Vec::new() },
            Work::Refresh { records: Selection::Ids(ids) },
            Work::Refresh { records: Selection::Quarantined },
        ]
    }

    #[test]
    fn what_is_stored_is_read_back_as_it_was() {
        for work in every_kind() {
            let stored = work.arguments();
            assert_eq!(stored.get("kind"), None, "the kind has a column of its own: {stored}");
            assert_eq!(Work::read(work.kind(), &stored).unwrap(), work, "{stored}");
        }
    }

    #[test]
    fn what_an_older_version_stored_is_still_read() {
        let older = json!({ "restart": true });
        let backfill = Work::Backfill { restart: true };
        assert_eq!(Work::read(RequestKind::Backfill, &older).unwrap(), backfill);
        assert_eq!(
            Work::read(RequestKind::Sync, &json!({ "restart": false })).unwrap(),
            Work::Sync
        );
        let sparse = Work::read(RequestKind::Backfill, &json!({})).unwrap();
        assert_eq!(sparse, Work::Backfill { restart: false });
    }

    #[test]
    fn arguments_of_another_version_are_refused_and_never_half_obeyed() {
        let foreign = [
            (RequestKind::Backfill, json!({ "restart": "yes" })),
            (RequestKind::Backfill, json!({ "restart": true, "only": [1] })),
            (RequestKind::Backfill, json!([])),
            (RequestKind::Sweep, json!({ "accept": "12" })),
            (RequestKind::Verify, json!({ "level": "deep", "repair": true })),
            (RequestKind::Verify, json!({ "repair": true })),
            (RequestKind::Refresh, json!({ "records": { "ids": ["x"] } })),
            (RequestKind::Refresh, json!({})),
            (RequestKind::Forget, json!({ "records": "all" })),
            (RequestKind::Refresh, json!(null)),
        ];
        for (kind, arguments) in foreign {
            let error = Work::read(kind, &arguments).unwrap_err().to_string();
            assert!(error.contains(kind.as_str()) && error.contains("version"), "{error}");
        }
    }
}
