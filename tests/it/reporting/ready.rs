//! Every ready report gives the answers that can be told by hand.

use b24mirror::reporting::ready;

use super::{fill, in_tokyo, rows};
use crate::support::tables::value;

/// Stages, sources, currencies and people; each test adds its records.
const DICTIONARIES: &str = "
    insert into statuses (directory, code, name, sort, semantics) values
        ('STATUS', 'NEW', 'Новый', 10, null), ('STATUS', 'CONVERTED', 'Успех', 20, 'S'),
        ('STATUS', 'JUNK', 'Мусор', 30, 'F'), ('STATUS', 'LOST', 'Отказ', 40, 'F'),
        ('SOURCE', 'WEB', 'Сайт', 10, null), ('SOURCE', 'NEW', 'не стадия', 20, null);
    insert into currencies (code, name, rate, rate_amount, base) values
        ('RUB', 'Рубль', null, null, true), ('USD', 'Доллар', 90, 1, false),
        ('KZT', 'Тенге', 18, 100, false);
    insert into users (id, full_name, active, gone_since) values
        (1, 'Анна', true, null), (2, 'Иван', false, null), (3, 'Пётр', true, now());";

#[tokio::test]
async fn every_report_has_the_columns_that_it_says_and_comments_on_all_of_them() {
    let database = in_tokyo().await;
    for report in ready::views() {
        let columns: Vec<(String, String, Option<String>)> = sqlx::query_as(
            "select attname::text, format_type(atttypid, atttypmod), \
                col_description(attrelid, attnum) from pg_attribute \
             where attrelid = ('bitrix24_report.' || $1)::regclass and attnum > 0 order by attnum",
        )
        .bind(report.name)
        .fetch_all(database.pool())
        .await
        .unwrap();
        let said: Vec<_> = report
            .columns
            .iter()
            .map(|one| (one.name.to_owned(), one.sql_type.to_owned(), Some(one.comment.to_owned())))
            .collect();
        assert_eq!(columns, said, "{}", report.name);
        let says = format!("select obj_description('bitrix24_report.{}'::regclass)", report.name);
        assert_eq!(value::<String>(database.pool(), &says).await, report.comment);
        let empty =
            rows(&database, &format!("select * from bitrix24_report.{}", report.name)).await;
        match report.name {
            "freshness" => assert_eq!(empty.len(), 2),
            _ => assert!(empty.is_empty(), "{}: {empty:?}", report.name),
        }
    }
}

#[tokio::test]
async fn leads_are_counted_by_stage_source_month_and_campaign() {
    let database = in_tokyo().await;
    fill(&database, DICTIONARIES).await;
    // The last one is deleted. 2026-01-31 20:00 UTC is February in Tokyo.
    fill(
        &database,
        "insert into leads (id, status_id, status_semantic_id, source_id, currency_id, opportunity,
            date_create, utm_source, utm_campaign, content_hash, synced_at, deleted_at)
         values
         (1, 'NEW', 'P', 'WEB', 'RUB', 100, now() - interval '1 day', null, null, 0, now(), null),
         (2, 'NEW', 'P', 'WEB', 'USD', 2, '2026-01-31 20:00Z', 'yandex', 'весна', 0, now(), null),
         (3, 'NEW', 'P', 'WEB', 'KZT', 100, '2026-02-20 20:00Z', 'yandex', 'весна', 0, now(), null),
         (4, 'CONVERTED', 'S', 'WEB', 'USD', 1, '2026-02-10Z', 'yandex', 'весна', 0, now(), null),
         (5, 'JUNK', 'F', 'WEB', null, null, '2026-02-11Z', 'yandex', 'весна', 0, now(), null),
         (6, 'LOST', 'F', 'UC_1', 'XXX', 5, '2026-01-31 10:00Z', null, null, 0, now(), null),
         (7, 'UC_OLD', null, null, 'RUB', 7, null, 'google', null, 0, now(), null),
         (8, 'NEW', 'P', 'WEB', 'RUB', 9, now(), 'yandex', 'весна', 0, now(), now())",
    )
    .await;

    let funnel = "select status, outcome, source, leads, new_in_30_days, percent_of_source, \
                  amount, currency from bitrix24_report.lead_funnel order by 1, 3";
    assert_eq!(
        rows(&database, funnel).await,
        [
            "(UC_OLD,open,,1,0,100.0,7.00,RUB)",
            "(Мусор,failed,Сайт,1,0,20.0,,RUB)",
            "(Новый,open,Сайт,3,1,60.0,298.00,RUB)",
            "(Отказ,failed,UC_1,1,0,100.0,,RUB)",
            "(Успех,converted,Сайт,1,0,20.0,90.00,RUB)",
        ]
    );

    let conversion = "select month, source, leads, converted, failed, junk, open, \
                      conversion_percent, conversion_percent_without_junk, \
                      conversion_percent_of_closed \
                      from bitrix24_report.conversion_by_source_and_month \
                      where month < '2026-03-01' or month is null order by 1, 2";
    assert_eq!(
        rows(&database, conversion).await,
        [
            "(2026-01-01,UC_1,1,0,1,0,0,0.0,0.0,0.0)",
            "(2026-02-01,Сайт,4,1,1,1,2,25.0,33.3,50.0)",
            "(,,1,0,0,0,1,0.0,0.0,)",
        ]
    );

    let campaigns = "select utm_source, utm_campaign, leads, converted, failed, junk, open, \
                     conversion_percent, junk_percent, amount, amount_converted, \
                     first_lead_on, last_lead_on \
                     from bitrix24_report.utm_performance order by 1";
    assert_eq!(
        rows(&database, campaigns).await,
        [
            "(google,,1,0,0,0,1,0.0,0.0,7.00,,,)",
            "(yandex,весна,4,1,1,1,2,25.0,25.0,288.00,90.00,2026-02-01,2026-02-21)",
        ]
    );
}

