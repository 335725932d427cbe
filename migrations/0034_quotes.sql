-- Quotes, as crm.item.list brings them. The columns have the names that the same fields have
-- in the other tables. No foreign keys to other records: each entity is mirrored on its own.

create table quotes (
    id                    bigint primary key,
    quote_number          text,
    title                 text,
    status_id             text,
    closed                boolean,
    currency_id           text,
    opportunity           numeric,
    is_manual_opportunity boolean,
    tax_value             numeric,
    lead_id               bigint,
    deal_id               bigint,
    company_id            bigint,
    contact_id            bigint,
    mycompany_id          bigint,
    person_type_id        bigint,
    begindate             date,
    closedate             date,
    actual_date           date,
    content               text,
    content_type          bigint,
    terms                 text,
    terms_type            bigint,
    comments              text,
    comments_type         bigint,
    client_title          text,
    client_addr           text,
    client_contact        text,
    client_email          text,
    client_phone          text,
    client_tp_id          text,
    client_tpa_id         text,
    location_id           text,
    storage_type_id       bigint,
    opened                boolean,
    assigned_by_id        bigint,
    created_by_id         bigint,
    modify_by_id          bigint,
    date_create           timestamptz,
    date_modify           timestamptz,
    webform_id            bigint,
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

create table quote_contacts (
    quote_id bigint not null references quotes on delete cascade,
    contact_id bigint not null,
    position integer not null,
    is_primary boolean not null,
    primary key (quote_id, contact_id)
);

create table quote_changes (
    id           bigint generated always as identity primary key,
    quote_id      bigint not null,
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
create index quote_changes_quote on quote_changes (quote_id, seen_at);
create index quote_changes_seen on quote_changes (seen_at);

comment on table quotes is
    'One row per quote of the portal, tombstones included: filter on deleted_at is null.';
comment on column quotes.id is 'The portal''s ID.';
comment on column quotes.quote_number is 'Its number.';
comment on column quotes.title is 'Its title.';
comment on column quotes.status_id is 'The stage, a code of the directory QUOTE_STATUS.';
comment on column quotes.closed is 'Whether it has ended.';
comment on column quotes.currency_id is 'The currency of its amounts.';
comment on column quotes.opportunity is 'The amount, in currency_id.';
comment on column quotes.is_manual_opportunity is 'Whether the amount was typed instead of summed up from products.';
comment on column quotes.tax_value is 'The tax in the amount.';
comment on column quotes.lead_id is 'The lead that it was made from.';
comment on column quotes.deal_id is 'Its deal.';
comment on column quotes.company_id is 'The customer''s company.';
comment on column quotes.contact_id is 'The primary contact; all of them are in quote_contacts.';
comment on column quotes.mycompany_id is 'The company that makes the offer.';
comment on column quotes.person_type_id is 'The kind of payer.';
comment on column quotes.begindate is 'The day it begins.';
comment on column quotes.closedate is 'The day it is to end.';
comment on column quotes.actual_date is 'The day until which it holds.';
comment on column quotes.content is 'What is offered.';
comment on column quotes.content_type is 'How the content is written: 1 text, 2 BBCode, 3 HTML.';
comment on column quotes.terms is 'The terms.';
comment on column quotes.terms_type is 'How the terms are written: 1 text, 2 BBCode, 3 HTML.';
comment on column quotes.comments is 'Comment.';
comment on column quotes.comments_type is 'How the comment is written: 1 text, 2 BBCode, 3 HTML.';
comment on column quotes.client_title is 'The customer''s name on the quote.';
comment on column quotes.client_addr is 'The customer''s address on the quote.';
comment on column quotes.client_contact is 'The customer''s contact on the quote.';
comment on column quotes.client_email is 'The customer''s e-mail on the quote.';
comment on column quotes.client_phone is 'The customer''s phone on the quote.';
comment on column quotes.client_tp_id is 'The customer''s tax number on the quote.';
comment on column quotes.client_tpa_id is 'The customer''s second tax number on the quote.';
comment on column quotes.location_id is 'The place for taxes, a code of the portal''s locations.';
comment on column quotes.storage_type_id is 'Where its files are kept, by the portal''s own number.';
comment on column quotes.opened is 'Whether everybody may see it.';
comment on column quotes.assigned_by_id is 'The responsible user.';
comment on column quotes.created_by_id is 'The user who created it.';
comment on column quotes.modify_by_id is 'The user who changed it last.';
comment on column quotes.date_create is 'When it was created.';
comment on column quotes.date_modify is 'When it was changed last.';
comment on column quotes.webform_id is 'The CRM form that it was made by.';
comment on column quotes.utm_source is 'The advertising system (UTM).';
comment on column quotes.utm_medium is 'The kind of traffic (UTM).';
comment on column quotes.utm_campaign is 'The campaign (UTM).';
comment on column quotes.utm_content is 'The content of the campaign (UTM).';
comment on column quotes.utm_term is 'The search words (UTM).';
comment on column quotes.last_activity_time is 'When somebody last did something about it.';
comment on column quotes.last_activity_by is 'The user who last did something about it.';
comment on column quotes.custom_fields is
    'Every user field (UF_*) and every field that has no column, by its portal name.';
comment on column quotes.content_hash is
    'Fingerprint of the record, its lists and its quarantined values; b24mirror compares by it.';
comment on column quotes.synced_at is
    'When this version was asked for, by this database''s clock. Does not move when nothing changed.';
comment on column quotes.deleted_at is
    'When its deletion was confirmed, by this database''s clock; null while the portal has it.';

comment on table quote_contacts is 'The contacts of quotes, one row each.';
comment on column quote_contacts.quote_id is 'The quote.';
comment on column quote_contacts.contact_id is 'The contact.';
comment on column quote_contacts.position is 'The place in the quote''s list, from 1.';
comment on column quote_contacts.is_primary is 'Whether it is the contact that the quote itself names (quotes.contact_id).';

comment on table quote_changes is
    'What changed in quotes, one line per field; only with `history = true` for them. '
    'What a field was at an earlier moment: old_value of the first line of that field with a '
    'later seen_at, else the current value.';
comment on column quote_changes.id is 'Lines of one record are in the order of this number.';
comment on column quote_changes.quote_id is 'The quote.';
comment on column quote_changes.kind is
    'created: seen for the first time, by other means than a backfill. changed: one field. '
    'deleted: gone in the portal. revived: there again after it was deleted.';
comment on column quote_changes.field is 'The portal''s name of the field that changed. Null unless the kind is changed.';
comment on column quote_changes.value_id is 'The ID of the value or of the linked record, where there may be several.';
comment on column quote_changes.old_value is 'What it was; null for nothing. Of a linked record, its place in the list.';
comment on column quote_changes.new_value is 'What it is; null for nothing. Of a linked record, its place in the list.';
comment on column quote_changes.seen_at is 'When the answer that shows it was asked for, by this database''s clock.';
comment on column quote_changes.date_modify is 'The portal''s time of the change, as the record says.';
comment on column quote_changes.modify_by_id is 'The user who changed the record last, as the record says.';
