//! Layered settings: a TOML file, the environment above it, validated once at the start.
//!
//! # What it promises
//! - What [`Settings::load`] returns makes sense: nothing is zero, negative, out of
//!   range or contradictory, and a misspelt key is an error, never ignored.
//! - Every error names the key, the file or variable it stands in, and how it should look.
//! - Secrets are [`SecretString`]: they can be neither printed nor serialised, and no
//!   error quotes a value or a line of the file.
//!
//! # Layers
//! `--config PATH`, else `./config.toml`, else `/etc/b24mirror/config.toml`; then variables
//! such as `B24MIRROR__PORTAL__TIMEOUT`. A file is not needed when the environment says
//! enough. Secrets may stand in files of their own (`webhook_url_file`, `url_file`), and when
//! nothing names them at all, in systemd's credentials `webhook_url`, `database_url` and those
//! of `[portal.oauth]`.

mod error;
mod keys;
mod oauth;
mod values;
mod vibecode;

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;
use chrono_tz::Tz;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

pub use self::{
    error::{Place, SettingsError},
    oauth::OAuthSettings,
    vibecode::VibecodeSettings,
};
use self::{keys::EntityKeys, values::Values};
use crate::{
    entity::{Dialect, Entity, phone::Region, privacy::PrivacyRules},
    portal::{QuietHours, Restraint, Share},
    telemetry::{LogFormat, LogLevel},
};

/// What the names of our environment variables begin with.
const PREFIX: &str = "B24MIRROR__";

/// Where settings are looked for when no path is given.
const DEFAULT_FILES: [&str; 2] = ["config.toml", "/etc/b24mirror/config.toml"];

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file they were read from, if there was one.
    pub file: Option<PathBuf>,
    /// The portal and how to talk to it.
    pub portal: PortalSettings,
    /// The database.
    pub database: DatabaseSettings,
    /// When to look for changes.
    pub sync: SyncSettings,
    /// What to mirror.
    pub entities: EntitiesSettings,
    /// What people see of it.
    pub reporting: ReportingSettings,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// The section `[portal]`.
#[derive(Debug, Clone)]
pub struct PortalSettings {
    /// The inbound webhook's address, as it was written. Not every command needs one.
    pub webhook_url: Option<SecretString>,
    /// An application instead of the webhook; never both.
    pub oauth: Option<OAuthSettings>,
    /// For one HTTP request, its answer included.
    pub timeout: Duration,
    /// The longest answer that is read, in bytes.
    pub max_body: usize,
    /// A PEM file with further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// The portal's limits.
    pub limits: LimitSettings,
    /// The gateway before the portal.
    pub vibecode: VibecodeSettings,
}

/// The section `[portal.limits]`.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitSettings {
    /// The plan that the other values default to.
    pub plan: Plan,
    /// How many requests the portal forgets per second.
    pub requests_per_second: f64,
    /// How many requests it remembers before it refuses.
    pub burst: u32,
    /// Operating time granted to a method within the window; `None` where there is no limit.
    pub operating_time: Option<Duration>,
    /// The window for the operating time.
    pub operating_window: Duration,
    /// How far we stay below all of that.
    pub restraint: Restraint,
}

/// What kind of portal it is (vendor page `limits`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Any cloud plan but Enterprise.
    Standard,
    /// The cloud's Enterprise plan.
    Enterprise,
    /// On the customer's own machines, where the administrator sets limits.
    SelfHosted,
}

/// The section `[database]`.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// Where the mirror is kept. Not every command needs it.
    pub source: Option<DatabaseSource>,
    /// The schema for the mirror's tables; a plain lower-case name.
    pub schema: String,
    /// The most connections open at once.
    pub max_connections: u32,
    /// Whether `run` brings the schema up to date by itself.
    pub migrate: bool,
}

/// Where the mirror is kept.
#[derive(Debug, Clone)]
pub enum DatabaseSource {
    /// On a server of the user's.
    Url(SecretString),
    /// On a private server in this directory.
    LocalDirectory(PathBuf),
}

