with rates as (
    select code, case when base then 1 else rate / nullif(rate_amount, 0) end as rate
    from {data}.currencies
),
counted as (
    select l.status_id, l.source_id, l.status_semantic_id as semantics,
        count(*) as leads,
        count(*) filter (where l.date_create > now() - interval '30 days') as new_in_30_days,
        sum(l.opportunity * r.rate) as amount
    from {data}.leads l
    left join rates r on r.code = l.currency_id
    where l.deleted_at is null
    group by l.status_id, l.source_id, l.status_semantic_id
)
select
    c.status_id,
    coalesce(status.name, c.status_id) as status,
    status.sort as status_order,
    case coalesce(c.semantics, status.semantics)
        when 'S' then 'converted' when 'F' then 'failed' else 'open' end as outcome,
    c.source_id,
    coalesce(source.name, c.source_id) as source,
    c.leads,
    c.new_in_30_days,
    round(100.0 * c.leads / sum(c.leads) over (partition by c.source_id), 1) as percent_of_source,
    round(c.amount, 2) as amount,
    (select code from {data}.currencies where base order by code limit 1) as currency
from counted c
left join {data}.statuses status on status.directory = 'STATUS' and status.code = c.status_id
left join {data}.statuses source on source.directory = 'SOURCE' and source.code = c.source_id
order by status.sort, c.status_id, c.leads desc
