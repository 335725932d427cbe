with counted as (
    select l.assigned_by_id,
        count(*) as leads,
        count(*) filter (where l.status_semantic_id = 'S') as converted,
        count(*) filter (where l.status_semantic_id = 'F') as failed,
        count(*) filter (where open) as open,
        avg(age) filter (where open) as average_age,
        max(age) filter (where open) as oldest,
        count(*) filter (where open and age >= 7) as open_over_7_days,
        count(*) filter (where open and age >= 30) as open_over_30_days,
        count(*) filter (where open and age >= 90) as open_over_90_days,
        count(*) filter (where open
            and coalesce(l.last_activity_time, l.date_create) < now() - interval '14 days') as idle
    from {data}.leads l,
        lateral (select coalesce(l.status_semantic_id, 'P') not in ('S', 'F') as open,
            extract(epoch from now() - l.date_create)::float8 / 86400 as age) as of
    where l.deleted_at is null
    group by l.assigned_by_id
)
select
    c.assigned_by_id,
    coalesce(u.full_name, c.assigned_by_id::text) as assigned_by,
    case when u.id is not null then u.active and u.gone_since is null end as active,
    c.open as open_leads,
    round(c.average_age::numeric, 1) as average_age_days,
    round(c.oldest::numeric, 1) as oldest_age_days,
    c.open_over_7_days,
    c.open_over_30_days,
    c.open_over_90_days,
    c.idle as open_idle_for_14_days,
    c.converted,
    c.failed,
    c.leads
from counted c
left join {data}.users u on u.id = c.assigned_by_id
order by c.open desc, c.assigned_by_id