/// The section `[sync]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SyncSettings {
    /// Between the starts of two cycles.
    pub interval: Duration,
    /// How late the portal may show a change.
    pub overlap: Duration,
    /// Chains of one entity's backfill that may be in flight at once.
    pub max_in_flight: u32,
    /// Between the starts of two sweeps.
    pub sweep_interval: Duration,
    /// The largest share of an entity's records that a sweep may delete unasked, 0 to 1.
    pub max_delete_share: f64,
    /// Within which time every record's content is compared once; `None` switches it off.
    pub rolling_check: Option<Duration>,
    /// Between two readings of what codes mean.
    pub dictionary_interval: Duration,
    /// How long runs and resolved quarantine notes are kept.
    pub keep_runs: Duration,
    /// How long the lines of histories are kept; `None`: for good.
    pub keep_history: Option<Duration>,
}

/// The sections `[entities.…]`, by the entities' plural names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitiesSettings(BTreeMap<&'static str, EntitySettings>);

impl EntitiesSettings {
    /// The settings of an entity, by its plural name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&EntitySettings> {
        self.0.get(name)
    }
}

/// One section `[entities.…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitySettings {
    /// Whether it is mirrored.
    pub enabled: bool,
    /// By which list it is read.
    pub source: Dialect,
    /// Between the starts of two cycles, or of two readings of what is read as a whole.
    pub interval: Duration,
    /// Whether every change of a field is kept.
    pub history: bool,
    /// Whether the product rows of its records are mirrored with them.
    pub product_rows: bool,
    /// Fields that are left out, and fields of which only a hash is kept.
    pub privacy: PrivacyRules,
}

/// The section `[reporting]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportingSettings {
    /// The schema for the views that people query; a plain lower-case name.
    pub schema: String,
    /// The time zone in which reports count days; the portal's where none is set.
    pub time_zone: Option<Tz>,
    /// Two capital letters: the country of phone numbers that name none; the portal's where
    /// none is set.
    pub default_region: Option<String>,
}

/// The section `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// For people or for machines.
    pub format: LogFormat,
    /// How much.
    pub level: LogLevel,
}

impl Settings {
    /// Reads, merges and validates all layers.
    pub fn load(path: Option<&Path>) -> Result<Self, SettingsError> {
        let file = match path {
            Some(path) => Some(path.to_owned()),
            None => DEFAULT_FILES.iter().map(PathBuf::from).find(|path| path.exists()),
        };
        let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self::from_layers(file, environment()?, credentials)
    }

    /// The webhook, for commands that need it.
    pub fn webhook_url(&self) -> Result<&SecretString, SettingsError> {
        let missing = SettingsError::Missing {
            key: "portal.webhook_url",
            instead: "; or describe an application with `portal.oauth`; or name the portal with \
                      `portal.vibecode.portal_host`, if there is a gateway's key alone",
        };
        self.portal.webhook_url.as_ref().ok_or(missing)
    }

    /// The database, for commands that need it.
    pub fn database_source(&self) -> Result<&DatabaseSource, SettingsError> {
        self.database.source.as_ref().ok_or(SettingsError::Missing {
            key: "database.url",
            instead: "; or name a directory for a private server with `database.local_dir`",
        })
    }

    fn from_layers(
        file: Option<PathBuf>,
        environment: BTreeMap<String, String>,
        credentials: Option<PathBuf>,
    ) -> Result<Self, SettingsError> {
        let values = Values::read(file.clone(), environment, credentials)?;
        let sync = read_sync(&values)?;
        let database = read_database(&values)?;
        let portal = read_portal(&values)?;
        if Reach::of(&portal) == Reach::Gateway && !portal.limits.restraint.quiet_hours.is_empty() {
            return Err(values.invalid(
                "portal.limits.quiet_hours",
                "go by the portal's clock, which a gateway's key alone does not tell; set \
                 `portal.webhook_url` instead of `portal.vibecode.portal_host`, or leave them out",
            ));
        }
        Ok(Self {
            file,
            entities: read_entities(&values, sync.interval, Reach::of(&portal))?,
            portal,
            reporting: read_reporting(&values, &database.schema)?,
            database,
            log: read_log(&values)?,
            sync,
        })
    }
}

