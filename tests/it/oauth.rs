//! An application instead of a webhook: its tokens expire, are renewed, stored and lost.

use std::time::Duration;

use b24mirror::simulator::{
    Action, ApplicationEvent, ApplicationOptions, Entity, Fault, FaultKind, Options,
};
use nix::sys::signal::Signal;
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{
    Database, Finished, Process, Run, TestPortal, assert_equal, database, equal_within, eventually,
    tables::value, unlimited,
};

/// 32 bytes, and 32 others.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

/// What no text may hold: the beginnings of all tokens that the simulator makes, the secret
/// key, the key of the tokens.
const SECRETS: [&str; 5] =
    ["s1macc3sst0ken", "s1mrefresht0ken", "s1mf1rstrefresht0ken", "s1mcl13nts3cr3t", KEY];

fn portal() -> TestPortal {
    TestPortal::with(Options { contacts: 700, leads: 300, ..unlimited() })
}

/// The settings of the simulator's application, with these lines in place of its own.
fn settings_with(portal: &TestPortal, database: &Database, own: &[(&str, &str)]) -> String {
    let ApplicationOptions { client_id, client_secret, refresh_token, .. } =
        ApplicationOptions::default();
    let host = portal.url().replace("http://", "");
    let mut keys = vec![
        ("host", host.as_str()),
        ("client_id", &client_id),
        ("client_secret", &client_secret),
        ("refresh_token", &refresh_token),
        ("token_key", KEY),
    ];
    for (key, value) in own {
        keys.retain(|(name, _)| name != key);
        keys.push((key, value));
    }
    let lines: Vec<_> = keys.iter().map(|(key, value)| format!("{key} = \"{value}\"")).collect();
    let section = lines.join("\n");
    format!(
        "[portal.oauth]\n{section}\n\
         [portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
         [database]\nurl = \"{}\"\n\
         [sync]\ninterval = \"1s\"\noverlap = \"10s\"\n\
         [log]\nlevel = \"trace\"\n",
        database.url().expose_secret(),
    )
}

pub(crate) fn settings(portal: &TestPortal, database: &Database) -> String {
    settings_with(portal, database, &[])
}

async fn command(settings: &str, arguments: &[&str]) -> Finished {
    let finished = Run::b24mirror(arguments).config(settings).finish().await;
    assert_silent(&finished);
    finished
}

fn daemon(settings: &str) -> Process {
    Run::b24mirror(&["run"]).config(settings).spawn()
}

async fn succeeds(settings: &str, arguments: &[&str]) -> Finished {
    let finished = command(settings, arguments).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finished
}

/// The command ends so, and says all of this.
async fn fails(settings: &str, arguments: &[&str], code: i32, says: &[&str]) {
    let finished = command(settings, arguments).await;
    assert_eq!(finished.code, Some(code), "{finished:#?}");
    for text in says {
        let said = finished.stdout.contains(text) || finished.stderr.contains(text);
        assert!(said, "{text:?} is missing in {finished:#?}");
    }
}

fn assert_silent(finished: &Finished) {
    for text in [&finished.stdout, &finished.stderr] {
        for secret in SECRETS {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "a secret was said");
        }
    }
}

/// No row of any table holds a secret as text, nor as bytes.
async fn assert_no_secret_is_stored(pool: &PgPool) {
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.oid::regclass::text from pg_class c \
         where relnamespace = 'bitrix24'::regnamespace and relkind = 'r'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(tables.iter().any(|table| table.ends_with("portal_tokens")));
    for table in tables {
        for secret in SECRETS {
            let hex: Vec<_> = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            let hex = hex.concat();
            let found = format!(
                "select count(*) from {table} t \
                 where strpos(t::text, '{secret}') > 0 or strpos(t::text, '{hex}') > 0"
            );
            let found: i64 =
                sqlx::query_scalar(AssertSqlSafe(found)).fetch_one(pool).await.unwrap();
            assert_eq!(found, 0, "{table} holds a secret");
        }
    }
}

fn happens(portal: &TestPortal, event: ApplicationEvent) {
    portal.happens(Action::Application { event });
}