#[tokio::test]
async fn conversions_take_the_days_that_they_took() {
    let database = in_tokyo().await;
    fill(&database, DICTIONARIES).await;
    // Ten that took one to ten days; closed in February in Tokyo, in January in UTC. Then one
    // that has no closing date, one whose dates are impossible, a failed and a deleted one.
    fill(
        &database,
        "insert into leads (id, status_semantic_id, source_id, date_create, date_closed, moved_time,
            content_hash, synced_at, deleted_at)
         select n, 'S', 'WEB', timestamptz '2026-01-31 20:00Z' - n * interval '1 day',
            '2026-01-31 20:00Z', '2026-01-05Z', 0, now(), null
            from generate_series(1, 10) n;
         insert into leads (id, status_semantic_id, source_id, date_create, date_closed, moved_time,
            content_hash, synced_at, deleted_at) values
            (11, 'S', 'WEB', '2026-02-01Z', null, '2026-02-03Z', 0, now(), null),
            (12, 'S', 'WEB', '2026-02-09Z', '2026-02-08Z', null, 0, now(), null),
            (13, 'F', 'WEB', '2026-02-01Z', '2026-02-02Z', null, 0, now(), null),
            (14, 'S', 'WEB', '2026-02-01Z', '2026-02-02Z', null, 0, now(), now())",
    )
    .await;
    let times = "select month, source, converted, average_days, median_days, \
                 ninety_percent_within_days, fastest_days, slowest_days, untimed \
                 from bitrix24_report.time_to_conversion";
    assert_eq!(rows(&database, times).await, ["(2026-02-01,Сайт,12,5.18,5.00,9.00,1.00,10.00,1)"]);
}

#[tokio::test]
async fn people_are_told_their_open_leads_and_whose_records_nobody_looks_after() {
    let database = in_tokyo().await;
    let leads = "insert into leads (id, status_semantic_id, assigned_by_id, date_create, \
                    last_activity_time, content_hash, synced_at, deleted_at) values \
        (1, 'P', 1, now() - interval '1 day', now(), 0, now(), null), \
        (2, null, 1, now() - interval '8 days', null, 0, now(), null), \
        (3, 'P', 1, now() - interval '99 days', now() - interval '20 days', 0, now(), null), \
        (4, 'S', 1, now() - interval '500 days', null, 0, now(), null), \
        (5, 'F', 2, now() - interval '1 day', null, 0, now(), null), \
        (6, 'P', 77, now() - interval '30 days', null, 0, now(), null), \
        (7, 'P', 1, now(), null, 0, now(), now())";
    fill(&database, leads).await;
    let unattended = "select * from bitrix24_report.records_of_inactive_owners order by 1, 2";
    assert!(rows(&database, unattended).await.is_empty(), "no user is known at all");
    fill(&database, DICTIONARIES).await;
    fill(
        &database,
        "insert into contacts (id, assigned_by_id, content_hash, synced_at, deleted_at) values
            (1, 1, 0, now(), null), (2, 2, 0, now(), null), (3, 3, 0, now(), null),
            (4, 2, 0, now(), now()), (5, null, 0, now(), null), (6, 2, 0, now(), null)",
    )
    .await;

    let per_person = "select * from bitrix24_report.leads_per_responsible";
    assert_eq!(
        rows(&database, per_person).await,
        [
            "(1,Анна,t,3,36.0,99.0,2,1,1,1,1,0,4)",
            "(77,77,,1,30.0,30.0,1,1,0,1,0,0,1)",
            "(2,Иван,f,0,,,0,0,0,0,0,1,1)",
        ]
    );
    assert_eq!(
        rows(&database, unattended).await,
        [
            "(contacts,2,2,Иван,inactive)",
            "(contacts,3,3,Пётр,gone)",
            "(contacts,6,2,Иван,inactive)",
            "(leads,5,2,Иван,inactive)",
            "(leads,6,77,77,unknown)",
        ]
    );
}

