//! The portal's behaviour as a client meets it.

mod beside;
mod careful;
mod families;
mod gateway;
mod http;
mod items;
mod links;
mod undocumented;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::batch::Batch;
use super::php::{Php, parse_str};
use super::portal::RequestState;
use super::*;

/// A portal without HTTP, whose clock stands still until it is moved.
struct Desk {
    portal: Portal,
    micros: Arc<AtomicU64>,
}

impl Desk {
    fn new(options: Options) -> Self {
        let micros = Arc::new(AtomicU64::new(0));
        let options = Options {
            clock: options.clock.or_else(|| Some(utc("2026-01-15T09:00:00Z"))),
            ..options
        };
        Self { portal: Portal::new(options, Ticks::Manual(Arc::clone(&micros))), micros }
    }

    fn pass(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap();
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn call(&mut self, method: &str, query: &str) -> Result<Value, (u16, String)> {
        let (params, _) = parse_str(query, 1000);
        let mut state = RequestState::default();
        let executed = self.portal.execute(&mut state, method, &params, 0, false);
        let answer = executed.outcome.map_err(|failure| (failure.status, failure.code))?;
        let result: Value = serde_json::from_slice(&answer.body).unwrap();
        Ok(json!({"result": result, "next": answer.next, "total": answer.total}))
    }

    fn ids(&mut self, query: &str) -> Vec<i64> {
        ids(&self.call("crm.contact.list", query).unwrap()["result"])
    }

    fn batch(&mut self, params: &Value) -> Value {
        let params: Php = serde_json::from_value(params.clone()).unwrap();
        let mut batch = Batch::read(params.as_array().unwrap(), 1000);
        let mut state = RequestState::default();
        for place in 0..batch.commands.len() {
            if !batch.step(&mut self.portal, &mut state, place).1 {
                break;
            }
        }
        let mut out = Vec::new();
        batch.write(&mut self.portal, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    fn apply(&mut self, action: Value) -> Outcome {
        let action: Action = serde_json::from_value(action).unwrap();
        self.portal.apply(action).unwrap()
    }
}

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn ids(rows: &Value) -> Vec<i64> {
    let id = |row: &Value| match &row["ID"] {
        Value::String(text) => text.parse().unwrap(),
        other => other.as_i64().unwrap(),
    };
    rows.as_array().unwrap().iter().map(id).collect()
}

fn small(contacts: u64) -> Desk {
    Desk::new(Options { contacts, leads: 20, gaps: 0, ..Options::default() })
}

const BY_ID: &str = "order[ID]=ASC&select[]=ID";

#[test]
fn pages_hold_fifty_and_a_start_past_the_end_wraps() {
    let mut desk = small(120);
    let first = desk.call("crm.contact.list", BY_ID).unwrap();
    assert_eq!(first["total"], 120);
    assert_eq!(first["next"], 50);
    let third = desk.call("crm.contact.list", &format!("{BY_ID}&start=117")).unwrap();
    assert_eq!(ids(&third["result"]).len(), 20, "rounded down to 100");
    assert_eq!(third["next"], Value::Null);
    let wrapped = desk.call("crm.contact.list", &format!("{BY_ID}&start=150")).unwrap();
    assert_eq!(ids(&wrapped["result"]), ids(&first["result"]));
    assert_eq!(wrapped["next"], 50);
    assert_eq!(desk.portal.stats.trap(4), 1);
    assert_eq!(desk.portal.stats.counts, 3);
    let lists = desk.portal.stats.counts_by_method.get("crm.contact.list");
    assert_eq!(lists, Some(&3));
}

#[test]
fn without_counting_the_total_is_zero_or_absent() {
    let mut desk = small(60);
    let query = format!("{BY_ID}&start=-1");
    let answer = desk.call("crm.contact.list", &query).unwrap();
    assert_eq!(ids(&answer["result"]).len(), 50);
    assert_eq!(answer["total"], 0);
    assert_eq!(answer["next"], Value::Null);
    assert_eq!((desk.portal.stats.trap(3), desk.portal.stats.counts), (1, 0));
    desk.apply(json!({"action": "total_absent", "absent": true}));
    let answer = desk.call("crm.contact.list", &query).unwrap();
    assert_eq!(answer["total"], Value::Null);
}

#[test]
fn unknown_filter_keys_vanish_and_upper_case_start_does_too() {
    let mut desk = small(70);
    let all = desk.ids(BY_ID);
    let dropped = desk.ids(&format!("{BY_ID}&filter[%3E%3Ddate_modify]=2100-01-01"));
    assert_eq!(dropped, all);
    assert_eq!(desk.portal.stats.trap(1), 1);
    assert_eq!(desk.ids(&format!("{BY_ID}&START=50")), all);
    assert_eq!(desk.portal.stats.trap(5), 1);
}

#[test]
fn filters_compare_by_the_type_of_the_field() {
    let mut desk = small(80);
    let all: Vec<i64> =
        (0..2).flat_map(|page| desk.ids(&format!("{BY_ID}&start={}", page * 50))).collect();
    assert_eq!(all.len(), 80);
    let from = all[39];
    let after = |op: &str| format!("{BY_ID}&filter[{op}ID]={from}&start=-1");
    assert_eq!(desk.ids(&after("%3E")), all[40..]);
    assert_eq!(desk.ids(&after("%3E%3D")), all[39..]);
    assert_eq!(desk.ids(&after("%3C")), all[..39]);
    assert_eq!(desk.ids(&after("")), [from]);
    let listed =
        format!("{BY_ID}&filter[@ID][]={}&filter[@ID][]=-5&filter[@ID][]={}", all[7], all[3]);
    assert_eq!(desk.ids(&listed), [all[3], all[7]]);
    assert_eq!(desk.ids(&format!("{BY_ID}&filter[%3EID]=abc")), all[..50]);
    let descending = desk.ids("order[ID]=DESC&select[]=ID");
    assert_eq!(descending[0], all[79]);
}

#[test]
fn text_filters_know_equality_likeness_and_nothing() {
    let mut desk = small(200);
    let truth = desk.portal.truth(Entity::Contacts);
    let count = |wanted: &dyn Fn(&Value) -> bool| {
        truth.iter().filter(|record| wanted(&record.fields["NAME"])).count()
    };
    let mut total = |filter: &str| {
        let answer = desk.call("crm.contact.list", &format!("{filter}&order[ID]=ASC"));
        usize::try_from(answer.unwrap()["total"].as_i64().unwrap()).unwrap()
    };
    let anna = |name: &Value| name == "Анна";
    assert!(count(&anna) > 0);
    assert_eq!(total("filter[NAME]=Анна"), count(&anna));
    assert_eq!(total("filter[%3DNAME]=анна"), count(&anna));
    assert_eq!(total("filter[!NAME]=Анна"), 200 - count(&anna));
    assert_eq!(
        total("filter[%25NAME]=нн"),
        count(&|name| name.as_str().is_some_and(|n| n.contains("нн")))
    );
    assert_eq!(total("filter[NAME]="), count(&Value::is_null));
}

#[test]
fn a_bad_date_means_is_null() {
    let mut desk = small(60);
    let bad = ["2024-01-01T00:00:00+03:00", "garbage"];
    for text in bad {
        assert!(desk.ids(&format!("{BY_ID}&filter[%3EDATE_MODIFY]={text}")).is_empty());
    }
    assert_eq!(desk.portal.stats.trap(2), 2);
    let good = "1970-01-02T00:00:00%2B03:00";
    assert_eq!(desk.ids(&format!("{BY_ID}&filter[%3EDATE_MODIFY]={good}")).len(), 50);
}

#[test]
fn a_list_without_an_order_comes_by_modification_time() {
    let mut desk = small(60);
    let answer = desk.call("crm.contact.list", "select[]=DATE_MODIFY").unwrap();
    let dates: Vec<&str> = answer["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["DATE_MODIFY"].as_str().unwrap())
        .collect();
    assert!(dates.is_sorted());
    assert_eq!((desk.portal.stats.trap(34), desk.portal.stats.trap(41)), (1, 1));
}

#[test]
fn multi_fields_come_only_when_named_and_agree_with_the_flags() {
    let mut desk = small(50);
    let plain = desk.call("crm.contact.list", "order[ID]=ASC").unwrap();
    assert!(plain["result"][0].get("PHONE").is_none());
    assert_eq!(desk.portal.stats.trap(18), 1);
    let query = "order[ID]=ASC&select[]=PHONE&select[]=*&select[]=UF_*";
    let named = desk.call("crm.contact.list", query).unwrap();
    for row in named["result"].as_array().unwrap() {
        assert_eq!(row["HAS_PHONE"] == "Y", row.get("PHONE").is_some());
    }
    let lower = desk.call("crm.contact.list", "select[]=phone").unwrap();
    assert!(lower["result"].as_array().unwrap().iter().all(|row| row.get("PHONE").is_none()));
}

#[test]
fn contacts_of_another_category_are_in_no_list() {
    let mut desk = small(400);
    let hidden = desk.portal.tables[0].iter().find(|r| r.category == 5).unwrap().id;
    assert!(desk.ids(&format!("{BY_ID}&filter[ID]={hidden}")).is_empty());
    let got = desk.call("crm.contact.get", &format!("id={hidden}"));
    assert_eq!(got, Err((400, String::new())));
}

#[test]
fn a_chain_restarts_after_a_short_page_and_after_a_failure() {
    let mut desk = small(53);
    let all = desk.ids(&format!("{BY_ID}&start=-1"));
    let page = |after: &str| format!("crm.contact.list?{BY_ID}&start=-1&filter%5B%3EID%5D={after}");
    let commands = json!({"cmd": {
        "p0": page("0"),
        "p1": page("$result[p0][49][ID]"),
        "p2": page("$result%5Bp1%5D%5B49%5D%5BID%5D"),
        "bad": "no.such.method",
        "p3": page("$result[bad][49][ID]"),
    }});
    let answer = desk.batch(&commands);
    assert_eq!(ids(&answer["result"]["p0"]), all);
    assert_eq!(ids(&answer["result"]["p1"]).len(), 3);
    let without_one: Vec<i64> = all.iter().copied().filter(|id| *id > 1).collect();
    assert_eq!(ids(&answer["result"]["p2"])[..49], without_one[..49]);
    assert_eq!(ids(&answer["result"]["p3"])[..49], without_one[..49]);
    assert_eq!(answer["result_error"]["bad"]["error"], "ERROR_METHOD_NOT_FOUND");
    assert_eq!((desk.portal.stats.trap(6), desk.portal.stats.trap(7)), (1, 1));
}

#[test]
fn the_maps_of_a_batch_follow_php() {
    let mut desk = small(10);
    let good = desk.batch(&json!({"cmd": ["server.time", "scope"]}));
    assert!(good["result"].is_array(), "keys 0 and 1");
    assert_eq!(good["result_error"], json!([]));
    let mixed = desk.batch(&json!({"cmd": ["no.such", "scope"]}));
    assert!(mixed["result"].is_object(), "only key 1");
    assert!(mixed["result_error"].is_array(), "only key 0");
    let halted = desk.batch(&json!({"CMD": {"a": "no.such", "b": "scope"}, "HALT": 1}));
    assert_eq!(halted["result"], json!([]));
    assert_eq!(desk.portal.stats.trap(8), 1);
    let many: Vec<&str> = vec!["scope"; 53];
    let many = desk.batch(&json!({"cmd": many}));
    assert_eq!(many["result"].as_array().unwrap().len(), 50);
    assert_eq!(many["result_error"]["52"]["error"], "ERROR_BATCH_LENGTH_EXCEEDED");
}

#[test]
fn careless_commands_lose_text_and_conditions() {
    let mut desk = small(60);
    let cmd = "crm.contact.list?select[]=ID&order[ID]=ASC&filter[>=DATE_MODIFY]=2100-01-01";
    let answer = desk.batch(&json!({"cmd": {"a": cmd}}));
    assert_eq!(ids(&answer["result"]["a"]).len(), 50);
    assert_eq!(desk.portal.stats.trap(39), 1);
    desk.batch(&json!({"cmd": {"a": "crm.contact.list?filter[NAME]=a+b#c&order[ID]=ASC"}}));
    assert_eq!(desk.portal.stats.trap(32), 1);
}

#[test]
fn the_operating_limit_stops_one_method_and_answers_in_the_batch() {
    let mut desk = Desk::new(Options {
        operating: Some(OperatingLimit { limit: 1.0, window: 10.0, ..OperatingLimit::default() }),
        ..Options::default()
    });
    desk.apply(json!({"action": "cost", "method": "crm.contact.list", "cost": {"seconds": 0.4}}));
    let cmd = format!("crm.contact.list?{BY_ID}");
    let answer = desk.batch(&json!({"cmd": {
        "a": cmd, "b": cmd, "c": cmd, "d": cmd, "e": "crm.lead.list?select[]=ID&order[ID]=ASC"
    }}));
    assert_eq!(answer["result_error"]["d"]["error"], "OPERATION_TIME_LIMIT");
    assert!(answer["result"]["e"].is_array());
    assert_eq!(answer["result_time"]["c"]["operating"], json!(0.4 + 0.4 + 0.4));
    assert!(answer["result_time"]["c"]["operating_reset_at"].is_i64());
    assert_eq!(desk.call("crm.contact.list", BY_ID), Err((429, "OPERATION_TIME_LIMIT".to_owned())));
    desk.pass(Duration::from_secs(11));
    assert!(desk.call("crm.contact.list", BY_ID).is_ok());
    assert_eq!(desk.portal.stats.operating_refusals, 2);
}

#[test]
fn restored_and_imported_records_have_new_ids_and_old_dates() {
    let mut desk = small(60);
    let before = desk.portal.truth(Entity::Contacts);
    let gone = desk.apply(json!({"action": "delete", "entity": "contacts"})).gone[0];
    let old = before.iter().find(|record| record.id == gone).unwrap();
    let back = desk.apply(json!({"action": "restore", "entity": "contacts", "ids": [gone]})).ids[0];
    assert!(back > before.last().unwrap().id);
    let truth = desk.portal.truth(Entity::Contacts);
    let new = truth.iter().find(|record| record.id == back).unwrap();
    assert_eq!(new.fields["DATE_MODIFY"], old.fields["DATE_MODIFY"]);
    assert_eq!(new.fields["NAME"], old.fields["NAME"]);
    assert_eq!(new.multi_fields, old.multi_fields);
    let imported = desk.apply(json!({"action": "import", "entity": "contacts", "days": 9})).ids[0];
    let truth = desk.portal.truth(Entity::Contacts);
    assert_eq!(truth.last().unwrap().id, imported);
    assert_eq!(truth.last().unwrap().fields["DATE_MODIFY"], "2026-01-06T09:00:00Z");
    assert_eq!((desk.portal.stats.trap(14), desk.portal.stats.trap(15)), (1, 1));
}

#[test]
fn a_late_write_shows_later_with_its_old_time() {
    let mut desk = small(60);
    let action = json!({"action": "create", "entity": "contacts", "visible_after": 8.0});
    let id = desk.apply(action).ids[0];
    let filter = format!("{BY_ID}&filter[ID]={id}");
    assert!(desk.ids(&filter).is_empty());
    desk.pass(Duration::from_secs(9));
    assert_eq!(desk.ids(&filter), [id]);
    let truth = desk.portal.truth(Entity::Contacts);
    assert_eq!(truth.last().unwrap().fields["DATE_MODIFY"], "2026-01-15T09:00:00Z");
    assert_eq!(desk.portal.stats.trap(13), 1);
}

#[test]
fn a_change_of_zone_or_season_moves_instants_but_not_the_stored_time() {
    let mut desk = Desk::new(Options {
        zone: chrono_tz::Tz::Europe__Berlin,
        clock: Some(utc("2026-10-24T23:30:00Z")),
        ..Options::default()
    });
    let id = desk.apply(json!({"action": "create", "entity": "leads"})).ids[0];
    let query = format!("id={id}");
    let read = |desk: &mut Desk| {
        desk.call("crm.lead.get", &query).unwrap()["result"]["DATE_MODIFY"].clone()
    };
    assert_eq!(read(&mut desk), "2026-10-25T01:30:00+02:00");
    desk.pass(Duration::from_hours(3));
    assert_eq!(read(&mut desk), "2026-10-25T01:30:00+02:00");
    assert_eq!(desk.portal.stats.trap(12), 1);
    desk.apply(json!({"action": "set_zone", "zone": "America/New_York"}));
    assert_eq!(read(&mut desk), "2026-10-25T01:30:00-04:00");
}

#[test]
fn rights_hide_all_or_a_share() {
    let mut desk = small(300);
    desk.apply(json!({"action": "rights", "entity": "contacts", "rights": {"without": 0.6}}));
    let total = desk.call("crm.contact.list", BY_ID).unwrap()["total"].as_i64().unwrap();
    assert!((80..160).contains(&total), "{total}");
    desk.apply(json!({"action": "rights", "entity": "contacts", "rights": "none"}));
    assert_eq!(desk.call("crm.contact.list", BY_ID), Err((400, String::new())));
    assert!(desk.call("crm.lead.list", BY_ID).is_ok());
    assert_eq!(desk.portal.truth(Entity::Contacts).len(), 300);
}

#[test]
fn faults_blind_a_filter() {
    let mut desk = small(60);
    let query = format!("{BY_ID}&filter[%3EDATE_MODIFY]=2100-01-01");
    assert!(desk.ids(&query).is_empty());
    desk.portal.faults.queue.push(Fault::once("crm.contact.list", FaultKind::IgnoreFilter));
    assert_eq!(desk.ids(&query).len(), 50);
    desk.portal.faults.queue.push(Fault::once("crm.contact.list", FaultKind::MisreadDate));
    assert!(desk.ids(&format!("{BY_ID}&filter[%3EDATE_MODIFY]=1970-01-02")).is_empty());
    assert!(desk.portal.stats.trap(1) > 0 && desk.portal.stats.trap(2) > 0);
}

#[test]
fn a_fault_hides_rows_and_the_page_is_filled_with_others() {
    let mut desk = small(200);
    let honest = desk.ids(BY_ID);
    let hide = |every| Fault::once("crm.contact.list", FaultKind::HideRows { every });
    desk.portal.faults.queue.push(hide(3));
    let hidden = desk.ids(BY_ID);
    assert!(hidden.len() == 50 && hidden.iter().all(|id| id % 3 != 0), "{hidden:?}");
    desk.portal.faults.queue.push(hide(1));
    assert!(desk.ids(BY_ID).is_empty());
    assert_eq!(desk.ids(BY_ID), honest);
}

#[test]
fn user_fields_come_change_and_go() {
    let mut desk = small(5);
    let fields = |desk: &mut Desk| desk.call("crm.contact.fields", "").unwrap()["result"].clone();
    desk.apply(json!({"action": "add_user_field", "entity": "contacts", "code": "UF_CRM_NEW", "kind": "date"}));
    assert_eq!(fields(&mut desk)["UF_CRM_NEW"]["type"], "date");
    let id = desk.portal.tables[0].last_id().unwrap();
    desk.apply(json!({"action": "touch", "entity": "contacts", "id": id, "field": "UF_CRM_NEW", "value": "x"}));
    let row = desk.call("crm.contact.get", &format!("id={id}")).unwrap();
    assert_eq!(row["result"]["UF_CRM_NEW"], "x");
    desk.apply(json!({"action": "remove_user_field", "entity": "contacts", "code": "UF_CRM_NEW"}));
    assert!(fields(&mut desk).get("UF_CRM_NEW").is_none());
    let row = desk.call("crm.contact.get", &format!("id={id}")).unwrap();
    assert!(row["result"].get("UF_CRM_NEW").is_none());
    assert_eq!(desk.portal.stats.trap(30), 2);
}

#[test]
fn both_writings_say_the_same() {
    let mut desk = small(50);
    let query = "order[ID]=ASC&select[]=PHONE&select[]=EMAIL&select[]=*&select[]=UF_*";
    let escaped = desk.call("crm.contact.list", query).unwrap();
    desk.apply(json!({"action": "writing", "plain_utf8": true}));
    assert_eq!(desk.call("crm.contact.list", query).unwrap(), escaped);
    assert_eq!(desk.portal.stats.trap(40), 1);
}
