//! One call: a permit, a POST, the envelope, and again if the failure is worth it.
//!
//! This is the only place that sends anything to a portal, and the only retry layer
//! around it. Refusals are reported to the limiter, which then holds the next attempt
//! back; they never use up attempts. Redirects are followed here, by hand, because HTTP
//! clients turn a redirected POST into a GET without a body.

mod access;
mod http;
mod token_server;
mod turns;

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

use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::time::Instant;

pub use self::access::Grant;
use self::{
    access::{Access, Complaint, Pass},
    http::{Http, Reply, Target, Whole},
};
use super::{
    auth::Credentials,
    batch::{BatchAnswer, Commands},
    body::Body,
    envelope::{Answer, Envelope, PortalTime},
    error::{ApiFailure, PortalError},
    gateway::Gateway,
    limiter::{Costs, Demand, Lane, Limiter, Limits, Permit},
    tokens::TokenStore,
};
use crate::retry::{Disposition, RetryPolicy, Step};

/// Redirects that are followed within one attempt.
const MAX_REDIRECTS: usize = 3;

/// Tokens that one attempt may find expired. More than one expires only where a request is
/// held back for hours, or somebody plays with the portal.
const MAX_RENEWALS: usize = 2;

/// What a [`Portal`] needs to know.
#[derive(Debug, Clone)]
pub struct PortalOptions {
    /// The address, and what opens it.
    pub credentials: Credentials,
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
    credentials: Credentials,
    /// The tokens, where it is an application's.
    access: Option<Arc<Access>>,
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
        let http = Http::new(&options)?;
        let access = match &options.credentials {
            Credentials::Webhook(_) | Credentials::GatewayAlone(_) => None,
            Credentials::Application(application) => {
                Some(Arc::new(Access::new((**application).clone(), http.client())))
            }
        };
        let inner = Inner {
            http,
            access,
            limiter: Limiter::new(&options.limits),
            credentials: options.credentials,
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
        self.inner.credentials.host()
    }

