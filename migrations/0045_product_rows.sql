-- Product rows, where the settings ask for them. A row is kept as the portal's JSON, from which
-- the other columns are made: what does not fit a column is null in it, and stands in fields.

create table lead_product_rows (
    lead_id          bigint not null references leads on delete cascade,
    id               bigint not null,
    fields           jsonb not null,
    product_id       bigint generated always as (nullif(report_id(fields ->> 'productId'), 0)) stored,
    product_name     text generated always as (fields ->> 'productName') stored,
    price            numeric generated always as (report_number(fields ->> 'price')) stored,
    price_account    numeric generated always as (report_number(fields ->> 'priceAccount')) stored,
    price_exclusive  numeric generated always as (report_number(fields ->> 'priceExclusive')) stored,
    price_netto      numeric generated always as (report_number(fields ->> 'priceNetto')) stored,
    price_brutto     numeric generated always as (report_number(fields ->> 'priceBrutto')) stored,
    quantity         numeric generated always as (report_number(fields ->> 'quantity')) stored,
    discount_type_id bigint generated always as (report_id(fields ->> 'discountTypeId')) stored,
    discount_rate    numeric generated always as (report_number(fields ->> 'discountRate')) stored,
    discount_sum     numeric generated always as (report_number(fields ->> 'discountSum')) stored,
    tax_rate         numeric generated always as (report_number(fields ->> 'taxRate')) stored,
    tax_included     boolean generated always as (report_flag(fields ->> 'taxIncluded')) stored,
    customized       boolean generated always as (report_flag(fields ->> 'customized')) stored,
    measure_code     bigint generated always as (report_id(fields ->> 'measureCode')) stored,
    measure_name     text generated always as (fields ->> 'measureName') stored,
    sort             bigint generated always as (report_id(fields ->> 'sort')) stored,
    xml_id           text generated always as (nullif(fields ->> 'xmlId', '')) stored,
    type             bigint generated always as (report_id(fields ->> 'type')) stored,
    store_id         bigint generated always as (nullif(report_id(fields ->> 'storeId'), 0)) stored,
    primary key (lead_id, id)
);

comment on table lead_product_rows is 'The product rows of leads, one row each; only with `product_rows = true` for them.';
comment on column lead_product_rows.lead_id is 'The lead.';
comment on column lead_product_rows.id is 'The portal''s ID of the row.';
comment on column lead_product_rows.fields is 'Every field of the row, by its portal name.';
comment on column lead_product_rows.product_id is 'The product in the catalogue; null for none.';
comment on column lead_product_rows.product_name is 'The product''s name, as it is in this row.';
comment on column lead_product_rows.price is
    'For one unit, discount and taxes included, in the record''s currency.';
comment on column lead_product_rows.price_account is 'price in the portal''s reporting currency.';
comment on column lead_product_rows.price_exclusive is 'For one unit, with the discount and without taxes.';
comment on column lead_product_rows.price_netto is 'For one unit, without discount and taxes.';
comment on column lead_product_rows.price_brutto is 'For one unit, without the discount and with taxes.';
comment on column lead_product_rows.quantity is 'How many units.';
comment on column lead_product_rows.discount_type_id is '1 an amount, 2 a percentage.';
comment on column lead_product_rows.discount_rate is 'The discount in percent.';
comment on column lead_product_rows.discount_sum is 'The discount of one unit as an amount.';
comment on column lead_product_rows.tax_rate is 'The tax in percent; null for none.';
comment on column lead_product_rows.tax_included is 'Whether the price was entered with the tax.';
comment on column lead_product_rows.customized is 'Outdated in the portal.';
comment on column lead_product_rows.measure_code is 'The unit''s code.';
comment on column lead_product_rows.measure_name is 'The unit.';
comment on column lead_product_rows.sort is 'The order in the record, smallest first.';
comment on column lead_product_rows.xml_id is 'The ID in another system.';
comment on column lead_product_rows.type is
    '1 product, 2 bundle, 3 product with variants, 4 variant, 5 variant without a product, 6 faulty product with variants, 7 service.';
