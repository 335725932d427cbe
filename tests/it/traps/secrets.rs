//! What must not be written anywhere.

use std::time::Duration;

use b24mirror::simulator::{Action, Fault, FaultKind, Options};
use nix::sys::signal::Signal;
use secrecy::ExposeSecret as _;
use sqlx::AssertSqlSafe;

use super::{CONTACT, change};
use crate::support::{Finished, Run, TestPortal, database, equal_within, unlimited};

const SECRET: &str = "n0b0dymayreadth1s";

#[tokio::test(flavor = "multi_thread")]
async fn trap_35_the_webhooks_secret_is_in_no_log_and_no_table() {
    let secret = SECRET.to_owned();
    let portal = TestPortal::with(Options { contacts: 300, leads: 120, secret, ..unlimited() });
    let database = database().await;
    let settings = portal.settings_with(
        &database,
        "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n[log]\nlevel = \"trace\"\n",
    );
    let run = async |arguments: &[&str]| -> Finished {
        Run::b24mirror(arguments).config(&settings).env("RUST_BACKTRACE", "1").finish().await
    };

    let mut said = Vec::new();
    said.push(run(&["backfill"]).await);
    assert_eq!(said[0].code, Some(0), "{said:#?}");
    assert!(portal.stats().trap(35) > 0);

    // Failures of every kind that may tempt somebody to print an address.
    portal.happens(change(CONTACT, 3));
    let echo = format!("{SECRET} at {}", portal.webhook_url());
    let failures = [
        FaultKind::Reset,
        FaultKind::Html { status: 502 },
        FaultKind::Redirect {
            location: format!("http://portal.invalid/rest/1/{SECRET}/"),
            status: 302,
        },
        FaultKind::Status {
            status: 401,
            code: "INVALID_CREDENTIALS".to_owned(),
            description: echo.clone(),
        },
        FaultKind::CommandError { status: 400, code: String::new(), description: echo },
    ];
    for failure in failures {
        portal.fault(Fault::times("batch", 1, failure.clone()));
        portal.fault(Fault::times("crm.contact.list", 1, failure.clone()));
        said.push(run(&["sync"]).await);
        portal.happens(Action::ClearFaults);
    }
    portal.happens(Action::Webhook { revoked: true });
    said.push(run(&["check"]).await);
    portal.happens(Action::Webhook { revoked: false });
    let mut daemon = Run::b24mirror(&["run"]).config(&settings).spawn();
    portal.fault(Fault::once("crm.lead.list", FaultKind::Reset));
    daemon.logged("the portal did not answer as it should").await;
    equal_within(&portal, database.pool(), Duration::from_secs(30)).await;
    daemon.signal(Signal::SIGTERM);
    said.push(daemon.finish().await);
    said.push(run(&["sync"]).await);
    assert_eq!(said.last().unwrap().code, Some(0), "{:#?}", said.last());
    said.push(run(&["status", "--json"]).await);

    let traced = said.iter().filter(|finished| finished.stderr.contains("DEBUG")).count();
    assert!(traced > 0, "nothing was logged at that level");
    for finished in &said {
        let text = format!("{}{}", finished.stdout, finished.stderr);
        let place = text.find(SECRET).map(|at| &text[at.saturating_sub(300)..at]);
        assert_eq!(place, None, "the secret follows");
        let password = database.url().expose_secret().to_owned();
        assert!(!text.contains(&password), "the database's address is in {text}");
    }

    let tables: Vec<(String, String)> = sqlx::query_as(
        "select table_schema::text, table_name::text from information_schema.tables \
         where table_schema not in ('pg_catalog', 'information_schema')",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();
    assert!(tables.len() > 15, "{tables:?}");
    for (schema, table) in tables {
        let found: Option<String> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select left(row_to_json(t)::text, 500) from \"{schema}\".\"{table}\" t \
             where strpos(row_to_json(t)::text, '{SECRET}') > 0 limit 1"
        )))
        .fetch_optional(database.pool())
        .await
        .unwrap();
        assert_eq!(found, None, "{schema}.{table}");
    }
}
