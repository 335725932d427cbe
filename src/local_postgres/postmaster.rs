//! Whether the server process of a data directory is alive.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What `postmaster.pid` says of a data directory's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Postmaster {
    /// No server, or one that ended properly.
    Absent,
    /// Running, or at least holding on to its process.
    Alive,
    /// The file is there, but its server is not.
    Dead,
}

impl Postmaster {
    /// Looks at the process that the data directory's `postmaster.pid` names.
    ///
    /// PostgreSQL itself only asks whether a signal could be delivered. That is also
    /// true of a zombie, which a killed server stays for a while where process 1
    /// does not reap (most containers), and of a stranger that was given the same
    /// number after a restart of the container; both would block a start for ever.
    pub(super) fn of(data: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(data.join("postmaster.pid")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Absent),
            Err(error) => return Err(error),
        };
        // The first line of a stand-alone backend is negative; of a half-written file, missing.
        let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else {
            return Ok(Self::Dead);
        };
        Ok(if is_alive(Path::new("/proc"), pid.unsigned_abs(), data) {
            Self::Alive
        } else {
            Self::Dead
        })
    }

    /// Removes what a dead server left and what would keep the next one from starting.
    ///
    /// The shared memory of surviving backends still guards the data: its key comes from
    /// the data directory, and a new server refuses to start while any is attached.
    pub(super) fn clear(data: &Path, socket: &Path) -> io::Result<()> {
        let mut lock = socket.as_os_str().to_owned();
        lock.push(".lock");
        for leftover in [data.join("postmaster.pid"), PathBuf::from(lock), socket.to_owned()] {
            match fs::remove_file(leftover) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_alive(proc: &Path, pid: u32, data: &Path) -> bool {
    if !proc.join("self").exists() {
        // Without /proc (macOS) a signal's answer is all there is.
        let Ok(pid) = i32::try_from(pid) else { return false };
        return nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None)
            != Err(nix::errno::Errno::ESRCH);
    }
    let process = proc.join(pid.to_string());
    let Ok(stat) = fs::read_to_string(process.join("stat")) else { return false };
    // "42 (name, which may hold anything) S 1 …"
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    if matches!(state, None | Some('Z' | 'X' | 'x')) {
        return false;
    }
    // A server's working directory is its data directory.
    match (fs::read_link(process.join("cwd")), fs::canonicalize(data)) {
        (Ok(cwd), Ok(data)) => cwd == data,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, process};

    use super::*;

    /// A `/proc` with one process in it.
    fn proc_with(pid: u32, state: char, cwd: &Path) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("self")).unwrap();
        let entry = proc.path().join(pid.to_string());
        fs::create_dir(&entry).unwrap();
        fs::write(entry.join("stat"), format!("{pid} (post) gres) {state} 1 1 1")).unwrap();
        symlink(cwd, entry.join("cwd")).unwrap();
        proc
    }

    #[test]
    fn a_zombie_and_a_stranger_with_the_same_number_are_not_the_server() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path().canonicalize().unwrap();

        assert!(is_alive(proc_with(7, 'S', &data).path(), 7, &data));
        assert!(!is_alive(proc_with(7, 'Z', &data).path(), 7, &data));
        assert!(!is_alive(proc_with(7, 'S', Path::new("/")).path(), 7, &data));
        assert!(!is_alive(proc_with(8, 'S', &data).path(), 7, &data));
    }

    #[test]
    fn leftovers_of_a_dead_server_are_found_and_cleared() {
        let data = tempfile::tempdir().unwrap();
        let socket = data.path().join(".s.PGSQL.5432");
        assert_eq!(Postmaster::of(data.path()).unwrap(), Postmaster::Absent);

        // Our own number: a living process, but with another working directory.
        fs::write(data.path().join("postmaster.pid"), format!("{}\n", process::id())).unwrap();
        fs::write(data.path().join(".s.PGSQL.5432.lock"), "1\n").unwrap();
        assert_eq!(Postmaster::of(data.path()).unwrap(), Postmaster::Dead);

        Postmaster::clear(data.path(), &socket).unwrap();
        assert_eq!(Postmaster::of(data.path()).unwrap(), Postmaster::Absent);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
    }
}
