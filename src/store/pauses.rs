//! Entities that people have paused.

use chrono::{DateTime, Utc};

use super::{Store, StoreError};
use crate::entity::Entity;

/// An entity that is neither read nor written until somebody resumes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Which entity.
    pub entity: &'static Entity,
    /// Since when, by the database's clock.
    pub since: DateTime<Utc>,
    /// Who paused it: account and host.
    pub by: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    entity: String,
    paused_at: DateTime<Utc>,
    paused_by: String,
}

impl Row {
    /// Nothing for an entity that only another version knows.
    fn read(self) -> Option<Pause> {
        let entity = Entity::by_name(&self.entity)?;
        Some(Pause { entity, since: self.paused_at, by: self.paused_by })
    }
}

impl Store {
    /// Pauses an entity; needs no lease. Returns the pause that it is in when somebody has
    /// paused it before; that one stays as it is.
    pub async fn pause(
        &self,
        entity: &'static Entity,
        by: &str,
    ) -> Result<Option<Pause>, StoreError> {
        let inserted = sqlx::query(
            "insert into sync_pauses (entity, paused_by) values ($1, $2) \
             on conflict (entity) do nothing",
        )
        .bind(entity.name)
        .bind(by)
        .execute(&self.pool)
        .await?;
        if inserted.rows_affected() > 0 {
            return Ok(None);
        }
        Ok(self.pauses().await?.into_iter().find(|pause| pause.entity == entity))
    }

    /// Ends a pause, which is returned; `None` when there was none. Needs no lease.
    pub async fn resume(&self, entity: &'static Entity) -> Result<Option<Pause>, StoreError> {
        let ended: Option<Row> = sqlx::query_as(
            "delete from sync_pauses where entity = $1 returning entity, paused_at, paused_by",
        )
        .bind(entity.name)
        .fetch_optional(&self.pool)
        .await?;
        Ok(ended.and_then(Row::read))
    }

    /// Reads every pause.
    pub async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as("select entity, paused_at, paused_by from sync_pauses")
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().filter_map(Row::read).collect())
    }
}
