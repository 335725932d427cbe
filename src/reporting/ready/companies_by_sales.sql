with rates as (
    select code, case when base then 1 else rate / nullif(rate_amount, 0) end as rate
    from {data}.currencies
),
sold as (
    select d.company_id,
        count(*) filter (where d.stage_semantic_id = 'S') as won,
        count(*) filter (where d.stage_semantic_id = 'F') as lost,
        count(*) filter (where d.stage_semantic_id = 'P') as open,
        sum(d.opportunity * r.rate) filter (where d.stage_semantic_id = 'S') as amount_won,
        sum(d.opportunity * r.rate) filter (where d.stage_semantic_id = 'P') as amount_open,
        max(d.moved_time) filter (where d.stage_semantic_id = 'S') as last_won
    from {data}.deals d
    left join rates r on r.code = d.currency_id
    where d.deleted_at is null and d.company_id is not null and d.is_recurring is not true
    group by d.company_id
),
people as (
    select company_id, count(*) as contacts
    from {data}.company_contacts
    group by company_id
)
select
    c.id as company_id,
    c.title as company,
    c.assigned_by_id,
    coalesce(u.full_name, c.assigned_by_id::text) as assigned_by,
    coalesce(industry.name, c.industry) as industry,
    coalesce(p.contacts, 0) as contacts,
    coalesce(s.won, 0) as deals_won,
    coalesce(s.lost, 0) as deals_lost,
    coalesce(s.open, 0) as deals_open,
    round(s.amount_won, 2) as amount_won,
    round(s.amount_open, 2) as amount_open,
    (select code from {data}.currencies where base order by code limit 1) as currency,
    (s.last_won at time zone {zone})::date as last_won_on
from {data}.companies c
left join sold s on s.company_id = c.id
left join people p on p.company_id = c.id
left join {data}.users u on u.id = c.assigned_by_id
left join {data}.statuses industry
    on industry.directory = 'INDUSTRY' and industry.code = c.industry
where c.deleted_at is null and c.is_my_company is not true
order by s.amount_won desc nulls last, c.id
