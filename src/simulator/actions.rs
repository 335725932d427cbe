//! What tests and people can do to a portal, and the switches among it.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::applications::ApplicationEvent;
use super::clock::local_to_unix;
use super::entity::Entity;
use super::faults::{Fault, Poison};
use super::limits::{BucketLimit, OperatingLimit};
use super::portal::{Cost, Portal, Rights};
use super::undocumented::Undocumented;
use super::user_fields::{UserField, UserFieldType, initial_options};

/// Something that happens to the portal. In JSON: `{"action": "change", …}`.
///
/// Where `ids` is empty, `count` random records are taken. `visible_after`
/// seconds make a write late: its time of modification is that of the action,
/// but lists show it only then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Action {
    /// New records.
    Create {
        /// The family.
        entity: Entity,
        /// How many.
        #[serde(default = "one")]
        count: u64,
        /// Seconds until lists show them.
        #[serde(default)]
        visible_after: f64,
    },
    /// Changed records, each in its own random way, all in the same second.
    Change {
        /// The family.
        entity: Entity,
        /// The records; random ones if empty.
        #[serde(default)]
        ids: Vec<i64>,
        /// How many random ones.
        #[serde(default = "one")]
        count: u64,
        /// Seconds until lists show the change.
        #[serde(default)]
        visible_after: f64,
    },
    /// One field set to a raw value, readable or not.
    Touch {
        /// The family.
        entity: Entity,
        /// The record.
        id: i64,
        /// `NAME`, `UF_CRM_…`; not `ID`.
        field: String,
        /// Sent exactly so.
        value: Value,
        /// Leaves `DATE_MODIFY` as it was, as some direct writes do.
        #[serde(default)]
        keep_date: bool,
    },
    /// One documented field of a record left out of its rows.
    Omit {
        /// The family.
        entity: Entity,
        /// The record.
        id: i64,
        /// `NAME`, `PHOTO`, …; not `ID`.
        field: String,
    },
    /// All values of a multi-field replaced; an empty list removes the key.
    SetMulti {
        /// The family.
        entity: Entity,
        /// The record.
        id: i64,
        /// `PHONE`, `EMAIL`, `WEB`, `IM` or `LINK`.
        field: String,
        /// Pairs of value and value type; values that exist keep their id.
        values: Vec<(String, String)>,
    },
    /// All links of one kind replaced, the primary one first.
    SetLinks {
        /// The family.
        entity: Entity,
        /// The record.
        id: i64,
        /// `COMPANY_IDS`, `CONTACT_IDS` or `OBSERVERS`.
        field: String,
        /// Other records, or users.
        ids: Vec<i64>,
        /// Leaves `DATE_MODIFY` as it was, as a change from the other side does.
        #[serde(default)]
        keep_date: bool,
    },
    /// Records moved to another stage.
    MoveStage {
        /// The family.
        entity: Entity,
        /// The records; random ones if empty.
        #[serde(default)]
        ids: Vec<i64>,
        /// How many random ones.
        #[serde(default = "one")]
        count: u64,
        /// The stage's code, of any pipeline; the next one if absent.
        #[serde(default)]
        stage: Option<String>,
    },
    /// All product rows of a record replaced.
    SetProducts {
        /// The family.
        entity: Entity,
        /// The record.
        id: i64,
        /// Name, price and quantity; a row whose name exists keeps its number.
        products: Vec<(String, String, String)>,
    },
    /// A new activity: sets `LAST_ACTIVITY_TIME`.
    Activity {
        /// The family.
        entity: Entity,
        /// The record.
        id: i64,
        /// Whether it moves `DATE_MODIFY`; portals differ.
        bumps: bool,
    },
    /// Records into the recycle bin.
    Delete {
        /// The family.
        entity: Entity,
        /// The records; random ones if empty.
        #[serde(default)]
        ids: Vec<i64>,
        /// How many random ones.
        #[serde(default = "one")]
        count: u64,
    },
    /// Records back from the bin: new ids, old dates.
    Restore {
        /// The family.
        entity: Entity,
        /// The ids that they had; random deleted ones if empty.
        #[serde(default)]
        ids: Vec<i64>,
        /// How many random ones.
        #[serde(default = "one")]
        count: u64,
        /// Seconds until lists show them.
        #[serde(default)]
        visible_after: f64,
    },
    /// Duplicates merged: the first id survives and is changed, the others go.
    Merge {
        /// The family.
        entity: Entity,
        /// Survivor and losers; random ones if empty.
        #[serde(default)]
        ids: Vec<i64>,
        /// How many random ones, survivor included.
        #[serde(default = "three")]
        count: u64,
    },
    /// New records with old times.
    Import {
        /// The family.
        entity: Entity,
        /// How many.
        #[serde(default = "one")]
        count: u64,
        /// Days by which their `DATE_MODIFY` is old.
        #[serde(default = "month")]
        days: u32,
        /// Seconds until lists show them.
        #[serde(default)]
        visible_after: f64,
    },
    /// A new user field, empty in every record.
    AddUserField {
        /// The family.
        entity: Entity,
        /// `UF_CRM_…`
        code: String,
        /// Its type.
        kind: UserFieldType,
        /// Whether it takes several values.
        #[serde(default)]
        multiple: bool,
    },
    /// A user field's label changes.
    RenameUserField {
        /// The family.
        entity: Entity,
        /// The field.
        code: String,
        /// The new label.
        label: String,
    },
    /// A user field's type changes; the values stay.
    RetypeUserField {
        /// The family.
        entity: Entity,
        /// The field.
        code: String,
        /// The new type.
        kind: UserFieldType,
    },
    /// A user field goes, with its values.
    RemoveUserField {
        /// The family.
        entity: Entity,
        /// The field.
        code: String,
    },
    /// An enumeration's element is renamed, or goes if there is no text.
    SetOption {
        /// The family.
        entity: Entity,
        /// The field.
        code: String,
        /// The element.
        option: i64,
        /// The new text.
        text: Option<String>,
    },
    /// A new entry of a directory.
    AddStatus {
        /// `STATUS`, `SOURCE`, …
        directory: String,
        /// What records hold.
        code: String,
        /// What people see.
        name: String,
    },
    /// An entry of a directory is renamed.
    RenameStatus {
        /// The directory.
        directory: String,
        /// The entry.
        code: String,
        /// The new name.
        name: String,
    },
    /// An entry of a directory goes; records keep its code.
    RemoveStatus {
        /// The directory.
        directory: String,
        /// The entry.
        code: String,
    },
    /// A pipeline is renamed.
    RenamePipeline {
        /// What its records are.
        entity: Entity,
        /// Which.
        id: i64,
        /// The new name.
        name: String,
    },
    /// A pipeline is no longer listed; records keep its ID.
    RemovePipeline {
        /// What its records are.
        entity: Entity,
        /// Which.
        id: i64,
    },
    /// A new colleague; the outcome has the id.
    AddUser {
        /// First name.
        name: String,
        /// Last name.
        last_name: String,
    },
    /// Somebody may no longer log in, and is still listed.
    DismissUser {
        /// Who.
        id: i64,
    },
    /// Leaves somebody out of `user.get`, as bots and mail users are, or lists them again.
    HideUser {
        /// Who.
        id: i64,
        /// Whether they are left out.
        hidden: bool,
    },
    /// A new entry of the mail address book, at its front; the outcome has the id.
    AddRecipient {
        /// The address.
        email: String,
        /// The name.
        name: String,
    },
    /// An entry of the address book is changed where it stands.
    ChangeRecipient {
        /// Which one.
        id: i64,
        /// The new address, if it has one.
        #[serde(default)]
        email: Option<String>,
        /// The new name, if it has one.
        #[serde(default)]
        name: Option<String>,
    },
    /// Entries of the address book go.
    RemoveRecipient {
        /// Which ones.
        ids: Vec<i64>,
    },
    /// An entry of the address book is used, and moves to its front.
    TouchRecipient {
        /// Which one.
        id: i64,
    },
    /// An entry of the address book is listed exactly so, or properly again.
    GarbleRecipient {
        /// Which one.
        id: i64,
        /// What is listed.
        row: Option<Value>,
    },
    /// What the webhook's user may read.
    Rights {
        /// The family.
        entity: Entity,
        /// From now on.
        rights: Rights,
    },
    /// Revokes the webhook, or brings it back.
    Webhook {
        /// Whether calls are refused.
        revoked: bool,
    },
    /// Something happens to the application.
    Application {
        /// What.
        event: ApplicationEvent,
    },
    /// The portal gets another host; any other is answered with a redirect from now on.
    Rename {
        /// Another name for the simulator's address, such as `localhost:port`.
        host: String,
    },
    /// The webhook's scopes, and the application's.
    Scopes {
        /// From now on.
        scopes: Vec<String>,
    },
    /// People make a smart process, or remove it with its records. Its table here stays for the
    /// next one of that number.
    SmartProcess {
        /// The family; no other can be made.
        entity: Entity,
        /// Whether there is such a process from now on.
        exists: bool,
    },
    /// Whether the webhook's user is an administrator.
    Admin {
        /// From now on.
        admin: bool,
    },
    /// Sets the clock; it runs on from there.
    SetClock {
        /// RFC 3339, or local time without an offset.
        to: String,
    },
    /// Sets the clock's difference to the real one.
    ShiftClock {
        /// Seconds ahead.
        seconds: f64,
    },
    /// Lets time pass at once: late writes come due, and the clock has moved on.
    Pass {
        /// How much.
        seconds: f64,
    },
    /// Lets something happen between two commands of a batch; what is impossible then
    /// is left undone.
    After {
        /// Commands of record lists that are answered before it.
        commands: u64,
        /// What happens.
        then: Box<Action>,
    },
    /// The same between two pages of the lists that explain codes, or of the address book.
    AfterPages {
        /// Pages of them that are answered before it.
        pages: u64,
        /// What happens.
        then: Box<Action>,
    },
    /// Switches the zone; stored times stay the wall-clock times that they are.
    SetZone {
        /// An IANA name.
        zone: String,
    },
    /// Time before each request is looked at.
    Latency {
        /// Milliseconds.
        millis: u64,
    },
    /// What a method's commands cost.
    Cost {
        /// A method, or `*` for those without a cost of their own.
        method: String,
        /// The cost.
        cost: Cost,
    },
    /// The operating limit; none if absent. Forgets what was booked.
    Operating {
        /// From now on.
        limit: Option<OperatingLimit>,
    },
    /// The request limit; none if absent. Empties the buckets.
    Bucket {
        /// From now on.
        limit: Option<BucketLimit>,
    },
    /// Queues a fault.
    Fault {
        /// The fault.
        fault: Fault,
    },
    /// Forgets all queued faults, poison, and what was to happen between commands.
    ClearFaults,
    /// A record that breaks every full page it is on.
    Poison {
        /// The poison.
        poison: Poison,
    },
    /// How answers are written.
    Writing {
        /// Plain UTF-8 instead of escapes.
        plain_utf8: bool,
    },
    /// Another order of multi-field values.
    Reshuffle,
    /// Whether `total` is absent with `start=-1` instead of 0.
    TotalAbsent {
        /// From now on.
        absent: bool,
    },
    /// What `crm.item.list` makes of bad values: an error, or what older portals do.
    ItemReading {
        /// Whether unreadable dates are IS NULL.
        null_dates: bool,
        /// Whether arrays are cast in comparisons of ids.
        cast_arrays: bool,
    },
    /// The positions of everything else that the vendor's pages leave open.
    Undocumented {
        /// From now on; what is not named goes back to its usual position.
        positions: Undocumented,
    },
    /// Makes late writes visible now.
    Settle,
}

