with rates as (
    select code, case when base then 1 else rate / nullif(rate_amount, 0) end as rate
    from {data}.currencies
),
counted as (
    select d.category_id, d.stage_id, count(*) as deals, sum(d.opportunity * r.rate) as amount,
        sum(d.opportunity * r.rate * d.probability / 100) as weighted_amount,
        avg(extract(epoch from now() - d.date_create)) / 86400 as age,
        avg(extract(epoch from now() - coalesce(d.moved_time, d.date_create))) / 86400 as in_stage,
        count(*) filter (where d.closedate < (now() at time zone {zone})::date) as overdue
    from {data}.deals d
    left join rates r on r.code = d.currency_id
    where d.deleted_at is null and d.stage_semantic_id = 'P' and d.is_recurring is not true
    group by d.category_id, d.stage_id
)
select
    c.category_id,
    coalesce(p.name, c.category_id::text) as pipeline,
    c.stage_id,
    coalesce(stage.name, c.stage_id) as stage,
    stage.sort as stage_order,
    c.deals,
    round(c.amount, 2) as amount,
    round(c.weighted_amount, 2) as weighted_amount,
    (select code from {data}.currencies where base order by code limit 1) as currency,
    round(c.age, 1) as average_age_days,
    round(c.in_stage, 1) as average_days_in_stage,
    c.overdue
from counted c
left join {data}.pipelines p on p.entity_type_id = 2 and p.id = c.category_id
left join {data}.statuses stage on stage.code = c.stage_id
    and stage.directory = case when c.category_id = 0 then 'DEAL_STAGE'
        else 'DEAL_STAGE_' || c.category_id end
order by p.sort, c.category_id, stage.sort, c.stage_id
