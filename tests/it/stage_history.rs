//! Stage histories of leads, deals and smart invoices: lists of what never changes.

use b24mirror::{
    entity::{DEAL_STAGE_HISTORY, Entity, LEAD_STAGE_HISTORY, SMART_INVOICE_STAGE_HISTORY},
    simulator::{self, Action, Options},
};
use sqlx::AssertSqlSafe;

use crate::support::{
    Database, Finished, Run, TestPortal, database, steps, tables::value, unlimited,
};

const HISTORIES: [(&Entity, simulator::Entity); 3] = [
    (&LEAD_STAGE_HISTORY, simulator::Entity::Leads),
    (&DEAL_STAGE_HISTORY, simulator::Entity::Deals),
    (&SMART_INVOICE_STAGE_HISTORY, simulator::Entity::SmartInvoices),
];

fn portal() -> TestPortal {
    TestPortal::with(Options {
        contacts: 20,
        leads: 400,
        deals: 500,
        smart_invoices: 200,
        ..unlimited()
    })
}

fn settings(portal: &TestPortal, database: &Database) -> String {
    let enabled = |(entity, _): (&Entity, simulator::Entity)| {
        format!("{0}.enabled = true\n{0}.history = true\n", entity.name)
    };
    let more = format!(
        "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n[entities]\n\
         contacts.enabled = false\nleads.enabled = false\ndeals.enabled = true\n{}",
        HISTORIES.map(enabled).concat()
    );
    portal.settings_with(database, &more)
}

async fn run(portal: &TestPortal, database: &Database, arguments: &[&str]) -> Finished {
    Run::b24mirror(arguments).config(&settings(portal, database)).finish().await
}

async fn done(portal: &TestPortal, database: &Database, arguments: &[&str]) {
    let finished = run(portal, database, arguments).await;
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
}

async fn assert_equal(portal: &TestPortal, database: &Database) {
    for (entity, family) in HISTORIES {
        assert!(!portal.stage_history(family).is_empty());
        let differing = steps::differences(portal, database.pool(), entity, family).await;
        assert!(differing.is_empty(), "{}: {differing}", entity.name);
    }
}

/// What people do that makes steps.
fn work(portal: &TestPortal) {
    for (_, entity) in HISTORIES {
        portal.happens(Action::Create { entity, count: 60, visible_after: 0.0 });
        portal.happens(Action::MoveStage { entity, ids: Vec::new(), count: 90, stage: None });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_is_mirrored_and_those_of_deleted_records_go() {
    let (portal, database) = (portal(), database().await);
    done(&portal, &database, &["check"]).await;
    done(&portal, &database, &["backfill"]).await;
    assert_equal(&portal, &database).await;

    let before = portal.stage_history(simulator::Entity::Deals).len();
    work(&portal);
    assert!(portal.stage_history(simulator::Entity::Deals).len() > before + 60, "somebody moved");
    done(&portal, &database, &["sync"]).await;
    assert_equal(&portal, &database).await;

    for (_, entity) in HISTORIES {
        portal.happens(Action::Delete { entity, ids: Vec::new(), count: 3 });
    }
    done(&portal, &database, &["sweep"]).await;
    assert_equal(&portal, &database).await;
    let gone = "select count(*) from bitrix24.deal_stage_history where deleted_at is not null";
    assert!(value::<i64>(database.pool(), gone).await > 0);
    let told = "select count(*) from bitrix24.deal_stage_step_changes where kind = 'deleted'";
    assert!(value::<i64>(database.pool(), told).await > 0);

    // The steps of a restored record are old ones with old dates: no cycle can see them.
    for (_, entity) in HISTORIES {
        portal.happens(Action::Restore { entity, ids: Vec::new(), count: 2, visible_after: 0.0 });
    }
    done(&portal, &database, &["sync"]).await;
    done(&portal, &database, &["sweep"]).await;
    assert_equal(&portal, &database).await;
    done(&portal, &database, &["verify", "--level", "full"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_differs_is_found_and_repaired() {
    let (portal, database) = (portal(), database().await);
    done(&portal, &database, &["backfill"]).await;
    for (entity, _) in HISTORIES {
        let damage = format!(
            "update bitrix24.{0} set type_id = 9 where id = (select max(id) from bitrix24.{0})",
            entity.name
        );
        sqlx::query(AssertSqlSafe(damage)).execute(database.pool()).await.unwrap();
    }
    let found = run(&portal, &database, &["verify", "--level", "full"]).await;
    assert_eq!(found.code, Some(2), "{found:#?}");
    done(&portal, &database, &["verify", "--level", "full", "--repair"]).await;
    assert_equal(&portal, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_follows_and_stages_and_records_have_names() {
    let (portal, database) = (portal(), database().await);
    done(&portal, &database, &["backfill"]).await;
    let daemon = Run::b24mirror(&["run"]).config(&settings(&portal, &database)).spawn();
    work(&portal);
    let (entity, family) = HISTORIES[1];
    let wanted = portal.stage_history(family);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while steps::mirrored(database.pool(), entity).await != wanted {
        assert!(tokio::time::Instant::now() < deadline, "the daemon does not follow");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    daemon.kill().await;
    // A few records hold a stage that no directory explains, on purpose.
    let named = "select count(*) filter (where stage is null or category is null \
                    or stage_semantic is null or deal is null) * 1.0 / count(*) < 0.1 \
                 from bitrix24_report.deal_stage_history";
    assert!(value::<bool>(database.pool(), named).await);
    let timed = "select count(*) from bitrix24_report.time_in_stage \
                 where record = 'deal' and average_days is not null";
    assert!(value::<i64>(database.pool(), timed).await > 0);
}
