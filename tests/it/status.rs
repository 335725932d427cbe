//! `status` tells the truth, whatever state the mirror is in.

use std::time::{Duration, Instant};

use b24mirror::{
    portal::WaitReason,
    simulator::{Action, Entity, Options, Rights},
};
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::support::{
    Database, Finished, Gate, Process, Run, TestPortal, database, eventually, quiet_port,
    tables::value, unlimited,
};

/// One look: as JSON and as text, which must agree on the exit code.
struct Look {
    code: Option<i32>,
    json: Value,
    text: String,
}

impl Look {
    /// The line of an entity for people.
    fn line(&self, entity: &str) -> &str {
        self.text.lines().find(|line| line.starts_with(entity)).unwrap()
    }

    /// The entry of an entity for machines.
    fn entity(&self, entity: &str) -> &Value {
        let all = self.json["entities"].as_array().unwrap();
        all.iter().find(|entry| entry["entity"] == entity).unwrap()
    }

    fn state(&self, entity: &str) -> &str {
        self.entity(entity)["state"].as_str().unwrap()
    }

    fn reason(&self, entity: &str) -> &str {
        self.entity(entity)["reason"].as_str().unwrap_or_default()
    }
}

async fn json(settings: &str) -> (Finished, Value) {
    let finished = Run::b24mirror(&["status", "--json"]).config(settings).finish().await;
    let parsed = serde_json::from_str(&finished.stdout);
    let parsed = parsed.unwrap_or_else(|error| panic!("{error}: {finished:#?}"));
    (finished, parsed)
}

async fn look(settings: &str) -> Look {
    let (finished, json) = json(settings).await;
    let text = Run::b24mirror(&["status"]).config(settings).finish().await;
    assert_eq!(text.code, finished.code, "{text:#?}\n{finished:#?}");
    Look { code: finished.code, json, text: text.stdout }
}

/// A daemon that has migrated the schema and holds the lease.
async fn mirroring(portal: &TestPortal, database: &Database) -> Process {
    let mut daemon = portal.daemon(database);
    daemon.logged("mirroring portal").await;
    daemon
}

/// Looks until both entities are in these states.
async fn look_when(settings: &str, states: [&str; 2]) -> Look {
    eventually(&format!("contacts and leads are {states:?}"), || async {
        let (_, json) = json(settings).await;
        let is = |place: usize| json["entities"][place]["state"] == states[place];
        is(0) && is(1)
    })
    .await;
    look(settings).await
}

/// Looks until the reason of an entity names something.
async fn look_when_it_says(settings: &str, entity: &str, what: &str) -> Look {
    let place = usize::from(entity == "leads");
    eventually(&format!("{entity}: {what}"), || async {
        let (_, json) = json(settings).await;
        json["entities"][place]["reason"].as_str().is_some_and(|reason| reason.contains(what))
    })
    .await;
    look(settings).await
}

#[tokio::test]
async fn never_synced() {
    let (portal, database) = (TestPortal::small(), database().await);
    let settings = portal.settings(&database);
    for migrated in [false, true] {
        if migrated {
            assert_eq!(portal.command(&database, &["migrate"]).await.code, Some(0));
        }
        let look = look(&settings).await;
        assert_eq!(look.code, Some(2));
        assert_eq!((look.state("contacts"), look.state("leads")), ("never_synced", "never_synced"));
        assert!(look.line("contacts").contains("never synced"), "{}", look.text);
        assert_eq!(look.json["held_by"], Value::Null);
        assert!(look.text.contains("no process"), "{}", look.text);
    }
    assert_eq!(portal.stats().requests, 0, "status never asks the portal");
}

