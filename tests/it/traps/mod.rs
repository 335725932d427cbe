//! Traps that the portal sets for careless clients, one test each, named by the number
//! under which the simulator counts how often a trap was really sprung.
//!
//! Where a right client can meet a trap, its test asserts that it did. Traps that only a
//! careless request springs are sprung by one first, to show that the counter lives;
//! then a whole mirror run must leave the counter at zero.

mod answers;
mod filters;
mod limits;
mod nothing;
mod paging;
mod records;
mod secrets;
mod times;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use b24mirror::{
    entity::{CONTACTS, Entity, LEADS},
    portal::{Limits, Portal, PortalOptions, WebhookUrl},
    reporting::ReportOptions,
    retry::RetryPolicy,
    simulator::{self, Action, Stats},
    store::{Store, StoreOptions},
    sync::{CheckOptions, EntityOutcome, Mirrored, Opened, Session, SyncError, SyncOptions, Tally},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

use crate::support::{Database, TestPortal, assert_equal, database, equal::differences};

/// The simulator's names of the two families.
const CONTACT: simulator::Entity = simulator::Entity::Contacts;
const LEAD: simulator::Entity = simulator::Entity::Leads;

/// No limits of our own.
const FREE: Limits = Limits { requests_per_second: 1_000.0, burst: 10_000, operating: None };

/// A portal, a database, and an open session between them.
struct Bench {
    portal: TestPortal,
    database: Database,
    client: Portal,
    store: Store,
    session: Option<Box<Session>>,
}

impl Bench {
    async fn new(portal: TestPortal) -> Self {
        Self::limited(portal, FREE).await
    }

    /// With a client that limits itself.
    async fn limited(portal: TestPortal, limits: Limits) -> Self {
        let address = portal.webhook_url();
        Self::at(portal, &address, limits).await
    }

    /// With a client that knows the portal under another address.
    async fn at(portal: TestPortal, address: &str, limits: Limits) -> Self {
        let database = database().await;
        let store = Store::connect(&StoreOptions {
            url: database.url(),
            schema: "bitrix24".parse().unwrap(),
            max_connections: 6,
            application_name: "traps".to_owned(),
        })
        .await
        .unwrap();
        store.migrate().await.unwrap();
        let client = Portal::new(PortalOptions {
            credentials: WebhookUrl::parse(address).unwrap().into(),
            timeout: Duration::from_secs(20),
            max_body: 32 << 20,
            ca_file: None,
            limits,
            retry: patient(),
        })
        .unwrap();
        let mut bench = Self { portal, database, client, store, session: None };
        bench.reopen().await;
        bench
    }

    /// A new session, as after a restart: its first cycle probes the filter.
    async fn reopen(&mut self) {
        self.close().await;
        let options = SyncOptions {
            board: b24mirror::sync::ProgressBoard::default(),
            entities: Entity::BY_DEFAULT
                .into_iter()
                .map(|entity| Mirrored::new(entity, Duration::from_secs(1)))
                .collect(),
            overlap: Duration::from_secs(10),
            max_in_flight: 4,
            dictionary_interval: Duration::from_hours(1),
            checks: CheckOptions::default(),
            reports: ReportOptions::default(),
            retry: patient(),
            holder: "traps".to_owned(),
        };
        let stop = CancellationToken::new();
        match Session::open(&self.store, &self.client, &options, &stop).await.unwrap() {
            Opened::Session(session) => self.session = Some(session),
            Opened::HeldBy { holder, .. } => panic!("held by {holder}"),
        }
    }

    /// Gives the lease back.
    async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    fn session(&self) -> &Session {
        self.session.as_ref().unwrap()
    }

    fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    fn sprung(&self, trap: u8) -> u64 {
        self.portal.stats().trap(trap)
    }

    /// A backfill of everything, which must succeed.
    async fn fill(&self) -> Vec<Tally> {
        complete(self.session().backfill(&Entity::BY_DEFAULT, false).await)
    }

    /// Reads everything again, which must succeed.
    async fn refill(&self) -> Vec<Tally> {
        complete(self.session().backfill(&Entity::BY_DEFAULT, true).await)
    }

    /// One cycle of everything, which must succeed.
    async fn cycle(&self) -> Vec<Tally> {
        complete(self.try_cycle().await)
    }

