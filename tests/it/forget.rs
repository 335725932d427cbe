//! A forgotten record is in no table, and stays out while the portal has it.

use b24mirror::{
    entity::CONTACTS,
    simulator::{Action, Entity, Options},
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::{
    Database, Finished, Run, Terminal, TestPortal, database, eventually, tables::value, unlimited,
};

fn contacts(contacts: u64) -> TestPortal {
    TestPortal::with(Options { contacts, leads: 0, ..unlimited() })
}

fn settings(portal: &TestPortal, database: &Database) -> String {
    let more = "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
                [entities.leads]\nenabled = false\n[entities.contacts]\nhistory = true\n";
    portal.settings_with(database, more)
}

async fn run(portal: &TestPortal, database: &Database, arguments: &[&str]) -> Finished {
    Run::b24mirror(arguments).config(&settings(portal, database)).finish().await
}

async fn done(portal: &TestPortal, database: &Database, arguments: &[&str]) -> Finished {
    let finished = run(portal, database, arguments).await;
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
    finished
}

fn touch(portal: &TestPortal, id: i64, field: &str, value: Value) {
    let entity = Entity::Contacts;
    portal.happens(Action::Touch { entity, id, field: field.to_owned(), value, keep_date: false });
}

/// Every row of every table that names the ID as a number, but for how far passes have come.
async fn named(database: &Database, id: i64) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class \
         where relnamespace = 'bitrix24'::regnamespace and relkind = 'r' \
            and relname not in ('sync_checkpoints', 'backfill_segments', 'sweeps', \
                'sync_phone_numbers')",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select t::text from bitrix24.\"{table}\" t where t::text ~ '\\m{id}\\M'"
        )))
        .fetch_all(database.pool())
        .await
        .unwrap();
        rows.extend(found.into_iter().map(|row| format!("{table}: {row}")));
    }
    rows
}

