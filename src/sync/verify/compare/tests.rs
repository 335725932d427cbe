use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;
use crate::{
    entity::{
        CONTACTS,
        record::{Child, CustomFields, Reason, Value},
    },
    store::Watermark,
};

fn id(number: i64) -> RecordId {
    RecordId::new(number).unwrap()
}

fn minute(minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::minutes(minute)
}

/// What there is to a contact in these tests.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    name: &'static str,
    city: &'static str,
    phones: Vec<(i64, &'static str)>,
    modified: i64,
    flawed: bool,
}

fn facts() -> Facts {
    Facts {
        name: "Anna",
        city: "Riga",
        phones: vec![(1, "7"), (2, "8")],
        modified: 0,
        flawed: false,
    }
}

fn record(number: i64, facts: &Facts) -> Record {
    let mut values = vec![Value::Null; CONTACTS.columns.len()];
    values[CONTACTS.position("NAME").unwrap()] = Value::Text(facts.name.to_owned());
    values[CONTACTS.position("DATE_MODIFY").unwrap()] = Value::Timestamp(minute(facts.modified));
    let city = format!("\"{}\"", facts.city);
    let custom = CustomFields::from(BTreeMap::from([("UF_CITY".to_owned(), city)]));
    let phones = facts.phones.iter().map(|(id, value)| Child {
        id: *id,
        value: Some((*value).to_owned()),
        value_type: None,
    });
    let mut children = vec![ChildList::Known(Vec::new()); CONTACTS.multi_fields.len()];
    children[0] = ChildList::Known(phones.collect());
    let note = Note {
        field: "BIRTHDATE".to_owned(),
        reason: Reason::UnreadableValue,
        raw: "\"x\"".to_owned(),
    };
    let notes = if facts.flawed { vec![note] } else { Vec::new() };
    Record::new(id(number), values, custom, children, notes)
}

fn row(number: i64, facts: &Facts) -> Stored {
    let record = record(number, facts);
    Stored { hash: record.hash(), record, synced_at: minute(1), deleted_at: None }
}

fn tombstone(number: i64, facts: &Facts) -> Stored {
    Stored { deleted_at: Some(minute(2)), ..row(number, facts) }
}

fn found(shown: &Shown<'_>, stored: Option<&Stored>) -> Option<(Kind, String)> {
    difference(&CONTACTS, shown, stored).map(|(kind, what)| (kind, what.join(", ")))
}

/// A cycle that reads what is above 1,000 or was modified in the last hundred minutes.
fn reach() -> Reach {
    Reach { above: id(1_000), since: minute(100) }
}

fn suspect(number: i64, shown: &Shown<'_>, stored: Option<&Stored>) -> Suspect {
    Suspect { id: id(number), sighting: Sighting::of(shown), version: version(stored) }
}

#[test]
fn each_kind_of_difference_has_its_name_and_says_what_differs() {
    let truth = record(7, &facts());
    let whole = Shown::Whole(&truth);
    let same = row(7, &facts());
    assert_eq!(found(&whole, Some(&same)), None);
    assert_eq!(found(&whole, None), Some((Kind::Missing, String::new())));
    assert_eq!(found(&Shown::Absent, Some(&same)), Some((Kind::Extra, String::new())));
    let deleted = tombstone(7, &facts());
    assert_eq!(found(&whole, Some(&deleted)), Some((Kind::TombstoneWrong, String::new())));
    assert_eq!(found(&Shown::Absent, Some(&deleted)), None);
    assert_eq!(found(&Shown::Absent, None), None);

    let other = |change: fn(&mut Facts)| {
        let mut facts = facts();
        change(&mut facts);
        // Whoever damaged the row did not touch its hash.
        Stored { hash: truth.hash(), ..row(7, &facts) }
    };
    let stale = |what: &str| Some((Kind::Stale, what.to_owned()));
    let child = |what: &str| Some((Kind::ChildWrong, what.to_owned()));
    let cases = [
        (other(|facts| facts.name = "Olga"), stale("name")),
        (other(|facts| facts.city = "Pskov"), stale("custom_fields.UF_CITY")),
        (other(|facts| facts.flawed = true), stale("quarantine BIRTHDATE")),
        (other(|facts| facts.phones[1].1 = "9"), child("contact_phones 2 changed")),
        (other(|facts| facts.phones.truncate(1)), child("contact_phones 2 missing")),
        (other(|facts| facts.phones.push((3, "1"))), child("contact_phones 3 extra")),
        (
            other(|facts| {
                facts.name = "Olga";
                facts.phones.clear();
            }),
            stale("name, contact_phones 1 missing, contact_phones 2 missing"),
        ),
        (
            Stored { hash: ContentHash::from_stored(1), ..same },
            Some((Kind::HashWrong, "content_hash".to_owned())),
        ),
    ];
    for (stored, expected) in cases {
        assert_eq!(found(&whole, Some(&stored)), expected);
    }
}

