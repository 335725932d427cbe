//! Progress for people: bars on a terminal, a log line now and then elsewhere.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
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
}

impl Drawing {
    /// Draws the backfills of this process until finished.
    pub(super) fn of(board: ProgressBoard) -> Self {
        Self::with(Pen::new(), board)
    }

    /// Logs the backfills of this process now and then, as a daemon does.
    pub(super) fn logged(board: ProgressBoard) -> Self {
        Self::with(Pen::log(), board)
    }

    fn with(mut pen: Pen, board: ProgressBoard) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let sleep = || tokio::time::sleep(DRAW_EVERY);
            while stopped.run_until_cancelled(sleep()).await.is_some() {
                pen.draw(&board.snapshot());
            }
            pen.clear();
        });
        Self { pen: None, task: Some((task, stop)) }
    }

    /// Draws what another process reports.
    pub(super) fn elsewhere() -> Self {
        Self { pen: Some(Pen::new()), task: None }
    }

    /// Draws the next report.
    pub(super) fn draw(&mut self, progress: &[EntityProgress]) {
        if let Some(pen) = &mut self.pen {
            pen.draw(progress);
        }
    }

    /// Takes the bars away.
    pub(super) async fn finish(mut self) {
        if let Some((task, stop)) = self.task.take() {
            stop.cancel();
            // A drawing that failed has done no harm.
            let _ = task.await;
        }
        if let Some(pen) = &mut self.pen {
            pen.clear();
        }
    }
}

enum Pen {
    Bars { all: MultiProgress, bars: BTreeMap<String, ProgressBar> },
    Log { told: Instant },
}

impl Pen {
    fn new() -> Self {
        if std::io::stderr().is_terminal() {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            Self::Bars { all, bars: BTreeMap::new() }
        } else {
            Self::log()
        }
    }

    fn log() -> Self {
        Self::Log { told: Instant::now() }
    }

    fn draw(&mut self, progress: &[EntityProgress]) {
        match self {
            Self::Bars { all, bars } => {
                for one in progress {
                    let bar =
                        bars.entry(one.entity.clone()).or_insert_with(|| all.add(bar(&one.entity)));
                    bar.set_position(steps(one.share.unwrap_or(0.0)));
                    bar.set_message(format!(
                        "{} records, {:.0}/s, {}",
                        one.records,
                        one.per_second,
                        remaining(one.seconds_left)
                    ));
                }
            }
            Self::Log { told } if told.elapsed() >= LOG_EVERY => {
                *told = Instant::now();
                for one in progress {
                    tracing::info!(
                        entity = one.entity,
                        percent = one.share.map(|share| (share * 100.0).round()),
                        records = one.records,
                        per_second = one.per_second.round(),
                        "backfilling, {}",
                        remaining(one.seconds_left)
                    );
                }
            }
            Self::Log { .. } => {}
        }
    }

    fn clear(&mut self) {
        if let Self::Bars { all, bars } = self {
            for bar in bars.values() {
                bar.finish_and_clear();
            }
            let _ = all.clear();
        }
    }
}

fn bar(entity: &str) -> ProgressBar {
    let bar = ProgressBar::new(STEPS).with_prefix(entity.to_owned());
    let style = ProgressStyle::with_template("{prefix:>9} [{bar:36}] {percent:>3} % {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
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
