-- A portal can be renamed, and stays the same portal: its old host answers with a redirect.
-- `host` is where it was last seen to answer. Whoever names one of the former hosts means the
-- same portal and goes to `host` at once. `member_id` does not change with the host; only the
-- authorization server of an application tells it.
alter table portal
    add column member_id text,
    add column former_hosts text[] not null default '{}';

comment on column portal.host is 'The portal''s host name, as it last answered.';
comment on column portal.member_id is 'The portal''s own identity, which no renaming changes. Null as long as only a webhook was used.';
comment on column portal.former_hosts is 'Host names that the portal had before.';
