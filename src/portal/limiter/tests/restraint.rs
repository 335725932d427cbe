//! Restraint, the lanes under it, and what people learn of waits.

use chrono::{TimeZone as _, Utc};

use super::{
    model::{Books, Portal, Service, batch},
    *,
};

/// Monday, 1 September 2025, so many hours after midnight in a zone east of Greenwich.
fn monday(hour: u32, minute: u32) -> PortalTime {
    let local = Utc.with_ymd_and_hms(2025, 9, 1, hour, minute, 0).unwrap();
    PortalTime { clock: local - TimeDelta::hours(3), offset_seconds: 3 * 3_600 }
}

fn quiet(spans: &[&str]) -> Restraint {
    Restraint { quiet_hours: QuietHours::parse(spans).unwrap(), ..Restraint::default() }
}

fn share(share: f64) -> Restraint {
    Restraint { share: Share::new(share).unwrap(), ..Restraint::default() }
}

#[test]
fn a_share_is_above_nothing_and_at_most_the_whole() {
    for wrong in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY] {
        assert_eq!(Share::new(wrong), None, "{wrong}");
    }
    assert!(Share::new(f64::MIN_POSITIVE).is_some());
    assert_eq!(Share::new(1.0), Some(Share::WHOLE));
}

#[tokio::test(start_paused = true)]
async fn a_share_of_the_bucket_is_a_smaller_one_that_drains_more_slowly() {
    let limiter = Limiter::new(&limits());
    limiter.restrain(&share(0.3));
    let asked = Instant::now();
    let mut sent = 0;
    while asked.elapsed() < Duration::from_secs(100) {
        limiter.acquire(Lane::Incremental, &nothing()).await.void();
        sent += 1;
        assert!(!asked.elapsed().is_zero() || sent <= 15, "more than 15 at once");
    }
    // 15, and 0.6 a second; the last one came after the time was up.
    assert!((74..=76).contains(&sent), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn a_share_of_the_operating_time_is_ours_and_others_use_does_not_count_against_it() {
    let limiter = Limiter::new(&limits());
    limiter.restrain(&share(0.5));
    teach(&limiter, Lane::Backfill, 1.0).await;
    // 95 % of 30 s, less 2 s and four commands, by a second and a quarter more.
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 17);
    // Others use 20 s, which leaves more than our share.
    let permit = limiter.acquire(Lane::Backfill, &demand(2)).await;
    permit.settle(&report(2, 1.0, 22.0));
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 15);
    // Others use 45 s, which leaves less.
    let permit = limiter.acquire(Lane::Backfill, &demand(2)).await;
    permit.settle(&report(2, 1.0, 49.0));
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 0);
}

#[tokio::test(start_paused = true)]
async fn others_small_use_does_not_count_against_a_share_either() {
    let limiter = Limiter::new(&limits());
    limiter.restrain(&share(0.5));
    teach(&limiter, Lane::Backfill, 1.0).await;
    // What is little of the whole limit may be much of our part of it.
    for sum in [2.9, 5.8, 8.7] {
        let permit = limiter.acquire(Lane::Backfill, &demand(2)).await;
        permit.settle(&report(2, 1.0, sum));
    }
    // 95 % of 30 s, less 8 s and four commands, by a second and a quarter more.
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 12);
}

