//! The SQL of each entity, made once from its declaration.
//!
//! Every name in it is a compile-time constant of a declaration and is quoted, so a
//! portal's text never becomes part of a statement.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};

use sqlx::AssertSqlSafe;

use super::{in_sight::InSight, verify_statements::VerifyStatements};
use crate::entity::{ColumnType, Entity, Link, MultiField, Sight};

/// A statement made at run time, and audited above.
pub(super) type Sql = AssertSqlSafe<Cow<'static, str>>;

/// The statements of one entity.
pub(super) struct Statements {
    known: String,
    upsert: String,
    read: String,
    read_locked: String,
    count: String,
    in_sight: [InSight; 2],
    lock_deleted: String,
    remove: String,
    verify: VerifyStatements,
    count_confirmed: String,
    tombstones: String,
    children: Vec<ChildStatements>,
}

/// The statements of one child table.
pub(super) struct ChildStatements {
    read: String,
    delete: String,
    upsert: String,
    phones: bool,
    json: bool,
}

impl Statements {
    /// The statements of an entity; made at the first call and kept for good.
    pub(super) fn of(entity: &'static Entity) -> &'static Self {
        static MADE: Mutex<BTreeMap<&str, &Statements>> = Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(entity.name).or_insert_with(|| Box::leak(Box::new(Self::make(entity))))
    }

    /// `$1` IDs, `$2` when the answer was asked for → ID, hash, newer, tombstone.
    pub(super) fn known(&'static self) -> Sql {
        sql(&self.known)
    }

    /// `$1` IDs, then one array per column, custom fields, hashes, and when the answer
    /// was asked for → ID, inserted.
    pub(super) fn upsert(&'static self) -> Sql {
        sql(&self.upsert)
    }

    /// `$1` IDs → ID, columns, custom fields, hash, synced, deleted.
    pub(super) fn read(&'static self) -> Sql {
        sql(&self.read)
    }

    /// The same, and locks the rows in the order of their IDs.
    pub(super) fn read_locked(&'static self) -> Sql {
        sql(&self.read_locked)
    }

    /// → live, tombstones.
    pub(super) fn count(&'static self) -> Sql {
        sql(&self.count)
    }

    /// `$1` deleted before, `$2` above which ID, `$3` how many at most → locked IDs.
    pub(super) fn lock_deleted(&'static self) -> Sql {
        sql(&self.lock_deleted)
    }

    /// `$1` IDs.
    pub(super) fn remove(&'static self) -> Sql {
        sql(&self.remove)
    }

    /// What comparing and repairing needs.
    pub(super) fn verify(&'static self) -> &'static VerifyStatements {
        &self.verify
    }

    /// What is held against that which a source shows.
    pub(super) const fn in_sight(&'static self, sight: Sight) -> &'static InSight {
        let [everything, implied] = &self.in_sight;
        match sight {
            Sight::Everything => everything,
            Sight::Implied => implied,
        }
    }

    /// `$1` the entity → live records whose deletion a sweep has confirmed.
    pub(super) fn count_confirmed(&'static self) -> Sql {
        sql(&self.count_confirmed)
    }

    /// `$1` and `$2` IDs, and when each was confirmed to be gone → IDs of the tombstones set.
    pub(super) fn tombstones(&'static self) -> Sql {
        sql(&self.tombstones)
    }

    /// The child tables, in the order of `Entity::multi_fields`.
    pub(super) fn children(&'static self) -> &'static [ChildStatements] {
        &self.children
    }

    fn make(entity: &'static Entity) -> Self {
        let table = entity.name;
        let (mut names, mut values, mut arrays, mut sets, mut reads) =
            (String::new(), String::new(), String::new(), String::new(), String::new());
        for (index, column) in entity.columns.iter().enumerate() {
            let name = column.name;
            // `write!` to a String cannot fail.
            let _ = write!(names, "\"{name}\", ");
            let _ = write!(sets, "\"{name}\" = excluded.\"{name}\", ");
            let _ = write!(arrays, "${}::{}[], ", index + 2, array_type(column.kind));
            // Decimals travel as text, so that no digit is lost on the way.
            if column.kind == ColumnType::Decimal {
                let _ = write!(values, "u.\"{name}\"::numeric, ");
                let _ = write!(reads, "\"{name}\"::text, ");
            } else {
                let _ = write!(values, "u.\"{name}\", ");
                let _ = write!(reads, "\"{name}\", ");
            }
        }
        let read = format!(
            "select id, {reads}custom_fields::text, content_hash, synced_at, deleted_at \
             from \"{table}\" where id = any($1) order by id"
        );
        let last = entity.columns.len() + 1;
        let (custom, hash, asked) = (last + 1, last + 2, last + 3);
        Self {
            known: format!(
                "select id, content_hash, greatest(synced_at, deleted_at) > $2, \
                    deleted_at is not null \
                 from \"{table}\" where id = any($1)"
            ),
            upsert: format!(
                "insert into \"{table}\" as t \
                    (id, {names}custom_fields, content_hash, synced_at) \
                 select u.id, {values}u.custom_fields::jsonb, u.content_hash, ${asked} \
                 from unnest($1::bigint[], {arrays}${custom}::text[], ${hash}::bigint[]) \
                    as u (id, {names}custom_fields, content_hash) \
                 on conflict (id) do update set {sets}custom_fields = excluded.custom_fields, \
                    content_hash = excluded.content_hash, synced_at = excluded.synced_at, \
                    deleted_at = null \
                 where t.synced_at <= excluded.synced_at \
                    and (t.deleted_at is null or t.deleted_at <= excluded.synced_at) \
                 returning t.id, t.xmax = 0"
            ),
            read_locked: format!("{read} for update"),
            read,
            in_sight: [Sight::Everything, Sight::Implied].map(|sight| InSight::make(entity, sight)),
            count: format!(
                "select count(*) filter (where deleted_at is null), count(deleted_at) \
                 from \"{table}\""
            ),
            lock_deleted: format!(
                "select id from \"{table}\" where id > $2 and deleted_at < $1 \
                 order by id limit $3 for update"
            ),
            remove: format!("delete from \"{table}\" where id = any($1)"),
            verify: VerifyStatements::make(entity),
            count_confirmed: format!(
                "select count(*) from sweep_candidates c join \"{table}\" t using (id) \
                 where c.entity = $1 and t.deleted_at is null and t.synced_at <= c.confirmed_at"
            ),
            // Locked in the order of IDs, as batches lock them, and looked at again
            // afterwards: a later question may have brought the row meanwhile.
            tombstones: format!(
                "with gone as ( \
                    select t.id, g.at \
                    from \"{table}\" t \
                    join unnest($1::bigint[], $2::timestamptz[]) as g (id, at) on g.id = t.id \
                    where t.deleted_at is null and t.synced_at <= g.at \
                    order by t.id for update of t) \
                 update \"{table}\" as t set deleted_at = gone.at from gone where t.id = gone.id \
                 returning t.id, t.deleted_at"
            ),
            children: entity
                .multi_fields
                .iter()
                .map(|multi_field| ChildStatements::make(entity, multi_field))
                .collect(),
        }
    }
}

impl ChildStatements {
    /// `$1` parents → parent, ID, value, value type.
    pub(super) fn read(&'static self) -> Sql {
        sql(&self.read)
    }

    /// `$1` and `$2` parents and IDs.
    pub(super) fn delete(&'static self) -> Sql {
        sql(&self.delete)
    }

    /// `$1` to `$4` parents, IDs, values, value types; `$5` the numbers of phones.
    pub(super) fn upsert(&'static self) -> Sql {
        sql(&self.upsert)
    }

    /// Whether the values are objects, which the database spells in its own way.
    pub(super) const fn are_objects(&self) -> bool {
        self.json
    }

    /// Whether the values are phones.
    pub(super) const fn are_phones(&self) -> bool {
        self.phones
    }

    fn make(entity: &'static Entity, multi_field: &'static MultiField) -> Self {
        let table = multi_field.table;
        let parent = format!("\"{}\"", entity.key());
        if let Some(link) = multi_field.link {
            return Self::of_links(table, &parent, link);
        }
        if multi_field.product_rows.is_some() {
            return Self::of_product_rows(table, &parent);
        }
        let phones = multi_field.is_phone();
        let (number, numbers, set) = if phones {
            (", e164", ", $5::text[]", ", e164 = excluded.e164")
        } else {
            ("", "", "")
        };
        Self {
            phones,
            json: false,
            read: format!(
                "select {parent}, id, value, value_type from \"{table}\" \
                 where {parent} = any($1) order by {parent}, id"
            ),
            // The first condition repeats the second: without it the planner may read
            // the whole table, because it cannot know how few the keys are.
            delete: format!(
                "delete from \"{table}\" as t using unnest($1::bigint[], $2::bigint[]) as k (parent, id) \
                 where t.{parent} = any($1) and t.{parent} = k.parent and t.id = k.id"
            ),
            upsert: format!(
                "insert into \"{table}\" ({parent}, id, value, value_type{number}) \
                 select * from unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]{numbers}) \
                 on conflict ({parent}, id) do update \
                 set value = excluded.value, value_type = excluded.value_type{set}"
            ),
        }
    }
}

impl ChildStatements {
    /// The same for linked records, whose places and kind have columns of their own.
    fn of_links(table: &str, parent: &str, link: Link) -> Self {
        let linked = format!("\"{}\"", link.column);
        let (primary, value_type, is_primary, set) = match link.primary {
            None => ("", "null".to_owned(), "", ""),
            Some(_) => (
                ", is_primary",
                format!("case when is_primary then '{}' end", Link::PRIMARY),
                ", k.value_type is not null",
                ", is_primary = excluded.is_primary",
            ),
        };
        Self {
            phones: false,
            json: false,
            read: format!(
                "select {parent}, {linked}, position::text, {value_type} from \"{table}\" \
                 where {parent} = any($1) order by {parent}, {linked}"
            ),
            delete: format!(
                "delete from \"{table}\" as t using unnest($1::bigint[], $2::bigint[]) as k (parent, id) \
                 where t.{parent} = any($1) and t.{parent} = k.parent and t.{linked} = k.id"
            ),
            upsert: format!(
                "insert into \"{table}\" ({parent}, {linked}, position{primary}) \
                 select k.parent, k.id, k.value::integer{is_primary} \
                 from unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) \
                    as k (parent, id, value, value_type) \
                 on conflict ({parent}, {linked}) do update \
                 set position = excluded.position{set}"
            ),
        }
    }
}

impl ChildStatements {
    /// The same for product rows, whose value is an object. The columns for people are made
    /// of it by the table itself.
    fn of_product_rows(table: &str, parent: &str) -> Self {
        Self {
            phones: false,
            json: true,
            read: format!(
                "select {parent}, id, fields::text, null::text from \"{table}\" \
                 where {parent} = any($1) order by {parent}, id"
            ),
            delete: format!(
                "delete from \"{table}\" as t using unnest($1::bigint[], $2::bigint[]) as k (parent, id) \
                 where t.{parent} = any($1) and t.{parent} = k.parent and t.id = k.id"
            ),
            upsert: format!(
                "insert into \"{table}\" ({parent}, id, fields) \
                 select k.parent, k.id, coalesce(k.value, '{{}}')::jsonb \
                 from unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) \
                    as k (parent, id, value, value_type) \
                 on conflict ({parent}, id) do update set fields = excluded.fields"
            ),
        }
    }
}

/// When a record was modified; without such a column nothing is ever known to be of another
/// time.
pub(super) fn modified(entity: &Entity) -> String {
    let column = entity.position(entity.modified()).and_then(|at| entity.columns.get(at));
    column.map_or_else(|| "null::timestamptz".to_owned(), |column| format!("\"{}\"", column.name))
}

/// The type of the array that carries a column to the server.
const fn array_type(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Decimal => "text",
        other => other.sql_type(),
    }
}

pub(super) const fn sql(text: &'static str) -> Sql {
    AssertSqlSafe(Cow::Borrowed(text))
}
