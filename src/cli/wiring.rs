//! From settings to the parts that do the work.

use std::time::Duration;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::progress::Drawing;
use crate::{
    entity::{Dialect, Entity, SMART_ITEMS, dictionary::Dictionary},
    lifecycle::Lifecycle,
    local_postgres::{LocalOptions, LocalPostgres},
    portal::{
        Credentials, DictionarySource, Gateway, GatewayKey, GatewayOptions, Lane, Limits,
        OperatingLimit, Portal, PortalError, PortalOptions, WebhookUrl,
    },
    reporting::ReportOptions,
    retry::RetryPolicy,
    settings::{DatabaseSource, EntitySettings, Settings},
    store::{HistoryOptions, PrivacyOptions, SchemaState, Store, StoreError, StoreOptions},
    sync::{
        self, CheckOptions, Consequence, DATABASE_PATIENCE, Mirrored, ProgressBoard, SyncError,
        SyncOptions, counted,
    },
};

/// The name of the database inside a private server.
const LOCAL_DATABASE: &str = "mirror";

/// How patiently a database that is away is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until it is there.
    Forever,
    /// For half a minute.
    Command,
    /// Not at all.
    None,
}

/// A command names an entity that the settings switch off.
#[derive(Debug, thiserror::Error)]
#[error("`entities.{entity}.enabled` is false; switch it on to read {entity}")]
pub(super) struct Disabled {
    entity: &'static str,
}

/// The database, and the private server that it may run in.
pub(super) struct Database {
    pub(super) store: Store,
    /// Stops the server when the command ends, if the command started it.
    _server: Option<LocalPostgres>,
}

/// How hard transient failures are tried.
pub(super) fn retry() -> anyhow::Result<RetryPolicy> {
    Ok(RetryPolicy::new(6, Duration::from_millis(500), Duration::from_mins(1))?)
}

/// Has the end of the process wait for a pair of tokens that is being bought: it has ended the
/// one before, and is lost if it is not stored.
pub(super) fn spare_tokens(lifecycle: &Lifecycle, portal: &Portal) {
    let portal = portal.clone();
    lifecycle.spare(move || portal.is_renewing_tokens());
}

/// Connects to the database, starting the private server where the settings ask for one.
pub(super) async fn database(
    settings: &Settings,
    command: &str,
    patience: Patience,
    stop: &CancellationToken,
) -> anyhow::Result<Database> {
    let (url, server) = match settings.database_source()? {
        DatabaseSource::Url(url) => (url.clone(), None),
        DatabaseSource::LocalDirectory(directory) => {
            let server = LocalPostgres::start(LocalOptions::new(directory)).await?;
            server.create_database(LOCAL_DATABASE).await?;
            (server.url(LOCAL_DATABASE), Some(server))
        }
    };
    let options = StoreOptions {
        url,
        schema: settings.database.schema.parse()?,
        max_connections: settings.database.max_connections,
        application_name: format!("b24mirror {command}"),
    };
    let region = settings.reporting.default_region.as_deref().map(str::parse).transpose()?;
    let store = connect(&options, patience, stop)
        .await?
        .with_default_region(region)
        .with_history(history(settings))
        .with_privacy(privacy(settings))
        .with_token_key(settings.portal.oauth.as_ref().map(|oauth| oauth.token_key.clone()));
    Ok(Database { store, _server: server })
}

/// What may not be stored as it comes.
fn privacy(settings: &Settings) -> PrivacyOptions {
    let rules = |entity: &'static Entity| {
        Some((entity, settings.entities.by_name(entity.name)?.privacy.clone()))
    };
    Entity::families().filter_map(rules).collect()
}

/// The histories that the settings ask for.
fn history(settings: &Settings) -> HistoryOptions {
    let has_one = |entity: &&'static Entity| {
        settings.entities.by_name(entity.name).is_some_and(|entity| entity.history)
    };
    let entities = Entity::families().filter(has_one).collect();
    HistoryOptions { entities, keep: settings.sync.keep_history }
}

async fn connect(
    options: &StoreOptions,
    patience: Patience,
    stop: &CancellationToken,
) -> anyhow::Result<Store> {
    let mut delays = retry()?.delays();
    let give_up = Instant::now() + DATABASE_PATIENCE;
    loop {
        let Some(connected) = stop.run_until_cancelled(Store::connect(options)).await else {
            anyhow::bail!("interrupted while connecting to the database");
        };
        let error = match connected {
            Ok(store) => return Ok(store),
            Err(error) if !error.is_unavailable() || patience == Patience::None => {
                return Err(error.into());
            }
            Err(error) => error,
        };
        let pause = delays.next_delay().min(Duration::from_secs(5));
        if patience == Patience::Command && Instant::now() + pause > give_up {
            return Err(error.into());
        }
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            retry_in_seconds = pause.as_secs_f64(),
            "waiting for the database"
        );
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Err(error.into());
        }
    }
}

