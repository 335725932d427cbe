-- The portal's own description of its fields, from crm.contact.fields and its like: the
-- labels and types that tell a reader of custom_fields what UF_CRM_1 is.
create table fields (
    entity      text not null,
    field       text not null,
    type        text not null,
    label       text,
    multiple    boolean not null,
    custom      boolean not null,
    read_only   boolean not null,
    status_type text,
    items       jsonb,
    first_seen  timestamptz not null default now(),
    gone_since  timestamptz,
    primary key (entity, field)
);

comment on table fields is 'The portal''s description of every field of every entity.';
comment on column fields.type is 'The portal''s own word: string, date, enumeration, crm_status and others.';
comment on column fields.custom is 'Whether it is a user field (UF_*).';
comment on column fields.status_type is 'The dictionary whose codes a crm_status field holds.';
comment on column fields.items is 'The choices of an enumeration, as the portal lists them.';
comment on column fields.gone_since is 'When the portal stopped having the field; null while it has it.';
