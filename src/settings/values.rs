//! Typed reading of single keys, with errors that name key, place and remedy.

use std::{
    collections::BTreeMap,
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use bytesize::ByteSize;
use config::{Config, Environment, File, FileFormat, Value, ValueKind};
use secrecy::SecretString;

use super::{
    PREFIX,
    error::{Place, SettingsError, variable},
    keys,
};

/// The merged layers: the file's values, the environment's above them.
pub(super) struct Values {
    config: Config,
    file: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    credentials: Option<PathBuf>,
}

impl Values {
    pub(super) fn read(
        file: Option<PathBuf>,
        environment: BTreeMap<String, String>,
        credentials: Option<PathBuf>,
    ) -> Result<Self, SettingsError> {
        let mut builder = Config::builder();
        if let Some(path) = &file {
            let text = fs::read_to_string(path).map_err(|source| SettingsError::Unreadable {
                path: path.clone(),
                key: None,
                source,
            })?;
            let source = File::from_str(&text, FileFormat::Toml);
            let layer = config::Source::collect(&source).map_err(|error| {
                SettingsError::Syntax { path: path.clone(), problem: where_and_what(&error) }
            })?;
            keys::check(&layer, &|_| Place::file(path))?;
            builder = builder.add_source(source);
        }
        for name in environment.keys() {
            let key = key_of(name);
            if !keys::KEYS.contains(&key.as_str()) {
                let hint = keys::misplaced(&key).unwrap_or_else(|| {
                    keys::nearest(&key).map_or_else(
                        || "config.example.toml lists every setting".to_owned(),
                        |known| format!("did you mean {}?", variable(known)),
                    )
                });
                let place = Place::Variable(name.clone());
                return Err(SettingsError::Unknown { key, place, hint });
            }
        }
        let layer = Environment::with_prefix(PREFIX.trim_end_matches('_'))
            .prefix_separator("__")
            .separator("__")
            .source(Some(environment.clone().into_iter().collect()));
        let config = builder.add_source(layer).build().map_err(|_| SettingsError::Syntax {
            path: file.clone().unwrap_or_default(),
            problem: "its sections cannot be merged with the environment's".to_owned(),
        })?;
        Ok(Self { config, file, environment, credentials })
    }

    /// Where the value of a key comes from.
    pub(super) fn place(&self, key: &str) -> Place {
        if self.is_in_environment(key) {
            return Place::Variable(variable(key));
        }
        Place::file(self.file.as_deref().unwrap_or(Path::new("config.toml")))
    }

    fn is_in_environment(&self, key: &str) -> bool {
        self.environment.keys().any(|name| key_of(name) == key)
    }

    pub(super) fn invalid(&self, key: &str, problem: impl Into<String>) -> SettingsError {
        SettingsError::Invalid {
            key: key.to_owned(),
            place: self.place(key),
            problem: problem.into(),
        }
    }

    /// Whether a key has a value in the file or the environment.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn get(&self, key: &str) -> Option<Value> {
        debug_assert!(keys::KEYS.contains(&key), "{key} is missing from the list of keys");
        self.config.get(key).ok()
    }

    /// Of keys that exclude each other, the one that is set. The environment, being the upper
    /// layer, decides alone when it sets any.
    pub(super) fn one_of(
        &self,
        keys: &[&'static str],
    ) -> Result<Option<&'static str>, SettingsError> {
        let set = keys.iter().filter(|key| self.get(key).is_some()).copied();
        let (above, below): (Vec<_>, Vec<_>) = set.partition(|key| self.is_in_environment(key));
        let deciding = if above.is_empty() { below } else { above };
        match deciding[..] {
            [] => Ok(None),
            [key] => Ok(Some(key)),
            [first, ..] => {
                let quoted: Vec<_> = deciding.iter().map(|key| format!("`{key}`")).collect();
                Err(SettingsError::Conflict {
                    keys: quoted.join(" and "),
                    place: self.place(first),
                })
            }
        }
    }

    pub(super) fn text(&self, key: &'static str) -> Result<Option<String>, SettingsError> {
        match self.get(key).map(|value| value.kind) {
            None => Ok(None),
            Some(ValueKind::String(text)) if text.trim().is_empty() => {
                Err(self.invalid(key, "is empty; give it a value or remove it"))
            }
            Some(ValueKind::String(text)) => Ok(Some(text.trim().to_owned())),
            Some(_) => Err(self.invalid(key, "must be text in quotes")),
        }
    }

    pub(super) fn path(&self, key: &'static str) -> Result<Option<PathBuf>, SettingsError> {
        match self.text(key)? {
            // Errors show paths; an address in a path's place is a secret in the wrong one.
            Some(text) if text.contains("://") => {
                Err(self.invalid(key, "must be a path on this machine, not an address"))
            }
            text => Ok(text.map(PathBuf::from)),
        }
    }

    /// A secret that stands in the settings themselves.
    pub(super) fn secret(&self, key: &'static str) -> Result<SecretString, SettingsError> {
        self.text(key)?.map(SecretString::from).ok_or(SettingsError::Missing { key, instead: "" })
    }

    /// A secret in a file that a key names.
    pub(super) fn secret_in_file(&self, key: &'static str) -> Result<SecretString, SettingsError> {
        let path = self.path(key)?.ok_or(SettingsError::Missing { key, instead: "" })?;
        read_secret(&path, Some(key))?
            .ok_or_else(|| self.invalid(key, format!("names {}, which is empty", path.display())))
    }

    /// A secret that systemd hands over (`LoadCredential=`). The unit must name a file even
    /// where a setting is made elsewhere, so an empty one counts as none.
    pub(super) fn credential(
        &self,
        name: &str,
    ) -> Result<Option<(SecretString, Place)>, SettingsError> {
        let Some(path) = self.credentials.as_ref().map(|directory| directory.join(name)) else {
            return Ok(None);
        };
        if !path.exists() {
            return Ok(None);
        }
        Ok(read_secret(&path, None)?.map(|secret| (secret, Place::Credential(path))))
    }

    /// A list of texts; in the environment, where there are no lists, with `;` between them.
    pub(super) fn list(
        &self,
        key: &'static str,
        example: &str,
    ) -> Result<Vec<String>, SettingsError> {
        let form = || {
            self.invalid(key, format!("must be a list of texts in quotes, such as [\"{example}\"]"))
        };
        let texts = match self.get(key).map(|value| value.kind) {
            None => Vec::new(),
            Some(ValueKind::Array(values)) => values
                .into_iter()
                .map(|value| match value.kind {
                    ValueKind::String(text) => Ok(text),
                    _ => Err(form()),
                })
                .collect::<Result<_, _>>()?,
            Some(ValueKind::String(text)) if self.is_in_environment(key) => {
                text.split(';').map(|text| text.trim().to_owned()).collect()
            }
            Some(_) => return Err(form()),
        };
        Ok(texts)
    }

    pub(super) fn flag(&self, key: &'static str, default: bool) -> Result<bool, SettingsError> {
        match self.get(key).map(|value| value.kind) {
            None => Ok(default),
            Some(ValueKind::Boolean(flag)) => Ok(flag),
            Some(ValueKind::String(text)) if text == "true" => Ok(true),
            Some(ValueKind::String(text)) if text == "false" => Ok(false),
            Some(_) => Err(self.invalid(key, "must be true or false, without quotes")),
        }
    }

    pub(super) fn whole(
        &self,
        key: &'static str,
        range: RangeInclusive<u32>,
        default: u32,
    ) -> Result<u32, SettingsError> {
        let number = match self.get(key).map(|value| value.kind) {
            None => return Ok(default),
            Some(ValueKind::I64(number)) => u32::try_from(number).ok(),
            Some(ValueKind::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (from, to) = range.into_inner();
            self.invalid(key, format!("must be a whole number from {from} to {to}"))
        })
    }

    pub(super) fn number(
        &self,
        key: &'static str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, SettingsError> {
        let number = match self.get(key).map(|value| value.kind) {
            None => return Ok(None),
            Some(ValueKind::Float(number)) => Some(number),
            Some(ValueKind::I64(number)) => i32::try_from(number).ok().map(f64::from),
            Some(ValueKind::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        number.filter(|number| range.contains(number)).map(Some).ok_or_else(|| {
            let (from, to) = range.into_inner();
            self.invalid(key, format!("must be a number from {from} to {to}"))
        })
    }

    pub(super) fn duration(
        &self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Result<Duration, SettingsError> {
        Ok(self.optional_duration(key, range, default)?.unwrap_or(default))
    }

    /// A time that need not be set; the example is for whoever sets it wrong.
    pub(super) fn optional_duration(
        &self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        example: Duration,
    ) -> Result<Option<Duration>, SettingsError> {
        let form = format!(
            "must be a time with its unit, such as \"{}\", from {} to {}",
            in_units(example),
            in_units(*range.start()),
            in_units(*range.end()),
        );
        let duration = match self.get(key).map(|value| value.kind) {
            None => return Ok(None),
            Some(ValueKind::String(text)) => humantime::parse_duration(text.trim()).ok(),
            Some(_) => None,
        };
        let fits = duration.filter(|duration| range.contains(duration));
        fits.map(Some).ok_or_else(|| self.invalid(key, form))
    }

    pub(super) fn size(
        &self,
        key: &'static str,
        range: RangeInclusive<ByteSize>,
        default: ByteSize,
    ) -> Result<usize, SettingsError> {
        let size = match self.get(key).map(|value| value.kind) {
            None => Some(default),
            // Without a unit it would be bytes, which nobody means.
            Some(ValueKind::String(text)) if text.trim().ends_with(['b', 'B']) => {
                ByteSize::from_str(text.trim()).ok()
            }
            Some(_) => None,
        };
        size.filter(|size| range.contains(size))
            .and_then(|size| usize::try_from(size.as_u64()).ok())
            .ok_or_else(|| {
                let (from, to) = range.into_inner();
                let form = format!(
                    "must be a size with its unit, such as \"{default}\", from {from} to {to}"
                );
                self.invalid(key, form)
            })
    }

    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&str, T)],
        default: T,
    ) -> Result<T, SettingsError> {
        let Some(text) = self.text(key)? else { return Ok(default) };
        choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            self.invalid(key, format!("must be one of {}", names.join(", ")))
        })
    }
}

