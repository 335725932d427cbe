-- What could not be stored as it came: a single value (its column is then null), or a
-- whole record (then its older version, if any, stays). Resolved when the record comes
-- again without the fault.
create table sync_quarantine (
    id          bigint generated always as identity primary key,
    entity      text not null,
    record_id   bigint,
    field       text not null,
    reason      text not null check (reason in (
        'unreadable_value', 'nul_removed', 'children_missing', 'unreadable_children',
        'child_without_id', 'duplicate_child_id', 'no_usable_id', 'unparsable_record',
        'refused_by_database', 'undeliverable')),
    raw         text not null,
    first_seen  timestamptz not null,
    last_seen   timestamptz not null,
    resolved_at timestamptz
);

-- One open entry per fault, however often it is met. By the raw value's hash, because
-- values may be larger than an index entry; without an ID the value is what tells
-- entries apart, and two nulls must count as equal.
create unique index sync_quarantine_open
    on sync_quarantine (entity, record_id, field, reason, md5(raw)) nulls not distinct
    where resolved_at is null;

comment on table sync_quarantine is 'What could not be stored as it came. Open while resolved_at is null.';
comment on column sync_quarantine.record_id is 'Null when not even the ID could be read.';
comment on column sync_quarantine.field is 'The portal''s field; empty when the whole record is meant.';
comment on column sync_quarantine.raw is 'The value as it came, as JSON text. May hold personal data.';
comment on column sync_quarantine.last_seen is 'Moved at most once a day.';
