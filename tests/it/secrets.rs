//! The webhook's secret and the database's password are nowhere but in the settings.

use std::{path::Path, time::Duration};

use b24mirror::{
    entity::{CONTACTS, Dialect, Entity, RecordId, catalogue::Catalogue, decode::Decoder},
    local_postgres::{LocalOptions, LocalPostgres},
    portal::{
        Ask, Commands, Detail, Lane, Limits, ListSource, Patience, Portal, PortalOptions, ScanAsk,
        WebhookUrl,
    },
    reporting::ReportOptions,
    retry::RetryPolicy,
    settings::{DatabaseSource, Settings},
    simulator::{Action, Fault, FaultKind},
    store::{Store, StoreOptions},
    sync::{CheckOptions, Mirrored, Opened, ProgressBoard, Session, SyncOptions},
};
use nix::sys::signal::Signal;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

use crate::support::{Finished, Run, TestPortal, equal_within, quiet_port};

const SECRET: &str = "s1mul4tedsecret0";
const WRONG_SECRET: &str = "wr0ngsecret00000";
const WRONG_PASSWORD: &str = "wr0ngpassw0rd";

/// Set for the copy of this test binary that is to panic: where the settings are.
const PANICS_WITH: &str = "B24MIRROR_TEST_PANICS_WITH";

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

/// What holds the mirror against the portal, by the daemon and without it, and what else
/// people do with it.
const CHECKS: [&[&str]; 8] = [
    &["sweep"],
    &["verify", "--level", "full", "--json"],
    &["refresh", "contacts", "1", "2"],
    &["refresh", "--quarantined"],
    &["forget", "contacts", "999999999", "--yes"],
    &["pause", "leads"],
    &["resume", "leads"],
    &["purge", "--older-than", "90d"],
];

fn assert_silent(seen: &[(&str, Finished)], secrets: &[&str]) {
    for (what, finished) in seen {
        for (stream, text) in [("stdout", &finished.stdout), ("stderr", &finished.stderr)] {
            for secret in secrets {
                let line = text.lines().find(|line| line.contains(secret));
                assert_eq!(line, None, "{what}: a secret on {stream}");
            }
        }
    }
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
    for arguments in CHECKS {
        seen.push(("a check handed over", command(&good, arguments).await));
    }
    daemon.signal(Signal::SIGTERM);
    seen.push(("run", daemon.finish().await));
    for arguments in CHECKS {
        portal.fault(Fault::once("batch", status(503)));
        seen.push(("a check", command(&good, arguments).await));
    }
    portal.happens(Action::ClearFaults);

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
    assert_silent(&seen, &[SECRET, WRONG_SECRET, WRONG_PASSWORD, &password]);
    pool.close().await;
    server.stop().await.unwrap();
}

/// Shows a value in every way in which it can be shown, which a derive that is added one
/// day would change: `Display` or `Debug` are used where the type has them.
macro_rules! shown {
    ($($value:expr),+ $(,)?) => {{
        use self::show::{Debuggable as _, Displayable as _, Undebuggable as _, Undisplayable as _};
        let mut text = (&self::show::Show(&self::show::Mute)).debugged();
        $(
            text.push_str(concat!("\n", stringify!($value), ": "));
            text.push_str(&(&self::show::Show(&$value)).debugged());
            text.push_str(&(&self::show::Show(&$value)).displayed());
        )+
        text
    }};
}

/// What a type can do is asked of the compiler: it prefers the method that needs no
/// further reference, and that one exists only where the trait is implemented.
mod show {
    use std::fmt::{Debug, Display};

    pub(super) struct Show<'a, T>(pub(super) &'a T);

    /// Can neither; keeps the ways out in use where every type can.
    pub(super) struct Mute;

    pub(super) trait Debuggable {
        fn debugged(&self) -> String;
    }

    impl<T: Debug> Debuggable for Show<'_, T> {
        fn debugged(&self) -> String {
            format!("{:?} {:#?}", self.0, self.0)
        }
    }

    pub(super) trait Undebuggable {
        fn debugged(&self) -> String {
            "(has no Debug)".to_owned()
        }
    }

    impl<T> Undebuggable for &Show<'_, T> {}

    pub(super) trait Displayable {
        fn displayed(&self) -> String;
    }

    impl<T: Display> Displayable for Show<'_, T> {
        fn displayed(&self) -> String {
            format!(" {}", self.0)
        }
    }

    pub(super) trait Undisplayable {
        fn displayed(&self) -> String {
            " (has no Display)".to_owned()
        }
    }

    impl<T> Undisplayable for &Show<'_, T> {}
}

