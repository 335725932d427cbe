//! Migrations, and what they make.

use std::collections::BTreeMap;

use b24mirror::{
    entity::{Entity, SMART_ITEMS, smart_process},
    store::{PortalClaim, PortalIdentity, SchemaState, Store, StoreError},
};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{acquire, mirror, options};
use crate::support::database;

type Columns = Vec<(String, String, bool)>;

#[tokio::test]
async fn every_declaration_is_the_migrated_table() {
    let mirror = mirror().await;
    let process = smart_process(1036).unwrap();
    // Made once, however often it is asked for.
    for _ in 0..2 {
        mirror.store.make_smart_tables(Some(mirror.generation), process).await.unwrap();
    }
    let rows: Vec<(String, String, String, bool)> = sqlx::query_as(
        "select table_name::text, column_name::text, data_type::text, is_nullable = 'YES' \
         from information_schema.columns where table_schema = 'bitrix24' \
         order by table_name, ordinal_position",
    )
    .fetch_all(mirror.database.pool())
    .await
    .unwrap();
    let mut tables: BTreeMap<String, Columns> = BTreeMap::new();
    for (table, column, kind, nullable) in rows {
        tables.entry(table).or_default().push((column, kind, nullable));
    }

    for entity in Entity::ALL.into_iter().chain([&SMART_ITEMS, process]) {
        let of_process = || {
            let number = own("entity_type_id", "bigint", false);
            (*entity.family() == SMART_ITEMS).then_some(number)
        };
        let mut expected = vec![own("id", "bigint", false)];
        expected.extend(of_process());
        expected.extend(
            entity.columns.iter().map(|column| own(column.name, column.kind.sql_type(), true)),
        );
        expected.extend([
            own("custom_fields", "jsonb", false),
            own("content_hash", "bigint", false),
            own("synced_at", "timestamp with time zone", false),
            own("deleted_at", "timestamp with time zone", true),
        ]);
        // A column that a later migration added stands behind the others.
        expected.sort_unstable();
        let mut columns = tables[entity.name].clone();
        columns.sort_unstable();
        assert_eq!(columns, expected, "{}", entity.name);

        for multi_field in entity.multi_fields {
            let parent = own(&entity.key(), "bigint", false);
            if let Some(link) = multi_field.link {
                let mut expected: Columns = of_process().into_iter().collect();
                expected.extend([
                    parent,
                    own(link.column, "bigint", false),
                    own("position", "integer", false),
                ]);
                expected.extend(link.primary.map(|_| own("is_primary", "boolean", false)));
                assert_eq!(tables[multi_field.table], expected, "{}", multi_field.table);
                continue;
            }
            if multi_field.product_rows.is_some() {
                // What follows is made of the fields.
                let expected = [parent, own("id", "bigint", false), own("fields", "jsonb", false)];
                assert_eq!(tables[multi_field.table][..3], expected, "{}", multi_field.table);
                continue;
            }
            let mut expected = vec![
                parent,
                own("id", "bigint", false),
                own("value", "text", true),
                own("value_type", "text", true),
            ];
            match multi_field.field {
                "PHONE" => {
                    expected.extend([own("digits", "text", true), own("e164", "text", true)]);
                }
                "EMAIL" => expected.push(own("address", "text", true)),
                _ => {}
            }
            assert_eq!(tables[multi_field.table], expected, "{}", multi_field.table);
        }
    }
}

fn own(name: &str, kind: &str, nullable: bool) -> (String, String, bool) {
    (name.to_owned(), kind.to_owned(), nullable)
}

#[tokio::test]
async fn processes_may_migrate_at_once_and_again() {
    let database = database().await;
    let (one, two) = (
        Store::connect(&options(database.url())).await.unwrap(),
        Store::connect(&options(database.url())).await.unwrap(),
    );
    assert_eq!(one.schema_state().await.unwrap(), SchemaState::Missing);
    assert!(matches!(one.lease_row().await, Err(StoreError::NotMigrated(_))));
    let (first, second) = tokio::join!(one.migrate(), two.migrate());
    first.unwrap();
    second.unwrap();
    one.migrate().await.unwrap();
    assert_eq!(two.schema_state().await.unwrap(), SchemaState::Current);
}

