with counted as (
    select (date_trunc('month', coalesce(a.start_time, a.created) at time zone {zone}))::date
            as month,
        a.responsible_id, a.type_id, a.direction,
        count(*) as activities,
        count(*) filter (where a.completed) as completed,
        count(*) filter (where a.completed is not true and a.deadline < now()) as overdue
    from {data}.activities a
    where a.deleted_at is null
    group by 1, 2, 3, 4
)
select
    c.month,
    c.responsible_id,
    coalesce(u.full_name, c.responsible_id::text) as responsible,
    case c.type_id when 1 then 'meeting' when 2 then 'call' when 3 then 'task' when 4 then 'e-mail'
        when 5 then 'event' when 6 then 'other' end as type,
    case c.direction when 1 then 'incoming' when 2 then 'outgoing' end as direction,
    c.activities,
    c.completed,
    c.overdue
from counted c
left join {data}.users u on u.id = c.responsible_id
order by c.month, c.activities desc
