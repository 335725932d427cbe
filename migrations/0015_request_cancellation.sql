-- Whoever has asked for something may take it back. The holder looks at its requests every
-- second, stops what it does for them, and closes them as incomplete.
alter table sync_requests add column cancelled_at timestamptz;

-- A restart over a complete mirror is read for the sake of the request alone: cancelled, it
-- is dropped, and taken up by another holder, it goes on instead of beginning once more.
alter table sync_requests add column refilling text[] not null default '{}';

comment on column sync_requests.cancelled_at is 'When whoever asked for it took it back.';
comment on column sync_requests.refilling is
    'Entities whose complete mirror is read again only because of this request.';
