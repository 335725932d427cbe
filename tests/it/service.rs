//! The process as a service manager sees it.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::{net::UnixDatagram, time::timeout};

use crate::support::Run;

/// A loopback portal and a database that nobody serves: `run` waits for the database.
const WAITING: &str = r#"
[portal]
webhook_url = "http://127.0.0.1:9/rest/1/s3cr3t/"
[database]
url = "postgres://nobody:passw0rd@127.0.0.1:9/nowhere"
"#;

/// Waits for a message to the service manager.
async fn told(socket: &UnixDatagram, state: &str) {
    let mut buffer = [0; 256];
    timeout(Duration::from_secs(20), async {
        loop {
            let length = socket.recv(&mut buffer).await.unwrap();
            if buffer[..length].split(|byte| *byte == b'\n').any(|line| line == state.as_bytes()) {
                return;
            }
        }
    })
    .await
    .unwrap_or_else(|_| panic!("the service manager was not told {state}"));
}

#[tokio::test]
async fn systemd_hears_of_readiness_of_life_and_of_the_end() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut process = Run::b24mirror(&["run"])
        .config(WAITING)
        .env("NOTIFY_SOCKET", path.to_string_lossy())
        .env("WATCHDOG_USEC", "200000")
        .spawn();

    told(&manager, "READY=1").await;
    told(&manager, "WATCHDOG=1").await;
    told(&manager, "WATCHDOG=1").await;
    process.logged("waiting for the database").await;
    process.signal(Signal::SIGTERM);
    told(&manager, "STOPPING=1").await;

    let finished = process.finish_within(Duration::from_secs(5)).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for secret in ["s3cr3t", "passw0rd"] {
        assert!(!finished.stderr.contains(secret), "{finished:?}");
    }
}

#[tokio::test]
async fn wrong_settings_end_with_64_and_the_remedy() {
    for (config, remedy) in [
        ("[sync]\nintervall = \"1s\"\n", "did you mean `sync.interval`?"),
        ("[sync]\ninterval = \"0s\"\n", "`sync.interval`"),
        ("", "B24MIRROR__PORTAL__WEBHOOK_URL"),
        ("[portal\n", "config.toml is not valid TOML"),
    ] {
        let finished = Run::b24mirror(&["run"]).config(config).finish().await;
        assert_eq!(finished.code, Some(64), "{config}: {finished:?}");
        assert!(finished.stderr.contains(remedy), "{config}: {finished:?}");
    }
}
