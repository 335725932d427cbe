//! The report schema: what its views follow from, and the statements that make them.

use sqlx::{AssertSqlSafe, FromRow, PgConnection, Postgres, Transaction};

use super::{Generation, Store, StoreError, error::state_of};
use crate::reporting::{
    Blueprint, Existing, FieldDescription, NamedColumn, PrivateField, ReportOptions, TableColumn,
    View,
    custom::{Kind, name_columns},
    page::{Described, DescribedColumn},
};

/// The first half of the advisory lock's key; the second is the schema's name.
const REPORT_LOCK: i32 = 0x6232_3472;

/// A view that somebody reads for longer is left for later: whoever comes after us to read it
/// waits as long as we do.
const SHORT_LOCKS: &str = "set local lock_timeout = '500ms'";

/// What was last made of a view.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ReportStanding {
    /// The view.
    pub name: String,
    /// The fingerprint of its definition; `None` where there is no such view.
    pub definition: Option<i64>,
    /// The fingerprint of its comments; `None` where there is no such view.
    pub comments: Option<i64>,
    /// Why it could not be brought up to date last time.
    pub problem: Option<String>,
}

impl ReportStanding {
    /// Whether the view is as it should be, and known to be.
    #[must_use]
    pub fn is(&self, view: &View) -> bool {
        self.name == view.name()
            && self.definition == Some(view.definition())
            && self.comments == Some(view.comments())
            && self.problem.is_none()
    }
}

#[derive(FromRow)]
struct FieldRow {
    entity: String,
    field: String,
    #[sqlx(rename = "type")]
    kind: String,
    label: Option<String>,
    multiple: bool,
    custom: bool,
    status_type: Option<String>,
    gone: bool,
}

#[derive(FromRow)]
struct NameRow {
    entity: String,
    name: String,
    part: i32,
    field: String,
    kind: String,
    multiple: bool,
    base: String,
}

impl NameRow {
    fn read(self) -> Result<NamedColumn, StoreError> {
        let kind = Kind::parse(&self.kind)
            .ok_or(StoreError::Inconsistent { table: "report_columns", column: "kind" })?;
        Ok(NamedColumn {
            entity: self.entity,
            name: self.name,
            part: self.part,
            field: self.field,
            kind,
            multiple: self.multiple,
            base: self.base,
        })
    }
}

