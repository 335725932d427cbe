-- What the portal's codes and numbers mean. A row that the portal no longer lists keeps its
-- labels and is marked, because old records still carry its code. No record refers to these
-- tables by a foreign key: the portal hides bots, mail users and whatever else it likes.

create table statuses (
    directory   text not null,
    code        text not null,
    id          bigint,
    name        text not null,
    sort        integer,
    semantics   text,
    color       text,
    category_id bigint,
    first_seen  timestamptz not null default now(),
    gone_since  timestamptz,
    primary key (directory, code)
);

comment on table statuses is 'Every directory of codes: lead stages, sources, contact types and the rest.';
comment on column statuses.directory is 'The directory, the portal''s ENTITY_ID: STATUS, SOURCE, CONTACT_TYPE, HONORIFIC and others.';
comment on column statuses.code is 'What records hold, the portal''s STATUS_ID.';
comment on column statuses.id is 'The portal''s ID of the entry.';
comment on column statuses.name is 'What people see.';
comment on column statuses.sort is 'The portal''s order, smallest first.';
comment on column statuses.semantics is 'S where the stage ends well, F where it fails, null while it goes on.';
comment on column statuses.color is 'The portal''s colour of it, where it has one.';
comment on column statuses.category_id is 'The pipeline that the stage belongs to, where it belongs to one.';
comment on column statuses.first_seen is 'When the mirror first saw it, by this database''s clock.';
comment on column statuses.gone_since is 'When the portal stopped listing it; null while it does.';

create table users (
    id             bigint primary key,
    full_name      text not null,
    name           text,
    second_name    text,
    last_name      text,
    email          text,
    work_position  text,
    department_ids bigint[] not null default '{}',
    active         boolean not null,
    first_seen     timestamptz not null default now(),
    gone_since     timestamptz
);

comment on table users is 'The portal''s people. It hides bots, mail users and open-line users: records may name an ID that is not here.';
comment on column users.id is 'The portal''s ID, which assigned_by_id and its like hold.';
comment on column users.full_name is 'Name and last name; the e-mail, then the ID, where the portal gives neither.';
comment on column users.name is 'First name.';
comment on column users.second_name is 'Middle name.';
comment on column users.last_name is 'Last name.';
comment on column users.email is 'E-mail.';
comment on column users.work_position is 'Position.';
comment on column users.department_ids is 'The departments, IDs of the table departments.';
comment on column users.active is 'Whether the person may still log in; dismissed people may not.';
comment on column users.first_seen is 'When the mirror first saw it, by this database''s clock.';
comment on column users.gone_since is 'When the portal stopped listing it; null while it does.';

create table departments (
    id         bigint primary key,
    name       text not null,
    sort       integer,
    parent_id  bigint,
    head_id    bigint,
    first_seen timestamptz not null default now(),
    gone_since timestamptz
);

comment on table departments is 'The portal''s departments, a tree.';
comment on column departments.id is 'The portal''s ID.';
comment on column departments.name is 'What people see.';
comment on column departments.sort is 'The portal''s order, smallest first.';
comment on column departments.parent_id is 'The department above; null at the top.';
comment on column departments.head_id is 'The user who leads it.';
comment on column departments.first_seen is 'When the mirror first saw it, by this database''s clock.';
comment on column departments.gone_since is 'When the portal stopped listing it; null while it does.';

create table currencies (
    code         text primary key,
    name         text not null,
    rate         numeric,
    rate_amount  numeric,
    base         boolean not null,
    decimals     integer,
    sort         integer,
    first_seen   timestamptz not null default now(),
    gone_since   timestamptz
);

comment on table currencies is 'The portal''s currencies and the rates that it converts by.';
comment on column currencies.code is 'What records hold, for example EUR.';
comment on column currencies.name is 'What people see.';
comment on column currencies.rate is 'What rate_amount of it is worth in the base currency.';
comment on column currencies.rate_amount is 'The number of units that rate is given for.';
comment on column currencies.base is 'Whether it is the one that the others'' rates are given in.';
comment on column currencies.decimals is 'Digits after the point.';
comment on column currencies.sort is 'The portal''s order, smallest first.';
comment on column currencies.first_seen is 'When the mirror first saw it, by this database''s clock.';
comment on column currencies.gone_since is 'When the portal stopped listing it; null while it does.';

create table field_options (
    entity     text not null,
    field      text not null,
    id         text not null,
    label      text not null,
    sort       integer not null,
    first_seen timestamptz not null default now(),
    gone_since timestamptz,
    primary key (entity, field, id)
);

comment on table field_options is 'The choices of every enumeration among the user fields.';
comment on column field_options.entity is 'contacts, leads and so on.';
comment on column field_options.field is 'The portal''s name of the field.';
comment on column field_options.id is 'What records hold in custom_fields.';
comment on column field_options.label is 'What people see.';
comment on column field_options.sort is 'The portal''s order, smallest first.';
comment on column field_options.first_seen is 'When the mirror first saw it, by this database''s clock.';
comment on column field_options.gone_since is 'When the portal stopped listing it; null while it does.';

-- When each dictionary was last read whole, and what asked for the next reading.
create table sync_dictionaries (
    name       text primary key,
    read_at    timestamptz,
    wanted_at  timestamptz,
    problem    text
);

comment on table sync_dictionaries is 'How fresh each dictionary is: statuses, users, departments, currencies.';
comment on column sync_dictionaries.name is 'The dictionary''s table.';
comment on column sync_dictionaries.read_at is 'When it was last read whole, by this database''s clock.';
comment on column sync_dictionaries.wanted_at is 'When a record with a code that it lacks was written; null when none was since.';
comment on column sync_dictionaries.problem is 'Why it could not be read last time, a missing right for example; null when it could.';

alter table portal
    add column time_zone text,
    add column country   text;

comment on column portal.time_zone is 'The time zone of the portal, as its profile names it; reports count days in it.';
comment on column portal.country is 'The two letters of the country that the portal''s licence is for, where it says one.';
