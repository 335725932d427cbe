//! The ready reports on a large portal: a million contacts and 300,000 leads, with children.
//!
//! `cargo bench --bench reports -- [ROW…] [--scale FACTOR]` prints one line of JSON per report and
//! a Markdown table at the end. The data are made in the database, by `data.sql`; the server is a
//! private one with its own defaults, and the connection has the settings that
//! `deploy/reporting-role.sql` gives to the reporting role. A report is read to its last row; the
//! figure is the median of several rounds, the first, which warms the caches, left out.

#[expect(dead_code, reason = "the other benchmarks need more of it")]
#[path = "../support/mod.rs"]
mod support;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use b24mirror::{
    reporting::{ReportOptions, ready},
    store::{Store, StoreOptions},
    sync::refresh_reports,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use support::{
    arguments::Arguments,
    report::{Report, Row, float, thousands},
    server::{Database, Server},
};

/// What a person waits for without noticing.
const TARGET: Duration = Duration::from_secs(1);

/// What a person who looks up a number waits for.
const LOOKUP_TARGET: Duration = Duration::from_millis(10);

const ROUNDS: usize = 5;

/// Questions that an index answers at once.
const LOOKUPS: [(&str, &str); 3] = [
    (
        "who has this number",
        "select contact_id from contact_phones where e164 = '+79160000042' \
         union all select lead_id from lead_phones where e164 = '+79160000042'",
    ),
    (
        "who has these digits",
        "select contact_id from contact_phones where digits = '79160000042' \
         union all select lead_id from lead_phones where digits = '79160000042'",
    ),
    (
        "who has this address",
        "select contact_id from contact_emails where address = 'info7@example.com' \
         union all select lead_id from lead_emails where address = 'info7@example.com'",
    ),
];

#[expect(clippy::print_stderr, reason = "the last words of a failing benchmark")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let Some(arguments) = Arguments::read()? else { return Ok(()) };
    let server = Server::start().await?;
    let mut report = Report::new("reports");
    // So that the server is stopped, whatever happens.
    let result = tokio::select! {
        result = measure(&arguments, &server, &mut report) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    server.stop().await?;
    result?;
    Ok(report.print_table()?)
}

async fn measure(
    arguments: &Arguments,
    server: &Server,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (contacts, leads) = (arguments.scaled(1_000_000), arguments.scaled(300_000));
    let database = server.database("reports").await?;
    fill(&database, contacts, leads).await?;
    let options = database.pool.connect_options();
    let mut connection = PgConnection::connect_with(&options).await?;
    sqlx::raw_sql("set search_path = bitrix24; set jit = off; set work_mem = '64MB'")
        .execute(&mut connection)
        .await?;

    for one in ready::views().iter().filter(|one| arguments.wants(one.name)) {
        let query = format!("select * from bitrix24_report.{}", one.name);
        let (spent, rows) = median(&mut connection, &query).await?;
        ensure!(rows > 0, "{} is empty, so its time says nothing", one.name);
        let what = format!("`{}`, {} rows", one.name, thousands(rows));
        report.add(timed(one.name, what, spent, TARGET))?;
    }
    for (name, query) in LOOKUPS.into_iter().filter(|(name, _)| arguments.wants(name)) {
        let explain = format!("explain {query}");
        let plan: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(&mut connection).await?;
        ensure!(!plan.join("\n").contains("Seq Scan"), "{name}: {plan:#?}");
        let (spent, rows) = median(&mut connection, query).await?;
        let what = format!("{name}? {rows} found, by {}", index(&plan)?);
        report.add(timed(name, what, spent, LOOKUP_TARGET))?;
    }
    Ok(connection.close().await?)
}

/// Migrates, makes the reports and fills the tables as `data.sql` says.
async fn fill(database: &Database, contacts: u64, leads: u64) -> anyhow::Result<()> {
    let store = Store::connect(&StoreOptions {
        url: database.url.clone(),
        schema: "bitrix24".parse()?,
        max_connections: 2,
        application_name: "b24mirror benchmark".to_owned(),
    })
    .await?;
    store.migrate().await?;
    let moscow =
        ReportOptions { time_zone: Some("Europe/Moscow".to_owned()), ..ReportOptions::default() };
    ensure!(refresh_reports(&store, &moscow, None).await? == 0, "a view could not be made");
    let data = include_str!("data.sql")
        .replace("{contacts}", &contacts.to_string())
        .replace("{leads}", &leads.to_string());
    database.run(&format!("set search_path = bitrix24; {data}")).await?;
    // The entities are filled now, so their indexes are built.
    ensure!(refresh_reports(&store, &moscow, None).await? == 0, "an index could not be built");
    ensure!(store.missing_indexes().await?.is_empty(), "an index was not built");
    store.close().await;
    // As autovacuum leaves it.
    database.run("vacuum analyze").await?;
    database.run("checkpoint").await
}

/// The time that a query takes to its last row, and its rows.
async fn median(connection: &mut PgConnection, query: &str) -> anyhow::Result<(Duration, u64)> {
    let mut rounds = Vec::new();
    let mut rows = 0;
    for round in 0..=ROUNDS {
        let started = Instant::now();
        let read = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_all(&mut *connection).await;
        let read = read.with_context(|| query.to_owned())?;
        if round > 0 {
            rounds.push(started.elapsed());
        }
        rows = u64::try_from(read.len())?;
    }
    rounds.sort_unstable();
    Ok((*rounds.get(ROUNDS / 2).context("nothing was measured")?, rows))
}

fn timed(name: &'static str, what: String, spent: Duration, target: Duration) -> Row {
    let milliseconds = float(u64::try_from(spent.as_micros()).unwrap_or(u64::MAX)) / 1_000.0;
    let at_most = format!("at most {} ms", thousands(target.as_millis().try_into().unwrap_or(0)));
    Row::new(name, what).figure("milliseconds", milliseconds, "ms").target(at_most, spent <= target)
}

/// The indexes that a plan uses.
fn index(plan: &[String]) -> anyhow::Result<String> {
    let named = plan.iter().filter_map(|line| {
        let (_, rest) = line.split_once(" using ").or_else(|| line.split_once("Scan on "))?;
        let name = rest.split_whitespace().next()?;
        ["e164", "digits", "address"].iter().any(|one| name.ends_with(one)).then_some(name)
    });
    let named: Vec<&str> = named.collect();
    ensure!(!named.is_empty(), "no index in {plan:#?}");
    Ok(named.join(" and "))
}
