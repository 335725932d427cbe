//! Refusals for load.

use std::time::Duration;

use b24mirror::{
    entity::{CONTACTS, LEADS},
    portal::Limits,
    simulator::{Action, BucketLimit, Cost, OperatingLimit, Options, Stats},
};
use tokio::time::Instant;

use super::{Bench, CONTACT, LEAD, change, complete, raw};
use crate::support::{TestPortal, unlimited};

/// A portal with a small bucket, filled to the brim by somebody else behind the same
/// address, and a client that believes to have it for itself.
async fn crowded(refused_count: bool) -> Bench {
    let options = Options { contacts: 120, leads: 120, ..unlimited() };
    let limits = Limits { requests_per_second: 5.0, burst: 10, operating: None };
    let bench = Bench::limited(TestPortal::with(options), limits).await;
    bench.fill().await;
    bench.portal.happens(change(CONTACT, 60));
    bench.portal.happens(change(LEAD, 60));
    let limit = Some(BucketLimit { threshold: 10.0, rate: 5.0, refused_count });
    bench.portal.happens(Action::Bucket { limit });
    while raw(&bench.portal, "server.time", "application/json", "{}").0 == 200 {}
    bench.portal.reset_stats();
    bench
}

/// A cycle that met the full bucket; set up again where the bucket had drained before
/// the cycle came to it, as on a busy machine.
async fn refused(refused_count: bool) -> (Bench, Stats) {
    for _ in 0..10 {
        let bench = crowded(refused_count).await;
        bench.cycle().await;
        let stats = bench.portal.stats();
        if stats.trap(21) > 0 {
            return (bench, stats);
        }
    }
    panic!("the bucket was never full when a cycle came");
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_21_a_refusal_holds_every_worker_back() {
    let (bench, stats) = refused(false).await;
    // Both were on their way when the first refusal came; after that nobody stormed.
    assert!((1..=2).contains(&stats.trap(21)), "{stats:?}");
    assert!(stats.requests <= 10, "{stats:?}");
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_42_a_full_bucket_is_waited_for_and_not_probed() {
    let (bench, stats) = refused(true).await;
    // Each probe would have counted and kept the bucket full.
    assert!((1..=2).contains(&stats.trap(42)), "{stats:?}");
    assert_eq!(stats.trap(42), stats.trap(21));
    bench.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_22_a_method_without_operating_time_is_waited_for_and_no_other() {
    // Our limiter knows nothing of the limit, so only the refusal tells.
    let operating = Some(OperatingLimit { limit: 1.0, window: 3.0, ..OperatingLimit::default() });
    let options = Options { contacts: 220, leads: 220, operating, ..unlimited() };
    let bench = Bench::new(TestPortal::with(options)).await;
    let cost = Cost { seconds: 0.3, ..Cost::default() };
    bench.portal.happens(Action::Cost { method: "crm.contact.list".to_owned(), cost });

    let started = Instant::now();
    let contacts = async {
        complete(bench.session().backfill(&[&CONTACTS], false).await);
        started.elapsed()
    };
    let leads = async {
        complete(bench.session().backfill(&[&LEADS], false).await);
        started.elapsed()
    };
    let (contacts, leads) = tokio::join!(contacts, leads);
    let stats = bench.portal.stats();
    assert!(stats.trap(22) > 0, "{stats:?}");
    assert!(contacts > Duration::from_secs(2), "not held back: {contacts:?}");
    assert!(leads + Duration::from_secs(1) < contacts, "leads {leads:?}, contacts {contacts:?}");
    // A refused chain is followed by a wait and not by another try.
    assert!(stats.requests_by_method["batch"] <= 16, "{stats:?}");
    bench.assert_equal().await;
}
