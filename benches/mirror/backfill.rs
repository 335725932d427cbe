//! The first load, as fast as this machine can, beside what `COPY` of the same rows takes.

use crate::{
    copy,
    mirror::{self, Requests},
    portal::{Pace, Portal, Records},
    support::{
        arguments::Arguments,
        report::{Row, float, megabytes, thousands},
        server::Server,
    },
};

/// The rows of this group.
pub(crate) const ROWS: [&str; 4] = ["backfill", "backfill-vs-copy", "backfill-memory", "requests"];

/// Backfills a portal without limits, and copies what came of it into empty tables.
pub(crate) async fn measure(arguments: &Arguments, server: &Server) -> anyhow::Result<Vec<Row>> {
    let records = Records { contacts: arguments.scaled(200_000), leads: 0, gaps: 30 };
    let portal = Portal::start(records).await?;
    portal.warm_up()?;
    let database = mirror::migrated(server, "backfill", &portal).await?;
    let cost = mirror::backfill(&portal, &database, Pace::Unlimited).await?;
    mirror::ensure_complete(&database, records.contacts).await?;

    let count = float(records.contacts);
    let wall = cost.mirror.wall.as_secs_f64();
    let (rate, hundred_thousands) = (count / wall, count / 1e5);
    let what =
        format!("Backfill of {} contacts with children, limits off", thousands(records.contacts));
    let mut rows = vec![
        Row::new("backfill", what)
            .figure("contacts_per_second", rate, "contacts/s")
            .figure("seconds", wall, "s")
            .figure(
                "mirror_cpu_seconds_per_100000",
                cost.mirror.usage.cpu / hundred_thousands,
                "CPU-s per 100,000 in b24mirror",
            )
            .figure(
                "postgres_cpu_seconds_per_100000",
                cost.postgres_cpu / hundred_thousands,
                "in PostgreSQL",
            )
            .figure(
                "simulator_cpu_seconds_per_100000",
                cost.portal_cpu / hundred_thousands,
                "in the simulator",
            )
            .figure("requests", float(cost.stats.requests), "requests")
            .figure("wal_megabytes", megabytes(cost.wal), "MB of WAL")
            .target("at least 10,000 contacts/s", rate >= 10_000.0),
    ];
    if arguments.wants("backfill-vs-copy") {
        let empty = mirror::migrated(server, "ceiling", &portal).await?;
        let copied = copy::measure(server, &database, &empty).await?;
        mirror::ensure_complete(&empty, records.contacts).await?;
        let ceiling = count / copied.as_secs_f64();
        let ratio = rate / ceiling;
        let what = "The same beside `COPY` of the same rows into the same empty tables";
        rows.push(
            Row::new("backfill-vs-copy", what)
                .figure("ratio", ratio, "of `COPY`")
                .figure("copy_contacts_per_second", ceiling, "contacts/s by `COPY`")
                .figure("copy_seconds", copied.as_secs_f64(), "s")
                .target("at least 0.4", ratio >= 0.4),
        );
        empty.discard().await?;
    }
    let peak = megabytes(cost.mirror.usage.peak_memory);
    rows.push(
        Row::new("backfill-memory", "Peak memory of b24mirror during that backfill")
            .figure("peak_megabytes", peak, "MB")
            .target("at most 64 MB", peak <= 64.0),
    );
    let requests = Requests::of(&cost.stats, records.contacts);
    rows.push(
        requests
            .row("requests", format!("Requests for these contacts, {} % ID gaps", records.gaps)),
    );
    database.discard().await?;
    Ok(rows)
}
