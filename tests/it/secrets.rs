//! The webhook's secret and the database's password are nowhere but in the settings.

use std::time::Duration;

use b24mirror::{
    local_postgres::{LocalOptions, LocalPostgres},
    simulator::{Action, Fault, FaultKind},
};
use nix::sys::signal::Signal;
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{Finished, Run, TestPortal, equal_within, quiet_port};

const SECRET: &str = "s1mul4tedsecret0";
const WRONG_SECRET: &str = "wr0ngsecret00000";
const WRONG_PASSWORD: &str = "wr0ngpassw0rd";

/// A server that asks for a password, which the tests' shared one need not.
async fn strict_server() -> (LocalPostgres, tempfile::TempDir) {
    let directory = tempfile::Builder::new().prefix("b24mirror-test-").tempdir().unwrap();
    let options = LocalOptions {
        durable: false,
        tcp_port: Some(quiet_port()),
        ..LocalOptions::new(directory.path().join("server"))
    };
    let server = LocalPostgres::start(options).await.unwrap();
    server.create_database("mirror").await.unwrap();
    (server, directory)
}

/// Every row of every table, as text.
async fn dump(pool: &PgPool) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.oid::regclass::text from pg_class c \
         where relnamespace = 'bitrix24'::regnamespace and relkind = 'r'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut text = String::new();
    for table in tables {
        let rows = format!("select coalesce(string_agg(t::text, E'\\n'), '') from {table} t");
        let rows: String = sqlx::query_scalar(AssertSqlSafe(rows)).fetch_one(pool).await.unwrap();
        text.push_str(&rows);
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_any_log_line_error_or_table() {
    let portal = TestPortal::small();
    let (server, _directory) = strict_server().await;
    let url = server.tcp_url("mirror").unwrap();
    let url = url.expose_secret();
    let password = url::Url::parse(url).unwrap().password().unwrap().to_owned();
    assert!(password.len() >= 8);
    let settings = |webhook: &str, database: &str, format: &str| {
        format!(
            "[portal]\nwebhook_url = \"{webhook}\"\ntimeout = \"1s\"\n\
             [portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
             [database]\nurl = \"{database}\"\n\
             [sync]\ninterval = \"1s\"\noverlap = \"10s\"\n\
             [log]\nlevel = \"trace\"\nformat = \"{format}\"\n"
        )
    };
    let webhook = portal.webhook_url();
    assert!(webhook.contains(SECRET));
    let good = settings(&webhook, url, "text");
    let pool = PgPool::connect(url).await.unwrap();
    let command =
        |settings: &str, arguments: &[&str]| Run::b24mirror(arguments).config(settings).finish();
    let mut seen: Vec<(&str, Finished)> = Vec::new();

    seen.push(("backfill", command(&good, &["backfill"]).await));
    assert_eq!(seen[0].1.code, Some(0), "{:#?}", seen[0].1);
    assert!(portal.stats().trap(35) > 0, "the portal served its secret inside of rows");

    // A daemon that meets everything a portal can do to it.
    let daemon = Run::b24mirror(&["run"]).config(&settings(&webhook, url, "json")).spawn();
    let status = |status| FaultKind::Status {
        status,
        code: "QUERY_LIMIT_EXCEEDED".to_owned(),
        description: format!("see {webhook}"),
    };
    for kind in [
        FaultKind::Html { status: 502 },
        FaultKind::Cut { bytes: 40 },
        FaultKind::Empty,
        FaultKind::Reset,
        FaultKind::Hang,
        FaultKind::Redirect { location: "http://127.0.0.1:1".to_owned(), status: 302 },
        status(503),
    ] {
        portal.fault(Fault::once("batch", kind));
    }
    seen.push(("backfill handed over", command(&good, &["backfill", "--restart"]).await));
    seen.push(("check", command(&good, &["check"]).await));
    seen.push(("status", command(&good, &["status"]).await));
    portal.happens(Action::ClearFaults);
    equal_within(&portal, &pool, Duration::from_secs(40)).await;
    daemon.signal(Signal::SIGTERM);
    seen.push(("run", daemon.finish().await));

    // Whatever can be wrong with the settings.
    let refused = settings(&webhook.replace(SECRET, WRONG_SECRET), url, "text");
    let unreachable = settings(&format!("http://127.0.0.1:1/rest/1/{SECRET}/"), url, "text");
    let no_entry = settings(&webhook, &url.replace(&password, WRONG_PASSWORD), "text");
    let no_such = settings(&webhook, &url.replace("/mirror", "/no_such"), "json");
    let no_webhook = settings(&format!("{webhook}more/"), url, "text");
    let no_url = settings(&webhook, &format!("{url}?passwort={password}"), "text");
    let no_toml = good.replace("[database]", "database]");
    let no_tls = settings(&webhook.replace("127.0.0.1", "portal.example.com"), url, "text");
    sqlx::query("update bitrix24.portal set host = host").execute(&pool).await.unwrap();
    for (what, settings, code) in [
        ("a refused webhook", &refused, 2),
        ("a wrong password", &no_entry, 64),
        ("a wrong database", &no_such, 64),
        ("a wrong webhook", &no_webhook, 64),
        ("a wrong parameter", &no_url, 64),
        ("wrong TOML", &no_toml, 64),
        ("no TLS", &no_tls, 64),
        ("another portal", &unreachable, 64),
    ] {
        for arguments in [&["sync"][..], &["check"]] {
            let finished = command(settings, arguments).await;
            if arguments == ["sync"] {
                assert_eq!(finished.code, Some(code), "{what}: {finished:#?}");
            }
            seen.push((what, finished));
        }
    }
    // A portal that has gone.
    let port = url::Url::parse(&portal.url()).unwrap().port().unwrap();
    drop(portal);
    let gone = command(&good, &["sync"]).await;
    assert_eq!(gone.code, Some(2), "{port}: {gone:#?}");
    assert!(gone.stdout.contains("cannot connect"), "{gone:#?}");
    seen.push(("a portal that has gone", gone));

    seen.push((
        "the tables",
        Finished { code: None, signal: None, stdout: dump(&pool).await, stderr: String::new() },
    ));
    let everything: usize = seen.iter().map(|(_, f)| f.stdout.len() + f.stderr.len()).sum();
    assert!(everything > 100_000, "{everything} bytes are too few to have seen anything");
    for (what, finished) in &seen {
        for (stream, text) in [("stdout", &finished.stdout), ("stderr", &finished.stderr)] {
            for secret in [SECRET, WRONG_SECRET, WRONG_PASSWORD, &password] {
                let line = text.lines().find(|line| line.contains(secret));
                assert_eq!(line, None, "{what}: a secret on {stream}");
            }
        }
    }
    pool.close().await;
    server.stop().await.unwrap();
}
