-- Whoever has given a right back wants to know whether to wait or to act.
alter table sync_health add column tried_again_at timestamptz;

comment on column sync_health.tried_again_at is
    'When a stopped entity is tried again, if the process that mirrors lives until then.';