#[tokio::test]
async fn contacts_are_counted_by_week_and_those_whom_nobody_can_reach_are_named() {
    let database = in_tokyo().await;
    fill(&database, DICTIONARIES).await;
    // Sunday 2026-03-01 16:00 UTC is Monday in Tokyo.
    fill(
        &database,
        "insert into contacts (id, name, last_name, date_create, has_phone, has_email,
            assigned_by_id, source_id, content_hash, synced_at, deleted_at) values
            (1, 'Анна', 'Ли', '2026-02-23Z', false, false, 1, 'WEB', 0, now(), null),
            (2, 'Иван', null, '2026-03-01 16:00Z', true, false, 2, null, 0, now(), null),
            (3, null, null, '2026-03-01 14:00Z', true, true, 1, null, 0, now(), null),
            (4, 'Пётр', null, '2026-03-20Z', false, true, 1, null, 0, now(), null),
            (5, 'Ольга', null, '2026-03-20Z', false, false, 1, null, 0, now(), now()),
            (6, 'Зоя', null, now() + interval '40 days', null, null, 1, null, 0, now(), null),
            (7, 'Ян', null, '2026-03-20Z', null, null, 99, null, 0, now(), null);
         -- Their values are hashed and excluded.
         insert into contacts (id, has_phone, has_email, content_hash, synced_at) values
            (8, false, true, 0, now()), (9, true, true, 0, now());
         insert into contact_emails (contact_id, id, value) values
            (8, 1, '0e1539078b07a1b2c3d4e5f60718293a'), (9, 1, 'нет');
         insert into contact_phones (contact_id, id, value, e164) values
            (2, 1, 'нет', null), (3, 1, 'нет', null), (6, 1, '112', null);
         insert into contact_emails (contact_id, id, value) values
            (3, 1, 'olga@example.org'), (4, 1, 'уточнить');
         insert into contact_messengers (contact_id, id, value) values (4, 1, '@petr')",
    )
    .await;

    let weeks = "select * from bitrix24_report.new_contacts_per_week order by 1 limit 5";
    assert_eq!(
        rows(&database, weeks).await,
        [
            "(2026-02-23,2,2)",
            "(2026-03-02,1,3)",
            "(2026-03-09,0,3)",
            "(2026-03-16,2,5)",
            "(2026-03-23,0,5)",
        ]
    );
    let last = "select max(week) = date_trunc('week', now() at time zone 'Asia/Tokyo')::date \
                    and sum(new_contacts) = 5 from bitrix24_report.new_contacts_per_week";
    assert_eq!(rows(&database, last).await, ["(t)"]);

    let unreachable = "select contact_id, full_name, assigned_by, source, has_messenger \
                       from bitrix24_report.contacts_without_phone_or_email order by 1";
    assert_eq!(
        rows(&database, unreachable).await,
        ["(1,\"Анна Ли\",Анна,Сайт,f)", "(2,Иван,Иван,,f)", "(4,Пётр,Анна,,t)", "(7,Ян,99,,f)",]
    );
}

