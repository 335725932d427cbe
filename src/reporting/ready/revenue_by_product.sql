with rates as (
    select code, case when base then 1 else rate / nullif(rate_amount, 0) end as rate
    from {data}.currencies
),
sold as (
    -- What is in no catalogue is the same where it is called the same.
    select r.product_id, case when r.product_id is null then r.product_name end as only_name,
        r.id, r.product_name, r.quantity, d.id as deal, d.moved_time,
        r.price * r.quantity * c.rate as amount
    from {data}.deal_product_rows r
    join {data}.deals d on d.id = r.deal_id
    left join rates c on c.code = d.currency_id
    where d.deleted_at is null and d.stage_semantic_id = 'S' and d.is_recurring is not true
)
select
    s.product_id,
    (array_agg(s.product_name order by s.id desc))[1] as product,
    count(distinct s.deal) as deals,
    sum(s.quantity) as quantity,
    round(sum(s.amount), 2) as amount,
    round(sum(s.amount) / nullif(sum(s.quantity) filter (where s.amount is not null), 0), 2)
        as average_price,
    (select code from {data}.currencies where base order by code limit 1) as currency,
    (min(s.moved_time) at time zone {zone})::date as first_won_on,
    (max(s.moved_time) at time zone {zone})::date as last_won_on
from sold s
group by s.product_id, s.only_name
order by amount desc nulls last, product
