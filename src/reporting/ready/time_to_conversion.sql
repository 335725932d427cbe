with converted as (
    select l.source_id, coalesce(l.date_closed, l.moved_time) as at, l.date_create
    from {data}.leads l
    where l.deleted_at is null and l.status_semantic_id = 'S'
),
timed as (
    select (date_trunc('month', at at time zone {zone}))::date as month, source_id,
        case when at >= date_create then extract(epoch from at - date_create)::float8 / 86400 end as days
    from converted
),
counted as (
    select month, source_id, count(*) as converted, count(*) - count(days) as untimed,
        avg(days) as average, min(days) as fastest, max(days) as slowest,
        percentile_cont(array[0.5, 0.9]) within group (order by days) as percentiles
    from timed
    group by month, source_id
)
select
    c.month,
    c.source_id,
    coalesce(source.name, c.source_id) as source,
    c.converted,
    round(c.average::numeric, 2) as average_days,
    round(c.percentiles[1]::numeric, 2) as median_days,
    round(c.percentiles[2]::numeric, 2) as ninety_percent_within_days,
    round(c.fastest::numeric, 2) as fastest_days,
    round(c.slowest::numeric, 2) as slowest_days,
    c.untimed
from counted c
left join {data}.statuses source on source.directory = 'SOURCE' and source.code = c.source_id
order by c.month, c.converted desc
