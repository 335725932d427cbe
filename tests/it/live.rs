//! The daemon beside a portal that is being worked in.

use std::{collections::BTreeSet, time::Duration};

use b24mirror::simulator::{Action, Entity, Options};
use tokio::time::{Instant, sleep};

use crate::support::{Company, Dice, TestPortal, cycled, database, equal_at, unlimited};

const INTERVAL: Duration = Duration::from_secs(1);
const OVERLAP: Duration = Duration::from_secs(10);

const CHANGES: u64 = 2_000;

fn something(dice: &mut Dice, left: u64, late: Duration) -> (Entity, Action) {
    let entity = if dice.one_in(3) { Entity::Leads } else { Entity::Contacts };
    // Now and then a bulk edit: more than a page within one second.
    let count = if dice.one_in(8) { 80 + dice.below(120) } else { 1 + dice.below(12) };
    let (count, visible_after) = (count.min(left), late.as_secs_f64());
    let action = match dice.below(6) {
        0..3 => Action::Change { entity, ids: Vec::new(), count, visible_after },
        3 => Action::Create { entity, count, visible_after },
        4 => Action::Restore { entity, ids: Vec::new(), count, visible_after },
        _ => {
            let days = u32::try_from(1 + dice.below(4_000)).unwrap();
            Action::Import { entity, count, days, visible_after }
        }
    };
    (entity, action)
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_arrive_within_two_intervals_and_late_ones_within_an_overlap_more() {
    let _company = Company::quiet().await;
    let portal = TestPortal::with(Options { contacts: 1_200, leads: 500, ..unlimited() });
    let database = database().await;
    for (entity, count) in [(Entity::Contacts, 250), (Entity::Leads, 120)] {
        portal.happens(Action::Delete { entity, ids: Vec::new(), count });
    }
    portal.backfilled(&database).await;
    portal.reset_stats();
    let _daemon = portal.daemon(&database);
    cycled(database.pool()).await;

    let mut dice = Dice::new(20_260_301);
    let mut late = BTreeSet::new();
    let mut all_visible = Instant::now();
    let mut written = 0;
    while written < CHANGES {
        let delay = if dice.one_in(4) {
            Duration::from_millis(500 + dice.below(7_500))
        } else {
            Duration::ZERO
        };
        let (entity, action) = something(&mut dice, CHANGES - written, delay);
        let outcome = portal.happens(action);
        written += outcome.ids.len() as u64;
        if !delay.is_zero() {
            late.extend(outcome.ids.into_iter().map(|id| (entity, id)));
            all_visible = all_visible.max(Instant::now() + delay);
        }
        sleep(Duration::from_millis(dice.below(400))).await;
    }
    let in_time =
        Action::Change { entity: Entity::Contacts, ids: Vec::new(), count: 5, visible_after: 0.0 };
    portal.happens(in_time);
    let last_change = Instant::now();
    assert!(portal.pending() > 0, "some are still to become visible");

    let due = last_change + 2 * INTERVAL;
    equal_at(due, &late, &portal, database.pool()).await;
    let due = all_visible.max(last_change) + OVERLAP + 2 * INTERVAL;
    equal_at(due, &BTreeSet::new(), &portal, database.pool()).await;

    assert_eq!(portal.pending(), 0);
    let stats = portal.stats();
    assert!(stats.writes >= CHANGES, "{}", stats.writes);
    for (trap, what) in [
        (10, "written in a second that was already read"),
        (13, "visible late"),
        (14, "restored"),
        (15, "imported"),
    ] {
        assert!(stats.trap(trap) > 0, "no record was {what}");
    }
}
