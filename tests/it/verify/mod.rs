//! `verify`: every difference is found, nothing else is, and repairing leaves none.

mod rolling;
mod seeds;

use std::{collections::BTreeMap, time::Duration};

use b24mirror::{
    entity::CONTACTS,
    simulator::{Action, Entity, Fault, FaultKind, Options},
};
use serde_json::Value;

use self::seeds::seed;
use crate::support::{
    Database, Finished, Run, TestPortal, assert_equal, cycled, database, long, tables::value,
    unlimited,
};

/// Longer than a verification of the long setting takes.
const PATIENCE: Duration = Duration::from_mins(30);

fn contacts(contacts: u64) -> TestPortal {
    TestPortal::with(Options { contacts, leads: 0, ..unlimited() })
}

async fn run(portal: &TestPortal, database: &Database, arguments: &[&str]) -> Finished {
    let run = Run::b24mirror(arguments).config(&portal.settings(database));
    run.spawn().finish_within(PATIENCE).await
}

async fn backfilled(portal: &TestPortal, database: &Database) {
    let finished = run(portal, database, &["backfill"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
}

/// What `--json` told of the contacts.
fn told(finished: &Finished) -> Value {
    let told: Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error}: {finished:#?}"));
    told["entities"]["contacts"].clone()
}

/// The differences that were told, by ID.
fn differences(told: &Value) -> BTreeMap<i64, String> {
    let listed = told["differences"].as_array().unwrap().iter().map(|difference| {
        let kind = difference["kind"].as_str().unwrap().to_owned();
        (difference["id"].as_i64().unwrap(), kind)
    });
    let found: BTreeMap<i64, String> = listed.collect();
    assert_eq!(told["different"].as_u64().unwrap(), found.len() as u64, "none twice");
    found
}

async fn equal(portal: &TestPortal, database: &Database, level: &str) -> Value {
    let finished = run(portal, database, &["verify", "--level", level, "--json"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let told = told(&finished);
    assert_eq!(differences(&told), BTreeMap::new());
    told
}

fn touched(id: i64, name: &str) -> Action {
    Action::Touch {
        entity: Entity::Contacts,
        id,
        field: "NAME".to_owned(),
        value: name.into(),
        keep_date: true,
    }
}

fn change(count: u64) -> Action {
    Action::Change { entity: Entity::Contacts, ids: Vec::new(), count, visible_after: 0.0 }
}

fn create(count: u64) -> Action {
    Action::Create { entity: Entity::Contacts, count, visible_after: 0.0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_seeded_difference_is_found_and_repaired_and_nothing_else() {
    let (records, each) = if long() { (100_000, 167) } else { (5_000, 20) };
    let (portal, database) = (contacts(records), database().await);
    backfilled(&portal, &database).await;
    equal(&portal, &database, "full").await;
    let seeds = seed(&portal, database.pool(), each).await;
    assert_eq!(seeds.len(), 6 * each);

    let finished = run(&portal, &database, &["verify", "--level", "full", "--json"]).await;
    assert_eq!(finished.code, Some(2), "{:?}", finished.stderr);
    let found = differences(&told(&finished));
    let expected: BTreeMap<i64, String> =
        seeds.iter().map(|(id, kind)| (*id, (*kind).to_owned())).collect();
    assert_eq!(found, expected);

    // The cheaper level sees which records exist, and no content.
    let finished = run(&portal, &database, &["verify", "--json"]).await;
    let by_existence = ["missing", "extra", "tombstone_wrong"];
    let expected: BTreeMap<i64, String> =
        expected.into_iter().filter(|(_, kind)| by_existence.contains(&kind.as_str())).collect();
    assert_eq!(differences(&told(&finished)), expected);

    let repairing = ["verify", "--level", "full", "--repair", "--json"];
    let finished = run(&portal, &database, &repairing).await;
    assert_eq!(finished.code, Some(0), "{:?}", finished.stderr);
    let repaired = told(&finished)["repaired"].clone();
    assert_eq!(repaired["written"], 5 * each, "{repaired}");
    assert_eq!(repaired["deleted"], each, "{repaired}");

    let told = equal(&portal, &database, "full").await;
    assert_eq!(told["compared"], portal.truth(&CONTACTS).len());
    assert_equal(&portal, database.pool()).await;
    if long() {
        println!("{} records, {} differences found and repaired", records, seeds.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_told_with_its_kind_its_id_and_what_differs() {
    let (portal, database) = (contacts(300), database().await);
    backfilled(&portal, &database).await;
    let ids: Vec<i64> = portal.truth(&CONTACTS).iter().map(|record| record.id).collect();
    let sql = [
        format!("update bitrix24.contacts set post = 's3cret' where id = {}", ids[10]),
        format!("delete from bitrix24.contacts where id = {}", ids[20]),
    ];
    for sql in sql {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(database.pool()).await.unwrap();
    }
    let finished = run(&portal, &database, &["verify", "--level", "full"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    let said = &finished.stdout;
    assert!(said.contains("2 different (1 missing, 1 stale), 300 records compared"), "{said}");
    let row = |id: i64| {
        let line = said.lines().find(|line| line.split_whitespace().any(|w| w == id.to_string()));
        line.unwrap_or_else(|| panic!("no row of {id}: {said}")).trim().to_owned()
    };
    assert!(row(ids[10]).starts_with("stale") && row(ids[10]).ends_with("post"), "{said}");
    assert!(row(ids[20]).starts_with("missing"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    // The log keeps it, too.
    let logged: String = value(
        database.pool(),
        "select message from bitrix24.sync_runs where kind = 'verify' and entity = 'contacts'",
    )
    .await;
    assert!(logged.contains("2 different"), "{logged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_after_the_watermark_is_behind_and_not_different() {
    let (portal, database) = (contacts(600), database().await);
    backfilled(&portal, &database).await;
    let changed = portal.happens(change(5)).ids;
    let created = portal.happens(create(3)).ids;
    assert_eq!(changed.len() + created.len(), 8);
    for level in ["ids", "full"] {
        let told = equal(&portal, &database, level).await;
        assert_eq!(told["behind"], 8, "{level}: {told}");
    }
    // Nothing was written, and nothing is repaired that is not different.
    let finished = run(&portal, &database, &["verify", "--repair"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(finished.stdout.contains("8 behind"), "{finished:#?}");
    let finished = run(&portal, &database, &["sync"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(equal(&portal, &database, "full").await["behind"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_moved_no_date_is_found_by_content_alone() {
    let (portal, database) = (contacts(600), database().await);
    backfilled(&portal, &database).await;
    let id = portal.truth(&CONTACTS)[100].id;
    portal.happens(touched(id, "changed behind the date"));
    equal(&portal, &database, "ids").await;
    let finished = run(&portal, &database, &["verify", "--level", "full", "--json"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    let told_once = told(&finished);
    assert_eq!(differences(&told_once), BTreeMap::from([(id, "stale".to_owned())]));
    assert_eq!(told_once["differences"][0]["what"], serde_json::json!(["name"]));
    let finished = run(&portal, &database, &["verify", "--level", "full", "--repair"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(finished.stdout.contains("repaired: 1 written, 0 deleted"), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_during_a_verification_is_not_reported() {
    let options =
        Options { contacts: 500, leads: 0, latency: Duration::from_millis(100), ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    backfilled(&portal, &database).await;
    for daemon in [false, true] {
        let settings = portal.settings(&database);
        let mut running = daemon.then(|| Run::b24mirror(&["run"]).config(&settings).spawn());
        if let Some(running) = &mut running {
            running.logged("mirroring portal").await;
            cycled(database.pool()).await;
        }
        let verifying = run(&portal, &database, &["verify", "--level", "full", "--json"]);
        let mut verifying = std::pin::pin!(verifying);
        let mut writes = 0;
        let finished = loop {
            tokio::select! {
                finished = &mut verifying => break finished,
                () = tokio::time::sleep(Duration::from_millis(50)) => {
                    portal.happens(change(2));
                    portal.happens(create(1));
                    writes += 3;
                }
            }
        };
        assert!(writes > 10, "something happened");
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        // Standard output begins with who does the work when a daemon does.
        if !daemon {
            assert_eq!(differences(&told(&finished)), BTreeMap::new());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_tells_the_same_table() {
    let (portal, database) = (contacts(1_000), database().await);
    backfilled(&portal, &database).await;
    seed(&portal, database.pool(), 3).await;
    let alone = run(&portal, &database, &["verify", "--level", "full"]).await;
    assert_eq!(alone.code, Some(2), "{alone:#?}");
    let mut daemon = portal.daemon(&database);
    daemon.logged("mirroring portal").await;
    let handed = run(&portal, &database, &["verify", "--level", "full"]).await;
    assert_eq!(handed.code, Some(2), "{handed:#?}");
    let table = |finished: &Finished| -> Vec<String> {
        let lines = finished.stdout.lines().skip_while(|line| !line.starts_with("contacts:"));
        lines.map(str::to_owned).collect()
    };
    assert!(handed.stdout.contains("handed over as request"), "{handed:#?}");
    assert_eq!(table(&alone).len(), 20, "{alone:#?}");
    assert_eq!(table(&handed), table(&alone));

    let json = run(&portal, &database, &["verify", "--level", "full", "--json"]).await;
    assert_eq!(json.code, Some(2), "{json:#?}");
    assert_eq!(differences(&told(&json)).len(), 18);
    let repaired = run(&portal, &database, &["verify", "--level", "full", "--repair"]).await;
    assert_eq!(repaired.code, Some(0), "{repaired:#?}");
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_lead_to_the_ids_where_they_differ() {
    let (portal, database) = (contacts(1_500), database().await);
    backfilled(&portal, &database).await;
    portal.reset_stats();
    let told_equal = equal(&portal, &database, "counts").await;
    assert_eq!(told_equal["compared"], 1_500);
    let stats = portal.stats();
    assert_eq!(stats.rows_full, 0, "no record is read to count");
    assert!(stats.counts <= 3, "{stats:?}");

    let ids: Vec<i64> = portal.truth(&CONTACTS).iter().map(|record| record.id).collect();
    let gone = portal.happens(Action::Delete {
        entity: Entity::Contacts,
        ids: vec![ids[5], ids[900]],
        count: 2,
    });
    let finished = run(&portal, &database, &["verify", "--level", "counts", "--json"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    let told = told(&finished);
    let expected: BTreeMap<i64, String> =
        gone.gone.iter().map(|id| (*id, "extra".to_owned())).collect();
    assert_eq!(differences(&told), expected);
    let (here, there) = (&told["ranges"][0]["mirror"], &told["ranges"][0]["portal"]);
    assert_eq!((here.as_i64(), there.as_i64()), (Some(1_500), Some(1_498)), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ids_of_many_records_take_few_requests() {
    let records: u64 = if long() { 1_000_000 } else { 20_000 };
    let (portal, database) = (contacts(records), database().await);
    backfilled(&portal, &database).await;
    portal.reset_stats();
    let told = equal(&portal, &database, "ids").await;
    assert_eq!(told["compared"], records);
    let requests = portal.stats().requests;
    // The empty page that ends the list, and a few that the limiter cut short at first.
    assert!(requests <= records / 2_500 + 5, "{requests} requests for {records} records");
    if long() {
        println!("{requests} requests for the IDs of {records} records");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_shows_too_little_is_not_repaired_into() {
    let (portal, database) = (contacts(1_000), database().await);
    backfilled(&portal, &database).await;
    let ids: Vec<i64> =
        portal.truth(&CONTACTS).iter().map(|record| record.id).step_by(10).collect();
    let count = ids.len() as u64;
    portal.happens(Action::Delete { entity: Entity::Contacts, ids, count });
    let finished = run(&portal, &database, &["verify", "--repair"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    let said = &finished.stdout;
    assert!(said.contains("100 different (100 extra)"), "{said}");
    assert!(said.contains("b24mirror sweep contacts"), "{said}");
    let tombstones = "select count(*) from bitrix24.contacts where deleted_at is not null";
    assert_eq!(value::<i64>(database.pool(), tombstones).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_errs_never_makes_a_difference_unseen() {
    let (portal, database) = (contacts(1_500), database().await);
    backfilled(&portal, &database).await;
    let seeds = seed(&portal, database.pool(), 4).await;
    let command_error = FaultKind::CommandError {
        status: 400,
        code: String::new(),
        description: "Failed to get list. General error.".to_owned(),
    };
    let faults = [
        FaultKind::Html { status: 502 },
        FaultKind::Cut { bytes: 900 },
        FaultKind::Empty,
        FaultKind::Reset,
        FaultKind::IgnoreFilter,
        FaultKind::DropMultiFields,
        command_error,
    ];
    let passing =
        faults.into_iter().map(|fault| Fault::times("crm.contact.list", 2, fault).after(1));
    let lasting = Fault::once("crm.contact.list", FaultKind::IgnoreFilter).after(1).forever();
    for fault in passing.chain([lasting]) {
        portal.fault(fault.clone());
        let verify = ["verify", "--level", "full", "--json"];
        let finished = run(&portal, &database, &verify).await;
        portal.happens(Action::ClearFaults);
        let told: Value = serde_json::from_str(&finished.stdout).unwrap();
        if told["verdict"] == "complete" {
            assert_eq!(finished.code, Some(2), "{fault:?}: {finished:#?}");
            assert_eq!(told["not_compared"], serde_json::json!([]));
            let found = differences(&told["entities"]["contacts"]);
            let expected: BTreeMap<i64, String> =
                seeds.iter().map(|(id, kind)| (*id, (*kind).to_owned())).collect();
            assert_eq!(found, expected, "{fault:?}");
        } else {
            // Whatever answers another question is not asked again.
            assert_eq!(fault.fault, FaultKind::IgnoreFilter, "{finished:#?}");
            assert_eq!(finished.code, Some(1), "{fault:?}: {finished:#?}");
            assert_eq!(told["not_compared"], serde_json::json!(["contacts"]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_compared_is_neither_equal_nor_different() {
    let (portal, database) = (contacts(200), database().await);
    let said = |finished: &Finished| {
        let last = finished.stdout.lines().last().unwrap_or_default().to_owned();
        (finished.code, last)
    };
    let not = "not compared to the end, so neither equal nor different: ";
    let never = run(&portal, &database, &["verify"]).await;
    assert_eq!(said(&never), (Some(1), format!("{not}contacts, leads")), "{never:#?}");

    backfilled(&portal, &database).await;
    let ids: Vec<i64> = portal.truth(&CONTACTS).iter().map(|record| record.id).collect();
    let damage = format!("delete from bitrix24.contacts where id = {}", ids[7]);
    sqlx::query(sqlx::AssertSqlSafe(damage)).execute(database.pool()).await.unwrap();
    let denied = FaultKind::CommandError {
        status: 400,
        code: String::new(),
        description: "Access denied.".to_owned(),
    };
    portal.fault(Fault::once("crm.lead.list", denied).forever());
    let one_denied = run(&portal, &database, &["verify"]).await;
    assert!(one_denied.stdout.contains("contacts: complete, 1 different"), "{one_denied:#?}");
    assert!(one_denied.stdout.contains("leads: stopped: "), "{one_denied:#?}");
    assert_eq!(said(&one_denied), (Some(1), format!("{not}leads")), "{one_denied:#?}");
    // A daemon says the same.
    let mut daemon = portal.daemon(&database);
    daemon.logged("mirroring portal").await;
    let handed = run(&portal, &database, &["verify", "leads"]).await;
    assert_eq!(said(&handed), (Some(1), format!("{not}leads")), "{handed:#?}");
}
