-- The ID ranges of a backfill. Each advances in the same transaction as its records, so a
-- crash costs the answer in flight and no more. Done ranges stay until the next start.
create table backfill_segments (
    id         bigint generated always as identity primary key,
    entity     text not null,
    kind       text not null check (kind in ('backfill', 'full_pass')),
    -- The range is (after_id, up_to_id].
    after_id   bigint not null,
    up_to_id   bigint not null,
    cursor_id  bigint not null,
    done       boolean not null default false,
    asked_at   timestamptz not null,
    started_at timestamptz not null,
    rows_read  bigint not null default 0,
    -- For progress and time left only: IDs have gaps of any size, so the range tells nothing.
    rows_expected bigint check (rows_expected >= 0),
    -- Pauses do not count, so that the pace is that of the work.
    busy_ms    bigint not null default 0,
    check (after_id < up_to_id and cursor_id >= after_id)
);

create index backfill_segments_entity on backfill_segments (entity, after_id);

comment on table backfill_segments is 'ID ranges that a backfill reads, and how far each has come.';
comment on column backfill_segments.cursor_id is 'Everything up to this ID has been read.';
comment on column backfill_segments.done is 'Whether an empty page after the cursor has closed it.';