/// Brings the schema up to date where the settings allow it, and refuses any other.
pub(super) async fn migrated(
    settings: &Settings,
    store: &Store,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    if settings.database.migrate {
        let migrating = || async { Ok(store.migrate().await?) };
        return Ok(sync::outlast(retry()?, stop, migrating).await?);
    }
    let looking = || async { Ok(store.schema_state().await?) };
    match sync::outlast(retry()?, stop, looking).await? {
        SchemaState::Current => Ok(()),
        SchemaState::Newer => {
            Err(StoreError::SchemaNewer { schema: store.schema().clone() }.into())
        }
        SchemaState::Missing | SchemaState::Older => anyhow::bail!(
            "schema `{}` is not up to date and `database.migrate` is off; run `b24mirror migrate`",
            store.schema()
        ),
    }
}

/// Whether what has failed may be tried again, once the database is back.
pub(super) fn awaits_database(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<SyncError>()
        .is_some_and(|error| error.consequence() == Consequence::AwaitDatabase)
}

/// The portal's limits as they are set.
pub(super) fn limits(settings: &Settings) -> Limits {
    let limits = &settings.portal.limits;
    Limits {
        requests_per_second: limits.requests_per_second,
        burst: limits.burst,
        operating: limits
            .operating_time
            .map(|limit| OperatingLimit { limit, window: limits.operating_window }),
    }
}

/// The portal's client.
pub(super) fn portal(settings: &Settings) -> anyhow::Result<Portal> {
    let per_minute = settings.portal.vibecode.requests_per_minute;
    let portal = portal_with(settings, limits(settings), retry()?, per_minute)?;
    portal.restrain(&settings.portal.limits.restraint);
    Ok(portal)
}

/// What a command beside the holder asks a gateway for at most.
const MODEST_PER_MINUTE: u32 = 60;

/// A client that sends at most one request a second and gives up soon: for commands
/// that work beside the holder of the lease.
pub(super) fn modest_portal(settings: &Settings) -> anyhow::Result<Portal> {
    let limits = Limits { requests_per_second: 1.0, burst: 1, operating: None };
    portal_with(settings, limits, modest_retry()?, MODEST_PER_MINUTE)
}

/// Says how far a command has come that asks by [`modest_portal`].
pub(super) fn modest_drawing(portal: &Portal) -> Drawing {
    let asked = if portal.gateway().is_some() { "portal and gateway" } else { "portal" };
    let portal = portal.clone();
    Drawing::slowly(move || {
        let requests = portal.meter().requests;
        format!(
            "asking {asked}, at most once a second so that whoever mirrors is not held up: {} \
             so far",
            counted(requests, "request")
        )
    })
}

/// Lets a command that works beside the holder use what the database knows of the portal:
/// its tokens, and where it has moved.
pub(super) async fn visit(
    settings: &Settings,
    store: &Store,
    portal: &Portal,
    command: &str,
) -> anyhow::Result<()> {
    let bucket = f64::from(settings.portal.limits.burst);
    Ok(sync::visit(store, portal, &holder(command)?, bucket).await?)
}

/// How this process calls itself when it holds the lease.
fn holder(command: &str) -> anyhow::Result<String> {
    Ok(format!("{}, process {}, {command}", host()?, std::process::id()))
}

/// How hard commands that work beside the holder try.
pub(super) fn modest_retry() -> anyhow::Result<RetryPolicy> {
    Ok(RetryPolicy::new(2, Duration::from_secs(1), Duration::from_secs(1))?)
}

/// What opens the portal.
pub(super) fn credentials(settings: &Settings) -> anyhow::Result<Credentials> {
    Ok(match &settings.portal.oauth {
        Some(oauth) => oauth.application.clone().into(),
        None => match &settings.portal.vibecode.portal_host {
            Some(portal) => portal.clone().into(),
            None => WebhookUrl::parse(settings.webhook_url()?.expose_secret())?.into(),
        },
    })
}

