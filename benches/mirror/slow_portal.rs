//! A portal that takes its time: what counts is to ask for several things at once.

use crate::{
    mirror,
    portal::{Pace, Portal, Records},
    support::{
        arguments::Arguments,
        report::{Row, float, thousands},
        server::Server,
    },
};

/// The rows of this group.
pub(crate) const ROWS: [&str; 1] = ["slow-portal"];

/// The target in seconds, for 20,000 contacts.
const TARGET: f64 = 2.5;

/// Backfills a portal that answers no faster than a real one does.
pub(crate) async fn measure(arguments: &Arguments, server: &Server) -> anyhow::Result<Vec<Row>> {
    let records = Records { contacts: arguments.scaled(20_000), leads: 0, gaps: 30 };
    let pace = Pace::Cloud { per_request: 40, per_command: 15 };
    let portal = Portal::start(records).await?;
    portal.warm_up()?;
    portal.keep_pace(pace)?;
    let database = mirror::migrated(server, "slow_portal", &portal).await?;
    let cost = mirror::backfill(&portal, &database, pace).await?;
    mirror::ensure_complete(&database, records.contacts).await?;
    database.discard().await?;
    let seconds = cost.mirror.wall.as_secs_f64();
    let what = format!(
        "Backfill of {} contacts, 40 ms per request, 15 ms per command, bucket 50 and 2/s",
        thousands(records.contacts)
    );
    Ok(vec![
        Row::new("slow-portal", what)
            .figure("seconds", seconds, "s")
            .figure("requests", float(cost.stats.requests), "requests")
            .figure("refusals", float(cost.stats.refusals), "refusals")
            .target(
                format!("under {TARGET} s, no refusal"),
                seconds < TARGET && cost.stats.refusals == 0,
            ),
    ])
}
