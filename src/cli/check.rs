//! `b24mirror check`

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{
    Exit,
    output::say,
    progress::Drawing,
    wiring::{self, Database, Patience},
};
use crate::{
    entity::{Entity, RecordId, SMART_ITEMS, Sight, dictionary::Dictionary},
    lifecycle::Lifecycle,
    portal::{
        Ask, ChainEnd, Credentials, DictionarySource, Grant, Lane, MailRecipientSource, Page,
        Patience as Tries, Portal, PortalError, ProductRowAsk, ProductRowSource, ScanAsk, Source,
    },
    settings::Settings,
    store::{SchemaState, Store, StoreError},
    sync::{Mirrored, settle_tokens},
};

/// Tries everything that mirroring needs, one thing after the other, and writes nothing.
///
/// It sends a request or two for each entity, one a second, so that it can run beside a daemon.
/// Only an application's tokens may have to be renewed for that, and are stored then; where a
/// daemon runs, that is left to it.
pub(super) async fn run(settings: &Settings, lifecycle: &Lifecycle) -> anyhow::Result<Exit> {
    let mut report = Report { worst: Exit::Done, drawing: None };
    let portal = match wiring::modest_portal(settings) {
        Ok(portal) => portal,
        Err(error) => {
            let exit = super::classify(&error);
            report.bad("settings", &super::told(&error), exit);
            return Ok(report.worst);
        }
    };
    wiring::spare_tokens(lifecycle, &portal);
    report.drawing = Some(wiring::modest_drawing(&portal));
    report.good("settings", "read");
    let database = match check_database(settings, lifecycle, &portal, &report).await {
        Ok(database) => database,
        Err(error) => {
            let exit = super::classify(&error);
            report.bad("database", &super::told(&error), exit);
            None
        }
    };
    if settings.portal.oauth.is_some() && database.is_none() {
        report.warn(
            "application",
            "not tried: its tokens are stored with every renewal, so the database must be ready; \
             mend what is said of it above, or let `b24mirror migrate` make the schema, and check \
             again",
        );
        return Ok(report.end().await);
    }
    let asking = check_portal(settings, &portal, &mut report);
    if tokio::time::timeout(PATIENCE, asking).await.is_err() {
        let finding = "no answer within two minutes; it is slow, or another program uses up its \
                       request limit";
        report.bad("portal", finding, Exit::Failed);
    }
    settle_tokens(&portal).await;
    Ok(report.end().await)
}

/// How long the portal may take for everything that is asked.
const PATIENCE: Duration = Duration::from_mins(2);

/// So many smart processes are tried; a portal may have hundreds.
const PROCESSES: usize = 5;

async fn check_portal(settings: &Settings, portal: &Portal, report: &mut Report) {
    if check_user(portal, report).await {
        let entities = match wiring::each_process(wiring::entities(settings), portal).await {
            Ok(each) => each,
            // Why not is told with the names behind codes.
            Err(_) => wiring::entities(settings)
                .into_iter()
                .filter(|one| *one.entity != SMART_ITEMS)
                .collect(),
        };
        let (processes, others): (Vec<_>, Vec<_>) =
            entities.into_iter().partition(|one| one.entity.smart_process().is_some());
        let untried = processes.len().saturating_sub(PROCESSES);
        for mirrored in others.into_iter().chain(processes.into_iter().take(PROCESSES)) {
            if mirrored.entity.is_read_whole() {
                check_recipients(mirrored.entity, portal, report).await;
            } else {
                check_entity(mirrored, portal, report).await;
            }
        }
        if untried > 0 {
            let finding =
                format!("{untried} more smart processes are read alike and were not tried");
            report.good(SMART_ITEMS.name, &finding);
        }
        if portal.is_open() {
            check_dictionaries(settings, portal, report).await;
        }
    }
}

/// What was found, told as it is found.
struct Report {
    worst: Exit,
    /// What the command is at, beside what it has found.
    drawing: Option<Drawing>,
}

impl Report {
    fn good(&self, what: &str, finding: &str) {
        self.tell("ok", what, finding);
    }

    fn warn(&self, what: &str, finding: &str) {
        self.tell("warning", what, finding);
    }

    fn tell(&self, verdict: &str, what: &str, finding: &str) {
        let line = || say!("{verdict:<8} {what}: {finding}");
        match &self.drawing {
            Some(drawing) => drawing.aside(line),
            None => line(),
        }
    }

    async fn end(self) -> Exit {
        if let Some(drawing) = self.drawing {
            drawing.finish().await;
        }
        self.worst
    }

    fn bad(&mut self, what: &str, finding: &str, exit: Exit) {
        self.tell("FAILED", what, finding);
        if self.worst != Exit::Usage {
            self.worst = exit;
        }
    }

    fn refused(&mut self, what: &str, error: &PortalError) {
        self.bad(what, &format!("{error}; {}", error.advice()), Exit::Failed);
    }
}

