//! The indexes for people's questions are there when a mirror is filled, and not before.

use std::collections::BTreeSet;

use b24mirror::{entity::Entity, reporting::indexes::indexes, simulator::Options};

use super::execute;
use crate::support::{Database, Run, TestPortal, database, eventually, tables::value, unlimited};

fn portal() -> TestPortal {
    TestPortal::with(Options { contacts: 120, leads: 90, ..unlimited() })
}

/// The declared indexes that the database has.
async fn built(database: &Database) -> BTreeSet<String> {
    let declared: BTreeSet<String> =
        Entity::BY_DEFAULT.into_iter().flat_map(indexes).map(|index| index.name).collect();
    let names = "select coalesce(array_agg(indexname::text), '{}') from pg_indexes \
                 where schemaname = 'bitrix24'";
    let names: Vec<String> = value(database.pool(), names).await;
    names.into_iter().filter(|name| declared.contains(name)).collect()
}

fn of(entity: &'static Entity) -> BTreeSet<String> {
    indexes(entity).into_iter().map(|index| index.name).collect()
}

fn all() -> BTreeSet<String> {
    Entity::BY_DEFAULT.into_iter().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_ends_with_every_index_of_what_it_has_filled() {
    let (portal, database) = (portal(), database().await);
    let migrated = portal.command(&database, &["migrate"]).await;
    assert_eq!(migrated.code, Some(0), "{migrated:#?}");
    assert_eq!(built(&database).await, BTreeSet::new());

    let contacts = Entity::BY_DEFAULT[0];
    let filled = portal.command(&database, &["backfill", contacts.name]).await;
    assert_eq!(filled.code, Some(0), "{filled:#?}");
    assert_eq!(built(&database).await, of(contacts));

    let filled = portal.command(&database, &["backfill"]).await;
    assert_eq!(filled.code, Some(0), "{filled:#?}");
    assert_eq!(built(&database).await, all());

    // What somebody drops, or an older version did not have, comes with the next command.
    execute(database.pool(), "drop index bitrix24.contact_phones_e164").await;
    let synced = portal.command(&database, &["sync"]).await;
    assert_eq!(synced.code, Some(0), "{synced:#?}");
    assert_eq!(built(&database).await, all());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_builds_what_was_in_use_as_soon_as_it_is_free() {
    let (portal, database) = (portal(), database().await);
    let migrated = portal.command(&database, &["migrate"]).await;
    assert_eq!(migrated.code, Some(0), "{migrated:#?}");
    // Whoever writes here for long keeps the indexes of one table from being built, and nothing
    // else.
    let mut writer = database.pool().begin().await.unwrap();
    sqlx::query("lock table bitrix24.contacts in row exclusive mode")
        .execute(&mut *writer)
        .await
        .unwrap();
    let daemon = Run::b24mirror(&["run"]).config(&portal.settings(&database)).spawn();
    let of_contacts = |name: &String| name.starts_with("contacts_");
    let others: BTreeSet<String> = all().into_iter().filter(|name| !of_contacts(name)).collect();
    eventually("the indexes of all other tables", || async { built(&database).await == others })
        .await;
    let told = portal.command(&database, &["status"]).await;
    assert!(told.stdout.contains("reports   contacts_"), "{told:#?}");
    writer.rollback().await.unwrap();
    eventually("every index", || async { built(&database).await == all() }).await;
    let told = portal.command(&database, &["status"]).await;
    assert!(!told.stdout.contains("reports   "), "{told:#?}");
    daemon.kill().await;
}
