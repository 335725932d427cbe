//! The switches for what the vendor's pages leave open.

use serde_json::{Value, json};

use super::super::php::Php;
use super::{BY_ID, Desk, ids, small};
use crate::simulator::{Options, RetryAfter, Undocumented};

fn switched(positions: &Value) -> Desk {
    let mut desk = small(120);
    desk.apply(json!({"action": "undocumented", "positions": positions}));
    desk
}

#[test]
fn a_start_behind_the_end_leads_where_the_switch_says() {
    let beyond = format!("{BY_ID}&start=5000");
    for (overrun, rows, next) in
        [("first_page", 50, json!(50)), ("last_page", 20, Value::Null), ("nothing", 0, Value::Null)]
    {
        let mut desk = switched(&json!({ "overrun": overrun }));
        let answer = desk.call("crm.contact.list", &beyond).unwrap();
        assert_eq!((ids(&answer["result"]).len(), &answer["next"]), (rows, &next), "{overrun}");
        assert_eq!(answer["total"], 120);
        assert_eq!(desk.portal.stats.trap(4), 1);
    }
    for (overrun, rows) in [("nothing", 0), ("first_page", 50)] {
        let mut desk = switched(&json!({ "item_overrun": overrun }));
        let query = "entityTypeId=3&order[id]=ASC&start=5000";
        let answer = desk.call("crm.item.list", query).unwrap();
        assert_eq!(answer["result"]["items"].as_array().unwrap().len(), rows, "{overrun}");
    }
}

#[test]
fn counting_ends_where_the_switch_says_and_the_pages_with_it() {
    let mut desk = switched(&json!({ "counts_up_to": 60 }));
    let first = desk.call("crm.contact.list", BY_ID).unwrap();
    assert_eq!((&first["total"], &first["next"]), (&json!(60), &json!(50)));
    let second = desk.call("crm.contact.list", &format!("{BY_ID}&start=50")).unwrap();
    assert_eq!((&second["total"], &second["next"]), (&json!(60), &Value::Null));
    let items = desk.call("crm.item.list", "entityTypeId=3&order[id]=ASC").unwrap();
    assert_eq!((&items["total"], &items["next"]), (&json!(60), &json!(50)));
}

#[test]
fn directories_come_in_pages_or_whole() {
    let mut desk = small(10);
    let paged = desk.call("crm.status.list", "start=0").unwrap();
    assert_eq!((ids(&paged["result"]).len(), &paged["next"]), (50, &json!(50)));
    let mut desk = switched(&json!({ "whole_statuses": true }));
    for start in [0, 50] {
        let whole = desk.call("crm.status.list", &format!("start={start}")).unwrap();
        assert_eq!(json!(ids(&whole["result"]).len()), whole["total"]);
        assert_eq!((&whole["total"], &whole["next"]), (&paged["total"], &Value::Null));
    }
}

#[test]
fn files_have_the_keys_of_the_switch() {
    for (keys, classic, item) in [
        ("camel", json!(["downloadUrl", "id", "showUrl"]), json!(["id", "url", "urlMachine"])),
        ("upper", json!(["DOWNLOAD_URL", "ID", "SHOW_URL"]), json!(["ID", "URL", "URL_MACHINE"])),
    ] {
        let mut desk = switched(&json!({ "file_keys": keys }));
        let names = |file: &Value| -> Value {
            file.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().into()
        };
        let rows = desk.call("crm.contact.list", "select[]=PHOTO").unwrap();
        let rows = rows["result"].as_array().unwrap().iter();
        let photos: Vec<Value> = rows.filter_map(|row| row.get("PHOTO")).map(names).collect();
        assert!(photos.len() > 3 && photos.iter().all(|own| *own == classic), "{photos:?}");
        let rows = desk.call("crm.item.list", "entityTypeId=3&select[]=photo").unwrap();
        let rows = rows["result"]["items"].as_array().unwrap().iter();
        let photos: Vec<Value> =
            rows.map(|row| &row["photo"]).filter(|photo| photo.is_object()).map(names).collect();
        assert!(photos.len() > 3 && photos.iter().all(|own| *own == item), "{photos:?}");
    }
    let mut desk = switched(&json!({ "file_keys": "bare" }));
    let rows = desk.call("crm.contact.list", "select[]=PHOTO").unwrap();
    assert!(rows.to_string().contains("\"PHOTO\":\""), "{rows}");
}

#[test]
fn what_is_deleted_leaves_its_links_or_takes_them_along() {
    for (unlinking, left, moves) in [("stays", 2, false), ("quiet", 1, false), ("dated", 1, true)] {
        let options = Options { contacts: 20, leads: 0, companies: 20, ..Options::default() };
        let mut desk = Desk::new(options);
        desk.apply(json!({"action": "undocumented", "positions": { "unlinking": unlinking }}));
        let contact = desk.portal.ids(crate::simulator::Entity::Contacts)[0];
        let companies = desk.portal.ids(crate::simulator::Entity::Companies);
        desk.apply(json!({"action": "set_links", "entity": "contacts", "id": contact,
            "field": "COMPANY_IDS", "ids": companies[..2]}));
        let look =
            |desk: &mut Desk| desk.portal.item_truth(crate::simulator::Entity::Contacts).remove(0);
        let before = look(&mut desk);
        desk.pass(std::time::Duration::from_mins(1));
        desk.apply(json!({"action": "delete", "entity": "companies", "ids": [companies[0]]}));
        let after = look(&mut desk);
        assert_eq!(after.links["COMPANY_IDS"].len(), left, "{unlinking}");
        assert_eq!(before.fields["DATE_MODIFY"] != after.fields["DATE_MODIFY"], moves);
    }
}

#[test]
fn the_address_book_is_ordered_and_cut_as_the_switches_say() {
    let mut desk = Desk::new(Options { recipients: 90, ..Options::default() });
    let mut listed = |positions: Value, query: &str| -> Vec<i64> {
        desk.apply(json!({"action": "undocumented", "positions": positions}));
        let params = json!({ "query": query, "pagination": { "limit": 200 } });
        let params: Php = serde_json::from_value(params).unwrap();
        let answer = desk.portal.list_recipients(params.as_array().unwrap()).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let items = answer["items"].as_array().unwrap();
        items.iter().map(|item| item["id"].as_i64().unwrap()).collect()
    };
    let newest = listed(json!({}), "");
    assert!(newest.len() == 90 && newest.is_sorted_by(|one, next| one > next));
    assert!(listed(json!({ "recipient_order": "id" }), "").is_sorted());
    let by_name = listed(json!({ "recipient_order": "name" }), "");
    assert!(by_name.len() == 90 && !by_name.is_sorted());
    let window = json!({ "recipient_window": 30 });
    assert_eq!(listed(window.clone(), ""), newest[..30]);
    // A search reaches behind it.
    assert_eq!(listed(window, "recipient2@"), [newest[87]]);
}

#[test]
fn retry_after_says_how_long() {
    let text = |own: RetryAfter| own.text();
    assert_eq!(text(Undocumented::default().retry_after), None);
    assert_eq!(text(RetryAfter::Seconds(7)).unwrap(), "7");
    let date = text(RetryAfter::Date(7)).unwrap();
    assert!(
        date.ends_with(" GMT") && chrono::DateTime::parse_from_rfc2822(&date).is_ok(),
        "{date}"
    );
    assert!(RetryAfter::Date(7).seconds() < 7.0);
}
