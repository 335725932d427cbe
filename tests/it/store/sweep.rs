//! Sweeps as the store keeps them: tombstones only for what was confirmed, and not for what
//! a later question has brought.

use std::collections::BTreeMap;

use b24mirror::{
    entity::CONTACTS,
    store::{
        Batch, Confirmed, Progress, Run, RunKind, StoreError, SweepProgress, SweepStep, Written,
    },
};
use chrono::{DateTime, TimeDelta, Utc};

use super::{Mirror, contact, id, minute, mirror};

const RESUMABLE: TimeDelta = TimeDelta::hours(1);

impl Mirror {
    async fn open(&self) -> SweepProgress {
        self.store.open_sweep(self.generation, &CONTACTS, RESUMABLE).await.unwrap()
    }

    async fn run(&self) -> Run {
        self.store.begin_run(self.generation, &CONTACTS, RunKind::Sweep).await.unwrap()
    }

    /// Stores a step that misses some records.
    async fn misses(
        &self,
        progress: &SweepProgress,
        missing: &[i64],
    ) -> Result<Written, StoreError> {
        let missing: Vec<_> = missing.iter().map(|number| id(*number)).collect();
        let step = Progress::Sweep(SweepStep { progress, missing: &missing });
        self.store.write(Batch { progress: step, ..self.batch(minute(2), Vec::new()) }).await
    }

    async fn confirm(&self, asked_at: DateTime<Utc>, gone: &[i64], there: &[i64]) {
        let ids = |numbers: &[i64]| numbers.iter().map(|number| id(*number)).collect::<Vec<_>>();
        let confirmed = Confirmed { asked_at, gone: &ids(gone), there: &ids(there) };
        self.store.settle_candidates(self.generation, &CONTACTS, confirmed).await.unwrap();
    }

    /// When each contact was deleted.
    async fn deleted(&self) -> BTreeMap<i64, Option<DateTime<Utc>>> {
        sqlx::query_as("select id, deleted_at from bitrix24.contacts")
            .fetch_all(self.database.pool())
            .await
            .unwrap()
            .into_iter()
            .collect()
    }
}

#[tokio::test]
async fn a_tombstone_is_set_for_what_is_confirmed_and_not_for_what_came_later() {
    let mirror = mirror().await;
    let contacts = (1..=4).map(|number| contact(number, "Ann", &[(number, "1")])).collect();
    mirror.write(minute(1), contacts).await;
    let progress = SweepProgress { cursor: id(9), listed: true, ..mirror.open().await };
    mirror.misses(&progress, &[1, 2, 3, 4]).await.unwrap();
    // The third is there after all, the fourth is in doubt, the second comes back.
    mirror.confirm(minute(5), &[1, 2], &[3]).await;
    assert_eq!(mirror.store.confirmed_gone(&CONTACTS).await.unwrap(), 2);
    mirror.write(minute(6), vec![contact(2, "Bob", &[])]).await;
    assert_eq!(mirror.store.confirmed_gone(&CONTACTS).await.unwrap(), 1);
    assert_eq!(mirror.store.unconfirmed(&CONTACTS, 10).await.unwrap(), [id(4)]);

    let run = mirror.run().await;
    let deleting = mirror.store.delete_confirmed(mirror.generation, &CONTACTS, 10, &run);
    assert_eq!(deleting.await.unwrap(), (2, 1));
    let expected = [(1, Some(minute(5))), (2, None), (3, None), (4, None)];
    assert_eq!(mirror.deleted().await, expected.into());
    assert_eq!(mirror.store.runs(&CONTACTS, 1).await.unwrap()[0].counts.deleted, 1);
    assert_eq!(mirror.number("select count(*) from contact_phones").await, 3);

    // An older question does not bring it back, a newer one does, same content or not.
    let again = || vec![contact(1, "Ann", &[(1, "1")])];
    assert_eq!(mirror.write(minute(4), again()).await.left_alone, [id(1)]);
    assert_eq!(mirror.write(minute(7), again()).await.updated, 1);
    assert_eq!(mirror.deleted().await[&1], None);
}

