//! Every key there is, and the search for the one that was meant.

use config::{Map, Value, ValueKind};

use super::error::{Place, SettingsError};
use crate::entity::{
    ACTIVITIES, COMPANIES, CONTACTS, DEAL_STAGE_HISTORY, DEALS, Entity, LEAD_STAGE_HISTORY, LEADS,
    MAIL_RECIPIENTS, QUOTES, SMART_INVOICE_STAGE_HISTORY, SMART_INVOICES, SMART_ITEMS,
};

/// Every key, by section, as `config.example.toml` lists them.
pub(super) const KEYS: &[&str] = &[
    "portal.webhook_url",
    "portal.webhook_url_file",
    "portal.timeout",
    "portal.max_body",
    "portal.ca_file",
    "portal.oauth.host",
    "portal.oauth.client_id",
    "portal.oauth.client_secret",
    "portal.oauth.client_secret_file",
    "portal.oauth.refresh_token",
    "portal.oauth.refresh_token_file",
    "portal.oauth.token_server",
    "portal.oauth.token_key",
    "portal.oauth.token_key_file",
    "portal.vibecode.url",
    "portal.vibecode.portal_host",
    "portal.vibecode.api_key",
    "portal.vibecode.api_key_file",
    "portal.vibecode.session_token",
    "portal.vibecode.session_token_file",
    "portal.vibecode.requests_per_minute",
    "portal.vibecode.full_pass_interval",
    "portal.limits.plan",
    "portal.limits.requests_per_second",
    "portal.limits.burst",
    "portal.limits.operating_seconds",
    "portal.limits.operating_window",
    "portal.limits.share",
    "portal.limits.quiet_hours",
    "database.url",
    "database.url_file",
    "database.local_dir",
    "database.schema",
    "database.max_connections",
    "database.migrate",
    "sync.interval",
    "sync.overlap",
    "sync.max_in_flight",
    "sync.sweep_interval",
    "sync.max_delete_share",
    "sync.rolling_check_days",
    "sync.dictionary_interval",
    "sync.keep_runs",
    "sync.keep_history",
    "entities.contacts.enabled",
    "entities.contacts.source",
    "entities.contacts.interval",
    "entities.contacts.history",
    "entities.contacts.exclude_fields",
    "entities.contacts.hash_fields",
    "entities.leads.enabled",
    "entities.leads.source",
    "entities.leads.interval",
    "entities.leads.history",
    "entities.leads.product_rows",
    "entities.leads.exclude_fields",
    "entities.leads.hash_fields",
    "entities.companies.enabled",
    "entities.companies.source",
    "entities.companies.interval",
    "entities.companies.history",
    "entities.companies.exclude_fields",
    "entities.companies.hash_fields",
    "entities.deals.enabled",
    "entities.deals.interval",
    "entities.deals.history",
    "entities.deals.product_rows",
    "entities.deals.exclude_fields",
    "entities.deals.hash_fields",
    "entities.quotes.enabled",
    "entities.quotes.interval",
    "entities.quotes.history",
    "entities.quotes.product_rows",
    "entities.quotes.exclude_fields",
    "entities.quotes.hash_fields",
    "entities.smart_invoices.enabled",
    "entities.smart_invoices.interval",
    "entities.smart_invoices.history",
    "entities.smart_invoices.product_rows",
    "entities.smart_invoices.exclude_fields",
    "entities.smart_invoices.hash_fields",
    "entities.smart_items.enabled",
    "entities.smart_items.interval",
    "entities.smart_items.history",
    "entities.smart_items.exclude_fields",
    "entities.smart_items.hash_fields",
    "entities.lead_stage_history.enabled",
    "entities.lead_stage_history.interval",
    "entities.lead_stage_history.history",
    "entities.lead_stage_history.exclude_fields",
    "entities.lead_stage_history.hash_fields",
    "entities.deal_stage_history.enabled",
    "entities.deal_stage_history.interval",
    "entities.deal_stage_history.history",
    "entities.deal_stage_history.exclude_fields",
    "entities.deal_stage_history.hash_fields",
    "entities.smart_invoice_stage_history.enabled",
    "entities.smart_invoice_stage_history.interval",
    "entities.smart_invoice_stage_history.history",
    "entities.smart_invoice_stage_history.exclude_fields",
    "entities.smart_invoice_stage_history.hash_fields",
    "entities.activities.enabled",
    "entities.activities.interval",
    "entities.activities.history",
    "entities.activities.exclude_fields",
    "entities.activities.hash_fields",
    "entities.mail_recipients.enabled",
    "entities.mail_recipients.interval",
    "entities.mail_recipients.history",
    "entities.mail_recipients.exclude_fields",
    "entities.mail_recipients.hash_fields",
    "reporting.schema",
    "reporting.time_zone",
    "reporting.default_region",
    "log.format",
    "log.level",
];

/// The keys of one section `[entities.…]`.
#[derive(Debug)]
pub(super) struct EntityKeys {
    pub(super) enabled: &'static str,
    /// Where there is a choice.
    pub(super) source: Option<&'static str>,
    pub(super) interval: &'static str,
    pub(super) history: &'static str,
    pub(super) exclude_fields: &'static str,
    pub(super) hash_fields: &'static str,
    /// Where there are any.
    pub(super) product_rows: Option<&'static str>,
}

impl EntityKeys {
    const fn with_product_rows(self, key: &'static str) -> Self {
        Self { product_rows: Some(key), ..self }
    }
}

