//! `crm.item.list` and its relatives, over the records that the classic lists show.

use serde_json::{Value, json};

use super::{Desk, small};
use crate::simulator::*;

/// Contacts by id, in the dialect of items.
const BY_ID: &str = "entityTypeId=3&order[id]=ASC&select[]=id";
const ALL: &str = "entityTypeId=3&order[id]=ASC&start=-1&useOriginalUfNames=Y";

fn items(answer: &Value) -> &Vec<Value> {
    answer["result"]["items"].as_array().unwrap()
}

fn ids(answer: &Value) -> Vec<i64> {
    items(answer).iter().map(|row| row["id"].as_i64().unwrap()).collect()
}

impl Desk {
    fn items(&mut self, query: &str) -> Value {
        self.call("crm.item.list", query).unwrap()
    }

    /// The text of the error that a list answers with.
    fn refusal(&mut self, query: &str) -> String {
        let (params, _) = super::parse_str(query, 1000);
        let mut state = super::RequestState::default();
        let executed = self.portal.execute(&mut state, "crm.item.list", &params, 0, false);
        let failure = executed.outcome.unwrap_err();
        assert_eq!(failure.status, 400);
        let mut out = Vec::new();
        failure.write(&mut out, self.portal.writing());
        let error: Value = serde_json::from_slice(&out).unwrap();
        format!("{} {}", error["error"], error["error_description"].as_str().unwrap())
    }

    fn item(&mut self, id: i64) -> Value {
        let answer = self.call("crm.item.get", &format!("entityTypeId=3&id={id}"));
        answer.unwrap()["result"]["item"].clone()
    }
}

#[test]
fn pages_are_counted_and_past_the_end_there_is_nothing() {
    let mut desk = small(120);
    let all = desk.portal.item_truth(Entity::Contacts).len();
    let first = desk.items(BY_ID);
    assert_eq!((first["total"].as_u64(), &first["next"]), (u64::try_from(all).ok(), &json!(50)));
    let last = desk.items(&format!("{BY_ID}&start=117"));
    assert_eq!(ids(&last).len(), all - 100, "rounded down to 100");
    assert_eq!(last["next"], Value::Null);
    let past = desk.items(&format!("{BY_ID}&start=150"));
    assert_eq!((items(&past).len(), &past["next"]), (0, &Value::Null));
    assert_eq!(past["total"].as_u64(), u64::try_from(all).ok());
    assert_eq!(desk.portal.stats.trap(4), 0);
    assert_eq!(desk.portal.stats.counts_by_method.get("crm.item.list"), Some(&3));
}

#[test]
fn without_counting_there_is_no_total_or_it_is_zero() {
    let mut desk = small(60);
    let query = format!("{BY_ID}&start=-1");
    let answer = desk.items(&query);
    assert_eq!((ids(&answer).len(), &answer["total"]), (50, &Value::Null));
    desk.apply(json!({"action": "total_absent", "absent": false}));
    assert_eq!(desk.items(&query)["total"], 0);
    assert_eq!((desk.portal.stats.trap(3), desk.portal.stats.counts), (1, 0));
}

#[test]
fn contacts_of_every_category_are_listed() {
    let mut desk = small(400);
    let hidden = desk.portal.tables[0].iter().find(|r| r.category == 5).unwrap().id;
    assert_eq!(desk.item(hidden)["categoryId"], 5);
    assert_eq!(ids(&desk.items(&format!("{BY_ID}&filter[categoryId]=5")))[0], hidden);
    let shown = desk.portal.truth(Entity::Contacts);
    let all = desk.portal.item_truth(Entity::Contacts);
    assert!(all.len() > shown.len());
    let of_zero: Vec<i64> = all
        .iter()
        .filter(|record| record.fields["CATEGORY_ID"] == 0)
        .map(|record| record.id)
        .collect();
    assert_eq!(of_zero, shown.iter().map(|record| record.id).collect::<Vec<_>>());
}