fn read_portal(values: &Values) -> Result<PortalSettings, SettingsError> {
    let webhook_keys = ["portal.webhook_url", "portal.webhook_url_file"];
    if let Some(of_application) = oauth::first_key(values)
        && let Some(of_webhook) = webhook_keys.into_iter().find(|key| values.is_set(key))
    {
        return Err(SettingsError::Conflict {
            keys: format!("`{of_webhook}` and `{of_application}`"),
            place: values.place(of_application),
        });
    }
    let own = webhook_keys.into_iter().find(|key| values.is_set(key));
    if let Some(own) = own.or_else(|| oauth::first_key(values))
        && values.is_set(vibecode::PORTAL_HOST)
    {
        return Err(SettingsError::Conflict {
            keys: format!("`{}` and `{own}`", vibecode::PORTAL_HOST),
            place: values.place(own),
        });
    }
    let oauth = oauth::read(values)?;
    let webhook_url = match values.one_of(&webhook_keys)? {
        Some("portal.webhook_url") => Some(values.secret("portal.webhook_url")?),
        Some(in_file) => Some(values.secret_in_file(in_file)?),
        // Handed over by the unit, whatever the settings say.
        None if oauth.is_some() || values.is_set(vibecode::PORTAL_HOST) => None,
        None => values.credential("webhook_url")?.map(|(secret, _)| secret),
    };
    let ca_file = values.path("portal.ca_file")?;
    if let Some(path) = &ca_file {
        std::fs::File::open(path).map_err(|source| SettingsError::Unreadable {
            path: path.clone(),
            key: Some("portal.ca_file"),
            source,
        })?;
    }
    Ok(PortalSettings {
        webhook_url,
        oauth,
        timeout: values.duration(
            "portal.timeout",
            Duration::from_millis(100)..=Duration::from_mins(10),
            Duration::from_secs(75),
        )?,
        max_body: values.size(
            "portal.max_body",
            ByteSize::kib(1)..=ByteSize::gib(1),
            ByteSize::mib(32),
        )?,
        ca_file,
        limits: read_limits(values)?,
        vibecode: vibecode::read(values)?,
    })
}

fn read_limits(values: &Values) -> Result<LimitSettings, SettingsError> {
    let plans = [
        ("standard", Plan::Standard),
        ("enterprise", Plan::Enterprise),
        ("self_hosted", Plan::SelfHosted),
    ];
    let plan = values.choice("portal.limits.plan", &plans, Plan::Standard)?;
    // A portal on the customer's machines is granted what the biggest cloud plan grants.
    let (requests_per_second, burst) = match plan {
        Plan::Standard => (2.0, 50),
        Plan::Enterprise | Plan::SelfHosted => (5.0, 250),
    };
    let operating_seconds = match plan {
        Plan::Standard | Plan::Enterprise => Some(480.0),
        Plan::SelfHosted => None,
    };
    let operating_window = values.duration(
        "portal.limits.operating_window",
        Duration::from_secs(1)..=Duration::from_hours(24),
        Duration::from_mins(10),
    )?;
    Ok(LimitSettings {
        plan,
        requests_per_second: values
            .number("portal.limits.requests_per_second", 0.01..=1_000.0)?
            .unwrap_or(requests_per_second),
        burst: values.whole("portal.limits.burst", 1..=100_000, burst)?,
        operating_time: values
            .number("portal.limits.operating_seconds", 0.1..=86_400.0)?
            .or(operating_seconds)
            .map(Duration::from_secs_f64),
        operating_window,
        restraint: read_restraint(values)?,
    })
}

fn read_restraint(values: &Values) -> Result<Restraint, SettingsError> {
    let key = "portal.limits.share";
    let share = match values.number(key, f64::MIN_POSITIVE..=1.0) {
        Ok(share) => share.map_or(Some(Share::WHOLE), Share::new),
        Err(_) => None,
    };
    let share = share.ok_or_else(|| {
        values.invalid(key, "must be a number above 0 and at most 1, such as 0.3 for 30 %")
    })?;
    let key = "portal.limits.quiet_hours";
    let spans = values.list(key, "mon-fri 09:00-18:00")?;
    let quiet_hours = QuietHours::parse(&spans)
        .map_err(|error| values.invalid(key, format!("cannot be used: {error}")))?;
    Ok(Restraint { share, quiet_hours })
}

fn read_database(values: &Values) -> Result<DatabaseSettings, SettingsError> {
    let keys = ["database.url", "database.url_file", "database.local_dir"];
    let (url, place) = match values.one_of(&keys)? {
        Some(key @ "database.local_dir") => {
            let directory = values.path(key)?.ok_or(SettingsError::Missing { key, instead: "" })?;
            return database(values, Some(DatabaseSource::LocalDirectory(directory)));
        }
        Some(key @ "database.url") => (values.secret(key)?, values.place(key)),
        Some(key) => (values.secret_in_file(key)?, values.place(key)),
        None => match values.credential("database_url")? {
            Some(found) => found,
            None => return database(values, None),
        },
    };
    let is_postgres = Url::parse(url.expose_secret())
        .is_ok_and(|url| matches!(url.scheme(), "postgres" | "postgresql"));
    if !is_postgres {
        return Err(SettingsError::Invalid {
            key: "database.url".to_owned(),
            place,
            problem: "is not a PostgreSQL address; it should look like \
                      postgres://user:password@host:5432/database, with special characters of the \
                      password percent-encoded"
                .to_owned(),
        });
    }
    database(values, Some(DatabaseSource::Url(url)))
}

