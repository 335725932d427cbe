//! Whether an entity is being read, and if not, why.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Generation, Store, StoreError};
use crate::entity::Entity;

/// Whether an entity is being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Active,
    /// Not now; it goes on by itself.
    Waiting {
        /// What for; for people.
        reason: String,
    },
    /// Not until somebody helps.
    Stopped {
        /// Why; for people.
        reason: String,
    },
}

/// An entity's health and since when it is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSince {
    /// The health.
    pub health: Health,
    /// By the database's clock.
    pub since: DateTime<Utc>,
    /// When it is tried again while it is stopped, by the database's clock; unknown where
    /// nobody has said so.
    pub tried_again_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Records an entity's health; writes only when it differs.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn set_health(
        &self,
        generation: Generation,
        entity: &'static Entity,
        health: &Health,
    ) -> Result<(), StoreError> {
        if self.health(entity).await?.is_some_and(|stored| stored.health == *health) {
            return Ok(());
        }
        let (state, reason) = match health {
            Health::Active => ("active", None),
            Health::Waiting { reason } => ("waiting", Some(reason)),
            Health::Stopped { reason } => ("stopped", Some(reason)),
        };
        let mut transaction = self.begin_leased(generation).await?;
        sqlx::query(
            "insert into sync_health (entity, state, reason) values ($1, $2, $3) \
             on conflict (entity) do update \
             set state = excluded.state, reason = excluded.reason, since = excluded.since, \
                tried_again_at = null",
        )
        .bind(entity.name)
        .bind(state)
        .bind(reason)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Records that a stopped entity is tried again after a pause.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn set_next_attempt(
        &self,
        generation: Generation,
        entity: &'static Entity,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        sqlx::query(
            "update sync_health set tried_again_at = clock_timestamp() + make_interval(secs => $2) \
             where entity = $1 and state = 'stopped'",
        )
        .bind(entity.name)
        .bind(pause.as_secs_f64())
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Reads an entity's health; `None` before the first run.
    pub async fn health(&self, entity: &'static Entity) -> Result<Option<HealthSince>, StoreError> {
        type Row = (String, Option<String>, DateTime<Utc>, Option<DateTime<Utc>>);
        let row: Option<Row> = sqlx::query_as(
            "select state, reason, since, tried_again_at from sync_health where entity = $1",
        )
        .bind(entity.name)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|(state, reason, since, tried_again_at)| {
            let health = match (state.as_str(), reason) {
                ("active", None) => Health::Active,
                ("waiting", Some(reason)) => Health::Waiting { reason },
                ("stopped", Some(reason)) => Health::Stopped { reason },
                _ => {
                    return Err(StoreError::Inconsistent { table: "sync_health", column: "state" });
                }
            };
            Ok(HealthSince { health, since, tried_again_at })
        })
        .transpose()
    }
}
