//! What the settings switch on, and how changes are found, for those who see the database alone.

use std::time::Duration;

use super::{Generation, Store, StoreError};
use crate::entity::Entity;

impl Store {
    /// Notes which entities are mirrored, and that all others are not; writes only what differs.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn note_switches(
        &self,
        generation: Generation,
        enabled: &[&'static Entity],
    ) -> Result<(), StoreError> {
        let all = || Entity::families().map(|entity| entity.name).collect::<Vec<_>>();
        let is_on: Vec<bool> = Entity::families()
            .map(|family| enabled.iter().any(|entity| entity.family() == family))
            .collect();
        let different: bool = sqlx::query_scalar(
            "select exists (select from unnest($1::text[], $2::boolean[]) as s (entity, enabled) \
                where (s.entity, s.enabled) not in (select entity, enabled from sync_switches))",
        )
        .bind(all())
        .bind(&is_on)
        .fetch_one(&self.pool)
        .await?;
        if !different {
            return Ok(());
        }
        let mut transaction = self.begin_leased(generation).await?;
        sqlx::query(
            "insert into sync_switches (entity, enabled) \
             select * from unnest($1::text[], $2::boolean[]) \
             on conflict (entity) do update set enabled = excluded.enabled \
             where sync_switches.enabled <> excluded.enabled",
        )
        .bind(all())
        .bind(&is_on)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Notes how often all of an entity is read for its changes, if they are found by that;
    /// writes only when it differs.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn note_full_passes(
        &self,
        generation: Generation,
        entity: &'static Entity,
        every: Option<Duration>,
    ) -> Result<(), StoreError> {
        if self.full_passes(entity).await? == every {
            return Ok(());
        }
        let seconds = every.map(|every| i64::try_from(every.as_secs()).unwrap_or(i64::MAX));
        let mut transaction = self.begin_leased(generation).await?;
        sqlx::query("update sync_checkpoints set full_pass_seconds = $2 where entity = $1")
            .bind(entity.name)
            .bind(seconds)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// How often all of an entity is read for its changes; `None` where its source can be asked
    /// for them, or nobody has found out yet.
    pub async fn full_passes(
        &self,
        entity: &'static Entity,
    ) -> Result<Option<Duration>, StoreError> {
        let seconds: Option<Option<i64>> =
            sqlx::query_scalar("select full_pass_seconds from sync_checkpoints where entity = $1")
                .bind(entity.name)
                .fetch_optional(&self.pool)
                .await?;
        let seconds = seconds.flatten().and_then(|seconds| u64::try_from(seconds).ok());
        Ok(seconds.map(Duration::from_secs))
    }
}
