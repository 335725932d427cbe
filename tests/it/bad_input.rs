//! Whatever is wrong with the webhook, the database or a record: one message that names
//! the setting, the right or the record, the right exit code, and nothing half-written.

use std::time::{Duration, Instant};

use b24mirror::{
    entity::Entity,
    simulator::{self, Action, Options, Rights},
};
use nix::sys::signal::Signal;
use secrecy::ExposeSecret as _;
use sqlx::AssertSqlSafe;

use crate::support::{
    Finished, Gate, Run, TestPortal, assert_equal, database,
    equal::differences,
    equal_within, eventually,
    tables::{row_versions, value},
    unlimited,
};

const CONTACTS: &Entity = Entity::BY_DEFAULT[0];
const LEADS: &Entity = Entity::BY_DEFAULT[1];

/// What a process that mirrors says.
const MIRRORING: &str = "mirroring portal";

async fn command(settings: &str, arguments: &[&str]) -> Finished {
    Run::b24mirror(arguments).config(settings).finish().await
}

/// Everything that a command told.
fn told(finished: &Finished) -> String {
    format!("{}\n{}", finished.stdout, finished.stderr)
}

/// The command fails with this code and one error that names all of these.
async fn fails(settings: &str, arguments: &[&str], code: i32, names: &[&str]) {
    let finished = command(settings, arguments).await;
    assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:#?}");
    // `check` lists what fails among what is well; every other command says it last.
    let told = told(&finished);
    let is_error = |line: &&str| line.starts_with("error: ") || line.starts_with("FAILED ");
    let errors: Vec<_> = told.lines().filter(is_error).collect();
    assert_eq!(errors.len(), 1, "{arguments:?}: {finished:#?}");
    for name in names {
        assert!(errors[0].contains(name), "{arguments:?} does not name {name}: {finished:#?}");
    }
}

/// Every entity is stopped, the exit code is 2, and each line names all of these.
async fn stops(settings: &str, arguments: &[&str], names: &[&str]) {
    let finished = command(settings, arguments).await;
    assert_eq!(finished.code, Some(2), "{arguments:?}: {finished:#?}");
    for entity in Entity::BY_DEFAULT {
        let line = finished.stdout.lines().find(|line| line.starts_with(entity.name));
        let line = line.unwrap_or_else(|| panic!("nothing about {}: {finished:#?}", entity.name));
        assert!(line.contains("stopped"), "{arguments:?}: {line}");
        for name in names {
            assert!(line.contains(name), "{arguments:?} does not name {name}: {line}");
        }
    }
}

