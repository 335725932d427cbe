//! `b24mirror schema`, and REPORTING.md, which repeats it.

use std::{env, fs};

use secrecy::ExposeSecret as _;
use sqlx::AssertSqlSafe;

use super::{NAME_EVERY_CODE, execute};
use crate::support::{Database, Run, TestPortal, database, unlimited};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/REPORTING.md");

const BEGIN: &str = "<!-- begin of what `b24mirror schema` prints -->\n";
const END: &str = "<!-- end of what `b24mirror schema` prints -->\n";

async fn printed(database: &Database, arguments: &[&str]) -> String {
    let settings = format!("[database]\nurl = \"{}\"\n", database.url().expose_secret());
    let finished = Run::b24mirror(arguments).config(&settings).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finished.stdout
}

/// The part of the page about the report schema.
fn report_schema(page: &str) -> &str {
    page.split("\n## Schema `bitrix24`").next().unwrap()
}

#[tokio::test]
async fn the_page_repeats_what_the_program_prints() {
    let database = database().await;
    printed(&database, &["migrate"]).await;
    let printed = printed(&database, &["schema"]).await;
    let expected = format!("{}\n", report_schema(&printed).trim_end());
    let page = fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page says where the schema begins");
    let (repeated, after) = rest.split_once(END).expect("the page says where the schema ends");
    if env::var_os("B24MIRROR_REGENERATE").is_some() {
        fs::write(PAGE, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert!(
        repeated == expected,
        "REPORTING.md is outdated; run this test with B24MIRROR_REGENERATE=1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_page_runs_and_finds_something() {
    use b24mirror::simulator::Options;
    let portal = TestPortal::with(Options { contacts: 300, leads: 300, ..unlimited() });
    let database = database().await;
    portal.backfilled(&database).await;
    let pool = database.pool();
    execute(pool, NAME_EVERY_CODE).await;
    // What the simulated portal leaves to chance.
    execute(
        pool,
        "update bitrix24.leads set date_create = now() - interval '3 days', contact_id = \
            (select min(id) from bitrix24.contacts) where id in \
            (select id from bitrix24.leads order by id limit 60); \
         update bitrix24.contacts set date_create = now() - interval '3 days', birthdate = \
            current_date - 365 * 30 where id in \
            (select id from bitrix24.contacts order by id limit 60)",
    )
    .await;
    let page = fs::read_to_string(PAGE).unwrap();
    let examples: Vec<&str> =
        page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 10, "only {} examples", examples.len());
    for example in examples {
        let rows = sqlx::query(AssertSqlSafe(example.to_owned())).fetch_all(pool).await;
        let rows = rows.unwrap_or_else(|error| panic!("{error}:\n{example}"));
        assert!(!rows.is_empty(), "nothing found:\n{example}");
    }
}

#[tokio::test]
async fn the_schema_is_printed_as_diagram_and_json_too() {
    let database = database().await;
    printed(&database, &["migrate"]).await;
    let diagram = printed(&database, &["schema", "--format", "mermaid"]).await;
    assert!(diagram.starts_with("erDiagram\n"), "{diagram}");
    assert!(diagram.contains("contacts ||--o{ contact_phones : \"contact_id\""), "{diagram}");

    let json = printed(&database, &["schema", "--format", "json"]).await;
    let all: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let leads = |schema: &str| {
        all.iter().find(|one| one["schema"] == schema && one["name"] == "leads").unwrap()
    };
    assert_eq!(leads("bitrix24_report")["is_view"], true);
    assert_eq!(leads("bitrix24")["is_view"], false);
    let columns = leads("bitrix24_report")["columns"].as_array().unwrap();
    let status = columns.iter().find(|column| column["name"] == "status").unwrap();
    assert_eq!(status["type"], "text");
    assert_eq!(status["comment"], "What people see for status_id.");
}
