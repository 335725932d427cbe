-- What amounts are in, where their comments did not say it.

comment on column deals.tax_value is 'The tax in the amount, in currency_id.';
comment on column quotes.tax_value is 'The tax in the amount, in currency_id.';
comment on column smart_invoices.tax_value is 'The tax in the amount, in currency_id.';
comment on column smart_items.tax_value is 'The tax in the amount, in currency_id.';
comment on column activities.result_value is 'The value of its result, by the provider''s own measure.';

comment on column lead_product_rows.price_exclusive is
    'For one unit, with the discount and without taxes, in the record''s currency.';
comment on column lead_product_rows.price_netto is
    'For one unit, without discount and taxes, in the record''s currency.';
comment on column lead_product_rows.price_brutto is
    'For one unit, without the discount and with taxes, in the record''s currency.';
comment on column lead_product_rows.discount_sum is
    'The discount of one unit, in the record''s currency.';
comment on column lead_product_rows.quantity is 'How many units of measure_name.';
comment on column deal_product_rows.price_exclusive is
    'For one unit, with the discount and without taxes, in the record''s currency.';
comment on column deal_product_rows.price_netto is
    'For one unit, without discount and taxes, in the record''s currency.';
comment on column deal_product_rows.price_brutto is
    'For one unit, without the discount and with taxes, in the record''s currency.';
comment on column deal_product_rows.discount_sum is
    'The discount of one unit, in the record''s currency.';
comment on column deal_product_rows.quantity is 'How many units of measure_name.';
comment on column quote_product_rows.price_exclusive is
    'For one unit, with the discount and without taxes, in the record''s currency.';
comment on column quote_product_rows.price_netto is
    'For one unit, without discount and taxes, in the record''s currency.';
comment on column quote_product_rows.price_brutto is
    'For one unit, without the discount and with taxes, in the record''s currency.';
comment on column quote_product_rows.discount_sum is
    'The discount of one unit, in the record''s currency.';
comment on column quote_product_rows.quantity is 'How many units of measure_name.';
comment on column smart_invoice_product_rows.price_exclusive is
    'For one unit, with the discount and without taxes, in the record''s currency.';
comment on column smart_invoice_product_rows.price_netto is
    'For one unit, without discount and taxes, in the record''s currency.';
comment on column smart_invoice_product_rows.price_brutto is
    'For one unit, without the discount and with taxes, in the record''s currency.';
comment on column smart_invoice_product_rows.discount_sum is
    'The discount of one unit, in the record''s currency.';
comment on column smart_invoice_product_rows.quantity is 'How many units of measure_name.';
