-- Which fields are left out or hashed, as the stored rows are: when the settings say
-- otherwise, what is stored is erased or hashed before anything else is done.
create table privacy_rules (
    entity     text primary key,
    excluded   text[] not null,
    hashed     text[] not null,
    applied_at timestamptz not null
);

comment on table privacy_rules is 'Which fields are left out of the mirror, and which are kept as hashes only.';
comment on column privacy_rules.entity is 'The entity''s name.';
comment on column privacy_rules.excluded is 'Fields that are not stored at all, by the portal''s names.';
comment on column privacy_rules.hashed is 'Fields of which only a keyed hash is stored, by the portal''s names.';
comment on column privacy_rules.applied_at is 'When what had been stored before was made to follow these rules.';

-- In the database and not in the settings: it is made once and by itself, goes with every
-- backup, and cannot be lost while the hashes stay. Whoever reads it can try phone numbers
-- out, so it is for nobody but b24mirror.
create table privacy_salt (
    only_one boolean primary key default true check (only_one),
    salt     bytea not null check (length(salt) = 32)
);

comment on table privacy_salt is 'The key of every hash in this schema. Not for readers.';
comment on column privacy_salt.only_one is 'There is one row.';
comment on column privacy_salt.salt is 'The key: 32 random bytes.';
