//! Refusals for load.

use std::time::Duration;

use b24mirror::{
    entity::{CONTACTS, LEADS},
    portal::Limits,
    simulator::{Action, BucketLimit, Cost, Fault, FaultKind, OperatingLimit, Options, Stats},
};
use tokio::time::Instant;

use super::{Bench, CONTACT, LEAD, change, complete};
use crate::support::{TestPortal, unlimited};

/// What a cycle of both entities costs when somebody else behind the same address fills
/// the portal's bucket just before the first request. The client believes to have the
/// bucket for itself.
async fn crowded(refused_count: bool) -> Stats {
    let options = Options { contacts: 120, leads: 120, ..unlimited() };
    let limits = Limits { requests_per_second: 5.0, burst: 10, operating: None };
    let bench = Bench::limited(TestPortal::with(options), limits).await;
    bench.fill().await;
    bench.portal.happens(change(CONTACT, 60));
    bench.portal.happens(change(LEAD, 60));
    let limit = BucketLimit { threshold: 10.0, rate: 5.0, refused_count };
    bench.portal.happens(Action::Bucket { limit: Some(limit) });
    bench.portal.fault(Fault::once("batch", FaultKind::Crowd { requests: 11 }));
    bench.portal.reset_stats();
    bench.cycle().await;
    let stats = bench.portal.stats();
    assert_eq!(stats.faults["crowd"], 1);
    bench.assert_equal().await;
    stats
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_21_a_refusal_holds_every_worker_back() {
    let stats = crowded(false).await;
    // Both may be on their way when the first is refused; after that nobody storms.
    assert!((1..=2).contains(&stats.trap(21)), "{stats:?}");
    assert!(stats.requests <= 10, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_42_a_full_bucket_is_waited_for_and_not_probed() {
    let stats = crowded(true).await;
    // Each probe would have counted and kept the bucket full.
    assert!((1..=2).contains(&stats.trap(42)), "{stats:?}");
    assert_eq!(stats.trap(42), stats.trap(21));
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
