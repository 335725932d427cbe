with rates as (
    select code, case when base then 1 else rate / nullif(rate_amount, 0) end as rate
    from {data}.currencies
),
counted as (
    select l.utm_source, l.utm_medium, l.utm_campaign,
        count(*) as leads,
        count(*) filter (where l.status_semantic_id = 'S') as converted,
        count(*) filter (where l.status_semantic_id = 'F') as failed,
        count(*) filter (where l.status_id = 'JUNK') as junk,
        sum(l.opportunity * r.rate) as amount,
        sum(l.opportunity * r.rate) filter (where l.status_semantic_id = 'S') as amount_converted,
        min(l.date_create) as first_lead,
        max(l.date_create) as last_lead
    from {data}.leads l
    left join rates r on r.code = l.currency_id
    where l.deleted_at is null
        and (l.utm_source is not null or l.utm_medium is not null or l.utm_campaign is not null)
    group by l.utm_source, l.utm_medium, l.utm_campaign
)
select
    utm_source,
    utm_medium,
    utm_campaign,
    leads,
    converted,
    failed,
    junk,
    leads - converted - failed as open,
    round(100.0 * converted / leads, 1) as conversion_percent,
    round(100.0 * junk / leads, 1) as junk_percent,
    round(amount, 2) as amount,
    round(amount_converted, 2) as amount_converted,
    (select code from {data}.currencies where base order by code limit 1) as currency,
    (first_lead at time zone {zone})::date as first_lead_on,
    (last_lead at time zone {zone})::date as last_lead_on
from counted
order by leads desc