#[tokio::test(start_paused = true)]
async fn a_backfill_that_could_spend_everything_leaves_the_cycles_their_part() {
    let limiter = Arc::new(Limiter::new(&Limits {
        operating: Some(OperatingLimit {
            limit: Duration::from_mins(8),
            window: Duration::from_mins(10),
        }),
        ..limits()
    }));
    teach(&limiter, Lane::Backfill, 2.0).await;
    let backfill = tokio::spawn({
        let limiter = Arc::clone(&limiter);
        async move {
            let mut sum = 4.0;
            loop {
                let permit = limiter.acquire(Lane::Backfill, &chain(50)).await;
                let commands = 1 + permit.extra();
                permit.settle(&report(commands, 2.0, sum));
                sum = 2.0_f64.mul_add(f64::from(u32::try_from(commands).unwrap()), sum);
            }
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let waiting = limiter.waiting().unwrap();
    assert_eq!(waiting.reason, WaitReason::OperatingTime { method: LIST.to_owned() });
    assert!(waiting.until > Instant::now() + Duration::from_mins(9), "{waiting:?}");
    let asked = Instant::now();
    for _ in 0..2 {
        limiter.acquire(Lane::Incremental, &demand(2)).await.void();
    }
    assert!(asked.elapsed().is_zero(), "{:?}", asked.elapsed());
    backfill.abort();
}

#[tokio::test(start_paused = true)]
async fn it_is_known_whose_request_is_held_back() {
    let limiter = Arc::new(Limiter::new(&limits()));
    limiter.restrain(&quiet(&["mon-fri 09:00-18:00"]));
    limiter.learn_clock(Some(monday(17, 30)));
    let start = |lane| {
        let limiter = Arc::clone(&limiter);
        tokio::spawn(async move {
            limiter.acquire(lane, &demand(1)).await.void();
            std::future::pending::<()>().await;
        })
    };
    let (cycle, backfill) = (start(Lane::Incremental), start(Lane::Backfill));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(limiter.waiting().is_some(), "somebody waits");
    assert!(!limiter.holds_back(cycle.id()), "who has been admitted does not");
    assert!(limiter.holds_back(backfill.id()));
    backfill.abort();
    assert!(backfill.await.is_err());
    assert!(limiter.waiting().is_none());
    cycle.abort();
}

#[tokio::test(start_paused = true)]
async fn only_cycles_work_in_quiet_hours_by_the_portals_clock() {
    let limiter = Limiter::new(&limits());
    limiter.restrain(&quiet(&["mon-fri 09:00-18:00"]));
    limiter.learn_clock(Some(monday(17, 30)));
    let asked = Instant::now();
    limiter.acquire(Lane::Incremental, &demand(1)).await.void();
    assert!(asked.elapsed().is_zero());
    for lane in [Lane::People, Lane::Sweep, Lane::Backfill, Lane::Rolling] {
        let other = demand(1);
        let waiting = limiter.acquire(lane, &other);
        let waited = tokio::time::timeout(Duration::from_mins(5), waiting).await;
        assert!(waited.is_err(), "{lane:?} works in quiet hours");
    }
    let backfill = demand(1);
    let waiting = limiter.acquire(Lane::Backfill, &backfill);
    let permit = tokio::join!(waiting, async {
        tokio::task::yield_now().await;
        let waiting = limiter.waiting().unwrap();
        assert_eq!(waiting.reason.to_string(), "quiet hours until 18:00 (portal time)");
        assert_eq!(limiter.waits(), [waiting]);
    })
    .0;
    assert_eq!(asked.elapsed().as_secs(), 30 * 60);
    permit.void();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_learnt_anew_ends_the_wait_at_the_next_request() {
    let limiter = Limiter::new(&limits());
    limiter.restrain(&quiet(&["sat-sun 00:00-24:00", "mon 00:00-09:00"]));
    let saturday = PortalTime { clock: monday(0, 0).clock - TimeDelta::days(2), ..monday(0, 0) };
    limiter.learn_clock(Some(saturday));
    let backfill = demand(1);
    let asked = Instant::now();
    let cycle = async {
        tokio::time::sleep(Duration::from_secs(15)).await;
        let reason = limiter.waiting().unwrap().reason;
        assert_eq!(reason.to_string(), "quiet hours until Mon 09:00 (portal time)");
        let permit = limiter.acquire(Lane::Incremental, &nothing()).await;
        limiter.learn_clock(Some(monday(9, 0)));
        permit.settle(&Vec::new());
    };
    tokio::join!(async { limiter.acquire(Lane::Backfill, &backfill).await.void() }, cycle);
    assert_eq!(asked.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn short_chains_do_not_eat_up_what_somebody_more_urgent_waits_for() {
    let limiter = Arc::new(Limiter::new(&limits()));
    teach(&limiter, Lane::People, 1.0).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let permit = limiter.acquire(Lane::People, &demand(48)).await;
    permit.settle(&report(48, 1.0, 2.0));
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (lane, commands) in [(Lane::People, 20), (Lane::Rolling, 1)] {
        let (limiter, order) = (Arc::clone(&limiter), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            limiter.acquire(lane, &demand(commands)).await.void();
            order.lock().unwrap().push(lane);
        }));
        tokio::task::yield_now().await;
    }
    // Two seconds leave the window first, enough for the short one alone.
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [Lane::People, Lane::Rolling]);
}

#[tokio::test(start_paused = true)]
async fn requests_are_kept_short_of_what_the_portal_cuts_off() {
    let slow = |commands: usize, took: Option<f64>| {
        let spent = Some(0.0);
        let figures = Figures { operating: Some(0.0), spent, took, reset_in: None };
        vec![(LIST.to_owned(), vec![figures; commands])]
    };
    let limiter = Limiter::new(&limits());
    limiter.acquire(Lane::Backfill, &demand(2)).await.settle(&slow(2, Some(4.0)));
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 5);
    // A long chain carries no more, whatever the operating time allows.
    let permit = limiter.acquire(Lane::Backfill, &chain(50)).await;
    assert_eq!(permit.extra(), 4);
    permit.settle(&slow(5, Some(1.0)));
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 8, "half way back");

    // Where the portal does not say, the whole answer is the measure; and limits or no
    // limits, it cuts off what takes too long.
    let limiter = Limiter::new(&Limits { operating: None, ..limits() });
    let permit = limiter.acquire(Lane::Backfill, &demand(2)).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    permit.settle(&slow(2, None));
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 8);
    assert_eq!(limiter.acquire(Lane::Backfill, &chain(50)).await.extra(), 7);
}

