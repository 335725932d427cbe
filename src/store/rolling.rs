//! How far the rolling comparison of content has come.

use chrono::{DateTime, Utc};

use super::{
    Generation, Store, StoreError,
    checkpoint::read_id,
    words::{read_count, stored_count},
};
use crate::entity::{Entity, RecordId};

/// A round of the rolling check under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollingRound {
    /// When it began, by the database's clock.
    pub started_at: DateTime<Utc>,
    /// Everything up to this ID has been compared.
    pub cursor: RecordId,
    /// Records compared so far.
    pub compared: u64,
    /// How many of them differed.
    pub different: u64,
}

impl Store {
    /// The round under way, unless there has never been one, and the database's clock.
    pub async fn rolling_round(
        &self,
        entity: &'static Entity,
    ) -> Result<(Option<RollingRound>, DateTime<Utc>), StoreError> {
        type Row = (DateTime<Utc>, Option<DateTime<Utc>>, Option<i64>, Option<i64>, Option<i64>);
        let (now, started_at, cursor, compared, different): Row = sqlx::query_as(
            "select clock_timestamp(), r.started_at, r.cursor_id, r.compared, r.different \
             from (values ($1)) as e (name) left join rolling_checks as r on r.entity = e.name",
        )
        .bind(entity.name)
        .fetch_one(&self.pool)
        .await?;
        let Some(started_at) = started_at else { return Ok((None, now)) };
        let round = RollingRound {
            started_at,
            cursor: read_id(cursor.unwrap_or_default(), "rolling_checks", "cursor_id")?,
            compared: read_count(compared.unwrap_or_default()),
            different: read_count(different.unwrap_or_default()),
        };
        Ok((Some(round), now))
    }

    /// Stores how far a round has come.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn save_rolling(
        &self,
        generation: Generation,
        entity: &'static Entity,
        round: &RollingRound,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        sqlx::query(
            "insert into rolling_checks (entity, started_at, cursor_id, compared, different) \
             values ($1, $2, $3, $4, $5) \
             on conflict (entity) do update set started_at = excluded.started_at, \
                cursor_id = excluded.cursor_id, compared = excluded.compared, \
                different = excluded.different",
        )
        .bind(entity.name)
        .bind(round.started_at)
        .bind(round.cursor.get())
        .bind(stored_count(round.compared))
        .bind(stored_count(round.different))
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Notes that a round is complete, and begins the next one.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn complete_rolling(
        &self,
        generation: Generation,
        entity: &'static Entity,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        sqlx::query(
            "update rolling_checks set checked_from = started_at, \
                checked_at = clock_timestamp(), started_at = clock_timestamp(), \
                cursor_id = 0, compared = 0, different = 0 \
             where entity = $1",
        )
        .bind(entity.name)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }
}
