//! A PostgreSQL server that a test may kill.

use std::{fs, path::PathBuf, time::Duration};

use b24mirror::local_postgres::{LocalOptions, LocalPostgres};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tempfile::TempDir;

use crate::support::Company;

/// A server of one's own, removed with this value.
pub(super) struct Server {
    postgres: Option<LocalPostgres>,
    options: LocalOptions,
    // After the server that works in it.
    _directory: TempDir,
    _company: Company,
}

impl Server {
    pub(super) async fn start() -> Self {
        let company = Company::ordinary().await;
        let directory = tempfile::Builder::new().prefix("b24mirror-test-").tempdir().unwrap();
        let options =
            LocalOptions { durable: false, ..LocalOptions::new(directory.path().join("server")) };
        let postgres = LocalPostgres::start(options.clone()).await.unwrap();
        Self { postgres: Some(postgres), options, _directory: directory, _company: company }
    }

    fn postgres(&self) -> &LocalPostgres {
        self.postgres.as_ref().unwrap()
    }

    /// Creates a database; gives its address and a pool for the test's own eyes.
    pub(super) async fn database(&self, name: &str) -> (SecretString, PgPool) {
        self.postgres().create_database(name).await.unwrap();
        let url = self.postgres().url(name);
        let pool = PgPoolOptions::new()
            .acquire_timeout(Duration::from_mins(1))
            .connect_lazy(url.expose_secret())
            .unwrap();
        (url, pool)
    }

    /// Ends it as a crash would: nothing is written any more, nobody is told.
    pub(super) fn crash(&self) {
        let pid = self.options.directory.join("data").join("postmaster.pid");
        let pid = first_line(&pid);
        signal::kill(Pid::from_raw(pid), Signal::SIGQUIT).unwrap();
    }

    /// Lets it recover from its crash.
    pub(super) async fn recover(&mut self) {
        // The old value would stop the server unless somebody else used it already.
        let again = LocalPostgres::start(self.options.clone()).await.unwrap();
        self.postgres = Some(again);
    }
}

fn first_line(path: &PathBuf) -> i32 {
    fs::read_to_string(path).unwrap().lines().next().unwrap().trim().parse().unwrap()
}