fn one() -> u64 {
    1
}

fn three() -> u64 {
    3
}

fn month() -> u32 {
    30
}

/// What an action did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Records that were written, in the order of the request.
    pub ids: Vec<i64>,
    /// Records that are gone.
    pub gone: Vec<i64>,
}

/// Why an action was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActionError {
    /// No live record has this id.
    #[error("there is no record {0}; take an id from the truth")]
    NoRecord(i64),
    /// Nothing was deleted under this id.
    #[error("no record {0} is in the recycle bin; delete it first")]
    NotDeleted(i64),
    /// The field does not exist or cannot be set.
    #[error("there is no field {0} that could be set; see the answer of *.fields")]
    NoField(String),
    /// The family has no such stage, or no stages at all.
    #[error("there is no stage {0}; see the answer of crm.status.list")]
    NoStage(String),
    /// No directory has such an entry.
    #[error("there is no entry {0}; see the answer of crm.status.list")]
    NoStatus(String),
    /// No records of these have such a pipeline.
    #[error("{0:?} have no pipeline {1}; see the answer of crm.category.list")]
    NoPipeline(Entity, i64),
    /// The portal never had such a user.
    #[error("there is no user {0}; see the answer of user.get")]
    NoUser(i64),
    /// The zone is not an IANA name.
    #[error("{0} is no IANA zone; write it like Europe/Moscow")]
    NoZone(String),
    /// The time cannot be read.
    #[error("{0} is no time; write it like 2024-10-27T02:59:50 or with an offset")]
    NoTime(String),
}