#[tokio::test(flavor = "multi_thread")]
async fn backfilling_with_rate_and_time_left() {
    let latency = Duration::from_millis(700);
    let options = Options { contacts: 20_000, leads: 0, latency, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    let settings = portal.settings(&database);
    let process = Run::b24mirror(&["backfill", "contacts"]).config(&settings).spawn();
    eventually("several batches have come", || async {
        let table = "select to_regclass('bitrix24.backfill_segments') is not null";
        let rows = "select coalesce(sum(rows_read), 0) > 2500 from bitrix24.backfill_segments";
        value::<bool>(database.pool(), table).await && value::<bool>(database.pool(), rows).await
    })
    .await;

    let (finished, seen) = json(&settings).await;
    assert_eq!(finished.code, Some(2));
    let contacts = &seen["entities"][0];
    assert_eq!(contacts["state"], "backfilling", "{contacts}");
    let number = |name: &str| contacts[name].as_f64().unwrap_or_else(|| panic!("{contacts}"));
    assert!((0.0..1.0).contains(&number("share")) && number("share") > 0.0, "{contacts}");
    let read = number("records");
    assert!(read > 2_500.0 && read < 20_000.0, "{contacts}");
    // The rate is that of the rows and the time they took, as the tables have them.
    let started: DateTime<Utc> =
        value(database.pool(), "select started_at from bitrix24.backfill_segments").await;
    let longest = (Utc::now() - started).as_seconds_f64();
    assert!(number("per_second") >= read / longest * 0.9, "{contacts}, begun {longest} s ago");
    // No batch of 2,500 comes faster than the portal's latency.
    assert!(number("per_second") < 2_500.0 / 0.7, "{contacts}");
    assert!(number("seconds_left") > 0.0, "{contacts}");

    let look = look(&settings).await;
    let line = look.line("contacts");
    let told = ["backfilling: ", " %, ", " records, ", "/s, ", " left"];
    assert!(told.iter().all(|part| line.contains(part)), "{line}");
    assert!(look.json["held_by"].as_str().unwrap().contains("backfill"), "{}", look.json);

    process.kill().await;
    sqlx::query("update bitrix24.sync_lease set expires_at = now()")
        .execute(database.pool())
        .await
        .unwrap();
    let (finished, seen) = json(&settings).await;
    assert_eq!(finished.code, Some(2));
    assert_eq!(seen["entities"][0]["reason"], "no process is mirroring");
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_then_behind_when_nobody_mirrors() {
    let (portal, database) = (TestPortal::small(), database().await);
    let settings = portal.settings(&database);
    let daemon = mirroring(&portal, &database).await;
    let fresh = look_when(&settings, ["fresh", "fresh"]).await;
    assert_eq!(fresh.code, Some(0));
    assert!(fresh.line("leads").contains("fresh; last complete"), "{}", fresh.text);
    for entity in b24mirror::entity::Entity::BY_DEFAULT {
        let there = u64::try_from(portal.truth(entity).len()).unwrap();
        assert_eq!(fresh.entity(entity.name)["records"].as_u64(), Some(there), "{}", entity.name);
        assert!(fresh.entity(entity.name)["lag_seconds"].as_f64().unwrap() <= 3.0);
    }
    let notes: i64 = value(
        database.pool(),
        "select count(*) from bitrix24.sync_quarantine where entity = 'contacts' \
         and resolved_at is null",
    )
    .await;
    assert_eq!(fresh.entity("contacts")["quarantined"].as_i64(), Some(notes));

    daemon.kill().await;
    crate::support::tables::let_the_lease_run_out(database.pool()).await;
    let behind = look_when(&settings, ["behind", "behind"]).await;
    assert_eq!(behind.code, Some(2));
    assert_eq!(behind.reason("leads"), "no process is mirroring");
    assert!(behind.line("leads").contains("behind: no process is mirroring"), "{}", behind.text);
    assert!(behind.entity("leads")["lag_seconds"].as_f64().unwrap() > 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_stopped_by_missing_rights_beside_one_that_is_fresh() {
    let (portal, database) = (TestPortal::small(), database().await);
    portal.happens(Action::Rights { entity: Entity::Leads, rights: Rights::None });
    let settings = portal.settings(&database);
    let _daemon = mirroring(&portal, &database).await;
    let look = look_when(&settings, ["fresh", "stopped"]).await;
    assert_eq!(look.code, Some(2));
    let reason = look.reason("leads");
    assert!(reason.contains("Access denied") && reason.contains("the CRM right"), "{reason}");
    assert!(look.line("leads").contains(&format!("stopped: {reason}")), "{}", look.text);

    eventually("when it is tried again", || async {
        let (_, json) = json(&settings).await;
        json["entities"][1]["tried_again_at"].is_string()
    })
    .await;
    let told = crate::status::look(&settings).await;
    let at = told.entity("leads")["tried_again_at"].as_str().unwrap();
    let at: DateTime<Utc> = at.parse().unwrap();
    let left = (at - Utc::now()).as_seconds_f64();
    assert!((200.0..=301.0).contains(&left), "{left} s are left");
    let says = format!("; tried again at {}", at.format("%H:%M:%S UTC"));
    assert!(told.line("leads").contains(&says), "{}", told.text);
    assert_eq!(told.entity("contacts").get("tried_again_at"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_gets_no_turn_beside_the_cycles_says_what_to_change() {
    let (portal, database) = (TestPortal::small(), database().await);
    let settings = portal.settings(&database);
    portal.backfilled(&database).await;
    // As the holder leaves it when cycles alone have gone for a minute.
    for statement in [
        "update bitrix24.backfill_segments set done = false where entity = 'contacts'",
        "update bitrix24.sync_lease set holder = 'somebody', \
            expires_at = clock_timestamp() + interval '1 hour'",
    ] {
        sqlx::query(statement).execute(database.pool()).await.unwrap();
    }
    assert_eq!(look(&settings).await.reason("contacts"), "");
    sqlx::query(
        "update bitrix24.sync_lease set waits = jsonb_build_array( \
            jsonb_build_object('reason', $1::text, 'until', clock_timestamp()))",
    )
    .bind(WaitReason::CyclesFirst.to_string())
    .execute(database.pool())
    .await
    .unwrap();
    let look = look(&settings).await;
    assert_eq!(look.code, Some(2));
    for says in ["no progress", "`sync.interval`"] {
        assert!(look.reason("contacts").contains(says), "{}", look.json);
        assert!(look.line("contacts").contains(says), "{}", look.text);
    }
    assert_eq!(look.reason("leads"), "", "it has nothing to backfill");
    assert!(!look.text.contains("waiting   "), "it is said once: {}", look.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_cannot_be_reached_and_is_back() {
    let options = Options { contacts: 700, leads: 300, port: quiet_port(), ..unlimited() };
    let (portal, database) = (TestPortal::with(options.clone()), database().await);
    let settings = portal.settings(&database);
    let _daemon = mirroring(&portal, &database).await;
    look_when(&settings, ["fresh", "fresh"]).await;

    drop(portal);
    for entity in ["contacts", "leads"] {
        let look = look_when_it_says(&settings, entity, "cannot connect to the portal").await;
        assert_eq!(look.code, Some(2));
        assert_eq!(look.state(entity), "behind");
        assert!(look.line(entity).contains("behind: "), "{}", look.text);
        assert!(look.line(entity).contains("`portal.webhook_url`"), "{}", look.text);
    }

    let _back = TestPortal::with(options);
    let look = look_when(&settings, ["fresh", "fresh"]).await;
    assert_eq!(look.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn held_by_another_process_which_it_names() {
    let (portal, database) = (TestPortal::small(), database().await);
    let settings = portal.settings(&database);
    let daemon = mirroring(&portal, &database).await;
    let look = look_when(&settings, ["fresh", "fresh"]).await;
    let holder = look.json["held_by"].as_str().unwrap();
    let process = format!("process {}, run", daemon.id());
    assert!(holder.ends_with(&process), "{holder} instead of {process}");
    assert!(look.text.contains(&format!("held by   {holder}")), "{}", look.text);
    let host = portal.url().replace("http://", "");
    assert_eq!(look.json["portal"], host.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_told_at_once() {
    let (portal, database) = (TestPortal::small(), database().await);
    portal.backfilled(&database).await;
    let gate = Gate::to(&database.url(), false).await;
    let away = settings_through(&portal, &database, &gate);
    for arguments in [&["status"][..], &["status", "--json"][..]] {
        let begun = Instant::now();
        let finished = Run::b24mirror(arguments).config(&away).finish().await;
        assert_eq!(finished.code, Some(1), "{finished:#?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(finished.stderr.contains("`database.url`"), "{finished:#?}");
        assert_eq!(finished.stdout, "");
    }
    gate.open();
    // Asked once: with no daemon, two answers may lie on both sides of the end of freshness.
    assert_ne!(json(&away).await.0.code, Some(1));
}

/// The portal's settings with the database behind a gate.
pub(crate) fn settings_through(portal: &TestPortal, database: &Database, gate: &Gate) -> String {
    let (direct, through) = (database.url(), gate.url());
    portal.settings(database).replace(direct.expose_secret(), through.expose_secret())
}
