//! The files of a private server and the programs that work on them.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tokio::time::Instant;

use super::{
    LocalOptions, LocalPostgresError, SOCKET_PORT, account::Account, binaries::Binaries,
    postmaster::Postmaster,
};

/// The longest socket path that every system takes (`sun_path` is 108 bytes, with its end mark).
const LONGEST_SOCKET_PATH: usize = 107;

/// The log is put aside at the next start when it has grown beyond this.
const LOG_LIMIT: u64 = 16 << 20;

/// The file with our settings, which the cluster's own `postgresql.conf` includes.
const SETTINGS: &str = "b24mirror.conf";

/// How to end a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopMode {
    /// Fast; at once, without a checkpoint, when the data are for throwing away.
    Usual,
    /// Fast, so that the next start finds everything in order.
    Clean,
}

/// A server's directory, the binaries that fit its data, and the account that runs it.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    directory: PathBuf,
    binaries: Binaries,
    account: Account,
    durable: bool,
    max_connections: u32,
    tcp_port: Option<u16>,
}

impl Cluster {
    /// Checks and makes everything that can be made without locks.
    pub(super) fn prepare(options: &LocalOptions) -> Result<Self, LocalPostgresError> {
        let account = Account::current()?;
        let directory = absolute(&options.directory)?;
        let port = options.tcp_port.unwrap_or(SOCKET_PORT);
        let socket = directory.join("run").join(format!(".s.PGSQL.{port}"));
        let length = socket.as_os_str().as_bytes().len();
        if length > LONGEST_SOCKET_PATH {
            return Err(LocalPostgresError::SocketPathTooLong { socket, length });
        }
        let ours = ["data", "users.lock"].iter().any(|name| directory.join(name).exists());
        if !ours && fs::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(LocalPostgresError::NotOurs { directory });
        }
        let major = data_major(&directory.join("data"))?;
        let binaries = Binaries::find(options.binaries.as_deref(), major)?;

