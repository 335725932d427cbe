//! Phones can be joined: every one has the form in which it can be compared, by the rules
//! in force, and nothing is read again for it.

use std::{collections::BTreeMap, time::Duration};

use b24mirror::{
    entity::{
        CONTACTS, Entity, LEADS, RecordId,
        phone::{LIBRARY, PhoneRules, Region},
        record::{Child, ChildList, Record, Value},
    },
    reporting::indexes::indexes,
    store::{Acquired, Batch, Generation, PortalIdentity, Progress, Store, StoreOptions},
};
use chrono::{DateTime, Utc};

use crate::support::{
    Database, Run, TestPortal, database,
    tables::{row_versions, value},
};

/// A migrated store whose lease is ours.
struct Mirror {
    store: Store,
    generation: Generation,
    database: Database,
}

async fn connect(database: &Database, region: Option<&str>) -> Store {
    let options = StoreOptions {
        url: database.url(),
        schema: "bitrix24".parse().unwrap(),
        max_connections: 4,
        application_name: "b24mirror-test".to_owned(),
    };
    let region = region.map(|region| region.parse::<Region>().unwrap());
    Store::connect(&options).await.unwrap().with_default_region(region)
}

impl Mirror {
    async fn create(region: Option<&str>) -> Self {
        let database = database().await;
        let store = connect(&database, region).await;
        store.migrate().await.unwrap();
        store.claim_portal(&PortalIdentity::host("portal.example"), Some(1)).await.unwrap();
        let Acquired::Ours(lease) =
            store.try_acquire("test", Duration::from_mins(10)).await.unwrap()
        else {
            panic!("the lease is not free")
        };
        let generation = lease.generation;
        store.settle_phone_rules(generation).await.unwrap();
        Self { store, generation, database }
    }

    /// Another process with other settings takes over.
    async fn reopen(&mut self, region: Option<&str>) {
        self.store = connect(&self.database, region).await;
        self.store.settle_phone_rules(self.generation).await.unwrap();
    }

    async fn write(&self, asked_at: DateTime<Utc>, contacts: &[(i64, &[&str])]) {
        let records = contacts.iter().map(|(id, phones)| contact(*id, phones)).collect();
        let batch = Batch {
            entity: &CONTACTS,
            generation: self.generation,
            asked_at,
            records,
            rejects: Vec::new(),
            progress: Progress::Nothing,
            run: None,
        };
        self.store.write(batch).await.unwrap();
    }

    /// Derives one part; whether there may be more.
    async fn derive(&self) -> bool {
        self.store.derive_some_phones(self.generation, &CONTACTS).await.unwrap()
    }

    async fn derive_all(&self) {
        while self.derive().await {}
    }

    /// The numbers of a contact in the order of its phones; empty for none.
    async fn numbers(&self, contact: i64) -> Vec<String> {
        sqlx::query_scalar(
            "select coalesce(e164, '') from bitrix24.contact_phones where contact_id = $1 order by id",
        )
        .bind(contact)
        .fetch_all(self.database.pool())
        .await
        .unwrap()
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(self.database.pool()).await.unwrap();
    }

    async fn count(&self, of: &str) -> i64 {
        value(self.database.pool(), &format!("select count(*) from bitrix24.{of}")).await
    }
}

fn contact(number: i64, phones: &[&str]) -> Record {
    let phones = (1..).zip(phones).map(|(id, value)| Child {
        id,
        value: Some((*value).to_owned()),
        value_type: None,
    });
    let mut children = vec![ChildList::Known(Vec::new()); CONTACTS.multi_fields.len()];
    children[0] = ChildList::Known(phones.collect());
    let values = vec![Value::Null; CONTACTS.columns.len()];
    Record::new(RecordId::new(number).unwrap(), values, BTreeMap::new(), children, Vec::new())
}

fn minute(minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + chrono::TimeDelta::minutes(30_000_000 + minute)
}

