-- Deals, as crm.item.list brings them. The columns have the names that the same fields have
-- in the other tables. No foreign keys to other records: each entity is mirrored on its own.

create table deals (
    id                    bigint primary key,
    title                 text,
    type_id               text,
    category_id           bigint,
    stage_id              text,
    stage_semantic_id     text,
    is_new                boolean,
    is_recurring          boolean,
    is_return_customer    boolean,
    is_repeated_approach  boolean,
    probability           bigint,
    currency_id           text,
    opportunity           numeric,
    is_manual_opportunity boolean,
    tax_value             numeric,
    lead_id               bigint,
    company_id            bigint,
    contact_id            bigint,
    quote_id              bigint,
    begindate             date,
    closedate             date,
    closed                boolean,
    comments              text,
    additional_info       text,
    moved_by_id           bigint,
    moved_time            timestamptz,
    event_date            timestamptz,
    event_id              text,
    event_description     text,
    order_stage           text,
    source_id             text,
    source_description    text,
    originator_id         text,
    origin_id             text,
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

create table deal_contacts (
    deal_id bigint not null references deals on delete cascade,
    contact_id bigint not null,
    position integer not null,
    is_primary boolean not null,
    primary key (deal_id, contact_id)
);

create table deal_observers (
    deal_id bigint not null references deals on delete cascade,
    user_id bigint not null,
    position integer not null,
    primary key (deal_id, user_id)
);

create table deal_changes (
    id           bigint generated always as identity primary key,
    deal_id      bigint not null,
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
create index deal_changes_deal on deal_changes (deal_id, seen_at);
create index deal_changes_seen on deal_changes (seen_at);

comment on table deals is
    'One row per deal of the portal, tombstones included: filter on deleted_at is null.';
comment on column deals.id is 'The portal''s ID.';
comment on column deals.title is 'Its title.';
comment on column deals.type_id is 'What kind of deal it is, a code of the directory DEAL_TYPE.';
comment on column deals.category_id is 'The pipeline: pipelines.id; 0 is the first one.';
comment on column deals.stage_id is 'The stage, a code of the pipeline''s directory: DEAL_STAGE or DEAL_STAGE_n.';
comment on column deals.stage_semantic_id is 'P while in progress, S when won, F when lost.';
comment on column deals.is_new is 'Whether it is in the first stage still.';
comment on column deals.is_recurring is 'Whether it is a template of repeated deals.';
comment on column deals.is_return_customer is 'Whether the customer has bought before.';
comment on column deals.is_repeated_approach is 'Whether the customer has asked before.';
comment on column deals.probability is 'Probability in per cent.';
comment on column deals.currency_id is 'The currency of its amounts.';
comment on column deals.opportunity is 'The amount, in currency_id.';
comment on column deals.is_manual_opportunity is 'Whether the amount was typed instead of summed up from products.';
comment on column deals.tax_value is 'The tax in the amount.';
comment on column deals.lead_id is 'The lead that it was made from.';
comment on column deals.company_id is 'Its company.';
comment on column deals.contact_id is 'Its primary contact; all of them are in deal_contacts.';
comment on column deals.quote_id is 'The quote that it was made from.';
comment on column deals.begindate is 'The day it begins.';
comment on column deals.closedate is 'The day it is to end, or has ended.';
comment on column deals.closed is 'Whether it has ended.';
comment on column deals.comments is 'Comment, in the portal''s BBCode.';
comment on column deals.additional_info is 'What applications keep about it.';
comment on column deals.moved_by_id is 'The user who changed the stage last.';
comment on column deals.moved_time is 'When the stage was changed last.';
comment on column deals.event_date is 'The date of the last event.';
comment on column deals.event_id is 'The kind of the last event, a code of the directory EVENT_TYPE.';
comment on column deals.event_description is 'What the last event was.';
comment on column deals.order_stage is 'How far its payment is.';
comment on column deals.source_id is 'Where it came from, a code of the directory SOURCE.';
comment on column deals.source_description is 'More about where it came from.';
comment on column deals.originator_id is 'The system that it was imported from.';
comment on column deals.origin_id is 'Its ID in the system that it was imported from.';
comment on column deals.location_id is 'The place for taxes, a code of the portal''s locations.';
comment on column deals.opened is 'Whether everybody may see it.';
comment on column deals.assigned_by_id is 'The responsible user.';
comment on column deals.created_by_id is 'The user who created it.';
comment on column deals.modify_by_id is 'The user who changed it last.';
comment on column deals.date_create is 'When it was created.';
comment on column deals.date_modify is 'When it was changed last.';
comment on column deals.webform_id is 'The CRM form that it was made by.';
comment on column deals.utm_source is 'The advertising system (UTM).';
comment on column deals.utm_medium is 'The kind of traffic (UTM).';
comment on column deals.utm_campaign is 'The campaign (UTM).';
comment on column deals.utm_content is 'The content of the campaign (UTM).';
comment on column deals.utm_term is 'The search words (UTM).';
comment on column deals.last_activity_time is 'When somebody last did something about it.';
comment on column deals.last_activity_by is 'The user who last did something about it.';
comment on column deals.custom_fields is
    'Every user field (UF_*) and every field that has no column, by its portal name.';
comment on column deals.content_hash is
    'Fingerprint of the record, its lists and its quarantined values; b24mirror compares by it.';
comment on column deals.synced_at is
    'When this version was asked for, by this database''s clock. Does not move when nothing changed.';
comment on column deals.deleted_at is
    'When its deletion was confirmed, by this database''s clock; null while the portal has it.';

comment on table deal_contacts is 'The contacts of deals, one row each.';
comment on column deal_contacts.deal_id is 'The deal.';
comment on column deal_contacts.contact_id is 'The contact.';
comment on column deal_contacts.position is 'The place in the deal''s list, from 1.';
comment on column deal_contacts.is_primary is 'Whether it is the contact that the deal itself names (deals.contact_id).';

comment on table deal_observers is 'Who watches deals, one row each.';
comment on column deal_observers.deal_id is 'The deal.';
comment on column deal_observers.user_id is 'The user.';
comment on column deal_observers.position is 'The place in the deal''s list, from 1.';

comment on table deal_changes is
    'What changed in deals, one line per field; only with `history = true` for them. '
    'What a field was at an earlier moment: old_value of the first line of that field with a '
    'later seen_at, else the current value.';
comment on column deal_changes.id is 'Lines of one record are in the order of this number.';
comment on column deal_changes.deal_id is 'The deal.';
comment on column deal_changes.kind is
    'created: seen for the first time, by other means than a backfill. changed: one field. '
    'deleted: gone in the portal. revived: there again after it was deleted.';
comment on column deal_changes.field is 'The portal''s name of the field that changed. Null unless the kind is changed.';
comment on column deal_changes.value_id is 'The ID of the value or of the linked record, where there may be several.';
comment on column deal_changes.old_value is 'What it was; null for nothing. Of a linked record, its place in the list.';
comment on column deal_changes.new_value is 'What it is; null for nothing. Of a linked record, its place in the list.';
comment on column deal_changes.seen_at is 'When the answer that shows it was asked for, by this database''s clock.';
comment on column deal_changes.date_modify is 'The portal''s time of the change, as the record says.';
comment on column deal_changes.modify_by_id is 'The user who changed the record last, as the record says.';