impl Portal {
    /// Does what an action says.
    pub(super) fn apply(&mut self, action: Action) -> Result<Outcome, ActionError> {
        self.settle();
        match action {
            Action::Create { .. }
            | Action::Change { .. }
            | Action::Touch { .. }
            | Action::Omit { .. }
            | Action::SetMulti { .. }
            | Action::SetLinks { .. }
            | Action::MoveStage { .. }
            | Action::SetProducts { .. }
            | Action::Activity { .. }
            | Action::Delete { .. }
            | Action::Restore { .. }
            | Action::Merge { .. }
            | Action::Import { .. } => self.write(action),
            Action::AddUserField { .. }
            | Action::RenameUserField { .. }
            | Action::RetypeUserField { .. }
            | Action::RemoveUserField { .. }
            | Action::SetOption { .. } => self.change_fields(action),
            Action::AddStatus { .. }
            | Action::RenameStatus { .. }
            | Action::RemoveStatus { .. }
            | Action::RenamePipeline { .. }
            | Action::RemovePipeline { .. }
            | Action::AddUser { .. }
            | Action::DismissUser { .. }
            | Action::HideUser { .. } => self.names.apply(action),
            Action::AddRecipient { .. }
            | Action::ChangeRecipient { .. }
            | Action::RemoveRecipient { .. }
            | Action::TouchRecipient { .. }
            | Action::GarbleRecipient { .. } => self.recipients.apply(action),
            other => self.switch(other).map(|()| Outcome::default()),
        }
    }

