-- A mirror is checked as well as filled: sweeps for deletions, comparisons of content, single
-- records read again. People ask for them as for everything else, and each leaves a run.
alter table sync_requests drop constraint sync_requests_kind_check;
alter table sync_requests add constraint sync_requests_kind_check
    check (kind in ('backfill', 'sync', 'sweep', 'verify', 'refresh'));

alter table sync_runs drop constraint sync_runs_kind_check;
alter table sync_runs add constraint sync_runs_kind_check
    check (kind in ('backfill', 'incremental', 'sweep', 'verify', 'refresh', 'rolling_check'));

-- The schedule asks for the last complete check of each kind.
create index sync_runs_latest on sync_runs (entity, kind, id);

-- A comparison that comes to its end is complete, whatever it found. What it found goes back
-- to whoever asked, as a table for people and as JSON.
alter table sync_requests add column differs boolean not null default false;
alter table sync_requests add column result jsonb;

comment on column sync_requests.differs is 'Whether the work came to its end and found the mirror different from the portal.';
comment on column sync_requests.result is 'What the work gives back beside its message, by entity; null for most kinds.';

-- An entity that a person has paused is neither read nor written. The row is there without
-- any process and outlives all of them; whoever holds the lease looks at it every second.
create table sync_pauses (
    entity     text primary key,
    paused_at  timestamptz not null default clock_timestamp(),
    paused_by  text not null
);

comment on table sync_pauses is 'Entities that a person has paused: they are neither read nor written until resumed.';
comment on column sync_pauses.entity is 'The entity''s name.';
comment on column sync_pauses.paused_at is 'Since when.';
comment on column sync_pauses.paused_by is 'Who paused it: host and account.';
