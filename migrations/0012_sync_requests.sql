-- Work that people ask for while another process holds the lease: the holder does it and
-- reports here, and whoever asked follows the row.
create table sync_requests (
    id          bigint generated always as identity primary key,
    kind        text not null check (kind in ('backfill', 'sync')),
    entities    text[] not null,
    arguments   jsonb not null default '{}',
    created_at  timestamptz not null default now(),
    -- The generation that does it; one that has since lost the lease counts as nobody.
    taken_by    bigint,
    taken_at    timestamptz,
    progress    jsonb,
    finished_at timestamptz,
    verdict     text check (verdict in ('complete', 'incomplete', 'stopped', 'interrupted')),
    message     text,
    check ((taken_by is null) = (taken_at is null)),
    check ((finished_at is null) = (verdict is null))
);

create index sync_requests_open on sync_requests (id) where finished_at is null;

comment on table sync_requests is 'What people asked the process that holds sync_lease to do.';
comment on column sync_requests.entities is 'Which entities; empty means all.';
