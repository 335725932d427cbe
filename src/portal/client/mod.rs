//! One call: a permit, a POST, the envelope, and again if the failure is worth it.
//!
//! This is the only place that sends anything to a portal, and the only retry layer
//! around it. Refusals are reported to the limiter, which then holds the next attempt
//! back; they never use up attempts. Redirects are followed here, by hand, because HTTP
//! clients turn a redirected POST into a GET without a body.

mod http;

use std::{
    fmt,
    future::Future,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use self::http::{Http, Reply, Target};
use super::{
    auth::WebhookUrl,
    batch::{BatchAnswer, Commands},
    body::{Body, Buffer},
    envelope::{Answer, Envelope, PortalTime},
    error::PortalError,
    gateway::Gateway,
    limiter::{Costs, Demand, Lane, Limiter, Limits, Permit},
};
use crate::retry::{Disposition, RetryPolicy, Step};

/// Redirects that are followed within one attempt.
const MAX_REDIRECTS: usize = 3;

/// What a [`Portal`] needs to know.
#[derive(Debug, Clone)]
pub struct PortalOptions {
    /// The address and credential.
    pub webhook: WebhookUrl,
    /// For one HTTP request, its answer included; above the portal's own 60 s.
    pub timeout: Duration,
    /// The longest answer that is read, in bytes after decompression.
    pub max_body: usize,
    /// A PEM file with certificate authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The portal's limits.
    pub limits: Limits,
    /// How transient failures are tried again.
    pub retry: RetryPolicy,
}

/// What to do when an answer is too heavy for the portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Try the same request again, as after any transient failure.
    Persist,
    /// Return the error after one delay, so that the caller can ask for less.
    FailFastWhenHeavy,
}

/// What a [`Portal`] has done since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meter {
    /// HTTP requests sent, refused ones and repeated ones included.
    pub requests: u64,
    /// Requests sent again after a failure.
    pub retries: u64,
    /// Time spent waiting for permits and between attempts, summed over all callers.
    pub waited: Duration,
}

