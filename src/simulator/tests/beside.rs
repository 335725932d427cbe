//! What stands beside records: stage history and product rows.

use serde_json::{Value, json};

use super::Desk;
use crate::simulator::*;

fn desk() -> Desk {
    Desk::new(Options { leads: 80, deals: 120, smart_invoices: 20, gaps: 0, ..Options::default() })
}

fn rows<'a>(answer: &'a Value, key: &str) -> &'a Vec<Value> {
    answer["result"][key].as_array().unwrap()
}

/// All steps of a family, read as a client does: by id, a page at a time.
fn history(desk: &mut Desk, type_id: i64) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let last = all.last().map_or("0", |row| row["ID"].as_str().unwrap());
        let query = format!("entityTypeId={type_id}&order[ID]=ASC&start=-1&filter[%3EID]={last}");
        let answer = desk.call("crm.stagehistory.list", &query).unwrap();
        assert_eq!((&answer["total"], &answer["next"]), (&Value::Null, &Value::Null));
        let page = rows(&answer, "items");
        if page.is_empty() {
            return all;
        }
        all.extend(page.iter().cloned());
    }
}

#[test]
fn the_history_is_what_the_truth_says() {
    let mut desk = desk();
    for (entity, stage, semantic) in [
        (Entity::Leads, "STATUS_ID", "STATUS_SEMANTIC_ID"),
        (Entity::Deals, "STAGE_ID", "STAGE_SEMANTIC_ID"),
        (Entity::SmartInvoices, "STAGE_ID", "STAGE_SEMANTIC_ID"),
    ] {
        let truth = desk.portal.true_steps(entity);
        let read = history(&mut desk, entity.type_id());
        assert_eq!(read.len(), truth.len());
        for (row, step) in read.iter().zip(&truth) {
            assert_eq!(row["ID"], step.id.to_string());
            assert_eq!(row["OWNER_ID"], step.owner_id.to_string());
            assert_eq!(row["TYPE_ID"], step.type_id.to_string());
            assert_eq!(
                (&row[stage], &row[semantic]),
                (&json!(step.stage_id), &json!(step.stage_semantic_id))
            );
            assert_eq!(row.get("CATEGORY_ID").is_some(), entity != Entity::Leads);
        }
        // Every record was created once, and the last step is where it stands.
        for record in desk.portal.item_truth(entity) {
            let own: Vec<&TrueStep> =
                truth.iter().filter(|step| step.owner_id == record.id).collect();
            assert_eq!(own.iter().filter(|step| step.type_id == 1).count(), 1);
            let field = if entity == Entity::Leads { "STATUS_ID" } else { "STAGE_ID" };
            assert_eq!(record.fields[field], own.last().unwrap().stage_id);
        }
    }
}

#[test]
fn moves_and_creations_are_appended_and_deleted_owners_vanish() {
    let mut desk = desk();
    let before = desk.portal.true_steps(Entity::Deals);
    let created = desk.apply(json!({"action": "create", "entity": "deals"})).ids[0];
    let id = before[0].owner_id;
    let (on_the_way, end) = ("C1:NEW", "C1:LOSE");
    for stage in [on_the_way, end, end] {
        desk.apply(json!({"action": "move_stage", "entity": "deals", "ids": [id], "stage": stage}));
    }
    desk.apply(json!({"action": "change", "entity": "deals", "ids": [id]}));
    let after = desk.portal.true_steps(Entity::Deals);
    let new: Vec<(i64, i64, &str)> = after[before.len()..]
        .iter()
        .map(|step| (step.owner_id, step.type_id, step.stage_id.as_str()))
        .collect();
    assert_eq!(new[0].0, created);
    assert_eq!((new[0].1, &new[1..]), (1, &[(id, 2, on_the_way), (id, 3, end)][..]));
    let own = format!("entityTypeId=2&filter[OWNER_ID]={id}");
    let answer = desk.call("crm.stagehistory.list", &own).unwrap();
    let count = after.iter().filter(|step| step.owner_id == id).count();
    assert_eq!(answer["total"].as_u64(), u64::try_from(count).ok());
    desk.apply(json!({"action": "delete", "entity": "deals", "ids": [id]}));
    assert_eq!(desk.call("crm.stagehistory.list", &own).unwrap()["total"], 0);
    let back = desk.apply(json!({"action": "restore", "entity": "deals", "ids": [id]})).ids[0];
    let last = desk.portal.true_steps(Entity::Deals).pop().unwrap();
    assert_eq!((last.owner_id, last.type_id, &*last.stage_id), (back, 1, end));
}

