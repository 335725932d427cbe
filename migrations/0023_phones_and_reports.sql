-- Phones that can be compared: people type the same number in many ways. The column is derived
-- from value by the program, because telling a number from its spelling takes the numbering
-- plan of every country. It is no part of a record's content hash: another country or a newer
-- numbering plan changes it without reading a record again. Its order is that of bytes, which
-- makes comparing cheap, and there is nothing else in it than a plus sign and digits.
alter table contact_phones add column e164 text collate "C";
alter table lead_phones add column e164 text collate "C";

-- Who has this number. With the record, so that duplicates are found in the index alone.
create index contact_phones_e164 on contact_phones (e164, contact_id) where e164 is not null;
create index lead_phones_e164 on lead_phones (e164, lead_id) where e164 is not null;

-- The few numbers that mean nothing to a numbering plan can still be the same.
create index contact_phones_unresolved on contact_phones (digits collate "C", contact_id) where e164 is null;
create index lead_phones_unresolved on lead_phones (digits collate "C", lead_id) where e164 is null;

comment on column contact_phones.e164 is
    'The number in international form, +79161234567; null where value is no valid number.';
comment on column lead_phones.e164 is
    'The number in international form, +79161234567; null where value is no valid number.';
comment on column contact_phones.contact_id is 'The contact.';
comment on column contact_phones.id is 'The portal''s ID of the value.';
comment on column contact_phones.value is 'The number as people typed it.';
comment on column lead_phones.lead_id is 'The lead.';
comment on column lead_phones.id is 'The portal''s ID of the value.';
comment on column lead_phones.value is 'The number as people typed it.';

-- By what e164 was derived, so that all of it can be derived anew when that changes; a part at
-- a time, and where a restart left off.
create table sync_phone_numbers (
    entity        text primary key,
    library       text not null,
    region        text,
    cursor_parent bigint not null default 0,
    cursor_id     bigint not null default 0,
    derived_at    timestamptz
);

comment on table sync_phone_numbers is 'By which rules the e164 of phones is derived, and how far that has come.';
comment on column sync_phone_numbers.entity is 'The entity''s name.';
comment on column sync_phone_numbers.library is 'The library and its version: each knows newer numbering plans.';
comment on column sync_phone_numbers.region is 'The country of numbers that are written without one; null where none is known.';
comment on column sync_phone_numbers.cursor_parent is 'Phones up to this record have been derived by these rules.';
comment on column sync_phone_numbers.cursor_id is 'And of this record, up to this value.';
comment on column sync_phone_numbers.derived_at is 'When the last of them was; null while it goes on.';

-- Addresses with their record, for the same reason as numbers.
drop index contact_emails_address;
drop index lead_emails_address;
create index contact_emails_address on contact_emails (address, contact_id);
create index lead_emails_address on lead_emails (address, lead_id);

-- What the ready reports need to answer at once where there are a million contacts. The first
-- two of each are of the size of the table; all others hold the few rows that they are about,
-- so that they cost a writer hardly more than a look at the condition.
create index contacts_date_create on contacts (date_create) where deleted_at is null;
create index contacts_assigned_by_id on contacts (assigned_by_id, id) where deleted_at is null;
create index leads_assigned_by_id on leads (assigned_by_id, id) where deleted_at is null;

-- The leads of a contact.
create index leads_contact_id on leads (contact_id, id)
    where contact_id is not null and deleted_at is null;

-- Tombstones are few, so reports look for those instead of for every living record.
create index contacts_deleted on contacts (id) where deleted_at is not null;
create index leads_deleted on leads (id) where deleted_at is not null;

-- Nobody can be reached by a number without digits or an address without @.
create index contacts_unreachable on contacts (id)
    where has_phone is not true and has_email is not true and deleted_at is null;
create index contact_emails_unusable on contact_emails (contact_id)
    where address is null or address not like '%@%';

-- Dates that no record can have. The report repeats the condition word for word.
create index contacts_impossible on contacts (id) where
    birthdate < date '1900-01-01'
    or birthdate > (date_create at time zone 'UTC')::date + 1
    or date_modify < date_create;
