-- One process at a time talks to the portal, because the portal counts requests and they
-- are counted in memory. Every batch locks this row `for key share` to the end of its
-- transaction; renewing touches no key and does not wait for that; taking over locks it
-- `for update`, hence waits for what is in flight, and raises the generation, so that a
-- frozen holder that wakes up late writes nothing.
create table sync_lease (
    one          boolean primary key default true check (one),
    generation   bigint not null default 0,
    holder       text,
    expires_at   timestamptz,
    renewed_at   timestamptz not null default now(),
    -- Whether the last holder gave the lease back, so that bucket_level is exact.
    clean        boolean not null default true,
    bucket_level double precision not null default 0 check (bucket_level >= 0),
    check ((holder is null) = (expires_at is null))
);

insert into sync_lease default values;

comment on table sync_lease is 'One row: the process that talks to the portal.';
comment on column sync_lease.holder is 'Null when the last holder has given it back.';
comment on column sync_lease.bucket_level is
    'Level of the portal''s request counter at renewed_at; a new holder starts from it.';