#[tokio::test(start_paused = true)]
async fn one_request_at_a_time_finds_out_what_a_command_costs() {
    let limiter = Limiter::new(&limits());
    let first = limiter.acquire(Lane::Backfill, &chain(50)).await;
    assert_eq!(first.extra(), 0);
    let long = chain(50);
    let second = limiter.acquire(Lane::Backfill, &long);
    let answer = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let reason = limiter.waiting().unwrap().reason;
        assert_eq!(reason, WaitReason::CostUnknown { method: LIST.to_owned() });
        assert!(limiter.waits().is_empty(), "no long wait");
        first.settle(&report(1, 0.1, 0.0));
    };
    let (second, ()) = tokio::join!(second, answer);
    assert_eq!(second.extra(), 1);
    second.settle(&report(2, 0.1, 0.1));
    let mut permits = Vec::new();
    for _ in 0..4 {
        permits.push(limiter.acquire(Lane::Backfill, &chain(50)).await);
    }
    assert!(permits.iter().all(|permit| permit.extra() == 49));
}

#[tokio::test(start_paused = true)]
async fn a_portal_that_books_on_the_batch_has_one_account_for_all_methods() {
    let whole = |operating: f64| {
        let figures = Figures { operating: Some(operating), ..Figures::default() };
        vec![(BATCH.to_owned(), vec![figures])]
    };
    let limiter = Limiter::new(&limits());
    limiter.acquire(Lane::Backfill, &chain(50)).await.settle(&whole(0.5));
    let permit = limiter.acquire(Lane::Backfill, &chain(50)).await;
    assert_eq!(permit.extra(), 1, "the first sum may hold others' use");
    permit.settle(&whole(1.5));
    // 57 less 1.5 and four commands, by half a second and a quarter more.
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 84);
    assert_eq!(limiter.affordable(Lane::Backfill, "crm.lead.list"), 84);
    let permit = limiter.acquire(Lane::Backfill, &chain(50)).await;
    assert_eq!(permit.extra(), 49);
    permit.settle(&whole(26.5));
    let leads = Demand::exactly(vec![("crm.lead.list".to_owned(), 40)]);
    let asked = Instant::now();
    let permit = limiter.acquire(Lane::Backfill, &leads).await;
    assert_eq!(asked.elapsed().as_secs(), 0);
    // A refusal of the batch is one of all that it carries.
    permit.void();
    limiter.block(BATCH);
    assert_eq!(limiter.affordable(Lane::Incremental, "crm.lead.list"), 0);
}

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines_with(&self, text: &str) -> usize {
        let log = self.0.lock().unwrap();
        String::from_utf8_lossy(&log).lines().filter(|line| line.contains(text)).count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_is_logged_once_when_it_begins_and_once_when_it_ends() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer({
            let log = log.clone();
            move || log.clone()
        })
        .finish();
    // With a single subscriber, a line that another test's thread reaches first is taken to be
    // of interest to nobody, for good.
    let _other = tracing::Dispatch::new(tracing_subscriber::fmt().finish());
    let _guard = tracing::subscriber::set_default(subscriber);
    let limiter = Limiter::new(&limits());
    let window = Duration::from_secs(10);
    let portal = Mutex::new(Portal::new(Books::PerCommand, 60.0, window, Duration::ZERO));
    let service = Service { cost: 1.0, slowness: 0.01, latency: Duration::from_millis(20) };
    // Several windows' worth by two chains at once, most of which is waiting.
    let worker = || async {
        for _ in 0..15 {
            batch(&limiter, &portal, Lane::Backfill, &chain(50), service, || 1.0).await;
        }
    };
    tokio::join!(worker(), worker());
    assert!(portal.lock().unwrap().booked > 200.0);
    let reason = format!("the operating time of {LIST} is used up");
    assert_eq!(log.lines_with(&format!("waiting: {reason}")), 1);
    assert_eq!(log.lines_with("the wait is over"), 0);
    tokio::time::advance(Duration::from_secs(31)).await;
    assert!(limiter.waits().is_empty());
    assert_eq!(log.lines_with(&format!("the wait is over: {reason}")), 1);
    limiter.acquire(Lane::Backfill, &nothing()).await.void();
    assert_eq!(log.lines_with("wait"), 2);
}

