use proptest::prelude::*;

use super::*;
use crate::entity::{CONTACTS, LEADS};

fn field(code: &str, kind: &str, label: &str, multiple: bool) -> FieldDescription {
    FieldDescription {
        entity: "contacts".to_owned(),
        field: code.to_owned(),
        kind: kind.to_owned(),
        label: Some(label.to_owned()),
        multiple,
        custom: true,
        status_type: None,
        gone: false,
    }
}

fn names(columns: &[NamedColumn]) -> Vec<&str> {
    columns.iter().map(|column| column.name.as_str()).collect()
}

#[test]
fn every_type_has_its_columns() {
    let fields = [
        field("UF_1", "string", "Заметка", false),
        field("UF_2", "money", "Бюджет", false),
        field("UF_3", "employee", "Куратор", true),
        field("UF_4", "crm_status", "Source", false),
        field("UF_5", "rest_7_rating", "Оценка", false),
        FieldDescription {
            custom: false,
            ..field("PARENT_ID_128", "crm_entity", "Договор", false)
        },
    ];
    let named = name_columns(&CONTACTS, &fields, &[]);
    let expected = [
        "zametka",
        "byudzhet",
        "byudzhet_currency",
        "kurator",
        "kurator_id",
        // The view of records has the column `source`.
        "source_2",
        "source_2_code",
        "otsenka",
        "dogovor",
    ];
    assert_eq!(names(&named), expected);
    assert!(name_columns(&LEADS, &fields, &[]).is_empty());
}

#[test]
fn documented_fields_have_no_custom_column() {
    let documented = |code, multiple| FieldDescription {
        custom: false,
        ..field(code, "string", "Label", multiple)
    };
    let fields = [
        documented("ID", false),
        documented("NAME", false),
        documented("PHONE", true),
        documented("COMPANY_IDS", true),
        documented("NEW_BY_VENDOR", false),
    ];
    assert_eq!(names(&name_columns(&CONTACTS, &fields, &[])), ["label"]);
}

#[test]
fn a_field_that_changes_its_type_or_label_keeps_its_column_and_gets_another() {
    let mut named = name_columns(&CONTACTS, &[field("UF_1", "string", "Бюджет", false)], &[]);
    let renamed = field("UF_1", "string", "Другое", false);
    assert!(name_columns(&CONTACTS, &[renamed], &named).is_empty());

    for (kind, multiple, expected) in [
        ("double", false, vec!["byudzhet_number"]),
        ("money", false, vec!["byudzhet_money", "byudzhet_money_currency"]),
        ("date", true, vec!["byudzhet_date_list"]),
        ("string", false, vec![]),
    ] {
        let new = name_columns(&CONTACTS, &[field("UF_1", kind, "Другое", multiple)], &named);
        assert_eq!(names(&new), expected);
        named.extend(new);
    }
}

#[test]
fn a_view_never_holds_more_columns_than_two_of_them_may_be_joined() {
    let fields: Vec<_> = (0..1_500)
        .map(|number| {
            let kind = if number % 3 == 0 { "money" } else { "string" };
            field(&format!("UF_{number}"), kind, "Поле", false)
        })
        .collect();
    let named = name_columns(&CONTACTS, &fields, &[]);
    assert_eq!(named.len(), 2_000);
    let parts: Vec<i32> = named.iter().map(|column| column.part).collect();
    assert!(parts.is_sorted() && parts.last() == Some(&3));
    for part in 1..=3 {
        assert!(parts.iter().filter(|one| **one == part).count() <= COLUMNS_PER_VIEW);
    }
    let of = |code: &str| {
        named.iter().filter(|column| column.field == code).map(|column| column.part).collect()
    };
    for number in 0..1_500 {
        let parts: BTreeSet<i32> = of(&format!("UF_{number}"));
        assert_eq!(parts.len(), 1, "the columns of a field stay together");
    }
}

const KINDS: [&str; 9] =
    ["string", "double", "boolean", "date", "money", "employee", "crm_status", "file", "other"];

fn any_field() -> impl Strategy<Value = FieldDescription> {
    let label = prop_oneof![
        Just("Бюджет".to_owned()),
        Just("order".to_owned()),
        "[а-яё ]{0,90}",
        "[a-z_0-9]{0,80}",
        "\\PC{0,80}",
    ];
    (0..12_u8, proptest::sample::select(KINDS.to_vec()), label, any::<bool>()).prop_map(
        |(code, kind, label, multiple)| field(&format!("UF_CRM_{code}"), kind, &label, multiple),
    )
}

proptest! {
    #[test]
    fn names_are_unique_short_plain_and_stable(rounds in prop::collection::vec(
        prop::collection::vec(any_field(), 0..8), 1..5,
    )) {
        let mut named: Vec<NamedColumn> = Vec::new();
        for round in rounds {
            let mut fields: Vec<FieldDescription> = Vec::new();
            for field in round {
                if !fields.iter().any(|one| one.field == field.field) {
                    fields.push(field);
                }
            }
            let new = name_columns(&CONTACTS, &fields, &named);
            named.extend(new);
            prop_assert!(name_columns(&CONTACTS, &fields, &named).is_empty());
        }
        let reserved = column_names(&CONTACTS);
        let mut seen = BTreeSet::new();
        for NamedColumn { name, .. } in &named {
            prop_assert!(seen.insert(name.clone()), "{} comes twice", name);
            prop_assert!(!reserved.contains(name), "{} is taken", name);
            prop_assert!(name.len() <= 63, "{} is too long", name);
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            prop_assert!(name.chars().all(plain), "{}", name);
            prop_assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{}", name);
        }
    }
}
