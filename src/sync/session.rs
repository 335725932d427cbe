//! A session: the lease on a portal, and the mirrors that work under it.

mod keeping;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use self::keeping::{keep, note_rename};
use super::{
    Consequence, SyncError, SyncOptions,
    causes::Causes,
    checks::Check,
    dictionaries::{Codes, Keeper},
    ending::Ending,
    halt::Halt,
    mirror::{Ground, Mirror, Tally},
    patience::outlast,
    pauses::Pauses,
    progress::ProgressBoard,
    reporting::{ReportBell, refresh_reports},
    room::Room,
    tokens,
    work::Work,
};
use crate::{
    entity::{Entity, dictionary::Dictionary},
    portal::{Lane, Portal},
    reporting::ReportOptions,
    retry::Disposition,
    store::{
        Acquired, Fill, Generation, Health, Lease, PortalClaim, PortalIdentity, RunKind,
        SegmentKind, Store, StoreError, Verdict,
    },
};

/// How long a lease lasts without being renewed: how long a crashed holder blocks others.
pub const LEASE_TTL: Duration = Duration::from_secs(15);

/// A process that has been told to end waits no longer for a database that is away.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// A command whose records have been read waits no longer for the names in them.
const PATIENCE: Duration = Duration::from_mins(2);

/// A bucket that was left so long ago is empty whatever its level was.
const BUCKET_MEMORY: chrono::Duration = chrono::Duration::minutes(5);

/// Said of a smart process that is asked for and not mirrored.
pub(super) const NO_SUCH_PROCESS: &str = "the portal listed no smart process of this number when it \
    was last asked, or `entities.smart_items.enabled` is false in the process that mirrors";

/// Said of a smart process that cannot be mirrored.
const NO_TABLES: &str =
    "its tables could not be made; the log says why, and the next session tries again";

/// The answer to opening a session.
pub enum Opened {
    /// The portal is ours to talk to.
    Session(Box<Session>),
    /// Another process talks to it.
    HeldBy {
        /// Which one: host, process, command.
        holder: String,
        /// Until when, unless it renews; by the database's clock.
        expires_at: DateTime<Utc>,
    },
}

/// The lease, renewed in the background, and one mirror per entity.
pub struct Session {
    store: Store,
    portal: Portal,
    generation: Generation,
    mirrors: Vec<(Arc<Mirror>, Duration)>,
    board: ProgressBoard,
    dictionaries: Keeper,
    reports: ReportBell,
    report_options: ReportOptions,
    stop: CancellationToken,
    keeper: JoinHandle<()>,
    /// Looks at the pauses, once they have been read.
    watcher: Option<JoinHandle<()>>,
}

/// What fulfilling a request needs of its session.
pub(super) struct Errand {
    pub(super) store: Store,
    pub(super) generation: Generation,
    pub(super) board: ProgressBoard,
    pub(super) reports: ReportBell,
}

/// How the work on one entity ended.
#[derive(Debug)]
pub struct EntityOutcome {
    /// Which entity.
    pub entity: &'static Entity,
    /// What was read and written, or why it did not go on.
    pub result: Result<Tally, SyncError>,
}

impl EntityOutcome {
    /// The verdict for the run log and the exit code.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.result.as_ref().err().map_or(Verdict::Complete, SyncError::verdict)
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let entity = self.entity.name;
        match &self.result {
            Ok(tally) => {
                format!(
                    "{entity}: complete, {} read, {} new, {} changed, {} unchanged{}",
                    tally.read,
                    tally.inserted,
                    tally.updated,
                    tally.unchanged,
                    tally.told_notes()
                )
            }
            Err(error) => format!("{entity}: {}: {}", self.verdict().as_str(), error.reason()),
        }
    }
}

