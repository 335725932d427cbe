-- Companies, as crm.item.list brings them. The columns have the names that the same fields have
-- in the other tables. No foreign keys to other records: each entity is mirrored on its own.

create table companies (
    id                 bigint primary key,
    title              text,
    company_type       text,
    logo_id            bigint,
    category_id        bigint,
    industry           text,
    employees          text,
    currency_id        text,
    revenue            numeric,
    address_legal      text,
    banking_details    text,
    comments           text,
    is_my_company      boolean,
    lead_id            bigint,
    has_phone          boolean,
    has_email          boolean,
    has_imol           boolean,
    originator_id      text,
    origin_id          text,
    origin_version     text,
    opened             boolean,
    assigned_by_id     bigint,
    created_by_id      bigint,
    modify_by_id       bigint,
    date_create        timestamptz,
    date_modify        timestamptz,
    webform_id         bigint,
    utm_source         text,
    utm_medium         text,
    utm_campaign       text,
    utm_content        text,
    utm_term           text,
    last_activity_time timestamptz,
    last_activity_by   bigint,
    custom_fields      jsonb not null default '{}',
    content_hash       bigint not null,
    synced_at          timestamptz not null,
    deleted_at         timestamptz
);

create table company_phones (
    company_id bigint not null references companies on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    digits     text generated always as
        (left(regexp_replace(value, '[^0-9]', '', 'g'), 32)) stored,
    e164       text,
    primary key (company_id, id)
);

create table company_emails (
    company_id bigint not null references companies on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    address    text generated always as
        (left(lower(btrim(value, E' \t\r\n')), 320)) stored,
    primary key (company_id, id)
);

create table company_websites (
    company_id bigint not null references companies on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    primary key (company_id, id)
);

create table company_messengers (
    company_id bigint not null references companies on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    primary key (company_id, id)
);

create table company_links (
    company_id bigint not null references companies on delete cascade,
    id         bigint not null,
    value      text,
    value_type text,
    primary key (company_id, id)
);

create table company_contacts (
    company_id bigint not null references companies on delete cascade,
    contact_id bigint not null,
    position integer not null,
    primary key (company_id, contact_id)
);

create table company_observers (
    company_id bigint not null references companies on delete cascade,
    user_id bigint not null,
    position integer not null,
    primary key (company_id, user_id)
);

create table company_changes (
    id           bigint generated always as identity primary key,
    company_id      bigint not null,
    kind         text not null check (kind in ('created', 'changed', 'deleted', 'revived')),
    field        text,
    value_id     bigint,
    old_value    text,
    new_value    text,
    seen_at      timestamptz not null,
    date_modify  timestamptz,
    modify_by_id bigint,
    check ((kind = 'changed') = (field is not null))
);
create index company_changes_company on company_changes (company_id, seen_at);
create index company_changes_seen on company_changes (seen_at);

comment on table companies is
    'One row per company of the portal, tombstones included: filter on deleted_at is null.';
comment on column companies.id is 'The portal''s ID.';
comment on column companies.title is 'Its name.';
comment on column companies.company_type is 'What kind of company it is, a code of the directory COMPANY_TYPE.';
comment on column companies.logo_id is 'The file''s ID only: the portal''s file URLs carry the webhook''s secret.';
comment on column companies.category_id is 'Which kind of company it is to the portal: 0 for ordinary ones.';
comment on column companies.industry is 'Its trade, a code of the directory INDUSTRY.';
comment on column companies.employees is 'How many people work there, a code of the directory EMPLOYEES.';
comment on column companies.currency_id is 'The currency of the revenue.';
comment on column companies.revenue is 'Its yearly revenue, in currency_id.';
comment on column companies.address_legal is 'The address in the register, as one text.';
comment on column companies.banking_details is 'Bank account and the like.';
comment on column companies.comments is 'Comment, in the portal''s BBCode.';
comment on column companies.is_my_company is 'Whether it is the portal owner''s own company.';
comment on column companies.lead_id is 'The lead that it was made from.';
comment on column companies.has_phone is 'Whether it has a phone.';
comment on column companies.has_email is 'Whether it has an e-mail.';
comment on column companies.has_imol is 'Whether it can be written to in an open line.';
comment on column companies.originator_id is 'The system that it was imported from.';
comment on column companies.origin_id is 'Its ID in the system that it was imported from.';
comment on column companies.origin_version is 'Its version in the system that it was imported from.';
comment on column companies.opened is 'Whether everybody may see it.';
comment on column companies.assigned_by_id is 'The responsible user.';
comment on column companies.created_by_id is 'The user who created it.';
comment on column companies.modify_by_id is 'The user who changed it last.';
comment on column companies.date_create is 'When it was created.';
comment on column companies.date_modify is 'When it was changed last.';
comment on column companies.webform_id is 'The CRM form that it was made by.';
comment on column companies.utm_source is 'The advertising system (UTM).';
comment on column companies.utm_medium is 'The kind of traffic (UTM).';
comment on column companies.utm_campaign is 'The campaign (UTM).';
comment on column companies.utm_content is 'The content of the campaign (UTM).';
comment on column companies.utm_term is 'The search words (UTM).';
comment on column companies.last_activity_time is 'When somebody last did something about it.';
comment on column companies.last_activity_by is 'The user who last did something about it.';
comment on column companies.custom_fields is
    'Every user field (UF_*) and every field that has no column, by its portal name.';
