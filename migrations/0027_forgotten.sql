-- Who was forgotten is kept out for as long as the portal has the record. Nothing remains of
-- it but this hash, made with the key in privacy_salt, so that nobody can read the ID here.
create table forgotten (
    hash text primary key
);

comment on table forgotten is 'Records that are kept out of the mirror for good.';
comment on column forgotten.hash is 'A keyed hash of the entity''s name and the record''s ID.';

alter table sync_requests drop constraint sync_requests_kind_check;
alter table sync_requests add constraint sync_requests_kind_check
    check (kind in ('backfill', 'sync', 'sweep', 'verify', 'refresh', 'forget'));
