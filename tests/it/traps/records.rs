//! Records that come, change and look in unexpected ways.

use std::collections::BTreeMap;

use b24mirror::{
    entity::{CONTACTS, Entity},
    simulator::{Action, Cost, Fault, FaultKind, Options, TrueRecord, UserFieldType},
    sync::{EntityOutcome, SyncError},
};
use chrono_tz::Tz;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{Bench, CONTACT, LEAD, change, complete, touch};
use crate::support::{TestPortal, unlimited};

fn small() -> Options {
    Options { contacts: 300, leads: 160, ..unlimited() }
}

/// A contact with a phone.
fn with_phone(bench: &Bench) -> TrueRecord {
    let mut contacts = bench.portal.truth(&CONTACTS);
    contacts.retain(|record| !record.multi_fields["PHONE"].is_empty());
    contacts.swap_remove(contacts.len() / 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_14_a_restored_record_arrives_with_the_next_cycle() {
    let bench = Bench::new(TestPortal::with(small())).await;
    let mut gone = BTreeMap::new();
    for entity in [CONTACT, LEAD] {
        let deleted = Action::Delete { entity, ids: Vec::new(), count: 4 };
        gone.insert(entity, bench.portal.happens(deleted).gone);
    }
    bench.fill().await;
    for (entity, ids) in gone {
        bench.portal.happens(Action::Restore { entity, ids, count: 4, visible_after: 0.0 });
    }
    let tallies = bench.cycle().await;
    assert_eq!((tallies[0].inserted, tallies[1].inserted), (4, 4));
    bench.assert_equal().await;
    assert_eq!(bench.sprung(14), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_15_an_imported_record_with_an_old_date_arrives_with_the_next_cycle() {
    let bench = Bench::new(TestPortal::with(small())).await;
    bench.fill().await;
    for entity in [CONTACT, LEAD] {
        bench.portal.happens(Action::Import { entity, count: 70, days: 400, visible_after: 0.0 });
    }
    let tallies = bench.cycle().await;
    assert_eq!((tallies[0].inserted, tallies[1].inserted), (70, 70));
    bench.assert_equal().await;
    assert_eq!(bench.sprung(15), 140);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_18_a_key_that_is_missing_means_that_there_are_no_values() {
    let bench = Bench::new(TestPortal::with(small())).await;
    bench.fill().await;
    let stats = bench.portal.stats();
    assert_eq!(stats.trap(18), 0, "multi-fields have to be named");
    let id = with_phone(&bench).id;
    let phones = format!("contact_phones where contact_id = {id}");
    assert!(bench.count(&phones).await > 0);
    let field = "PHONE".to_owned();
    bench.portal.happens(Action::SetMulti { entity: CONTACT, id, field, values: Vec::new() });
    bench.cycle().await;
    assert!(bench.sprung(18) > 0);
    assert_eq!(bench.count(&phones).await, 0);
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_18_a_page_that_lost_its_multi_fields_is_not_believed() {
    let bench = Bench::new(TestPortal::with(small())).await;
    bench.portal.fault(Fault::times("crm.contact.list", 2, FaultKind::DropMultiFields).after(1));
    bench.fill().await;
    bench.assert_equal().await;
    assert_eq!(bench.portal.stats().faults["drop_multi_fields"], 2);

    // A single row that says it has a phone and shows none keeps what is stored.
    let id = with_phone(&bench).id;
    let (phones, note) = (
        format!("contact_phones where contact_id = {id}"),
        format!(
            "sync_quarantine where record_id = {id} and field = 'PHONE' and resolved_at is null"
        ),
    );
    let before = bench.count(&phones).await;
    // The first command of a cycle asks for what was changed: that one row.
    bench.portal.fault(Fault::once("crm.contact.list", FaultKind::DropMultiFields).at_command(0));
    bench.portal.happens(touch(id, "COMMENTS", json!("changed")));
    bench.cycle().await;
    assert_eq!((bench.count(&phones).await, bench.count(&note).await), (before, 1));
    bench.portal.happens(Action::ClearFaults);
    bench.cycle().await;
    assert_eq!(bench.count(&note).await, 0);
    bench.assert_equal().await;
}

/// Every child row of every record, without what is derived from it.
async fn children(bench: &Bench) -> BTreeMap<&'static str, Value> {
    let mut children = BTreeMap::new();
    let lists = Entity::BY_DEFAULT.iter().flat_map(|entity| entity.multi_fields);
    // Links come in items only.
    for table in lists.filter(|multi| multi.is_values()).map(|multi| multi.table) {
        let rows =
            format!("select jsonb_agg(to_jsonb(t) - 'e164' order by t) from bitrix24.{table} t");
        let rows = sqlx::query_scalar(AssertSqlSafe(rows)).fetch_one(bench.pool()).await.unwrap();
        children.insert(table, rows);
    }
    children
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_18_multi_fields_that_never_come_stop_the_run_and_empty_nothing() {
    let mut bench = Bench::new(TestPortal::with(small())).await;
    bench.fill().await;
    let stored = children(&bench).await;
    assert!(stored.values().all(Value::is_array), "{stored:?}");

    for method in ["crm.contact.list", "crm.lead.list"] {
        bench.portal.fault(Fault::once(method, FaultKind::DropMultiFields).forever());
    }
    bench.portal.happens(change(CONTACT, 60));
    bench.portal.happens(change(LEAD, 60));
    let refused = |outcomes: Vec<EntityOutcome>| {
        for outcome in outcomes {
            let error = outcome.result.unwrap_err();
            assert!(matches!(error, SyncError::Mutilated(_)), "{error:?}");
        }
    };
    let before = bench.checkpoints().await;
    refused(bench.try_cycle().await);
    assert_eq!(bench.checkpoints().await, before);
    refused(bench.session().backfill(&Entity::BY_DEFAULT, true).await);
    let verdicts = "select array_agg(verdict) from (select distinct on (entity) verdict \
                    from bitrix24.sync_runs order by entity, id desc) last";
    let verdicts: Vec<String> = sqlx::query_scalar(verdicts).fetch_one(bench.pool()).await.unwrap();
    assert_eq!(verdicts, ["incomplete", "incomplete"]);
    assert_eq!(children(&bench).await, stored);

    // The same as a command that somebody runs.
    bench.close().await;
    let finished = bench.portal.command(&bench.database, &["backfill", "leads"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    assert!(finished.stdout.contains("leads: incomplete"), "{finished:#?}");
    assert_eq!(children(&bench).await, stored);

    bench.portal.happens(Action::ClearFaults);
    bench.reopen().await;
    complete(bench.session().backfill(&Entity::BY_DEFAULT, false).await);
    bench.cycle().await;
    bench.assert_equal().await;
    assert_ne!(children(&bench).await, stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_18_a_single_row_that_lost_its_phones_keeps_its_other_values_too() {
    let bench = Bench::new(TestPortal::with(small())).await;
    bench.fill().await;
    let records = bench.portal.truth(&CONTACTS);
    let has = |record: &TrueRecord, field: &str| !record.multi_fields[field].is_empty();
    let record = records.iter().find(|r| has(r, "PHONE") && has(r, "WEB") && has(r, "IM"));
    let id = record.unwrap().id;
    let stored = children(&bench).await;
    // The first command of a cycle asks for what was changed: that one row.
    let dropping = Fault::once("crm.contact.list", FaultKind::DropMultiFields).at_command(0);
    bench.portal.fault(dropping.forever());
    bench.portal.happens(touch(id, "COMMENTS", json!("changed")));
    bench.cycle().await;
    let changed = format!("contacts where id = {id} and comments = 'changed'");
    assert_eq!(bench.count(&changed).await, 1);
    assert_eq!(children(&bench).await, stored);

    bench.portal.happens(Action::ClearFaults);
    bench.cycle().await;
    let open = "sync_quarantine where reason = 'children_missing' and resolved_at is null";
    assert_eq!(bench.count(open).await, 0);
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_19_neither_another_order_nor_another_season_is_a_change() {
    let clock = Some("2026-10-24T12:00:00Z".parse().unwrap());
    let options = Options { zone: Tz::Europe__Berlin, clock, ..small() };
    let bench = Bench::new(TestPortal::with(options)).await;
    bench.fill().await;
    bench.portal.reset_stats();
    bench.portal.happens(Action::Reshuffle);
    let again = bench.refill().await;
    assert!(bench.sprung(19) > 0);
    assert_eq!((again[0].updated, again[0].inserted), (0, 0), "{again:?}");
    assert_eq!((again[1].updated, again[1].inserted), (0, 0), "{again:?}");
    assert!(again[0].unchanged >= 300 && again[1].unchanged >= 160, "{again:?}");

    let sprung = bench.sprung(19);
    bench.portal.happens(Action::SetClock { to: "2026-10-26T12:00:00Z".to_owned() });
    let winter = bench.refill().await;
    assert!(bench.sprung(19) > sprung);
    assert_eq!((winter[0].updated, winter[1].updated), (0, 0), "{winter:?}");
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_30_user_fields_come_and_go_between_two_pages() {
    let bench = Bench::new(TestPortal::with(small())).await;
    let code = "UF_CRM_FRESH".to_owned();
    let cost = Cost { seconds: 0.1, real: true, ..Cost::default() };
    bench.portal.happens(Action::Cost { method: "crm.contact.list".to_owned(), cost });
    let ids = bench.contacts();
    let adding = async {
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        bench.portal.happens(Action::AddUserField {
            entity: CONTACT,
            code: code.clone(),
            kind: UserFieldType::Date,
            multiple: false,
        });
        for id in ids.iter().step_by(3) {
            bench.portal.happens(touch(*id, &code, json!("2024-02-29")));
        }
    };
    tokio::join!(bench.fill(), adding);
    bench.cycle().await;
    bench.assert_equal().await;
    let filled = format!("contacts where custom_fields->>'{code}' = '2024-02-29'");
    assert_eq!(bench.count(&filled).await, 100);
    assert_eq!(bench.count(&format!("fields where field = '{code}'")).await, 1);

    // Away again, while everything is being read.
    let removing = async {
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        bench.portal.happens(Action::RemoveUserField { entity: CONTACT, code: code.clone() });
    };
    tokio::join!(bench.refill(), removing);
    bench.refill().await;
    assert_eq!(bench.sprung(30), 2);
    assert_eq!(bench.count(&filled).await, 0);
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_31_a_user_that_the_portal_hides_is_no_reason_to_refuse_a_record() {
    let bench = Bench::new(TestPortal::with(small())).await;
    bench.fill().await;
    assert!(bench.sprung(31) > 0);
    let id = bench.contacts()[7];
    bench.portal.happens(touch(id, "ASSIGNED_BY_ID", json!("987654321")));
    let hidden = bench.careless("user.get", &json!({ "FILTER": { "ID": 987_654_321 } }));
    assert_eq!(hidden["result"], json!([]));
    bench.cycle().await;
    let stored = format!("contacts where id = {id} and assigned_by_id = 987654321");
    assert_eq!(bench.count(&stored).await, 1);
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_40_escaped_and_plain_answers_are_the_same_records() {
    let bench = Bench::new(TestPortal::with(small())).await;
    bench.fill().await;
    let hashes = "select jsonb_object_agg(id, content_hash) from bitrix24.contacts";
    let hashes = async || sqlx::query_scalar::<_, Value>(hashes).fetch_one(bench.pool()).await;
    let escaped = hashes().await.unwrap();
    bench.portal.happens(Action::Writing { plain_utf8: true });
    assert_eq!(bench.sprung(40), 1);
    let again = bench.refill().await;
    assert!(again[0].updated == 0 && again[0].unchanged >= 300, "{again:?}");
    assert!(again[1].updated == 0 && again[1].unchanged >= 160, "{again:?}");
    assert_eq!(hashes().await.unwrap(), escaped);
    bench.portal.happens(change(CONTACT, 40));
    bench.cycle().await;
    bench.assert_equal().await;
}
