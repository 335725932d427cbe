with held as (
    -- In the order of the index, so that nothing has to be sorted or hashed.
    select * from (
        (select address, contact_id, null::bigint as lead_id
            from {data}.contact_emails where address like '%@%' order by 1)
        union all
        (select address, null, lead_id
            from {data}.lead_emails where address like '%@%' order by 1)
    ) as ordered
    order by address offset 0
),
shared as (
    select address, array_agg(contact_id) filter (where contact_id is not null) as contact_ids,
        array_agg(lead_id) filter (where lead_id is not null) as lead_ids
    from held
    group by address
    having count(*) > 1
),
holders as (
    select distinct s.address, c.id as contact_id, null::bigint as lead_id
    from shared s, unnest(s.contact_ids) as c (id)
    where not exists (
        select from {data}.contacts gone where gone.id = c.id and gone.deleted_at is not null)
    union all
    select distinct s.address, null::bigint, l.id
    from shared s, unnest(s.lead_ids) as l (id)
    left join {data}.leads linked
        on linked.id = l.id and linked.contact_id is not null and linked.deleted_at is null
    where not exists (
            select from {data}.leads gone where gone.id = l.id and gone.deleted_at is not null)
        -- The portal knows already that this lead is that contact.
        and (linked.contact_id = any(s.contact_ids)) is not true
)
select
    address,
    count(*) as records,
    count(contact_id) as contacts,
    count(lead_id) as leads,
    (array_agg(contact_id order by contact_id) filter (where contact_id is not null))[1:20]
        as contact_ids,
    (array_agg(lead_id order by lead_id) filter (where lead_id is not null))[1:20] as lead_ids,
    count(*) > 10 as probably_an_office
from holders
group by address
having count(*) > 1
