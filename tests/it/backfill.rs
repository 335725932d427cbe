//! The first fill: every column of every row, and nothing fetched twice.

use b24mirror::simulator::Options;

use crate::support::{TestPortal, assert_equal, database, unlimited};

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_mirrors_every_value_of_every_record() {
    let portal = TestPortal::with(Options { contacts: 20_000, leads: 5_000, ..unlimited() });
    let database = database().await;
    portal.backfilled(&database).await;
    assert_equal(&portal, database.pool()).await;
}
