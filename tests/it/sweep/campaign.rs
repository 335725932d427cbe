//! Many sweeps of a small portal that is being worked in, under faults of every kind: none
//! may take a record for deleted that is there.

use std::{collections::BTreeSet, time::Duration};

use b24mirror::{
    entity::{CONTACTS, Entity, LEADS},
    portal::{Limits, Portal, PortalOptions, WebhookUrl},
    reporting::ReportOptions,
    retry::RetryPolicy,
    simulator::{self, Action, Fault, FaultKind, Options},
    store::{Store, StoreOptions, Verdict},
    sync::{CheckOptions, Mirrored, Opened, Session, SyncOptions, Work},
};
use tokio_util::sync::CancellationToken;

use super::{ids, unlimited};
use crate::support::{Database, Dice, TestPortal, assert_equal, database};

const FREE: Limits = Limits { requests_per_second: 1_000.0, burst: 10_000, operating: None };

/// How long the simulator's hangs last for the client.
const TIMEOUT: Duration = Duration::from_millis(400);

/// Sweeps in a campaign; ten thousand with `B24MIRROR_CAMPAIGN=long`, or as many as it says.
fn sweeps() -> u64 {
    match std::env::var("B24MIRROR_CAMPAIGN").as_deref() {
        Ok("long") => 10_000,
        Ok(number) => number.parse().unwrap(),
        Err(_) => 100,
    }
}

/// A family of records, as it really is.
struct Family {
    entity: &'static Entity,
    simulated: simulator::Entity,
    there: BTreeSet<i64>,
    /// What was there when the sweep under way began, and what was created or restored since.
    /// It promises nothing about what went after that.
    begun: BTreeSet<i64>,
    born: BTreeSet<i64>,
    /// Whether an answer has left out records since then that the mirror may lack.
    hidden: bool,
}

impl Family {
    fn of(portal: &TestPortal, entity: &'static Entity, simulated: simulator::Entity) -> Self {
        let there: BTreeSet<i64> = portal.truth(entity).iter().map(|record| record.id).collect();
        let (begun, born) = (there.clone(), BTreeSet::new());
        Self { entity, simulated, there, begun, born, hidden: false }
    }

    /// Remembers what there is, unless a sweep goes on that began earlier.
    async fn before(&mut self, store: &Store) {
        if store.sweep_standing(self.entity).await.unwrap().under_way.is_none() {
            self.begun.clone_from(&self.there);
            self.born.clear();
            self.hidden = false;
        }
    }

    /// Lets something happen to it; the number of records stays about the same.
    fn happens(&mut self, portal: &TestPortal, dice: &mut Dice) {
        let (entity, ids) = (self.simulated, Vec::new());
        // Now and then more than a sweep may delete unasked.
        let count = if dice.below(40) == 0 { 45 } else { 1 + dice.below(6) };
        let grows = self.there.len() < 150 || dice.below(2) == 0 && self.there.len() < 250;
        let action = match (grows, dice.below(3)) {
            (true, 0) => Action::Create { entity, count, visible_after: 0.0 },
            (true, 1) => Action::Import { entity, count, days: 40, visible_after: 0.0 },
            (true, _) => Action::Restore { entity, ids, count, visible_after: 0.0 },
            (false, 0) => Action::Merge { entity, ids, count: count + 1 },
            (false, 1) => Action::Delete { entity, ids, count },
            (false, _) => Action::Change { entity, ids, count, visible_after: 0.0 },
        };
        let outcome = portal.happens(action);
        self.born.extend(outcome.ids.iter().filter(|id| !self.there.contains(id)));
        self.there.extend(outcome.ids);
        for gone in outcome.gone {
            self.there.remove(&gone);
        }
    }

    async fn live(&self, database: &Database) -> BTreeSet<i64> {
        let table = self.entity.name;
        let live = format!("select id from bitrix24.{table} where deleted_at is null");
        ids(database.pool(), &live).await
    }

    async fn set_aside(&self, database: &Database) -> BTreeSet<i64> {
        let entity = self.entity.name;
        let undeliverable = format!(
            "select record_id from bitrix24.sync_quarantine \
             where entity = '{entity}' and reason = 'undeliverable' and resolved_at is null"
        );
        ids(database.pool(), &undeliverable).await
    }

