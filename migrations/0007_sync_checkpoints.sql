-- How far the incremental reading of an entity has come. One row per entity, written in
-- the same transaction as the records that it stands for.
create table sync_checkpoints (
    entity              text primary key,
    fingerprint         bigint not null,
    mark                bigint not null,
    successor_id        bigint,
    successor_at        timestamptz,
    newest              bigint not null,
    -- Watermarks: the portal's clock (which may go backwards), its offset, our clock.
    deep_portal_at      timestamptz not null,
    deep_portal_offset  integer not null,
    deep_database_at    timestamptz not null,
    deep_fitted         boolean not null,
    last_portal_at      timestamptz not null,
    last_portal_offset  integer not null,
    last_database_at    timestamptz not null,
    shift_seconds       bigint,
    shift_until         timestamptz,
    cycle               jsonb,
    asked_at            timestamptz not null,
    completed_at        timestamptz,
    check ((successor_id is null) = (successor_at is null)),
    check ((shift_seconds is null) = (shift_until is null))
);

comment on table sync_checkpoints is 'How far the incremental reading of each entity has come.';
comment on column sync_checkpoints.fingerprint is
    'The mapping that the records were read with; another one makes every record be read again.';
comment on column sync_checkpoints.mark is
    'Records up to this ID have settled; newer ones are read whatever their date.';
comment on column sync_checkpoints.successor_id is 'What becomes the mark next.';
comment on column sync_checkpoints.deep_portal_at is
    'Portal''s clock at the start of the last complete deep cycle.';
comment on column sync_checkpoints.last_portal_at is
    'Portal''s clock at the start of the last complete cycle.';
comment on column sync_checkpoints.shift_seconds is
    'By how much floors are lowered until shift_until, because the portal''s clock fell back.';
comment on column sync_checkpoints.cycle is 'State of a cycle under way; null between cycles.';
comment on column sync_checkpoints.completed_at is
    'When the last cycle was completed, by this database''s clock.';