impl Store {
    /// Names the custom fields that have no column yet. Without a generation nobody needs to
    /// hold the lease.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn name_report_columns(
        &self,
        generation: Option<Generation>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_reporting(generation).await?;
        let fields = fields(&mut transaction).await?;
        let named = names(&mut transaction).await?;
        let entities = self.entities_on(&mut transaction).await?;
        let new: Vec<NamedColumn> = entities
            .into_iter()
            .filter(|entity| !entity.is_read_whole())
            .flat_map(|entity| name_columns(entity, &fields, &named))
            .collect();
        if !new.is_empty() {
            let texts = |of: fn(&NamedColumn) -> &str| new.iter().map(of).collect::<Vec<_>>();
            sqlx::query(
                "insert into report_columns (entity, name, part, field, kind, multiple, base) \
                 select entity, name, part, field, kind, multiple, base \
                 from unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], \
                    $6::bool[], $7::text[]) with ordinality \
                    as n (entity, name, part, field, kind, multiple, base, place) \
                 order by place",
            )
            .bind(texts(|column| &column.entity))
            .bind(texts(|column| &column.name))
            .bind(new.iter().map(|column| column.part).collect::<Vec<_>>())
            .bind(texts(|column| &column.field))
            .bind(texts(|column| column.kind.as_str()))
            .bind(new.iter().map(|column| column.multiple).collect::<Vec<_>>())
            .bind(texts(|column| &column.base))
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Reads everything that the views follow from.
    pub async fn report_blueprint(&self, options: &ReportOptions) -> Result<Blueprint, StoreError> {
        let processes = self.smart_processes().await?;
        let mut connection = self.pool.acquire().await?;
        let portal_zone: Option<String> = sqlx::query_scalar("select time_zone from portal")
            .fetch_optional(&mut *connection)
            .await?
            .flatten();
        let tables: Vec<(String, String, String, Option<String>)> = sqlx::query_as(
            "select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), \
                col_description(c.oid, a.attnum) \
             from pg_class c join pg_attribute a on a.attrelid = c.oid \
             where c.relnamespace = to_regnamespace(quote_ident($1)) and c.relkind in ('r', 'p') \
                and a.attnum > 0 and not a.attisdropped \
             order by c.relname, a.attnum",
        )
        .bind(self.schema.as_str())
        .fetch_all(&mut *connection)
        .await?;
        let tables = tables.into_iter().map(|(table, name, sql_type, comment)| TableColumn {
            table,
            name,
            sql_type,
            comment,
        });
        Ok(Blueprint {
            data_schema: self.schema.as_str().to_owned(),
            report_schema: options.schema.clone(),
            time_zone: options
                .time_zone
                .clone()
                .or(portal_zone)
                .unwrap_or_else(|| "UTC".to_owned()),
            fields: fields(&mut connection).await?,
            tables: tables.collect(),
            private: private_fields(&mut connection).await?,
            names: names(&mut connection).await?,
            processes: processes
                .into_iter()
                .filter(|process| process.has_tables)
                .map(|process| (process.entity, process.title))
                .collect(),
        })
    }

    /// Reads what was last made of each view of the report schema.
    pub async fn report_standing(&self, schema: &str) -> Result<Vec<ReportStanding>, StoreError> {
        Ok(sqlx::query_as(
            "select v.name, case when c.oid is not null then v.definition end as definition, \
                case when c.oid is not null then v.comments end as comments, v.problem \
             from report_views v \
             left join pg_class c on c.relname = v.name and c.relkind = 'v' \
                and c.relnamespace = to_regnamespace(quote_ident($1)) \
             order by v.name",
        )
        .bind(schema)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Makes a view as it should be; nothing that is built upon it is disturbed.
    ///
    /// # Errors
    /// [Unavailability](StoreError::is_unavailable) when somebody reads the view for long;
    /// [`StoreError::LeaseLost`] when the lease is another's. Nothing is changed then.
    pub async fn apply_report_view(
        &self,
        generation: Option<Generation>,
        schema: &str,
        view: &View,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_reporting(generation).await?;
        let connection = &mut *transaction;
        let existing = existing(connection, schema, view.name()).await?;
        let made: Option<(Option<i64>, Option<i64>)> =
            sqlx::query_as("select definition, comments from report_views where name = $1")
                .bind(view.name())
                .fetch_optional(&mut *connection)
                .await?;
        let (definition, comments) = made.unwrap_or_default();
        // Labels alone need no lock that readers would feel.
        if existing.is_empty() || definition != Some(view.definition()) {
            create_schema(connection, schema).await?;
            let create = view.create(&existing);
            sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *connection).await?;
        }
        if existing.is_empty() || comments != Some(view.comments()) {
            let comment_on = view.comment_on(&existing);
            sqlx::raw_sql(AssertSqlSafe(comment_on)).execute(&mut *connection).await?;
        }
        sqlx::query(
            "insert into report_views (name, definition, comments, applied_at) \
             values ($1, $2, $3, clock_timestamp()) \
             on conflict (name) do update set definition = excluded.definition, \
                comments = excluded.comments, applied_at = excluded.applied_at, \
                problem = null, problem_since = null",
        )
        .bind(view.name())
        .bind(view.definition())
        .bind(view.comments())
        .execute(&mut *connection)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Keeps why a view or an index could not be brought up to date; says whether that is news.
    /// Without a generation nobody needs to hold the lease.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn report_problem(
        &self,
        generation: Option<Generation>,
        name: &str,
        problem: &str,
    ) -> Result<bool, StoreError> {
        let mut transaction = match generation {
            Some(generation) => self.begin_leased(generation).await?,
            None => self.begin().await?,
        };
        let told = sqlx::query(
            "insert into report_views (name, problem, problem_since) \
             values ($1, $2, clock_timestamp()) \
             on conflict (name) do update set problem = excluded.problem, \
                problem_since = coalesce(report_views.problem_since, excluded.problem_since) \
             where report_views.problem is distinct from excluded.problem",
        )
        .bind(name)
        .bind(problem)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(told.rows_affected() > 0)
    }

    /// The views and indexes that could not be brought up to date, with the reason.
    pub async fn report_problems(&self) -> Result<Vec<(String, String)>, StoreError> {
        Ok(sqlx::query_as(
            "select name, problem from report_views where problem is not null \
                and not exists (select from pg_indexes where schemaname = $1 and indexname = name) \
             order by name",
        )
        .bind(self.schema.as_str())
        .fetch_all(&self.pool)
        .await?)
    }

    /// Describes the tables and views of a schema as the database knows them.
    pub async fn describe_schema(&self, schema: &str) -> Result<Vec<Described>, StoreError> {
        let relations: Vec<(i64, String, bool, Option<String>)> = sqlx::query_as(
            "select c.oid::bigint, c.relname::text, c.relkind in ('v', 'm'), \
                obj_description(c.oid, 'pg_class') \
             from pg_class c \
             where c.relnamespace = to_regnamespace(quote_ident($1)) \
                and c.relkind in ('r', 'p', 'v', 'm') and c.relname <> '_sqlx_migrations' \
             order by c.relname",
        )
        .bind(schema)
        .fetch_all(&self.pool)
        .await?;
        let columns: Vec<(i64, String, String, Option<String>)> = sqlx::query_as(
            "select a.attrelid::bigint, a.attname::text, format_type(a.atttypid, a.atttypmod), \
                col_description(a.attrelid, a.attnum) \
             from pg_attribute a join pg_class c on c.oid = a.attrelid \
             where c.relnamespace = to_regnamespace(quote_ident($1)) \
                and c.relkind in ('r', 'p', 'v', 'm') and a.attnum > 0 and not a.attisdropped \
             order by a.attrelid, a.attnum",
        )
        .bind(schema)
        .fetch_all(&self.pool)
        .await?;
        Ok(relations
            .into_iter()
            .map(|(oid, name, is_view, comment)| Described {
                schema: schema.to_owned(),
                name,
                is_view,
                comment,
                columns: columns
                    .iter()
                    .filter(|(of, ..)| *of == oid)
                    .map(|(_, name, sql_type, comment)| DescribedColumn {
                        name: name.clone(),
                        sql_type: sql_type.clone(),
                        comment: comment.clone(),
                    })
                    .collect(),
            })
            .collect())
    }

    /// One process at a time works on what people read, the holder or `migrate`.
    pub(super) async fn begin_reporting(
        &self,
        generation: Option<Generation>,
    ) -> Result<Transaction<'static, Postgres>, StoreError> {
        let mut transaction = match generation {
            Some(generation) => self.begin_leased(generation).await?,
            None => self.begin().await?,
        };
        sqlx::query("select pg_advisory_xact_lock($1, hashtext($2))")
            .bind(REPORT_LOCK)
            .bind(self.schema.as_str())
            .execute(&mut *transaction)
            .await?;
        sqlx::query(SHORT_LOCKS).execute(&mut *transaction).await?;
        Ok(transaction)
    }
}

impl StoreError {
    /// Why a view could not be brought up to date, in one line for people.
    #[must_use]
    pub fn report_reason(&self) -> String {
        match self {
            Self::Unavailable(error) if state_of(error).is_some_and(|state| state == "55P03") => {
                "somebody uses it for long; it is tried again".to_owned()
            }
            other => {
                let source = std::error::Error::source(other);
                source.map_or_else(|| other.to_string(), |source| format!("{other}: {source}"))
            }
        }
    }

