//! One batch after another.

use b24mirror::{
    entity::{
        CONTACTS,
        record::{ChildList, Reason},
    },
    store::{Store, Written},
};

use super::{contact, id, minute, mirror, note, options, record};

#[tokio::test]
async fn a_second_write_of_the_same_touches_nothing() {
    let mirror = mirror().await;
    let records: Vec<_> =
        (1..=500).map(|n| contact(n, "Anna", &[(n * 10, "+7 900"), (n * 10 + 1, "8")])).collect();
    let first = mirror.write(minute(1), records.clone()).await;
    assert_eq!(first, Written { inserted: 500, ..Written::default() });

    let before = (
        mirror.rows("contacts", "id").await,
        mirror.rows("contact_phones", "contact_id, id").await,
    );
    let second = mirror.write(minute(2), records).await;
    assert_eq!(second, Written { unchanged: 500, ..Written::default() });
    let after = (
        mirror.rows("contacts", "id").await,
        mirror.rows("contact_phones", "contact_id, id").await,
    );
    assert_eq!(before.1.len(), 1000);
    assert_eq!(before, after);
}

#[tokio::test]
async fn only_the_children_that_differ_are_touched() {
    let mirror = mirror().await;
    mirror.write(minute(1), vec![contact(1, "Anna", &[(1, "a"), (2, "b"), (3, "c")])]).await;
    let before = mirror.rows("contact_phones", "id").await;

    let changed = contact(1, "Anna", &[(1, "a"), (3, "new"), (4, "d")]);
    let written = mirror.write(minute(2), vec![changed.clone()]).await;
    assert_eq!(written, Written { updated: 1, ..Written::default() });
    let after = mirror.rows("contact_phones", "id").await;
    assert_eq!(after.keys().collect::<Vec<_>>(), ["1", "3", "4"]);
    assert_eq!(before["1"], after["1"]);
    assert_ne!(before["3"], after["3"]);
    assert_eq!(mirror.read([1]).await, [changed]);
}

#[tokio::test]
async fn a_value_that_moves_to_another_record_arrives_there() {
    let mirror = mirror().await;
    let before = vec![contact(1, "Anna", &[(5, "x")]), contact(2, "Olga", &[])];
    mirror.write(minute(1), before).await;
    let after = vec![contact(1, "Anna", &[]), contact(2, "Olga", &[(5, "x")])];
    mirror.write(minute(2), after.clone()).await;
    assert_eq!(mirror.read([1, 2]).await, after);
}

#[tokio::test]
async fn an_untrusted_list_keeps_the_stored_children() {
    let mirror = mirror().await;
    mirror.write(minute(1), vec![contact(1, "Anna", &[(1, "a")])]).await;
    let missing = vec![note("PHONE", Reason::ChildrenMissing, "null")];
    let doubtful = record(&CONTACTS, 1, "Anna", ChildList::Untrusted, missing);
    let written = mirror.write(minute(2), vec![doubtful.clone()]).await;
    assert_eq!(written, Written { updated: 1, quarantined: 1, ..Written::default() });
    assert_eq!(mirror.rows("contact_phones", "id").await.len(), 1);
    assert_eq!(mirror.read([1]).await, std::slice::from_ref(&doubtful));
    assert_eq!(mirror.write(minute(3), vec![doubtful]).await.unchanged, 1);

    let known = contact(1, "Anna", &[]);
    mirror.write(minute(4), vec![known.clone()]).await;
    assert_eq!(mirror.read([1]).await, [known]);
}

#[tokio::test]
async fn an_earlier_answer_never_overwrites_a_later_one() {
    let mirror = mirror().await;
    let later = contact(1, "later", &[(1, "a")]);
    mirror.write(minute(5), vec![later.clone()]).await;

    let written = mirror.write(minute(4), vec![contact(1, "earlier", &[(2, "b")])]).await;
    assert_eq!(written, Written { left_alone: vec![id(1)], ..Written::default() });
    assert_eq!(mirror.read([1]).await, std::slice::from_ref(&later));
    // The same content is no conflict, whenever it was asked for.
    assert_eq!(mirror.write(minute(4), vec![later]).await.unchanged, 1);

    let newest = contact(1, "newest", &[]);
    assert_eq!(mirror.write(minute(6), vec![newest.clone()]).await.updated, 1);
    assert_eq!(mirror.read([1]).await, [newest]);
}

