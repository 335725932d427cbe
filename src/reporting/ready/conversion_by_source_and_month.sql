with counted as (
    select (date_trunc('month', l.date_create at time zone {zone}))::date as month,
        l.source_id,
        count(*) as leads,
        count(*) filter (where l.status_semantic_id = 'S') as converted,
        count(*) filter (where l.status_semantic_id = 'F') as failed,
        count(*) filter (where l.status_id = 'JUNK') as junk
    from {data}.leads l
    where l.deleted_at is null
    group by 1, 2
)
select
    c.month,
    c.source_id,
    coalesce(source.name, c.source_id) as source,
    c.leads,
    c.converted,
    c.failed,
    c.junk,
    c.leads - c.converted - c.failed as open,
    round(100.0 * c.converted / c.leads, 1) as conversion_percent,
    round(100.0 * c.converted / nullif(c.leads - c.junk, 0), 1) as conversion_percent_without_junk,
    round(100.0 * c.converted / nullif(c.converted + c.failed, 0), 1) as conversion_percent_of_closed
from counted c
left join {data}.statuses source on source.directory = 'SOURCE' and source.code = c.source_id
order by c.month, c.leads desc