#[test]
fn short_waits_are_told_only_when_they_add_up_without_a_break() {
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    let blocked = WaitReason::MethodBlocked { method: LIST.to_owned() };
    for (reason, pause, told) in [
        (blocked.clone(), 600, true),
        (blocked, 2_500, false),
        (WaitReason::RequestRate, 500, false),
    ] {
        let mut waits = Waits::default();
        for round in 0..20 {
            let waiting = Waiting { reason: reason.clone(), until: after(pause * round + 400) };
            waits.look(after(pause * round), &std::iter::empty());
            waits.begin(after(pause * round), &waiting);
        }
        let last = Waiting { reason, until: after(0) };
        assert_eq!(!waits.of(&std::iter::once(&last)).is_empty(), told, "{last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_gets_no_turn_beside_the_cycles_learns_why() {
    let limits = Limits { requests_per_second: 1.0, burst: 50, operating: None };
    let limiter = std::sync::Arc::new(Limiter::new(&limits));
    let cycling = std::sync::Arc::clone(&limiter);
    let cycles = tokio::spawn(async move {
        loop {
            cycling.acquire(Lane::Incremental, &nothing()).await.void();
        }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    let reasons = || limiter.waits().into_iter().map(|wait| wait.reason).collect::<Vec<_>>();
    let (asked, nothing) = (Instant::now(), nothing());
    let mut backfill = pin!(limiter.acquire(Lane::Backfill, &nothing));
    assert!(tokio::time::timeout(Duration::from_secs(50), &mut backfill).await.is_err());
    assert!(!reasons().contains(&WaitReason::CyclesFirst), "it may get its turn yet");
    assert!(tokio::time::timeout(Duration::from_secs(20), &mut backfill).await.is_err());
    assert!(reasons().contains(&WaitReason::CyclesFirst), "{:?}", reasons());
    cycles.abort();
    backfill.await.void();
    assert!(asked.elapsed() < Duration::from_secs(100), "{:?}", asked.elapsed());
    tokio::time::sleep(Duration::from_secs(31)).await;
    // Whoever waits for its place among its own kind has nothing to do with cycles.
    let next = limiter.acquire(Lane::Backfill, &nothing);
    assert!(tokio::time::timeout(Duration::from_secs(30), next).await.is_ok());
    assert!(!reasons().contains(&WaitReason::CyclesFirst), "{:?}", reasons());
}