#[tokio::test]
async fn a_phone_has_its_number_from_the_moment_it_is_written() {
    let mirror = Mirror::create(Some("RU")).await;
    let phones = ["8 (916) 123-45-67", "+49 30 12345678", "123", ""];
    mirror.write(minute(1), &[(1, &phones)]).await;
    assert_eq!(mirror.numbers(1).await, ["+79161234567", "+493012345678", "", ""]);

    mirror.write(minute(2), &[(1, &["8 (916) 123-45-67", "нет", "8 916 123-45-68"])]).await;
    assert_eq!(mirror.numbers(1).await, ["+79161234567", "", "+79161234568"]);
    // The first look finds nothing to do.
    let before = row_versions(mirror.database.pool()).await;
    mirror.derive_all().await;
    let after = row_versions(mirror.database.pool()).await;
    assert_eq!(before["contact_phones"], after["contact_phones"]);
}

#[tokio::test]
async fn the_settings_country_comes_before_the_portals_and_both_before_none() {
    let mut mirror = Mirror::create(None).await;
    mirror.write(minute(1), &[(1, &["030 12345678", "8 916 123 45 67"])]).await;
    assert_eq!(mirror.numbers(1).await, ["", ""]);

    mirror.execute("update bitrix24.portal set country = 'ru'").await;
    mirror.store.settle_phone_rules(mirror.generation).await.unwrap();
    mirror.derive_all().await;
    assert_eq!(mirror.numbers(1).await, ["", "+79161234567"]);

    mirror.reopen(Some("DE")).await;
    mirror.derive_all().await;
    assert_eq!(mirror.numbers(1).await[0], "+493012345678");
    let by = "sync_phone_numbers where region = 'DE' and derived_at is not null";
    assert_eq!(
        mirror.count(by).await,
        3,
        "there are no leads or companies, hence nothing to derive"
    );

    // What is no country leaves things as if there were none.
    mirror.execute("update bitrix24.portal set country = 'eu'").await;
    mirror.reopen(None).await;
    mirror.derive_all().await;
    assert_eq!(mirror.numbers(1).await, ["", ""]);
}

#[tokio::test]
async fn another_country_derives_all_anew_in_parts_across_restarts_and_writes_only_what_differs() {
    let mut mirror = Mirror::create(None).await;
    let national: Vec<String> = (0..2_300).map(|n| format!("8 916 {n:07}")).collect();
    let written: Vec<Vec<&str>> =
        national.iter().map(|phone| vec!["+7 495 123-45-67", phone.as_str()]).collect();
    let contacts: Vec<(i64, &[&str])> = (1..).zip(written.iter().map(Vec::as_slice)).collect();
    mirror.write(minute(1), &contacts).await;
    assert_eq!(mirror.count("contact_phones where e164 is null").await, 2_300);
    let untouched = "select md5(string_agg(concat(ctid, xmin), ',' order by contact_id)) \
                     from bitrix24.contact_phones where id = 1";
    let before: String = value(mirror.database.pool(), untouched).await;
    let records = row_versions(mirror.database.pool()).await["contacts"].clone();

    mirror.reopen(Some("RU")).await;
    assert!(mirror.derive().await, "there is more than one part");
    let first = mirror.count("contact_phones where e164 is null").await;
    assert!((1_000..2_300).contains(&first), "{first} are left after one part");
    // Killed, and a phone of the part that is done comes again meanwhile.
    mirror.reopen(Some("RU")).await;
    assert_eq!(mirror.count("contact_phones where e164 is null").await, first);
    mirror.write(minute(2), &[(1, &["+7 495 123-45-67", "8 916 999 99 99"])]).await;
    mirror.derive_all().await;

    assert_eq!(mirror.count("contact_phones where e164 is null").await, 0);
    assert_eq!(mirror.numbers(1).await[1], "+79169999999");
    assert_eq!(mirror.numbers(2_300).await[1], "+79160002299");
    assert_eq!(value::<String>(mirror.database.pool(), untouched).await, before);
    let moved = "contacts where id > 1 and synced_at > timestamptz 'epoch' + \
                 interval '30000001 minutes'";
    assert_eq!(mirror.count(moved).await, 0, "no record is written for it");
    assert_ne!(records, row_versions(mirror.database.pool()).await["contacts"], "but contact 1 is");
}

