//! `b24mirror status`

use std::{collections::BTreeMap, time::Duration};

use super::{
    Exit,
    output::say,
    progress::{ago, remaining},
    wiring::{self, Patience},
};
use crate::{
    lifecycle::Lifecycle,
    settings::Settings,
    store::{HolderWait, SchemaState, Store, StoreError},
    sync::{
        counted,
        status::{DictionaryStatus, EntityStatus, RefusedSweep, ReportProblem, State, Status},
    },
};

const WATCH_EVERY: Duration = Duration::from_secs(2);

/// Prints what the database knows of the mirror.
pub(super) async fn run(
    settings: &Settings,
    lifecycle: &Lifecycle,
    json: bool,
    watch: bool,
) -> anyhow::Result<Exit> {
    let stop = lifecycle.soft();
    let database = wiring::database(settings, "status", Patience::None, &stop).await?;
    loop {
        let exit = show(settings, &database.store, json).await?;
        let pause = tokio::time::sleep(WATCH_EVERY);
        if !watch || stop.run_until_cancelled(pause).await.is_none() {
            return Ok(exit);
        }
        say!("");
    }
}

async fn show(settings: &Settings, store: &Store, json: bool) -> anyhow::Result<Exit> {
    let entities = wiring::entities(settings);
    let status = match store.schema_state().await? {
        SchemaState::Missing => Status::before_the_first_run(&entities),
        SchemaState::Older => anyhow::bail!(
            "schema `{}` is not up to date: it is being migrated at this moment, or was made by \
             an older b24mirror; then run `b24mirror migrate`",
            store.schema()
        ),
        SchemaState::Current => Status::read(store, &entities).await?,
        SchemaState::Newer => {
            return Err(StoreError::SchemaNewer { schema: store.schema().clone() }.into());
        }
    };
    if json {
        say!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print(&status);
        if status.portal.is_some() {
            print_renamed(settings, store).await?;
        }
    }
    Ok(if status.is_fresh() { Exit::Done } else { Exit::NotTrue })
}

fn print(status: &Status) {
    say!("portal    {}", status.portal.as_deref().unwrap_or("none yet"));
    say!("held by   {}", status.held_by.as_deref().unwrap_or("no process"));
    for wait in status.waits.iter().filter(|wait| !is_told(wait, status)) {
        say!("waiting   {}; going on at {}", wait.reason, wait.until.format("%H:%M:%S UTC"));
    }
    for entity in &status.entities {
        let title = entity.title.as_ref().map(|title| format!(" ({title})")).unwrap_or_default();
        let described = describe(entity, status.held_by.is_some());
        say!("{:<9} {described}", format!("{}{title}", entity.entity));
        if let Some(refused) = &entity.refused_sweep {
            let RefusedSweep { run, at, records, reason, .. } = refused;
            say!(
                "          sweep stopped at {} (run {run}, {}): {reason}",
                at.format("%Y-%m-%d %H:%M UTC"),
                counted(*records, "record")
            );
        }
    }
    print_names(&status.dictionaries);
    if let Some(ReportProblem { view, reason }) = status.report_problems.first() {
        let more = match status.report_problems.len() {
            1 => String::new(),
            views => format!(" and {} more", views - 1),
        };
        say!("reports   {view}{more} not up to date: {reason}");
    }
    for open in &status.requests {
        let entities =
            if open.entities.is_empty() { "all".to_owned() } else { open.entities.join(", ") };
        let standing = match (open.cancelled, open.under_way) {
            (true, _) => "cancelled, about to be closed",
            (false, true) => "under way",
            (false, false) => "waits to be taken up",
        };
        say!("request   {}, {} of {entities}: {standing}", open.request, open.kind);
    }
}

