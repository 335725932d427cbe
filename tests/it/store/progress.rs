//! Checkpoints, segments, the lease, the run log, requests, health and fields.

use std::time::Duration;

use b24mirror::{
    entity::{CONTACTS, Dialect, Entity, LEADS, RecordId, catalogue::Catalogue},
    store::{
        Acquired, Checkpoint, ClockShift, Fill, Health, Progress, RequestEnd, RequestKind, RunKind,
        SegmentKind, StoreError, Successor, Verdict, Watermark, Written,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{json, value::RawValue};

use super::{acquire, contact, id, minute, mirror};

/// A fill of which nobody has estimated how much it is.
pub(super) fn fill(kind: SegmentKind, up_to: RecordId) -> Fill {
    Fill { kind, up_to, expected: None }
}

pub(super) fn checkpoint(asked_at: DateTime<Utc>) -> Checkpoint {
    let watermark = |minutes| Watermark {
        portal: minute(minutes),
        offset_seconds: 10_800,
        database: minute(minutes) + TimeDelta::microseconds(123_456),
    };
    Checkpoint {
        fingerprint: -7,
        mark: id(3_000_000_000),
        successor: Some(Successor { id: id(3_000_000_050), at: minute(3) }),
        newest: id(3_000_000_051),
        deep: watermark(1),
        deep_fitted: true,
        last: watermark(2),
        shift: Some(ClockShift { by_seconds: 3600, until: minute(70) }),
        cycle: Some(json!({ "stage": "changed", "after": 17, "floor": null })),
        asked_at,
        completed_at: Some(minute(4)),
    }
}

#[tokio::test]
async fn a_checkpoint_comes_back_as_it_was() {
    let mirror = mirror().await;
    assert_eq!(mirror.store.checkpoint(&CONTACTS).await.unwrap(), None);
    let full = checkpoint(minute(9));
    let bare = Checkpoint {
        mark: RecordId::ZERO,
        successor: None,
        shift: None,
        cycle: None,
        completed_at: None,
        ..full.clone()
    };
    for stored in [&full, &bare, &full] {
        mirror.store.save_checkpoint(mirror.generation, &CONTACTS, stored).await.unwrap();
        assert_eq!(mirror.store.checkpoint(&CONTACTS).await.unwrap().as_ref(), Some(stored));
    }
    assert_eq!(mirror.store.checkpoint(&LEADS).await.unwrap(), None);
}

#[tokio::test]
async fn the_clock_never_falls_below_the_stored_progress() {
    let mirror = mirror().await;
    let now = mirror.store.clock().await.unwrap();
    let ahead = now + TimeDelta::days(1);
    mirror.store.save_checkpoint(mirror.generation, &LEADS, &checkpoint(ahead)).await.unwrap();
    assert!(now < ahead);
    assert_eq!(mirror.store.clock().await.unwrap(), ahead);
}

#[tokio::test]
async fn a_backfill_starts_with_its_checkpoint_and_replaces_the_last() {
    let mirror = mirror().await;
    let start = async |kind, upper| {
        let checkpoint = checkpoint(minute(1));
        mirror
            .store
            .start_backfill(mirror.generation, &CONTACTS, &checkpoint, fill(kind, upper))
            .await
    };
    let first = start(SegmentKind::Backfill, id(500)).await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(
        (first[0].after, first[0].cursor, first[0].up_to),
        (RecordId::ZERO, RecordId::ZERO, id(500))
    );
    assert!(!first[0].done);

    let second = start(SegmentKind::FullPass, id(600)).await.unwrap();
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].kind, SegmentKind::FullPass);
    assert_eq!(mirror.store.checkpoint(&CONTACTS).await.unwrap(), Some(checkpoint(minute(1))));

    // The chain of the first backfill wakes up late.
    let mut batch = mirror.batch(minute(2), vec![contact(1, "Anna", &[])]);
    batch.progress = Progress::Segments(&first[..1]);
    let error = mirror.store.write(batch).await.unwrap_err();
    assert!(matches!(error, StoreError::SegmentGone { .. }), "{error}");
    assert!(mirror.read([1]).await.is_empty());

    assert!(start(SegmentKind::Backfill, RecordId::ZERO).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lease_has_one_holder_until_it_is_given_back_or_runs_out() {
    let mirror = mirror().await;
    let (store, first) = (&mirror.store, mirror.generation);
    let hour = Duration::from_hours(1);
    let Acquired::HeldBy { holder, expires_at } = store.try_acquire("other", hour).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(holder, "test");
    assert_eq!(store.lease_row().await.unwrap().expires_at, Some(expires_at));
    store.renew(first, hour, 17.5).await.unwrap();
    assert!(store.lease_row().await.unwrap().expires_at.unwrap() > expires_at);

    store.release(first, 12.0).await.unwrap();
    let row = store.lease_row().await.unwrap();
    assert_eq!((row.held, row.holder, row.bucket_level), (false, None, 12.0));
    assert!(matches!(store.renew(first, hour, 0.0).await, Err(StoreError::LeaseLost)));

    let Acquired::Ours(clean) = store.try_acquire("other", hour).await.unwrap() else { panic!() };
    assert_eq!((clean.clean, clean.bucket_level), (true, 12.0));
    assert!(clean.generation > first && clean.bucket_at <= clean.acquired_at);

    // The holder dies: its lease runs out.
    mirror.execute("update sync_lease set expires_at = now() - interval '1 second'").await;
    let run = store.begin_run(clean.generation, &CONTACTS, RunKind::Incremental).await.unwrap();
    let Acquired::Ours(unclean) = store.try_acquire("third", hour).await.unwrap() else { panic!() };
    assert!(!unclean.clean);
    let log = store.runs(&CONTACTS, 1).await.unwrap();
    assert_eq!((log[0].id, log[0].verdict), (run.id(), Some(Verdict::Interrupted)));
}

#[tokio::test]
async fn a_stale_generation_writes_nothing() {
    let mirror = mirror().await;
    mirror.execute("update sync_lease set expires_at = now() - interval '1 second'").await;
    // Nobody has taken it yet: still ours.
    mirror.write(minute(1), vec![contact(1, "Anna", &[])]).await;
    acquire(&mirror.store, "other").await;

    let stale = mirror.generation;
    let batch = mirror.batch(minute(2), vec![contact(1, "changed", &[])]);
    let store = &mirror.store;
    let progress = checkpoint(minute(2));
    let refused = [
        store.write(batch).await.map(drop),
        store.save_checkpoint(stale, &CONTACTS, &progress).await,
        store.set_health(stale, &CONTACTS, &Health::Active).await,
        store.save_fields(stale, &CONTACTS, &Catalogue::default()).await,
        store.begin_run(stale, &CONTACTS, RunKind::Backfill).await.map(drop),
        store
            .start_backfill(stale, &CONTACTS, &progress, fill(SegmentKind::Backfill, id(1)))
            .await
            .map(drop),
        store.renew(stale, Duration::from_secs(9), 0.0).await,
        store.release(stale, 0.0).await,
    ];
    assert!(refused.iter().all(|outcome| matches!(outcome, Err(StoreError::LeaseLost))));
    assert_eq!(mirror.read([1]).await, [contact(1, "Anna", &[])]);
    assert_eq!(store.checkpoint(&CONTACTS).await.unwrap(), None);
    assert!(store.lease_row().await.unwrap().held);
}

#[tokio::test]
async fn a_run_counts_what_its_batches_did() {
    let mirror = mirror().await;
    let mut run =
        mirror.store.begin_run(mirror.generation, &CONTACTS, RunKind::Backfill).await.unwrap();
    for (minutes, names) in [(1, ["a", "b"]), (2, ["a", "c"])] {
        run.counts.requests += 1;
        run.counts.read += 2;
        let mut batch = mirror
            .batch(minute(minutes), vec![contact(1, names[0], &[]), contact(2, names[1], &[])]);
        batch.run = Some(&run);
        let written = mirror.store.write(batch).await.unwrap();
        run.counts.add(&written);
        let stored = mirror.store.runs(&CONTACTS, 9).await.unwrap();
        assert_eq!((stored[0].counts, stored[0].verdict), (run.counts, None));
    }
    run.counts.waited = Duration::from_millis(1500);
    let counts = run.counts;
    assert_eq!((counts.inserted, counts.updated, counts.unchanged), (2, 1, 1));
    mirror.store.finish_run(run, Verdict::Incomplete, Some("why")).await.unwrap();
    let stored = &mirror.store.runs(&CONTACTS, 1).await.unwrap()[0];
    assert_eq!((stored.counts, stored.verdict), (counts, Some(Verdict::Incomplete)));
    assert!(stored.finished_at.is_some());
    assert_eq!(stored.message.as_deref(), Some("why"));
    assert!(mirror.store.runs(&LEADS, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn no_run_stays_open_when_its_end_could_not_be_recorded() {
    let mirror = mirror().await;
    let (store, generation) = (&mirror.store, mirror.generation);
    let lost = store.begin_run(generation, &CONTACTS, RunKind::Sweep).await.unwrap();
    let other = store.begin_run(generation, &CONTACTS, RunKind::Backfill).await.unwrap();
    let next = store.begin_run(generation, &CONTACTS, RunKind::Sweep).await.unwrap();
    let of = async |id| {
        let runs = store.runs(&CONTACTS, 9).await.unwrap();
        runs.into_iter().find(|run| run.id == id).map(|run| (run.verdict, run.message)).unwrap()
    };
    let unrecorded =
        (Some(Verdict::Incomplete), Some("how it ended could not be recorded".to_owned()));
    assert_eq!(of(lost.id()).await, unrecorded);
    assert_eq!((of(other.id()).await.0, of(next.id()).await.0), (None, None));
    let lost = lost.id();
    store.finish_run(next, Verdict::Complete, None).await.unwrap();
    store.release(generation, 0.0).await.unwrap();
    assert_eq!((of(lost).await, of(other.id()).await), (unrecorded.clone(), unrecorded));
}

#[tokio::test]
async fn the_schedule_goes_by_the_last_complete_check_and_by_the_first_fill() {
    let mirror = mirror().await;
    let (store, generation) = (&mirror.store, mirror.generation);
    let since = async || store.since_last(&CONTACTS, RunKind::Sweep).await.unwrap();
    let filled = async || store.since_filled(&CONTACTS).await.unwrap();
    assert_eq!((since().await, filled().await), (None, None));
    let run = async |kind, verdict| {
        let run = store.begin_run(generation, &CONTACTS, kind).await.unwrap();
        store.finish_run(run, verdict, None).await.unwrap();
    };
    let ages = async |kind: &str, days: i32| {
        sqlx::query(
            "update bitrix24.sync_runs set started_at = now() - make_interval(days => $2), \
                finished_at = now() - make_interval(days => $2) where kind = $1",
        )
        .bind(kind)
        .bind(days)
        .execute(mirror.database.pool())
        .await
        .unwrap();
    };
    let days = |ago: Option<Duration>| ago.unwrap().as_secs() / 86_400;
    run(RunKind::Backfill, Verdict::Complete).await;
    ages("backfill", 9).await;
    run(RunKind::Backfill, Verdict::Complete).await;
    assert_eq!(since().await, None);
    assert_eq!(days(filled().await), 9, "a restart proves nothing about deletions");
    run(RunKind::Sweep, Verdict::Complete).await;
    ages("sweep", 3).await;
    run(RunKind::Sweep, Verdict::Incomplete).await;
    run(RunKind::RollingCheck, Verdict::Complete).await;
    assert_eq!((days(since().await), days(filled().await)), (3, 9));
}

#[tokio::test]
async fn a_purge_leaves_a_record_alone_that_comes_back_while_it_waits() {
    let mirror = mirror().await;
    let contacts = (1..=3).map(|number| contact(number, "a", &[(number, "+7")])).collect();
    mirror.write(minute(1), contacts).await;
    mirror.execute("update contacts set deleted_at = synced_at where id <= 2").await;
    let mut revival = mirror.database.pool().begin().await.unwrap();
    sqlx::query("update bitrix24.contacts set deleted_at = null where id = 1")
        .execute(&mut *revival)
        .await
        .unwrap();
    let store = mirror.store.clone();
    let purge =
        tokio::spawn(async move { store.purge_some(&CONTACTS, minute(9), RecordId::ZERO).await });
    crate::support::eventually("the purge waits", || async {
        mirror
            .number(
                "select count(*) from pg_stat_activity where datname = current_database() \
                 and wait_event_type = 'Lock' and query like '%for update'",
            )
            .await
            == 1
    })
    .await;
    revival.commit().await.unwrap();
    let (removed, last) = purge.await.unwrap().unwrap().unwrap();
    assert_eq!((removed, last), (1, RecordId::new(2).unwrap()));
    assert_eq!(mirror.number("select sum(id)::bigint from contacts").await, 1 + 3);
    assert_eq!(mirror.number("select sum(contact_id)::bigint from contact_phones").await, 1 + 3);
    let more = mirror.store.purge_some(&CONTACTS, minute(9), last).await.unwrap();
    assert_eq!(more, None);
    let again = mirror.write(minute(2), vec![contact(2, "back", &[])]).await;
    assert_eq!(again.inserted, 1, "what comes back is simply new");
}

#[tokio::test]
async fn a_request_is_done_by_the_holder_and_by_its_successor() {
    let mirror = mirror().await;
    let (store, first) = (&mirror.store, mirror.generation);
    assert_eq!(store.take_open(first).await.unwrap(), None);
    let arguments = json!({ "restart": true });
    let number =
        store.enqueue(RequestKind::Backfill, &[&CONTACTS, &LEADS], &arguments).await.unwrap();
    let taken = store.take_open(first).await.unwrap().unwrap();
    assert_eq!(
        (taken.id, taken.kind, &taken.arguments),
        (number, RequestKind::Backfill, &arguments)
    );
    assert_eq!(taken.entities, Entity::BY_DEFAULT);
    assert_eq!(store.take_open(first).await.unwrap(), None);
    store.report_progress(first, number, &json!({ "rows": 5 })).await.unwrap();

    store.release(first, 0.0).await.unwrap();
    let second = acquire(store, "successor").await;
    assert_eq!(
        store.take_open(second).await.unwrap().unwrap().progress,
        Some(json!({ "rows": 5 }))
    );
    let end = RequestEnd {
        verdict: Verdict::Stopped,
        differs: true,
        message: "no rights".to_owned(),
        result: Some(json!({ "contacts": { "missing": [7] } })),
    };
    let late = store.finish_request(first, number, &end).await;
    assert!(matches!(late, Err(StoreError::LeaseLost)));
    store.finish_request(second, number, &end).await.unwrap();
    let done = store.request(number).await.unwrap().unwrap();
    assert_eq!(done.end, Some(end));
    assert_eq!(store.take_open(second).await.unwrap(), None);

    let number = store.enqueue(RequestKind::Sync, &[], &json!({})).await.unwrap();
    let taken = store.take_open(second).await.unwrap().unwrap();
    assert_eq!((taken.id, taken.kind, taken.entities), (number, RequestKind::Sync, Vec::new()));
}

#[tokio::test]
async fn a_request_that_this_version_cannot_read_is_closed_and_says_so() {
    let mirror = mirror().await;
    let (store, generation) = (&mirror.store, mirror.generation);
    let newer = "insert into bitrix24.sync_requests (kind, entities) \
                 values ('sync', '{invoices_of_tomorrow}') returning id";
    let number: i64 = sqlx::query_scalar(newer).fetch_one(mirror.database.pool()).await.unwrap();
    assert!(store.take_open(generation).await.is_err());
    let (verdict, message): (String, String) =
        sqlx::query_as("select verdict, message from bitrix24.sync_requests where id = $1")
            .bind(number)
            .fetch_one(mirror.database.pool())
            .await
            .unwrap();
    assert_eq!(verdict, "incomplete");
    assert!(message.contains("another version"), "{message}");
    assert_eq!(store.take_open(generation).await.unwrap(), None, "it is not taken up again");
}

#[tokio::test]
async fn health_is_written_only_when_it_differs() {
    let mirror = mirror().await;
    let store = &mirror.store;
    assert_eq!(store.health(&LEADS).await.unwrap(), None);
    let stopped = Health::Stopped { reason: "no right to read leads".to_owned() };
    let waiting = Health::Waiting { reason: "the portal does not answer".to_owned() };
    for health in [&Health::Active, &waiting, &stopped] {
        store.set_health(mirror.generation, &LEADS, health).await.unwrap();
        let before = mirror.rows("sync_health", "entity").await;
        store.set_health(mirror.generation, &LEADS, health).await.unwrap();
        assert_eq!(mirror.rows("sync_health", "entity").await, before);
        assert_eq!(&store.health(&LEADS).await.unwrap().unwrap().health, health);
    }
}

#[tokio::test]
async fn the_dictionary_follows_the_portal_and_forgets_nothing() {
    let mirror = mirror().await;
    let save = async |json: serde_json::Value| {
        let raw = RawValue::from_string(json.to_string()).unwrap();
        let catalogue = Catalogue::parse(&raw, &CONTACTS, Dialect::Classic).unwrap();
        mirror.store.save_fields(mirror.generation, &CONTACTS, &catalogue).await.unwrap();
        mirror.rows("fields", "field, label, gone_since is null").await
    };
    let both = json!({
        "ID": { "type": "integer", "isReadOnly": true, "title": "ID" },
        "UF_CRM_1": { "type": "enumeration", "isDynamic": true, "formLabel": "Colour",
            "items": [{ "VALUE": "red", "ID": "44" }] },
    });
    let first = save(both.clone()).await;
    assert_eq!(first.keys().collect::<Vec<_>>(), ["ID/ID/t", "UF_CRM_1/Colour/t"]);
    assert_eq!(save(both.clone()).await, first);

    let less =
        save(json!({ "ID": { "type": "integer", "isReadOnly": true, "title": "Nr" } })).await;
    assert_eq!(less.keys().collect::<Vec<_>>(), ["ID/Nr/t", "UF_CRM_1/Colour/f"]);
    let again = save(both).await;
    assert_eq!(again.keys().collect::<Vec<_>>(), ["ID/ID/t", "UF_CRM_1/Colour/t"]);
}

#[tokio::test]
async fn records_and_checkpoint_commit_together() {
    let mirror = mirror().await;
    let progress = checkpoint(minute(2));
    let mut batch = mirror.batch(minute(2), vec![contact(1, "Anna", &[])]);
    batch.progress = Progress::Checkpoint(&progress);
    let written = mirror.store.write(batch).await.unwrap();
    assert_eq!(written, Written { inserted: 1, ..Written::default() });
    assert_eq!(mirror.store.checkpoint(&CONTACTS).await.unwrap(), Some(progress));
}
