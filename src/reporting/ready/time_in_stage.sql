with steps as (
    select 'lead' as record, 1 as kind, lead_id as id, null::bigint as category_id,
        status_id as stage_id, status_semantic_id as semantics, created_time, id as step
    from {data}.lead_stage_history where deleted_at is null
    union all
    select 'deal', 2, deal_id, category_id, stage_id, stage_semantic_id, created_time, id
    from {data}.deal_stage_history
    where deleted_at is null
        and not exists (select from {data}.deals d where d.id = deal_id and d.is_recurring)
    union all
    select 'smart invoice', 31, smart_invoice_id, category_id, stage_id, stage_semantic_id,
        created_time, id
    from {data}.smart_invoice_stage_history where deleted_at is null
),
stays as (
    select record, kind, id, category_id, stage_id, semantics, created_time as came,
        lead(created_time) over (partition by record, id order by created_time, step) as went
    from steps
),
-- Nobody leaves a final stage, so how long a record has been in one says nothing.
timed as (
    select record, kind, id, category_id, stage_id, went is null as stays,
        extract(epoch from coalesce(went, now()) - came)::float8 / 86400 as days
    from stays
    where semantics is distinct from 'S' and semantics is distinct from 'F'
),
counted as (
    select record, kind, category_id, stage_id, count(distinct id) as records, count(*) as stays,
        count(*) filter (where stays) as still_there,
        sum(days) filter (where not stays) as total,
        avg(days) filter (where not stays) as average,
        max(days) filter (where not stays) as slowest,
        avg(days) filter (where stays) as waiting,
        percentile_cont(array[0.5, 0.9]) within group (order by days)
            filter (where not stays) as percentiles
    from timed
    group by record, kind, category_id, stage_id
)
select
    c.record,
    c.category_id,
    coalesce(p.name, c.category_id::text) as pipeline,
    c.stage_id,
    coalesce(s.name, c.stage_id) as stage,
    s.sort as stage_order,
    c.records,
    c.stays,
    c.still_there,
    round(c.average::numeric, 2) as average_days,
    round(c.percentiles[1]::numeric, 2) as median_days,
    round(c.percentiles[2]::numeric, 2) as ninety_percent_within_days,
    round(c.slowest::numeric, 2) as slowest_days,
    round(c.total::numeric, 2) as total_days,
    round(c.waiting::numeric, 2) as average_days_of_those_still_there
from counted c
left join {data}.pipelines p on p.entity_type_id = c.kind and p.id = c.category_id
left join lateral (
    select min(one.name) as name, min(one.sort) as sort
    from {data}.statuses one
    where one.code = c.stage_id and case c.record
        when 'lead' then one.directory = 'STATUS'
        when 'deal' then one.directory like 'DEAL\_STAGE%'
        else one.directory like 'SMART\_INVOICE\_STAGE%' end
) s on true
order by c.record, p.sort, c.category_id, s.sort, c.stage_id
