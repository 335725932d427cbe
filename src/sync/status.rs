//! Whether the mirror is healthy and how far behind it is: read from the database
//! alone, so that it can be asked while the daemon runs, stands or lies dead.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Mirrored, progress::share};
use crate::{
    entity::{Dialect, Entity, SMART_ITEMS, dictionary::Dictionary},
    portal::WaitReason,
    store::{
        Checkpoint, DictionaryStanding, Foretold, Generation, Health, HealthSince, HolderWait,
        Pause, QuarantineCount, Refusal, Request, Segment, SmartProcess, Store, StoreError,
    },
};

/// A cycle may be this many intervals old before the mirror counts as behind.
const FRESH_INTERVALS: u32 = 3;

/// What is going on with one entity.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Nothing has ever been read.
    NeverSynced {
        /// Why the first attempt failed, if there was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The first fill or a full pass is under way; cycles run beside it.
    Backfilling {
        /// Share of the expected records that has been read, 0 to 1; unknown without an
        /// estimate.
        share: Option<f64>,
        /// Records read so far.
        records: i64,
        /// Records a second, on average.
        per_second: f64,
        /// Seconds left, as the process that works on it foretold; unknown without an
        /// estimate.
        seconds_left: Option<f64>,
        /// Why it does not go on, if it does not.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The last complete cycle is younger than three intervals.
    Fresh,
    /// It is older, or the latest attempt failed.
    Behind {
        /// Why, where it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The portal lists it no longer: it is asked for no more, and its rows stay.
    Gone {
        /// Since when, by the database's clock.
        since: DateTime<Utc>,
    },
    /// The settings do not enable it: its rows stay as they were.
    SwitchedOff,
    /// A person has paused it: it is neither read nor written.
    Paused {
        /// Since when, by the database's clock.
        since: DateTime<Utc>,
        /// Who paused it: account and host.
        by: String,
    },
    /// A person has to act.
    Stopped {
        /// What the portal or the database said, and what to do.
        reason: String,
        /// When it is tried again by itself, by the database's clock; unknown where no process
        /// will.
        #[serde(skip_serializing_if = "Option::is_none")]
        tried_again_at: Option<DateTime<Utc>>,
    },
}

/// One entity's line of the status.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EntityStatus {
    /// The entity.
    pub entity: &'static str,
    /// What people call it in the portal, where they have made it up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What is going on.
    #[serde(flatten)]
    pub state: State,
    /// When the last complete cycle ended, by the database's clock.
    pub last_complete: Option<DateTime<Utc>>,
    /// Seconds since then.
    pub lag_seconds: Option<f64>,
    /// Live records in the mirror.
    pub records: i64,
    /// Those among them that the source cannot show. They stay as they were, and nothing checks
    /// them.
    pub out_of_sight: i64,
    /// Changes arrive by reading every record, once in so many seconds; none where the source can
    /// be asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_pass_seconds: Option<u64>,
    /// Open quarantine entries.
    pub quarantined: i64,
    /// When the last complete sweep began, by the database's clock: what was deleted in the
    /// portal before is a tombstone here.
    pub swept_from: Option<DateTime<Utc>>,
    /// When it ended.
    pub swept_at: Option<DateTime<Utc>>,
    /// The sweep that waits for a person's decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_sweep: Option<RefusedSweep>,
}

/// A sweep that would have deleted more than it may unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedSweep {
    /// The run that refused.
    pub run: i64,
    /// When it did, by the database's clock.
    pub at: DateTime<Utc>,
    /// How many records it would have deleted.
    pub records: i64,
    /// Why it did not.
    pub reason: String,
    /// The command that deletes them.
    pub command: String,
}

impl RefusedSweep {
    fn of(entity: &'static Entity, refusal: Refusal) -> Self {
        let Refusal { run, at, why, records } = refusal;
        let command = format!("b24mirror sweep {} --accept {run}", entity.name);
        Self { run, at, records, reason: why, command }
    }
}

