//! The command line: one file per command, and nothing that a library user would miss.
//!
//! Output for people goes to standard output, logs go to standard error. Exit codes:
//! 0 done and true; 1 failed; 2 finished, but something differs, is behind, incomplete
//! or stopped; 64 wrong usage or settings.

mod backfill;
mod check;
#[cfg(feature = "simulator")]
mod demo;
mod following;
mod forget;
mod migrate;
mod one_shot;
mod output;
mod pause;
mod plan;
mod progress;
mod purge;
mod question;
mod refresh;
mod run;
mod schema;
#[cfg(feature = "simulator")]
mod simulate;
mod status;
mod sweep;
mod sync;
mod verify;
mod wiring;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::{
    entity::{Entity, RecordId, SMART_ITEMS},
    lifecycle::Lifecycle,
    portal::{InvalidGatewayKey, InvalidWebhook, PortalError},
    settings::{Settings, SettingsError},
    store::StoreError,
    sync::{Level, SyncError},
    telemetry,
};

/// Mirrors a Bitrix24 portal's CRM into PostgreSQL and keeps it there, exact and fresh.
#[derive(Debug, Parser)]
#[command(name = "b24mirror", version, max_term_width = 100)]
pub struct Cli {
    /// Settings file; without it ./config.toml, then /etc/b24mirror/config.toml
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mirror until told to stop; backfills an empty schema by itself
    Run,
    /// Read every record that has not been read yet, resuming where an earlier backfill stopped
    Backfill {
        /// Entities to read (`contacts`, `leads`, `mail_recipients`); all enabled ones if none is named
        #[arg(value_parser = entity)]
        entities: Vec<&'static Entity>,
        /// Read everything again instead of resuming
        #[arg(long)]
        restart: bool,
    },
    /// Perform one incremental cycle
    Sync {
        /// Entities to bring up to date (`contacts`, `leads`, `mail_recipients`); all enabled ones if none is named
        #[arg(value_parser = entity)]
        entities: Vec<&'static Entity>,
    },
    /// Stop reading and writing entities until they are resumed; works with and without a
    /// process that mirrors, and outlives it
    Pause {
        /// Entities to pause (`contacts`, `leads`, `mail_recipients`)
        #[arg(value_parser = entity, required = true)]
        entities: Vec<&'static Entity>,
    },
    /// End the pause of entities; what changed meanwhile is read
    Resume {
        /// Entities to resume (`contacts`, `leads`, `mail_recipients`)
        #[arg(value_parser = entity, required = true)]
        entities: Vec<&'static Entity>,
    },
    /// Find what was deleted in the portal and what changed unnoticed; stops without deleting
    /// where too much seems to be gone
    Sweep {
        /// Entities to sweep (`contacts`, `leads`, `mail_recipients`); all enabled ones if none is named
        #[arg(value_parser = entity)]
        entities: Vec<&'static Entity>,
        /// Delete exactly what the run of this number refused to delete, where it is still gone
        #[arg(long, value_name = "RUN")]
        accept: Option<i64>,
    },
    /// Compare the mirror with the portal and say what differs
    ///
    /// What is on its way does not count as different: a record differs only if the portal shows
    /// the same twice, with an incremental cycle in between where a daemon runs, and its row was
    /// not written meanwhile. Records that the next cycle reads by itself are behind.
    Verify {
        /// Entities to compare (`contacts`, `leads`, `mail_recipients`); all enabled ones if none is named
        #[arg(value_parser = entity)]
        entities: Vec<&'static Entity>,
        /// How closely: `counts` per range of IDs; `ids`, which records exist and when they were
        /// modified; `full`, the content of every record and every phone, e-mail, website,
        /// messenger and link
        #[arg(long, default_value = "ids", value_parser = verify::level)]
        level: Level,
        /// Put right what differs, and nothing else
        #[arg(long)]
        repair: bool,
        /// Print JSON, with every difference
        #[arg(long)]
        json: bool,
    },
    /// Read records again now, whatever their rows say: what has gone in the portal becomes a
    /// tombstone
    Refresh {
        /// An entity and the IDs of its records; with --quarantined entities only
        #[arg(value_name = "ENTITY ID", allow_negative_numbers = true)]
        words: Vec<String>,
        /// Try everything once more that the quarantine holds of these entities, or of all
        #[arg(long)]
        quarantined: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say whether the mirror is healthy and how far behind it is: fresh (exit code 0) is
    /// what completed a cycle within the last three intervals
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print again every two seconds until interrupted
        #[arg(long, conflicts_with = "json")]
        watch: bool,
    },
    /// Check settings, credentials, rights, clock, filters and database; writes nothing
    Check,
    /// Say what a backfill would cost: records, requests, time, database size; writes nothing
    Plan {
        /// Entities to plan for (contacts, leads); all enabled ones if none is named
        #[arg(value_parser = entity)]
        entities: Vec<&'static Entity>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove records that were deleted in the portal long ago, with everything that is kept
    /// of them; nothing does that by itself
    Purge {
        /// Entities to purge (`contacts`, `leads`, `mail_recipients`); all if none is named
        #[arg(value_parser = entity)]
        entities: Vec<&'static Entity>,
        /// How long ago they must have been deleted, such as 90d; at least 1h
        #[arg(long, value_name = "AGE", value_parser = purge::age, allow_hyphen_values = true)]
        older_than: Duration,
    },
    /// Remove records from every table, history and quarantine included, and keep them out for
    /// as long as the portal has them; a hash of the ID is all that remains
    Forget {
        /// The entity (`contacts`, `leads`, `mail_recipients`)
        #[arg(value_parser = entity_with_ids)]
        entity: &'static Entity,
        /// The records' IDs in the portal
        #[arg(value_name = "ID", required = true, allow_negative_numbers = true)]
        ids: Vec<RecordId>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring the database schema up to date
    Migrate,
    /// Print every table, view and column with its type and what it holds, custom fields included
    Schema {
        /// How it is printed
        #[arg(long, value_enum, default_value = "markdown")]
        format: schema::Format,
    },
    /// Serve a simulated portal on loopback, and the VibeCode gateway before it
    #[cfg(feature = "simulator")]
    #[command(after_help = simulate::HOW_TO_REACH_IT)]
    Simulate(simulate::SimulateArgs),
    /// Show it all: a private database, a simulated portal, a backfill and live changes
    #[cfg(feature = "simulator")]
    Demo(demo::DemoArgs),
}

/// How a command ended; its number is the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Done and true.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Finished, but something differs, is behind, incomplete or stopped.
    NotTrue = 2,
    /// Wrong usage or settings; trying again cannot help.
    Usage = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Parses the arguments, runs the command and returns the process's exit code.
#[must_use]
#[expect(clippy::print_stderr, reason = "the last words of a failing command")]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failures, and clap would say 2 for the rest.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    match execute(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {}", told(&error));
            classify(&error).into()
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    #[cfg(feature = "simulator")]
    match cli.command {
        Command::Simulate(args) => {
            telemetry::init(telemetry::LogFormat::Text, telemetry::LogLevel::INFO)?;
            return runtime.block_on(async {
                let lifecycle = Lifecycle::new()?;
                simulate::run(args, lifecycle.soft()).await?;
                Ok(Exit::Done)
            });
        }
        Command::Demo(args) => {
            telemetry::init(telemetry::LogFormat::Text, telemetry::LogLevel::WARN)?;
            return runtime.block_on(async {
                let lifecycle = Lifecycle::new()?;
                lifecycle.run(Box::pin(demo::run(args, lifecycle.soft()))).await?
            });
        }
        _ => {}
    }
    let settings = Settings::load(cli.config.as_deref())?;
    telemetry::init(settings.log.format, settings.log.level)?;
    let exit = runtime.block_on(async {
        let lifecycle = Lifecycle::new()?;
        match cli.command {
            Command::Run => run::run(&settings, lifecycle).await,
            Command::Backfill { entities, restart } => {
                let work = backfill::run(&settings, &lifecycle, &entities, restart);
                lifecycle.run(Box::pin(work)).await?
            }
            Command::Sync { entities } => {
                lifecycle.run(Box::pin(sync::run(&settings, &lifecycle, &entities))).await?
            }
            Command::Pause { entities } => {
                lifecycle.run(Box::pin(pause::pause(&settings, &lifecycle, &entities))).await?
            }
            Command::Resume { entities } => {
                lifecycle.run(Box::pin(pause::resume(&settings, &lifecycle, &entities))).await?
            }
            Command::Sweep { entities, accept } => {
                let work = sweep::run(&settings, &lifecycle, &entities, accept);
                lifecycle.run(Box::pin(work)).await?
            }
            Command::Verify { entities, level, repair, json } => {
                let how = (level, repair);
                let work = verify::run(&settings, &lifecycle, &entities, how, json);
                lifecycle.run(Box::pin(work)).await?
            }
            Command::Refresh { words, quarantined, json } => {
                let what = (words.as_slice(), quarantined);
                lifecycle.run(Box::pin(refresh::run(&settings, &lifecycle, what, json))).await?
            }
            Command::Status { json, watch } => {
                lifecycle.run(Box::pin(status::run(&settings, &lifecycle, json, watch))).await?
            }
            Command::Check => lifecycle.run(Box::pin(check::run(&settings, &lifecycle))).await?,
            Command::Plan { entities, json } => {
                lifecycle.run(Box::pin(plan::run(&settings, &lifecycle, &entities, json))).await?
            }
            Command::Purge { entities, older_than } => {
                purge::run(&settings, &lifecycle, &entities, older_than).await
            }
            Command::Forget { entity, ids, yes, json } => {
                let (what, how) = ((entity, ids.as_slice()), (yes, json));
                lifecycle.run(Box::pin(forget::run(&settings, &lifecycle, what, how))).await?
            }
            Command::Migrate => {
                lifecycle.run(Box::pin(migrate::run(&settings, &lifecycle))).await?
            }
            Command::Schema { format } => {
                lifecycle.run(Box::pin(schema::run(&settings, &lifecycle, format))).await?
            }
            #[cfg(feature = "simulator")]
            Command::Simulate(_) | Command::Demo(_) => Ok(Exit::Usage),
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    exit
}

/// What failed and why, down to the root. A cause that the one before has told already is not
/// told again.
fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.ends_with(&cause) {
            told.push_str(": ");
            told.push_str(&cause);
        }
    }
    told
}

/// Which exit code a failure deserves: 64 where only other settings can help.
fn classify(error: &anyhow::Error) -> Exit {
    let settings = error.chain().any(|cause| {
        cause.is::<SettingsError>()
            || cause.is::<InvalidWebhook>()
            || cause.is::<InvalidGatewayKey>()
            || cause.is::<wiring::Disabled>()
            || cause.is::<refresh::WrongWords>()
            || cause.is::<forget::NobodyToAsk>()
            || matches!(
                cause.downcast_ref(),
                Some(PortalError::CaFile { .. } | PortalError::CaCertificate { .. })
            )
            || cause.downcast_ref::<StoreError>().is_some_and(StoreError::is_misconfigured)
            || matches!(cause.downcast_ref(), Some(SyncError::Store(error)) if error.is_misconfigured())
    });
    if settings { Exit::Usage } else { Exit::Failed }
}

fn entity(name: &str) -> Result<&'static Entity, String> {
    Entity::by_name(name).ok_or_else(|| {
        let known: Vec<_> = Entity::families().map(|entity| entity.name).collect();
        format!(
            "there is no entity of this name; known are {}, and each smart process as \
             smart_items_NUMBER",
            known.join(", ")
        )
    })
}

/// An entity whose IDs are those of records: each smart process counts for itself.
fn entity_with_ids(name: &str) -> Result<&'static Entity, String> {
    let entity = entity(name)?;
    if *entity == SMART_ITEMS {
        return Err(
            "an ID may be one of any smart process; name one, as in smart_items_128".to_owned()
        );
    }
    Ok(entity)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let refused = || std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
        let error = anyhow::Error::from(StoreError::from(sqlx::Error::Io(refused())));
        assert_eq!(told(&error).matches("refused").count(), 1, "{}", told(&error));
        let root = anyhow::Error::from(refused()).context("outer");
        assert_eq!(told(&root), "outer: refused");
        // Log lines show the chain as it is.
        let error = StoreError::from(sqlx::Error::Io(refused()));
        let chain = anyhow::Error::from(error);
        assert_eq!(format!("{chain:#}").matches("refused").count(), 1, "{chain:#}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
