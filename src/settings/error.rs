//! Why settings are refused: each error names the key, where it stands, and the way out.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Why the settings cannot be used. Never holds a secret's value.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file, or a file that a key names, cannot be read.
    #[error("cannot read {path}{named}; check that it exists and that this user may read it", named = named_by(*.key))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The key that names it, unless it is the settings file itself.
        key: Option<&'static str>,
        /// Why not.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not valid TOML: {problem}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what, without the line's text, which may hold a secret.
        problem: String,
    },
    /// A key that does not exist.
    #[error("unknown setting `{key}` in {place}; {hint}")]
    Unknown {
        /// The key as written.
        key: String,
        /// Where it stands.
        place: Place,
        /// The nearest existing key, or where all of them are listed.
        hint: String,
    },
    /// A value that makes no sense.
    #[error("`{key}` in {place} {problem}")]
    Invalid {
        /// The key.
        key: String,
        /// Where it stands.
        place: Place,
        /// What is wrong with it and how it should look.
        problem: String,
    },
    /// Several answers to one question.
    #[error("{keys} in {place} exclude each other; keep one of them")]
    Conflict {
        /// The keys, for reading.
        keys: String,
        /// Where they stand.
        place: Place,
    },
    /// Nothing says what a command needs to know.
    #[error(
        "`{key}` is not set; set it in the settings file, name a file with `{key}_file`, or set {variable} in the environment{instead}",
        variable = variable(.key)
    )]
    Missing {
        /// The key.
        key: &'static str,
        /// Another way, to end the sentence with; mostly empty.
        instead: &'static str,
    },
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A settings file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A systemd credential.
    Credential(PathBuf),
}

impl Place {
    pub(super) fn file(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Variable(name) => write!(f, "the environment ({name})"),
            Self::Credential(path) => write!(f, "the credential {}", path.display()),
        }
    }
}

/// The environment variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    format!("{}{}", super::PREFIX, key.to_uppercase().replace('.', "__"))
}

fn named_by(key: Option<&str>) -> String {
    key.map(|key| format!(", which `{key}` names")).unwrap_or_default()
}
