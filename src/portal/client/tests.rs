//! The client against tiny servers that say exactly what a test wants.

use std::{
    error::Error as _,
    io::Write as _,
    sync::{Arc, Mutex},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{TlsAcceptor, rustls};

use super::*;
use crate::portal::auth::WebhookUrl;

const SECRET: &str = "s3cretWebhookKey";

/// What a server does with one request, after having read it.
#[derive(Clone)]
enum Act {
    /// Answers and keeps the connection's promise of `Content-Length`.
    Say(u16, &'static str, String),
    /// Sends these bytes and closes.
    Raw(Vec<u8>),
    /// Never answers.
    Hang,
}

/// An answer of the portal.
fn ok(body: &str) -> Act {
    Act::Say(200, "", body.to_owned())
}

fn profile() -> Act {
    ok(
        r#"{"result":{"ID":"1"},"time":{"start":1700000000,"date_start":"2023-11-14T22:13:20+00:00"}}"#,
    )
}

/// A server that plays its acts one after another and remembers the requests.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(acts: Vec<Act>) -> Self {
        Self::start_with(acts, None).await
    }

    async fn start_with(acts: Vec<Act>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            for act in acts {
                let (stream, _) = listener.accept().await.unwrap();
                match &tls {
                    None => play(stream, act, &seen).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            play(stream, act, &seen).await;
                        }
                    }
                }
            }
        });
        Self { address, requests }
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/rest/1/{SECRET}/", self.address)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Serves one connection with one exchange.
async fn play(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    act: Act,
    seen: &Mutex<Vec<String>>,
) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request);
        let complete = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| {
                line.to_lowercase().strip_prefix("content-length: ")?.parse().ok()
            });
            body.len() >= length.unwrap_or(0_usize)
        });
        if read == 0 || complete {
            break;
        }
    }
    seen.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
    match act {
        Act::Say(status, header, body) => {
            let head = format!(
                "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n{header}\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            // The client may have hung up already, when the body is too large for it.
            let _ = stream.write_all(body.as_bytes()).await;
        }
        Act::Raw(bytes) => stream.write_all(&bytes).await.unwrap(),
        Act::Hang => std::future::pending().await,
    }
    let _ = stream.shutdown().await;
}

fn options(url: &str) -> PortalOptions {
    PortalOptions {
        credentials: WebhookUrl::parse(url).unwrap().into(),
        timeout: Duration::from_secs(5),
        max_body: 10_000,
        ca_file: None,
        limits: Limits { requests_per_second: 100.0, burst: 1_000, operating: None },
        retry: RetryPolicy::new(1, Duration::from_millis(1), Duration::from_millis(2)).unwrap(),
    }
}

async fn call(options: PortalOptions) -> Result<Answer, PortalError> {
    let portal = Portal::new(options)?;
    portal.call(Lane::People, "profile", &json!({ "a": "ж+" })).await
}

#[tokio::test]
async fn a_page_that_says_for_how_long_holds_every_request_back() {
    let page = |status| Act::Say(status, "Retry-After: 1\r\n", "<html></html>".to_owned());
    for status in [429, 503] {
        let server = Server::start(vec![page(status), profile(), profile()]).await;
        let portal = Portal::new(options(&server.url("http"))).unwrap();
        let begun = Instant::now();
        let refused = portal.call(Lane::People, "profile", &json!({})).await;
        assert!(matches!(refused, Err(PortalError::Gateway { .. })), "{refused:?}");
        portal.call(Lane::People, "profile", &json!({})).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(990), "{:?}", begun.elapsed());
    }
}

/// Every way in which an error can end up in a log.
fn shown(error: &PortalError) -> String {
    let mut shown = format!("{error} {error:?} {}", error.advice());
    let mut source = error.source();
    while let Some(cause) = source {
        shown = format!("{shown} {cause} {cause:?}");
        source = cause.source();
    }
    shown
}

