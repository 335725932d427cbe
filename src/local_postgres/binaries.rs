//! Finding PostgreSQL's server binaries, and telling how to install them.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::LocalPostgresError;

/// The oldest major version that the mirror works with.
pub const OLDEST_MAJOR: u32 = 15;

/// Where packages put server binaries that are not on the `PATH`; `*` stands for any
/// ending of that one path component.
const PLACES: [&str; 10] = [
    "/usr/lib/postgresql/*/bin",   // Debian, Ubuntu
    "/usr/pgsql-*/bin",            // the PostgreSQL project's RPMs
    "/usr/libexec/postgresql*",    // Alpine
    "/usr/lib/postgresql*/bin",    // SUSE
    "/usr/lib64/postgresql-*/bin", // Gentoo
    "/usr/local/pgsql/bin",        // built from source
    "/usr/local/opt/postgresql@*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/local/lib/postgresql*/bin", // MacPorts
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// A directory that holds `initdb`, `pg_ctl` and `postgres` of one major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    directory: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    /// Finds a server of the wanted major version, or any usable one: first the
    /// one on the `PATH`, then the newest elsewhere.
    pub(super) fn find(
        given: Option<&Path>,
        wanted_major: Option<u32>,
    ) -> Result<Self, LocalPostgresError> {
        let all = match given {
            Some(directory) => Self::in_directory(directory).into_iter().collect(),
            None => Self::installed(env::var_os("PATH").as_deref(), &PLACES),
        };
        Self::choose(all, wanted_major)
    }

    /// A program of this server.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn choose(all: Vec<Self>, wanted_major: Option<u32>) -> Result<Self, LocalPostgresError> {
        if all.is_empty() {
            return Err(LocalPostgresError::NotInstalled { install: install_command() });
        }
        if let Some(wanted) = wanted_major {
            let found = all[0].major;
            return all
                .into_iter()
                .find(|binaries| binaries.major == wanted)
                .ok_or(LocalPostgresError::OtherMajor { data: wanted, found });
        }
        let newest = all.iter().map(|binaries| binaries.major).max().unwrap_or_default();
        all.into_iter()
            .find(|binaries| binaries.major >= OLDEST_MAJOR)
            .ok_or_else(|| LocalPostgresError::TooOld { found: newest, install: install_command() })
    }

    /// Every server on this machine, in order of preference.
    fn installed(path: Option<&OsStr>, places: &[&str]) -> Vec<Self> {
        let on_path = path
            .into_iter()
            .flat_map(env::split_paths)
            // A link such as /usr/local/bin/postgres stands alone there: what belongs to
            // it lies where it points.
            .filter_map(|directory| fs::canonicalize(directory.join("postgres")).ok())
            .filter_map(|program| program.parent().and_then(Self::in_directory));
        let mut elsewhere: Vec<_> = places
            .iter()
            .flat_map(|pattern| expand(pattern))
            .filter_map(|directory| Self::in_directory(&directory))
            .collect();
        elsewhere.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
        on_path.chain(elsewhere).collect()
    }

    fn in_directory(directory: &Path) -> Option<Self> {
        let complete = ["initdb", "pg_ctl"].iter().all(|program| directory.join(program).is_file());
        if !complete {
            return None;
        }
        let output = Command::new(directory.join("postgres"))
            .arg("--version")
            .current_dir("/")
            .output()
            .ok()?;
        let major = parse_major(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { directory: directory.to_owned(), major })
    }
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, betas included.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

/// The directories that match a pattern with at most one `*`, which must end its component.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(after.trim_start_matches('/')))
        .collect()
}

/// The command that installs a PostgreSQL server on this kind of system.
#[must_use]
pub fn install_command() -> &'static str {
    if cfg!(target_os = "macos") {
        return "brew install postgresql@17";
    }
    install_command_for(&fs::read_to_string("/etc/os-release").unwrap_or_default())
}

fn install_command_for(os_release: &str) -> &'static str {
    let families: Vec<&str> = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|names| names.trim_matches('"').split_whitespace())
        .collect();
    let is = |name: &str| families.contains(&name);
    if is("debian") || is("ubuntu") {
        "apt-get install postgresql"
    } else if is("fedora") || is("rhel") || is("centos") {
        "dnf install postgresql-server"
    } else if is("alpine") {
        "apk add postgresql"
    } else if is("arch") {
        "pacman -S postgresql"
    } else if is("suse") || is("opensuse") {
        "zypper install postgresql-server"
    } else {
        "your package manager, for the PostgreSQL server package"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn fake_server(directory: &Path, version: &str) {
        fs::create_dir_all(directory).unwrap();
        for program in ["initdb", "pg_ctl", "postgres"] {
            let path = directory.join(program);
            fs::write(&path, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n"))
                .unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn the_major_version_is_read_from_every_spelling() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19beta2\n"), Some(19));
        assert_eq!(parse_major("postgres (EnterpriseDB) x"), None);
    }

    #[test]
    fn the_path_comes_first_and_the_newest_elsewhere_next() {
        let root = tempfile::tempdir().unwrap();
        let on_path = root.path().join("bin");
        fake_server(&on_path, "16.2");
        for major in ["15", "17"] {
            fake_server(&root.path().join("lib").join(major).join("bin"), &format!("{major}.1"));
        }
        let pattern = format!("{}/lib/*/bin", root.path().display());

        let all = Binaries::installed(Some(on_path.as_os_str()), &[&pattern]);

        assert_eq!(all.iter().map(|b| b.major).collect::<Vec<_>>(), [16, 17, 15]);
        assert_eq!(Binaries::choose(all.clone(), None).unwrap().major, 16);
        assert_eq!(Binaries::choose(all.clone(), Some(15)).unwrap().major, 15);
        assert!(matches!(
            Binaries::choose(all, Some(14)),
            Err(LocalPostgresError::OtherMajor { data: 14, found: 16 })
        ));
    }

    #[test]
    fn an_old_server_on_the_path_does_not_hide_a_usable_one() {
        let root = tempfile::tempdir().unwrap();
        let (old, new) = (root.path().join("old"), root.path().join("new"));
        fake_server(&old, "13.9");
        fake_server(&new, "15.0");

        let all = Binaries::installed(Some(old.as_os_str()), &[new.to_str().unwrap()]);
        assert_eq!(Binaries::choose(all, None).unwrap().directory, new);

        let all = Binaries::installed(Some(old.as_os_str()), &[]);
        assert!(matches!(
            Binaries::choose(all, None),
            Err(LocalPostgresError::TooOld { found: 13, .. })
        ));
    }

    #[test]
    fn a_machine_without_a_server_is_told_how_to_install_one() {
        let error = Binaries::choose(Binaries::installed(None, &[]), None).unwrap_err();
        assert!(matches!(error, LocalPostgresError::NotInstalled { .. }));
        for (os_release, command) in [
            ("ID=debian\n", "apt-get install postgresql"),
            (
                "NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                "apt-get install postgresql",
            ),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "dnf install postgresql-server"),
            ("ID=alpine\n", "apk add postgresql"),
        ] {
            assert_eq!(install_command_for(os_release), command);
        }
    }
}
