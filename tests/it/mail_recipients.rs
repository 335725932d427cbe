//! The mail address book: read as a whole, kept equal, and never emptied by a reading that
//! proves nothing.

use std::time::Duration;

use b24mirror::simulator::{Action, ApplicationEvent, Fault, FaultKind, Options};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    oauth,
    support::{
        Database, Finished, Process, Run, TestPortal, assert_equal, database, eventually, http,
        recipients::{self, mirrored as book},
        tables::{row_versions, value, without_bookkeeping},
        unlimited,
    },
};

const ENABLED: &str = "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
                       [entities.mail_recipients]\nenabled = true\n";

const METHOD: &str = "mail.recipient.listcontacts";

/// A portal with an address book of several pages.
fn with_book(recipients: u64) -> TestPortal {
    TestPortal::with(Options { contacts: 40, leads: 20, recipients, ..unlimited() })
}

fn settings(portal: &TestPortal, database: &Database) -> String {
    portal.settings_with(database, ENABLED)
}

async fn command(portal: &TestPortal, database: &Database, arguments: &[&str]) -> Finished {
    Run::b24mirror(arguments).config(&settings(portal, database)).finish().await
}

/// A command that has to succeed.
async fn succeeds(portal: &TestPortal, database: &Database, arguments: &[&str]) -> Finished {
    let finished = command(portal, database, arguments).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finished
}

/// A mirror of the address book alone.
async fn mirrored(portal: &TestPortal) -> Database {
    let database = database().await;
    succeeds(portal, &database, &["backfill", "mail_recipients"]).await;
    database
}

/// Every value of every entry, held against the portal's.
async fn assert_same_book(portal: &TestPortal, pool: &PgPool) {
    assert_eq!(book(pool).await, recipients::truth(portal));
}

async fn tombstones(pool: &PgPool) -> i64 {
    value(pool, "select count(*) from bitrix24.mail_recipients where deleted_at is not null").await
}

