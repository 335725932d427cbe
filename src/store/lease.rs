//! Who talks to the portal: one row, taken over by raising its generation.

use std::{io, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};
use tokio::time::timeout;

use super::{
    Store, StoreError,
    error::state_of,
    run_log::{UNRECORDED, close_open_runs},
};

/// Counts the take-overs of the lease. What a stale generation writes is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub(super) i64);

impl Generation {
    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// What a new holder has to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lease {
    /// Proves the lease with every write.
    pub generation: Generation,
    /// When it was taken, by the database's clock.
    pub acquired_at: DateTime<Utc>,
    /// The level of the portal's leaky bucket as the last holder left it.
    pub bucket_level: f64,
    /// When that level was recorded, by the database's clock.
    pub bucket_at: DateTime<Utc>,
    /// Whether the last holder gave the lease back, so that the level is exact; if
    /// not, it may have sent requests until [`Self::acquired_at`].
    pub clean: bool,
}

/// The answer to asking for the lease.
#[derive(Debug, Clone, PartialEq)]
pub enum Acquired {
    /// It is ours.
    Ours(Lease),
    /// Somebody has it, or has let it run out but is still finishing a transaction.
    HeldBy {
        /// Who.
        holder: String,
        /// Until when, by the database's clock.
        expires_at: DateTime<Utc>,
    },
}

/// The lease as `status` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseRow {
    /// The current generation.
    pub generation: Generation,
    /// Who holds it or let it run out; `None` when it was given back or never taken.
    pub holder: Option<String>,
    /// Whether it is held at this moment, by the database's clock.
    pub held: bool,
    /// Until when, by the database's clock.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last renewed or given back.
    pub renewed_at: DateTime<Utc>,
    /// The level of the portal's leaky bucket then.
    pub bucket_level: f64,
    /// What the holder waits for at the portal, as it last told.
    pub waits: Vec<HolderWait>,
}

/// Something that the lease's holder waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HolderWait {
    /// What for; for people.
    pub reason: String,
    /// When it is expected to go on, by the database's clock.
    pub until: DateTime<Utc>,
}

/// Locks the lease's row against take-over to the end of the transaction, and returns
/// the transaction's ID, by which the server can tell later how it ended.
pub(super) async fn hold(
    connection: &mut PgConnection,
    generation: Generation,
) -> Result<String, StoreError> {
    sqlx::query_scalar(
        "select pg_current_xact_id()::text from sync_lease \
         where generation = $1 and holder is not null for key share",
    )
    .bind(generation.0)
    .fetch_optional(connection)
    .await?
    .ok_or(StoreError::LeaseLost)
}

macro_rules! current {
    ($locking:literal) => {
        concat!(
            "select generation, holder, expires_at, renewed_at, clean, bucket_level, waits, ",
            "coalesce(expires_at > clock_timestamp(), false) as held from sync_lease",
            $locking
        )
    };
}

#[derive(sqlx::FromRow)]
struct Current {
    generation: i64,
    holder: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    held: bool,
    renewed_at: DateTime<Utc>,
    clean: bool,
    bucket_level: f64,
    waits: Json<Vec<HolderWait>>,
}

impl Store {
    /// Takes the lease unless somebody holds it. Runs that the last holder left
    /// unfinished are closed as interrupted.
    ///
    /// Waits for transactions that the last holder has in flight, at most five
    /// seconds; then answers [`Acquired::HeldBy`], and the caller asks again.
    pub async fn try_acquire(&self, holder: &str, ttl: Duration) -> Result<Acquired, StoreError> {
        self.take(holder, ttl).await.inspect_err(|error| self.trust.look(error))
    }