/// Something that people asked for and that is not done yet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenRequest {
    /// Its number.
    pub request: i64,
    /// What is to be done.
    pub kind: &'static str,
    /// For which entities; empty means all.
    pub entities: Vec<&'static str>,
    /// When it was asked for, by the database's clock.
    pub asked_at: DateTime<Utc>,
    /// Whether the process that mirrors works on it.
    pub under_way: bool,
    /// Whether it was taken back, and only waits to be closed.
    pub cancelled: bool,
}

/// How fresh the names behind codes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DictionaryStatus {
    /// The table: statuses, users, departments or currencies.
    pub dictionary: &'static str,
    /// When it was last read whole, by the database's clock.
    pub read_at: Option<DateTime<Utc>>,
    /// Why it could not be read last time, and what is missing for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The reason alone.
    #[serde(skip)]
    pub why: Option<String>,
}

impl From<DictionaryStanding> for DictionaryStatus {
    fn from(standing: DictionaryStanding) -> Self {
        let DictionaryStanding { dictionary, read_at, problem, .. } = standing;
        let lacking = if read_at.is_some() { "may be outdated" } else { "are missing" };
        let why = problem;
        let problem = why.as_ref().map(|why| format!("{why}; {} {lacking}", dictionary.explains()));
        Self { dictionary: dictionary.name(), read_at, problem, why }
    }
}

/// The whole status.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The portal that the schema belongs to.
    pub portal: Option<String>,
    /// The process that talks to the portal now: host, process, command.
    pub held_by: Option<String>,
    /// What that process waits for at the portal, and until when.
    pub waits: Vec<HolderWait>,
    /// Every entity.
    pub entities: Vec<EntityStatus>,
    /// The names behind codes.
    pub dictionaries: Vec<DictionaryStatus>,
    /// What people asked for and what is not done yet, the oldest first.
    pub requests: Vec<OpenRequest>,
    /// The views for people that could not be brought up to date.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub report_problems: Vec<ReportProblem>,
}

/// A view for people that could not be brought up to date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportProblem {
    /// The view.
    pub view: String,
    /// Why not.
    pub reason: String,
}

impl Status {
    /// Reads the status of the given entities.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot tell.
    pub async fn read(store: &Store, entities: &[Mirrored]) -> Result<Self, StoreError> {
        let now = store.clock().await?;
        let lease = store.lease_row().await?;
        let waits = if lease.held { lease.waits } else { Vec::new() };
        let held_by = lease.holder.filter(|_| lease.held);
        let starved = WaitReason::CyclesFirst.to_string();
        let starved = waits.iter().any(|wait| wait.reason == starved).then_some(starved);
        let pauses = store.pauses().await?;
        let processes = store.smart_processes().await?;
        let mut lines = Vec::with_capacity(entities.len());
        for (Mirrored { entity, interval, dialect, .. }, process) in each(entities, &processes) {
            if process.is_some_and(|process| !process.has_tables) {
                let title = process.map(|process| process.title.clone());
                lines.push(EntityStatus { title, ..EntityStatus::unread(entity) });
                continue;
            }
            let checkpoint = store.checkpoint(entity).await?;
            let health = store.health(entity).await?;
            let segments = store.segments(entity).await?;
            let quarantine = store.open_quarantine(entity).await?;
            let sweeps = store.sweep_standing(entity).await?;
            let last_complete = checkpoint.as_ref().and_then(|point| point.completed_at);
            let lag = last_complete.map(|at| (now - at).to_std().unwrap_or_default());
            let pause = pauses.iter().find(|pause| pause.entity.covers(entity));
            let mut judged = judge(
                checkpoint.as_ref(),
                health,
                &segments,
                now,
                lag,
                interval * FRESH_INTERVALS,
                held_by.is_some(),
            );
            if let State::Backfilling { reason: reason @ None, .. } = &mut judged {
                reason.clone_from(&starved);
            }
            let state = match (process.and_then(|process| process.gone_since), pause) {
                (Some(since), _) => State::Gone { since },
                (None, Some(Pause { since, by, .. })) => {
                    State::Paused { since: *since, by: by.clone() }
                }
                (None, None) => judged,
            };
            let sight = entity.sight(dialect);
            let (records, out_of_sight) = store.live_and_beyond(entity, sight).await?;
            // Another source may have been used since.
            let full_passes = match dialect {
                Dialect::Vibecode => store.full_passes(entity).await?,
                _ => None,
            };
            lines.push(EntityStatus {
                entity: entity.name,
                title: process.map(|process| process.title.clone()),
                state,
                full_pass_seconds: full_passes.map(|every| every.as_secs()),
                last_complete,
                lag_seconds: lag.map(|lag| lag.as_secs_f64()),
                records,
                out_of_sight,
                quarantined: quarantine.iter().map(|QuarantineCount { entries, .. }| entries).sum(),
                swept_from: sweeps.swept_from,
                swept_at: sweeps.swept_at,
                refused_sweep: sweeps.refused.map(|refusal| RefusedSweep::of(entity, refusal)),
            });
        }
        lines.extend(switched_off(store, entities, now).await?);
        let holder = held_by.is_some().then_some(lease.generation);
        let requests = store.open_requests().await?;
        let (dictionaries, _) = store.dictionaries().await?;
        let mirrored: Vec<_> = entities.iter().map(|one| one.entity).collect();
        let explaining = Dictionary::explaining(&mirrored);
        let problems = store.report_problems().await?;
        Ok(Self {
            report_problems: problems
                .into_iter()
                .map(|(view, reason)| ReportProblem { view, reason })
                .collect(),
            portal: store.portal_host().await?,
            held_by,
            waits,
            entities: lines,
            dictionaries: dictionaries
                .into_iter()
                .filter(|standing| explaining.contains(&standing.dictionary))
                .map(DictionaryStatus::from)
                .collect(),
            requests: requests.iter().map(|request| open(request, holder)).collect(),
        })
    }