comment on column lead_product_rows.store_id is 'The warehouse.';

create table deal_product_rows (
    deal_id          bigint not null references deals on delete cascade,
    id               bigint not null,
    fields           jsonb not null,
    product_id       bigint generated always as (nullif(report_id(fields ->> 'productId'), 0)) stored,
    product_name     text generated always as (fields ->> 'productName') stored,
    price            numeric generated always as (report_number(fields ->> 'price')) stored,
    price_account    numeric generated always as (report_number(fields ->> 'priceAccount')) stored,
    price_exclusive  numeric generated always as (report_number(fields ->> 'priceExclusive')) stored,
    price_netto      numeric generated always as (report_number(fields ->> 'priceNetto')) stored,
    price_brutto     numeric generated always as (report_number(fields ->> 'priceBrutto')) stored,
    quantity         numeric generated always as (report_number(fields ->> 'quantity')) stored,
    discount_type_id bigint generated always as (report_id(fields ->> 'discountTypeId')) stored,
    discount_rate    numeric generated always as (report_number(fields ->> 'discountRate')) stored,
    discount_sum     numeric generated always as (report_number(fields ->> 'discountSum')) stored,
    tax_rate         numeric generated always as (report_number(fields ->> 'taxRate')) stored,
    tax_included     boolean generated always as (report_flag(fields ->> 'taxIncluded')) stored,
    customized       boolean generated always as (report_flag(fields ->> 'customized')) stored,
    measure_code     bigint generated always as (report_id(fields ->> 'measureCode')) stored,
    measure_name     text generated always as (fields ->> 'measureName') stored,
    sort             bigint generated always as (report_id(fields ->> 'sort')) stored,
    xml_id           text generated always as (nullif(fields ->> 'xmlId', '')) stored,
    type             bigint generated always as (report_id(fields ->> 'type')) stored,
    store_id         bigint generated always as (nullif(report_id(fields ->> 'storeId'), 0)) stored,
    primary key (deal_id, id)
);

comment on table deal_product_rows is 'The product rows of deals, one row each; only with `product_rows = true` for them.';
comment on column deal_product_rows.deal_id is 'The deal.';
comment on column deal_product_rows.id is 'The portal''s ID of the row.';
comment on column deal_product_rows.fields is 'Every field of the row, by its portal name.';
comment on column deal_product_rows.product_id is 'The product in the catalogue; null for none.';
comment on column deal_product_rows.product_name is 'The product''s name, as it is in this row.';
comment on column deal_product_rows.price is
    'For one unit, discount and taxes included, in the record''s currency.';
comment on column deal_product_rows.price_account is 'price in the portal''s reporting currency.';
comment on column deal_product_rows.price_exclusive is 'For one unit, with the discount and without taxes.';
comment on column deal_product_rows.price_netto is 'For one unit, without discount and taxes.';
comment on column deal_product_rows.price_brutto is 'For one unit, without the discount and with taxes.';
comment on column deal_product_rows.quantity is 'How many units.';
comment on column deal_product_rows.discount_type_id is '1 an amount, 2 a percentage.';
comment on column deal_product_rows.discount_rate is 'The discount in percent.';
comment on column deal_product_rows.discount_sum is 'The discount of one unit as an amount.';
comment on column deal_product_rows.tax_rate is 'The tax in percent; null for none.';
comment on column deal_product_rows.tax_included is 'Whether the price was entered with the tax.';
comment on column deal_product_rows.customized is 'Outdated in the portal.';
comment on column deal_product_rows.measure_code is 'The unit''s code.';
comment on column deal_product_rows.measure_name is 'The unit.';
comment on column deal_product_rows.sort is 'The order in the record, smallest first.';
comment on column deal_product_rows.xml_id is 'The ID in another system.';
comment on column deal_product_rows.type is
    '1 product, 2 bundle, 3 product with variants, 4 variant, 5 variant without a product, 6 faulty product with variants, 7 service.';
comment on column deal_product_rows.store_id is 'The warehouse.';