#[tokio::test]
async fn who_is_there_twice_is_found_and_who_shares_an_office_is_told_apart() {
    let database = in_tokyo().await;
    // Contact 9 is deleted, as one that was merged into another is. Contact 1 came from lead 1.
    fill(
        &database,
        "insert into contacts (id, content_hash, synced_at, deleted_at)
            select n, 0, now(), case n when 9 then now() end from generate_series(1, 40) n;
         insert into leads (id, contact_id, content_hash, synced_at, deleted_at) values
            (1, 1, 0, now(), null), (2, null, 0, now(), null), (3, 2, 0, now(), null),
            (4, null, 0, now(), null), (5, null, 0, now(), now()), (6, null, 0, now(), null);
         update contacts set name = 'Анна', last_name = 'Ли' where id = 3;
         update contacts set last_name = 'О''Нил' where id in (2, 7);
         update leads set title = 'Заявка \"А\"' where id = 2;
         update leads set name = 'Зоя' where id = 6;
         insert into contact_phones (contact_id, id, value, e164) values
            (1, 1, '8 916 1', '+79160000001'), (1, 2, '+7 916 1', '+79160000001'),
            (2, 1, '', '+79160000002'), (9, 1, '', '+79160000002'),
            (3, 1, '', '+79160000003'), (4, 1, '', '+79160000003'),
            (5, 1, '12-34-567', null), (6, 1, '1234567', null),
            (5, 2, '123', null), (6, 2, '123', null);
         insert into contact_phones (contact_id, id, value, e164)
            select n, 9, '', '+74950000000' from generate_series(20, 32) n;
         insert into lead_phones (lead_id, id, value, e164) values
            (1, 1, '', '+79160000001'), (2, 1, '', '+79160000003'), (4, 1, '', '+74950000000'),
            (3, 1, '', '+79160000002'), (5, 1, '', '+79160000001');
         insert into contact_emails (contact_id, id, value) values
            (1, 1, ' Anna@Example.org'), (2, 1, 'anna@example.ORG '), (3, 1, 'нет'),
            (4, 1, 'нет'), (7, 1, 'zoe@example.org'),
            (10, 1, '0e1539078b07a1b2c3d4e5f60718293a'),
            (11, 1, '0e1539078b07a1b2c3d4e5f60718293a');
         insert into lead_emails (lead_id, id, value) values
            (2, 1, 'anna@example.org'), (6, 1, 'ZOE@example.org'), (5, 1, 'zoe@example.org'),
            (1, 1, 'anna@example.org'), (6, 2, 'anna@example.org')",
    )
    .await;

    let phones = "select * from bitrix24_report.duplicates_by_phone order by 1";
    let office: Vec<String> = (20..=32).map(|id| id.to_string()).collect();
    assert_eq!(
        rows(&database, phones).await,
        [
            format!(
                "(+74950000000,14,13,1,\"{{{all}}}\",{{4}},t,\"{{{all}}}\",{{4}})",
                all = office.join(",")
            ),
            "(+79160000003,3,2,1,\"{3,4}\",{2},f,\"{\"\"Анна Ли\"\",4}\",\
             \"{\"\"Заявка \\\\\"\"А\\\\\"\"\"\"}\")"
                .to_owned(),
            "(1234567,2,2,0,\"{5,6}\",,f,\"{5,6}\",)".to_owned(),
        ]
    );
    let emails = "select * from bitrix24_report.duplicates_by_email order by 1";
    assert_eq!(
        rows(&database, emails).await,
        [
            "(0e1539078b07a1b2c3d4e5f60718293a,2,2,0,\"{10,11}\",,f,\"{10,11}\",)",
            "(anna@example.org,4,2,2,\"{1,2}\",\"{2,6}\",f,\"{1,О'Нил}\",\
             \"{\"\"Заявка \\\\\"\"А\\\\\"\"\"\",Зоя}\")",
            "(zoe@example.org,2,1,1,{7},{6},f,{О'Нил},{Зоя})",
        ]
    );

    let known = "select * from bitrix24_report.leads_linked_to_contacts order by 1";
    assert_eq!(
        rows(&database, known).await,
        [
            "(1,1,\"phone and e-mail\",2,1,t)",
            "(2,1,e-mail,4,,f)",
            "(3,2,phone,1,2,t)",
            "(6,1,e-mail,3,,f)",
        ]
    );
}

#[tokio::test]
async fn dates_that_cannot_be_true_are_named_with_their_problem() {
    let database = in_tokyo().await;
    fill(
        &database,
        "insert into contacts (id, birthdate, date_create, date_modify, content_hash, synced_at,
            deleted_at) values
            (1, '1899-12-31', '2026-01-01Z', '2026-01-02Z', 0, now(), null),
            (2, '2026-01-05', '2026-01-01Z', '2026-01-02Z', 0, now(), null),
            (3, '2026-01-01', '2026-01-01Z', '2025-12-31 15:00Z', 0, now(), null),
            (4, '1990-01-01', now() + interval '3 days', now() + interval '9 days', 0, now(), null),
            (5, '1899-12-31', '2026-01-01Z', '2026-01-02Z', 0, now(), now()),
            (6, '2026-01-02', '2026-01-01Z', '2026-01-01Z', 0, now(), null);
         insert into leads (id, birthdate, date_create, date_modify, date_closed, moved_time,
            content_hash, synced_at) values
            (1, '1800-01-01', '2026-01-03Z', '2026-01-03Z', '2026-01-02Z', '2026-01-01Z', 0, now()),
            (2, null, '2026-01-03Z', '2026-01-03Z', '2026-01-03Z', '2026-01-03Z', 0, now())",
    )
    .await;
    let dates = "select entity, id, field, problem from bitrix24_report.impossible_dates";
    assert_eq!(
        rows(&database, dates).await,
        [
            "(contacts,1,birthdate,\"before 1900\")",
            "(contacts,2,birthdate,\"after the record was created\")",
            "(contacts,3,date_modify,\"before the record was created\")",
            "(contacts,4,date_create,\"in the future\")",
            "(contacts,4,date_modify,\"in the future\")",
            "(leads,1,birthdate,\"before 1900\")",
            "(leads,1,date_closed,\"before the record was created\")",
            "(leads,1,moved_time,\"before the record was created\")",
        ]
    );
    let value = "select value from bitrix24_report.impossible_dates where id = 3";
    assert_eq!(rows(&database, value).await, ["(\"2026-01-01 00:00:00\")"]);
}

