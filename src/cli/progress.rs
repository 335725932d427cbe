//! Progress for people: bars on a terminal, a log line now and then elsewhere.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::sync::{EntityProgress, ProgressBoard};

const DRAW_EVERY: Duration = Duration::from_millis(200);
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The steps of a bar; shares are rounded to them.
const STEPS: u64 = 10_000;

/// Progress that is being drawn.
pub(super) struct Drawing {
    pen: Option<Pen>,
    task: Option<(JoinHandle<()>, CancellationToken)>,
    /// Where it is drawn, if that is a terminal and the pen is elsewhere.
    screen: Option<MultiProgress>,
}

impl Drawing {
    /// Draws the backfills of this process until finished.
    pub(super) fn of(board: ProgressBoard) -> Self {
        Self::with(Pen::new(None), move || (board.snapshot(), None))
    }

    /// Logs the backfills of this process now and then, as a daemon does.
    pub(super) fn logged(board: ProgressBoard) -> Self {
        Self::with(Pen::log(None), move || (board.snapshot(), None))
    }

    /// Draws what a command is at that asks slowly, as beside a process that mirrors.
    pub(super) fn slowly(said: impl Fn() -> String + Send + 'static) -> Self {
        Self::with(Pen::new(None), move || (Vec::new(), Some(said())))
    }

    fn with(
        mut pen: Pen,
        look: impl Fn() -> (Vec<EntityProgress>, Option<String>) + Send + 'static,
    ) -> Self {
        let screen = pen.screen();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let sleep = || tokio::time::sleep(DRAW_EVERY);
            while stopped.run_until_cancelled(sleep()).await.is_some() {
                let (progress, otherwise) = look();
                pen.draw(&progress, otherwise.as_deref());
            }
            pen.clear();
        });
        Self { pen: None, task: Some((task, stop)), screen }
    }

    /// Draws what another process reports on a request.
    pub(super) fn elsewhere(request: i64) -> Self {
        Self { pen: Some(Pen::new(Some(request))), task: None, screen: None }
    }

    /// Prints something beside what is drawn.
    pub(super) fn aside(&self, print: impl FnOnce()) {
        match &self.screen {
            Some(screen) => screen.suspend(print),
            None => print(),
        }
    }

    /// Draws the next report; `otherwise` is said when there are no figures in it.
    pub(super) fn draw(&mut self, progress: &[EntityProgress], otherwise: &str) {
        if let Some(pen) = &mut self.pen {
            pen.draw(progress, Some(otherwise));
        }
    }

    /// Takes the bars away until the next report.
    pub(super) fn clear(&mut self) {
        if let Some(pen) = &mut self.pen {
            pen.clear();
        }
    }

    /// Takes the bars away.
    pub(super) async fn finish(mut self) {
        if let Some((task, stop)) = self.task.take() {
            stop.cancel();
            // A drawing that failed has done no harm.
            let _ = task.await;
        }
        self.clear();
    }
}

/// How progress is drawn, and the request that it is about if another process reports it.
enum Pen {
    Bars { all: MultiProgress, bars: BTreeMap<String, ProgressBar> },
    Log { told: Instant, request: Option<i64> },
}

impl Pen {
    fn new(request: Option<i64>) -> Self {
        if std::io::stderr().is_terminal() {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            Self::Bars { all, bars: BTreeMap::new() }
        } else {
            Self::log(request)
        }
    }

    fn log(request: Option<i64>) -> Self {
        Self::Log { told: Instant::now(), request }
    }

    fn screen(&self) -> Option<MultiProgress> {
        match self {
            Self::Bars { all, .. } => Some(all.clone()),
            Self::Log { .. } => None,
        }
    }

    fn draw(&mut self, progress: &[EntityProgress], otherwise: Option<&str>) {
        match self {
            Self::Bars { all, bars } => draw_bars(all, bars, progress, otherwise),
            Self::Log { told, request } if told.elapsed() >= LOG_EVERY => {
                *told = Instant::now();
                log(*request, progress, otherwise);
            }
            Self::Log { .. } => {}
        }
    }

    fn clear(&mut self) {
        if let Self::Bars { all, bars } = self {
            for bar in std::mem::take(bars).into_values() {
                bar.finish_and_clear();
            }
            let _ = all.clear();
        }
    }
}

fn draw_bars(
    all: &MultiProgress,
    bars: &mut BTreeMap<String, ProgressBar>,
    progress: &[EntityProgress],
    otherwise: Option<&str>,
) {
    let otherwise = otherwise.filter(|_| progress.is_empty());
    bars.retain(|name, bar| {
        let goes_on = progress.iter().any(|one| one.entity == *name)
            || name.is_empty() && otherwise.is_some();
        if !goes_on {
            bar.finish_and_clear();
            all.remove(bar);
        }
        goes_on
    });
    for one in progress {
        let bar = bars.entry(one.entity.clone()).or_insert_with(|| all.add(bar(&one.entity)));
        bar.set_position(steps(one.share.unwrap_or(0.0)));
        bar.set_message(figures(one));
    }
    if let Some(text) = otherwise {
        // What has no figures is drawn in place of a bar of no entity.
        let line = bars.entry(String::new()).or_insert_with(|| all.add(plain()));
        line.set_message(text.to_owned());
        line.tick();
    }
}

fn log(request: Option<i64>, progress: &[EntityProgress], otherwise: Option<&str>) {
    for one in progress {
        tracing::info!(
            request,
            entity = one.entity,
            percent = one.share.map(|share| (share * 100.0).round()),
            records = one.records,
            per_second = one.per_second.round(),
            "backfilling, {}",
            remaining(one.seconds_left)
        );
    }
    if let (Some(text), true) = (otherwise, progress.is_empty()) {
        tracing::info!("{text}");
    }
}

/// What stands behind a bar.
fn figures(one: &EntityProgress) -> String {
    let share =
        one.share.map_or_else(|| "  ?".to_owned(), |share| format!("{:>3.0}", share * 100.0));
    let all = one.expected.filter(|expected| *expected >= one.records);
    let all = all.map(|all| format!(" of {}", HumanCount(all))).unwrap_or_default();
    format!(
        "{share} %  {}{all} records, {:.0}/s, {}",
        HumanCount(one.records),
        one.per_second,
        remaining(one.seconds_left)
    )
}

fn bar(entity: &str) -> ProgressBar {
    let bar = ProgressBar::new(STEPS).with_prefix(entity.to_owned());
    let style = ProgressStyle::with_template("{prefix:>9} [{bar:24}] {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "))
}

/// A line without figures.
fn plain() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg}, {elapsed}");
    ProgressBar::new(STEPS).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share between 0 and 1 in steps of a bar"
)]
fn steps(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * STEPS as f64) as u64
}

/// How much time is left, in words.
pub(super) fn remaining(seconds: Option<f64>) -> String {
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.round()).ok()) {
        Some(left) => format!("{} left", humantime::format_duration(left)),
        None => "time left unknown".to_owned(),
    }
}

/// How long ago something was, in words.
pub(super) fn ago(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds.round()) {
        Ok(Duration::ZERO) => "just now".to_owned(),
        Ok(past) => format!("{} ago", humantime::format_duration(past)),
        Err(_) => "at an unknown time".to_owned(),
    }
}
