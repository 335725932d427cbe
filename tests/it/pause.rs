//! `pause` and `resume`: a paused entity is neither read nor written, and misses nothing.

use std::time::Duration;

use b24mirror::{
    entity::Entity,
    simulator::{self, Action, Options},
};
use serde_json::Value;

use crate::support::{
    Database, Finished, Process, Run, TestPortal, assert_equal,
    cycles::cycled,
    database, equal, eventually,
    tables::{hold_a_commit, let_the_lease_run_out, row_versions, value},
    unlimited,
};

/// How often the contacts have been listed.
fn listed(portal: &TestPortal) -> u64 {
    let (entity, stats) = (Entity::BY_DEFAULT[0], portal.stats());
    stats.commands.get(entity.classic.unwrap().list).copied().unwrap_or_default()
}

async fn mirroring(portal: &TestPortal, database: &Database) -> Process {
    let mut daemon = portal.daemon(database);
    daemon.logged("mirroring portal").await;
    daemon
}

async fn status(portal: &TestPortal, database: &Database) -> (Finished, Value) {
    let finished = portal.command(database, &["status", "--json"]).await;
    let contacts = serde_json::from_str::<Value>(&finished.stdout).unwrap()["entities"][0].clone();
    (finished, contacts)
}

fn rename(portal: &TestPortal, place: usize, name: &str) {
    let id = portal.truth(Entity::BY_DEFAULT[0])[place].id;
    let (field, value) = ("NAME".to_owned(), name.into());
    let entity = simulator::Entity::Contacts;
    portal.happens(Action::Touch { entity, id, field, value, keep_date: false });
}

fn line<'a>(finished: &'a Finished, entity: &str) -> &'a str {
    let begins = |line: &&str| line.starts_with(entity);
    finished.stdout.lines().find(begins).unwrap_or_else(|| panic!("{finished:#?}"))
}

