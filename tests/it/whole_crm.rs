//! Companies, deals, quotes and smart invoices: whatever is declared is mirrored alike.

use b24mirror::{
    entity::{COMPANIES, DEALS, Entity, QUOTES, SMART_INVOICES},
    simulator::{Action, Options},
};
use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::support::{
    Database, Finished, Run, TestPortal, database,
    equal::{family, item_differences},
    tables::value,
    unlimited,
};

const BUSINESS: [&Entity; 4] = [&COMPANIES, &DEALS, &QUOTES, &SMART_INVOICES];

fn portal() -> TestPortal {
    TestPortal::with(Options {
        contacts: 50,
        leads: 50,
        companies: 700,
        deals: 900,
        quotes: 300,
        smart_invoices: 300,
        ..unlimited()
    })
}

fn settings(portal: &TestPortal, database: &Database) -> String {
    let enabled =
        |entity: &Entity| format!("{0}.enabled = true\n{0}.history = true\n", entity.name);
    let more = format!(
        "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n[entities]\n\
         contacts.enabled = false\nleads.enabled = false\n{}",
        BUSINESS.map(enabled).concat()
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
    for entity in BUSINESS {
        let differences = item_differences(portal, database.pool(), entity).await;
        assert!(differences.is_empty(), "{} differ from the portal:\n{differences}", entity.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_of_every_record_is_mirrored_and_stays_so() {
    let (portal, database) = (portal(), database().await);
    done(&portal, &database, &["backfill"]).await;
    assert_equal(&portal, &database).await;
    for entity in BUSINESS.map(family) {
        portal.happens(Action::Create { entity, count: 60, visible_after: 0.0 });
        portal.happens(Action::Change { entity, ids: Vec::new(), count: 70, visible_after: 0.0 });
        portal.happens(Action::Import { entity, count: 4, days: 200, visible_after: 0.0 });
        portal.happens(Action::Delete { entity, ids: Vec::new(), count: 5 });
        portal.happens(Action::Restore { entity, ids: Vec::new(), count: 2, visible_after: 0.0 });
    }
    let entity = family(&COMPANIES);
    portal.happens(Action::Merge { entity, ids: Vec::new(), count: 3 });
    done(&portal, &database, &["sync"]).await;
    done(&portal, &database, &["sweep"]).await;
    assert_equal(&portal, &database).await;
    done(&portal, &database, &["verify", "--level", "full"]).await;
    let told = "select count(distinct deal_id) from bitrix24.deal_changes where kind = 'changed'";
    assert!(value::<i64>(database.pool(), told).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_found_in_every_table_and_repaired() {
    let (portal, database) = (portal(), database().await);
    done(&portal, &database, &["backfill"]).await;
    for entity in BUSINESS {
        let table = entity.name;
        let damage = format!(
            "update bitrix24.{table} set title = 'other' where id = (select max(id) from bitrix24.{table})"
        );
        sqlx::query(AssertSqlSafe(damage)).execute(database.pool()).await.unwrap();
        let links = entity.multi_fields.iter().find(|multi| multi.link.is_some()).unwrap().table;
        let damage = format!(
            "delete from bitrix24.{links} where ctid = (select min(ctid) from bitrix24.{links})"
        );
        let gone = sqlx::query(AssertSqlSafe(damage)).execute(database.pool()).await.unwrap();
        assert_eq!(gone.rows_affected(), 1, "{links}");
    }
    let found = run(&portal, &database, &["verify", "--level", "full", "--json"]).await;
    assert_eq!(found.code, Some(2), "{found:#?}");
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    for entity in BUSINESS {
        assert!(found.to_string().contains(entity.name), "{found:#}");
    }
    done(&portal, &database, &["verify", "--level", "full", "--repair"]).await;
    assert_equal(&portal, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_and_pipelines_have_names_and_no_code_is_left_alone() {
    let (portal, database) = (portal(), database().await);
    done(&portal, &database, &["backfill"]).await;
    let pool = database.pool();
    for (table, code, label) in [
        ("deals", "stage_id", "stage"),
        ("deals", "category_id", "category"),
        ("deals", "type_id", "type"),
        ("deals", "event_id", "event"),
        ("companies", "category_id", "category"),
        ("smart_invoices", "category_id", "category"),
        ("quotes", "status_id", "status"),
        ("smart_invoices", "stage_id", "stage"),
        ("companies", "company_type", "company_type_name"),
        ("companies", "industry", "industry_name"),
        ("companies", "employees", "employees_name"),
        ("companies", "currency_id", "currency"),
    ] {
        // A few hold what no directory explains, on purpose.
        let unresolved = format!(
            "select count(*) filter (where {label} is null) * 1.0 / count(*) < 0.1 and count(*) > 0 \
             from bitrix24_report.{table} where {code} is not null"
        );
        assert!(value::<bool>(pool, &unresolved).await, "{table}.{code}");
    }
    let pipelines = "select count(*) from bitrix24.pipelines where gone_since is null";
    assert!(value::<i64>(pool, pipelines).await > 1);
    let formats = "select string_agg(distinct terms_type || ' ' || terms_type_name, ', ') \
                   from bitrix24_report.quotes where terms_type > 0";
    assert_eq!(value::<String>(pool, formats).await, "1 plain text, 2 BBCode, 3 HTML");
    let stages = "select bool_and(s.name = v.stage) from bitrix24_report.deals v \
                  join bitrix24.statuses s on s.code = v.stage_id and s.directory = \
                     case when v.category_id = 0 then 'DEAL_STAGE' \
                        else 'DEAL_STAGE_' || v.category_id end";
    assert!(value::<bool>(pool, stages).await);
    for report in ["deal_pipeline", "deal_win_rate", "deal_cycle_time", "companies_by_sales"] {
        let rows = format!("select count(*) from bitrix24_report.{report}");
        assert!(value::<i64>(pool, &rows).await > 0, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_that_items_describe_has_a_column_and_every_column_a_field() {
    use std::collections::BTreeSet;

    use b24mirror::entity::{CONTACTS, Dialect, LEADS};

    let portal = portal();
    for entity in [&CONTACTS, &LEADS].into_iter().chain(BUSINESS) {
        let address = format!(
            "{}crm.item.fields?entityTypeId={}&useOriginalUfNames=Y",
            portal.webhook_url(),
            entity.item.unwrap().entity_type_id
        );
        let (status, body) = crate::support::http::get(&address).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let described: BTreeSet<String> = answer["result"]["fields"]
            .as_object()
            .unwrap()
            .keys()
            .filter_map(|name| Some(Dialect::Item.field_of(entity, name)?.into_owned()))
            .filter(|name| {
                // Lists of files are kept with the user fields.
                !["ID", "STORAGE_ELEMENT_IDS"].contains(&name.as_str())
                    && !name.starts_with("UF_")
                    && !name.starts_with("PARENT_ID_")
            })
            .collect();
        let lists = entity.multi_fields.iter().filter(|multi| multi.link.is_some());
        let declared: BTreeSet<String> = entity
            .columns
            .iter()
            .map(|column| column.field)
            .chain(lists.map(|multi| multi.field))
            .filter(|field| {
                // What the classic lists alone bring.
                entity.classic.is_none()
                    || !field.starts_with("ADDRESS")
                        && !["FACE_ID", "LAST_COMMUNICATION_TIME"].contains(field)
            })
            .map(str::to_owned)
            .collect();
        assert_eq!(declared, described, "{}", entity.name);
    }
}
