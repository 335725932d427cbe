//! What codes mean, and how fresh that is.
//!
//! A dictionary is compared by the server, and only rows that differ are written. A row that
//! a complete reading lacks is marked, never erased: old records still carry its code.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, types::Json};

use super::{Generation, Store, StoreError};
use crate::entity::dictionary::{Dictionary, EntryRow};

/// How fresh a dictionary is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DictionaryStanding {
    /// Which one.
    pub dictionary: Dictionary,
    /// When it was last read whole, by the database's clock.
    pub read_at: Option<DateTime<Utc>>,
    /// When it was last asked for.
    pub tried_at: Option<DateTime<Utc>>,
    /// Since when a record has had a code that it lacks.
    pub wanted_at: Option<DateTime<Utc>>,
    /// Why it could not be read last time, if it could not.
    pub problem: Option<String>,
}

/// A code that a record holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    /// What should explain it.
    pub dictionary: Dictionary,
    /// For statuses, the directory; empty for the others.
    pub directory: String,
    /// What the record holds.
    pub code: String,
}

/// What a reading brought.
#[derive(Debug, Clone, Copy)]
pub struct DictionaryRows<'a> {
    /// Which dictionary.
    pub dictionary: Dictionary,
    /// The rows, each key once.
    pub rows: &'a [EntryRow],
    /// Whether every row of the portal's is among them, so that those which are not are gone.
    pub whole: bool,
}