#[tokio::test]
async fn what_an_older_library_derived_is_derived_anew_unless_the_entity_is_paused() {
    let mut mirror = Mirror::create(Some("RU")).await;
    mirror.write(minute(1), &[(1, &["8 916 123 45 67"]), (2, &["8 916 123 45 68"])]).await;
    mirror.derive_all().await;
    mirror.execute("update bitrix24.contact_phones set e164 = '+1' where contact_id = 2").await;
    mirror.execute("update bitrix24.sync_phone_numbers set library = 'older 1.0'").await;
    mirror.store.pause(&CONTACTS, "a person").await.unwrap();

    mirror.reopen(Some("RU")).await;
    mirror.derive_all().await;
    assert_eq!(mirror.numbers(2).await, ["+1"]);
    mirror.store.resume(&CONTACTS).await.unwrap();
    mirror.derive_all().await;
    assert_eq!(mirror.numbers(2).await, ["+79161234568"]);
    assert_eq!(mirror.numbers(1).await, ["+79161234567"]);
    let library: String = value(
        mirror.database.pool(),
        "select library from bitrix24.sync_phone_numbers where entity = 'contacts'",
    )
    .await;
    assert_eq!(library, LIBRARY);
}

#[tokio::test]
async fn nobody_else_derives_without_the_lease() {
    let mirror = Mirror::create(Some("RU")).await;
    mirror.execute("update bitrix24.sync_lease set generation = generation + 1").await;
    mirror.execute("update bitrix24.sync_phone_numbers set derived_at = null, region = null").await;
    assert!(mirror.store.settle_phone_rules(mirror.generation).await.is_err());
    assert!(mirror.store.derive_some_phones(mirror.generation, &LEADS).await.is_err());
}

/// Every phone of contacts and leads: what people typed, and the number.
async fn all(database: &Database) -> Vec<(Option<String>, Option<String>)> {
    sqlx::query_as(
        "select value, e164 from bitrix24.contact_phones \
         union all select value, e164 from bitrix24.lead_phones",
    )
    .fetch_all(database.pool())
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_country_that_is_set_later_changes_numbers_and_reads_no_record_again() {
    let (portal, database) = (TestPortal::small(), database().await);
    portal.backfilled(&database).await;
    let records = "select md5(string_agg(concat(ctid, xmin), ',' order by id)) \
                   from bitrix24.contacts";
    let before: String = value(database.pool(), records).await;
    let settings = |region: &str| {
        let more = format!(
            "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
             [reporting]\ndefault_region = \"{region}\"\n"
        );
        portal.settings_with(&database, &more)
    };
    for region in ["RU", "DE"] {
        let synced = Run::b24mirror(&["sync"]).config(&settings(region)).finish().await;
        assert_eq!(synced.code, Some(0), "{synced:#?}");
        let rules = PhoneRules { region: Some(region.parse().unwrap()) };
        let phones = all(&database).await;
        for (value, number) in &phones {
            let expected = value.as_deref().and_then(|value| rules.e164(value));
            assert_eq!(*number, expected, "{value:?} in {region}");
        }
        assert!(phones.iter().filter(|(_, number)| number.is_some()).count() > 300);
    }
    assert_eq!(value::<String>(database.pool(), records).await, before);
    let again = "select count(*) from bitrix24.backfill_segments where kind = 'full_pass'";
    assert_eq!(value::<i64>(database.pool(), again).await, 0);

    let refused = Run::b24mirror(&["sync"]).config(&settings("XX")).finish().await;
    assert_eq!(refused.code, Some(64), "{refused:#?}");
    assert!(refused.stderr.contains("reporting.default_region"), "{refused:#?}");
}

#[tokio::test]
async fn who_has_this_number_or_address_is_answered_by_an_index() {
    let mirror = Mirror::create(None).await;
    for index in Entity::ALL.into_iter().flat_map(indexes) {
        mirror.store.build_index(None, &index).await.unwrap();
    }
    let mut connection = mirror.database.pool().acquire().await.unwrap();
    // The tables are too small for an index to pay.
    sqlx::query("set enable_seqscan = off").execute(&mut *connection).await.unwrap();
    for entity in ["contact", "lead"] {
        for (table, question, index) in [
            ("phones", "e164 = '+79161234567'", "e164"),
            ("phones", "digits = '79161234567'", "digits"),
            ("emails", "address = 'anna@example.org'", "address"),
        ] {
            let explain = format!(
                "explain select {entity}_id from bitrix24.{entity}_{table} where {question}"
            );
            let plan: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(explain))
                .fetch_all(&mut *connection)
                .await
                .unwrap();
            let plan = plan.join("\n");
            let index = format!("{entity}_{table}_{index}");
            assert!(plan.contains(&index) && plan.contains("Index Cond"), "{index}: {plan}");
        }
    }
}