create table quote_product_rows (
    quote_id         bigint not null references quotes on delete cascade,
    id               bigint not null,
    fields           jsonb not null,
    product_id       bigint generated always as (nullif(report_id(fields ->> 'productId'), 0)) stored,
    product_name     text generated always as (fields ->> 'productName') stored,
    price            numeric generated always as (report_number(fields ->> 'price')) stored,
    price_account    numeric generated always as (report_number(fields ->> 'priceAccount')) stored,
    price_exclusive  numeric generated always as (report_number(fields ->> 'priceExclusive')) stored,
    price_netto      numeric generated always as (report_number(fields ->> 'priceNetto')) stored,
    price_brutto     numeric generated always as (report_number(fields ->> 'priceBrutto')) stored,
    quantity         numeric generated always as (report_number(fields ->> 'quantity')) stored,
    discount_type_id bigint generated always as (report_id(fields ->> 'discountTypeId')) stored,
    discount_rate    numeric generated always as (report_number(fields ->> 'discountRate')) stored,
    discount_sum     numeric generated always as (report_number(fields ->> 'discountSum')) stored,
    tax_rate         numeric generated always as (report_number(fields ->> 'taxRate')) stored,
    tax_included     boolean generated always as (report_flag(fields ->> 'taxIncluded')) stored,
    customized       boolean generated always as (report_flag(fields ->> 'customized')) stored,
    measure_code     bigint generated always as (report_id(fields ->> 'measureCode')) stored,
    measure_name     text generated always as (fields ->> 'measureName') stored,
    sort             bigint generated always as (report_id(fields ->> 'sort')) stored,
    xml_id           text generated always as (nullif(fields ->> 'xmlId', '')) stored,
    type             bigint generated always as (report_id(fields ->> 'type')) stored,
    store_id         bigint generated always as (nullif(report_id(fields ->> 'storeId'), 0)) stored,
    primary key (quote_id, id)
);

comment on table quote_product_rows is 'The product rows of quotes, one row each; only with `product_rows = true` for them.';
comment on column quote_product_rows.quote_id is 'The quote.';
comment on column quote_product_rows.id is 'The portal''s ID of the row.';
comment on column quote_product_rows.fields is 'Every field of the row, by its portal name.';
comment on column quote_product_rows.product_id is 'The product in the catalogue; null for none.';
comment on column quote_product_rows.product_name is 'The product''s name, as it is in this row.';
comment on column quote_product_rows.price is
    'For one unit, discount and taxes included, in the record''s currency.';
comment on column quote_product_rows.price_account is 'price in the portal''s reporting currency.';
comment on column quote_product_rows.price_exclusive is 'For one unit, with the discount and without taxes.';
comment on column quote_product_rows.price_netto is 'For one unit, without discount and taxes.';
comment on column quote_product_rows.price_brutto is 'For one unit, without the discount and with taxes.';
comment on column quote_product_rows.quantity is 'How many units.';
comment on column quote_product_rows.discount_type_id is '1 an amount, 2 a percentage.';
comment on column quote_product_rows.discount_rate is 'The discount in percent.';
comment on column quote_product_rows.discount_sum is 'The discount of one unit as an amount.';
comment on column quote_product_rows.tax_rate is 'The tax in percent; null for none.';
comment on column quote_product_rows.tax_included is 'Whether the price was entered with the tax.';
comment on column quote_product_rows.customized is 'Outdated in the portal.';
comment on column quote_product_rows.measure_code is 'The unit''s code.';
comment on column quote_product_rows.measure_name is 'The unit.';
comment on column quote_product_rows.sort is 'The order in the record, smallest first.';
comment on column quote_product_rows.xml_id is 'The ID in another system.';
comment on column quote_product_rows.type is
    '1 product, 2 bundle, 3 product with variants, 4 variant, 5 variant without a product, 6 faulty product with variants, 7 service.';
comment on column quote_product_rows.store_id is 'The warehouse.';