impl Store {
    /// Brings a dictionary's table up to date; writes only what differs. Says how many rows
    /// that were there are not among the given ones; they are marked if those are all.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn save_dictionary(
        &self,
        generation: Generation,
        reading: DictionaryRows<'_>,
    ) -> Result<u64, StoreError> {
        let DictionaryRows { dictionary, rows, whole } = reading;
        let mut transaction = self.begin_leased(generation).await?;
        let sql = Statements::of(dictionary);
        sqlx::query(sql.upsert).bind(Json(rows)).execute(&mut *transaction).await?;
        let missing: i64 =
            sqlx::query_scalar(sql.missing).bind(Json(rows)).fetch_one(&mut *transaction).await?;
        if whole && missing > 0 {
            sqlx::query(sql.mark).bind(Json(rows)).execute(&mut *transaction).await?;
        }
        sqlx::query(sql.no_longer_hidden).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(u64::try_from(missing).unwrap_or_default())
    }

    /// Notes that dictionaries were asked for, and with what success.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn dictionary_was_read(
        &self,
        generation: Generation,
        dictionary: Dictionary,
        problem: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        sqlx::query(
            "insert into sync_dictionaries as d (name, tried_at, read_at, problem) \
             values ($1, clock_timestamp(), case when $2::text is null then clock_timestamp() end, $2) \
             on conflict (name) do update set \
                tried_at = excluded.tried_at, problem = excluded.problem, \
                read_at = coalesce(excluded.read_at, d.read_at), wanted_at = null",
        )
        .bind(dictionary.name())
        .bind(problem)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Notes that records have codes which these dictionaries lack.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn want_dictionaries(
        &self,
        generation: Generation,
        dictionaries: &[Dictionary],
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        sqlx::query(
            "insert into sync_dictionaries as d (name, wanted_at) \
             select name, clock_timestamp() from unnest($1::text[]) as n (name) \
             on conflict (name) do update set wanted_at = excluded.wanted_at \
             where d.wanted_at is null",
        )
        .bind(names(dictionaries))
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// How fresh each dictionary is, and the database's clock.
    pub async fn dictionaries(
        &self,
    ) -> Result<(Vec<DictionaryStanding>, DateTime<Utc>), StoreError> {
        #[derive(FromRow)]
        struct Row {
            name: String,
            read_at: Option<DateTime<Utc>>,
            tried_at: Option<DateTime<Utc>>,
            wanted_at: Option<DateTime<Utc>>,
            problem: Option<String>,
        }
        let mut connection = self.pool.acquire().await?;
        let now =
            sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut *connection).await?;
        let rows: Vec<Row> = sqlx::query_as(
            "select name, read_at, tried_at, wanted_at, problem from sync_dictionaries",
        )
        .fetch_all(&mut *connection)
        .await?;
        let standing = |dictionary: Dictionary| {
            let row = rows.iter().find(|row| row.name == dictionary.name());
            DictionaryStanding {
                dictionary,
                read_at: row.and_then(|row| row.read_at),
                tried_at: row.and_then(|row| row.tried_at),
                wanted_at: row.and_then(|row| row.wanted_at),
                problem: row.and_then(|row| row.problem.clone()),
            }
        };
        Ok((Dictionary::ALL.into_iter().map(standing).collect(), now))
    }

    /// Every code that needs no explanation any more: those that the dictionaries have, gone
    /// ones included, and those that are known to be hidden.
    pub async fn settled_codes(&self) -> Result<Vec<Code>, StoreError> {
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "select 'statuses', directory, code from statuses \
             union all select 'users', '', id::text from users \
             union all select 'currencies', '', code from currencies \
             union all select 'pipelines', entity_type_id::text, id::text from pipelines \
             union all select dictionary, directory, code from sync_hidden_codes",
        )
        .fetch_all(&self.pool)
        .await?;
        let code = |(name, directory, code): (String, String, String)| {
            Some(Code { dictionary: Dictionary::by_name(&name)?, directory, code })
        };
        Ok(rows.into_iter().filter_map(code).collect())
    }

    /// Remembers codes that a fresh reading did not bring.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn hide_codes(
        &self,
        generation: Generation,
        codes: &[Code],
    ) -> Result<(), StoreError> {
        let texts = |of: fn(&Code) -> &str| codes.iter().map(of).collect::<Vec<&str>>();
        let mut transaction = self.begin_leased(generation).await?;
        sqlx::query(
            "insert into sync_hidden_codes (dictionary, directory, code) \
             select * from unnest($1::text[], $2::text[], $3::text[]) \
             on conflict do nothing",
        )
        .bind(texts(|code| code.dictionary.name()))
        .bind(texts(|code| &code.directory))
        .bind(texts(|code| &code.code))
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Notes the portal's time zone and country where it names them, and says whether that is
    /// news; writes only what differs. A zone that this server does not know could not be counted in, so it is
    /// left out.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn save_portal_facts(
        &self,
        generation: Generation,
        time_zone: Option<&str>,
        country: Option<&str>,
    ) -> Result<bool, StoreError> {
        let differs: bool = sqlx::query_scalar(
            "select exists (select from portal where time_zone is distinct from \
                coalesce($1, time_zone) or country is distinct from coalesce($2, country))",
        )
        .bind(time_zone)
        .bind(country)
        .fetch_one(&self.pool)
        .await?;
        if !differs {
            return Ok(false);
        }
        let mut transaction = self.begin_leased(generation).await?;
        let zone = known_zone(&mut transaction, time_zone).await?;
        let updated = sqlx::query(
            "update portal set time_zone = coalesce($1, time_zone), \
                country = coalesce($2, country) \
             where time_zone is distinct from coalesce($1, time_zone) \
                or country is distinct from coalesce($2, country)",
        )
        .bind(zone)
        .bind(country)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(updated.rows_affected() > 0)
    }

    /// Whether the portal's time zone or country is known.
    pub async fn has_portal_facts(&self) -> Result<bool, StoreError> {
        let known = "select exists (select from portal \
            where time_zone is not null or country is not null)";
        Ok(sqlx::query_scalar(known).fetch_one(&self.pool).await?)
    }
}

