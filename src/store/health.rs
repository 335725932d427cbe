//! Whether an entity is being read, and if not, why.

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
             set state = excluded.state, reason = excluded.reason, since = excluded.since",
        )
        .bind(entity.name)
        .bind(state)
        .bind(reason)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Reads an entity's health; `None` before the first run.
    pub async fn health(&self, entity: &'static Entity) -> Result<Option<HealthSince>, StoreError> {
        let row: Option<(String, Option<String>, DateTime<Utc>)> =
            sqlx::query_as("select state, reason, since from sync_health where entity = $1")
                .bind(entity.name)
                .fetch_optional(&self.pool)
                .await?;
        row.map(|(state, reason, since)| {
            let health = match (state.as_str(), reason) {
                ("active", None) => Health::Active,
                ("waiting", Some(reason)) => Health::Waiting { reason },
                ("stopped", Some(reason)) => Health::Stopped { reason },
                _ => {
                    return Err(StoreError::Inconsistent { table: "sync_health", column: "state" });
                }
            };
            Ok(HealthSince { health, since })
        })
        .transpose()
    }
}
