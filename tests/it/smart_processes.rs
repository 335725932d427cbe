//! Smart processes: whatever a portal's people have made up is mirrored like everything else,
//! from when it appears until it is gone.

use std::collections::BTreeSet;

use b24mirror::{
    entity::{Dialect, Entity, smart_process},
    simulator::{self, Action, Fault, FaultKind, Options},
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::{
    Database, Finished, Process, Run, TestPortal, database,
    equal::item_differences,
    eventually, http,
    tables::{row_versions, value},
    unlimited,
};

const PROJECTS: simulator::Entity = simulator::Entity::Projects;
const EQUIPMENT: simulator::Entity = simulator::Entity::Equipment;

/// With stages, clients and observers, and without any of that.
fn processes() -> [&'static Entity; 2] {
    [128, 1036].map(|number| smart_process(number).unwrap())
}

fn portal() -> TestPortal {
    let (contacts, leads) = (60, 0);
    TestPortal::with(Options { contacts, leads, projects: 700, equipment: 230, ..unlimited() })
}

fn settings(portal: &TestPortal, database: &Database, more: &str) -> String {
    settings_asking(portal, database, "1s", more)
}

/// The same where the portal is asked so often which processes it has.
fn settings_asking(portal: &TestPortal, database: &Database, every: &str, more: &str) -> String {
    let more = format!(
        "dictionary_interval = \"{every}\"\n\
         [portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
         [entities]\nleads.enabled = false\nsmart_items.enabled = true\n{more}"
    );
    portal.settings_with(database, &more)
}

const HISTORY: &str = "smart_items.history = true\n";

async fn run(portal: &TestPortal, database: &Database, arguments: &[&str]) -> Finished {
    Run::b24mirror(arguments).config(&settings(portal, database, HISTORY)).finish().await
}

async fn done(portal: &TestPortal, database: &Database, arguments: &[&str]) -> Finished {
    let finished = run(portal, database, arguments).await;
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
    finished
}

async fn status(portal: &TestPortal, database: &Database) -> Value {
    let finished = run(portal, database, &["status", "--json"]).await;
    serde_json::from_str(&finished.stdout).unwrap()
}

fn line_of<'a>(status: &'a Value, entity: &str) -> Option<&'a Value> {
    status["entities"].as_array().unwrap().iter().find(|line| line["entity"] == entity)
}

fn daemon(portal: &TestPortal, database: &Database) -> Process {
    Run::b24mirror(&["run"]).config(&settings(portal, database, HISTORY)).spawn()
}

async fn assert_equal(portal: &TestPortal, database: &Database) {
    for entity in processes() {
        let differences = item_differences(portal, database.pool(), entity).await;
        assert!(differences.is_empty(), "{} differ from the portal:\n{differences}", entity.name);
    }
}

async fn is_equal(portal: &TestPortal, database: &Database, entity: &'static Entity) -> bool {
    let made = format!("select to_regclass('bitrix24.{}') is not null", entity.name);
    value::<bool>(database.pool(), &made).await
        && item_differences(portal, database.pool(), entity).await.is_empty()
}

/// How often items have been listed, of whatever process.
fn listed(portal: &TestPortal) -> u64 {
    portal.stats().commands.get("crm.item.list").copied().unwrap_or_default()
}

