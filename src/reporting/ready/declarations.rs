//! What the ready reports are called and what they say of themselves.

use super::{ReadyReport, ReportColumn};

const fn column(name: &'static str, sql_type: &'static str, comment: &'static str) -> ReportColumn {
    ReportColumn { name, sql_type, comment }
}

/// Every report.
pub(super) const REPORTS: &[ReadyReport] = &[
    ReadyReport {
        name: "lead_funnel",
        comment: "Where do our leads stand, by stage and source? One row for each stage and \
                  source, leads as they are now, in the order of the portal's stages. Amounts are \
                  in the base currency, by the portal's rates.",
        columns: &[
            column("status_id", "text", "The stage's code."),
            column("status", "text", "The stage."),
            column("status_order", "integer", "The portal's order of stages, smallest first."),
            column("outcome", "text", "What the stage means: open, converted or failed."),
            column("source_id", "text", "The source's code."),
            column("source", "text", "The source."),
            column("leads", "bigint", "Leads in this stage from this source."),
            column(
                "new_in_30_days",
                "bigint",
                "How many of them were created in the last 30 days.",
            ),
            column(
                "percent_of_source",
                "numeric",
                "Their share of all leads from this source, in percent.",
            ),
            column(
                "amount",
                "numeric",
                "What they are worth, in the base currency; leads in a currency without a rate \
                  do not count.",
            ),
            column("currency", "text", "The base currency."),
        ],
        sql: include_str!("lead_funnel.sql"),
    },
    ReadyReport {
        name: "conversion_by_source_and_month",
        comment: "Which sources bring leads that become customers? Leads by the month of their \
                  creation, and what has become of them since: young months still have open \
                  leads, so compare those by closed leads. JUNK is the portal's own stage for \
                  leads that are none.",
        columns: &[
            column("month", "date", "First day of the month in which the leads were created."),
            column("source_id", "text", "The source's code."),
            column("source", "text", "The source."),
            column("leads", "bigint", "Leads created in that month."),
            column("converted", "bigint", "Those that are converted."),
            column("failed", "bigint", "Those that failed, junk among them."),
            column("junk", "bigint", "Those in the stage JUNK."),
            column("open", "bigint", "Those that are neither."),
            column("conversion_percent", "numeric", "Converted of all, in percent."),
            column(
                "conversion_percent_without_junk",
                "numeric",
                "Converted of all that are not junk, in percent.",
            ),
            column(
                "conversion_percent_of_closed",
                "numeric",
                "Converted of those that are converted or failed, in percent.",
            ),
        ],
        sql: include_str!("conversion_by_source_and_month.sql"),
    },
    ReadyReport {
        name: "time_to_conversion",
        comment: "How long does it take from a lead's creation to its conversion? Converted leads \
                  by the month of their conversion: when the lead was closed, else when it came \
                  to its last stage.",
        columns: &[
            column("month", "date", "First day of the month of the conversion."),
            column("source_id", "text", "The source's code."),
            column("source", "text", "The source."),
            column("converted", "bigint", "Leads converted in that month."),
            column("average_days", "numeric", "Days from creation to conversion, on average."),
            column("median_days", "numeric", "Days within which half of the leads were converted."),
            column(
                "ninety_percent_within_days",
                "numeric",
                "Days within which nine of ten were converted.",
            ),
            column("fastest_days", "numeric", "Days of the quickest."),
            column("slowest_days", "numeric", "Days of the slowest."),
            column(
                "untimed",
                "bigint",
                "Leads whose dates are missing or impossible; they count as converted, and not \
                  in the days.",
            ),
        ],
        sql: include_str!("time_to_conversion.sql"),
    },
    ReadyReport {
        name: "leads_per_responsible",
        comment: "Who has how many leads, and how old are they? One row for each responsible \
                  person; the age of an open lead counts from its creation.",
        columns: &[
            column("assigned_by_id", "bigint", "The responsible person's ID."),
            column(
                "assigned_by",
                "text",
                "The responsible person; the ID where the portal hides the name.",
            ),
            column(
                "active",
                "boolean",
                "Whether the person may still log in; null where the portal hides the person.",
            ),
            column("open_leads", "bigint", "Leads that are neither converted nor failed."),
            column("average_age_days", "numeric", "Their age in days, on average."),
            column("oldest_age_days", "numeric", "The age of the oldest, in days."),
            column("open_over_7_days", "bigint", "Open leads of at least 7 days."),
            column("open_over_30_days", "bigint", "Open leads of at least 30 days."),
            column("open_over_90_days", "bigint", "Open leads of at least 90 days."),
            column(
                "open_idle_for_14_days",
                "bigint",
                "Open leads without any activity for 14 days.",
            ),
            column("converted", "bigint", "Leads converted, ever."),
            column("failed", "bigint", "Leads failed, ever."),
            column("leads", "bigint", "All of them."),
        ],
        sql: include_str!("leads_per_responsible.sql"),
    },
    ReadyReport {
        name: "new_contacts_per_week",
        comment: "How many contacts are new each week? Every week from the first contact until \
                  now, those without any included. Weeks begin on Monday; contacts whose date \
                  lies in the future do not count.",
        columns: &[
            column("week", "date", "The week's Monday."),
            column("new_contacts", "bigint", "Contacts created in that week that still exist."),
            column("contacts_so_far", "bigint", "Contacts created until the end of that week."),
        ],
        sql: include_str!("new_contacts_per_week.sql"),
    },
    ReadyReport {
        name: "contacts_without_phone_or_email",
        comment: "Whom can nobody reach? Contacts that have neither a phone nor an e-mail. A \
                  phone without a digit is none, nor is an e-mail without @.",
        columns: &[
            column("contact_id", "bigint", "The contact."),
            column("full_name", "text", "First, middle and last name."),
            column("assigned_by_id", "bigint", "The responsible person's ID."),
            column(
                "assigned_by",
                "text",
                "The responsible person; the ID where the portal hides the name.",
            ),
            column("source_id", "text", "The source's code."),
            column("source", "text", "The source."),
            column("date_create", "timestamp with time zone", "When it was created."),
            column("has_messenger", "boolean", "Whether there is a messenger to reach it by."),
        ],
        sql: include_str!("contacts_without_phone_or_email.sql"),
    },
    ReadyReport {
        name: "duplicates_by_phone",
        comment: "Who is in the portal twice? Every phone number that several contacts or leads \
                  hold. A number counts once for each record, however it is typed; what is no \
                  valid number is compared by its digits if there are seven at least. A lead that \
                  belongs to a contact with the same number is not a duplicate of it.",
        columns: &[
            column(
                "number",
                "text",
                "The number in international form, or its digits; of hashed numbers the hash.",
            ),
            column("records", "bigint", "Contacts and leads that hold it."),
            column("contacts", "bigint", "Contacts among them."),
            column("leads", "bigint", "Leads among them."),
            column("contact_ids", "bigint[]", "The contacts, at most 20, the oldest first."),
            column("lead_ids", "bigint[]", "The leads, at most 20, the oldest first."),
            column(
                "probably_an_office",
                "boolean",
                "Whether more than ten hold it: an office's rather than one person's.",
            ),
            column(
                "contact_names",
                "text[]",
                "What these contacts are called, in the order of contact_ids; the ID of one \
                  without a name.",
            ),
            column(
                "lead_names",
                "text[]",
                "The titles of these leads, or the names in them, in the order of lead_ids; the \
                  ID of one without either.",
            ),
        ],
        sql: include_str!("duplicates_by_phone.sql"),
    },
    ReadyReport {
        name: "duplicates_by_email",
        comment: "Who is in the portal twice? Every e-mail address that several contacts or leads \
                  hold, whatever its case. A lead that belongs to a contact with the same address \
                  is not a duplicate of it.",
        columns: &[
            column("address", "text", "The address in lower case."),
            column("records", "bigint", "Contacts and leads that hold it."),
            column("contacts", "bigint", "Contacts among them."),
            column("leads", "bigint", "Leads among them."),
            column("contact_ids", "bigint[]", "The contacts, at most 20, the oldest first."),
            column("lead_ids", "bigint[]", "The leads, at most 20, the oldest first."),
            column(
                "probably_an_office",
                "boolean",
                "Whether more than ten hold it: an office's rather than one person's.",
            ),
            column(
                "contact_names",
                "text[]",
                "What these contacts are called, in the order of contact_ids; the ID of one \
                  without a name.",
            ),
            column(
                "lead_names",
                "text[]",
                "The titles of these leads, or the names in them, in the order of lead_ids; the \
                  ID of one without either.",
            ),
        ],
        sql: include_str!("duplicates_by_email.sql"),
    },
    ReadyReport {
        name: "leads_linked_to_contacts",
        comment: "Which leads come from people whom we know already? Leads that share a phone \
                  number or an e-mail address with a contact, whether or not the portal has \
                  linked the two. What more than ten contacts share is an office's and says \
                  nothing about a person.",
        columns: &[
            column("lead_id", "bigint", "The lead."),
            column(
                "contact_id",
                "bigint",
                "The contact: the one that shares both, else the oldest.",
            ),
            column("matched_by", "text", "What they share: phone, e-mail, or phone and e-mail."),
            column("contacts", "bigint", "How many contacts match."),
            column(
                "contact_in_portal",
                "bigint",
                "The contact that the portal has linked to the lead.",
            ),
            column("linked_in_portal", "boolean", "Whether it has linked one."),
        ],
        sql: include_str!("leads_linked_to_contacts.sql"),
    },
    ReadyReport {
        name: "records_of_inactive_owners",
        comment: "Whose records does nobody look after? Contacts and leads whose responsible \
                  person may no longer log in, is gone, or is not among the portal's users. Empty \
                  as long as the users could not be read.",
        columns: &[
            column("entity", "text", "contacts or leads."),
            column("id", "bigint", "The record."),
            column("assigned_by_id", "bigint", "The responsible person's ID."),
            column(
                "assigned_by",
                "text",
                "The responsible person; the ID where the portal hides the name.",
            ),
            column(
                "why",
                "text",
                "inactive: dismissed; gone: no longer listed by the portal; unknown: never \
                  listed, a bot or a mail user for example.",
            ),
        ],
        sql: include_str!("records_of_inactive_owners.sql"),
    },
    ReadyReport {
        name: "impossible_dates",
        comment: "Which dates cannot be true? Birthdays before 1900 or after the record was \
                  created, times that lie in the future by more than a day, records that changed, \
                  closed or moved before they were created. One row for each problem.",
        columns: &[
            column("entity", "text", "contacts or leads."),
            column("id", "bigint", "The record."),
            column("field", "text", "The column."),
            column("problem", "text", "What is wrong."),
            column(
                "value",
                "timestamp without time zone",
                "The value, in the time zone of the reports.",
            ),
            column("date_create", "timestamp with time zone", "When the record was created."),
        ],
        sql: include_str!("impossible_dates.sql"),
    },
    ReadyReport {
        name: "utm_performance",
        comment: "Which campaigns bring leads, and which of those become customers? Leads that \
                  carry UTM marks, by source, medium and campaign. Amounts are in the base \
                  currency, by the portal's rates.",
        columns: &[
            column("utm_source", "text", "The advertising system, such as google."),
            column("utm_medium", "text", "The kind of traffic, such as cpc."),
            column("utm_campaign", "text", "The campaign."),
            column("leads", "bigint", "Leads with these marks."),
            column("converted", "bigint", "Those that are converted."),
            column("failed", "bigint", "Those that failed, junk among them."),
            column("junk", "bigint", "Those in the stage JUNK."),
            column("open", "bigint", "Those that are neither converted nor failed."),
            column("conversion_percent", "numeric", "Converted of all, in percent."),
            column("junk_percent", "numeric", "Junk of all, in percent."),
            column("amount", "numeric", "What they are worth, in the base currency."),
            column(
                "amount_converted",
                "numeric",
                "What the converted ones are worth, in the base currency.",
            ),
            column("currency", "text", "The base currency."),
            column("first_lead_on", "date", "Day of the first lead."),
            column("last_lead_on", "date", "Day of the latest lead."),
        ],
        sql: include_str!("utm_performance.sql"),
    },
    ReadyReport {
        name: "deal_pipeline",
        comment: "What is in our pipelines? Open deals by pipeline and stage, as they are now, in \
                  the order of the portal's stages. Amounts are in the base currency, by the \
                  portal's rates. Templates of repeated deals do not count. Empty until deals are \
                  mirrored (`entities.deals.enabled`).",
        columns: &[
            column("category_id", "bigint", "The pipeline's ID."),
            column("pipeline", "text", "The pipeline."),
            column("stage_id", "text", "The stage's code."),
            column("stage", "text", "The stage."),
            column("stage_order", "integer", "The portal's order of stages, smallest first."),
            column("deals", "bigint", "Open deals in this stage."),
            column(
                "amount",
                "numeric",
                "What they are worth, in the base currency; deals in a currency without a rate do \
                  not count.",
            ),
            column(
                "weighted_amount",
                "numeric",
                "The same, each by its probability, in the base currency.",
            ),
            column("currency", "text", "The base currency."),
            column("average_age_days", "numeric", "Days since they were created, on average."),
            column(
                "average_days_in_stage",
                "numeric",
                "Days since their stage was changed last, on average.",
            ),
            column("overdue", "bigint", "Those that were to end before today."),
        ],
        sql: include_str!("deal_pipeline.sql"),
    },
    ReadyReport {
        name: "deal_win_rate",
        comment: "How many of our deals do we win, and who wins them? Ended deals by the month in \
                  which they ended, pipeline and responsible. Amounts are in the base currency, by the \
                  portal's rates. Templates of repeated deals do not count. Empty until deals are \
                  mirrored (`entities.deals.enabled`).",
        columns: &[
            column("month", "date", "First day of the month in which the deals ended."),
            column("category_id", "bigint", "The pipeline's ID."),
            column("pipeline", "text", "The pipeline."),
            column("assigned_by_id", "bigint", "The responsible user's ID."),
            column("assigned_by", "text", "The responsible user."),
            column("ended", "bigint", "Deals that ended in that month."),
            column("won", "bigint", "Those that were won."),
            column("lost", "bigint", "Those that were lost."),
            column("win_percent", "numeric", "Won of all that ended, in percent."),
            column(
                "amount_won",
                "numeric",
                "What the won ones are worth, in the base currency; deals in a currency without a \
                  rate do not count.",
            ),
            column(
                "amount_lost",
                "numeric",
                "What the lost ones were worth, in the base currency; deals in a currency without \
                  a rate do not count.",
            ),
            column("currency", "text", "The base currency."),
        ],
        sql: include_str!("deal_win_rate.sql"),
    },
    ReadyReport {
        name: "deal_cycle_time",
        comment: "How long does a deal take? Days from creation to the end, by the month of the \
                  end, pipeline and outcome. Templates of repeated deals do not count. Empty until \
                  deals are mirrored (`entities.deals.enabled`).",
        columns: &[
            column("month", "date", "First day of the month in which the deals ended."),
            column("category_id", "bigint", "The pipeline's ID."),
            column("pipeline", "text", "The pipeline."),
            column("outcome", "text", "won or lost."),
            column("deals", "bigint", "Deals that ended so in that month."),
            column("average_days", "numeric", "Days that they took, on average."),
            column("median_days", "numeric", "Days within which half of them ended."),
            column("ninety_percent_within_days", "numeric", "Days within which nine of ten ended."),
            column("fastest_days", "numeric", "Days of the fastest."),
            column("slowest_days", "numeric", "Days of the slowest."),
            column("untimed", "bigint", "Those without usable dates; they count in deals only."),
        ],
        sql: include_str!("deal_cycle_time.sql"),
    },
    ReadyReport {
        name: "time_in_stage",
        comment: "How long do records stay in each stage? One row for each stage and pipeline of \
                  leads, deals and smart invoices, as far as their stage histories are mirrored \
                  (`entities.deal_stage_history.enabled` and its like); empty until one of them is. A \
                  record that comes to a stage again stays there a second time; final stages are \
                  left out. Templates of repeated deals do not count, which are told by the deals: \
                  mirror those, too.",
        columns: &[
            column("record", "text", "lead, deal or smart invoice."),
            column("category_id", "bigint", "The pipeline's ID; leads have none."),
            column("pipeline", "text", "The pipeline; the ID where it has no name."),
            column("stage_id", "text", "The stage's code."),
            column("stage", "text", "The stage."),
            column("stage_order", "integer", "The portal's order of stages, smallest first."),
            column("records", "bigint", "How many records have ever been there."),
            column("stays", "bigint", "How many times, all of them together."),
            column("still_there", "bigint", "How many are there now."),
            column("average_days", "numeric", "Days until they left, on average."),
            column("median_days", "numeric", "Days within which half of them left."),
            column("ninety_percent_within_days", "numeric", "Days within which nine of ten left."),
            column("slowest_days", "numeric", "Days of the slowest."),
            column("total_days", "numeric", "Days of all who have left, together."),
            column(
                "average_days_of_those_still_there",
                "numeric",
                "For how many days those who are there now have been so, on average.",
            ),
        ],
        sql: include_str!("time_in_stage.sql"),
    },
    ReadyReport {
        name: "activities_per_responsible",
        comment: "Who calls, writes and meets how often? Activities by the month in which they \
                  begin, responsible, type and direction. Empty until activities are mirrored \
                  (`entities.activities.enabled`).",
        columns: &[
            column("month", "date", "The month's first day."),
            column("responsible_id", "bigint", "The responsible person's ID."),
            column(
                "responsible",
                "text",
                "The responsible person; the ID where the portal hides the name.",
            ),
            column("type", "text", "meeting, call, task, e-mail, event or other."),
            column("direction", "text", "incoming or outgoing; null where it is neither."),
            column("activities", "bigint", "How many there are."),
            column("completed", "bigint", "How many of them are done."),
            column("overdue", "bigint", "How many are not done although their time is over."),
        ],
        sql: include_str!("activities_per_responsible.sql"),
    },
    ReadyReport {
        name: "product_rows",
        comment: "What do records list? One row for each product row of deals, leads, quotes and \
                  smart invoices, of templates of repeated deals, too. Empty until these are mirrored \
                  with their product rows (`entities.deals.product_rows` and its like).",
        columns: &[
            column("record", "text", "deal, lead, quote or smart invoice."),
            column("record_id", "bigint", "The record's ID."),
            column("title", "text", "The record's title."),
            column("id", "bigint", "The row's ID."),
            column("sort", "bigint", "The row's place in its record, smallest first."),
            column("product_id", "bigint", "The product in the catalogue; null for none."),
            column("product_name", "text", "The product's name, as it is in the row."),
            column("quantity", "numeric", "How many units of measure_name."),
            column("measure_name", "text", "The unit."),
            column(
                "price",
                "numeric",
                "For one unit, discount and taxes included, in currency_id.",
            ),
            column("discount_sum", "numeric", "The discount of one unit, in currency_id."),
            column("tax_rate", "numeric", "The tax in percent; null for none."),
            column("amount", "numeric", "Price times quantity, in currency_id."),
            column("currency_id", "text", "The currency of all of that, which is the record's."),
        ],
        sql: include_str!("product_rows.sql"),
    },
    ReadyReport {
        name: "revenue_by_product",
        comment: "Which products earn us what? The product rows of won deals, by product, those \
                  with the highest amount first. Amounts are in the base currency, by the portal's \
                  rates. Templates of repeated deals do not count. Empty until deals are mirrored \
                  with their product rows (`entities.deals.product_rows`).",
        columns: &[
            column("product_id", "bigint", "The product in the catalogue; null for none."),
            column("product", "text", "What the latest row calls it."),
            column("deals", "bigint", "Won deals that list it."),
            column("quantity", "numeric", "Units in them."),
            column(
                "amount",
                "numeric",
                "What they cost, discounts and taxes included, in the base currency; deals in a \
                  currency without a rate do not count.",
            ),
            column(
                "average_price",
                "numeric",
                "That by unit, of those that do count, in the base currency.",
            ),
            column("currency", "text", "The base currency."),
            column("first_won_on", "date", "The day on which the first of these deals was won."),
            column("last_won_on", "date", "The day on which the last of them was."),
        ],
        sql: include_str!("revenue_by_product.sql"),
    },
    ReadyReport {
        name: "companies_by_sales",
        comment: "Who are our best customers? Companies with their deals, those with the highest \
                  amount won first. Amounts are in the base currency, by the portal's rates. Our own \
                  companies are left out, and so are deals without a company or with one that is not \
                  mirrored: the sum of all companies may be less than that of all deals. Templates of \
                  repeated deals do not count. Empty until companies and deals are mirrored \
                  (`entities.companies.enabled`, `entities.deals.enabled`).",
        columns: &[
            column("company_id", "bigint", "The company's ID."),
            column("company", "text", "The company."),
            column("assigned_by_id", "bigint", "The responsible user's ID."),
            column("assigned_by", "text", "The responsible user."),
            column("industry", "text", "Its trade."),
            column("contacts", "bigint", "How many contacts it has."),
            column("deals_won", "bigint", "Deals won."),
            column("deals_lost", "bigint", "Deals lost."),
            column("deals_open", "bigint", "Open deals."),
            column(
                "amount_won",
                "numeric",
                "What the won deals are worth, in the base currency; deals in a currency without a \
                  rate do not count.",
            ),
            column(
                "amount_open",
                "numeric",
                "What the open deals are worth, in the base currency; deals in a currency without \
                  a rate do not count.",
            ),
            column("currency", "text", "The base currency."),
            column("last_won_on", "date", "The day on which the last deal was won."),
        ],
        sql: include_str!("companies_by_sales.sql"),
    },
    ReadyReport {
        name: "mail_recipients",
        comment: "Who is in the mail address book of the webhook's user? Empty until it is \
                  mirrored (`entities.mail_recipients.enabled`).",
        columns: &[
            column("id", "bigint", "The portal's ID of the entry."),
            column("email", "text", "The address, as it was typed."),
            column("address", "text", "The address in lower case."),
            column("name", "text", "The name; often empty."),
            column(
                "synced_at",
                "timestamp with time zone",
                "When this version was read, by the database's clock.",
            ),
        ],
        sql: include_str!("mail_recipients.sql"),
    },
    ReadyReport {
        name: "mail_recipients_linked",
        comment: "Which entries of the mail address book are contacts or leads? One row for each \
                  contact and each lead that holds the address, whatever its case. Empty until the \
                  address book is mirrored (`entities.mail_recipients.enabled`).",
        columns: &[
            column("recipient_id", "bigint", "The portal's ID of the entry."),
            column("address", "text", "The address in lower case."),
            column("recipient", "text", "The name in the address book."),
            column("contact_id", "bigint", "The contact; null where it is a lead."),
            column("contact", "text", "The contact's first, middle and last name."),
            column("lead_id", "bigint", "The lead; null where it is a contact."),
            column("lead", "text", "The lead's title."),
            column("assigned_by_id", "bigint", "The ID of the person responsible for it."),
        ],
        sql: include_str!("mail_recipients_linked.sql"),
    },
    ReadyReport {
        name: "freshness",
        comment: "How fresh is the mirror? One row for each entity, with what b24mirror itself \
                  knows of its work.",
        columns: &[
            column(
                "entity",
                "text",
                "contacts, leads, and whatever else is mirrored; items of smart processes as \
                 smart_items_128.",
            ),
            column(
                "last_complete_cycle",
                "timestamp with time zone",
                "When the mirror last was equal to what the portal showed, by the database's \
                  clock.",
            ),
            column("lag_seconds", "bigint", "Seconds since then."),
            column(
                "last_change",
                "timestamp with time zone",
                "The latest change of any record, by the portal's clock.",
            ),
            column(
                "last_written",
                "timestamp with time zone",
                "When a pass last ended that wrote something.",
            ),
            column(
                "last_run",
                "text",
                "The last pass in the log: backfill, incremental, sweep, verify and others; \
                  passes that found nothing new are not logged.",
            ),
            column("last_run_at", "timestamp with time zone", "When it ended."),
            column(
                "last_verdict",
                "text",
                "How it ended: complete, incomplete, stopped or interrupted.",
            ),
            column(
                "state",
                "text",
                "active, waiting, stopped, never read, or switched off: then its rows stay as they \
                 were when it last was mirrored.",
            ),
            column("reason", "text", "Why it waits or has stopped."),
            column("paused", "boolean", "Whether a person has paused it."),
            column("filling", "boolean", "Whether it is being filled, or read again as a whole."),
            column(
                "deletions_known_until",
                "timestamp with time zone",
                "What was deleted in the portal before is gone here; null before the first \
                  sweep.",
            ),
            column(
                "content_checked_since",
                "timestamp with time zone",
                "Every record was compared with the portal since; null before the first round.",
            ),
            column(
                "set_aside",
                "bigint",
                "Values and records that could not be stored as they came.",
            ),
        ],
        sql: include_str!("freshness.sql"),
    },
];