#[test]
fn names_and_types_are_those_of_items() {
    let mut desk = small(60);
    let row = items(&desk.items(ALL))[0].clone();
    assert!(row["id"].is_i64() && row["assignedById"].is_i64());
    assert_eq!(row["entityTypeId"], 3);
    for name in ["createdTime", "updatedTime", "createdBy", "updatedBy", "utmSource", "webformId"] {
        assert!(row.get(name).is_some(), "{name}");
    }
    for name in ["address", "shortName", "login"] {
        assert_eq!(row.get(name), Some(&Value::Null), "{name}");
    }
    for name in ["addressCity", "address2", "addressLocAddrId", "faceId", "lastCommunicationTime"] {
        assert!(row.get(name).is_none(), "{name}");
    }
    assert!(row["searchContent"].is_string() && row["companyIds"].is_array());
    assert!(row.get("UF_CRM_INTEGER").is_some() && row.get("ufCrmInteger").is_none());
    let camel = items(&desk.items("entityTypeId=3&order[id]=ASC"))[0].clone();
    assert!(camel.get("UF_CRM_INTEGER").is_none() && camel.get("ufCrmInteger").is_some());
    assert!(camel.get("ufCrm_1594289783260").is_some());
    let lead = items(&desk.items("entityTypeId=1&order[id]=ASC"))[0].clone();
    assert_eq!((&lead["entityTypeId"], lead["stageId"].is_string()), (&json!(1), true));
    for name in ["dateCreateShort", "dateModifyShort", "isConvert", "productId"] {
        assert_eq!(lead.get(name), Some(&Value::Null), "{name}");
    }
    assert!(lead.get("parentId131").is_some() && lead.get("contactIds").is_some());
}

#[test]
fn numbers_are_numbers_and_nothing_is_null() {
    let mut desk = Desk::new(Options { leads: 300, malformed: 0, ..Options::default() });
    let mut sums = 0;
    for page in 0..6 {
        let rows = desk.items(&format!("entityTypeId=1&order[id]=ASC&start={}", page * 50));
        for row in items(&rows) {
            assert!(row["opportunity"].is_null() || row["opportunity"].is_number());
            sums += usize::from(row["opportunity"].is_number());
            assert!(row["dateClosed"].is_null() || row["dateClosed"].as_str().unwrap().len() == 25);
            assert!(row["companyId"].is_null() || row["companyId"].is_i64());
            assert!(
                matches!(&row["opened"], Value::Null)
                    || row["opened"] == "Y"
                    || row["opened"] == "N"
            );
        }
    }
    assert!(sums > 100);
}

#[test]
fn multi_fields_are_one_flat_list_and_first_values_have_names_of_their_own() {
    let mut desk = small(50);
    let id = desk.portal.tables[0].last_id().unwrap();
    desk.apply(json!({"action": "set_multi", "entity": "contacts", "id": id, "field": "PHONE",
        "values": [["+1", "HOME"], ["+2", "WORK"], ["+3", "WORK"]]}));
    desk.apply(json!({"action": "set_multi", "entity": "contacts", "id": id, "field": "EMAIL",
        "values": [["a@b.c", "WORK"]]}));
    for kind in ["WEB", "IM", "LINK"] {
        desk.apply(json!({"action": "set_multi", "entity": "contacts", "id": id, "field": kind,
            "values": []}));
    }
    let row = desk.item(id);
    assert_eq!((&row["phone"], &row["phoneWork"]), (&json!("+1"), &json!("+2")));
    assert_eq!((&row["phoneMobile"], &row["emailWork"]), (&json!(""), &json!("a@b.c")));
    let fm = row["fm"].as_array().unwrap();
    assert_eq!(fm.len(), 4);
    assert!(fm.iter().all(|value| value["id"].is_i64()));
    let email = fm.iter().find(|value| value["typeId"] == "EMAIL").unwrap();
    assert_eq!((&email["value"], &email["valueType"]), (&json!("a@b.c"), &json!("WORK")));
    // Lists mix the types in any order; a reshuffle brings another.
    let filter = format!("{ALL}&filter[id]={id}");
    let orders: Vec<Value> = (0..4)
        .map(|_| {
            desk.apply(json!({"action": "reshuffle"}));
            items(&desk.items(&filter))[0]["fm"].clone()
        })
        .collect();
    assert!(orders.iter().any(|order| *order != orders[0]));
    let narrow = desk.items(&format!("{BY_ID}&select[]=phone&filter[id]={id}"));
    assert_eq!(items(&narrow)[0], json!({"id": id, "phone": "+1"}));
    desk.portal.faults.queue.push(Fault::once("crm.item.list", FaultKind::DropMultiFields));
    assert_eq!(items(&desk.items(&filter))[0]["fm"], json!([]));
}

