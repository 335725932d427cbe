//! The SQL of comparing and repairing, made once from an entity's declaration.

use super::statements::{Sql, sql};
use crate::entity::Entity;

/// The statements of one entity.
pub(super) struct VerifyStatements {
    distrust: String,
    bury: String,
}

impl VerifyStatements {
    /// `$1` to `$3` IDs and the times that their rows had, `$4` when the answer was asked
    /// for → the IDs of the rows that still have them.
    pub(super) fn distrust(&'static self) -> Sql {
        sql(&self.distrust)
    }

    /// `$1` to `$3` IDs and the times that their rows had, `$4` when the answer was asked
    /// for that proved them gone → the new tombstones, and their times.
    pub(super) fn bury(&'static self) -> Sql {
        sql(&self.bury)
    }

    pub(super) fn make(entity: &'static Entity) -> Self {
        let table = entity.name;
        // An update locks in no order of its own, so rows that still have the times that
        // they had when they were read are locked before it.
        let unwritten = format!(
            "select t.id from \"{table}\" as t \
             join unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) \
                as s (id, synced_at, deleted_at) on s.id = t.id \
                and s.synced_at = t.synced_at and s.deleted_at is not distinct from t.deleted_at \
             where t.id = any($1) order by t.id for update of t"
        );
        Self {
            distrust: format!(
                "with seen as materialized ({unwritten}) \
                 update \"{table}\" as t set synced_at = least(t.synced_at, $4), \
                    deleted_at = case when t.deleted_at > $4 then $4 else t.deleted_at end \
                 from seen where t.id = seen.id returning t.id"
            ),
            bury: format!(
                "with seen as materialized ({unwritten}) \
                 update \"{table}\" as t set deleted_at = $4, \
                    synced_at = least(t.synced_at, $4) \
                 from seen where t.id = seen.id and t.deleted_at is null \
                 returning t.id, t.deleted_at"
            ),
        }
    }
}