/// The settings and what can be wrong with them.
fn settings_shown(config: &Path, settings: &Settings) -> String {
    let misspelt = config.with_file_name("misspelt.toml");
    let text = std::fs::read_to_string(config).unwrap();
    std::fs::write(&misspelt, text.replace("webhook_url", "webhok_url")).unwrap();
    let unknown_key = Settings::load(Some(&misspelt)).unwrap_err();
    std::fs::write(&misspelt, text.replace('"', "'").replace("webhook_url =", "")).unwrap();
    let no_toml = Settings::load(Some(&misspelt)).unwrap_err();
    let no_webhook = WebhookUrl::parse(&format!("https://example.org/{SECRET}")).unwrap_err();
    shown![
        settings,
        settings.portal,
        settings.portal.webhook_url,
        settings.database,
        settings.database.source,
        unknown_key,
        no_toml,
        no_webhook,
    ]
}

fn options(webhook: WebhookUrl) -> PortalOptions {
    PortalOptions {
        credentials: webhook.into(),
        timeout: Duration::from_secs(20),
        max_body: 1 << 20,
        ca_file: None,
        limits: Limits { requests_per_second: 9.0, burst: 99, operating: None },
        retry: once(),
    }
}

fn once() -> RetryPolicy {
    RetryPolicy::new(1, Duration::from_millis(1), Duration::from_millis(1)).unwrap()
}

/// The client and what it heard: addresses of files repeat the secret.
async fn portal_shown(webhook: &WebhookUrl, portal: &Portal) -> String {
    let contacts = json!({ "select": ["*", "UF_*"], "order": { "ID": "ASC" } });
    let rows = portal.call(Lane::Incremental, "crm.contact.list", &contacts).await.unwrap();
    assert!(rows.result.get().contains(SECRET));
    let mut commands = Commands::new();
    commands.push("rows", "crm.contact.list", &contacts).unwrap();
    let batch = portal.batch(Lane::Incremental, &commands, Patience::Persist).await.unwrap();
    let scan = ScanAsk { detail: Detail::Full, pages: 3, ..ScanAsk::keys_above(RecordId::ZERO) };
    let ask = Ask { scans: vec![scan], catalogue: true, probes: true, ..Ask::default() };
    let source = ListSource::new(portal.clone(), &CONTACTS, Dialect::Classic);
    let heard = source.read(Lane::Incremental, &ask, Patience::Persist).await.unwrap();
    let found = &heard.scans[0].pages[0];
    assert!(found.rows().any(|row| row.text().contains(SECRET)));
    let described = heard.catalogue.as_ref().unwrap().as_ref().unwrap();
    let catalogue = Catalogue::parse(described, &CONTACTS, Dialect::Classic).unwrap();
    let page = Decoder::new(&CONTACTS, Dialect::Classic).page(found.rows(), &catalogue).unwrap();

    let nonsense = portal.call(Lane::Incremental, "no.such.method", &json!({})).await;
    let refused = nonsense.unwrap_err();
    let nowhere = WebhookUrl::parse(&format!("http://127.0.0.1:1/rest/1/{SECRET}/")).unwrap();
    let portal_options = options(nowhere);
    let elsewhere = Portal::new(portal_options.clone()).unwrap();
    let unreachable = elsewhere.call(Lane::Incremental, "profile", &json!({})).await.unwrap_err();
    let limiter = portal.limiter();
    shown![
        webhook,
        portal_options,
        *portal,
        *limiter,
        rows,
        batch,
        heard,
        page,
        refused,
        unreachable,
    ]
}

