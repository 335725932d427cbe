//! What the keys of files are called.

use b24mirror::simulator::{Action, FileKeys, Options, Undocumented};
use sqlx::AssertSqlSafe;

use super::Source;
use crate::support::{
    TestPortal, database,
    tables::{row_versions, value},
    unlimited,
};

const POSITIONS: [FileKeys; 3] = [FileKeys::Camel, FileKeys::Upper, FileKeys::Bare];

#[tokio::test(flavor = "multi_thread")]
async fn files_are_their_numbers_and_never_an_address_whatever_their_keys() {
    for source in Source::BOTH {
        let options = Options { contacts: 200, leads: 80, ..unlimited() };
        let (portal, database) = (TestPortal::with(options), database().await);
        let pool = database.pool();
        let mut written = None;
        for file_keys in POSITIONS {
            let positions = Undocumented { file_keys, ..Undocumented::default() };
            portal.happens(Action::Undocumented { positions });
            let again: &[&str] =
                if written.is_some() { &["backfill", "--restart"] } else { &["backfill"] };
            source.done(&portal, &database, again).await;
            source.assert_equal(&portal, &database, &positions).await;
            source.done(&portal, &database, &["verify", "--level", "full"]).await;
            let files = "select count(photo_id) from bitrix24.contacts";
            assert!(value::<i64>(pool, files).await > 10);
            // The addresses carry the webhook's secret.
            for table in ["contacts", "leads", "sync_quarantine", "fields"] {
                let told = format!(
                    "select count(*) from bitrix24.{table} t where t::text like '%s1mul4tedsecret0%'"
                );
                let told: i64 =
                    sqlx::query_scalar(AssertSqlSafe(told)).fetch_one(pool).await.unwrap();
                assert_eq!(told, 0, "{table}, {positions:?}");
            }
            // Another spelling is no change.
            let mut versions = row_versions(pool).await;
            versions.retain(|table, _| ["contacts", "leads"].contains(&&**table));
            assert_eq!(versions.len(), 2);
            let before = written.get_or_insert_with(|| versions.clone());
            assert!(*before == versions, "{source:?}: rows were written for {positions:?}");
        }
    }
}
