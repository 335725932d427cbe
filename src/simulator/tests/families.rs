//! The families that only `crm.item.*` knows, their pipelines and their types.

use serde_json::{Value, json};

use super::Desk;
use crate::simulator::*;

fn business() -> Desk {
    Desk::new(Options {
        contacts: 10,
        leads: 60,
        companies: 400,
        deals: 200,
        quotes: 60,
        smart_invoices: 60,
        projects: 60,
        equipment: 60,
        gaps: 0,
        ..Options::default()
    })
}

fn first(desk: &mut Desk, entity: Entity) -> Value {
    let query = format!("entityTypeId={}&order[id]=ASC&useOriginalUfNames=Y", entity.type_id());
    desk.call("crm.item.list", &query).unwrap()["result"]["items"][0].clone()
}

#[test]
fn every_family_has_rows_a_catalogue_and_a_truth() {
    let mut desk = business();
    for entity in Entity::items() {
        let row = first(&mut desk, entity);
        let truth = desk.portal.item_truth(entity);
        assert_eq!(row["id"], truth[0].id, "{entity:?}");
        assert_eq!(row["entityTypeId"], entity.type_id());
        let query = format!("entityTypeId={}&useOriginalUfNames=Y", entity.type_id());
        let answer = desk.call("crm.item.fields", &query).unwrap();
        let fields = answer["result"]["fields"].as_object().unwrap();
        let multi = if truth[0].multi_fields.is_empty() { 0 } else { 12 };
        assert_eq!(row.as_object().unwrap().len(), fields.len() + multi, "{entity:?}");
        assert!(fields.keys().all(|name| row.get(name).is_some()), "{entity:?}");
        let codes = row.as_object().unwrap().keys().filter(|name| name.starts_with("UF_"));
        assert!(codes.count() >= 34);
    }
}

#[test]
fn canonical_names_are_the_classic_ones() {
    let mut desk = business();
    for (entity, names) in [
        (Entity::Companies, &["COMPANY_TYPE", "LOGO_ID", "IS_MY_COMPANY", "DATE_MODIFY"][..]),
        (Entity::Deals, &["STAGE_ID", "CATEGORY_ID", "MODIFY_BY_ID", "MOVED_BY_ID", "CLOSEDATE"]),
        (Entity::Quotes, &["STATUS_ID", "QUOTE_NUMBER", "CREATED_BY_ID", "MYCOMPANY_ID"]),
        (Entity::SmartInvoices, &["XML_ID", "ACCOUNT_NUMBER", "DATE_CREATE", "PREVIOUS_STAGE_ID"]),
        (Entity::Projects, &["STAGE_ID", "WEBFORM_ID"]),
        (Entity::Equipment, &["TITLE", "ASSIGNED_BY_ID"]),
    ] {
        let fields = &desk.portal.item_truth(entity)[0].fields;
        for name in names {
            assert!(fields.contains_key(*name), "{entity:?} {name}");
        }
        for name in ["ADDRESS", "SEARCH_CONTENT", "ENTITY_TYPE_ID", "DATE_CREATE_SHORT"] {
            assert!(!fields.contains_key(name), "{entity:?} {name}");
        }
    }
    let row = first(&mut desk, Entity::Companies);
    assert!(row.get("typeId").is_some() && row.get("companyType").is_none());
    assert!(row["fm"].is_array() && row.get("UF_LOGO").is_some());
    assert!(first(&mut desk, Entity::Deals).get("fm").is_none());
    assert!(first(&mut desk, Entity::Equipment).get("stageId").is_none());
    let project = first(&mut desk, Entity::Projects);
    assert!(project.get("UF_CRM_3_INTEGER").is_some());
    let links: usize = desk
        .portal
        .item_truth(Entity::Companies)
        .iter()
        .map(|company| company.links["CONTACT_IDS"].len())
        .sum();
    assert!(links > 0);
}

#[test]
fn deals_stand_in_pipelines_whose_stages_have_names() {
    let mut desk = business();
    let answer = desk.call("crm.category.list", "entityTypeId=2").unwrap();
    let categories = answer["result"]["categories"].as_array().unwrap();
    assert_eq!((categories.len(), &answer["total"]), (3, &json!(3)));
    assert_eq!((&categories[0]["id"], &categories[0]["isDefault"]), (&json!(0), &json!("Y")));
    let names = desk.portal.names.truth();
    let mut seen = std::collections::BTreeSet::new();
    for deal in desk.portal.item_truth(Entity::Deals) {
        let category = deal.fields["CATEGORY_ID"].as_i64().unwrap();
        let stage = deal.fields["STAGE_ID"].as_str().unwrap();
        seen.insert(category);
        let directory = match category {
            0 => "DEAL_STAGE".to_owned(),
            other => format!("DEAL_STAGE_{other}"),
        };
        assert_eq!(category == 0, !stage.starts_with('C'));
        let status = names
            .statuses
            .iter()
            .find(|status| status.directory == directory && status.code == stage)
            .unwrap();
        let semantic = deal.fields["STAGE_SEMANTIC_ID"].as_str().unwrap();
        assert_eq!(status.semantics.as_deref().unwrap_or("P"), semantic);
        assert_eq!(deal.fields["CLOSED"], semantic != "P");
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 5]);
    let leads = desk.call("crm.category.list", "entityTypeId=1");
    assert_eq!(leads, Err((400, "ENTITY_TYPE_NOT_SUPPORTED".to_owned())));
}

