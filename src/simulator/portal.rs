//! The portal's state, and how it executes one command.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use super::actions::Action;
use super::applications::Applications;
use super::clock::{Clock, Ticks, instant_text};
use super::dataset::{Generator, Rng, mix};
use super::entity::{Entity, FAMILIES};
use super::faults::{FaultKind, Faults};
use super::gateway::Minute;
use super::history::Step;
use super::items::{ItemRow, named_entity};
use super::limits::{Account, Booking, Buckets, Operating, RequestUse};
use super::links::Targets;
use super::names::Names;
use super::options::Options;
use super::php::{Array, Php, Writing, write_text};
use super::query::{Dialect, ItemReading, Schema};
use super::recipients::{self, Recipients};
use super::records::{Facts, Record, Table};
use super::rows::{Encoder, RowParts};
use super::stats::Stats;
use super::structure::processes;
use super::truth::{Teller, TrueRecord};
use super::user_fields::{UserField, initial_user_fields};

/// Cached rows stop growing at this many bytes.
const CACHE_BYTES: usize = 1 << 30;

/// What the webhook's user may read of an entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rights {
    /// Everything.
    #[default]
    Full,
    /// Nothing: lists answer "Access denied."
    None,
    /// All but a share (0 to 1) of the records, always the same ones.
    Without(f64),
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) text: String,
    /// Whether the code goes out as a number.
    pub(super) numeric: bool,
    /// Whether it goes out in the envelope of REST 3.0 whatever its code.
    pub(super) nested: bool,
}

impl Failure {
    pub(super) fn new(status: u16, code: &str, text: &str) -> Self {
        Self { status, code: code.to_owned(), text: text.to_owned(), numeric: false, nested: false }
    }

    /// What controllers say of parameters that are missing or of another type.
    pub(super) fn parameter(text: &str) -> Self {
        Self { numeric: true, ..Self::new(400, "100", text) }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, writing: Writing) {
        if self.nested || self.code.starts_with(recipients::CODES) {
            out.extend_from_slice(b"{\"error\":{\"code\":");
            write_text(out, &self.code, writing);
            out.extend_from_slice(b",\"message\":");
            write_text(out, &self.text, writing);
            out.extend_from_slice(b"}}");
            return;
        }
        out.extend_from_slice(b"{\"error\":");
        if self.numeric {
            out.extend_from_slice(self.code.as_bytes());
        } else {
            write_text(out, &self.code, writing);
        }
        out.extend_from_slice(b",\"error_description\":");
        write_text(out, &self.text, writing);
        out.push(b'}');
    }
}

/// A command's result.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// The JSON of `result`.
    pub(super) body: Vec<u8>,
    /// Rows of a record list: their places in the body, and their ids.
    pub(super) rows: Vec<(i64, Range<usize>)>,
    /// The step of a reference that leads to the rows, if they are not the result itself.
    pub(super) under: Option<&'static str>,
    /// The key of the id in every row, if it is there.
    pub(super) id_key: Option<&'static str>,
    pub(super) next: Option<i64>,
    pub(super) total: Option<i64>,
}

/// A command's result and its figures.
#[derive(Debug)]
pub(super) struct Executed {
    pub(super) outcome: Result<Answer, Failure>,
    pub(super) time: TimeBlock,
    /// How long the portal takes for it.
    pub(super) sleep: Duration,
}

/// The `time` of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TimeBlock {
    pub(super) start: i64,
    pub(super) finish: i64,
    pub(super) operating: Option<Account>,
}

/// What a whole HTTP request has met so far.
#[derive(Debug, Default)]
pub(super) struct RequestState {
    pub(super) used: RequestUse,
    pub(super) poison: Option<FaultKind>,
    /// The access token that it came with, unless by the webhook.
    pub(super) token: Option<String>,
    /// How many commands its batch holds.
    pub(super) commands: usize,
    /// Seconds of a batch to be booked on `batch`.
    pub(super) on_batch: f64,
}

