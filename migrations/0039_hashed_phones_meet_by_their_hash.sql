-- Made anew by the program, apart for numbers and for hashes: the digits in a hash are those of no
-- number, and some hashes hardly have any.
drop index if exists contact_phones_unresolved;
drop index if exists lead_phones_unresolved;
drop index if exists company_phones_unresolved;

comment on column contact_phones.digits is
    'The digits of value, at most 32; of a hashed value they mean nothing.';
comment on column lead_phones.digits is
    'The digits of value, at most 32; of a hashed value they mean nothing.';
comment on column company_phones.digits is
    'The digits of the value, at most 32; of a hashed value they mean nothing.';