        fs::create_dir_all(&directory).map_err(file("make", &directory))?;
        if let Some(barred) = account.barred_by(&directory) {
            return Err(LocalPostgresError::Unreachable { directory, barred });
        }
        let run = directory.join("run");
        match fs::DirBuilder::new().mode(0o700).create(&run) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(file("make", &run)(error));
            }
            _ => {}
        }
        for path in [&directory, &run] {
            account.own(path).map_err(file("give to the account `postgres`", path))?;
            fs::set_permissions(path, Permissions::from_mode(0o700))
                .map_err(file("close to others", path))?;
        }
        Ok(Self {
            directory,
            binaries,
            account,
            durable: options.durable,
            max_connections: options.max_connections,
            tcp_port: options.tcp_port,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.binaries.program(name)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path("server.log")
    }

    pub(super) fn socket_directory(&self) -> PathBuf {
        self.path("run")
    }

    pub(super) fn tcp_port(&self) -> Option<u16> {
        self.tcp_port
    }

    pub(super) fn port(&self) -> u16 {
        self.tcp_port.unwrap_or(SOCKET_PORT)
    }

    /// Fails once the time for a start is over.
    pub(super) fn check(&self, deadline: Instant) -> Result<(), LocalPostgresError> {
        if Instant::now() < deadline {
            return Ok(());
        }
        Err(LocalPostgresError::Timeout { directory: self.directory.clone(), log: self.log() })
    }

    pub(super) fn open_lock(&self, name: &str) -> Result<File, LocalPostgresError> {
        let path = self.path(name);
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(file("open", &path))
    }

    /// Makes the cluster when there is none and writes the server's settings.
    ///
    /// A running server whose settings differ is stopped for it when we are its only user.
    pub(super) fn configure(&self, alone: bool) -> Result<(), LocalPostgresError> {
        let data = self.data();
        if !data.exists() {
            self.initialize()?;
        }
        let path = data.join(SETTINGS);
        let settings = self.settings();
        if fs::read_to_string(&path).is_ok_and(|present| present == settings) {
            return Ok(());
        }
        if self.postmaster()? == Postmaster::Alive {
            if !alone {
                tracing::warn!(
                    directory = %self.directory.display(),
                    "the private PostgreSQL server is in use and keeps its settings until it stops",
                );
                return Ok(());
            }
            self.stop(StopMode::Clean)?;
        }
        self.write(&path, &settings)
    }

    /// Starts the server and waits for it, unless a living one is there.
    pub(super) fn start_unless_alive(&self) -> Result<(), LocalPostgresError> {
        match self.postmaster()? {
            Postmaster::Alive => return Ok(()),
            Postmaster::Absent => {}
            Postmaster::Dead => {
                Postmaster::clear(&self.data(), &self.socket())
                    .map_err(file("clear up after a dead server in", &self.directory))?;
            }
        }
        let log = self.log();
        if fs::metadata(&log).is_ok_and(|metadata| metadata.len() > LOG_LIMIT) {
            fs::rename(&log, self.path("server.log.1")).map_err(file("put aside", &log))?;
        }
        let before = fs::metadata(&log).map_or(0, |metadata| metadata.len());
        // A pipe would be inherited by the server and never end.
        let output = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&log)
            .map_err(file("open", &log))?;
        self.account.own(&log).map_err(file("give to the account `postgres`", &log))?;
        let errors = output.try_clone().map_err(file("open", &log))?;

        let mut command = self.command("pg_ctl");
        command
            .args(["start", "--silent", "--wait", "--timeout=60", "-D"])
            .arg(self.data_argument());
        command.stdout(output).stderr(errors);
        let status = command.status().map_err(|source| LocalPostgresError::Run {
            program: self.program("pg_ctl"),
            source,
        })?;
        // A server that is still recovering when pg_ctl loses patience is alive and will come.
        if status.success() || self.postmaster()? == Postmaster::Alive {
            return Ok(());
        }
        let words = fs::read(&log).unwrap_or_default();
        let start = usize::try_from(before).unwrap_or(0).min(words.len());
        Err(LocalPostgresError::Failed { program: "pg_ctl start", output: tail(&words[start..]) })
    }

    /// Stops the server and waits for its end; a server that is not running is fine.
    pub(super) fn stop(&self, mode: StopMode) -> Result<(), LocalPostgresError> {
        if self.postmaster()? != Postmaster::Alive {
            return Ok(());
        }
        let mode = if self.durable || mode == StopMode::Clean { "fast" } else { "immediate" };
        let mut command = self.command("pg_ctl");
        command.args(["stop", "--silent", "--wait", "--timeout=60", "--mode", mode, "-D"]);
        command.arg(self.data_argument());
        run(command, "pg_ctl stop")
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// The data directory as `pg_ctl` may take it: it puts the name between double quotes into
    /// a shell command, so a name that is not safe there is given relative to the current directory.
    fn data_argument(&self) -> PathBuf {
        let data = self.data();
        let unsafe_in_shell = |byte: &u8| b"\"\\$`".contains(byte);
        if data.as_os_str().as_bytes().iter().any(unsafe_in_shell) {
            return PathBuf::from("data");
        }
        data
    }

    fn socket(&self) -> PathBuf {
        self.socket_directory().join(format!(".s.PGSQL.{}", self.port()))
    }

    fn postmaster(&self) -> Result<Postmaster, LocalPostgresError> {
        Postmaster::of(&self.data()).map_err(file("read the process file in", &self.directory))
    }

    /// Makes a cluster beside its place and moves it there when it is whole, so that a
    /// process killed meanwhile leaves nothing that looks like one.
    fn initialize(&self) -> Result<(), LocalPostgresError> {
        // C.UTF-8 sorts by code point, as every machine does it the same way, and knows upper
        // and lower case beyond ASCII. Systems without it fall back to C.
        match self.initdb("C.UTF-8") {
            Err(LocalPostgresError::Failed { output, .. }) if output.contains("locale") => {
                self.initdb("C")?;
            }
            result => result?,
        }
        let new = self.path("data.new");
        let mut conf = OpenOptions::new()
            .append(true)
            .open(new.join("postgresql.conf"))
            .map_err(file("open the server's settings in", &new))?;
        io::Write::write_all(&mut conf, format!("\ninclude = '{SETTINGS}'\n").as_bytes())
            .map_err(file("write the server's settings in", &new))?;
        self.write(&new.join(SETTINGS), &self.settings())?;
        fs::rename(&new, self.data()).map_err(file("move into place", &new))?;
        if self.durable {
            File::open(&self.directory)
                .and_then(|directory| directory.sync_all())
                .map_err(file("sync", &self.directory))?;
        }
        Ok(())
    }

    fn initdb(&self, locale: &str) -> Result<(), LocalPostgresError> {
        let new = self.path("data.new");
        match fs::remove_dir_all(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file("remove", &new)(error));
            }
            _ => {}
        }
        let mut command = self.command("initdb");
        command
            .args(["--username=postgres", "--encoding=UTF8", "--data-checksums"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .arg(format!("--locale={locale}"))
            .arg("-D")
            .arg(&new);
        if !self.durable {
            command.arg("--no-sync");
        }
        run(command, "initdb")
    }

    fn settings(&self) -> String {
        let address = if self.tcp_port.is_some() { "127.0.0.1" } else { "" };
        // A list of directories, in which a name may be quoted, inside a quoted setting.
        let sockets = self.socket_directory().to_string_lossy().replace('"', "\"\"");
        let sockets = format!("\"{sockets}\"").replace('\\', "\\\\").replace('\'', "''");
        let mut settings = format!(
            "# Written by b24mirror at every start.\n\
             listen_addresses = '{address}'\n\
             port = {port}\n\
             unix_socket_directories = '{sockets}'\n\
             unix_socket_permissions = 0700\n\
             max_connections = {max_connections}\n\
             log_line_prefix = '%m [%p] %d '\n\
             # Details of an error quote rows, and rows are people's data.\n\
             log_error_verbosity = terse\n",
            port = self.port(),
            max_connections = self.max_connections,
        );
        if !self.durable {
            settings.push_str("fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n");
        }
        settings
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), LocalPostgresError> {
        fs::write(path, text).map_err(file("write", path))?;
        self.account.own(path).map_err(file("give to the account `postgres`", path))
    }

    /// A program of the server, as its account, free of the caller's PostgreSQL settings.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.program(program));
        command.current_dir(&self.directory).stdin(Stdio::null()).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"PG"))
        {
            command.env_remove(name);
        }
        self.account.apply(&mut command);
        command
    }
}

fn run(mut command: Command, name: &'static str) -> Result<(), LocalPostgresError> {
    let output = command.output().map_err(|source| LocalPostgresError::Run {
        program: command.get_program().into(),
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(LocalPostgresError::Failed { program: name, output: tail(&output.stderr) })
}

/// The data's major version, when there are data.
fn data_major(data: &Path) -> Result<Option<u32>, LocalPostgresError> {
    let path = data.join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(file("read", &path)(source)),
    }
}

/// The path without links and relative parts, also where its end does not exist yet.
fn absolute(path: &Path) -> Result<PathBuf, LocalPostgresError> {
    if let Ok(real) = fs::canonicalize(path) {
        return Ok(real);
    }
    let path = std::path::absolute(path).map_err(file("find", path))?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(absolute(parent)?.join(name)),
        _ => Ok(path),
    }
}

/// The last few lines of what a program had to say.
fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LocalPostgresError {
    let path = path.to_owned();
    move |source| LocalPostgresError::File { action, path, source }
}
