//! The portal over HTTP: `/rest/{user}/{secret}/{method}[.json]`, and
//! `/rest/api/{user}/{secret}/{method}` for REST 3.0.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Response, StatusCode, Uri, header};
use axum::routing::any;
use tokio::time::{Instant, sleep, sleep_until};

use super::applications::{self, token_in, token_of};
use super::batch::Batch;
use super::control;
use super::directories::{method_not_found, scope_of};
use super::faults::FaultKind;
use super::gateway;
use super::limits::{Admission, Booking};
use super::php::{Array, Php, parse_str, write_int};
use super::portal::{Failure, Portal, RequestState, TimeBlock, family};
use super::recipients;
use super::stats::Stats;
use super::undocumented::NewerFailures;
use super::wire::{FaultyListener, Peer, WireFault};

const MAX_BODY: usize = 64 << 20;

/// The portal, shared by requests and the handle.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Portal>>);

impl Shared {
    pub(super) fn new(portal: Portal) -> Self {
        Self(Arc::new(Mutex::new(portal)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Portal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until the runtime is dropped.
pub(super) async fn serve(listener: FaultyListener, shared: Shared) -> std::io::Result<()> {
    let router = Router::new()
        .route("/rest/{*path}", any(rest))
        .route("/v1/{*path}", any(gateway::answer))
        .merge(applications::router())
        .merge(control::router())
        .with_state(shared);
    let service = router.into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, service).await
}

/// A call, as its path names it.
#[derive(Debug)]
struct Call {
    user: String,
    secret: String,
    method: String,
    json: bool,
    /// Whether it is one of REST 3.0.
    newer: bool,
}

impl Call {
    fn read(uri: &Uri) -> Self {
        let path = uri.path().trim_start_matches("/rest/");
        let (path, newer) = path.strip_prefix("api/").map_or((path, false), |path| (path, true));
        let mut parts = path.split('/');
        let mut next = || parts.next().unwrap_or_default().to_owned();
        let (user, secret, name) = match path.split('/').count() {
            0..=2 => (String::new(), String::new(), next()),
            _ => (next(), next(), next()),
        };
        let name = name.to_lowercase();
        let (method, json) = if newer {
            (name, true)
        } else if let Some(name) = name.strip_suffix(".json") {
            (name.to_owned(), true)
        } else if let Some(name) = name.strip_suffix(".xml") {
            (name.to_owned(), false)
        } else {
            (name, true)
        };
        Self { user, secret, method, json, newer }
    }
}

/// The parameters of a request, and whether a JSON body was ignored.
fn parameters(uri: &Uri, headers: &HeaderMap, body: &Bytes, max_vars: usize) -> (Array, bool) {
    let (mut params, _) = parse_str(uri.query().unwrap_or_default(), max_vars);
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    let mut ignored = false;
    let own = match content_type {
        "application/x-www-form-urlencoded" => {
            parse_str(&String::from_utf8_lossy(body), max_vars).0
        }
        "application/json" => {
            if let Ok(Php::Array(array)) = serde_json::from_slice(body) {
                array
            } else {
                ignored = !body.is_empty();
                Array::default()
            }
        }
        _ => Array::default(),
    };
    for (key, value) in own.iter() {
        params.set(key.clone(), value.clone());
    }
    (params, ignored)
}

/// The parameters of a call of REST 3.0, and whether its body is no JSON.
fn json_body(body: &Bytes) -> (Array, bool) {
    match serde_json::from_slice(body) {
        Ok(Php::Array(array)) => (array, false),
        _ => (Array::default(), !body.is_empty()),
    }
}

/// What goes back.
pub(super) struct Reply {
    status: u16,
    body: Vec<u8>,
    content_type: &'static str,
    location: Option<String>,
    retry_after: Option<String>,
}

impl Reply {
    pub(super) fn json(status: u16, body: Vec<u8>) -> Self {
        let content_type = "application/json; charset=utf-8";
        Self { status, body, content_type, location: None, retry_after: None }
    }

    pub(super) fn html(status: u16) -> Self {
        let body = format!(
            "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1>\
             </center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        );
        let (body, content_type) = (body.into_bytes(), "text/html");
        Self { status, body, content_type, location: None, retry_after: None }
    }

    pub(super) fn failure(portal: &Portal, failure: &Failure) -> Self {
        let mut body = Vec::new();
        failure.write(&mut body, portal.writing());
        let mut reply = Self::json(failure.status, body);
        if matches!(failure.code.as_str(), "QUERY_LIMIT_EXCEEDED" | "OPERATION_TIME_LIMIT") {
            reply.retry_after = portal.options.undocumented.retry_after.text();
        }
        reply
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(self.content_type));
        for (name, text) in
            [(header::LOCATION, self.location), (header::RETRY_AFTER, self.retry_after)]
        {
            if let Some(value) = text.and_then(|text| text.parse().ok()) {
                headers.insert(name, value);
            }
        }
        response
    }
}

async fn rest(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Response<Body> {
    peer.arm(WireFault::None);
    let latency = shared.lock().latency;
    if !latency.is_zero() {
        sleep(latency).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return Reply::html(413).into_response();
    };
    let call = Call::read(&parts.uri);
    let refusal = shared.lock().admit(&peer, &call);
    if let Some(refusal) = refusal {
        return finish(&shared, refusal);
    }
    let moved = shared.lock().renamed(&parts.headers, &parts.uri);
    if let Some(location) = moved {
        shared.lock().stats.spring(25);
        return finish(&shared, Reply { location: Some(location), ..Reply::html(302) });
    }
    let malformed;
    let (batch, params, fault) = {
        let mut portal = shared.lock();
        let max_vars = portal.options.max_input_vars;
        let (params, ignored) = if call.newer {
            // Whatever else the request says is ignored.
            json_body(&body)
        } else {
            parameters(&parts.uri, &parts.headers, &body, max_vars)
        };
        if ignored && !call.newer {
            portal.stats.spring(38);
        }
        malformed = ignored && call.newer;
        let batch =
            if call.method == "batch" { Batch::read(&params, max_vars) } else { Batch::default() };
        let fault = {
            let called = (call.method.as_str(), family(&call.method, &params));
            portal.faults.strike_request(called, &batch.calls())
        };
        (batch, params, fault)
    };
    if let Some(fault) = &fault
        && let Some(reply) = instead(&shared, &peer, fault, &parts.uri).await
    {
        return finish(&shared, reply);
    }
    let token = if call.newer { token_in(&params) } else { token_of(&parts.headers, &params) };
    let token = token.filter(|_| call.secret.is_empty());
    let checked = shared.lock().check(&call, token.as_deref()).and_then(|()| {
        let text = "Invalid JSON";
        let failure = || recipients::failure(400, "INVALIDJSONEXCEPTION", text);
        if malformed { Err(failure()) } else { Ok(()) }
    });
    let mut state =
        RequestState { token, commands: batch.commands.len(), ..RequestState::default() };
    let reply = match checked {
        Err(failure) => {
            let mut portal = shared.lock();
            portal.note_failure(&failure);
            Reply::failure(&portal, &failure)
        }
        Ok(()) if call.method == "batch" => run_batch(&shared, &mut state, batch).await,
        Ok(()) => run_one(&shared, &mut state, &call, &params).await,
    };
    let reply = match state.poison.take() {
        None => afterwards(&shared, &peer, fault.as_ref(), reply),
        Some(poison) => match instead(&shared, &peer, &poison, &parts.uri).await {
            Some(reply) => reply,
            None => afterwards(&shared, &peer, Some(&poison), reply),
        },
    };
    finish(&shared, reply)
}

impl Portal {
    /// Counts a request at the front of the portal.
    fn admit(&mut self, peer: &Peer, call: &Call) -> Option<Reply> {
        self.settle();
        self.stats.requests += 1;
        let mono = self.clock.mono();
        self.stats.before_retry_after += u64::from(mono < self.quiet_until);
        Stats::add(&mut self.stats.requests_by_method, &call.method);
        if self.clock.ahead().abs() >= 60 {
            self.stats.spring(11);
        }
        let limit = self.options.bucket?;
        let now = self.clock.mono();
        let crowd = self.faults.crowd(&call.method);
        if crowd > 0 {
            Stats::add(&mut self.stats.faults, "crowd");
        }
        for _ in 0..crowd {
            self.buckets.admit(limit, peer.address, now);
        }
        match self.buckets.admit(limit, peer.address, now) {
            Admission::Admitted(level) => {
                self.stats.bucket_full += u64::from(level >= limit.threshold);
                let near = level + limit.rate > limit.threshold;
                self.stats.bucket_near += u64::from(near);
                self.stats.bucket_peak = self.stats.bucket_peak.max(level);
                None
            }
            Admission::Refused(filled) => {
                self.stats.refusals += 1;
                self.stats.spring(21);
                if filled {
                    self.stats.spring(42);
                }
                self.quiet_until = now + self.options.undocumented.retry_after.seconds();
                let failure = Failure::new(503, "QUERY_LIMIT_EXCEEDED", "Too many requests");
                let failure = if call.newer { self.newer(failure) } else { failure };
                Some(Reply::failure(self, &failure))
            }
        }
    }

    /// What the portal itself refuses, in the words of REST 3.0.
    fn newer(&self, failure: Failure) -> Failure {
        self.options.undocumented.newer_failures.word(failure)
    }

    /// The checks before a method runs, in the order of the portal.
    fn check(&mut self, call: &Call, token: Option<&str>) -> Result<(), Failure> {
        let checked = self.check_classic(call, token);
        if call.newer { checked.map_err(|failure| self.newer(failure)) } else { checked }
    }

    fn check_classic(&mut self, call: &Call, token: Option<&str>) -> Result<(), Failure> {
        if !call.json {
            let text = "Wrong transport";
            return Err(Failure::new(500, "INTERNAL_WRONG_TRANSPORT", text));
        }
        let scope = if call.newer {
            let unknown =
                || recipients::failure(400, "METHODNOTFOUNDEXCEPTION", "Method not found");
            recipients::scope_of(&call.method).ok_or_else(unknown)?
        } else {
            scope_of(&call.method).ok_or_else(method_not_found)?
        };
        if let Some(token) = token {
            self.check_token(token, scope)?;
            return self.check_load(call);
        }
        if call.secret.is_empty() {
            let text = "Wrong authorization data";
            return Err(Failure::new(401, "NO_AUTH_FOUND", text));
        }
        let known = call.user == self.options.user.to_string()
            && call.secret == self.options.secret
            && !self.revoked;
        if !known {
            let text = "Invalid request credentials";
            let status = self.options.undocumented.refusal.status();
            return Err(Failure::new(status, "INVALID_CREDENTIALS", text));
        }
        if let Some(failure) = self.refuse_scope(scope) {
            let insufficient =
                recipients::failure(403, "INSUFFICIENTSCOPEEXCEPTION", &failure.text);
            let own_words = self.options.undocumented.newer_failures != NewerFailures::Classic;
            return Err(if call.newer && own_words { insufficient } else { failure });
        }
        self.check_load(call)
    }

    fn check_load(&mut self, call: &Call) -> Result<(), Failure> {
        let now = self.clock.mono();
        if let Some(limit) = self.options.operating
            && call.method == "batch"
            && self.operating.blocked(&limit, "batch", now)
        {
            return Err(self.refuse_operating());
        }
        Ok(())
    }

    /// The refusal of a method whose scope the webhook lacks.
    pub(super) fn refuse_scope(&self, scope: &str) -> Option<Failure> {
        let has = scope.is_empty() || self.options.scopes.iter().any(|own| own == scope);
        let text = "The request requires higher privileges than provided by the webhook token";
        let status = self.options.undocumented.refusal.status();
        (!has).then(|| Failure::new(status, "insufficient_scope", text))
    }
}

async fn run_one(shared: &Shared, state: &mut RequestState, call: &Call, params: &Array) -> Reply {
    let begun = Instant::now();
    let executed = shared.lock().execute(state, &call.method, params, 0, false);
    if !executed.sleep.is_zero() {
        sleep_until(begun + executed.sleep).await;
    }
    let portal = shared.lock();
    let answer = match executed.outcome {
        Ok(answer) => answer,
        Err(failure) if call.newer => return Reply::failure(&portal, &portal.newer(failure)),
        Err(failure) => return Reply::failure(&portal, &failure),
    };
    let mut body = Vec::with_capacity(answer.body.len() + 400);
    body.extend_from_slice(b"{\"result\":");
    body.extend_from_slice(&answer.body);
    for (name, figure) in [("next", answer.next), ("total", answer.total)] {
        if let Some(figure) = figure {
            body.extend_from_slice(format!(",\"{name}\":").as_bytes());
            write_int(&mut body, figure);
        }
    }
    let time = TimeBlock { finish: portal.clock.now_micros(), ..executed.time };
    close(&portal, body, &time)
}

async fn run_batch(shared: &Shared, state: &mut RequestState, mut batch: Batch) -> Reply {
    let start = shared.lock().clock.now_micros();
    let mut due = Instant::now();
    for place in 0..batch.commands.len() {
        let (pause, goes_on) = {
            let mut portal = shared.lock();
            batch.step(&mut portal, state, place)
        };
        if pause.is_zero() {
            // Other requests come in between, as they do on a real portal.
            tokio::task::yield_now().await;
        } else {
            // Our own work is part of what the commands take.
            due += pause;
            sleep_until(due).await;
        }
        if !goes_on {
            break;
        }
    }
    let mut portal = shared.lock();
    let mut body = b"{\"result\":".to_vec();
    batch.write(&mut portal, &mut body);
    let limit = portal.options.operating;
    let whole = limit.filter(|limit| limit.booking == Booking::Batch);
    let operating = whole.map(|_| {
        let seconds = state.on_batch;
        portal.book(&mut state.used, "batch", seconds)
    });
    let time = TimeBlock {
        start,
        finish: portal.clock.now_micros(),
        operating: operating.filter(|_| limit.is_some_and(|limit| limit.report)),
    };
    close(&portal, body, &time)
}

fn close(portal: &Portal, mut body: Vec<u8>, time: &TimeBlock) -> Reply {
    body.extend_from_slice(b",\"time\":");
    portal.write_time(&mut body, time);
    body.push(b'}');
    Reply::json(200, body)
}

/// The answer that a fault gives instead of the right one, if it does.
pub(super) async fn instead(
    shared: &Shared,
    peer: &Peer,
    fault: &FaultKind,
    uri: &Uri,
) -> Option<Reply> {
    Stats::add(&mut shared.lock().stats.faults, fault.name());
    match fault {
        FaultKind::Slow { millis } => {
            sleep(Duration::from_millis(*millis)).await;
            None
        }
        FaultKind::Hang => std::future::pending().await,
        FaultKind::Reset => {
            peer.arm(WireFault::Reset);
            Some(Reply::html(500))
        }
        FaultKind::Empty => {
            shared.lock().stats.spring(26);
            Some(Reply::json(200, Vec::new()))
        }
        FaultKind::Html { status } => {
            shared.lock().stats.spring(26);
            Some(Reply::html(*status))
        }
        FaultKind::Status { status, code, description } => {
            let mut portal = shared.lock();
            let failure = Failure::new(*status, code, description);
            portal.note_failure(&failure);
            if *status == 200 {
                portal.stats.spring(27);
            }
            Some(Reply::failure(&portal, &failure))
        }
        FaultKind::Redirect { location, status } => {
            shared.lock().stats.spring(25);
            let bare = location.matches('/').count() <= 2;
            let path = uri.path_and_query().map_or("", |path| path.as_str());
            let mut reply = Reply::html(*status);
            reply.location =
                Some(if bare { format!("{location}{path}") } else { location.clone() });
            Some(reply)
        }
        _ => None,
    }
}

/// What a fault does to the right answer.
pub(super) fn afterwards(
    shared: &Shared,
    peer: &Peer,
    fault: Option<&FaultKind>,
    reply: Reply,
) -> Reply {
    match fault {
        Some(FaultKind::Cut { bytes }) => {
            shared.lock().stats.spring(26);
            peer.arm(WireFault::Cut { bytes: *bytes });
        }
        Some(FaultKind::SlowBody { millis }) => {
            const PIECES: u32 = 20;
            peer.arm(WireFault::Trickle {
                piece: reply.body.len() / 20 + 1,
                pause: Duration::from_millis(*millis) / PIECES,
            });
        }
        _ => {}
    }
    reply
}

pub(super) fn finish(shared: &Shared, reply: Reply) -> Response<Body> {
    shared.lock().stats.bytes += u64::try_from(reply.body.len()).unwrap_or(0);
    reply.into_response()
}