fn change(portal: &TestPortal, count: u64) {
    for entity in [Entity::Contacts, Entity::Leads] {
        portal.happens(Action::Change { entity, ids: vec![], count, visible_after: 0.0 });
    }
}

const SECONDS_20: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn an_application_mirrors_as_a_webhook_does_and_renews_only_when_told() {
    let (portal, database) = (portal(), database().await);
    let settings = settings(&portal, &database);
    succeeds(&settings, &["backfill"]).await;
    assert_equal(&portal, database.pool()).await;
    assert_eq!(portal.stats().token_requests, 1);

    // A process after a process uses the stored pair.
    let mut daemon = daemon(&settings);
    daemon.logged("mirroring portal").await;
    change(&portal, 40);
    equal_within(&portal, database.pool(), SECONDS_20).await;
    assert_eq!(portal.stats().token_requests, 1);

    happens(&portal, ApplicationEvent::Expire);
    change(&portal, 40);
    equal_within(&portal, database.pool(), SECONDS_20).await;
    assert_eq!(portal.stats().token_requests, 2);
    happens(&portal, ApplicationEvent::Invalidate);
    change(&portal, 40);
    equal_within(&portal, database.pool(), SECONDS_20).await;
    assert_eq!((portal.stats().token_requests, portal.stats().trap(24)), (3, 0));

    daemon.signal(Signal::SIGTERM);
    let finished = daemon.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_silent(&finished);
    assert!(finished.stderr.contains("DEBUG"), "nothing was logged at that level");
    let row: (String, Option<String>) =
        sqlx::query_as("select host, member_id from bitrix24.portal")
            .fetch_one(database.pool())
            .await
            .unwrap();
    assert_eq!(row.0, portal.url().replace("http://", ""));
    assert_eq!(row.1.unwrap(), ApplicationOptions::default().member_id);
    assert_no_secret_is_stored(database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_in_the_midst_of_a_batch_loses_nothing() {
    for after in [0, 1, 2, 7] {
        let (portal, database) = (portal(), database().await);
        let settings = settings(&portal, &database);
        succeeds(&settings, &["backfill", "contacts"]).await;
        happens(&portal, ApplicationEvent::ExpireAfter(after));
        succeeds(&settings, &["backfill"]).await;
        assert_eq!(portal.stats().token_requests, 2, "after {after}");
        assert_equal(&portal, database.pool()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_entities_at_work_renew_once() {
    let options = Options {
        contacts: 30_000,
        leads: 30_000,
        latency: Duration::from_millis(150),
        ..unlimited()
    };
    let (portal, database) = (TestPortal::with(options), database().await);
    let settings = settings(&portal, &database);
    succeeds(&settings, &["migrate"]).await;
    let mut backfill = Run::b24mirror(&["backfill"]).config(&settings).spawn();
    for renewals in 2..=3 {
        // Several chains of both entities are in flight, and the portal has accepted the token
        // in force: one that it never accepts is not replaced.
        let before = rows_read(database.pool()).await;
        eventually("records of several answers", || async {
            rows_read(database.pool()).await >= before + 12_000
        })
        .await;
        happens(&portal, ApplicationEvent::Expire);
        eventually("a renewal", || async { portal.stats().token_requests >= renewals }).await;
    }
    backfill.logged("tokens were renewed").await;
    let finished = backfill.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_silent(&finished);
    let stats = portal.stats();
    assert_eq!((stats.token_requests, stats.renewals, stats.trap(24)), (3, 3, 0));
    assert_equal(&portal, database.pool()).await;
}

async fn rows_read(pool: &PgPool) -> i64 {
    let read = "select coalesce(sum(rows_read), 0)::bigint from bitrix24.backfill_segments";
    value(pool, read).await
}

/// A daemon that is killed when the authorization server has made a new pair and nobody has
/// stored it.
async fn killed_between(portal: &TestPortal, settings: &str) {
    let mut daemon = daemon(settings);
    daemon.logged("mirroring portal").await;
    let renewals = portal.stats().renewals;
    happens(portal, ApplicationEvent::Silent(true));
    happens(portal, ApplicationEvent::Expire);
    eventually("a renewal", || async { portal.stats().renewals > renewals }).await;
    assert_silent(&daemon.kill().await);
    happens(portal, ApplicationEvent::Silent(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_renewal_and_store_is_survived_where_the_old_token_still_works() {
    let (portal, database) = (portal(), database().await);
    let settings = settings(&portal, &database);
    succeeds(&settings, &["backfill"]).await;
    happens(&portal, ApplicationEvent::Grace(true));
    killed_between(&portal, &settings).await;
    change(&portal, 20);
    succeeds(&settings, &["sync"]).await;
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_renewal_and_store_is_told_where_the_old_token_is_dead() {
    let (portal, database) = (portal(), database().await);
    let settings = settings(&portal, &database);
    succeeds(&settings, &["backfill"]).await;
    killed_between(&portal, &settings).await;
    let says = ["invalid_grant", "authorize the application again", "`portal.oauth.refresh_token`"];
    portal.reset_stats();
    fails(&settings, &["sync"], 2, &says).await;
    assert_eq!(portal.stats().token_requests, 1, "a dead token is not tried again and again");
    fails(&settings, &["check"], 1, &says).await;
    let status = command(&settings, &["status"]).await;
    assert_eq!(status.code, Some(2), "{status:#?}");
    assert!(status.stdout.contains("authorize the application again"), "{status:#?}");

    // The old setting is spent, whatever the portal would say; a new one counts.
    happens(&portal, ApplicationEvent::Authorized("s1mrefresht0kenbyaperson".to_owned()));
    fails(&settings, &["sync"], 2, &says).await;
    let own = [("refresh_token", "s1mrefresht0kenbyaperson")];
    let anew = settings_with(&portal, &database, &own);
    change(&portal, 20);
    succeeds(&anew, &["sync"]).await;
    assert_equal(&portal, database.pool()).await;
    // Settings that are put back do not bring a spent token back.
    happens(&portal, ApplicationEvent::Expire);
    succeeds(&settings, &["sync"]).await;
    assert_no_secret_is_stored(database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_told_to_end_in_a_slow_renewal_stores_the_pair_first() {
    let (portal, database) = (portal(), database().await);
    let settings = settings(&portal, &database);
    succeeds(&settings, &["backfill"]).await;
    let mut daemon = daemon(&settings);
    daemon.logged("mirroring portal").await;
    // Longer than a process may otherwise take to end.
    portal.fault(Fault::once("oauth/token", FaultKind::Slow { millis: 7_000 }));
    happens(&portal, ApplicationEvent::Expire);
    daemon.logged("renewing the application's tokens").await;
    daemon.signal(Signal::SIGTERM);
    let begun = tokio::time::Instant::now();
    let finished = daemon.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(begun.elapsed() > Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(finished.stderr.contains("tokens were renewed and are stored"), "{finished:#?}");
    assert_silent(&finished);
    // The old one is dead, and the new one is there.
    assert_eq!(portal.stats().renewals, 2);
    change(&portal, 20);
    succeeds(&settings, &["sync"]).await;
    assert_equal(&portal, database.pool()).await;
    assert_eq!((portal.stats().token_requests, portal.stats().trap(24)), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_pair_is_not_used_before_it_is_stored() {
    let (portal, database) = (portal(), database().await);
    let settings = settings(&portal, &database);
    succeeds(&settings, &["backfill"]).await;
    let mut daemon = daemon(&settings);
    daemon.logged("mirroring portal").await;
    let mut lock = database.pool().begin().await.unwrap();
    sqlx::query("lock table bitrix24.portal_tokens in share mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    happens(&portal, ApplicationEvent::Expire);
    eventually("a renewal", || async { portal.stats().renewals == 2 }).await;
    let commands = portal.stats().commands;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(portal.stats().commands, commands, "nothing was read by a pair that is not stored");
    lock.rollback().await.unwrap();
    change(&portal, 20);
    equal_within(&portal, database.pool(), SECONDS_20).await;
    assert_eq!(portal.stats().token_requests, 2);
    assert_silent(&daemon.kill().await);
    succeeds(&settings, &["sync"]).await;
    assert_eq!(portal.stats().token_requests, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_was_removed_stops_every_entity_and_goes_on_when_it_is_back() {
    let (portal, database) = (portal(), database().await);
    let settings = settings(&portal, &database);
    succeeds(&settings, &["backfill"]).await;
    happens(&portal, ApplicationEvent::Removed(true));
    let says = ["APPLICATION_NOT_FOUND", "is not installed on the portal any more"];
    fails(&settings, &["sync"], 2, &says).await;
    fails(&settings, &["check"], 1, &says).await;
    happens(&portal, ApplicationEvent::Invalidate);
    let says = ["NOT_INSTALLED", "is not installed on the portal any more"];
    fails(&settings, &["sync"], 2, &says).await;
    fails(&settings, &["check"], 1, &says).await;
    happens(&portal, ApplicationEvent::Removed(false));
    happens(&portal, ApplicationEvent::Unpaid(true));
    fails(&settings, &["sync"], 2, &["PAYMENT_REQUIRED", "renew the portal's subscription"]).await;
    happens(&portal, ApplicationEvent::Unpaid(false));
    change(&portal, 20);
    succeeds(&settings, &["sync"]).await;
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_client_data_are_named_and_spend_nothing() {
    let (portal, database) = (portal(), database().await);
    let good = settings(&portal, &database);
    succeeds(&good, &["migrate"]).await;
    for (own, says) in [
        (("client_secret", "wr0ng"), ["invalid_client", "`portal.oauth.client_secret`"]),
        (("client_id", "local.0"), ["WRONG_CLIENT", "`portal.oauth.client_id`"]),
        (("refresh_token", "wr0ng"), ["invalid_grant", "`portal.oauth.refresh_token`"]),
    ] {
        let wrong = settings_with(&portal, &database, &[own]);
        fails(&wrong, &["check"], 1, &says).await;
        fails(&wrong, &["backfill"], 2, &says).await;
    }
    assert_eq!((portal.stats().renewals, portal.stats().requests), (0, 0));
    succeeds(&good, &["backfill"]).await;
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_server_that_fails_is_asked_again() {
    let (portal, database) = (portal(), database().await);
    let settings = settings(&portal, &database);
    let (first, secret) = (SECRETS[2], SECRETS[3]);
    for kind in [
        FaultKind::Html { status: 502 },
        FaultKind::Reset,
        FaultKind::Status {
            status: 503,
            code: "QUERY_LIMIT_EXCEEDED".to_owned(),
            description: format!(
                "{first}000000000000 by {secret}LJSl0lNB76B5YY6u0YVQ3AW0DrVADcRTw"
            ),
        },
    ] {
        portal.fault(Fault::once("oauth/token", kind));
    }
    succeeds(&settings, &["backfill"]).await;
    assert_equal(&portal, database.pool()).await;
    assert_eq!(portal.stats().renewals, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_fit_is_named_and_a_lost_one_costs_an_authorization() {
    let (portal, database) = (portal(), database().await);
    succeeds(&settings(&portal, &database), &["backfill"]).await;
    let other = settings_with(&portal, &database, &[("token_key", OTHER_KEY)]);
    portal.reset_stats();
    for arguments in [&["run"][..], &["sync"], &["check"], &["plan"]] {
        fails(&other, arguments, 64, &["`portal.oauth.token_key`"]).await;
    }
    assert_eq!((portal.stats().requests, portal.stats().token_requests), (0, 0));
    let token = "s1mrefresht0kenbyaperson";
    happens(&portal, ApplicationEvent::Authorized(token.to_owned()));
    let own = [("token_key", OTHER_KEY), ("refresh_token", token)];
    succeeds(&settings_with(&portal, &database, &own), &["sync"]).await;
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_plan_leave_renewing_to_the_process_that_mirrors() {
    let (portal, database) = (portal(), database().await);
    let settings = settings(&portal, &database);
    // Before there is a place for tokens none are asked for.
    let finished = succeeds(&settings, &["check"]).await;
    assert!(finished.stdout.contains("warning  application: not tried"), "{finished:#?}");
    fails(&settings, &["plan"], 1, &["b24mirror migrate"]).await;
    assert_eq!(portal.stats().token_requests, 0);

    // Nobody mirrors, so the first pair is bought and stored here.
    succeeds(&settings, &["migrate"]).await;
    let finished = succeeds(&settings, &["check"]).await;
    let host = portal.url().replace("http://", "");
    for text in ["application: acts for", &*host, "tokens: access token good until", "a223c6b3"] {
        assert!(finished.stdout.contains(text), "{text}: {finished:#?}");
    }
    succeeds(&settings, &["plan"]).await;
    assert_eq!(portal.stats().token_requests, 1);
    let held = "select holder is not null from bitrix24.sync_lease";
    assert!(!value::<bool>(database.pool(), held).await);
    succeeds(&settings, &["backfill"]).await;
    assert_eq!(portal.stats().token_requests, 1);

    // A daemon mirrors: whoever meets the expired token first, the daemon renews it.
    let mut running = daemon(&settings);
    running.logged("mirroring portal").await;
    for _ in 0..3 {
        happens(&portal, ApplicationEvent::Expire);
        succeeds(&settings, &["check"]).await;
        succeeds(&settings, &["plan"]).await;
    }
    assert_eq!((portal.stats().token_requests, portal.stats().trap(24)), (4, 0));

    // One that hangs does not, and is named.
    running.signal(Signal::SIGSTOP);
    happens(&portal, ApplicationEvent::Expire);
    let mut lease = database.pool().acquire().await.unwrap();
    sqlx::query(
        "update bitrix24.sync_lease set expires_at = clock_timestamp() + interval '1 hour'",
    )
    .execute(&mut *lease)
    .await
    .unwrap();
    fails(&settings, &["check"], 1, &["the access token has expired", "process", "run"]).await;
    assert_eq!(portal.stats().token_requests, 4);
    running.signal(Signal::SIGCONT);
    change(&portal, 20);
    equal_within(&portal, database.pool(), SECONDS_20).await;
    assert_silent(&running.kill().await);
}

/// Another portal, with an application of its own.
fn other_portal() -> (TestPortal, (&'static str, &'static str)) {
    let token = "s1mf1rstrefresht0kenofanother";
    let application = ApplicationOptions {
        member_id: "another000000000000000000000000b".to_owned(),
        refresh_token: token.to_owned(),
        ..ApplicationOptions::default()
    };
    let portal = TestPortal::with(Options { application, ..unlimited() });
    (portal, ("refresh_token", token))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_webhook_has_filled_is_not_given_to_another_portals_application() {
    let (portal, database) = (portal(), database().await);
    portal.backfilled(&database).await;
    let (other, token) = other_portal();
    let server = other.token_server();
    let settings = settings_with(&portal, &database, &[token, ("token_server", &*server)]);
    let other_host = other.url().replace("http://", "");
    fails(&settings, &["sync"], 64, &["`database.schema`", &other_host, "authorize"]).await;
    let owner = "select member_id is null and former_hosts = '{}' from bitrix24.portal";
    assert!(value::<bool>(database.pool(), owner).await);
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_portals_application_is_refused_by_host_or_identity() {
    let (portal, database) = (portal(), database().await);
    succeeds(&settings(&portal, &database), &["backfill"]).await;
    let (other, token) = other_portal();
    let says = ["`database.schema`"];
    let by_host = settings_with(&other, &database, &[token]);
    for arguments in [&["run"][..], &["sync"], &["check"], &["plan"]] {
        fails(&by_host, arguments, 64, &says).await;
    }
    assert_eq!(other.stats().token_requests, 0, "no token is spent on it");

    // Its token on our host: the authorization server says whose it is.
    let server = other.token_server();
    let own = [token, ("token_server", &*server)];
    let by_identity = settings_with(&portal, &database, &own);
    portal.reset_stats();
    fails(&by_identity, &["sync"], 64, &says).await;
    assert_eq!((portal.stats().requests, other.stats().requests), (0, 0));
    succeeds(&settings(&portal, &database), &["sync"]).await;
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhooks_mirror_goes_on_with_an_application_and_back() {
    let (portal, database) = (portal(), database().await);
    portal.backfilled(&database).await;
    change(&portal, 20);
    succeeds(&settings(&portal, &database), &["sync"]).await;
    assert_equal(&portal, database.pool()).await;
    let finished = portal.command(&database, &["sync"]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let passes = "select count(*) from bitrix24.sync_runs where kind = 'backfill'";
    let before: i64 = value(database.pool(), passes).await;
    assert_eq!(before, 2, "the same user sees the same records");
}
