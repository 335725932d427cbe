//! Histories that once broke the law, as small as they can be.

use b24mirror::entity::Dialect;

use super::{
    Subject,
    history::{Disturbance, Event, History, Setup, Step, What, Who, Zone},
    world::World,
};

fn holds(steps: Vec<Step>) {
    let zone = Zone::Moscow;
    let setup = Setup { leads: false, records: 0, seed: 0, gaps: 0, zone, overlap: 10, chains: 1 };
    let history = History { setup, steps };
    if let Err(why) = World::new(Subject::People(Dialect::Classic)).live(&history) {
        panic!("{why}\n{history:?}");
    }
}

/// The sweep did not believe that a portal is empty which had just listed a record, and said
/// that it listed others.
#[test]
fn the_only_record_may_go_when_it_has_been_listed() {
    let goes = What::Between(Event::Delete { who: Who::Newest(1) });
    holds(vec![
        Step::Happen(Event::Import { count: 1, days: 1, late: 0 }),
        Step::Backfill { restart: false, meanwhile: Vec::new() },
        Step::Sweep(vec![Disturbance { after: 0, what: goes }]),
    ]);
}

/// The sweep asked again and again for the record that it had just listed, and then claimed
/// that the portal did not count zero.
#[test]
fn the_only_record_may_go_between_being_listed_and_being_read() {
    let goes = What::Between(Event::Delete { who: Who::Newest(1) });
    holds(vec![
        Step::Backfill { restart: false, meanwhile: Vec::new() },
        Step::Happen(Event::Import { count: 1, days: 1, late: 0 }),
        Step::Sweep(vec![Disturbance { after: 0, what: goes }]),
    ]);
}

/// The filter was probed in the very moment in which there was no record, and was said to be
/// misread because there was one again.
#[test]
fn all_records_may_go_and_one_return_while_the_filter_is_probed() {
    let between = |after, event| Disturbance { after, what: What::Between(event) };
    holds(vec![
        Step::Happen(Event::Import { count: 50, days: 1, late: 0 }),
        Step::Backfill {
            restart: false,
            meanwhile: vec![
                between(0, Event::Delete { who: Who::Some(51) }),
                between(4, Event::Restore { count: 1, late: 0 }),
            ],
        },
        Step::Happen(Event::Create { count: 1, late: 0 }),
    ]);
}