async fn check_database(
    settings: &Settings,
    lifecycle: &Lifecycle,
    portal: &Portal,
    report: &Report,
) -> anyhow::Result<Option<Database>> {
    let stop = lifecycle.soft();
    let database = wiring::database(settings, "check", Patience::None, &stop).await?;
    let store = &database.store;
    let schema = store.schema();
    match store.schema_state().await? {
        SchemaState::Missing => {
            report.good("database", &format!("reachable; schema `{schema}` will be created"));
            return Ok(None);
        }
        SchemaState::Older => {
            report.good("database", &format!("reachable; schema `{schema}` will be migrated"));
            return Ok(None);
        }
        SchemaState::Newer => {
            return Err(StoreError::SchemaNewer { schema: schema.clone() }.into());
        }
        SchemaState::Current => {
            report.good("database", &format!("reachable; schema `{schema}` is up to date"));
        }
    }
    wiring::visit(settings, store, portal, "check").await?;
    check_owner(store, report).await?;
    Ok(Some(database))
}

async fn check_owner(store: &Store, report: &Report) -> anyhow::Result<()> {
    let lease = store.lease_row().await?;
    match lease.holder.filter(|_| lease.held) {
        Some(holder) => report.good("lease", &format!("held by {holder}")),
        None => report.good("lease", "free"),
    }
    Ok(())
}

/// Whose rights the webhook or the application has; `false` when it has none.
async fn check_user(portal: &Portal, report: &mut Report) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    struct Profile {
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        last_name: Option<String>,
        #[serde(default)]
        admin: bool,
    }
    let what = credential(portal);
    if !portal.is_open() {
        let finding = format!(
            "{} is read through a gateway alone, with the rights of its key's owner; the names \
             behind codes are not mirrored",
            portal.host()
        );
        report.good("portal", &finding);
        return true;
    }
    let answer = match portal.call(Lane::People, "profile", &json!({})).await {
        Ok(answer) => answer,
        Err(error) => {
            report.refused(what, &error);
            return false;
        }
    };
    let Ok(profile) = serde_json::from_str::<Profile>(answer.result.get()) else {
        report.warn(what, "accepted, but the portal does not say whose it is");
        return true;
    };
    let name: Vec<String> = [profile.name, profile.last_name].into_iter().flatten().collect();
    report.good(what, &format!("acts for {} on {}", name.join(" "), portal.host()));
    if !profile.admin {
        report.warn(
            what,
            "its user is no administrator: records that this user may not read are not mirrored",
        );
    }
    if let Some(grant) = portal.grant() {
        tell_grant(&grant, report);
    }
    if let Some(host) = portal.renamed_to() {
        let key = portal.credentials().host_key();
        let finding = format!("it was renamed to {host}; put that host into `{key}`");
        report.warn("portal", &finding);
    }
    if let Some(time) = answer.time {
        let hours = f64::from(time.offset_seconds) / 3600.0;
        let clock = time.clock.format("%Y-%m-%d %H:%M:%S UTC");
        report.good("clock", &format!("the portal says {clock}, UTC{hours:+}"));
    }
    true
}

/// What opens the portal, for people.
fn credential(portal: &Portal) -> &'static str {
    match portal.credentials() {
        Credentials::Webhook(_) => "webhook",
        Credentials::Application(_) => "application",
        Credentials::GatewayAlone(_) => "gateway",
    }
}

/// How long the tokens are good for.
fn tell_grant(grant: &Grant, report: &Report) {
    let until = grant.expires_at.map_or_else(
        || "of unknown duration".to_owned(),
        |at| format!("good until {}", at.format("%Y-%m-%d %H:%M:%S UTC")),
    );
    let finding = format!(
        "access token {until}; renewed by itself when the portal asks for it (portal {})",
        grant.member_id
    );
    report.good("tokens", &finding);
}

