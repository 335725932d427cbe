//! The life of the process: signals, the service manager, and an end that is always reached.
//!
//! Two tokens say how urgent it is. The **soft** one asks: finish the transaction, abandon
//! the answer in flight, give back the lease, and return. The **hard** one tells: whatever is
//! still running is dropped where it stands, which is safe because everything that matters is
//! in transactions.
//!
//! - SIGTERM or SIGINT: soft. A second one, or [`GRACE`] later: hard. A command that has
//!   something to [ask](Lifecycle::interrupts) takes SIGINT for itself, and what is
//!   [spared](Lifecycle::spare) while it is under way is waited for a little longer.
//! - The work of a service that ends without having been asked, in whatever way, is a
//!   failure of the process: a service that looks alive and does nothing would be worse.
//! - Under systemd: ready, a sign of life at half the watchdog's period, and stopping. The
//!   signs come from the same runtime as the work, so a runtime that hangs is noticed.

use std::{
    fmt,
    future::Future,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

/// How long the work may take to stop by itself. A second below the five that we promise,
/// for what is left to do afterwards.
pub const GRACE: Duration = Duration::from_secs(4);

/// What is spared gets so much time beyond that: one exchange, and storing what it brought.
const SPARED_FOR: Duration = Duration::from_secs(12);

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// For what is left to do after it.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// The signal of a person at the terminal.
const INTERRUPT: &str = "SIGINT";

/// A service's work ended in a way that is not its own error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// It returned although nobody had asked it to stop.
    #[error("the work ended by itself, which it never should; the log says what it did last")]
    Unasked,
    /// It panicked; the panic's message is on stderr.
    #[error("the work panicked, which is a bug in b24mirror; please report the message above")]
    Panicked,
    /// It did not stop in time, or a second signal did not leave it the time.
    #[error("the work was abandoned before it had stopped by itself; nothing is half-written")]
    Abandoned,
}

/// The tokens that stop this process, and the task that listens for signals.
///
/// There should be one per process. Dropping it ends the listening.
#[derive(Debug)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    asker: Asker,
    spared: Spared,
    tasks: Vec<AbortHandle>,
}

/// Says whether something is under way that must not be dropped.
type IsUnderWay = Box<dyn Fn() -> bool + Send>;

/// Everything that is not to be dropped while it is under way.
#[derive(Clone, Default)]
struct Spared(Arc<Mutex<Vec<IsUnderWay>>>);

impl Spared {
    fn is_under_way(&self) -> bool {
        let spared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spared.iter().any(|is_under_way| is_under_way())
    }

    /// Waits until the work has had its time.
    async fn out_of_time(&self) {
        sleep(GRACE).await;
        let until = Instant::now() + SPARED_FOR;
        if self.is_under_way() {
            tracing::info!("something is under way that would be lost; waiting for it");
            while self.is_under_way() && Instant::now() < until {
                sleep(LOOK_EVERY).await;
            }
            sleep(AFTERWARDS).await;
        }
    }
}

impl fmt::Debug for Spared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spared").finish_non_exhaustive()
    }
}

/// Where a SIGINT goes instead of stopping the process, while somebody listens there.
type Asker = Arc<Mutex<Option<mpsc::Sender<()>>>>;

/// The SIGINTs that a command has taken for itself. Dropped, they stop the process again.
#[derive(Debug)]
pub struct Interrupts(mpsc::Receiver<()>);

impl Interrupts {
    /// Waits for the next one.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // Another listener has taken over.
            std::future::pending::<()>().await;
        }
    }
}

