//! The history of a record, replayed, is the record.

use std::{collections::BTreeMap, time::Duration};

use b24mirror::{
    entity::{
        CONTACTS,
        record::{ChildList, Record, Value},
    },
    store::HistoryOptions,
};
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::{runtime::Handle, task::block_in_place};

use super::{Mirror, contact, id, minute, mirror, round_trip::any_record};

/// What a line speaks of: the field, and which of its values.
type Place = (String, Option<i64>);

async fn mirror_with_history(keep: Option<Duration>) -> Mirror {
    let Mirror { store, generation, database } = mirror().await;
    let store = store.with_history(HistoryOptions { entities: vec![&CONTACTS], keep });
    Mirror { store, generation, database }
}

/// A record as text, place by place.
fn told(record: &Record, before: &BTreeMap<Place, String>) -> BTreeMap<Place, String> {
    let mut told = BTreeMap::new();
    for (column, value) in CONTACTS.columns.iter().zip(record.values()) {
        let text = match value {
            Value::Null | Value::Kept => continue,
            Value::Text(text) | Value::Decimal(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
            Value::Date(day) => day.to_string(),
            Value::Timestamp(instant) => instant.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        };
        if !["DATE_MODIFY", "MODIFY_BY_ID"].contains(&column.field) {
            told.insert((column.field.to_owned(), None), text);
        }
    }
    for (field, json) in record.custom_fields().to_map() {
        let text = match serde_json::from_str(&json).unwrap() {
            serde_json::Value::String(text) => text,
            _ => json,
        };
        told.insert((field, None), text);
    }
    for (multi_field, list) in CONTACTS.multi_fields.iter().zip(record.children()) {
        let names = [multi_field.field.to_owned(), format!("{}.VALUE_TYPE", multi_field.field)];
        match list {
            ChildList::Known(list) => {
                for child in list {
                    for (name, text) in names.iter().zip([&child.value, &child.value_type]) {
                        let place = (name.clone(), Some(child.id));
                        told.extend(text.clone().map(|text| (place, text)));
                    }
                }
            }
            // The stored values stay.
            ChildList::Untrusted | ChildList::Kept => {
                let stay = before.iter().filter(|(place, _)| names.contains(&place.0));
                told.extend(stay.map(|(place, text)| (place.clone(), text.clone())));
            }
        }
    }
    told
}

type Row = (i64, String, Option<String>, Option<i64>, Option<String>, Option<String>);

async fn lines(mirror: &Mirror) -> Vec<Row> {
    sqlx::query_as(
        "select contact_id, kind, field, value_id, old_value, new_value \
         from bitrix24.contact_changes order by id",
    )
    .fetch_all(mirror.database.pool())
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_replayed_is_the_record() {
    let mirror = mirror_with_history(None).await;
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 25,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let mut asked = 0;
    let mut states: BTreeMap<i64, BTreeMap<Place, String>> = BTreeMap::new();
    let mut seen = 0;
    let law = |records: Vec<Record>| {
        asked += 1;
        let batch = mirror.batch(minute(asked), records.clone());
        let lines = block_in_place(|| {
            Handle::current().block_on(async {
                mirror.store.write(batch).await.unwrap();
                lines(&mirror).await
            })
        });
        let last: BTreeMap<i64, &Record> =
            records.iter().map(|record| (record.id().get(), record)).collect();
        let mut replayed = states.clone();
        for (contact, kind, field, value_id, old, new) in lines.into_iter().skip(seen) {
            seen += 1;
            let Some(field) = field else {
                prop_assert_eq!(&kind, "created");
                prop_assert!(!replayed.contains_key(&contact));
                replayed.insert(contact, told(last[&contact], &BTreeMap::new()));
                continue;
            };
            let state = replayed.get_mut(&contact).unwrap();
            prop_assert_ne!(&old, &new);
            let place = (field, value_id);
            prop_assert_eq!(state.remove(&place), old, "{:?}", place);
            state.extend(new.map(|new| (place, new)));
        }
        for (contact, record) in last {
            let now = told(record, states.get(&contact).unwrap_or(&BTreeMap::new()));
            prop_assert_eq!(replayed.get(&contact), Some(&now));
        }
        states = replayed;
        Ok(())
    };
    let law = std::cell::RefCell::new(law);
    let records = prop::collection::vec(any_record(&CONTACTS), 1..8);
    runner.run(&records, |records| (law.borrow_mut())(records)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_that_write_the_same_records_tell_one_story() {
    let mirror = mirror_with_history(None).await;
    let writers = (1..=6).map(|writer| {
        let (store, generation) = (mirror.store.clone(), mirror.generation);
        async move {
            for round in 0..4 {
                let names = (1..=40).map(|n| contact(n, &format!("{writer} {round}"), &[]));
                let batch = super::Batch {
                    entity: &CONTACTS,
                    generation,
                    asked_at: minute(round * 10 + writer),
                    records: names.collect(),
                    rejects: Vec::new(),
                    progress: super::Progress::Nothing,
                    run: None,
                };
                store.write(batch).await.unwrap();
            }
        }
    });
    let tasks: tokio::task::JoinSet<()> = writers.collect();
    tasks.join_all().await;
    let mut names: BTreeMap<i64, Option<String>> = BTreeMap::new();
    for (contact, kind, field, _, old, new) in lines(&mirror).await {
        if kind == "created" {
            assert_eq!(names.insert(contact, None), None, "{contact} is created once");
            continue;
        }
        assert_eq!(field.as_deref(), Some("NAME"));
        let before = names.insert(contact, new).expect("created first");
        assert!(before.is_none() || before == old, "{contact}: {before:?} became {old:?}");
    }
    assert_eq!(names.len(), 40);
    for record in mirror.read(1..=40).await {
        let name = match &record.values()[CONTACTS.position("NAME").unwrap()] {
            Value::Text(name) => name.clone(),
            other => panic!("{other:?}"),
        };
        let told = &names[&record.id().get()];
        assert!(told.is_none() || *told == Some(name));
    }
}

#[tokio::test]
async fn what_is_refused_tells_nothing_and_a_deletion_is_told_once() {
    let mirror = mirror_with_history(None).await;
    let first = vec![contact(1, "Anna", &[]), contact(2, "Olga", &[])];
    mirror.write(minute(1), first).await;
    mirror
        .execute("alter table contacts add constraint refused check (name <> 'refused') not valid")
        .await;
    let second = vec![contact(1, "refused", &[(1, "x")]), contact(2, "Vera", &[(1, "y")])];
    assert_eq!(mirror.write(minute(2), second).await.updated, 1);
    let kinds = |lines: &[Row]| -> Vec<(i64, String, Option<String>)> {
        lines.iter().map(|line| (line.0, line.1.clone(), line.2.clone())).collect()
    };
    let line = |contact, kind: &str, field: Option<&str>| {
        (contact, kind.to_owned(), field.map(str::to_owned))
    };
    let mut expected = vec![
        line(1, "created", None),
        line(2, "created", None),
        line(2, "changed", Some("NAME")),
        line(2, "changed", Some("PHONE")),
        line(2, "changed", Some("PHONE.VALUE_TYPE")),
    ];
    assert_eq!(kinds(&lines(&mirror).await), expected);

    let seen = |asked| b24mirror::store::Seen { id: id(2), version: Some((minute(asked), None)) };
    for asked in [3, 4] {
        let gone = [seen(2)];
        let done = mirror.store.delete_seen(mirror.generation, &CONTACTS, &gone, minute(asked));
        assert_eq!(done.await.unwrap(), u64::from(asked == 3));
    }
    expected.push(line(2, "deleted", None));
    assert_eq!(kinds(&lines(&mirror).await), expected);

    mirror.store.purge_some(&CONTACTS, minute(9), b24mirror::entity::RecordId::ZERO).await.unwrap();
    assert_eq!(kinds(&lines(&mirror).await), [line(1, "created", None)]);
}

#[tokio::test]
async fn lines_grow_as_old_as_the_settings_let_them() {
    let mirror = mirror_with_history(Some(Duration::from_hours(24))).await;
    mirror.store.begin_histories(mirror.generation).await.unwrap();
    mirror.execute("update history set complete_since = '2020-01-01'").await;
    mirror
        .execute(
            "insert into contact_changes (contact_id, kind, seen_at) values \
             (1, 'deleted', now() - interval '25 hours'), (1, 'revived', now() - interval '23 hours')",
        )
        .await;
    assert!(!mirror.store.remove_old_history(mirror.generation).await.unwrap());
    let left: Vec<String> = lines(&mirror).await.into_iter().map(|line| line.1).collect();
    assert_eq!(left, ["revived"]);
    let since = "select count(*) from history where complete_since > now() - interval '25 hours'";
    assert_eq!(mirror.number(since).await, 1);
}
