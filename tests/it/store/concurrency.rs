//! Several transactions at once, and answers that get lost.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use b24mirror::{
    entity::CONTACTS,
    store::{Acquired, Progress, SegmentKind, Store, Written},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    time::{sleep, timeout},
};
use url::Url;

use super::{
    Mirror, contact, id, minute, mirror, options,
    progress::{checkpoint, fill},
};
use crate::support::eventually;

/// Waits until a statement of the store waits for a lock.
async fn until_the_store_waits(mirror: &Mirror) {
    for _ in 0..1000 {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() \
             and application_name = 'b24mirror-test' and wait_event_type = 'Lock'",
        )
        .fetch_one(mirror.database.pool())
        .await
        .unwrap();
        if waiting > 0 {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("the store never waited");
}

/// Polls work so many times, and then gives it up.
async fn given_up_after(polls: usize, work: impl Future) {
    let (mut work, mut left) = (pin!(work), polls);
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        work.as_mut().poll(context).map(drop)
    })
    .await;
}

#[tokio::test]
async fn work_that_is_given_up_anywhere_leaves_no_transaction_open() {
    let mirror = mirror().await;
    for polls in 0..40 {
        let batch = mirror.batch(minute(1), vec![contact(1, "Anna", &[(1, "a")])]);
        given_up_after(polls, mirror.store.write(batch)).await;
        let at_rest = eventually("every connection is at rest", || async {
            let open = "select count(*) from pg_stat_activity where datname = current_database() \
                        and application_name = 'b24mirror-test' and state <> 'idle'";
            mirror.number(open).await == 0
        });
        // Long before the server ends a transaction in which nothing happens.
        timeout(Duration::from_secs(15), at_rest).await.unwrap();
    }
}

#[tokio::test]
async fn a_row_written_by_another_lane_meanwhile_is_left_alone() {
    let mirror = mirror().await;
    mirror.write(minute(1), vec![contact(1, "Anna", &[(1, "a")]), contact(2, "x", &[])]).await;

    let mut other = mirror.database.pool().begin().await.unwrap();
    sqlx::query("update bitrix24.contacts set synced_at = $1, name = 'later' where id = 1")
        .bind(minute(9))
        .execute(&mut *other)
        .await
        .unwrap();
    let changed = vec![contact(1, "earlier", &[(2, "b")]), contact(2, "y", &[])];
    let batch = mirror.batch(minute(2), changed);
    let store = mirror.store.clone();
    let write = tokio::spawn(async move { store.write(batch).await });
    until_the_store_waits(&mirror).await;
    other.commit().await.unwrap();

    let written = write.await.unwrap().unwrap();
    assert_eq!(written, Written { updated: 1, left_alone: vec![id(1)], ..Written::default() });
    let later = mirror.number("select count(*) from contacts where name = 'later'").await;
    assert_eq!(later, 1);
    assert_eq!(mirror.rows("contact_phones", "value").await.keys().collect::<Vec<_>>(), ["a"]);
}

#[tokio::test]
async fn a_deadlock_is_resolved_by_trying_again() {
    let mirror = mirror().await;
    mirror.write(minute(1), vec![contact(1, "a", &[]), contact(2, "a", &[])]).await;

    let lock = async |row: i64, other: &mut sqlx::PgConnection| {
        sqlx::query("select from bitrix24.contacts where id = $1 for update")
            .bind(row)
            .execute(other)
            .await
    };
    for name in 'b'..'k' {
        let mut other = mirror.database.pool().begin().await.unwrap();
        lock(2, &mut other).await.unwrap();
        let name = name.to_string();
        let batch = mirror.batch(minute(2), vec![contact(1, &name, &[]), contact(2, &name, &[])]);
        let store = mirror.store.clone();
        let write = tokio::spawn(async move { store.write(batch).await });
        until_the_store_waits(&mirror).await;
        // The store has waited for longer, so the server ends its transaction, not this one,
        // unless this one came so late that the store had looked for a deadlock already.
        let ended_this_one = lock(1, &mut other).await.is_err();
        if ended_this_one {
            other.rollback().await.unwrap();
        } else {
            other.commit().await.unwrap();
        }
        let written = write.await.unwrap().unwrap();
        assert_eq!(written, Written { updated: 2, ..Written::default() });
        if !ended_this_one {
            return;
        }
    }
    panic!("the server never ended the store's transaction");
}

