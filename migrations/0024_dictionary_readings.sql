-- When a dictionary is read again does not depend on the process that read it last: commands
-- that run once a minute must not read all of them once a minute.
alter table sync_dictionaries
    add column tried_at timestamptz;

comment on column sync_dictionaries.tried_at is 'When it was last asked for, with whatever success, by this database''s clock.';

-- A code that no dictionary has asks for a reading. What the reading does not bring either is
-- hidden by the portal, or nonsense that somebody imported, and asks no more.
create table sync_hidden_codes (
    dictionary text not null,
    directory  text not null default '',
    code       text not null,
    since      timestamptz not null default now(),
    primary key (dictionary, directory, code)
);

comment on table sync_hidden_codes is 'Codes that records hold and that the portal does not list: bots, mail users, codes that were deleted before the mirror began.';
comment on column sync_hidden_codes.dictionary is 'The table that should explain it: statuses, users or currencies.';
comment on column sync_hidden_codes.directory is 'For statuses, the directory; empty for the others.';
comment on column sync_hidden_codes.code is 'What records hold.';
comment on column sync_hidden_codes.since is 'When a reading first failed to bring it, by this database''s clock.';
