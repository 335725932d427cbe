//! The views of records and of their multi-values.

use std::collections::BTreeMap;

use b24mirror::entity::{Entity, SMART_ITEMS, smart_process};

use super::{NAME_EVERY_CODE, columns, comment, execute, fill, refreshed, rows, with_views};
use crate::support::{TestPortal, database, tables::value, unlimited};

fn portal() -> TestPortal {
    use b24mirror::simulator::Options;
    TestPortal::with(Options { contacts: 120, leads: 120, ..unlimited() })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_has_its_label_beside_it() {
    let (portal, database) = (portal(), database().await);
    portal.backfilled(&database).await;
    let pool = database.pool();
    execute(pool, NAME_EVERY_CODE).await;
    let wrong = |view: &'static str, wrong: &'static str| async move {
        let query = format!("select count(*) from bitrix24_report.{view} where {wrong}");
        let seen = format!("select count(*) from bitrix24_report.{view}");
        assert!(value::<i64>(pool, &seen).await > 100);
        assert_eq!(value::<i64>(pool, &query).await, 0, "{view} where {wrong}");
    };
    for view in ["contacts", "leads"] {
        wrong(view, "source is distinct from 'Name of ' || source_id").await;
        wrong(view, "honorific_name is distinct from 'Name of ' || honorific").await;
        for person in ["assigned_by", "created_by", "modify_by"] {
            // The portal hides bots: 41 and above.
            let condition = format!(
                "{person} is distinct from case when {person}_id <= 40 then 'User ' || {person}_id end"
            );
            wrong(view, condition.leak()).await;
        }
        wrong(
            view,
            "last_activity_by_name is distinct from \
             case when last_activity_by <= 40 then 'User ' || last_activity_by end",
        )
        .await;
        wrong(view, "full_name is null and name <> '' and name !~ '^\\s*$'").await;
    }
    wrong("contacts", "type is distinct from 'Name of ' || type_id").await;
    wrong("leads", "status is distinct from 'Name of ' || status_id").await;
    wrong("leads", "currency is distinct from 'Name of ' || currency_id").await;
    wrong(
        "leads",
        "status_semantic is distinct from case status_semantic_id when 'P' then 'in progress' \
         when 'S' then 'successful' when 'F' then 'failed' end",
    )
    .await;

    // A lead and the contact that it belongs to know each other by name.
    execute(
        pool,
        "update bitrix24.leads set contact_id = (select min(id) from bitrix24.contacts), \
            title = 'A lead' where id = (select min(id) from bitrix24.leads); \
         update bitrix24.contacts set lead_id = (select min(id) from bitrix24.leads), \
            name = 'Ada', second_name = null, last_name = 'Lovelace' \
         where id = (select min(id) from bitrix24.contacts)",
    )
    .await;
    let first = "order by id limit 1";
    let contact = format!("select contact from bitrix24_report.leads {first}");
    assert_eq!(value::<String>(pool, &contact).await, "Ada Lovelace");
    let lead = format!("select lead from bitrix24_report.contacts {first}");
    assert_eq!(value::<String>(pool, &lead).await, "A lead");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_portal_has_is_seen_and_with_all_its_values() {
    let (portal, database) = (portal(), database().await);
    portal.backfilled(&database).await;
    let pool = database.pool();
    for entity in Entity::BY_DEFAULT {
        let (name, one) = (entity.name, entity.singular);
        execute(
            pool,
            &format!(
                "update bitrix24.{name} set deleted_at = now() where id in \
                    (select {one}_id from bitrix24.{one}_phones order by 1 limit 3)"
            ),
        )
        .await;
        let differing = format!(
            "select count(*) from (select id from bitrix24.{name} where deleted_at is null) t \
             full join bitrix24_report.{name} v using (id) \
             full join bitrix24_report.{name}_custom c using (id) \
             where t.id is null or v.id is null or c.id is null"
        );
        assert_eq!(value::<i64>(pool, &differing).await, 0, "{name}");
        for multi_field in entity.multi_fields {
            let table = multi_field.table;
            let (id, value_of) = match multi_field.link {
                Some(link) => (link.column, "position"),
                None if multi_field.product_rows.is_some() => ("id", "fields"),
                None => ("id", "value"),
            };
            let differing = format!(
                "select count(*) from (select m.* from bitrix24.{table} m \
                    join bitrix24.{name} t on t.id = m.{one}_id where t.deleted_at is null) m \
                 full join bitrix24_report.{table} v on v.{one}_id = m.{one}_id and v.{id} = m.{id} \
                 where v.{id} is null or m.{id} is null \
                    or v.{value_of} is distinct from m.{value_of}"
            );
            assert_eq!(value::<i64>(pool, &differing).await, 0, "{table}");
        }
        let differing = format!(
            "select count(*) from bitrix24_report.{name} v where \
                phones <> array(select value from bitrix24.{one}_phones p \
                    where p.{one}_id = v.id order by p.id) \
                or emails <> array(select address from bitrix24.{one}_emails p \
                    where p.{one}_id = v.id order by p.id) \
                or first_phone is distinct from phones[1] \
                or first_email is distinct from emails[1]"
        );
        assert_eq!(value::<i64>(pool, &differing).await, 0, "{name}");
        let some =
            format!("select count(*) from bitrix24_report.{name} where phones[2] is not null");
        assert!(value::<i64>(pool, &some).await > 0, "some {name} have several phones");
    }
}

#[tokio::test]
async fn numbers_have_the_words_of_the_vendors_pages() {
    let database = database().await;
    let store = with_views(&database).await;
    let process = smart_process(1036).unwrap();
    fill(
        &database,
        "insert into smart_processes (entity_type_id, title) values (1036, 'Станки');
         insert into deals (id, title, content_hash, synced_at) values (1, 'Сделка', 0, now());
         insert into deal_product_rows (deal_id, id, fields)
            select 1, n, jsonb_build_object('type', n, 'discountTypeId', n % 4)
            from generate_series(0, 8) n;
         insert into quotes (id, content_type, terms_type, comments_type, content_hash, synced_at)
            values (1, 1, 2, 3, 0, now()), (2, 0, null, 4, 0, now());
         insert into activities (id, owner_type_id, owner_id, description_type, content_hash,
            synced_at) values (1, 2, 1, 3, 0, now()), (2, 1036, 7, 1, 0, now()),
            (3, 1038, 7, 0, 0, now())",
    )
    .await;
    store.make_smart_tables(None, process).await.unwrap();
    fill(
        &database,
        "insert into smart_items (entity_type_id, id, title, content_hash, synced_at)
            values (1036, 7, 'Токарный', 0, now())",
    )
    .await;
    refreshed(&store).await;
    let types =
        "select type_name, discount_type from bitrix24_report.deal_product_rows order by id";
    assert_eq!(
        rows(&database, types).await,
        [
            "(,)",
            "(\"simple product\",amount)",
            "(bundle,percentage)",
            "(\"product with offers\",)",
            "(offer,)",
            "(\"offer without a product\",amount)",
            "(\"invalid product with offers\",percentage)",
            "(service,)",
            "(,)",
        ]
    );
    let formats = "select content_type_name, terms_type_name, comments_type_name \
                   from bitrix24_report.quotes order by id";
    assert_eq!(rows(&database, formats).await, ["(\"plain text\",BBCode,HTML)", "(,,)"]);
    let about = "select owner_type, owner, description_type_name \
                 from bitrix24_report.activities order by id";
    assert_eq!(
        rows(&database, about).await,
        ["(deal,Сделка,HTML)", "(Станки,Токарный,\"plain text\")", "(,,)"]
    );
}

#[tokio::test]
async fn every_documented_column_is_in_the_view_and_everything_says_what_it_is() {
    let database = database().await;
    let store = with_views(&database).await;
    let pool = database.pool();
    let process = smart_process(1036).unwrap();
    fill(
        &database,
        "insert into smart_processes (entity_type_id, title) values (1036, 'O''Hara''s \u{201c}$$\u{201d}')",
    )
    .await;
    store.make_smart_tables(None, process).await.unwrap();
    refreshed(&store).await;
    for entity in Entity::ALL.into_iter().chain([&SMART_ITEMS, process]) {
        let types: BTreeMap<String, String> =
            columns(pool, entity.name).await.into_iter().collect();
        for column in entity.columns {
            assert_eq!(types[column.name], column.kind.sql_type(), "{}", column.name);
        }
    }
    let silent: Vec<String> = sqlx::query_scalar(
        "select n.nspname || '.' || c.relname || coalesce('.' || a.attname, '') \
         from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
         where n.nspname in ('bitrix24', 'bitrix24_report') and c.relkind in ('r', 'p', 'v') \
            and c.relname <> '_sqlx_migrations' \
            and (coalesce(obj_description(c.oid, 'pg_class'), '') = '' \
                or coalesce(col_description(c.oid, a.attnum), '') = '') \
         order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(silent, Vec::<String>::new(), "these tables and columns have no comment");

    // The portal's own label comes first.
    execute(
        pool,
        "insert into bitrix24.fields (entity, field, type, label, multiple, custom, read_only) \
         values ('leads', 'OPPORTUNITY', 'double', 'It''s \\ «Сумма»', false, false, false)",
    )
    .await;
    refreshed(&store).await;
    let said = comment(pool, "leads", "opportunity").await.unwrap();
    assert_eq!(said, "It's \\ «Сумма». In the currency of currency_id.");
}

#[tokio::test]
async fn a_view_that_may_be_empty_says_what_fills_it() {
    let database = database().await;
    let _store = with_views(&database).await;
    let said = async |view: &str| {
        let query = "select obj_description(to_regclass('bitrix24_report.' || $1), 'pg_class')";
        let said: Option<String> =
            sqlx::query_scalar(query).bind(view).fetch_one(database.pool()).await.unwrap();
        said.unwrap_or_else(|| panic!("{view} has no comment"))
    };
    for entity in Entity::ALL.into_iter().chain([&SMART_ITEMS]) {
        let (name, by_default) = (entity.name, Entity::BY_DEFAULT.contains(&entity));
        let key = format!("(`entities.{name}.enabled`)");
        let mut views = vec![name.to_owned()];
        if *entity != SMART_ITEMS {
            views.push(format!("{name}_custom"));
        }
        for multi_field in entity.multi_fields {
            if multi_field.product_rows.is_some() {
                let key = format!("Empty until they are mirrored (`entities.{name}.product_rows`)");
                assert!(said(multi_field.table).await.contains(&key), "{}", multi_field.table);
            } else {
                views.push(multi_field.table.to_owned());
            }
        }
        for view in views {
            let said = said(&view).await;
            assert_eq!(said.contains(&key), !by_default, "{view}: {said}");
        }
    }
    for (report, key) in [
        ("deal_pipeline", "entities.deals.enabled"),
        ("deal_win_rate", "entities.deals.enabled"),
        ("deal_cycle_time", "entities.deals.enabled"),
        ("companies_by_sales", "entities.companies.enabled"),
        ("time_in_stage", "entities.deal_stage_history.enabled"),
        ("product_rows", "entities.deals.product_rows"),
        ("revenue_by_product", "entities.deals.product_rows"),
        ("activities_per_responsible", "entities.activities.enabled"),
        ("mail_recipients", "entities.mail_recipients.enabled"),
        ("mail_recipients_linked", "entities.mail_recipients.enabled"),
    ] {
        let said = said(report).await;
        assert!(said.to_lowercase().contains("empty until") && said.contains(key), "{said}");
    }
    // One rule for all that count deals.
    for report in [
        "deal_pipeline",
        "deal_win_rate",
        "deal_cycle_time",
        "companies_by_sales",
        "time_in_stage",
        "revenue_by_product",
    ] {
        let said = said(report).await;
        assert!(said.contains("Templates of repeated deals do not count"), "{report}: {said}");
    }
}

#[tokio::test]
async fn what_people_build_upon_a_view_survives_and_a_long_reader_delays_only_the_view() {
    let database = database().await;
    let store = with_views(&database).await;
    let pool = database.pool();
    execute(
        pool,
        "create view public.mine as select id, full_name from bitrix24_report.contacts; \
         alter table bitrix24.contact_phones add column later text; \
         comment on column bitrix24.contact_phones.later is 'A new one.'; \
         insert into bitrix24.contacts (id, content_hash, synced_at) values (1, 0, now()); \
         insert into bitrix24.contact_phones (contact_id, id, value, later) values (1, 1, '1', 'x')",
    )
    .await;

    // Somebody reads the view while it has to change.
    let mut reader = pool.begin().await.unwrap();
    sqlx::query("select from bitrix24_report.contact_phones").execute(&mut *reader).await.unwrap();
    let options = b24mirror::reporting::ReportOptions::default();
    let left = b24mirror::sync::refresh_reports(&store, &options, None).await.unwrap();
    assert_eq!(left, 1);
    let problems = store.report_problems().await.unwrap();
    assert_eq!(problems[0].0, "contact_phones");
    assert!(problems[0].1.contains("uses it for long"), "{problems:?}");
    reader.rollback().await.unwrap();

    refreshed(&store).await;
    assert_eq!(store.report_problems().await.unwrap(), []);
    let later = "select later from bitrix24_report.contact_phones";
    assert_eq!(value::<String>(pool, later).await, "x");
    assert_eq!(value::<i64>(pool, "select count(*) from public.mine").await, 1);

    // Nothing is made again that is as it should be; what somebody dropped comes back.
    let made = "select max(applied_at)::text from bitrix24.report_views";
    let before: String = value(pool, made).await;
    refreshed(&store).await;
    assert_eq!(value::<String>(pool, made).await, before);
    execute(pool, "drop view bitrix24_report.lead_links").await;
    refreshed(&store).await;
    assert!(!columns(pool, "lead_links").await.is_empty());
}

#[tokio::test]
async fn words_that_need_quoting_are_never_names() {
    let database = database().await;
    let words: Vec<String> =
        sqlx::query_scalar("select upper(word) from pg_get_keywords() where catcode in ('R', 'T')")
            .fetch_all(database.pool())
            .await
            .unwrap();
    let store = with_views(&database).await;
    for word in &words {
        sqlx::query(
            "insert into bitrix24.fields (entity, field, type, label, multiple, custom, read_only) \
             values ('contacts', $1, 'string', $2, false, true, false)",
        )
        .bind(format!("UF_CRM_{word}"))
        .bind(word)
        .execute(database.pool())
        .await
        .unwrap();
    }
    refreshed(&store).await;
    let named = columns(database.pool(), "contacts_custom").await;
    assert_eq!(named.len(), words.len() + 1);
    let quoted: Vec<&String> = named
        .iter()
        .map(|(name, _)| name)
        .filter(|name| words.contains(&name.to_uppercase()))
        .collect();
    assert_eq!(quoted, Vec::<&String>::new());
}