    /// Whether the same would be refused for every view.
    #[must_use]
    pub const fn is_denied(&self) -> bool {
        matches!(self, Self::Denied(_))
    }
}

async fn fields(connection: &mut PgConnection) -> Result<Vec<FieldDescription>, StoreError> {
    let rows: Vec<FieldRow> = sqlx::query_as(
        "select entity, field, type, label, multiple, custom, status_type, \
            gone_since is not null as gone \
         from fields order by entity, first_seen, field",
    )
    .fetch_all(connection)
    .await?;
    let described = rows.into_iter().map(|row| FieldDescription {
        entity: row.entity,
        field: row.field,
        kind: row.kind,
        label: row.label,
        multiple: row.multiple,
        custom: row.custom,
        status_type: row.status_type,
        gone: row.gone,
    });
    Ok(described.collect())
}

async fn private_fields(connection: &mut PgConnection) -> Result<Vec<PrivateField>, StoreError> {
    let rows: Vec<(String, String, bool)> = sqlx::query_as(
        "select entity, unnest(excluded) as field, false from privacy_rules \
         union all select entity, unnest(hashed), true from privacy_rules order by 1, 2",
    )
    .fetch_all(connection)
    .await?;
    let private =
        rows.into_iter().map(|(entity, field, hashed)| PrivateField { entity, field, hashed });
    Ok(private.collect())
}

async fn names(connection: &mut PgConnection) -> Result<Vec<NamedColumn>, StoreError> {
    let rows: Vec<NameRow> = sqlx::query_as(
        "select entity, name, part, field, kind, multiple, base from report_columns \
         order by position",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(NameRow::read).collect()
}

async fn existing(
    connection: &mut PgConnection,
    schema: &str,
    view: &str,
) -> Result<Vec<Existing>, StoreError> {
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select a.attname::text, format_type(a.atttypid, a.atttypmod) \
         from pg_attribute a join pg_class c on c.oid = a.attrelid \
         where c.relnamespace = to_regnamespace(quote_ident($1)) and c.relname = $2 \
            and c.relkind = 'v' and a.attnum > 0 \
         order by a.attnum",
    )
    .bind(schema)
    .bind(view)
    .fetch_all(connection)
    .await?;
    Ok(columns.into_iter().map(|(name, sql_type)| Existing { name, sql_type }).collect())
}

/// Not `if not exists`: that asks for the right to create schemas even where an administrator
/// has already created this one.
async fn create_schema(connection: &mut PgConnection, schema: &str) -> Result<(), StoreError> {
    let exists: bool =
        sqlx::query_scalar("select exists (select from pg_namespace where nspname = $1)")
            .bind(schema)
            .fetch_one(&mut *connection)
            .await?;
    if !exists {
        let quoted = schema.replace('"', "\"\"");
        let create = format!(
            "create schema \"{quoted}\"; \
             comment on schema \"{quoted}\" is 'What b24mirror keeps of the portal, for people.'"
        );
        sqlx::raw_sql(AssertSqlSafe(create)).execute(connection).await?;
    }
    Ok(())
}
