//! `b24mirror plan`

use std::time::Duration;

use anyhow::{anyhow, bail};
use bytesize::ByteSize;

use super::{
    Exit,
    output::say,
    wiring::{self, Database, Patience},
};
use crate::{
    entity::{Dialect, Entity},
    lifecycle::Lifecycle,
    portal::{Gateway, Portal},
    settings::Settings,
    store::SchemaState,
    sync::{
        SyncError,
        plan::{Plan, plan},
        settle_tokens,
    },
};

/// Says what a backfill would cost; asks the portal a few questions and writes nothing.
///
/// It sends three requests per entity, and a dozen where a gateway is asked, one a second, so
/// that it can run beside a daemon.
pub(super) async fn run(
    settings: &Settings,
    lifecycle: &Lifecycle,
    named: &[&'static Entity],
    json: bool,
) -> anyhow::Result<Exit> {
    let portal = wiring::modest_portal(settings)?;
    wiring::spare_tokens(lifecycle, &portal);
    let drawing = wiring::modest_drawing(&portal);
    let planned = plans(settings, lifecycle, named, &portal).await;
    drawing.finish().await;
    let plans = planned?;
    let restraint = &settings.portal.limits.restraint;
    if json {
        say!("{}", serde_json::to_string_pretty(&plans)?);
    } else {
        say!("A backfill of all that the portal has, as a few probes show it:");
        for plan in &plans {
            print(plan);
        }
        if !restraint.quiet_hours.is_empty() {
            say!("\nThe quiet hours of `portal.limits.quiet_hours` come on top of the time.");
        }
    }
    Ok(Exit::Done)
}

async fn plans(
    settings: &Settings,
    lifecycle: &Lifecycle,
    named: &[&'static Entity],
    portal: &Portal,
) -> anyhow::Result<Vec<Plan>> {
    let _database = tokens(settings, lifecycle, portal).await?;
    let share = settings.portal.limits.restraint.share;
    let of_portal = wiring::limits(settings).part(share);
    let of_gateway = Gateway::limits(settings.portal.vibecode.requests_per_minute).part(share);
    let ways = settings.sync.max_in_flight;
    let mut plans = Vec::new();
    for mirrored in wiring::each_process(wiring::chosen_mirrored(settings, named)?, portal).await? {
        if mirrored.entity.is_read_whole() {
            // Nothing says how many entries there are, short of reading them all.
            continue;
        }
        let limits = if mirrored.dialect == Dialect::Vibecode { &of_gateway } else { &of_portal };
        let planned = plan(mirrored, portal, wiring::modest_retry()?, limits, ways).await;
        let named = |error: SyncError| anyhow!("{}: {}", mirrored.entity.name, error.reason());
        plans.push(planned.map_err(named)?);
    }
    settle_tokens(portal).await;
    Ok(plans)
}

/// An application's tokens are in the database; a webhook needs none.
async fn tokens(
    settings: &Settings,
    lifecycle: &Lifecycle,
    portal: &Portal,
) -> anyhow::Result<Option<Database>> {
    if settings.portal.oauth.is_none() {
        return Ok(None);
    }
    let stop = lifecycle.soft();
    let database = wiring::database(settings, "plan", Patience::Command, &stop).await?;
    if database.store.schema_state().await? != SchemaState::Current {
        bail!(
            "an application's tokens are stored with every renewal, and schema `{}` has no place \
             for them yet; run `b24mirror migrate`",
            database.store.schema()
        );
    }
    wiring::visit(settings, &database.store, portal, "plan").await?;
    Ok(Some(database))
}

fn print(plan: &Plan) {
    say!("\n{}: about {} records", plan.entity, plan.records);
    say!("  requests        {}", plan.requests);
    say!("  commands        {}", plan.commands);
    match plan.operating_seconds {
        Some(seconds) => say!("  operating time  {}", about(seconds)),
        None => say!("  operating time  not told by this portal"),
    }
    say!("  time            {}", about(plan.seconds));
    say!("  database        {}", ByteSize(plan.database_bytes));
}

fn about(seconds: f64) -> String {
    let rounded = if seconds < 10.0 { seconds.ceil() } else { seconds.round() };
    let time = Duration::try_from_secs_f64(rounded).unwrap_or(Duration::MAX);
    humantime::format_duration(time).to_string()
}