comment on column companies.content_hash is
    'Fingerprint of the record, its lists and its quarantined values; b24mirror compares by it.';
comment on column companies.synced_at is
    'When this version was asked for, by this database''s clock. Does not move when nothing changed.';
comment on column companies.deleted_at is
    'When its deletion was confirmed, by this database''s clock; null while the portal has it.';

comment on table company_phones is 'The phones of companies, one row per value.';
comment on column company_phones.company_id is 'The company.';
comment on column company_phones.id is 'The portal''s ID of the value.';
comment on column company_phones.value is 'The value as it was typed.';
comment on column company_phones.value_type is 'WORK, MOBILE, HOME and others.';
comment on column company_phones.digits is 'The digits of the value, at most 32.';
comment on column company_phones.e164 is 'The number in international form; null where it is none.';

comment on table company_emails is 'The e-mails of companies, one row per value.';
comment on column company_emails.company_id is 'The company.';
comment on column company_emails.id is 'The portal''s ID of the value.';
comment on column company_emails.value is 'The value as it was typed.';
comment on column company_emails.value_type is 'WORK, MOBILE, HOME and others.';
comment on column company_emails.address is 'The value in lower case, without space around it.';

comment on table company_websites is 'The websites of companies, one row per value.';
comment on column company_websites.company_id is 'The company.';
comment on column company_websites.id is 'The portal''s ID of the value.';
comment on column company_websites.value is 'The value as it was typed.';
comment on column company_websites.value_type is 'WORK, MOBILE, HOME and others.';

comment on table company_messengers is 'The messengers of companies, one row per value.';
comment on column company_messengers.company_id is 'The company.';
comment on column company_messengers.id is 'The portal''s ID of the value.';
comment on column company_messengers.value is 'The value as it was typed.';
comment on column company_messengers.value_type is 'WORK, MOBILE, HOME and others.';

comment on table company_links is 'The links of companies, one row per value.';
comment on column company_links.company_id is 'The company.';
comment on column company_links.id is 'The portal''s ID of the value.';
comment on column company_links.value is 'The value as it was typed.';
comment on column company_links.value_type is 'WORK, MOBILE, HOME and others.';

comment on table company_contacts is 'The contacts of companies, one row each.';
comment on column company_contacts.company_id is 'The company.';
comment on column company_contacts.contact_id is 'The contact.';
comment on column company_contacts.position is 'The place in the company''s list, from 1.';

comment on table company_observers is 'Who watches companies, one row each.';
comment on column company_observers.company_id is 'The company.';
comment on column company_observers.user_id is 'The user.';
comment on column company_observers.position is 'The place in the company''s list, from 1.';

comment on table company_changes is
    'What changed in companies, one line per field; only with `history = true` for them. '
    'What a field was at an earlier moment: old_value of the first line of that field with a '
    'later seen_at, else the current value.';
comment on column company_changes.id is 'Lines of one record are in the order of this number.';
comment on column company_changes.company_id is 'The company.';
comment on column company_changes.kind is
    'created: seen for the first time, by other means than a backfill. changed: one field. '
    'deleted: gone in the portal. revived: there again after it was deleted.';
comment on column company_changes.field is 'The portal''s name of the field that changed. Null unless the kind is changed.';
comment on column company_changes.value_id is 'The ID of the value or of the linked record, where there may be several.';
comment on column company_changes.old_value is 'What it was; null for nothing. Of a linked record, its place in the list.';
comment on column company_changes.new_value is 'What it is; null for nothing. Of a linked record, its place in the list.';
comment on column company_changes.seen_at is 'When the answer that shows it was asked for, by this database''s clock.';
comment on column company_changes.date_modify is 'The portal''s time of the change, as the record says.';
comment on column company_changes.modify_by_id is 'The user who changed the record last, as the record says.';
