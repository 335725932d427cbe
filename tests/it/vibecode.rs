//! `source = "vibecode"`: the same records through the VibeCode gateway, into the same rows.

use std::{collections::BTreeMap, time::Duration};

use b24mirror::{
    entity::{COMPANIES, CONTACTS, Entity, LEADS},
    simulator::{Action, Fault, FaultKind, Filtering, GatewayOptions, Options, Poison},
};
use nix::sys::signal::Signal;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{
    Database, Finished, Run, TestPortal, database,
    equal::{HIDDEN_BY_GATEWAY as HIDDEN, differences_unless_hidden, family},
    eventually,
    tables::value,
    unlimited,
};

const MIRRORED: [&Entity; 3] = [&CONTACTS, &LEADS, &COMPANIES];

/// A portal behind a gateway, without limits that would make a test wait.
fn portal(gateway: GatewayOptions) -> TestPortal {
    portal_of(700, gateway)
}

fn portal_of(contacts: u64, gateway: GatewayOptions) -> TestPortal {
    TestPortal::with(Options {
        contacts,
        leads: contacts / 2,
        companies: contacts / 4,
        gateway: GatewayOptions { requests_per_minute: None, ..gateway },
        ..unlimited()
    })
}

fn settings(portal: &TestPortal, database: &Database, source: &str, gateway: &str) -> String {
    let source_of =
        |entity: &Entity| format!("{0}.enabled = true\n{0}.source = \"{source}\"\n", entity.name);
    let sources = MIRRORED.map(source_of).concat();
    let more = format!(
        "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
         [portal.vibecode]\nurl = \"{}\"\nrequests_per_minute = 100000\n{gateway}\n\
         [entities]\n{sources}",
        portal.url()
    );
    portal.settings_with(database, &more)
}

/// With the personal key.
const KEY: &str = "api_key = \"vibe_api_s1mul4ted\"";

async fn run(
    portal: &TestPortal,
    database: &Database,
    gateway: &str,
    arguments: &[&str],
) -> Finished {
    let settings = settings(portal, database, "vibecode", gateway);
    Run::b24mirror(arguments).config(&settings).finish().await
}

async fn done(portal: &TestPortal, database: &Database, arguments: &[&str]) {
    let finished = run(portal, database, KEY, arguments).await;
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
}

/// Holds every value that the gateway shows against the portal.
async fn assert_equal(portal: &TestPortal, pool: &PgPool, hidden: &[&str]) {
    for entity in MIRRORED {
        let differences = differences_unless_hidden(portal, pool, entity, hidden).await;
        assert!(differences.is_empty(), "{} differ from the portal:\n{differences}", entity.name);
    }
}

/// Everything that people do to records.
fn a_day_of_work(portal: &TestPortal) {
    for entity in MIRRORED.map(family) {
        portal.happens(Action::Create { entity, count: 70, visible_after: 0.0 });
        portal.happens(Action::Change { entity, ids: Vec::new(), count: 60, visible_after: 0.0 });
        portal.happens(Action::Import { entity, count: 5, days: 300, visible_after: 0.0 });
        portal.happens(Action::Delete { entity, ids: Vec::new(), count: 6 });
        let ids = portal.ids(entity);
        for (field, values) in [("PHONE", &[][..]), ("EMAIL", &["a@example.org", "b@example.org"])]
        {
            let values = values.iter().map(|one| ((*one).to_owned(), "WORK".to_owned())).collect();
            let (id, field) = (ids[ids.len() / 2], field.to_owned());
            portal.happens(Action::SetMulti { entity, id, field, values });
        }
    }
}

