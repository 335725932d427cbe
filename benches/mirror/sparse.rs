//! A portal of which little is left: IDs say nothing about how many records there are.

use crate::{
    mirror::{self, Requests},
    portal::{Pace, Portal, Records},
    support::{
        arguments::Arguments,
        report::{Row, thousands},
        server::Server,
    },
};

/// The rows of this group.
pub(crate) const ROWS: [&str; 1] = ["requests-sparse"];

/// Backfills a portal with few records in a wide space of IDs.
pub(crate) async fn measure(arguments: &Arguments, server: &Server) -> anyhow::Result<Vec<Row>> {
    let records = Records { contacts: arguments.scaled(100_000), leads: 0, gaps: 90 };
    let portal = Portal::start(records).await?;
    let database = mirror::migrated(server, "sparse", &portal).await?;
    let cost = mirror::backfill(&portal, &database, Pace::Unlimited).await?;
    mirror::ensure_complete(&database, records.contacts).await?;
    database.discard().await?;
    let what = format!(
        "Requests for {} contacts, {} % ID gaps and a block above 2³¹",
        thousands(records.contacts),
        records.gaps
    );
    Ok(vec![Requests::of(&cost.stats, records.contacts).row("requests-sparse", what)])
}
