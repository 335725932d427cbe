//! Clocks, zones and late commits.

use std::time::Duration;

use b24mirror::simulator::{Action, Options};
use chrono_tz::Tz;
use tokio::time::{Instant, sleep};

use super::{Bench, CONTACT, LEAD, change};
use crate::support::{TestPortal, unlimited};

fn small() -> Options {
    Options { contacts: 200, leads: 120, ..unlimited() }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_10_a_second_that_was_served_may_go_on() {
    let bench = Bench::new(TestPortal::with(small())).await;
    bench.fill().await;
    for _ in 0..4 {
        // From the beginning of a second, so that both changes fall into it.
        let second = bench.portal.now();
        while bench.portal.now() == second {
            sleep(Duration::from_millis(2)).await;
        }
        bench.portal.happens(change(CONTACT, 2));
        bench.cycle().await;
        bench.portal.happens(change(CONTACT, 2));
        bench.portal.happens(change(LEAD, 2));
        bench.cycle().await;
        bench.assert_equal().await;
    }
    assert!(bench.sprung(10) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_11_the_portals_clock_rules_whatever_ours_says() {
    for seconds in [-600.0, 600.0] {
        let bench = Bench::new(TestPortal::with(small())).await;
        bench.portal.happens(Action::ShiftClock { seconds });
        bench.fill().await;
        for _ in 0..3 {
            bench.portal.happens(change(CONTACT, 5));
            bench.portal.happens(change(LEAD, 5));
            bench.cycle().await;
            bench.assert_equal().await;
        }
        assert!(bench.sprung(11) > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_12_a_clock_change_while_running_loses_nothing() {
    // The hour repeats in autumn and is left out in spring.
    for (before, turn) in [
        ("2026-10-25T00:30:00Z", "2026-10-25T00:59:59Z"),
        ("2026-03-29T00:30:00Z", "2026-03-29T00:59:59Z"),
    ] {
        let clock = Some(before.parse().unwrap());
        let options = Options { zone: Tz::Europe__Berlin, clock, ..small() };
        let bench = Bench::new(TestPortal::with(options)).await;
        bench.fill().await;
        bench.portal.happens(change(CONTACT, 5));
        bench.cycle().await;
        bench.portal.happens(Action::SetClock { to: turn.to_owned() });
        bench.portal.happens(change(CONTACT, 5));
        bench.portal.happens(change(LEAD, 5));
        bench.cycle().await;
        sleep(Duration::from_millis(1_200)).await;
        // As text, these are earlier than the ones before, or far later.
        bench.portal.happens(change(CONTACT, 5));
        bench.portal.happens(change(LEAD, 5));
        bench.cycle().await;
        assert_eq!(bench.sprung(12), 1);
        bench.assert_equal().await;
        bench.portal.happens(change(CONTACT, 5));
        bench.cycle().await;
        bench.assert_equal().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_13_a_late_commit_is_caught_by_the_overlap() {
    let bench = Bench::new(TestPortal::with(small())).await;
    bench.fill().await;
    let late = 4.0;
    for entity in [CONTACT, LEAD] {
        bench.portal.happens(Action::Change {
            entity,
            ids: Vec::new(),
            count: 5,
            visible_after: late,
        });
        bench.portal.happens(Action::Create { entity, count: 5, visible_after: late });
        bench.portal.happens(Action::Import { entity, count: 2, days: 9, visible_after: late });
    }
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        // Cursors move on: younger changes and higher ids are mirrored meanwhile.
        bench.portal.happens(change(CONTACT, 1));
        bench.portal.happens(Action::Create { entity: CONTACT, count: 1, visible_after: 0.0 });
        bench.portal.happens(Action::Create { entity: LEAD, count: 60, visible_after: 0.0 });
        bench.cycle().await;
        sleep(Duration::from_millis(400)).await;
    }
    assert_eq!((bench.sprung(13), bench.portal.pending()), (24, 0));
    // As long as writes may be late, and what deep cycles come at the latest. Each
    // entity has a deep cycle of its own, so one that is equal says nothing of the other.
    let until = Instant::now() + Duration::from_secs(12);
    while Instant::now() < until && bench.differs().await {
        bench.cycle().await;
        sleep(Duration::from_millis(400)).await;
    }
    bench.assert_equal().await;
}
