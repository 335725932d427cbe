//! A private PostgreSQL server in a directory: for the demo, for trying out, for
//! small installations and for tests.
//!
//! # What it promises
//! - **Private.** It listens on a unix socket in a directory that only its account can
//!   enter. A TCP port on loopback is opened only when asked for, behind a generated
//!   password.
//! - **Durable.** Data checksums and fsync are on unless [`LocalOptions::durable`] is
//!   switched off, the data stay when the server stops, and a crash of this process, of
//!   the server or of an unfinished first start leaves nothing that blocks the next start.
//! - **Shared politely.** Several processes may use one directory. Each holds a shared
//!   lock; the first starts the server, the last one out stops it.
//! - **Works as root**, where PostgreSQL itself refuses: the server then runs as the
//!   account `postgres`, and the directory is handed to it.
//!
//! # The directory
//! `data` (the cluster; `data.new` while it is being made), `run` (the socket),
//! `server.log`, `password` (once TCP was asked for), `start.lock` and `users.lock`.

mod account;
mod binaries;
mod cluster;
mod postmaster;

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{Instant, sleep};

pub use self::binaries::{OLDEST_MAJOR, install_command};
use self::cluster::{Cluster, StopMode};

/// The port in the socket's name while no TCP port is asked for.
const SOCKET_PORT: u16 = 5432;

/// How long a start may take, another process's start and crash recovery included.
const START_TIMEOUT: Duration = Duration::from_mins(2);

/// How long the last user waits for another's start or stop before it leaves the server running.
const STOP_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How a private server is to be run.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Where everything lives; made when missing. An existing directory must be empty or
    /// have been made by this module.
    pub directory: PathBuf,
    /// A directory with `initdb`, `pg_ctl` and `postgres`; searched for when `None`.
    pub binaries: Option<PathBuf>,
    /// Survives a power cut. Off is for throw-away data only: no fsync, and a stop
    /// that does not write what is in memory.
    pub durable: bool,
    /// The server's `max_connections`.
    pub max_connections: u32,
    /// A TCP port on 127.0.0.1, for tools that cannot use a unix socket.
    pub tcp_port: Option<u16>,
    /// Leaves the server running when the last user goes.
    pub keep_running: bool,
}

impl LocalOptions {
    /// A durable server without a TCP port that stops with its last user.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            binaries: None,
            durable: true,
            max_connections: 100,
            tcp_port: None,
            keep_running: false,
        }
    }
}

/// Why a private server is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LocalPostgresError {
    /// No server binaries anywhere.
    #[error(
        "no PostgreSQL server is installed here; install version {OLDEST_MAJOR} or newer with: {install}"
    )]
    NotInstalled {
        /// The command for this system.
        install: &'static str,
    },
    /// Only servers that the mirror does not work with.
    #[error(
        "the newest PostgreSQL server here is version {found}, but {OLDEST_MAJOR} or newer is needed; install it with: {install}"
    )]
    TooOld {
        /// The newest major version found.
        found: u32,
        /// The command for this system.
        install: &'static str,
    },
    /// The data belong to another major version.
    #[error(
        "the data were made by PostgreSQL {data}, but only version {found} is installed; install version {data} again, or use an empty directory"
    )]
    OtherMajor {
        /// The data's major version.
        data: u32,
        /// The preferred one of the servers found.
        found: u32,
    },
    /// Root without the account to hand the server to.
    #[error(
        "PostgreSQL does not run as root, and there is no account `postgres` to run it as; create it (useradd --system postgres), or run as an ordinary user"
    )]
    NoAccount,
    /// The server's account cannot reach the directory.
    #[error(
        "the account `postgres`, which runs the server, cannot enter {barred}, so it cannot reach {directory}; choose a directory elsewhere, for example under /var/lib, or allow it with: chmod o+x {barred}"
    )]
    Unreachable {
        /// The directory asked for.
        directory: PathBuf,
        /// The ancestor in the way.
        barred: PathBuf,
    },
    /// The directory holds something else.
    #[error("{directory} is not empty and holds no private server; choose an empty directory")]
    NotOurs {
        /// The directory asked for.
        directory: PathBuf,
    },
    /// The operating system limits socket paths.
    #[error(
        "the socket {socket} would have a path of {length} bytes, and the system allows 107; choose a directory with a shorter path"
    )]
    SocketPathTooLong {
        /// The socket.
        socket: PathBuf,
        /// The length of its path in bytes.
        length: usize,
    },
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program of the server could not be run at all.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program of the server failed.
    #[error("{program} failed; its last words: {output}")]
    Failed {
        /// The program.
        program: &'static str,
        /// The end of what it, or the server, had to say.
        output: String,
    },
    /// The server did not come up in time.
    #[error(
        "the server in {directory} did not accept connections within {START_TIMEOUT:?}; see {log}"
    )]
    Timeout {
        /// The directory asked for.
        directory: PathBuf,
        /// The server's log.
        log: PathBuf,
    },
    /// A statement failed on the private server.
    #[error("cannot {action} on the private server")]
    Sql {
        /// What was tried, as a verb.
        action: &'static str,
        /// Why not.
        source: sqlx::Error,
    },
}