/// Names that could not be read, each reason once.
fn print_names(dictionaries: &[DictionaryStatus]) {
    let mut reasons: BTreeMap<&str, Vec<&DictionaryStatus>> = BTreeMap::new();
    for dictionary in dictionaries {
        if let Some(why) = &dictionary.why {
            reasons.entry(why).or_default().push(dictionary);
        }
    }
    for (why, dictionaries) in reasons {
        let names: Vec<_> = dictionaries.iter().map(|one| one.dictionary).collect();
        match dictionaries.as_slice() {
            [DictionaryStatus { dictionary, problem: Some(problem), .. }] => {
                say!("names     {dictionary} could not be read: {problem}");
            }
            _ => say!(
                "names     {} could not be read: {why}; what they explain is missing or outdated",
                names.join(", ")
            ),
        }
    }
}

/// Whether an entity's line says so already.
fn is_told(wait: &HolderWait, status: &Status) -> bool {
    status.entities.iter().any(|entity| match &entity.state {
        State::Backfilling { reason, .. } => reason.as_ref() == Some(&wait.reason),
        _ => false,
    })
}

/// Says that the portal has another host than the settings name. Not every status is asked
/// for with the portal's credentials at hand.
async fn print_renamed(settings: &Settings, store: &Store) -> anyhow::Result<()> {
    let Ok(credentials) = wiring::credentials(settings) else { return Ok(()) };
    if let Some(row) = store.portal_row().await?
        && let Some(host) = row.moved_from(credentials.host())
    {
        let key = credentials.host_key();
        say!("renamed   the portal is at {host} now; put that host into `{key}`");
    }
    Ok(())
}

fn describe(entity: &EntityStatus, running: bool) -> String {
    let mut line = match &entity.state {
        State::NeverSynced { reason: None } => "never synced".to_owned(),
        State::NeverSynced { reason: Some(reason) } => format!("never synced: {reason}"),
        State::Fresh if running => "fresh".to_owned(),
        State::Fresh => "fresh, but no process is mirroring".to_owned(),
        State::Behind { reason: None } => "behind".to_owned(),
        State::Behind { reason: Some(reason) } => format!("behind: {reason}"),
        State::Gone { since } => format!(
            "gone in the portal since {}; its rows stay as they were",
            since.format("%Y-%m-%d %H:%M UTC")
        ),
        State::SwitchedOff => "switched off; its rows stay as they were".to_owned(),
        State::Paused { since, by } => {
            format!("paused since {} by {by}", since.format("%Y-%m-%d %H:%M:%S UTC"))
        }
        State::Stopped { reason, tried_again_at: None } => format!("stopped: {reason}"),
        State::Stopped { reason, tried_again_at: Some(at) } => {
            format!("stopped: {reason}; tried again at {}", at.format("%H:%M:%S UTC"))
        }
        State::Backfilling { share, records, per_second, seconds_left, reason } => {
            let eta = remaining(*seconds_left);
            let share =
                share.map_or_else(|| "?".to_owned(), |share| format!("{:.1}", share * 100.0));
            let waits = reason.as_ref().map(|reason| format!(", waiting: {reason}"));
            format!(
                "backfilling: {share} %, {}, {per_second:.0}/s, {eta}{}",
                counted(*records, "record"),
                waits.unwrap_or_default()
            )
        }
    };
    let lag = entity.lag_seconds.map(|lag| format!("last complete {}", ago(lag)));
    let records = (entity.records > 0).then(|| counted(entity.records, "record"));
    let notes = (entity.quarantined > 0)
        .then(|| format!("{} in the quarantine", counted(entity.quarantined, "note")));
    let swept = entity
        .swept_at
        .map(|at| format!("complete as of the sweep of {}", at.format("%Y-%m-%d %H:%M UTC")));
    let full_passes = entity.full_pass_seconds.map(|seconds| {
        let every = humantime::format_duration(Duration::from_secs(seconds));
        format!(
            "the gateway cannot be asked for changes, which arrive by reading every record every \
             {every}"
        )
    });
    let beyond = (entity.out_of_sight > 0).then(|| {
        let records = counted(entity.out_of_sight, "record");
        format!("among them {records} that its `source` cannot show and nothing checks")
    });
    for more in [lag, records, beyond, notes, swept, full_passes].into_iter().flatten() {
        line.push_str("; ");
        line.push_str(&more);
    }
    line
}
