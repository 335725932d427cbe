//! Rows that were found wrong are written over whatever they say, and no others.

use b24mirror::{entity::CONTACTS, store::Seen};
use chrono::{DateTime, Utc};

use super::{Mirror, contact, id, minute, mirror};

fn seen(number: i64, synced_at: DateTime<Utc>) -> Seen {
    Seen { id: id(number), version: Some((synced_at, None)) }
}

async fn names(mirror: &Mirror) -> String {
    let mut connection = mirror.database.pool().acquire().await.unwrap();
    sqlx::query_scalar("select string_agg(name, ' ' order by id) from bitrix24.contacts")
        .fetch_one(&mut *connection)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_row_is_written_over_although_its_hash_and_its_time_forbid_it() {
    let mirror = mirror().await;
    let records = || vec![contact(1, "one", &[(1, "7")]), contact(2, "two", &[])];
    mirror.write(minute(1), records()).await;
    mirror.execute("update contacts set name = 'damaged'").await;
    mirror.execute("delete from contact_phones").await;
    mirror
        .execute("update contacts set synced_at = synced_at + interval '1 year' where id = 2")
        .await;

    // An ordinary answer leaves both alone.
    let written = mirror.write(minute(2), records()).await;
    assert_eq!((written.updated, written.unchanged), (0, 2));
    assert_eq!(names(&mirror).await, "damaged damaged");

    let year: DateTime<Utc> = minute(1) + chrono::TimeDelta::days(365);
    let later = mirror.number("select extract(epoch from max(synced_at))::bigint from contacts");
    assert_eq!(later.await, year.timestamp());
    let batch = mirror.batch(minute(3), records());
    let written = mirror.store.rewrite(batch, &[seen(1, minute(1)), seen(2, year)]).await.unwrap();
    assert_eq!((written.updated, written.unchanged), (2, 0), "{written:?}");
    assert_eq!(mirror.read([1, 2]).await, records());
    let stored = mirror.store.read_records(&CONTACTS, &[id(2)]).await.unwrap();
    assert_eq!(stored[0].synced_at, minute(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_written_since_it_was_seen_follows_the_ordinary_rules() {
    let mirror = mirror().await;
    mirror.write(minute(1), vec![contact(1, "old", &[]), contact(2, "same", &[])]).await;
    let both = [seen(1, minute(1)), seen(2, minute(0))];
    mirror.write(minute(5), vec![contact(1, "new", &[])]).await;

    let older = vec![contact(1, "old", &[]), contact(2, "same", &[])];
    let batch = mirror.batch(minute(4), older);
    let written = mirror.store.rewrite(batch, &both).await.unwrap();
    assert_eq!(written.left_alone, [id(1)]);
    assert_eq!((written.updated, written.unchanged), (0, 1));
    assert_eq!(names(&mirror).await, "new same");

    let delete = async |version| {
        let (store, generation) = (&mirror.store, mirror.generation);
        store.delete_seen(generation, &CONTACTS, &[seen(1, version)], minute(6)).await.unwrap()
    };
    assert_eq!(delete(minute(1)).await, 0);
    assert_eq!(delete(minute(5)).await, 1);
    // Who is a tombstone already is another version.
    assert_eq!(delete(minute(5)).await, 0);
}
