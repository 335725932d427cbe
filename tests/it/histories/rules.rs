//! Histories that say why the rules are as they are: each breaks the law when one of them is
//! left out.

use b24mirror::entity::Dialect;

use super::{
    Subject,
    history::{Event, History, Setup, Step, Who, Zone},
    world::World,
};

fn small(zone: Zone, records: u64) -> Setup {
    Setup { leads: false, records, seed: 0, gaps: 0, zone, overlap: 10, chains: 1 }
}

/// A backfill, and the time until it is long over.
fn filled() -> [Step; 2] {
    [Step::Backfill { restart: false, meanwhile: Vec::new() }, Step::Age]
}

/// A mirror that is filled, and then these steps.
fn then(zone: Zone, steps: Vec<Step>) -> History {
    History { setup: small(zone, 10), steps: filled().into_iter().chain(steps).collect() }
}

/// These steps, and then a mirror that is filled.
fn before(steps: Vec<Step>) -> History {
    let setup = small(Zone::Moscow, 60);
    History { setup, steps: steps.into_iter().chain(filled()).collect() }
}

fn edit(late: u8) -> Step {
    Step::Happen(Event::Edit { who: Who::Oldest(1), late })
}

#[test]
fn every_rule_of_floor_and_mark_has_a_history_that_needs_it() {
    let world = World::new(Subject::People(Dialect::Classic));
    let create = |late| Step::Happen(Event::Create { count: 1, late });
    let import = |late| Step::Happen(Event::Import { count: 1, days: 30, late });
    let histories = [
        // Dated before a cycle and visible after it.
        then(Zone::Moscow, vec![Step::Pass(3_000), edit(90), Step::Pass(5_000)]),
        // The portal stores the hour that repeats below the one before.
        then(Zone::BeforeAutumn(40), vec![Step::Pass(30_000), edit(0), Step::Pass(30_000)]),
        // Changes below the floor, because the clock fell back and time went on.
        then(Zone::Moscow, vec![Step::Happen(Event::Jump(-600)), edit(0), Step::Pass(30_000)]),
        // Dated before a leap forward and visible after it.
        then(Zone::Moscow, vec![edit(90), Step::Happen(Event::Jump(600)), Step::Cycle(Vec::new())]),
        // A lower ID that becomes visible after a higher one, with an old date.
        then(Zone::Moscow, vec![import(90), create(0), Step::Cycle(Vec::new())]),
        // The same before the first look at the portal.
        before(vec![import(90), create(0)]),
        // Dated before the first watermark and visible after the backfill.
        before(vec![edit(90), Step::Pass(5_000)]),
    ];
    for history in &histories {
        if let Err(why) = world.live(history) {
            panic!("{why}\n{history:?}");
        }
    }
}