/// Whether the entity can be listed, and whether the portal understands our filter.
async fn check_entity(
    Mirrored { entity, dialect, product_rows, .. }: Mirrored,
    portal: &Portal,
    report: &mut Report,
) {
    let scan = ScanAsk { newest_first: true, ..ScanAsk::keys_above(RecordId::ZERO) };
    let ask = Ask { scans: vec![scan], catalogue: true, probes: true, ..Ask::default() };
    let source = Source::new(portal.clone(), entity, dialect);
    let heard = match source.read(Lane::People, &ask, Tries::Persist).await {
        Ok(heard) => heard,
        Err(error) => return report.refused(entity.name, &error),
    };
    let (mut listed, mut newest) = (0, None);
    for chain in heard.scans {
        if let ChainEnd::Failed(error) = chain.end {
            return report.refused(entity.name, &error);
        }
        listed += chain.pages.iter().map(Page::len).sum::<usize>();
        let mut rows = chain.pages.iter().flat_map(Page::rows);
        newest = newest.or_else(|| rows.find_map(|row| source.dialect().key_of(row)));
    }
    if let Some(Err(error)) = heard.catalogue {
        return report.refused(entity.name, &error);
    }
    let (by, asked) = read_by(&source, entity, portal);
    let misused = |how: &str| format!("the portal {how} the filter on {}", entity.modified());
    match heard.probes {
        Some(Ok(probes)) if !probes.future_gave_none => {
            report.bad(entity.name, &misused("ignores"), Exit::Failed);
        }
        Some(Ok(probes)) if !probes.past_gave_rows && listed > 0 => {
            report.bad(entity.name, &misused("misreads"), Exit::Failed);
        }
        Some(Err(error)) => report.refused(entity.name, &error),
        _ if listed == 0 => {
            report.warn(entity.name, &format!("readable, but the list is empty; {by}"));
        }
        None => report.warn(
            entity.name,
            &format!(
                "readable, but the gateway cannot be asked for what was modified: changes are \
                 found by reading every record again (`portal.vibecode.full_pass_interval`); {by}"
            ),
        ),
        _ => report
            .good(entity.name, &format!("readable, and the filters are understood{asked}; {by}")),
    }
    if let Some(owner) = newest.filter(|_| product_rows) {
        check_product_rows(entity, owner, portal, report).await;
    }
}

/// What an entity is read by, for people, and what else is known of a source that understands
/// its filters.
fn read_by(source: &Source, entity: &Entity, portal: &Portal) -> (String, &'static str) {
    match (source, portal.gateway()) {
        (Source::Gateway(_), Some(gateway)) => (
            format!("read through the gateway {}", gateway.host()),
            ": the gateway can be asked for what was modified",
        ),
        _ if entity.sight(source.dialect()) == Sight::Implied => {
            (format!("read by {}, which lists category 0 alone", source.method()), "")
        }
        _ => (format!("read by {}", source.method()), ""),
    }
}

/// Whether the product rows of a record can be listed.
async fn check_product_rows(
    entity: &'static Entity,
    owner: RecordId,
    portal: &Portal,
    report: &mut Report,
) {
    let Some(code) = entity.multi_fields.iter().find_map(|multi| multi.product_rows) else {
        return;
    };
    let source = ProductRowSource::new(portal.clone(), code);
    let ask = ProductRowAsk { owners: vec![owner], after: RecordId::ZERO };
    let what = format!("product rows of {}", entity.name);
    let read = source.read(Lane::People, &[ask], Tries::Persist).await;
    match read.and_then(|(pages, _)| pages.into_iter().collect::<Result<Vec<_>, _>>()) {
        Ok(_) => report.good(&what, "readable"),
        Err(error) => report.refused(&what, &error),
    }
}

/// Whether the webhook has the scope for the mail address book.
async fn check_recipients(entity: &'static Entity, portal: &Portal, report: &mut Report) {
    match MailRecipientSource::new(portal.clone()).page(Lane::People, 0).await {
        Ok(page) if page.rows.is_empty() => {
            report.warn(entity.name, "readable, but the address book is empty");
        }
        Ok(_) => report.good(entity.name, "readable"),
        Err(error) => report.refused(entity.name, &error),
    }
}

/// Whether the names behind codes can be read. Records are mirrored without them, too.
async fn check_dictionaries(settings: &Settings, portal: &Portal, report: &mut Report) {
    let what = credential(portal);
    let entities: Vec<_> = wiring::entities(settings).iter().map(|one| one.entity).collect();
    let mut wanted = Dictionary::explaining(&entities);
    let kinds: Vec<u32> = entities.iter().flat_map(|entity| entity.pipelines()).collect();
    if kinds.is_empty() {
        // Which processes have some is known when they are listed.
        wanted.retain(|dictionary| *dictionary != Dictionary::Pipelines);
    }
    let source = DictionarySource::new(portal.clone()).with_pipelines_of(kinds);
    let tried = match source.try_each(Lane::People, &wanted).await {
        Ok(tried) => tried,
        Err(error) => return report.refused("names", &error),
    };
    for (dictionary, listed) in tried {
        let error = match listed {
            Ok(rows) if rows > 0 => {
                report.good(dictionary.name(), &format!("readable, {rows} rows"));
                continue;
            }
            Ok(_) => {
                report.warn(dictionary.name(), "readable, but the list is empty");
                continue;
            }
            Err(error) => error,
        };
        let missing = format!("{} will be missing", dictionary.explains());
        let finding = if error.code().is_some_and(|code| code.is("insufficient_scope")) {
            format!(
                "the {what} lacks the right `{scope}`: {missing}; tick `{scope}` on the {what}'s \
                 page in the portal",
                scope = dictionary.scope()
            )
        } else {
            format!("{error}; {missing}; {}", error.advice())
        };
        report.warn(dictionary.name(), &finding);
    }
}
