//! The VibeCode gateway, which answers for a portal in a dialect of its own: one call is a
//! permit, a request, the envelope, and again if the failure is worth it.
//!
//! Its limit is its own, too: 300 requests a minute for a key, whatever the portal's are.
//! When it refuses it says for how long, and nothing is sent before that.

mod envelope;
mod exchange;
mod failure;
mod key;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use self::exchange::Exchange;
pub(super) use self::{envelope::GatewayAnswer, exchange::Parameters};
pub use self::{
    failure::GatewayFailure,
    key::{GatewayKey, GatewayUrl, InvalidGatewayKey, InvalidGatewayUrl},
};
use super::{
    client::{Meter, Patience},
    error::PortalError,
    limiter::{Demand, Lane, Limiter, Limits},
};
use crate::retry::{Disposition, RetryPolicy, Step};

/// The part of a minute's requests that may be sent in one go; the others follow evenly. So
/// both together are never more than the limit, wherever the minute begins.
const BURST_SHARE: f64 = 0.1;

/// What the limiter calls a request to a gateway: one that quiet hours hold back.
const METHOD: &str = "vibecode";

/// A gateway that wants to be left alone for longer is asked again after this time.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// What a [`Gateway`] needs to know.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// Its address.
    pub url: GatewayUrl,
    /// The key.
    pub key: GatewayKey,
    /// For one HTTP request, its answer included.
    pub timeout: Duration,
    /// The longest answer that is read, in bytes after decompression.
    pub max_body: usize,
    /// A PEM file with certificate authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The key's limit.
    pub requests_per_minute: u32,
    /// Between two readings of everything, where changes cannot be asked for.
    pub full_pass_interval: Duration,
    /// How transient failures are tried again.
    pub retry: RetryPolicy,
}

/// A gateway and the way to call it. Clones share the connections and the limiter.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    exchange: Exchange,
    limiter: Limiter,
    retry: RetryPolicy,
    full_pass_interval: Duration,
    /// The gateway wants no request before.
    paused_until: Mutex<Option<Instant>>,
    requests: AtomicU64,
    retries: AtomicU64,
    waited_micros: AtomicU64,
}

impl Gateway {
    /// Sets up the client. Sends nothing.
    ///
    /// # Errors
    /// As [`super::Portal::new`].
    pub fn new(options: GatewayOptions) -> Result<Self, PortalError> {
        let limits = Self::limits(options.requests_per_minute);
        let (retry, full_pass_interval) = (options.retry, options.full_pass_interval);
        let limiter = Limiter::new(&limits);
        // The minute may have begun with another process's requests.
        limiter.restore(f64::INFINITY);
        let inner = Inner {
            exchange: Exchange::new(options)?,
            limiter,
            retry,
            full_pass_interval,
            paused_until: Mutex::default(),
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            waited_micros: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The limits of a key that may send so many requests a minute.
    #[must_use]
    pub fn limits(requests_per_minute: u32) -> Limits {
        let per_minute = f64::from(requests_per_minute.max(1));
        let burst = (per_minute * BURST_SHARE).max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a small whole number"
        )]
        let burst_requests = burst as u32;
        Limits {
            requests_per_second: (per_minute - burst).max(0.5) / 60.0,
            burst: burst_requests,
            operating: None,
        }
    }

    /// The gateway's host.
    #[must_use]
    pub fn host(&self) -> &str {
        self.inner.exchange.host()
    }

    /// Between two readings of everything, where changes cannot be asked for.
    #[must_use]
    pub fn full_pass_interval(&self) -> Duration {
        self.inner.full_pass_interval
    }

    /// What has been done so far.
    #[must_use]
    pub fn meter(&self) -> Meter {
        Meter {
            requests: self.inner.requests.load(Ordering::Relaxed),
            retries: self.inner.retries.load(Ordering::Relaxed),
            waited: Duration::from_micros(self.inner.waited_micros.load(Ordering::Relaxed)),
        }
    }

    /// The limiter of the key.
    pub(super) fn limiter(&self) -> &Limiter {
        &self.inner.limiter
    }

