with doubtful as (
    select id from {data}.contacts
    where has_phone is not true and has_email is not true and deleted_at is null
    union
    select contact_id from {data}.contact_phones where e164 is null and digits collate "C" = ''
    union
    select contact_id from {data}.contact_phones where e164 is null and digits collate "C" is null
    union
    select contact_id from {data}.contact_emails where address is null or address not like '%@%'
)
select
    c.id as contact_id,
    nullif(concat_ws(' ', c.name, c.second_name, c.last_name), '') as full_name,
    c.assigned_by_id,
    coalesce(u.full_name, c.assigned_by_id::text) as assigned_by,
    c.source_id,
    coalesce(source.name, c.source_id) as source,
    c.date_create,
    exists (select from {data}.contact_messengers m where m.contact_id = c.id) as has_messenger
from doubtful d
join {data}.contacts c on c.id = d.id and c.deleted_at is null
left join {data}.users u on u.id = c.assigned_by_id
left join {data}.statuses source on source.directory = 'SOURCE' and source.code = c.source_id
where not exists (
        select from {data}.contact_phones p where p.contact_id = c.id and p.digits <> '')
    and not exists (
        select from {data}.contact_emails e where e.contact_id = c.id and e.address like '%@%')
