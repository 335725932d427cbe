//! The limiter as its callers meet it, on a paused clock.

mod model;
mod restraint;
mod throughput;

use std::{sync::Arc, task::Poll};

use super::*;

const LIST: &str = "crm.contact.list";

fn limits() -> Limits {
    Limits {
        requests_per_second: 2.0,
        burst: 50,
        operating: Some(OperatingLimit {
            limit: Duration::from_mins(1),
            window: Duration::from_secs(10),
        }),
    }
}

fn demand(commands: usize) -> Demand {
    Demand::exactly(vec![(LIST.to_owned(), commands)])
}

/// One command, and as many more as fit.
fn chain(commands: usize) -> Demand {
    Demand { extra: Some((LIST.to_owned(), commands - 1)), ..demand(1) }
}

/// Nothing but a request.
fn nothing() -> Demand {
    Demand::default()
}

/// What the portal reports for commands of an equal cost, starting from a sum.
fn report(commands: usize, cost: f64, before: f64) -> Costs {
    let mut sum = before;
    let figures = std::iter::repeat_with(|| {
        sum += cost;
        let reset_in = Some(Duration::from_secs(10));
        Figures { operating: Some(sum), spent: Some(cost), took: Some(0.0), reset_in }
    });
    vec![(LIST.to_owned(), figures.take(commands).collect())]
}

/// Tells the limiter what one command costs, by an answer with two of them.
async fn teach(limiter: &Limiter, lane: Lane, cost: f64) {
    let permit = limiter.acquire(lane, &demand(2)).await;
    permit.settle(&report(2, cost, 0.0));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_method_is_tried_with_one_command() {
    let limiter = Limiter::new(&limits());
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 1);
    teach(&limiter, Lane::Backfill, 0.4).await;
    // 95 % of 60 s, less what was spent and four commands for incremental cycles, by
    // 0.4 s and a quarter more.
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 108);
    // A cycle's commands may be quite different, so they are tried first.
    assert_eq!(limiter.affordable(Lane::Incremental, LIST), 2);
}

#[tokio::test(start_paused = true)]
async fn commands_that_cost_nothing_are_not_limited() {
    let limiter = Limiter::new(&limits());
    teach(&limiter, Lane::Backfill, 0.0).await;
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), usize::MAX);
}

#[tokio::test(start_paused = true)]
async fn a_portal_without_figures_is_not_limited_by_us_but_obeyed() {
    let limiter = Limiter::new(&limits());
    let permit = limiter.acquire(Lane::Backfill, &demand(1)).await;
    permit.settle(&[(LIST.to_owned(), vec![Figures::default()])]);
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), usize::MAX);
    limiter.block(LIST);
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 0);
    let asked = Instant::now();
    limiter.acquire(Lane::Backfill, &demand(1)).await.void();
    assert_eq!(asked.elapsed().as_secs(), 1, "a tenth of the window");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_waits_until_the_window_has_moved_on() {
    let limiter = Limiter::new(&limits());
    teach(&limiter, Lane::Backfill, 1.0).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let permit = limiter.acquire(Lane::Backfill, &demand(40)).await;
    permit.settle(&report(40, 1.0, 2.0));
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 8);
    let asked = Instant::now();
    let permit = limiter.acquire(Lane::Backfill, &demand(9)).await;
    assert_eq!(asked.elapsed().as_secs(), 9, "the first two commands have left");
    permit.void();
    limiter.acquire(Lane::Backfill, &demand(50)).await.void();
    assert_eq!(asked.elapsed().as_secs(), 10, "all have left");
}

#[tokio::test(start_paused = true)]
async fn more_than_can_ever_fit_goes_when_nothing_is_booked() {
    let limiter = Limiter::new(&limits());
    teach(&limiter, Lane::Backfill, 40.0).await;
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 0);
    let asked = Instant::now();
    limiter.acquire(Lane::Backfill, &demand(50)).await.void();
    assert_eq!(asked.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_came_is_paid_for() {
    let limiter = Limiter::new(&limits());
    teach(&limiter, Lane::Backfill, 1.0).await;
    drop(limiter.acquire(Lane::Backfill, &demand(30)).await);
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 10);
    // One that was never sent is not.
    let limiter = Limiter::new(&limits());
    teach(&limiter, Lane::Backfill, 1.0).await;
    limiter.acquire(Lane::Backfill, &demand(30)).await.void();
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 40);
}

#[tokio::test(start_paused = true)]
async fn commands_in_flight_are_reserved() {
    let limiter = Limiter::new(&limits());
    teach(&limiter, Lane::Backfill, 1.0).await;
    let permit = limiter.acquire(Lane::Backfill, &demand(40)).await;
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 0);
    // The portal's own sums say that it was half of what was feared: 22 s are used, and
    // a command is expected to cost 0.8 s.
    permit.settle(&report(40, 0.5, 2.0));
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 31);
}

#[tokio::test(start_paused = true)]
async fn a_cost_that_was_never_measured_is_approached_in_steps() {
    let limiter = Limiter::new(&limits());
    let permit = limiter.acquire(Lane::Backfill, &demand(1)).await;
    // The portal says that it took no time, and books three seconds.
    let figures =
        Figures { operating: Some(3.0), spent: Some(0.01), took: Some(0.01), reset_in: None };
    permit.settle(&[(LIST.to_owned(), vec![figures])]);
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 2);
    let permit = limiter.acquire(Lane::Backfill, &demand(2)).await;
    permit.settle(&report(2, 3.0, 3.0));
    // 57 less 9 and four commands, by 3.75.
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 8);
}