    async fn take(&self, holder: &str, ttl: Duration) -> Result<Acquired, StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query("set local lock_timeout = '5s'").execute(&mut *transaction).await?;
        let seen: Current = sqlx::query_as(current!("")).fetch_one(&mut *transaction).await?;
        if seen.held {
            return Ok(held_by(seen));
        }
        let locked: Result<Current, sqlx::Error> =
            sqlx::query_as(current!(" for update")).fetch_one(&mut *transaction).await;
        let last = match locked {
            Ok(last) if last.held => return Ok(held_by(last)),
            Ok(last) => last,
            Err(error) if state_of(&error).as_deref() == Some("55P03") => {
                return Ok(held_by(seen));
            }
            Err(error) => return Err(error.into()),
        };
        // The holder's row is locked now, so nothing of an older generation can commit.
        let (generation, acquired_at): (i64, DateTime<Utc>) = sqlx::query_as(
            "update sync_lease set generation = generation + 1, holder = $1, clean = false, \
                expires_at = clock_timestamp() + make_interval(secs => $2), \
                renewed_at = clock_timestamp(), waits = '[]' \
             returning generation, renewed_at",
        )
        .bind(holder)
        .bind(ttl.as_secs_f64())
        .fetch_one(&mut *transaction)
        .await?;
        sqlx::query(
            "update sync_runs set finished_at = clock_timestamp(), verdict = 'interrupted' \
             where finished_at is null",
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Acquired::Ours(Lease {
            generation: Generation(generation),
            acquired_at,
            bucket_level: last.bucket_level,
            bucket_at: last.renewed_at,
            clean: last.clean,
        }))
    }

    /// Keeps the lease for `ttl` from now, and records the bucket's level; logs the ends of
    /// runs that could not be logged when they ended.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when it has been taken over;
    /// [unavailability](StoreError::is_unavailable) at the latest after `ttl`.
    pub async fn renew(
        &self,
        generation: Generation,
        ttl: Duration,
        bucket_level: f64,
    ) -> Result<(), StoreError> {
        let renewal = sqlx::query(
            "update sync_lease set expires_at = clock_timestamp() + make_interval(secs => $2), \
                renewed_at = clock_timestamp(), bucket_level = $3 \
             where generation = $1 and holder is not null",
        )
        .bind(generation.0)
        .bind(ttl.as_secs_f64())
        .bind(bucket_level.max(0.0))
        .execute(&self.pool);
        let renewed = timeout(ttl, renewal)
            .await
            .map_err(|_| sqlx::Error::Io(io::ErrorKind::TimedOut.into()).into())
            .and_then(|renewed| renewed.map_err(StoreError::from))
            .inspect_err(|error| self.trust.look(error))?;
        if renewed.rows_affected() == 0 {
            return Err(StoreError::LeaseLost);
        }
        self.log_ends().await
    }

    /// Gives the lease back, and records the bucket's level. All work has ended by then, so
    /// runs that are still open are closed as incomplete.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when it has been taken over.
    pub async fn release(
        &self,
        generation: Generation,
        bucket_level: f64,
    ) -> Result<(), StoreError> {
        self.log_ends().await?;
        let mut transaction = self.begin().await?;
        let released = sqlx::query(
            "update sync_lease set holder = null, expires_at = null, clean = true, \
                renewed_at = clock_timestamp(), bucket_level = $2, waits = '[]' \
             where generation = $1 and holder is not null",
        )
        .bind(generation.0)
        .bind(bucket_level.max(0.0))
        .execute(&mut *transaction)
        .await?;
        if released.rows_affected() == 0 {
            return Err(StoreError::LeaseLost);
        }
        close_open_runs(&mut transaction, None, UNRECORDED).await?;
        Ok(transaction.commit().await?)
    }

    /// Reads the lease.
    pub async fn lease_row(&self) -> Result<LeaseRow, StoreError> {
        let row: Current = sqlx::query_as(current!("")).fetch_one(&self.pool).await?;
        Ok(LeaseRow {
            generation: Generation(row.generation),
            holder: row.holder,
            held: row.held,
            expires_at: row.expires_at,
            renewed_at: row.renewed_at,
            bucket_level: row.bucket_level,
            waits: row.waits.0,
        })
    }

    /// Tells `status` what the holder waits for: reasons, and for how long still.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease has been taken over.
    pub async fn report_waits(
        &self,
        generation: Generation,
        waits: &[(String, Duration)],
    ) -> Result<(), StoreError> {
        let reasons: Vec<&str> = waits.iter().map(|(reason, _)| reason.as_str()).collect();
        let seconds: Vec<f64> = waits.iter().map(|(_, left)| left.as_secs_f64()).collect();
        let reported = sqlx::query(
            "update sync_lease set waits = ( \
                select coalesce(jsonb_agg(jsonb_build_object('reason', reason, \
                    'until', clock_timestamp() + make_interval(secs => seconds))), '[]') \
                from unnest($2::text[], $3::float8[]) as wait (reason, seconds)) \
             where generation = $1 and holder is not null",
        )
        .bind(generation.0)
        .bind(reasons)
        .bind(seconds)
        .execute(&self.pool)
        .await?;
        if reported.rows_affected() == 0 { Err(StoreError::LeaseLost) } else { Ok(()) }
    }
}

fn held_by(row: Current) -> Acquired {
    Acquired::HeldBy {
        // Given back and locked: somebody is taking it at this moment.
        holder: row.holder.unwrap_or_else(|| "another process".to_owned()),
        expires_at: row.expires_at.unwrap_or(row.renewed_at),
    }
}
