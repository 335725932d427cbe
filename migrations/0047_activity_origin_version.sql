-- The vendor's page lists it, and it stood with the fields that have no column.

alter table activities add column origin_version text;
comment on column activities.origin_version is 'Its version in that system.';
