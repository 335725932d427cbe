//! `source = "item"`: the same records by crm.item.list, into the same rows.

use std::collections::BTreeMap;

use b24mirror::{
    entity::{CONTACTS, Dialect, Entity, LEADS},
    simulator::{self, Action, Options, Rights},
};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::{
    Database, Finished, Run, TestPortal, assert_equal, database,
    equal::{family, item_differences},
    tables::value,
    unlimited,
};

fn settings(portal: &TestPortal, database: &Database, dialect: Dialect) -> String {
    let source = match dialect {
        Dialect::Classic => "classic",
        Dialect::Item => "item",
        Dialect::Vibecode => "vibecode",
    };
    let more = format!(
        "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
         [entities]\ncontacts.source = \"{source}\"\nleads.source = \"{source}\"\n"
    );
    portal.settings_with(database, &more)
}

async fn run(
    portal: &TestPortal,
    database: &Database,
    dialect: Dialect,
    arguments: &[&str],
) -> Finished {
    Run::b24mirror(arguments).config(&settings(portal, database, dialect)).finish().await
}

async fn done(portal: &TestPortal, database: &Database, dialect: Dialect, arguments: &[&str]) {
    let finished = run(portal, database, dialect, arguments).await;
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
}

async fn assert_equal_to_items(portal: &TestPortal, pool: &PgPool) {
    for entity in Entity::BY_DEFAULT {
        let differences = item_differences(portal, pool, entity).await;
        assert!(differences.is_empty(), "{} differ from the portal:\n{differences}", entity.name);
    }
}

