-- A view cannot look into settings, so the process that mirrors notes what they switch on:
-- rows that nobody keeps fresh any more must not look as if somebody did.
create table sync_switches (
    entity text primary key,
    enabled boolean not null
);

comment on table sync_switches is
    'Which entities the settings of the latest process that mirrored switch on.';
comment on column sync_switches.entity is 'The entity; smart_items stands for all smart processes.';
comment on column sync_switches.enabled is 'Whether it is mirrored.';

-- Not every gateway can be asked for what was modified.
alter table sync_checkpoints add column full_pass_seconds bigint;

comment on column sync_checkpoints.full_pass_seconds is
    'Changes arrive by reading every record again, once in so many seconds; null where the source can be asked for them.';