#[tokio::test]
async fn a_tombstone_falls_only_to_a_later_answer() {
    let mirror = mirror().await;
    let anna = contact(1, "Anna", &[(1, "a")]);
    mirror.write(minute(1), vec![anna.clone()]).await;
    mirror.execute("update contacts set deleted_at = '2024-10-04 00:05:00+00'").await;
    assert_eq!(
        mirror.number("select extract(epoch from deleted_at)::bigint from contacts").await,
        minute(5).timestamp()
    );
    let counts = mirror.store.counts(&CONTACTS).await.unwrap();
    assert_eq!((counts.live, counts.deleted), (0, 1));

    let earlier = mirror.write(minute(4), vec![anna.clone()]).await;
    assert_eq!(earlier, Written { left_alone: vec![id(1)], ..Written::default() });

    let later = mirror.write(minute(6), vec![anna.clone()]).await;
    assert_eq!(later, Written { updated: 1, ..Written::default() });
    let counts = mirror.store.counts(&CONTACTS).await.unwrap();
    assert_eq!((counts.live, counts.deleted), (1, 0));
    assert_eq!(mirror.read([1]).await, [anna]);
}

#[tokio::test]
async fn of_two_copies_in_a_batch_the_later_counts() {
    let mirror = mirror().await;
    let copies = vec![contact(1, "first", &[]), contact(2, "x", &[]), contact(1, "second", &[])];
    let written = mirror.write(minute(1), copies).await;
    assert_eq!(written, Written { inserted: 2, ..Written::default() });
    assert_eq!(mirror.read([1]).await, [contact(1, "second", &[])]);
}

#[tokio::test]
async fn people_can_search_by_digits_and_address() {
    let mirror = mirror().await;
    let mut long = "1".repeat(40);
    long.push('x');
    mirror
        .write(minute(1), vec![contact(1, "A", &[(1, "+7 (900) 12-3 доб. 4"), (2, &long)])])
        .await;
    let digits: Vec<String> =
        sqlx::query_scalar("select digits from bitrix24.contact_phones order by id")
            .fetch_all(mirror.database.pool())
            .await
            .unwrap();
    assert_eq!(digits, ["79001234".to_owned(), "1".repeat(32)]);
    mirror
        .execute(
            "insert into contact_emails (contact_id, id, value) values (1, 1, E' Anna@Example.ORG\\n')",
        )
        .await;
    let address: String = sqlx::query_scalar("select address from bitrix24.contact_emails")
        .fetch_one(mirror.database.pool())
        .await
        .unwrap();
    assert_eq!(address, "anna@example.org");
}

#[tokio::test]
async fn what_is_called_committed_has_been_written_where_the_server_would_not_wait_for_that() {
    let mirror = mirror().await;
    let witness = "
        create table witness as select current_setting('synchronous_commit') as setting limit 0;
        create function attest() returns trigger language plpgsql as $$ begin
            insert into bitrix24.witness select current_setting('synchronous_commit');
            return null;
        end $$;
        create trigger attested after insert on contacts execute function attest();
        do $$ begin
            execute format('alter database %I set synchronous_commit = off', current_database());
        end $$";
    let pool = mirror.database.pool();
    let mut connection = pool.acquire().await.unwrap();
    sqlx::query("set search_path = bitrix24").execute(&mut *connection).await.unwrap();
    sqlx::raw_sql(witness).execute(&mut *connection).await.unwrap();
    let store = Store::connect(&options(mirror.database.url())).await.unwrap();
    store.write(mirror.batch(minute(1), vec![contact(1, "Anna", &[])])).await.unwrap();
    let settings: Vec<String> = sqlx::query_scalar("select setting from witness")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    assert_eq!(settings, ["local"]);
}