/// The cost of a method's commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds of each command.
    pub seconds: f64,
    /// Seconds more when it counts its rows for `total`.
    #[serde(default)]
    pub count_seconds: f64,
    /// Whether the time really passes, or is merely booked.
    #[serde(default)]
    pub real: bool,
}

/// A write that is committed but not yet visible.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) due: f64,
    pub(super) entity: Entity,
    pub(super) record: Record,
}

/// The portal.
#[derive(Debug)]
pub(super) struct Portal {
    pub(super) options: Options,
    pub(super) clock: Clock,
    pub(super) tables: [Table; FAMILIES],
    pub(super) user_fields: [Vec<UserField>; FAMILIES],
    pub(super) next_user_field: [u32; FAMILIES],
    pub(super) next_value_id: i64,
    pub(super) names: Names,
    /// Stage history per family, once it was needed.
    pub(super) histories: [Option<Vec<Step>>; FAMILIES],
    pub(super) recipients: Recipients,
    pub(super) generator: Generator,
    pub(super) rights: [Rights; FAMILIES],
    /// The smart processes that people have made.
    pub(super) processes: BTreeSet<Entity>,
    pub(super) costs: BTreeMap<String, Cost>,
    pub(super) latency: Duration,
    pub(super) revoked: bool,
    pub(super) applications: Applications,
    pub(super) buckets: Buckets,
    pub(super) gateway_minute: Minute,
    /// Until when the portal has told callers not to ask.
    pub(super) quiet_until: f64,
    pub(super) operating: Operating,
    pub(super) faults: Faults,
    pub(super) stats: Stats,
    pub(super) pending: Vec<Pending>,
    /// What happens after so many more lists.
    pub(super) awaited: Vec<(u64, Action)>,
    /// What happens after so many more pages of other lists.
    pub(super) awaited_pages: Vec<(u64, Action)>,
    pub(super) rng: Rng,
    pub(super) shuffle: u64,
    /// The download address, with the webhook's secret.
    pub(super) download: String,
    /// Raised when rows are to be encoded anew.
    pub(super) epoch: u64,
    cached: usize,
    scratch: Vec<u8>,
    last_offset: i64,
    /// Latest modification that a date filter has served, per entity.
    pub(super) served_until: [i64; FAMILIES],
    /// Upper bounds on `DATE_MODIFY` that were asked for, per entity.
    pub(super) upper_bounds: [BTreeSet<i64>; FAMILIES],
}

impl Portal {
    pub(super) fn new(options: Options, ticks: Ticks) -> Self {
        let real = DateTime::from(std::time::SystemTime::now());
        let mut clock = Clock::new(ticks, real, options.zone);
        if let Some(start) = options.clock {
            clock.set(start.timestamp_micros());
        }
        let user_fields = Entity::EVERY.map(initial_user_fields);
        let mut generator = Generator {
            seed: options.seed,
            user_fields: user_fields.clone(),
            malformed: options.malformed,
            targets: Targets::default(),
        };
        let newest = options.newest(clock.now());
        let tables = Entity::EVERY.map(|entity| {
            generator.populate(entity, options.count(entity), options.gaps.min(95), newest)
        });
        generator.targets = Targets::of(&tables, options.unseen_targets);
        let next_user_field =
            user_fields.each_ref().map(|fields| u32::try_from(fields.len()).unwrap_or(0) + 1);
        Self {
            last_offset: clock.offset(),
            clock,
            tables,
            user_fields,
            next_user_field,
            next_value_id: 1 << 45,
            names: Names::new(&options),
            histories: Default::default(),
            recipients: Recipients::populate(options.seed, options.recipients),
            rng: Rng::new(mix(options.seed, 99)),
            generator,
            rights: [Rights::Full; FAMILIES],
            processes: processes(&options).collect(),
            costs: options.costs.clone(),
            latency: options.latency,
            revoked: false,
            applications: Applications::default(),
            buckets: Buckets::default(),
            gateway_minute: Minute::default(),
            quiet_until: 0.0,
            operating: Operating::default(),
            faults: Faults::default(),
            stats: Stats::default(),
            pending: Vec::new(),
            awaited: Vec::new(),
            awaited_pages: Vec::new(),
            shuffle: 0,
            download: String::new(),
            epoch: 1,
            cached: 0,
            scratch: Vec::new(),
            served_until: [i64::MIN; FAMILIES],
            upper_bounds: Default::default(),
            options,
        }
    }