/// The tables of the contacts, down to the place of every row.
async fn contacts(database: &Database) -> Vec<(String, String)> {
    let versions = row_versions(database.pool()).await.into_iter();
    versions.filter(|(table, _)| table.starts_with("contact")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_entity_rests_while_the_other_goes_on_and_catches_up_when_resumed() {
    let (portal, database) = (TestPortal::small(), database().await);
    portal.backfilled(&database).await;
    let mut daemon = mirroring(&portal, &database).await;
    cycled(database.pool()).await;

    let paused = portal.command(&database, &["pause", "contacts"]).await;
    assert_eq!(paused.code, Some(0), "{paused:#?}");
    assert!(line(&paused, "contacts").contains("`b24mirror resume contacts`"), "{paused:#?}");
    assert!(paused.stdout.contains("takes note within two seconds"), "{paused:#?}");
    daemon.logged("an entity rests").await;
    let again = portal.command(&database, &["pause", "contacts"]).await;
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert!(line(&again, "contacts").contains("paused already, since 20"), "{again:#?}");

    let (before, rows) = (listed(&portal), contacts(&database).await);
    rename(&portal, 3, "renamed while paused");
    for (entity, visible_after) in
        [(simulator::Entity::Contacts, 2.0), (simulator::Entity::Leads, 0.0)]
    {
        portal.happens(Action::Create { entity, count: 20, visible_after });
    }
    let leads = portal.truth(Entity::BY_DEFAULT[1]).len();
    let arrived = format!("select count(*) = {leads} from bitrix24.leads");
    eventually("the leads go on", || async { value::<bool>(database.pool(), &arrived).await })
        .await;

    let (seen, json) = status(&portal, &database).await;
    assert_eq!((seen.code, &json["state"]), (Some(2), &Value::from("paused")), "{seen:#?}");
    assert!(json["since"].is_string() && json["by"].is_string(), "{json}");
    let text = portal.command(&database, &["status"]).await;
    assert!(line(&text, "contacts").contains("paused since 20"), "{text:#?}");
    for arguments in [&["sync"][..], &["backfill", "--restart", "contacts"][..]] {
        let asked = portal.command(&database, arguments).await;
        assert_eq!(asked.code, Some(2), "{asked:#?}");
        let told = line(&asked, "contacts");
        assert!(told.starts_with("contacts: stopped: paused since 20"), "{told}");
        assert!(told.contains("`b24mirror resume contacts`"), "{told}");
        let others = asked.stdout.contains("leads: complete");
        assert_eq!(others, arguments == ["sync"], "{asked:#?}");
    }
    assert_eq!(listed(&portal), before, "the portal is not asked about them");
    assert_eq!(contacts(&database).await, rows, "nothing of them is written");

    let resumed = portal.command(&database, &["resume", "contacts"]).await;
    assert_eq!(resumed.code, Some(0), "{resumed:#?}");
    assert!(line(&resumed, "contacts").contains("resumed; it was paused since 20"), "{resumed:#?}");
    equal::equal_within(&portal, database.pool(), Duration::from_mins(1)).await;
    eventually("it is fresh again", || async {
        let (seen, json) = status(&portal, &database).await;
        seen.code == Some(0) && json["state"] == "fresh"
    })
    .await;
    let again = portal.command(&database, &["resume", "contacts"]).await;
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert!(line(&again, "contacts").contains("is not paused"), "{again:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_backfill_ends_its_transaction_and_goes_on_from_there_in_another_process() {
    let latency = Duration::from_millis(300);
    let options = Options { contacts: 10_000, leads: 0, latency, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    let mut daemon = mirroring(&portal, &database).await;
    let lock = hold_a_commit(database.pool()).await;
    let stored = "select coalesce(sum(rows_read), 0)::bigint from bitrix24.backfill_segments";
    let before: i64 = value(database.pool(), stored).await;
    let paused = portal.command(&database, &["pause", "contacts"]).await;
    assert_eq!(paused.code, Some(0), "{paused:#?}");
    daemon.logged("an entity rests").await;
    lock.rollback().await.unwrap();
    let run = "select concat(verdict, ': ', message) from bitrix24.sync_runs \
               where kind = 'backfill' order by id desc limit 1";
    eventually("the run is closed", || async {
        value::<String>(database.pool(), run).await.starts_with("incomplete: paused since 20")
    })
    .await;
    let after: i64 = value(database.pool(), stored).await;
    assert!(after > before, "the transaction in hand came to its end: {before}, {after}");

    daemon.kill().await;
    let_the_lease_run_out(database.pool()).await;
    let asked = listed(&portal);
    let mut daemon = mirroring(&portal, &database).await;
    daemon.logged("an entity rests").await;
    let sync = portal.command(&database, &["sync", "contacts"]).await;
    assert!(line(&sync, "contacts").starts_with("contacts: stopped: paused"), "{sync:#?}");
    assert_eq!(listed(&portal), asked, "the pause outlives its process");

    portal.command(&database, &["resume", "contacts"]).await;
    eventually("the backfill is complete", || async {
        value::<String>(database.pool(), run).await.starts_with("complete")
    })
    .await;
    let read = "select sum(read)::bigint from bitrix24.sync_runs where kind = 'backfill'";
    let read: i64 = value(database.pool(), read).await;
    // At most the pages by which open ranges were about to be cut come again.
    assert!((10_000..10_400).contains(&read), "it went on from where it was: {read}");
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_process_that_mirrors_a_pause_holds_for_every_command() {
    let (portal, database) = (TestPortal::small(), database().await);
    portal.backfilled(&database).await;
    let paused = portal.command(&database, &["pause", "contacts"]).await;
    assert_eq!(paused.code, Some(0), "{paused:#?}");
    assert!(paused.stdout.contains("no process is mirroring now"), "{paused:#?}");
    let before = listed(&portal);
    rename(&portal, 5, "renamed while paused");
    for arguments in [&["sync"][..], &["backfill"][..], &["backfill", "--restart"][..]] {
        let asked = portal.command(&database, arguments).await;
        assert_eq!(asked.code, Some(2), "{asked:#?}");
        assert!(line(&asked, "contacts").starts_with("contacts: stopped: paused"), "{asked:#?}");
        assert!(line(&asked, "leads").starts_with("leads: complete"), "{asked:#?}");
    }
    assert_eq!(listed(&portal), before);
    portal.command(&database, &["resume", "contacts", "leads"]).await;
    let synced = portal.command(&database, &["sync"]).await;
    assert_eq!(synced.code, Some(0), "{synced:#?}");
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_the_work_itself_notices_a_pause_as_well() {
    let latency = Duration::from_millis(500);
    let options = Options { contacts: 20_000, leads: 0, latency, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    let settings = portal.settings(&database);
    let command = Run::b24mirror(&["backfill", "contacts"]).config(&settings).spawn();
    crate::support::tables::backfill_begun(database.pool()).await;
    portal.command(&database, &["pause", "contacts"]).await;
    let ended = command.finish().await;
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(line(&ended, "contacts").starts_with("contacts: stopped: paused since"), "{ended:#?}");
    let open = "select count(*) from bitrix24.sync_runs where finished_at is null";
    assert_eq!(value::<i64>(database.pool(), open).await, 0);
}