/// A private server, running as long as this value or another user of its directory lives.
///
/// Dropping it, or [`Self::stop`], stops the server unless somebody else uses it or
/// [`LocalOptions::keep_running`] is set. A process that is killed stops nothing;
/// the next [`Self::start`] takes over the running server.
#[derive(Debug)]
pub struct LocalPostgres {
    cluster: Cluster,
    keep_running: bool,
    /// The shared lock that says "in use".
    user: Option<File>,
    password: Option<SecretString>,
}

impl LocalPostgres {
    /// Starts the directory's server, or joins it where it runs already, and returns when it
    /// accepts connections.
    ///
    /// Settings that differ from those of a running server take effect only if nobody else is
    /// using it.
    pub async fn start(options: LocalOptions) -> Result<Self, LocalPostgresError> {
        let deadline = Instant::now() + START_TIMEOUT;
        let keep_running = options.keep_running;
        let cluster = blocking(move || Cluster::prepare(&options)).await?;

        let starting = cluster.open_lock("start.lock")?;
        while !try_exclusively(&starting, &cluster.path("start.lock"))? {
            cluster.check(deadline)?;
            sleep(Duration::from_millis(20)).await;
        }
        let user = cluster.open_lock("users.lock")?;
        let alone = try_exclusively(&user, &cluster.path("users.lock"))?;
        user.lock_shared().map_err(|source| LocalPostgresError::File {
            action: "lock",
            path: cluster.path("users.lock"),
            source,
        })?;
        let mut server = Self { cluster, keep_running, user: Some(user), password: None };

        let configured = server.cluster.clone();
        blocking(move || configured.configure(alone)).await?;
        server.bring_up(deadline).await?;
        if server.cluster.tcp_port().is_some() {
            server.password = Some(server.set_password().await?);
        }
        Ok(server)
    }

    /// The address of one of the server's databases, for sqlx and for `psql`.
    ///
    /// It holds no secret today, and is a secret string because database addresses are.
    #[must_use]
    pub fn url(&self, database: &str) -> SecretString {
        SecretString::from(self.socket_url(database))
    }

    /// The address over TCP, with the password, when a port was asked for.
    #[must_use]
    pub fn tcp_url(&self, database: &str) -> Option<SecretString> {
        let (port, password) = (self.cluster.tcp_port()?, self.password.as_ref()?);
        Some(SecretString::from(format!(
            "postgres://postgres:{}@127.0.0.1:{port}/{}",
            password.expose_secret(),
            encode(database),
        )))
    }

    /// The file that holds the password of the TCP port, when one was asked for.
    #[must_use]
    pub fn password_file(&self) -> Option<PathBuf> {
        self.cluster.tcp_port().map(|_| self.cluster.path("password"))
    }

