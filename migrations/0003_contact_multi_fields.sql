-- The multi-values of contacts. The key is the portal's own value ID below its contact, so
-- that an unchanged value is never rewritten; after a merge the portal may move a value
-- to another contact, hence the pair. Values stay as people typed them. The foreign key
-- costs a quarter of the write speed and is worth it: readers join along it.

create table contact_phones (
    contact_id bigint not null references contacts on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    -- What people search by. At most 32, so that an index entry cannot be too large.
    digits     text generated always as
        (left(regexp_replace(value, '[^0-9]', '', 'g'), 32)) stored,
    primary key (contact_id, id)
);
create index contact_phones_digits on contact_phones (digits);

create table contact_emails (
    contact_id bigint not null references contacts on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    -- What people search by. 320 is the longest address there can be.
    address    text generated always as
        (left(lower(btrim(value, E' \t\r\n')), 320)) stored,
    primary key (contact_id, id)
);
create index contact_emails_address on contact_emails (address);

create table contact_websites (
    contact_id bigint not null references contacts on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    primary key (contact_id, id)
);

create table contact_messengers (
    contact_id bigint not null references contacts on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    primary key (contact_id, id)
);

create table contact_links (
    contact_id bigint not null references contacts on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    primary key (contact_id, id)
);

comment on table contact_phones is 'Phones of contacts, one row per value.';
comment on column contact_phones.value_type is 'WORK, HOME and others; the portal''s own word.';
comment on table contact_emails is 'E-mails of contacts, one row per value.';
comment on column contact_emails.value_type is 'WORK, HOME and others; the portal''s own word.';
comment on table contact_websites is 'Websites of contacts, one row per value.';
comment on column contact_websites.value_type is 'WORK, HOME and others; the portal''s own word.';
comment on table contact_messengers is 'Messengers of contacts, one row per value.';
comment on column contact_messengers.value_type is 'WORK, HOME and others; the portal''s own word.';
comment on table contact_links is 'Links of contacts, one row per value.';
comment on column contact_links.value_type is 'WORK, HOME and others; the portal''s own word.';
comment on column contact_phones.digits is 'The digits of value, at most 32.';
comment on column contact_emails.address is 'value without surrounding space, in lower case, at most 320 characters.';