#[test]
fn a_select_brings_what_it_names_and_fm_only_with_a_star() {
    let mut desk = small(5);
    let first = |desk: &mut Desk, select: &str| {
        let query = format!("entityTypeId=3&order[id]=ASC{select}");
        items(&desk.items(&query))[0].clone()
    };
    let keys = |row: &Value| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        keys(&first(&mut desk, "&select[]=updatedTime&select[]=fm&select[]=NAME")),
        ["updatedTime"]
    );
    let stars = first(&mut desk, "&select[]=id&select[]=*");
    assert!(stars.get("fm").is_some() && keys(&stars).len() > 60);
    assert_eq!(first(&mut desk, "&select[]=NO_SUCH"), json!([]), "an empty map of PHP");
    let custom = first(&mut desk, "&select[]=UF_*");
    assert!(keys(&custom).iter().all(|name| name.starts_with("ufCrm")));
}

#[test]
fn what_is_not_understood_is_refused() {
    let mut desk = small(5);
    for (query, wanted) in [
        ("", "100 Could not find value for parameter {entityTypeId}"),
        ("entityTypeId=777", "\"NOT_FOUND\" SPA not found"),
        (
            "entityTypeId=3&filter[%3E%3DDATE_MODIFY]=2024-01-01",
            "\"INVALID_ARG_VALUE\" Invalid filter: field 'DATE_MODIFY' is not allowed in filter",
        ),
        (
            "entityTypeId=3&filter[%3E%3DupdatedTime]=garbage",
            "\"INVALID_ARG_VALUE\" Invalid filter: field 'updatedTime' has invalid value",
        ),
        (
            "entityTypeId=3&filter[%3Eid][]=1",
            "\"INVALID_ARG_VALUE\" Invalid filter: field 'id' has invalid value",
        ),
        (
            "entityTypeId=3&order[ID]=ASC",
            "\"INVALID_ARG_VALUE\" Invalid order: field 'ID' is not allowed in order",
        ),
    ] {
        assert_eq!(desk.refusal(query), wanted);
    }
    assert!(desk.refusal("entityTypeId=3&order[id]=up").contains("allowed sort directions"));
    assert!(desk.refusal("entityTypeId=3&filter=x").starts_with("100 Invalid value"));
    let missing = desk.call("crm.item.get", "entityTypeId=3&id=999999999");
    assert_eq!(missing, Err((400, "NOT_FOUND".to_owned())));
}

#[test]
fn older_portals_forgive() {
    let mut desk = small(60);
    desk.apply(json!({"action": "item_reading", "null_dates": true, "cast_arrays": true}));
    assert!(ids(&desk.items(&format!("{BY_ID}&filter[%3E%3DupdatedTime]=garbage"))).is_empty());
    assert_eq!(desk.portal.stats.trap(2), 1);
    let all = ids(&desk.items(BY_ID));
    assert_eq!(ids(&desk.items(&format!("{BY_ID}&filter[%3Eid][]=7")))[0], all[1], "after id 1");
}

#[test]
fn filters_know_prefixes_dates_and_groups() {
    let mut desk = small(120);
    let all = ids(&desk.items(&format!("{BY_ID}&start=-1")));
    let after = |op: &str| format!("{BY_ID}&start=-1&filter[{op}id]={}", all[39]);
    assert_eq!(ids(&desk.items(&after("%3C"))), all[..39]);
    assert_eq!(ids(&desk.items(&after("%3E")))[..10], all[40..]);
    let two = format!(
        "{BY_ID}&filter[0][logic]=OR&filter[0][0][id]={}&filter[0][1][id]={}",
        all[3], all[7]
    );
    assert_eq!(ids(&desk.items(&two)), [all[3], all[7]]);
    let listed = format!("{BY_ID}&filter[@id][]={}&filter[@id][]={}", all[7], all[3]);
    assert_eq!(ids(&desk.items(&listed)), [all[3], all[7]]);
    let none = desk.items(&format!("{BY_ID}&filter[%3EupdatedTime]=2100-01-01T00:00:00%2B03:00"));
    assert!(ids(&none).is_empty());
    // The bare sign leaves dates as they are, which equal nothing.
    let bare = desk.items(&format!("{BY_ID}&start=-1&filter[!createdTime]=garbage"));
    assert_eq!(ids(&bare), all);
    let truth = desk.portal.item_truth(Entity::Contacts);
    let linked = truth.iter().find(|record| record.links["COMPANY_IDS"].len() > 1).unwrap();
    let second = linked.links["COMPANY_IDS"][1];
    assert!(ids(&desk.items(&format!("{BY_ID}&filter[companyIds]={second}"))).contains(&linked.id));
}

