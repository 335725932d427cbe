-- Pipelines of contacts, companies, smart invoices and smart processes beside those of deals. What
-- they are of is part of the key: the first pipeline of deals is not the only one with the ID 0.

alter table pipelines add column entity_type_id bigint not null default 2;
alter table pipelines alter column entity_type_id drop default;
alter table pipelines drop constraint pipelines_pkey, add primary key (entity_type_id, id);

-- Those of deals were kept as codes that the portal hides, and are read with the others soon.
delete from sync_hidden_codes where dictionary = 'pipelines';
update sync_dictionaries set wanted_at = now() where name = 'pipelines';

comment on table pipelines is
    'The pipelines, which the portal also calls categories, of deals, contacts, companies, smart '
    'invoices and smart processes, where these are mirrored; their stages are in statuses.';
comment on column pipelines.entity_type_id is
    'What it is of: 2 deals, 3 contacts, 4 companies, 31 smart invoices; others are numbers of smart processes.';
comment on column pipelines.id is
    'The portal''s ID, which category_id of the records holds; the first pipeline of deals has 0.';
comment on column pipelines.is_default is 'Whether new records go there where nothing else is said.';
comment on column smart_invoices.category_id is 'The pipeline: pipelines.id, where entity_type_id is 31.';
comment on column smart_items.category_id is
    'The pipeline: pipelines.id, where entity_type_id is the number of the process.';
comment on column deals.category_id is
    'The pipeline: pipelines.id, where entity_type_id is 2; 0 is the first one.';
