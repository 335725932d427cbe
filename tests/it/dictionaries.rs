//! The names behind codes: read whole, kept fresh, and never in the way of records.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use b24mirror::{
    entity::dictionary::Dictionary,
    portal::{DictionarySource, Lane, Limits, Portal, PortalOptions, WebhookUrl},
    retry::RetryPolicy,
    simulator::{Action, Entity, Fault, FaultKind, Options, UserFieldType},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{
    Database, Process, Run, TestPortal, cycled, database, eventually,
    tables::{let_the_lease_run_out, row_versions, value},
    unlimited,
};

const NO_LIMITS: &str = "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n";

const TABLES: [&str; 5] = ["statuses", "users", "departments", "currencies", "pipelines"];

fn portal() -> TestPortal {
    TestPortal::with(Options { contacts: 60, leads: 40, malformed: 0, ..unlimited() })
}

/// Settings that read the names once in an interval.
fn settings(portal: &TestPortal, database: &Database, interval: &str) -> String {
    portal
        .settings_with(database, NO_LIMITS)
        .replace("[sync]\n", &format!("[sync]\ndictionary_interval = \"{interval}\"\n"))
}

fn daemon(portal: &TestPortal, database: &Database, interval: &str) -> Process {
    Run::b24mirror(&["run"]).config(&settings(portal, database, interval)).spawn()
}

/// The rows that a right mirror shows as listed.
fn expected(portal: &TestPortal) -> BTreeMap<&'static str, BTreeSet<String>> {
    let names = portal.names();
    let text = |row: Value| row.to_string();
    let statuses = names.statuses.iter().map(|status| {
        text(json!({
            "directory": status.directory, "code": status.code, "id": status.id,
            "name": status.name, "sort": status.sort, "semantics": status.semantics,
            "color": "#39A8EF", "category_id": null,
        }))
    });
    let users = names.users.iter().map(|user| {
        text(json!({
            "id": user.id, "full_name": format!("{} {}", user.name, user.last_name),
            "name": user.name, "second_name": null, "last_name": user.last_name,
            "email": format!("user{}@example.org", user.id), "work_position": "менеджер",
            "department_ids": user.departments, "active": user.active,
        }))
    });
    let departments = names.departments.iter().map(|department| {
        text(json!({
            "id": department.id, "name": department.name, "sort": 500,
            "parent_id": department.parent, "head_id": department.head,
        }))
    });
    let currencies = names.currencies.iter().zip(1..).map(|(currency, place)| {
        let rate = currency.rate.trim_end_matches('0').trim_end_matches('.');
        text(json!({
            "code": currency.code, "name": currency.name, "rate": rate, "rate_amount": "1",
            "base": currency.base, "decimals": 2, "sort": place * 100,
        }))
    });
    // Contacts have two, leads none, and nothing else is mirrored.
    let pipelines = names.pipelines.iter().filter(|one| one.entity == Entity::Contacts);
    let pipelines = pipelines.map(|pipeline| {
        text(json!({
            "entity_type_id": 3, "id": pipeline.id, "name": pipeline.name,
            "sort": pipeline.sort, "is_default": pipeline.default,
        }))
    });
    BTreeMap::from([
        ("pipelines", pipelines.collect()),
        ("statuses", statuses.collect()),
        ("users", users.collect()),
        ("departments", departments.collect()),
        ("currencies", currencies.collect()),
    ])
}

async fn rows(pool: &PgPool, table: &str, condition: &str) -> BTreeSet<String> {
    let query = format!("select to_jsonb(t) from bitrix24.{table} as t where {condition}");
    let rows: Vec<Value> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(pool).await.unwrap();
    let text = |mut row: Value| {
        let fields = row.as_object_mut().unwrap();
        assert!(fields.remove("first_seen").is_some_and(|seen| seen.is_string()));
        fields.remove("gone_since");
        for number in ["rate", "rate_amount"] {
            if let Some(number) = fields.get_mut(number) {
                *number = number.to_string().into();
            }
        }
        row.to_string()
    };
    rows.into_iter().map(text).collect()
}

/// The dictionaries that differ from the portal's.
async fn different(portal: &TestPortal, pool: &PgPool) -> Vec<&'static str> {
    let expected = expected(portal);
    let mut different = Vec::new();
    for table in TABLES {
        if rows(pool, table, "gone_since is null").await != expected[table] {
            different.push(table);
        }
    }
    different
}