fn make(portal: &TestPortal, entity: simulator::Entity, exists: bool) {
    portal.happens(Action::SmartProcess { entity, exists });
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_of_every_item_of_every_process_is_mirrored_and_stays_so() {
    let (portal, database) = (portal(), database().await);
    done(&portal, &database, &["backfill"]).await;
    assert_equal(&portal, &database).await;
    for entity in [PROJECTS, EQUIPMENT] {
        portal.happens(Action::Create { entity, count: 60, visible_after: 0.0 });
        portal.happens(Action::Change { entity, ids: Vec::new(), count: 70, visible_after: 0.0 });
        portal.happens(Action::Import { entity, count: 4, days: 200, visible_after: 0.0 });
        portal.happens(Action::Delete { entity, ids: Vec::new(), count: 5 });
        portal.happens(Action::Restore { entity, ids: Vec::new(), count: 2, visible_after: 0.0 });
    }
    let links = Action::SetLinks {
        entity: PROJECTS,
        id: portal.ids(PROJECTS)[3],
        field: "CONTACT_IDS".to_owned(),
        ids: vec![7, 9, 8],
        keep_date: false,
    };
    portal.happens(links);
    done(&portal, &database, &["sync"]).await;
    done(&portal, &database, &["sweep"]).await;
    assert_equal(&portal, &database).await;
    done(&portal, &database, &["verify", "--level", "full"]).await;
    let pool = database.pool();
    for number in [128, 1036] {
        let told = format!(
            "select count(distinct smart_item_id) from bitrix24.smart_item_changes \
             where entity_type_id = {number} and kind = 'changed'"
        );
        assert!(value::<i64>(pool, &told).await > 40, "{number}");
    }
    let told = "select count(*) = count(distinct id) from bitrix24.smart_item_changes";
    assert!(value::<bool>(pool, told).await, "lines of all processes have numbers of their own");
    // One table has the items of all, and the same.
    let all = "select (select count(*) from bitrix24.smart_items) = \
               (select count(*) from bitrix24.smart_items_128) + \
               (select count(*) from bitrix24.smart_items_1036)";
    assert!(value::<bool>(pool, all).await);
    let before = row_versions(pool).await;
    done(&portal, &database, &["backfill", "smart_items", "--restart"]).await;
    let after = row_versions(pool).await;
    for (table, version) in before.iter().filter(|(table, _)| table.starts_with("smart_item")) {
        assert_eq!(after.get(table), Some(version), "{table} was written without need");
    }
}

/// The items whose pipeline has another name in the view than in the portal, or none.
async fn misnamed(portal: &TestPortal, database: &Database, view: &str, of: &str) -> Vec<String> {
    let names = portal.names().pipelines;
    let shown = format!("select distinct {of}, category_id, category from bitrix24_report.{view}");
    let shown: Vec<(i64, i64, Option<String>)> =
        sqlx::query_as(AssertSqlSafe(shown)).fetch_all(database.pool()).await.unwrap();
    assert!(!shown.is_empty(), "{view}");
    let right = |(kind, id, name): &(i64, i64, Option<String>)| {
        let entity = if *kind == 128 { PROJECTS } else { EQUIPMENT };
        let known = names.iter().find(|one| one.entity == entity && one.id == *id);
        known.map(|known| &known.name) == name.as_ref()
    };
    shown.iter().filter(|row| !right(row)).map(|row| format!("{view}: {row:?}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_of_processes_have_names_whether_or_not_all_of_them_show_theirs() {
    for pipelines_refused in [false, true] {
        let options = Options { contacts: 60, leads: 0, deals: 40, ..unlimited() };
        let options = Options { projects: 90, equipment: 30, pipelines_refused, ..options };
        let (portal, database) = (TestPortal::with(options), database().await);
        // A deal's pipeline has the ID of one of the process.
        let settings = settings(&portal, &database, "deals.enabled = true\n");
        let backfill = || Run::b24mirror(&["backfill"]).config(&settings).finish();
        assert_eq!(backfill().await.code, Some(0));
        let pool = database.pool();
        for view in ["smart_items_128", "smart_items_1036", "smart_items"] {
            let kind = view.strip_prefix("smart_items_").unwrap_or("entity_type_id");
            let kind = format!("{kind}::bigint");
            let wrong = misnamed(&portal, &database, view, &kind).await;
            let expected = match (pipelines_refused, view) {
                (false, _) | (_, "smart_items_128") => Vec::new(),
                _ => vec![format!("{view}: (1036, 0, None)")],
            };
            assert_eq!(wrong, expected);
        }
        let both = "select count(distinct category) from bitrix24_report.smart_items_128";
        assert_eq!(value::<i64>(pool, both).await, 2);
        let deals = "select bool_and(category = case category_id when 0 then 'Общая' \
                        when 1 then 'Закупки' else 'Portal Rent / аренда' end) \
                     from bitrix24_report.deals";
        assert!(value::<bool>(pool, deals).await);
        // What cannot be read is no problem, and is asked for once.
        let status = status(&portal, &database).await;
        let dictionaries = status["dictionaries"].as_array().unwrap();
        let line = dictionaries.iter().find(|one| one["dictionary"] == "pipelines").unwrap();
        assert!(line["read_at"].is_string() && line["problem"].is_null(), "{line}");
        let hidden = "select coalesce(string_agg(directory || ':' || code, ' '), '') \
                      from bitrix24.sync_hidden_codes where dictionary = 'pipelines'";
        let expected = if pipelines_refused { "1036:0" } else { "" };
        assert_eq!(value::<String>(pool, hidden).await, expected);

        // They are followed; one that is gone keeps its name, and takes none from other records.
        let (entity, name) = (PROJECTS, "Новое имя".to_owned());
        portal.happens(Action::RenamePipeline { entity, id: 9, name });
        portal.happens(Action::RemovePipeline { entity, id: 5 });
        sqlx::query("update bitrix24.sync_dictionaries set tried_at = null")
            .execute(pool)
            .await
            .unwrap();
        assert_eq!(backfill().await.code, Some(0));
        let named = "select string_agg(distinct category, ', ' order by category) \
                     from bitrix24_report.smart_items_128";
        assert_eq!(value::<String>(pool, named).await, "Новое имя, Проекты «под ключ»");
        let gone = "select string_agg(entity_type_id || ':' || id, ' ') \
                    from bitrix24.pipelines where gone_since is not null";
        assert_eq!(value::<String>(pool, gone).await, "128:5");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_list_that_fails_or_comes_empty_takes_no_name_away() {
    let options = Options { contacts: 60, leads: 0, projects: 60, equipment: 30, ..unlimited() };
    let (portal, database) = (TestPortal::with(options), database().await);
    done(&portal, &database, &["backfill"]).await;
    let pool = database.pool();
    let live = "select count(*) from bitrix24.pipelines where gone_since is null";
    assert_eq!(value::<i64>(pool, live).await, 5);
    let again = async || {
        sqlx::query("update bitrix24.sync_dictionaries set tried_at = null")
            .execute(pool)
            .await
            .unwrap();
        done(&portal, &database, &["sync"]).await;
    };
    let problem = "select coalesce(problem, '') from bitrix24.sync_dictionaries \
                   where name = 'pipelines'";
    // One of the lists does not come, and something went that it does not tell of.
    let (entity, name) = (PROJECTS, "Другое".to_owned());
    portal.happens(Action::RenamePipeline { entity, id: 9, name });
    let code = "INTERNAL_SERVER_ERROR".to_owned();
    let kind = FaultKind::CommandError { status: 500, code, description: "no".to_owned() };
    portal.fault(Fault::once("crm.category.list", kind));
    portal.happens(Action::RemovePipeline { entity, id: 5 });
    again().await;
    assert_eq!(value::<i64>(pool, live).await, 5);
    assert!(value::<String>(pool, problem).await.contains("INTERNAL_SERVER_ERROR"));
    let renamed = "select name from bitrix24.pipelines where entity_type_id = 128 and id = 9";
    assert_eq!(value::<String>(pool, renamed).await, "Другое", "what came is kept");
    again().await;
    assert_eq!(value::<i64>(pool, live).await, 4);
    assert_eq!(value::<String>(pool, problem).await, "");
    // A right that is lost shows as an empty list.
    portal.happens(Action::RemovePipeline { entity, id: 9 });
    again().await;
    assert_eq!(value::<i64>(pool, live).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_found_in_every_table_and_repaired() {
    let (portal, database) = (portal(), database().await);
    done(&portal, &database, &["backfill"]).await;
    let damage = "update bitrix24.smart_items_1036 set title = 'other' where id = (select max(id) from bitrix24.smart_items_1036); \
         update bitrix24.smart_items set title = 'other' where entity_type_id = 128 and id = \
            (select min(id) from bitrix24.smart_items_128); \
         delete from bitrix24.smart_item_128_contacts where ctid = (select min(ctid) from bitrix24.smart_item_128_contacts); \
         delete from bitrix24.smart_item_128_observers where ctid = (select max(ctid) from bitrix24.smart_item_128_observers)";
    sqlx::raw_sql(damage).execute(database.pool()).await.unwrap();
    let found = run(&portal, &database, &["verify", "--level", "full", "--json"]).await;
    assert_eq!(found.code, Some(2), "{found:#?}");
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(found["not_compared"], json!([]), "{found:#}");
    for (entity, least) in [("smart_items_128", 1), ("smart_items_1036", 1)] {
        let different = found["entities"][entity]["differences"].as_array().unwrap();
        assert!(different.len() >= least, "{found:#}");
    }
    // One alone, then whatever is left.
    done(&portal, &database, &["verify", "smart_items_1036", "--level", "full", "--repair"]).await;
    let found = run(&portal, &database, &["verify", "smart_items_1036", "--level", "full"]).await;
    assert_eq!(found.code, Some(0), "{found:#?}");
    let found = run(&portal, &database, &["verify", "smart_items", "--level", "full"]).await;
    assert_eq!(found.code, Some(2), "{found:#?}");
    done(&portal, &database, &["verify", "smart_items", "--level", "full", "--repair"]).await;
    assert_equal(&portal, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_mirrored_from_when_it_appears_until_it_is_gone() {
    let database = database().await;
    let portal = TestPortal::with(Options { leads: 0, contacts: 60, projects: 300, ..unlimited() });
    let [projects, equipment] = processes();
    let mut daemon = daemon(&portal, &database);
    eventually("the first process", || is_equal(&portal, &database, projects)).await;
    assert_eq!(line_of(&status(&portal, &database).await, equipment.name), None);

    make(&portal, EQUIPMENT, true);
    portal.happens(Action::Create { entity: EQUIPMENT, count: 70, visible_after: 0.0 });
    daemon.logged("the portal has other smart processes now").await;
    eventually("a process that appeared", || is_equal(&portal, &database, equipment)).await;
    let view = "select count(*) from bitrix24_report.smart_items_1036";
    eventually("its view", || async {
        let made = "select to_regclass('bitrix24_report.smart_items_1036') is not null";
        value::<bool>(database.pool(), made).await
            && value::<i64>(database.pool(), view).await == 70
    })
    .await;
    portal.happens(Action::Change {
        entity: EQUIPMENT,
        ids: Vec::new(),
        count: 9,
        visible_after: 0.0,
    });
    eventually("its changes", || is_equal(&portal, &database, equipment)).await;
    eventually("both are fresh", || async {
        let status = status(&portal, &database).await;
        [projects, equipment]
            .iter()
            .all(|one| line_of(&status, one.name).is_some_and(|line| line["state"] == "fresh"))
    })
    .await;

    let live = "select count(*) from bitrix24.smart_items_128 where deleted_at is null";
    let before: i64 = value(database.pool(), live).await;
    make(&portal, PROJECTS, false);
    eventually("it is known to be gone", || async {
        let status = status(&portal, &database).await;
        line_of(&status, projects.name).is_some_and(|line| line["state"] == "gone")
    })
    .await;
    daemon.logged("the portal has other smart processes now").await;
    portal.happens(Action::Create { entity: EQUIPMENT, count: 3, visible_after: 0.0 });
    eventually("the other goes on", || is_equal(&portal, &database, equipment)).await;
    eventually("nothing is wrong", || async {
        run(&portal, &database, &["status"]).await.code == Some(0)
    })
    .await;
    let told = run(&portal, &database, &["status"]).await.stdout;
    assert!(told.contains("smart_items_128 (Проекты) gone in the portal since 20"), "{told}");
    assert!(told.contains("smart_items_1036 (Станки) fresh"), "{told}");
    assert_eq!(value::<i64>(database.pool(), live).await, before, "its rows stay");

    // Asked for by name it is said to be absent, and nothing is asked of the portal.
    let asked = run(&portal, &database, &["sync", "smart_items_128"]).await;
    assert_eq!(asked.code, Some(2), "{asked:#?}");
    assert!(
        asked.stdout.contains("the portal listed no smart process of this number"),
        "{asked:#?}"
    );

    make(&portal, PROJECTS, true);
    portal.happens(Action::Change {
        entity: PROJECTS,
        ids: Vec::new(),
        count: 20,
        visible_after: 0.0,
    });
    eventually("it is back", || is_equal(&portal, &database, projects)).await;
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_cannot_be_listed_any_more_is_looked_for_within_a_minute() {
    let (portal, database) = (portal(), database().await);
    let [projects, equipment] = processes();
    let settings = settings_asking(&portal, &database, "1h", HISTORY);
    let mut daemon = Run::b24mirror(&["run"]).config(&settings).spawn();
    for entity in processes() {
        eventually("each process", || is_equal(&portal, &database, entity)).await;
    }
    make(&portal, EQUIPMENT, false);
    daemon.logged("the portal has other smart processes now").await;
    eventually("it is known to be gone", || async {
        let status = status(&portal, &database).await;
        line_of(&status, equipment.name).is_some_and(|line| line["state"] == "gone")
    })
    .await;
    portal.happens(Action::Create { entity: PROJECTS, count: 3, visible_after: 0.0 });
    eventually("the other goes on", || is_equal(&portal, &database, projects)).await;
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_can_be_asked_for_by_its_number_on_an_empty_schema() {
    let (portal, database) = (portal(), database().await);
    let [projects, equipment] = processes();
    let planned = done(&portal, &database, &["plan", "--json"]).await;
    assert!(planned.stdout.contains(projects.name), "{planned:#?}");
    let read = done(&portal, &database, &["backfill", "smart_items_1036"]).await;
    assert!(read.stdout.starts_with("smart_items_1036: complete"), "{read:#?}");
    assert!(is_equal(&portal, &database, equipment).await);
    let none = "select count(*) from bitrix24.smart_items_128";
    assert_eq!(value::<i64>(database.pool(), none).await, 0);
    let verified = done(&portal, &database, &["verify", "smart_items_1036"]).await;
    assert!(verified.stdout.starts_with("smart_items_1036: complete"), "{verified:#?}");

    let other = run(&portal, &database, &["verify", "smart_items_1038"]).await;
    assert_eq!(other.code, Some(1), "{other:#?}");
    assert!(other.stdout.contains("listed no smart process of this number"), "{other:#?}");
    let wrong = run(&portal, &database, &["verify", "smart_items_5"]).await;
    assert_eq!(wrong.code, Some(64), "{wrong:#?}");
    assert!(wrong.stderr.contains("each smart process as smart_items_NUMBER"), "{wrong:#?}");
    let ambiguous = run(&portal, &database, &["forget", "smart_items", "7", "--yes"]).await;
    assert_eq!(ambiguous.code, Some(64), "{ambiguous:#?}");

    let id = portal.ids(EQUIPMENT)[5];
    let id_text = id.to_string();
    done(&portal, &database, &["refresh", "smart_items_1036", &id_text]).await;
    done(&portal, &database, &["forget", "smart_items_1036", &id_text, "--yes"]).await;
    let left = format!("select count(*) from bitrix24.smart_items where id = {id}");
    assert_eq!(value::<i64>(database.pool(), &left).await, 0);

    let status = status(&portal, &database).await;
    let line = line_of(&status, equipment.name).unwrap();
    assert_eq!((&line["title"], line["records"].as_u64()), (&json!("Станки"), Some(229)));
    assert_eq!(line_of(&status, projects.name).unwrap()["state"], "never_synced");
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_and_requests_for_all_processes_reach_each_of_them() {
    let (portal, database) = (portal(), database().await);
    let mut daemon = daemon(&portal, &database);
    daemon.logged("mirroring portal").await;
    for entity in processes() {
        eventually("each process", || is_equal(&portal, &database, entity)).await;
    }
    let read = done(&portal, &database, &["verify", "smart_items", "--json"]).await;
    let read: Value = serde_json::from_str(&read.stdout).unwrap();
    for entity in processes() {
        assert!(read["entities"].get(entity.name).is_some(), "{read:#}");
    }
    done(&portal, &database, &["pause", "smart_items"]).await;
    for _ in processes() {
        daemon.logged("an entity rests").await;
    }
    let paused = status(&portal, &database).await;
    for entity in processes() {
        assert_eq!(line_of(&paused, entity.name).unwrap()["state"], "paused", "{paused:#}");
    }
    let before = listed(&portal);
    portal.happens(Action::Create { entity: EQUIPMENT, count: 3, visible_after: 0.0 });
    let cycles = "select count(*) from bitrix24.sync_checkpoints where entity = 'contacts' \
                  and completed_at > clock_timestamp() - interval '1 second'";
    for _ in 0..3 {
        eventually("the contacts go on", || async {
            value::<i64>(database.pool(), cycles).await > 0
        })
        .await;
    }
    assert_eq!(listed(&portal), before, "nothing is asked of what is paused");
    done(&portal, &database, &["resume", "smart_items"]).await;
    for entity in processes() {
        eventually("what was missed", || is_equal(&portal, &database, entity)).await;
    }
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tries_every_process() {
    let (portal, database) = (portal(), database().await);
    let checked = run(&portal, &database, &["check"]).await;
    assert_eq!(checked.code, Some(0), "{checked:#?}");
    for entity in processes() {
        let told = format!("ok       {}: readable, and the filters are understood", entity.name);
        assert!(checked.stdout.contains(&told), "{told}: {checked:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_list_processes_the_others_go_on_and_status_says_why() {
    let (portal, database) = (portal(), database().await);
    portal.happens(Action::Admin { admin: false });
    let read = run(&portal, &database, &["backfill"]).await;
    assert_eq!(read.code, Some(0), "{read:#?}");
    assert!(read.stdout.contains("contacts: complete"), "{read:#?}");
    let told = run(&portal, &database, &["status"]).await;
    assert_eq!(told.code, Some(2), "{told:#?}");
    assert!(told.stdout.contains("smart_processes could not be read"), "{told:#?}");
    portal.happens(Action::Admin { admin: true });
    let mut daemon = daemon(&portal, &database);
    for entity in processes() {
        eventually("each process", || is_equal(&portal, &database, entity)).await;
    }
    // A right that is lost again takes nothing away.
    portal.happens(Action::Admin { admin: false });
    daemon.logged("a dictionary could not be read").await;
    portal.happens(Action::Create { entity: PROJECTS, count: 3, visible_after: 0.0 });
    eventually("known ones go on", || is_equal(&portal, &database, processes()[0])).await;
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_privacy_hold_for_every_process_and_for_those_that_appear() {
    let database = database().await;
    let portal = TestPortal::with(Options { leads: 0, contacts: 60, projects: 200, ..unlimited() });
    let private = "smart_items.exclude_fields = [\"UTM_SOURCE\", \"OBSERVERS\"]\n\
                   smart_items.hash_fields = [\"TITLE\"]\nsmart_items.history = true\n";
    done(&portal, &database, &["backfill"]).await;
    let plain = "select count(*) from bitrix24.smart_items_128 where title !~ '^[0-9a-f]{32}$'";
    assert!(value::<i64>(database.pool(), plain).await > 100);
    make(&portal, EQUIPMENT, true);
    portal.happens(Action::Create { entity: EQUIPMENT, count: 20, visible_after: 0.0 });
    // Which processes there are is asked once in an interval.
    let outdated = "update bitrix24.sync_dictionaries set tried_at = tried_at - interval '1 hour'";
    sqlx::raw_sql(outdated).execute(database.pool()).await.unwrap();
    let config = settings(&portal, &database, private);
    let read = Run::b24mirror(&["backfill"]).config(&config).finish().await;
    assert_eq!(read.code, Some(0), "{read:#?}");
    let shown = "select count(*) from bitrix24.smart_items \
                 where title !~ '^[0-9a-f]{32}$' or utm_source is not null";
    assert_eq!(value::<i64>(database.pool(), shown).await, 0);
    let many = "select count(*) from bitrix24.smart_items where title is not null";
    assert!(value::<i64>(database.pool(), many).await > 150);
    assert_eq!(
        value::<i64>(database.pool(), "select count(*) from bitrix24.smart_item_observers").await,
        0
    );
    let verified = Run::b24mirror(&["verify", "smart_items", "--level", "full"])
        .config(&config)
        .finish()
        .await;
    assert_eq!(verified.code, Some(0), "{verified:#?}");
    // Another shell that lacks the rules changes nothing.
    let refused = run(&portal, &database, &["sync"]).await;
    assert_eq!(refused.code, Some(64), "{refused:#?}");
    assert!(refused.stderr.contains("`entities.smart_items.exclude_fields` lacks"), "{refused:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn views_have_names_for_codes_and_people_may_read_what_they_may_read_of_all() {
    let (portal, database) = (portal(), database().await);
    let pool = database.pool();
    let name: String = value(pool, "select current_database()::text").await;
    let reader = format!("{name}_items");
    done(&portal, &database, &["migrate"]).await;
    let grant = format!(
        "create role {reader}; grant usage on schema bitrix24 to {reader}; \
         grant select on bitrix24.smart_items, bitrix24.smart_item_contacts to {reader}"
    );
    sqlx::raw_sql(AssertSqlSafe(grant)).execute(pool).await.unwrap();
    done(&portal, &database, &["backfill"]).await;
    for (table, may) in [
        ("smart_items", true),
        ("smart_items_128", true),
        ("smart_items_1036", true),
        ("smart_item_128_contacts", true),
        ("smart_item_128_observers", false),
        ("smart_item_1036_changes", false),
    ] {
        let told = format!("select has_table_privilege('{reader}', 'bitrix24.{table}', 'select')");
        assert_eq!(value::<bool>(pool, &told).await, may, "{table}");
    }
    let drop = format!("drop owned by {reader}; drop role {reader}");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(pool).await.unwrap();

    for (view, code, label) in [
        ("smart_items_128", "stage_id", "stage"),
        ("smart_items_128", "previous_stage_id", "previous_stage"),
        ("smart_items", "stage_id", "stage"),
        ("smart_items_1036", "assigned_by_id", "assigned_by"),
    ] {
        // A few hold what no directory explains, on purpose.
        let unresolved = format!(
            "select count(*) filter (where {label} is null) * 1.0 / count(*) < 0.1 and count(*) > 0 \
             from bitrix24_report.{view} where {code} is not null"
        );
        assert!(value::<bool>(pool, &unresolved).await, "{view}.{code}");
    }
    let named = "select bool_and(v.contact is not distinct from c.full_name) and count(*) > 100 \
                 from bitrix24_report.smart_items_128 v \
                 left join bitrix24_report.contacts c on c.id = v.contact_id";
    assert!(value::<bool>(pool, named).await);
    let stages = "select bool_and(s.name = v.stage) and count(*) > 500 \
                  from bitrix24_report.smart_items v join bitrix24.statuses s \
                    on s.code = v.stage_id and s.directory like 'DYNAMIC\\_128\\_%' \
                  where v.smart_process = 'Проекты'";
    assert!(value::<bool>(pool, stages).await);
    let all = "select count(*) from bitrix24_report.smart_items";
    let each = "select (select count(*) from bitrix24_report.smart_items_128) \
                + (select count(*) from bitrix24_report.smart_items_1036)";
    assert_eq!(value::<i64>(pool, all).await, value::<i64>(pool, each).await);
    let comment = "select obj_description('bitrix24_report.smart_items_1036'::regclass)";
    assert!(value::<String>(pool, comment).await.contains("“Станки”"));
    let custom = "select count(*) > 3 from information_schema.columns \
                  where table_schema = 'bitrix24_report' and table_name = 'smart_items_128_custom'";
    assert!(value::<bool>(pool, custom).await);
    let contacts = "select (select count(*) from bitrix24_report.smart_item_contacts) = \
                    (select count(*) from bitrix24_report.smart_item_128_contacts) \
                    and count(*) > 0 from bitrix24_report.smart_item_128_contacts where position = 1";
    assert!(value::<bool>(pool, contacts).await);
    let fresh = "select bool_and(last_change is not null) and count(*) = 2 \
                 from bitrix24_report.freshness where entity like 'smart_items%'";
    assert!(value::<bool>(pool, fresh).await);
    let unexplained =
        "select count(*) from bitrix24.statuses where directory = 'DYNAMIC_128_STAGE_9'";
    assert!(value::<i64>(pool, unexplained).await > 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_that_a_process_may_have_is_declared() {
    let portal = portal();
    // The portal has no smart process with a company of its own.
    for (entity, lacking) in processes().into_iter().zip([1, 17]) {
        let address = format!(
            "{}crm.item.fields?entityTypeId={}&useOriginalUfNames=Y",
            portal.webhook_url(),
            entity.smart_process().unwrap()
        );
        let (_, body) = http::get(&address).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let described: BTreeSet<String> = answer["result"]["fields"]
            .as_object()
            .unwrap()
            .keys()
            .filter_map(|name| Some(Dialect::Item.field_of(entity, name)?.into_owned()))
            .filter(|name| {
                name != "ID" && !name.starts_with("UF_") && !name.starts_with("PARENT_ID_")
            })
            .collect();
        let columns = entity.columns.iter().map(|column| column.field);
        let declared: BTreeSet<String> = columns
            .chain(entity.multi_fields.iter().map(|multi_field| multi_field.field))
            .map(str::to_owned)
            .collect();
        assert!(described.is_subset(&declared), "{:?}", &described - &declared);
        let missing = &declared - &described;
        assert_eq!(missing.len(), lacking, "{missing:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_section_for_one_process_is_refused_with_the_one_for_all() {
    let (portal, database) = (portal(), database().await);
    let wrong = settings(&portal, &database, "smart_items_128.history = true\n");
    let refused = Run::b24mirror(&["sync"]).config(&wrong).finish().await;
    assert_eq!(refused.code, Some(64), "{refused:#?}");
    assert!(refused.stderr.contains("`entities.smart_items`"), "{refused:#?}");
}
