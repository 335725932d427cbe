//! Changes in the portal while the backfill is running: how soon PostgreSQL shows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::ensure;
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
pub(crate) const ROWS: [&str; 1] = ["freshness"];

/// Between two cycles.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a change may take beyond one interval.
const ALLOWED: Duration = Duration::from_secs(3);

/// How many changes are made, and how long after one another.
const CHANGES: usize = 120;
const CHANGE_EVERY: Duration = Duration::from_millis(200);

/// How often the database is asked; what is measured is up to that much too long.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long to wait for the last of them.
const PATIENCE: Duration = Duration::from_secs(30);

/// A change that PostgreSQL does not show yet.
type Awaited = BTreeMap<i64, Instant>;

/// Lets a daemon fill an empty mirror, and changes contacts meanwhile.
pub(crate) async fn measure(_: &Arguments, server: &Server) -> anyhow::Result<Vec<Row>> {
    // So slow and so large that the backfill outlasts the changes, however parallel it is.
    let records = Records { contacts: 200_000, leads: 0, gaps: 30 };
    let pace = Pace::Cloud { per_request: 40, per_command: 60 };
    let portal = Portal::start(records).await?;
    portal.keep_pace(pace)?;
    let database = mirror::migrated(server, "freshness", &portal).await?;
    let settings = format!(
        "{}[sync]\ninterval = \"{}ms\"\n",
        mirror::settings(&portal, &database, pace),
        INTERVAL.as_millis()
    );
    let mut daemon = Process::start(&["run"], &settings, &[])?;
    // Once the first rows are there, watermark and mark are as well.
    while mirrored(&database).await? == 0 {
        daemon.check()?;
        sleep(LOOK_EVERY).await;
    }

    let mut changed = BTreeSet::new();
    let mut awaited = Awaited::new();
    let mut delays = Vec::new();
    let mut next_change = Instant::now();
    while delays.len() < CHANGES {
        daemon.check()?;
        if changed.len() < CHANGES && Instant::now() >= next_change {
            let at = Instant::now();
            let id = portal.change_one()?;
            // A second change of the same contact could not be told from the first.
            if changed.insert(id) {
                awaited.insert(id, at);
            }
            next_change += CHANGE_EVERY;
        }
        arrived(&database, &mut awaited, &mut delays).await?;
        let oldest = awaited.values().map(Instant::elapsed).max().unwrap_or_default();
        ensure!(oldest < PATIENCE, "a change is not visible after {oldest:?}");
        sleep(LOOK_EVERY).await;
    }
    let (mirrored, refusals) = (mirrored(&database).await?, portal.stats()?.refusals);
    ensure!(mirrored < records.contacts, "the backfill ended before the last change; slow it down");
    let usage = daemon.usage()?;
    daemon.stop().await?;
    database.discard().await?;

    delays.sort_unstable();
    let at = |percent: usize| delays[(delays.len() * percent).div_ceil(100) - 1].as_secs_f64();
    let limit = (INTERVAL + ALLOWED).as_secs_f64();
    Ok(vec![
        Row::new("freshness", "A change during a full backfill, visible in PostgreSQL")
            .figure("p99_seconds", at(99), "s (p99)")
            .figure("p50_seconds", at(50), "s (median)")
            .figure("max_seconds", at(100), "s (longest)")
            .figure("changes", float(delays.len() as u64), "changes")
            .figure("refusals", float(refusals), "refusals")
            .figure("mirror_memory_megabytes", megabytes(usage.memory), "MB in b24mirror")
            .target(
                "p99 within an interval (1 s) + 3 s, no refusal",
                at(99) <= limit && refusals == 0,
            ),
    ])
}

async fn mirrored(database: &Database) -> anyhow::Result<u64> {
    database.count("select count(*) from bitrix24.contacts").await
}

/// Notes which changes are visible now. The simulator's contacts were modified before
/// its fixed day, and these today.
async fn arrived(
    database: &Database,
    awaited: &mut Awaited,
    delays: &mut Vec<Duration>,
) -> anyhow::Result<()> {
    let ids: Vec<i64> = awaited.keys().copied().collect();
    let visible: Vec<i64> = sqlx::query_scalar(
        "select id from bitrix24.contacts \
         where id = any($1) and date_modify > now() - interval '1 hour'",
    )
    .bind(ids)
    .fetch_all(&database.pool)
    .await?;
    for id in visible {
        delays.extend(awaited.remove(&id).map(|changed| changed.elapsed()));
    }
    Ok(())
}
