//! A daemon, a backfill that a person asked for, and a program of somebody else's, all at
//! one portal with one request limit.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use b24mirror::{
    entity::CONTACTS,
    simulator::{Action, BucketLimit, Entity, Options},
};
use sqlx::PgPool;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use crate::support::{
    Company, Database, Finished, Process, Run, TestPortal, database, equal::sampled_differences,
    http, tables::value, unlimited,
};

const BURST: u32 = 20;
const RATE: u32 = 4;

/// How often the other program oversteps.
const BURSTS: u64 = 3;

/// How long freshness may take to recover after the last of that: the whole rate is
/// claimed again after a minute.
const RECOVERY: Duration = Duration::from_mins(1);

/// How old a change may be when it is in the mirror: one interval and three seconds.
const FRESH: Duration = Duration::from_secs(4);

fn portal() -> TestPortal {
    let bucket = BucketLimit { threshold: BURST.into(), rate: RATE.into(), refused_count: true };
    TestPortal::with(Options {
        contacts: 30_000,
        leads: 0,
        bucket: Some(bucket),
        latency: Duration::from_millis(200),
        ..unlimited()
    })
}

/// Settings that know the portal's limits.
fn settings(portal: &TestPortal, database: &Database, more: &str) -> String {
    let limits = format!(
        "[portal.limits]\nburst = {BURST}\nrequests_per_second = {RATE}.0\n{more}\
         [entities.leads]\nenabled = false\n"
    );
    portal.settings_with(database, &limits)
}

/// A filled mirror that a daemon keeps fresh, and a bucket that is empty again.
async fn mirrored(portal: &TestPortal, settings: &str) -> Process {
    let finished = Run::b24mirror(&["backfill"]).config(settings).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    sleep(Duration::from_secs_f64(f64::from(BURST) / f64::from(RATE) + 1.0)).await;
    portal.reset_stats();
    let mut daemon = Run::b24mirror(&["run"]).config(settings).spawn();
    daemon.logged("mirroring portal").await;
    daemon
}