    /// The status of a schema that has no tables yet.
    #[must_use]
    pub fn before_the_first_run(entities: &[Mirrored]) -> Self {
        let entities = entities
            .iter()
            .filter(|mirrored| *mirrored.entity != SMART_ITEMS)
            .map(|mirrored| EntityStatus::unread(mirrored.entity))
            .collect();
        Self {
            portal: None,
            held_by: None,
            waits: Vec::new(),
            entities,
            dictionaries: Vec::new(),
            requests: Vec::new(),
            report_problems: Vec::new(),
        }
    }

    /// Whether every entity that the portal has is fresh, and no sweep waits for a person's
    /// decision. It must be known which smart processes there are.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        let is_fresh = |entity: &EntityStatus| {
            matches!(entity.state, State::Fresh | State::Gone { .. } | State::SwitchedOff)
                && entity.refused_sweep.is_none()
        };
        let processes = Dictionary::SmartProcesses.name();
        self.entities.iter().all(is_fresh)
            && self
                .dictionaries
                .iter()
                .all(|one| one.dictionary != processes || one.read_at.is_some())
    }
}

impl EntityStatus {
    /// Of an entity that nothing is known of.
    const fn unread(entity: &'static Entity) -> Self {
        Self {
            entity: entity.name,
            title: None,
            state: State::NeverSynced { reason: None },
            last_complete: None,
            lag_seconds: None,
            records: 0,
            out_of_sight: 0,
            full_pass_seconds: None,
            quarantined: 0,
            swept_from: None,
            swept_at: None,
            refused_sweep: None,
        }
    }
}

/// What was mirrored before, and is not enabled now.
async fn switched_off(
    store: &Store,
    enabled: &[Mirrored],
    now: DateTime<Utc>,
) -> Result<Vec<EntityStatus>, StoreError> {
    let mut lines = Vec::new();
    for entity in store.entities().await? {
        if enabled.iter().any(|one| one.entity.covers(entity)) {
            continue;
        }
        let Some(checkpoint) = store.checkpoint(entity).await? else { continue };
        let lag = checkpoint.completed_at.map(|at| (now - at).to_std().unwrap_or_default());
        let quarantine = store.open_quarantine(entity).await?;
        let sweeps = store.sweep_standing(entity).await?;
        lines.push(EntityStatus {
            state: State::SwitchedOff,
            last_complete: checkpoint.completed_at,
            lag_seconds: lag.map(|lag| lag.as_secs_f64()),
            records: store.counts(entity).await?.live,
            quarantined: quarantine.iter().map(|QuarantineCount { entries, .. }| entries).sum(),
            swept_from: sweeps.swept_from,
            swept_at: sweeps.swept_at,
            ..EntityStatus::unread(entity)
        });
    }
    Ok(lines)
}

