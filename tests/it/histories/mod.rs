//! Random histories of a small portal: after the last change and two cycles plus one sweep,
//! the mirror is what the portal is.
//!
//! Everything is real but the clocks: the simulator behind HTTP, PostgreSQL, the session with
//! its cycles, backfills and sweeps. A history (`history`) is what happens to the portal, how
//! time passes, when the mirror looks, and what disturbs it while it does.
//!
//! # Time
//! A history takes a fraction of a second and tells of minutes or hours. The portal's time
//! stands still until a history lets it pass (`scene`), and so does the database's: its
//! `clock_timestamp()` and `now()` give way to functions of the same names that count what
//! has passed, plus one microsecond each time that they are asked (`world`), which needs a
//! user who may do that. So nothing depends on how fast the machine is, and a history takes
//! the same course each time, but for the order in which tasks of one process get their turn.
//!
//! # Crashes
//! The process (`process`) is a session in an async runtime of its own, and a crash is the end
//! of that runtime with all its tasks wherever they wait. It talks to the database through a
//! relay (`relay`), which counts statements: a history names the statement before which, or
//! before whose answer, the process dies. Whatever is durable lies between two statements, so
//! these are all the places where a crash can differ from another, those between COMMIT and
//! its answer among them. In the same places a connection may break, the process may be told
//! to end, time may pass and the portal may change, which it also may between two commands of
//! one batch.
//!
//! # The law
//! When a history is over, two cycles must bring everything that was visible at once; one
//! more, after an overlap, what became visible late; and one sweep must leave no difference
//! at all, tombstones included. A cycle or a sweep that a crash has left under way is finished
//! first. Where clocks jump at any time, also forth and back between two cycles or before the
//! first one, cycles may miss changes, and the sweep alone has to find them.
//!
//! # Running it
//! Histories come from numbered seeds, the same ones each time. With
//! `B24MIRROR_CAMPAIGN=long` there are eighty times as many; `B24MIRROR_HISTORIES=7` or
//! `=100..200` names seeds. A history that breaks the law is shrunk and printed with its seed,
//! in the form in which `found` keeps it as a test of its own.

mod book;
mod found;
mod history;
mod process;
mod relay;
mod rules;
mod scene;
mod statements;
mod world;

use std::{env, ops::Range};

use b24mirror::entity::{
    ACTIVITIES, COMPANIES, CONTACTS, DEAL_STAGE_HISTORY, DEALS, Dialect, Entity,
    LEAD_STAGE_HISTORY, LEADS, MAIL_RECIPIENTS, QUOTES, SMART_INVOICE_STAGE_HISTORY,
    SMART_INVOICES, smart_process,
};
use proptest::{
    strategy::Strategy as _,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};

use self::{
    history::{Theme, histories},
    world::World,
};

use crate::support::long;

/// Histories of each theme, in everyday use and in a long campaign.
const SEEDS: Range<u64> = 0..24;
const MANY_SEEDS: Range<u64> = 0..2_000;

/// Attempts at making a history smaller that breaks the law.
const SHRINKING: u32 = 1_000;

fn seeds() -> Range<u64> {
    let Ok(named) = env::var("B24MIRROR_HISTORIES") else {
        return if long() { MANY_SEEDS } else { SEEDS };
    };
    let number = |text: &str| text.parse().expect("B24MIRROR_HISTORIES is like 7 or 100..200");
    match named.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&named)..number(&named) + 1,
    }
}

/// Whose histories they are.
#[derive(Clone, Copy)]
enum Subject {
    /// Contacts or leads, as a history says.
    People(Dialect),
    /// What is read as items alone.
    Only(&'static Entity),
    /// The same with its product rows.
    Selling(&'static Entity),
    /// The steps of records through their stages; what happens, happens to the records.
    Steps { mirrored: &'static Entity, of: &'static Entity },
    /// The address book, which is read as a whole.
    Book,
}

impl Subject {
    /// What is mirrored.
    fn entity(self, leads: bool) -> &'static Entity {
        match self {
            Self::People(_) if leads => &LEADS,
            Self::People(_) => &CONTACTS,
            Self::Only(entity) | Self::Selling(entity) => entity,
            Self::Steps { mirrored, .. } => mirrored,
            Self::Book => &MAIL_RECIPIENTS,
        }
    }

    /// What it happens to.
    fn records(self, leads: bool) -> &'static Entity {
        match self {
            Self::Steps { of, .. } => of,
            _ => self.entity(leads),
        }
    }

    const fn dialect(self) -> Dialect {
        match self {
            Self::People(dialect) => dialect,
            Self::Only(entity) if entity.item.is_none() => Dialect::Classic,
            Self::Only(_) | Self::Selling(_) => Dialect::Item,
            Self::Steps { .. } | Self::Book => Dialect::Classic,
        }
    }

    const fn sells(self) -> bool {
        matches!(self, Self::Selling(_))
    }
}

fn hold(theme: Theme) {
    hold_of(theme, Subject::People(Dialect::Classic));
}