    fn switch(&mut self, action: Action) -> Result<(), ActionError> {
        match action {
            Action::Rights { entity, rights } => {
                self.rights[entity.index()] = rights;
                if rights != Rights::Full {
                    self.stats.spring(16);
                }
            }
            Action::Webhook { revoked } => self.revoked = revoked,
            Action::Application { event } => self.happen_to_application(event),
            Action::Rename { host } => self.applications.host = Some(host),
            Action::Scopes { scopes } => self.options.scopes = scopes,
            Action::Admin { admin } => self.options.admin = admin,
            Action::SmartProcess { entity, exists } => self.set_process(entity, exists),
            Action::SetClock { to } => self.clock.set(self.time(&to)? * 1_000_000),
            Action::ShiftClock { seconds } => {
                #[expect(clippy::cast_possible_truncation, reason = "a shift in microseconds")]
                self.clock.shift((seconds * 1e6) as i64);
            }
            Action::Pass { seconds } => {
                self.clock.pass(Duration::try_from_secs_f64(seconds).unwrap_or_default());
            }
            Action::After { commands, then } => self.awaited.push((commands, *then)),
            Action::AfterPages { pages, then } => self.awaited_pages.push((pages, *then)),
            Action::SetZone { zone } => {
                self.clock.zone = zone.parse::<Tz>().map_err(|_| ActionError::NoZone(zone))?;
                self.rewrite();
            }
            Action::Latency { millis } => self.latency = Duration::from_millis(millis),
            Action::Cost { method, cost } => {
                self.costs.insert(method.to_lowercase(), cost);
            }
            Action::Operating { limit } => {
                self.options.operating = limit;
                self.operating.clear();
            }
            Action::Bucket { limit } => {
                self.options.bucket = limit;
                self.buckets.clear();
            }
            Action::Fault { fault } => self.faults.queue.push(fault),
            Action::ClearFaults => {
                self.faults.queue.clear();
                self.faults.poison.clear();
                self.awaited.clear();
                self.awaited_pages.clear();
            }
            Action::Poison { poison } => self.faults.poison.push(poison),
            Action::Writing { plain_utf8 } if self.options.plain_utf8 != plain_utf8 => {
                self.options.plain_utf8 = plain_utf8;
                self.stats.spring(40);
                self.rewrite();
            }
            Action::Reshuffle => {
                self.shuffle += 1;
                self.rewrite();
            }
            Action::TotalAbsent { absent } => {
                self.options.total_absent = absent;
                self.options.item_total_zero = !absent;
            }
            Action::ItemReading { null_dates, cast_arrays } => {
                self.options.item_null_dates = null_dates;
                self.options.item_cast_arrays = cast_arrays;
            }
            Action::Undocumented { positions } => {
                self.options.undocumented = positions;
                self.rewrite();
            }
            Action::Settle => {
                for pending in &mut self.pending {
                    pending.due = 0.0;
                }
                self.settle();
            }
            _ => {}
        }
        // An offset that jumps shows in the very next answer.
        self.settle();
        Ok(())
    }

