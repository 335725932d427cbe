//! Where lists end and counting ends.

use std::collections::BTreeSet;

use b24mirror::simulator::{Action, Entity, ItemOverrun, Options, Overrun, Undocumented};
use sqlx::PgPool;

use super::Source;
use crate::support::{Database, TestPortal, database, unlimited};

/// Codes and names of the entries that the portal lists.
fn listed(portal: &TestPortal) -> BTreeSet<(String, String, String)> {
    let statuses = portal.names().statuses.into_iter();
    statuses.map(|status| (status.directory, status.code, status.name)).collect()
}

/// The same in the mirror.
async fn mirrored(pool: &PgPool) -> BTreeSet<(String, String, String)> {
    let rows = "select directory, code, name from bitrix24.statuses where gone_since is null";
    sqlx::query_as(rows).fetch_all(pool).await.unwrap().into_iter().collect()
}

async fn users(pool: &PgPool) -> BTreeSet<i64> {
    let rows = "select id from bitrix24.users where gone_since is null";
    sqlx::query_scalar(rows).fetch_all(pool).await.unwrap().into_iter().collect()
}

/// Makes every dictionary due, and reads.
async fn read_names(portal: &TestPortal, database: &Database) {
    sqlx::query("update bitrix24.sync_dictionaries set tried_at = tried_at - interval '1 day'")
        .execute(database.pool())
        .await
        .unwrap();
    Source::Classic.done(portal, database, &["sync"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_whole_wherever_a_start_behind_the_end_leads() {
    for overrun in [Overrun::FirstPage, Overrun::LastPage, Overrun::Nothing] {
        for whole_statuses in [false, true] {
            let positions = Undocumented { overrun, whole_statuses, ..Undocumented::default() };
            let options =
                Options { contacts: 60, leads: 40, undocumented: positions, ..unlimited() };
            let (portal, database) = (TestPortal::with(options), database().await);
            let pool = database.pool();
            Source::Classic.done(&portal, &database, &["backfill"]).await;
            assert!(listed(&portal).len() > 50, "more than a page");
            assert_eq!(mirrored(pool).await, listed(&portal), "{positions:?}");

            // So many go between the first page and the second that there is no second one.
            let codes: Vec<_> = listed(&portal).into_iter().collect();
            let removed = codes.iter().filter(|(directory, ..)| directory == "INDUSTRY");
            let removed: Vec<_> = removed.take(codes.len() - 40).collect();
            assert!(codes.len() - removed.len() <= 50, "{}", removed.len());
            for (directory, code, _) in &removed {
                let (directory, code) = (directory.clone(), code.clone());
                let then = Box::new(Action::RemoveStatus { directory, code });
                portal.happens(Action::AfterPages { pages: 1, then });
            }
            portal.reset_stats();
            read_names(&portal, &database).await;
            assert_eq!(portal.stats().trap(4) > 0, !whole_statuses, "{positions:?}");
            // What was there throughout is there, and what went is gone after the next reading.
            read_names(&portal, &database).await;
            assert_eq!(mirrored(pool).await, listed(&portal), "{positions:?}");
            let people: BTreeSet<i64> = portal.names().users.iter().map(|user| user.id).collect();
            assert_eq!(users(pool).await, people);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_whole_wherever_counting_ends() {
    for source in Source::BOTH {
        for (counts_up_to, item_overrun) in [
            (None, ItemOverrun::FirstPage),
            (Some(0), ItemOverrun::Nothing),
            (Some(120), ItemOverrun::FirstPage),
        ] {
            let positions = Undocumented { counts_up_to, item_overrun, ..Undocumented::default() };
            let options =
                Options { contacts: 330, leads: 150, undocumented: positions, ..unlimited() };
            let (portal, database) = (TestPortal::with(options), database().await);
            source.done(&portal, &database, &["backfill"]).await;
            source.assert_equal(&portal, &database, &positions).await;
            for entity in Entity::ALL {
                portal.happens(Action::Delete { entity, ids: Vec::new(), count: 2 });
                portal.happens(Action::Create { entity, count: 60, visible_after: 0.0 });
            }
            source.done(&portal, &database, &["sync"]).await;
            source.done(&portal, &database, &["sweep"]).await;
            source.assert_equal(&portal, &database, &positions).await;
            for level in ["counts", "full"] {
                let verify = ["verify", "--level", level];
                let finished = source.done(&portal, &database, &verify).await;
                assert!(finished.stdout.contains("equal"), "{positions:?}: {finished:#?}");
            }
        }
    }
}
