//! The end that a backfill foretells is the end that comes.

use std::time::Duration;

use b24mirror::{
    entity::CONTACTS,
    portal::{Limits, Portal, PortalOptions, WebhookUrl},
    reporting::ReportOptions,
    retry::RetryPolicy,
    simulator::{Cost, Fault, FaultKind, Options},
    store::{Store, StoreOptions},
    sync::{
        CheckOptions, Mirrored, Opened, ProgressBoard, Session, SyncOptions,
        status::{State, Status},
    },
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::support::{Company, Database, TestPortal, database, unlimited};

fn contacts_only() -> [Mirrored; 1] {
    [Mirrored::new(&CONTACTS, Duration::from_secs(1))]
}

/// What was foretold at one moment.
#[derive(Debug)]
struct Foretold {
    at: Duration,
    end: Duration,
}

impl Foretold {
    /// How far off it was, in the whole duration.
    fn off(&self, took: Duration) -> f64 {
        self.end.abs_diff(took).as_secs_f64() / took.as_secs_f64()
    }
}

async fn store(database: &Database) -> Store {
    let options = StoreOptions {
        url: database.url(),
        schema: "bitrix24".parse().unwrap(),
        max_connections: 6,
        application_name: "estimates".to_owned(),
    };
    let store = Store::connect(&options).await.unwrap();
    store.migrate().await.unwrap();
    store
}

async fn session(portal: &TestPortal, store: &Store, board: &ProgressBoard) -> Box<Session> {
    let retry = RetryPolicy::new(6, Duration::from_millis(5), Duration::from_millis(50)).unwrap();
    let client = Portal::new(PortalOptions {
        credentials: WebhookUrl::parse(&portal.webhook_url()).unwrap().into(),
        timeout: Duration::from_secs(30),
        max_body: 32 << 20,
        ca_file: None,
        limits: Limits { requests_per_second: 1_000.0, burst: 10_000, operating: None },
        retry,
    })
    .unwrap();
    let options = SyncOptions {
        board: board.clone(),
        entities: contacts_only().to_vec(),
        overlap: Duration::from_secs(10),
        // A start in several chains takes as long as everything else of a table this small.
        max_in_flight: 1,
        dictionary_interval: Duration::from_hours(1),
        checks: CheckOptions::default(),
        reports: ReportOptions::default(),
        retry,
        holder: "estimates".to_owned(),
    };
    match Session::open(store, &client, &options, &CancellationToken::new()).await.unwrap() {
        Opened::Session(session) => session,
        Opened::HeldBy { holder, .. } => panic!("held by {holder}"),
    }
}

/// Backfills; gives how long it took and what the board and the status foretold.
async fn watched(portal: &TestPortal) -> (Duration, Vec<Foretold>, Vec<Foretold>) {
    let database = database().await;
    let store = store(&database).await;
    let board = ProgressBoard::default();
    let session = session(portal, &store, &board).await;
    let (mut drawn, mut told) = (Vec::new(), Vec::new());
    let began = Instant::now();
    let entities = [&CONTACTS];
    let backfilling = session.backfill(&entities, false);
    let watching = async {
        loop {
            sleep(Duration::from_millis(200)).await;
            let at = began.elapsed();
            let line = board.snapshot().pop();
            if let Some(left) = line.and_then(|line| line.seconds_left) {
                drawn.push(Foretold { at, end: at + Duration::from_secs_f64(left) });
            }
            let status = Status::read(&store, &contacts_only()).await.unwrap();
            let at = began.elapsed();
            if let State::Backfilling { seconds_left: Some(left), .. } = status.entities[0].state {
                told.push(Foretold { at, end: at + Duration::from_secs_f64(left) });
            }
        }
    };
    let outcome = tokio::select! {
        outcome = backfilling => outcome,
        () = watching => unreachable!("it watches for ever"),
    };
    let took = began.elapsed();
    assert!(outcome[0].result.is_ok(), "{outcome:?}");
    session.close().await;
    (took, drawn, told)
}

fn assert_right(whose: &str, foretold: &[Foretold], took: Duration) {
    let late =
        foretold.iter().filter(|foretold| foretold.at.as_secs_f64() >= 0.1 * took.as_secs_f64());
    let late: Vec<_> = late.collect();
    assert!(late.len() >= 20, "{whose}: {foretold:?}");
    let wrong: Vec<_> = late.iter().filter(|foretold| foretold.off(took) > 0.15).collect();
    assert!(wrong.is_empty(), "{whose}, with {took:?} in truth: {wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_tenth_on_the_end_is_foretold_within_fifteen_percent() {
    let _company = Company::quiet().await;
    let cost = Cost { seconds: 0.12, real: true, ..Cost::default() };
    let portal = TestPortal::with(Options {
        contacts: 10_000,
        leads: 0,
        costs: [("crm.contact.list".to_owned(), cost)].into(),
        ..unlimited()
    });
    // A portal that finds long chains too heavy is read in short ones: many answers, none of
    // which is much of the whole, as in a backfill of hours.
    portal.fault(Fault::times("batch", 3, FaultKind::Html { status: 504 }).after(3));
    let (took, drawn, told) = watched(&portal).await;
    assert!(took >= Duration::from_secs(8), "over after {took:?}");
    assert_right("the board", &drawn, took);
    assert_right("the status", &told, took);
}
