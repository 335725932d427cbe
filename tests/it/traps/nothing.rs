//! Every way to say nothing, in every field that there is.

use std::collections::{BTreeMap, BTreeSet};

use b24mirror::{
    entity::{Column, ColumnType, Entity},
    simulator::{Action, Options, TrueRecord},
};
use serde_json::{Map, Value, json};
use sqlx::AssertSqlSafe;

use super::Bench;
use crate::support::{TestPortal, equal::family, unlimited};

/// How a portal may send a value that is nothing, or looks like it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Absent,
    Null,
    EmptyText,
    False,
    EmptyList,
    ZeroText,
    Zero,
}

use Form::{Absent, EmptyList, EmptyText, False, Null, Zero, ZeroText};

const FORMS: [Form; 7] = [Absent, Null, EmptyText, False, EmptyList, ZeroText, Zero];

impl Form {
    /// The value as sent; none where the key is left out.
    fn json(self) -> Option<Value> {
        Some(match self {
            Absent => return None,
            Null => Value::Null,
            EmptyText => json!(""),
            False => json!(false),
            EmptyList => json!([]),
            ZeroText => json!("0"),
            Zero => json!(0),
        })
    }
}

/// What a column has to hold, and whether there has to be a note about it.
fn column_holds(kind: ColumnType, form: Form) -> (Value, bool) {
    let zero = matches!(form, ZeroText | Zero);
    let value = match kind {
        ColumnType::Text | ColumnType::Decimal if zero => json!("0"),
        ColumnType::Integer if zero => json!(0),
        // A flag that says no says something.
        ColumnType::Flag if zero || form == False => json!(false),
        _ => Value::Null,
    };
    // No day and no moment is written so.
    let unreadable = zero && matches!(kind, ColumnType::Date | ColumnType::Timestamp);
    (value, unreadable)
}

/// What a key of `custom_fields` has to hold.
fn custom_field_holds(field: &str, form: Form) -> Option<Value> {
    let (reference, boolean) = (field.starts_with("PARENT_ID_"), field.contains("BOOLEAN"));
    match form {
        ZeroText | Zero if boolean => Some(json!(false)),
        ZeroText | Zero if !reference => form.json(),
        False if boolean => form.json(),
        _ => None,
    }
}

/// A value of the type that is not nothing.
fn something(kind: ColumnType) -> Value {
    match kind {
        ColumnType::Text => json!("x"),
        ColumnType::Integer | ColumnType::Reference => json!("7"),
        ColumnType::Flag => json!("Y"),
        ColumnType::Decimal => json!("1.50"),
        ColumnType::Date => json!("2001-11-11T03:00:00+03:00"),
        ColumnType::Timestamp => json!("2024-05-31T15:10:16+03:00"),
        ColumnType::File => json!({ "id": 7, "showUrl": "/show", "downloadUrl": "/download" }),
    }
}

/// One record per form. They have phones and e-mails, so that a flag that says so is right.
fn chosen(bench: &Bench, entity: &'static Entity) -> Vec<(i64, Form)> {
    let mut records: Vec<TrueRecord> = bench.portal.truth(entity);
    records.retain(|r| ["PHONE", "EMAIL"].iter().all(|field| !r.multi_fields[*field].is_empty()));
    records.iter().map(|record| record.id).zip(FORMS).collect()
}

/// Everything that the portal describes and we keep in `custom_fields`.
async fn custom_fields(bench: &Bench, entity: &'static Entity) -> Vec<String> {
    sqlx::query_scalar(
        "select field from bitrix24.fields \
         where entity = $1 and (field like 'UF\\_%' or field like 'PARENT\\_ID\\_%') order by 1",
    )
    .bind(entity.name)
    .fetch_all(bench.pool())
    .await
    .unwrap()
}

/// The columns as stored, decimals in their shortest form, with the fields that have a note.
async fn stored(
    bench: &Bench,
    entity: &'static Entity,
    id: i64,
) -> (Map<String, Value>, BTreeSet<String>) {
    let decimals = entity.columns.iter().filter(|column| column.kind == ColumnType::Decimal);
    let decimals: Vec<String> =
        decimals.map(|column| format!("'{0}', trim_scale({0})::text", column.name)).collect();
    let row = format!(
        "select to_jsonb(t) || jsonb_build_object({}) from bitrix24.{} t where id = {id}",
        decimals.join(", "),
        entity.name
    );
    let row: Value = sqlx::query_scalar(AssertSqlSafe(row)).fetch_one(bench.pool()).await.unwrap();
    let notes: Vec<String> = sqlx::query_scalar(
        "select field from bitrix24.sync_quarantine where entity = $1 and record_id = $2 \
         and reason = 'unreadable_value' and resolved_at is null",
    )
    .bind(entity.name)
    .bind(id)
    .fetch_all(bench.pool())
    .await
    .unwrap();
    let Value::Object(row) = row else { panic!("no object: {row}") };
    (row, notes.into_iter().collect())
}

