//! A history as data: what happens to a portal, and when the mirror looks.

use proptest::{collection::vec, option, prelude::*, strategy::Union};

/// One history, from an empty database to the last change.
#[derive(Debug, Clone)]
pub(super) struct History {
    pub(super) setup: Setup,
    pub(super) steps: Vec<Step>,
}

/// What it begins with.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    /// Leads are mirrored, not contacts.
    pub(super) leads: bool,
    /// Records that lists show.
    pub(super) records: u64,
    /// Decides what they are.
    pub(super) seed: u64,
    /// Percent of IDs that are missing.
    pub(super) gaps: u64,
    /// The portal's zone, and when its clock starts.
    pub(super) zone: Zone,
    /// Seconds within which a record becomes visible.
    pub(super) overlap: u16,
    /// Chains of a backfill that may be in flight at once.
    pub(super) chains: u32,
}

/// A zone and a start.
#[derive(Debug, Clone, Copy)]
pub(super) enum Zone {
    /// No clock is ever changed there.
    Moscow,
    /// So many seconds before Berlin's clocks go from 03:00 back to 02:00.
    BeforeAutumn(u16),
    /// So many seconds before Berlin's clocks go from 02:00 on to 03:00.
    BeforeSpring(u16),
}

/// What the portal or the mirror does next.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Something happens to the portal.
    Happen(Event),
    /// Milliseconds pass.
    Pass(u32),
    /// An overlap passes, and a cycle; then again. Before that, cycles read everything that
    /// the portal has as if it were new.
    Age,
    /// An incremental cycle.
    Cycle(Vec<Disturbance>),
    /// A backfill, anew or resumed, with a cycle at its end.
    Backfill { restart: bool, meanwhile: Vec<Disturbance> },
    /// A backfill with a cycle beside it.
    BackfillBeside(Vec<Disturbance>),
    /// A sweep.
    Sweep(Vec<Disturbance>),
    /// A person lets the mirror delete what a sweep has refused to delete.
    Accept(Vec<Disturbance>),
    /// The process ends and starts again.
    Restart,
}

/// Something that happens to the portal. `late` is how late it becomes visible, in percent
/// of the overlap. What is impossible at that moment is left undone.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Create {
        count: u64,
        late: u8,
    },
    Edit {
        who: Who,
        late: u8,
    },
    Phones {
        who: Who,
        count: u8,
    },
    Activity {
        who: Who,
    },
    Delete {
        who: Who,
    },
    Restore {
        count: u64,
        late: u8,
    },
    Merge {
        count: u64,
    },
    Import {
        count: u64,
        days: u32,
        late: u8,
    },
    /// A new user field, and one record that has it.
    NewField,
    /// Answers list the values of multi-fields in another order.
    Reshuffle,
    /// The portal's clock jumps so many seconds, unless it has jumped shortly before.
    Jump(i32),
    /// The portal's clock jumps so many seconds.
    WildJump(i32),
}

/// Which records.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who {
    Newest(usize),
    Oldest(usize),
    /// The fifty newest.
    LastPage,
    All,
    /// The one that was made last but so many, visible or not.
    Made(usize),
    /// Any.
    Some(u64),
}

/// What happens while the mirror works.
#[derive(Debug, Clone)]
pub(super) struct Disturbance {
    /// Statements to the database, or lists of the portal, that come before it.
    pub(super) after: u16,
    pub(super) what: What,
}

/// What happens while the mirror works.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// The process dies before the next statement has left it, or before it has the answer.
    Kill { answered: bool },
    /// The connection breaks there, and the process lives.
    Cut { answered: bool },
    /// The process is told to end.
    Stop,
    /// Something happens to the portal before the next statement.
    Happen(Event),
    /// Milliseconds pass before the next statement.
    Pass(u32),
    /// Something happens to the portal between two commands of a batch.
    Between(Event),
    /// The portal fails once.
    Fail(Failure),
}

/// How the portal fails.
#[derive(Debug, Clone, Copy)]
pub(super) enum Failure {
    /// A gateway's page instead of an answer.
    Gateway,
    /// An answer that breaks off.
    Cut,
    /// No answer: the connection is reset.
    Reset,
    /// One command of a batch fails.
    Command,
}

/// What a set of histories is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Theme {
    /// Changes of every kind, and crashes.
    Changes,
    /// Backfills that are interrupted while the portal is worked in.
    Backfills,
    /// Clocks that jump and zones that change, never twice within a short time.
    Clocks,
    /// Deletions, and sweeps that are interrupted.
    Sweeps,
    /// Clocks that jump at any time, so that cycles miss changes and a sweep has to find them.
    WildClocks,
}

impl Theme {
    /// Whether clocks jump.
    pub(super) const fn jumps(self) -> bool {
        matches!(self, Self::Clocks | Self::WildClocks)
    }
}

