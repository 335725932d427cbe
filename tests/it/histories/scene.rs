//! A portal whose time stands still until it is told to pass, and the clock of the
//! mirror's database beside it.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use b24mirror::{
    entity::{
        ACTIVITIES, COMPANIES, CONTACTS, DEALS, Dialect, Entity, LEADS, MAIL_RECIPIENTS, QUOTES,
        SMART_INVOICES, smart_process,
    },
    simulator::{
        self, Action, Fault, FaultKind, Filtering, GatewayOptions, Options, UserFieldType,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::PgPool;

use super::Subject;
use super::history::{Event, Failure, Setup, Who, Zone};
use crate::support::{TestPortal, equal::family, unlimited};

/// Sets the database's clock, which never falls back.
const SET_CLOCK: &str = "select setval('passage.clock', greatest(last_value, $1)) \
                         from passage.clock";

/// The portal of one history and what has happened to it.
pub(super) struct Scene {
    pub(super) portal: TestPortal,
    /// What is mirrored.
    pub(super) entity: &'static Entity,
    /// What it happens to.
    records: &'static Entity,
    pub(super) dialect: Dialect,
    /// Whether the records are mirrored with their product rows.
    pub(super) sells: bool,
    pool: PgPool,
    overlap: u16,
    told: Mutex<Told>,
}

/// What a history has to remember.
#[derive(Default)]
struct Told {
    passed: Duration,
    /// Records that were made, in that order.
    made: Vec<i64>,
    /// Records of which something became visible late.
    late: BTreeSet<i64>,
    jumped: Option<Duration>,
    /// Cycles that were completed since then.
    looks: u32,
    wild: bool,
    /// Rows of one answer have moved up while the gateway was putting it together.
    moved_up: bool,
    fields: usize,
}

impl Scene {
    pub(super) fn new(setup: &Setup, subject: Subject, pool: &PgPool) -> Self {
        let moment = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let before =
            |switch: &str, seconds: u16| moment(switch) - TimeDelta::seconds(seconds.into());
        let (zone, clock) = match setup.zone {
            Zone::Moscow => ("Europe/Moscow", moment("2026-03-10T09:00:00Z")),
            Zone::BeforeAutumn(seconds) => {
                ("Europe/Berlin", before("2026-10-25T01:00:00Z", seconds))
            }
            Zone::BeforeSpring(seconds) => {
                ("Europe/Berlin", before("2026-03-29T01:00:00Z", seconds))
            }
        };
        let entity = subject.entity(setup.leads);
        let records = subject.records(setup.leads);
        let count = |wanted: &Entity| if records == wanted { setup.records } else { 0 };
        let options = Options {
            contacts: count(&CONTACTS),
            leads: count(&LEADS),
            companies: count(&COMPANIES),
            deals: count(&DEALS),
            quotes: count(&QUOTES),
            smart_invoices: count(&SMART_INVOICES),
            projects: count(smart_process(128).unwrap()),
            equipment: count(smart_process(1036).unwrap()),
            activities: count(&ACTIVITIES),
            recipients: count(&MAIL_RECIPIENTS),
            seed: setup.seed,
            gaps: setup.gaps,
            malformed: 20,
            zone: zone.parse().unwrap(),
            clock: Some(clock),
            still: true,
            gateway: gateway(setup.seed),
            ..unlimited()
        };
        let portal = TestPortal::with(options);
        if entity.smart_process().is_some() {
            // Whether or not it begins with records.
            portal.happens(Action::SmartProcess { entity: family(entity), exists: true });
        }
        Self {
            portal,
            entity,
            records,
            dialect: subject.dialect(),
            sells: subject.sells(),
            pool: pool.clone(),
            overlap: setup.overlap,
            told: Mutex::default(),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// What it happens to, as the simulator calls it.
    pub(super) fn family(&self) -> simulator::Entity {
        family(self.records)
    }

    /// Whether the steps of records are mirrored, and not the records.
    pub(super) fn walks(&self) -> bool {
        self.records != self.entity
    }

    /// Whether the address book is mirrored.
    pub(super) fn is_book(&self) -> bool {
        self.entity.is_read_whole()
    }

    /// The overlap.
    pub(super) fn overlap(&self) -> Duration {
        Duration::from_secs(self.overlap.into())
    }

    /// Records of which something became visible late.
    pub(super) fn late(&self) -> BTreeSet<i64> {
        self.told().late.clone()
    }

    /// Whether the clock jumped at any time.
    pub(super) fn is_wild(&self) -> bool {
        self.told().wild
    }

    /// Whether cycles may have missed changes.
    pub(super) fn may_have_missed(&self) -> bool {
        let told = self.told();
        told.wild || told.moved_up
    }

    /// Lets time pass for the portal and for the database.
    pub(super) async fn pass(&self, millis: u32) {
        let time = Duration::from_millis(millis.into());
        let passed = {
            let mut told = self.told();
            told.passed += time;
            told.passed
        };
        self.portal.happens(Action::Pass { seconds: time.as_secs_f64() });
        let micros = i64::try_from(passed.as_micros()).unwrap();
        sqlx::query(SET_CLOCK).bind(micros).execute(&self.pool).await.unwrap();
    }

    /// Lets something happen now.
    pub(super) fn happen(&self, event: &Event) {
        for action in self.actions(event) {
            let late = matches!(
                action,
                Action::Create { visible_after, .. }
                    | Action::Change { visible_after, .. }
                    | Action::Restore { visible_after, .. }
                    | Action::Import { visible_after, .. } if visible_after > 0.0
            );
            let makes = matches!(
                action,
                Action::Create { .. } | Action::Restore { .. } | Action::Import { .. }
            );
            // Impossible, such as an edit of a record that is gone.
            let Ok(outcome) = self.portal.apply(action) else { continue };
            let mut told = self.told();
            if late {
                told.late.extend(&outcome.ids);
            }
            if makes {
                told.made.extend(&outcome.ids);
            }
        }
    }

    /// Lets something happen when so many more lists have been answered.
    pub(super) fn happen_between(&self, commands: u16, event: &Event) {
        for action in self.actions(event) {
            // A gateway reads the portal's pages by their offsets.
            let behind_gateway = self.dialect == Dialect::Vibecode;
            if behind_gateway && matches!(action, Action::Delete { .. } | Action::Merge { .. }) {
                self.told().moved_up = true;
            }
            let (commands, then) = (u64::from(commands) + 1, Box::new(action));
            self.portal.happens(if self.is_book() {
                Action::AfterPages { pages: commands, then }
            } else {
                Action::After { commands, then }
            });
        }
    }

    /// Lets the portal fail once, after so many requests or lists.
    pub(super) fn fail(&self, after: u16, failure: Failure) {
        if self.is_book() || self.dialect == Dialect::Vibecode {
            self.fail_alone(after, failure);
            return;
        }
        let list = match self.dialect {
            Dialect::Classic => self.entity.classic.unwrap().list,
            Dialect::Item | Dialect::Vibecode => "crm.item.list",
        };
        let fault = match failure {
            Failure::Gateway => Fault::once("batch", FaultKind::Html { status: 502 }),
            Failure::Cut => Fault::once("batch", FaultKind::Cut { bytes: 200 }),
            Failure::Reset => Fault::once("batch", FaultKind::Reset),
            Failure::Command => Fault::once(
                list,
                FaultKind::CommandError {
                    status: 500,
                    code: "INTERNAL_SERVER_ERROR".to_owned(),
                    description: "Internal server error".to_owned(),
                },
            ),
        };
        self.portal.fault(fault.after(after.into()));
    }

    /// Lets a request fail once that stands in no batch.
    fn fail_alone(&self, after: u16, failure: Failure) {
        let kind = match failure {
            Failure::Gateway => FaultKind::Html { status: 502 },
            Failure::Cut => FaultKind::Cut { bytes: 200 },
            Failure::Reset => FaultKind::Reset,
            Failure::Command => FaultKind::Status {
                status: 500,
                code: "INTERNAL_ERROR".to_owned(),
                description: "Internal error".to_owned(),
            },
        };
        // A gateway is asked in two ways.
        let (method, after) = match self.entity.classic {
            Some(classic) if self.is_book() => (classic.list, after),
            _ if after.is_multiple_of(2) => ("vibecode.search", after / 2),
            _ => ("vibecode.list", after / 2),
        };
        self.portal.fault(Fault::once(method, kind).after(after.into()));
    }

    /// What waits for more lists or requests does not happen any more.
    pub(super) fn forget_between(&self) {
        self.portal.happens(Action::ClearFaults);
    }

    fn who(&self, who: Who) -> (Vec<i64>, u64) {
        let ids = || self.portal.ids(self.family());
        let newest = |count: usize| {
            let ids = ids();
            ids[ids.len().saturating_sub(count)..].to_vec()
        };
        let chosen = match who {
            Who::Newest(count) => newest(count),
            Who::LastPage => newest(50),
            Who::Oldest(count) => ids().into_iter().take(count).collect(),
            Who::All => ids(),
            Who::Made(but) => self.told().made.iter().rev().nth(but).copied().into_iter().collect(),
            Who::Some(count) => return (Vec::new(), count),
        };
        // None and a count would mean any.
        (chosen, 0)
    }

    fn actions(&self, event: &Event) -> Vec<Action> {
        if self.is_book() {
            return self.book_actions(event);
        }
        let entity = self.family();
        let after = |late: u8| f64::from(self.overlap) * f64::from(late) / 100.0;
        let each = |who: Who, action: &dyn Fn(i64) -> Action| {
            let (ids, count) = self.who(who);
            let ids = if count > 0 { self.who(Who::Oldest(2)).0 } else { ids };
            ids.into_iter().take(3).map(action).collect::<Vec<_>>()
        };
        match *event {
            Event::Create { count, late } => {
                vec![Action::Create { entity, count, visible_after: after(late) }]
            }
            Event::Edit { who, late: 0 } if self.walks() => {
                let (ids, count) = self.who(who);
                vec![Action::MoveStage { entity, ids, count, stage: None }]
            }
            Event::Edit { who, late } => {
                let (ids, count) = self.who(who);
                vec![Action::Change { entity, ids, count, visible_after: after(late) }]
            }
            Event::Phones { who, count } if self.sells => each(who, &|id| {
                // Which rows there are, and what they cost, changes each time.
                let price = self.told().passed.as_millis();
                let row = |number| (format!("{number}"), format!("{price}.5"), "2".to_owned());
                let products = (0..u128::from(count)).map(|one| row((one + price) % 7)).collect();
                Action::SetProducts { entity, id, products }
            }),
            Event::Phones { who, .. } if self.walks() => {
                each(who, &|id| Action::MoveStage { entity, ids: vec![id], count: 0, stage: None })
            }
            // Nobody calls a deal.
            Event::Phones { who, .. }
                if self.entity.multi_fields.iter().all(|one| !one.is_phone()) =>
            {
                each(who, &|id| Action::Change {
                    entity,
                    ids: vec![id],
                    count: 0,
                    visible_after: 0.0,
                })
            }
            Event::Phones { who, count } => each(who, &|id| {
                let value = |number| (format!("+7 495 {number:03}-00-{id}"), "WORK".to_owned());
                let values = (0..count).map(value).collect();
                Action::SetMulti { entity, id, field: "PHONE".to_owned(), values }
            }),
            Event::Activity { who } => {
                each(who, &|id| Action::Activity { entity, id, bumps: true })
            }
            Event::Delete { who } => {
                let (ids, count) = self.who(who);
                vec![Action::Delete { entity, ids, count }]
            }
            Event::Restore { count, late } => {
                vec![Action::Restore { entity, ids: Vec::new(), count, visible_after: after(late) }]
            }
            Event::Merge { count } => vec![Action::Merge { entity, ids: Vec::new(), count }],
            Event::Import { count, days, late } => {
                vec![Action::Import { entity, count, days, visible_after: after(late) }]
            }
            Event::NewField => self.new_field(entity),
            Event::Reshuffle => vec![Action::Reshuffle],
            Event::Jump(seconds) => self.jump(seconds.into()).into_iter().collect(),
            Event::WildJump(seconds) => {
                self.told().wild = true;
                vec![self.clock_moved(seconds.into())]
            }
        }
    }

    fn new_field(&self, entity: simulator::Entity) -> Vec<Action> {
        let number = {
            let mut told = self.told();
            told.fields += 1;
            told.fields
        };
        let code = format!("UF_CRM_NEW_{number}");
        let kind = UserFieldType::String;
        let field = Action::AddUserField { entity, code: code.clone(), kind, multiple: false };
        let value = Value::String(format!("value {number}"));
        let touch = |id| Action::Touch { entity, id, field: code, value, keep_date: false };
        let newest = self.who(Who::Newest(1)).0.pop();
        std::iter::once(field).chain(newest.map(touch)).collect()
    }

    /// A cycle was completed.
    pub(super) fn looked(&self) {
        self.told().looks += 1;
    }

    /// A clock that leaves and comes back between two cycles cannot be seen by any cycle, so
    /// it has to stay for a while and for two cycles, of which one may have begun before;
    /// nor can a leap before the first of all looks.
    fn jump(&self, seconds: i64) -> Option<Action> {
        let mut told = self.told();
        let settled = |jumped| told.passed.saturating_sub(jumped) > 3 * self.overlap();
        if told.looks < 2 || !told.jumped.is_none_or(settled) {
            return None;
        }
        told.looks = 0;
        told.jumped = Some(told.passed);
        Some(self.clock_moved(seconds))
    }

    fn clock_moved(&self, seconds: i64) -> Action {
        let to = DateTime::from_timestamp(self.portal.now() + seconds, 0).unwrap();
        Action::SetClock { to: to.to_rfc3339() }
    }
}

/// What a gateway's vendor leaves open, as a seed decides.
fn gateway(seed: u64) -> GatewayOptions {
    let one_in = |share: u64, salt: u64| (seed + salt).is_multiple_of(share);
    let filtering = |place: u64| match place % 4 {
        0 => Filtering::Refused,
        1 => Filtering::Ignored,
        _ => Filtering::Works,
    };
    GatewayOptions {
        requests_per_minute: None,
        modified: Some(if one_in(2, 0) { "updatedAt" } else { "updatedTime" }.to_owned()),
        date_filter: filtering(seed / 2),
        names_fm: one_in(3, 0),
        leaves_out_empty_fm: one_in(3, 1),
        list_filter: filtering(seed / 8),
        loses_order: one_in(5, 0),
        caps_total: false,
        search_without_meta: one_in(2, 1),
        plain_fields: !one_in(7, 0),
        ..GatewayOptions::default()
    }
}
