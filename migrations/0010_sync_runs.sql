-- Passes that did something. An idle cycle leaves no row.
create table sync_runs (
    id          bigint generated always as identity primary key,
    entity      text not null,
    kind        text not null check (kind in ('backfill', 'incremental')),
    generation  bigint not null,
    started_at  timestamptz not null default now(),
    finished_at timestamptz,
    requests    bigint not null default 0,
    retries     bigint not null default 0,
    waited_ms   bigint not null default 0,
    read        bigint not null default 0,
    inserted    bigint not null default 0,
    updated     bigint not null default 0,
    unchanged   bigint not null default 0,
    deleted     bigint not null default 0,
    quarantined bigint not null default 0,
    verdict     text check (verdict in ('complete', 'incomplete', 'stopped', 'interrupted')),
    message     text,
    check ((finished_at is null) = (verdict is null))
);

create index sync_runs_entity on sync_runs (entity, id);

comment on table sync_runs is 'Passes that did something, with what they did and how they ended.';
comment on column sync_runs.waited_ms is 'Time spent waiting for the portal''s limits.';
comment on column sync_runs.verdict is
    'Null while it runs; interrupted when its process died and another took over.';
