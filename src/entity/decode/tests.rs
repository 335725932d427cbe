//! What the decoder makes of what portals send.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::entity::{
    CONTACTS, Dialect, LEADS,
    privacy::{HashKey, PrivacyRules},
};

fn catalogue() -> Catalogue {
    let raw = serde_json::value::to_raw_value(&json!({
        "UF_CRM_DAY": {"type": "date"},
        "UF_CRM_DAYS": {"type": "date", "isMultiple": true},
        "UF_CRM_MOMENT": {"type": "datetime"},
        "UF_CRM_YES": {"type": "boolean"},
        "UF_CRM_TEXT": {"type": "string"},
        "UF_CRM_FILE": {"type": "file"},
        "UF_CRM_FILES": {"type": "file", "isMultiple": true},
    }));
    Catalogue::parse(&raw.unwrap(), &CONTACTS, Dialect::Classic).unwrap()
}

fn page(entity: &'static Entity, rows: &[Json]) -> Result<Page, Mutilated> {
    let texts: Vec<String> = rows.iter().map(ToString::to_string).collect();
    Decoder::new(entity, Dialect::Classic)
        .page(texts.iter().map(|text| Raw::well_formed(text)), &catalogue())
}

fn contact(row: &Json) -> Record {
    let mut page = page(&CONTACTS, std::slice::from_ref(row)).unwrap();
    match page.rows.pop().unwrap() {
        Decoded::Record(record) => *record,
        Decoded::Reject(reject) => panic!("rejected: {reject:?}"),
    }
}

#[test]
fn typed_custom_and_multi_values_find_their_places() {
    let record = contact(&json!({
        "ID": "12", "NAME": "Анна", "BIRTHDATE": "2001-11-11T02:00:00+02:00",
        "COMPANY_ID": "0", "OPENED": "Y", "DATE_MODIFY": "2021-05-31T15:10:16+02:00",
        "PHOTO": {"id": 9, "downloadUrl": "/rest/1/secret/x"},
        "PHONE": [{"ID": "3", "VALUE_TYPE": "WORK", "VALUE": "+7", "TYPE_ID": "PHONE"},
                  {"ID": "2", "VALUE_TYPE": "HOME", "VALUE": "", "TYPE_ID": "PHONE"}],
        "PARENT_ID_128": "7", "UF_CRM_TEXT": "", "UF_CRM_YES": false,
        "UF_CRM_DAY": "2001-11-10T19:00:00-05:00", "UF_CRM_DAYS": ["2020-01-01T03:00:00+03:00"],
        "UF_CRM_MOMENT": "2020-01-01T03:00:00+03:00",
        "UF_CRM_FILES": [{"id": 5, "showUrl": "s"}, {"id": "6", "downloadUrl": "d"}],
    }));
    let value = |field| &record.values()[CONTACTS.position(field).unwrap()];
    assert_eq!(record.id().get(), 12);
    assert_eq!(value("NAME"), &Value::Text("Анна".to_owned()));
    assert_eq!(value("BIRTHDATE"), &Value::Date("2001-11-11".parse().unwrap()));
    assert_eq!(value("COMPANY_ID"), &Value::Null);
    assert_eq!(value("PHOTO"), &Value::Integer(9));
    let custom = r#"{"PARENT_ID_128":7,"UF_CRM_DAY":"2001-11-11","UF_CRM_DAYS":["2020-01-01"],"#
        .to_owned()
        + r#""UF_CRM_FILES":[5,6],"UF_CRM_MOMENT":"2020-01-01T00:00:00Z","UF_CRM_YES":false}"#;
    assert_eq!(record.custom_fields().as_str(), custom);
    let ChildList::Known(phones) = &record.children()[0] else { panic!("untrusted") };
    assert_eq!(phones.iter().map(|child| child.id).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(phones[0].value, None);
    assert!(record.notes().is_empty());
}

#[test]
fn what_never_means_a_change_never_changes_the_hash() {
    let plain = contact(&json!({
        "ID": 12, "NAME": "С/", "COMPANY_ID": null, "POST": "",
        "DATE_CREATE": "2021-05-31T15:10:16+02:00", "BIRTHDATE": "2001-11-11T02:00:00+02:00",
        "EMAIL": [{"ID": 1, "VALUE": "a"}, {"ID": 2, "VALUE": "b"}], "UF_CRM_TEXT": null,
    }));
    let other = r#"{"UF_CRM_TEXT":false,"EMAIL":{"0":{"ID":"2","VALUE":"b"},"5":{"ID":"1","VALUE":"a"}},
        "ID":"12","NAME":"\u0421\/","COMPANY_ID":"0","DATE_CREATE":"2021-05-31T16:10:16+03:00",
        "BIRTHDATE":"2001-11-11T03:00:00+03:00"}"#;
    let other: Json = serde_json::from_str(other).unwrap();
    assert_eq!(plain.hash(), contact(&other).hash());
}

