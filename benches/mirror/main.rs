//! The whole mirror end to end: a simulated portal, b24mirror and a private PostgreSQL
//! server, each in processes of its own, so that each one's cost is counted separately.
//!
//! `cargo bench --bench mirror -- [ROW…] [--scale FACTOR]` prints one line of JSON per row
//! as it comes (`grep '^{'` finds them), and a Markdown table at the end. Rows are chosen by
//! parts of their names. With a scale other than 1 the portals are smaller or larger, and
//! the targets, which are meant for the full size, say little.
//!
//! Only wall-clock time depends on what else the machine does: compare it between rows of
//! one run, and look at `load`. Processor time, memory, requests and bytes are steadier.

#[path = "../support/mod.rs"]
mod support;

mod backfill;
mod copy;
mod freshness;
mod idle;
mod mirror;
mod portal;
mod processes;
mod rehearsal;
mod reread;
mod slow_portal;
mod sparse;

use std::{pin::Pin, process::ExitCode};

use support::{
    arguments::Arguments,
    report::{Report, Row},
    server::Server,
};

#[expect(clippy::print_stderr, reason = "the last words of a failing benchmark")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let Some(arguments) = Arguments::read()? else { return Ok(()) };
    let server = Server::start().await?;
    let mut report = Report::new("mirror");
    // So that the server and the children are stopped, whatever happens.
    let result = tokio::select! {
        result = measure(&arguments, &server, &mut report) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    server.stop().await?;
    result?;
    Ok(report.print_table()?)
}

/// The rows of one group, once it has been awaited.
type Group<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Vec<Row>>> + 'a>>;

/// Every group of rows, one after another: each has the machine to itself.
async fn measure(
    arguments: &Arguments,
    server: &Server,
    report: &mut Report,
) -> anyhow::Result<()> {
    let groups: [(&[&str], Group<'_>); 7] = [
        (&backfill::ROWS, Box::pin(backfill::measure(arguments, server))),
        (&sparse::ROWS, Box::pin(sparse::measure(arguments, server))),
        (&slow_portal::ROWS, Box::pin(slow_portal::measure(arguments, server))),
        (&rehearsal::ROWS, Box::pin(rehearsal::measure(arguments, server))),
        (&reread::ROWS, Box::pin(reread::measure(arguments, server))),
        (&freshness::ROWS, Box::pin(freshness::measure(arguments, server))),
        (&idle::ROWS, Box::pin(idle::measure(arguments, server))),
    ];
    for (names, group) in groups {
        if arguments.want_any(names) {
            for row in group.await? {
                if arguments.wants(row.name()) {
                    report.add(row)?;
                }
            }
        }
    }
    Ok(())
}
