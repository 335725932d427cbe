//! Rows that were found wrong, and what may be done to them against the ordinary rules.
//!
//! An ordinary answer leaves a row alone whose hash says that it is equal, and one that was
//! written by a later answer. A row that somebody else has damaged may say either. So whoever
//! repairs names the version that was found wrong, and the rules hold for every other.

use chrono::{DateTime, Utc};

use super::{Generation, Store, StoreError, history, quarantine, statements::Statements};
use crate::entity::{Entity, RecordId};

/// A row as it was found wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The record.
    pub id: RecordId,
    /// The row's `synced_at` and `deleted_at`; `None` where there was no row.
    pub version: Option<(DateTime<Utc>, Option<DateTime<Utc>>)>,
}

/// Rows as they were seen, as parallel arrays.
#[derive(Default)]
pub(super) struct Versions {
    pub(super) ids: Vec<i64>,
    pub(super) synced: Vec<DateTime<Utc>>,
    pub(super) deleted: Vec<Option<DateTime<Utc>>>,
}

impl Versions {
    /// Without those that were missing: there is no row to distrust.
    pub(super) fn of(seen: &[Seen]) -> Self {
        let mut versions = Self::default();
        for Seen { id, version } in seen {
            let Some((synced, deleted)) = version else { continue };
            versions.ids.push(id.get());
            versions.synced.push(*synced);
            versions.deleted.push(*deleted);
        }
        versions
    }
}

impl Store {
    /// Makes tombstones of rows that are still as they were seen, and returns how many.
    ///
    /// `asked_at` is [`Self::clock`] before the question was sent whose answer proved that
    /// the portal has the records no more.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn delete_seen(
        &self,
        generation: Generation,
        entity: &'static Entity,
        seen: &[Seen],
        asked_at: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let Versions { ids, synced, deleted } = Versions::of(seen);
        if ids.is_empty() {
            return Ok(0);
        }
        let mut transaction = self.begin_leased(generation).await?;
        let buried: Vec<(i64, DateTime<Utc>)> =
            sqlx::query_as(Statements::of(entity).verify().bury())
                .bind(ids)
                .bind(synced)
                .bind(deleted)
                .bind(asked_at)
                .fetch_all(&mut *transaction)
                .await?;
        quarantine::resolve_gone(&mut transaction, entity, &buried).await?;
        if self.history.is_kept(entity) {
            history::deleted(&mut transaction, entity, &buried).await?;
        }
        transaction.commit().await?;
        Ok(buried.len() as u64)
    }
}
