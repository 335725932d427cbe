//! `refresh`: given records read again, and the quarantine tried once more.

use std::collections::BTreeSet;

use b24mirror::{
    entity::CONTACTS,
    simulator::{Action, Entity, Options},
};
use serde_json::{Value, json};

use crate::support::{
    Database, Finished, Run, TestPortal, assert_equal, database, tables::value, unlimited,
};

fn contacts(contacts: u64) -> TestPortal {
    TestPortal::with(Options { contacts, leads: 0, ..unlimited() })
}

async fn refreshed(portal: &TestPortal, database: &Database, what: &[&str]) -> Finished {
    let arguments: Vec<&str> = ["refresh"].iter().chain(what).copied().collect();
    portal.command(database, &arguments).await
}

fn told(finished: &Finished) -> Value {
    let told: Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error}: {finished:#?}"));
    told["entities"]["contacts"].clone()
}

fn touch(id: i64, field: &str, value: Value) -> Action {
    let entity = Entity::Contacts;
    Action::Touch { entity, id, field: field.to_owned(), value, keep_date: true }
}

async fn execute(database: &Database, sql: String) {
    let done = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(database.pool()).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

async fn open(database: &Database) -> BTreeSet<i64> {
    let open = "select distinct record_id from bitrix24.sync_quarantine where resolved_at is null";
    let ids: Vec<i64> = sqlx::query_scalar(open).fetch_all(database.pool()).await.unwrap();
    ids.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_is_told_what_became_of_it() {
    let (portal, database) = (contacts(400), database().await);
    portal.backfilled(&database).await;
    let ids: Vec<i64> = portal.truth(&CONTACTS).iter().map(|record| record.id).collect();
    let [same, changed, damaged, deleted, tombstone, missing] =
        [ids[10], ids[20], ids[30], ids[40], ids[50], ids[60]];
    let unknown = ids.last().unwrap() + 1_000;
    portal.happens(touch(changed, "NAME", json!("moved no date")));
    // The hash says that it is equal, so no other pass puts it right.
    execute(
        &database,
        format!("update bitrix24.contacts set post = 'damaged' where id = {damaged}"),
    )
    .await;
    portal.happens(Action::Delete { entity: Entity::Contacts, ids: vec![deleted], count: 1 });
    execute(
        &database,
        format!("update bitrix24.contacts set deleted_at = now() where id = {tombstone}"),
    )
    .await;
    execute(&database, format!("delete from bitrix24.contacts where id = {missing}")).await;

    let asked = [same, changed, damaged, deleted, tombstone, missing, unknown, same];
    let asked = asked.map(|id| id.to_string());
    let mut what: Vec<&str> = vec!["contacts"];
    what.extend(asked.iter().map(String::as_str));
    what.push("--json");
    let finished = refreshed(&portal, &database, &what).await;
    assert_eq!(finished.code, Some(2), "one of them is nowhere: {finished:#?}");
    let expected = json!({
        "unchanged": [same],
        "changed": [changed, damaged],
        "deleted": [deleted],
        "revived": [tombstone],
        "new": [missing],
        "unknown": [unknown],
    });
    assert_eq!(told(&finished), expected);
    assert_equal(&portal, database.pool()).await;

    let (changed, deleted) = (changed.to_string(), deleted.to_string());
    let again = refreshed(&portal, &database, &["contacts", &changed, &deleted]).await;
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert!(again.stdout.contains("contacts: complete, 2 read again"), "{again:#?}");
    assert!(again.stdout.contains(&format!("1 unchanged: {changed}")), "{again:#?}");
    assert!(again.stdout.contains(&format!("1 tombstones as before: {deleted}")), "{again:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_record_is_another_one() {
    let (portal, database) = (contacts(200), database().await);
    portal.backfilled(&database).await;
    let old = portal.truth(&CONTACTS)[100].id;
    portal.happens(Action::Delete { entity: Entity::Contacts, ids: vec![old], count: 1 });
    let restored = portal.happens(Action::Restore {
        entity: Entity::Contacts,
        ids: vec![old],
        count: 1,
        visible_after: 0.0,
    });
    let new = restored.ids[0];
    assert_ne!(old, new);
    let ids = [old.to_string(), new.to_string()];
    let what = ["contacts", &ids[0], &ids[1], "--json"];
    let finished = refreshed(&portal, &database, &what).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(told(&finished), json!({ "deleted": [old], "new": [new] }));
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_daemon_does_it() {
    let (portal, database) = (contacts(200), database().await);
    portal.backfilled(&database).await;
    let id = portal.truth(&CONTACTS)[70].id;
    let mut daemon = portal.daemon(&database);
    daemon.logged("mirroring portal").await;
    portal.happens(touch(id, "NAME", json!("moved no date")));
    let finished = refreshed(&portal, &database, &["contacts", &id.to_string()]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(finished.stdout.contains("handed over as request"), "{finished:#?}");
    assert!(finished.stdout.contains(&format!("1 changed: {id}")), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
}

/// Has PostgreSQL refuse these contacts from now on, and no others.
async fn refused(database: &Database, ids: &[i64]) {
    let list = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "alter table bitrix24.contacts drop constraint if exists refused, \
         add constraint refused check (id not in ({list})) not valid"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(database.pool()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quarantine_is_tried_again() {
    let (portal, database) = (contacts(400), database().await);
    let ids: Vec<i64> = portal.truth(&CONTACTS).iter().map(|record| record.id).collect();
    let (well, ill, gone) = (ids[100], ids[200], ids[300]);
    let migrated = portal.command(&database, &["migrate"]).await;
    assert_eq!(migrated.code, Some(0), "{migrated:#?}");
    refused(&database, &[well, ill, gone]).await;
    portal.backfilled(&database).await;
    let malformed = open(&database).await;
    assert!(malformed.is_superset(&BTreeSet::from([well, ill, gone])));
    let repairable = malformed.iter().copied().find(|id| ![well, ill, gone].contains(id)).unwrap();
    let field: String = value(
        database.pool(),
        &format!("select field from bitrix24.sync_quarantine where record_id = {repairable}"),
    )
    .await;

    refused(&database, &[ill]).await;
    let entity = Entity::Contacts;
    portal.happens(Action::Delete { entity, ids: vec![gone], count: 1 });
    portal.happens(touch(repairable, &field, Value::Null));
    execute(
        &database,
        format!(
            "update bitrix24.sync_quarantine set first_seen = first_seen - interval '1 hour', \
             last_seen = last_seen - interval '1 hour' where record_id = {ill}"
        ),
    )
    .await;

    let finished = refreshed(&portal, &database, &["--quarantined", "contacts", "--json"]).await;
    assert_eq!(finished.code, Some(2), "something is still set aside: {finished:#?}");
    let told = told(&finished);
    assert_eq!(told["new"], json!([well]), "{told}");
    assert_eq!(told["set_aside"], json!([ill]), "{told}");
    assert_eq!(told["unknown"], json!([gone]), "{told}");
    assert_eq!(told["changed"], json!([repairable]), "{told}");
    let left = open(&database).await;
    let expected: BTreeSet<i64> =
        malformed.iter().copied().filter(|id| ![well, gone, repairable].contains(id)).collect();
    assert_eq!(left, expected);
    let dated = format!(
        "select last_seen > now() - interval '30 minutes' from bitrix24.sync_quarantine \
         where record_id = {ill} and resolved_at is null"
    );
    assert!(value::<bool>(database.pool(), &dated).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_say_nothing_are_refused_by_name() {
    let (portal, database) = (contacts(10), database().await);
    let cases: [(&[&str], &str); 6] = [
        (&[], "name an entity and the IDs"),
        (&["contacts"], "name an entity and the IDs"),
        (&["contact", "1"], "known are contacts, leads"),
        (&["contacts", "1", "two"], "`two` is not a record ID"),
        (&["contacts", "-1"], "`-1` is not a record ID"),
        (&["--quarantined", "contacts", "1"], "--quarantined takes entities and no IDs"),
    ];
    for (what, says) in cases {
        let finished = refreshed(&portal, &database, what).await;
        assert_eq!(finished.code, Some(64), "{finished:#?}");
        assert!(finished.stderr.contains(says), "{finished:#?}");
    }
    let finished =
        Run::b24mirror(&["refresh", "leads", "1"]).config(&portal.settings(&database)).finish();
    assert_eq!(finished.await.code, Some(2), "never backfilled");
}
