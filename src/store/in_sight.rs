//! The SQL that reads what is held against a source's lists: nothing that the source cannot
//! show, or it would look as if that had gone.

use super::statements::{Sql, modified, sql};
use crate::entity::{Entity, Sight};

/// The statements of one entity and what a source shows of it.
pub(super) struct InSight {
    rows: String,
    highest: String,
    ranges: String,
    keys: String,
    count_above: String,
    live: String,
    beyond: String,
}

impl InSight {
    /// `$1` below the first ID, `$2` the last one or null, `$3` how many at most → ID,
    /// modified, synced, deleted.
    pub(super) fn rows(&'static self) -> Sql {
        sql(&self.rows)
    }

    /// → the highest live ID.
    pub(super) fn highest(&'static self) -> Sql {
        sql(&self.highest)
    }

    /// `$1` live records of a range → its last ID, its live records.
    pub(super) fn ranges(&'static self) -> Sql {
        sql(&self.ranges)
    }

    /// `$1` and `$2` IDs that enclose a range, `$3` when the answer was asked for, `$4` a
    /// limit → ID, modification time, tombstone, newer.
    pub(super) fn keys(&'static self) -> Sql {
        sql(&self.keys)
    }

    /// `$1` an ID, `$2` a limit → live records above it.
    pub(super) fn count_above(&'static self) -> Sql {
        sql(&self.count_above)
    }

    /// → live records.
    pub(super) fn live(&'static self) -> Sql {
        sql(&self.live)
    }

    /// → live records, and those among them that the source cannot show.
    pub(super) fn beyond(&'static self) -> Sql {
        sql(&self.beyond)
    }

    pub(super) fn make(entity: &'static Entity, sight: Sight) -> Self {
        let (table, modified, seen) = (entity.name, modified(entity), condition(entity, sight));
        Self {
            rows: format!(
                "select id, {modified}, synced_at, deleted_at from \"{table}\" \
                 where id > $1 and ($2::bigint is null or id <= $2){seen} order by id limit $3"
            ),
            highest: format!(
                "select id from \"{table}\" where deleted_at is null{seen} \
                 order by id desc limit 1"
            ),
            ranges: format!(
                "select max(id), count(*) from ( \
                    select id, (row_number() over (order by id) - 1) / $1 as part \
                    from \"{table}\" where deleted_at is null{seen}) as live \
                 group by part order by part"
            ),
            keys: format!(
                "select id, {modified}, deleted_at is not null, \
                    greatest(synced_at, deleted_at) > $3 \
                 from \"{table}\" where id > $1 and id <= $2{seen} order by id limit $4"
            ),
            count_above: format!(
                "select count(*) from ( \
                    select from \"{table}\" where id > $1 and deleted_at is null{seen} \
                    order by id limit $2) as part"
            ),
            live: format!("select count(*) from \"{table}\" where deleted_at is null{seen}"),
            beyond: format!(
                "select count(*), count(*) filter (where not (true{seen})) from \"{table}\" \
                 where deleted_at is null"
            ),
        }
    }
}

/// What a row has to fulfil. An implied value that has never been read contradicts nothing.
fn condition(entity: &Entity, sight: Sight) -> String {
    let implied = match (sight, entity.classic) {
        (Sight::Implied, Some(classic)) => classic.implies,
        _ => &[],
    };
    let column = |field: &str| entity.columns.iter().find(|column| column.field == field);
    implied
        .iter()
        .filter_map(|(field, value)| {
            Some(format!(" and coalesce(\"{}\", {value}) = {value}", column(field)?.name))
        })
        .collect()
}