#[tokio::test]
async fn freshness_tells_lag_last_change_and_last_verdict_of_each_entity() {
    let database = in_tokyo().await;
    fill(
        &database,
        "insert into contacts (id, date_modify, content_hash, synced_at, deleted_at) values
            (1, '2026-01-01Z', 0, now(), null), (2, '2026-01-02Z', 0, now(), null),
            (3, '2026-01-03Z', 0, now(), now());
         insert into sync_checkpoints (entity, fingerprint, mark, newest, deep_portal_at,
            deep_portal_offset, deep_database_at, deep_fitted, last_portal_at, last_portal_offset,
            last_database_at, asked_at, completed_at)
         values ('contacts', 0, 0, 0, now(), 0, now(), true, now(), 0, now(), now(),
            now() - interval '90 seconds');
         insert into sync_runs (entity, kind, generation, finished_at, verdict, message, updated)
         values ('contacts', 'incremental', 1, '2026-01-02Z', 'complete', null, 3),
            ('contacts', 'sweep', 1, '2026-01-03Z', 'incomplete', 'no', 0),
            ('contacts', 'verify', 1, null, null, null, 0);
         insert into sync_pauses (entity, paused_by) values ('contacts', 'a person');
         insert into sync_quarantine (entity, record_id, field, reason, raw, first_seen, last_seen,
            resolved_at)
         values ('contacts', 1, 'X', 'unreadable_value', '1', now(), now(), null),
            ('contacts', 2, 'X', 'unreadable_value', '1', now(), now(), now());
         insert into sync_health (entity, state, reason)
         values ('contacts', 'waiting', 'the portal is away')",
    )
    .await;
    let fresh = "select entity, lag_seconds between 90 and 900, last_change = '2026-01-02Z', \
                 last_written = '2026-01-02Z', last_run, last_verdict, state, reason, paused, \
                 filling, deletions_known_until, content_checked_since, set_aside \
                 from bitrix24_report.freshness";
    assert_eq!(
        rows(&database, fresh).await,
        [
            "(contacts,t,t,t,sweep,incomplete,waiting,\"the portal is away\",t,f,,,1)",
            "(leads,,,,,,\"never read\",,f,f,,,0)",
        ]
    );
}