async fn assert_names_equal(portal: &TestPortal, pool: &PgPool) {
    let expected = expected(portal);
    for table in TABLES {
        let rows = rows(pool, table, "gone_since is null").await;
        assert_eq!(rows, expected[table], "{table}");
    }
}

async fn names_become_equal(portal: &TestPortal, pool: &PgPool) {
    eventually("the names of the portal", || async { different(portal, pool).await.is_empty() })
        .await;
}

/// Versions of all rows that say what codes mean.
async fn versions(pool: &PgPool) -> BTreeMap<String, String> {
    let mut versions = row_versions(pool).await;
    versions.retain(|table, _| {
        TABLES.contains(&table.as_str()) || ["field_options", "portal"].contains(&table.as_str())
    });
    assert_eq!(versions.len(), TABLES.len() + 2);
    versions
}

/// When the last dictionary was read.
async fn all_read_since(pool: &PgPool, since: &str) -> bool {
    let read = format!(
        "select count(*) = 5 from bitrix24.sync_dictionaries where read_at > '{since}' \
         and problem is null"
    );
    value(pool, &read).await
}

async fn now(pool: &PgPool) -> String {
    value(pool, "select clock_timestamp()::text").await
}

fn assigns(portal: &TestPortal, entity: Entity, user: i64) {
    let id = portal.ids(entity)[0];
    let field = "ASSIGNED_BY_ID".to_owned();
    portal.happens(Action::Touch { entity, id, field, value: user.into(), keep_date: false });
}