impl Session {
    /// Takes the lease if it is free, and claims the schema for this portal.
    ///
    /// `stop` ends the session's work: answers in flight are abandoned, transactions
    /// are finished. It is also cancelled when the lease is lost.
    ///
    /// # Errors
    /// [`StoreError::OtherPortal`] when the schema belongs to another portal; nothing
    /// is written then. Other errors of the database.
    pub async fn open(
        store: &Store,
        portal: &Portal,
        options: &SyncOptions,
        stop: &CancellationToken,
    ) -> Result<Opened, SyncError> {
        // Before the lease is looked at: another portal's schema is neither touched, nor
        // is its holder asked to work for us, nor does anybody stand by for it.
        tokens::recognise(store, portal).await?;
        let lease = match store.try_acquire(&options.holder, LEASE_TTL).await? {
            Acquired::Ours(lease) => lease,
            Acquired::HeldBy { holder, expires_at } => {
                return Ok(Opened::HeldBy { holder, expires_at });
            }
        };
        restore_bucket(portal, &lease);
        tokens::keep(portal, store, lease.generation);
        let stop = stop.child_token();
        let keeper = keep(store.clone(), portal.clone(), lease.generation, stop.clone());
        let (board, reports) = (options.board.clone(), ReportBell::default());
        let ground = Ground {
            store: store.clone(),
            portal: portal.clone(),
            generation: lease.generation,
            overlap: chrono::Duration::from_std(options.overlap)
                .unwrap_or(chrono::Duration::minutes(2)),
            retry: options.retry,
            board: board.clone(),
            room: Room::default(),
            codes: Codes::default(),
            causes: Causes::default(),
            max_in_flight: usize::try_from(options.max_in_flight).unwrap_or(usize::MAX),
            checks: options.checks,
            reports: reports.clone(),
            halt: Halt::of_session(stop.clone()),
        };
        let mirrored: Vec<_> = options.entities.iter().map(|one| one.entity).collect();
        let dictionaries = Keeper {
            dictionaries: if portal.is_open() {
                Dictionary::explaining(&mirrored)
            } else {
                Vec::new()
            },
            pipelines_of: mirrored.iter().flat_map(|entity| entity.pipelines()).collect(),
            store: store.clone(),
            portal: portal.clone(),
            generation: lease.generation,
            codes: ground.codes.clone(),
            interval: options.dictionary_interval,
            reports: reports.clone(),
            processes: Vec::new(),
            without_tables: Vec::new(),
            stop: stop.clone(),
        };
        let mut pauses = Pauses::new(store.clone());
        let generation = lease.generation;
        let (store, portal) = (store.clone(), portal.clone());
        let mut session = Self {
            store,
            portal,
            generation,
            mirrors: Vec::new(),
            board,
            dictionaries,
            reports,
            report_options: options.reports.clone(),
            stop,
            keeper,
            watcher: None,
        };
        let begun = async {
            // Before anything else: what may not be stored any more is not to wait.
            let mut settled = session.store.settle_privacy(generation).await?;
            tokens::authorize(&session.portal).await?;
            session.claim().await?;
            session.store.note_switches(generation, &mirrored).await?;
            let wanted = session.dictionaries.discover(&options.entities).await?;
            if wanted.iter().any(|one| !settled.iter().any(|(known, _)| *known == one.entity)) {
                settled = session.store.settle_privacy(generation).await?;
            }
            for mirrored in wanted {
                let entity = mirrored.entity;
                let privacy = settled.iter().find(|(settled, _)| *settled == entity);
                let Some((_, privacy)) = privacy.cloned() else { continue };
                let pausing = pauses.show(entity);
                let mirror = Mirror::new(mirrored, ground.clone(), pausing, privacy);
                session.mirrors.push((Arc::new(mirror), mirrored.interval));
            }
            session.store.settle_phone_rules(session.generation).await?;
            session.store.begin_histories(session.generation).await?;
            pauses.look().await?;
            Ok(())
        };
        match begun.await {
            Ok(()) => {
                session.watcher = Some(pauses.watch(session.stop.clone()));
                Ok(Opened::Session(Box::new(session)))
            }
            Err(error) => {
                session.close().await;
                Err(error)
            }
        }
    }

    /// Another user may see other records, so all of them are read again.
    async fn claim(&self) -> Result<(), SyncError> {
        let user = self.portal.user_id().map(|user| i64::try_from(user).unwrap_or(i64::MAX));
        let grant = self.portal.grant();
        let asking = PortalIdentity {
            host: self.portal.host(),
            member_id: grant.as_ref().map(|grant| &*grant.member_id),
        };
        let claim = self.store.claim_portal(&asking, user).await?;
        let (PortalClaim::OtherUser { before }, Some(user)) = (claim, user) else {
            return Ok(());
        };
        tracing::warn!(
            before,
            now = user,
            "the webhook or application belongs to another user now; every record is read again with that user's rights"
        );
        // Those that are switched off now, too: they may be switched on later.
        let entities = self.store.entities().await?;
        for entity in entities.into_iter().filter(|entity| !entity.is_read_whole()) {
            if let Some(checkpoint) = self.store.checkpoint(entity).await? {
                let (kind, up_to) = (SegmentKind::FullPass, checkpoint.newest);
                let expected = Some(self.store.counts(entity).await?.live);
                let fill = Fill { kind, up_to, expected };
                self.store.start_backfill(self.generation, entity, &checkpoint, fill).await?;
                self.store.want_sweep(self.generation, entity).await?;
            }
        }
        // Another user has another address book.
        for entity in Entity::WHOLE {
            self.store.want_sweep(self.generation, entity).await?;
        }
        Ok(self.store.accept_user(user).await?)
    }

