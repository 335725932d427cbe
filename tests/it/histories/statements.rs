//! A crash before and after each single statement.

use super::{
    history::{Disturbance, Event, History, Setup, Step, What, Who, Zone},
    world::World,
};
use crate::support::long;

/// Crashes of each kind of work in everyday use; in a long campaign, one at each statement.
const CRASHES: usize = 5;

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

/// The history with a disturbance in one of its steps.
fn disturbed(step: usize, disturbance: Disturbance) -> History {
    let mut history = history();
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
    let world = World::new();
    let calm = history();
    let worked = world.live(&calm).unwrap();
    let works =
        |step: &Step| matches!(step, Step::Backfill { .. } | Step::Cycle(_) | Step::Sweep(_));
    let steps = (0..calm.steps.len()).filter(|step| works(&calm.steps[*step]));
    for (step, statements) in steps.zip(worked.statements) {
        assert!(statements > 20, "step {step} took {statements} statements only");
        let every = if long() { 1 } else { statements / CRASHES };
        for after in (0..statements).step_by(every) {
            // Both ways to die are tried at each place in the long run, in turn in the short one.
            let both = if long() { 2 } else { 1 };
            for way in 0..both {
                let answered = (after / every + way) % 2 == 0;
                let after = u16::try_from(after).unwrap();
                let disturbance = Disturbance { after, what: What::Kill { answered } };
                let history = disturbed(step, disturbance);
                if let Err(why) = world.live(&history) {
                    panic!("killed in step {step} at statement {after} ({answered}): {why}");
                }
            }
        }
    }
}