macro_rules! section {
    ($name:literal, $source:expr) => {
        EntityKeys {
            enabled: concat!("entities.", $name, ".enabled"),
            source: $source,
            interval: concat!("entities.", $name, ".interval"),
            history: concat!("entities.", $name, ".history"),
            exclude_fields: concat!("entities.", $name, ".exclude_fields"),
            hash_fields: concat!("entities.", $name, ".hash_fields"),
            product_rows: None,
        }
    };
}

/// The sections of the entities.
pub(super) static ENTITIES: [(&Entity, EntityKeys); 12] = [
    (&CONTACTS, section!("contacts", Some("entities.contacts.source"))),
    (
        &LEADS,
        section!("leads", Some("entities.leads.source"))
            .with_product_rows("entities.leads.product_rows"),
    ),
    (&COMPANIES, section!("companies", Some("entities.companies.source"))),
    (&DEALS, section!("deals", None).with_product_rows("entities.deals.product_rows")),
    (&QUOTES, section!("quotes", None).with_product_rows("entities.quotes.product_rows")),
    (
        &SMART_INVOICES,
        section!("smart_invoices", None).with_product_rows("entities.smart_invoices.product_rows"),
    ),
    (&SMART_ITEMS, section!("smart_items", None)),
    (&LEAD_STAGE_HISTORY, section!("lead_stage_history", None)),
    (&DEAL_STAGE_HISTORY, section!("deal_stage_history", None)),
    (&SMART_INVOICE_STAGE_HISTORY, section!("smart_invoice_stage_history", None)),
    (&ACTIVITIES, section!("activities", None)),
    (&MAIL_RECIPIENTS, section!("mail_recipients", None)),
];

/// The least likeness at which a key is offered as the one that was meant.
const LIKENESS: f64 = 0.7;

/// Refuses keys that do not exist, and values where sections belong or the reverse.
pub(super) fn check(
    table: &Map<String, Value>,
    place: &dyn Fn(&str) -> Place,
) -> Result<(), SettingsError> {
    check_below("", table, place)
}

fn check_below(
    above: &str,
    table: &Map<String, Value>,
    place: &dyn Fn(&str) -> Place,
) -> Result<(), SettingsError> {
    // In order, so that of several mistakes always the same one is reported.
    let mut names: Vec<_> = table.keys().collect();
    names.sort();
    for name in names {
        let key = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        let is_section = KEYS.iter().any(|known| is_below(known, &key));
        match (&table[name].kind, is_section) {
            (ValueKind::Table(inner), true) => check_below(&key, inner, place)?,
            (_, true) => {
                return Err(SettingsError::Invalid {
                    place: place(&key),
                    problem: format!("is a section, not a value; write [{key}] above its keys"),
                    key,
                });
            }
            (_, false) if KEYS.contains(&key.as_str()) => {}
            (_, false) => {
                return Err(SettingsError::Unknown { place: place(&key), hint: hint(&key), key });
            }
        }
    }
    Ok(())
}

/// What to do about a key that does not exist.
fn hint(key: &str) -> String {
    let section = key.strip_prefix("entities.");
    let entity = section.and_then(|rest| Entity::by_name(rest.split('.').next()?));
    if entity.is_some_and(|entity| entity.smart_process().is_some()) {
        return "all smart processes are set together, in `entities.smart_items`".to_owned();
    }
    misplaced(key).unwrap_or_else(|| {
        nearest(key).map_or_else(
            || "config.example.toml lists every setting".to_owned(),
            |known| format!("did you mean `{known}`?"),
        )
    })
}

/// So many sections are named as the places of a key; one that more have is every entity's.
const MOST_PLACES: usize = 5;

/// Where a key belongs that stands in a section which has none of this name, while several
/// others have one.
pub(super) fn misplaced(key: &str) -> Option<String> {
    let (section, name) = key.rsplit_once('.')?;
    if !KEYS.iter().any(|known| is_below(known, section)) {
        // The section is misspelt, not the place wrong.
        return None;
    }
    let places: Vec<&str> = KEYS
        .iter()
        .filter_map(|known| known.rsplit_once('.'))
        .filter(|(_, known)| *known == name)
        .map(|(place, _)| place)
        .collect();
    let of_entities = places.iter().filter(|place| place.starts_with("entities.")).count();
    if of_entities > MOST_PLACES {
        return Some(format!(
            "`{name}` belongs to the section of an entity, such as [entities.contacts]"
        ));
    }
    let places: Vec<String> = places.iter().map(|place| format!("[{place}]")).collect();
    match places.as_slice() {
        // Where there is one only, it is the key that was meant.
        [] | [_] => None,
        [others @ .., last] => Some(format!("`{name}` belongs to {} or {last}", others.join(", "))),
    }
}

fn is_below(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

/// The key, or section, that was probably meant: by its whole name, or by its last part where
/// that is right and only the section is wrong.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
    let candidates = KEYS.iter().flat_map(|known| {
        let sections = known.match_indices('.').map(|(end, _)| &known[..end]);
        sections.chain([*known])
    });
    candidates
        .map(|known| {
            let whole = strsim::normalized_damerau_levenshtein(key, known);
            let moved = if last(key) == last(known) { LIKENESS } else { 0.0 };
            (whole.max(moved), known)
        })
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        // The first of equals, which is the one higher up in the example file.
        .reduce(|best, other| if other.0 > best.0 { other } else { best })
        .map(|(_, known)| known)
}