async fn check_fails(settings: &str, names: &[&str]) {
    let finished = command(settings, &["check"]).await;
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    let line = finished.stdout.lines().find(|line| line.starts_with("FAILED")).unwrap();
    for name in names {
        assert!(line.contains(name), "check does not name {name}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_webhook_secret_stops_every_entity_and_names_the_setting() {
    let (portal, database) = (TestPortal::small(), database().await);
    let right = portal.settings(&database);
    let wrong = right.replace("s1mul4tedsecret0", "an0thersecret000");
    assert_ne!(right, wrong);
    stops(&wrong, &["backfill"], &["INVALID_CREDENTIALS", "`portal.webhook_url`"]).await;
    check_fails(&wrong, &["INVALID_CREDENTIALS", "`portal.webhook_url`"]).await;
    let rows: i64 = value(database.pool(), "select count(*) from bitrix24.contacts").await;
    assert_eq!(rows, 0);

    portal.backfilled(&database).await;
    stops(&wrong, &["sync"], &["INVALID_CREDENTIALS", "`portal.webhook_url`"]).await;
    stops(&wrong, &["backfill", "--restart"], &["INVALID_CREDENTIALS"]).await;
    assert_equal(&portal, database.pool()).await;
    // The full pass that was ordered in vain is made up for.
    assert_eq!(command(&right, &["backfill"]).await.code, Some(0));
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_webhook_stops_every_entity_and_nothing_is_lost_when_it_is_back() {
    let (portal, database) = (TestPortal::small(), database().await);
    // Long enough for what a cycle has brought to count as fresh on a slow machine.
    let settings = portal.settings(&database).replace("interval = \"1s\"", "interval = \"1m\"");
    portal.backfilled(&database).await;
    let before = row_versions(database.pool()).await;
    portal.happens(Action::Webhook { revoked: true });
    for entity in [simulator::Entity::Contacts, simulator::Entity::Leads] {
        portal.happens(Action::Change { entity, ids: vec![], count: 20, visible_after: 0.0 });
    }
    stops(&settings, &["sync"], &["`portal.webhook_url`", "the webhook was deleted"]).await;
    check_fails(&settings, &["`portal.webhook_url`"]).await;
    let after = row_versions(database.pool()).await;
    for table in ["contacts", "leads", "contact_phones", "sync_checkpoints"] {
        assert_eq!(before[table], after[table], "{table}");
    }
    assert_eq!(command(&settings, &["status"]).await.code, Some(2));

    portal.happens(Action::Webhook { revoked: false });
    let finished = command(&settings, &["sync"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
    assert_eq!(command(&settings, &["status"]).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_is_named() {
    let (portal, database) = (TestPortal::small(), database().await);
    let settings = portal.settings(&database);
    portal.happens(Action::Scopes { scopes: vec!["user".to_owned()] });
    stops(&settings, &["backfill"], &["insufficient_scope", "the scope `crm`"]).await;
    check_fails(&settings, &["the scope `crm`"]).await;
    portal.happens(Action::Scopes { scopes: vec!["crm".to_owned(), "user".to_owned()] });
    portal.backfilled(&database).await;
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_go_on_where_there_are_no_rights_to_leads() {
    let (portal, database) = (TestPortal::small(), database().await);
    let settings = portal.settings(&database);
    portal.happens(Action::Rights { entity: simulator::Entity::Leads, rights: Rights::None });
    let finished = command(&settings, &["backfill"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    assert!(finished.stdout.contains("contacts: complete"), "{finished:#?}");
    let line = finished.stdout.lines().find(|line| line.starts_with("leads")).unwrap();
    assert!(line.contains("stopped") && line.contains("the CRM right"), "{line}");
    assert_eq!(differences(&portal, database.pool(), CONTACTS).await, "");
    let leads: i64 = value(database.pool(), "select count(*) from bitrix24.leads").await;
    assert_eq!(leads, 0);
    check_fails(&settings, &["leads", "the CRM right"]).await;

    // The daemon, too, and it takes the rights when it gets them at the latest when asked.
    let _daemon = portal.daemon(&database);
    portal.happens(Action::Change {
        entity: simulator::Entity::Contacts,
        ids: vec![],
        count: 50,
        visible_after: 0.0,
    });
    eventually("the changes arrive", || async {
        differences(&portal, database.pool(), CONTACTS).await.is_empty()
    })
    .await;
    portal.happens(Action::Rights { entity: simulator::Entity::Leads, rights: Rights::Full });
    let finished = command(&settings, &["backfill", "leads"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    equal_within(&portal, database.pool(), Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_portals_webhook_on_a_filled_schema_writes_nothing() {
    let (portal, other, database) = (TestPortal::small(), TestPortal::small(), database().await);
    portal.backfilled(&database).await;
    let wrong = other.settings(&database);
    let host = |portal: &TestPortal| portal.url().replace("http://", "");
    let (here, theirs) = (host(&portal), host(&other));
    let names = [&*here, &*theirs, "`database.schema`"];
    let before = row_versions(database.pool()).await;
    for arguments in [&["run"][..], &["backfill"], &["sync"], &["backfill", "--restart"]] {
        fails(&wrong, arguments, 64, &names).await;
    }
    assert_eq!(command(&wrong, &["check"]).await.code, Some(64));
    assert_eq!(row_versions(database.pool()).await, before);

    // Nor is its work handed to the process that mirrors the right portal, and a daemon
    // does not stand by for what will never be its own.
    let mut daemon = portal.daemon(&database);
    daemon.logged(MIRRORING).await;
    other.reset_stats();
    for arguments in [&["run"][..], &["backfill"], &["sync"]] {
        fails(&wrong, arguments, 64, &names).await;
    }
    let handed: i64 = value(database.pool(), "select count(*) from bitrix24.sync_requests").await;
    assert_eq!(handed, 0);
    assert_eq!(other.stats().requests, 0);
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_database_settings_are_named_at_once() {
    let (portal, database) = (TestPortal::small(), database().await);
    let right = portal.settings(&database);
    let url = url::Url::parse(database.url().expose_secret()).unwrap();
    let with = |change: &dyn Fn(&mut url::Url)| {
        let mut other = url.clone();
        change(&mut other);
        right.replace(url.as_str(), other.as_str())
    };
    let unknown_name = with(&|url| url.set_path("no_such_database"));
    let unknown_user = with(&|url| {
        let named = url.query().is_some_and(|query| query.contains("user=postgres"));
        if named {
            let query = url.query().unwrap().replace("user=postgres", "user=no_such_user");
            url.set_query(Some(&query));
        } else {
            url.set_username("no_such_user").unwrap();
        }
    });
    let other_system =
        right.replace("postgres://", "mysql://").replace("postgresql://", "mysql://");
    for settings in [&unknown_name, &unknown_user, &other_system] {
        assert_ne!(*settings, right);
        for arguments in ["run", "backfill", "sync", "status", "migrate"] {
            let begun = Instant::now();
            fails(settings, &[arguments], 64, &["`database.url`"]).await;
            assert!(begun.elapsed() < Duration::from_secs(10), "{arguments}: nothing to wait for");
        }
    }
    for settings in [&unknown_name, &unknown_user] {
        let finished = command(settings, &["check"]).await;
        assert_eq!(finished.code, Some(64), "{finished:#?}");
        assert!(told(&finished).contains("`database.url`"), "{finished:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_waits_for_a_database_that_is_away_at_its_start() {
    let (portal, database) = (TestPortal::small(), database().await);
    let gate = Gate::to(&database.url(), false).await;
    let settings = crate::status::settings_through(&portal, &database, &gate);
    let mut daemon = Run::b24mirror(&["run"]).config(&settings).spawn();
    daemon.logged("waiting for the database").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    gate.open();
    daemon.logged(MIRRORING).await;
    equal_within(&portal, database.pool(), Duration::from_secs(40)).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish_within(Duration::from_secs(5)).await.code, Some(0));

    // One that is told to stop while it waits, stops.
    gate.shut();
    let mut daemon = Run::b24mirror(&["run"]).config(&settings).spawn();
    daemon.logged("waiting for the database").await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish_within(Duration::from_secs(5)).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_tries_a_database_that_is_away_for_half_a_minute() {
    let (portal, database) = (TestPortal::small(), database().await);
    let gate = Gate::to(&database.url(), false).await;
    let settings = crate::status::settings_through(&portal, &database, &gate);
    let begun = Instant::now();
    let (one, other) = tokio::join!(
        fails(&settings, &["sync"], 1, &["`database.url`"]),
        fails(&settings, &["backfill"], 1, &["`database.url`"])
    );
    let ((), ()) = (one, other);
    let took = begun.elapsed().as_secs();
    assert!((15..45).contains(&took), "{took} s");
    assert_eq!(portal.stats().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_waits_for_a_database_that_goes_away_in_between_and_goes_on() {
    let options =
        Options { contacts: 8_000, leads: 300, latency: Duration::from_millis(150), ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    let gate = Gate::to(&database.url(), true).await;
    let settings = crate::status::settings_through(&portal, &database, &gate);
    let mut daemon = Run::b24mirror(&["run"]).config(&settings).spawn();
    crate::support::tables::backfill_begun(database.pool()).await;
    // Twice for moments, which one transaction notices, then for longer.
    for away in [50, 50, 3_000] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.shut();
        tokio::time::sleep(Duration::from_millis(away)).await;
        portal.happens(Action::Change {
            entity: simulator::Entity::Leads,
            ids: vec![],
            count: 20,
            visible_after: 0.0,
        });
        gate.open();
    }
    equal_within(&portal, database.pool(), Duration::from_mins(1)).await;

    // And by an administrator's hand.
    let ended: i64 = value(
        database.pool(),
        "select count(pg_terminate_backend(pid)) from pg_stat_activity \
         where datname = current_database() and application_name like 'b24mirror%'",
    )
    .await;
    assert!(ended > 0);
    portal.happens(Action::Change {
        entity: simulator::Entity::Contacts,
        ids: vec![],
        count: 20,
        visible_after: 0.0,
    });
    equal_within(&portal, database.pool(), Duration::from_mins(1)).await;
    daemon.logged(MIRRORING).await;
    daemon.signal(Signal::SIGTERM);
    let finished = daemon.finish_within(Duration::from_secs(5)).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_waits_for_a_database_that_goes_away_in_between_and_goes_on() {
    let options =
        Options { contacts: 8_000, leads: 300, latency: Duration::from_millis(150), ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    let gate = Gate::to(&database.url(), true).await;
    let settings = crate::status::settings_through(&portal, &database, &gate);
    let begun = Run::b24mirror(&["backfill"]).config(&settings).spawn();
    crate::support::tables::backfill_begun(database.pool()).await;
    for away in [50, 3_000] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.shut();
        tokio::time::sleep(Duration::from_millis(away)).await;
        gate.open();
    }
    let finished = begun.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_follows_the_holder_waits_for_a_database_that_goes_away() {
    let options =
        Options { contacts: 6_000, leads: 0, latency: Duration::from_millis(300), ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    let mut daemon = portal.daemon(&database);
    daemon.logged(MIRRORING).await;
    let gate = Gate::to(&database.url(), true).await;
    let settings = crate::status::settings_through(&portal, &database, &gate);
    let mut following = Run::b24mirror(&["backfill"]).config(&settings).spawn();
    following.printed("handed over as request").await;
    eventually("the work is taken", || async {
        let taken = "select exists (select from bitrix24.sync_requests where taken_by is not null)";
        value::<bool>(database.pool(), taken).await
    })
    .await;
    gate.shut();
    tokio::time::sleep(Duration::from_secs(3)).await;
    gate.open();
    let finished = following.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(finished.stdout.contains("contacts: complete"), "{finished:#?}");
    assert_eq!(differences(&portal, database.pool(), CONTACTS).await, "");
}

#[tokio::test]
async fn a_sync_before_the_first_backfill_says_what_to_do() {
    let (portal, database) = (TestPortal::small(), database().await);
    let finished = command(&portal.settings(&database), &["sync"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    for entity in Entity::BY_DEFAULT {
        let advice = format!("run `b24mirror backfill {}` first", entity.name);
        assert!(finished.stdout.contains(&advice), "{finished:#?}");
    }
    let rows: i64 = value(database.pool(), "select count(*) from bitrix24.contacts").await;
    assert_eq!(rows, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_newer_than_the_program_is_left_alone() {
    let (portal, database) = (TestPortal::small(), database().await);
    portal.backfilled(&database).await;
    sqlx::query(
        "insert into bitrix24._sqlx_migrations \
         (version, description, success, checksum, execution_time) \
         values (9999, 'of the future', true, '', 0)",
    )
    .execute(database.pool())
    .await
    .unwrap();
    let before = row_versions(database.pool()).await;
    let settings = portal.settings(&database);
    let never = format!("{settings}\n").replace("[database]\n", "[database]\nmigrate = false\n");
    for settings in [&settings, &never] {
        for arguments in ["run", "backfill", "sync", "status"] {
            fails(settings, &[arguments], 1, &["`bitrix24`", "a newer b24mirror"]).await;
        }
    }
    fails(&settings, &["migrate"], 1, &["`bitrix24`", "a newer b24mirror"]).await;
    check_fails(&settings, &["`bitrix24`", "a newer b24mirror"]).await;
    assert_eq!(row_versions(database.pool()).await, before);
}

#[tokio::test]
async fn a_misspelt_setting_is_an_error_that_names_the_nearest() {
    let (portal, database) = (TestPortal::small(), database().await);
    let right = portal.settings(&database);
    let wrong = right.replace("webhook_url =", "webhok_url =");
    for arguments in ["run", "backfill", "sync", "status", "check", "migrate"] {
        let names = ["`portal.webhok_url`", "config.toml", "did you mean `portal.webhook_url`?"];
        fails(&wrong, &[arguments], 64, &names).await;
    }
    let wrong = right.replace("overlap =", "colour =");
    fails(&wrong, &["run"], 64, &["`sync.colour`", "config.example.toml"]).await;
    let finished = Run::b24mirror(&["sync"])
        .config(&right)
        .env("B24MIRROR__SYNC__INTERVALL", "5s")
        .finish()
        .await;
    assert_eq!(finished.code, Some(64), "{finished:#?}");
    for name in ["B24MIRROR__SYNC__INTERVALL", "did you mean B24MIRROR__SYNC__INTERVAL?"] {
        assert!(finished.stderr.contains(name), "{finished:#?}");
    }
    assert_eq!(portal.stats().requests, 0);
}

#[tokio::test]
async fn wrong_usage_is_told_apart_from_failure() {
    for arguments in [&["mirror"][..], &["sync", "kontakts"], &["backfill", "--again"], &[]] {
        let finished = Run::b24mirror(arguments).finish().await;
        assert_eq!(finished.code, Some(64), "{arguments:?}: {finished:#?}");
    }
    let finished = Run::b24mirror(&["sync", "kontakts"]).finish().await;
    assert!(finished.stderr.contains("contacts, leads"), "{finished:#?}");
    let nothing_set = Run::b24mirror(&["run"]).finish().await;
    assert_eq!(nothing_set.code, Some(64), "{nothing_set:#?}");
    assert!(nothing_set.stderr.contains("`portal.webhook_url`"), "{nothing_set:#?}");
}

#[tokio::test]
async fn a_portal_without_tls_is_refused_unless_it_is_on_this_machine() {
    let (portal, database) = (TestPortal::small(), database().await);
    let right = portal.settings(&database);
    let host = portal.url();
    let wrong = right.replace(&host, "http://portal.example.com");
    assert_ne!(right, wrong);
    for arguments in ["run", "backfill", "sync", "check"] {
        fails(&wrong, &[arguments], 64, &["`portal.webhook_url`", "https://"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_stands_by_and_takes_over_when_the_first_is_killed() {
    let (portal, database) = (TestPortal::small(), database().await);
    let mut first = portal.daemon(&database);
    first.logged(MIRRORING).await;
    let mut second = portal.daemon(&database);
    let line = second.logged("standing by").await;
    assert!(line.contains(&format!("process {}, run", first.id())), "{line}");
    equal_within(&portal, database.pool(), Duration::from_secs(30)).await;

    first.kill().await;
    portal.happens(Action::Change {
        entity: simulator::Entity::Contacts,
        ids: vec![],
        count: 20,
        visible_after: 0.0,
    });
    let begun = Instant::now();
    second.logged(MIRRORING).await;
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    equal_within(&portal, database.pool(), Duration::from_secs(20)).await;

    // After a clean end, there is nothing to wait for.
    let mut third = portal.daemon(&database);
    third.logged("standing by").await;
    second.signal(Signal::SIGTERM);
    assert_eq!(second.finish_within(Duration::from_secs(5)).await.code, Some(0));
    let begun = Instant::now();
    third.logged(MIRRORING).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_database_refuses_is_set_aside_and_healed_later() {
    let (portal, database) = (TestPortal::small(), database().await);
    let settings = portal.settings(&database);
    assert_eq!(command(&settings, &["migrate"]).await.code, Some(0));
    let constrain = "alter table bitrix24.contacts \
                     add constraint no_nonsense check (name <> 'nonsense')";
    sqlx::query(AssertSqlSafe(constrain)).execute(database.pool()).await.unwrap();
    let truth = portal.truth(CONTACTS);
    let (refused, later) = (truth[333].id, truth[111].id);
    let nonsense = |id| Action::Touch {
        entity: simulator::Entity::Contacts,
        id,
        field: "NAME".to_owned(),
        value: "nonsense".into(),
        keep_date: false,
    };
    portal.happens(nonsense(refused));

    let finished = command(&settings, &["backfill"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(finished.stdout.contains("in the quarantine"), "{finished:#?}");
    // All the others are there, and this one is not.
    let missing = format!("contact {refused}: missing\n");
    assert_eq!(differences(&portal, database.pool(), CONTACTS).await, missing);
    assert_eq!(differences(&portal, database.pool(), LEADS).await, "");

    // A record that was fine keeps its last good version.
    let before: String = value(
        database.pool(),
        &format!("select coalesce(name, '') from bitrix24.contacts where id = {later}"),
    )
    .await;
    portal.happens(nonsense(later));
    let finished = command(&settings, &["sync"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let after: String = value(
        database.pool(),
        &format!("select coalesce(name, '') from bitrix24.contacts where id = {later}"),
    )
    .await;
    assert_eq!(after, before);
    let notes = "select record_id from bitrix24.sync_quarantine where entity = 'contacts' \
                 and reason = 'refused_by_database' and resolved_at is null \
                 and raw like '%no_nonsense%' and raw like '%nonsense%' order by record_id";
    let open: Vec<i64> = sqlx::query_scalar(notes).fetch_all(database.pool()).await.unwrap();
    assert_eq!(open, [later, refused]);

    sqlx::query("alter table bitrix24.contacts drop constraint no_nonsense")
        .execute(database.pool())
        .await
        .unwrap();
    let finished = command(&settings, &["backfill", "--restart"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
    let open: Vec<i64> = sqlx::query_scalar(notes).fetch_all(database.pool()).await.unwrap();
    assert!(open.is_empty(), "{open:?}");
    let resolved: i64 = value(
        database.pool(),
        "select count(*) from bitrix24.sync_quarantine \
         where reason = 'refused_by_database' and resolved_at is not null",
    )
    .await;
    assert_eq!(resolved, 2);
}
