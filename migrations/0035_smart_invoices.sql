-- Smart invoices, as crm.item.list brings them. The columns have the names that the same fields have
-- in the other tables. No foreign keys to other records: each entity is mirrored on its own.

create table smart_invoices (
    id                    bigint primary key,
    account_number        text,
    title                 text,
    xml_id                text,
    category_id           bigint,
    stage_id              text,
    previous_stage_id     text,
    currency_id           text,
    opportunity           numeric,
    is_manual_opportunity boolean,
    tax_value             numeric,
    company_id            bigint,
    contact_id            bigint,
    mycompany_id          bigint,
    begindate             date,
    closedate             date,
    comments              text,
    moved_by_id           bigint,
    moved_time            timestamptz,
    source_id             text,
    source_description    text,
    location_id           text,
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

create table smart_invoice_contacts (
    smart_invoice_id bigint not null references smart_invoices on delete cascade,
    contact_id bigint not null,
    position integer not null,
    is_primary boolean not null,
    primary key (smart_invoice_id, contact_id)
);

create table smart_invoice_observers (
    smart_invoice_id bigint not null references smart_invoices on delete cascade,
    user_id bigint not null,
    position integer not null,
    primary key (smart_invoice_id, user_id)
);

create table smart_invoice_changes (
    id           bigint generated always as identity primary key,
    smart_invoice_id      bigint not null,
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
create index smart_invoice_changes_smart_invoice on smart_invoice_changes (smart_invoice_id, seen_at);
create index smart_invoice_changes_seen on smart_invoice_changes (seen_at);

comment on table smart_invoices is
    'One row per smart invoice of the portal, tombstones included: filter on deleted_at is null.';
comment on column smart_invoices.id is 'The portal''s ID.';
comment on column smart_invoices.account_number is 'Its number.';
comment on column smart_invoices.title is 'Its title.';
comment on column smart_invoices.xml_id is 'Its ID in another system.';
comment on column smart_invoices.category_id is 'The pipeline.';
comment on column smart_invoices.stage_id is 'The stage, a code of the pipeline''s directory SMART_INVOICE_STAGE_n.';
comment on column smart_invoices.previous_stage_id is 'The stage before.';
comment on column smart_invoices.currency_id is 'The currency of its amounts.';
comment on column smart_invoices.opportunity is 'The amount, in currency_id.';
comment on column smart_invoices.is_manual_opportunity is 'Whether the amount was typed instead of summed up from products.';
comment on column smart_invoices.tax_value is 'The tax in the amount.';
comment on column smart_invoices.company_id is 'The customer''s company.';
comment on column smart_invoices.contact_id is 'The primary contact; all of them are in smart_invoice_contacts.';
comment on column smart_invoices.mycompany_id is 'The company that asks for the money.';
comment on column smart_invoices.begindate is 'The day of the invoice.';
comment on column smart_invoices.closedate is 'The day by which it is to be paid.';
comment on column smart_invoices.comments is 'Comment, in the portal''s BBCode.';
comment on column smart_invoices.moved_by_id is 'The user who changed the stage last.';
comment on column smart_invoices.moved_time is 'When the stage was changed last.';
comment on column smart_invoices.source_id is 'Where it came from, a code of the directory SOURCE.';
comment on column smart_invoices.source_description is 'More about where it came from.';
comment on column smart_invoices.location_id is 'The place for taxes, a code of the portal''s locations.';
comment on column smart_invoices.opened is 'Whether everybody may see it.';
comment on column smart_invoices.assigned_by_id is 'The responsible user.';
comment on column smart_invoices.created_by_id is 'The user who created it.';
comment on column smart_invoices.modify_by_id is 'The user who changed it last.';
comment on column smart_invoices.date_create is 'When it was created.';
comment on column smart_invoices.date_modify is 'When it was changed last.';
comment on column smart_invoices.webform_id is 'The CRM form that it was made by.';
comment on column smart_invoices.utm_source is 'The advertising system (UTM).';
comment on column smart_invoices.utm_medium is 'The kind of traffic (UTM).';
comment on column smart_invoices.utm_campaign is 'The campaign (UTM).';
comment on column smart_invoices.utm_content is 'The content of the campaign (UTM).';
comment on column smart_invoices.utm_term is 'The search words (UTM).';
comment on column smart_invoices.last_activity_time is 'When somebody last did something about it.';
comment on column smart_invoices.last_activity_by is 'The user who last did something about it.';
comment on column smart_invoices.custom_fields is
    'Every user field (UF_*) and every field that has no column, by its portal name.';
comment on column smart_invoices.content_hash is
    'Fingerprint of the record, its lists and its quarantined values; b24mirror compares by it.';
comment on column smart_invoices.synced_at is
    'When this version was asked for, by this database''s clock. Does not move when nothing changed.';
comment on column smart_invoices.deleted_at is
    'When its deletion was confirmed, by this database''s clock; null while the portal has it.';

comment on table smart_invoice_contacts is 'The contacts of smart invoices, one row each.';
comment on column smart_invoice_contacts.smart_invoice_id is 'The smart invoice.';
comment on column smart_invoice_contacts.contact_id is 'The contact.';
comment on column smart_invoice_contacts.position is 'The place in the smart invoice''s list, from 1.';
comment on column smart_invoice_contacts.is_primary is 'Whether it is the contact that the smart invoice itself names (smart_invoices.contact_id).';

comment on table smart_invoice_observers is 'Who watches smart invoices, one row each.';
comment on column smart_invoice_observers.smart_invoice_id is 'The smart invoice.';
comment on column smart_invoice_observers.user_id is 'The user.';
comment on column smart_invoice_observers.position is 'The place in the smart invoice''s list, from 1.';

comment on table smart_invoice_changes is
    'What changed in smart invoices, one line per field; only with `history = true` for them. '
    'What a field was at an earlier moment: old_value of the first line of that field with a '
    'later seen_at, else the current value.';
comment on column smart_invoice_changes.id is 'Lines of one record are in the order of this number.';
comment on column smart_invoice_changes.smart_invoice_id is 'The smart invoice.';
comment on column smart_invoice_changes.kind is
    'created: seen for the first time, by other means than a backfill. changed: one field. '
    'deleted: gone in the portal. revived: there again after it was deleted.';
comment on column smart_invoice_changes.field is 'The portal''s name of the field that changed. Null unless the kind is changed.';
comment on column smart_invoice_changes.value_id is 'The ID of the value or of the linked record, where there may be several.';
comment on column smart_invoice_changes.old_value is 'What it was; null for nothing. Of a linked record, its place in the list.';
comment on column smart_invoice_changes.new_value is 'What it is; null for nothing. Of a linked record, its place in the list.';
comment on column smart_invoice_changes.seen_at is 'When the answer that shows it was asked for, by this database''s clock.';
comment on column smart_invoice_changes.date_modify is 'The portal''s time of the change, as the record says.';
comment on column smart_invoice_changes.modify_by_id is 'The user who changed the record last, as the record says.';
