//! A record read back is the record that was written.

use std::collections::BTreeMap;

use b24mirror::{
    entity::{
        ColumnType, Entity, Link, MultiField, RecordId,
        json::{canonical, decimal},
        record::{Child, ChildList, CustomFields, Note, Reason, Record, Value},
        smart_process,
    },
    store::{Batch, Progress},
};
use chrono::{DateTime, NaiveDate};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::value::RawValue;
use tokio::{runtime::Handle, task::block_in_place};

use super::{id, minute, mirror};

/// Records of any content survive being written over records of any other content.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_back_has_the_hash_that_was_written() {
    let mirror = mirror().await;
    let process = smart_process(128).unwrap();
    mirror.store.make_smart_tables(Some(mirror.generation), process).await.unwrap();
    for entity in Entity::ALL.into_iter().chain([process]) {
        let mut asked = 0;
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 40,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let records = prop::collection::vec(any_record(entity), 1..12);
        let law = |records: Vec<Record>| {
            asked += 1;
            let batch = Batch {
                entity,
                generation: mirror.generation,
                asked_at: minute(asked),
                records: records.clone(),
                rejects: Vec::new(),
                progress: Progress::Nothing,
                run: None,
            };
            let expected: BTreeMap<RecordId, Record> =
                records.into_iter().map(|record| (record.id(), record)).collect();
            let ids: Vec<RecordId> = expected.keys().copied().collect();
            let (written, stored) = block_in_place(|| {
                Handle::current().block_on(async {
                    let written = mirror.store.write(batch).await.unwrap();
                    (written, mirror.store.read_records(entity, &ids).await.unwrap())
                })
            });
            prop_assert!(written.left_alone.is_empty());
            prop_assert_eq!(stored.len(), expected.len());
            for (stored, expected) in stored.iter().zip(expected.values()) {
                prop_assert_eq!(&stored.record, expected);
                prop_assert_eq!(stored.hash, expected.hash());
            }
            Ok(())
        };
        let law = std::cell::RefCell::new(law);
        runner.run(&records, |records| (law.borrow_mut())(records)).unwrap();
    }
}

/// What a source does not bring stays as it is stored, and a record that brings nothing new
/// is no change.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_source_does_not_bring_keeps_its_last_value() {
    let mirror = mirror().await;
    let process = smart_process(128).unwrap();
    mirror.store.make_smart_tables(Some(mirror.generation), process).await.unwrap();
    for entity in Entity::ALL.into_iter().chain([process]) {
        let mut asked = 0;
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 40,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let kept = prop::collection::vec(any::<bool>(), entity.columns.len());
        let kept_lists = prop::collection::vec(any::<bool>(), entity.multi_fields.len());
        let cases = (any_record(entity), any_record(entity), kept, kept_lists);
        let mut write = |record: &Record| {
            asked += 1;
            let batch = Batch {
                entity,
                generation: mirror.generation,
                asked_at: minute(asked),
                records: vec![record.clone()],
                rejects: Vec::new(),
                progress: Progress::Nothing,
                run: None,
            };
            block_in_place(|| {
                Handle::current().block_on(async {
                    let written = mirror.store.write(batch).await.unwrap();
                    let stored = mirror.store.read_records(entity, &[record.id()]).await.unwrap();
                    (written, stored.into_iter().next().unwrap())
                })
            })
        };
        let law = |(whole, other, kept, kept_lists): (Record, Record, Vec<bool>, Vec<bool>)| {
            let (_, before) = write(&whole);
            let values = other.values().iter().zip(&kept);
            let values = values.map(|(value, kept)| if *kept { &Value::Kept } else { value });
            let lists = other.children().iter().zip(&kept_lists);
            let lists = lists.map(|(list, kept)| if *kept { &ChildList::Kept } else { list });
            let lists_kept =
                || entity.multi_fields.iter().zip(&kept_lists).filter(|(_, kept)| **kept);
            let of_a_kept_list =
                |note: &&Note| lists_kept().any(|(multi, _)| multi.field == note.field);
            let notes = other.notes().iter().filter(|note| !of_a_kept_list(note));
            let partial = Record::new(
                whole.id(),
                values.cloned().collect(),
                other.custom_fields().clone(),
                lists.cloned().collect(),
                notes.cloned().collect(),
            );
            let (_, after) = write(&partial);
            for (place, kept) in kept.iter().enumerate() {
                let expected = if *kept { &before.record } else { &other }.values();
                prop_assert_eq!(&after.record.values()[place], &expected[place]);
            }
            let (again, same) = write(&partial);
            prop_assert_eq!((again.updated, again.unchanged), (0, 1));
            prop_assert_eq!(same.synced_at, after.synced_at);
            prop_assert_eq!(same.hash, same.record.hash());
            Ok(())
        };
        let law = std::cell::RefCell::new(law);
        runner.run(&cases, |case| (law.borrow_mut())(case)).unwrap();
    }
}

