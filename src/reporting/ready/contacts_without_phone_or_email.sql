with unusable as (
    select contact_id from {data}.contact_phones
        where e164 is null and (value ~ '^[0-9a-f]{32}$') is not true and digits collate "C" = ''
    union
    select contact_id from {data}.contact_phones
        where e164 is null and (value ~ '^[0-9a-f]{32}$') is not true and digits collate "C" is null
    union
    select contact_id from {data}.contact_emails
        where address is null or address not like '%@%' and address !~ '^[0-9a-f]{32}$'
),
candidates as (
    select id, name, second_name, last_name, assigned_by_id, source_id, date_create,
        has_phone, has_email
    from {data}.contacts
    where has_phone is not true and has_email is not true and deleted_at is null
    union all
    select c.id, c.name, c.second_name, c.last_name, c.assigned_by_id, c.source_id, c.date_create,
        c.has_phone, c.has_email
    from unusable u
    join {data}.contacts c on c.id = u.contact_id
    where c.deleted_at is null and (c.has_phone or c.has_email)
)
select
    c.id as contact_id,
    nullif(concat_ws(' ', c.name, c.second_name, c.last_name), '') as full_name,
    c.assigned_by_id,
    coalesce(u.full_name, c.assigned_by_id::text) as assigned_by,
    c.source_id,
    coalesce(source.name, c.source_id) as source,
    c.date_create,
    (select m.id from {data}.contact_messengers m where m.contact_id = c.id limit 1) is not null
        as has_messenger
from candidates c
left join {data}.users u on u.id = c.assigned_by_id
left join {data}.statuses source on source.directory = 'SOURCE' and source.code = c.source_id
where
    -- Where the portal itself says that there is none, nobody has to look; where it says that
    -- there are some and the mirror has none, they are kept out by exclude_fields. Asked for one
    -- value of one contact, because the server would otherwise gather all values of all contacts.
    (c.has_phone is false or (
            select p.id from {data}.contact_phones p
            where p.contact_id = c.id and p.digits <> '' limit 1) is null
        and (c.has_phone is null or (
            select p.id from {data}.contact_phones p
            where p.contact_id = c.id limit 1) is not null))
    and (c.has_email is false or (
            -- An address, or the hash of one.
            select e.id from {data}.contact_emails e
            where e.contact_id = c.id
                and (e.address like '%@%' or e.address ~ '^[0-9a-f]{32}$') limit 1) is null
        and (c.has_email is null or (
            select e.id from {data}.contact_emails e
            where e.contact_id = c.id limit 1) is not null))