/// A time zone, if the server knows it.
async fn known_zone<'a>(
    connection: &mut PgConnection,
    zone: Option<&'a str>,
) -> Result<Option<&'a str>, StoreError> {
    let known: bool =
        sqlx::query_scalar("select exists (select from pg_timezone_names where name = $1)")
            .bind(zone)
            .fetch_one(connection)
            .await?;
    Ok(zone.filter(|_| known))
}

fn names(dictionaries: &[Dictionary]) -> Vec<&'static str> {
    dictionaries.iter().map(|dictionary| dictionary.name()).collect()
}

/// The statements of one table; `$1` is a JSON array of its rows.
struct Statements {
    /// Writes the rows that differ.
    upsert: &'static str,
    /// → how many live rows are not among the given ones.
    missing: &'static str,
    /// Marks them.
    mark: &'static str,
    /// Forgets hidden codes that are explained now.
    no_longer_hidden: &'static str,
}

/// The rows that are among the given ones are compared before anything is locked: a row that
/// came as it is stays untouched. `within` says of which rows a reading tells that they are gone.
macro_rules! statements {
    ($table:literal, key: [$key:literal, $keyed:literal, $same:literal], columns: $columns:literal,
     typed: $typed:literal, old: $old:literal, new: $new:literal, set: $set:literal,
     within: $within:literal, hidden: $hidden:literal) => {
        Statements {
            upsert: concat!(
                "insert into ",
                $table,
                " (",
                $columns,
                ") ",
                "select n.* from jsonb_to_recordset($1) as n (",
                $typed,
                ") ",
                "left join ",
                $table,
                " as o on ",
                $same,
                " ",
                "where o.",
                $key,
                " is null or o.gone_since is not null ",
                "or (",
                $old,
                ") is distinct from (",
                $new,
                ") ",
                "on conflict (",
                $keyed,
                ") do update set ",
                $set,
                ", gone_since = null"
            ),
            missing: concat!(
                "select count(*) from ",
                $table,
                " as o where o.gone_since is null and ",
                $within,
                " and not exists (select from jsonb_to_recordset($1) as n (",
                $typed,
                ") ",
                "where ",
                $same,
                ")"
            ),
            mark: concat!(
                "update ",
                $table,
                " as o set gone_since = clock_timestamp() ",
                "where o.gone_since is null and ",
                $within,
                " and not exists (select from jsonb_to_recordset($1) as n (",
                $typed,
                ") ",
                "where ",
                $same,
                ")"
            ),
            no_longer_hidden: concat!(
                "delete from sync_hidden_codes as h using ",
                $table,
                " as o ",
                "where h.dictionary = '",
                $table,
                "' and ",
                $hidden
            ),
        }
    };
}

impl Statements {
    const fn of(dictionary: Dictionary) -> &'static Self {
        match dictionary {
            Dictionary::Statuses => &STATUSES,
            Dictionary::Users => &USERS,
            Dictionary::Departments => &DEPARTMENTS,
            Dictionary::Currencies => &CURRENCIES,
            Dictionary::Pipelines => &PIPELINES,
            Dictionary::SmartProcesses => &SMART_PROCESSES,
        }
    }
}

const STATUSES: Statements = statements!(
    "statuses",
    key: ["code", "directory, code", "(o.directory, o.code) = (n.directory, n.code)"],
    columns: "directory, code, id, name, sort, semantics, color, category_id",
    typed: "directory text, code text, id bigint, name text, sort integer, semantics text, \
            color text, category_id bigint",
    old: "o.id, o.name, o.sort, o.semantics, o.color, o.category_id",
    new: "n.id, n.name, n.sort, n.semantics, n.color, n.category_id",
    set: "id = excluded.id, name = excluded.name, sort = excluded.sort, \
          semantics = excluded.semantics, color = excluded.color, \
          category_id = excluded.category_id",
    within: "true",
    hidden: "(h.directory, h.code) = (o.directory, o.code)"
);

