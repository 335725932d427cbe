//! The mirror's process: it is started, works, dies and is started again.

use std::{sync::Arc, time::Duration};

use b24mirror::{
    portal::{Gateway, GatewayKey, GatewayOptions, Limits, Portal, PortalOptions, WebhookUrl},
    reporting::ReportOptions,
    retry::RetryPolicy,
    store::{Store, StoreOptions, Verdict},
    sync::{
        self, CheckOptions, Ending, EntityOutcome, Mirrored, Opened, ProgressBoard, Session,
        SyncError, SyncOptions,
    },
};
use secrecy::SecretString;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::{
    history::{Disturbance, What},
    relay::{Relay, Statements},
    scene::Scene,
};

/// How a process calls itself.
pub(super) const PROCESS: &str = "histories";

/// What a process is asked to do.
#[derive(Clone, Copy)]
pub(super) enum Work {
    Cycle,
    Backfill { restart: bool },
    BackfillBeside,
    Sweep,
    Accept { run: i64 },
}

impl Work {
    /// Whether a cycle is complete when this is.
    pub(super) const fn ends_with_a_cycle(self) -> bool {
        matches!(self, Self::Cycle | Self::Backfill { .. } | Self::BackfillBeside)
    }
}

/// The mirror's process, or what is left of it.
pub(super) struct Process<'a> {
    relay: &'a Relay,
    scene: Arc<Scene>,
    chains: u32,
    life: Option<Life>,
    /// The statements of each piece of work.
    pub(super) statements: Vec<Statements>,
}

/// A process that lives. Dropping it is a crash.
struct Life {
    parts: Parts,
    // Dropped last, with every task that still runs in it.
    runtime: Runtime,
}

struct Parts {
    client: Portal,
    store: Option<Store>,
    session: Option<Box<Session>>,
    /// Tells the session to end.
    stop: CancellationToken,
}

/// How some work ended.
enum Ended {
    Killed,
    NotOpened(SyncError),
    HeldBy(String),
    Worked(Vec<EntityOutcome>),
    Checked(Vec<Ending>),
}

impl<'a> Process<'a> {
    /// A process that has not been started yet.
    pub(super) fn new(relay: &'a Relay, scene: &Arc<Scene>, chains: u32) -> Self {
        Self { relay, scene: Arc::clone(scene), chains, life: None, statements: Vec::new() }
    }

    pub(super) fn scene(&self) -> &Scene {
        &self.scene
    }

    /// Whether it has ended, well or not.
    pub(super) const fn is_dead(&self) -> bool {
        self.life.is_none()
    }

    /// Whether it lives and has a session.
    pub(super) fn is_open(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.parts.session.is_some())
    }

    /// Works; says whether everything that there was to read has been read. Without a
    /// disturbance, nothing may go wrong.
    pub(super) fn work(&mut self, work: Work, meanwhile: &[Disturbance]) -> Result<bool, String> {
        let mut due = Vec::new();
        for disturbance in meanwhile {
            match &disturbance.what {
                What::Between(event) => self.scene.happen_between(disturbance.after, event),
                What::Fail(failure) => self.scene.fail(disturbance.after, *failure),
                _ => due.push(disturbance.clone()),
            }
        }
        let Life { parts, runtime } = self.life.get_or_insert_with(|| Life::start(&self.scene));
        if parts.session.is_none() {
            parts.stop = CancellationToken::new();
        }
        self.relay.plan(due, &self.scene, &parts.stop);
        let death = self.relay.death();
        let performing = parts.perform(self.relay.url(), &self.scene, self.chains, work);
        let ended = runtime.block_on(async {
            tokio::select! {
                biased;
                () = death => Ended::Killed,
                ended = performing => ended,
            }
        });
        if parts.stop.is_cancelled() {
            runtime.block_on(parts.close());
        }
        if matches!(ended, Ended::Killed) {
            self.life = None;
        }
        let (statements, disturbed) = self.relay.quiet();
        self.statements.push(statements);
        self.scene.forget_between();
        match ended {
            Ended::Killed => Ok(false),
            Ended::NotOpened(_) if disturbed => Ok(false),
            Ended::NotOpened(error) => Err(format!("no session: {}", error.reason())),
            Ended::HeldBy(holder) => Err(format!("the lease is held by {holder}")),
            Ended::Checked(endings) => {
                let [ending] = &endings[..] else { return Err(format!("{endings:?}")) };
                let unready = ending.line.contains("backfill");
                match ending.verdict {
                    Verdict::Complete => Ok(true),
                    // Too much would have been deleted.
                    Verdict::Stopped => Ok(false),
                    _ if disturbed || unready => Ok(false),
                    _ => Err(ending.line.clone()),
                }
            }
            Ended::Worked(outcomes) => {
                let mut complete = true;
                for outcome in outcomes {
                    complete &= outcome.result.is_ok();
                    match &outcome.result {
                        Ok(_)
                        | Err(SyncError::Unfilled { .. } | SyncError::NeverBackfilled { .. }) => {}
                        Err(SyncError::Stopping) if disturbed => {}
                        // What moves while it is read as a whole proves nothing.
                        Err(SyncError::Incomplete { .. }) if !meanwhile.is_empty() => {}
                        Err(_) => return Err(outcome.line()),
                    }
                }
                Ok(complete)
            }
        }
    }

    /// Ends the process as it should end.
    pub(super) fn end(&mut self) {
        if let Some(mut life) = self.life.take() {
            life.runtime.block_on(life.parts.close());
        }
    }
}