pub(super) fn any_record(entity: &'static Entity) -> impl Strategy<Value = Record> {
    let values: Vec<_> = entity.columns.iter().map(|column| any_value(column.kind)).collect();
    let children: Vec<_> = entity.multi_fields.iter().map(any_children).collect();
    let custom = prop::collection::btree_map("UF_[A-Z0-9_]{1,8}", any_json(), 0..4);
    let notes = prop::collection::vec(any_note(), 0..3);
    (1_i64..20, values, custom, children, notes).prop_map(
        |(number, values, custom, children, mut notes)| {
            let (children, doubts): (Vec<ChildList>, Vec<Option<Note>>) =
                children.into_iter().unzip();
            notes.extend(doubts.into_iter().flatten());
            Record::new(id(number), values, custom, children, notes)
        },
    )
}

fn any_value(kind: ColumnType) -> BoxedStrategy<Value> {
    let value = match kind {
        ColumnType::Text => any_text().prop_map(Value::Text).boxed(),
        ColumnType::Integer | ColumnType::Reference | ColumnType::File => {
            any::<i64>().prop_map(Value::Integer).boxed()
        }
        ColumnType::Flag => any::<bool>().prop_map(Value::Flag).boxed(),
        ColumnType::Decimal => "-?[0-9]{1,30}(\\.[0-9]{1,30})?"
            .prop_map(|text| Value::Decimal(decimal(&text).unwrap()))
            .boxed(),
        ColumnType::Date => (1..3_652_059)
            .prop_map(|day| Value::Date(NaiveDate::from_num_days_from_ce_opt(day).unwrap()))
            .boxed(),
        ColumnType::Timestamp => (-62_135_596_800_i64..253_402_300_800)
            .prop_map(|second| Value::Timestamp(DateTime::from_timestamp(second, 0).unwrap()))
            .boxed(),
    };
    prop_oneof![2 => Just(Value::Null), 1 => value].boxed()
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_map(|text| text.replace('\0', "")),
        Just("таб\t«кавычки» \\ \" ' \u{1} 🙂 \u{7f} {} [] NULL \\N".to_owned()),
    ]
}

/// A list, or none that can be trusted with the note that says so.
fn any_children(multi: &'static MultiField) -> impl Strategy<Value = (ChildList, Option<Note>)> {
    let field = multi.field;
    let text = || prop::option::of(any_text()).boxed();
    let place = (1..50).prop_map(|place: i32| Some(place.to_string())).boxed();
    let primary = prop::option::of(Just(Link::PRIMARY.to_owned())).boxed();
    let object = prop::collection::btree_map("[a-zA-Z]{1,8}", any_json(), 0..4);
    let object = object.prop_map(|map| Some(CustomFields::from(map).as_str().to_owned())).boxed();
    let parts = match multi.link {
        None if multi.product_rows.is_some() => (object, Just(None).boxed()),
        None => (text(), text()),
        Some(Link { primary: Some(_), .. }) => (place, primary),
        Some(_) => (place, Just(None).boxed()),
    };
    let known = prop::collection::btree_map(1_i64..9, parts, 0..4).prop_map(|list| {
        let list = list
            .into_iter()
            .map(|(id, (value, value_type))| Child { id, value, value_type })
            .collect();
        (ChildList::Known(list), None)
    });
    let reason = prop_oneof![Just(Reason::ChildrenMissing), Just(Reason::UnreadableChildren)];
    let untrusted = (reason, any_json()).prop_map(move |(reason, raw)| {
        (ChildList::Untrusted, Some(Note { field: field.to_owned(), reason, raw }))
    });
    prop_oneof![4 => known, 1 => untrusted]
}

fn any_note() -> impl Strategy<Value = Note> {
    let reason = prop_oneof![
        Just(Reason::UnreadableValue),
        Just(Reason::NulRemoved),
        Just(Reason::ChildWithoutId),
        Just(Reason::DuplicateChildId),
    ];
    ("[A-Z_]{1,6}", reason, any_json()).prop_map(|(field, reason, raw)| Note { field, reason, raw })
}

/// Canonical JSON text of any value that `jsonb` can hold.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any_text().prop_map(Into::into),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(any_text(), inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    });
    value.prop_map(|value: serde_json::Value| {
        canonical(&RawValue::from_string(value.to_string()).unwrap()).unwrap()
    })
}
