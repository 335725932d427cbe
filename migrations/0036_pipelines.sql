-- The pipelines of deals. Their stages are in statuses, in a directory for each.

create table pipelines (
    id         bigint primary key,
    name       text not null,
    sort       integer,
    is_default boolean not null,
    first_seen timestamptz not null default now(),
    gone_since timestamptz
);

comment on table pipelines is 'The pipelines of deals; their stages are in statuses.';
comment on column pipelines.id is 'The portal''s ID, which deals.category_id holds; the first pipeline has 0.';
comment on column pipelines.name is 'What people see.';
comment on column pipelines.sort is 'The portal''s order, smallest first.';
comment on column pipelines.is_default is 'Whether new deals go there where nothing else is said.';
comment on column pipelines.first_seen is 'When the mirror first saw it, by this database''s clock.';
comment on column pipelines.gone_since is 'When the portal stopped listing it; null while it does.';