    /// How answers are written now.
    pub(super) fn writing(&self) -> Writing {
        if self.options.plain_utf8 { Writing::Plain } else { Writing::Escaped }
    }

    pub(super) fn schema(&self, entity: Entity) -> Schema<'_> {
        let user_fields = &self.user_fields[entity.index()];
        Schema { entity, user_fields, clock: &self.clock, dialect: Dialect::Classic }
    }

    pub(super) fn item_schema(&self, entity: Entity, original: bool) -> Schema<'_> {
        let reading = ItemReading {
            original,
            null_dates: self.options.item_null_dates,
            cast_arrays: self.options.item_cast_arrays,
        };
        Schema { dialect: Dialect::Items(reading), ..self.schema(entity) }
    }

    pub(super) fn encoder(&self, entity: Entity) -> Encoder<'_> {
        Encoder {
            entity,
            zone: self.clock.zone,
            offset: self.last_offset,
            writing: self.writing(),
            user_fields: &self.user_fields[entity.index()],
            download: &self.download,
            shuffle: self.shuffle,
            sorted: false,
            file_keys: self.options.undocumented.file_keys,
        }
    }

    pub(super) fn facts(&self, entity: Entity, record: &Record) -> Facts {
        self.generator.facts(entity, record)
    }

    /// A record's encoded row, from the cache when it is still right.
    pub(super) fn row(&mut self, entity: Entity, id: i64) -> Option<Arc<RowParts>> {
        let record = self.tables[entity.index()].get(id)?;
        let stale = match &record.row {
            Some(row) if row.epoch == self.epoch => return Some(Arc::clone(row)),
            Some(row) => row.size(),
            None => 0,
        };
        let facts = self.facts(entity, record);
        let mut scratch = std::mem::take(&mut self.scratch);
        let record = self.tables[entity.index()].get(id)?;
        let mut parts = self.encoder(entity).parts(&mut scratch, record, &facts);
        self.scratch = scratch;
        parts.epoch = self.epoch;
        self.cached = self.cached.saturating_sub(stale) + parts.size();
        let row = Arc::new(parts);
        if self.cached <= CACHE_BYTES {
            self.tables[entity.index()].remember(id, Arc::clone(&row));
        }
        Some(row)
    }

    /// A record's row in `crm.item.*`, from the cache when it is still right.
    pub(super) fn item_row(
        &mut self,
        entity: Entity,
        id: i64,
        original: bool,
    ) -> Option<Arc<ItemRow>> {
        let record = self.tables[entity.index()].get(id)?;
        let stale = match &record.item {
            Some(row) if row.is_of(self.epoch, original) => return Some(Arc::clone(row)),
            Some(row) => row.size(),
            None => 0,
        };
        let facts = self.facts(entity, record);
        let mut scratch = std::mem::take(&mut self.scratch);
        let record = self.tables[entity.index()].get(id)?;
        let mut row = self.encoder(entity).item_row(&mut scratch, record, &facts, original);
        self.scratch = scratch;
        row.epoch = self.epoch;
        self.cached = self.cached.saturating_sub(stale) + row.size();
        let row = Arc::new(row);
        if self.cached <= CACHE_BYTES {
            self.tables[entity.index()].remember_item(id, Arc::clone(&row));
        }
        Some(row)
    }

    /// Forgets how rows were written, after a switch.
    pub(super) fn rewrite(&mut self) {
        self.epoch += 1;
    }

    /// Makes late writes visible whose time has come, and notes that the
    /// zone's offset has changed.
    pub(super) fn settle(&mut self) {
        let now = self.clock.mono();
        while let Some(at) = self.pending.iter().position(|pending| pending.due <= now) {
            let pending = self.pending.remove(at);
            self.stats.spring(13);
            self.tables[pending.entity.index()].put(pending.record);
        }
        let offset = self.clock.offset();
        if offset != self.last_offset {
            self.last_offset = offset;
            self.rewrite();
            self.stats.spring(12);
            self.stats.spring(19);
        }
    }

    /// The ids of [`Self::truth`].
    pub(super) fn ids(&mut self, entity: Entity) -> Vec<i64> {
        self.settle();
        let rows = self.tables[entity.index()].iter();
        rows.filter(|record| record.category == 0).map(|record| record.id).collect()
    }

    /// Every live record that a webhook with full rights would list.
    pub(super) fn truth(&mut self, entity: Entity) -> Vec<TrueRecord> {
        self.tell(entity, false)
    }

    /// The same for `crm.item.list`, which shows every category.
    pub(super) fn item_truth(&mut self, entity: Entity) -> Vec<TrueRecord> {
        self.tell(entity, true)
    }

    fn tell(&mut self, entity: Entity, items: bool) -> Vec<TrueRecord> {
        self.settle();
        let user_fields = &self.user_fields[entity.index()];
        let teller = Teller { entity, clock: &self.clock, user_fields, items };
        self.tables[entity.index()]
            .iter()
            .filter(|record| items || record.category == 0)
            .map(|record| teller.tell(record, &self.facts(entity, record)))
            .collect()
    }

    /// Executes one command for a valid webhook.
    pub(super) fn execute(
        &mut self,
        request: &mut RequestState,
        method: &str,
        params: &Array,
        place: usize,
        in_batch: bool,
    ) -> Executed {
        self.settle();
        let start = self.clock.now_micros();
        let mono = self.clock.mono();
        let limit = self.options.operating;
        if let Some(limit) = &limit
            && self.operating.blocked(limit, method, mono)
        {
            return Executed {
                outcome: Err(self.refuse_operating()),
                time: TimeBlock { start, finish: self.clock.now_micros(), operating: None },
                sleep: Duration::ZERO,
            };
        }
        let counts = self.stats.counts;
        let outcome = self.run(request, method, params, place);
        Stats::add(&mut self.stats.commands, method);
        if let Err(failure) = &outcome {
            self.note_failure(failure);
        }
        let cost =
            self.costs.get(method).or_else(|| self.costs.get("*")).copied().unwrap_or_default();
        let counted = self.stats.counts > counts;
        if counted {
            Stats::add(&mut self.stats.counts_by_method, method);
        }
        let seconds = cost.seconds + if counted { cost.count_seconds } else { 0.0 };
        let mut operating = None;
        if let Some(limit) = &limit {
            if in_batch && limit.booking == Booking::Batch {
                request.on_batch += seconds;
            } else {
                operating = Some(self.book(&mut request.used, method, seconds));
            }
            operating = operating.filter(|_| limit.report);
        }
        let sleep =
            if cost.real { Duration::from_secs_f64(seconds.max(0.0)) } else { Duration::ZERO };
        let asleep = i64::try_from(sleep.as_micros()).unwrap_or(0);
        let time = TimeBlock { start, finish: self.clock.now_micros() + asleep, operating };
        Executed { outcome, time, sleep }
    }

    /// The refusal of a method that has used up its operating time.
    pub(super) fn refuse_operating(&mut self) -> Failure {
        self.stats.operating_refusals += 1;
        self.stats.spring(22);
        let text = "Method is blocked due to operation time limit.";
        Failure::new(429, "OPERATION_TIME_LIMIT", text)
    }

    /// Books operating time and notes how near the limit it came.
    pub(super) fn book(&mut self, used: &mut RequestUse, method: &str, seconds: f64) -> Account {
        let Some(limit) = self.options.operating else {
            return Account::default();
        };
        let now = self.clock.mono();
        let account = self.operating.book(&limit, used, method, seconds, now);
        self.stats.operating_near += u64::from(account.came_near);
        self.stats.operating_full += u64::from(account.came_full);
        if seconds > 0.0 {
            *self.stats.operating_seconds.entry(method.to_owned()).or_default() += seconds;
            let peak = self.stats.operating_peak.entry(method.to_owned()).or_default();
            *peak = peak.max(account.operating);
        }
        account
    }

    pub(super) fn note_failure(&mut self, failure: &Failure) {
        if failure.code.is_empty() {
            self.stats.spring(28);
        }
        if matches!(failure.status, 401 | 403) {
            self.stats.spring(23);
        }
    }

    fn run(
        &mut self,
        request: &mut RequestState,
        method: &str,
        params: &Array,
        place: usize,
    ) -> Result<Answer, Failure> {
        if let Some(token) = &request.token {
            self.spend_token(token)?;
        }
        let family = family(method, params);
        let faults = self.faults.strike_command(method, family, place, request.commands);
        for fault in &faults {
            Stats::add(&mut self.stats.faults, fault.name());
            if let FaultKind::CommandError { status, code, description } = fault {
                return Err(Failure::new(*status, code, description));
            }
        }
        let listed = match method {
            "crm.contact.list" => self.list(request, Entity::Contacts, params, &faults),
            "crm.lead.list" => self.list(request, Entity::Leads, params, &faults),
            "crm.activity.list" => self.list(request, Entity::Activities, params, &faults),
            "crm.item.list" => self.item_list(request, params, &faults),
            "crm.stagehistory.list" => self.stage_history(params),
            "crm.item.productrow.list" => self.product_rows(params),
            other => return self.run_other(request, other, params),
        };
        self.list_answered();
        listed
    }

    fn run_other(
        &mut self,
        request: &mut RequestState,
        method: &str,
        params: &Array,
    ) -> Result<Answer, Failure> {
        match method {
            "crm.contact.get" => self.get(request, Entity::Contacts, params),
            "crm.lead.get" => self.get(request, Entity::Leads, params),
            "crm.activity.get" => self.get(request, Entity::Activities, params),
            "crm.item.get" => self.item_get(request, params),
            "mail.recipient.listcontacts" => self.list_recipients(params),
            other => self.directory(other, params),
        }
    }

    /// Writes the object of `time`.
    pub(super) fn write_time(&self, out: &mut Vec<u8>, time: &TimeBlock) {
        let zone = self.clock.zone;
        let seconds = |micros: i64| {
            let (whole, rest) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
            format!("{whole}.{rest:06}")
        };
        let duration = (time.finish - time.start).max(0);
        let whole = |micros: i64| instant_text(zone, micros.div_euclid(1_000_000));
        let mut text = format!(
            "{{\"start\":{},\"finish\":{},\"duration\":{},\"processing\":{},\
             \"date_start\":\"{}\",\"date_finish\":\"{}\"",
            seconds(time.start),
            seconds(time.finish),
            seconds(duration),
            seconds(duration / 2),
            whole(time.start),
            whole(time.finish),
        );
        if let Some(account) = &time.operating {
            #[expect(clippy::cast_possible_truncation, reason = "a Unix time in seconds")]
            let reset = self.clock.now() + account.reset_in.ceil() as i64;
            // A whole float is written as an integer.
            let operating = account.operating;
            let figures = format!(",\"operating_reset_at\":{reset},\"operating\":{operating}");
            text.push_str(&figures);
        }
        out.extend_from_slice(text.as_bytes());
        out.push(b'}');
    }
}

/// The family that a command asks about.
pub(super) fn family(method: &str, params: &Array) -> Option<Entity> {
    if method.starts_with("crm.contact.") {
        Some(Entity::Contacts)
    } else if method.starts_with("crm.lead.") {
        Some(Entity::Leads)
    } else if method.starts_with("crm.activity.") {
        Some(Entity::Activities)
    } else {
        named_entity(params)
    }
}

/// The parameter of a CRM list under any of the names that the portal accepts.
pub(super) fn parameter<'a>(params: &'a Array, name: &str) -> Option<&'a Php> {
    let mut capitalised = name.to_owned();
    if let Some(first) = capitalised.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    params
        .get(name)
        .or_else(|| params.get(&name.to_uppercase()))
        .or_else(|| params.get(&capitalised))
        .or_else(|| params.get(&format!("ar{capitalised}")))
}