create table smart_invoice_product_rows (
    smart_invoice_id bigint not null references smart_invoices on delete cascade,
    id               bigint not null,
    fields           jsonb not null,
    product_id       bigint generated always as (nullif(report_id(fields ->> 'productId'), 0)) stored,
    product_name     text generated always as (fields ->> 'productName') stored,
    price            numeric generated always as (report_number(fields ->> 'price')) stored,
    price_account    numeric generated always as (report_number(fields ->> 'priceAccount')) stored,
    price_exclusive  numeric generated always as (report_number(fields ->> 'priceExclusive')) stored,
    price_netto      numeric generated always as (report_number(fields ->> 'priceNetto')) stored,
    price_brutto     numeric generated always as (report_number(fields ->> 'priceBrutto')) stored,
    quantity         numeric generated always as (report_number(fields ->> 'quantity')) stored,
    discount_type_id bigint generated always as (report_id(fields ->> 'discountTypeId')) stored,
    discount_rate    numeric generated always as (report_number(fields ->> 'discountRate')) stored,
    discount_sum     numeric generated always as (report_number(fields ->> 'discountSum')) stored,
    tax_rate         numeric generated always as (report_number(fields ->> 'taxRate')) stored,
    tax_included     boolean generated always as (report_flag(fields ->> 'taxIncluded')) stored,
    customized       boolean generated always as (report_flag(fields ->> 'customized')) stored,
    measure_code     bigint generated always as (report_id(fields ->> 'measureCode')) stored,
    measure_name     text generated always as (fields ->> 'measureName') stored,
    sort             bigint generated always as (report_id(fields ->> 'sort')) stored,
    xml_id           text generated always as (nullif(fields ->> 'xmlId', '')) stored,
    type             bigint generated always as (report_id(fields ->> 'type')) stored,
    store_id         bigint generated always as (nullif(report_id(fields ->> 'storeId'), 0)) stored,
    primary key (smart_invoice_id, id)
);

comment on table smart_invoice_product_rows is 'The product rows of smart invoices, one row each; only with `product_rows = true` for them.';
comment on column smart_invoice_product_rows.smart_invoice_id is 'The smart invoice.';
comment on column smart_invoice_product_rows.id is 'The portal''s ID of the row.';
comment on column smart_invoice_product_rows.fields is 'Every field of the row, by its portal name.';
comment on column smart_invoice_product_rows.product_id is 'The product in the catalogue; null for none.';
comment on column smart_invoice_product_rows.product_name is 'The product''s name, as it is in this row.';
comment on column smart_invoice_product_rows.price is
    'For one unit, discount and taxes included, in the record''s currency.';
comment on column smart_invoice_product_rows.price_account is 'price in the portal''s reporting currency.';
comment on column smart_invoice_product_rows.price_exclusive is 'For one unit, with the discount and without taxes.';
comment on column smart_invoice_product_rows.price_netto is 'For one unit, without discount and taxes.';
comment on column smart_invoice_product_rows.price_brutto is 'For one unit, without the discount and with taxes.';
comment on column smart_invoice_product_rows.quantity is 'How many units.';
comment on column smart_invoice_product_rows.discount_type_id is '1 an amount, 2 a percentage.';
comment on column smart_invoice_product_rows.discount_rate is 'The discount in percent.';
comment on column smart_invoice_product_rows.discount_sum is 'The discount of one unit as an amount.';
comment on column smart_invoice_product_rows.tax_rate is 'The tax in percent; null for none.';
comment on column smart_invoice_product_rows.tax_included is 'Whether the price was entered with the tax.';
comment on column smart_invoice_product_rows.customized is 'Outdated in the portal.';
comment on column smart_invoice_product_rows.measure_code is 'The unit''s code.';
comment on column smart_invoice_product_rows.measure_name is 'The unit.';
comment on column smart_invoice_product_rows.sort is 'The order in the record, smallest first.';
comment on column smart_invoice_product_rows.xml_id is 'The ID in another system.';
comment on column smart_invoice_product_rows.type is
    '1 product, 2 bundle, 3 product with variants, 4 variant, 5 variant without a product, 6 faulty product with variants, 7 service.';
comment on column smart_invoice_product_rows.store_id is 'The warehouse.';