fn database(
    values: &Values,
    source: Option<DatabaseSource>,
) -> Result<DatabaseSettings, SettingsError> {
    Ok(DatabaseSettings {
        source,
        schema: read_schema(values, "database.schema", || "bitrix24".to_owned())?,
        max_connections: values.whole("database.max_connections", 4..=1_000, 8)?,
        migrate: values.flag("database.migrate", true)?,
    })
}

fn read_schema(
    values: &Values,
    key: &'static str,
    default: impl FnOnce() -> String,
) -> Result<String, SettingsError> {
    let schema = values.text(key)?.unwrap_or_else(default);
    let plain = schema.len() <= 63
        && schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && schema.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !plain || schema.starts_with("pg_") || schema == "information_schema" {
        return Err(values.invalid(
            key,
            "must be a plain name: up to 63 characters of a-z, 0-9 and _, no digit first, and not \
             one that PostgreSQL keeps for itself",
        ));
    }
    Ok(schema)
}

fn read_reporting(values: &Values, data_schema: &str) -> Result<ReportingSettings, SettingsError> {
    let key = "reporting.schema";
    let schema = read_schema(values, key, || format!("{data_schema}_report"))?;
    if schema == data_schema {
        return Err(values.invalid(
            key,
            "is the schema of the mirror's own tables (`database.schema`); give the views another",
        ));
    }
    let key = "reporting.time_zone";
    let time_zone = match values.text(key)? {
        None => None,
        Some(name) => Some(name.parse().map_err(|_| {
            values.invalid(key, "must be a time zone's name, such as \"Europe/Berlin\" or \"UTC\"")
        })?),
    };
    let key = "reporting.default_region";
    let default_region = match values.text(key)? {
        None => None,
        Some(region) if region.parse::<Region>().is_ok() => Some(region.to_ascii_uppercase()),
        Some(_) => {
            return Err(values.invalid(key, "must be the two letters of a country, such as \"DE\""));
        }
    };
    Ok(ReportingSettings { schema, time_zone, default_region })
}

const DAY: Duration = Duration::from_hours(24);
const HOUR: Duration = Duration::from_hours(1);

/// The shortest and longest time between cycles.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_hours(24);

fn read_sync(values: &Values) -> Result<SyncSettings, SettingsError> {
    Ok(SyncSettings {
        interval: values.duration("sync.interval", INTERVALS, Duration::from_secs(15))?,
        overlap: values.duration(
            "sync.overlap",
            Duration::from_secs(1)..=Duration::from_hours(24),
            Duration::from_mins(2),
        )?,
        max_in_flight: values.whole("sync.max_in_flight", 1..=32, 4)?,
        sweep_interval: values.duration(
            "sync.sweep_interval",
            Duration::from_secs(1)..=DAY * 366,
            DAY,
        )?,
        max_delete_share: values.number("sync.max_delete_share", 0.0..=1.0)?.unwrap_or(0.02),
        rolling_check: match values.whole("sync.rolling_check_days", 0..=366, 7)? {
            0 => None,
            days => Some(DAY * days),
        },
        dictionary_interval: values.duration(
            "sync.dictionary_interval",
            Duration::from_secs(1)..=DAY * 366,
            Duration::from_hours(1),
        )?,
        keep_runs: values.duration("sync.keep_runs", DAY..=DAY * 36_600, DAY * 90)?,
        keep_history: values.optional_duration(
            "sync.keep_history",
            DAY..=DAY * 36_600,
            DAY * 730,
        )?,
    })
}

/// What can be asked for records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The portal, and a gateway where one is set.
    Portal,
    /// A gateway alone.
    Gateway,
}

impl Reach {
    const fn of(portal: &PortalSettings) -> Self {
        if portal.vibecode.portal_host.is_some() { Self::Gateway } else { Self::Portal }
    }
}