#[test]
fn no_value_is_ever_named() {
    let truth = record(7, &facts());
    let mut secret = facts();
    secret.name = "s3cret";
    secret.city = "s3cret";
    secret.phones = vec![(1, "s3cret"), (9, "s3cret")];
    let (_, what) = found(&Shown::Whole(&truth), Some(&row(7, &secret))).unwrap();
    assert!(!what.contains("s3cret"), "{what}");
}

#[test]
fn what_cannot_be_delivered_is_named_with_its_reason() {
    let note = Note { field: String::new(), reason: Reason::Undeliverable, raw: "x".to_owned() };
    let reject = Reject { id: Some(id(7)), note };
    let set_aside = Shown::SetAside(&reject);
    let what = "quarantine undeliverable".to_owned();
    assert_eq!(found(&set_aside, None), Some((Kind::Missing, what.clone())));
    assert_eq!(found(&set_aside, Some(&row(7, &facts()))), Some((Kind::Stale, what)));
}

#[test]
fn a_record_that_the_next_cycle_puts_right_is_behind() {
    let settled = |number, facts: &Facts, stored: Option<&Stored>| {
        let truth = record(number, facts);
        let shown = Shown::Whole(&truth);
        settle(&CONTACTS, &suspect(number, &shown, stored), &shown, stored, &reach())
    };
    let fresh = Facts { modified: 101, ..facts() };
    assert_eq!(settled(7, &fresh, None), Settled::Behind);
    assert_eq!(settled(7, &fresh, Some(&row(7, &facts()))), Settled::Behind);
    assert_eq!(settled(7, &fresh, Some(&tombstone(7, &fresh))), Settled::Behind);
    // Restored and imported records come with old dates.
    assert_eq!(settled(1_001, &facts(), None), Settled::Behind);
    assert!(matches!(settled(7, &facts(), None), Settled::Differs { kind: Kind::Missing, .. }));

    // A cycle would read these, and leave them as they are.
    let damaged = Stored {
        hash: record(7, &fresh).hash(),
        ..row(7, &Facts { phones: Vec::new(), ..fresh.clone() })
    };
    assert!(matches!(
        settled(7, &fresh, Some(&damaged)),
        Settled::Differs { kind: Kind::ChildWrong, .. }
    ));
    let unhashed = Stored { hash: ContentHash::from_stored(1), ..row(7, &fresh) };
    assert!(matches!(
        settled(7, &fresh, Some(&unhashed)),
        Settled::Differs { kind: Kind::HashWrong, .. }
    ));
}

#[test]
fn a_cycle_reaches_back_by_the_overlap_and_by_what_the_clock_fell_back() {
    let moment = |at| Watermark { portal: minute(at), offset_seconds: 0, database: minute(at) };
    let mut checkpoint = Checkpoint {
        fingerprint: 0,
        mark: id(10),
        successor: None,
        newest: id(20),
        deep: moment(100),
        deep_fitted: true,
        last: moment(101),
        shift: None,
        cycle: None,
        asked_at: minute(101),
        completed_at: None,
    };
    let reads = |checkpoint: &Checkpoint, number, modified| {
        let record = record(number, &Facts { modified, ..facts() });
        Reach::of(checkpoint, TimeDelta::minutes(2)).covers(&CONTACTS, &record)
    };
    assert!(reads(&checkpoint, 10, 98) && !reads(&checkpoint, 10, 97));
    assert!(reads(&checkpoint, 11, 0));
    checkpoint.shift = Some(crate::store::ClockShift { by_seconds: 3_600, until: minute(999) });
    assert!(reads(&checkpoint, 10, 38) && !reads(&checkpoint, 10, 37));
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let phones = prop::collection::btree_map(1_i64..4, prop::sample::select(vec!["7", "8"]), 0..3);
    let name = prop::sample::select(vec!["Anna", "Olga"]);
    let city = prop::sample::select(vec!["Riga", "Pskov"]);
    (name, city, phones, 0_i64..200, any::<bool>()).prop_map(
        |(name, city, phones, modified, flawed)| {
            let phones = phones.into_iter().collect();
            Facts { name, city, phones, modified, flawed }
        },
    )
}

fn any_row() -> impl Strategy<Value = (Facts, bool, bool)> {
    (any_facts(), any::<bool>(), prop::bool::weighted(0.2))
}

fn stored(number: i64, (facts, deleted, unhashed): &(Facts, bool, bool)) -> Stored {
    let mut row = if *deleted { tombstone(number, facts) } else { row(number, facts) };
    if *unhashed {
        row.hash = ContentHash::from_stored(row.hash.get() ^ 1);
    }
    row
}

