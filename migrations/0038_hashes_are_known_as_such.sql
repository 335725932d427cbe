-- A hash of a hash finds nothing again. A field that is hashed, shown and hashed once more leaves
-- hashes behind: in the history for good, and in rows until they are read again, which tombstones
-- never are. So the history says of each value whether it is one, and rows are told by the time at
-- which their field was shown: what was asked for before is a hash.
do $$
declare
    kind record;
begin
    for kind in
        select * from (values ('contacts', 'contact_changes'), ('leads', 'lead_changes'),
            ('companies', 'company_changes'), ('deals', 'deal_changes'),
            ('quotes', 'quote_changes'), ('smart_invoices', 'smart_invoice_changes'),
            ('mail_recipients', 'mail_recipient_changes')
        ) as kinds (entity, changes)
    loop
        execute format(
            'alter table %I add column old_is_hash boolean not null default false, '
            'add column new_is_hash boolean not null default false', kind.changes);
        execute format(
            'update %I as c set old_is_hash = old_value is not null, '
            'new_is_hash = new_value is not null '
            'from privacy_rules r where r.entity = %L and c.field = any(r.hashed)',
            kind.changes, kind.entity);
        execute format('comment on column %I.old_is_hash is %L', kind.changes,
            'Whether old_value is a hash, because the field was in hash_fields.');
        execute format('comment on column %I.new_is_hash is %L', kind.changes,
            'Whether new_value is a hash, because the field was in hash_fields.');
    end loop;
end
$$;

create table privacy_reveals (
    entity      text not null,
    field       text not null,
    revealed_at timestamptz not null,
    primary key (entity, field)
);

comment on table privacy_reveals is
    'Fields that were hashed once and are stored as they come now. Rows that were last written before still hold hashes.';
comment on column privacy_reveals.entity is 'The entity''s name.';
comment on column privacy_reveals.field is 'The field, by the portal''s name.';
comment on column privacy_reveals.revealed_at is
    'When it left hash_fields: a row with an earlier synced_at still holds its hash.';