    async fn deleted(&self, database: &Database) -> BTreeSet<i64> {
        let table = self.entity.name;
        let deleted = format!("select id from bitrix24.{table} where deleted_at is not null");
        ids(database.pool(), &deleted).await
    }
}

/// Something that goes wrong with one of the next requests or commands.
fn fault(dice: &mut Dice, hides: &mut bool) -> Fault {
    let status = |status, code: &str| FaultKind::Status {
        status,
        code: code.to_owned(),
        description: String::new(),
    };
    let command = |code: &str| FaultKind::CommandError {
        status: 400,
        code: code.to_owned(),
        description: String::new(),
    };
    let kind = match dice.below(14) {
        0 => FaultKind::Html { status: 502 },
        1 => FaultKind::Html { status: 200 },
        2 => FaultKind::Cut { bytes: usize::try_from(dice.below(4_000)).unwrap() },
        3 => FaultKind::Empty,
        4 => FaultKind::Reset,
        5 => status(500, "INTERNAL_SERVER_ERROR"),
        // Everybody gives way for seconds then.
        6 if dice.below(40) == 0 => status(503, "QUERY_LIMIT_EXCEEDED"),
        6 => status(200, "ERROR_UNEXPECTED_ANSWER"),
        7 => status(403, "ACCESS_DENIED"),
        8 => command("ERROR_CORE"),
        9 => command("INTERNAL_SERVER_ERROR"),
        10 => FaultKind::IgnoreFilter,
        11 if dice.below(8) == 0 => FaultKind::Hang,
        // Two answers that lie in the same way are beyond all proof.
        12 if !*hides => {
            *hides = true;
            FaultKind::HideRows { every: 2 + dice.below(4) }
        }
        _ => FaultKind::HideRows { every: 1 },
    };
    let of_commands = matches!(
        kind,
        FaultKind::CommandError { .. } | FaultKind::IgnoreFilter | FaultKind::HideRows { .. }
    );
    let lies = matches!(kind, FaultKind::HideRows { every } if every > 1);
    let (method, skip) = if of_commands {
        let list = ["crm.contact.list", "crm.lead.list"][usize::try_from(dice.below(2)).unwrap()];
        (list, dice.below(12))
    } else {
        ("batch", dice.below(5))
    };
    let count = if lies { 1 } else { 1 + dice.below(3) };
    Fault::times(method, count, kind).after(skip)
}

struct Stage {
    portal: TestPortal,
    database: Database,
    store: Store,
    session: Box<Session>,
}

