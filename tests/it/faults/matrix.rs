//! The fault matrix: every failure at every place, once and again and again, during every
//! kind of work. A cell ends with a mirror equal to the portal, or stopped for the right
//! reason, and never short without a word.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use b24mirror::{
    simulator::{Action, Fault, FaultKind, Place},
    store::{Health, Verdict},
    sync,
};
use tokio::time::timeout;

use super::{
    errors::{ERRORS, Fate, Mishap, mishaps},
    stage::Stage,
    work::{Work, fill, run, whole},
};
use crate::support::long;

/// Portals with a mirror each that work through the cells side by side.
const STAGES: u64 = 6;

/// No cell may take longer, whatever the machine does besides.
const PATIENCE: Duration = Duration::from_mins(3);

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Where {
    Request,
    Command(Spot),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Spot {
    First,
    Middle,
    Last,
}

impl Where {
    const COMMANDS: [Self; 3] =
        [Self::Command(Spot::First), Self::Command(Spot::Middle), Self::Command(Spot::Last)];
}

/// One failure, as the portal gives it.
#[derive(Debug, Clone)]
struct Failure {
    kind: FaultKind,
    fate: Fate,
    /// What the reason must name where the work stops.
    named: &'static str,
    slow: bool,
    place: Where,
}

impl Failure {
    /// Every failure at every place.
    fn all(elsewhere: &str) -> Vec<Self> {
        let mut all = Vec::new();
        for Mishap { kind, fate, named, slow } in mishaps(elsewhere) {
            all.push(Self { kind, fate, named, slow, place: Where::Request });
        }
        for error in ERRORS {
            let (code, description) = (error.code.to_owned(), error.text.to_owned());
            let named = if error.code.is_empty() { error.text } else { error.code };
            let failure = |kind, fate, place| Self { kind, fate, named, slow: false, place };
            // An error inside a 200 is an error like any other.
            let statuses: BTreeSet<u16> = error.statuses.iter().copied().chain([200]).collect();
            for status in statuses {
                let (code, description) = (code.clone(), description.clone());
                let kind = FaultKind::Status { status, code, description };
                all.push(failure(kind, error.fate(Some(status)), Where::Request));
            }
            for place in Where::COMMANDS {
                let (code, description) = (code.clone(), description.clone());
                let status = error.statuses[0];
                let kind = FaultKind::CommandError { status, code, description };
                all.push(failure(kind, error.fate(None), place));
            }
        }
        all
    }

    fn fault(&self, strikes: Strikes, after: u64) -> Fault {
        let fault = match self.place {
            // The names behind codes are read beside records, and fail by themselves.
            Where::Request => Fault::once("crm.contact.list", self.kind.clone()),
            Where::Command(spot) => {
                let place = match spot {
                    Spot::First => Place::First,
                    Spot::Middle => Place::Middle,
                    Spot::Last => Place::Last,
                };
                Fault::once("*", self.kind.clone()).at(place)
            }
        };
        let count = match strikes {
            Strikes::Once => Some(1),
            Strikes::FiveTimes => Some(5),
            Strikes::Always => None,
        };
        Fault { count, ..fault }.after(after)
    }
}

/// How often a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Strikes {
    Once,
    FiveTimes,
    Always,
}

/// One cell of the matrix.
#[derive(Debug, Clone)]
struct Cell {
    work: Work,
    failure: Failure,
    strikes: Strikes,
    /// Requests that are let through first.
    after: u64,
}

impl Cell {
    /// Whether it can end at all: the portal's refusals are obeyed for as long as they last.
    fn ends(&self) -> bool {
        (self.failure.fate, self.strikes) != (Fate::WaitedOut, Strikes::Always)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { work, failure, strikes, after } = self;
        let Failure { kind, place, .. } = failure;
        write!(f, "{work:?}, {kind:?} at {place:?}, {strikes:?} after {after}")
    }
}

/// At the very beginning, and in the midst of the work.
const TIMES: [(Strikes, u64); 5] = [
    (Strikes::Once, 0),
    (Strikes::FiveTimes, 0),
    (Strikes::Always, 0),
    (Strikes::Once, 2),
    (Strikes::FiveTimes, 2),
];