#[tokio::test]
async fn two_schemas_of_one_database_are_two_mirrors() {
    let database = database().await;
    let here = Store::connect(&options(database.url())).await.unwrap();
    let mut other = options(database.url());
    other.schema = "user".parse().unwrap();
    let there = Store::connect(&other).await.unwrap();
    for store in [&here, &there] {
        store.migrate().await.unwrap();
        acquire(store, "test").await;
    }
    assert_eq!(
        here.claim_portal(&PortalIdentity::host("a.bitrix24.com"), Some(1)).await.unwrap(),
        PortalClaim::First
    );
    assert_eq!(
        there.claim_portal(&PortalIdentity::host("b.bitrix24.com"), Some(1)).await.unwrap(),
        PortalClaim::First
    );
}

#[tokio::test]
async fn a_newer_schema_is_recognised_and_left_alone() {
    let mirror = mirror().await;
    mirror.execute("delete from _sqlx_migrations where version = 13").await;
    assert_eq!(mirror.store.schema_state().await.unwrap(), SchemaState::Older);

    mirror
        .execute(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
             values (9999, 'from the future', true, '', 0)",
        )
        .await;
    assert_eq!(mirror.store.schema_state().await.unwrap(), SchemaState::Newer);
    let error = mirror.store.migrate().await.unwrap_err();
    assert!(matches!(error, StoreError::SchemaNewer { .. }), "{error}");
}

#[tokio::test]
async fn a_schema_belongs_to_one_portal() {
    let mirror = mirror().await;
    let claim =
        async |host, user| mirror.store.claim_portal(&PortalIdentity::host(host), Some(user)).await;
    assert_eq!(claim("a.bitrix24.com", 1).await.unwrap(), PortalClaim::First);
    assert_eq!(claim("A.bitrix24.com.", 1).await.unwrap(), PortalClaim::Same);
    for _ in 0..2 {
        let other = claim("a.bitrix24.com", 7).await.unwrap();
        assert_eq!(other, PortalClaim::OtherUser { before: 1 });
    }
    mirror.store.accept_user(7).await.unwrap();
    assert_eq!(claim("a.bitrix24.com", 7).await.unwrap(), PortalClaim::Same);

    let error = claim("b.bitrix24.com", 7).await.unwrap_err();
    assert!(error.is_misconfigured());
    let text = error.to_string();
    assert!(text.contains("a.bitrix24.com") && text.contains("b.bitrix24.com"), "{text}");
    assert_eq!(mirror.store.portal_host().await.unwrap().unwrap(), "a.bitrix24.com");
}

#[tokio::test]
async fn a_wrong_address_says_whether_waiting_helps() {
    let database = database().await;
    let mut wrong_name = Url::parse(database.url().expose_secret()).unwrap();
    wrong_name.set_path("no_such_database");
    wrong_name.query_pairs_mut().append_pair("password", "s3cret");
    let failure = async |url: &str| {
        let error = Store::connect(&options(SecretString::from(url))).await.unwrap_err();
        let mut text = error.to_string();
        let mut source: Option<&dyn std::error::Error> = Some(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause} {cause:?}");
            source = cause.source();
        }
        assert!(!text.contains("s3cret"), "{text}");
        error
    };
    assert!(failure(wrong_name.as_str()).await.is_misconfigured());
    // Port 1 of loopback: nobody listens there.
    assert!(failure("postgres://u:s3cret@127.0.0.1:1/db").await.is_unavailable());
    assert!(failure("postgres:///db?host=/nowhere&password=s3cret").await.is_unavailable());
}
