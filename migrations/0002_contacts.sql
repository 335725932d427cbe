-- Every documented field of crm.contact.fields as a typed column under the portal's own name in
-- lower case. Every one is nullable, because a portal hides fields from users who may not
-- see them. No foreign keys to users or dictionaries: the portal hides some of those, too.
create table contacts (
    id                      bigint primary key,
    honorific               text,
    name                    text,
    second_name             text,
    last_name               text,
    photo_id                bigint,
    birthdate               date,
    type_id                 text,
    source_id               text,
    source_description      text,
    post                    text,
    address                 text,
    address_2               text,
    address_city            text,
    address_postal_code     text,
    address_region          text,
    address_province        text,
    address_country         text,
    address_country_code    text,
    address_loc_addr_id     bigint,
    comments                text,
    opened                  boolean,
    export                  boolean,
    has_phone               boolean,
    has_email               boolean,
    has_imol                boolean,
    assigned_by_id          bigint,
    created_by_id           bigint,
    modify_by_id            bigint,
    date_create             timestamptz,
    date_modify             timestamptz,
    company_id              bigint,
    lead_id                 bigint,
    originator_id           text,
    origin_id               text,
    origin_version          text,
    face_id                 bigint,
    utm_source              text,
    utm_medium              text,
    utm_campaign            text,
    utm_content             text,
    utm_term                text,
    last_activity_time      timestamptz,
    last_activity_by        bigint,
    last_communication_time text,
    custom_fields           jsonb not null default '{}',
    content_hash            bigint not null,
    synced_at               timestamptz not null,
    deleted_at              timestamptz
);

-- What changed lately, for reports and for whoever copies the mirror further.
create index contacts_date_modify on contacts (date_modify);

comment on table contacts is
    'One row per contact of the portal, tombstones included: filter on deleted_at is null.';
comment on column contacts.id is 'The portal''s ID.';
comment on column contacts.photo_id is 'The file''s ID only: the portal''s file URLs carry the webhook''s secret.';
comment on column contacts.last_communication_time is 'Text, because the portal sends it in the format of its own language.';
comment on column contacts.custom_fields is
    'Every user field (UF_*) and every field that has no column, by its portal name.';
comment on column contacts.content_hash is
    'Fingerprint of the record, its multi-values and its quarantined values; b24mirror compares by it.';
comment on column contacts.synced_at is
    'When this version was asked for, by this database''s clock. Does not move when nothing changed.';
comment on column contacts.deleted_at is
    'When its deletion was confirmed, by this database''s clock; null while the portal has it.';