const USERS: Statements = statements!(
    "users",
    key: ["id", "id", "o.id = n.id"],
    columns: "id, full_name, name, second_name, last_name, email, work_position, \
              department_ids, active",
    typed: "id bigint, full_name text, name text, second_name text, last_name text, email text, \
            work_position text, department_ids bigint[], active boolean",
    old: "o.full_name, o.name, o.second_name, o.last_name, o.email, o.work_position, \
          o.department_ids, o.active",
    new: "n.full_name, n.name, n.second_name, n.last_name, n.email, n.work_position, \
          n.department_ids, n.active",
    set: "full_name = excluded.full_name, name = excluded.name, \
          second_name = excluded.second_name, last_name = excluded.last_name, \
          email = excluded.email, work_position = excluded.work_position, \
          department_ids = excluded.department_ids, active = excluded.active",
    within: "true",
    hidden: "h.code = o.id::text"
);

const DEPARTMENTS: Statements = statements!(
    "departments",
    key: ["id", "id", "o.id = n.id"],
    columns: "id, name, sort, parent_id, head_id",
    typed: "id bigint, name text, sort integer, parent_id bigint, head_id bigint",
    old: "o.name, o.sort, o.parent_id, o.head_id",
    new: "n.name, n.sort, n.parent_id, n.head_id",
    set: "name = excluded.name, sort = excluded.sort, parent_id = excluded.parent_id, \
          head_id = excluded.head_id",
    within: "true",
    hidden: "h.code = o.id::text"
);

const CURRENCIES: Statements = statements!(
    "currencies",
    key: ["code", "code", "o.code = n.code"],
    columns: "code, name, rate, rate_amount, base, decimals, sort",
    typed: "code text, name text, rate numeric, rate_amount numeric, base boolean, \
            decimals integer, sort integer",
    old: "o.name, o.rate, o.rate_amount, o.base, o.decimals, o.sort",
    new: "n.name, n.rate, n.rate_amount, n.base, n.decimals, n.sort",
    set: "name = excluded.name, rate = excluded.rate, rate_amount = excluded.rate_amount, \
          base = excluded.base, decimals = excluded.decimals, sort = excluded.sort",
    within: "true",
    hidden: "h.code = o.code"
);

// Each kind of records has at least one pipeline, so where none came, none is known to be gone: the
// kind was not asked for, or the right to see its pipelines is lost.
const PIPELINES: Statements = statements!(
    "pipelines",
    key: ["id", "entity_type_id, id", "(o.entity_type_id, o.id) = (n.entity_type_id, n.id)"],
    columns: "entity_type_id, id, name, sort, is_default",
    typed: "entity_type_id bigint, id bigint, name text, sort integer, is_default boolean",
    old: "o.name, o.sort, o.is_default",
    new: "n.name, n.sort, n.is_default",
    set: "name = excluded.name, sort = excluded.sort, is_default = excluded.is_default",
    within: "($1 = '[]' or o.entity_type_id in (select k.entity_type_id \
             from jsonb_to_recordset($1) as k (entity_type_id bigint)))",
    hidden: "(h.directory, h.code) = (o.entity_type_id::text, o.id::text)"
);

const SMART_PROCESSES: Statements = statements!(
    "smart_processes",
    key: ["entity_type_id", "entity_type_id", "o.entity_type_id = n.entity_type_id"],
    columns: "entity_type_id, id, title, code, switches, created_time, updated_time",
    typed: "entity_type_id bigint, id bigint, title text, code text, switches text[], \
            created_time timestamptz, updated_time timestamptz",
    old: "o.id, o.title, o.code, o.switches, o.created_time, o.updated_time",
    new: "n.id, n.title, n.code, n.switches, n.created_time, n.updated_time",
    set: "id = excluded.id, title = excluded.title, code = excluded.code, \
          switches = excluded.switches, created_time = excluded.created_time, \
          updated_time = excluded.updated_time",
    within: "true",
    hidden: "h.code = o.entity_type_id::text"
);