proptest! {
    #[test]
    fn both_sides_of_a_range_are_paired_completely(
        portal in prop::collection::btree_set(1_i64..40, 0..30),
        mirror in prop::collection::btree_set(1_i64..40, 0..30),
    ) {
        let (left, right): (Vec<i64>, Vec<i64>) =
            (portal.iter().copied().collect(), mirror.iter().copied().collect());
        let pairs = paired(&left, &right, |n| id(*n), |n| id(*n));
        let ids: Vec<i64> = pairs.iter().map(|(id, ..)| id.get()).collect();
        let union: Vec<i64> = portal.union(&mirror).copied().collect();
        prop_assert_eq!(ids, union);
        for (id, one, other) in pairs {
            prop_assert_eq!(one.is_some(), portal.contains(&id.get()));
            prop_assert_eq!(other.is_some(), mirror.contains(&id.get()));
        }
    }

    /// Both levels find what they are for, and what the cheaper one suspects differs.
    #[test]
    fn exactly_what_differs_is_suspected(
        portal in prop::collection::btree_map(1_i64..30, any_facts(), 0..20),
        mirror in prop::collection::btree_map(1_i64..30, any_row(), 0..20),
    ) {
        let records: Vec<Record> =
            portal.iter().map(|(number, facts)| record(*number, facts)).collect();
        let rows: Vec<Stored> = mirror.iter().map(|(number, row)| stored(*number, row)).collect();
        let shown: Vec<(RecordId, Shown<'_>)> =
            records.iter().map(|record| (record.id(), Shown::Whole(record))).collect();
        let ids = |suspects: &[Suspect]| -> BTreeSet<i64> {
            suspects.iter().map(|suspect| suspect.id.get()).collect()
        };
        let by_content = suspects_by_content(&CONTACTS, &shown, &rows);

        let differs = |number: i64| match (portal.get(&number), mirror.get(&number)) {
            (None, None | Some((_, true, _))) => false,
            (Some(facts), Some((stored, false, unhashed))) => facts != stored || *unhashed,
            _ => true,
        };
        let expected: BTreeSet<i64> = (1..30).filter(|number| differs(*number)).collect();
        prop_assert_eq!(ids(&by_content), expected);

        let keys: Vec<Key> = portal
            .iter()
            .map(|(number, facts)| (id(*number), Some(minute(facts.modified))))
            .collect();
        let stored_keys: Vec<StoredKey> = mirror
            .iter()
            .zip(&rows)
            .map(|((number, (facts, ..)), row)| StoredKey {
                id: id(*number),
                date_modify: Some(minute(facts.modified)),
                synced_at: row.synced_at,
                deleted_at: row.deleted_at,
            })
            .collect();
        let by_key = suspects_by_key(&keys, &stored_keys);
        prop_assert!(ids(&by_key).is_subset(&ids(&by_content)));
        let (there, here): (BTreeSet<i64>, BTreeSet<i64>) = (
            portal.keys().copied().collect(),
            mirror.iter().filter(|(_, (_, deleted, _))| !deleted).map(|(n, _)| *n).collect(),
        );
        let one_sided: BTreeSet<i64> = there.symmetric_difference(&here).copied().collect();
        prop_assert!(one_sided.is_subset(&ids(&by_key)));

        // What stands still and is out of a cycle's reach is reported after a second look.
        for suspect in by_content.iter().chain(&by_key) {
            let record = records.iter().find(|record| record.id() == suspect.id);
            let shown = record.map_or(Shown::Absent, Shown::Whole);
            let row = rows.iter().find(|row| row.record.id() == suspect.id);
            let nothing = Reach { above: id(1_000), since: minute(1_000) };
            let settled = settle(&CONTACTS, suspect, &shown, row, &nothing);
            prop_assert!(matches!(settled, Settled::Differs { .. }), "{settled:?}");
        }
    }

    /// Whatever was written or changed between two looks is not reported by the second.
    #[test]
    fn what_is_on_its_way_is_never_reported(
        before in prop::option::of(any_facts()), after in prop::option::of(any_facts()),
        old in prop::option::of(any_row()), new in prop::option::of(any_row()),
        written in any::<bool>(),
    ) {
        let (first, second) =
            (before.as_ref().map(|f| record(7, f)), after.as_ref().map(|f| record(7, f)));
        let look = |record: &'_ Option<Record>| record.as_ref().map_or(Sighting::Absent, |record| {
            Sighting::of(&Shown::Whole(record))
        });
        let mut rows = [&old, &new].map(|row| row.as_ref().map(|row| stored(7, row)));
        if !written {
            rows[1] = rows[0].clone();
        } else if let Some(row) = &mut rows[1] {
            row.synced_at = minute(50);
        }
        let [old, new] = rows;
        let suspect = Suspect { id: id(7), sighting: look(&first), version: version(old.as_ref()) };
        let shown = second.as_ref().map_or(Shown::Absent, Shown::Whole);
        let settled = settle(&CONTACTS, &suspect, &shown, new.as_ref(), &reach());
        let moved = version(old.as_ref()) != version(new.as_ref()) || before != after;
        match settled {
            Settled::Equal => prop_assert!(difference(&CONTACTS, &shown, new.as_ref()).is_none()),
            Settled::Moving => prop_assert!(moved),
            Settled::Behind => {
                prop_assert!(!moved);
                // A cycle would write it.
                let second = second.as_ref().unwrap();
                prop_assert!(reach().covers(&CONTACTS, second));
                prop_assert!(
                    new.is_none_or(|row| row.deleted_at.is_some() || row.hash != second.hash())
                );
            }
            Settled::Differs { .. } => prop_assert!(!moved),
        }
    }
}
