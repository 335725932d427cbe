with recipients as (
    -- Where addresses are stored as their hashes, equal ones still are.
    select id, address, name
    from {data}.mail_recipients
    where deleted_at is null and (address like '%@%' or address ~ '^[0-9a-f]{32}$')
),
-- A contact or a lead may hold one address twice.
holders as (
    select distinct r.id, e.contact_id, null::bigint as lead_id
    from recipients r
    join {data}.contact_emails e on e.address = r.address
    union all
    select distinct r.id, null::bigint, e.lead_id
    from recipients r
    join {data}.lead_emails e on e.address = r.address
)
select
    r.id as recipient_id,
    r.address,
    r.name as recipient,
    h.contact_id,
    nullif(concat_ws(' ', c.name, c.second_name, c.last_name), '') as contact,
    h.lead_id,
    l.title as lead,
    coalesce(c.assigned_by_id, l.assigned_by_id) as assigned_by_id
from holders h
join recipients r on r.id = h.id
left join {data}.contacts c on c.id = h.contact_id
left join {data}.leads l on l.id = h.lead_id
where (h.contact_id is null or c.deleted_at is null)
    and (h.lead_id is null or l.deleted_at is null)
