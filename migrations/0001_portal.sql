-- Which portal this schema mirrors. IDs of two portals mean different records, so a
-- schema belongs to one portal for good, and another portal's webhook is refused.
create table portal (
    one        boolean primary key default true check (one),
    host       text not null,
    user_id    bigint not null,
    claimed_at timestamptz not null default now()
);

comment on table portal is 'One row: the portal that this schema mirrors.';
comment on column portal.user_id is
    'The portal''s user whose rights the records were read with. Another user may see others.';