#[tokio::test]
async fn a_sweep_goes_on_where_it_was_unless_it_is_too_old_and_confirms_anew() {
    let mirror = mirror().await;
    mirror.write(minute(1), vec![contact(1, "Ann", &[]), contact(2, "Bob", &[])]).await;
    let begun = mirror.open().await;
    assert_eq!((begun.cursor.get(), begun.listed, begun.rows), (0, false, 0));
    let half = SweepProgress { cursor: id(7), rows: 5, asked_at: Some(minute(3)), ..begun.clone() };
    mirror.misses(&half, &[1, 2]).await.unwrap();
    mirror.confirm(minute(4), &[1], &[]).await;
    let resumed = mirror.open().await;
    assert_eq!(SweepProgress { asked_at: Some(minute(4)), ..half }, resumed);
    assert_eq!(mirror.store.unconfirmed(&CONTACTS, 10).await.unwrap(), [id(1), id(2)]);

    let anew = mirror.store.open_sweep(mirror.generation, &CONTACTS, TimeDelta::zero()).await;
    assert_eq!(anew.unwrap().cursor.get(), 0);
    assert!(mirror.store.unconfirmed(&CONTACTS, 10).await.unwrap().is_empty());
    // What the first one still has to say comes too late.
    let late = mirror.misses(&resumed, &[1]).await;
    assert!(matches!(late, Err(StoreError::SweepGone { .. })), "{late:?}");
    assert!(mirror.store.unconfirmed(&CONTACTS, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_was_refused_is_kept_until_it_is_accepted_or_a_sweep_is_complete() {
    let mirror = mirror().await;
    mirror.write(minute(1), (1..=3).map(|number| contact(number, "Ann", &[])).collect()).await;
    let (store, generation) = (&mirror.store, mirror.generation);
    let progress = SweepProgress { listed: true, ..mirror.open().await };
    mirror.misses(&progress, &[1, 2, 3]).await.unwrap();
    let run = mirror.run().await;
    store.refuse_sweep(generation, &CONTACTS, &run, "too many").await.unwrap();
    let refused = store.sweep_standing(&CONTACTS).await.unwrap();
    assert_eq!(refused.under_way, None);
    let refusal = refused.refused.unwrap();
    assert_eq!((refusal.run, refusal.records, refusal.why.as_str()), (run.id(), 3, "too many"));
    assert_eq!(store.refused_entity(run.id()).await.unwrap().as_deref(), Some("contacts"));

    let accepting = mirror.run().await;
    let confirmed = Confirmed { asked_at: minute(8), gone: &[id(1)], there: &[id(2)] };
    let deleting = store.delete_refused(generation, &CONTACTS, run.id(), confirmed, &accepting);
    assert_eq!(deleting.await.unwrap(), 1);
    // One is left, so the decision is not carried out yet.
    store.settle_refusal(generation, &CONTACTS, run.id()).await.unwrap();
    let standing = store.sweep_standing(&CONTACTS).await.unwrap();
    assert_eq!(standing.refused.unwrap().records, 1);
    assert_eq!(standing.swept_at, None);
    assert_eq!(store.refused_records(&CONTACTS, run.id(), 10).await.unwrap(), [id(3)]);

    mirror.open().await;
    store.complete_sweep(generation, &CONTACTS).await.unwrap();
    let standing = store.sweep_standing(&CONTACTS).await.unwrap();
    assert!(standing.refused.is_none() && standing.swept_at.is_some(), "{standing:?}");
    assert!(store.refused_records(&CONTACTS, run.id(), 10).await.unwrap().is_empty());
    assert!(!standing.wanted);
    store.want_sweep(generation, &CONTACTS).await.unwrap();
    assert!(store.sweep_standing(&CONTACTS).await.unwrap().wanted);
}