    /// What opens the portal.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.inner.credentials
    }

    /// The host at which the portal has answered last, once it has.
    #[must_use]
    pub fn found_at(&self) -> Option<String> {
        self.inner.http.found_at()
    }

    /// The same, if it is another host than the configured one: the portal was renamed.
    #[must_use]
    pub fn renamed_to(&self) -> Option<String> {
        self.inner.http.renamed_to()
    }

    /// Tries a host first where the portal was seen to answer before; the configured one only
    /// led there.
    pub fn start_at(&self, host: &str) {
        self.inner.http.start_at(host);
    }

    /// The portal user whose rights the calls have, as far as that is known.
    #[must_use]
    pub fn user_id(&self) -> Option<u64> {
        match &self.inner.credentials {
            Credentials::Webhook(webhook) => Some(webhook.user_id()),
            Credentials::Application(_) => self.grant()?.user_id,
            Credentials::GatewayAlone(_) => None,
        }
    }

    /// What is known of the application's tokens; nothing before the first call, nor of a
    /// webhook.
    #[must_use]
    pub fn grant(&self) -> Option<Grant> {
        self.inner.access.as_ref()?.grant()
    }

    /// Whether the portal itself can be asked, and not a gateway alone.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.inner.credentials, Credentials::GatewayAlone(_))
    }

    /// Says where an application's tokens are kept from now on. A webhook needs none.
    pub fn keep_tokens_in(&self, store: Arc<dyn TokenStore>) {
        if let Some(access) = &self.inner.access {
            access.keep_in(store);
        }
    }

    /// Makes sure that an application has tokens, before anything is asked. Does nothing for
    /// a webhook.
    ///
    /// # Errors
    /// What the authorization server or the store of tokens says.
    pub async fn authorize(&self) -> Result<(), PortalError> {
        if let Some(access) = &self.inner.access {
            access.pass().await?;
        }
        Ok(())
    }

    /// Whether a renewal of tokens is under way, which must not be lost.
    #[must_use]
    pub fn is_renewing_tokens(&self) -> bool {
        self.inner.access.as_ref().is_some_and(|access| access.is_renewing())
    }

    /// Waits until no renewal of tokens is under way.
    pub async fn settle_tokens(&self) {
        if let Some(access) = &self.inner.access {
            access.settle().await;
        }
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

    /// One attempt, and another if the application's token turns out to have expired: for
    /// the request as a whole, or for single commands of it, which only read.
    async fn attempt<T: Settled, C>(
        &self,
        lane: Lane,
        target: Target<'_>,
        demand: &Demand,
        prepare: &impl Fn(usize) -> Result<(Vec<u8>, C), PortalError>,
        read: &impl Fn(C, u16, &Body) -> Result<(T, Costs), PortalError>,
    ) -> Result<T, PortalError> {
        let mut renewals = 0;
        loop {
            let mut used = None;
            let outcome = self.attempt_with(&mut used, lane, target, demand, prepare, read).await;
            let (Some(access), Some(pass)) = (&self.inner.access, used) else { return outcome };
            let Some(complaint) = complaint_of(&outcome) else { return outcome };
            if renewals == MAX_RENEWALS || !access.replace(&pass, complaint).await? {
                return hopeless(outcome);
            }
            renewals += 1;
        }
    }

    /// The application's token, at the moment in which it is sent.
    async fn pass(&self) -> Result<Option<Arc<Pass>>, PortalError> {
        let Some(access) = &self.inner.access else { return Ok(None) };
        let pass = access.pass().await?;
        // The authorization server knows of a renamed portal, too.
        if let Some(address) = access.take_told_address() {
            self.inner.http.try_at(address);
        }
        Ok(Some(pass))
    }

    /// One attempt, refusals reported and costs settled. `prepare` makes the body from
    /// the number of extra calls that fit, with whatever `read` has to know of it.
    async fn attempt_with<T: Settled, C>(
        &self,
        used: &mut Option<Arc<Pass>>,
        lane: Lane,
        target: Target<'_>,
        demand: &Demand,
        prepare: &impl Fn(usize) -> Result<(Vec<u8>, C), PortalError>,
        read: &impl Fn(C, u16, &Body) -> Result<(T, Costs), PortalError>,
    ) -> Result<T, PortalError> {
        let method = target.method;
        if !self.is_open() {
            return Err(PortalError::NoEntrance { method: method.to_owned() });
        }
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
        // Not before it is admitted: that may take longer than a token lives.
        *used = match self.pass().await {
            Ok(pass) => pass,
            Err(error) => {
                permit.void();
                return Err(error);
            }
        };
        let pass = used.as_ref();
        let (permit, reply) = self.exchange(pass, lane, target, permit, &body).await?;
        let Whole { status, body, retry_after } = reply;
        let read = Body::new(method, status, body).and_then(|body| read(context, status, &body));
        match read {
            Ok((mut answer, figures)) => {
                if let Some(pass) = pass {
                    pass.accept();
                }
                self.inner.http.settle();
                answer.each_failure(&mut |failure| self.own(failure, pass));
                answer.waited(waited);
                self.learn_clock(answer.clock());
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
                self.own(&mut failure, pass);
                let error = PortalError::Api(failure);
                match error.disposition() {
                    Disposition::WaitPortal => {
                        self.inner.limiter.refused();
                        self.inner.limiter.pause(retry_after.unwrap_or_default());
                    }
                    Disposition::WaitMethod => {
                        self.inner.limiter.block(method);
                        self.inner.limiter.pause_method(method, retry_after.unwrap_or_default());
                    }
                    _ => {}
                }
                Err(error)
            }
            Err(error) => {
                // Whatever stands before the portal refuses with a page.
                if matches!(status, 429 | 503) {
                    self.inner.limiter.pause(retry_after.unwrap_or_default());
                }
                self.inner.http.doubt();
                Err(error)
            }
        }
    }

    /// Takes the secrets out of a failure, and notes what the call identified itself with.
    fn own(&self, failure: &mut ApiFailure, pass: Option<&Arc<Pass>>) {
        failure.clear(|text| {
            let text = match (&self.inner.credentials, &self.inner.access) {
                (Credentials::Webhook(webhook), _) => webhook.scrub(text),
                (_, Some(access)) => access.scrub(text),
                (Credentials::Application(_) | Credentials::GatewayAlone(_), None) => String::new(),
            };
            match pass {
                Some(pass) => text.replace(pass.token().expose_secret(), "***"),
                None => text,
            }
        });
        if pass.is_some() {
            failure.by_application = true;
            failure.renewable = true;
        }
    }

    /// Sends a request, to where the portal has moved if need be.
    async fn exchange<'a>(
        &'a self,
        pass: Option<&Arc<Pass>>,
        lane: Lane,
        target: Target<'_>,
        permit: Permit<'a>,
        body: &[u8],
    ) -> Result<(Permit<'a>, Whole), PortalError> {
        for hop in 0..=MAX_REDIRECTS {
            if hop > 0 {
                // To the portal this is one more request, of the same commands.
                self.admitted(lane, &Demand::default()).await.void();
            }
            self.inner.requests.fetch_add(1, Ordering::Relaxed);
            match self.inner.http.post(target, body.to_vec(), pass.map(|pass| pass.token())).await {
                Ok(Reply::Answer(whole)) => return Ok((permit, whole)),
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
        f.debug_tuple("Portal").field(&self.inner.credentials).finish()
    }
}

/// What a failed attempt says against its token, where another one may help.
fn complaint_of<T: Settled>(attempt: &Result<T, PortalError>) -> Option<Complaint> {
    let of = |failure: &ApiFailure| match failure.disposition() {
        Disposition::RefreshToken if failure.code.is("invalid_token") => Some(Complaint::Unknown),
        Disposition::RefreshToken => Some(Complaint::Expired),
        _ => None,
    };
    match attempt {
        Ok(answer) => answer.all_failures().find_map(of),
        Err(PortalError::Api(failure)) => of(failure),
        Err(_) => None,
    }
}

/// The same outcome, for which no token is renewed any more.
fn hopeless<T: Settled>(mut attempt: Result<T, PortalError>) -> Result<T, PortalError> {
    match &mut attempt {
        Ok(answer) => answer.each_failure(&mut |failure| failure.renewable = false),
        Err(PortalError::Api(failure)) => failure.renewable = false,
        Err(_) => {}
    }
    attempt
}

/// What an answer tells the limiter.
trait Settled {
    /// The methods that the portal has blocked.
    fn blocked_methods(&self) -> Vec<String>;
    /// The portal's clock, if it shows one.
    fn clock(&self) -> Option<PortalTime>;
    /// Takes note of how long its request waited before it was sent.
    fn waited(&mut self, time: Duration);
    /// What went wrong with parts of it.
    fn all_failures(&self) -> impl Iterator<Item = &ApiFailure>;
    /// The same, to be changed in place.
    fn each_failure(&mut self, change: &mut dyn FnMut(&mut ApiFailure));
}

impl Settled for Answer {
    fn blocked_methods(&self) -> Vec<String> {
        Vec::new()
    }

    fn clock(&self) -> Option<PortalTime> {
        self.time
    }

    fn waited(&mut self, _: Duration) {}

    fn all_failures(&self) -> impl Iterator<Item = &ApiFailure> {
        std::iter::empty()
    }

    fn each_failure(&mut self, _: &mut dyn FnMut(&mut ApiFailure)) {}
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

    fn all_failures(&self) -> impl Iterator<Item = &ApiFailure> {
        self.1.failures()
    }

    fn each_failure(&mut self, change: &mut dyn FnMut(&mut ApiFailure)) {
        self.1.failures_mut().for_each(change);
    }
}

#[cfg(test)]
mod tests;
