use std::{os::unix::fs::PermissionsExt, process::Command};

use super::*;

fn throw_away(directory: &Path) -> LocalOptions {
    LocalOptions { durable: false, max_connections: 20, ..LocalOptions::new(directory) }
}

async fn text(url: &SecretString, query: &'static str) -> Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect(url.expose_secret()).await?;
    sqlx::query_scalar(query).fetch_one(&mut connection).await
}

fn server_pid(directory: &Path) -> Option<i32> {
    let text = fs::read_to_string(directory.join("data/postmaster.pid")).ok()?;
    text.lines().next()?.parse().ok()
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_durable_server_is_private_keeps_its_data_and_stops_when_dropped() {
    let home = tempfile::tempdir().unwrap();
    let options = LocalOptions::new(home.path());

    let server = LocalPostgres::start(options.clone()).await.unwrap();
    server.create_database("mirror").await.unwrap();
    server.create_database("mirror").await.unwrap();
    let url = server.url("mirror");
    for (setting, expected) in [
        ("select current_setting('fsync')", "on"),
        ("select current_setting('data_checksums')", "on"),
        ("select current_setting('listen_addresses')", ""),
        ("select lower('ÄЖ')", "äж"),
    ] {
        assert_eq!(text(&url, setting).await.unwrap(), expected, "{setting}");
    }
    let mode = |name: &str| fs::metadata(home.path().join(name)).unwrap().permissions().mode();
    assert_eq!(mode("run") & 0o777, 0o700);
    assert_eq!(mode("data") & 0o077, 0);
    let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
    sqlx::query("create table kept as select 'here'::text as value")
        .execute(&mut connection)
        .await
        .unwrap();

    drop(server);
    assert!(!home.path().join("data/postmaster.pid").exists());

    let server = LocalPostgres::start(options).await.unwrap();
    assert_eq!(text(&server.url("mirror"), "select value from kept").await.unwrap(), "here");
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn a_killed_server_starts_again_with_its_data() {
    let home = tempfile::tempdir().unwrap();
    let options = LocalOptions::new(home.path());
    let server = LocalPostgres::start(options.clone()).await.unwrap();
    let url = server.url("postgres");
    let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
    sqlx::query("create table kept as select 'here'::text as value")
        .execute(&mut connection)
        .await
        .unwrap();

    for _ in 0..2 {
        kill(server_pid(home.path()).unwrap());
        let again = LocalPostgres::start(options.clone()).await.unwrap();
        assert_eq!(text(&url, "select value from kept").await.unwrap(), "here");
        drop(again);
    }
    assert!(server.stop().await.unwrap());
}

#[tokio::test]
async fn the_last_user_stops_the_server() {
    let home = tempfile::tempdir().unwrap();
    let first = LocalPostgres::start(throw_away(home.path())).await.unwrap();
    let pid = server_pid(home.path());
    let second = LocalPostgres::start(throw_away(home.path())).await.unwrap();

    assert_eq!(server_pid(home.path()), pid);
    assert!(!first.stop().await.unwrap());
    text(&second.url("postgres"), "select ''").await.unwrap();
    assert!(second.stop().await.unwrap());
    assert_eq!(server_pid(home.path()), None);
}

#[tokio::test]
async fn a_server_left_running_is_taken_over_and_takes_new_settings() {
    let home = tempfile::tempdir().unwrap();
    let left = LocalOptions { keep_running: true, ..throw_away(home.path()) };
    assert!(!LocalPostgres::start(left.clone()).await.unwrap().stop().await.unwrap());
    let pid = server_pid(home.path()).unwrap();

    drop(LocalPostgres::start(left).await.unwrap());
    assert_eq!(server_pid(home.path()), Some(pid));

    let more = LocalOptions { max_connections: 33, ..throw_away(home.path()) };
    let server = LocalPostgres::start(more).await.unwrap();
    let setting = "select current_setting('max_connections')";
    assert_eq!(text(&server.url("postgres"), setting).await.unwrap(), "33");
}

#[tokio::test]
async fn users_that_start_at_once_share_one_server() {
    let home = tempfile::tempdir().unwrap();
    let starts: Vec<_> =
        (0..4).map(|_| tokio::spawn(LocalPostgres::start(throw_away(home.path())))).collect();
    let mut servers = Vec::new();
    for start in starts {
        servers.push(start.await.unwrap().unwrap());
    }
    let pid = server_pid(home.path());
    while let Some(server) = servers.pop() {
        assert_eq!(server_pid(home.path()), pid);
        assert_eq!(server.stop().await.unwrap(), servers.is_empty());
    }
}

#[tokio::test]
async fn what_a_killed_first_start_left_is_no_obstacle() {
    let home = tempfile::tempdir().unwrap();
    drop(File::create(home.path().join("users.lock")).unwrap());
    fs::create_dir(home.path().join("data.new")).unwrap();
    fs::write(home.path().join("data.new/PG_VERSION"), "15\n").unwrap();

    let server = LocalPostgres::start(throw_away(home.path())).await.unwrap();
    text(&server.url("postgres"), "select ''").await.unwrap();
}

#[tokio::test]
async fn a_tcp_port_asks_for_the_generated_password() {
    let home = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = LocalOptions { tcp_port: Some(port), ..throw_away(home.path()) };
    let server = LocalPostgres::start(options.clone()).await.unwrap();

    let url = server.tcp_url("postgres").unwrap();
    text(&url, "select ''").await.unwrap();
    let wrong = SecretString::from(format!("postgres://postgres:wrong@127.0.0.1:{port}/postgres"));
    let refused = text(&wrong, "select ''").await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().as_deref(), Some("28P01"));

    let file = server.password_file().unwrap();
    let password = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(server.log_file()).unwrap().contains(password.trim()));
    assert!(!format!("{server:?}").contains(password.trim()));

    drop(server);
    let again = LocalPostgres::start(options).await.unwrap();
    assert_eq!(again.tcp_url("postgres").unwrap().expose_secret(), url.expose_secret());
}

#[tokio::test]
async fn the_psql_command_works_in_a_shell_whatever_the_path() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let odd = home.path().join("it's a \"place\" %41\\");
    let server = LocalPostgres::start(throw_away(&odd)).await.unwrap();
    server.create_database("odd name").await.unwrap();

    let command = format!("{} -Atc 'select current_database()'", server.psql_command("odd name"));
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();

    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "odd name", "{output:?}");
    assert_eq!(text(&server.url("odd name"), "select 'sqlx'").await.unwrap(), "sqlx");
}

#[tokio::test]
async fn a_directory_that_cannot_serve_is_refused_untouched() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("thesis.txt"), "precious").unwrap();
    let error = LocalPostgres::start(throw_away(home.path())).await.unwrap_err();
    assert!(matches!(error, LocalPostgresError::NotOurs { .. }), "{error}");

    let deep = home.path().join("d".repeat(100));
    let error = LocalPostgres::start(throw_away(&deep)).await.unwrap_err();
    assert!(
        matches!(error, LocalPostgresError::SocketPathTooLong { length: 108.., .. }),
        "{error}"
    );
    assert!(!deep.exists());

    let data = home.path().join("old/data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "11\n").unwrap();
    let error = LocalPostgres::start(throw_away(&home.path().join("old"))).await.unwrap_err();
    assert!(matches!(error, LocalPostgresError::OtherMajor { data: 11, .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let home = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = LocalOptions { tcp_port: Some(port), ..throw_away(home.path()) };
    let error = LocalPostgres::start(options).await.unwrap_err();
    assert!(error.to_string().contains("could not bind IPv4 address"), "{error}");
}
