-- What only crm.item.list brings of contacts and leads: the category, the CRM form, observers,
-- and every company of a contact and every contact of a lead where the record itself names but
-- the primary one. What the other list lacks keeps its last value, so both fill one table.

alter table contacts
    add column category_id bigint,
    add column webform_id bigint;
alter table leads
    add column webform_id bigint;

-- A classic list shows the contacts of category 0 only.
update contacts set category_id = 0;

create table contact_companies (
    contact_id bigint not null references contacts on delete cascade,
    company_id bigint not null,
    position   integer not null,
    is_primary boolean not null,
    primary key (contact_id, company_id)
);
create table contact_observers (
    contact_id bigint not null references contacts on delete cascade,
    user_id    bigint not null,
    position   integer not null,
    primary key (contact_id, user_id)
);
create table lead_contacts (
    lead_id    bigint not null references leads on delete cascade,
    contact_id bigint not null,
    position   integer not null,
    is_primary boolean not null,
    primary key (lead_id, contact_id)
);
create table lead_observers (
    lead_id    bigint not null references leads on delete cascade,
    user_id    bigint not null,
    position   integer not null,
    primary key (lead_id, user_id)
);

comment on column contacts.category_id is
    'Which kind of contact it is to the portal: 0 for ordinary ones; others, such as '
    'counterparties, come with source = "item" only.';
comment on column contacts.webform_id is
    'The CRM form that it was made by; with source = "item" only.';
comment on column leads.webform_id is
    'The CRM form that it was made by; with source = "item" only.';

comment on table contact_companies is
    'The companies of contacts, one row each; with source = "item" only.';
comment on column contact_companies.contact_id is 'The contact.';
comment on column contact_companies.company_id is 'The company.';
comment on column contact_companies.position is 'The place in the contact''s list, from 1.';
comment on column contact_companies.is_primary is
    'Whether it is the company that the contact itself names (contacts.company_id).';
comment on table contact_observers is
    'Who watches contacts, one row each; with source = "item" only.';
comment on column contact_observers.contact_id is 'The contact.';
comment on column contact_observers.user_id is 'The user.';
comment on column contact_observers.position is 'The place in the contact''s list, from 1.';
comment on table lead_contacts is
    'The contacts of leads, one row each; with source = "item" only.';
comment on column lead_contacts.lead_id is 'The lead.';
comment on column lead_contacts.contact_id is 'The contact.';
comment on column lead_contacts.position is 'The place in the lead''s list, from 1.';
comment on column lead_contacts.is_primary is
    'Whether it is the contact that the lead itself names (leads.contact_id).';
comment on table lead_observers is
    'Who watches leads, one row each; with source = "item" only.';
comment on column lead_observers.lead_id is 'The lead.';
comment on column lead_observers.user_id is 'The user.';
comment on column lead_observers.position is 'The place in the lead''s list, from 1.';