#[tokio::test]
async fn deals_are_counted_by_pipeline_outcome_and_company() {
    let database = in_tokyo().await;
    fill(&database, DICTIONARIES).await;
    // Deals 1 to 4 are open, the last of them deleted; 5 to 9 have ended, in Tokyo in February;
    // 10 is a template.
    fill(
        &database,
        "insert into pipelines (entity_type_id, id, name, sort, is_default) values
            (2, 0, 'Продажи', 10, true), (2, 3, 'Аренда', 20, false), (128, 3, 'Чужая', 1, false);
         insert into statuses (directory, code, name, sort) values
            ('DEAL_STAGE', 'NEW', 'Новая', 10), ('DEAL_STAGE_3', 'C3:NEW', 'Запрос', 10),
            ('INDUSTRY', 'IT', 'ИТ', 10);
         insert into companies (id, title, assigned_by_id, industry, is_my_company, content_hash,
            synced_at, deleted_at) values
            (1, 'Ромашка', 1, 'IT', false, 0, now(), null),
            (2, 'Лютик', 2, 'XX', null, 0, now(), null),
            (3, 'Мы', 1, null, true, 0, now(), null),
            (4, 'Ушедшая', 1, null, false, 0, now(), now());
         insert into company_contacts (company_id, contact_id, position) values
            (1, 7, 1), (1, 8, 2);
         insert into deals (id, category_id, stage_id, stage_semantic_id, company_id, currency_id,
            opportunity, probability, assigned_by_id, date_create, moved_time, closedate,
            is_recurring, content_hash, synced_at, deleted_at)
         values
         (1, 0, 'NEW', 'P', 1, 'RUB', 100, 50, 1, now() - interval '4 days',
            now() - interval '1 day', '2020-01-01', false, 0, now(), null),
         (2, 0, 'NEW', 'P', null, 'USD', 2, 10, 1, now() - interval '2 days', null, null, null, 0,
            now(), null),
         (3, 3, 'C3:NEW', 'P', 2, 'XXX', 5, null, 1, now(), null, null, false, 0, now(), null),
         (4, 0, 'NEW', 'P', 1, 'RUB', 100, 50, 1, now(), null, null, false, 0, now(), now()),
         (5, 0, 'WON', 'S', 1, 'USD', 1, null, 1, '2026-01-21 20:00Z', '2026-01-31 20:00Z', null,
            false, 0, now(), null),
         (6, 0, 'WON', 'S', 1, 'RUB', 10, null, 1, '2026-01-29 20:00Z', '2026-01-31 20:00Z', null,
            false, 0, now(), null),
         (7, 0, 'LOSE', 'F', 2, 'RUB', 7, null, 1, '2026-02-01 00:00Z', null, '2026-02-11', false,
            0, now(), null),
         (8, 3, 'C3:WON', 'S', 2, null, null, null, 9, '2026-02-03Z', '2026-02-02Z', null, false,
            0, now(), null),
         (9, 3, 'C3:WON', 'S', 2, 'RUB', 3, null, 9, '2026-02-03Z', '2026-02-04Z', null, false,
            0, now(), now()),
         (10, 0, 'WON', 'S', 1, 'RUB', 999, null, 1, '2026-02-03Z', '2026-02-04Z', null, true, 0,
            now(), null)",
    )
    .await;
    let pipeline = "select pipeline, stage, deals, amount, weighted_amount, currency, \
                    average_age_days, average_days_in_stage, overdue \
                    from bitrix24_report.deal_pipeline order by 1 desc";
    assert_eq!(
        rows(&database, pipeline).await,
        ["(Продажи,Новая,2,280.00,68.00,RUB,3.0,1.5,1)", "(Аренда,Запрос,1,,,RUB,0.0,0.0,0)"]
    );
    let wins = "select month, pipeline, assigned_by, ended, won, lost, win_percent, amount_won, \
                amount_lost from bitrix24_report.deal_win_rate order by 2";
    assert_eq!(
        rows(&database, wins).await,
        ["(2026-02-01,Аренда,9,1,1,0,100.0,,)", "(2026-02-01,Продажи,Анна,3,2,1,66.7,100.00,7.00)"]
    );
    let times = "select pipeline, outcome, deals, average_days, median_days, fastest_days, \
                 slowest_days, untimed from bitrix24_report.deal_cycle_time order by 1, 2";
    assert_eq!(
        rows(&database, times).await,
        [
            "(Аренда,won,1,,,,,1)",
            // The day of its end begins in Tokyo nine hours before it does in Greenwich.
            "(Продажи,lost,1,9.63,9.63,9.63,9.63,0)",
            "(Продажи,won,2,6.00,6.00,2.00,10.00,0)",
        ]
    );
    let companies = "select company, assigned_by, industry, contacts, deals_won, deals_lost, \
                     deals_open, amount_won, amount_open, last_won_on \
                     from bitrix24_report.companies_by_sales";
    assert_eq!(
        rows(&database, companies).await,
        [
            "(Ромашка,Анна,ИТ,2,2,0,1,100.00,100.00,2026-02-01)",
            "(Лютик,Иван,XX,0,1,1,1,,,2026-02-02)",
        ]
    );
}

#[tokio::test]
async fn entries_of_the_address_book_are_linked_to_whoever_holds_their_address() {
    let database = in_tokyo().await;
    // Contact 3, lead 2 and entry 4 are deleted; contact 1 holds its address twice.
    fill(
        &database,
        "insert into contacts (id, name, last_name, assigned_by_id, content_hash, synced_at,
            deleted_at) values
            (1, 'Анна', 'Иванова', 7, 0, now(), null), (2, null, null, null, 0, now(), null),
            (3, 'gone', null, null, 0, now(), now());
         insert into leads (id, title, assigned_by_id, content_hash, synced_at, deleted_at) values
            (1, 'A lead', 8, 0, now(), null), (2, 'gone', null, 0, now(), now());
         insert into contact_emails (contact_id, id, value) values
            (1, 1, ' Anna@Example.org'), (1, 2, 'anna@example.ORG'), (2, 1, 'none'),
            (3, 1, 'anna@example.org'), (2, 2, '0e1539078b07a1b2c3d4e5f60718293a');
         insert into lead_emails (lead_id, id, value) values
            (1, 1, 'ANNA@example.org'), (2, 1, 'anna@example.org');
         insert into mail_recipients (id, email, name, custom_fields, content_hash, synced_at,
            deleted_at) values
            (1, 'Anna@example.org ', 'A.', '{}', 0, now(), null),
            (2, 'none', null, '{}', 0, now(), null),
            (3, '0e1539078b07a1b2c3d4e5f60718293a', null, '{}', 0, now(), null),
            (4, 'anna@example.org', 'gone', '{}', 0, now(), now()),
            (5, 'stranger@example.org', null, '{}', 0, now(), null)",
    )
    .await;
    let linked = "select * from bitrix24_report.mail_recipients_linked order by 1, 4, 6";
    assert_eq!(
        rows(&database, linked).await,
        [
            "(1,anna@example.org,A.,1,\"Анна Иванова\",,,7)",
            "(1,anna@example.org,A.,,,1,\"A lead\",8)",
            "(3,0e1539078b07a1b2c3d4e5f60718293a,,2,,,,)",
        ]
    );
    let all = "select id, email, address, name from bitrix24_report.mail_recipients order by 1";
    assert_eq!(
        rows(&database, all).await,
        [
            "(1,\"Anna@example.org \",anna@example.org,A.)",
            "(2,none,none,)",
            "(3,0e1539078b07a1b2c3d4e5f60718293a,0e1539078b07a1b2c3d4e5f60718293a,)",
            "(5,stranger@example.org,stranger@example.org,)",
        ]
    );
}

