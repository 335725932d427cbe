//! What people are told: each cause once, in full, and what a command does not do.

use b24mirror::simulator::GatewayOptions;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::support::{Finished, Run, TestPortal, database, eventually, tables::value};

async fn status(settings: &str) -> (Finished, Value) {
    let json = Run::b24mirror(&["status", "--json"]).config(settings).finish().await;
    let text = Run::b24mirror(&["status"]).config(settings).finish().await;
    (text, serde_json::from_str(&json.stdout).unwrap())
}

fn line<'a>(finished: &'a Finished, begin: &str) -> &'a str {
    let begins = |line: &&str| line.starts_with(begin);
    finished.stdout.lines().find(begins).unwrap_or_else(|| panic!("{begin}: {finished:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_webhook_is_one_error_of_a_daemon_however_many_entities_it_stops() {
    let (portal, database) = (TestPortal::small(), database().await);
    let more = "[entities]\ndeals.enabled = true\ncompanies.enabled = true\n\
                smart_items.enabled = true\n";
    let settings =
        portal.settings_with(&database, more).replace("s1mul4tedsecret0", "an0thersecret000");
    let mut daemon = Run::b24mirror(&["run"]).config(&settings).spawn();
    daemon.logged("mirroring portal").await;
    eventually("every entity is stopped", || async {
        let stopped = "select count(*) = 4 from bitrix24.sync_health where state = 'stopped'";
        let names = "select count(*) = 6 from bitrix24.sync_dictionaries where problem is not null";
        value::<bool>(database.pool(), stopped).await && value::<bool>(database.pool(), names).await
    })
    .await;
    let finished = daemon.kill().await;
    let lines = |what: &str| finished.stderr.lines().filter(|line| line.contains(what)).count();
    assert_eq!((lines(" ERROR "), lines("create an inbound webhook")), (1, 1), "{finished:#?}");
    assert_eq!(lines(" WARN "), 0, "{finished:#?}");
    assert_eq!(lines("for a reason that was told already"), 3, "{finished:#?}");

    let (told, json) = status(&settings).await;
    assert_eq!(
        told.stdout.lines().filter(|line| line.starts_with("names")).count(),
        1,
        "{told:#?}"
    );
    assert!(line(&told, "names").contains("statuses, users, departments"), "{told:#?}");
    let problem = json["dictionaries"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("stages") && problem.ends_with("are missing"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_or_refuses_says_so_once() {
    let (portal, database) = (TestPortal::small(), database().await);
    let right = portal.settings(&database);
    let url = url::Url::parse(database.url().expose_secret()).unwrap();
    let mut unknown = url.clone();
    unknown.set_path("no_such_database");
    let away = "postgres://nobody@127.0.0.1:1/nowhere";
    for (other, said) in [(unknown.as_str(), "does not exist"), (away, "Connection refused")] {
        let settings = right.replace(url.as_str(), other);
        for (arguments, begin) in [(["check"], "FAILED"), (["status"], "error: ")] {
            let finished = Run::b24mirror(&arguments).config(&settings).finish().await;
            let all = format!("{}{}", finished.stdout, finished.stderr);
            let line = all.lines().find(|line| line.starts_with(begin)).unwrap();
            assert_eq!(line.matches(said).count(), 1, "{line}");
            assert!(!line.contains("at line"), "{line}");
        }
    }
    let away = right.replace(url.as_str(), away);
    let mut daemon = Run::b24mirror(&["run"]).config(&away).spawn();
    let waits = daemon.logged("waiting for the database").await;
    assert_eq!(waits.matches("Connection refused").count(), 1, "{waits}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_the_database_user_lacks_is_told_once() {
    let (portal, database) = (TestPortal::small(), database().await);
    let settings = portal.settings(&database);
    let refuse = "create function public.refuse() returns event_trigger language plpgsql as $$ \
                      begin raise insufficient_privilege using message = 'permission denied'; end $$; \
                  create event trigger refuse on ddl_command_start execute function public.refuse()";
    sqlx::raw_sql(refuse).execute(database.pool()).await.unwrap();
    let finished = Run::b24mirror(&["migrate"]).config(&settings).finish().await;
    assert_eq!(finished.code, Some(64), "{finished:#?}");
    let told = finished.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert_eq!(told.matches("permission denied").count(), 1, "{told}");
    assert!(told.ends_with("permission denied"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_switched_off_is_called_so_until_it_is_on_again() {
    let (portal, database) = (TestPortal::small(), database().await);
    let on = portal.settings(&database);
    let off = format!("{on}[entities.leads]\nenabled = false\n");
    portal.backfilled(&database).await;
    let states = "select string_agg(entity || ' ' || state, ', ' order by entity) \
                  from bitrix24_report.freshness";
    let (_, json) = status(&on).await;
    assert_eq!(json["entities"].as_array().unwrap().len(), 2);
    assert_eq!(value::<String>(database.pool(), states).await, "contacts active, leads active");

    let finished = Run::b24mirror(&["sync"]).config(&off).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let now: String = value(database.pool(), states).await;
    assert_eq!(now, "contacts active, leads switched off");
    let (text, json) = status(&off).await;
    let leads = &json["entities"][1];
    assert_eq!((&leads["entity"], &leads["state"]), (&"leads".into(), &"switched_off".into()));
    let rows: i64 = value(database.pool(), "select count(*) from bitrix24.leads").await;
    assert_eq!(leads["records"], rows);
    assert!(line(&text, "leads").contains("switched off; its rows stay as they were"), "{text:#?}");

    let finished = Run::b24mirror(&["sync"]).config(&on).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(value::<String>(database.pool(), states).await, "contacts active, leads active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_what_is_not_mirrored_is_kept_and_says_that() {
    let (portal, database) = (TestPortal::small(), database().await);
    let paused = portal.command(&database, &["pause", "deals", "leads"]).await;
    assert_eq!(paused.code, Some(0), "{paused:#?}");
    assert!(line(&paused, "deals: paused").contains("resume deals"), "{paused:#?}");
    let told = "deals: is not mirrored, as `entities.deals.enabled` is false in these settings";
    assert!(paused.stdout.contains(told), "{paused:#?}");
    assert!(!paused.stdout.contains("leads: is not mirrored"), "{paused:#?}");

    let on = format!("{}[entities.deals]\nenabled = true\n", portal.settings(&database));
    let finished = Run::b24mirror(&["backfill", "deals"]).config(&on).finish().await;
    assert!(line(&finished, "deals").contains("paused since"), "{finished:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_simulator_says_how_to_go_through_its_gateway() {
    let help = Run::b24mirror(&["simulate", "--help"]).finish().await;
    let simulated = GatewayOptions::default().api_key;
    let webhook = "webhook_url = \"http://127.0.0.1:8480/rest/1/s1mul4tedsecret0/\"";
    let gateway = "url = \"http://127.0.0.1:8480\"";
    for said in [webhook, gateway, "/v1/", "source = \"vibecode\"", &simulated] {
        assert!(help.stdout.contains(said), "{said} in {}", help.stdout);
    }

    let few = ["simulate", "--port", "0", "--contacts", "60", "--leads", "20"];
    let mut simulator = Run::b24mirror(&few).spawn();
    let command = simulator.printed("B24MIRROR__PORTAL__VIBECODE__URL=").await;
    let database = database().await;
    let mut check = Run::b24mirror(&["check"]);
    for (name, value) in command.split_whitespace().filter_map(|word| word.split_once('=')) {
        if name != "B24MIRROR__DATABASE__LOCAL_DIR" {
            check = check.env(name, value);
        }
    }
    let url = database.url();
    let checked = check.env("B24MIRROR__DATABASE__URL", url.expose_secret()).finish().await;
    assert_eq!(checked.code, Some(0), "{checked:#?}");
    let contacts = line(&checked, "ok       contacts");
    assert!(contacts.contains("the gateway can be asked for what was modified"), "{contacts}");
    assert!(contacts.contains("read through the gateway 127.0.0.1"), "{contacts}");
    let leads = line(&checked, "ok       leads");
    assert!(leads.ends_with("read by crm.lead.list"), "{leads}");
    simulator.kill().await;
}