/// The columns that a classic list brings.
fn brought(entity: &Entity) -> impl Iterator<Item = &'static Column> {
    let classic = entity.classic.unwrap();
    entity.columns.iter().filter(move |column| {
        !classic.lacks.contains(&column.field)
            && classic.implies.iter().all(|(field, _)| *field != column.field)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_20_every_form_of_nothing_is_stored_as_its_columns_type_says() {
    let options = Options { contacts: 200, leads: 200, malformed: 0, ..unlimited() };
    let bench = Bench::new(TestPortal::with(options)).await;
    bench.fill().await;
    assert!(bench.sprung(20) > 0, "the data themselves hold odd forms");

    let mut chosen_ones = BTreeMap::new();
    for entity in Entity::BY_DEFAULT {
        let records = chosen(&bench, entity);
        assert_eq!(records.len(), FORMS.len());
        // What is nothing afterwards was something before.
        for (id, _) in &records {
            for column in brought(entity).filter(|column| column.field != "DATE_MODIFY") {
                let (field, value) = (column.field.to_owned(), something(column.kind));
                let entity = family(entity);
                bench.portal.happens(Action::Touch {
                    entity,
                    id: *id,
                    field,
                    value,
                    keep_date: false,
                });
            }
            for field in custom_fields(&bench, entity).await {
                let (entity, value) = (family(entity), json!("7"));
                bench.portal.happens(Action::Touch {
                    entity,
                    id: *id,
                    field,
                    value,
                    keep_date: false,
                });
            }
        }
        chosen_ones.insert(entity.name, records);
    }
    bench.cycle().await;
    bench.assert_equal().await;
    for entity in Entity::BY_DEFAULT {
        let custom = custom_fields(&bench, entity).await;
        assert!(custom.len() > 30, "{custom:?}");
        for (id, form) in &chosen_ones[entity.name] {
            let (row, notes) = stored(&bench, entity, *id).await;
            for column in brought(entity) {
                assert_ne!(row[column.name], Value::Null, "{} {id}", column.name);
            }
            assert_eq!(row["custom_fields"].as_object().unwrap().len(), custom.len());
            assert!(notes.is_empty(), "{notes:?}");
            say_nothing(&bench, entity, *id, *form, &custom);
        }
    }

    bench.cycle().await;
    for entity in Entity::BY_DEFAULT {
        let custom = custom_fields(&bench, entity).await;
        for (id, form) in &chosen_ones[entity.name] {
            let (row, notes) = stored(&bench, entity, *id).await;
            let mut due = BTreeSet::new();
            for column in brought(entity) {
                let (value, unreadable) = column_holds(column.kind, *form);
                assert_eq!(row[column.name], value, "{} sent as {form:?}", column.field);
                if unreadable {
                    due.insert(column.field.to_owned());
                }
            }
            assert_eq!(notes, due, "{form:?}");
            for field in &custom {
                let value = custom_field_holds(field, *form);
                // The simulator leaves documented keys out, not those of user fields.
                if *form != Absent || field.starts_with("PARENT_ID_") {
                    assert_eq!(row["custom_fields"].get(field), value.as_ref(), "{field} {form:?}");
                }
            }
        }
    }
    bench.assert_equal().await;
    // And it is nothing new when it comes again.
    let again = bench.refill().await;
    assert!(again.iter().all(|tally| tally.updated == 0), "{again:?}");
}

/// Sends every field of a record in that form.
fn say_nothing(bench: &Bench, entity: &'static Entity, id: i64, form: Form, custom: &[String]) {
    let columns = brought(entity).map(|column| column.field.to_owned());
    let entity = family(entity);
    for field in columns.chain(custom.iter().cloned()) {
        match form.json() {
            Some(value) => {
                bench.portal.happens(Action::Touch { entity, id, field, value, keep_date: false });
            }
            None if field.starts_with("UF_") => {}
            None => _ = bench.portal.happens(Action::Omit { entity, id, field }),
        }
    }
}