#[tokio::test]
async fn records_stay_in_stages_for_as_long_as_they_do() {
    let database = in_tokyo().await;
    // Deal 1 waits 2 days, works 3, waits 4 more and is won; deal 2 waits 6 days and then works,
    // where it still is; deal 3 is in another pipeline; deal 4 and its step are gone; deal 5 is a
    // template. Of two steps in one second the later number is the later step. Invoices have a
    // pipeline of the same ID.
    fill(
        &database,
        "insert into statuses (directory, code, name, sort, semantics) values
            ('DEAL_STAGE', 'NEW', 'Новая', 10, null), ('DEAL_STAGE', 'WORK', 'В работе', 20, null),
            ('DEAL_STAGE', 'WON', 'Успех', 30, 'S'), ('DEAL_STAGE_3', 'C3:NEW', 'Запрос', 10, null),
            ('STATUS', 'NEW', 'Не разобран', 10, null);
         insert into pipelines (entity_type_id, id, name, sort, is_default) values
            (2, 0, 'Продажи', 10, true), (2, 3, 'Аренда', 20, false),
            (31, 3, 'Счета', 10, true);
         insert into deals (id, is_recurring, content_hash, synced_at) values
            (1, false, 0, now()), (2, null, 0, now()), (5, true, 0, now());
         insert into deal_stage_history (id, type_id, deal_id, category_id, stage_id,
            stage_semantic_id, created_time, content_hash, synced_at, deleted_at) values
         (1, 1, 1, 0, 'NEW', 'P', '2026-01-01Z', 0, now(), null),
         (2, 2, 1, 0, 'WORK', 'P', '2026-01-03Z', 0, now(), null),
         (3, 2, 1, 0, 'NEW', 'P', '2026-01-06Z', 0, now(), null),
         (4, 3, 1, 0, 'WON', 'S', '2026-01-10Z', 0, now(), null),
         (5, 1, 2, 0, 'NEW', 'P', '2026-01-01Z', 0, now(), null),
         (6, 2, 2, 0, 'WORK', 'P', '2026-01-07Z', 0, now(), null),
         (7, 1, 3, 3, 'C3:NEW', 'P', '2026-01-01Z', 0, now(), null),
         (8, 2, 3, 3, 'C3:GONE', 'P', '2026-01-01Z', 0, now(), null),
         (9, 1, 4, 0, 'NEW', 'P', '2026-01-01Z', 0, now(), now()),
         (10, 1, 5, 0, 'NEW', 'P', '2026-01-01Z', 0, now(), null);
         insert into smart_invoice_stage_history (id, type_id, smart_invoice_id, category_id,
            stage_id, stage_semantic_id, created_time, content_hash, synced_at) values
         (1, 1, 1, 3, 'DT31_3:N', 'P', '2026-01-01Z', 0, now()),
         (2, 3, 1, 3, 'DT31_3:P', 'S', '2026-01-03Z', 0, now());
         insert into lead_stage_history (id, type_id, lead_id, status_id, status_semantic_id,
            created_time, content_hash, synced_at) values
         (1, 1, 1, 'NEW', 'P', now() - interval '36 hours', 0, now()),
         (2, 3, 2, 'JUNK', 'F', now() - interval '36 hours', 0, now())",
    )
    .await;
    let times = "select record, pipeline, stage, records, stays, still_there, average_days, \
                 median_days, ninety_percent_within_days, slowest_days, total_days, \
                 case record when 'lead' then average_days_of_those_still_there end \
                 from bitrix24_report.time_in_stage";
    assert_eq!(
        rows(&database, times).await,
        [
            "(deal,Продажи,Новая,2,3,0,4.00,4.00,5.60,6.00,12.00,)",
            "(deal,Продажи,\"В работе\",2,2,1,3.00,3.00,3.00,3.00,3.00,)",
            "(deal,Аренда,Запрос,1,1,0,0.00,0.00,0.00,0.00,0.00,)",
            "(deal,Аренда,C3:GONE,1,1,1,,,,,,)",
            "(lead,,\"Не разобран\",1,1,1,,,,,,1.50)",
            "(\"smart invoice\",Счета,DT31_3:N,1,1,0,2.00,2.00,2.00,2.00,2.00,)",
        ]
    );
}

