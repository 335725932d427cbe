-- What changed, from what, to what, and when it was seen; written in the transaction that
-- writes the record itself, so that neither is ever without the other. Only entities with
-- `history = true` have lines here.
--
-- The current row is the end of a record's history. What it was on an earlier day is the
-- current value unless a line of that field was seen later: then it is `old_value` of the
-- first such line. So a mirror with a million records begins its history with no line at all.
--
-- No foreign keys: lines are written beside the record's row and removed with it, and a key
-- would cost a look-up for each of them.

create table contact_changes (
    id           bigint generated always as identity primary key,
    contact_id   bigint not null,
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
create index contact_changes_contact on contact_changes (contact_id, seen_at);
create index contact_changes_seen on contact_changes (seen_at);

create table lead_changes (
    id           bigint generated always as identity primary key,
    lead_id      bigint not null,
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
create index lead_changes_lead on lead_changes (lead_id, seen_at);
create index lead_changes_seen on lead_changes (seen_at);
-- A field's name may be too long for an index, so only the field that funnels ask for has one.
create index lead_changes_status on lead_changes (lead_id, seen_at) where field = 'STATUS_ID';

comment on table contact_changes is
    'What changed in contacts, one line per field; only with `history = true` for contacts. '
    'What a field was at an earlier moment: old_value of the first line of that field with a '
    'later seen_at, else the current value.';
comment on column contact_changes.id is 'Lines of one record are in the order of this number.';
comment on column contact_changes.contact_id is 'The contact.';
comment on column contact_changes.kind is
    'created: seen for the first time, by other means than a backfill. changed: one field. '
    'deleted: gone in the portal. revived: there again after it was deleted.';
comment on column contact_changes.field is
    'The portal''s name of the field that changed. PHONE and the like: one value of the contact; '
    'PHONE.VALUE_TYPE and the like: that value''s type. Null unless the kind is changed.';
comment on column contact_changes.value_id is
    'The portal''s ID of the value, where the contact may have several: id in contact_phones and the like.';
comment on column contact_changes.old_value is
    'Before, as text that casts to the column''s type; lists and objects as JSON. Null: it was empty.';
comment on column contact_changes.new_value is 'Afterwards, likewise.';
comment on column contact_changes.seen_at is
    'When the portal was asked, by this database''s clock: synced_at or deleted_at of the version that it made.';
comment on column contact_changes.date_modify is
    'The portal''s DATE_MODIFY of the version with the change; null for deletions. A change of this '
    'date alone is no line.';
comment on column contact_changes.modify_by_id is
    'Who modified that version last, by the portal; null for deletions. A change of this field alone is no line.';

comment on table lead_changes is
    'What changed in leads, one line per field; only with `history = true` for leads. '
    'What a field was at an earlier moment: old_value of the first line of that field with a '
    'later seen_at, else the current value.';
comment on column lead_changes.id is 'Lines of one record are in the order of this number.';
comment on column lead_changes.lead_id is 'The lead.';
comment on column lead_changes.kind is
    'created: seen for the first time, by other means than a backfill. changed: one field. '
    'deleted: gone in the portal. revived: there again after it was deleted.';
comment on column lead_changes.field is
    'The portal''s name of the field that changed. PHONE and the like: one value of the lead; '
    'PHONE.VALUE_TYPE and the like: that value''s type. Null unless the kind is changed.';
comment on column lead_changes.value_id is
    'The portal''s ID of the value, where the lead may have several: id in lead_phones and the like.';
comment on column lead_changes.old_value is
    'Before, as text that casts to the column''s type; lists and objects as JSON. Null: it was empty.';
comment on column lead_changes.new_value is 'Afterwards, likewise.';
comment on column lead_changes.seen_at is
    'When the portal was asked, by this database''s clock: synced_at or deleted_at of the version that it made.';
comment on column lead_changes.date_modify is
    'The portal''s DATE_MODIFY of the version with the change; null for deletions. A change of this '
    'date alone is no line.';
comment on column lead_changes.modify_by_id is
    'Who modified that version last, by the portal; null for deletions. A change of this field alone is no line.';

create table history (
    entity         text primary key,
    complete_since timestamptz not null
);

comment on table history is 'Which entities have a history, and from when on it knows every change.';
comment on column history.entity is 'The entity''s name.';
comment on column history.complete_since is
    'Since when changes are kept without a gap. What a record was before, nobody can say.';

-- "How many leads were in this status on that day?"
--
--     select day, status_id, count(*)
--     from generate_series(date '2026-01-01', date '2026-01-31', interval '1 day') as day
--     join lead_status_spans as s
--         on s.valid_from < day + interval '1 day'
--        and (s.valid_to is null or s.valid_to >= day + interval '1 day')
--     group by day, status_id order by day, status_id;
--
-- Read backwards: before an event a lead was in the status that the next change of status has
-- as its old one, and in the current one where none follows.
create view lead_status_spans as
with events as (
    select lead_id, id, seen_at, field is null as is_life, old_value,
        count(field) over (
            partition by lead_id order by seen_at desc, id desc) as changes_from_here,
        lag(seen_at) over (partition by lead_id order by seen_at, id) as event_before,
        kind = 'revived' as was_deleted
    from lead_changes
    where field = 'STATUS_ID' or kind in ('deleted', 'revived')
), spans as (
    select e.lead_id,
        case when e.changes_from_here = 0 then l.status_id
            else max(e.old_value) over (partition by e.lead_id, e.changes_from_here) end as status_id,
        coalesce(e.event_before, l.date_create, '-infinity') as valid_from,
        e.seen_at as valid_to
    from events e join leads l on l.id = e.lead_id
    where not e.was_deleted
    union all
    select l.id, l.status_id, coalesce(e.last, l.date_create, '-infinity'), l.deleted_at
    from leads l
    left join (select lead_id, max(seen_at) as last from events group by lead_id) e on e.lead_id = l.id
)
select lead_id, status_id, valid_from, valid_to
from spans
where valid_to is null or valid_from < valid_to;

comment on view lead_status_spans is
    'From when to when each lead was in which status; needs `history = true` for leads and is '
    'right from history.complete_since on. How many were in each status at the end of a day: '
    'select status_id, count(*) from lead_status_spans where valid_from < day and (valid_to is '
    'null or valid_to >= day) group by status_id, with day the midnight after it.';
comment on column lead_status_spans.lead_id is 'The lead, deleted ones included.';
comment on column lead_status_spans.status_id is 'Its status in that time.';
comment on column lead_status_spans.valid_from is
    'When the status was first seen; of the first span, when the lead was created.';
comment on column lead_status_spans.valid_to is
    'When another status was seen, or the deletion; null while it is in this status.';
