-- The items of smart processes, as crm.item.list brings them. Which processes there are is known
-- only when the portal has been asked, so each table here is partitioned by the process, and the
-- partitions of a process are made when it is first seen. Those have the keys: an ID is unique
-- within its process, and whatever writes or reads one process does so in its partition, by the
-- same statements as in any other table. Whoever asks about all of them asks here.

create table smart_processes (
    entity_type_id bigint primary key,
    id             bigint,
    title          text not null,
    code           text,
    switches       text[] not null default '{}',
    created_time   timestamptz,
    updated_time   timestamptz,
    first_seen     timestamptz not null default now(),
    gone_since     timestamptz
);

create table smart_items (
    entity_type_id bigint not null,
    id bigint not null,
    title text,
    xml_id text,
    category_id bigint,
    stage_id text,
    previous_stage_id text,
    currency_id text,
    opportunity numeric,
    is_manual_opportunity boolean,
    tax_value numeric,
    company_id bigint,
    contact_id bigint,
    mycompany_id bigint,
    begindate date,
    closedate date,
    moved_by_id bigint,
    moved_time timestamptz,
    source_id text,
    source_description text,
    opened boolean,
    assigned_by_id bigint,
    created_by_id bigint,
    modify_by_id bigint,
    date_create timestamptz,
    date_modify timestamptz,
    webform_id bigint,
    utm_source text,
    utm_medium text,
    utm_campaign text,
    utm_content text,
    utm_term text,
    last_activity_time timestamptz,
    last_activity_by bigint,
    custom_fields jsonb not null default '{}',
    content_hash bigint not null,
    synced_at timestamptz not null,
    deleted_at timestamptz
) partition by list (entity_type_id);

create table smart_item_contacts (
    entity_type_id bigint not null,
    smart_item_id bigint not null,
    contact_id bigint not null,
    position integer not null,
    is_primary boolean not null
) partition by list (entity_type_id);

create table smart_item_observers (
    entity_type_id bigint not null,
    smart_item_id bigint not null,
    user_id bigint not null,
    position integer not null
) partition by list (entity_type_id);

-- One sequence for all partitions. No identity column, which PostgreSQL 15 and 16 do not hand on
-- to partitions.
create sequence smart_item_changes_id_seq;
create table smart_item_changes (
    entity_type_id bigint not null,
    id bigint not null default nextval('smart_item_changes_id_seq'),
    smart_item_id bigint not null,
    kind text not null check (kind in ('created', 'changed', 'deleted', 'revived')),
    field text,
    value_id bigint,
    old_value text,
    new_value text,
    seen_at timestamptz not null,
    date_modify timestamptz,
    modify_by_id bigint,
    old_is_hash boolean not null default false,
    new_is_hash boolean not null default false,
    check ((kind = 'changed') = (field is not null))
) partition by list (entity_type_id);
alter sequence smart_item_changes_id_seq owned by smart_item_changes.id;

comment on table smart_processes is
    'The smart processes of the portal: kinds of records that its people have made up. What the '
    'portal no longer lists is asked for no more; its items stay as they were last.';
comment on column smart_processes.entity_type_id is
    'The portal''s number by which items are asked for, and which smart_items holds.';
comment on column smart_processes.id is 'The portal''s ID of the process; the names of its user fields hold it.';
comment on column smart_processes.title is 'What people see.';
comment on column smart_processes.code is 'Its code, where it has one.';
comment on column smart_processes.switches is 'What is switched on for its items, by the portal''s names.';
comment on column smart_processes.created_time is 'When it was made.';
comment on column smart_processes.updated_time is 'When its settings were changed last.';
comment on column smart_processes.first_seen is 'When the mirror first saw it, by this database''s clock.';
comment on column smart_processes.gone_since is 'When the portal stopped listing it; null while it does.';

comment on table smart_items is
    'One row per item of every smart process, tombstones included: filter on deleted_at is null. '
    'The partition smart_items_n has those of the process n.';
