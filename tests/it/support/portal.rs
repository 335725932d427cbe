//! A simulated portal for one test, and the settings with which the program mirrors it.

use std::{
    net::TcpListener,
    ops::Deref,
    sync::atomic::{AtomicU16, Ordering},
};

use b24mirror::{
    entity::Entity,
    simulator::{Action, Options, Outcome, Simulator, TrueRecord},
};
use secrecy::ExposeSecret as _;

use super::{Database, Finished, Process, Run, equal::family};

/// A running simulator.
pub(crate) struct TestPortal(Simulator);

impl Deref for TestPortal {
    type Target = Simulator;

    fn deref(&self) -> &Simulator {
        &self.0
    }
}

impl TestPortal {
    /// A small portal without limits, whose data are nasty all the same.
    pub(crate) fn small() -> Self {
        Self::with(Options { contacts: 700, leads: 300, ..unlimited() })
    }

    /// A portal of one's own.
    pub(crate) fn with(options: Options) -> Self {
        Self(Simulator::start(options).unwrap())
    }

    /// Lets something happen that must succeed.
    pub(crate) fn happens(&self, action: Action) -> Outcome {
        self.apply(action).unwrap()
    }

    /// Every live record.
    pub(crate) fn truth(&self, entity: &'static Entity) -> Vec<TrueRecord> {
        self.0.truth(family(entity))
    }

    /// Settings that mirror this portal into that database, with no limit that would
    /// make a test wait.
    pub(crate) fn settings(&self, database: &Database) -> String {
        self.settings_with(database, "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n")
    }

    /// The same with other limits or further sections.
    pub(crate) fn settings_with(&self, database: &Database, more: &str) -> String {
        format!(
            "[portal]\nwebhook_url = \"{}\"\n\
             [database]\nurl = \"{}\"\n\
             [sync]\ninterval = \"1s\"\noverlap = \"10s\"\n\
             {more}",
            self.webhook_url(),
            database.url().expose_secret(),
        )
    }

    /// Runs a command to its end.
    pub(crate) async fn command(&self, database: &Database, arguments: &[&str]) -> Finished {
        Run::b24mirror(arguments).config(&self.settings(database)).finish().await
    }

    /// Starts the daemon.
    pub(crate) fn daemon(&self, database: &Database) -> Process {
        Run::b24mirror(&["run"]).config(&self.settings(database)).spawn()
    }

    /// Backfills, which must succeed.
    pub(crate) async fn backfilled(&self, database: &Database) {
        let finished = self.command(database, &["backfill"]).await;
        assert_eq!(finished.code, Some(0), "{finished:#?}");
    }
}

/// No limits of the portal's, for tests that are about something else.
pub(crate) fn unlimited() -> Options {
    Options { bucket: None, operating: None, ..Options::default() }
}

/// A free port that no other test is given, and that the system gives to nobody by
/// itself: for what has to come back on the same port, or starts late.
pub(crate) fn quiet_port() -> u16 {
    // Below the ports that Linux chooses from, and elsewhere in every test process.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 1_000).unwrap();
    loop {
        let port = 12_000 + first * 16 + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
