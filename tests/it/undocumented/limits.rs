//! How the portal's limits end, and what refusals say about it.

use std::time::Duration;

use b24mirror::{
    entity::CONTACTS,
    simulator::{
        Action, BucketLimit, Cost, Entity, Fault, FaultKind, OperatingLimit, Options, RetryAfter,
        Undocumented,
    },
};

use super::Source;
use crate::support::{
    Run, TestPortal, database, equal::sampled_differences, tables::value, unlimited,
};

const LIST: &str = "crm.contact.list";
const BOOK: &str = "mail.recipient.listcontacts";

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_says_for_how_long_is_obeyed() {
    for (retry_after, seconds) in [
        (RetryAfter::Absent, 0),
        (RetryAfter::Seconds(0), 0),
        (RetryAfter::Seconds(6), 6),
        (RetryAfter::Date(6), 5),
        (RetryAfter::Nonsense, 0),
    ] {
        let positions = Undocumented { retry_after, ..Undocumented::default() };
        let bucket = BucketLimit { threshold: 10.0, rate: 10.0, refused_count: true };
        let portal = TestPortal::with(Options {
            contacts: 300,
            leads: 0,
            bucket: Some(bucket),
            undocumented: positions,
            ..unlimited()
        });
        let database = database().await;
        // Somebody else behind the same address has just filled the bucket.
        portal.fault(Fault::once("batch", FaultKind::Crowd { requests: 15 }));
        let begun = tokio::time::Instant::now();
        Source::Classic.done(&portal, &database, &["backfill", "contacts"]).await;
        let took = begun.elapsed();
        let stats = portal.stats();
        assert!((1..=2).contains(&stats.refusals), "{positions:?}: {stats:#?}");
        // Whoever was under way already was refused as well.
        assert!(stats.before_retry_after < stats.refusals, "{positions:?}: {stats:#?}");
        assert!(took >= Duration::from_secs(seconds), "{positions:?}: {took:?}");
        assert!(took < Duration::from_secs(seconds + 20), "{positions:?}: {took:?}");
        Source::Classic.assert_equal(&portal, &database, &positions).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_method_that_says_for_how_long_is_left_alone_and_no_other() {
    for (retry_after, seconds) in [
        (RetryAfter::Absent, 0),
        (RetryAfter::Seconds(7), 7),
        (RetryAfter::Date(7), 6),
        (RetryAfter::Nonsense, 0),
    ] {
        let positions = Undocumented { retry_after, ..Undocumented::default() };
        let operating =
            OperatingLimit { limit: 1.0, window: 3.0, report: false, ..OperatingLimit::default() };
        let cost = Cost { seconds: 0.4, ..Cost::default() };
        let portal = TestPortal::with(Options {
            contacts: 0,
            leads: 0,
            recipients: 900,
            operating: Some(operating),
            costs: [(BOOK.to_owned(), cost)].into(),
            undocumented: positions,
            ..unlimited()
        });
        let database = database().await;
        let settings = portal.settings_with(
            &database,
            "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
             operating_seconds = 1.0\noperating_window = \"3s\"\n\
             [entities]\nmail_recipients.enabled = true\n",
        );
        let begun = tokio::time::Instant::now();
        let backfill = ["backfill", "mail_recipients"];
        let finished = Run::b24mirror(&backfill).config(&settings).finish().await;
        assert_eq!(finished.code, Some(0), "{positions:?}: {finished:#?}");
        let (took, stats) = (begun.elapsed(), portal.stats());
        assert!(stats.operating_refusals > 0, "{positions:?}: {stats:#?}");
        assert!(took >= Duration::from_secs(seconds), "{positions:?}: {took:?}");
        let live = "select count(*) from bitrix24.mail_recipients where deleted_at is null";
        assert_eq!(value::<i64>(database.pool(), live).await, 900);
    }
}

/// A twentieth of what a portal grants, 480 s or 420 s, in a window of five seconds instead of
/// ten minutes; for how long it blocks who passes that, until enough of the window has passed,
/// for seven tenths of the window, or for longer than that; and whether it tells what was used.
const POSITIONS: [(f64, Option<f64>, bool); 5] = [
    (24.0, None, true),
    (21.0, None, true),
    (21.0, None, false),
    (21.0, Some(3.5), true),
    (21.0, Some(7.0), false),
];

/// Backfills where the settings believe in the higher limit.
async fn backfilled(operating: OperatingLimit) {
    let cost = Cost { seconds: 0.6, ..Cost::default() };
    let portal = TestPortal::with(Options {
        contacts: 3_000,
        leads: 0,
        operating: Some(operating),
        costs: [(LIST.to_owned(), cost)].into(),
        ..unlimited()
    });
    let database = database().await;
    let settings = portal.settings_with(
        &database,
        "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
         operating_seconds = 24.0\noperating_window = \"5s\"\n",
    );
    let run = Run::b24mirror(&["backfill", "contacts"]).config(&settings).spawn();
    let finished = run.finish_within(Duration::from_mins(3)).await;
    assert_eq!(finished.code, Some(0), "{operating:?}: {finished:#?}");
    let differences = sampled_differences(&portal, database.pool(), &CONTACTS, 20).await;
    assert!(differences.is_empty(), "{operating:?}:\n{differences}");
    let entity = Entity::Contacts;
    portal.happens(Action::Change { entity, ids: Vec::new(), count: 40, visible_after: 0.0 });
    let finished = Run::b24mirror(&["sync", "contacts"]).config(&settings).finish().await;
    assert_eq!(finished.code, Some(0), "{operating:?}: {finished:#?}");
    let differences = sampled_differences(&portal, database.pool(), &CONTACTS, 10).await;
    assert!(differences.is_empty(), "{operating:?}:\n{differences}");
    let stats = portal.stats();
    // The first chain of pages is more than the lower limit, and nothing tells.
    assert!(operating.report || stats.operating_refusals > 0, "{operating:?}: {stats:#?}");
    // A blocked method is looked at now and then, and not stormed.
    assert!(stats.operating_refusals <= 60, "{operating:?}: {stats:#?}");
    assert!(stats.requests <= 100, "{operating:?}: {stats:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_waited_out_whatever_the_limit_and_however_long_it_lasts() {
    let limits = POSITIONS.map(|(limit, block, report)| OperatingLimit {
        limit,
        window: 5.0,
        block,
        report,
        ..OperatingLimit::default()
    });
    limits.map(backfilled).into_iter().collect::<tokio::task::JoinSet<()>>().join_all().await;
}
