//! What the daemon has done so far, as its checkpoints tell.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};

/// Longer than a cycle takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(4);

/// Waits until every entity has completed a cycle that began after this call.
pub(crate) async fn cycled(pool: &PgPool) {
    let now: DateTime<Utc> =
        sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let begun: bool = sqlx::query_scalar(
            "select coalesce(bool_and(last_database_at > $1 and completed_at > $1), false) \
             from bitrix24.sync_checkpoints",
        )
        .bind(now)
        .fetch_one(pool)
        .await
        .unwrap();
        if begun {
            return;
        }
        assert!(Instant::now() < deadline, "no cycle was completed within {PATIENCE:?}");
        sleep(Duration::from_millis(50)).await;
    }
}
