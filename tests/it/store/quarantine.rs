//! What cannot be stored as it came.

use b24mirror::{
    entity::{
        CONTACTS,
        record::{ChildList, Note, Reason, Record, Reject},
    },
    store::{Batch, Progress, Seen, SegmentKind, Written},
};
use chrono::{DateTime, Utc};

use super::{
    Mirror, contact, id, minute, mirror, note,
    progress::{checkpoint, fill},
    record,
};

#[derive(Debug, PartialEq, Eq, sqlx::FromRow)]
struct Entry {
    record_id: Option<i64>,
    field: String,
    reason: String,
    raw: String,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
    resolved: bool,
}

async fn entries(mirror: &Mirror) -> Vec<Entry> {
    sqlx::query_as(
        "select record_id, field, reason, raw, first_seen, last_seen, \
            resolved_at is not null as resolved \
         from bitrix24.sync_quarantine order by id",
    )
    .fetch_all(mirror.database.pool())
    .await
    .unwrap()
}

fn noted(notes: Vec<Note>) -> Record {
    record(&CONTACTS, 1, "Anna", ChildList::Known(Vec::new()), notes)
}

#[tokio::test]
async fn a_note_opens_once_is_confirmed_daily_and_resolved() {
    let mirror = mirror().await;
    let bad = || noted(vec![note("BIRTHDATE", Reason::UnreadableValue, "\"32.13.2020\"")]);
    let written = mirror.write(minute(1), vec![bad()]).await;
    assert_eq!(written, Written { inserted: 1, quarantined: 1, ..Written::default() });

    let again = mirror.write(minute(2), vec![bad()]).await;
    assert_eq!(again, Written { unchanged: 1, ..Written::default() });
    let [entry] = &entries(&mirror).await[..] else { panic!() };
    assert_eq!((entry.first_seen, entry.last_seen), (minute(1), minute(1)));

    let next_day = minute(2 + 24 * 60);
    mirror.write(next_day, vec![bad()]).await;
    let [entry] = &entries(&mirror).await[..] else { panic!() };
    assert_eq!((entry.first_seen, entry.last_seen), (minute(1), next_day));
    assert_eq!(mirror.store.open_quarantine(&CONTACTS).await.unwrap()[0].entries, 1);

    // Another bad value is another fault.
    let worse = noted(vec![note("BIRTHDATE", Reason::UnreadableValue, "\"worse\"")]);
    let later = next_day + chrono::TimeDelta::minutes(1);
    mirror.write(later, vec![worse.clone()]).await;
    assert_eq!(mirror.read([1]).await, [worse]);
    let resolved: Vec<bool> = entries(&mirror).await.iter().map(|entry| entry.resolved).collect();
    assert_eq!(resolved, [true, false]);

    mirror.write(later, vec![noted(Vec::new())]).await;
    assert!(mirror.store.open_quarantine(&CONTACTS).await.unwrap().is_empty());
    assert_eq!(mirror.read([1]).await, [noted(Vec::new())]);
}

#[tokio::test]
async fn a_record_that_is_left_alone_keeps_its_notes() {
    let mirror = mirror().await;
    let bad = noted(vec![note("BIRTHDATE", Reason::UnreadableValue, "1")]);
    mirror.write(minute(5), vec![bad.clone()]).await;
    let written = mirror.write(minute(4), vec![noted(Vec::new())]).await;
    assert_eq!(written.left_alone, [id(1)]);
    assert_eq!(mirror.read([1]).await, [bad]);
}

