with ended as (
    select d.category_id, d.stage_semantic_id = 'S' as won,
        coalesce((date_trunc('month', d.moved_time at time zone {zone}))::date,
            (date_trunc('month', d.closedate))::date) as month,
        -- The stage was changed last when the deal ended; without that, the day of its end.
        coalesce(d.moved_time, d.closedate::timestamp at time zone {zone}) as at,
        d.date_create
    from {data}.deals d
    where d.deleted_at is null and d.stage_semantic_id in ('S', 'F')
        and d.is_recurring is not true
),
timed as (
    select month, category_id, won,
        case when at >= date_create then extract(epoch from at - date_create)::float8 / 86400
            end as days
    from ended
),
counted as (
    select month, category_id, won, count(*) as deals, count(*) - count(days) as untimed,
        avg(days) as average, min(days) as fastest, max(days) as slowest,
        percentile_cont(array[0.5, 0.9]) within group (order by days) as percentiles
    from timed
    group by month, category_id, won
)
select
    c.month,
    c.category_id,
    coalesce(p.name, c.category_id::text) as pipeline,
    case when c.won then 'won' else 'lost' end as outcome,
    c.deals,
    round(c.average::numeric, 2) as average_days,
    round(c.percentiles[1]::numeric, 2) as median_days,
    round(c.percentiles[2]::numeric, 2) as ninety_percent_within_days,
    round(c.fastest::numeric, 2) as fastest_days,
    round(c.slowest::numeric, 2) as slowest_days,
    c.untimed
from counted c
left join {data}.pipelines p on p.entity_type_id = 2 and p.id = c.category_id
order by c.month, p.sort, c.category_id, c.won desc
