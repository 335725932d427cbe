//! One database in which histories happen one after the other, and the process that is
//! started, killed and started again.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc, time::Duration};

use b24mirror::entity::Dialect;
use sqlx::AssertSqlSafe;
use tokio::runtime::{Builder, Runtime};

use super::{
    Subject,
    history::{Disturbance, History, Step},
    process::{PROCESS, Process, Work, connect},
    relay::{Relay, Statements},
    scene::Scene,
};
use crate::support::{
    Database, database,
    equal::{
        HIDDEN_BY_GATEWAY, differences, differences_but_for, differences_unless_hidden,
        item_differences,
    },
    products, recipients, steps,
    tables::value,
};

/// From here on the database's clock counts the microseconds that have passed, and one
/// more each time that it is asked.
const CLOCK: &str = "
    create schema passage;
    create sequence passage.clock minvalue 0;
    alter function pg_catalog.clock_timestamp() rename to clock_timestamp_of_the_machine;
    create function pg_catalog.clock_timestamp() returns timestamptz
        language sql volatile parallel safe
        as $$ select timestamptz '2030-01-01Z' + nextval('passage.clock') * interval '1 microsecond' $$;
    alter function pg_catalog.now() rename to now_of_the_machine;
    create function pg_catalog.now() returns timestamptz
        language sql stable parallel safe
        as $$ select timestamptz '2030-01-01Z' + last_value * interval '1 microsecond' from passage.clock $$;
";

/// Where histories happen.
pub(super) struct World {
    subject: Subject,
    database: Database,
    relay: Relay,
    /// Makes every table what the migrations have left.
    reset: String,
    harness: Runtime,
}

/// A history that did not break the law.
pub(super) struct Lived {
    /// The statements of each piece of work, those of the end included.
    pub(super) statements: Vec<Statements>,
}

impl World {
    /// Creates a database; to be called on the test's own thread.
    pub(super) fn new(subject: Subject) -> Self {
        let harness = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (database, relay, reset) = harness.block_on(async {
            let database = database().await;
            let pool = database.pool();
            sqlx::raw_sql(CLOCK).execute(pool).await.unwrap();
            let store = connect(database.url()).await.unwrap();
            store.migrate().await.unwrap();
            if let Subject::Only(entity) = subject {
                store.make_smart_tables(None, entity).await.unwrap();
            }
            store.close().await;
            let tables: Vec<String> = sqlx::query_scalar(
                "select relname::text from pg_class where relkind = 'r' \
                 and relnamespace = 'bitrix24'::regnamespace and relname not like '\\_sqlx%'",
            )
            .fetch_all(pool)
            .await
            .unwrap();
            let mut reset = "set session_replication_role = replica;".to_owned();
            for table in tables {
                let _ = write!(reset, "delete from bitrix24.{table};");
                let filled = format!("select exists (select from bitrix24.{table})");
                if value::<bool>(pool, &filled).await {
                    let keep = format!("create table passage.{table} as table bitrix24.{table}");
                    sqlx::query(AssertSqlSafe(keep)).execute(pool).await.unwrap();
                    let _ = write!(reset, "insert into bitrix24.{table} table passage.{table};");
                }
            }
            reset.push_str("select setval('passage.clock', 0);");
            reset.push_str("set session_replication_role = origin;");
            let relay = Relay::open(&database.url()).await;
            (database, relay, reset)
        });
        Self { subject, database, relay, reset, harness }
    }

    /// Lets a history happen.
    ///
    /// # Errors
    /// What is wrong at its end.
    pub(super) fn live(&self, history: &History) -> Result<Lived, String> {
        self.harness
            .block_on(
                sqlx::raw_sql(AssertSqlSafe(self.reset.clone())).execute(self.database.pool()),
            )
            .unwrap();
        let scene = Arc::new(Scene::new(&history.setup, self.subject, self.database.pool()));
        let mut process = Process::new(&self.relay, &scene, history.setup.chains);
        for step in &history.steps {
            self.step(&mut process, step)?;
        }
        self.settle(&mut process)?;
        Ok(Lived { statements: process.statements })
    }

    fn step(&self, process: &mut Process, step: &Step) -> Result<(), String> {
        match step {
            Step::Happen(event) => process.scene().happen(event),
            Step::Pass(millis) => self.pass(process.scene(), *millis),
            Step::Cycle(meanwhile) => self.work(process, Work::Cycle, meanwhile).map(drop)?,
            Step::Backfill { restart, meanwhile } => {
                self.work(process, Work::Backfill { restart: *restart }, meanwhile).map(drop)?;
            }
            Step::BackfillBeside(meanwhile) => {
                self.work(process, Work::BackfillBeside, meanwhile).map(drop)?;
            }
            Step::Sweep(meanwhile) => self.work(process, Work::Sweep, meanwhile).map(drop)?,
            Step::Accept(meanwhile) => {
                if let Some(run) = self.refused() {
                    self.work(process, Work::Accept { run }, meanwhile).map(drop)?;
                }
            }
            Step::Age => {
                for _ in 0..2 {
                    self.pass_overlap(process.scene());
                    self.work(process, Work::Cycle, &[])?;
                }
            }
            Step::Restart => process.end(),
        }
        Ok(())
    }

    fn pass(&self, scene: &Scene, millis: u32) {
        self.harness.block_on(scene.pass(millis));
    }