#[test]
fn chains_go_by_the_items_and_end_in_errors_or_start_over() {
    let mut desk = small(70);
    let page = |after: &str| format!("crm.item.list?{BY_ID}&start=-1&filter%5B%3Eid%5D={after}");
    let chain = json!({"cmd": {
        "a": page("0"),
        "b": page("$result[a][items][49][id]"),
        "c": page("$result[b][items][49][id]"),
        "d": page("$result[c][items][49][id]"),
    }});
    let answer = desk.batch(&chain);
    let page_of = |answer: &Value, key: &str| ids(&json!({"result": answer["result"][key]}));
    let (a, b) = (page_of(&answer, "a"), page_of(&answer, "b"));
    assert_eq!(a.len(), 50);
    assert!(b[0] > a[49] && b.len() < 50);
    assert_eq!(answer["result_error"]["c"]["error"], "INVALID_ARG_VALUE");
    assert_eq!(answer["result_error"]["d"]["error"], "INVALID_ARG_VALUE");
    assert_eq!((desk.portal.stats.trap(6), desk.portal.stats.trap(7)), (1, 1));
    desk.apply(json!({"action": "item_reading", "null_dates": false, "cast_arrays": true}));
    let answer = desk.batch(&chain);
    assert_eq!(page_of(&answer, "c")[0], a[1], "after id 1");
    assert!(desk.portal.stats.rows_restarted > 0);
}

#[test]
fn links_follow_the_primary_one_and_come_in_order() {
    let mut desk = small(200);
    let truth = desk.portal.item_truth(Entity::Contacts);
    let counts: Vec<usize> = truth.iter().map(|record| record.links["COMPANY_IDS"].len()).collect();
    assert!(counts.contains(&0) && counts.contains(&1) && counts.iter().any(|count| *count > 2));
    for record in &truth {
        let links = &record.links["COMPANY_IDS"];
        assert_eq!(record.fields["COMPANY_ID"].as_i64(), links.first().copied());
        let row = desk.item(record.id);
        assert_eq!(row["companyIds"], json!(links));
        assert_eq!(row["observers"], json!(record.links["OBSERVERS"]));
    }
    assert!(truth.iter().any(|record| !record.links["OBSERVERS"].is_empty()));
    let id = truth[0].id;
    let before = desk.item(id)["updatedTime"].clone();
    desk.apply(json!({"action": "set_links", "entity": "contacts", "id": id,
        "field": "COMPANY_IDS", "ids": [7, 5, 9], "keep_date": true}));
    let row = desk.item(id);
    assert_eq!((&row["companyId"], &row["companyIds"]), (&json!(7), &json!([7, 5, 9])));
    assert_eq!(row["updatedTime"], before);
    desk.apply(json!({"action": "set_links", "entity": "contacts", "id": id,
        "field": "OBSERVERS", "ids": []}));
    assert_eq!(desk.portal.item_truth(Entity::Contacts)[0].links["OBSERVERS"], [0_i64; 0]);
}

#[test]
fn the_catalogue_names_what_rows_carry() {
    let mut desk = small(60);
    for (type_id, original) in [(3, "Y"), (1, "N")] {
        let query = format!("entityTypeId={type_id}&useOriginalUfNames={original}");
        let answer = desk.call("crm.item.fields", &query).unwrap();
        let fields = answer["result"]["fields"].as_object().unwrap();
        let listed = desk.items(&format!("{query}&order[id]=ASC"));
        let aliases = [
            "fm",
            "phone",
            "phoneWork",
            "phoneMobile",
            "phoneMailing",
            "email",
            "emailWork",
            "emailHome",
            "emailMailing",
            "imol",
            "skype",
            "icq",
        ];
        for row in items(&listed) {
            let carried = row.as_object().unwrap().keys();
            let carried: Vec<&String> =
                carried.filter(|name| !aliases.contains(&name.as_str())).collect();
            assert_eq!(carried.len(), fields.len());
            assert!(carried.iter().all(|name| fields.contains_key(*name)));
        }
        let upper = |name: &str| fields[name]["upperName"].clone();
        assert_eq!((upper("createdTime"), upper("id")), (json!("CREATED_TIME"), json!("ID")));
        let code = if original == "Y" { "UF_CRM_ENUMERATION" } else { "ufCrmEnumeration" };
        assert_eq!(upper(code), "UF_CRM_ENUMERATION");
        assert_eq!(fields[code]["items"].as_array().unwrap().len(), 4);
        assert!(fields[code]["formLabel"].is_string());
        assert_eq!(
            (&fields["opened"]["type"], &fields["id"]["isReadOnly"]),
            (&json!("boolean"), &json!(true))
        );
    }
}

