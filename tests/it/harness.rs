//! The harness itself: what the other tests rely on without looking.

use std::time::Duration;

use nix::sys::signal::Signal;
use secrecy::ExposeSecret;
use sqlx::{Connection, PgConnection};

use crate::support::{Run, database};

#[tokio::test]
async fn every_test_has_a_database_of_its_own_that_goes_with_it() {
    let (one, two) = (database().await, database().await);
    sqlx::query("create table mine (id bigint)").execute(one.pool()).await.unwrap();
    let seen: Option<String> =
        sqlx::query_scalar("select to_regclass('mine')::text").fetch_one(two.pool()).await.unwrap();
    assert_eq!(seen, None);

    let url = one.url();
    PgConnection::connect(url.expose_secret()).await.unwrap().close().await.unwrap();
    drop(one);
    let gone = PgConnection::connect(url.expose_secret()).await.unwrap_err();
    assert_eq!(gone.as_database_error().unwrap().code().as_deref(), Some("3D000"));
}

#[tokio::test]
async fn a_process_is_read_signalled_and_waited_for() {
    let script = "trap 'echo stopping; exit 3' TERM; echo \"$WORD\" >&2; cat config.toml; \
                  while :; do sleep 0.05; done";
    let mut process = Run::program("sh", &["-c", script])
        .env("WORD", "hello there")
        .config("answer = 42\n")
        .spawn();
    assert_eq!(process.logged("hello").await, "hello there");
    assert_eq!(process.printed("answer").await, "answer = 42");
    process.signal(Signal::SIGTERM);

    let finished = process.finish_within(Duration::from_secs(10)).await;
    assert_eq!(finished.code, Some(3));
    assert_eq!(finished.stdout, "answer = 42\nstopping");
    assert_eq!(finished.stderr, "hello there");
}

#[tokio::test]
async fn a_killed_process_reports_its_signal() {
    let finished = Run::program("sleep", &["60"]).spawn().kill().await;
    assert_eq!((finished.code, finished.signal), (None, Some(9)));
}

#[tokio::test]
async fn the_real_binary_runs() {
    let finished = Run::b24mirror(&["--version"]).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
}
