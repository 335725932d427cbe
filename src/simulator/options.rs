//! What a simulator starts with.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::applications::ApplicationOptions;
use super::clock::offset_at;
use super::entity::Entity;
use super::gateway::GatewayOptions;
use super::limits::{BucketLimit, OperatingLimit};
use super::portal::Cost;
use super::undocumented::Undocumented;

/// What a simulator starts with. Everything but the data can be switched later.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Options {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Contacts that the list shows; a few of another category come on top.
    pub contacts: u64,
    /// Leads.
    pub leads: u64,
    /// Companies; these and the following are in `crm.item.*` only.
    pub companies: u64,
    /// Deals.
    pub deals: u64,
    /// Quotes.
    pub quotes: u64,
    /// Smart invoices.
    pub smart_invoices: u64,
    /// Records of a smart process with stages and clients.
    pub projects: u64,
    /// Records of a smart process without any of that.
    pub equipment: u64,
    /// Activities.
    pub activities: u64,
    /// Entries of the mail address book of the webhook's user.
    pub recipients: u64,
    /// The data are the same for the same seed.
    pub seed: u64,
    /// Percent of ids that are missing.
    pub gaps: u64,
    /// One record in so many has a malformed value; 0 for none.
    pub malformed: u64,
    /// Whether links may name what has no records here at all: companies where `companies` is 0,
    /// as where the webhook's user may not see any. They are left out otherwise.
    pub unseen_targets: bool,
    /// The portal's zone.
    pub zone: Tz,
    /// The portal's time at the start; real time if absent.
    pub clock: Option<DateTime<Utc>>,
    /// Time stands still but for [`Action::Pass`](super::Action::Pass).
    pub still: bool,
    /// The webhook's user.
    pub user: i64,
    /// The webhook's secret.
    pub secret: String,
    /// The application that is installed on it, beside the webhook.
    pub application: ApplicationOptions,
    /// The webhook's scopes, and the application's.
    pub scopes: Vec<String>,
    /// Whether the webhook's user is an administrator.
    pub admin: bool,
    /// The portal's licence, as `app.info` tells it.
    pub license: String,
    /// The request limit; `None` for none, as on a self-hosted portal.
    pub bucket: Option<BucketLimit>,
    /// The operating limit; `None` for none.
    pub operating: Option<OperatingLimit>,
    /// Cost of commands per method, `*` for all others.
    pub costs: BTreeMap<String, Cost>,
    /// Time before each request is looked at.
    pub latency: Duration,
    /// Plain UTF-8 instead of escaped answers.
    pub plain_utf8: bool,
    /// No `total` instead of 0 with `start=-1`.
    pub total_absent: bool,
    /// `total` is 0 instead of absent in `crm.item.list` with `start=-1`.
    pub item_total_zero: bool,
    /// `crm.item.list` reads unreadable dates as IS NULL instead of refusing them.
    pub item_null_dates: bool,
    /// `crm.item.list` casts arrays in comparisons of ids instead of refusing them.
    pub item_cast_arrays: bool,
    /// `crm.category.list` refuses a smart process whose pipelines are switched off, instead of
    /// listing the one that its items name.
    pub pipelines_refused: bool,
    /// `result_error` as a list without the commands' keys.
    pub unkeyed_errors: bool,
    /// PHP's `max_input_vars`.
    pub max_input_vars: usize,
    /// What else the vendor's pages leave open.
    pub undocumented: Undocumented,
    /// The VibeCode gateway before it.
    pub gateway: GatewayOptions,
}

impl Default for Options {
    fn default() -> Self {
        let scopes = ["crm", "user", "department", "mail"];
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            contacts: 1_000,
            leads: 300,
            companies: 0,
            deals: 0,
            quotes: 0,
            smart_invoices: 0,
            projects: 0,
            equipment: 0,
            activities: 0,
            recipients: 0,
            seed: 1,
            gaps: 30,
            malformed: 150,
            unseen_targets: true,
            zone: Tz::Europe__Moscow,
            clock: None,
            still: false,
            user: 1,
            secret: "s1mul4tedsecret0".to_owned(),
            application: ApplicationOptions::default(),
            scopes: scopes.map(str::to_owned).to_vec(),
            admin: true,
            license: "ru_std".to_owned(),
            bucket: Some(BucketLimit::default()),
            operating: Some(OperatingLimit::default()),
            costs: BTreeMap::new(),
            latency: Duration::ZERO,
            plain_utf8: false,
            total_absent: false,
            item_total_zero: false,
            item_null_dates: false,
            item_cast_arrays: false,
            pipelines_refused: false,
            unkeyed_errors: false,
            max_input_vars: 10_000,
            undocumented: Undocumented::default(),
            gateway: GatewayOptions::default(),
        }
    }
}

impl Options {
    /// How many records a family starts with.
    pub(super) fn count(&self, entity: Entity) -> u64 {
        match entity {
            Entity::Contacts => self.contacts,
            Entity::Leads => self.leads,
            Entity::Companies => self.companies,
            Entity::Deals => self.deals,
            Entity::Quotes => self.quotes,
            Entity::SmartInvoices => self.smart_invoices,
            Entity::Projects => self.projects,
            Entity::Equipment => self.equipment,
            Entity::Activities => self.activities,
        }
    }

    /// The latest modification of the initial data, in wall-clock seconds: a
    /// fixed day, so that the data depend on the seed only, unless the portal's
    /// clock starts before it.
    pub(super) fn newest(&self, now: i64) -> i64 {
        /// 2025-06-01T00:00:00Z
        const FIXED: i64 = 1_748_736_000;
        let unix = if now > FIXED + 86_400 { FIXED } else { now - 86_400 };
        unix + offset_at(self.zone, unix)
    }
}