/// The full product, or a sample of it in which every failure meets every place and, in
/// turn, every work and every number of strikes.
fn cells(elsewhere: &str) -> Vec<Cell> {
    let columns: Vec<(Work, (Strikes, u64))> =
        Work::ALL.into_iter().flat_map(|work| TIMES.map(|times| (work, times))).collect();
    let mut cells = Vec::new();
    for (number, failure) in Failure::all(elsewhere).into_iter().enumerate() {
        if long() {
            let cell = |(work, (strikes, after))| {
                let failure = failure.clone();
                Cell { work, failure, strikes, after }
            };
            cells.extend(columns.iter().copied().map(cell).filter(Cell::ends));
            continue;
        }
        // A step that shares no factor with the number of columns visits them all.
        let (work, (strikes, after)) = columns[number * 7 % columns.len()];
        // Each refusal costs a pause, and they grow.
        let strikes = if failure.fate == Fate::WaitedOut { Strikes::Once } else { strikes };
        cells.push(Cell { work, failure, strikes, after });
    }
    cells
}

/// Those of the works that `B24MIRROR_WORKS` names, as `Sweep Verify`; all without it.
fn asked_for(elsewhere: &str) -> Vec<Cell> {
    let named = std::env::var("B24MIRROR_WORKS").ok();
    let mut cells = cells(elsewhere);
    cells.retain(|cell| {
        let work = format!("{:?}", cell.work);
        named.as_ref().is_none_or(|named| named.split_whitespace().any(|named| named == work))
    });
    cells
}

/// How a cell ended, which is right in one of these ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    /// Nobody noticed.
    Complete,
    /// It said that it was incomplete, and the next run completed it.
    CompletedLater,
    /// It stopped with the right reason, and went on when the cause was gone.
    Stopped,
}

async fn play(cell: &Cell, stage: &mut Stage) -> Result<Ending, String> {
    if cell.work.needs_an_equal_mirror() {
        fill(stage).await?;
    }
    stage.is_equal = false;
    cell.work.prepare(stage).await;
    stage.portal.reset_stats();
    stage.portal.fault(cell.failure.fault(cell.strikes, cell.after));
    let outcome = run(cell.work, stage, cell.failure.slow).await;
    let struck = stage.portal.stats().faults.values().sum::<u64>();
    stage.portal.happens(Action::ClearFaults);
    let judged = judge(cell, stage, &outcome, struck).await;
    if !matches!(cell.failure.kind, FaultKind::CommandError { .. }) || judged.is_err() {
        stage.forget_the_portal();
    }
    let ending = judged.map_err(|what| format!("{what}\n  {struck} strikes; {}", outcome.line))?;
    if ending != Ending::Complete {
        let again = run(cell.work, stage, false).await;
        if again.verdict != Verdict::Complete {
            return Err(format!("did not recover: {}", again.line));
        }
        settle(cell.work, stage).await;
        whole(stage).await?;
        if stage.health().await != Some(Health::Active) {
            return Err(format!("recovered, but its health is {:?}", stage.health().await));
        }
    }
    stage.is_equal = true;
    Ok(ending)
}

/// Verify leaves to the next cycle what that will bring in any case, and says so.
async fn settle(work: Work, stage: &Stage) {
    if work == Work::Verify {
        run(Work::Incremental, stage, false).await;
    }
}

