//! A portal, a database and the mirror between them, used for many cells one after the other.

use std::time::Duration;

use b24mirror::{
    entity::{CONTACTS, Entity},
    portal::{Limits, OperatingLimit, Portal, PortalOptions, WebhookUrl},
    reporting::ReportOptions,
    retry::RetryPolicy,
    simulator::Options,
    store::{Health, Store, StoreOptions},
    sync::{CheckOptions, Mirrored, Opened, ProgressBoard, Session, SyncOptions},
};
use secrecy::SecretString;
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;

use super::errors::HASTY;
use crate::support::{
    Database, TestPortal, database, equal::differences, tables::value, unlimited,
};

/// Contacts of a stage's portal when it begins: five pages.
pub(super) const CONTACTS_AT_FIRST: u64 = 220;

/// A small portal and its mirror. Everything is real: HTTP, PostgreSQL, sessions.
pub(super) struct Stage {
    pub(super) portal: TestPortal,
    pub(super) database: Database,
    pub(super) store: Store,
    /// The mirror is known to be equal to the portal.
    pub(super) is_equal: bool,
    patient: Portal,
    hasty: Portal,
}

impl Stage {
    /// An empty mirror of a portal with contacts only. Not to be called in a task of its
    /// own: a test's databases belong to its thread.
    pub(super) async fn new(seed: u64) -> Self {
        let database = database().await;
        let url = database.url();
        Self::with(seed, database, url).await
    }

    /// The same in a database that is reached by another address.
    pub(super) async fn with(seed: u64, database: Database, url: SecretString) -> Self {
        let portal = TestPortal::with(Options {
            contacts: CONTACTS_AT_FIRST,
            leads: 0,
            seed,
            ..unlimited()
        });
        let store = Store::connect(&StoreOptions {
            url,
            schema: "bitrix24".parse().unwrap(),
            max_connections: 6,
            application_name: "faults".to_owned(),
        })
        .await
        .unwrap();
        store.migrate().await.unwrap();
        let (patient, hasty) = clients(&portal);
        Self { portal, database, store, is_equal: false, patient, hasty }
    }

    /// Forgets what the clients have learnt of the portal: its new host, its limits.
    pub(super) fn forget_the_portal(&mut self) {
        (self.patient, self.hasty) = clients(&self.portal);
    }

    /// Opens a session, with a client that soon loses its patience if need be.
    pub(super) async fn session(&self, hasty: bool) -> Box<Session> {
        let client = if hasty { &self.hasty } else { &self.patient };
        let options = SyncOptions {
            board: ProgressBoard::default(),
            entities: vec![Mirrored::new(&CONTACTS, Duration::from_secs(1))],
            overlap: Duration::from_secs(10),
            max_in_flight: 2,
            dictionary_interval: Duration::from_hours(1),
            checks: CheckOptions::default(),
            reports: ReportOptions::default(),
            retry: retry(),
            holder: "faults".to_owned(),
        };
        let stop = CancellationToken::new();
        match Session::open(&self.store, client, &options, &stop).await.unwrap() {
            Opened::Session(session) => session,
            Opened::HeldBy { holder, .. } => panic!("held by {holder}"),
        }
    }

    /// As before the first backfill.
    pub(super) async fn empty_the_mirror(&self) {
        let tables: Vec<String> = sqlx::query_scalar(
            "select relname::text from pg_class \
             where relnamespace = 'bitrix24'::regnamespace and relkind = 'r' \
             and relname not in ('_sqlx_migrations', 'portal', 'sync_lease', 'statuses', 'users', \
                'departments', 'currencies', 'sync_dictionaries', 'sync_hidden_codes')",
        )
        .fetch_all(self.database.pool())
        .await
        .unwrap();
        let tables: Vec<String> =
            tables.into_iter().map(|table| format!("bitrix24.{table}")).collect();
        let truncate = format!("truncate {}", tables.join(", "));
        sqlx::query(AssertSqlSafe(truncate)).execute(self.database.pool()).await.unwrap();
    }

    /// The first differences between portal and mirror; empty where there are none.
    pub(super) async fn differences(&self) -> String {
        differences(&self.portal, self.database.pool(), &CONTACTS).await
    }

    /// What `status` would say of the entity.
    pub(super) async fn health(&self) -> Option<Health> {
        self.store.health(&CONTACTS).await.unwrap().map(|since| since.health)
    }

    /// How many runs are logged without an end.
    pub(super) async fn open_runs(&self) -> i64 {
        value(self.database.pool(), "select count(*) from bitrix24.sync_runs where verdict is null")
            .await
    }

    /// Records that are missing with a word, doubtful ones included: open notes that a
    /// fault must not leave behind.
    pub(super) async fn set_aside(&self) -> Vec<i64> {
        sqlx::query_scalar(
            "select coalesce(record_id, 0) from bitrix24.sync_quarantine \
             where resolved_at is null \
             and reason in ('undeliverable', 'children_missing', 'refused_by_database', \
                            'no_usable_id', 'unparsable_record')",
        )
        .fetch_all(self.database.pool())
        .await
        .unwrap()
    }

    /// Records that are thought to be deleted.
    pub(super) async fn tombstones(&self) -> Vec<i64> {
        sqlx::query_scalar("select id from bitrix24.contacts where deleted_at is not null")
            .fetch_all(self.database.pool())
            .await
            .unwrap()
    }

    pub(super) const fn entities() -> [&'static Entity; 1] {
        [&CONTACTS]
    }
}

/// A client that waits long for an answer, and one that does not.
fn clients(portal: &TestPortal) -> (Portal, Portal) {
    let client = |timeout| {
        Portal::new(PortalOptions {
            credentials: WebhookUrl::parse(&portal.webhook_url()).unwrap().into(),
            timeout,
            max_body: 32 << 20,
            ca_file: None,
            limits: Limits {
                requests_per_second: 1_000.0,
                burst: 10_000,
                // A method that the portal blocks is left alone for a part of the window.
                operating: Some(OperatingLimit {
                    limit: Duration::from_hours(1),
                    window: Duration::from_secs(2),
                }),
            },
            retry: retry(),
        })
        .unwrap()
    };
    (client(Duration::from_secs(30)), client(Duration::from_millis(HASTY)))
}

fn retry() -> RetryPolicy {
    RetryPolicy::new(6, Duration::from_millis(5), Duration::from_millis(50)).unwrap()
}
