with listed as (
    select 'deal' as record, t.id as record_id, t.title, t.currency_id,
        r.id, r.sort, r.product_id, r.product_name, r.quantity, r.measure_name, r.price,
        r.discount_sum, r.tax_rate
    from {data}.deal_product_rows r join {data}.deals t on t.id = r.deal_id
    where t.deleted_at is null
    union all
    select 'lead', t.id, coalesce(t.title,
            nullif(btrim(concat_ws(' ', t.name, t.second_name, t.last_name)), '')), t.currency_id,
        r.id, r.sort, r.product_id, r.product_name, r.quantity, r.measure_name, r.price,
        r.discount_sum, r.tax_rate
    from {data}.lead_product_rows r join {data}.leads t on t.id = r.lead_id
    where t.deleted_at is null
    union all
    select 'quote', t.id, t.title, t.currency_id,
        r.id, r.sort, r.product_id, r.product_name, r.quantity, r.measure_name, r.price,
        r.discount_sum, r.tax_rate
    from {data}.quote_product_rows r join {data}.quotes t on t.id = r.quote_id
    where t.deleted_at is null
    union all
    select 'smart invoice', t.id, t.title, t.currency_id,
        r.id, r.sort, r.product_id, r.product_name, r.quantity, r.measure_name, r.price,
        r.discount_sum, r.tax_rate
    from {data}.smart_invoice_product_rows r
    join {data}.smart_invoices t on t.id = r.smart_invoice_id
    where t.deleted_at is null
)
select
    l.record,
    l.record_id,
    l.title,
    l.id,
    l.sort,
    l.product_id,
    l.product_name,
    l.quantity,
    l.measure_name,
    l.price,
    l.discount_sum,
    l.tax_rate,
    round(l.price * l.quantity, 2) as amount,
    l.currency_id
from listed l