fn read_entities(
    values: &Values,
    interval: Duration,
    reach: Reach,
) -> Result<EntitiesSettings, SettingsError> {
    let mut entities = BTreeMap::new();
    for (entity, keys) in &keys::ENTITIES {
        let read = read_entity(values, entity, keys, interval, reach)?;
        if reach == Reach::Gateway {
            refuse_out_of_reach(values, &read, keys)?;
        }
        entities.insert(entity.name, read);
    }
    if entities.values().all(|entity| !entity.enabled) {
        return Err(values.invalid(
            "entities.contacts.enabled",
            "leaves nothing to mirror, as no other entity is enabled either; enable one",
        ));
    }
    Ok(EntitiesSettings(entities))
}

fn read_entity(
    values: &Values,
    entity: &'static Entity,
    keys: &EntityKeys,
    interval: Duration,
    reach: Reach,
) -> Result<EntitySettings, SettingsError> {
    let usual = match (reach, keys.source) {
        (Reach::Gateway, Some(_)) => Dialect::Vibecode,
        _ => Dialect::default_of(entity),
    };
    // What is read as a whole costs as much each time.
    let usual_interval = if entity.is_read_whole() { HOUR } else { interval };
    let (item, vibecode) = (("item", Dialect::Item), ("vibecode", Dialect::Vibecode));
    let source = match keys.source {
        Some(key) if entity.classic.is_some() => {
            values.choice(key, &[("classic", Dialect::Classic), item, vibecode], usual)?
        }
        Some(key) => values.choice(key, &[item, vibecode], usual)?,
        None => usual,
    };
    Ok(EntitySettings {
        enabled: values.flag(keys.enabled, Entity::BY_DEFAULT.contains(&entity))?,
        source,
        interval: values.duration(keys.interval, INTERVALS, usual_interval)?,
        history: values.flag(keys.history, false)?,
        product_rows: match keys.product_rows {
            Some(key) => values.flag(key, false)?,
            None => false,
        },
        privacy: read_privacy(values, entity, keys.exclude_fields, keys.hash_fields)?,
    })
}

/// Refuses what only the portal itself can be asked for.
fn refuse_out_of_reach(
    values: &Values,
    entity: &EntitySettings,
    keys: &EntityKeys,
) -> Result<(), SettingsError> {
    let asked = match keys.source {
        _ if !entity.enabled => return Ok(()),
        Some(key) if entity.source != Dialect::Vibecode => key,
        None => keys.enabled,
        Some(_) => match keys.product_rows.filter(|_| entity.product_rows) {
            Some(key) => key,
            None => return Ok(()),
        },
    };
    Err(values.invalid(
        asked,
        format!(
            "asks the portal itself, and `{}` says that there is a gateway alone; set \
             `portal.webhook_url` instead of it, or leave this out",
            vibecode::PORTAL_HOST
        ),
    ))
}

fn read_privacy(
    values: &Values,
    entity: &'static Entity,
    excluded: &'static str,
    hashed: &'static str,
) -> Result<PrivacyRules, SettingsError> {
    let rules = PrivacyRules::excluding(entity, &values.list(excluded, "COMMENTS")?)
        .map_err(|error| values.invalid(excluded, error.to_string()))?;
    rules
        .hashing(entity, &values.list(hashed, "PHONE")?)
        .map_err(|error| values.invalid(hashed, error.to_string()))
}

fn read_log(values: &Values) -> Result<LogSettings, SettingsError> {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [
        ("error", LogLevel::ERROR),
        ("warn", LogLevel::WARN),
        ("info", LogLevel::INFO),
        ("debug", LogLevel::DEBUG),
        ("trace", LogLevel::TRACE),
    ];
    Ok(LogSettings {
        format: values.choice("log.format", &formats, LogFormat::Text)?,
        level: values.choice("log.level", &levels, LogLevel::INFO)?,
    })
}

/// Our variables; one that is set to nothing counts as not set.
fn environment() -> Result<BTreeMap<String, String>, SettingsError> {
    let mut ours = BTreeMap::new();
    for (name, value) in env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let value = value.into_string().map_err(|_| SettingsError::Invalid {
            key: name.to_owned(),
            place: Place::Variable(name.to_owned()),
            problem: "is not valid UTF-8".to_owned(),
        })?;
        if !value.is_empty() {
            ours.insert(name.to_owned(), value);
        }
    }
    Ok(ours)
}

#[cfg(test)]
mod tests;
