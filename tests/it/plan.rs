//! `plan` foretells what a backfill will cost, from a handful of probes.

use std::time::{Duration, Instant};

use b24mirror::{
    entity::CONTACTS,
    simulator::{Action, Entity, Filtering, GatewayOptions, Options, Rights, Stats},
};
use serde_json::Value;

use crate::support::{Database, Finished, Run, TestPortal, database, tables::value, unlimited};

/// Runs `plan --json`; gives what it said, and what it cost the portal.
async fn planned(portal: &TestPortal, settings: &str, entities: &[&str]) -> (Value, Stats) {
    let (before, began) = (portal.stats(), Instant::now());
    let arguments = [&["plan", "--json"][..], entities].concat();
    let finished = Run::b24mirror(&arguments).config(settings).finish().await;
    let took = began.elapsed();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let stats = portal.stats();
    let sent = stats.requests - before.requests;
    assert!((1..=10).contains(&sent), "{sent} requests");
    // One a second.
    assert!(took >= Duration::from_secs(sent - 1), "{sent} requests within {took:?}");
    assert_eq!(stats.counts, before.counts, "a COUNT was asked for");
    assert_eq!(stats.writes, before.writes);
    let said = serde_json::from_str(&finished.stdout);
    (said.unwrap_or_else(|error| panic!("{error}: {finished:#?}")), stats)
}

/// The settings of a portal, with a database that does not exist.
fn without_database(portal: &TestPortal, database: &Database) -> String {
    let settings = portal.settings(database);
    let nowhere = |line: &str| {
        let nowhere = "url = \"postgres://nobody@127.0.0.1:1/nowhere\"";
        if line.starts_with("url = ") { nowhere.to_owned() } else { line.to_owned() }
    };
    settings.lines().map(nowhere).collect::<Vec<_>>().join("\n")
}

fn commands(stats: &Stats) -> u64 {
    stats.commands.values().sum()
}

/// Fails unless a figure was foretold within a tenth.
fn assert_close(what: &str, foretold: &Value, was: u64) {
    let foretold = foretold.as_u64().unwrap();
    let off = foretold.abs_diff(was);
    assert!(off * 10 <= was, "{what}: {foretold} foretold, {was} in truth");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plan_foretells_is_what_a_backfill_takes() {
    let latency = Duration::from_millis(20);
    let options = Options { contacts: 30_000, leads: 0, gaps: 30, latency, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    let beyond = portal.truth(&CONTACTS).iter().filter(|record| record.id > 1 << 31).count();
    assert!(beyond > 0, "no contact lies beyond 32 bits");
    let settings = portal.settings(&database);
    let (plans, before) = planned(&portal, &settings, &["contacts"]).await;
    let schema = "select to_regnamespace('bitrix24') is not null";
    assert!(!value::<bool>(database.pool(), schema).await, "something was written");
    assert_eq!(plans.as_array().unwrap().len(), 1, "{plans:#}");
    let plan = &plans[0];
    assert_eq!(plan["entity"], "contacts");

    let finished = Run::b24mirror(&["backfill", "contacts"]).config(&settings).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let after = portal.stats();
    // The names behind codes are no part of an entity; each look at them begins with the profile.
    let names = after.commands["profile"];
    assert_close("requests", &plan["requests"], after.requests - before.requests - names);
    assert_close("commands", &plan["commands"], commands(&after) - commands(&before));
    assert_close("records", &plan["records"], 30_000);
    let rows = "select sum(rows_read)::bigint from bitrix24.backfill_segments";
    assert_eq!(value::<i64>(database.pool(), rows).await, 30_000, "each is read once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_needs_no_database_and_an_empty_portal_costs_next_to_nothing() {
    let options = Options { contacts: 0, leads: 0, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    let ids = portal.truth(&CONTACTS).iter().map(|record| record.id).collect::<Vec<_>>();
    if !ids.is_empty() {
        portal.happens(Action::Delete { entity: Entity::Contacts, ids, count: 0 });
    }
    let (plans, _) = planned(&portal, &without_database(&portal, &database), &[]).await;
    let entities: Vec<_> = plans.as_array().unwrap().iter().map(|plan| &plan["entity"]).collect();
    assert_eq!(entities, ["contacts", "leads"]);
    for plan in plans.as_array().unwrap() {
        assert_eq!((&plan["records"], &plan["database_bytes"]), (&0.into(), &0.into()), "{plan:#}");
        assert!(plan["requests"].as_u64().unwrap() <= 3, "{plan:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_without_rights_says_which_are_missing_and_exits_as_check_does() {
    let (portal, database) = (TestPortal::small(), database().await);
    portal.happens(Action::Rights { entity: Entity::Leads, rights: Rights::None });
    let settings = portal.settings(&database);
    let run = |arguments: &'static [&'static str]| Run::b24mirror(arguments).config(&settings);
    let plan: Finished = run(&["plan"]).finish().await;
    let check = run(&["check"]).finish().await;
    assert_ne!(check.code, Some(0), "{check:#?}");
    assert_eq!(plan.code, check.code, "{plan:#?}\n{check:#?}");
    for said in [&plan.stderr, &check.stdout] {
        assert!(said.contains("leads") && said.contains("the CRM right"), "{plan:#?}\n{check:#?}");
    }
}

/// Plans for contacts that are read through a gateway; gives what it said, how often it asked,
/// and how many records there are.
async fn planned_through(gateway: GatewayOptions) -> (Value, Finished, u64, u64) {
    let options = Options {
        contacts: 3_000,
        leads: 0,
        gateway: GatewayOptions { requests_per_minute: None, ..gateway },
        ..unlimited()
    };
    let (portal, database) = (TestPortal::with(options), database().await);
    let settings = format!(
        "{}\n[portal.vibecode]\nurl = \"{}\"\napi_key = \"vibe_api_s1mul4ted\"\n\
         [entities.contacts]\nsource = \"vibecode\"\n[entities.leads]\nenabled = false\n",
        without_database(&portal, &database),
        portal.url()
    );
    let finished = Run::b24mirror(&["plan", "--json"]).config(&settings).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let said: Value = serde_json::from_str(&finished.stdout).unwrap();
    // Those of every category, as items have them.
    let records = u64::try_from(portal.item_truth(Entity::Contacts).len()).unwrap();
    assert_close("records", &said[0]["records"], records);
    (said[0].clone(), finished, commands(&portal.stats()), records)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_through_a_gateway_takes_the_number_that_comes_with_a_list() {
    let (plan, finished, requests, records) = planned_through(GatewayOptions::default()).await;
    assert_eq!(plan["records"], records, "{plan:#}");
    assert!((1..=14).contains(&requests), "{requests} requests: {finished:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_takes_long_says_what_it_is_at() {
    // No conditions in an address, and a search does not count.
    let uncounted = GatewayOptions { list_filter: Filtering::Refused, ..Default::default() };
    let (_, finished, requests, _) = planned_through(uncounted).await;
    assert!((12..=30).contains(&requests), "{requests} requests: {finished:#?}");
    let said = "asking portal and gateway, at most once a second";
    assert!(finished.stderr.contains(said), "{finished:#?}");
    assert!(!finished.stdout.contains(said), "{finished:#?}");
}
