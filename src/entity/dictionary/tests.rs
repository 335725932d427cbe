use serde_json::{Value, json};

use super::*;

fn read(dictionary: Dictionary, row: &Value) -> Result<Entry, NoKey> {
    dictionary.read(&RawValue::from_string(row.to_string()).unwrap())
}

fn columns(dictionary: Dictionary, row: &Value) -> Value {
    let entry = read(dictionary, row).unwrap();
    assert_eq!(entry.unread, Vec::<&str>::new());
    serde_json::to_value(entry.row).unwrap()
}

#[test]
fn a_user_has_a_name_whatever_the_portal_gives() {
    let name = |row: Value| columns(Dictionary::Users, &row)["full_name"].clone();
    assert_eq!(name(json!({"ID": "7", "NAME": "Анна", "LAST_NAME": "Ли"})), "Анна Ли");
    assert_eq!(name(json!({"ID": "7", "NAME": "", "LAST_NAME": " Ли "})), "Ли");
    assert_eq!(name(json!({"ID": 7, "NAME": null, "EMAIL": "a@example.org"})), "a@example.org");
    assert_eq!(name(json!({"ID": 7})), "7");
}

#[test]
fn whether_a_user_is_active_is_understood_in_every_spelling() {
    for (active, expected) in [
        (json!(true), true),
        (json!("Y"), true),
        (json!("true"), true),
        (json!(1), true),
        (json!(null), true),
        (json!(false), false),
        (json!("N"), false),
        (json!("false"), false),
        (json!("0"), false),
    ] {
        let row = columns(Dictionary::Users, &json!({"ID": "7", "ACTIVE": active}));
        assert_eq!(row["active"], expected, "{active}");
    }
}

#[test]
fn departments_of_a_user_come_in_many_forms() {
    for (departments, expected) in [
        (json!([1, "2"]), json!([1, 2])),
        (json!({"0": 1, "3": "2"}), json!([1, 2])),
        (json!("5"), json!([5])),
        (json!([]), json!([])),
        (json!(false), json!([])),
        (json!(null), json!([])),
        (json!([0]), json!([])),
    ] {
        let row = columns(Dictionary::Users, &json!({"ID": 7, "UF_DEPARTMENT": departments}));
        assert_eq!(row["department_ids"], expected, "{departments}");
    }
}

#[test]
fn a_value_that_cannot_be_read_costs_itself_only() {
    let row = json!({"ID": "7", "NAME": ["x"], "LAST_NAME": "Ли", "ACTIVE": "maybe"});
    let entry = read(Dictionary::Users, &row).unwrap();
    assert_eq!(entry.unread, ["NAME", "ACTIVE"]);
    let row = serde_json::to_value(entry.row).unwrap();
    assert_eq!((&row["full_name"], &row["active"]), (&json!("Ли"), &json!(true)));
}

#[test]
fn a_row_without_a_key_is_no_entry() {
    for (dictionary, row) in [
        (Dictionary::Users, json!({"ID": "0"})),
        (Dictionary::Users, json!({"NAME": "x"})),
        (Dictionary::Users, json!("x")),
        (Dictionary::Statuses, json!({"ENTITY_ID": "STATUS", "STATUS_ID": ""})),
        (Dictionary::Departments, json!({"ID": "x"})),
        (Dictionary::Currencies, json!({"CURRENCY": null})),
        (Dictionary::Pipelines, json!({"id": 5, "name": "x"})),
        (Dictionary::Pipelines, json!({"id": -1, "entityTypeId": 2})),
    ] {
        let error = read(dictionary, &row).unwrap_err().to_string();
        assert!(error.contains(dictionary.method()), "{error}");
    }
}

