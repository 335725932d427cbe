//! `b24mirror demo`: the whole thing on one machine, with nothing prepared.

use std::{
    io::IsTerminal as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{Column, PgPool, Row as _};
use tokio_util::sync::CancellationToken;

use super::{Exit, output::say, progress::Drawing, wiring};
use crate::{
    entity::Entity,
    local_postgres::{LocalOptions, LocalPostgres},
    portal::{Limits, OperatingLimit, Portal, PortalOptions, WebhookUrl},
    reporting::ReportOptions,
    simulator::{self, Action, Options, Simulator},
    store::{SchemaName, Store, StoreOptions, Verdict},
    sync::{self, CheckOptions, Mirrored, Opened, ProgressBoard, Session, SyncOptions, Work},
};

/// How often a daemon of the demonstration looks for changes.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the demonstration waits for changes to arrive before it says that they do not.
const PATIENCE: Duration = Duration::from_mins(1);

/// The demonstration's arguments.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Contacts in the simulated portal
    #[arg(long, default_value_t = 20_000)]
    contacts: u64,
    /// Leads in the simulated portal
    #[arg(long, default_value_t = 5_000)]
    leads: u64,
    /// Where the private database lives; a new temporary directory if not given
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// Leave the database running at the end
    #[arg(long)]
    keep: bool,
}

/// Backfills from a simulated portal into a private database, changes records live,
/// and closes with a report.
pub(super) async fn run(args: DemoArgs, stop: CancellationToken) -> anyhow::Result<Exit> {
    let temporary = args.dir.is_none();
    let directory = args.dir.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("b24mirror-demo-{}", std::process::id()))
    });
    let options = LocalOptions { keep_running: args.keep, ..LocalOptions::new(&directory) };
    say!("1. A private PostgreSQL server in {}", directory.display());
    let server = LocalPostgres::start(options).await?;
    server.create_database("mirror").await?;

    say!("2. A simulated portal with {} contacts and {} leads", args.contacts, args.leads);
    let (contacts, leads) = (args.contacts, args.leads);
    let options = Options { contacts, leads, unseen_targets: false, ..Options::default() };
    let portal = Simulator::start(options)?;

    let demo = Demo::prepare(&server, portal).await?;
    let shown = stop.run_until_cancelled(Box::pin(demo.show())).await;
    let interrupted = shown.is_none();
    let exit = shown.unwrap_or(Ok(Exit::Failed))?;
    let psql = server.psql_command("mirror");
    if args.keep {
        say!("\nThe server is left running. Open it: {psql}");
    } else if shown_to_a_person() && !interrupted {
        say!("\nOpen it in another terminal: {psql}");
        say!("Ctrl-C ends the demonstration and removes the database.");
        stop.cancelled().await;
    } else if !interrupted {
        say!("\n`b24mirror demo --keep` leaves the server running. It is then opened by: {psql}");
    }
    demo.store.close().await;
    demo.pool.close().await;
    if !args.keep {
        server.stop().await?;
        if temporary {
            tokio::fs::remove_dir_all(&directory)
                .await
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
    }
    Ok(exit)
}

fn shown_to_a_person() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

struct Demo {
    simulator: Simulator,
    portal: Portal,
    store: Store,
    /// What an analyst's tool would open.
    pool: PgPool,
    options: SyncOptions,
}

impl Demo {
    async fn prepare(server: &LocalPostgres, simulator: Simulator) -> anyhow::Result<Self> {
        let url = server.url("mirror");
        let schema: SchemaName = "bitrix24".parse()?;
        let store = Store::connect(&StoreOptions {
            url: SecretString::from(url.expose_secret()),
            schema,
            max_connections: 8,
            application_name: "b24mirror demo".to_owned(),
        })
        .await?;
        store.migrate().await?;
        let pool = PgPool::connect(url.expose_secret()).await?;
        let portal = Portal::new(PortalOptions {
            credentials: WebhookUrl::parse(&simulator.webhook_url())?.into(),
            timeout: Duration::from_secs(75),
            max_body: 32 << 20,
            ca_file: None,
            limits: Limits {
                requests_per_second: 2.0,
                burst: 50,
                operating: Some(OperatingLimit {
                    limit: Duration::from_mins(8),
                    window: Duration::from_mins(10),
                }),
            },
            retry: wiring::retry()?,
        })?;
        let options = SyncOptions {
            entities: Entity::BY_DEFAULT.map(|entity| Mirrored::new(entity, INTERVAL)).to_vec(),
            overlap: Duration::from_secs(10),
            max_in_flight: 4,
            dictionary_interval: Duration::from_hours(1),
            checks: CheckOptions::default(),
            reports: ReportOptions::default(),
            retry: wiring::retry()?,
            holder: "the demonstration".to_owned(),
            board: ProgressBoard::default(),
        };
        Ok(Self { simulator, portal, store, pool, options })
    }