comment on column smart_items.entity_type_id is 'The smart process, in smart_processes.';
comment on column smart_items.id is 'The portal''s ID, which is unique within the smart process.';
comment on column smart_items.title is 'Its title.';
comment on column smart_items.xml_id is 'Its ID in another system.';
comment on column smart_items.category_id is 'The pipeline.';
comment on column smart_items.stage_id is 'The stage, a code of the directory DYNAMIC_n_STAGE_m of the process and its pipeline.';
comment on column smart_items.previous_stage_id is 'The stage before.';
comment on column smart_items.currency_id is 'The currency of its amounts.';
comment on column smart_items.opportunity is 'The amount, in currency_id.';
comment on column smart_items.is_manual_opportunity is 'Whether the amount was typed instead of summed up from products.';
comment on column smart_items.tax_value is 'The tax in the amount.';
comment on column smart_items.company_id is 'The customer''s company.';
comment on column smart_items.contact_id is 'The primary contact; all of them are in smart_item_contacts.';
comment on column smart_items.mycompany_id is 'The company on whose behalf it is done.';
comment on column smart_items.begindate is 'The day on which it begins.';
comment on column smart_items.closedate is 'The day on which it ends.';
comment on column smart_items.moved_by_id is 'The user who changed the stage last.';
comment on column smart_items.moved_time is 'When the stage was changed last.';
comment on column smart_items.source_id is 'Where it came from, a code of the directory SOURCE.';
comment on column smart_items.source_description is 'More about where it came from.';
comment on column smart_items.opened is 'Whether everybody may see it.';
comment on column smart_items.assigned_by_id is 'The responsible user.';
comment on column smart_items.created_by_id is 'The user who created it.';
comment on column smart_items.modify_by_id is 'The user who changed it last.';
comment on column smart_items.date_create is 'When it was created.';
comment on column smart_items.date_modify is 'When it was changed last.';
comment on column smart_items.webform_id is 'The CRM form that it was made by.';
comment on column smart_items.utm_source is 'The advertising system (UTM).';
comment on column smart_items.utm_medium is 'The kind of traffic (UTM).';
comment on column smart_items.utm_campaign is 'The campaign (UTM).';
comment on column smart_items.utm_content is 'The content of the campaign (UTM).';
comment on column smart_items.utm_term is 'The search words (UTM).';
comment on column smart_items.last_activity_time is 'When somebody last did something about it.';
comment on column smart_items.last_activity_by is 'The user who last did something about it.';
comment on column smart_items.custom_fields is
    'Every user field (UF_*) and every field that has no column, by its portal name.';
comment on column smart_items.content_hash is
    'Fingerprint of the record, its lists and its quarantined values; b24mirror compares by it.';
comment on column smart_items.synced_at is
    'When this version was asked for, by this database''s clock. Does not move when nothing changed.';
comment on column smart_items.deleted_at is
    'When its deletion was confirmed, by this database''s clock; null while the portal has it.';

comment on table smart_item_contacts is 'The contacts of the items of smart processes, one row each.';
comment on column smart_item_contacts.entity_type_id is 'The smart process, in smart_processes.';
comment on column smart_item_contacts.smart_item_id is 'The item.';
comment on column smart_item_contacts.contact_id is 'The contact.';
comment on column smart_item_contacts.position is 'The place in the item''s list, from 1.';
comment on column smart_item_contacts.is_primary is 'Whether it is the contact that the item itself names (smart_items.contact_id).';

comment on table smart_item_observers is 'Who watches the items of smart processes, one row each.';
comment on column smart_item_observers.entity_type_id is 'The smart process, in smart_processes.';
comment on column smart_item_observers.smart_item_id is 'The item.';
comment on column smart_item_observers.user_id is 'The user.';
comment on column smart_item_observers.position is 'The place in the item''s list, from 1.';

comment on table smart_item_changes is
    'What changed in the items of smart processes, one line per field; only with `history = true` for them. '
    'What a field was at an earlier moment: old_value of the first line of that field with a '
    'later seen_at, else the current value.';
comment on column smart_item_changes.entity_type_id is 'The smart process, in smart_processes.';
comment on column smart_item_changes.id is 'Lines of one record are in the order of this number.';
comment on column smart_item_changes.smart_item_id is 'The item.';
comment on column smart_item_changes.kind is
    'created: seen for the first time, by other means than a backfill. changed: one field. '
    'deleted: gone in the portal. revived: there again after it was deleted.';
comment on column smart_item_changes.field is 'The portal''s name of the field that changed. Null unless the kind is changed.';
comment on column smart_item_changes.value_id is 'The ID of the value or of the linked record, where there may be several.';
comment on column smart_item_changes.old_value is 'What it was; null for nothing. Of a linked record, its place in the list.';
comment on column smart_item_changes.new_value is 'What it is; null for nothing. Of a linked record, its place in the list.';
comment on column smart_item_changes.seen_at is 'When the answer that shows it was asked for, by this database''s clock.';
comment on column smart_item_changes.date_modify is 'The portal''s time of the change, as the record says.';
comment on column smart_item_changes.modify_by_id is 'The user who changed the record last, as the record says.';
comment on column smart_item_changes.old_is_hash is 'Whether old_value is a hash, because the field was in hash_fields.';
comment on column smart_item_changes.new_is_hash is 'Whether new_value is a hash, because the field was in hash_fields.';