#[tokio::test]
async fn products_are_listed_with_their_records_and_counted_where_these_were_won() {
    let database = in_tokyo().await;
    fill(&database, DICTIONARIES).await;
    // Deals 1 and 2 were won, 3 is open, 4 is deleted, 5 has a currency without a rate. A
    // product without a catalogue is known by its name, and is none of the others.
    fill(
        &database,
        "insert into deals (id, title, stage_semantic_id, currency_id, moved_time, is_recurring,
            content_hash, synced_at, deleted_at) values
         (1, 'Первая', 'S', 'RUB', '2026-01-31 20:00Z', false, 0, now(), null),
         (2, 'Вторая', 'S', 'USD', '2026-02-03 00:00Z', null, 0, now(), null),
         (3, 'Третья', 'P', 'RUB', '2026-02-03 00:00Z', null, 0, now(), null),
         (4, 'Четвёртая', 'S', 'RUB', '2026-02-03 00:00Z', null, 0, now(), now()),
         (5, 'Пятая', 'S', 'XXX', '2026-02-04 00:00Z', null, 0, now(), null);
         insert into deal_product_rows (deal_id, id, fields) values
         (1, 1, '{\"productId\": 7, \"productName\": \"Стол\", \"price\": 100.5, \"quantity\": 2, \"sort\": 10}'),
         (1, 2, '{\"productId\": 0, \"productName\": \"Доставка\", \"price\": \"10\", \"quantity\": 1}'),
         (2, 3, '{\"productId\": 7, \"productName\": \"Стол новый\", \"price\": 1, \"quantity\": 0.5}'),
         (3, 4, '{\"productId\": 7, \"productName\": \"Стол\", \"price\": 5, \"quantity\": 5}'),
         (4, 5, '{\"productId\": 7, \"productName\": \"Стол\", \"price\": 5, \"quantity\": 5}'),
         (5, 6, '{\"productId\": 7, \"productName\": \"Стол X\", \"price\": 5, \"quantity\": 5}'),
         (5, 7, '{\"productId\": null, \"productName\": \"Замер\", \"price\": \"-\", \"quantity\": 1}');
         insert into leads (id, name, last_name, currency_id, content_hash, synced_at) values
         (1, 'Анна', 'К', 'RUB', 0, now());
         insert into lead_product_rows (lead_id, id, fields) values
         (1, 8, '{\"productName\": \"Стол\", \"price\": 3, \"quantity\": 3, \"measureName\": \"шт\"}')",
    )
    .await;
    let revenue = "select product_id, product, deals, quantity, amount, average_price, currency, \
                   first_won_on, last_won_on from bitrix24_report.revenue_by_product";
    assert_eq!(
        rows(&database, revenue).await,
        [
            // 201 roubles and half a dollar's worth at 90; the third deal only counts as one.
            "(7,\"Стол X\",3,7.5,246.00,98.40,RUB,2026-02-01,2026-02-04)",
            "(,Доставка,1,1,10.00,10.00,RUB,2026-02-01,2026-02-01)",
            "(,Замер,1,1,,,RUB,2026-02-04,2026-02-04)",
        ]
    );
    let listed = "select record, record_id, title, product_name, amount, measure_name, currency_id \
                  from bitrix24_report.product_rows order by record, record_id, id";
    assert_eq!(
        rows(&database, listed).await,
        [
            "(deal,1,Первая,Стол,201.00,,RUB)",
            "(deal,1,Первая,Доставка,10.00,,RUB)",
            "(deal,2,Вторая,\"Стол новый\",0.50,,USD)",
            "(deal,3,Третья,Стол,25.00,,RUB)",
            "(deal,5,Пятая,\"Стол X\",25.00,,XXX)",
            "(deal,5,Пятая,Замер,,,XXX)",
            "(lead,1,\"Анна К\",Стол,9.00,шт,RUB)",
        ]
    );
}