/// Somebody else's program at the same address.
#[derive(Clone)]
struct Other {
    address: String,
    sent: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl Other {
    fn at(portal: &TestPortal) -> Self {
        let address = format!("{}server.time", portal.webhook_url());
        Self { address, sent: Arc::default(), refused: Arc::default() }
    }

    /// So many requests at once, each of them answered in its own time.
    fn send(&self, count: u32, sending: &mut JoinSet<()>) {
        for _ in 0..count {
            let Self { address, sent, refused } = self.clone();
            sent.fetch_add(1, Ordering::Relaxed);
            sending.spawn(async move {
                match http::get(&address).await.0 {
                    200 => {}
                    503 => _ = refused.fetch_add(1, Ordering::Relaxed),
                    status => panic!("the other program got {status}"),
                }
            });
        }
    }

    /// Fills half of the bucket at once, then takes half of the rate for ever. The portal
    /// forgets once a second, so what comes within one second has to fit, too, and one more
    /// where two come close together.
    fn takes_half(&self) -> JoinHandle<()> {
        let other = self.clone();
        tokio::spawn(async move {
            let mut sending = JoinSet::new();
            other.send((BURST - RATE) / 2 - 1, &mut sending);
            let mut ticks = interval(Duration::from_secs(1) * 2 / RATE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                other.send(1, &mut sending);
            }
        })
    }

    /// Sends as many as the whole bucket holds, three times.
    fn oversteps(&self) -> JoinHandle<()> {
        let other = self.clone();
        tokio::spawn(async move {
            let mut sending = JoinSet::new();
            let mut ticks = interval(Duration::from_secs(6));
            for _ in 0..BURSTS {
                ticks.tick().await;
                other.send(BURST, &mut sending);
            }
            sending.join_all().await;
        })
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Changes that were made, and when each of them was seen in the mirror.
struct Changes {
    made: BTreeMap<String, Instant>,
    seen: BTreeMap<String, Instant>,
}

impl Changes {
    const fn none() -> Self {
        Self { made: BTreeMap::new(), seen: BTreeMap::new() }
    }

    fn make(&mut self, portal: &TestPortal, id: i64) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("change {}", NEXT.fetch_add(1, Ordering::Relaxed));
        portal.happens(Action::Touch {
            entity: Entity::Contacts,
            id,
            field: "NAME".to_owned(),
            value: name.clone().into(),
            keep_date: false,
        });
        self.made.insert(name, Instant::now());
    }

    async fn look(&mut self, pool: &PgPool) {
        let looked = Instant::now();
        let names = "select name from bitrix24.contacts where name like 'change %'";
        let names: Vec<String> = sqlx::query_scalar(names).fetch_all(pool).await.unwrap();
        for name in names.into_iter().filter(|name| self.made.contains_key(name)) {
            self.seen.entry(name).or_insert(looked);
        }
    }

    /// Looks until all of them are there.
    async fn arrive(&mut self, pool: &PgPool, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.seen.len() < self.made.len() && Instant::now() < deadline {
            self.look(pool).await;
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// How long each took; none that never came.
    fn ages(&self) -> Vec<Option<Duration>> {
        let age = |(name, made): (&String, &Instant)| self.seen.get(name).map(|seen| *seen - *made);
        self.made.iter().map(age).collect()
    }

    fn is_fresh(&self) -> bool {
        self.ages().iter().all(|age| age.is_some_and(|age| age <= FRESH))
    }
}

/// Reads everything again by hand, and makes a change every 400 ms meanwhile.
async fn backfilled_under_changes(
    portal: &TestPortal,
    database: &Database,
    settings: &str,
) -> (Finished, Changes, Duration) {
    let began = Instant::now();
    let ids = mirrored_ids(database.pool()).await;
    let mut changes = Changes::none();
    let backfill = Run::b24mirror(&["backfill", "--restart"]).config(settings).spawn();
    let mut finishing = tokio::spawn(backfill.finish_within(Duration::from_mins(2)));
    let mut next_change = Instant::now();
    let finished = loop {
        tokio::select! {
            finished = &mut finishing => break finished.unwrap(),
            () = sleep_until(next_change) => {
                changes.make(portal, ids[changes.made.len() * 97 % ids.len()]);
                next_change += Duration::from_millis(400);
            }
            () = sleep(Duration::from_millis(50)) => changes.look(database.pool()).await,
        }
    };
    let took = began.elapsed();
    changes.arrive(database.pool(), FRESH).await;
    (finished, changes, took)
}

/// What there is to change. The portal is not asked: while it tells the truth about every
/// record, it answers nobody, and whoever was kept waiting comes at once.
async fn mirrored_ids(pool: &PgPool) -> Vec<i64> {
    sqlx::query_scalar("select id from bitrix24.contacts order by id")
        .fetch_all(pool)
        .await
        .unwrap()
}

async fn assert_contacts_equal(portal: &TestPortal, database: &Database) {
    let differences = sampled_differences(portal, database.pool(), &CONTACTS, 25).await;
    assert!(differences.is_empty(), "contacts differ from the portal:\n{differences}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_a_backfill_by_hand_and_a_greedy_program_share_one_portal() {
    let _company = Company::quiet().await;
    let (portal, database) = (portal(), database().await);
    let settings = settings(&portal, &database, "share = 0.5\n");
    let begun = Instant::now();
    let daemon = mirrored(&portal, &settings).await;
    let other = Other::at(&portal);
    let running = other.takes_half();
    let (finished, changes, took) = backfilled_under_changes(&portal, &database, &settings).await;
    running.abort();
    let elapsed = begun.elapsed();
    let (sent, refused) = (other.sent(), other.refused());
    let stats = portal.stats();

    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(finished.stdout.contains("handed over as request 1"), "{finished:#?}");
    assert!(took >= Duration::from_secs(10), "over after {took:?}");
    assert!(changes.made.len() >= 20, "{} changes in {took:?}", changes.made.len());
    assert!(changes.is_fresh(), "{:?}", changes.ages());
    assert_eq!((stats.refusals, refused), (0, 0), "{stats:#?}");
    assert!(stats.bucket_peak <= f64::from(BURST), "{stats:#?}");
    let half = f64::from(BURST / 2) + f64::from(RATE / 2) * elapsed.as_secs_f64();
    let ours = u32::try_from(stats.requests - sent).unwrap();
    assert!(f64::from(ours) <= half, "{ours} requests in {elapsed:?}");
    assert_contacts_equal(&portal, &database).await;
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_oversteps_is_given_way_to_and_freshness_recovers() {
    let _company = Company::quiet().await;
    let (portal, database) = (portal(), database().await);
    let settings = settings(&portal, &database, "");
    let daemon = mirrored(&portal, &settings).await;
    let other = Other::at(&portal);
    let running = other.oversteps();
    let (finished, changes, took) = backfilled_under_changes(&portal, &database, &settings).await;
    running.await.unwrap();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let ours = portal.stats().refusals - other.refused();
    assert!(ours >= 1, "the bucket was large enough for both");
    // Four chains and a cycle may be under way when the bucket is full.
    assert!(ours <= 5 * BURSTS, "{ours} refusals are a storm");
    assert!(changes.ages().iter().all(Option::is_some), "after {took:?}: {:?}", changes.ages());

    let recovered_by = Instant::now() + RECOVERY;
    let mut ids = mirrored_ids(database.pool()).await.into_iter().step_by(500);
    loop {
        let mut change = Changes::none();
        change.make(&portal, ids.next().unwrap());
        change.arrive(database.pool(), FRESH).await;
        if change.is_fresh() {
            break;
        }
        assert!(Instant::now() < recovered_by, "changes are still late");
    }
    let refused = portal.stats().refusals;
    let mut after = Changes::none();
    for id in ids.take(10) {
        after.make(&portal, id);
        sleep(Duration::from_millis(300)).await;
        after.look(database.pool()).await;
    }
    after.arrive(database.pool(), FRESH).await;
    assert!(after.is_fresh(), "{:?}", after.ages());
    assert_eq!(portal.stats().refusals, refused);
    assert_contacts_equal(&portal, &database).await;
    let incomplete = "select count(*) from bitrix24.sync_runs where verdict <> 'complete'";
    assert_eq!(value::<i64>(database.pool(), incomplete).await, 0);
    daemon.kill().await;
}