/// Kind, verdict and counts of the latest run of the address book.
async fn last_run(pool: &PgPool) -> (String, String, i64, i64, i64) {
    sqlx::query_as(
        "select kind, verdict, inserted, updated, deleted from bitrix24.sync_runs \
         where entity = 'mail_recipients' order by id desc limit 1",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn execute(pool: &PgPool, statement: &'static str) {
    assert!(sqlx::query(statement).execute(pool).await.unwrap().rows_affected() > 0);
}

/// Does something after so many pages of the address book.
fn between_pages(portal: &TestPortal, pages: u64, then: Action) {
    portal.happens(Action::AfterPages { pages, then: Box::new(then) });
}

/// How the address book stands, by `status`, and the exit code.
async fn status(portal: &TestPortal, database: &Database) -> (Value, Option<i32>) {
    // Without a daemon, records would be behind after three of the intervals that tests have.
    let settings = settings(portal, database).replace("interval = \"1s\"", "interval = \"10m\"");
    let finished = Run::b24mirror(&["status", "--json"]).config(&settings).finish().await;
    let told: Value = serde_json::from_str(&finished.stdout).unwrap();
    let entities = told["entities"].as_array().unwrap();
    let of_book = entities.iter().find(|entity| entity["entity"] == "mail_recipients");
    (of_book.unwrap().clone(), finished.code)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_portal_pages_its_address_book_as_the_vendor_says() {
    let portal = with_book(450);
    let v3 = portal.webhook_url().replacen("/rest/", "/rest/api/", 1);
    let ask = async |body: &str| {
        let (status, answer) = http::post(&format!("{v3}{METHOD}"), body).await;
        (status, serde_json::from_slice::<Value>(&answer).unwrap())
    };
    let ids = |answer: &Value| -> Vec<i64> {
        let items = answer["result"]["items"].as_array().unwrap();
        items.iter().map(|item| item["id"].as_i64().unwrap()).collect()
    };
    let all: Vec<i64> = portal.recipients().iter().rev().map(|one| one.id).collect();

    let (status, answer) = ask("{}").await;
    assert_eq!((status, ids(&answer)), (200, all[..50].to_vec()));
    assert!(answer.get("total").is_none() && answer.get("next").is_none(), "{answer}");
    for (pagination, rows) in [
        (r#"{"page":2,"limit":20}"#, 20..40),
        (r#"{"page":2,"limit":20,"offset":0}"#, 20..40),
        (r#"{"limit":900,"offset":"100"}"#, 100..300),
        (r#"{"offset":440}"#, 440..450),
        (r#"{"offset":450}"#, 450..450),
    ] {
        let (status, answer) = ask(&format!(r#"{{"pagination":{pagination}}}"#)).await;
        assert_eq!((status, ids(&answer)), (200, all[rows].to_vec()), "{pagination}");
    }
    for pagination in [r#"{"limit":"abc"}"#, r#"{"limit":0}"#, r#"{"page":[]}"#] {
        let (status, answer) = ask(&format!(r#"{{"pagination":{pagination}}}"#)).await;
        let code = "BITRIX_REST_V3_EXCEPTION_INVALIDPAGINATIONEXCEPTION";
        assert_eq!((status, answer["error"]["code"].as_str()), (400, Some(code)));
        assert!(answer["error"]["message"].as_str().unwrap().contains(pagination), "{answer}");
    }
    let (status, answer) = ask("{").await;
    let code = "BITRIX_REST_V3_EXCEPTION_INVALIDJSONEXCEPTION";
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(code)));

    // Each dialect knows its own methods only.
    let (status, answer) = http::post(&format!("{}{METHOD}", portal.webhook_url()), "{}").await;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((status, &answer["error"]), (404, &json!("ERROR_METHOD_NOT_FOUND")));
    let (status, answer) = http::post(&format!("{v3}crm.contact.list"), "{}").await;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let code = "BITRIX_REST_V3_EXCEPTION_METHODNOTFOUNDEXCEPTION";
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(code)));
}

#[tokio::test(flavor = "multi_thread")]
async fn backfill_incremental_and_verify_keep_every_value_equal() {
    let portal = with_book(730);
    let database = database().await;
    let pool = database.pool();
    let finished = succeeds(&portal, &database, &["backfill"]).await;
    assert!(
        finished.stdout.contains("mail_recipients: complete, 730 read, 730 new"),
        "{finished:#?}"
    );
    assert_same_book(&portal, pool).await;
    assert_equal(&portal, pool).await;
    assert_eq!(last_run(pool).await, ("backfill".into(), "complete".into(), 730, 0, 0));
    for level in ["counts", "ids", "full"] {
        let finished =
            succeeds(&portal, &database, &["verify", "mail_recipients", "--level", level]).await;
        assert!(finished.stdout.contains("equal, 730"), "{finished:#?}");
    }

    let versions = without_bookkeeping(row_versions(pool).await);
    let requests = portal.stats().requests_by_method[METHOD];
    succeeds(&portal, &database, &["sync", "mail_recipients"]).await;
    assert_eq!(without_bookkeeping(row_versions(pool).await), versions, "nothing to write");
    // 730 rows in steps of 150, the end, and the front once more.
    assert_eq!(portal.stats().requests_by_method[METHOD] - requests, 7);

    let ids: Vec<i64> = portal.recipients().iter().map(|one| one.id).collect();
    let added = portal.happens(Action::AddRecipient {
        email: "  Новый.Клиент@Example.ORG".into(),
        name: "Нуль \0 и \"кавычки\"".into(),
    });
    portal.happens(Action::ChangeRecipient {
        id: ids[3],
        email: Some("changed@example.org".into()),
        name: Some("Changed".into()),
    });
    portal.happens(Action::TouchRecipient { id: ids[0] });
    portal.happens(Action::RemoveRecipient { ids: ids[10..13].to_vec() });
    let finished = succeeds(&portal, &database, &["sync", "mail_recipients"]).await;
    assert!(finished.stdout.contains("1 new, 1 changed, 726 unchanged"), "{finished:#?}");
    // A cycle deletes nothing, as with every other entity.
    assert_eq!((tombstones(pool).await, book(pool).await.len()), (0, 731));
    let (email, name): (String, String) =
        sqlx::query_as("select email, name from bitrix24.mail_recipients where id = $1")
            .bind(added.ids[0])
            .fetch_one(pool)
            .await
            .unwrap();
    assert_eq!((&*email, &*name), ("  Новый.Клиент@Example.ORG", "Нуль  и \"кавычки\""));

    let finished = succeeds(&portal, &database, &["sweep", "mail_recipients"]).await;
    assert!(finished.stdout.contains("728 listed, 0 new, 0 changed, 3 deleted"), "{finished:#?}");
    assert_eq!((tombstones(pool).await, book(pool).await.len()), (3, 728));
    succeeds(&portal, &database, &["verify", "mail_recipients", "--level", "full"]).await;

    // Who is there again comes to life again.
    portal.happens(Action::ChangeRecipient {
        id: added.ids[0],
        email: None,
        name: Some("N".into()),
    });
    succeeds(&portal, &database, &["sync", "mail_recipients"]).await;
    assert_same_book(&portal, pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_moves_while_the_list_is_read_is_neither_missed_nor_deleted() {
    let portal = with_book(900);
    let database = mirrored(&portal).await;
    let pool = database.pool();
    let ids: Vec<i64> = portal.recipients().iter().map(|one| one.id).collect();
    // The last in the list, hence unread by then, changes and moves to the front; one that was
    // read goes, so that nothing seems to have shifted.
    let oldest = ids[0];
    portal.happens(Action::ChangeRecipient { id: oldest, email: None, name: Some("moved".into()) });
    between_pages(&portal, 3, Action::TouchRecipient { id: oldest });
    between_pages(&portal, 3, Action::RemoveRecipient { ids: vec![ids[880]] });
    succeeds(&portal, &database, &["sweep", "mail_recipients"]).await;
    succeeds(&portal, &database, &["sweep", "mail_recipients"]).await;
    assert_same_book(&portal, pool).await;
    assert_eq!(tombstones(pool).await, 1);

    // In the first of two readings somebody moves; in the second it is there.
    portal.happens(Action::RemoveRecipient { ids: vec![ids[5]] });
    between_pages(&portal, 4, Action::TouchRecipient { id: ids[1] });
    between_pages(&portal, 10, Action::TouchRecipient { id: ids[2] });
    succeeds(&portal, &database, &["sweep", "mail_recipients"]).await;
    assert_same_book(&portal, pool).await;
    assert_eq!(tombstones(pool).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_reading_stores_what_it_brought_and_deletes_nothing() {
    let portal = with_book(700);
    let database = mirrored(&portal).await;
    let pool = database.pool();
    let ids: Vec<i64> = portal.recipients().iter().map(|one| one.id).collect();
    portal.happens(Action::RemoveRecipient { ids: ids[..4].to_vec() });
    let newest = *ids.last().unwrap();
    portal.happens(Action::ChangeRecipient { id: newest, email: None, name: Some("first".into()) });
    let before = value::<f64>(
        pool,
        "select extract(epoch from completed_at)::float8 from bitrix24.sync_checkpoints",
    )
    .await;

    // The third page never comes.
    let code = "BITRIX_REST_V3_EXCEPTION_INVALIDPAGINATIONEXCEPTION".to_owned();
    let refused = FaultKind::Status { status: 400, code, description: "?".to_owned() };
    portal.fault(Fault::once(METHOD, refused).after(2));
    let finished = command(&portal, &database, &["sweep", "mail_recipients"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    assert_eq!((tombstones(pool).await, book(pool).await.len()), (0, 700));
    assert_eq!(book(pool).await[&newest].1.as_deref(), Some("first"));
    let (kind, verdict, ..) = last_run(pool).await;
    assert_eq!((&*kind, &*verdict), ("sweep", "stopped"));
    let after = value::<f64>(
        pool,
        "select extract(epoch from completed_at)::float8 from bitrix24.sync_checkpoints",
    )
    .await;
    assert!((before - after).abs() < 1e-6, "no reading was complete");

    // After the first page of every attempt more entries go than two pages overlap.
    for (page, gone) in [1, 3, 5, 7].into_iter().zip(ids.rchunks(60)) {
        between_pages(&portal, page, Action::RemoveRecipient { ids: gone.to_vec() });
    }
    let finished = command(&portal, &database, &["sync", "mail_recipients"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    assert!(finished.stdout.contains("incomplete: the reading of"), "{finished:#?}");
    assert_eq!((tombstones(pool).await, book(pool).await.len()), (0, 700));
    let (standing, code) = status(&portal, &database).await;
    assert_eq!((&standing["state"], code), (&json!("behind"), Some(2)), "{standing:#}");
    assert!(standing["reason"].as_str().unwrap().contains("4 times in a row"), "{standing:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_disappearance_is_refused_until_a_person_accepts_it() {
    let portal = with_book(300);
    let database = database().await;
    succeeds(&portal, &database, &["backfill"]).await;
    let pool = database.pool();
    let ids: Vec<i64> = portal.recipients().iter().map(|one| one.id).collect();
    portal.happens(Action::RemoveRecipient { ids: ids[..40].to_vec() });
    let finished = command(&portal, &database, &["sweep", "mail_recipients"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    assert!(finished.stdout.contains("40 of 300 entries are gone"), "{finished:#?}");
    assert_eq!(tombstones(pool).await, 0);
    let (standing, code) = status(&portal, &database).await;
    assert_eq!((&standing["state"], code), (&json!("fresh"), Some(2)), "{standing:#}");
    let run = standing["refused_sweep"]["run"].as_i64().unwrap();
    assert_eq!(standing["refused_sweep"]["records"], 40);

    // Cycles go on and leave the decision to people; only what was refused is accepted.
    succeeds(&portal, &database, &["sync", "mail_recipients"]).await;
    let other = command(&portal, &database, &["sweep", "mail_recipients", "--accept", "1"]).await;
    assert_eq!((other.code, tombstones(pool).await), (Some(2), 0), "{other:#?}");
    let accept = run.to_string();
    let finished =
        succeeds(&portal, &database, &["sweep", "mail_recipients", "--accept", &accept]).await;
    assert!(finished.stdout.contains("40 deleted that run"), "{finished:#?}");
    assert_same_book(&portal, pool).await;
    let (standing, code) = status(&portal, &database).await;
    assert_eq!((standing.get("refused_sweep"), code), (None, Some(0)), "{standing:#}");

    // The few that are left are not deleted at once either.
    let left: Vec<i64> = portal.recipients().iter().map(|one| one.id).collect();
    portal.happens(Action::RemoveRecipient { ids: left });
    let finished = command(&portal, &database, &["sweep", "mail_recipients"]).await;
    assert!(finished.stdout.contains("the address book came empty"), "{finished:#?}");
    assert_eq!(book(pool).await.len(), 260);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_seeded_differences_and_repairs_exactly_those() {
    let portal = with_book(400);
    let database = mirrored(&portal).await;
    let pool = database.pool();
    execute(
        pool,
        "update bitrix24.mail_recipients set name = 'wrong' where id in \
                   (select id from bitrix24.mail_recipients order by id limit 2)",
    )
    .await;
    execute(
        pool,
        "delete from bitrix24.mail_recipients where id in \
                   (select id from bitrix24.mail_recipients order by id desc limit 3)",
    )
    .await;
    execute(
        pool,
        "update bitrix24.mail_recipients set deleted_at = synced_at where id = \
                   (select id from bitrix24.mail_recipients order by id offset 9 limit 1)",
    )
    .await;
    execute(
        pool,
        "update bitrix24.mail_recipients set content_hash = 1 where id = \
                   (select id from bitrix24.mail_recipients order by id offset 19 limit 1)",
    )
    .await;
    execute(
        pool,
        "insert into bitrix24.mail_recipients \
                   (id, email, custom_fields, content_hash, synced_at) \
                   values (900000, 'nobody@example.org', '{}', 7, now())",
    )
    .await;

    let verify = ["verify", "mail_recipients", "--level"];
    let closely =
        |level: &'static str, more: &'static [&str]| [&verify[..], &[level], more].concat();
    let finished = command(&portal, &database, &closely("ids", &["--json"])).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    let found: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(found["entities"]["mail_recipients"]["different"], 5, "{found:#}");

    let finished = command(&portal, &database, &closely("full", &[])).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    let kinds = "8 different (3 missing, 1 extra, 2 stale, 1 hash wrong, 1 tombstone wrong)";
    assert!(finished.stdout.contains(kinds), "{finished:#?}");

    let finished = succeeds(&portal, &database, &closely("full", &["--repair"])).await;
    assert!(finished.stdout.contains("7 written, 1 deleted"), "{finished:#?}");
    assert_same_book(&portal, pool).await;
    assert_eq!(tombstones(pool).await, 1);
    let finished = succeeds(&portal, &database, &closely("full", &[])).await;
    assert!(finished.stdout.contains("equal, 400"), "{finished:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_set_aside_and_never_takes_others_with_it() {
    let portal = with_book(60);
    let database = mirrored(&portal).await;
    let pool = database.pool();
    let ids: Vec<i64> = portal.recipients().iter().map(|one| one.id).collect();
    let garble = |id, row: Value| portal.happens(Action::GarbleRecipient { id, row: Some(row) });
    garble(ids[1], json!({ "id": ids[1], "email": { "a": 1 }, "name": "unreadable", "new": [1] }));
    // Twice the same ID: the later copy counts.
    garble(ids[20], json!({ "id": ids[19], "email": "earlier@example.org", "name": "earlier" }));
    succeeds(&portal, &database, &["sync", "mail_recipients"]).await;
    let (email, name, custom): (Option<String>, String, Value) = sqlx::query_as(
        "select email, name, custom_fields from bitrix24.mail_recipients where id = $1",
    )
    .bind(ids[1])
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!((email, &*name, custom), (None, "unreadable", json!({ "new": [1] })));
    let noted: (i64, String, String) = sqlx::query_as(
        "select record_id, field, raw from bitrix24.sync_quarantine where resolved_at is null",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(noted, (ids[1], "EMAIL".to_owned(), r#"{"a":1}"#.to_owned()));
    let truth = portal.recipients();
    assert_eq!(book(pool).await[&ids[19]].0.as_deref(), Some(&*truth[19].email));

    // Rows without an ID may be those that are missing, so nothing is deleted.
    garble(ids[30], json!({ "id": null, "email": "nobody@example.org", "name": "?" }));
    let finished = command(&portal, &database, &["sweep", "mail_recipients"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    assert!(finished.stdout.contains("no usable ID"), "{finished:#?}");
    assert_eq!(tombstones(pool).await, 0);
    let nameless = "select count(*) from bitrix24.sync_quarantine where record_id is null";
    assert_eq!(value::<i64>(pool, nameless).await, 1);

    // Listed as they should be, they are all right again.
    for id in [ids[1], ids[20], ids[30]] {
        portal.happens(Action::GarbleRecipient { id, row: None });
    }
    succeeds(&portal, &database, &["refresh", "--quarantined", "mail_recipients"]).await;
    assert_same_book(&portal, pool).await;
    let (standing, _) = status(&portal, &database).await;
    assert_eq!(standing["records"], 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_stops_the_address_book_and_nothing_else() {
    let portal = with_book(30);
    portal.happens(Action::Scopes {
        scopes: ["crm", "user", "department"].map(str::to_owned).to_vec(),
    });
    let database = database().await;
    let checked = command(&portal, &database, &["check"]).await;
    assert_eq!(checked.code, Some(1), "{checked:#?}");
    let told = checked.stdout.lines().find(|line| line.contains("mail_recipients")).unwrap();
    assert!(told.contains("FAILED") && told.contains("scope `mail`"), "{told}");

    let finished = command(&portal, &database, &["backfill"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    assert!(finished.stdout.contains("mail_recipients: stopped"), "{finished:#?}");
    assert!(finished.stdout.contains("contacts: complete"), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
    let (standing, code) = status(&portal, &database).await;
    assert_eq!((&standing["state"], code), (&json!("stopped"), Some(2)), "{standing:#}");
    assert!(standing["reason"].as_str().unwrap().contains("scope `mail`"), "{standing:#}");

    // Nobody who does not ask for it needs the scope.
    let plain = portal.command(&database, &["check"]).await;
    assert_eq!(plain.code, Some(0), "{plain:#?}");
    assert!(!plain.stdout.contains("mail_recipients"), "{plain:#?}");

    portal.happens(Action::Scopes { scopes: ["crm", "mail"].map(str::to_owned).to_vec() });
    let checked = command(&portal, &database, &["check"]).await;
    assert!(checked.stdout.contains("ok       mail_recipients: readable"), "{checked:#?}");
    succeeds(&portal, &database, &["sync", "mail_recipients"]).await;
    assert_same_book(&portal, database.pool()).await;
}

/// The daemon, with the address book read every second.
fn daemon(portal: &TestPortal, database: &Database) -> Process {
    let settings = format!("{}interval = \"1s\"\n", settings(portal, database));
    Run::b24mirror(&["run"]).config(&settings).spawn()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_keeps_it_fresh_sweeps_by_itself_and_does_what_people_ask() {
    let portal = with_book(260);
    let database = database().await;
    let pool = database.pool();
    let mut process = daemon(&portal, &database);
    process.logged("mirroring").await;
    let is_same = async || {
        let there = "select to_regclass('bitrix24.mail_recipients') is not null";
        if !value::<bool>(pool, there).await {
            return false;
        }
        let ids: Vec<i64> = portal.recipients().iter().map(|one| one.id).collect();
        book(pool).await.into_keys().eq(ids)
    };
    eventually("the address book is there", is_same).await;
    assert_same_book(&portal, pool).await;

    let ids: Vec<i64> = portal.recipients().iter().map(|one| one.id).collect();
    portal.happens(Action::RemoveRecipient { ids: ids[7..9].to_vec() });
    portal.happens(Action::AddRecipient { email: "new@example.org".into(), name: "New".into() });
    eventually("the daemon has swept", is_same).await;
    assert_eq!(tombstones(pool).await, 2);
    assert_same_book(&portal, pool).await;

    for arguments in [
        &["sync", "mail_recipients"][..],
        &["backfill", "mail_recipients", "--restart"],
        &["verify", "mail_recipients", "--level", "full"],
        &["sweep"],
    ] {
        let finished = succeeds(&portal, &database, arguments).await;
        assert!(finished.stdout.contains("mail_recipients: complete"), "{finished:#?}");
    }
    let (standing, code) = status(&portal, &database).await;
    assert_eq!((&standing["state"], code), (&json!("fresh"), Some(0)), "{standing:#}");

    succeeds(&portal, &database, &["pause", "mail_recipients"]).await;
    process.logged("an entity rests").await;
    portal.happens(Action::AddRecipient { email: "late@example.org".into(), name: String::new() });
    let refused = command(&portal, &database, &["sync", "mail_recipients"]).await;
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(!is_same().await, "a paused entity is not read");
    succeeds(&portal, &database, &["resume", "mail_recipients"]).await;
    eventually("it is read again", is_same).await;
    process.signal(Signal::SIGTERM);
    assert_eq!(process.finish().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn its_fields_are_excluded_and_hashed_as_those_of_records_are() {
    let portal = with_book(50);
    let database = mirrored(&portal).await;
    let pool = database.pool();
    let private = format!(
        "{}exclude_fields = [\"NAME\"]\nhash_fields = [\"EMAIL\"]\nhistory = true\n",
        settings(&portal, &database)
    );
    let run = async |arguments: &[&str]| {
        let finished = Run::b24mirror(arguments).config(&private).finish().await;
        assert_eq!(finished.code, Some(0), "{finished:#?}");
    };
    run(&["sync", "mail_recipients"]).await;
    let clear = "select count(*) from bitrix24.mail_recipients \
                 where name is not null or address !~ '^[0-9a-f]{32}$' or email <> address";
    assert_eq!(value::<i64>(pool, clear).await, 0);
    run(&["verify", "mail_recipients", "--level", "full"]).await;
    let ids: Vec<i64> = portal.recipients().iter().map(|one| one.id).collect();
    portal.happens(Action::ChangeRecipient {
        id: ids[4],
        email: Some("secret@example.org".into()),
        name: None,
    });
    run(&["sync", "mail_recipients"]).await;
    let told: Vec<(String, Option<String>)> =
        sqlx::query_as("select kind, field from bitrix24.mail_recipient_changes")
            .fetch_all(pool)
            .await
            .unwrap();
    assert_eq!(told, [("changed".to_owned(), Some("EMAIL".to_owned()))]);
    let forget = ids[5].to_string();
    run(&["forget", "mail_recipients", &forget, "--yes"]).await;
    run(&["backfill", "mail_recipients"]).await;
    assert_eq!(book(pool).await.len(), 49);
    run(&["verify", "mail_recipients"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_reads_the_address_book_of_its_user() {
    let (portal, database) = (with_book(450), database().await);
    let settings = oauth::settings(&portal, &database);
    let settings = format!("{settings}[entities.mail_recipients]\nenabled = true\n");
    for renewals in [1, 2] {
        let reading = Run::b24mirror(&["backfill", "mail_recipients"]).config(&settings);
        let finished = reading.finish().await;
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        assert_same_book(&portal, database.pool()).await;
        assert_eq!(portal.stats().token_requests, renewals);
        portal.happens(Action::Application { event: ApplicationEvent::Expire });
    }
}
