-- What the holder's requests are waiting for, so that `status`, which is another process,
-- can tell why nothing seems to happen: [{"reason": "…", "until": "…"}].
alter table sync_lease add column waits jsonb not null default '[]';

comment on column sync_lease.waits is
    'What the holder waits for at the portal, and until when; empty when it does not wait.';