    /// A list has been answered: what waited for that happens now.
    pub(super) fn list_answered(&mut self) {
        self.answered(|portal| &mut portal.awaited);
    }

    /// A page of another list has been answered.
    pub(super) fn page_answered(&mut self) {
        self.answered(|portal| &mut portal.awaited_pages);
    }

    fn answered(&mut self, awaited: impl Fn(&mut Self) -> &mut Vec<(u64, Action)>) {
        for (left, _) in awaited(self) {
            *left = left.saturating_sub(1);
        }
        let due = awaited(self).extract_if(.., |(left, _)| *left == 0);
        for (_, action) in due.collect::<Vec<_>>() {
            // Impossible by now, such as the second deletion of one record.
            let _ = self.apply(action);
        }
    }

    fn time(&self, text: &str) -> Result<i64, ActionError> {
        if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
            return Ok(instant.timestamp());
        }
        let text_with_t = text.replace(' ', "T");
        let local = text_with_t
            .parse::<NaiveDateTime>()
            .map_err(|_| ActionError::NoTime(text.to_owned()))?;
        Ok(local_to_unix(self.clock.zone, local.and_utc().timestamp()))
    }

    fn change_fields(&mut self, action: Action) -> Result<Outcome, ActionError> {
        match action {
            Action::AddUserField { entity, code, kind, multiple } => {
                let fields = &self.user_fields[entity.index()];
                if !code.starts_with("UF_") || fields.iter().any(|field| field.code == code) {
                    return Err(ActionError::NoField(code));
                }
                let id = self.next_user_field[entity.index()];
                self.next_user_field[entity.index()] += 1;
                let field = UserField::new(id, code.clone(), kind, multiple, code);
                self.user_fields[entity.index()].push(field);
            }
            Action::RenameUserField { entity, code, label } => {
                self.user_field(entity, code)?.label = label;
            }
            Action::RetypeUserField { entity, code, kind } => {
                let field = self.user_field(entity, code)?;
                field.kind = kind;
                field.options = initial_options(kind, field.id);
            }
            Action::RemoveUserField { entity, code } => {
                self.user_field(entity, code.clone())?;
                self.user_fields[entity.index()].retain(|field| field.code != code);
            }
            Action::SetOption { entity, code, option, text } => {
                let options = &mut self.user_field(entity, code)?.options;
                options.retain(|(id, _)| *id != option);
                options.extend(text.map(|text| (option, text)));
                options.sort_by_key(|(id, _)| *id);
            }
            _ => {}
        }
        self.stats.spring(30);
        self.rewrite();
        Ok(Outcome::default())
    }

    fn user_field(&mut self, entity: Entity, code: String) -> Result<&mut UserField, ActionError> {
        self.user_fields[entity.index()]
            .iter_mut()
            .find(|field| field.code == code)
            .ok_or(ActionError::NoField(code))
    }
}
