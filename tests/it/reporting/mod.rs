//! What people who query the mirror rely on.

mod custom_fields;
mod dashboards;
mod indexes;
mod phones;
mod ready;
mod resolved;
mod role;
mod schema;
mod views;

use b24mirror::{
    reporting::ReportOptions,
    store::{Store, StoreOptions},
    sync::refresh_reports,
};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{Database, database};

/// A migrated schema with its views.
async fn with_views(database: &Database) -> Store {
    let store = Store::connect(&StoreOptions {
        url: database.url(),
        schema: "bitrix24".parse().unwrap(),
        max_connections: 4,
        application_name: "reporting".to_owned(),
    })
    .await
    .unwrap();
    store.migrate().await.unwrap();
    refreshed(&store).await;
    store
}

/// Brings the views up to date, which must succeed.
async fn refreshed(store: &Store) {
    assert_eq!(refresh_reports(store, &ReportOptions::default(), None).await.unwrap(), 0);
}

async fn execute(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap();
}

/// The columns of a view of the report schema with their types, in their order.
async fn columns(pool: &PgPool, view: &str) -> Vec<(String, String)> {
    sqlx::query_as(
        "select a.attname::text, format_type(a.atttypid, a.atttypmod) from pg_attribute a \
         where a.attrelid = to_regclass('bitrix24_report.' || $1) and a.attnum > 0 \
         order by a.attnum",
    )
    .bind(view)
    .fetch_all(pool)
    .await
    .unwrap()
}

/// What a column of the report schema says of itself.
async fn comment(pool: &PgPool, view: &str, column: &str) -> Option<String> {
    sqlx::query_scalar(
        "select col_description(a.attrelid, a.attnum) from pg_attribute a \
         where a.attrelid = to_regclass('bitrix24_report.' || $1) and a.attname = $2",
    )
    .bind(view)
    .bind(column)
    .fetch_optional(pool)
    .await
    .unwrap()
    .flatten()
}

/// Dictionaries that name every code that a record has.
const NAME_EVERY_CODE: &str = "
    insert into bitrix24.statuses (directory, code, name)
        select distinct on (directory, code) directory, code, 'Name of ' || code from (
            select 'SOURCE' as directory, source_id as code from bitrix24.contacts
            union all select 'SOURCE', source_id from bitrix24.leads
            union all select 'CONTACT_TYPE', type_id from bitrix24.contacts
            union all select 'STATUS', status_id from bitrix24.leads
            union all select 'HONORIFIC', honorific from bitrix24.contacts
            union all select 'HONORIFIC', honorific from bitrix24.leads
        ) as codes where code is not null
        on conflict (directory, code) do update set name = excluded.name;
    insert into bitrix24.users (id, full_name, active)
        select id, 'User ' || id, true from generate_series(1, 40) as id
        on conflict (id) do update set full_name = excluded.full_name;
    insert into bitrix24.currencies (code, name, base)
        select distinct currency_id, 'Name of ' || currency_id, false
        from bitrix24.leads where currency_id is not null
        on conflict (code) do update set name = excluded.name;
";

/// A migrated database with every view, and nothing in it. Its days begin half a day from
/// those of UTC and there is no summer time, so that a wrong day shows.
async fn in_tokyo() -> Database {
    let database = database().await;
    let store = with_views(&database).await;
    let options =
        ReportOptions { time_zone: Some("Asia/Tokyo".to_owned()), ..ReportOptions::default() };
    assert_eq!(refresh_reports(&store, &options, None).await.unwrap(), 0);
    store.close().await;
    database
}

/// Runs statements with the mirror's own tables in reach.
async fn fill(database: &Database, sql: &str) {
    execute(database.pool(), &format!("set search_path = bitrix24; {sql}; reset search_path"))
        .await;
}

/// The rows of a query, each as PostgreSQL writes a row.
async fn rows(database: &Database, query: &str) -> Vec<String> {
    let sql = format!("select one::text from ({query}) as one");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(database.pool()).await.unwrap()
}