/// Histories of a theme.
pub(super) fn histories(theme: Theme) -> BoxedStrategy<History> {
    let lengths = if theme == Theme::Backfills { 0..5usize } else { 1..9 };
    let steps = vec(step(theme), lengths);
    let first = (vec(event(theme), 0..3), disturbances(theme));
    (setup(theme), first, prop::bool::weighted(0.8), steps, tail(theme))
        .prop_map(|(setup, (before, meanwhile), aged, rest, tail)| {
            let mut steps: Vec<Step> = before.into_iter().map(Step::Happen).collect();
            steps.push(Step::Backfill { restart: false, meanwhile });
            steps.extend(aged.then_some(Step::Age));
            steps.extend(rest);
            steps.extend(tail);
            History { setup, steps }
        })
        .boxed()
}

/// What comes last: changes that the mirror does not look at for longer than an overlap.
fn tail(theme: Theme) -> BoxedStrategy<Vec<Step>> {
    let quiet = || (11_000u32..40_000).prop_map(Step::Pass);
    let event = || event(theme).prop_map(Step::Happen);
    if !theme.jumps() {
        let tail = (event(), quiet()).prop_map(|(event, quiet)| vec![event, quiet]);
        return prop_oneof![1 => Just(Vec::new()), 1 => tail].boxed();
    }
    let jump = jump(theme).prop_map(Step::Happen);
    let tail = (pass_on(), option::of(jump), vec(event(), 1..3), quiet());
    let tail = tail.prop_map(|(pass, jump, events, quiet)| {
        let mut steps = vec![Step::Pass(pass)];
        steps.extend(jump);
        steps.extend(events);
        steps.push(quiet);
        steps
    });
    prop_oneof![1 => Just(Vec::new()), 2 => tail].boxed()
}

/// Enough for a jump to be forgotten, or for a clock that is about to change.
fn pass_on() -> impl Strategy<Value = u32> {
    prop_oneof![1_000u32..60_000, 60_000u32..400_000]
}

fn setup(theme: Theme) -> impl Strategy<Value = Setup> {
    let records = match theme {
        Theme::Backfills => {
            prop_oneof![1 => 0u64..4, 2 => 45u64..56, 3 => 95u64..106, 3 => 56u64..=200].boxed()
        }
        _ => prop_oneof![1 => 0u64..4, 6 => 4u64..45, 2 => 45u64..56, 1 => 56u64..=200].boxed(),
    };
    let zone = match theme {
        Theme::Clocks | Theme::WildClocks => prop_oneof![
            2 => Just(Zone::Moscow),
            1 => (0u16..5_000).prop_map(Zone::BeforeAutumn),
            3 => (25u16..100).prop_map(Zone::BeforeAutumn),
            1 => (25u16..100).prop_map(Zone::BeforeSpring),
        ]
        .boxed(),
        _ => Just(Zone::Moscow).boxed(),
    };
    let gaps = prop_oneof![2 => Just(0u64), 3 => Just(30), 1 => Just(90)];
    let overlap = prop_oneof![3 => Just(10u16), 1 => Just(120)];
    let chains = if theme == Theme::Backfills { 1..4u32 } else { 1..2 };
    (any::<bool>(), records, 0u64..1_000, gaps, zone, overlap, chains).prop_map(
        |(leads, records, seed, gaps, zone, overlap, chains)| Setup {
            leads,
            records,
            seed,
            gaps,
            zone,
            overlap,
            chains,
        },
    )
}

fn step(theme: Theme) -> BoxedStrategy<Step> {
    let (fills, sweeps, long) = match theme {
        Theme::Changes => (1, 1, 0),
        Theme::Backfills => (6, 0, 0),
        Theme::Clocks | Theme::WildClocks => (1, 0, 2),
        Theme::Sweeps => (1, 8, 0),
    };
    any_of(vec![
        (12, event(theme).prop_map(Step::Happen).boxed()),
        (7, pass().prop_map(Step::Pass).boxed()),
        (long, (20u32 * 60_000..70 * 60_000).prop_map(Step::Pass).boxed()),
        (9, disturbances(theme).prop_map(Step::Cycle).boxed()),
        (
            fills,
            (prop::bool::weighted(0.3), disturbances(theme))
                .prop_map(|(restart, meanwhile)| Step::Backfill { restart, meanwhile })
                .boxed(),
        ),
        (fills, disturbances(theme).prop_map(Step::BackfillBeside).boxed()),
        (sweeps, disturbances(theme).prop_map(Step::Sweep).boxed()),
        (sweeps / 4, disturbances(theme).prop_map(Step::Accept).boxed()),
        (1, Just(Step::Age).boxed()),
        (1, Just(Step::Restart).boxed()),
    ])
    .boxed()
}

fn pass() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 1u32..1_000, 4 => 1_000u32..5_000, 2 => 5_000u32..15_000, 1 => 15_000u32..150_000]
}

