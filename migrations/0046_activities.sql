-- Activities, as crm.activity.list brings them. last_updated stands where other tables have
-- date_modify. No foreign keys to the records: each entity is mirrored on its own.

create table activities (
    id                   bigint primary key,
    owner_type_id        bigint,
    owner_id             bigint,
    type_id              bigint,
    provider_id          text,
    provider_type_id     text,
    provider_group_id    text,
    associated_entity_id bigint,
    subject              text,
    description          text,
    description_type     bigint,
    direction            bigint,
    start_time           timestamptz,
    end_time             timestamptz,
    deadline             timestamptz,
    completed            boolean,
    status               bigint,
    priority             bigint,
    notify_type          bigint,
    notify_value         bigint,
    location             text,
    responsible_id       bigint,
    author_id            bigint,
    editor_id            bigint,
    created              timestamptz,
    last_updated         timestamptz,
    is_incoming_channel  boolean,
    provider_data        text,
    result_mark          bigint,
    result_value         numeric,
    result_sum           numeric,
    result_currency_id   text,
    result_status        bigint,
    result_stream        bigint,
    result_source_id     text,
    autocomplete_rule    bigint,
    originator_id        text,
    origin_id            text,
    custom_fields        jsonb not null default '{}',
    content_hash         bigint not null,
    synced_at            timestamptz not null,
    deleted_at           timestamptz
);

create table activity_changes (
    id           bigint generated always as identity primary key,
    activity_id  bigint not null,
    kind         text not null check (kind in ('created', 'changed', 'deleted', 'revived')),
    field        text,
    value_id     bigint,
    old_value    text,
    new_value    text,
    seen_at      timestamptz not null,
    date_modify  timestamptz,
    modify_by_id bigint,
    old_is_hash  boolean not null default false,
    new_is_hash  boolean not null default false,
    check ((kind = 'changed') = (field is not null))
);
create index activity_changes_activity on activity_changes (activity_id, seen_at);
create index activity_changes_seen on activity_changes (seen_at);

comment on table activities is
    'One row per activity of the portal (calls, e-mails, meetings, tasks), tombstones included: filter on deleted_at is null.';
comment on column activities.id is 'The portal''s ID.';
comment on column activities.owner_type_id is 'What it is about: 1 lead, 2 deal, 3 contact, 4 company, 7 quote, 31 smart invoice; others are numbers of smart processes.';
comment on column activities.owner_id is 'The record that it is about, of the kind that owner_type_id says.';
comment on column activities.type_id is '1 meeting, 2 call, 3 task, 4 e-mail, 5 imported event, 6 what its provider says; 0 none.';
comment on column activities.provider_id is 'The part of the portal that made it, such as VOXIMPLANT_CALL.';
comment on column activities.provider_type_id is 'The provider''s own kind, such as CALL.';
comment on column activities.provider_group_id is 'The provider''s own group.';
comment on column activities.associated_entity_id is 'What the provider keeps for it, such as the task; its kind depends on the provider.';
comment on column activities.subject is 'Its subject.';
comment on column activities.description is 'What was written about it.';
comment on column activities.description_type is 'How the description is written: 1 text, 2 BBCode, 3 HTML; 0 unknown.';
comment on column activities.direction is '1 incoming, 2 outgoing; 0 neither. For calls and e-mails.';
comment on column activities.start_time is 'When it begins.';
comment on column activities.end_time is 'When it ends.';
comment on column activities.deadline is 'When it is due.';
comment on column activities.completed is 'Whether it is done.';
comment on column activities.status is '1 waiting, 2 done, 3 done by itself; 0 none.';
comment on column activities.priority is '1 low, 2 medium, 3 high; 0 none.';
comment on column activities.notify_type is 'The unit of notify_value: 1 minutes, 2 hours, 3 days; 0 no reminder.';
comment on column activities.notify_value is 'How long before it the user is reminded, in units of notify_type.';
comment on column activities.location is 'Where it takes place.';
comment on column activities.responsible_id is 'The responsible user.';
comment on column activities.author_id is 'The user who created it.';
comment on column activities.editor_id is 'The user who changed it last.';
comment on column activities.created is 'When it was created.';
comment on column activities.last_updated is 'When it was changed last.';
comment on column activities.is_incoming_channel is 'Whether it came by a channel that people write in from outside.';
comment on column activities.provider_data is 'The provider''s own data.';
comment on column activities.result_mark is 'The mark of its result, by the provider''s own scale.';
comment on column activities.result_value is 'The value of its result.';
comment on column activities.result_sum is 'The amount of its result, in result_currency_id.';
comment on column activities.result_currency_id is 'The currency of result_sum.';
comment on column activities.result_status is 'The state of its result, by the provider''s own numbers.';
comment on column activities.result_stream is 'The portal''s own statistics of its result.';
comment on column activities.result_source_id is 'Where its result came from.';
comment on column activities.autocomplete_rule is 'The rule that completed it by itself; 0 none.';
comment on column activities.originator_id is 'The system that it was imported from.';
comment on column activities.origin_id is 'Its ID in that system.';
comment on column activities.custom_fields is
    'Every field that has no column, by its portal name.';
comment on column activities.content_hash is
    'Fingerprint of the activity and its quarantined values; b24mirror compares by it.';
comment on column activities.synced_at is
    'When this version was asked for, by this database''s clock. Does not move when nothing changed.';
comment on column activities.deleted_at is
    'When its deletion was confirmed, by this database''s clock; null while the portal has it.';

comment on table activity_changes is
    'What changed in activities, one line per field; only with `history = true` for them. '
    'What a field was at an earlier moment: old_value of the first line of that field with a '
    'later seen_at, else the current value.';
comment on column activity_changes.id is 'Lines of one activity are in the order of this number.';
comment on column activity_changes.activity_id is 'The activity.';
comment on column activity_changes.kind is
    'created: seen for the first time, by other means than a backfill. changed: one field. '
    'deleted: gone in the portal. revived: there again after it was deleted.';
comment on column activity_changes.field is 'The portal''s name of the field that changed. Null unless the kind is changed.';
comment on column activity_changes.value_id is 'Always null: activities have no lists of values here.';
comment on column activity_changes.old_value is 'What it was; null for nothing.';
comment on column activity_changes.new_value is 'What it is; null for nothing.';
comment on column activity_changes.seen_at is 'When the answer that shows it was asked for, by this database''s clock.';
comment on column activity_changes.date_modify is 'The portal''s time of the change, as the activity says.';
comment on column activity_changes.modify_by_id is 'Always null; activities.editor_id says who changed it last.';
comment on column activity_changes.old_is_hash is
    'Whether old_value is a hash, because the field was in hash_fields.';
comment on column activity_changes.new_is_hash is
    'Whether new_value is a hash, because the field was in hash_fields.';
