//! How much of the limits a backfill gets out of the portal, and that it never takes
//! more: several chains under way, on a virtual clock, against the portal's own books.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::{
    model::{Books, Portal, Service, batch},
    *,
};

const FIELDS: &str = "crm.contact.fields";

/// Runs something on a clock that jumps over every wait.
fn paused<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work)
}

/// What a run is about.
#[derive(Debug, Clone, Copy)]
struct Load {
    commands: usize,
    in_flight: usize,
    service: Service,
    /// The cost of an idle cycle's commands, as a multiple of a page's.
    idle: f64,
    interval: Duration,
}

/// What it came to.
#[derive(Debug)]
struct Outcome {
    took: Duration,
    refused: usize,
    requests: usize,
    longest: Duration,
    /// The longest that an incremental cycle took.
    stalest: Duration,
    booked: f64,
}

/// Several chains at once beside idle cycles, until so many commands are through.
async fn backfilled(
    limiter: &Limiter,
    portal: Portal,
    load: Load,
    jitter: impl Fn(usize) -> f64,
) -> Outcome {
    let portal = Mutex::new(portal);
    let (left, drawn) = (AtomicUsize::new(load.commands), AtomicUsize::new(0));
    let cost = || jitter(drawn.fetch_add(1, Ordering::Relaxed));
    let begun = Instant::now();
    let worker = || async {
        loop {
            let mine = left.load(Ordering::Relaxed).min(50);
            if mine == 0 {
                return;
            }
            left.fetch_sub(mine, Ordering::Relaxed);
            let done =
                batch(limiter, &portal, Lane::Backfill, &chain(mine), load.service, cost).await;
            left.fetch_add(mine - done, Ordering::Relaxed);
        }
    };
    let stalest = Mutex::new(Duration::ZERO);
    let cycles = async {
        let mut ticks = tokio::time::interval(load.interval);
        let demand = Demand::exactly(vec![(LIST.to_owned(), 2), (FIELDS.to_owned(), 1)]);
        loop {
            ticks.tick().await;
            let asked = Instant::now();
            let idle = || load.idle;
            batch(limiter, &portal, Lane::Incremental, &demand, load.service, idle).await;
            let mut stalest = stalest.lock().unwrap();
            *stalest = stalest.max(asked.elapsed());
        }
    };
    let backfill = async {
        let workers: Vec<_> = (0..load.in_flight).map(|_| worker()).collect();
        futures_join(workers).await;
    };
    tokio::select! {
        () = backfill => {}
        () = cycles => unreachable!("cycles never end"),
    }
    let took = begun.elapsed();
    let stalest = *stalest.lock().unwrap();
    let portal = portal.into_inner().unwrap();
    let Portal { refused, requests, longest, booked, .. } = portal;
    Outcome { took, refused, requests, longest, stalest, booked }
}

