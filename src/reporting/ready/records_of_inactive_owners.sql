with recursive
-- Every owner once: from one to the next in the index, however many records each has.
contact_owners as (
    (select assigned_by_id as id from {data}.contacts
        where deleted_at is null and assigned_by_id is not null
        order by assigned_by_id limit 1)
    union all
    select (select assigned_by_id from {data}.contacts
        where deleted_at is null and assigned_by_id > o.id order by assigned_by_id limit 1)
    from contact_owners o where o.id is not null
),
lead_owners as (
    (select assigned_by_id as id from {data}.leads
        where deleted_at is null and assigned_by_id is not null
        order by assigned_by_id limit 1)
    union all
    select (select assigned_by_id from {data}.leads
        where deleted_at is null and assigned_by_id > o.id order by assigned_by_id limit 1)
    from lead_owners o where o.id is not null
),
away as (
    select o.id, u.full_name,
        case when u.id is null then 'unknown'
            when u.gone_since is not null then 'gone' else 'inactive' end as why
    from (select id from contact_owners union select id from lead_owners) as o
    left join {data}.users u on u.id = o.id
    where o.id is not null and (u.id is null or not u.active or u.gone_since is not null)
        -- Where no user could be read, nothing is known about any.
        and exists (select from {data}.users)
)
select
    'contacts' as entity,
    c.id,
    a.id as assigned_by_id,
    coalesce(a.full_name, a.id::text) as assigned_by,
    a.why
from away a
join {data}.contacts c on c.assigned_by_id = a.id and c.deleted_at is null
union all
select 'leads', l.id, a.id, coalesce(a.full_name, a.id::text), a.why
from away a
join {data}.leads l on l.assigned_by_id = a.id and l.deleted_at is null
