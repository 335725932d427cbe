-- Every documented field of crm.lead.fields as a typed column under the portal's own name in
-- lower case. Every one is nullable, because a portal hides fields from users who may not
-- see them. No foreign keys to users or dictionaries: the portal hides some of those, too.
create table leads (
    id                    bigint primary key,
    title                 text,
    honorific             text,
    name                  text,
    second_name           text,
    last_name             text,
    birthdate             date,
    company_title         text,
    source_id             text,
    source_description    text,
    status_id             text,
    status_description    text,
    status_semantic_id    text,
    post                  text,
    address               text,
    address_2             text,
    address_city          text,
    address_postal_code   text,
    address_region        text,
    address_province      text,
    address_country       text,
    address_country_code  text,
    address_loc_addr_id   bigint,
    currency_id           text,
    opportunity           numeric,
    is_manual_opportunity boolean,
    opened                boolean,
    comments              text,
    has_phone             boolean,
    has_email             boolean,
    has_imol              boolean,
    assigned_by_id        bigint,
    created_by_id         bigint,
    modify_by_id          bigint,
    moved_by_id           bigint,
    date_create           timestamptz,
    date_modify           timestamptz,
    moved_time            timestamptz,
    date_closed           timestamptz,
    company_id            bigint,
    contact_id            bigint,
    is_return_customer    boolean,
    originator_id         text,
    origin_id             text,
    utm_source            text,
    utm_medium            text,
    utm_campaign          text,
    utm_content           text,
    utm_term              text,
    last_activity_time    timestamptz,
    last_activity_by      bigint,
    custom_fields         jsonb not null default '{}',
    content_hash          bigint not null,
    synced_at             timestamptz not null,
    deleted_at            timestamptz
);

-- What changed lately, for reports and for whoever copies the mirror further.
create index leads_date_modify on leads (date_modify);

comment on table leads is
    'One row per lead of the portal, tombstones included: filter on deleted_at is null.';
comment on column leads.id is 'The portal''s ID.';
comment on column leads.opportunity is 'In the currency of currency_id.';
comment on column leads.status_semantic_id is 'P in progress, S converted, F failed.';
comment on column leads.custom_fields is
    'Every user field (UF_*) and every field that has no column, by its portal name.';
comment on column leads.content_hash is
    'Fingerprint of the record, its multi-values and its quarantined values; b24mirror compares by it.';
comment on column leads.synced_at is
    'When this version was asked for, by this database''s clock. Does not move when nothing changed.';
comment on column leads.deleted_at is
    'When its deletion was confirmed, by this database''s clock; null while the portal has it.';
