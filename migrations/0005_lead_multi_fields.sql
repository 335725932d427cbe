-- The multi-values of leads. The key is the portal's own value ID below its lead, so
-- that an unchanged value is never rewritten; after a merge the portal may move a value
-- to another lead, hence the pair. Values stay as people typed them. The foreign key
-- costs a quarter of the write speed and is worth it: readers join along it.

create table lead_phones (
    lead_id    bigint not null references leads on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    -- What people search by. At most 32, so that an index entry cannot be too large.
    digits     text generated always as
        (left(regexp_replace(value, '[^0-9]', '', 'g'), 32)) stored,
    primary key (lead_id, id)
);
create index lead_phones_digits on lead_phones (digits);

create table lead_emails (
    lead_id    bigint not null references leads on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    -- What people search by. 320 is the longest address there can be.
    address    text generated always as
        (left(lower(btrim(value, E' \t\r\n')), 320)) stored,
    primary key (lead_id, id)
);
create index lead_emails_address on lead_emails (address);

create table lead_websites (
    lead_id    bigint not null references leads on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    primary key (lead_id, id)
);

create table lead_messengers (
    lead_id    bigint not null references leads on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    primary key (lead_id, id)
);

create table lead_links (
    lead_id    bigint not null references leads on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    primary key (lead_id, id)
);

comment on table lead_phones is 'Phones of leads, one row per value.';
comment on column lead_phones.value_type is 'WORK, HOME and others; the portal''s own word.';
comment on table lead_emails is 'E-mails of leads, one row per value.';
comment on column lead_emails.value_type is 'WORK, HOME and others; the portal''s own word.';
comment on table lead_websites is 'Websites of leads, one row per value.';
comment on column lead_websites.value_type is 'WORK, HOME and others; the portal''s own word.';
comment on table lead_messengers is 'Messengers of leads, one row per value.';
comment on column lead_messengers.value_type is 'WORK, HOME and others; the portal''s own word.';
comment on table lead_links is 'Links of leads, one row per value.';
comment on column lead_links.value_type is 'WORK, HOME and others; the portal''s own word.';
comment on column lead_phones.digits is 'The digits of value, at most 32.';
comment on column lead_emails.address is 'value without surrounding space, in lower case, at most 320 characters.';