    async fn show(&self) -> anyhow::Result<Exit> {
        say!("3. Backfill");
        let took = self.backfill().await?;
        let requests = self.portal.meter().requests;
        say!("   done in {:.1} s with {requests} requests", took.as_secs_f64());

        say!("4. The daemon runs, and records change in the portal");
        let stop = CancellationToken::new();
        let daemon = {
            let (store, portal) = (self.store.clone(), self.portal.clone());
            let (options, stop) = (self.options.clone(), stop.clone());
            tokio::spawn(async move { sync::run(&store, &portal, &options, &stop).await })
        };
        let changes = self.live_changes().await;
        stop.cancel();
        daemon.await??;
        let delay = changes?;

        say!("\nReport");
        let equal = self.counts().await?;
        say!(
            "   a change was in PostgreSQL {:.1} s after it was made; this daemon looks every \
             {} s, by default it is every 15 s",
            delay.as_secs_f64(),
            INTERVAL.as_secs()
        );
        self.query(
            "the newest leads: their stage, who is responsible, and a phone",
            "select id, title, status, assigned_by, first_phone\n   \
             from bitrix24_report.leads order by id desc limit 5",
        )
        .await?;
        self.query(
            "who has the same phone number as somebody else",
            "select number, contacts, leads\n   \
             from bitrix24_report.duplicates_by_phone order by records desc, number limit 5",
        )
        .await?;
        Ok(if equal { Exit::Done } else { Exit::NotTrue })
    }

    async fn backfill(&self) -> anyhow::Result<Duration> {
        let stop = CancellationToken::new();
        let opened = Session::open(&self.store, &self.portal, &self.options, &stop).await?;
        let Opened::Session(session) = opened else {
            anyhow::bail!("another process works on this directory's database");
        };
        let began = Instant::now();
        let drawing = Drawing::of(self.options.board.clone());
        let backfill = Work::Backfill { restart: false };
        let endings = session.perform(&backfill, &Entity::BY_DEFAULT, &[]).await;
        session.refresh_reports().await;
        drawing.finish().await;
        session.close().await;
        let took = began.elapsed();
        for ending in endings {
            anyhow::ensure!(ending.verdict == Verdict::Complete, "{}", ending.line);
        }
        Ok(took)
    }

    /// Makes changes of every kind and watches them arrive. Returns how long one took.
    async fn live_changes(&self) -> anyhow::Result<Duration> {
        let id: i64 =
            sqlx::query_scalar("select min(id) from bitrix24.contacts where deleted_at is null")
                .fetch_one(&self.pool)
                .await?;
        // The daemon's first look is behind it when it has completed a cycle.
        tokio::time::sleep(INTERVAL * 2).await;
        let began = Instant::now();
        self.simulator.apply(Action::Touch {
            entity: simulator::Entity::Contacts,
            id,
            field: "NAME".to_owned(),
            value: "Renamed live".into(),
            keep_date: false,
        })?;
        let name = "select count(*) from bitrix24.contacts where name = 'Renamed live'";
        self.until(name, 1).await?;
        let delay = began.elapsed();
        say!("   contact {id} renamed: there after {:.1} s", delay.as_secs_f64());

        for (entity, ours) in
            [(simulator::Entity::Contacts, "contacts"), (simulator::Entity::Leads, "leads")]
        {
            let began = Instant::now();
            self.simulator.apply(Action::Create { entity, count: 100, visible_after: 0.0 })?;
            self.simulator.apply(Action::Import {
                entity,
                count: 25,
                days: 400,
                visible_after: 0.0,
            })?;
            let expected = i64::try_from(self.simulator.truth(entity).len())?;
            let count = match ours {
                "contacts" => "select count(*) from bitrix24.contacts where deleted_at is null",
                _ => "select count(*) from bitrix24.leads where deleted_at is null",
            };
            self.until(count, expected).await?;
            say!(
                "   100 {ours} created and 25 imported with old dates: there after {:.1} s",
                began.elapsed().as_secs_f64()
            );
        }
        Ok(delay)
    }

    /// Waits until a count has come to be what it should.
    async fn until(&self, count: &'static str, expected: i64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found: i64 = sqlx::query_scalar(count).fetch_one(&self.pool).await?;
            if found == expected {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "the change did not arrive: {count} gives {found} instead of {expected}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn counts(&self) -> anyhow::Result<bool> {
        say!("   {:<10} {:>8} {:>8}", "", "portal", "mirror");
        let mut equal = true;
        for (entity, family) in Entity::BY_DEFAULT
            .into_iter()
            .zip([simulator::Entity::Contacts, simulator::Entity::Leads])
        {
            let there = self.simulator.truth(family).len();
            let here = self.store.counts(entity).await?.live;
            say!("   {:<10} {there:>8} {here:>8}", entity.name);
            equal &= i64::try_from(there)? == here;
        }
        Ok(equal)
    }

    async fn query(&self, title: &str, sql: &'static str) -> anyhow::Result<()> {
        say!("\n   -- {title}\n   {sql};\n");
        let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
        if let Some(row) = rows.first() {
            let names: Vec<&str> = row.columns().iter().map(Column::name).collect();
            say!("   {}", names.join(" | "));
        }
        for row in rows {
            let cells: Vec<String> = (0..row.len()).map(|column| cell(&row, column)).collect();
            say!("   {}", cells.join(" | "));
        }
        Ok(())
    }
}

fn cell(row: &sqlx::postgres::PgRow, column: usize) -> String {
    if let Ok(number) = row.try_get::<i64, _>(column) {
        return number.to_string();
    }
    let text: Option<String> = row.try_get(column).unwrap_or(None);
    text.unwrap_or_default()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(40)
        .collect()
}
