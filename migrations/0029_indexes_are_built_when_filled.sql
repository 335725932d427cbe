-- The indexes that only readers need are built by the program once an entity is filled: keeping
-- them up during the first load cost as much as the load itself, in time and in the log. Where a
-- mirror is filled already they are back within the first minute.
drop index contacts_date_modify;
drop index leads_date_modify;
drop index contact_phones_digits;
drop index lead_phones_digits;
drop index contact_phones_e164;
drop index lead_phones_e164;
drop index contact_phones_unresolved;
drop index lead_phones_unresolved;
drop index contact_emails_address;
drop index lead_emails_address;
drop index contact_emails_unusable;
drop index contacts_date_create;
drop index contacts_assigned_by_id;
drop index leads_assigned_by_id;
drop index leads_contact_id;
drop index contacts_deleted;
drop index leads_deleted;
drop index contacts_unreachable;
drop index contacts_impossible;
