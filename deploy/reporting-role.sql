-- Creates a role for reports and for the tools that people read the mirror with. It reads the
-- report schema, the record tables and the dictionaries. It writes nothing, and sees neither the
-- quarantine, which holds raw values, nor anything of b24mirror's own work.
--
--     psql "postgres://…/mirror" -v role=bitrix24_reader -f deploy/reporting-role.sql
--     psql "postgres://…/mirror" -c '\password bitrix24_reader'
--
-- The second command asks for the password and sends only its hash: a password in a script or
-- on a command line is read by others. Run the script as a superuser, or as a role that may
-- create roles and owns both schemas. Run it again whenever you like: after an update that
-- brings new record tables, for example. To take the role away: drop owned by it, then drop it.
--
-- Further variables, each with -v NAME=VALUE:
--     data      the schema of the mirror (bitrix24)
--     report    the schema of the views (the same with _report)
--     owner     the role that b24mirror connects as (whoever owns the schema of the mirror)

\set ON_ERROR_STOP on
\if :{?role} \else \set role bitrix24_reader \endif
\if :{?data} \else \set data bitrix24 \endif
\if :{?report} \else \set report :data _report \endif
\if :{?owner}
\else
-- Fails here where there is no such schema: b24mirror migrate makes it.
select pg_get_userbyid(nspowner) as owner from pg_namespace where oid = :'data'::regnamespace \gset
\endif

begin;

select format('create role %I login', :'role')
where not exists (select from pg_roles where rolname = :'role') \gexec

-- So that what is granted below holds for the first views, too.
select format('create schema %I authorization %I', :'report', :'owner')
where not exists (select from pg_namespace where nspname = :'report') \gexec

select format('grant connect on database %I to %I', current_database(), :'role') \gexec
grant usage on schema :"data", :"report" to :"role";

-- What an earlier version of this script, or a person, has granted beyond the list below.
revoke all on all tables in schema :"data", :"report" from :"role";
revoke all on all sequences in schema :"data", :"report" from :"role";

-- A table that is not in this list stays out of reach, future ones included.
select format('grant select on %I.%I to %I', :'data', name, :'role')
from unnest(array[
    'contacts', 'contact_phones', 'contact_emails', 'contact_websites', 'contact_messengers',
    'contact_links', 'contact_companies', 'contact_observers', 'contact_changes',
    'leads', 'lead_phones', 'lead_emails', 'lead_websites', 'lead_messengers', 'lead_links',
    'lead_contacts', 'lead_observers', 'lead_changes', 'lead_status_spans', 'history',
    'companies', 'company_phones', 'company_emails', 'company_websites', 'company_messengers',
    'company_links', 'company_contacts', 'company_observers', 'company_changes',
    'deals', 'deal_contacts', 'deal_observers', 'deal_changes',
    'quotes', 'quote_contacts', 'quote_changes',
    'smart_invoices', 'smart_invoice_contacts', 'smart_invoice_observers',
    'smart_invoice_changes',
    'smart_items', 'smart_item_contacts', 'smart_item_observers', 'smart_item_changes',
    'smart_processes',
    'lead_product_rows', 'deal_product_rows', 'quote_product_rows', 'smart_invoice_product_rows',
    'lead_stage_history', 'lead_stage_step_changes', 'deal_stage_history',
    'deal_stage_step_changes', 'smart_invoice_stage_history', 'smart_invoice_stage_step_changes',
    'activities', 'activity_changes',
    'mail_recipients', 'mail_recipient_changes',
    'statuses', 'users', 'departments', 'currencies', 'pipelines', 'fields', 'field_options'
]) as name
where to_regclass(format('%I.%I', :'data', name)) is not null \gexec

-- The tables of each smart process by itself. Those that b24mirror will make may be read by whoever
-- may read the ones of all processes.
select format('grant select on %s to %I', inhrelid::regclass, :'role')
from pg_inherits where inhparent = any(array(
    select to_regclass(format('%I.%I', :'data', name))
    from unnest(array[
        'smart_items', 'smart_item_contacts', 'smart_item_observers', 'smart_item_changes'
    ]) as name
)) \gexec

-- Every view, and those that b24mirror will add.
grant select on all tables in schema :"report" to :"role";
alter default privileges for role :"owner" in schema :"report" grant select on tables to :"role";

-- Names without a schema mean the views for people, then the mirror's own tables. Compiling
-- queries costs the ready reports more than it gains, and more memory lets them sort and hash
-- without files. A query that was forgotten must not keep the server from cleaning up.
select format('alter role %I in database %I set %s', :'role', current_database(), setting)
from unnest(array[
    format('search_path = %I, %I', :'report', :'data'),
    'default_transaction_read_only = on',
    'jit = off',
    'work_mem = ''64MB''',
    'statement_timeout = ''5min''',
    'idle_in_transaction_session_timeout = ''5min'''
]) as setting \gexec

commit;
