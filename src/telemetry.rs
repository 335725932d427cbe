//! Logging: to stderr, as text or JSON.
//!
//! Our own code is logged at the level that was asked for. Third-party crates never go
//! below `info`, whatever that level is: at `debug` and `trace` HTTP clients and database
//! drivers print request lines, headers and statements, and the portal's address *is* a
//! secret.

use std::io::{self, IsTerminal};

use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    filter::Targets, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt,
};

/// How much is logged.
pub type LogLevel = tracing::Level;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people, in colour on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logging was set up already in this process.
#[derive(Debug, thiserror::Error)]
#[error("logging cannot be set up twice in one process")]
pub struct AlreadySetUp(#[from] tracing_subscriber::util::TryInitError);

/// Sends this process's log to stderr from here on.
pub fn init(format: LogFormat, level: LogLevel) -> Result<(), AlreadySetUp> {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    Ok(subscriber(format, level, colour, io::stderr).try_init()?)
}

fn subscriber<W>(
    format: LogFormat,
    level: LogLevel,
    colour: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = Targets::new()
        .with_default(LevelFilter::from_level(level).min(LevelFilter::INFO))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colour);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => Box::new(registry.with(lines)),
        LogFormat::Json => Box::new(registry.with(lines.json().flatten_event(true))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: LogLevel) -> String {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = subscriber(format, level, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(page = 3, "ours, traced");
            tracing::info!("ours, told");
            tracing::debug!(target: "hyper_util::client", "theirs, debugged");
            tracing::trace!(target: "sqlx::query", "theirs, traced");
            tracing::info!(target: "rustls", "theirs, told");
            tracing::warn!(target: "h2", "theirs, warned");
        });
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn third_party_crates_stay_at_info_whatever_the_level() {
        let text = logged(LogFormat::Text, LogLevel::TRACE);
        for line in ["ours, traced page=3", "ours, told", "theirs, told", "theirs, warned"] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
        assert_eq!(text.lines().count(), 4, "{text}");
    }

    #[test]
    fn a_higher_level_silences_everybody() {
        let text = logged(LogFormat::Text, LogLevel::WARN);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("theirs, warned"));
    }

    #[test]
    fn json_lines_are_json() {
        let text = logged(LogFormat::Json, LogLevel::TRACE);
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["message"], "ours, traced");
        assert_eq!(first["page"], 3);
        assert_eq!(first["level"], "TRACE");
    }
}