/// Everything that people do to records, in both families.
fn a_day_of_work(portal: &TestPortal) {
    for entity in [simulator::Entity::Contacts, simulator::Entity::Leads] {
        portal.happens(Action::Create { entity, count: 70, visible_after: 0.0 });
        portal.happens(Action::Change { entity, ids: Vec::new(), count: 60, visible_after: 0.0 });
        portal.happens(Action::Import { entity, count: 5, days: 300, visible_after: 0.0 });
        portal.happens(Action::Delete { entity, ids: Vec::new(), count: 6 });
        portal.happens(Action::Restore { entity, ids: Vec::new(), count: 2, visible_after: 0.0 });
        portal.happens(Action::Merge { entity, ids: Vec::new(), count: 3 });
        let ids = portal.ids(entity);
        for (field, values) in [("PHONE", &[][..]), ("EMAIL", &["a@example.org", "b@example.org"])]
        {
            let values = values.iter().map(|one| ((*one).to_owned(), "WORK".to_owned())).collect();
            let (id, field) = (ids[ids.len() / 2], field.to_owned());
            portal.happens(Action::SetMulti { entity, id, field, values });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_of_every_item_is_mirrored_and_stays_so() {
    // Whatever of this a portal does.
    let positions =
        [(false, false, false), (true, true, true), (true, false, true), (false, true, false)];
    for (item_total_zero, item_cast_arrays, item_null_dates) in positions {
        let portal = TestPortal::with(Options {
            contacts: 800,
            leads: 300,
            item_total_zero,
            item_cast_arrays,
            item_null_dates,
            ..unlimited()
        });
        let database = database().await;
        done(&portal, &database, Dialect::Item, &["backfill"]).await;
        assert_equal_to_items(&portal, database.pool()).await;
        let commands = portal.stats().commands;
        assert!(!commands.contains_key("crm.contact.list"), "{commands:?}");

        a_day_of_work(&portal);
        done(&portal, &database, Dialect::Item, &["sync"]).await;
        done(&portal, &database, Dialect::Item, &["sweep"]).await;
        assert_equal_to_items(&portal, database.pool()).await;
        for level in ["counts", "ids", "full"] {
            done(&portal, &database, Dialect::Item, &["verify", "--level", level]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_in_an_item_is_found_and_repaired() {
    let portal = TestPortal::with(Options { contacts: 300, leads: 50, ..unlimited() });
    let database = database().await;
    done(&portal, &database, Dialect::Item, &["backfill"]).await;
    let pool = database.pool();
    for damage in [
        "update bitrix24.contacts set webform_id = 77 where id = (select min(id) from bitrix24.contacts)",
        "delete from bitrix24.contact_companies where contact_id = \
            (select min(contact_id) from bitrix24.contact_companies)",
        "update bitrix24.contact_observers set position = position + 1 where contact_id = \
            (select max(contact_id) from bitrix24.contact_observers)",
    ] {
        let damaged = sqlx::raw_sql(damage).execute(pool).await.unwrap().rows_affected();
        assert!(damaged > 0, "{damage}");
    }
    let found = run(&portal, &database, Dialect::Item, &["verify", "--level", "full"]).await;
    assert_eq!(found.code, Some(2), "{found:#?}");
    done(&portal, &database, Dialect::Item, &["verify", "--level", "full", "--repair"]).await;
    assert_equal_to_items(&portal, pool).await;
}

/// The rows of a table as text, by their keys, without what is no content.
async fn rows(pool: &PgPool, entity: &Entity, columns: &[&str]) -> BTreeMap<i64, String> {
    let select = format!(
        "select id, jsonb_build_array({}, custom_fields)::text from bitrix24.{} \
         where deleted_at is null{}",
        columns.join(", "),
        entity.name,
        if entity.position("CATEGORY_ID").is_some() { " and category_id = 0" } else { "" }
    );
    let rows: Vec<(i64, String)> =
        sqlx::query_as(AssertSqlSafe(select)).fetch_all(pool).await.unwrap();
    rows.into_iter().collect()
}

/// The columns that both lists bring.
fn shared(portal: &TestPortal, entity: &'static Entity) -> Vec<&'static str> {
    let classic = portal.truth(entity).remove(0).fields;
    let item = portal.item_truth(family(entity)).remove(0).fields;
    entity
        .columns
        .iter()
        .filter(|column| {
            let name = column.name.to_uppercase();
            classic.contains_key(&name) && item.contains_key(&name)
        })
        .map(|column| column.name)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sources_make_the_same_tables() {
    let portal = TestPortal::with(Options { contacts: 2_000, leads: 900, ..unlimited() });
    let (classic, item) = (database().await, database().await);
    done(&portal, &classic, Dialect::Classic, &["backfill"]).await;
    done(&portal, &item, Dialect::Item, &["backfill"]).await;
    for entity in Entity::BY_DEFAULT {
        let columns = shared(&portal, entity);
        assert!(columns.len() > 30, "{columns:?}");
        let (one, other) = (
            rows(classic.pool(), entity, &columns).await,
            rows(item.pool(), entity, &columns).await,
        );
        assert_eq!(one.len(), portal.truth(entity).len());
        for (id, row) in &one {
            assert_eq!(Some(row), other.get(id), "{} {id}", entity.singular);
        }
        assert_eq!(one.len(), other.len());
        for multi in entity.multi_fields.iter().filter(|multi| multi.is_values()) {
            let select = format!(
                "select coalesce(jsonb_agg(to_jsonb(m) order by m.{0}_id, m.id), '[]')::text \
                 from bitrix24.{1} m join bitrix24.{2} t on t.id = m.{0}_id {3}",
                entity.singular,
                multi.table,
                entity.name,
                if entity == &CONTACTS { "where t.category_id = 0" } else { "" }
            );
            let (one, other): (String, String) =
                (value(classic.pool(), &select).await, value(item.pool(), &select).await);
            assert_eq!(one, other, "{}", multi.table);
        }
    }
}

/// Every version of every row, by table and ID.
async fn versions(pool: &PgPool) -> BTreeMap<(&'static str, i64), String> {
    let mut versions = BTreeMap::new();
    for entity in Entity::BY_DEFAULT {
        let select = format!("select id, xmin::text || ctid::text from bitrix24.{}", entity.name);
        let rows: Vec<(i64, String)> =
            sqlx::query_as(AssertSqlSafe(select)).fetch_all(pool).await.unwrap();
        versions.extend(rows.into_iter().map(|(id, version)| ((entity.name, id), version)));
    }
    versions
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_the_source_writes_nothing_but_what_differs() {
    let portal = TestPortal::with(Options { contacts: 1_200, leads: 500, ..unlimited() });
    let database = database().await;
    let pool = database.pool();
    done(&portal, &database, Dialect::Classic, &["backfill"]).await;
    let addresses = "select count(address) + count(face_id) from bitrix24.contacts";
    let before: i64 = value(pool, addresses).await;
    assert!(before > 100);
    let old = versions(pool).await;

    portal.reset_stats();
    done(&portal, &database, Dialect::Item, &["backfill"]).await;
    assert_equal_to_items(&portal, pool).await;
    // What items lack is what it was.
    assert_eq!(value::<i64>(pool, addresses).await, before);
    let new = versions(pool).await;
    let mut differ = 0;
    for entity in [&CONTACTS, &LEADS] {
        for record in portal.item_truth(family(entity)) {
            let news = record.fields["WEBFORM_ID"] != serde_json::Value::Null
                || record.links.values().any(|links| !links.is_empty());
            let key = (entity.name, record.id);
            let written = old.get(&key) != new.get(&key);
            let known = old.contains_key(&key);
            assert_eq!(written, news || !known, "{} {}", entity.singular, record.id);
            differ += usize::from(written);
        }
    }
    assert!(differ > 50 && differ < new.len(), "{differ}");
    // One reading, and a page or two around it.
    let pages = portal.stats().commands["crm.item.list"];
    assert!(pages < u64::try_from(new.len()).unwrap() / 50 + 20, "{pages} pages");

    // There and back, nothing is news any more.
    done(&portal, &database, Dialect::Classic, &["backfill"]).await;
    done(&portal, &database, Dialect::Item, &["backfill"]).await;
    let again = versions(pool).await;
    let changed: Vec<_> = new.iter().filter(|(key, row)| again.get(key) != Some(row)).collect();
    assert!(changed.is_empty(), "{changed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switched_entity_follows_changes_in_what_both_sources_bring() {
    let portal = TestPortal::with(Options { contacts: 400, leads: 150, ..unlimited() });
    let database = database().await;
    done(&portal, &database, Dialect::Item, &["backfill"]).await;
    a_day_of_work(&portal);
    done(&portal, &database, Dialect::Classic, &["backfill"]).await;
    done(&portal, &database, Dialect::Classic, &["sync"]).await;
    done(&portal, &database, Dialect::Classic, &["sweep"]).await;
    // What it cannot see is another matter.
    let others = "delete from bitrix24.contacts where category_id <> 0";
    sqlx::query(others).execute(database.pool()).await.unwrap();
    assert_equal(&portal, database.pool()).await;
}

/// How many contacts `status` says that the source cannot show.
async fn out_of_sight(portal: &TestPortal, database: &Database, dialect: Dialect) -> usize {
    let json = run(portal, database, dialect, &["status", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let records = json["entities"][0]["out_of_sight"].as_u64().unwrap();
    let text = run(portal, database, dialect, &["status"]).await;
    let told = format!("among them {records} records that its `source` cannot show");
    assert_eq!(text.stdout.contains(&told), records > 0, "{text:#?}");
    usize::try_from(records).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_classic_list_does_not_show_has_not_gone() {
    let portal = TestPortal::with(Options { contacts: 1_000, leads: 20, ..unlimited() });
    let database = database().await;
    let pool = database.pool();
    done(&portal, &database, Dialect::Item, &["backfill"]).await;
    let others = "select array_agg(id order by id) from bitrix24.contacts \
                  where category_id <> 0 and deleted_at is null";
    let kept: Vec<i64> = value(pool, others).await;
    assert!(kept.len() > 3);

    done(&portal, &database, Dialect::Classic, &["backfill"]).await;
    let family = simulator::Entity::Contacts;
    portal.happens(Action::Delete { entity: family, ids: Vec::new(), count: 4 });
    done(&portal, &database, Dialect::Classic, &["sweep"]).await;
    for level in ["counts", "ids", "full"] {
        done(&portal, &database, Dialect::Classic, &["verify", "--level", level]).await;
    }
    let one = kept[1].to_string();
    let refresh = ["refresh", "contacts", &one];
    let refreshed = run(&portal, &database, Dialect::Classic, &refresh).await;
    assert!(refreshed.stdout.contains("does not show such records"), "{refreshed:#?}");
    assert_eq!(refreshed.code, Some(2), "it cannot know: {refreshed:#?}");
    assert_eq!(value::<Vec<i64>>(pool, others).await, kept);
    assert_eq!(out_of_sight(&portal, &database, Dialect::Classic).await, kept.len());
    assert_eq!(out_of_sight(&portal, &database, Dialect::Item).await, 0);
    // Nor does a repair touch them.
    let damage = "update bitrix24.contacts set last_name = 'x' \
                  where id = (select max(id) from bitrix24.contacts where category_id = 0)";
    sqlx::query(damage).execute(pool).await.unwrap();
    let repair = ["verify", "--level", "full", "--repair"];
    done(&portal, &database, Dialect::Classic, &repair).await;
    assert_eq!(value::<Vec<i64>>(pool, others).await, kept);

    // Whether they are still there, their own source tells.
    portal.happens(Action::Delete { entity: family, ids: vec![kept[0]], count: 1 });
    for command in ["backfill", "sweep"] {
        done(&portal, &database, Dialect::Item, &[command]).await;
    }
    assert_eq!(value::<Vec<i64>>(pool, others).await, kept[1..]);
    assert_equal_to_items(&portal, pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_source_has_refused_to_delete_is_not_accepted_by_another() {
    let portal = TestPortal::with(Options { contacts: 1_000, leads: 20, ..unlimited() });
    let database = database().await;
    let pool = database.pool();
    done(&portal, &database, Dialect::Item, &["backfill"]).await;
    let live = "select count(*) from bitrix24.contacts where deleted_at is null";
    let before: i64 = value(pool, live).await;

    // Half of them out of the user's rights look as if they had been deleted.
    let family = simulator::Entity::Contacts;
    portal.happens(Action::Rights { entity: family, rights: Rights::Without(0.5) });
    let refused = run(&portal, &database, Dialect::Item, &["sweep", "contacts"]).await;
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    let run_of = "select refused_run from bitrix24.sweeps where entity = 'contacts'";
    let refused: i64 = value(pool, run_of).await;
    portal.happens(Action::Rights { entity: family, rights: Rights::Full });

    // The classic list would not show those of other categories even if they are there.
    let accept = ["sweep", "contacts", "--accept", &refused.to_string()];
    for outcome in ["not finished", "no refused sweep waits"] {
        let accepted = run(&portal, &database, Dialect::Classic, &accept).await;
        assert_eq!(accepted.code, Some(2), "{accepted:#?}");
        assert!(accepted.stdout.contains(outcome), "{accepted:#?}");
        assert_eq!(value::<i64>(pool, live).await, before);
        done(&portal, &database, Dialect::Classic, &["backfill"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_links_with_the_names_of_both_ends() {
    let portal = TestPortal::with(Options { contacts: 300, leads: 300, ..unlimited() });
    let database = database().await;
    done(&portal, &database, Dialect::Item, &["backfill"]).await;
    let pool = database.pool();
    sqlx::raw_sql(
        "update bitrix24.lead_contacts set contact_id = (select min(id) from bitrix24.contacts) \
         where (lead_id, contact_id) in (select lead_id, min(contact_id) from bitrix24.lead_contacts \
            group by lead_id)",
    )
    .execute(pool)
    .await
    .unwrap();
    let named = "select count(*) from bitrix24_report.lead_contacts \
                 where lead is not null and contact is not null";
    assert!(value::<i64>(pool, named).await > 0);
    // One primary link at most, and it is the record's own.
    for (table, one, linked) in [("contacts", "contact", "company"), ("leads", "lead", "contact")] {
        let links = if one == "contact" { "contact_companies" } else { "lead_contacts" };
        let wrong = format!(
            "select count(*) from bitrix24_report.{links} l join bitrix24_report.{table} t \
                on t.id = l.{one}_id \
             where l.is_primary and l.position > 1 and l.{linked}_id <> t.{linked}_id"
        );
        assert_eq!(value::<i64>(pool, &wrong).await, 0, "{links}");
    }
    let known =
        "select count(*) from bitrix24_report.contact_observers where user_name is not null";
    assert!(value::<i64>(pool, known).await > 0);
}