#[tokio::test]
async fn a_call_is_a_post_with_a_json_body() {
    let server = Server::start(vec![profile()]).await;
    let portal = Portal::new(options(&server.url("http"))).unwrap();
    let answer = portal.call(Lane::People, "profile", &json!({ "a": "ж+" })).await.unwrap();
    assert_eq!(answer.result.get(), r#"{"ID":"1"}"#);
    assert_eq!(answer.time.unwrap().clock.timestamp(), 1_700_000_000);
    let request = &server.requests()[0];
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with(&format!("POST /rest/1/{SECRET}/profile.json HTTP/1.1\r\n")),
        "{head}"
    );
    let head = head.to_lowercase();
    for line in [
        "content-type: application/json",
        "accept: application/json",
        "user-agent: b24mirror/",
        "accept-encoding: gzip",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert_eq!(body, r#"{"a":"ж+"}"#);
    assert_eq!(portal.meter().requests, 1);
    assert_eq!(portal.meter().retries, 0);
}

#[tokio::test]
async fn a_redirect_keeps_method_body_and_path_and_is_remembered() {
    let new = Server::start(vec![profile(), profile(), profile()]).await;
    for (status, path) in [
        (301, format!("/rest/1/{SECRET}/profile.json")),
        (308, format!("/rest/1/{SECRET}/profile")),
        (302, "/".to_owned()),
    ] {
        let location = format!("Location: http://{}{path}\r\n", new.address);
        let old = Server::start(vec![Act::Say(
            status,
            Box::leak(location.into_boxed_str()),
            "<html>".into(),
        )])
        .await;
        let answer = call(options(&old.url("http"))).await.unwrap();
        assert_eq!(answer.result.get(), r#"{"ID":"1"}"#);
        let request = new.requests().pop().unwrap();
        assert!(request.starts_with(&format!("POST /rest/1/{SECRET}/profile.json ")), "{request}");
        assert!(request.ends_with(r#"{"a":"ж+"}"#), "{request}");
    }

    let new = Server::start(vec![profile(), profile()]).await;
    let location = format!("Location: {}profile.json\r\n", new.url("http"));
    let old =
        Server::start(vec![Act::Say(307, Box::leak(location.into_boxed_str()), String::new())])
            .await;
    let portal = Portal::new(options(&old.url("http"))).unwrap();
    for _ in 0..2 {
        portal.call(Lane::People, "profile", &json!({})).await.unwrap();
    }
    assert_eq!((old.requests().len(), new.requests().len()), (1, 2));
    assert_eq!(portal.meter().requests, 3);
    assert_eq!(portal.host(), old.address, "the configured host is the identity");
}

#[tokio::test]
async fn a_method_of_the_newer_dialect_has_its_own_address_and_shares_the_redirect() {
    let new = Server::start(vec![profile(), profile()]).await;
    let location = format!("Location: http://{}/rest/api/1/{SECRET}/mail.list\r\n", new.address);
    let old =
        Server::start(vec![Act::Say(307, Box::leak(location.into_boxed_str()), String::new())])
            .await;
    let portal = Portal::new(options(&old.url("http"))).unwrap();
    portal.call_v3(Lane::People, "mail.list", &json!({})).await.unwrap();
    portal.call(Lane::People, "profile", &json!({})).await.unwrap();
    let first = |requests: Vec<String>| -> Vec<String> {
        requests.iter().map(|one| one.lines().next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(first(old.requests()), [format!("POST /rest/api/1/{SECRET}/mail.list HTTP/1.1")]);
    assert_eq!(
        first(new.requests()),
        [
            format!("POST /rest/api/1/{SECRET}/mail.list HTTP/1.1"),
            format!("POST /rest/1/{SECRET}/profile.json HTTP/1.1"),
        ]
    );
}

#[tokio::test]
async fn a_redirect_never_takes_the_secret_into_the_clear() {
    let header = "Location: http://example.com/rest/1/x/profile.json\r\n";
    let server = Server::start(vec![Act::Say(302, header, String::new())]).await;
    let error = call(options(&server.url("http"))).await.unwrap_err();
    assert!(
        matches!(&error, PortalError::InsecureRedirect { target } if target == "http://example.com")
    );
    assert_eq!(error.disposition(), Disposition::StopPortal);
}

#[tokio::test]
async fn redirects_without_end_or_aim_are_errors() {
    let circle = "Location: profile.json\r\n";
    let server = Server::start(vec![Act::Say(302, circle, String::new()); 9]).await;
    let error = call(options(&server.url("http"))).await.unwrap_err();
    assert!(matches!(error, PortalError::TooManyRedirects { .. }), "{error}");
    assert_eq!(server.requests().len(), 4);
    for header in ["", "Location: /login\r\n"] {
        let server = Server::start(vec![Act::Say(302, header, "<html>".into())]).await;
        let error = call(options(&server.url("http"))).await.unwrap_err();
        assert!(matches!(error, PortalError::Gateway { status: 302, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_dead_new_address_leads_back_to_the_configured_one() {
    let gone = Server::start(vec![]).await;
    let location = format!("Location: {}profile.json\r\n", gone.url("http"));
    let header = Box::leak(location.into_boxed_str());
    let old = Server::start(vec![Act::Say(302, header, String::new()), profile()]).await;
    // The listener of a server without acts is closed as soon as its task has run.
    tokio::task::yield_now().await;
    let mut options = options(&old.url("http"));
    options.retry =
        RetryPolicy::new(3, Duration::from_millis(1), Duration::from_millis(2)).unwrap();
    let answer = call(options).await.unwrap();
    assert_eq!(answer.result.get(), r#"{"ID":"1"}"#);
}

#[tokio::test]
async fn broken_answers_are_told_apart_and_shown_without_the_secret() {
    type Check = fn(&PortalError) -> bool;
    let cases: Vec<(Act, Check)> = vec![
        (Act::Say(502, "", "<html>Bad Gateway".into()), |e| {
            matches!(e, PortalError::Gateway { status: 502, .. })
        }),
        (Act::Say(200, "", "<html>Login".into()), |e| {
            matches!(e, PortalError::Gateway { status: 200, .. })
        }),
        (Act::Say(200, "", String::new()), |e| matches!(e, PortalError::EmptyBody { .. })),
        (ok(r#"{"result":[{"ID":"1"#), |e| matches!(e, PortalError::CutBody { .. })),
        (ok(&format!(r#"{{"result":"{}"}}"#, "x".repeat(20_000))), |e| {
            matches!(e, PortalError::BodyTooLarge { limit: 10_000, .. })
        }),
        (Act::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"resu".to_vec()), |e| {
            matches!(e, PortalError::CutBody { bytes: 6, .. })
        }),
        (
            Act::Raw(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{\"resu\r\n".to_vec(),
            ),
            |e| matches!(e, PortalError::CutBody { .. }),
        ),
        (Act::Raw(Vec::new()), |e| matches!(e, PortalError::Transport { .. })),
        (Act::Raw(b"nonsense\r\n\r\n".to_vec()), |e| matches!(e, PortalError::Transport { .. })),
        (
            Act::Say(
                401,
                "",
                format!(
                    r#"{{"error":"INVALID_CREDENTIALS","error_description":"{SECRET} is wrong"}}"#
                ),
            ),
            |e| e.disposition() == Disposition::StopPortal,
        ),
    ];
    for (act, check) in cases {
        let server = Server::start(vec![act]).await;
        let error = call(options(&server.url("http"))).await.unwrap_err();
        assert!(check(&error), "{error:?}");
        assert!(!shown(&error).contains(SECRET), "{}", shown(&error));
    }
}

#[tokio::test]
async fn a_portal_that_hangs_is_given_up_on_in_time() {
    let server = Server::start(vec![Act::Hang]).await;
    let mut slow = options(&server.url("http"));
    slow.timeout = Duration::from_millis(100);
    let error = call(slow).await.unwrap_err();
    assert!(matches!(error, PortalError::Timeout { .. }), "{error:?}");
    assert!(error.is_heavy());
    assert!(!shown(&error).contains(SECRET));

    // The same when it hangs in the middle of its answer.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/rest/1/{SECRET}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{";
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.write_all(head).await.unwrap();
        std::future::pending::<()>().await;
    });
    let mut slow = options(&url);
    slow.timeout = Duration::from_millis(100);
    let error = call(slow).await.unwrap_err();
    assert!(matches!(error, PortalError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_there_is_a_failure_to_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/rest/1/{SECRET}/", listener.local_addr().unwrap());
    drop(listener);
    let error = call(options(&url)).await.unwrap_err();
    assert!(error.is_unreachable());
    assert_eq!(error.disposition(), Disposition::Retry);
    assert!(!shown(&error).contains(SECRET), "{}", shown(&error));
    assert!(shown(&error).contains("127.0.0.1"), "{}", shown(&error));
}

#[tokio::test]
async fn transient_failures_are_tried_again_and_counted() {
    let server = Server::start(vec![
        Act::Say(502, "", "<html>".into()),
        Act::Say(500, "", r#"{"error":"INTERNAL_SERVER_ERROR"}"#.into()),
        profile(),
    ])
    .await;
    let mut options = options(&server.url("http"));
    options.retry =
        RetryPolicy::new(5, Duration::from_millis(1), Duration::from_millis(2)).unwrap();
    let portal = Portal::new(options).unwrap();
    portal.call(Lane::People, "profile", &json!({})).await.unwrap();
    let meter = portal.meter();
    assert_eq!((meter.requests, meter.retries), (3, 2));
    assert!(meter.waited >= Duration::from_millis(1));
}

#[tokio::test]
async fn a_final_error_is_not_tried_again() {
    let body = r#"{"error":"","error_description":"Access denied."}"#;
    let server = Server::start(vec![Act::Say(400, "", body.into()), profile()]).await;
    let mut options = options(&server.url("http"));
    options.retry =
        RetryPolicy::new(5, Duration::from_millis(1), Duration::from_millis(2)).unwrap();
    let error = call(options).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::StopEntity);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_heavy_answer_can_be_returned_at_once() {
    for (patience, requests) in [(Patience::FailFastWhenHeavy, 1), (Patience::Persist, 3)] {
        let server = Server::start(vec![Act::Say(504, "", "<html>".into()); 9]).await;
        let mut options = options(&server.url("http"));
        options.retry =
            RetryPolicy::new(3, Duration::from_millis(1), Duration::from_millis(2)).unwrap();
        let mut commands = Commands::new();
        commands.push("a", "profile", &json!({})).unwrap();
        let portal = Portal::new(options).unwrap();
        let error = portal.batch(Lane::Backfill, &commands, patience).await.unwrap_err();
        assert!(error.is_heavy());
        assert_eq!(server.requests().len(), requests);
    }
}

#[tokio::test]
async fn a_refusal_is_waited_out_and_told_to_the_limiter() {
    let refused = r#"{"error":"QUERY_LIMIT_EXCEEDED","error_description":"Too many requests"}"#;
    let server = Server::start(vec![Act::Say(503, "", refused.into()), profile()]).await;
    let portal = Portal::new(options(&server.url("http"))).unwrap();
    let asked = Instant::now();
    // One attempt is all that the policy allows, and refusals do not use it up.
    portal.call(Lane::People, "profile", &json!({})).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(500));
    assert_eq!(portal.meter().requests, 2);
    assert!(portal.limiter().level() > 500.0);
}

#[tokio::test]
async fn a_method_blocked_inside_a_batch_reaches_the_limiter() {
    let body = json!({ "result": {
        "result": { "b": [] },
        "result_error": { "a": { "error": "OPERATION_TIME_LIMIT", "error_description": SECRET } },
        "result_time": { "b": { "start": 100, "operating": 1, "operating_reset_at": 130 } },
    }});
    let server = Server::start(vec![ok(&body.to_string())]).await;
    let portal = Portal::new(options(&server.url("http"))).unwrap();
    let mut commands = Commands::new();
    commands.push("a", "crm.contact.list", &json!({})).unwrap();
    commands.push("b", "crm.lead.list", &json!({})).unwrap();
    let mut answer = portal.batch(Lane::Backfill, &commands, Patience::Persist).await.unwrap();
    assert_eq!(answer.take("b").unwrap().result.get(), "[]");
    let error = answer.take("a").unwrap_err();
    assert_eq!(error.disposition(), Disposition::WaitMethod);
    assert!(!shown(&error).contains(SECRET), "{}", shown(&error));
    assert_eq!(portal.limiter().affordable(Lane::Backfill, "crm.contact.list"), 0);
    assert!(portal.limiter().affordable(Lane::Backfill, "crm.lead.list") > 0);
}

#[tokio::test]
async fn a_private_certificate_authority_is_trusted_only_when_given() {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf =
        CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &ca).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![leaf.der().clone()],
        rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    )
    .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let server = Server::start_with(vec![profile(), profile()], Some(tls)).await;

    let error = call(options(&server.url("https"))).await.unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    assert!(error.advice().contains("portal.ca_file"));
    assert!(!shown(&error).contains(SECRET));

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(ca.pem().as_bytes()).unwrap();
    let mut trusting = options(&server.url("https"));
    trusting.ca_file = Some(file.path().to_owned());
    let answer = call(trusting).await.unwrap();
    assert_eq!(answer.result.get(), r#"{"ID":"1"}"#);
}

#[test]
fn an_unusable_certificate_file_is_named() {
    let mut missing = options("https://example.com/rest/1/abc/");
    missing.ca_file = Some("/nonexistent/ca.pem".into());
    let error = Portal::new(missing).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/ca.pem"));
    assert!(error.advice().contains("portal.ca_file"));
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut empty = options("https://example.com/rest/1/abc/");
    empty.ca_file = Some(file.path().to_owned());
    assert!(matches!(Portal::new(empty).unwrap_err(), PortalError::CaCertificate { .. }));
}

#[test]
fn calls_can_be_spawned_and_debug_shows_only_the_host() {
    fn spawnable<T: Send + 'static>(_: T) {}
    let url = format!("http://127.0.0.1:9/rest/1/{SECRET}/");
    let portal = Portal::new(options(&url)).unwrap();
    let shown = format!("{portal:?} {:?}", options(&url));
    assert!(shown.contains("127.0.0.1:9") && !shown.contains(SECRET), "{shown}");
    spawnable(async move {
        let commands = Commands::new();
        let _ = portal.call(Lane::People, "profile", &json!({})).await;
        let _ = portal.batch(Lane::People, &commands, Patience::Persist).await;
    });
}