/// Every position of what the vendor leaves open.
fn positions() -> Vec<(&'static str, GatewayOptions, Vec<&'static str>)> {
    let usual = GatewayOptions::default;
    let none = || HIDDEN.to_vec();
    let mut undated = none();
    undated.push("DATE_MODIFY");
    vec![
        ("as usual", usual(), none()),
        (
            "updatedTime",
            GatewayOptions { modified: Some("updatedTime".to_owned()), ..usual() },
            none(),
        ),
        ("no time", GatewayOptions { modified: None, ..usual() }, undated),
        ("refused", GatewayOptions { date_filter: Filtering::Refused, ..usual() }, none()),
        ("ignored", GatewayOptions { date_filter: Filtering::Ignored, ..usual() }, none()),
        ("names fm", GatewayOptions { names_fm: true, ..usual() }, none()),
        ("no empty fm", GatewayOptions { leaves_out_empty_fm: true, ..usual() }, none()),
        (
            "names fm, and no empty one",
            GatewayOptions { names_fm: true, leaves_out_empty_fm: true, ..usual() },
            none(),
        ),
        ("loses order", GatewayOptions { loses_order: true, ..usual() }, none()),
        ("caps total", GatewayOptions { caps_total: true, ..usual() }, none()),
        ("fields described at length", GatewayOptions { plain_fields: false, ..usual() }, none()),
        ("search with meta", GatewayOptions { search_without_meta: false, ..usual() }, none()),
        (
            "no conditions in addresses",
            GatewayOptions { list_filter: Filtering::Refused, ..usual() },
            none(),
        ),
        (
            "conditions in addresses mean nothing, and search counts",
            GatewayOptions {
                list_filter: Filtering::Ignored,
                search_without_meta: false,
                ..usual()
            },
            none(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_is_mirrored_and_stays_so_whatever_the_vendor_leaves_open() {
    for (position, gateway, hidden) in positions() {
        println!("{position}");
        let portal = portal_of(300, gateway.clone());
        let database = database().await;
        done(&portal, &database, &["backfill"]).await;
        assert_equal(&portal, database.pool(), &hidden).await;

        a_day_of_work(&portal);
        done(&portal, &database, &["sync"]).await;
        done(&portal, &database, &["sweep"]).await;
        assert_equal(&portal, database.pool(), &hidden).await;
        done(&portal, &database, &["verify", "--level", "full"]).await;
        let searches_alone = gateway.list_filter != Filtering::Works;
        // Of a search alone no page says that it counts.
        if !searches_alone || !gateway.search_without_meta {
            done(&portal, &database, &["verify", "--level", "counts"]).await;
            done(&portal, &database, &["verify", "--level", "ids"]).await;
        }
        let commands = portal.stats().commands;
        let lists = ["crm.contact.list", "crm.lead.list", "crm.item.list"];
        assert!(lists.iter().all(|list| !commands.contains_key(*list)), "{commands:?}");
        let asked = |method: &str| commands.get(method).copied().unwrap_or(0);
        assert!(asked("vibecode.list") > 0, "{commands:?}");
        assert!(asked("vibecode.search") + asked("vibecode.list") > 20, "{commands:?}");
        let paged = portal.stats().gateway_largest;
        assert!(paged > 50, "{paged}");
    }
}

/// Settings that hold a key and nothing that opens the portal.
fn key_alone(portal: &TestPortal, database: &Database, more: &str) -> String {
    let settings = settings(portal, database, "vibecode", KEY);
    let (webhook, host) = (portal.webhook_url(), portal.url().replacen("http://", "", 1));
    let host = host.trim_end_matches('/');
    let without = settings.replacen(&format!("webhook_url = \"{webhook}\"\n"), "", 1);
    assert_ne!(without, settings);
    without.replacen(KEY, &format!("{KEY}\nportal_host = \"{host}\"\n{more}"), 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_alone_is_enough() {
    let undated = GatewayOptions { date_filter: Filtering::Refused, ..Default::default() };
    let at_length = GatewayOptions { plain_fields: false, ..Default::default() };
    for gateway in [GatewayOptions::default(), undated, at_length] {
        let plain = gateway.plain_fields;
        let portal = portal_of(200, gateway);
        let database = database().await;
        let settings = key_alone(&portal, &database, "full_pass_interval = \"1s\"");
        let done = async |arguments: &[&str]| {
            let finished = Run::b24mirror(arguments).config(&settings).finish().await;
            assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
            finished
        };
        done(&["backfill"]).await;
        a_day_of_work(&portal);
        tokio::time::sleep(Duration::from_secs(2)).await;
        for arguments in [&["sync"][..], &["sweep"], &["verify", "--level", "full"]] {
            done(arguments).await;
        }
        // Which user fields are days or files is known where the gateway tells, and not else.
        let mut hidden = HIDDEN.to_vec();
        hidden.extend(plain.then_some("UF_*"));
        assert_equal(&portal, database.pool(), &hidden).await;
        let status = Run::b24mirror(&["status"]).config(&settings).finish().await;
        assert!(!status.stdout.contains("could not be read"), "{status:#?}");
        let asked = portal.stats().commands;
        let own: Vec<_> = asked.keys().filter(|name| !name.starts_with("vibecode.")).collect();
        assert!(own.is_empty(), "the portal itself was asked: {own:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_alone_opens_nothing_else() {
    let portal = portal(GatewayOptions::default());
    let database = database().await;
    let settings = key_alone(&portal, &database, "");
    for (more, key) in [
        ("deals.enabled = true\n", "entities.deals.enabled"),
        ("leads.product_rows = true\n", "entities.leads.product_rows"),
        ("mail_recipients.enabled = true\n", "entities.mail_recipients.enabled"),
    ] {
        let settings = format!("{settings}{more}");
        let refused = Run::b24mirror(&["backfill"]).config(&settings).finish().await;
        assert_eq!(refused.code, Some(64), "{refused:#?}");
        assert!(refused.stderr.contains(&format!("`{key}`")), "{refused:#?}");
        assert!(refused.stderr.contains("portal.vibecode.portal_host"), "{refused:#?}");
    }
    let classic = settings.replacen("source = \"vibecode\"", "source = \"classic\"", 1);
    let refused = Run::b24mirror(&["backfill"]).config(&classic).finish().await;
    assert!(refused.stderr.contains("`entities.contacts.source`"), "{refused:#?}");

    let asked = async |arguments: &[&str]| {
        let finished = Run::b24mirror(arguments).config(&settings).finish().await;
        assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
        finished.stdout
    };
    let checked = asked(&["check"]).await;
    assert!(checked.contains("read through a gateway alone"), "{checked}");
    let planned = asked(&["plan", "contacts"]).await;
    assert!(planned.contains("contacts: about 7"), "{planned}");

    // Once there is a webhook, everything that the gateway could not tell is filled in.
    let finished = Run::b24mirror(&["backfill"]).config(&settings).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    done(&portal, &database, &["backfill"]).await;
    assert_equal(&portal, database.pool(), &HIDDEN).await;
    let named = "select count(*) from bitrix24.statuses";
    assert!(value::<i64>(database.pool(), named).await > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_at_which_counting_may_have_ended_is_made_sure_of() {
    let portal = TestPortal::with(Options {
        contacts: 4_500,
        gateway: GatewayOptions {
            requests_per_minute: None,
            caps_total: true,
            ..GatewayOptions::default()
        },
        ..unlimited()
    });
    let database = database().await;
    let settings = portal.settings_with(
        &database,
        &format!(
            "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
             [portal.vibecode]\nurl = \"{}\"\nrequests_per_minute = 100000\n{KEY}\n\
             [entities]\ncontacts.source = \"vibecode\"\nleads.enabled = false\n",
            portal.url()
        ),
    );
    let entity = family(&CONTACTS);
    let reaches = async |wanted: i64, code: i32| {
        let there: i64 = value(database.pool(), "select count(*) from bitrix24.contacts").await;
        let count = u64::try_from(wanted - there).unwrap();
        portal.happens(Action::Create { entity, count, visible_after: 0.0 });
        for (arguments, code) in [(&["sync"][..], 0), (&["verify", "--level", "counts"], code)] {
            let finished = Run::b24mirror(arguments).config(&settings).finish().await;
            assert_eq!(finished.code, Some(code), "{wanted}, {arguments:?}: {finished:#?}");
        }
    };
    let finished = Run::b24mirror(&["backfill"]).config(&settings).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    reaches(4_999, 0).await;
    reaches(5_000, 0).await;
    // More than it has counted: that is no number to hold against the mirror's.
    reaches(5_001, 1).await;
}

/// The rows of a table as text, by their IDs, without what is no content or hidden.
async fn rows(pool: &PgPool, entity: &Entity) -> BTreeMap<i64, Value> {
    let hidden = HIDDEN.map(|field| format!(" - '{}'", field.to_lowercase())).concat();
    let select = format!(
        "select id, to_jsonb(t) - 'synced_at' - 'content_hash'{hidden} from bitrix24.{} t \
         where deleted_at is null",
        entity.name
    );
    let rows: Vec<(i64, Value)> =
        sqlx::query_as(AssertSqlSafe(select)).fetch_all(pool).await.unwrap();
    rows.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_makes_the_same_tables_as_items() {
    let portal = portal(GatewayOptions::default());
    let (item, gateway) = (database().await, database().await);
    let as_items = settings(&portal, &item, "item", "");
    let finished = Run::b24mirror(&["backfill"]).config(&as_items).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    done(&portal, &gateway, &["backfill"]).await;
    for entity in MIRRORED {
        let (one, other) = (rows(item.pool(), entity).await, rows(gateway.pool(), entity).await);
        assert!(one.len() > 100, "{} {}", entity.name, one.len());
        assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
        for (id, row) in &one {
            assert_eq!(Some(row), other.get(id), "{} {id}", entity.singular);
        }
        for multi in entity.multi_fields.iter().filter(|multi| !HIDDEN.contains(&multi.field)) {
            let select = format!(
                "select coalesce(jsonb_agg(to_jsonb(m) order by to_jsonb(m)::text), '[]')::text \
                 from bitrix24.{} m",
                multi.table
            );
            let (one, other): (String, String) =
                (value(item.pool(), &select).await, value(gateway.pool(), &select).await);
            assert_eq!(one, other, "{}", multi.table);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_does_not_show_stays_as_items_have_brought_it() {
    let portal = portal(GatewayOptions::default());
    let database = database().await;
    let as_items = settings(&portal, &database, "item", "");
    let finished = Run::b24mirror(&["backfill"]).config(&as_items).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let hidden = "select count(*) from bitrix24.contacts where webform_id is not null";
    let before: i64 = value(database.pool(), hidden).await;
    let observers: i64 =
        value(database.pool(), "select count(*) from bitrix24.contact_observers").await;
    assert!(before > 10 && observers > 10, "{before} {observers}");
    // What is the same is not written at all, neither there nor back.
    let versions = "select string_agg(t.line, ' ' order by t.line) from ( \
                        select 'c' || id || '/' || xmin || '/' || ctid as line \
                        from bitrix24.contacts \
                        union all select 'l' || id || '/' || xmin || '/' || ctid \
                        from bitrix24.leads \
                        union all select 'p' || id || '/' || xmin || '/' || ctid \
                        from bitrix24.contact_phones) t";
    let written: String = value(database.pool(), versions).await;
    done(&portal, &database, &["backfill"]).await;
    assert!(value::<String>(database.pool(), versions).await == written, "the gateway wrote rows");
    let finished = Run::b24mirror(&["backfill"]).config(&as_items).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(value::<String>(database.pool(), versions).await == written, "items wrote rows");
    done(&portal, &database, &["backfill"]).await;
    assert_eq!(value::<i64>(database.pool(), hidden).await, before);
    let now: i64 = value(database.pool(), "select count(*) from bitrix24.contact_observers").await;
    assert_eq!(now, observers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_found_and_repaired() {
    let portal = portal(GatewayOptions::default());
    let database = database().await;
    done(&portal, &database, &["backfill"]).await;
    let pool = database.pool();
    for damage in [
        "update bitrix24.contacts set last_name = 'x' where id = (select min(id) from bitrix24.contacts)",
        "delete from bitrix24.lead_phones where lead_id = (select min(lead_id) from bitrix24.lead_phones)",
    ] {
        let damaged = sqlx::raw_sql(damage).execute(pool).await.unwrap().rows_affected();
        assert!(damaged > 0, "{damage}");
    }
    let found = run(&portal, &database, KEY, &["verify", "--level", "full"]).await;
    assert_eq!(found.code, Some(2), "{found:#?}");
    done(&portal, &database, &["verify", "--level", "full", "--repair"]).await;
    assert_equal(&portal, pool, &HIDDEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_without_dates_finds_news_at_once_and_changes_by_reading_everything() {
    let portal = portal(GatewayOptions { date_filter: Filtering::Refused, ..Default::default() });
    let database = database().await;
    done(&portal, &database, &["backfill"]).await;
    let often = format!("{KEY}\nfull_pass_interval = \"4s\"");
    let settings = settings(&portal, &database, "vibecode", &often);
    let daemon = Run::b24mirror(&["run"]).config(&settings).spawn();
    for round in 0..2 {
        for entity in MIRRORED.map(family) {
            portal.happens(Action::Create { entity, count: 3, visible_after: 0.0 });
            let (ids, count) = (Vec::new(), 20);
            portal.happens(Action::Change { entity, ids, count, visible_after: 0.0 });
        }
        let begun = tokio::time::Instant::now();
        loop {
            let mut differences = String::new();
            for entity in MIRRORED {
                let pool = database.pool();
                differences
                    .push_str(&differences_unless_hidden(&portal, pool, entity, &HIDDEN).await);
            }
            if differences.is_empty() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_mins(1), "round {round}:\n{differences}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    daemon.signal(Signal::SIGTERM);
    let finished = daemon.finish().await;
    assert!(all(&finished).contains("cannot be asked for what was modified"), "{finished:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_needs_the_session_of_a_user() {
    let portal = portal(GatewayOptions::default());
    let database = database().await;
    let app = "api_key = \"vibe_app_s1mul4ted\"";
    let alone = run(&portal, &database, app, &["backfill"]).await;
    assert_eq!(alone.code, Some(64), "{alone:#?}");
    assert!(alone.stderr.contains("portal.vibecode.session_token"), "{alone:#?}");
    let expired = format!("{app}\nsession_token = \"an-old-session\"");
    let expired = run(&portal, &database, &expired, &["backfill"]).await;
    assert_ne!(expired.code, Some(0));
    assert!(all(&expired).contains("TOKEN_EXPIRED"), "{expired:#?}");
    let whole = format!("{app}\nsession_token = \"s1mul4ted-session\"");
    let whole = run(&portal, &database, &whole, &["backfill"]).await;
    assert_eq!(whole.code, Some(0), "{whole:#?}");
    for shown in [all(&expired), all(&whole)] {
        for secret in ["vibe_app_s1mul4ted", "an-old-session", "s1mul4ted-session"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_missing_or_wrong_is_named_and_never_shown() {
    let portal = portal(GatewayOptions::default());
    let database = database().await;
    let missing = run(&portal, &database, "", &["backfill"]).await;
    assert_eq!(missing.code, Some(64), "{missing:#?}");
    assert!(missing.stderr.contains("portal.vibecode.api_key"), "{missing:#?}");
    let wrong = run(&portal, &database, "api_key = \"vibe_api_hidden\"", &["check"]).await;
    assert_eq!(wrong.code, Some(1), "{wrong:#?}");
    let shown = all(&wrong);
    assert!(shown.contains("INVALID_API_KEY") && shown.contains("portal.vibecode.api_key"));
    assert!(!shown.contains("vibe_api_hidden"), "{shown}");
    let scope = portal_without_scope();
    let denied = run(&scope, &database, KEY, &["check"]).await;
    assert!(all(&denied).contains("SCOPE_DENIED"), "{denied:#?}");
}

/// Everything that a command has said.
fn all(finished: &Finished) -> String {
    format!("{}{}", finished.stdout, finished.stderr)
}

fn portal_without_scope() -> TestPortal {
    TestPortal::with(Options {
        scopes: vec!["user".to_owned()],
        gateway: GatewayOptions { requests_per_minute: None, ..Default::default() },
        ..unlimited()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_how_changes_are_found() {
    for (date_filter, finding) in [
        (Filtering::Works, "readable, and the filters are understood"),
        (Filtering::Refused, "cannot be asked for what was modified"),
    ] {
        let portal = portal(GatewayOptions { date_filter, ..Default::default() });
        let database = database().await;
        let checked = run(&portal, &database, KEY, &["check"]).await;
        assert_eq!(checked.code, Some(0), "{checked:#?}");
        assert!(checked.stdout.contains(finding), "{checked:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_when_changes_come_by_full_passes() {
    let hourly = format!("{KEY}\nfull_pass_interval = \"1h\"");
    for (date_filter, every) in [(Filtering::Works, None), (Filtering::Refused, Some(3_600))] {
        let portal = portal_of(60, GatewayOptions { date_filter, ..Default::default() });
        let database = database().await;
        let backfilled = run(&portal, &database, &hourly, &["backfill"]).await;
        assert_eq!(backfilled.code, Some(0), "{backfilled:#?}");
        let json = run(&portal, &database, &hourly, &["status", "--json"]).await;
        let json: Value = serde_json::from_str(&json.stdout).unwrap();
        let text = run(&portal, &database, &hourly, &["status"]).await;
        for place in 0..MIRRORED.len() {
            assert_eq!(json["entities"][place]["full_pass_seconds"].as_u64(), every, "{json:#}");
        }
        let told = "changes, which arrive by reading every record every 1h";
        assert_eq!(text.stdout.contains(told), every.is_some(), "{text:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_kept_by_itself_and_a_refusal_is_waited_for() {
    let portal = portal(GatewayOptions::default());
    let database = database().await;
    let limited = FaultKind::Status {
        status: 429,
        code: "RATE_LIMITED".to_owned(),
        description: "Too many requests".to_owned(),
    };
    for method in ["vibecode.list", "vibecode.search"] {
        portal.fault(Fault::times(method, 3, limited.clone()));
    }
    done(&portal, &database, &["backfill"]).await;
    assert_equal(&portal, database.pool(), &HIDDEN).await;

    // Its own limit is never passed.
    let portal = TestPortal::with(Options {
        contacts: 60,
        leads: 20,
        gateway: GatewayOptions { requests_per_minute: Some(60), ..Default::default() },
        ..unlimited()
    });
    let database = crate::support::database().await;
    let gentle = format!(
        "{}\n[portal.vibecode]\nurl = \"{}\"\n{KEY}\nrequests_per_minute = 60\n\
         [entities.contacts]\nsource = \"vibecode\"\n[entities.leads]\nenabled = false\n",
        portal.settings(&database),
        portal.url()
    );
    let finished = Run::b24mirror(&["backfill"]).config(&gentle).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(portal.stats().refusals, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_hours_hold_at_the_gateway_as_well() {
    let portal = portal(GatewayOptions::default());
    let database = database().await;
    let pool = database.pool();
    // A Wednesday, in Moscow.
    portal.happens(Action::SetClock { to: "2026-03-04T17:59:00+03:00".to_owned() });
    let quiet = "burst = 10000\nquiet_hours = [\"mon-fri 09:00-18:00\"]\n";
    let settings = settings(&portal, &database, "vibecode", KEY).replace("burst = 10000\n", quiet);
    let mut daemon = Run::b24mirror(&["run"]).config(&settings).spawn();
    daemon.logged("waiting: quiet hours until 18:00 (portal time)").await;
    let entity = family(&CONTACTS);
    let new = portal.happens(Action::Create { entity, count: 1, visible_after: 0.0 }).ids[0];
    let there = format!("select count(*) = 1 from bitrix24.contacts where id = {new}");
    eventually("the new contact is there", || value(pool, &there)).await;
    let read = "select count(*) from bitrix24.contacts";
    assert!(value::<i64>(pool, read).await < 200, "nothing else is read");

    portal.happens(Action::SetClock { to: "2026-03-04T18:00:00+03:00".to_owned() });
    eventually("everything is there", || async {
        differences_unless_hidden(&portal, pool, &CONTACTS, &HIDDEN).await.is_empty()
    })
    .await;
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_gateway_is_borne() {
    let portal = portal(GatewayOptions::default());
    let database = database().await;
    for fault in [
        FaultKind::Html { status: 502 },
        FaultKind::Empty,
        FaultKind::Cut { bytes: 300 },
        FaultKind::Reset,
        FaultKind::Status {
            status: 504,
            code: "QUEUE_TIMEOUT".to_owned(),
            description: String::new(),
        },
    ] {
        portal.fault(Fault::once("vibecode.list", fault.clone()));
        portal.fault(Fault::once("vibecode.search", fault));
    }
    done(&portal, &database, &["backfill"]).await;
    assert_equal(&portal, database.pool(), &HIDDEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_delivered_is_set_aside_and_everything_else_arrives() {
    let portal = portal(GatewayOptions::default());
    let database = database().await;
    let entity = family(&LEADS);
    let id = portal.ids(entity)[137];
    let fault = FaultKind::Html { status: 502 };
    portal.happens(Action::Poison { poison: Poison { entity, id, fault } });
    done(&portal, &database, &["backfill"]).await;
    let undeliverable = "select record_id from bitrix24.sync_quarantine \
                         where reason = 'undeliverable' and entity = 'leads'";
    assert_eq!(value::<i64>(database.pool(), undeliverable).await, id);
    let live = "select count(*) from bitrix24.leads";
    let live: i64 = value(database.pool(), live).await;
    assert_eq!(usize::try_from(live).unwrap(), portal.ids(entity).len() - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_one_answer_holds_are_read_to_the_last() {
    let portal = TestPortal::with(Options {
        contacts: 11_000,
        leads: 10,
        gateway: GatewayOptions {
            requests_per_minute: None,
            caps_total: true,
            ..Default::default()
        },
        ..unlimited()
    });
    let database = database().await;
    done(&portal, &database, &["backfill"]).await;
    done(&portal, &database, &["sweep"]).await;
    assert_equal(&portal, database.pool(), &HIDDEN).await;
    let stats = portal.stats();
    assert!(stats.gateway_truncated > 0);
    assert!((1_000..=5_000).contains(&stats.gateway_largest), "{}", stats.gateway_largest);
    let asked = ["vibecode.list", "vibecode.search"];
    let asked: u64 = asked.iter().filter_map(|method| stats.commands.get(*method)).sum();
    assert!(asked < 80, "{:?}", stats.commands);
}