#[test]
fn touched_values_come_as_they_are() {
    let mut desk = small(5);
    let id = desk.portal.tables[0].last_id().unwrap();
    for (field, value) in [
        ("BIRTHDATE", json!("0000-00-00")),
        ("COMPANY_ID", json!("12abc")),
        ("DATE_MODIFY", json!("вчера")),
        ("WEBFORM_ID", json!({"a": 1})),
    ] {
        desk.apply(json!({"action": "touch", "entity": "contacts", "id": id, "field": field,
            "value": value}));
    }
    let row = desk.item(id);
    assert_eq!((&row["birthdate"], &row["companyId"]), (&json!("0000-00-00"), &json!("12abc")));
    assert_eq!((&row["webformId"], &row["companyIds"]), (&json!({"a": 1}), &json!([])));
    let narrow = desk.items(&format!("{BY_ID}&select[]=updatedTime&filter[id]={id}"));
    assert_eq!(items(&narrow)[0]["updatedTime"], "вчера");
    let truth = desk.portal.item_truth(Entity::Contacts);
    let unreadable = &truth.iter().find(|record| record.id == id).unwrap().unreadable;
    assert_eq!(unreadable["COMPANY_ID"], "12abc");
    assert_eq!(unreadable.len(), 4);
    desk.apply(json!({"action": "omit", "entity": "contacts", "id": id, "field": "NAME"}));
    assert!(desk.item(id).get("name").is_none());
}

#[test]
fn rights_faults_poison_and_awaited_actions_work_as_for_the_classic_lists() {
    let mut desk = small(200);
    desk.portal
        .faults
        .queue
        .push(Fault::once("crm.item.list", FaultKind::HideRows { every: 1 }).about(Entity::Leads));
    assert_eq!(ids(&desk.items(BY_ID)).len(), 50, "the fault is about leads");
    assert!(ids(&desk.items("entityTypeId=1&order[id]=ASC")).is_empty());
    let far = format!("{BY_ID}&filter[%3EupdatedTime]=2100-01-01");
    desk.portal.faults.queue.push(Fault::once("crm.item.list", FaultKind::IgnoreFilter));
    assert_eq!(ids(&desk.items(&far)).len(), 50);
    desk.portal.faults.queue.push(Fault::once("crm.item.list", FaultKind::MisreadDate));
    let past = format!("{BY_ID}&filter[%3EupdatedTime]=1970-01-02");
    assert!(ids(&desk.items(&past)).is_empty());
    desk.apply(json!({"action": "after", "commands": 1,
        "then": {"action": "create", "entity": "contacts"}}));
    let before = desk.portal.item_truth(Entity::Contacts).len();
    desk.items(BY_ID);
    assert_eq!(desk.portal.item_truth(Entity::Contacts).len(), before + 1);
    desk.apply(json!({"action": "rights", "entity": "contacts", "rights": {"without": 0.6}}));
    let total = desk.items(BY_ID)["total"].as_i64().unwrap();
    assert!((50..120).contains(&total), "{total}");
    desk.apply(json!({"action": "rights", "entity": "contacts", "rights": "none"}));
    assert!(desk.refusal(BY_ID).starts_with("\"ACCESS_DENIED\""));
}

#[test]
fn files_carry_the_secret_and_are_counted() {
    let mut desk = small(60);
    desk.portal.download = "http://portal/rest/1/s3cret".to_owned();
    let rows = desk.items(ALL);
    let file =
        items(&rows).iter().map(|row| &row["UF_CRM_FILE"]).find(|file| file.is_object()).unwrap();
    assert!(file["id"].is_i64() && file["url"].is_string());
    assert!(file["urlMachine"].as_str().unwrap().contains("s3cret"));
    assert!(desk.portal.stats.trap(35) > 0);
}