#[tokio::test]
async fn a_take_over_waits_for_the_transaction_in_flight() {
    let mirror = mirror().await;
    mirror.execute("update sync_lease set expires_at = now() - interval '1 second'").await;
    // The holder's batch is held up at its last row, by a lock of this test.
    mirror.write(minute(1), vec![contact(1, "a", &[])]).await;
    let mut brake = mirror.database.pool().begin().await.unwrap();
    sqlx::query("select from bitrix24.contacts for update").execute(&mut *brake).await.unwrap();
    let batch = mirror.batch(minute(2), vec![contact(1, "b", &[])]);
    let store = mirror.store.clone();
    let write = tokio::spawn(async move { store.write(batch).await });
    until_the_store_waits(&mirror).await;

    let store = mirror.store.clone();
    let take_over =
        tokio::spawn(async move { store.try_acquire("other", Duration::from_mins(1)).await });
    sleep(Duration::from_millis(300)).await;
    assert!(!take_over.is_finished());
    // Renewing does not wait for anything of that.
    mirror.store.renew(mirror.generation, Duration::from_millis(900), 1.0).await.unwrap();
    mirror.execute("update sync_lease set expires_at = now() - interval '1 second'").await;
    brake.commit().await.unwrap();

    assert_eq!(write.await.unwrap().unwrap().updated, 1);
    assert!(matches!(take_over.await.unwrap().unwrap(), Acquired::Ours(_)));
    assert_eq!(mirror.read([1]).await, [contact(1, "b", &[])]);
}

#[tokio::test]
async fn a_lost_answer_to_commit_is_looked_up() {
    for reaches_the_server in [true, false] {
        let mirror = mirror().await;
        let cut = Arc::new(AtomicBool::new(false));
        let url = proxy(mirror.database.url(), cut.clone(), reaches_the_server).await;
        let store = Store::connect(&options(url)).await.unwrap();
        let start = checkpoint(minute(1));
        let [mut segment] = store
            .start_backfill(
                mirror.generation,
                &CONTACTS,
                &start,
                fill(SegmentKind::Backfill, id(9)),
            )
            .await
            .unwrap()
            .try_into()
            .unwrap();
        (segment.cursor, segment.rows, segment.asked_at) = (id(2), 2, minute(2));

        let mut batch =
            mirror.batch(minute(2), vec![contact(1, "a", &[(1, "x")]), contact(2, "a", &[])]);
        batch.progress = Progress::Segments(std::slice::from_ref(&segment));
        cut.store(true, Ordering::SeqCst);
        let written = store.write(batch).await.unwrap();
        assert!(!cut.load(Ordering::SeqCst), "nothing was cut");
        // Writing it blindly once more would have called these unchanged.
        assert_eq!(written, Written { inserted: 2, ..Written::default() });
        assert_eq!(store.segments(&CONTACTS).await.unwrap(), [segment]);
        assert_eq!(mirror.read([1]).await, [contact(1, "a", &[(1, "x")])]);
    }
}

/// A way to the server that breaks at the next COMMIT once `cut` is set: before the
/// server hears of it, or before the client hears of its success.
async fn proxy(url: SecretString, cut: Arc<AtomicBool>, reaches_the_server: bool) -> SecretString {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Url::parse(url.expose_secret()).unwrap();
    let socket =
        server.query_pairs().find(|(key, _)| key == "host").map(|(_, path)| path.into_owned());

    let mut way = Url::parse(&format!("postgres://127.0.0.1:{port}{}", server.path())).unwrap();
    let user =
        server.query_pairs().find(|(key, _)| key == "user").map(|(_, user)| user.into_owned());
    way.set_username(&user.unwrap_or_else(|| server.username().to_owned())).unwrap();
    way.set_password(server.password()).unwrap();
    way.set_query(Some("sslmode=disable"));

    let port_there = server
        .query_pairs()
        .find(|(key, _)| key == "port")
        .and_then(|(_, port)| port.parse().ok())
        .or(server.port())
        .unwrap_or(5432);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let cut = cut.clone();
            if let Some(directory) = &socket {
                let path = format!("{directory}/.s.PGSQL.{port_there}");
                let there = UnixStream::connect(path).await.unwrap();
                tokio::spawn(forward(client, there, cut, reaches_the_server));
            } else {
                let host = server.host_str().unwrap();
                let there = TcpStream::connect((host, port_there)).await.unwrap();
                tokio::spawn(forward(client, there, cut, reaches_the_server));
            }
        }
    });
    SecretString::from(String::from(way))
}

async fn forward(
    mut client: TcpStream,
    mut server: impl AsyncRead + AsyncWrite + Unpin,
    cut: Arc<AtomicBool>,
    reaches_the_server: bool,
) {
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(1..) = read else { return };
                let sent = &up[..read.unwrap()];
                let is_commit = sent.windows(6).any(|word| word == b"COMMIT");
                let breaks = is_commit && cut.swap(false, Ordering::SeqCst);
                if breaks && !reaches_the_server {
                    return;
                }
                server.write_all(sent).await.unwrap();
                if breaks {
                    // Its success has come, and goes no further.
                    let _ = server.read(&mut down).await;
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
