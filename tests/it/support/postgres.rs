//! A database per test, on one server per test process.
//!
//! The server is `TEST_DATABASE_URL` (any database of it, as a user who may create
//! databases), else a container, else a private server in a temporary directory.
//! Container and private server are removed when the test process is gone, however it went.

use std::{
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use b24mirror::local_postgres::{LocalOptions, LocalPostgres};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgPoolOptions};
use testcontainers::{
    ContainerAsync, GenericImage, ImageExt, TestcontainersError,
    core::{IntoContainerPort, WaitFor, error::ClientError},
    runners::AsyncRunner,
};
use tokio::sync::OnceCell;
use url::Url;

use super::company::Company;

/// Enough for every test of a run at once.
const MAX_CONNECTIONS: u32 = 300;

static SERVER: OnceCell<Server> = OnceCell::const_new();

/// The server that this process's tests share.
struct Server {
    /// A database to create others from.
    admin: Url,
    /// Kept so that nothing is stopped while tests run.
    _keeper: Keeper,
}

enum Keeper {
    Foreign,
    Container { _container: Box<ContainerAsync<GenericImage>>, _watcher: process::Child },
    Private { _server: Box<LocalPostgres>, _watcher: process::Child },
}

/// A fresh, empty database, dropped with this value.
pub(crate) struct Database {
    name: String,
    admin: Url,
    url: SecretString,
    pool: PgPool,
    /// Given up last.
    _company: Company,
}

/// Creates a database for one test.
pub(crate) async fn database() -> Database {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let company = Company::ordinary().await;
    let server = SERVER.get_or_init(Server::start).await;
    // Unique on a server that other runs use, too.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("b24mirror_test_{}_{now}_{number}", process::id());

    let mut admin = PgConnection::connect(server.admin.as_str()).await.unwrap();
    let create = format!("create database {name}");
    sqlx::query(AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();

    let mut url = server.admin.clone();
    url.set_path(&name);
    let pool = PgPoolOptions::new().max_connections(8).connect(url.as_str()).await.unwrap();
    let url = SecretString::from(String::from(url));
    Database { name, admin: server.admin.clone(), url, pool, _company: company }
}

impl Database {
    /// The address, for what is being tested.
    pub(crate) fn url(&self) -> SecretString {
        self.url.clone()
    }

    /// A pool of its own, for what the test itself reads, writes and locks.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }
}

impl Drop for Database {
    /// Best effort: a database that stays behind disturbs nobody.
    fn drop(&mut self) {
        let drop = format!("drop database if exists {} with (force)", self.name);
        let admin = self.admin.clone();
        let work = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = PgConnection::connect(admin.as_str()).await?;
                sqlx::query(AssertSqlSafe(drop)).execute(&mut connection).await?;
                connection.close().await
            })
        };
        if let Ok(Err(error)) = std::thread::spawn(work).join() {
            eprintln!("the test database {} stays behind: {error}", self.name);
        }
    }
}

impl Server {
    async fn start() -> Self {
        if let Ok(url) = std::env::var("TEST_DATABASE_URL") {
            let admin = Url::parse(&url).expect("TEST_DATABASE_URL is a postgres:// URL");
            return Self { admin, _keeper: Keeper::Foreign };
        }
        match Self::in_container().await {
            Ok(server) => server,
            Err(error) => {
                // No Docker is ordinary; a Docker that fails deserves a word.
                if !matches!(error, TestcontainersError::Client(ClientError::Init(_))) {
                    eprintln!("no container ({error}); starting a private server instead");
                }
                Self::in_directory().await
            }
        }
    }

    async fn in_container() -> Result<Self, TestcontainersError> {
        // The image starts its server twice: the first is for its own set-up.
        let ready = "database system is ready to accept connections";
        let container = GenericImage::new("postgres", "16-alpine")
            .with_exposed_port(5432.tcp())
            .with_wait_for(WaitFor::message_on_stderr(ready))
            .with_wait_for(WaitFor::message_on_stderr(ready))
            .with_env_var("POSTGRES_PASSWORD", "postgres")
            .with_cmd([
                "postgres",
                "-c",
                &format!("max_connections={MAX_CONNECTIONS}"),
                "-c",
                "fsync=off",
            ])
            .start()
            .await?;
        let watcher = when_this_process_ends(r#"docker rm --force "$1""#, container.id())?;
        let host = container.get_host().await?;
        let port = container.get_host_port_ipv4(5432).await?;
        let admin = format!("postgres://postgres:postgres@{host}:{port}/postgres");
        let admin = Url::parse(&admin).expect("the container's address is a URL");
        let keeper = Keeper::Container { _container: Box::new(container), _watcher: watcher };
        Ok(Self { admin, _keeper: keeper })
    }

    async fn in_directory() -> Self {
        let directory =
            tempfile::Builder::new().prefix("b24mirror-test-").tempdir().unwrap().keep();
        let watcher = when_this_process_ends(REMOVE_PRIVATE_SERVER, &directory).unwrap();
        let server = LocalPostgres::start(LocalOptions {
            durable: false,
            max_connections: MAX_CONNECTIONS,
            keep_running: true,
            ..LocalOptions::new(directory)
        })
        .await
        .unwrap_or_else(|error| panic!("tests need a PostgreSQL server: {error}"));
        let admin = Url::parse(server.url("postgres").expose_secret()).unwrap();
        let keeper = Keeper::Private { _server: Box::new(server), _watcher: watcher };
        Self { admin, _keeper: keeper }
    }
}

const REMOVE_PRIVATE_SERVER: &str = r#"
    pidfile="$1/data/postmaster.pid"
    [ -e "$pidfile" ] && kill -QUIT "$(head -n 1 "$pidfile")"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -e "$pidfile" ] || break
        sleep 0.2
    done
    rm -rf "$1"
"#;

/// Runs a shell script once this process is gone, killed or not.
///
/// Nothing in a process that is killed can clean up after it, and statics are never
/// dropped. So a shell in a process group of its own waits for the end of its input,
/// whose other end closes with this process.
fn when_this_process_ends(script: &str, argument: impl AsRef<Path>) -> io::Result<process::Child> {
    Command::new("sh")
        .arg("-c")
        .arg(format!("cat; {script}"))
        .arg("sh")
        .arg(argument.as_ref())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}
