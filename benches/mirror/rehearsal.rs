//! A portal whose operating time decides: hours on a virtual clock, over the segments and
//! the limiter that a real backfill has.

use std::time::Duration;

use b24mirror::{
    portal::{Limits, OperatingLimit},
    sync::plan::{Pace, rehearse_evenly},
};

use crate::support::{
    arguments::Arguments,
    report::{Row, float, thousands},
    server::Server,
};

/// The rows of this group.
pub(crate) const ROWS: [&str; 1] = ["virtual-clock"];

/// The share of IDs that is missing.
const GAPS: f64 = 0.3;

/// Rehearses a backfill of a million contacts.
#[expect(clippy::unused_async, reason = "the other groups wait for processes")]
pub(crate) async fn measure(arguments: &Arguments, _: &Server) -> anyhow::Result<Vec<Row>> {
    let contacts = arguments.scaled(1_000_000);
    let operating =
        OperatingLimit { limit: Duration::from_mins(8), window: Duration::from_mins(10) };
    let limits = Limits { requests_per_second: 2.0, burst: 50, operating: Some(operating) };
    let command = Duration::from_millis(200);
    let pace = Pace { command, operating: command, request: Duration::from_millis(40) };
    let cost = rehearse_evenly(i64::try_from(contacts)?, GAPS, &limits, pace, 4);
    let windows = float(cost.commands) * command.as_secs_f64() / operating.limit.as_secs_f64();
    let bound = 1.05 * operating.window.as_secs_f64() * (windows.ceil() - 1.0);
    let seconds = cost.took.as_secs_f64();
    let what = format!(
        "Backfill of {} contacts on a virtual clock, 480 s of operating time per 10 min at 0.2 s \
         per command, bucket 50 and 2/s",
        thousands(contacts)
    );
    Ok(vec![
        Row::new("virtual-clock", what)
            .figure("seconds", seconds, "s")
            .figure("requests", float(cost.requests), "requests")
            .figure("commands", float(cost.commands), "commands")
            .figure("refused", float(cost.refused), "refusals")
            .target(
                format!(
                    "at most {bound:.0} s (1.05 × 600 × (⌈commands × 0.2 ÷ 480⌉ − 1)), no refusal"
                ),
                seconds <= bound && cost.refused == 0,
            ),
    ])
}
