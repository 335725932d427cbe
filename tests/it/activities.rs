//! Activities: a classic list with a time of modification of its own, mirrored only where
//! somebody asks for it.

use b24mirror::{
    entity::ACTIVITIES,
    simulator::{Action, Entity, Options},
};

use crate::support::{
    Database, Finished, Run, TestPortal, database, equal::differences, eventually, tables::value,
    unlimited,
};

fn portal() -> TestPortal {
    TestPortal::with(Options {
        contacts: 30,
        leads: 20,
        activities: 900,
        malformed: 40,
        ..unlimited()
    })
}

fn settings(portal: &TestPortal, database: &Database, more: &str) -> String {
    let more = format!(
        "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
         [entities.contacts]\nenabled = false\n[entities.leads]\nenabled = false\n\
         [entities.activities]\nenabled = true\n{more}"
    );
    portal.settings_with(database, &more)
}

async fn run(portal: &TestPortal, database: &Database, arguments: &[&str]) -> Finished {
    Run::b24mirror(arguments).config(&settings(portal, database, "")).finish().await
}

async fn done(portal: &TestPortal, database: &Database, arguments: &[&str]) {
    let finished = run(portal, database, arguments).await;
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
}

async fn assert_equal(portal: &TestPortal, database: &Database) {
    let differences = differences(portal, database.pool(), &ACTIVITIES).await;
    assert!(differences.is_empty(), "activities differ from the portal:\n{differences}");
}

/// What people do with activities.
fn work(portal: &TestPortal) {
    let entity = Entity::Activities;
    portal.happens(Action::Create { entity, count: 70, visible_after: 0.0 });
    portal.happens(Action::Change { entity, ids: Vec::new(), count: 60, visible_after: 0.0 });
    portal.happens(Action::Delete { entity, ids: Vec::new(), count: 6 });
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_has_not_asked_for_activities_reads_any() {
    let (portal, database) = (portal(), database().await);
    for arguments in [&["backfill"][..], &["sync"], &["verify"]] {
        let finished = Run::b24mirror(arguments).config(&portal.settings(&database)).finish().await;
        assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
    }
    let asked = portal.stats().commands;
    assert!(asked.keys().all(|method| !method.contains("activity")), "{asked:?}");
    let rows = "select count(*) from bitrix24.activities";
    assert_eq!(value::<i64>(database.pool(), rows).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_of_every_activity_is_mirrored_and_stays_so() {
    let (portal, database) = (portal(), database().await);
    done(&portal, &database, &["check"]).await;
    done(&portal, &database, &["backfill"]).await;
    assert_equal(&portal, &database).await;

    work(&portal);
    done(&portal, &database, &["sync"]).await;
    done(&portal, &database, &["sweep"]).await;
    assert_equal(&portal, &database).await;
    let gone = "select count(*) from bitrix24.activities where deleted_at is not null";
    assert_eq!(value::<i64>(database.pool(), gone).await, 6);
    for level in ["counts", "ids", "full"] {
        done(&portal, &database, &["verify", "--level", level]).await;
    }

    let damage = "update bitrix24.activities set subject = 'x' \
                  where id = (select max(id) from bitrix24.activities where deleted_at is null)";
    sqlx::query(damage).execute(database.pool()).await.unwrap();
    let found = run(&portal, &database, &["verify", "--level", "full"]).await;
    assert_eq!(found.code, Some(2), "{found:#?}");
    done(&portal, &database, &["verify", "--level", "full", "--repair"]).await;
    assert_equal(&portal, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_follows_and_people_see_who_is_responsible() {
    let (portal, database) = (portal(), database().await);
    done(&portal, &database, &["backfill"]).await;
    let daemon = Run::b24mirror(&["run"]).config(&settings(&portal, &database, "")).spawn();
    let entity = Entity::Activities;
    portal.happens(Action::Create { entity, count: 30, visible_after: 0.0 });
    portal.happens(Action::Change { entity, ids: Vec::new(), count: 40, visible_after: 0.0 });
    eventually("the daemon follows", || async {
        differences(&portal, database.pool(), &ACTIVITIES).await.is_empty()
    })
    .await;
    daemon.kill().await;
    let named = "select count(*) filter (where responsible is null) * 1.0 / count(*) < 0.3 \
                 from bitrix24_report.activities";
    assert!(value::<bool>(database.pool(), named).await);
    let in_words = "select count(*) filter (where type_id = 2 and type = 'call' \
                        and owner_type_id = 3 and owner_type = 'contact' \
                        and direction = 1 and direction_name = 'incoming') > 0 \
                    and count(*) filter (where description_type = 2 \
                        and description_type_name = 'BBCode') > 0 \
                    and count(*) filter (where description_type > 0 \
                        and description_type_name is null) = 0 \
                    and count(*) filter (where type is null and type_id <> 0) = 0 \
                    from bitrix24_report.activities";
    assert!(value::<bool>(database.pool(), in_words).await);
    let owners = "insert into bitrix24.contacts (id, last_name, content_hash, synced_at) \
                  select distinct owner_id, 'Known', 0, now() from bitrix24.activities \
                  where owner_type_id = 3";
    sqlx::query(owners).execute(database.pool()).await.unwrap();
    let called = "select count(*) filter (where owner_type_id = 3 and owner <> 'Known') = 0 \
                    and count(*) filter (where owner = 'Known') > 100 \
                  from bitrix24_report.activities";
    assert!(value::<bool>(database.pool(), called).await);
    let counted = "select (select sum(activities) from bitrix24_report.activities_per_responsible) \
                    = (select count(*) from bitrix24.activities where deleted_at is null)";
    assert!(value::<bool>(database.pool(), counted).await);
    // One word for one thing, in the view and in the report.
    let worded = "select not exists ( \
                    select type, direction from bitrix24_report.activities_per_responsible \
                    except select type, direction_name from bitrix24_report.activities)";
    assert!(value::<bool>(database.pool(), worded).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_about_people_can_be_left_out() {
    let (portal, database) = (portal(), database().await);
    let private = "exclude_fields = [\"DESCRIPTION\", \"PROVIDER_PARAMS\"]\n\
                   hash_fields = [\"SUBJECT\", \"SETTINGS\"]\n";
    let settings = settings(&portal, &database, private);
    let finished = Run::b24mirror(&["backfill"]).config(&settings).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let kept = "select count(*) filter (where subject ~ '^[0-9a-f]{32}$') > 500 \
                    and count(description) = 0 \
                    and count(*) filter (where subject !~ '^[0-9a-f]{32}$') = 0 \
                    and count(*) filter (where custom_fields->>'SETTINGS' ~ '^[0-9a-f]{32}$') > 100 \
                    and count(*) filter (where custom_fields::text like '%@%') = 0 \
                from bitrix24.activities";
    assert!(value::<bool>(database.pool(), kept).await);
}