#[tokio::test]
async fn rejects_are_kept_once_and_resolved_when_the_record_comes_well() {
    let mirror = mirror().await;
    let reject = |number: Option<i64>, reason, raw: &str| Reject {
        id: number.map(id),
        note: note("", reason, raw),
    };
    let write = async |asked_at, records| {
        let mut batch = mirror.batch(asked_at, records);
        batch.rejects = vec![
            reject(None, Reason::NoUsableId, r#"{"NAME":"\u0000"}"#),
            reject(None, Reason::NoUsableId, r#"{"NAME":"\u0000"}"#),
            // The store sets aside even what is no JSON at all.
            reject(None, Reason::UnparsableRecord, "\0"),
            reject(Some(2), Reason::Undeliverable, "null"),
        ];
        mirror.store.write(batch).await.unwrap()
    };
    let written = write(minute(1), vec![contact(1, "Anna", &[])]).await;
    assert_eq!(written, Written { inserted: 1, quarantined: 3, ..Written::default() });
    let written = write(minute(2), vec![contact(1, "Anna", &[])]).await;
    assert_eq!(written, Written { unchanged: 1, ..Written::default() });
    assert_eq!(entries(&mirror).await.len(), 3);

    mirror.write(minute(3), vec![contact(2, "Olga", &[])]).await;
    let open: Vec<(Option<i64>, bool)> =
        entries(&mirror).await.iter().map(|entry| (entry.record_id, entry.resolved)).collect();
    assert_eq!(open, [(None, false), (None, false), (Some(2), true)]);
}

#[tokio::test]
async fn refused_records_stand_aside_and_the_rest_goes_on() {
    let mirror = mirror().await;
    // A constraint refuses some (class 23); U+0000 is no text at all (class 22).
    mirror.execute("alter table contacts add constraint no_trudy check (name <> 'Trudy')").await;
    mirror.write(minute(1), vec![contact(40, "before", &[(1, "a")])]).await;
    let start = checkpoint(minute(1));
    let [mut segment] = mirror
        .store
        .start_backfill(mirror.generation, &CONTACTS, &start, fill(SegmentKind::Backfill, id(100)))
        .await
        .unwrap()
        .try_into()
        .unwrap();
    (segment.cursor, segment.rows, segment.asked_at) = (id(100), 100, minute(2));

    let records: Vec<Record> = (1..=100)
        .map(|number| match number {
            7 | 8 | 40 => contact(number, "Trudy", &[(2, "b")]),
            90 => contact(number, "zero\0byte", &[]),
            _ => contact(number, "Anna", &[(number, "+7")]),
        })
        .collect();
    let mut batch = mirror.batch(minute(2), records);
    batch.progress = Progress::Segments(std::slice::from_ref(&segment));
    let written = mirror.store.write(batch).await.unwrap();
    assert_eq!(written, Written { inserted: 96, quarantined: 4, ..Written::default() });
    assert_eq!(mirror.store.segments(&CONTACTS).await.unwrap(), [segment]);
    assert_eq!(mirror.number("select count(*) from contact_phones").await, 97);
    // The older version of a refused record stays, and is read back as it was.
    assert_eq!(mirror.read([7, 8, 40, 90]).await, [contact(40, "before", &[(1, "a")])]);

    let refused = entries(&mirror).await;
    let ids: Vec<Option<i64>> = refused.iter().map(|entry| entry.record_id).collect();
    assert_eq!(ids, [7, 8, 40, 90].map(Some));
    assert!(refused.iter().all(|entry| entry.reason == "refused_by_database"));
    let raw: serde_json::Value = serde_json::from_str(&refused[0].raw).unwrap();
    assert_eq!((&raw["ID"], &raw["NAME"]), (&7.into(), &"Trudy".into()));
    assert_eq!(raw["PHONE"][0]["VALUE"], "b");
    assert!(raw["message"].as_str().unwrap().contains("no_trudy"));

    mirror.execute("alter table contacts drop constraint no_trudy").await;
    let written = mirror.write(minute(3), vec![contact(7, "Trudy", &[(2, "b")])]).await;
    assert_eq!(written, Written { inserted: 1, ..Written::default() });
    assert!(entries(&mirror).await[0].resolved);
}

#[tokio::test]
async fn a_value_too_large_for_somebodys_index_stands_aside() {
    let mirror = mirror().await;
    mirror.execute("create index on contacts (name)").await;
    // Larger than an index entry may be, and random, hence not compressible.
    let mut state = 7_u64;
    let long: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'0' + u8::try_from(state >> 58).unwrap())
    })
    .take(6000)
    .collect();
    let written =
        mirror.write(minute(1), vec![contact(1, &long, &[]), contact(2, "short", &[])]).await;
    assert_eq!(written, Written { inserted: 1, quarantined: 1, ..Written::default() });
}

#[tokio::test]
async fn every_reason_has_its_place() {
    let mirror = mirror().await;
    let mut batch = mirror.batch(minute(1), Vec::new());
    batch.rejects = Reason::ALL
        .into_iter()
        .map(|reason| Reject { id: Some(id(1)), note: note("", reason, "1") })
        .collect();
    mirror.store.write(batch).await.unwrap();
    let open = mirror.store.open_quarantine(&CONTACTS).await.unwrap();
    let mut reasons: Vec<Reason> = open.into_iter().map(|count| count.reason).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, Reason::ALL);
}

#[tokio::test]
async fn a_tombstone_closes_what_is_open_of_it_until_it_comes_back_still_wrong() {
    let mirror = mirror().await;
    let bad = || noted(vec![note("BIRTHDATE", Reason::UnreadableValue, "1")]);
    let open = async || mirror.store.open_quarantine(&CONTACTS).await.unwrap();
    let delete = async |written, asked_at| {
        let seen = [Seen { id: id(1), version: Some((written, None)) }];
        mirror.store.delete_seen(mirror.generation, &CONTACTS, &seen, asked_at).await.unwrap()
    };
    mirror.write(minute(1), vec![bad()]).await;
    assert_eq!(open().await[0].entries, 1);
    assert_eq!(delete(minute(1), minute(3)).await, 1);
    assert!(open().await.is_empty());

    let revived = mirror.write(minute(4), vec![bad()]).await;
    assert_eq!((revived.updated, revived.quarantined), (1, 1));
    assert_eq!(open().await[0].entries, 1);
    assert_eq!(mirror.read([1]).await, [bad()]);

    // It has come back once more since it was asked for, and could not be read.
    let unparsable = note("", Reason::UnparsableRecord, "{");
    let reject = Reject { id: Some(id(1)), note: unparsable };
    let batch = Batch { rejects: vec![reject], ..mirror.batch(minute(6), Vec::new()) };
    mirror.store.write(batch).await.unwrap();
    assert_eq!(delete(minute(4), minute(5)).await, 1);
    let left = open().await;
    assert_eq!((left.len(), left[0].reason), (1, Reason::UnparsableRecord), "{left:?}");
}