impl Lifecycle {
    /// Begins to listen for SIGTERM and SIGINT. Must be called within a tokio runtime.
    pub fn new() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (sender, signals) = mpsc::channel(4);
        let forwarder = tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => INTERRUPT,
                };
                if sender.send(name).await.is_err() {
                    return;
                }
            }
        });
        let mut lifecycle = Self::driven_by(signals);
        lifecycle.tasks.push(forwarder.abort_handle());
        Ok(lifecycle)
    }

    fn driven_by(signals: mpsc::Receiver<&'static str>) -> Self {
        let hard = CancellationToken::new();
        let soft = hard.child_token();
        let (asker, spared) = (Asker::default(), Spared::default());
        let listening =
            obey(signals, Arc::clone(&asker), spared.clone(), soft.clone(), hard.clone());
        let listener = tokio::spawn(listening);
        Self { soft, hard, asker, spared, tasks: vec![listener.abort_handle()] }
    }

    /// Takes SIGINT for a command that asks a person what it should mean, as long as the
    /// result is kept. SIGTERM stops the process all the same.
    #[must_use]
    pub fn interrupts(&self) -> Interrupts {
        let (sender, interrupts) = mpsc::channel(4);
        *self.asker.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Interrupts(interrupts)
    }

    /// Does not drop the work at the end of the grace while something is under way that would
    /// be lost, but waits for it as long as that may take. A second signal does not wait.
    pub fn spare(&self, is_under_way: impl Fn() -> bool + Send + 'static) {
        let mut spared = self.spared.0.lock().unwrap_or_else(PoisonError::into_inner);
        spared.push(Box::new(is_under_way));
    }

    /// Cancelled when the work should come to its end.
    #[must_use]
    pub fn soft(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Cancelled when the work is being dropped.
    #[must_use]
    pub fn hard(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// Tells the service manager that the service is up, and from then on that it is alive.
    pub fn ready(&mut self) {
        notify(&[NotifyState::Ready]);
        if let Some(period) = sd_notify::watchdog_enabled() {
            let beating = tokio::spawn(async move {
                let mut beat = interval((period / 2).max(Duration::from_millis(1)));
                beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    beat.tick().await;
                    notify(&[NotifyState::Watchdog]);
                }
            });
            self.tasks.push(beating.abort_handle());
        }
    }

    /// Waits for something that may be given up as soon as the process should stop.
    ///
    /// `None` means that it was given up.
    pub async fn run_until_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.soft.run_until_cancelled(work).await
    }

    /// Runs a command's work, which stops by itself when the soft token asks it to.
    ///
    /// # Errors
    /// [`Ended::Abandoned`] when it did not stop in time and was dropped.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Ended> {
        self.hard.run_until_cancelled(work).await.ok_or(Ended::Abandoned)
    }

    /// Runs the work of a service: it must go on until the soft token asks it to stop.
    ///
    /// # Errors
    /// The work's own error, or [`Ended`] as the same type.
    pub async fn supervise<E>(
        &self,
        work: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> Result<(), E>
    where
        E: From<Ended> + Send + 'static,
    {
        let mut task = tokio::spawn(work);
        let Ok(result) = self.run(&mut task).await else {
            task.abort();
            return Err(Ended::Abandoned.into());
        };
        let asked = self.soft.is_cancelled();
        if !asked {
            notify(&[NotifyState::Stopping]);
            self.soft.cancel();
        }
        match result {
            Ok(Ok(())) if asked => Ok(()),
            Ok(Ok(())) => Err(Ended::Unasked.into()),
            Ok(Err(error)) => Err(error),
            // Nobody else could have cancelled it.
            Err(_) => Err(Ended::Panicked.into()),
        }
    }
}