fn portal_with(
    settings: &Settings,
    limits: Limits,
    retry: RetryPolicy,
    per_minute: u32,
) -> anyhow::Result<Portal> {
    let portal = Portal::new(PortalOptions {
        credentials: credentials(settings)?,
        timeout: settings.portal.timeout,
        max_body: settings.portal.max_body,
        ca_file: settings.portal.ca_file.clone(),
        limits,
        retry,
    })?;
    let wanted = entities(settings).iter().any(|one| one.dialect == Dialect::Vibecode);
    Ok(if wanted { portal.with_gateway(gateway(settings, retry, per_minute)?) } else { portal })
}

/// The gateway's client, for entities that are read through it.
fn gateway(settings: &Settings, retry: RetryPolicy, per_minute: u32) -> anyhow::Result<Gateway> {
    let portal = &settings.portal;
    let vibecode = &portal.vibecode;
    Ok(Gateway::new(GatewayOptions {
        url: vibecode.url.clone(),
        key: GatewayKey::new(vibecode.api_key()?, vibecode.session_token.as_ref())?,
        timeout: portal.timeout,
        max_body: portal.max_body,
        ca_file: portal.ca_file.clone(),
        requests_per_minute: per_minute.min(vibecode.requests_per_minute),
        full_pass_interval: vibecode.full_pass_interval,
        retry,
    })?)
}

/// This machine's name.
pub(super) fn host() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("cannot read this machine's host name")?;
    Ok(name.to_string_lossy().into_owned())
}

/// What the work needs to know of the settings.
pub(super) fn sync_options(settings: &Settings, command: &str) -> anyhow::Result<SyncOptions> {
    Ok(SyncOptions {
        entities: entities(settings),
        overlap: settings.sync.overlap,
        max_in_flight: settings.sync.max_in_flight,
        dictionary_interval: settings.sync.dictionary_interval,
        checks: CheckOptions {
            sweep_interval: settings.sync.sweep_interval,
            max_delete_share: settings.sync.max_delete_share,
            rolling_check: settings.sync.rolling_check,
            keep_runs: settings.sync.keep_runs,
        },
        reports: report_options(settings),
        retry: retry()?,
        holder: holder(command)?,
        board: ProgressBoard::default(),
    })
}

/// What the views for people need to know of the settings.
pub(super) fn report_options(settings: &Settings) -> ReportOptions {
    let reporting = &settings.reporting;
    ReportOptions {
        schema: reporting.schema.clone(),
        time_zone: reporting.time_zone.map(|zone| zone.name().to_owned()),
        default_region: reporting.default_region.clone(),
    }
}

/// The enabled entities; the smart processes are one among them.
pub(super) fn entities(settings: &Settings) -> Vec<Mirrored> {
    Entity::families()
        .filter_map(|entity| Some((entity, settings.entities.by_name(entity.name)?)))
        .filter(|(_, settings)| settings.enabled)
        .map(|(entity, settings)| {
            let EntitySettings { source, interval, product_rows, .. } = *settings;
            Mirrored { entity, dialect: source, interval, product_rows }
        })
        .collect()
}

/// The entities that a command names, or all enabled ones.
pub(super) fn chosen(
    settings: &Settings,
    named: &[&'static Entity],
) -> anyhow::Result<Vec<&'static Entity>> {
    let chosen = chosen_mirrored(settings, named)?;
    Ok(chosen.into_iter().map(|mirrored| mirrored.entity).collect())
}

/// The same, with how each is read.
pub(super) fn chosen_mirrored(
    settings: &Settings,
    named: &[&'static Entity],
) -> anyhow::Result<Vec<Mirrored>> {
    let enabled = entities(settings);
    if named.is_empty() {
        return Ok(enabled);
    }
    named
        .iter()
        .map(|named| {
            let found = enabled.iter().find(|mirrored| mirrored.entity.covers(named));
            let found = found.map(|mirrored| Mirrored { entity: named, ..*mirrored });
            found.ok_or_else(|| Disabled { entity: named.family().name }.into())
        })
        .collect()
}

/// The same, with each smart process that the portal has in place of all of them.
pub(super) async fn each_process(
    chosen: Vec<Mirrored>,
    portal: &Portal,
) -> Result<Vec<Mirrored>, PortalError> {
    let mut each = Vec::with_capacity(chosen.len());
    for one in chosen {
        if *one.entity != SMART_ITEMS {
            each.push(one);
            continue;
        }
        let source = DictionarySource::new(portal.clone());
        let heard = source.read(Lane::People, &[Dictionary::SmartProcesses]).await?;
        for (dictionary, listed) in heard.lists {
            let processes = listed?.rows.into_iter().filter_map(|row| dictionary.read(&row).ok());
            let items = processes.filter_map(|process| process.row.items());
            each.extend(items.map(|entity| Mirrored { entity, ..one }));
        }
    }
    Ok(each)
}