/// An ID that no count and no value's ID equals by chance.
fn unmistakable(portal: &TestPortal) -> i64 {
    portal.truth(&CONTACTS).last().unwrap().id
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_forgotten_is_nowhere_and_stays_away() {
    let (portal, database) = (contacts(150), database().await);
    let forgotten = unmistakable(&portal);
    let other = portal.truth(&CONTACTS)[50].id;
    let name = forgotten.to_string();
    touch(&portal, forgotten, "BIRTHDATE", json!("not a day"));
    done(&portal, &database, &["backfill"]).await;
    touch(&portal, forgotten, "NAME", json!("zzforgotten"));
    done(&portal, &database, &["sync"]).await;
    assert!(named(&database, forgotten).await.len() > 3, "or the test proves nothing");

    let refused = run(&portal, &database, &["forget", "contacts", &name]).await;
    assert_eq!(refused.code, Some(64), "nobody can be asked: {refused:#?}");
    let told = done(&portal, &database, &["forget", "contacts", &name, "--yes", "--json"]).await;
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let removed = &told["entities"]["contacts"]["removed"];
    assert_eq!(removed["contacts"], 1, "{told:#}");
    assert!(removed["contact_changes"].as_u64().unwrap() > 0, "{told:#}");
    assert!(removed["sync_quarantine"].as_u64().unwrap() > 0, "{told:#}");
    let nowhere = |when: &'static str| {
        let database = &database;
        async move {
            assert_eq!(named(database, forgotten).await, Vec::<String>::new(), "{when}");
            let marks = "select count(*) from bitrix24.contacts where name = 'zzforgotten'";
            assert_eq!(value::<i64>(database.pool(), marks).await, 0, "{when}");
        }
    };
    nowhere("when it is forgotten").await;

    touch(&portal, forgotten, "POST", json!("zzforgotten"));
    touch(&portal, other, "POST", json!("remembered"));
    done(&portal, &database, &["sync"]).await;
    nowhere("after a cycle that met it").await;
    done(&portal, &database, &["backfill", "--restart"]).await;
    nowhere("after a backfill").await;
    let swept = done(&portal, &database, &["sweep"]).await;
    assert!(swept.stdout.contains("0 new, 0 changed, 0 deleted"), "{swept:#?}");
    nowhere("after a sweep").await;
    let others = portal.truth(&CONTACTS).len() - 1;
    for (level, counted) in
        [("counts", "counted"), ("ids", "IDs compared"), ("full", "records compared")]
    {
        let compared = done(&portal, &database, &["verify", "--level", level]).await;
        let says = format!("equal, {others} {counted}");
        assert!(compared.stdout.contains(&says), "{level}: {compared:#?}");
        done(&portal, &database, &["verify", "--level", level, "--repair"]).await;
    }
    nowhere("after comparisons").await;
    let again = done(&portal, &database, &["refresh", "contacts", &name]).await;
    assert!(again.stdout.contains("1 forgotten, and stay so"), "{again:#?}");
    nowhere("after it was asked for").await;

    portal.happens(Action::Delete { entity: Entity::Contacts, ids: vec![forgotten], count: 1 });
    done(&portal, &database, &["sweep"]).await;
    done(&portal, &database, &["verify", "--level", "full"]).await;
    nowhere("after it was deleted in the portal").await;
    let rows = "select count(*) from bitrix24.forgotten where length(hash) = 32";
    assert_eq!(value::<i64>(database.pool(), rows).await, 1);
    let post = format!("select post from bitrix24.contacts where id = {other}");
    assert_eq!(value::<String>(database.pool(), &post).await, "remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_daemon_forgets_and_names_nobody() {
    let (portal, database) = (contacts(120), database().await);
    done(&portal, &database, &["backfill"]).await;
    let forgotten = unmistakable(&portal);
    let name = forgotten.to_string();
    let mut daemon = Run::b24mirror(&["run"]).config(&settings(&portal, &database)).spawn();
    daemon.logged("mirroring portal").await;
    // What was asked about it before is cleared of it, too.
    done(&portal, &database, &["refresh", "contacts", &name]).await;
    let told = done(&portal, &database, &["forget", "contacts", &name, "--yes"]).await;
    assert!(told.stdout.contains("handed over as request"), "{told:#?}");
    assert!(told.stdout.contains("contacts: complete, 1 forgotten"), "{told:#?}");
    touch(&portal, forgotten, "POST", json!("zzforgotten"));
    let after = portal.truth(&CONTACTS)[3].id;
    touch(&portal, after, "POST", json!("seen"));
    eventually("a later change is there", || async {
        let post =
            format!("select coalesce(post, '') = 'seen' from bitrix24.contacts where id = {after}");
        value::<bool>(database.pool(), &post).await
    })
    .await;
    assert_eq!(named(&database, forgotten).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_a_yes_is_asked_for() {
    let (portal, database) = (contacts(60), database().await);
    done(&portal, &database, &["backfill"]).await;
    let id = unmistakable(&portal);
    let arguments = ["forget", "contacts", &id.to_string()].map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let stored = format!("select count(*) from bitrix24.contacts where id = {id}");
    for (answer, left) in [("n\r", 1_i64), ("y\r", 0)] {
        let mut terminal = Terminal::b24mirror(&arguments, &settings(&portal, &database));
        terminal.shows_after(0, "[y/N]").await;
        terminal.types(answer);
        terminal.finish().await;
        assert_eq!(value::<i64>(database.pool(), &stored).await, left, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_forgotten_is_not_among_those_whom_the_webhook_may_see() {
    let (portal, database) = (contacts(150), database().await);
    done(&portal, &database, &["backfill"]).await;
    let ids: Vec<i64> = portal.truth(&CONTACTS).iter().map(|record| record.id).collect();
    let (one, other) = (ids[3].to_string(), ids[4].to_string());
    done(&portal, &database, &["forget", "contacts", &one, &other, "--yes"]).await;
    let gone = ids[60..120].to_vec();
    portal.happens(Action::Delete { entity: Entity::Contacts, ids: gone, count: 60 });
    let refused = run(&portal, &database, &["sweep"]).await;
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(refused.stdout.contains("may see only 88 of 148 records"), "{refused:#?}");
}
