//! Child processes, and what each costs: processor time and memory as the kernel counts them.

use std::{
    env, fs, io,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::time::sleep;

/// The kernel's unit of processor time in `/proc`, on every architecture that matters.
const TICKS_PER_SECOND: f64 = 100.0;

/// How often a process is looked at. Its peak memory is known up to the last look.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A child process of this benchmark; killed when dropped.
pub(crate) struct Process {
    child: Child,
    home: TempDir,
    started: Instant,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Seconds of processor time, user and system.
    pub(crate) cpu: f64,
    /// The most memory that it has ever had in RAM, in bytes.
    pub(crate) peak_memory: u64,
    /// The memory that it has in RAM, in bytes.
    pub(crate) memory: u64,
}

/// A process that has ended well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    /// What it used.
    pub(crate) usage: Usage,
    /// From its start to its end.
    pub(crate) wall: Duration,
}

impl Process {
    /// Starts the program in an empty directory, free of the caller's settings.
    pub(crate) fn start(
        arguments: &[&str],
        config: &str,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("b24mirror-bench-").tempdir()?;
        fs::write(home.path().join("config.toml"), config)?;
        let output = |name: &str| fs::File::create(home.path().join(name));
        let mut command = Command::new(env!("CARGO_BIN_EXE_b24mirror"));
        command.args(arguments).current_dir(home.path());
        command.stdin(Stdio::null()).stdout(output("stdout")?).stderr(output("stderr")?);
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            let service = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY"];
            if text.starts_with("B24MIRROR__") || service.contains(&&*text) {
                command.env_remove(&name);
            }
        }
        command.envs(variables.iter().copied());
        let started = Instant::now();
        let child = command.spawn().context("the program does not start")?;
        Ok(Self { child, home, started })
    }

    /// When it was started.
    pub(crate) const fn started(&self) -> Instant {
        self.started
    }

    /// What it has printed so far.
    pub(crate) fn printed(&self) -> io::Result<String> {
        fs::read_to_string(self.home.path().join("stdout"))
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let (cpu, memory) = (cpu(self.child.id())?, Memory::of(self.child.id())?);
        Ok(Usage { cpu, peak_memory: memory.peak, memory: memory.now })
    }

    /// Waits for its end, which must be a good one.
    pub(crate) async fn finish(mut self) -> anyhow::Result<Finished> {
        let mut usage = Usage::default();
        loop {
            let memory = Memory::of(self.child.id())?;
            if memory.zombie {
                break;
            }
            // A process on its way out has none any more.
            usage.peak_memory = usage.peak_memory.max(memory.peak);
            sleep(LOOK_EVERY).await;
        }
        let wall = self.started.elapsed();
        // A process that has ended keeps its account until somebody has waited for it.
        usage.cpu = cpu(self.child.id())?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the program ended with {status}:\n{}", self.last_words());
        Ok(Finished { usage, wall })
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(self) -> anyhow::Result<Finished> {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        self.finish().await
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the program ended with {status}:\n{}", self.last_words());
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(self.home.path().join("stderr")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail on a process that has been waited for, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of a whole PostgreSQL server, in seconds: the postmaster's, that of its
/// children, and that of the children that have ended.
pub(crate) fn server_cpu(postmaster: u32) -> anyhow::Result<f64> {
    let own = Stat::of(postmaster)?;
    let mut ticks = own.ticks + own.ticks_of_ended_children;
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since the directory was read.
        if let Ok(stat) = Stat::of(pid)
            && stat.parent == postmaster
        {
            ticks += stat.ticks;
        }
    }
    Ok(ticks / TICKS_PER_SECOND)
}

/// The parent of a process: of a PostgreSQL backend, the postmaster.
pub(crate) fn parent(pid: u32) -> anyhow::Result<u32> {
    Ok(Stat::of(pid)?.parent)
}

fn cpu(pid: u32) -> anyhow::Result<f64> {
    Ok(Stat::of(pid)?.ticks / TICKS_PER_SECOND)
}

/// The part of `/proc/PID/stat` that counts.
struct Stat {
    parent: u32,
    ticks: f64,
    ticks_of_ended_children: f64,
}

impl Stat {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))
            .context("no account of a process; this benchmark needs Linux")?;
        // The name before it is in brackets and may hold anything.
        let (_, rest) = text.rsplit_once(')').context("a process's account has no name")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |place: usize| {
            let field = fields.get(place).context("a process's account is too short")?;
            Ok::<f64, anyhow::Error>(field.parse()?)
        };
        Ok(Self {
            parent: fields.get(1).context("a process's account is too short")?.parse()?,
            ticks: number(11)? + number(12)?,
            ticks_of_ended_children: number(13)? + number(14)?,
        })
    }
}

/// The part of `/proc/PID/status` that counts.
struct Memory {
    now: u64,
    peak: u64,
    zombie: bool,
}

impl Memory {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let path = PathBuf::from(format!("/proc/{pid}/status"));
        let text = fs::read_to_string(path)?;
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim()
        };
        let bytes = |name: &str| {
            let kib = field(name).split(' ').next().unwrap_or_default();
            kib.parse::<u64>().unwrap_or(0) * 1024
        };
        Ok(Self {
            now: bytes("VmRSS:"),
            peak: bytes("VmHWM:"),
            zombie: field("State:").starts_with('Z'),
        })
    }
}