/// Lets histories of a theme happen, and fails with the smallest form of the first one that
/// breaks the law.
fn hold_of(theme: Theme, subject: Subject) {
    let world = World::new(subject);
    for seed in seeds() {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config =
            Config { max_shrink_iters: SHRINKING, failure_persistence: None, ..Config::default() };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let history = histories(theme).new_tree(&mut runner).unwrap();
        let lived = runner.run_one(history, |history| {
            world.live(&history).map(drop).map_err(TestCaseError::fail)
        });
        match lived {
            Ok(_) => {}
            Err(TestError::Fail(why, history)) => {
                panic!("seed {seed} of {theme:?} (B24MIRROR_HISTORIES={seed}): {why}\n{history:?}")
            }
            Err(TestError::Abort(why)) => panic!("seed {seed} of {theme:?}: {why}"),
        }
    }
}

#[test]
fn changes_of_every_kind_arrive_whatever_crashes() {
    hold(Theme::Changes);
}

#[test]
fn a_backfill_misses_nothing_that_happens_while_it_is_interrupted() {
    hold(Theme::Backfills);
}

#[test]
fn clocks_that_jump_and_zones_that_change_hide_nothing_from_cycles() {
    hold(Theme::Clocks);
}

#[test]
fn deletions_and_nothing_else_become_tombstones() {
    hold(Theme::Sweeps);
}

#[test]
fn a_sweep_finds_what_cycles_miss_under_a_clock_that_jumps_at_will() {
    hold(Theme::WildClocks);
}

#[test]
fn changes_of_every_kind_arrive_as_items() {
    hold_of(Theme::Changes, Subject::People(Dialect::Item));
}

#[test]
fn deletions_of_items_and_nothing_else_become_tombstones() {
    hold_of(Theme::Sweeps, Subject::People(Dialect::Item));
}

#[test]
fn changes_of_every_kind_arrive_through_the_gateway() {
    hold_of(Theme::Changes, Subject::People(Dialect::Vibecode));
}

#[test]
fn a_backfill_through_the_gateway_misses_nothing() {
    hold_of(Theme::Backfills, Subject::People(Dialect::Vibecode));
}

#[test]
fn deletions_behind_the_gateway_and_nothing_else_become_tombstones() {
    hold_of(Theme::Sweeps, Subject::People(Dialect::Vibecode));
}

#[test]
fn clocks_that_jump_behind_the_gateway_hide_nothing_from_cycles() {
    hold_of(Theme::Clocks, Subject::People(Dialect::Vibecode));
}

#[test]
fn changes_of_companies_and_their_links_arrive() {
    hold_of(Theme::Changes, Subject::Only(&COMPANIES));
}

#[test]
fn steps_of_every_kind_arrive() {
    let mirrored = &SMART_INVOICE_STAGE_HISTORY;
    hold_of(Theme::Changes, Subject::Steps { mirrored, of: &SMART_INVOICES });
    hold_of(Theme::Changes, Subject::Steps { mirrored: &DEAL_STAGE_HISTORY, of: &DEALS });
    hold_of(Theme::Changes, Subject::Steps { mirrored: &LEAD_STAGE_HISTORY, of: &LEADS });
}

#[test]
fn steps_of_deleted_deals_and_nothing_else_become_tombstones() {
    hold_of(Theme::Sweeps, Subject::Steps { mirrored: &DEAL_STAGE_HISTORY, of: &DEALS });
}

#[test]
fn changes_of_activities_arrive() {
    hold_of(Theme::Changes, Subject::Only(&ACTIVITIES));
}

#[test]
fn changes_of_deals_and_their_links_arrive() {
    hold_of(Theme::Changes, Subject::Only(&DEALS));
}

#[test]
fn changes_of_deals_and_their_product_rows_arrive_whatever_crashes() {
    hold_of(Theme::Changes, Subject::Selling(&DEALS));
}

#[test]
fn deletions_of_quotes_and_nothing_else_become_tombstones() {
    hold_of(Theme::Sweeps, Subject::Only(&QUOTES));
}

#[test]
fn changes_of_quotes_and_their_product_rows_arrive_whatever_crashes() {
    hold_of(Theme::Changes, Subject::Selling(&QUOTES));
}

#[test]
fn deletions_of_companies_and_deals_and_nothing_else_become_tombstones() {
    hold_of(Theme::Sweeps, Subject::Only(&COMPANIES));
    hold_of(Theme::Sweeps, Subject::Selling(&DEALS));
}

#[test]
fn deletions_of_activities_and_nothing_else_become_tombstones() {
    hold_of(Theme::Sweeps, Subject::Only(&ACTIVITIES));
}

#[test]
fn a_backfill_of_smart_invoices_misses_nothing() {
    hold_of(Theme::Backfills, Subject::Only(&SMART_INVOICES));
}

#[test]
fn changes_of_the_address_book_arrive() {
    hold_of(Theme::Changes, Subject::Book);
}

#[test]
fn what_is_gone_from_the_address_book_and_nothing_else_becomes_a_tombstone() {
    hold_of(Theme::Sweeps, Subject::Book);
}

#[test]
fn changes_of_a_smart_process_and_its_links_arrive() {
    hold_of(Theme::Changes, Subject::Only(smart_process(128).unwrap()));
}

#[test]
fn deletions_in_a_smart_process_and_nothing_else_become_tombstones() {
    hold_of(Theme::Sweeps, Subject::Only(smart_process(1036).unwrap()));
}
