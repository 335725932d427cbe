//! The views of custom fields, while fields come, change and go.

use std::time::Instant;

use b24mirror::simulator::{Action, Entity, Options, UserFieldType};

use super::{columns, comment, execute, refreshed, with_views};
use crate::support::{Run, TestPortal, cycled, database, eventually, tables::value, unlimited};

const CONTACTS: Entity = Entity::Contacts;

fn portal() -> TestPortal {
    TestPortal::with(Options { contacts: 90, leads: 60, ..unlimited() })
}

/// The type of every kind of field in the view, single and multiple.
const TYPES: [(&str, &str); 17] = [
    ("string", "text"),
    ("integer", "numeric"),
    ("double", "numeric"),
    ("boolean", "boolean"),
    ("datetime", "timestamp with time zone"),
    ("date", "date"),
    ("money", "numeric"),
    ("url", "text"),
    ("address", "text"),
    ("enumeration", "text"),
    ("file", "bigint"),
    ("employee", "text"),
    ("crm_status", "text"),
    ("iblock_section", "text"),
    ("iblock_element", "text"),
    ("crm", "text"),
    ("rest_7_rating", "text"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_field_is_a_typed_column_that_loses_no_value() {
    let (portal, database) = (portal(), database().await);
    portal.backfilled(&database).await;
    let pool = database.pool();
    execute(
        pool,
        "insert into bitrix24.field_options (entity, field, id, label, sort) \
            select entity, field, o ->> 'ID', o ->> 'VALUE', 0 \
            from bitrix24.fields, jsonb_array_elements(items) as o \
            where type = 'enumeration' on conflict do nothing; \
         insert into bitrix24.users (id, full_name, active) \
            select distinct person::bigint, 'User ' || person, true from bitrix24.contacts, \
                jsonb_array_elements_text(jsonb_build_array(custom_fields -> 'UF_CRM_EMPLOYEE') \
                    || coalesce(custom_fields -> 'UF_CRM_EMPLOYEE_LIST', '[]')) as e (person) \
            where person is not null on conflict (id) do update set full_name = excluded.full_name; \
         insert into bitrix24.statuses (directory, code, name) \
            select distinct 'SOURCE', custom_fields ->> 'UF_CRM_CRM_STATUS', \
                'Name of ' || (custom_fields ->> 'UF_CRM_CRM_STATUS') \
            from bitrix24.contacts where custom_fields ? 'UF_CRM_CRM_STATUS' \
            on conflict (directory, code) do update set name = excluded.name",
    )
    .await;
    let named: std::collections::BTreeMap<String, String> =
        columns(pool, "contacts_custom").await.into_iter().collect();
    for (kind, sql_type) in TYPES {
        for multiple in [false, true] {
            let single_string = kind == "string" && !multiple;
            let code = if single_string {
                "UF_CRM_1594289783260".to_owned()
            } else {
                format!("UF_CRM_{}{}", kind.to_uppercase(), if multiple { "_LIST" } else { "" })
            };
            let name = format!("pole_{kind}{}", if multiple { "_neskolko" } else { "" });
            let expected = if multiple { format!("{sql_type}[]") } else { sql_type.to_owned() };
            assert_eq!(named.get(&name), Some(&expected), "{name}: {named:?}");
            let values =
                format!("select count(*) from bitrix24.contacts where custom_fields ? '{code}'");
            assert!(value::<i64>(pool, &values).await > 0, "{code} has values");
            // Integers of the portal's may be texts; whatever came is there in its type.
            let lost = format!(
                "select count(*) from bitrix24.contacts t join bitrix24_report.contacts_custom v \
                 using (id) where (t.custom_fields ? '{code}') <> (v.{name} is not null)"
            );
            assert_eq!(value::<i64>(pool, &lost).await, 0, "{name}");
            if multiple {
                let lost = format!(
                    "select count(*) from bitrix24.contacts t \
                     join bitrix24_report.contacts_custom v using (id) \
                     where jsonb_typeof(t.custom_fields -> '{code}') = 'array' \
                        and jsonb_array_length(t.custom_fields -> '{code}') <> cardinality(v.{name})"
                );
                assert_eq!(value::<i64>(pool, &lost).await, 0, "{name}");
            }
        }
    }
    for (what, wrong) in [
        (
            "the amount",
            "pole_money::text || '|' || pole_money_currency \
            <> t.custom_fields ->> 'UF_CRM_MONEY'",
        ),
        ("the label", "pole_enumeration !~ '^(Да|Нет|Не \"знаю\"|Другое/прочее)$'"),
        (
            "the labels",
            "pole_enumeration_neskolko \
            <@ array['Да', 'Нет', 'Не \"знаю\"', 'Другое/прочее'] is not true \
            and pole_enumeration_neskolko is not null",
        ),
        ("the person", "pole_employee <> 'User ' || pole_employee_id"),
        ("the source", "pole_crm_status <> 'Name of ' || pole_crm_status_code"),
    ] {
        let query = format!(
            "select count(*) from bitrix24.contacts t join bitrix24_report.contacts_custom v \
             using (id) where {wrong}"
        );
        assert_eq!(value::<i64>(pool, &query).await, 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn views_follow_the_fields_while_the_mirror_runs_and_no_record_is_read_for_it() {
    let (portal, database) = (portal(), database().await);
    portal.backfilled(&database).await;
    // Nothing but the cycles reads.
    let alone =
        "rolling_check_days = 0\n[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n";
    let settings =
        portal.settings_with(&database, alone).replace("overlap = \"10s\"", "overlap = \"1s\"");
    let daemon = Run::b24mirror(&["run"]).config(&settings).spawn();
    let pool = database.pool();
    // The newest records are read again until they have settled, in every other cycle or so.
    eventually("cycles that have nothing to read", || async {
        let before = portal.stats().rows;
        for _ in 0..5 {
            cycled(pool).await;
        }
        portal.stats().rows == before
    })
    .await;
    execute(
        pool,
        "create view public.mine as select id, pole_money from bitrix24_report.contacts_custom",
    )
    .await;
    let before = portal.stats().rows;
    let code = "UF_CRM_BUDGET".to_owned();
    let entity = CONTACTS;
    let has = async |column: &str, sql_type: &str| {
        let expected = (column.to_owned(), sql_type.to_owned());
        eventually(column, || async { columns(pool, "contacts_custom").await.contains(&expected) })
            .await;
    };
    let says = async |column: &str, text: &str| {
        eventually(text, || async {
            comment(pool, "contacts_custom", column)
                .await
                .is_some_and(|comment| comment.contains(text))
        })
        .await;
    };

    let (kind, multiple) = (UserFieldType::String, false);
    portal.happens(Action::AddUserField { entity, code: code.clone(), kind, multiple });
    has("uf_crm_budget", "text").await;
    let label = "Бюджет / план".to_owned();
    portal.happens(Action::RenameUserField { entity, code: code.clone(), label: label.clone() });
    says("uf_crm_budget", &label).await;
    let kind = UserFieldType::Double;
    portal.happens(Action::RetypeUserField { entity, code: code.clone(), kind });
    has("uf_crm_budget_number", "numeric").await;
    assert_eq!(portal.stats().rows, before, "no record is read for any of it");

    // The old column and the new one show the value, as far as it fits them.
    let first = portal.truth(b24mirror::entity::Entity::BY_DEFAULT[0])[0].id;
    let touch = |value: serde_json::Value| {
        let (field, keep_date) = (code.clone(), false);
        portal.happens(Action::Touch { entity, id: first, field, value, keep_date });
    };
    touch("1250.5".into());
    let shown = format!(
        "select exists (select from bitrix24_report.contacts_custom where id = {first} \
         and uf_crm_budget = '1250.5' and uf_crm_budget_number = 1250.5)"
    );
    eventually("the value", || async { value::<bool>(pool, &shown).await }).await;
    touch("much".into());
    let shown = format!(
        "select exists (select from bitrix24_report.contacts_custom where id = {first} \
         and uf_crm_budget = 'much' and uf_crm_budget_number is null)"
    );
    eventually("a value that is no number", || async { value::<bool>(pool, &shown).await }).await;

    portal.happens(Action::RemoveUserField { entity, code });
    says("uf_crm_budget", "The portal no longer has it").await;
    says("uf_crm_budget_number", "The portal no longer has it").await;
    // As of a record that has not been written since: nothing shows which ones have.
    execute(
        pool,
        &format!(
            "update bitrix24.contacts set custom_fields = custom_fields \
             || '{{\"UF_CRM_BUDGET\": \"much\"}}' where id = {first}"
        ),
    )
    .await;
    let shown = "select count(uf_crm_budget) from bitrix24_report.contacts_custom";
    assert_eq!(value::<i64>(pool, shown).await, 0);
    let money = "select count(*) from public.mine where pole_money is not null";
    assert!(value::<i64>(pool, money).await > 0, "what is built upon the view is as before");
    drop(daemon);
}

/// Types whose values are cast.
const CAST: [&str; 11] = [
    "string",
    "integer",
    "double",
    "boolean",
    "date",
    "datetime",
    "money",
    "enumeration",
    "employee",
    "crm_status",
    "file",
];

/// Texts that are nearly a value of some type.
const NEARLY: [&str; 38] = [
    "",
    " ",
    "0",
    "-",
    ".",
    "1e",
    "1e99",
    "1e400",
    "NaN",
    "Infinity",
    "12,5",
    "0x10",
    "1_000",
    "99999999999999999999",
    "2023-02-29",
    "2024-02-29",
    "0000-01-01",
    "2024-13-01",
    "2024-00-10",
    "2024-04-31",
    "9999-12-31",
    "2024-05-05T24:00:00Z",
    "2024-05-05T23:59:60Z",
    "2024-05-05T10:00:00+16:00",
    "2024-05-05T10:00:00",
    "2024-05-05T10:00:00.123456789Z",
    "100|USD",
    "|",
    "100|",
    "|USD",
    "x|y|z",
    "true",
    "Y",
    "[]",
    "{}",
    "'; drop",
    "\\",
    "№",
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_a_custom_field_can_make_a_query_fail() {
    let database = database().await;
    let store = with_views(&database).await;
    let pool = database.pool();
    for kind in CAST {
        for multiple in [false, true] {
            sqlx::query(
                "insert into bitrix24.fields (entity, field, type, label, multiple, custom, read_only) \
                 values ('contacts', $1, $2, $1, $3, true, false)",
            )
            .bind(format!("UF_{kind}_{multiple}"))
            .bind(kind)
            .bind(multiple)
            .execute(pool)
            .await
            .unwrap();
        }
    }
    refreshed(&store).await;
    let mut id = 0;
    for text in NEARLY.iter().map(|text| (*text).to_owned()).chain(["9".repeat(200_000)]) {
        let values = [
            serde_json::json!(text),
            serde_json::json!([text, text]),
            serde_json::json!({ "a": text }),
            serde_json::json!([[text]]),
            serde_json::json!(7.5),
            serde_json::json!(true),
        ];
        for value in values {
            id += 1;
            let fields: serde_json::Map<String, serde_json::Value> = CAST
                .iter()
                .flat_map(|kind| [format!("UF_{kind}_true"), format!("UF_{kind}_false")])
                .map(|code| (code, value.clone()))
                .collect();
            sqlx::query(
                "insert into bitrix24.contacts (id, custom_fields, content_hash, synced_at) \
                 values ($1, $2, 0, now())",
            )
            .bind(id)
            .bind(serde_json::Value::Object(fields))
            .execute(pool)
            .await
            .unwrap();
        }
    }
    let all = "select count(*) from (select * from bitrix24_report.contacts_custom offset 0) v \
               where v::text is not null";
    assert_eq!(value::<i64>(pool, all).await, i64::from(id));
    let leap = "select count(*) from bitrix24_report.contacts_custom \
                where uf_date_false = '2024-02-29'";
    assert_eq!(value::<i64>(pool, leap).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifteen_hundred_fields_are_no_trouble() {
    let database = database().await;
    let store = with_views(&database).await;
    let pool = database.pool();
    execute(
        pool,
        "insert into bitrix24.fields (entity, field, type, label, multiple, custom, read_only, \
                status_type) \
            select 'contacts', 'UF_CRM_' || n, \
                (array['string', 'double', 'boolean', 'date', 'datetime', 'money', 'enumeration', \
                    'employee', 'crm_status', 'file'])[n % 10 + 1], \
                'Поле номер ' || n, n % 40 > 30, true, false, 'SOURCE' \
            from generate_series(1, 1500) as n; \
         insert into bitrix24.field_options (entity, field, id, label, sort) \
            select entity, field, o, 'Выбор ' || o, 0 \
            from bitrix24.fields, generate_series(1, 6) as o where type = 'enumeration'; \
         insert into bitrix24.users (id, full_name, active) \
            select n, 'User ' || n, true from generate_series(1, 500) as n; \
         insert into bitrix24.statuses (directory, code, name) \
            select 'SOURCE', n, 'Source ' || n from generate_series(1, 500) as n; \
         insert into bitrix24.contacts (id, custom_fields, content_hash, synced_at) \
            select r, (select jsonb_object_agg(field, \
                    case when multiple then jsonb_build_array(value, value) else value end) \
                from (select field, multiple, to_jsonb(case type \
                    when 'string' then 'значение ' || r when 'double' then r || '.25' \
                    when 'boolean' then 'true' when 'date' then '2024-05-05' \
                    when 'datetime' then '2024-05-05T10:00:00Z' when 'money' then r || '|USD' \
                    when 'enumeration' then (r % 6 + 1)::text else (r % 500 + 1)::text end) as value \
                from bitrix24.fields) f), 0, now() \
            from generate_series(1, 300) as r",
    )
    .await;
    let begun = Instant::now();
    refreshed(&store).await;
    eprintln!("views of 1,500 custom fields made in {:?}", begun.elapsed());

    let mut fields = 0;
    for view in ["contacts_custom", "contacts_custom_2", "contacts_custom_3"] {
        fields += columns(pool, view).await.len() - 1;
        // With the settings that a reader has, compilation included.
        let all = format!(
            "select count(*) from (select * from bitrix24_report.{view} offset 0) v \
             where v is not null"
        );
        let begun = Instant::now();
        assert_eq!(value::<i64>(pool, &all).await, 300, "{view}: every column of every row");
        eprintln!("300 rows of {view} read in {:?}", begun.elapsed());
    }
    // Money, people and directories have two columns each.
    assert_eq!(fields, 1_500 + 3 * 150);
    let begun = Instant::now();
    let few = "select count(distinct pole_nomer_106) from bitrix24_report.contacts_custom \
               where pole_nomer_103 is not null";
    assert_eq!(value::<i64>(pool, few).await, 6);
    eprintln!("two columns read in {:?}", begun.elapsed());
}
