//! Changes between any two pages: deletions in pages already read, bulk inserts, edits
//! behind and ahead of the cursor, merges, restores, user fields that come, go, and change
//! their names and types.

use std::collections::BTreeSet;

use b24mirror::{
    simulator::{Action, Cost, Entity, UserFieldType},
    store::Verdict,
};
use sqlx::AssertSqlSafe;
use tokio::time::{Instant, sleep};

use super::{
    stage::Stage,
    work::{CONTACT, Work, fill, run},
};
use crate::support::{Dice, equal_but_for, long};

/// Whether user fields change, too. Nothing tells of the records that have them, so their
/// values are right only when everything was read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Storm {
    Records,
    UserFields,
}

/// A page takes so long that several things happen while a chain is read.
const PAGE_SECONDS: f64 = 0.015;

/// Something happens at least so often, in milliseconds.
const CALM: u64 = 12;

async fn rage(stage: &Stage, storm: Storm, dice: &mut Dice, gone: &mut BTreeSet<(Entity, i64)>) {
    let mut fields = Vec::new();
    let (entity, visible_after) = (CONTACT, 0.0);
    for number in 0.. {
        sleep(dice.moment(CALM)).await;
        let (ids, bulk) = (Vec::new(), 20 + dice.below(60));
        let kinds = if storm == Storm::Records { 8 } else { 12 };
        let action = match dice.below(kinds) {
            0 => Action::Delete { entity, ids, count: 1 + dice.below(5) },
            1 if dice.one_in(4) => Action::Create { entity, count: bulk, visible_after },
            2 if dice.one_in(2) => Action::Change { entity, ids, count: bulk, visible_after },
            3 => Action::Import { entity, count: 2, days: 500, visible_after },
            4 => Action::Restore { entity, ids, count: 1, visible_after },
            5 => Action::Merge { entity, ids, count: 3 },
            8 => {
                let code = format!("UF_CRM_{}", 900_000 + number);
                fields.push(code.clone());
                let multiple = dice.one_in(3);
                Action::AddUserField { entity, code, kind: kind(dice), multiple }
            }
            9 if !fields.is_empty() => {
                let code = one_of(&fields, dice);
                Action::RenameUserField { entity, code, label: format!("Label {number}") }
            }
            10 if !fields.is_empty() => {
                let code = one_of(&fields, dice);
                Action::RetypeUserField { entity, code, kind: kind(dice) }
            }
            11 if fields.len() > 2 => {
                let code = one_of(&fields, dice);
                fields.retain(|field| *field != code);
                Action::RemoveUserField { entity, code }
            }
            _ => Action::Change { entity, ids, count: 1 + dice.below(8), visible_after },
        };
        let outcome = stage.portal.happens(action);
        gone.extend(outcome.gone.into_iter().map(|id| (CONTACT, id)));
    }
}

fn kind(dice: &mut Dice) -> UserFieldType {
    let kinds = [UserFieldType::String, UserFieldType::Date, UserFieldType::Boolean];
    kinds[usize::try_from(dice.below(3)).unwrap()]
}

fn one_of(fields: &[String], dice: &mut Dice) -> String {
    fields[usize::try_from(dice.below(fields.len() as u64)).unwrap()].clone()
}

/// Fails unless the mirror has every record of the portal, and no other but those that are
/// gone since.
async fn every_record_is_there(stage: &Stage, gone: &BTreeSet<(Entity, i64)>, when: &str) {
    let live = "select id from bitrix24.contacts where deleted_at is null";
    let live: BTreeSet<i64> = sqlx::query_scalar(AssertSqlSafe(live))
        .fetch_all(stage.database.pool())
        .await
        .unwrap()
        .into_iter()
        .collect();
    let true_ones: BTreeSet<i64> =
        stage.portal.truth(Stage::entities()[0]).iter().map(|record| record.id).collect();
    let missing: Vec<&i64> = true_ones.difference(&live).collect();
    assert!(missing.is_empty(), "{when}: {missing:?} are missing");
    let extra: Vec<&i64> =
        live.difference(&true_ones).filter(|id| !gone.contains(&(CONTACT, **id))).collect();
    assert!(extra.is_empty(), "{when}: {extra:?} came out of nothing");
}

async fn weather(work: Work, storm: Storm, seed: u64) {
    let when = format!("{work:?} in a storm of {storm:?}, seed {seed}");
    let mut stage = Stage::new(seed).await;
    let mut dice = Dice::new(seed);
    let mut gone = BTreeSet::new();
    // So that there is something to restore.
    let (entity, ids, count) = (CONTACT, Vec::new(), 30);
    stage.portal.happens(Action::Delete { entity, ids, count });
    if work.needs_an_equal_mirror() {
        fill(&mut stage).await.unwrap();
    }
    work.prepare(&stage).await;
    let cost = |seconds| {
        let cost = Cost { seconds, real: true, ..Cost::default() };
        stage.portal.happens(Action::Cost { method: "crm.contact.list".to_owned(), cost });
    };
    cost(PAGE_SECONDS);
    let outcome = tokio::select! {
        outcome = run(work, &stage, false) => outcome,
        () = rage(&stage, storm, &mut dice, &mut gone) => unreachable!("it rages for ever"),
    };
    assert_eq!(outcome.verdict, Verdict::Complete, "{when}: {}", outcome.line);
    cost(0.0);

    // What happened in the last moments is for the next cycle.
    let outcome = run(Work::Incremental, &stage, false).await;
    assert_eq!(outcome.verdict, Verdict::Complete, "{when}: {}", outcome.line);
    every_record_is_there(&stage, &gone, &when).await;
    if storm == Storm::UserFields {
        let session = stage.session(false).await;
        let outcome = session.backfill(&Stage::entities(), true).await.pop().unwrap();
        session.close().await;
        assert_eq!(outcome.verdict(), Verdict::Complete, "{when}: {}", outcome.line());
    }
    equal_but_for(&gone, &stage.portal, stage.database.pool(), Instant::now()).await;
    assert_eq!(stage.set_aside().await, Vec::<i64>::new(), "{when}");
    assert_eq!(stage.tombstones().await, Vec::<i64>::new(), "{when}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_changes_between_two_pages_no_record_is_missed() {
    let seeds = if long() { 100 } else { 3 };
    for seed in 1..=seeds {
        for work in [Work::Backfill, Work::Incremental] {
            for storm in [Storm::Records, Storm::UserFields] {
                weather(work, storm, seed).await;
            }
        }
    }
    eprintln!("{} storms", seeds * 4);
}