/// Polls all of them until all are done.
async fn futures_join(futures: Vec<impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.into_iter().map(|one| Some(Box::pin(one))).collect();
    std::future::poll_fn(|context| {
        for one in &mut futures {
            if one.as_mut().is_some_and(|one| one.as_mut().poll(context).is_ready()) {
                *one = None;
            }
        }
        if futures.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn standard(limit: f64) -> Limits {
    Limits {
        requests_per_second: 2.0,
        burst: 50,
        operating: Some(OperatingLimit {
            limit: Duration::from_secs_f64(limit),
            window: Duration::from_mins(10),
        }),
    }
}

/// One million contacts: 20,000 pages of 0.2 s.
fn million(idle: f64) -> Load {
    Load {
        commands: 20_000,
        in_flight: 4,
        service: Service { cost: 0.2, slowness: 1.0, latency: Duration::from_millis(60) },
        idle,
        interval: Duration::from_secs(15),
    }
}

#[test]
fn a_million_contacts_take_as_long_as_the_operating_time_dictates() {
    // A window's limit as often as the cost needs, but the last time only so long as it
    // takes to spend, and a twentieth more.
    let possible = Duration::from_mins(10) * (4_000_u32.div_ceil(480) - 1);
    for (books, phase) in [
        (Books::PerCommand, 0),
        (Books::PerCommand, 31_123),
        (Books::PerCommand, 59_999),
        (Books::OnBatch, 17_456),
    ] {
        let outcome = paused(async {
            let limiter = Limiter::new(&standard(480.0));
            let window = Duration::from_mins(10);
            let portal = Portal::new(books, 480.0, window, Duration::from_millis(phase));
            backfilled(&limiter, portal, million(0.1), |_| 1.0).await
        });
        assert_eq!(outcome.refused, 0, "{outcome:?}");
        assert!(outcome.took <= possible * 105 / 100, "{possible:?} at best: {outcome:?}");
        assert!(outcome.stalest < Duration::from_secs(2), "a cycle had to wait: {outcome:?}");
        // Chains stay chains when the operating time is nearly spent.
        let cycles = usize::try_from(outcome.took.as_secs() / 15).unwrap();
        assert!(outcome.requests - cycles < 600, "{outcome:?}");
    }
}

#[test]
fn cycles_that_cost_as_much_as_pages_never_wait_for_a_backfill() {
    let outcome = paused(async {
        let limiter = Limiter::new(&standard(480.0));
        let window = Duration::from_mins(10);
        let portal = Portal::new(Books::PerCommand, 480.0, window, Duration::from_secs(5));
        backfilled(&limiter, portal, million(1.0), |_| 1.0).await
    });
    assert_eq!(outcome.refused, 0, "{outcome:?}");
    assert!(outcome.stalest < Duration::from_secs(2), "a cycle had to wait: {outcome:?}");
    assert!(outcome.booked > 4_200.0, "{outcome:?}");
}

/// A cost that looks random and is the same every time, around 1.
fn jittered(seed: u64, spread: f64) -> impl Fn(usize) -> f64 {
    move |index| {
        let mut mixed = (seed ^ u64::try_from(index).unwrap()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^= mixed >> 31;
        let random = f64::from(u32::try_from(mixed >> 32).unwrap()) / f64::from(u32::MAX);
        1.0 + spread * (2.0 * random - 1.0)
    }
}

/// How many commands cost so many windows' operating time, within reason.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
fn windows(windows: f64, limit: f64, cost: f64) -> usize {
    (windows * limit / cost).clamp(20.0, 2_500.0) as usize
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_commands_cost_no_request_is_refused_for_our_own_doing(
        books in prop_oneof![3 => Just(Books::PerCommand), 1 => Just(Books::OnBatch)],
        slowness in prop_oneof![Just(0.0), Just(0.5), Just(1.0), Just(2.0)],
        phase in 0_u64..60_000,
        limit in prop_oneof![Just(480.0), Just(60.0), Just(420.0)],
        cost in prop_oneof![Just(0.03), Just(0.2), Just(0.7), Just(2.5), Just(8.0)],
        latency in 1_u64..3_000,
        in_flight in 1_usize..6,
        idle in prop_oneof![Just(0.1), Just(1.0)],
        spread in prop_oneof![Just(0.0), Just(0.2)],
        seed in any::<u64>(),
    ) {
        let load = Load {
            commands: windows(2.5, limit, cost),
            in_flight,
            service: Service { cost, slowness, latency: Duration::from_millis(latency) },
            // At most a fifth of the limit is for cycles.
            idle: f64::min(idle, 0.2 * limit / (40.0 * 2.0 * cost)),
            interval: Duration::from_secs(15),
        };
        let outcome = paused(async {
            let limiter = Limiter::new(&standard(limit));
            let window = Duration::from_mins(10);
            let portal = Portal::new(books, limit, window, Duration::from_millis(phase));
            backfilled(&limiter, portal, load, jittered(seed, spread)).await
        });
        prop_assert_eq!(outcome.refused, 0, "{:?}", outcome);
        let longest = 20.0_f64.max(3.0 * cost * slowness) * 1.25 + 3.0;
        prop_assert!(outcome.longest.as_secs_f64() <= longest, "{:?}", outcome);
    }
}
