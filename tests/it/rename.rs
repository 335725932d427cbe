//! A portal that is renamed: the old host leads to the new one, and it stays the same portal.

use std::time::Duration;

use b24mirror::simulator::{Action, Entity};
use nix::sys::signal::Signal;

use crate::support::{Finished, Run, TestPortal, assert_equal, database, equal_within};

/// The other name of the simulator's address.
fn new_host(portal: &TestPortal) -> String {
    old_host(portal).replace("127.0.0.1", "localhost")
}

fn old_host(portal: &TestPortal) -> String {
    portal.url().replace("http://", "")
}

fn change(portal: &TestPortal) {
    for entity in [Entity::Contacts, Entity::Leads] {
        portal.happens(Action::Change { entity, ids: vec![], count: 20, visible_after: 0.0 });
    }
}

async fn command(settings: &str, arguments: &[&str]) -> Finished {
    Run::b24mirror(arguments).config(settings).finish().await
}

async fn succeeds(settings: &str, arguments: &[&str]) -> Finished {
    let finished = command(settings, arguments).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finished
}

/// Redirects that the portal has served since the last question.
fn redirects(portal: &TestPortal) -> u64 {
    let served = portal.stats().trap(25);
    portal.reset_stats();
    served
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhooks_portal_is_followed_remembered_and_accepted_under_its_new_name() {
    let (portal, database) = (TestPortal::small(), database().await);
    let old = portal.settings(&database);
    let new = old.replace(&old_host(&portal), &new_host(&portal));
    assert_ne!(old, new);
    portal.backfilled(&database).await;
    let mut daemon = Run::b24mirror(&["run"]).config(&old).spawn();
    daemon.logged("mirroring portal").await;
    portal.happens(Action::Rename { host: new_host(&portal) });
    change(&portal);
    equal_within(&portal, database.pool(), Duration::from_secs(20)).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish().await.code, Some(0));
    assert!(redirects(&portal) > 0);

    // The next process goes there at once, and tells the operator to settle it.
    change(&portal);
    let finished = succeeds(&old, &["sync"]).await;
    assert!(finished.stderr.contains("the portal was renamed"), "{finished:#?}");
    assert_equal(&portal, database.pool()).await;
    let finished = succeeds(&old, &["check"]).await;
    let told =
        format!("it was renamed to {}; put that host into `portal.webhook_url`", new_host(&portal));
    assert!(finished.stdout.contains(&told), "{finished:#?}");
    let finished = command(&old, &["status"]).await;
    assert!(finished.stdout.contains(&format!("portal    {}", new_host(&portal))), "{finished:#?}");
    assert!(finished.stdout.contains("renamed   the portal is at"), "{finished:#?}");
    assert_eq!(redirects(&portal), 0);

    // The corrected setting is the same portal's, and so is the old one, should it come back.
    for settings in [&new, &old, &new] {
        change(&portal);
        succeeds(settings, &["sync"]).await;
        assert_equal(&portal, database.pool()).await;
        assert_eq!(redirects(&portal), 0);
    }
    let finished = succeeds(&new, &["check"]).await;
    assert!(!finished.stdout.contains("renamed"), "{finished:#?}");

    // It may be renamed back, under settings that name its first host all the time.
    portal.happens(Action::Rename { host: old_host(&portal) });
    change(&portal);
    succeeds(&old, &["sync"]).await;
    assert!(redirects(&portal) > 0);
    succeeds(&old, &["sync"]).await;
    assert_eq!(redirects(&portal), 0);
    portal.happens(Action::Rename { host: new_host(&portal) });
    succeeds(&old, &["sync"]).await;
    assert!(redirects(&portal) > 0);

    // And under others.
    portal.happens(Action::Rename { host: old_host(&portal) });
    change(&portal);
    succeeds(&new, &["sync"]).await;
    assert!(redirects(&portal) > 0);
    succeeds(&old, &["sync"]).await;
    succeeds(&new, &["sync"]).await;
    assert_eq!(redirects(&portal), 0);
    assert_equal(&portal, database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_leads_to_nobody_is_not_remembered() {
    let (portal, database) = (TestPortal::small(), database().await);
    let settings = portal.settings(&database);
    portal.backfilled(&database).await;
    // No good answer has come from there.
    portal.happens(Action::Rename { host: "127.0.0.1:1".to_owned() });
    let finished = command(&settings, &["sync"]).await;
    assert_eq!(finished.code, Some(2), "{finished:#?}");
    let row: (String, Vec<String>) =
        sqlx::query_as("select host, former_hosts from bitrix24.portal")
            .fetch_one(database.pool())
            .await
            .unwrap();
    assert_eq!(row, (old_host(&portal), vec![]));
    portal.happens(Action::Rename { host: old_host(&portal) });
    succeeds(&settings, &["sync"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applications_portal_is_known_by_its_identity_whatever_its_name() {
    let (portal, database) = (TestPortal::small(), database().await);
    let old = crate::oauth::settings(&portal, &database);
    let new = old.replace(&old_host(&portal), &new_host(&portal));
    succeeds(&old, &["backfill"]).await;

    // Nobody of us has seen the redirect, and the settings are corrected already.
    portal.happens(Action::Rename { host: new_host(&portal) });
    change(&portal);
    redirects(&portal);
    succeeds(&new, &["check"]).await;
    succeeds(&new, &["sync"]).await;
    assert_equal(&portal, database.pool()).await;
    assert_eq!((redirects(&portal), portal.stats().token_requests), (0, 0));
    succeeds(&old, &["sync"]).await;
    assert_eq!(redirects(&portal), 0);

    // The same with a redirect, while a daemon runs, and a token that expires on the way.
    let mut daemon = Run::b24mirror(&["run"]).config(&new).spawn();
    daemon.logged("mirroring portal").await;
    portal.happens(Action::Rename { host: old_host(&portal) });
    portal.happens(Action::Application { event: b24mirror::simulator::ApplicationEvent::Expire });
    change(&portal);
    equal_within(&portal, database.pool(), Duration::from_secs(20)).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish().await.code, Some(0));
    redirects(&portal);
    let finished = succeeds(&new, &["check"]).await;
    let told =
        format!("it was renamed to {}; put that host into `portal.oauth.host`", old_host(&portal));
    assert!(finished.stdout.contains(&told), "{finished:#?}");
    succeeds(&new, &["sync"]).await;
    assert_eq!(redirects(&portal), 0);
}
