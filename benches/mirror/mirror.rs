//! The program under test, and what its work costs everybody.

use anyhow::ensure;
use b24mirror::simulator::Stats;
use secrecy::ExposeSecret as _;

use crate::{
    portal::{Pace, Portal},
    processes::{Finished, Process, parent, server_cpu},
    support::{
        report::{Row, float},
        server::{Database, Server},
    },
};

/// The method whose commands bring contacts.
const LIST: &str = "crm.contact.list";

/// The most rows that one command brings.
const PAGE_ROWS: u64 = 50;

/// Records that one request can bring.
const REQUEST_ROWS: u64 = 2_500;

/// The largest share of commands, in percent, that may bring no new row.
const USELESS_PERCENT: f64 = 2.0;

/// Settings that mirror a portal into a database.
pub(crate) fn settings(portal: &Portal, database: &Database, pace: Pace) -> String {
    let limits = match pace {
        Pace::Unlimited => "plan = \"self_hosted\"\nrequests_per_second = 1000\nburst = 100000\n",
        Pace::Cloud { .. } => "plan = \"standard\"\n",
    };
    format!(
        "[portal]\nwebhook_url = \"{}\"\n[portal.limits]\n{limits}\
         [database]\nurl = \"{}\"\n",
        portal.webhook(),
        database.url.expose_secret(),
    )
}

/// What a command of the program cost.
#[derive(Debug)]
pub(crate) struct Cost {
    /// Our process.
    pub(crate) mirror: Finished,
    /// Seconds of processor time in PostgreSQL, all of its processes together.
    pub(crate) postgres_cpu: f64,
    /// Seconds of processor time in the simulator.
    pub(crate) portal_cpu: f64,
    /// Write-ahead log, in bytes.
    pub(crate) wal: u64,
    /// What the portal counted.
    pub(crate) stats: Stats,
}

/// An empty database with the mirror's schema.
pub(crate) async fn migrated(
    server: &Server,
    name: &str,
    portal: &Portal,
) -> anyhow::Result<Database> {
    let database = server.database(name).await?;
    let settings = settings(portal, &database, Pace::Unlimited);
    Process::start(&["migrate"], &settings, &[])?.finish().await?;
    Ok(database)
}

/// Reads every contact into a migrated database, to its good end.
pub(crate) async fn backfill(
    portal: &Portal,
    database: &Database,
    pace: Pace,
) -> anyhow::Result<Cost> {
    command(&["backfill", "contacts"], portal, database, pace).await
}

/// Reads every contact again.
pub(crate) async fn backfill_again(
    portal: &Portal,
    database: &Database,
    pace: Pace,
) -> anyhow::Result<Cost> {
    command(&["backfill", "contacts", "--restart"], portal, database, pace).await
}

async fn command(
    arguments: &[&str],
    portal: &Portal,
    database: &Database,
    pace: Pace,
) -> anyhow::Result<Cost> {
    let backend = database.count("select pg_backend_pid()::bigint").await?;
    let postmaster = parent(u32::try_from(backend)?)?;
    // What was written before is not to be written out now.
    database.run("checkpoint").await?;
    portal.reset_stats()?;
    let before = (database.wal_bytes().await?, server_cpu(postmaster)?, portal.usage()?.cpu);
    let settings = settings(portal, database, pace);
    let mirror = Process::start(arguments, &settings, &[])?.finish().await?;
    Ok(Cost {
        mirror,
        wal: database.wal_bytes().await? - before.0,
        postgres_cpu: server_cpu(postmaster)? - before.1,
        portal_cpu: portal.usage()?.cpu - before.2,
        stats: portal.stats()?,
    })
}

/// Fails unless the mirror holds every contact of the portal.
pub(crate) async fn ensure_complete(database: &Database, contacts: u64) -> anyhow::Result<()> {
    let sql = "select count(*) from bitrix24.contacts where deleted_at is null";
    let mirrored = database.count(sql).await?;
    ensure!(mirrored == contacts, "{mirrored} of {contacts} contacts are in the mirror");
    Ok(())
}

/// What reading every record once cost the portal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requests {
    /// HTTP requests.
    sent: f64,
    /// What they may be at most.
    bound: f64,
    /// COUNT queries over records, which `start=-1` avoids; the short lists of names, whose
    /// length proves that they came whole, are counted by the portal.
    counts: f64,
    /// Percentage of list commands beyond those that full pages need: each of these may
    /// have brought no new row.
    useless_percent: f64,
}

impl Requests {
    /// Reads the portal's counters after a backfill of so many records.
    pub(crate) fn of(stats: &Stats, records: u64) -> Self {
        let commands = stats.commands.get(LIST).copied().unwrap_or(0);
        let useless = commands.saturating_sub(records.div_ceil(PAGE_ROWS));
        Self {
            sent: float(stats.requests),
            bound: (1.02 * float(records) / float(REQUEST_ROWS) + 20.0).floor(),
            counts: float(stats.counts_by_method.get(LIST).copied().unwrap_or(0)),
            useless_percent: 100.0 * float(useless) / float(commands.max(1)),
        }
    }

    /// Whether all of that is as it should be.
    fn as_they_should_be(&self) -> bool {
        self.sent <= self.bound && self.counts == 0.0 && self.useless_percent <= USELESS_PERCENT
    }

    /// A row that says so.
    pub(crate) fn row(&self, name: &'static str, what: String) -> Row {
        let target = format!(
            "at most {:.0} (1.02 × N ÷ 2,500 + 20), no COUNT over them, at most {USELESS_PERCENT} % of \
             the commands without a new row",
            self.bound,
        );
        Row::new(name, what)
            .figure("requests", self.sent, "requests")
            .figure("bound", self.bound, "allowed")
            .figure("counts", self.counts, "COUNTs over them")
            .figure(
                "useless_commands_percent",
                self.useless_percent,
                "% of the commands beyond those for full pages",
            )
            .target(target, self.as_they_should_be())
    }
}
