//! A crash before and after each single statement.

use std::collections::BTreeSet;

use b24mirror::entity::Dialect;

use super::{
    Subject,
    history::{Disturbance, Event, History, Setup, Step, What, Who, Zone},
    relay::Statements,
    world::World,
};
use crate::support::long;

/// Crashes of each kind of work in everyday use, beside one after each COMMIT; in a long
/// campaign, two at each statement.
const CRASHES: usize = 3;

/// A small portal, and before each piece of work enough changes for more than a page.
fn history() -> History {
    let setup = Setup {
        leads: false,
        records: 70,
        seed: 5,
        gaps: 30,
        zone: Zone::Moscow,
        overlap: 10,
        chains: 2,
    };
    let (calm, late) = (Vec::new(), 50);
    let happen = Step::Happen;
    let steps = vec![
        Step::Backfill { restart: false, meanwhile: calm.clone() },
        Step::Age,
        Step::Restart,
        happen(Event::Edit { who: Who::Some(60), late: 0 }),
        happen(Event::Create { count: 3, late }),
        happen(Event::Create { count: 60, late: 0 }),
        happen(Event::Phones { who: Who::Oldest(2), count: 3 }),
        happen(Event::Restore { count: 1, late: 0 }),
        // What a crash loses must not be within the next cycle's overlap by chance.
        Step::Pass(15_000),
        Step::Cycle(calm.clone()),
        happen(Event::Delete { who: Who::Oldest(20) }),
        happen(Event::Delete { who: Who::Made(0) }),
        happen(Event::Edit { who: Who::Newest(2), late: 0 }),
        Step::Pass(15_000),
        Step::Sweep(calm),
        happen(Event::Edit { who: Who::Some(3), late: 0 }),
    ];
    History { setup, steps }
}

/// The history with a disturbance in one of its steps, which is the last one: what a cycle
/// lost, a sweep would find.
fn disturbed(step: usize, disturbance: Disturbance) -> History {
    let mut history = history();
    history.steps.truncate(step + 1);
    match &mut history.steps[step] {
        Step::Backfill { meanwhile, .. } | Step::Cycle(meanwhile) | Step::Sweep(meanwhile) => {
            meanwhile.push(disturbance);
        }
        other => panic!("{other:?} is no work"),
    }
    history
}

#[test]
fn a_process_may_die_before_and_after_any_statement() {
    let world = World::new(Subject::People(Dialect::Classic));
    let calm = history();
    let worked = world.live(&calm).unwrap();
    let mut told = worked.statements.into_iter();
    for (step, work) in calm.steps.iter().enumerate() {
        match work {
            Step::Backfill { .. } | Step::Cycle(_) | Step::Sweep(_) => {}
            Step::Age => {
                // Two cycles.
                told.nth(1).unwrap();
                continue;
            }
            _ => continue,
        }
        let Statements { count, commits } = told.next().unwrap();
        assert!(count > 20, "step {step} took {count} statements only");
        assert!(!commits.is_empty(), "step {step} committed nothing");
        let every = if long() { 1 } else { count / CRASHES };
        let mut crashes = BTreeSet::new();
        for (turn, after) in (0..count).step_by(every).enumerate() {
            // Both ways to die are tried at each place in the long run, in turn in the short one.
            let answered = turn % 2 == 0;
            crashes.insert((after, answered));
            if long() {
                crashes.insert((after, !answered));
            }
        }
        // What belongs together is committed together: nowhere else would a part of it do.
        crashes.extend(commits.into_iter().map(|commit| (commit, true)));
        for (after, answered) in crashes {
            let disturbance =
                Disturbance { after: u16::try_from(after).unwrap(), what: What::Kill { answered } };
            let history = disturbed(step, disturbance);
            if let Err(why) = world.live(&history) {
                panic!("killed in step {step} at statement {after} ({answered}): {why}");
            }
        }
    }
}