/// Holds what the work said against what the mirror holds.
async fn judge(
    cell: &Cell,
    stage: &Stage,
    outcome: &sync::Ending,
    struck: u64,
) -> Result<Ending, String> {
    let Cell { failure, strikes, .. } = cell;
    if struck == 0 {
        return Err("the fault never struck".to_owned());
    }
    let ending = match (outcome.verdict, failure.fate) {
        (Verdict::Complete, Fate::Passes | Fate::WaitedOut) => Ending::Complete,
        // The pages before it came, and when the rest was asked for it was gone.
        (Verdict::Complete, _)
            if failure.place != Where::Request && *strikes != Strikes::Always =>
        {
            Ending::Complete
        }
        // A single failure is no reason for anybody to notice, unless time was short.
        (Verdict::Incomplete, Fate::Passes) if *strikes != Strikes::Once || failure.slow => {
            Ending::CompletedLater
        }
        (Verdict::Incomplete, Fate::Later) => Ending::CompletedLater,
        (Verdict::Stopped, Fate::Stops) => Ending::Stopped,
        (_, fate) => return Err(format!("should have been {fate:?}")),
    };
    let health = stage.health().await;
    let told = match ending {
        Ending::Complete => {
            settle(cell.work, stage).await;
            whole(stage).await?;
            health == Some(Health::Active)
        }
        Ending::CompletedLater if cell.work.is_a_check() => outcome.line.contains(": incomplete: "),
        Ending::Stopped if cell.work.is_a_check() => outcome.line.contains(failure.named),
        Ending::CompletedLater => matches!(health, Some(Health::Waiting { .. })),
        Ending::Stopped => matches!(
            &health,
            Some(Health::Stopped { reason }) if reason.contains(failure.named)
        ),
    };
    let open = stage.open_runs().await;
    if !told || open > 0 {
        return Err(format!("its health is {health:?}, {open} runs are open"));
    }
    Ok(ending)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_failure_of_the_portal_leaves_the_mirror_short_without_a_word() {
    let mut stages = Vec::new();
    for seed in 0..STAGES {
        let mut stage = Stage::new(seed + 1).await;
        // The names behind codes are known from here on, so that every fault strikes the
        // reading of records.
        fill(&mut stage).await.unwrap();
        stages.push(stage);
    }
    // Every stage has a name of its own for the portal that moves.
    let count = asked_for("").len();
    let queue: Arc<Mutex<VecDeque<usize>>> = Arc::new(Mutex::new(order(&asked_for("")).into()));
    let mut playing = tokio::task::JoinSet::new();
    for mut stage in stages {
        let queue = Arc::clone(&queue);
        playing.spawn(async move {
            let cells = asked_for(&stage.portal.url().replace("127.0.0.1", "localhost"));
            let (mut endings, mut wrong) = (BTreeMap::<Ending, usize>::new(), Vec::new());
            loop {
                let Some(number) = queue.lock().unwrap().pop_front() else { break };
                let cell = &cells[number];
                match timeout(PATIENCE, play(cell, &mut stage)).await {
                    Ok(Ok(ending)) => *endings.entry(ending).or_default() += 1,
                    Ok(Err(what)) => wrong.push(format!("{cell}: {what}")),
                    Err(_) => {
                        // Its lease may be held still, so nothing more can be played here.
                        wrong.push(format!("{cell}: no end within {PATIENCE:?}"));
                        break;
                    }
                }
            }
            (stage, endings, wrong)
        });
    }
    let (mut endings, mut wrong) = (BTreeMap::<Ending, usize>::new(), Vec::new());
    for (_stage, ended, went_wrong) in playing.join_all().await {
        for (ending, times) in ended {
            *endings.entry(ending).or_default() += times;
        }
        wrong.extend(went_wrong);
    }
    eprintln!("{count} cells: {endings:?}");
    assert!(wrong.is_empty(), "{} of {count} cells:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(endings.values().sum::<usize>(), count);
}

/// The slow ones first, so that nobody waits for them in the end.
fn order(cells: &[Cell]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..cells.len()).collect();
    order.sort_by_key(|number| {
        let failure = &cells[*number].failure;
        !(failure.slow || failure.fate == Fate::WaitedOut)
    });
    order
}

#[test]
fn even_the_sample_has_every_failure_at_every_place_in_every_work() {
    let cells = cells("http://localhost:1");
    let works: BTreeSet<Work> = cells.iter().map(|cell| cell.work).collect();
    assert_eq!(works.len(), Work::ALL.len());
    let failures: BTreeSet<String> =
        cells.iter().map(|cell| format!("{:?}", cell.failure)).collect();
    assert_eq!(failures.len(), Failure::all("http://localhost:1").len());
    for times in TIMES {
        assert!(cells.iter().any(|cell| (cell.strikes, cell.after) == times), "{times:?}");
    }
}