    pub(super) fn errand(&self) -> Errand {
        Errand {
            store: self.store.clone(),
            generation: self.generation,
            board: self.board.clone(),
            reports: self.reports.clone(),
        }
    }

    /// Brings what people query up to date; what could not be done is logged and shown by
    /// `status`.
    pub async fn refresh_reports(&self) {
        let refresh = refresh_reports(&self.store, &self.report_options, Some(self.generation));
        if let Some(Err(error)) = self.stop.run_until_cancelled(refresh).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the report views could not be looked at; the next process does it"
            );
        }
    }

    /// Proves the lease with every write.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    pub(super) const fn dictionaries(&self) -> &Keeper {
        &self.dictionaries
    }

    pub(super) const fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    pub(super) fn mirrors(&self) -> &[(Arc<Mirror>, Duration)] {
        &self.mirrors
    }

    /// Performs a piece of work for each entity to its end. What people need beside records is
    /// brought up to date meanwhile. Entities in `begun_anew` are being read again for it
    /// already, and do not begin once more.
    pub async fn perform(
        &self,
        work: &Work,
        entities: &[&'static Entity],
        begun_anew: &[&'static Entity],
    ) -> Vec<Ending> {
        self.dictionaries.prepare().await;
        let absent = self.absent(entities);
        let entities: Vec<_> = self.mirrored(entities).map(|mirror| mirror.entity()).collect();
        let entities = entities.as_slice();
        let mut endings = match (work, Check::of(work)) {
            (_, Some(check)) => self.check(entities, check).await,
            (Work::Backfill { restart }, None) => {
                let (goes_on, begins): (Vec<_>, Vec<_>) =
                    entities.iter().copied().partition(|entity| begun_anew.contains(entity));
                let reading = async {
                    let (mut begun, again) = tokio::join!(
                        self.backfill(&begins, *restart),
                        self.backfill(&goes_on, false)
                    );
                    begun.extend(again);
                    begun
                };
                self.attended(reading, true).await
            }
            (_, None) => self.attended(self.sync(entities), false).await,
        };
        endings.extend(absent);
        endings.sort_by_key(|ending| place(ending.entity));
        endings
    }

    /// The mirrors of these entities, all smart processes among them where those are named.
    fn mirrored(&self, entities: &[&'static Entity]) -> impl Iterator<Item = &Arc<Mirror>> {
        let chosen = |entity: &Entity| entities.iter().any(|chosen| chosen.covers(entity));
        self.mirrors.iter().map(|(mirror, _)| mirror).filter(move |one| chosen(one.entity()))
    }

    /// What was asked for and is not there: smart processes that the portal does not list, and
    /// those without tables.
    fn absent(&self, entities: &[&'static Entity]) -> Vec<Ending> {
        let without_tables = &self.dictionaries.without_tables;
        let is_there =
            |entity: &Entity| self.mirrors.iter().any(|(mirror, _)| entity.covers(mirror.entity()));
        let unknown = entities.iter().filter(|entity| {
            let is_process = entity.smart_process().is_some();
            is_process && !is_there(entity) && !without_tables.contains(entity)
        });
        let unknown = unknown
            .map(|entity| Ending::without_result(entity, Verdict::Incomplete, NO_SUCH_PROCESS));
        let is_meant = |process: &Entity| entities.iter().any(|asked| asked.covers(process));
        let unmade = without_tables.iter().filter(|process| is_meant(process));
        let unmade =
            unmade.map(|entity| Ending::without_result(entity, Verdict::Incomplete, NO_TABLES));
        unknown.chain(unmade).collect()
    }

    /// Reads records, and has what people need beside them attended to. Where no record could
    /// be read, nothing else can, and it is not waited for. `afresh` tries once more what could
    /// not be read before.
    async fn attended(
        &self,
        reading: impl Future<Output = Vec<EntityOutcome>>,
        afresh: bool,
    ) -> Vec<Ending> {
        let (over, in_vain) = (CancellationToken::new(), CancellationToken::new());
        let reading = async {
            let outcomes = reading.await;
            let read = outcomes.iter().any(|outcome| outcome.verdict() == Verdict::Complete);
            if read {
                over.cancel();
            } else {
                in_vain.cancel();
            }
            outcomes
        };
        let attending = Box::pin(async {
            tokio::select! {
                () = self.attend(&over, afresh) => {}
                () = in_vain.cancelled() => {}
                () = impatient_after(&over) => tracing::warn!(
                    "the names behind codes were not all read: the portal does not answer, or \
                     its limits leave no room now"
                ),
            }
        });
        let (outcomes, ()) = tokio::join!(reading, attending);
        outcomes.iter().map(Ending::from).collect()
    }

    /// Reads the names behind codes as they are wanted, and brings what people query up to
    /// date, until it is over, and what is wanted then.
    async fn attend(&self, over: &CancellationToken, afresh: bool) {
        self.dictionaries.clone().locate().await;
        // Views of an earlier version may not understand what is read now.
        self.refresh_reports().await;
        self.dictionaries.read_due(afresh).await;
        loop {
            tokio::select! {
                () = self.dictionaries.wanted() => {}
                () = self.reports.rings() => self.refresh_reports().await,
                () = over.cancelled() => break,
            }
            self.dictionaries.read_due(false).await;
        }
        self.dictionaries.read_due(false).await;
    }

    /// Performs one incremental cycle of each entity.
    pub async fn sync(&self, entities: &[&'static Entity]) -> Vec<EntityOutcome> {
        self.read(entities, |mirror| async move {
            if mirror.entity().is_read_whole() {
                return mirror.outlast(|| mirror.read_all(RunKind::Incremental)).await;
            }
            mirror.outlast(|| mirror.catch_up(Lane::People)).await
        })
        .await
    }

    /// Backfills each entity to its end, then performs one incremental cycle, so that
    /// what changed meanwhile is there too.
    pub async fn backfill(
        &self,
        entities: &[&'static Entity],
        restart: bool,
    ) -> Vec<EntityOutcome> {
        self.read(entities, move |mirror| async move {
            if mirror.entity().is_read_whole() {
                return mirror.outlast(|| mirror.read_all(RunKind::Backfill)).await;
            }
            mirror.outlast(|| mirror.prepare(Lane::People, restart)).await?;
            let mut tally = mirror.outlast(|| mirror.backfill(true)).await?.tally;
            tally += mirror.outlast(|| mirror.catch_up(Lane::People)).await?;
            Ok(tally)
        })
        .await
    }

    /// Checks each entity as it stands.
    async fn check(&self, entities: &[&'static Entity], check: Check) -> Vec<Ending> {
        self.each(entities, |mirror| {
            let check = check.clone();
            async move {
                let checking = async |mirror: Arc<Mirror>| {
                    mirror.outlast(|| mirror.check(Lane::People, &check)).await
                };
                let (entity, result) = (mirror.entity(), mirror.unless_paused(checking).await);
                let stopping = || Ending::failed(entity, &SyncError::Stopping);
                Ending::of_check(entity, result).unwrap_or_else(stopping)
            }
        })
        .await
    }

    /// Reads each entity, and records whether that went well.
    async fn read<F, W>(&self, entities: &[&'static Entity], work: F) -> Vec<EntityOutcome>
    where
        F: FnOnce(Arc<Mirror>) -> W + Copy + Send + 'static,
        W: Future<Output = Result<Tally, SyncError>> + Send + 'static,
    {
        let mut outcomes = self
            .each(entities, |mirror| async move {
                let result = mirror.unless_paused(work).await;
                mirror.report_health(result.as_ref().err()).await;
                EntityOutcome { entity: mirror.entity(), result }
            })
            .await;
        outcomes.sort_by_key(|outcome| place(outcome.entity));
        outcomes
    }

    /// Works on several entities at once.
    async fn each<F, W, T>(&self, entities: &[&'static Entity], work: F) -> Vec<T>
    where
        F: Fn(Arc<Mirror>) -> W,
        W: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let tasks: JoinSet<T> =
            self.mirrored(entities).map(|mirror| work(Arc::clone(mirror))).collect();
        tasks.join_all().await
    }

    /// Gives the lease back, with the level of the portal's bucket for the next holder.
    pub async fn close(self) {
        self.stop.cancel();
        self.keeper.abort();
        if let Some(watcher) = self.watcher {
            watcher.abort();
        }
        if self.portal.is_renewing_tokens() {
            // The pair is stored under the lease, which nobody else renews any more.
            let level = self.portal.limiter().level();
            let renewal = self.store.renew(self.generation, LEASE_TTL, level);
            if !matches!(tokio::time::timeout(RELEASE_WITHIN, renewal).await, Ok(Ok(()))) {
                tracing::warn!("the lease could not be renewed for a renewal of tokens");
            }
        }
        tokens::settle(&self.portal).await;
        note_rename(&self.store, &self.portal, self.generation, &mut None).await;
        let level = self.portal.limiter().level();
        let release = self.store.release(self.generation, level);
        match tokio::time::timeout(RELEASE_WITHIN, release).await {
            Ok(Ok(()) | Err(StoreError::LeaseLost)) => {}
            Err(_) => {
                tracing::warn!("the lease could not be given back in time; it runs out by itself");
            }
            Ok(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the lease could not be given back; it runs out by itself"
            ),
        }
    }
}

impl Mirror {
    /// Does something again while the database is away, for as long as a command may.
    pub(super) async fn outlast<T, W>(&self, work: impl Fn() -> W) -> Result<T, SyncError>
    where
        W: Future<Output = Result<T, SyncError>>,
    {
        outlast(self.retry(), self.stop(), work).await
    }

    /// Records whether the entity is being read, and if not, why.
    pub(super) async fn report_health(&self, failed: Option<&SyncError>) {
        if let Some(SyncError::Portal(error)) = failed
            && error.disposition() == Disposition::Missing
            && self.entity().smart_process().is_some()
        {
            self.ask_for_processes();
        }
        let health = match failed.map(|error| (error, error.consequence())) {
            None | Some((SyncError::Unfilled { .. }, _)) => Health::Active,
            // A pause is told by itself, and ends without a cycle.
            Some(
                (SyncError::Paused { .. }, _)
                | (_, Consequence::Leave | Consequence::AwaitDatabase),
            ) => return,
            Some((error, Consequence::Stop)) => Health::Stopped { reason: error.reason() },
            Some((error, Consequence::TryLater)) => Health::Waiting { reason: error.reason() },
        };
        if let Err(error) = self.store().set_health(self.generation(), self.entity(), &health).await
        {
            tracing::warn!(
                entity = self.entity().name,
                error = &error as &dyn std::error::Error,
                "the state of an entity could not be recorded"
            );
        }
    }

    /// Records when a stopped entity is tried again.
    pub(super) async fn report_next_attempt(&self, pause: Duration) {
        let setting = self.store().set_next_attempt(self.generation(), self.entity(), pause);
        if let Err(error) = setting.await {
            tracing::warn!(
                entity = self.entity().name,
                error = &error as &dyn std::error::Error,
                "when an entity is tried again could not be recorded"
            );
        }
    }
}

impl Mirror {
    /// Reads what is read as a whole, for whoever asked.
    async fn read_all(&self, kind: RunKind) -> Result<Tally, SyncError> {
        Ok(self.read_whole(Lane::People, kind).await?.tally)
    }
}

/// Ends when patience does with what belongs to records that have been read.
async fn impatient_after(over: &CancellationToken) {
    over.cancelled().await;
    tokio::time::sleep(PATIENCE).await;
}

/// Where an entity stands among all of them.
fn place(entity: &'static Entity) -> (Option<usize>, Option<u32>) {
    (Entity::families().position(|one| one == entity.family()), entity.smart_process())
}

/// A new holder must not send what the portal would refuse because of the last one.
fn restore_bucket(portal: &Portal, lease: &Lease) {
    if lease.acquired_at - lease.bucket_at > BUCKET_MEMORY {
        return;
    }
    // A holder that crashed may have filled the bucket since it last told its level.
    portal.limiter().restore(if lease.clean { lease.bucket_level } else { f64::INFINITY });
}
