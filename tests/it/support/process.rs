//! Running a program, the real binary above all: its output as it comes, signals, its end.

use std::{
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    path::Path,
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

/// Longer than anything in these tests takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(4);

/// A program about to be run, in an empty directory and without the caller's own settings.
pub(crate) struct Run {
    command: Command,
    home: TempDir,
}

impl Run {
    /// The binary of this package.
    pub(crate) fn b24mirror(arguments: &[&str]) -> Self {
        Self::program(env!("CARGO_BIN_EXE_b24mirror"), arguments)
    }

    /// Any program.
    pub(crate) fn program(program: impl AsRef<Path>, arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(program.as_ref());
        command.args(arguments).current_dir(home.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let ours = name.starts_with("B24MIRROR__");
            if ours || ["NOTIFY_SOCKET", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY"].contains(&&*name)
            {
                command.env_remove(name);
            }
        }
        Self { command, home }
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.command.env(name, value.as_ref());
        self
    }

    /// Writes `config.toml` into the directory that the program runs in.
    pub(crate) fn config(self, toml: &str) -> Self {
        std::fs::write(self.home.path().join("config.toml"), toml).unwrap();
        self
    }

    /// Starts it.
    pub(crate) fn spawn(self) -> Process {
        let Self { mut command, home } = self;
        let mut child = command.spawn().unwrap();
        let stdout = Output::collect(child.stdout.take().unwrap());
        let stderr = Output::collect(child.stderr.take().unwrap());
        Process { child, stdout, stderr, _home: home }
    }

    /// Starts it on a terminal that it has for itself.
    pub(crate) fn spawn_on(self, terminal: OwnedFd) -> (Child, TempDir) {
        let Self { mut command, home } = self;
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        command.stdin(terminal.try_clone().unwrap());
        command.stdout(terminal.try_clone().unwrap()).stderr(terminal);
        (command.spawn().unwrap(), home)
    }

    /// Runs it to its end.
    pub(crate) async fn finish(self) -> Finished {
        self.spawn().finish().await
    }
}

/// A running program; killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdout: Output,
    stderr: Output,
    _home: TempDir,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code, unless a signal ended it.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// Everything it wrote for people.
    pub(crate) stdout: String,
    /// Everything it logged.
    pub(crate) stderr: String,
}

impl Process {
    /// Waits for a line of standard error, which may have come already, that holds the text.
    pub(crate) async fn logged(&mut self, text: &str) -> String {
        self.stderr.line_with(text).await
    }

    /// Waits for a line of standard output, which may have come already, that holds the text.
    pub(crate) async fn printed(&mut self, text: &str) -> String {
        self.stdout.line_with(text).await
    }

    /// Its process ID.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("the process is running")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.id()).unwrap();
        signal::kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) async fn kill(self) -> Finished {
        self.signal(Signal::SIGKILL);
        self.finish().await
    }

    /// Waits for its end.
    pub(crate) async fn finish(self) -> Finished {
        self.finish_within(PATIENCE).await
    }

    /// Waits for its end, which must come in time.
    pub(crate) async fn finish_within(mut self, limit: Duration) -> Finished {
        let Ok(status) = timeout(limit, self.child.wait()).await else {
            let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
            panic!("still running after {limit:?}; stdout:\n{stdout}\nstderr:\n{stderr}");
        };
        let status = status.unwrap();
        Finished {
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.rest().await,
            stderr: self.stderr.rest().await,
        }
    }
}

/// The lines of one stream so far.
struct Output {
    lines: watch::Receiver<Vec<String>>,
    reader: JoinHandle<()>,
}

impl Output {
    fn collect(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (sender, lines) = watch::channel(Vec::new());
        let reader = tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                sender.send_modify(|lines| lines.push(text));
            }
        });
        Self { lines, reader }
    }

    fn text(&self) -> String {
        self.lines.borrow().join("\n")
    }

    async fn line_with(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let found = |lines: &Vec<String>| lines.iter().any(|line| line.contains(text));
        let why = match timeout_at(deadline, self.lines.wait_for(found)).await {
            Ok(Ok(lines)) => {
                return lines.iter().find(|line| line.contains(text)).unwrap().clone();
            }
            Ok(Err(_)) => "it ended",
            Err(_) => "time is up",
        };
        panic!("no line with {text:?}: {why}; so far:\n{}", self.text());
    }

    /// Everything up to the end, unless a child of the program keeps the stream open.
    async fn rest(&mut self) -> String {
        let _ = timeout(Duration::from_secs(2), &mut self.reader).await;
        self.text()
    }
}
