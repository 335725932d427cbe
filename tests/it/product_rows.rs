//! Product rows: listed beside their records, mirrored as a part of them.

use std::collections::BTreeSet;

use b24mirror::{
    entity::{DEALS, Entity, LEADS, QUOTES, SMART_INVOICES},
    simulator::{Action, Fault, FaultKind, Options},
};
use sqlx::AssertSqlSafe;

use crate::support::{
    Database, Finished, Run, TestPortal, database, equal::family, products, tables::value,
    unlimited,
};

const OWNERS: [&Entity; 4] = [&LEADS, &DEALS, &QUOTES, &SMART_INVOICES];

fn portal() -> TestPortal {
    TestPortal::with(Options {
        contacts: 20,
        leads: 250,
        deals: 400,
        quotes: 120,
        smart_invoices: 120,
        ..unlimited()
    })
}

fn settings(portal: &TestPortal, database: &Database, product_rows: bool) -> String {
    let enabled = |entity: &Entity| {
        let name = entity.name;
        format!(
            "{name}.enabled = true\n{name}.product_rows = {product_rows}\n{name}.history = true\n"
        )
    };
    let more = format!(
        "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n[entities]\n\
         contacts.enabled = false\n{}",
        OWNERS.map(enabled).concat()
    );
    portal.settings_with(database, &more)
}

async fn run(portal: &TestPortal, database: &Database, arguments: &[&str]) -> Finished {
    Run::b24mirror(arguments).config(&settings(portal, database, true)).finish().await
}

async fn done(portal: &TestPortal, database: &Database, arguments: &[&str]) {
    let finished = run(portal, database, arguments).await;
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
}

async fn assert_equal(portal: &TestPortal, database: &Database) {
    for entity in OWNERS {
        let found = products::differences(&BTreeSet::new(), portal, database.pool(), entity).await;
        assert!(found.is_empty(), "{}: {found}", entity.name);
        let truth = portal.product_rows(family(entity));
        assert!(truth.len() > 100, "{}: {}", entity.name, truth.len());
    }
}

