//! The account that the server runs as.
//!
//! PostgreSQL refuses to run as root, so root hands the directory and every
//! server process to the account `postgres`; anybody else runs it as themselves.

use std::{
    fs, io,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::{User, geteuid};

use super::LocalPostgresError;

/// The account that root hands the server to; server packages create it.
const ACCOUNT: &str = "postgres";

/// Who runs the server.
#[derive(Debug, Clone, Copy)]
pub(super) enum Account {
    /// The user that runs this process.
    Own,
    /// Root's stand-in.
    Other {
        /// Numeric user.
        uid: u32,
        /// Numeric primary group.
        gid: u32,
    },
}

impl Account {
    /// Decides by who we are.
    pub(super) fn current() -> Result<Self, LocalPostgresError> {
        if !geteuid().is_root() {
            return Ok(Self::Own);
        }
        match User::from_name(ACCOUNT) {
            Ok(Some(user)) => Ok(Self::Other { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
            Ok(None) | Err(_) => Err(LocalPostgresError::NoAccount),
        }
    }

    /// Makes the command run as this account.
    pub(super) fn apply(self, command: &mut Command) {
        if let Self::Other { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
    }

    /// Hands a path to this account.
    pub(super) fn own(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid } => chown(path, Some(uid), Some(gid)),
        }
    }

    /// The nearest ancestor of an existing directory that this account cannot pass through.
    pub(super) fn barred_by(self, directory: &Path) -> Option<PathBuf> {
        let Self::Other { uid, gid } = self else { return None };
        directory
            .ancestors()
            .skip(1)
            .find(|ancestor| {
                fs::metadata(ancestor).is_ok_and(|metadata| {
                    let mode = metadata.permissions().mode();
                    let search = if metadata.uid() == uid {
                        0o100
                    } else if metadata.gid() == gid {
                        0o010
                    } else {
                        0o001
                    };
                    mode & search == 0
                })
            })
            .map(Path::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_parent_bars_a_foreign_account_only() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let foreign = Account::Other { uid: 64_123, gid: 64_123 };

        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(foreign.barred_by(&inner).as_deref(), Some(root.path()));
        assert_eq!(Account::Own.barred_by(&inner), None);

        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(foreign.barred_by(&inner), None);
    }
}
