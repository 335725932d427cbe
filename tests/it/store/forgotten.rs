//! Who is forgotten is brought back by no batch, whenever it began.

use b24mirror::{entity::CONTACTS, store::Written};

use super::{contact, id, minute, mirror};
use crate::support::{eventually, tables::value};

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_under_way_does_not_bring_a_forgotten_record_back() {
    let mirror = mirror().await;
    mirror.store.settle_privacy(mirror.generation).await.unwrap();
    let named = |name: &str| vec![contact(1, name, &[(5, "+7")]), contact(2, name, &[])];
    mirror.write(minute(1), named("first")).await;

    // The batch stands before the second row, and has written the first.
    let mut lock = mirror.database.pool().begin().await.unwrap();
    sqlx::query("select from bitrix24.contacts where id = 2 for update")
        .execute(&mut *lock)
        .await
        .unwrap();
    let until = async |waiting: i64| {
        let pool = mirror.database.pool();
        let count = "select count(*) from pg_stat_activity \
                     where datname = current_database() and wait_event_type = 'Lock'";
        eventually("so many wait", || async { value::<i64>(pool, count).await == waiting }).await;
    };
    let (store, batch) = (mirror.store.clone(), mirror.batch(minute(2), named("second")));
    let batch = tokio::spawn(async move { store.write(batch).await });
    until(1).await;
    let (store, generation) = (mirror.store.clone(), mirror.generation);
    let forgetting =
        tokio::spawn(async move { store.forget(generation, &CONTACTS, &[id(1)]).await });
    until(2).await;
    assert!(mirror.store.is_forgotten(&CONTACTS, id(1)), "whoever begins now knows");
    lock.rollback().await.unwrap();

    assert_eq!(batch.await.unwrap().unwrap().updated, 2);
    let removed = forgetting.await.unwrap().unwrap();
    let removed: Vec<(&str, u64)> =
        removed.iter().map(|removed| (removed.table.as_str(), removed.rows)).collect();
    assert_eq!(removed, [("contact_phones", 1), ("contacts", 1)]);
    let later = mirror.write(minute(3), named("third")).await;
    assert_eq!(later, Written { updated: 1, ..Written::default() });
    assert_eq!(mirror.read([1, 2]).await, [contact(2, "third", &[])]);
    assert_eq!(mirror.rows("contact_phones", "id").await.len(), 0);
}

#[tokio::test]
async fn another_process_learns_what_was_forgotten() {
    let mirror = mirror().await;
    mirror.store.settle_privacy(mirror.generation).await.unwrap();
    mirror.store.forget(mirror.generation, &CONTACTS, &[id(7)]).await.unwrap();
    let options = super::options(mirror.database.url());
    let other = b24mirror::store::Store::connect(&options).await.unwrap();
    other.settle_privacy(mirror.generation).await.unwrap();
    assert!(other.is_forgotten(&CONTACTS, id(7)));
    assert!(!other.is_forgotten(&CONTACTS, id(8)));
    assert!(!other.is_forgotten(&b24mirror::entity::LEADS, id(7)));
    assert!(other.forget(mirror.generation, &CONTACTS, &[id(7)]).await.unwrap().is_empty());
}