/// Changes the rows of some records, among them one with more rows than a page has.
fn work(portal: &TestPortal) {
    for entity in OWNERS.map(family) {
        let ids = portal.ids(entity);
        let product = |number: usize| {
            (format!("Товар {number} «ё» \\"), format!("{number}.50"), "2".to_owned())
        };
        for (id, count) in [(ids[1], 0), (ids[3], 1), (ids[5], 130), (ids[7], 50)] {
            let products = (0..count).map(product).collect();
            portal.happens(Action::SetProducts { entity, id, products });
        }
        portal.happens(Action::Create { entity, count: 30, visible_after: 0.0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_right_within_the_cycle_in_which_their_record_changes() {
    let (portal, database) = (portal(), database().await);
    let checked = run(&portal, &database, &["check"]).await;
    assert!(checked.stdout.contains("product rows of deals: readable"), "{checked:#?}");
    done(&portal, &database, &["backfill"]).await;
    assert_equal(&portal, &database).await;

    work(&portal);
    done(&portal, &database, &["sync"]).await;
    assert_equal(&portal, &database).await;
    // A row that kept its number is a change of it, and not another one.
    let entity = family(&DEALS);
    let id = portal.ids(entity)[3];
    let products = vec![("Товар 0 «ё» \\".to_owned(), "7.5".to_owned(), "3".to_owned())];
    portal.happens(Action::SetProducts { entity, id, products });
    done(&portal, &database, &["sync"]).await;
    assert_equal(&portal, &database).await;
    let told = format!(
        "select count(*) from bitrix24.deal_changes where deal_id = {id} \
         and field = 'PRODUCT_ROWS' and old_value::jsonb ->> 'price' = '0.5' \
         and new_value::jsonb ->> 'price' = '7.5'"
    );
    assert_eq!(value::<i64>(database.pool(), &told).await, 1);

    for entity in OWNERS.map(family) {
        portal.happens(Action::Delete { entity, ids: Vec::new(), count: 3 });
    }
    done(&portal, &database, &["sweep"]).await;
    assert_equal(&portal, &database).await;
    done(&portal, &database, &["verify", "--level", "full"]).await;
    let shown = "select count(*) from bitrix24_report.product_rows where title is not null";
    assert!(value::<i64>(database.pool(), shown).await > 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_differ_are_found_by_value_and_repaired() {
    let (portal, database) = (portal(), database().await);
    done(&portal, &database, &["backfill"]).await;
    for entity in OWNERS {
        let table = format!("bitrix24.{}_product_rows", entity.singular);
        for damage in [
            format!(
                "update {table} set fields = fields || '{{\"measureName\": \"x\"}}' \
                 where ctid = (select min(ctid) from {table})"
            ),
            format!("delete from {table} where ctid = (select max(ctid) from {table})"),
        ] {
            let done = sqlx::query(AssertSqlSafe(damage)).execute(database.pool()).await.unwrap();
            assert_eq!(done.rows_affected(), 1);
        }
    }
    let found = run(&portal, &database, &["verify", "--level", "full"]).await;
    assert_eq!(found.code, Some(2), "{found:#?}");
    done(&portal, &database, &["verify", "--level", "full", "--repair"]).await;
    assert_equal(&portal, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_them_on_brings_the_rows_of_every_record_and_off_keeps_them() {
    let (portal, database) = (portal(), database().await);
    let with = async |product_rows: bool, arguments: &[&str]| {
        let config = settings(&portal, &database, product_rows);
        let finished = Run::b24mirror(arguments).config(&config).finish().await;
        assert_eq!(finished.code, Some(0), "{finished:#?}");
    };
    with(false, &["backfill"]).await;
    let rows = "select count(*) from bitrix24.deal_product_rows";
    assert_eq!(value::<i64>(database.pool(), rows).await, 0);
    assert_eq!(portal.stats().commands.get("crm.item.productrow.list"), None);

    with(true, &["backfill"]).await;
    assert_equal(&portal, &database).await;
    with(false, &["backfill"]).await;
    with(false, &["verify", "--level", "full"]).await;
    assert_equal(&portal, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_fails_or_refuses_for_a_while_loses_no_row() {
    let (portal, database) = (portal(), database().await);
    let method = "crm.item.productrow.list";
    let failing = |status, code: &str| FaultKind::CommandError {
        status,
        code: code.to_owned(),
        description: String::new(),
    };
    portal.fault(Fault::once(method, failing(500, "INTERNAL_SERVER_ERROR")));
    portal.fault(Fault::once(method, failing(503, "QUERY_LIMIT_EXCEEDED")).after(3));
    // The refusal of one command is that of a single record, which is asked for again alone.
    portal.fault(Fault::once(method, failing(400, "ACCESS_DENIED")).after(7));
    done(&portal, &database, &["backfill"]).await;
    assert_equal(&portal, &database).await;

    // A record whose rows are refused keeps those that it has, and a note says so.
    let entity = family(&DEALS);
    let id = portal.product_rows(entity)[0].owner_id;
    let before = products::mirrored(database.pool(), &DEALS).await;
    portal.fault(Fault::times(method, 10, failing(400, "ACCESS_DENIED")));
    let refreshed = run(&portal, &database, &["refresh", "deals", &id.to_string()]).await;
    let noted = format!(
        "select count(*) from bitrix24.sync_quarantine where entity = 'deals' and record_id = {id} \
         and field = 'PRODUCT_ROWS' and resolved_at is null"
    );
    assert_eq!(value::<i64>(database.pool(), &noted).await, 1, "{refreshed:#?}");
    portal.happens(Action::ClearFaults);
    assert_eq!(products::mirrored(database.pool(), &DEALS).await, before);
    done(&portal, &database, &["refresh", "deals", &id.to_string()]).await;
    assert_eq!(value::<i64>(database.pool(), &noted).await, 0);
    assert_equal(&portal, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_excluded_are_neither_asked_for_nor_kept() {
    let (portal, database) = (portal(), database().await);
    done(&portal, &database, &["backfill"]).await;
    let rows = "select count(*) from bitrix24.deal_product_rows";
    assert!(value::<i64>(database.pool(), rows).await > 100);
    let config = settings(&portal, &database, true)
        .replace("deals.history = true", "deals.exclude_fields = [\"PRODUCT_ROWS\"]");
    let before = portal.stats().commands.get("crm.item.productrow.list").copied();
    let finished = Run::b24mirror(&["backfill", "deals"]).config(&config).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(value::<i64>(database.pool(), rows).await, 0);
    assert_eq!(portal.stats().commands.get("crm.item.productrow.list").copied(), before);
}