/// The database, and work that fails for a reason of its own.
async fn store_shown(url: &SecretString, portal: &Portal) -> String {
    let store_options = |url| StoreOptions {
        url,
        schema: "bitrix24".parse().unwrap(),
        max_connections: 4,
        application_name: "secrets".to_owned(),
    };
    let database = store_options(url.clone());
    let store = Store::connect(&database).await.unwrap();
    store.migrate().await.unwrap();
    let mut wrong = url::Url::parse(url.expose_secret()).unwrap();
    wrong.set_password(Some(WRONG_PASSWORD)).unwrap();
    let wrong_database = store_options(String::from(wrong.clone()).into());
    let wrong_password = Store::connect(&wrong_database).await.err().unwrap();
    wrong.set_query(Some(&format!("pasword={WRONG_PASSWORD}")));
    let misspelt_parameter = store_options(String::from(wrong).into());
    let wrong_parameter = Store::connect(&misspelt_parameter).await.err().unwrap();

    let sync_options = SyncOptions {
        max_in_flight: 4,
        dictionary_interval: Duration::from_hours(1),
        checks: CheckOptions::default(),
        board: ProgressBoard::default(),
        entities: Entity::BY_DEFAULT
            .map(|entity| Mirrored::new(entity, Duration::from_secs(1)))
            .to_vec(),
        overlap: Duration::from_secs(10),
        reports: ReportOptions::default(),
        retry: once(),
        holder: "secrets".to_owned(),
    };
    let stop = CancellationToken::new();
    let opened = Session::open(&store, portal, &sync_options, &stop).await.unwrap();
    let Opened::Session(session) = opened else { panic!("somebody has the lease") };
    let outcomes = session.sync(&Entity::BY_DEFAULT).await;
    shown![
        *url,
        database,
        wrong_database,
        misspelt_parameter,
        store,
        wrong_password,
        wrong_parameter,
        sync_options,
        *session,
        outcomes,
    ]
}

/// Everything that holds a secret or has met one.
async fn everything_shown(config: &Path) -> String {
    let settings = Settings::load(Some(config)).unwrap();
    let webhook = WebhookUrl::parse(settings.webhook_url().unwrap().expose_secret()).unwrap();
    let portal = Portal::new(options(webhook.clone())).unwrap();
    let DatabaseSource::Url(url) = settings.database_source().unwrap() else { panic!("not a URL") };
    settings_shown(config, &settings)
        + &portal_shown(&webhook, &portal).await
        + &store_shown(url, &portal).await
}

/// The test calls itself: its copy panics as the program would, in a task and with the
/// standard library's own hook, and the original reads what that prints.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_with_everything_that_can_be_shown_shows_no_secret() {
    if let Some(config) = std::env::var_os(PANICS_WITH) {
        let shown = everything_shown(Path::new(&config)).await;
        let panicked = tokio::spawn(async move { panic!("everything at once: {shown}") }).await;
        std::panic::resume_unwind(panicked.unwrap_err().into_panic());
    }
    let portal = TestPortal::small();
    let (server, directory) = strict_server().await;
    let url = server.tcp_url("mirror").unwrap();
    let password = url::Url::parse(url.expose_secret()).unwrap().password().unwrap().to_owned();
    let config = directory.path().join("config.toml");
    let settings = format!(
        "[portal]\nwebhook_url = \"{}\"\n[database]\nurl = \"{}\"\n",
        portal.webhook_url(),
        url.expose_secret()
    );
    std::fs::write(&config, settings).unwrap();

    let name = "secrets::a_panic_with_everything_that_can_be_shown_shows_no_secret";
    let finished =
        Run::program(std::env::current_exe().unwrap(), &["--exact", name, "--nocapture"])
            .env(PANICS_WITH, config.to_str().unwrap())
            .env("RUST_BACKTRACE", "full")
            .finish()
            .await;
    assert_eq!(finished.code, Some(101), "{finished:#?}");
    let said = format!("{}{}", finished.stdout, finished.stderr);
    for expected in [
        "panicked at",
        "everything at once",
        "stack backtrace",
        "webhook: ",
        "Settings {",
        "PortalOptions {",
        "(has no Debug)",
        "outcomes: ",
        "NeverBackfilled",
    ] {
        assert!(said.contains(expected), "{expected:?} is missing in {said}");
    }
    for (what, secret) in [
        ("the webhook's secret", SECRET),
        ("the database's password", &password),
        ("a wrong password", WRONG_PASSWORD),
    ] {
        let at = said.find(secret);
        assert_eq!(at.map(|at| &said[at.saturating_sub(300)..at]), None, "{what} follows");
    }
    server.stop().await.unwrap();
}