#[test]
fn smart_processes_are_found_by_their_types_and_exist_only_if_made() {
    let mut desk = business();
    let answer = desk.call("crm.type.list", "").unwrap();
    let types = answer["result"]["types"].as_array().unwrap();
    let ids: Vec<(i64, i64)> = types
        .iter()
        .map(|own| (own["id"].as_i64().unwrap(), own["entityTypeId"].as_i64().unwrap()))
        .collect();
    assert_eq!(ids, [(3, 128), (7, 1036)]);
    assert_eq!(
        (&types[0]["isStagesEnabled"], &types[1]["isStagesEnabled"]),
        (&json!("Y"), &json!("N"))
    );
    let mut plain = Desk::new(Options::default());
    assert_eq!(plain.call("crm.type.list", "").unwrap()["result"]["types"], json!([]));
    let missing = plain.call("crm.item.list", "entityTypeId=128");
    assert_eq!(missing, Err((400, "NOT_FOUND".to_owned())));
    plain.apply(json!({"action": "smart_process", "entity": "projects", "exists": true}));
    plain.apply(json!({"action": "create", "entity": "projects", "count": 2}));
    let made = plain.call("crm.item.list", "entityTypeId=128").unwrap();
    assert_eq!(made["result"]["items"].as_array().unwrap().len(), 2);
    plain.apply(json!({"action": "smart_process", "entity": "projects", "exists": false}));
    assert_eq!(plain.call("crm.type.list", "").unwrap()["result"]["types"], json!([]));
    plain.apply(json!({"action": "admin", "admin": false}));
    let denied = plain.call("crm.type.list", "");
    assert_eq!(denied, Err((400, "ACCESS_DENIED".to_owned())));
}

#[test]
fn all_actions_work_on_every_family() {
    let mut desk = business();
    for entity in Entity::items() {
        let before = desk.portal.item_truth(entity);
        let created = desk.apply(json!({"action": "create", "entity": entity})).ids[0];
        let changed = desk.apply(json!({"action": "change", "entity": entity, "ids": [created]}));
        assert_eq!(changed.ids, [created]);
        let id = before[3].id;
        desk.apply(json!({"action": "change", "entity": entity, "ids": [id]}));
        let after = desk.portal.item_truth(entity);
        assert_ne!(after[3].fields, before[3].fields, "{entity:?}");
        let gone = desk.apply(json!({"action": "delete", "entity": entity, "ids": [id]})).gone;
        let back = desk.apply(json!({"action": "restore", "entity": entity, "ids": gone})).ids[0];
        desk.apply(json!({"action": "import", "entity": entity, "days": 9}));
        desk.apply(json!({"action": "touch", "entity": entity, "id": back,
            "field": "ASSIGNED_BY_ID", "value": "x"}));
        desk.apply(json!({"action": "merge", "entity": entity, "count": 3}));
        let code = format!("{}NEW", entity.user_field_prefix());
        desk.apply(json!({"action": "add_user_field", "entity": entity, "code": code,
            "kind": "string"}));
        assert!(first(&mut desk, entity).get(&code).is_some());
        let query = format!("entityTypeId={}&id={id}", entity.type_id());
        assert!(desk.call("crm.item.get", &query).is_err());
    }
}

#[test]
fn a_move_changes_all_that_tells_of_the_stage() {
    let mut desk = business();
    let id = desk.portal.item_truth(Entity::Deals)[0].id;
    desk.apply(json!({"action": "move_stage", "entity": "deals", "ids": [id], "stage": "C5:WON"}));
    let deal = &desk.portal.item_truth(Entity::Deals)[0].fields;
    assert_eq!((&deal["CATEGORY_ID"], &deal["STAGE_ID"]), (&json!(5), &json!("C5:WON")));
    assert_eq!((&deal["STAGE_SEMANTIC_ID"], &deal["CLOSED"]), (&json!("S"), &json!(true)));
    assert_eq!(deal["MOVED_TIME"], "2026-01-15T09:00:00Z");
    let id = desk.portal.item_truth(Entity::SmartInvoices)[0].id;
    for stage in ["DT31_13:N", "DT31_13:S"] {
        desk.apply(json!({"action": "move_stage", "entity": "smart_invoices", "ids": [id],
            "stage": stage}));
    }
    let invoice = &desk.portal.item_truth(Entity::SmartInvoices)[0].fields;
    assert_eq!(invoice["PREVIOUS_STAGE_ID"], "DT31_13:N");
    let unknown = Action::MoveStage {
        entity: Entity::Deals,
        ids: vec![id],
        count: 1,
        stage: Some("NO".to_owned()),
    };
    assert!(desk.portal.apply(unknown).is_err());
}