#[test]
fn an_unreadable_value_is_null_noted_and_part_of_the_hash() {
    let bad = |text: &str| contact(&json!({"ID": 1, "BIRTHDATE": text}));
    let record = bad("31.31.2020");
    assert_eq!(record.values()[CONTACTS.position("BIRTHDATE").unwrap()], Value::Null);
    assert_eq!(record.notes()[0].reason, Reason::UnreadableValue);
    assert_eq!(record.notes()[0].raw, r#""31.31.2020""#);
    assert_ne!(record.hash(), bad("32.31.2020").hash());
    assert_ne!(record.hash(), contact(&json!({"ID": 1})).hash());
}

#[test]
fn nul_is_removed_with_a_note_wherever_it_stands() {
    let record = contact(&json!({
        "ID": 1, "NAME": "a\0b", "UF_CRM_TEXT": "c\0d", "PHONE": [{"ID": 1, "VALUE": "\u{0}7"}],
    }));
    let noted: Vec<_> = record.notes().iter().map(|note| note.field.as_str()).collect();
    assert_eq!(noted, ["NAME", "PHONE", "UF_CRM_TEXT"]);
    assert_eq!(record.values()[CONTACTS.position("NAME").unwrap()], Value::Text("ab".into()));
    assert_eq!(record.custom_fields().as_str(), r#"{"UF_CRM_TEXT":"cd"}"#);
}

#[test]
fn a_record_without_a_usable_id_is_rejected_alone() {
    let rows = [json!({"ID": "x", "NAME": "a"}), json!([1]), json!({"ID": "2"}), json!({})];
    let reasons: Vec<_> = page(&CONTACTS, &rows)
        .unwrap()
        .rows
        .into_iter()
        .map(|row| match row {
            Decoded::Record(_) => None,
            Decoded::Reject(reject) => Some(reject.note.reason),
        })
        .collect();
    let expected =
        [Some(Reason::NoUsableId), Some(Reason::UnparsableRecord), None, Some(Reason::NoUsableId)];
    assert_eq!(reasons, expected);
}

#[test]
fn children_keep_the_first_of_an_id_and_note_the_rest() {
    let record = contact(&json!({"ID": 1, "PHONE": [
        {"ID": 1, "VALUE": "a"}, {"ID": "1", "VALUE": "b"}, {"VALUE": "c"}, {"ID": 0}, 5,
    ]}));
    let ChildList::Known(phones) = &record.children()[0] else { panic!("untrusted") };
    assert_eq!(phones.len(), 1);
    assert_eq!(phones[0].value.as_deref(), Some("a"));
    assert_eq!(record.notes().len(), 4);
}

#[test]
fn a_page_that_lost_its_phones_is_refused_and_a_single_row_keeps_its_own() {
    let promised = |id: i64| json!({"ID": id, "HAS_PHONE": "Y", "HAS_EMAIL": "N"});
    let error = page(&LEADS, &[promised(1), promised(2)]).unwrap_err();
    assert_eq!(error, Mutilated { field: "PHONE", rows: 2 });

    let complete = json!({"ID": 3, "HAS_PHONE": "Y", "PHONE": [{"ID": 1, "VALUE": "7"}]});
    let page = page(&LEADS, &[promised(1), complete, promised(2)]).unwrap();
    let Decoded::Record(record) = &page.rows[0] else { panic!("rejected") };
    assert_eq!(record.children()[0], ChildList::Untrusted);
    assert_eq!(record.notes()[0].reason, Reason::ChildrenMissing);
}

#[test]
fn a_row_that_lost_its_phones_keeps_all_that_it_does_not_deny_to_have() {
    let untrusted = |row: &Json| -> Vec<&str> {
        let record = contact(row);
        let lists = CONTACTS.multi_fields.iter().zip(record.children());
        let lost = lists.filter(|(_, list)| **list == ChildList::Untrusted);
        let fields: Vec<_> = lost.map(|(multi, _)| multi.field).collect();
        assert_eq!(fields.len(), record.notes().len());
        fields
    };
    let mut row = json!({"ID": 1, "HAS_PHONE": "Y", "HAS_EMAIL": "N"});
    assert_eq!(untrusted(&row), ["PHONE", "WEB", "IM", "LINK"]);
    row["WEB"] = json!([{"ID": 1, "VALUE": "w"}]);
    assert_eq!(untrusted(&row), ["PHONE"]);
    row["HAS_PHONE"] = json!("N");
    assert!(untrusted(&row).is_empty());
}

/// What a gateway's rows say of their phones, e-mails and web addresses.
fn from_gateway(rows: &[Json]) -> Vec<Record> {
    let texts: Vec<String> = rows.iter().map(ToString::to_string).collect();
    let page = Decoder::new(&CONTACTS, Dialect::Vibecode)
        .page(texts.iter().map(|text| Raw::well_formed(text)), &Catalogue::default())
        .unwrap();
    let record = |row| match row {
        Decoded::Record(record) => *record,
        Decoded::Reject(reject) => panic!("rejected: {reject:?}"),
    };
    page.rows.into_iter().map(record).collect()
}

#[test]
fn a_gateways_missing_list_is_believed_where_a_flag_or_another_row_speaks_for_it() {
    let kinds: Vec<&str> = CONTACTS.multi_fields.iter().map(|multi| multi.field).collect();
    let lists = |record: &Record| -> Vec<ChildList> {
        let of = |field| {
            record.children()[kinds.iter().position(|kind| *kind == field).unwrap()].clone()
        };
        ["PHONE", "EMAIL", "WEB"].map(of).to_vec()
    };
    let (kept, none) = (ChildList::Kept, ChildList::Known(Vec::new()));
    // A gateway that brings no list at all says nothing of what is stored.
    let silent = json!({"id": 1, "hasPhone": "Y"});
    assert_eq!(lists(&from_gateway(std::slice::from_ref(&silent))[0]), vec![kept.clone(); 3]);
    let denied = json!({"id": 2, "hasPhone": "N"});
    let records = from_gateway(&[silent.clone(), denied.clone()]);
    assert_eq!(lists(&records[0]), vec![kept.clone(); 3]);
    assert_eq!(lists(&records[1]), [none.clone(), kept.clone(), kept]);
    // One that brings it leaves it out where it is empty, and loses it where it must not be.
    let full = json!({"id": 3, "hasPhone": "Y",
        "fm": [{"id": 5, "typeId": "PHONE", "valueType": "WORK", "value": "+7"}]});
    let records = from_gateway(&[silent, denied, full, json!({"id": 4})]);
    assert_eq!(lists(&records[0])[0], ChildList::Untrusted);
    assert_eq!(records[0].notes()[0].reason, Reason::ChildrenMissing);
    assert_eq!(lists(&records[1]), vec![none.clone(); 3]);
    assert_eq!(lists(&records[3]), vec![none; 3]);
}

#[test]
fn what_stands_in_the_list_of_all_values_and_is_none_is_noted() {
    let record = &from_gateway(&[json!({"id": 1, "fm": [
        {"id": 5, "typeId": "PHONE", "value": "+7"}, "stray", {"id": 6, "value": "x"},
        {"id": 7, "typeId": "NOBODY_KNOWS_IT", "value": "y"},
    ]})])[0];
    let ChildList::Known(phones) = &record.children()[0] else { panic!("untrusted") };
    assert_eq!(phones.len(), 1);
    let notes: Vec<_> = record.notes().iter().map(|note| (&*note.field, note.reason)).collect();
    assert_eq!(notes, [("fm", Reason::UnreadableValue); 2]);
}

#[test]
fn a_parent_is_a_number_and_zero_is_none() {
    let row = json!({"ID": 1, "PARENT_ID_128": "0", "PARENT_ID_129": 0, "PARENT_ID_130": "30"});
    let record = contact(&row);
    assert_eq!(record.custom_fields().as_str(), r#"{"PARENT_ID_130":30}"#);
}

#[test]
fn an_undescribed_user_field_shows_that_the_catalogue_is_stale() {
    assert!(page(&LEADS, &[json!({"ID": 1, "UF_CRM_NEW": "x"})]).unwrap().catalogue_is_stale);
    assert!(!page(&LEADS, &[json!({"ID": 1, "UF_CRM_DAY": ""})]).unwrap().catalogue_is_stale);
}

#[test]
fn no_file_url_is_kept_whatever_its_shape() {
    let record = contact(&json!({
        "ID": 1, "UF_CRM_FILE": {"id": 1, "downloadUrl": "s3cret"},
        "UF_CRM_UNKNOWN": [{"downloadUrl": "s3cret"}], "UF_CRM_FILES": {"url": "s3cret"},
        "PHOTO": {"url": "s3cret"}, "UF_CRM_DEEP": {"a": {"showUrl": "s3cret"}},
    }));
    assert!(!format!("{record:?}").contains("s3cret"), "{record:?}");
    // A file without an ID leaves nothing else behind that tells of it.
    for lost in ["PHOTO", "UF_CRM_UNKNOWN", "UF_CRM_FILES"] {
        let told = |note: &Note| note.field == lost && note.reason == Reason::UnreadableValue;
        assert!(record.notes().iter().any(told), "{lost}: {record:?}");
    }
}

proptest! {
    #[test]
    fn any_row_decodes_to_a_record_or_a_reject(
        id in prop_oneof![Just(json!(5)), Just(json!("5")), Just(json!(null)), Just(json!([]))],
        field in prop::sample::select(vec!["NAME", "OPENED", "BIRTHDATE", "PHONE", "EMAIL",
            "DATE_MODIFY", "PHOTO", "UF_CRM_DAYS", "UF_CRM_FILES", "UF_CRM_MOMENT", "FACE_ID"]),
        value in prop_oneof![
            any::<i64>().prop_map(|n| json!(n)), ".*".prop_map(|s| json!(s)),
            prop::collection::vec(".*", 0..3).prop_map(|list| json!(list)),
            (any::<i64>(), ".*").prop_map(|(id, s)| json!([{"ID": id, "VALUE": s}])),
            (any::<i64>(), ".*").prop_map(|(id, s)| json!({"id": id, "x": s})),
            any::<bool>().prop_map(|b| json!(b)),
        ],
    ) {
        let row = json!({"ID": id, field: value});
        let decoded = page(&CONTACTS, std::slice::from_ref(&row)).unwrap().rows;
        prop_assert_eq!(decoded.len(), 1);
        prop_assert_eq!(&page(&CONTACTS, &[row]).unwrap().rows, &decoded);
    }
}

#[test]
fn a_private_value_is_in_no_part_of_a_page_whatever_its_shape() {
    let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let excluded = fields(&["COMMENTS", "EMAIL", "HAS_PHONE", "UF_OUT"]);
    let rules = PrivacyRules::excluding(&CONTACTS, &excluded)
        .and_then(|rules| rules.hashing(&CONTACTS, &fields(&["POST", "PHONE", "UF_HASH"])))
        .unwrap();
    let privacy = Arc::new(Privacy::new(rules, HashKey::new([7; 32])));
    let decoder = Decoder::keeping(&CONTACTS, Dialect::Classic, Arc::clone(&privacy));
    let mark = "zzmark";
    let mut rows = vec![format!("\"{mark}\""), format!(r#"{{"POST":"{mark}"}}"#)];
    for (id, value) in [
        r#""zzmark""#,
        r#"["zzmark","zzmark"]"#,
        r#"{"zzmark":"zzmark"}"#,
        r#""zzmark\u0000""#,
        r#""zzmark\ud800""#,
        r#"[{"ID":1,"VALUE":"zzmark"},{"ID":1,"VALUE":"zzmark again"},{"VALUE":"zzmark"}]"#,
        r#"[{"ID":2,"VALUE":["zzmark"]},{"ID":3,"VALUE":"zzmark\u0000"}]"#,
    ]
    .into_iter()
    .enumerate()
    {
        let field = |name: &str| format!(r#""{name}":{value}"#);
        let names = ["COMMENTS", "EMAIL", "UF_OUT", "POST", "PHONE", "UF_HASH"];
        let escaped = [r"UF_OUT\u0000", r"UF_HA\u0000SH", r"\u0050OST"];
        let all: Vec<String> = names.iter().chain(&escaped).map(|name| field(name)).collect();
        rows.push(format!(r#"{{"ID":{},"HAS_PHONE":"Y",{}}}"#, id + 1, all.join(",")));
    }
    let page = decoder.page(rows.iter().map(|text| Raw::well_formed(text)), &catalogue()).unwrap();
    assert_eq!(page.rows.len(), rows.len());
    let shown = format!("{page:?}");
    assert!(!shown.contains(mark), "{shown}");
    let Decoded::Record(first) = &page.rows[2] else { panic!("{shown}") };
    let post = &first.values()[CONTACTS.position("POST").unwrap()];
    assert_eq!(*post, Value::Text(privacy.value("POST", mark)));
    assert_eq!(first.values()[CONTACTS.position("HAS_PHONE").unwrap()], Value::Null);
    assert!(page.rows.iter().all(|row| match row {
        Decoded::Record(record) => record.notes().iter().all(|n| !excluded.contains(&n.field)),
        Decoded::Reject(_) => true,
    }));
}

#[test]
fn a_boolean_user_field_says_the_same_in_every_spelling() {
    let kept = |value: Json| {
        let record = contact(&json!({"ID": 12, "UF_CRM_YES": value}));
        record.custom_fields().to_map().remove("UF_CRM_YES")
    };
    for yes in [json!(true), json!("1"), json!(1), json!("Y")] {
        assert_eq!(kept(yes.clone()).as_deref(), Some("true"), "{yes}");
    }
    for no in [json!(false), json!("0"), json!(0), json!("N")] {
        assert_eq!(kept(no.clone()).as_deref(), Some("false"), "{no}");
    }
    for unset in [json!(null), json!("")] {
        assert_eq!(kept(unset.clone()), None, "{unset}");
    }
    assert_eq!(kept(json!("perhaps")).as_deref(), Some("\"perhaps\""));
    assert_eq!(kept(json!(["Y", "0", true])).as_deref(), Some("[true,false,true]"));
}