impl Meter {
    /// What was done since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            retries: self.retries.saturating_sub(earlier.retries),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

/// A portal and the way to call it. Clones share the connections and the limiter.
#[derive(Clone)]
pub struct Portal {
    inner: Arc<Inner>,
    gateway: Option<Gateway>,
}

struct Inner {
    http: Http,
    webhook: WebhookUrl,
    limiter: Limiter,
    retry: RetryPolicy,
    requests: AtomicU64,
    retries: AtomicU64,
    waited_micros: AtomicU64,
}

impl Portal {
    /// Sets up the client. Sends nothing.
    ///
    /// # Errors
    /// [`PortalError::CaFile`] and [`PortalError::CaCertificate`] for a certificate file
    /// that cannot be used, [`PortalError::Setup`] where the system has no certificates.
    pub fn new(options: PortalOptions) -> Result<Self, PortalError> {
        let inner = Inner {
            http: Http::new(&options)?,
            limiter: Limiter::new(&options.limits),
            webhook: options.webhook,
            retry: options.retry,
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            waited_micros: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner), gateway: None })
    }

    /// The same portal with a gateway through which records can be read, too.
    #[must_use]
    pub fn with_gateway(self, gateway: Gateway) -> Self {
        Self { gateway: Some(gateway), ..self }
    }

    /// The gateway, if there is one.
    #[must_use]
    pub const fn gateway(&self) -> Option<&Gateway> {
        self.gateway.as_ref()
    }

    /// Calls one method; `params` becomes the JSON body.
    ///
    /// Transient failures are tried again as the policy says, refusals for as long as
    /// they last. Cancelling it is safe at any moment.
    pub async fn call(
        &self,
        lane: Lane,
        method: &str,
        params: &Value,
    ) -> Result<Answer, PortalError> {
        self.call_at(lane, Target::classic(method), params).await
    }

    /// The same for a method of REST 3.0, which is addressed differently.
    pub async fn call_v3(
        &self,
        lane: Lane,
        method: &str,
        params: &Value,
    ) -> Result<Answer, PortalError> {
        self.call_at(lane, Target::v3(method), params).await
    }

    async fn call_at(
        &self,
        lane: Lane,
        target: Target<'_>,
        params: &Value,
    ) -> Result<Answer, PortalError> {
        let method = target.method;
        let demand = Demand::exactly(vec![(method.to_owned(), 1)]);
        let body = params.to_string();
        let prepare = |_| Ok((body.clone().into_bytes(), ()));
        let read = |(), status, body: &Body| {
            let envelope = Envelope::read_raw(method, status, body)?;
            let figures = vec![(method.to_owned(), vec![envelope.time.figures()])];
            Ok((envelope.into_answer(), figures))
        };
        let attempt = || self.attempt(lane, target, &demand, &prepare, &read);
        self.persist(method, Patience::Persist, attempt).await
    }

    /// Runs up to 50 commands in one request; each has its own answer or error.
    ///
    /// Only the request as a whole is tried again. What to do about a failed command is
    /// the caller's business; a method that the portal has blocked is held back by the
    /// limiter from then on.
    pub async fn batch(
        &self,
        lane: Lane,
        commands: &Commands,
        patience: Patience,
    ) -> Result<BatchAnswer, PortalError> {
        let demand = Demand::exactly(commands.by_method());
        let build = |_| Ok(commands.clone());
        let (_, answer) = self.elastic_batch(lane, &demand, build, patience).await?;
        Ok(answer)
    }

    /// Runs a batch that is built only when it is known how many of the extra calls
    /// fit. Gives the commands of the attempt that succeeded, and their answers.
    pub(super) async fn elastic_batch(
        &self,
        lane: Lane,
        demand: &Demand,
        build: impl Fn(usize) -> Result<Commands, PortalError> + Sync,
        patience: Patience,
    ) -> Result<(Commands, BatchAnswer), PortalError> {
        let prepare = |extra| {
            let commands = build(extra)?;
            let body = serde_json::to_vec(&commands)
                .map_err(|error| PortalError::unusable("batch", error.to_string()))?;
            Ok((body, commands))
        };
        let read = |commands: Commands, status, body: &Body| {
            let (mut answer, costs) = BatchAnswer::read(&commands, status, body)?;
            let took = costs.iter().flat_map(|(_, figures)| figures).filter_map(|one| one.took);
            answer.timing.worked = Duration::try_from_secs_f64(took.sum()).unwrap_or_default();
            for failure in answer.failures_mut() {
                failure.description = self.inner.webhook.scrub(&failure.description);
            }
            Ok(((commands, answer), costs))
        };
        let attempt = || self.attempt(lane, Target::classic("batch"), demand, &prepare, &read);
        self.persist("batch", patience, attempt).await
    }

    /// The limiter that every request passes.
    #[must_use]
    pub fn limiter(&self) -> &Limiter {
        &self.inner.limiter
    }

    /// The portal's host as configured, with the port where it is not the scheme's own.
    #[must_use]
    pub fn host(&self) -> &str {
        self.inner.webhook.host()
    }

    /// The portal user whose rights the calls have.
    #[must_use]
    pub fn user_id(&self) -> u64 {
        self.inner.webhook.user_id()
    }

    /// What has been done so far, at the gateway too.
    #[must_use]
    pub fn meter(&self) -> Meter {
        let beside = self.gateway.as_ref().map(Gateway::meter).unwrap_or_default();
        let waited = self.inner.waited_micros.load(Ordering::Relaxed);
        Meter {
            requests: self.inner.requests.load(Ordering::Relaxed) + beside.requests,
            retries: self.inner.retries.load(Ordering::Relaxed) + beside.retries,
            waited: Duration::from_micros(waited) + beside.waited,
        }
    }

    /// Repeats an attempt while its failure is worth it.
    async fn persist<T, F>(
        &self,
        method: &str,
        patience: Patience,
        attempt: impl FnMut() -> F,
    ) -> Result<T, PortalError>
    where
        F: Future<Output = Result<T, PortalError>>,
    {
        let classify = |error: &PortalError| match patience {
            Patience::FailFastWhenHeavy if error.is_heavy() => Step::StopAfterPause,
            _ => error.disposition().step(),
        };
        let on_retry = |error: &PortalError, pause: Duration| {
            self.inner.retries.fetch_add(1, Ordering::Relaxed);
            self.waited(pause);
            tracing::warn!(
                method,
                retry_in_seconds = pause.as_secs_f64(),
                error = error as &dyn std::error::Error,
                "the portal did not answer as it should; trying again"
            );
        };
        self.inner.retry.run(attempt, classify, on_retry).await
    }

    /// One attempt, refusals reported and costs settled. `prepare` makes the body from
    /// the number of extra calls that fit, with whatever `read` has to know of it.
    async fn attempt<T: Settled, C>(
        &self,
        lane: Lane,
        target: Target<'_>,
        demand: &Demand,
        prepare: &impl Fn(usize) -> Result<(Vec<u8>, C), PortalError>,
        read: &impl Fn(C, u16, &Body) -> Result<(T, Costs), PortalError>,
    ) -> Result<T, PortalError> {
        let method = target.method;
        let asked = Instant::now();
        let permit = self.admitted(lane, demand).await;
        let waited = asked.elapsed();
        let (body, context) = match prepare(permit.extra()) {
            Ok(prepared) => prepared,
            Err(error) => {
                permit.void();
                return Err(error);
            }
        };
        let (permit, status, body) = self.exchange(lane, target, permit, &body).await?;
        let read = Body::new(method, status, body).and_then(|body| read(context, status, &body));
        match read {
            Ok((mut answer, figures)) => {
                answer.waited(waited);
                self.inner.limiter.learn_clock(answer.clock());
                // The figures tell until when a block lasts, so they come first.
                permit.settle(&figures);
                for blocked in answer.blocked_methods() {
                    self.inner.limiter.block(&blocked);
                }
                Ok(answer)
            }
            Err(PortalError::Api(mut failure)) => {
                // The portal refused or failed at once, so nothing is booked.
                permit.void();
                failure.description = self.inner.webhook.scrub(&failure.description);
                let error = PortalError::Api(failure);
                match error.disposition() {
                    Disposition::WaitPortal => self.inner.limiter.refused(),
                    Disposition::WaitMethod => self.inner.limiter.block(method),
                    _ => {}
                }
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a request, to where the portal has moved if need be.
    async fn exchange<'a>(
        &'a self,
        lane: Lane,
        target: Target<'_>,
        permit: Permit<'a>,
        body: &[u8],
    ) -> Result<(Permit<'a>, u16, Buffer), PortalError> {
        for hop in 0..=MAX_REDIRECTS {
            if hop > 0 {
                // To the portal this is one more request, of the same commands.
                self.admitted(lane, &Demand::default()).await.void();
            }
            self.inner.requests.fetch_add(1, Ordering::Relaxed);
            match self.inner.http.post(target, body.to_vec()).await {
                Ok(Reply::Answer { status, body }) => return Ok((permit, status, body)),
                Ok(Reply::Moved) => {}
                Err(error) => {
                    if error.is_unreachable() {
                        permit.void();
                    }
                    return Err(error);
                }
            }
        }
        permit.void();
        Err(PortalError::TooManyRedirects { host: self.host().to_owned() })
    }

    async fn admitted(&self, lane: Lane, demand: &Demand) -> Permit<'_> {
        let asked = Instant::now();
        let permit = self.inner.limiter.acquire(lane, demand).await;
        self.waited(asked.elapsed());
        permit
    }

    fn waited(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.inner.waited_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl fmt::Debug for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Portal").field(&self.inner.webhook).finish()
    }
}

/// What an answer tells the limiter.
trait Settled {
    /// The methods that the portal has blocked.
    fn blocked_methods(&self) -> Vec<String>;
    /// The portal's clock, if it shows one.
    fn clock(&self) -> Option<PortalTime>;
    /// Takes note of how long its request waited before it was sent.
    fn waited(&mut self, time: Duration);
}

impl Settled for Answer {
    fn blocked_methods(&self) -> Vec<String> {
        Vec::new()
    }

    fn clock(&self) -> Option<PortalTime> {
        self.time
    }

    fn waited(&mut self, _: Duration) {}
}

impl Settled for (Commands, BatchAnswer) {
    fn blocked_methods(&self) -> Vec<String> {
        self.1
            .failures()
            .filter(|failure| failure.disposition() == Disposition::WaitMethod)
            .map(|failure| failure.method.clone())
            .collect()
    }

    fn clock(&self) -> Option<PortalTime> {
        self.1.time
    }

    fn waited(&mut self, time: Duration) {
        self.1.timing.waited = time;
    }
}

#[cfg(test)]
mod tests;