#[tokio::test(start_paused = true)]
async fn use_by_others_counts_until_the_reset_and_is_then_looked_at_again() {
    let limiter = Limiter::new(&limits());
    let permit = limiter.acquire(Lane::Backfill, &demand(2)).await;
    permit.settle(&report(2, 0.5, 50.0));
    // 57 less 51 and four commands, by half a second and a quarter of it more.
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 5);
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 1);
    let permit = limiter.acquire(Lane::Backfill, &demand(1)).await;
    permit.settle(&report(1, 0.5, 40.0));
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 22);
}

#[tokio::test(start_paused = true)]
async fn lower_lanes_leave_twice_what_incremental_cycles_used() {
    let limiter = Limiter::new(&limits());
    teach(&limiter, Lane::Backfill, 1.0).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let permit = limiter.acquire(Lane::Incremental, &demand(10)).await;
    permit.settle(&report(10, 1.0, 0.0));
    // 57 less 10; to a backfill another 10 less.
    assert_eq!(limiter.affordable(Lane::Incremental, LIST), 37);
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 29);
    // What cycles will use in a whole window shows in its first part.
    let limiter = Limiter::new(&limits());
    teach(&limiter, Lane::Backfill, 1.0).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    let permit = limiter.acquire(Lane::Incremental, &demand(2)).await;
    permit.settle(&report(2, 2.0, 2.0));
    // 57 less 6; eight seconds in ten would be used, and half of that is.
    assert_eq!(limiter.affordable(Lane::Backfill, LIST), 31);
}

#[tokio::test(start_paused = true)]
async fn a_blocked_method_waits_for_its_reset_and_others_go_on() {
    let limiter = Limiter::new(&limits());
    teach(&limiter, Lane::Backfill, 1.0).await;
    limiter.block(LIST);
    let asked = Instant::now();
    let other = Demand::exactly(vec![("crm.lead.list".to_owned(), 1)]);
    limiter.acquire(Lane::Rolling, &other).await.void();
    assert!(asked.elapsed().is_zero());
    limiter.acquire(Lane::Incremental, &demand(1)).await.void();
    assert_eq!(asked.elapsed().as_secs(), 11, "the reset, and one second more");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_held_back_by_its_method_lets_others_pass() {
    let limiter = Arc::new(Limiter::new(&limits()));
    limiter.block(LIST);
    let blocked = tokio::spawn({
        let limiter = Arc::clone(&limiter);
        async move { limiter.acquire(Lane::Incremental, &demand(1)).await.void() }
    });
    tokio::task::yield_now().await;
    let waiting = limiter.waiting().unwrap();
    assert_eq!(waiting.reason, WaitReason::MethodBlocked { method: LIST.to_owned() });
    let asked = Instant::now();
    limiter.acquire(Lane::Rolling, &nothing()).await.void();
    assert!(asked.elapsed().is_zero());
    blocked.abort();
    assert!(blocked.await.unwrap_err().is_cancelled());
    assert_eq!(limiter.waiting(), None);
}

#[tokio::test(start_paused = true)]
async fn the_most_urgent_lane_goes_first_and_equals_in_turn() {
    let limiter = Arc::new(Limiter::new(&limits()));
    limiter.restore(60.0);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    let lanes = [Lane::Rolling, Lane::Backfill, Lane::Incremental, Lane::Backfill, Lane::People];
    for (number, lane) in lanes.into_iter().enumerate() {
        let (limiter, order) = (Arc::clone(&limiter), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            limiter.acquire(lane, &nothing()).await.void();
            order.lock().unwrap().push((lane, number));
        }));
        tokio::task::yield_now().await;
    }
    assert_eq!(limiter.waiting().unwrap().reason, WaitReason::RequestRate);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(
        *order.lock().unwrap(),
        [
            (Lane::Incremental, 2),
            (Lane::People, 4),
            (Lane::Backfill, 1),
            (Lane::Backfill, 3),
            (Lane::Rolling, 0),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_pauses_every_lane() {
    let limiter = Limiter::new(&limits());
    limiter.refused();
    let asked = Instant::now();
    limiter.acquire(Lane::Incremental, &nothing()).await.void();
    assert!(asked.elapsed() >= Duration::from_secs(3), "{:?}", asked.elapsed());
    assert!(limiter.level() > 45.0);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_to_be_left_alone_is_and_no_longer_than_that() {
    let limiter = Limiter::new(&limits());
    limiter.refused();
    limiter.pause(Duration::from_secs(40));
    limiter.pause(Duration::from_secs(2));
    let asked = Instant::now();
    limiter.acquire(Lane::Incremental, &nothing()).await.void();
    assert_eq!(asked.elapsed().as_secs(), 40);

    teach(&limiter, Lane::Backfill, 0.0).await;
    limiter.block(LIST);
    limiter.pause_method(LIST, Duration::from_secs(90));
    let asked = Instant::now();
    limiter.acquire(Lane::People, &nothing()).await.void();
    assert!(asked.elapsed() < Duration::from_secs(1), "other methods go on");
    limiter.acquire(Lane::Backfill, &demand(1)).await.void();
    assert_eq!(asked.elapsed().as_secs(), 90);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_wait_takes_no_place() {
    let limiter = Limiter::new(&limits());
    limiter.restore(50.0);
    let nothing = nothing();
    let wait = limiter.acquire(Lane::People, &nothing);
    assert!(tokio::time::timeout(Duration::from_secs(1), wait).await.is_err());
    assert!(limiter.waiting().is_none());
    assert!((limiter.level() - 48.0).abs() < 0.1, "{}", limiter.level());
}