/// The entities, with each smart process that the portal has, or that has left rows behind, in
/// place of all of them.
fn each<'a>(
    entities: &'a [Mirrored],
    processes: &'a [SmartProcess],
) -> impl Iterator<Item = (Mirrored, Option<&'a SmartProcess>)> {
    entities.iter().flat_map(move |one| {
        let all = *one.entity == SMART_ITEMS;
        let shown = |process: &&SmartProcess| process.gone_since.is_none() || process.has_tables;
        let of_process = processes
            .iter()
            .filter(move |process| all && shown(process))
            .map(|process| (Mirrored { entity: process.entity, ..*one }, Some(process)));
        (!all).then_some((*one, None)).into_iter().chain(of_process)
    })
}

fn open(request: &Request, holder: Option<Generation>) -> OpenRequest {
    OpenRequest {
        request: request.id,
        kind: request.kind.as_str(),
        entities: request.entities.iter().map(|entity| entity.name).collect(),
        asked_at: request.created_at,
        under_way: holder.is_some() && request.taken_by == holder,
        cancelled: request.cancelled_at.is_some(),
    }
}

fn judge(
    checkpoint: Option<&Checkpoint>,
    health: Option<HealthSince>,
    segments: &[Segment],
    now: DateTime<Utc>,
    lag: Option<Duration>,
    fresh_for: Duration,
    running: bool,
) -> State {
    let tried_again_at = health.as_ref().and_then(|health| health.tried_again_at);
    let reason = match health.map(|since| since.health) {
        Some(Health::Stopped { reason }) => {
            // One that is due is under way, or nobody will.
            let tried_again_at = tried_again_at.filter(|at| running && *at > now);
            return State::Stopped { reason, tried_again_at };
        }
        Some(Health::Waiting { reason }) => Some(reason),
        Some(Health::Active) | None => None,
    };
    let Some(_) = checkpoint else { return State::NeverSynced { reason } };
    let idle = || (!running).then(|| "no process is mirroring".to_owned());
    if segments.iter().any(|segment| !segment.done) {
        return backfilling(segments, running.then_some(now), reason.or_else(idle));
    }
    match lag {
        Some(lag) if lag <= fresh_for && reason.is_none() => State::Fresh,
        _ => State::Behind { reason: reason.or_else(idle) },
    }
}

/// `now` while somebody works on it.
#[expect(clippy::cast_precision_loss, reason = "shares and paces for people")]
fn backfilling(segments: &[Segment], now: Option<DateTime<Utc>>, reason: Option<String>) -> State {
    let seconds = segments.iter().map(|segment| segment.busy).sum::<Duration>().as_secs_f64();
    let records = segments.iter().map(|segment| segment.rows).sum::<i64>();
    // Unknown as long as it is unknown of one.
    let expected = segments.iter().map(|segment| segment.expected).sum();
    let told = segments.iter().filter_map(|segment| segment.foretold).max_by_key(|told| told.at);
    State::Backfilling {
        share: share(records as f64, expected),
        records,
        per_second: records as f64 / seconds.max(0.001),
        seconds_left: told.map(|told| left(told, now)),
        reason,
    }
}

/// The seconds left until the foretold end. What is overdue may take as long again as it
/// is late; what nobody works on comes no nearer.
fn left(foretold: Foretold, now: Option<DateTime<Utc>>) -> f64 {
    (foretold.end - now.unwrap_or(foretold.at)).as_seconds_f64().abs()
}
