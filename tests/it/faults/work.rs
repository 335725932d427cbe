//! The kinds of work that things go wrong in, and what a right mirror is.

use b24mirror::{
    simulator::{self, Action},
    sync::{EntityOutcome, Session},
};

use super::stage::{CONTACTS_AT_FIRST, Stage};

pub(super) const CONTACT: simulator::Entity = simulator::Entity::Contacts;

/// What is going on while things go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    Backfill,
    Incremental,
}

impl Work {
    pub(super) const ALL: [Self; 2] = [Self::Backfill, Self::Incremental];

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
        }
    }

    pub(super) async fn perform(self, session: &Session) -> EntityOutcome {
        let entities = Stage::entities();
        let mut outcomes = match self {
            Self::Backfill => session.backfill(&entities, false).await,
            Self::Incremental => session.sync(&entities).await,
        };
        outcomes.pop().unwrap()
    }
}

/// Performs work in a session of its own, as after a restart.
pub(super) async fn run(work: Work, stage: &Stage, hasty: bool) -> EntityOutcome {
    let session = stage.session(hasty).await;
    let outcome = work.perform(&session).await;
    session.close().await;
    outcome
}

/// Makes the mirror equal where it is not known to be.
pub(super) async fn fill(stage: &mut Stage) -> Result<(), String> {
    if !stage.is_equal {
        Work::Backfill.prepare(stage).await;
        run(Work::Backfill, stage, false).await.result.map_err(|error| error.reason())?;
        whole(stage).await?;
        stage.is_equal = true;
    }
    Ok(())
}

/// Fails unless everything is there, and nothing was set aside or given up for dead.
pub(super) async fn whole(stage: &Stage) -> Result<(), String> {
    let (differences, set_aside, tombstones) =
        (stage.differences().await, stage.set_aside().await, stage.tombstones().await);
    if differences.is_empty() && set_aside.is_empty() && tombstones.is_empty() {
        return Ok(());
    }
    Err(format!("short: {differences}set aside {set_aside:?}, tombstones {tombstones:?}"))
}
