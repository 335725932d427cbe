//! The kinds of work that things go wrong in, and what a right mirror is.

use b24mirror::{
    simulator::{self, Action},
    store::Verdict,
    sync::{self, Ending, Level, Session},
};
use sqlx::AssertSqlSafe;

use super::stage::{CONTACTS_AT_FIRST, Stage};

pub(super) const CONTACT: simulator::Entity = simulator::Entity::Contacts;

/// What is going on while things go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    Backfill,
    Incremental,
    Sweep,
    Verify,
}

impl Work {
    pub(super) const ALL: [Self; 4] =
        [Self::Backfill, Self::Incremental, Self::Sweep, Self::Verify];

    /// What keeps a mirror fresh; the others hold it against the portal.
    pub(super) const READING: [Self; 2] = [Self::Backfill, Self::Incremental];

    /// Whether it leaves the health of its entity to the cycles.
    pub(super) const fn is_a_check(self) -> bool {
        matches!(self, Self::Sweep | Self::Verify)
    }

    /// Whether a stage's mirror has to be equal to its portal when the work begins.
    pub(super) const fn needs_an_equal_mirror(self) -> bool {
        !matches!(self, Self::Backfill)
    }

    /// Makes sure that there is something to do.
    pub(super) async fn prepare(self, stage: &Stage) {
        match self {
            Self::Backfill => {
                let (entity, ids) = (CONTACT, Vec::new());
                let live = stage.portal.truth(Stage::entities()[0]).len() as u64;
                let count = live.saturating_sub(CONTACTS_AT_FIRST);
                if count > 0 {
                    stage.portal.happens(Action::Delete { entity, ids, count });
                }
                stage.empty_the_mirror().await;
            }
            Self::Incremental => {
                let change =
                    |ids, count| Action::Change { entity: CONTACT, ids, count, visible_after: 0.0 };
                // More than two pages among the oldest, so that the cycle takes several answers.
                let oldest = stage.portal.truth(Stage::entities()[0]);
                stage.portal.happens(change(oldest[..110].iter().map(|r| r.id).collect(), 0));
                stage.portal.happens(change(Vec::new(), 10));
                stage.portal.happens(Action::Create {
                    entity: CONTACT,
                    count: 2,
                    visible_after: 0.0,
                });
            }
            Self::Sweep => {
                let (entity, ids) = (CONTACT, Vec::new());
                stage.portal.happens(Action::Create { entity, count: 3, visible_after: 0.0 });
                stage.portal.happens(Action::Delete { entity, ids, count: 3 });
            }
            Self::Verify => {
                let truth = stage.portal.truth(Stage::entities()[0]);
                let ids = |range: std::ops::Range<usize>| {
                    let ids: Vec<String> = truth[range].iter().map(|r| r.id.to_string()).collect();
                    ids.join(", ")
                };
                let (wrong, missing) = (ids(40..43), ids(120..123));
                for damage in [
                    format!("update bitrix24.contacts set name = 'wrong' where id in ({wrong})"),
                    format!("delete from bitrix24.contacts where id in ({missing})"),
                ] {
                    let pool = stage.database.pool();
                    sqlx::query(AssertSqlSafe(damage)).execute(pool).await.unwrap();
                }
            }
        }
    }

    pub(super) async fn perform(self, session: &Session) -> Ending {
        let work = match self {
            Self::Backfill => sync::Work::Backfill { restart: false },
            Self::Incremental => sync::Work::Sync,
            Self::Sweep => sync::Work::Sweep { accept: None },
            Self::Verify => sync::Work::Verify { level: Level::Full, repair: true },
        };
        session.perform(&work, &Stage::entities(), &[]).await.pop().unwrap()
    }
}

/// Performs work in a session of its own, as after a restart.
pub(super) async fn run(work: Work, stage: &Stage, hasty: bool) -> Ending {
    let session = stage.session(hasty).await;
    let outcome = work.perform(&session).await;
    session.close().await;
    outcome
}

/// Makes the mirror equal where it is not known to be.
pub(super) async fn fill(stage: &mut Stage) -> Result<(), String> {
    if !stage.is_equal {
        Work::Backfill.prepare(stage).await;
        let filled = run(Work::Backfill, stage, false).await;
        if filled.verdict != Verdict::Complete {
            return Err(filled.line);
        }
        whole(stage).await?;
        stage.is_equal = true;
    }
    Ok(())
}

/// Fails unless everything is there and nothing else, and nothing was set aside or given up
/// for dead that lives.
pub(super) async fn whole(stage: &Stage) -> Result<(), String> {
    let (differences, set_aside, mut tombstones) =
        (stage.differences().await, stage.set_aside().await, stage.tombstones().await);
    let truth = stage.portal.truth(Stage::entities()[0]);
    tombstones.retain(|id| truth.iter().any(|record| record.id == *id));
    if differences.is_empty() && set_aside.is_empty() && tombstones.is_empty() {
        return Ok(());
    }
    Err(format!("short: {differences}set aside {set_aside:?}, tombstones {tombstones:?}"))
}