async fn stage() -> Stage {
    let portal = TestPortal::with(Options { contacts: 200, leads: 180, ..unlimited() });
    let database = database().await;
    let store = Store::connect(&StoreOptions {
        url: database.url(),
        schema: "bitrix24".parse().unwrap(),
        max_connections: 6,
        application_name: "sweeps".to_owned(),
    })
    .await
    .unwrap();
    store.migrate().await.unwrap();
    let retry = RetryPolicy::new(3, Duration::from_millis(1), Duration::from_millis(4)).unwrap();
    let client = Portal::new(PortalOptions {
        credentials: WebhookUrl::parse(&portal.webhook_url()).unwrap().into(),
        timeout: TIMEOUT,
        max_body: 32 << 20,
        ca_file: None,
        limits: FREE,
        retry,
    })
    .unwrap();
    let options = SyncOptions {
        board: b24mirror::sync::ProgressBoard::default(),
        entities: Entity::BY_DEFAULT
            .into_iter()
            .map(|entity| Mirrored::new(entity, Duration::from_secs(1)))
            .collect(),
        overlap: Duration::from_secs(10),
        max_in_flight: 4,
        dictionary_interval: Duration::from_hours(1),
        checks: CheckOptions { max_delete_share: 0.1, ..CheckOptions::default() },
        reports: ReportOptions::default(),
        retry,
        holder: "sweeps".to_owned(),
    };
    match Session::open(&store, &client, &options, &CancellationToken::new()).await.unwrap() {
        Opened::Session(session) => Stage { portal, database, store, session },
        Opened::HeldBy { holder, .. } => panic!("held by {holder}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeps_under_injected_faults_set_no_false_tombstone() {
    let Stage { portal, database, store, session } = stage().await;
    for ending in
        session.perform(&Work::Backfill { restart: false }, &Entity::BY_DEFAULT, &[]).await
    {
        assert_eq!(ending.verdict, Verdict::Complete, "{}", ending.line);
    }
    let mut families = [
        Family::of(&portal, &CONTACTS, simulator::Entity::Contacts),
        Family::of(&portal, &LEADS, simulator::Entity::Leads),
    ];
    let mut dice = Dice::new(20_261_121);
    let (mut complete, mut incomplete, mut stopped, mut accepted) = (0_u64, 0_u64, 0_u64, 0_u64);
    for round in 0..sweeps() / 2 {
        for family in &mut families {
            for _ in 0..dice.below(4) {
                family.happens(&portal, &mut dice);
            }
        }
        for family in &mut families {
            family.before(&store).await;
        }
        let mut hides = false;
        let faults: Vec<Fault> = (0..dice.below(4)).map(|_| fault(&mut dice, &mut hides)).collect();
        for fault in &faults {
            portal.fault(fault.clone());
        }
        for family in &mut families {
            family.hidden |= hides;
        }
        // What a sweep refused is accepted in one round, and swept again in another.
        let mut accept = None;
        for family in &families {
            let refused = store.sweep_standing(family.entity).await.unwrap().refused;
            accept = accept.or(refused.map(|refusal| refusal.run)).filter(|_| dice.below(2) == 0);
        }
        accepted += u64::from(accept.is_some());
        let (work, pause) = (Work::Sweep { accept }, Duration::from_micros(dice.below(20_000)));
        let (endings, ()) = tokio::join!(session.perform(&work, &Entity::BY_DEFAULT, &[]), async {
            tokio::time::sleep(pause).await;
            for family in &mut families {
                family.happens(&portal, &mut dice);
            }
        });
        let lines: Vec<&str> = endings.iter().map(|ending| ending.line.as_str()).collect();
        let context = format!("round {round}: {faults:?}: {lines:#?}");
        for family in &families {
            let entity = family.entity;
            let ending = endings.iter().find(|ending| ending.entity == entity).unwrap();
            let deleted = family.deleted(&database).await;
            let wrong: Vec<&i64> = deleted.intersection(&family.there).collect();
            assert!(wrong.is_empty(), "{wrong:?} of {} are there. {context}", entity.name);
            match ending.verdict {
                Verdict::Complete => complete += 1,
                Verdict::Stopped => stopped += 1,
                _ => incomplete += 1,
            }
            if ending.verdict != Verdict::Complete || accept.is_some() {
                continue;
            }
            let live = family.live(&database).await;
            let unknown = |id: &&i64| !family.begun.contains(id) && !family.born.contains(id);
            let left: Vec<&i64> = live.iter().filter(unknown).collect();
            assert!(left.is_empty(), "{left:?} of {} are gone. {context}", entity.name);
            // What went and came back may have been away when its turn came.
            let stayed = family.begun.intersection(&family.there);
            let stayed = stayed.filter(|id| !family.born.contains(id));
            // What failed whenever it was asked for alone is told of in the quarantine.
            let aside = family.set_aside(&database).await;
            let unseen = |id: &&i64| !live.contains(id) && !aside.contains(id);
            let missing: Vec<&i64> = stayed.filter(unseen).collect();
            let lacks = !missing.is_empty() && !family.hidden;
            assert!(!lacks, "{missing:?} of {} lack. {context}", entity.name);
        }
        portal.happens(Action::ClearFaults);
    }
    println!(
        "{} sweeps: {complete} complete, {incomplete} incomplete, {stopped} stopped, \
         {accepted} rounds accepted a refusal",
        complete + incomplete + stopped
    );
    assert!(complete > 0 && incomplete > 0, "{complete} complete, {incomplete} incomplete");
    // The first may still find what a lie has left, and the second refuse; then all is settled.
    for settled in [false, false, true] {
        session.perform(&Work::Sync, &Entity::BY_DEFAULT, &[]).await;
        for ending in session.perform(&Work::Sweep { accept: None }, &Entity::BY_DEFAULT, &[]).await
        {
            assert!(!settled || ending.verdict == Verdict::Complete, "{}", ending.line);
        }
        for family in &families {
            if let Some(refusal) = store.sweep_standing(family.entity).await.unwrap().refused {
                let accept = Work::Sweep { accept: Some(refusal.run) };
                session.perform(&accept, &[family.entity], &[]).await;
            }
        }
    }
    assert_equal(&portal, database.pool()).await;
    session.close().await;
}