    /// Asks a path below `/v1/`: with a body by POST, else by GET.
    ///
    /// # Errors
    /// [`PortalError::Vibecode`] for what the gateway answers, others for what keeps it from
    /// answering.
    pub(super) async fn call(
        &self,
        lane: Lane,
        path: &str,
        parameters: &Parameters,
        patience: Patience,
    ) -> Result<GatewayAnswer, PortalError> {
        let attempt = || self.attempt(lane, path, parameters);
        let classify = |error: &PortalError| match patience {
            Patience::FailFastWhenHeavy if error.is_heavy() => Step::StopAfterPause,
            _ => error.disposition().step(),
        };
        let on_retry = |error: &PortalError, pause: Duration| {
            self.inner.retries.fetch_add(1, Ordering::Relaxed);
            self.waited(pause);
            tracing::warn!(
                path,
                retry_in_seconds = pause.as_secs_f64(),
                error = error as &dyn std::error::Error,
                "the gateway did not answer as it should; trying again"
            );
        };
        self.inner.retry.run(attempt, classify, on_retry).await
    }

    async fn attempt(
        &self,
        lane: Lane,
        path: &str,
        parameters: &Parameters,
    ) -> Result<GatewayAnswer, PortalError> {
        let asked = Instant::now();
        self.rest().await;
        let demand = Demand::exactly(vec![(METHOD.to_owned(), 1)]);
        self.inner.limiter.acquire(lane, &demand).await.void();
        let waited = asked.elapsed();
        self.waited(waited);
        self.inner.requests.fetch_add(1, Ordering::Relaxed);
        match self.inner.exchange.ask(path, parameters).await {
            Ok(mut answer) => {
                answer.waited = waited;
                Ok(answer)
            }
            Err(error) => {
                if let PortalError::Vibecode(failure) = &error {
                    match failure.retry_after {
                        Some(after) if !after.is_zero() => self.pause(after),
                        _ if failure.disposition() == Disposition::WaitPortal => {
                            self.inner.limiter.refused();
                        }
                        _ => {}
                    }
                }
                Err(error)
            }
        }
    }

    /// Waits as long as the gateway asked for.
    async fn rest(&self) {
        while let Some(until) = self.paused_until() {
            tokio::time::sleep_until(until).await;
        }
    }

    fn paused_until(&self) -> Option<Instant> {
        let until = *self.inner.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.filter(|until| *until > Instant::now())
    }

    fn pause(&self, after: Duration) {
        let until = Instant::now() + after.min(LONGEST_PAUSE);
        let mut paused = self.inner.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        if paused.is_none_or(|before| before < until) {
            *paused = Some(until);
        }
    }

    fn waited(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.inner.waited_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gateway").field(&self.host()).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// A gateway that refuses the first request for a while; and what it was asked.
    async fn refusing(seconds: f64) -> (Gateway, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            for place in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = String::new();
                while !request.ends_with("{\"limit\":1}") {
                    let mut buffer = [0; 4096];
                    let read = stream.read(&mut buffer).await.unwrap();
                    request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
                }
                asked.push(request);
                let error = json!({ "code": "RATE_LIMITED", "message": "", "retryAfter": seconds });
                let (status, body) = match place {
                    0 => ("429 Too Many", json!({ "success": false, "error": error })),
                    _ => ("200 OK", json!({ "success": true, "data": [{ "id": 7 }] })),
                };
                let body = body.to_string();
                let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
                let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        let second = Duration::from_secs(1);
        let options = GatewayOptions {
            url: url.parse().unwrap(),
            key: GatewayKey::new(&"vibe_app_k".into(), Some(&"session".into())).unwrap(),
            timeout: 5 * second,
            max_body: 1 << 20,
            ca_file: None,
            requests_per_minute: 600,
            full_pass_interval: 3600 * second,
            retry: RetryPolicy::new(1, Duration::from_millis(1), Duration::from_millis(1)).unwrap(),
        };
        (Gateway::new(options).unwrap(), asked)
    }

    #[tokio::test]
    async fn a_refusal_is_waited_for_as_long_as_the_gateway_says() {
        let (gateway, asked) = refusing(0.4).await;
        let began = Instant::now();
        let body = Parameters::body(&json!({ "limit": 1 }));
        let path = "contacts/search";
        let answer = gateway.call(Lane::People, path, &body, Patience::Persist).await;
        assert_eq!(answer.unwrap().rows().unwrap().len(), 1);
        assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
        assert_eq!(gateway.meter().requests, 2);
        for request in asked.await.unwrap() {
            let request = request.to_lowercase();
            assert!(request.starts_with("post /v1/contacts/search "), "{request}");
            assert!(request.contains("x-api-key: vibe_app_k\r\n"));
            assert!(request.contains("authorization: bearer session\r\n"));
        }
        assert!(!format!("{gateway:?}").contains("vibe_app_k"));
    }
}
