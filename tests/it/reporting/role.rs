//! The reporting role reads the reports, and fails at everything else.

use std::{collections::BTreeSet, process::Stdio};

use b24mirror::reporting::ready;
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::process::Command;

use super::{fill, in_tokyo};
use crate::support::{Database, tables::value};

/// What the role may read besides the report schema; a new table is refused until it is here
/// and in the script.
const READABLE: [&str; 67] = [
    "activities",
    "activity_changes",
    "companies",
    "company_changes",
    "company_contacts",
    "company_emails",
    "company_links",
    "company_messengers",
    "company_observers",
    "company_phones",
    "company_websites",
    "contact_changes",
    "contact_companies",
    "contact_emails",
    "contact_links",
    "contact_messengers",
    "contact_observers",
    "contact_phones",
    "contact_websites",
    "contacts",
    "currencies",
    "deal_changes",
    "deal_contacts",
    "deal_observers",
    "deal_product_rows",
    "deal_stage_history",
    "deal_stage_step_changes",
    "deals",
    "departments",
    "field_options",
    "fields",
    "history",
    "lead_changes",
    "lead_contacts",
    "lead_emails",
    "lead_links",
    "lead_messengers",
    "lead_observers",
    "lead_phones",
    "lead_product_rows",
    "lead_stage_history",
    "lead_stage_step_changes",
    "lead_status_spans",
    "lead_websites",
    "leads",
    "mail_recipient_changes",
    "mail_recipients",
    "pipelines",
    "quote_changes",
    "quote_contacts",
    "quote_product_rows",
    "quotes",
    "smart_invoice_changes",
    "smart_invoice_contacts",
    "smart_invoice_observers",
    "smart_invoice_product_rows",
    "smart_invoice_stage_history",
    "smart_invoice_stage_step_changes",
    "smart_invoices",
    "smart_item_changes",
    "smart_item_contacts",
    "smart_item_observers",
    "smart_items",
    "smart_items_128",
    "smart_processes",
    "statuses",
    "users",
];

/// Runs the script as an administrator would.
async fn run_script(database: &Database, role: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/reporting-role.sql");
    let done = Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--file", script, "--set", &format!("role={role}")])
        .arg(database.url().expose_secret())
        .stdin(Stdio::null())
        .output()
        .await
        .expect("psql comes with PostgreSQL's client programs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Runs a statement as the role; the SQLSTATE of its failure.
async fn attempt(connection: &mut PgConnection, sql: &str) -> Option<String> {
    let failed = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.err()?;
    Some(failed.as_database_error().unwrap().code().unwrap().into_owned())
}

async fn names(database: &Database, schema: &str, kind: char) -> Vec<String> {
    let sql = format!(
        "select relname::text from pg_class where relnamespace = '{schema}'::regnamespace \
         and relkind = '{kind}' order by 1"
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(database.pool()).await.unwrap()
}

#[tokio::test]
async fn the_reporting_role_reads_the_reports_and_fails_at_everything_else() {
    let database = in_tokyo().await;
    let name: String = value(database.pool(), "select current_database()::text").await;
    let role = format!("{name}_reader");
    // Granted by a person before, and taken back by the script.
    run_script(&database, &role).await;
    fill(&database, &format!("grant select, insert on sync_quarantine to {role}")).await;
    fill(&database, "create table smart_items_128 partition of smart_items for values in (128)")
        .await;
    run_script(&database, &role).await;
    // What comes later: a report is readable, a table is not.
    fill(
        &database,
        "create view bitrix24_report.later_report as select 1 as one; create table later (id int)",
    )
    .await;

    let views = names(&database, "bitrix24_report", 'v').await;
    assert!(views.len() > ready::views().len() + 10, "the views for people are there, too");
    let mut tables = names(&database, "bitrix24", 'r').await;
    tables.extend(names(&database, "bitrix24", 'p').await);
    let views_of_data = names(&database, "bitrix24", 'v').await;
    let mut connection = database.pool().acquire().await.unwrap().detach();
    let login = format!("set session authorization {role}");
    assert_eq!(attempt(&mut connection, &login).await, None);

    for view in &views {
        let reading = format!("select * from bitrix24_report.{view}");
        assert_eq!(attempt(&mut connection, &reading).await, None, "{view}");
    }
    let refused = Some("42501".to_owned());
    let mut readable = BTreeSet::new();
    for table in tables.iter().chain(&views_of_data) {
        match attempt(&mut connection, &format!("select from bitrix24.{table} limit 1")).await {
            None => assert!(readable.insert(table.as_str())),
            why => assert_eq!(why, refused, "{table}"),
        }
    }
    assert_eq!(readable, BTreeSet::from(READABLE));
    assert!(tables.len() > readable.len() + 10, "most of the mirror's own tables are refused");

    let of = |schema: &str, names: &[String], kind: &'static str| -> Vec<(String, &'static str)> {
        names.iter().map(|name| (format!("{schema}.{name}"), kind)).collect()
    };
    let mut all = of("bitrix24", &tables, "table");
    all.extend(of("bitrix24", &views_of_data, "view"));
    all.extend(of("bitrix24_report", &views, "view"));
    for (name, kind) in all {
        for writing in [
            format!("insert into {name} default values"),
            format!("delete from {name}"),
            format!("comment on {kind} {name} is ''"),
            format!("drop {kind} {name}"),
        ] {
            let why = attempt(&mut connection, &writing).await;
            // Most views cannot be written through, whoever tries.
            let impossible = why.as_deref() == Some("55000") && kind == "view";
            assert!(why == refused || impossible, "{writing}: {why:?}");
        }
    }
    for making in [
        "create table bitrix24.mine (id int)",
        "create table bitrix24_report.mine (id int)",
        "create view bitrix24_report.mine as select 1",
        "create schema mine",
        "create role mine",
        "truncate bitrix24.contacts",
        "update bitrix24.contacts set name = 'x'",
        "copy bitrix24.sync_quarantine to stdout",
    ] {
        let why = attempt(&mut connection, making).await;
        assert_eq!(why, refused, "{making}");
    }

    assert_eq!(attempt(&mut connection, "reset session authorization").await, None);
    let away = format!("drop owned by {role}; drop role {role}");
    assert_eq!(attempt(&mut connection, &away).await, None);
}