#[test]
fn a_status_keeps_what_reports_need() {
    let row = json!({"ID": "3", "ENTITY_ID": "STATUS", "STATUS_ID": "UC_9X/Y",
        "NAME": "Успех\u{0}", "SORT": "30", "SEMANTICS": "S", "CATEGORY_ID": null,
        "COLOR": "", "EXTRA": {"SEMANTICS": "success", "COLOR": "#39A8EF"}});
    assert_eq!(
        columns(Dictionary::Statuses, &row),
        json!({"directory": "STATUS", "code": "UC_9X/Y", "id": 3, "name": "Успех",
            "sort": 30, "semantics": "S", "color": "#39A8EF", "category_id": null}),
    );
    let going_on = json!({"ENTITY_ID": "STATUS", "STATUS_ID": "1", "SEMANTICS": "P"});
    let row = columns(Dictionary::Statuses, &going_on);
    assert_eq!((&row["semantics"], &row["name"]), (&Value::Null, &json!("1")));
}

#[test]
fn a_currency_keeps_its_rate_to_the_last_digit() {
    let row = json!({"CURRENCY": "USD", "AMOUNT": "59.7700", "AMOUNT_CNT": 1, "BASE": "N",
        "SORT": "200", "FULL_NAME": "Доллар США", "DECIMALS": "2", "DATE_UPDATE": {}});
    assert_eq!(
        columns(Dictionary::Currencies, &row),
        json!({"code": "USD", "name": "Доллар США", "rate": "59.77", "rate_amount": "1",
            "base": false, "decimals": 2, "sort": 200}),
    );
}

#[test]
fn a_pipeline_says_what_it_is_of() {
    let row = json!({"id": 0, "name": " Общая ", "sort": "300", "entityTypeId": 2,
        "isDefault": "Y"});
    assert_eq!(
        columns(Dictionary::Pipelines, &row),
        json!({"entity_type_id": 2, "id": 0, "name": "Общая", "sort": 300,
            "is_default": true}),
    );
}

#[test]
fn pipelines_are_those_of_the_records_that_name_them() {
    use crate::entity::{CONTACTS, DEAL_STAGE_HISTORY, DEALS, LEADS, smart_process};
    let of = |entity: &Entity| entity.pipelines().collect::<Vec<u32>>();
    assert_eq!((of(&DEALS), of(&DEAL_STAGE_HISTORY), of(&CONTACTS)), (vec![2], vec![2], vec![3]));
    assert_eq!((of(&LEADS), of(&SMART_ITEMS)), (Vec::new(), Vec::new()));
    assert_eq!(of(smart_process(1036).unwrap()), [1036]);
    assert!(Dictionary::explaining(&[&SMART_ITEMS]).contains(&Dictionary::Pipelines));
    let explained = Explained::of(Dictionary::Pipelines, "1036");
    assert_eq!(explained, Some(Explained::Pipeline(1036)));
}

#[test]
fn a_smart_process_keeps_what_decides_about_its_items() {
    let row = json!({"id": 37, "title": "Проекты", "code": "", "createdBy": 1,
        "entityTypeId": "1256", "isStagesEnabled": "Y", "isClientEnabled": "N", "isle": "Y",
        "isCountersEnabled": ["x"], "isBizProcEnabled": true,
        "createdTime": "2024-07-08T17:24:55+02:00", "updatedTime": null});
    assert_eq!(
        columns(Dictionary::SmartProcesses, &row),
        json!({"entity_type_id": 1256, "id": 37, "title": "Проекты", "code": null,
            "switches": ["isBizProcEnabled", "isStagesEnabled"],
            "created_time": "2024-07-08T15:24:55Z", "updated_time": null}),
    );
    for number in [json!("x"), json!(0), json!(null)] {
        let row = json!({"id": 1, "title": "x", "entityTypeId": number});
        assert!(read(Dictionary::SmartProcesses, &row).is_err(), "{number}");
    }
}

#[test]
fn a_licence_names_a_country_or_none() {
    for (licence, country) in [
        ("ru_std", Some("RU")),
        ("UK_pro", Some("GB")),
        ("en_team", None),
        ("eu_basic", None),
        ("la_std", None),
        ("ru", None),
        ("", None),
        ("self_hosted", None),
    ] {
        assert_eq!(country_of_licence(licence), country, "{licence}");
    }
}
