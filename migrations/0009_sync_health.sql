-- Whether an entity is being read. Apart from the checkpoint, because it must be possible
-- to say "stopped" before there is one, for instance when a right is missing from the start.
create table sync_health (
    entity text primary key,
    state  text not null check (state in ('active', 'waiting', 'stopped')),
    reason text,
    since  timestamptz not null default now(),
    check ((state = 'active') = (reason is null))
);

comment on table sync_health is 'Whether each entity is being read, and if not, why.';
