//! The daemon when there is nothing to do: how soon it is there, and how little it is felt.

use std::{os::unix::net::UnixDatagram, time::Duration};

use anyhow::Context as _;
use tokio::time::sleep;

use crate::{
    mirror,
    portal::{Pace, Portal, Records},
    processes::Process,
    support::{
        arguments::Arguments,
        report::{Row, float, megabytes},
        server::{Database, Server},
    },
};

/// The rows of this group.
pub(crate) const ROWS: [&str; 3] = ["ready", "idle-cpu", "idle-memory"];

/// How often the database is asked whether the first cycles are complete.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What follows the start and is no idling yet.
const SETTLING: Duration = Duration::from_secs(5);

/// Two cycles at the default interval.
const WATCHED: Duration = Duration::from_secs(30);

/// How long the start may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the daemon on a filled mirror and watches it.
pub(crate) async fn measure(arguments: &Arguments, server: &Server) -> anyhow::Result<Vec<Row>> {
    let (contacts, leads) = (arguments.scaled(20_000), arguments.scaled(5_000));
    let portal = Portal::start(Records { contacts, leads, gaps: 30 }).await?;
    let database = mirror::migrated(server, "idle", &portal).await?;
    let settings = mirror::settings(&portal, &database, Pace::Unlimited);
    Process::start(&["backfill"], &settings, &[])?.finish().await?;

    let home = tempfile::tempdir()?;
    let path = home.path().join("notify");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(PATIENCE))?;
    let address = path.to_str().context("the temporary directory has a strange name")?;
    let before = oldest_cycle(&database).await?;
    let mut daemon = Process::start(&["run"], &settings, &[("NOTIFY_SOCKET", address)])?;
    wait_until_ready(&manager)?;
    let ready = daemon.started().elapsed().as_secs_f64();
    while oldest_cycle(&database).await? == before {
        daemon.check()?;
        sleep(LOOK_EVERY).await;
    }
    let fresh = daemon.started().elapsed().as_secs_f64();

    sleep(SETTLING).await;
    portal.reset_stats()?;
    let before = daemon.usage()?.cpu;
    sleep(WATCHED).await;
    let usage = daemon.usage()?;
    let percent = 100.0 * (usage.cpu - before) / WATCHED.as_secs_f64();
    let requests = portal.stats()?.requests;
    daemon.stop().await?;
    database.discard().await?;

    let memory = megabytes(usage.memory);
    let seconds = WATCHED.as_secs();
    Ok(vec![
        Row::new("ready", "Start to ready")
            .figure("seconds", ready, "s")
            .figure("fresh_seconds", fresh, "s until the first cycle of every entity is complete")
            .target("at most 1 s", ready <= 1.0),
        Row::new("idle-cpu", format!("Processor time when idle, over {seconds} s"))
            .figure("percent", percent, "% of a core")
            .figure("requests", float(requests), "requests")
            .target("at most 0.5 %", percent <= 0.5),
        Row::new("idle-memory", "Memory when idle")
            .figure("megabytes", memory, "MB")
            .target("at most 24 MB", memory <= 24.0),
    ])
}

/// When the oldest of the entities' last complete cycles ended, in microseconds.
async fn oldest_cycle(database: &Database) -> anyhow::Result<u64> {
    let sql = "select (extract(epoch from min(completed_at)) * 1e6)::bigint \
               from bitrix24.sync_checkpoints";
    database.count(sql).await
}

fn wait_until_ready(manager: &UnixDatagram) -> anyhow::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let length = manager.recv(&mut buffer).context("the daemon does not become ready")?;
        if buffer[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
            return Ok(());
        }
    }
}
