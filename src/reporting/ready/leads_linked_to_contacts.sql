-- Contacts and leads are read side by side in the order of their indexes, which passes over what
-- only one of the two holds faster than a hash could. The planner would rather hash addresses.
with contact_addresses as (
    select address, contact_id
    from {data}.contact_emails where (address like '%@%' or address ~ '^[0-9a-f]{32}$') order by address offset 0
),
lead_addresses as not materialized (
    select address, lead_id
    from {data}.lead_emails where (address like '%@%' or address ~ '^[0-9a-f]{32}$') order by address offset 0
),
lead_numbers as not materialized (
    select e164, lead_id from {data}.lead_phones where e164 is not null order by e164 offset 0
),
-- The contacts are counted before they meet the leads: what thousands of both share would be
-- millions of matches.
phones as (
    select e164, contact_id, count(*) over (partition by e164) as contacts
    from {data}.contact_phones c
    where e164 is not null and exists (select from lead_numbers l where l.e164 = c.e164)
),
emails as (
    select address, contact_id, count(*) over (partition by address) as contacts
    from contact_addresses c
    where exists (select from lead_addresses l where l.address = c.address)
),
matches as (
    select l.lead_id, p.contact_id, 1 as phones, 0 as emails
    from phones p
    join lead_numbers l on l.e164 = p.e164
    where p.contacts <= 10
    union all
    select l.lead_id, e.contact_id, 0, 1
    from emails e
    join lead_addresses l on l.address = e.address
    where e.contacts <= 10
),
-- Few, and known to be: the planner would look each of the others up.
gone_contacts as materialized (select id from {data}.contacts where deleted_at is not null),
gone_leads as materialized (select id from {data}.leads where deleted_at is not null),
linked as materialized (
    select id, contact_id from {data}.leads where contact_id is not null and deleted_at is null
),
-- Sorted once for both of the groupings that follow.
living as (
    select lead_id, contact_id, phones, emails
    from matches m
    where not exists (select from gone_contacts gone where gone.id = m.contact_id)
        and not exists (select from gone_leads gone where gone.id = m.lead_id)
    order by lead_id, contact_id offset 0
),
pairs as (
    select lead_id, contact_id, max(phones) = 1 as by_phone, max(emails) = 1 as by_email
    from living
    group by lead_id, contact_id
),
best as (
    select lead_id, count(*) as contacts,
        min(contact_id) filter (where by_phone and by_email) as by_both,
        min(contact_id) filter (where by_phone) as by_phone,
        min(contact_id) filter (where by_email) as by_email
    from pairs
    group by lead_id
)
select
    b.lead_id,
    coalesce(b.by_both, least(b.by_phone, b.by_email)) as contact_id,
    case when b.by_both is not null then 'phone and e-mail'
        when b.by_email is null or b.by_phone < b.by_email then 'phone'
        else 'e-mail' end as matched_by,
    b.contacts,
    linked.contact_id as contact_in_portal,
    linked.contact_id is not null as linked_in_portal
from best b
left join linked on linked.id = b.lead_id
