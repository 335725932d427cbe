-- A portal of {contacts} contacts and {leads} leads as a sales department leaves it behind in
-- six years: most numbers are one person's, some are typed in twice, a few are an office's.

select setseed(0.24);

insert into portal (host, user_id, time_zone, country)
values ('bench.example', 1, 'Europe/Moscow', 'RU');

insert into users (id, full_name, active)
select n, 'Сотрудник ' || n, n % 20 <> 0 from generate_series(1, 200) n;

insert into statuses (directory, code, name, sort, semantics)
select 'STATUS', code, name, sort, semantics from (values
    ('NEW', 'Не обработан', 10, null), ('IN_PROCESS', 'В работе', 20, null),
    ('PROCESSED', 'Обработан', 30, null), ('UC_4F2', 'Ждёт документы', 40, null),
    ('CONVERTED', 'Качественный лид', 50, 'S'), ('JUNK', 'Некачественный лид', 60, 'F'),
    ('UC_7A1', 'Отложен', 70, 'F')) as s (code, name, sort, semantics)
union all
select 'SOURCE', 'S' || n, 'Источник ' || n, n, null from generate_series(1, 15) n;

insert into currencies (code, name, rate, rate_amount, base)
values ('RUB', 'Рубль', 1, 1, true), ('USD', 'Доллар', 92.5, 1, false), ('EUR', 'Евро', 99, 1, false);

insert into contacts (id, name, second_name, last_name, birthdate, type_id, source_id,
    source_description, post, comments, opened, export, has_phone, has_email, has_imol,
    assigned_by_id, created_by_id, modify_by_id, date_create, date_modify, company_id,
    utm_source, utm_medium, last_activity_time, last_activity_by, custom_fields, content_hash,
    synced_at, deleted_at)
select n * 3,
    (array['Анна', 'Иван', 'Пётр', 'Мария', 'Ольга', 'Дмитрий'])[1 + n % 6],
    case when n % 3 = 0 then 'Петрович' end,
    'Фамилия' || n % 90000,
    case when r < 0.4 then date '1950-01-01' + (r * 50000)::int end,
    'CLIENT', 'S' || 1 + n % 15,
    case when n % 4 = 0 then 'Пришёл с выставки, просил перезвонить после праздников' end,
    case when n % 5 = 0 then 'Менеджер по закупкам' end,
    case when n % 3 = 0 then repeat('Обсудили условия. ', 8) end,
    true, true, n % 20 > 0, n % 20 > 8, false,
    case when r < 0.01 then 900 + n % 7 else 1 + n % 200 end, 1 + n % 200, 1 + n % 200,
    made, made + r * (now() - made) * 0.9, case when n % 2 = 0 then n % 40000 end,
    case when n % 4 = 0 then 'yandex' end, case when n % 4 = 0 then 'cpc' end,
    made + r * (now() - made), 1 + n % 200,
    jsonb_build_object('UF_CRM_1', n::text, 'UF_CRM_2', repeat('значение ', 5), 'UF_CRM_3', r,
        'UF_CRM_4', jsonb_build_array(n % 9, n % 11), 'UF_CRM_5', made,
        'UF_CRM_1704817278', repeat('текст пользовательского поля ', 6)),
    n, now() - interval '1 hour', case when n % 50 = 7 then now() - interval '1 day' end
from (select n, random() as r, now() - random() * interval '2190 days' as made
      from generate_series(1, {contacts}) n) as seed;

-- What dates no record can have.
update contacts set birthdate = date '1855-01-01' where id % 30000 = 0;
update contacts set date_create = now() + interval '10 days' where id % 90000 = 3;
update contacts set date_modify = date_create - interval '1 day' where id % 60000 = 6;

insert into contact_phones (contact_id, id, value, value_type, e164)
select id, id * 4 + k, case when number is null then 'доб. ' || id % 90
        when id % 2 = 0 then number else '8' || substr(number, 3) end, 'WORK', number
from (select c.id, k, case
          when d < 0.004 then '+7495' || (1000000 + (d * 5000)::int)
          when d < 0.05 then '+7916' || (1000000 + (random() * {contacts} / 50)::int)
          when d > 0.99 then null
          else '+7' || 9200000000 + c.id * 2 + k end as number
      from contacts c, generate_series(0, 1) k, lateral (select random() + 0 * c.id * k as d) as d
      where has_phone and (k = 0 or c.id % 7 = 0)) as phones;

insert into contact_emails (contact_id, id, value, value_type)
select id, id * 4, case
        when d < 0.003 then 'info' || (d * 5000)::int || '@example.com'
        when d < 0.04 then 'client' || (random() * {contacts} / 50)::int || '@example.org'
        when d > 0.995 then 'нет'
        else 'Person' || id || '@example' || id % 900 || '.com' end, 'WORK'
from contacts, lateral (select random() + 0 * id as d) as d where has_email;

insert into leads (id, title, name, last_name, source_id, status_id, status_semantic_id,
    source_description, currency_id, opportunity, comments, opened, has_phone, has_email,
    assigned_by_id, created_by_id, date_create, date_modify, moved_time, date_closed, contact_id,
    utm_source, utm_medium, utm_campaign, last_activity_time, custom_fields, content_hash,
    synced_at, deleted_at)