fn disturbances(theme: Theme) -> BoxedStrategy<Vec<Disturbance>> {
    let deadly = prop_oneof![
        3 => any::<bool>().prop_map(|answered| What::Kill { answered }),
        1 => any::<bool>().prop_map(|answered| What::Cut { answered }),
        1 => Just(What::Stop),
    ];
    let busy = prop_oneof![
        2 => event(theme).prop_map(What::Happen),
        2 => prompt(event(theme)).prop_map(What::Between),
        1 => pass().prop_map(What::Pass),
        1 => failure().prop_map(What::Fail),
    ];
    // A cycle takes thirty statements, or seventy in a new process; a backfill hundreds.
    let before = match theme {
        Theme::Backfills => prop_oneof![2 => 0u16..320, 1 => 0u16..60],
        Theme::Sweeps => prop_oneof![2 => 0u16..80, 1 => 0u16..300],
        _ => prop_oneof![2 => 0u16..34, 1 => 0u16..300],
    }
    .boxed();
    let at = |what: BoxedStrategy<What>| {
        (before.clone(), what).prop_map(|(after, what)| match what {
            // Requests are fewer than statements.
            what @ (What::Between(_) | What::Fail(_)) => Disturbance { after: after % 8, what },
            what => Disturbance { after, what },
        })
    };
    let deadly = option::weighted(0.4, at(deadly.boxed()));
    let busy = prop_oneof![3 => Just(Vec::new()), 1 => vec(at(busy.boxed()), 1..4)];
    (deadly, busy)
        .prop_map(|(deadly, mut all)| {
            all.extend(deadly);
            all.sort_by_key(|disturbance| disturbance.after);
            all
        })
        .boxed()
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        Just(Failure::Gateway),
        Just(Failure::Cut),
        Just(Failure::Reset),
        Just(Failure::Command),
    ]
}

/// What becomes visible at once.
fn prompt(events: impl Strategy<Value = Event>) -> impl Strategy<Value = Event> {
    events.prop_map(|mut event| {
        match &mut event {
            Event::Create { late, .. }
            | Event::Edit { late, .. }
            | Event::Restore { late, .. }
            | Event::Import { late, .. } => *late = 0,
            _ => {}
        }
        event
    })
}

fn event(theme: Theme) -> BoxedStrategy<Event> {
    let late = || prop_oneof![2 => Just(0u8), 1 => 1u8..=95];
    let jumps = if theme.jumps() { 8 } else { 0 };
    let deletions = if theme == Theme::Sweeps { 16 } else { 7 };
    let count = prop_oneof![8 => 1u64..5, 1 => 45u64..120];
    let few = prop_oneof![8 => 1u64..4, 1 => 45u64..70];
    any_of(vec![
        (8, (count, late()).prop_map(|(count, late)| Event::Create { count, late }).boxed()),
        (10, (who(), late()).prop_map(|(who, late)| Event::Edit { who, late }).boxed()),
        (3, (who(), 0u8..4).prop_map(|(who, count)| Event::Phones { who, count }).boxed()),
        (1, who().prop_map(|who| Event::Activity { who }).boxed()),
        (deletions, who().prop_map(|who| Event::Delete { who }).boxed()),
        (4, (1u64..4, late()).prop_map(|(count, late)| Event::Restore { count, late }).boxed()),
        (2, (2u64..5).prop_map(|count| Event::Merge { count }).boxed()),
        (
            4,
            (few, 1u32..4_000, late())
                .prop_map(|(count, days, late)| Event::Import { count, days, late })
                .boxed(),
        ),
        (1, Just(Event::NewField).boxed()),
        (1, Just(Event::Reshuffle).boxed()),
        (jumps, jump(theme).boxed()),
    ])
    .boxed()
}

fn jump(theme: Theme) -> impl Strategy<Value = Event> {
    let by = prop_oneof![-900i32..900, -6i32..6, Just(-600), Just(600), Just(-3_600), Just(3_600)];
    by.prop_map(move |by| match theme {
        Theme::WildClocks => Event::WildJump(by),
        _ => Event::Jump(by),
    })
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        4 => (1usize..4).prop_map(Who::Newest),
        2 => (1usize..4).prop_map(Who::Oldest),
        1 => Just(Who::LastPage),
        1 => Just(Who::All),
        3 => (0usize..3).prop_map(Who::Made),
        6 => (1u64..6).prop_map(Who::Some),
        1 => (51u64..120).prop_map(Who::Some),
    ]
}

/// One of these by their weights, those without weight left out.
fn any_of<T: std::fmt::Debug + 'static>(
    mut all: Vec<(u32, BoxedStrategy<T>)>,
) -> Union<BoxedStrategy<T>> {
    all.retain(|(weight, _)| *weight > 0);
    Union::new_weighted(all)
}