impl Life {
    fn start(scene: &Scene) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = Portal::new(PortalOptions {
            credentials: WebhookUrl::parse(&scene.portal.webhook_url()).unwrap().into(),
            timeout: Duration::from_secs(30),
            max_body: 32 << 20,
            ca_file: None,
            limits: Limits { requests_per_second: 1_000_000.0, burst: 10_000, operating: None },
            retry: retry(),
        })
        .unwrap();
        let client = client.with_gateway(gateway(scene));
        let parts = Parts { client, store: None, session: None, stop: CancellationToken::new() };
        Self { parts, runtime }
    }
}

impl Parts {
    async fn perform(
        &mut self,
        url: SecretString,
        scene: &Scene,
        chains: u32,
        work: Work,
    ) -> Ended {
        let store = match &self.store {
            Some(store) => store.clone(),
            None => match connect(url).await {
                Ok(store) => self.store.insert(store).clone(),
                Err(error) => return Ended::NotOpened(error),
            },
        };
        let session = match &mut self.session {
            Some(session) => session,
            none => {
                let options = SyncOptions {
                    board: ProgressBoard::default(),
                    entities: vec![Mirrored {
                        entity: scene.entity,
                        dialect: scene.dialect,
                        interval: Duration::from_secs(1),
                        product_rows: scene.sells,
                    }],
                    overlap: scene.overlap(),
                    dictionary_interval: Duration::from_hours(1),
                    checks: CheckOptions::default(),
                    max_in_flight: chains,
                    reports: ReportOptions::default(),
                    retry: retry(),
                    holder: PROCESS.to_owned(),
                };
                match Session::open(&store, &self.client, &options, &self.stop).await {
                    Ok(Opened::Session(session)) => none.insert(session),
                    Ok(Opened::HeldBy { holder, .. }) => return Ended::HeldBy(holder),
                    Err(error) => return Ended::NotOpened(error),
                }
            }
        };
        let entities = [scene.entity];
        let sweep = |accept| sync::Work::Sweep { accept };
        Ended::Worked(match work {
            Work::Sweep => {
                return Ended::Checked(session.perform(&sweep(None), &entities, &[]).await);
            }
            Work::Accept { run } => {
                return Ended::Checked(session.perform(&sweep(Some(run)), &entities, &[]).await);
            }
            Work::Cycle => session.sync(&entities).await,
            Work::Backfill { restart } => session.backfill(&entities, restart).await,
            Work::BackfillBeside => {
                let both =
                    tokio::join!(session.backfill(&entities, false), session.sync(&entities));
                both.0.into_iter().chain(both.1).collect()
            }
        })
    }

    async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }
}

/// The gateway before the portal. What cannot be asked for by its time is read in every cycle.
fn gateway(scene: &Scene) -> Gateway {
    Gateway::new(GatewayOptions {
        url: scene.portal.url().parse().unwrap(),
        key: GatewayKey::new(&"vibe_api_s1mul4ted".into(), None).unwrap(),
        timeout: Duration::from_secs(30),
        max_body: 32 << 20,
        ca_file: None,
        requests_per_minute: 1_000_000,
        full_pass_interval: Duration::ZERO,
        retry: retry(),
    })
    .unwrap()
}

/// Connects to the database.
pub(super) async fn connect(url: SecretString) -> Result<Store, SyncError> {
    let options = StoreOptions {
        url,
        schema: "bitrix24".parse().unwrap(),
        max_connections: 3,
        application_name: PROCESS.to_owned(),
    };
    Ok(Store::connect(&options).await?)
}

fn retry() -> RetryPolicy {
    RetryPolicy::new(6, Duration::from_millis(1), Duration::from_millis(5)).unwrap()
}