    /// Lets more than an overlap pass, so that the next cycle is a deep one.
    fn pass_overlap(&self, scene: &Scene) {
        let overlap = scene.overlap() + Duration::from_secs(2);
        self.pass(scene, u32::try_from(overlap.as_millis()).unwrap());
    }

    /// Works; says whether everything that there was to read has been read.
    fn work(
        &self,
        process: &mut Process,
        work: Work,
        meanwhile: &[Disturbance],
    ) -> Result<bool, String> {
        if !process.is_open() {
            self.harness.block_on(self.bury(process.is_dead()));
        }
        let ended = process.work(work, meanwhile);
        if ended == Ok(true) && work.ends_with_a_cycle() {
            process.scene().looked();
        }
        ended
    }

    /// Lets the lease of a session that is over run out, if it was not given back. If the
    /// process is over too, waits until the server has noticed that.
    async fn bury(&self, dead: bool) {
        let pool = self.database.pool();
        let connected = format!(
            "select exists (select from pg_stat_activity \
             where datname = current_database() and application_name = '{PROCESS}')"
        );
        while dead && value::<bool>(pool, &connected).await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let expire = "update bitrix24.sync_lease set expires_at = clock_timestamp() \
                      where holder is not null";
        sqlx::query(expire).execute(pool).await.unwrap();
    }

    /// The law: what is visible has arrived after two cycles, and what became visible late
    /// has arrived with the first cycle after an overlap.
    fn settle(&self, process: &mut Process) -> Result<(), String> {
        for _ in 0..2 {
            if !self.work(process, Work::Cycle, &[])?
                && !self.work(process, Work::Backfill { restart: false }, &[])?
            {
                return Err("an undisturbed backfill is not complete".to_owned());
            }
        }
        if !process.scene().may_have_missed() {
            self.compare("after two cycles", process.scene(), &process.scene().late())?;
        }
        self.pass_overlap(process.scene());
        self.work(process, Work::Cycle, &[])?;
        if !process.scene().may_have_missed() {
            self.compare("a cycle after the overlap", process.scene(), &BTreeSet::new())?;
        }
        self.sweep(process)?;
        self.compare_all(process.scene())?;
        process.end();
        Ok(())
    }

    /// One sweep that began after the last change: one that is under way is finished first.
    fn sweep(&self, process: &mut Process) -> Result<(), String> {
        let under_way = "select exists (select from bitrix24.sweeps where started_at is not null)";
        let resumed = self.harness.block_on(value::<bool>(self.database.pool(), under_way));
        for _ in 0..=usize::from(resumed) {
            if !self.work(process, Work::Sweep, &[])? {
                let run = self.refused().ok_or("a sweep was stopped and has refused nothing")?;
                if !self.work(process, Work::Accept { run }, &[])? {
                    return Err(format!("what run {run} refused could not be accepted"));
                }
            }
        }
        Ok(())
    }

    /// The run that has refused to delete records.
    fn refused(&self) -> Option<i64> {
        let refused = "select max(refused_run) from bitrix24.sweeps";
        self.harness.block_on(value(self.database.pool(), refused))
    }

    /// Live are those that the portal has, all others are tombstones.
    fn compare_all(&self, scene: &Scene) -> Result<(), String> {
        let pool = self.database.pool();
        let found = match scene.dialect {
            Dialect::Classic if scene.is_book() => {
                self.harness.block_on(recipients::differences(&scene.portal, pool))
            }
            Dialect::Classic if scene.walks() => {
                let compared =
                    steps::differences(&scene.portal, pool, scene.entity, scene.family());
                self.harness.block_on(compared)
            }
            Dialect::Classic => {
                self.harness.block_on(differences(&scene.portal, pool, scene.entity))
            }
            Dialect::Item => {
                self.harness.block_on(item_differences(&scene.portal, pool, scene.entity))
            }
            Dialect::Vibecode => self.harness.block_on(differences_unless_hidden(
                &scene.portal,
                pool,
                scene.entity,
                &HIDDEN_BY_GATEWAY,
            )),
        };
        let found = found + &self.products(scene, &BTreeSet::new());
        // A clock that was set back can give two versions the same time, and then nothing
        // but their content tells them apart.
        let telling = ["date_modify: ", ": missing", ": in the mirror, not"];
        if found.is_empty() || scene.is_wild() && !telling.iter().any(|line| found.contains(line)) {
            return Ok(());
        }
        Err(format!("after a sweep:\n{found}"))
    }

    /// How the product rows differ, where they are mirrored.
    fn products(&self, scene: &Scene, left_out: &BTreeSet<i64>) -> String {
        if !scene.sells {
            return String::new();
        }
        let (portal, pool) = (&scene.portal, self.database.pool());
        self.harness.block_on(products::differences(left_out, portal, pool, scene.entity))
    }

    fn compare(&self, when: &str, scene: &Scene, left_out: &BTreeSet<i64>) -> Result<(), String> {
        let pool = self.database.pool();
        let (portal, entity, dialect) = (&scene.portal, scene.entity, scene.dialect);
        let compared = async {
            if scene.is_book() {
                recipients::differences_but_for_gone(portal, pool).await
            } else if scene.walks() {
                steps::differences_but_for(left_out, portal, pool, entity, scene.family()).await
            } else {
                differences_but_for(left_out, portal, pool, entity, dialect).await
            }
        };
        match self.harness.block_on(compared) + &self.products(scene, left_out) {
            found if found.is_empty() => Ok(()),
            found => Err(format!("{when}:\n{found}")),
        }
    }
}