    /// The server's log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.cluster.log()
    }

    /// What to type in a shell for a look at a database.
    #[must_use]
    pub fn psql_command(&self, database: &str) -> String {
        let psql = self.cluster.program("psql");
        let psql = if psql.is_file() { quote(&psql.to_string_lossy()) } else { "psql".to_owned() };
        format!("{psql} {}", quote(&self.socket_url(database)))
    }

    /// Creates a database unless it is there.
    pub async fn create_database(&self, name: &str) -> Result<(), LocalPostgresError> {
        let failed = |source| LocalPostgresError::Sql { action: "create a database", source };
        let mut connection = self.connect().await.map_err(failed)?;
        let exists: bool =
            sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
                .bind(name)
                .fetch_one(&mut connection)
                .await
                .map_err(failed)?;
        if !exists {
            let statement = format!("create database \"{}\"", name.replace('"', "\"\""));
            match sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await {
                // Somebody else was quicker: 42P04, or 23505 when it was a close race.
                Err(sqlx::Error::Database(error))
                    if matches!(error.code().as_deref(), Some("42P04" | "23505")) => {}
                result => {
                    result.map_err(failed)?;
                }
            }
        }
        connection.close().await.map_err(failed)
    }

    /// Gives the server up, and stops it if nobody else uses it.
    ///
    /// The same as dropping it, with an answer: `true` when the server is down.
    pub async fn stop(mut self) -> Result<bool, LocalPostgresError> {
        blocking(move || self.leave()).await
    }

    fn socket_url(&self, database: &str) -> String {
        // Everything that PGHOST, PGPORT and their kind could otherwise fill in is said.
        format!(
            "postgres:///{}?host={}&port={}&user=postgres&sslmode=disable",
            encode(database),
            utf8_percent_encode(&self.cluster.socket_directory().to_string_lossy(), PATH),
            self.cluster.port(),
        )
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect(&self.socket_url("postgres")).await
    }

    /// Repeats starting and connecting until the server answers: it may be recovering from
    /// a crash, be on its way down, or have left backends that have not noticed its death yet.
    async fn bring_up(&self, deadline: Instant) -> Result<(), LocalPostgresError> {
        loop {
            let cluster = self.cluster.clone();
            let started = blocking(move || cluster.start_unless_alive()).await;
            match started {
                Err(LocalPostgresError::Failed { output, .. })
                    if output.contains("still in use") && Instant::now() < deadline => {}
                Err(error) => return Err(error),
                Ok(()) => match self.connect().await {
                    Ok(connection) => {
                        return connection.close().await.map_err(|source| {
                            LocalPostgresError::Sql { action: "close a connection", source }
                        });
                    }
                    Err(error) if is_transient(&error) => self.cluster.check(deadline)?,
                    Err(source) => {
                        return Err(LocalPostgresError::Sql { action: "connect", source });
                    }
                },
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Gives the superuser the password in the password file, which is made when missing.
    async fn set_password(&self) -> Result<SecretString, LocalPostgresError> {
        let path = self.cluster.path("password");
        let password = stored_password(&path).map_err(|source| LocalPostgresError::File {
            action: "keep a password in",
            path,
            source,
        })?;
        let failed = |source| LocalPostgresError::Sql { action: "set a password", source };
        let mut connection = self.connect().await.map_err(failed)?;
        for statement in [
            // Neither a failing nor a slow statement may bring the password into the log.
            "set log_min_error_statement = panic".to_owned(),
            "set log_statement = 'none'".to_owned(),
            "set log_min_duration_statement = -1".to_owned(),
            "set password_encryption = 'scram-sha-256'".to_owned(),
            format!("alter role postgres password '{}'", password.expose_secret()),
        ] {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.map_err(failed)?;
        }
        connection.close().await.map_err(failed)?;
        Ok(password)
    }

    fn leave(&mut self) -> Result<bool, LocalPostgresError> {
        let Some(user) = self.user.take() else { return Ok(false) };
        if self.keep_running {
            return Ok(false);
        }
        let starting = self.cluster.open_lock("start.lock")?;
        let deadline = std::time::Instant::now() + STOP_LOCK_TIMEOUT;
        while !try_exclusively(&starting, &self.cluster.path("start.lock"))? {
            if std::time::Instant::now() > deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // A lock cannot be taken away from others by changing one's own, so let go first;
        // nobody can come in between while the start lock is ours.
        let path = self.cluster.path("users.lock");
        user.unlock().map_err(|source| LocalPostgresError::File {
            action: "unlock",
            path: path.clone(),
            source,
        })?;
        if !try_exclusively(&user, &path)? {
            return Ok(false);
        }
        self.cluster.stop(StopMode::Usual)?;
        Ok(true)
    }
}

impl Drop for LocalPostgres {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                log = %self.cluster.log().display(),
                "the private PostgreSQL server could not be stopped",
            );
        }
    }
}

/// The server is there but not ready, or not there yet.
fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // cannot_connect_now, crash_shutdown, admin_shutdown, too_many_connections
        sqlx::Error::Database(error) => {
            matches!(error.code().as_deref(), Some("57P03" | "57P02" | "57P01" | "53300"))
        }
        _ => false,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LocalPostgresError> + Send + 'static,
) -> Result<T, LocalPostgresError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn try_exclusively(lock: &File, path: &Path) -> Result<bool, LocalPostgresError> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => {
            Err(LocalPostgresError::File { action: "lock", path: path.to_owned(), source })
        }
    }
}

/// The password in the file, which only its owner can read; a new one when there is none.
fn stored_password(path: &Path) -> io::Result<SecretString> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(SecretString::from(text.trim())),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let password = generated_password()?;
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, format!("{password}\n").as_bytes())?;
    Ok(SecretString::from(password))
}

/// 192 random bits as hexadecimal digits, which need no quoting anywhere.
fn generated_password() -> io::Result<String> {
    let mut bytes = [0_u8; 24];
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    Ok(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
}

/// A path inside a URL's query keeps its slashes: people read it.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

fn encode(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// One shell word.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
