-- The indexes that only readers need are built by the program once an entity is filled: keeping
-- them up during the first load cost as much as the load itself, in time and in the log. Where a
-- mirror is filled already they are back within the first minute.
drop index if exists contacts_date_modify;
drop index if exists leads_date_modify;
drop index if exists contact_phones_digits;
drop index if exists lead_phones_digits;
drop index if exists contact_phones_e164;
drop index if exists lead_phones_e164;
drop index if exists contact_phones_unresolved;
drop index if exists lead_phones_unresolved;
drop index if exists contact_emails_address;
drop index if exists lead_emails_address;
drop index if exists contact_emails_unusable;
drop index if exists contacts_date_create;
drop index if exists contacts_assigned_by_id;
drop index if exists leads_assigned_by_id;
drop index if exists leads_contact_id;
drop index if exists contacts_deleted;
drop index if exists leads_deleted;
drop index if exists contacts_unreachable;
drop index if exists contacts_impossible;
