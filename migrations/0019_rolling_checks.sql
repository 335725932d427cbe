-- The content of every record is compared once within a set time, a few pages at a time:
-- changes that never move DATE_MODIFY show in no other way. How far it has come is stored, so
-- that a restart costs nothing.
create table rolling_checks (
    entity       text primary key,
    -- The round under way.
    started_at   timestamptz not null,
    cursor_id    bigint not null default 0,
    compared     bigint not null default 0,
    different    bigint not null default 0,
    -- The last complete round.
    checked_from timestamptz,
    checked_at   timestamptz,
    check ((checked_at is null) = (checked_from is null))
);

comment on table rolling_checks is 'How far the rolling comparison of content has come.';
comment on column rolling_checks.entity is 'The entity''s name.';
comment on column rolling_checks.started_at is 'When the round under way began, by the database''s clock.';
comment on column rolling_checks.cursor_id is 'Everything up to this ID has been compared in this round.';
comment on column rolling_checks.compared is 'Records compared in this round.';
comment on column rolling_checks.different is 'How many of them differed; they were read again.';
comment on column rolling_checks.checked_from is 'When the last complete round began.';
comment on column rolling_checks.checked_at is 'When the last complete round ended.';
