with by_phone as (
    select e164, array_agg(contact_id) as contact_ids
    from {data}.contact_phones c
    where e164 is not null
        and exists (select from {data}.lead_phones l where l.e164 = c.e164)
    group by e164
    having count(*) <= 10
),
by_email as (
    select address, array_agg(contact_id) as contact_ids
    from {data}.contact_emails c
    where address like '%@%'
        and exists (select from {data}.lead_emails l where l.address = c.address)
    group by address
    having count(*) <= 10
),
matches as (
    select l.lead_id, c.id as contact_id, 1 as phones, 0 as emails
    from by_phone m
    join {data}.lead_phones l on l.e164 = m.e164, unnest(m.contact_ids) as c (id)
    union all
    select l.lead_id, c.id, 0, 1
    from by_email m
    join {data}.lead_emails l on l.address = m.address, unnest(m.contact_ids) as c (id)
),
-- Few, and known to be: the planner would look each of the others up.
gone_contacts as materialized (select id from {data}.contacts where deleted_at is not null),
gone_leads as materialized (select id from {data}.leads where deleted_at is not null),
linked as materialized (
    select id, contact_id from {data}.leads where contact_id is not null and deleted_at is null
),
pairs as (
    select m.lead_id, m.contact_id, max(m.phones) as phones, max(m.emails) as emails
    from matches m
    where not exists (select from gone_contacts gone where gone.id = m.contact_id)
        and not exists (select from gone_leads gone where gone.id = m.lead_id)
    group by m.lead_id, m.contact_id
),
best as (
    select distinct on (lead_id) lead_id, contact_id, phones, emails,
        count(*) over (partition by lead_id) as contacts
    from pairs
    order by lead_id, phones + emails desc, contact_id
)
select
    b.lead_id,
    b.contact_id,
    case when b.phones + b.emails = 2 then 'phone and e-mail'
        when b.phones = 1 then 'phone' else 'e-mail' end as matched_by,
    b.contacts,
    linked.contact_id as contact_in_portal,
    linked.contact_id is not null as linked_in_portal
from best b
left join linked on linked.id = b.lead_id