#[test]
fn the_history_is_filtered_by_time_and_refuses_what_it_does_not_know() {
    let mut desk = desk();
    let id = desk.portal.true_steps(Entity::Leads)[0].owner_id;
    let action = json!({"action": "move_stage", "entity": "leads", "ids": [id], "stage": "JUNK"});
    desk.apply(action);
    let since =
        "entityTypeId=1&filter[%3ECREATED_TIME]=2026-01-01T00:00:00%2B03:00&select[]=OWNER_ID";
    let answer = desk.call("crm.stagehistory.list", since).unwrap();
    assert_eq!(rows(&answer, "items"), &[json!({"OWNER_ID": id.to_string()})]);
    let listed = "entityTypeId=1&filter[@ID][]=2&filter[@ID][]=5";
    assert_eq!(rows(&desk.call("crm.stagehistory.list", listed).unwrap(), "items").len(), 2);
    for (query, code) in [
        ("entityTypeId=1&filter[ownerId]=1", "INVALID_ARG_VALUE"),
        ("entityTypeId=1&filter[%3EID][]=1", "INVALID_ARG_VALUE"),
        ("entityTypeId=3", "ENTITY_TYPE_NOT_SUPPORTED"),
        ("", "100"),
    ] {
        let refused = desk.call("crm.stagehistory.list", query);
        assert_eq!(refused, Err((400, code.to_owned())), "{query}");
    }
    let past = desk.call("crm.stagehistory.list", "entityTypeId=1&start=5000").unwrap();
    assert!(rows(&past, "items").is_empty());
}

#[test]
fn product_rows_are_listed_by_their_owners() {
    let mut desk = desk();
    let truth = desk.portal.true_products(Entity::Deals);
    let owners: Vec<i64> =
        desk.portal.item_truth(Entity::Deals).iter().map(|deal| deal.id).take(40).collect();
    let ids = owners.iter().map(|id| format!("&filter[%3DownerId][]={id}")).collect::<Vec<_>>();
    let ids = ids.concat();
    let mut read = Vec::new();
    loop {
        let last = read.last().map_or(0, |row: &Value| row["id"].as_i64().unwrap());
        let query =
            format!("filter[%3DownerType]=D{ids}&filter[%3Eid]={last}&order[id]=asc&start=-1");
        let answer = desk.call("crm.item.productrow.list", &query).unwrap();
        let page = rows(&answer, "productRows").clone();
        assert!(page.len() <= 50);
        if page.is_empty() {
            break;
        }
        read.extend(page);
    }
    let mut wanted: Vec<&TrueProduct> =
        truth.iter().filter(|row| owners.contains(&row.owner_id)).collect();
    wanted.sort_by_key(|row| row.id);
    assert!(wanted.len() > 50, "more than a page");
    assert_eq!(read.len(), wanted.len());
    for (row, own) in read.iter().zip(wanted) {
        assert_eq!((&row["id"], &row["ownerId"]), (&json!(own.id), &json!(own.owner_id)));
        assert_eq!(
            (&row["ownerType"], &row["productName"]),
            (&json!("D"), &json!(own.product_name))
        );
        assert_eq!(row["price"].to_string().trim_end_matches(".0"), own.price);
    }
    let counted = format!("filter[%3DownerType]=D{ids}");
    let answer = desk.call("crm.item.productrow.list", &counted).unwrap();
    assert_eq!(
        (answer["total"].as_u64(), &answer["next"]),
        (u64::try_from(read.len()).ok(), &json!(50))
    );
    for query in ["", "filter[%3DownerType]=D", "filter[%3DownerId]=1"] {
        let refused = desk.call("crm.item.productrow.list", query);
        assert_eq!(refused, Err((400, "100".to_owned())));
    }
}

#[test]
fn new_product_rows_move_their_owner() {
    let mut desk = desk();
    let lead = desk.portal.item_truth(Entity::Leads)[0].clone();
    desk.apply(json!({"action": "set_products", "entity": "leads", "id": lead.id,
        "products": [["Стол", "10.50", "2"]]}));
    let kept = desk.portal.true_products(Entity::Leads);
    let kept: Vec<&TrueProduct> = kept.iter().filter(|row| row.owner_id == lead.id).collect();
    assert_eq!((kept.len(), &*kept[0].price), (1, "10.5"));
    let after = &desk.portal.item_truth(Entity::Leads)[0];
    assert_ne!(after.fields["DATE_MODIFY"], lead.fields["DATE_MODIFY"]);
    let id = kept[0].id;
    desk.apply(json!({"action": "set_products", "entity": "leads", "id": lead.id,
        "products": [["Стол", "11", "2"], ["Стул", "5", "4"]]}));
    let query = format!("filter[%3DownerType]=L&filter[%3DownerId]={}", lead.id);
    let answer = desk.call("crm.item.productrow.list", &query).unwrap();
    let ids: Vec<i64> =
        rows(&answer, "productRows").iter().map(|row| row["id"].as_i64().unwrap()).collect();
    assert!(ids.len() == 2 && ids[0] == id && ids[1] > id, "{ids:?}");
    desk.apply(json!({"action": "delete", "entity": "leads", "ids": [lead.id]}));
    let gone = desk.call("crm.item.productrow.list", &query).unwrap();
    assert!(rows(&gone, "productRows").is_empty());
}