    async fn try_cycle(&self) -> Vec<EntityOutcome> {
        self.session().sync(&Entity::BY_DEFAULT).await
    }

    async fn assert_equal(&self) {
        assert_equal(&self.portal, self.pool()).await;
    }

    /// Whether anything is not yet as the portal has it.
    async fn differs(&self) -> bool {
        for entity in Entity::BY_DEFAULT {
            if !differences(&self.portal, self.pool(), entity).await.is_empty() {
                return true;
            }
        }
        false
    }

    /// Everything that says how far the mirror has come.
    async fn checkpoints(&self) -> Vec<Value> {
        let rows = "select to_jsonb(c) from bitrix24.sync_checkpoints c order by entity";
        sqlx::query_scalar(rows).fetch_all(self.pool()).await.unwrap()
    }

    async fn count(&self, table_and_condition: &str) -> i64 {
        let count = format!("select count(*) from bitrix24.{table_and_condition}");
        sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(self.pool()).await.unwrap()
    }

    /// The ids of the live contacts.
    fn contacts(&self) -> Vec<i64> {
        self.portal.truth(&CONTACTS).iter().map(|record| record.id).collect()
    }

    /// What a mirror does in its life: a backfill, changes of every kind that it can see
    /// at once, new records, a restart with its probes. Equal at the end; the counters
    /// are of this run only.
    async fn whole_run(&mut self) -> Stats {
        self.portal.reset_stats();
        self.fill().await;
        for entity in [CONTACT, LEAD] {
            self.portal.happens(Action::Change {
                entity,
                ids: Vec::new(),
                count: 70,
                visible_after: 0.0,
            });
            self.portal.happens(Action::Create { entity, count: 60, visible_after: 0.0 });
            self.portal.happens(Action::Import { entity, count: 3, days: 30, visible_after: 0.0 });
        }
        self.cycle().await;
        self.cycle().await;
        self.reopen().await;
        self.portal.happens(change(CONTACT, 5));
        self.cycle().await;
        self.refill().await;
        self.assert_equal().await;
        self.portal.stats()
    }

    /// A request as a careless program would send it.
    fn careless(&self, method: &str, parameters: &Value) -> Value {
        let (status, body) = raw(&self.portal, method, "application/json", &parameters.to_string());
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The same for commands that are not encoded.
    fn careless_command(&self, command: &str) -> Value {
        self.careless("batch", &json!({ "cmd": { "a": command } }))["result"].take()
    }
}

fn patient() -> RetryPolicy {
    RetryPolicy::new(6, Duration::from_millis(5), Duration::from_millis(50)).unwrap()
}

/// What every entity read and wrote; fails if one did not come to its end.
fn complete(outcomes: Vec<EntityOutcome>) -> Vec<Tally> {
    let tally = |outcome: EntityOutcome| match outcome.result {
        Ok(tally) => tally,
        Err(error) => panic!("{}: {}", outcome.entity.name, error.reason()),
    };
    outcomes.into_iter().map(tally).collect()
}

/// The failure of contacts.
fn contacts_failed(outcomes: Vec<EntityOutcome>) -> SyncError {
    let contacts = outcomes.into_iter().find(|outcome| outcome.entity == &CONTACTS).unwrap();
    contacts.result.unwrap_err()
}

/// The outcome of leads, which must be a success.
fn leads_went_on(outcomes: &[EntityOutcome]) {
    let leads = outcomes.iter().find(|outcome| outcome.entity == &LEADS).unwrap();
    assert!(leads.result.is_ok(), "{leads:?}");
}

fn change(entity: simulator::Entity, count: u64) -> Action {
    Action::Change { entity, ids: Vec::new(), count, visible_after: 0.0 }
}

fn touch(id: i64, field: &str, value: Value) -> Action {
    Action::Touch { entity: CONTACT, id, field: field.to_owned(), value, keep_date: false }
}

fn rows(result: &Value) -> Vec<i64> {
    let id = |row: &Value| match &row["ID"] {
        Value::String(text) => text.parse().unwrap(),
        number => number.as_i64().unwrap(),
    };
    result.as_array().unwrap().iter().map(id).collect()
}

/// One POST, as it stands: the status and the body.
fn raw(portal: &TestPortal, method: &str, content_type: &str, body: &str) -> (u16, String) {
    let address = portal.webhook_url();
    let (host, path) = address.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST /{path}{method} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer[9..12].parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}
