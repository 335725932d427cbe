with rates as (
    select code, case when base then 1 else rate / nullif(rate_amount, 0) end as rate
    from {data}.currencies
),
ended as (
    select d.category_id, d.assigned_by_id, d.stage_semantic_id = 'S' as won,
        coalesce((date_trunc('month', d.moved_time at time zone {zone}))::date,
            (date_trunc('month', d.closedate))::date) as month,
        d.opportunity * r.rate as amount
    from {data}.deals d
    left join rates r on r.code = d.currency_id
    where d.deleted_at is null and d.stage_semantic_id in ('S', 'F')
        and d.is_recurring is not true
),
counted as (
    select month, category_id, assigned_by_id, count(*) as ended,
        count(*) filter (where won) as won, sum(amount) filter (where won) as amount_won,
        sum(amount) filter (where not won) as amount_lost
    from ended
    group by month, category_id, assigned_by_id
)
select
    c.month,
    c.category_id,
    coalesce(p.name, c.category_id::text) as pipeline,
    c.assigned_by_id,
    coalesce(u.full_name, c.assigned_by_id::text) as assigned_by,
    c.ended,
    c.won,
    c.ended - c.won as lost,
    round(100.0 * c.won / c.ended, 1) as win_percent,
    round(c.amount_won, 2) as amount_won,
    round(c.amount_lost, 2) as amount_lost,
    (select code from {data}.currencies where base order by code limit 1) as currency
from counted c
left join {data}.pipelines p on p.entity_type_id = 2 and p.id = c.category_id
left join {data}.users u on u.id = c.assigned_by_id
order by c.month, p.sort, c.category_id, c.ended desc