fn asked(portal: &TestPortal, method: &str) -> u64 {
    portal.stats().commands.get(method).copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_brings_every_name_and_a_second_reading_writes_nothing() {
    let (portal, database) = (portal(), database().await);
    portal.backfilled(&database).await;
    let pool = database.pool();
    assert_names_equal(&portal, pool).await;
    for (table, page) in [("statuses", 50), ("users", 50), ("departments", 50)] {
        assert!(expected(&portal)[table].len() > page, "{table} are more than a page");
    }
    let facts: String =
        value(pool, "select time_zone || ' ' || country from bitrix24.portal").await;
    assert_eq!(facts, "Europe/Moscow RU");
    let hidden: Vec<String> = sqlx::query_scalar(
        "select code from bitrix24.sync_hidden_codes where dictionary = 'users' order by code",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(!hidden.is_empty() && hidden.iter().all(|id| ["41", "42", "43"].contains(&&**id)));

    // Not due again.
    let before = versions(pool).await;
    portal.reset_stats();
    let finished = portal.command(&database, &["sync"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(portal.stats().requests, 2, "{:?}", portal.stats().requests_by_method);

    let since = now(pool).await;
    sqlx::query("update bitrix24.sync_dictionaries set tried_at = tried_at - interval '1 day'")
        .execute(pool)
        .await
        .unwrap();
    let finished = portal.command(&database, &["sync"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(all_read_since(pool, &since).await);
    assert_eq!(versions(pool).await, before, "nothing has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_follows_changes_and_marks_what_has_gone_until_it_comes_back() {
    let (portal, database) = (portal(), database().await);
    portal.backfilled(&database).await;
    let pool = database.pool();
    let status = |code: &str| ("INDUSTRY".to_owned(), code.to_owned());
    let _daemon = daemon(&portal, &database, "1s");

    let (directory, code) = status("INDUSTRY_7");
    portal.happens(Action::RemoveStatus { directory, code });
    let (directory, code) = status("INDUSTRY_8");
    portal.happens(Action::RenameStatus { directory, code, name: "Ёлки & Ко".to_owned() });
    let (directory, code) = status("NEW");
    portal.happens(Action::AddStatus { directory, code, name: "Новая".to_owned() });
    let entity = Entity::Contacts;
    portal.happens(Action::RenamePipeline { entity, id: 0, name: "Люди & Ко".to_owned() });
    portal.happens(Action::RemovePipeline { entity, id: 5 });
    portal.happens(Action::DismissUser { id: 5 });
    portal.happens(Action::HideUser { id: 6, hidden: true });
    let (name, last_name) = ("Zoë".to_owned(), "Новая".to_owned());
    portal.happens(Action::AddUser { name, last_name });
    names_become_equal(&portal, pool).await;

    let gone = "gone_since is not null";
    let kept = rows(pool, "users", gone).await;
    assert_eq!(kept.len(), 1);
    assert!(kept.iter().all(|row| row.contains("Имя6 Фамилия6")), "{kept:?}");
    let kept = rows(pool, "statuses", gone).await;
    assert_eq!(kept.len(), 1);
    assert!(kept.iter().all(|row| row.contains("Отрасль 7")), "{kept:?}");

    let kept = rows(pool, "pipelines", gone).await;
    assert_eq!(kept.len(), 1);
    assert!(kept.iter().all(|row| row.contains("Контрагенты")), "{kept:?}");

    let (directory, code) = status("INDUSTRY_7");
    portal.happens(Action::AddStatus { directory, code, name: "Отрасль 7".to_owned() });
    portal.happens(Action::HideUser { id: 6, hidden: false });
    names_become_equal(&portal, pool).await;
    for table in TABLES.into_iter().filter(|table| *table != "pipelines") {
        assert_eq!(rows(pool, table, gone).await, BTreeSet::new(), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_code_is_looked_up_once_and_a_hidden_one_not_again() {
    let (portal, database) = (portal(), database().await);
    portal.backfilled(&database).await;
    let pool = database.pool();
    portal.reset_stats();
    let daemon = daemon(&portal, &database, "1h");
    cycled(pool).await;
    assert_eq!(asked(&portal, "user.get"), 0, "they were read an hour ago at most");

    let (name, last_name) = ("Нурлан".to_owned(), "Новый".to_owned());
    let new = portal.happens(Action::AddUser { name, last_name }).ids[0];
    portal.happens(Action::HideUser { id: 1_019, hidden: true });
    assigns(&portal, Entity::Contacts, new);
    names_become_equal(&portal, pool).await;
    let label = "select u.full_name from bitrix24.contacts as c join bitrix24.users as u \
                 on u.id = c.assigned_by_id where c.id = (select min(id) from bitrix24.contacts)";
    assert_eq!(value::<String>(pool, label).await, "Нурлан Новый");
    assert_eq!(asked(&portal, "crm.status.list"), 0, "only what lacks a code is read");
    drop(daemon);
    let_the_lease_run_out(pool).await;

    // A new process, which may ask at once.
    portal.reset_stats();
    let hidden = portal.happens(Action::AddUser { name: "Бот".into(), last_name: "А".into() });
    let hidden = hidden.ids[0];
    portal.happens(Action::HideUser { id: hidden, hidden: true });
    for (user, readings) in [(hidden, 1), (3, 1), (hidden, 1)] {
        assigns(&portal, Entity::Leads, user);
        let finished = portal.command(&database, &["sync"]).await;
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        // Two pages each time.
        assert_eq!(asked(&portal, "user.get"), 2 * readings, "after {user}");
    }
    let remembered = format!(
        "select exists (select from bitrix24.sync_hidden_codes where code = '{hidden}' \
         and dictionary = 'users')"
    );
    assert!(value::<bool>(pool, &remembered).await);

    // What is listed after all is hidden no more.
    portal.happens(Action::HideUser { id: hidden, hidden: false });
    sqlx::query("update bitrix24.sync_dictionaries set tried_at = null")
        .execute(pool)
        .await
        .unwrap();
    let finished = portal.command(&database, &["sync"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(!value::<bool>(pool, &remembered).await);
    assert_names_equal(&portal, pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_told_and_stops_nothing() {
    let (portal, database) = (portal(), database().await);
    portal.happens(Action::Scopes { scopes: vec!["crm".to_owned()] });
    portal.backfilled(&database).await;
    let pool = database.pool();
    assert_eq!(different(&portal, pool).await, ["users", "departments"]);

    let checked = portal.command(&database, &["check"]).await;
    assert_eq!(checked.code, Some(0), "{checked:#?}");
    for line in [
        "warning  users: the webhook lacks the right `user`: the names of people will be missing",
        "warning  departments: the webhook lacks the right `department`",
        "ok       statuses: readable, 63 rows",
        "ok       currencies: readable, 4 rows",
    ] {
        assert!(checked.stdout.contains(line), "{line:?} in {checked:#?}");
    }

    // Until the schedule comes, nothing asks for it again.
    portal.reset_stats();
    assigns(&portal, Entity::Contacts, 1_001);
    let finished = portal.command(&database, &["sync"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(portal.stats().requests, 2, "{:?}", portal.stats().requests_by_method);

    // A backfill does; each look at names begins with the profile.
    portal.reset_stats();
    let finished = portal.command(&database, &["backfill"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(portal.stats().commands.get("profile"), Some(&1), "{finished:#?}");
    assert!(finished.stderr.contains("the webhook lacks the right `user`"), "{finished:#?}");

    // So does a new daemon.
    let daemon = daemon(&portal, &database, "1s");
    cycled(pool).await;
    let status = portal.command(&database, &["status"]).await;
    let told = "names     users could not be read: the webhook lacks the right `user`; the names \
                of people are missing";
    assert!(status.stdout.contains(told), "{status:#?}");
    let scopes = ["crm", "user", "department"].map(str::to_owned).to_vec();
    let since = now(pool).await;
    portal.happens(Action::Scopes { scopes });
    eventually("a reading of everything", || all_read_since(pool, &since)).await;
    assert_names_equal(&portal, pool).await;
    drop(daemon);
    let_the_lease_run_out(pool).await;
    let status = portal.command(&database, &["status"]).await;
    assert!(!status.stdout.contains("names "), "{status:#?}");

    // A right that is lost again takes no name away.
    portal.happens(Action::Scopes { scopes: vec!["crm".to_owned()] });
    sqlx::query("update bitrix24.sync_dictionaries set tried_at = null")
        .execute(pool)
        .await
        .unwrap();
    let finished = portal.command(&database, &["sync"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_names_equal(&portal, pool).await;
    let status = portal.command(&database, &["status", "--json"]).await;
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let users = &status["dictionaries"][1];
    assert_eq!(users["dictionary"], "users");
    assert!(users["problem"].as_str().unwrap().ends_with("may be outdated"), "{users}");
    assert!(users["read_at"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_that_fails_midway_takes_no_name_away() {
    let (portal, database) = (portal(), database().await);
    portal.backfilled(&database).await;
    let pool = database.pool();
    let (directory, code) = ("INDUSTRY".to_owned(), "INDUSTRY_7".to_owned());
    portal.happens(Action::RemoveStatus { directory, code });
    portal.happens(Action::HideUser { id: 6, hidden: true });
    portal.happens(Action::HideUser { id: 1_003, hidden: true });
    let before = versions(pool).await;
    // The first pages come, the second ones do not.
    for method in ["crm.status.list", "user.get", "department.get"] {
        let code = "INTERNAL_SERVER_ERROR".to_owned();
        let kind = FaultKind::CommandError { status: 500, code, description: "no".to_owned() };
        portal.fault(Fault::once(method, kind).after(1));
    }
    sqlx::query("update bitrix24.sync_dictionaries set tried_at = null")
        .execute(pool)
        .await
        .unwrap();
    let finished = portal.command(&database, &["sync"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(portal.stats().faults.values().sum::<u64>(), 3, "{:?}", portal.stats().faults);
    assert_eq!(versions(pool).await, before);
    let problems = "select count(*) from bitrix24.sync_dictionaries where problem is not null";
    assert_eq!(value::<i64>(pool, problems).await, 3);

    // A daemon tries again at once.
    let _daemon = daemon(&portal, &database, "1h");
    names_become_equal(&portal, pool).await;
    assert_eq!(rows(pool, "users", "gone_since is not null").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_choices_of_user_fields_follow_the_portal() {
    let (portal, database) = (portal(), database().await);
    let field = || "UF_CRM_CHOICE".to_owned();
    let entity = Entity::Leads;
    let kind = UserFieldType::Enumeration;
    portal.happens(Action::AddUserField { entity, code: field(), kind, multiple: false });
    portal.backfilled(&database).await;
    let pool = database.pool();
    let choices = async |condition: &str| -> Vec<(String, String, i32)> {
        sqlx::query_as(AssertSqlSafe(format!(
            "select id, label, sort from bitrix24.field_options where entity = 'leads' \
             and field = 'UF_CRM_CHOICE' and {condition} order by sort, id"
        )))
        .fetch_all(pool)
        .await
        .unwrap()
    };
    let first = choices("gone_since is null").await;
    assert!(first.len() > 1, "{first:?}");
    let option = |at: usize| first[at].0.parse().unwrap();
    let set = |option: i64, text: Option<&str>| Action::SetOption {
        entity,
        code: field(),
        option,
        text: text.map(str::to_owned),
    };
    portal.happens(set(option(0), None));
    portal.happens(set(option(1), Some("Переименовано")));
    let finished = portal.command(&database, &["sync"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(choices("gone_since is not null").await, first[..1]);
    let renamed = (first[1].0.clone(), "Переименовано".to_owned(), 0);
    assert_eq!(choices("gone_since is null").await[0], renamed);

    portal.happens(set(option(0), Some(&first[0].1)));
    portal.command(&database, &["sync"]).await;
    assert_eq!(choices("gone_since is not null").await, []);

    portal.happens(Action::RemoveUserField { entity, code: field() });
    portal.command(&database, &["sync"]).await;
    assert_eq!(choices("gone_since is null").await, [], "they go with their field");
    assert_eq!(choices("gone_since is not null").await.len(), first.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moves_between_two_pages_is_not_taken_for_gone() {
    let (portal, database) = (portal(), database().await);
    portal.backfilled(&database).await;
    let pool = database.pool();
    // The first pages of statuses, users and departments travel together.
    let hide = Action::HideUser { id: 3, hidden: true };
    portal.happens(Action::AfterPages { pages: 3, then: Box::new(hide) });
    portal.reset_stats();
    for hidden in [0, 1] {
        sqlx::query("update bitrix24.sync_dictionaries set tried_at = null")
            .execute(pool)
            .await
            .unwrap();
        let finished = portal.command(&database, &["sync"]).await;
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        let gone = rows(pool, "users", "gone_since is not null").await;
        assert_eq!(gone.len(), hidden, "{gone:?}");
    }
    // Each reading missed somebody and looked again.
    assert_eq!(asked(&portal, "user.get"), 8);
    assert_names_equal(&portal, pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_count_days_in_the_zone_that_the_portal_is_in_now() {
    let portal = TestPortal::with(Options {
        contacts: 20,
        leads: 10,
        zone: chrono_tz::Tz::Europe__Berlin,
        ..unlimited()
    });
    let database = database().await;
    let daemon = daemon(&portal, &database, "1s");
    let counts_in = |zone: &'static str| {
        let pool = database.pool();
        let view = "select pg_get_viewdef(to_regclass('bitrix24_report.new_contacts_per_week'))";
        move || async move {
            let view: Option<String> = sqlx::query_scalar(view).fetch_one(pool).await.unwrap();
            view.is_some_and(|view| view.contains(zone))
        }
    };
    eventually("days of Berlin", counts_in("Europe/Berlin")).await;
    portal.happens(Action::SetZone { zone: "Asia/Tokyo".to_owned() });
    eventually("days of Tokyo", counts_in("Asia/Tokyo")).await;
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_backfill_reads_the_names_that_the_first_could_not() {
    let (portal, database) = (portal(), database().await);
    portal.happens(Action::Scopes { scopes: vec!["crm".to_owned()] });
    portal.backfilled(&database).await;
    assert_ne!(different(&portal, database.pool()).await, Vec::<&str>::new());
    let scopes = ["crm", "user", "department"].map(str::to_owned).to_vec();
    portal.happens(Action::Scopes { scopes });
    portal.backfilled(&database).await;
    assert_names_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_lists_than_one_request_holds_are_read_in_turns() {
    let portal = portal();
    let client = Portal::new(PortalOptions {
        credentials: WebhookUrl::parse(&portal.webhook_url()).unwrap().into(),
        timeout: Duration::from_secs(30),
        max_body: 32 << 20,
        ca_file: None,
        limits: Limits { requests_per_second: 1_000.0, burst: 1_000, operating: None },
        retry: RetryPolicy::new(3, Duration::from_millis(1), Duration::from_millis(5)).unwrap(),
    })
    .unwrap();
    // As of a portal with a hundred smart processes, most of which have no pipelines.
    let source = DictionarySource::new(client).with_pipelines_of((1_000..1_100).chain([2, 3, 4]));
    let wanted = [Dictionary::Statuses, Dictionary::Pipelines, Dictionary::Users];
    let heard = source.read(Lane::People, &wanted).await.unwrap();
    let rows: Vec<usize> =
        heard.lists.into_iter().map(|(_, listed)| listed.unwrap().rows.len()).collect();
    let names = portal.names();
    assert_eq!((rows[0], rows[2]), (names.statuses.len(), names.users.len()));
    assert!(rows[1] > 3, "{rows:?}");
    let tried = source.try_each(Lane::People, &wanted).await.unwrap();
    for (dictionary, listed) in tried {
        assert!(listed.unwrap() > 0, "{dictionary:?}");
    }
}