impl Drop for Lifecycle {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Turns signals into cancelled tokens.
async fn obey(
    mut signals: mpsc::Receiver<&'static str>,
    asker: Asker,
    spared: Spared,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    let signal = loop {
        let Some(signal) = signals.recv().await else { return };
        let taken = signal == INTERRUPT && {
            let asker = asker.lock().unwrap_or_else(PoisonError::into_inner);
            asker.as_ref().is_some_and(|asker| asker.try_send(()).is_ok())
        };
        if !taken {
            break signal;
        }
    };
    tracing::info!(signal, grace_seconds = GRACE.as_secs_f64(), "stopping");
    notify(&[NotifyState::Stopping]);
    soft.cancel();
    tokio::select! {
        again = signals.recv() => match again {
            Some(signal) => tracing::warn!(signal, "stopping at once"),
            None => return,
        },
        () = spared.out_of_time() => tracing::warn!("the work did not stop in time; dropping it"),
    }
    hard.cancel();
}

/// Tells the service manager, if there is one; that it cannot be told is no reason to fail.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(error = &error as &dyn std::error::Error, "cannot notify systemd");
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    fn process() -> (mpsc::Sender<&'static str>, Lifecycle) {
        let (sender, signals) = mpsc::channel(4);
        (sender, Lifecycle::driven_by(signals))
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_signal_asks_and_the_work_ends_well() {
        let (signals, lifecycle) = process();
        let (soft, hard) = (lifecycle.soft(), lifecycle.hard());
        signals.send("SIGTERM").await.unwrap();
        let work = async move {
            soft.cancelled().await;
            sleep(Duration::from_secs(1)).await;
            Ok::<(), Ended>(())
        };
        assert_eq!(lifecycle.supervise(work).await, Ok(()));
        assert!(!hard.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_stop_is_dropped_after_the_grace() {
        let (signals, lifecycle) = process();
        let start = Instant::now();
        signals.send("SIGTERM").await.unwrap();
        let stubborn = pending::<Result<(), Ended>>();
        assert_eq!(lifecycle.supervise(stubborn).await, Err(Ended::Abandoned));
        assert_eq!(start.elapsed(), GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_would_be_lost_is_waited_for_but_not_for_ever() {
        for (lasts, dropped_after) in [(9, 10), (60, 17)] {
            let (signals, lifecycle) = process();
            let start = Instant::now();
            lifecycle.spare(move || start.elapsed() < Duration::from_secs(lasts));
            signals.send("SIGTERM").await.unwrap();
            let stubborn = pending::<Result<(), Ended>>();
            assert_eq!(lifecycle.supervise(stubborn).await, Err(Ended::Abandoned));
            assert_eq!(start.elapsed().as_secs(), dropped_after);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_does_not_wait() {
        let (signals, lifecycle) = process();
        let start = Instant::now();
        signals.send("SIGINT").await.unwrap();
        signals.send("SIGINT").await.unwrap();
        assert_eq!(lifecycle.run(pending::<()>()).await, Err(Ended::Abandoned));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_interruption_goes_to_the_command_that_asks_and_only_while_it_does() {
        let (signals, lifecycle) = process();
        let mut interrupts = lifecycle.interrupts();
        signals.send("SIGINT").await.unwrap();
        interrupts.next().await;
        assert!(!lifecycle.soft().is_cancelled());
        drop(interrupts);
        signals.send("SIGINT").await.unwrap();
        assert_eq!(lifecycle.run_until_stopped(pending::<()>()).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_termination_is_not_asked_about() {
        let (signals, lifecycle) = process();
        let _interrupts = lifecycle.interrupts();
        signals.send("SIGTERM").await.unwrap();
        assert_eq!(lifecycle.run_until_stopped(pending::<()>()).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_unasked_is_a_failure_and_stops_the_rest() {
        let (_signals, lifecycle) = process();
        assert_eq!(lifecycle.supervise(async { Ok::<(), Ended>(()) }).await, Err(Ended::Unasked));
        assert!(lifecycle.soft().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_failure() {
        let (_signals, lifecycle) = process();
        let work = async { if true { panic!("as it must") } else { Ok::<(), Ended>(()) } };
        assert_eq!(lifecycle.supervise(work).await, Err(Ended::Panicked));
    }

    #[tokio::test(start_paused = true)]
    async fn the_works_own_error_is_passed_on() {
        #[derive(Debug, PartialEq)]
        enum Failure {
            Own,
            Ended,
        }
        impl From<Ended> for Failure {
            fn from(_: Ended) -> Self {
                Self::Ended
            }
        }
        let (_signals, lifecycle) = process();
        let work = async { Err::<(), _>(Failure::Own) };
        assert_eq!(lifecycle.supervise(work).await, Err(Failure::Own));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_given_up_at_the_first_signal() {
        let (signals, lifecycle) = process();
        assert_eq!(lifecycle.run_until_stopped(async { 5 }).await, Some(5));
        signals.send("SIGTERM").await.unwrap();
        assert_eq!(lifecycle.run_until_stopped(pending::<()>()).await, None);
    }
}