select n * 2, 'Заявка с сайта №' || n,
    (array['Анна', 'Иван', 'Пётр', 'Мария', 'Ольга'])[1 + n % 5], 'Фамилия' || n % 90000,
    'S' || 1 + n % 15,
    (array['NEW', 'IN_PROCESS', 'PROCESSED', 'UC_4F2', 'JUNK', 'UC_7A1', 'JUNK', 'CONVERTED',
        'CONVERTED', 'CONVERTED'])[1 + stage],
    (array['P', 'P', 'P', 'P', 'F', 'F', 'F', 'S', 'S', 'S'])[1 + stage],
    case when n % 4 = 0 then 'Форма обратной связи' end,
    (array['RUB', 'RUB', 'USD', 'EUR'])[1 + n % 4], round((r * 90000)::numeric, 2),
    case when n % 3 = 0 then repeat('Просит прислать расчёт. ', 6) end, true, true, n % 2 = 0,
    case when r < 0.01 then 900 + n % 7 else 1 + n % 200 end, 1, made,
    made + r * (now() - made), made + r * (now() - made) * 0.5,
    case when stage > 3 then made + r * interval '60 days' end,
    case when stage > 6 and r < 0.9 then 3 * (1 + (r * ({contacts} - 1))::int) end,
    case when n % 5 < 3 then 'yandex' end, case when n % 5 < 3 then 'cpc' end,
    case when n % 5 < 3 then 'campaign-' || n % 120 end, made + r * (now() - made),
    jsonb_build_object('UF_CRM_1', n::text, 'UF_CRM_2', repeat('значение ', 5), 'UF_CRM_5', made,
        'UF_CRM_1704817278', repeat('текст пользовательского поля ', 6)),
    n, now() - interval '1 hour', case when n % 60 = 7 then now() - interval '1 day' end
from (select n, random() as r, (random() * 9.99)::int % 10 as stage,
          now() - random() * interval '1500 days' as made
      from generate_series(1, {leads}) n) as seed;

insert into lead_phones (lead_id, id, value, value_type, e164)
select id, id * 4, number, 'WORK', number
from (select id, case
          when contact_id is not null then coalesce((select e164 from contact_phones p
              where p.contact_id = l.contact_id order by p.id limit 1), '+7930' || 1000000 + id)
          when id % 5 = 0 then '+7' || 9200000000 + 6 * (id % {contacts})
          when id % 77 = 0 then '+7495' || 1000000 + id % 20
          else '+7930' || 1000000 + id end as number
      from leads l) as phones;

insert into lead_emails (lead_id, id, value, value_type)
select id, id * 4, case when id % 6 = 0
        then 'person' || 3 * (id % {contacts}) || '@example' || 3 * (id % {contacts}) % 900 || '.com'
        else 'lead' || id || '@example.net' end, 'WORK'
from leads where has_email;

-- A third of the address book are contacts, and a tenth leads.
insert into mail_recipients (id, email, name, custom_fields, content_hash, synced_at)
select n, case when n % 3 = 0 then (select value from contact_emails e where e.contact_id >= n
              order by e.contact_id limit 1)
          when n % 10 = 1 then 'lead' || n || '@example.net'
          else 'recipient' || n || '@example.org' end,
    'Recipient ' || n, '{}', n, now() - interval '1 hour'
from generate_series(1, 20000) n;

insert into sync_checkpoints (entity, fingerprint, mark, newest, deep_portal_at, deep_portal_offset,
    deep_database_at, deep_fitted, last_portal_at, last_portal_offset, last_database_at, asked_at,
    completed_at)
select entity, 0, 0, 0, now(), 0, now(), true, now(), 0, now(), now(), now()
from unnest(array['contacts', 'leads']) entity;

insert into sync_runs (entity, kind, generation, started_at, finished_at, verdict, updated)
select entity, 'incremental', 1, now() - n * interval '1 minute', now() - n * interval '1 minute',
    'complete', n % 3
from unnest(array['contacts', 'leads']) entity, generate_series(1, 5000) n;

insert into pipelines (entity_type_id, id, name, sort, is_default) values
    (2, 0, 'Продажи', 10, true), (2, 3, 'Аренда', 20, false);

insert into companies (id, title, assigned_by_id, industry, date_create, date_modify, content_hash,
    synced_at, deleted_at)
select n, 'ООО «Фирма ' || n || '»', 1 + n % 200, 'I' || n % 12, now(), now(), n, now(),
    case when n % 90 = 3 then now() end
from generate_series(1, {contacts} / 10) n;

insert into company_contacts (company_id, contact_id, position)
select id, id * 3 + k, k + 1 from companies, generate_series(0, 1) k;

insert into deals (id, title, category_id, stage_id, stage_semantic_id, company_id, currency_id,
    opportunity, probability, assigned_by_id, date_create, date_modify, moved_time, closedate,
    content_hash, synced_at, deleted_at)
select n, 'Сделка №' || n, (n % 2) * 3, case when n % 2 = 1 then 'C3:' else '' end
        || (array['NEW', 'PREPARATION', 'WON', 'LOSE'])[1 + n % 4],
    (array['P', 'P', 'S', 'F'])[1 + n % 4], 1 + n % ({contacts} / 10),
    (array['RUB', 'RUB', 'USD', 'EUR'])[1 + n % 4], n % 90000, n % 100, 1 + n % 200,
    made, made + interval '3 days', made + n % 60 * interval '1 day', made::date + 30, n, now(),
    case when n % 60 = 7 then now() end
from (select n, now() - random() * interval '1500 days' as made
      from generate_series(1, {leads}) n) as seed;