/// A time as it may be written; several days stay days, where months would be of no
/// certain length.
fn in_units(duration: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match duration.as_secs() {
        days if days >= 2 * DAY && days.is_multiple_of(DAY) => format!("{}d", days / DAY),
        _ => humantime::format_duration(duration).to_string(),
    }
}

/// `B24MIRROR__PORTAL__TIMEOUT` → `portal.timeout`.
fn key_of(variable: &str) -> String {
    variable.strip_prefix(PREFIX).unwrap_or(variable).to_lowercase().replace("__", ".")
}

/// The file's text without the line end that editors add; nothing when there is nothing else.
fn read_secret(
    path: &Path,
    key: Option<&'static str>,
) -> Result<Option<SecretString>, SettingsError> {
    let text = fs::read_to_string(path).map_err(|source| SettingsError::Unreadable {
        path: path.to_owned(),
        key,
        source,
    })?;
    let text = text.trim();
    Ok((!text.is_empty()).then(|| SecretString::from(text)))
}

/// The parser's message without the source line that it quotes, which may hold a secret.
fn where_and_what(error: &config::ConfigError) -> String {
    let config::ConfigError::FileParse { cause, .. } = error else {
        return "it cannot be read as a table of settings".to_owned();
    };
    let text = cause.to_string();
    let quoted = |line: &&str| {
        let line = line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit());
        !line.trim_start().starts_with('|')
    };
    let lines: Vec<_> = text.lines().filter(quoted).map(str::trim).collect();
    lines.join(": ").trim_start_matches("TOML parse error ").to_owned()
}
