//! What changed, from what, to what, and when: as the portal's edits were, and no other.

use b24mirror::{
    entity::LEADS,
    simulator::{Action, Entity, Options},
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::{
    Database, Finished, Process, Run, TestPortal, assert_equal, database, eventually,
    tables::{let_the_lease_run_out, nobody_connected, value},
    unlimited,
};

fn leads(leads: u64) -> TestPortal {
    TestPortal::with(Options { contacts: 0, leads, ..unlimited() })
}

/// Settings of a mirror of leads only; `more` is said of leads.
fn settings(portal: &TestPortal, database: &Database, more: &str) -> String {
    let settings = "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
                    [entities.contacts]\nenabled = false\n[entities.leads]\nhistory = true\n";
    portal.settings_with(database, &format!("{settings}{more}\n"))
}

fn start(portal: &TestPortal, database: &Database, arguments: &[&str]) -> Process {
    Run::b24mirror(arguments).config(&settings(portal, database, "")).spawn()
}

async fn done(portal: &TestPortal, database: &Database, arguments: &[&str]) -> Finished {
    let finished = start(portal, database, arguments).finish().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finished
}

fn touch(id: i64, field: &str, value: Value) -> Action {
    let entity = Entity::Leads;
    Action::Touch { entity, id, field: field.to_owned(), value, keep_date: false }
}

fn phones(id: i64, values: &[(&str, &str)]) -> Action {
    let values = values.iter().map(|(value, kind)| ((*value).to_owned(), (*kind).to_owned()));
    Action::SetMulti {
        entity: Entity::Leads,
        id,
        field: "PHONE".to_owned(),
        values: values.collect(),
    }
}

type Line = (String, Option<String>, Option<String>, Option<String>);

/// The lines of a lead, in their order.
async fn lines(database: &Database, lead: i64) -> Vec<Line> {
    sqlx::query_as(
        "select kind, field, old_value, new_value from bitrix24.lead_changes \
         where lead_id = $1 order by id",
    )
    .bind(lead)
    .fetch_all(database.pool())
    .await
    .unwrap()
}

fn line(kind: &str, field: &str, old: &str, new: &str) -> Line {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    (kind.to_owned(), text(field), text(old), text(new))
}

async fn count(database: &Database) -> i64 {
    value(database.pool(), "select count(*) from bitrix24.lead_changes").await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_edit_is_a_line_and_nothing_else_is() {
    let (portal, database) = (leads(80), database().await);
    done(&portal, &database, &["backfill"]).await;
    let [edited, deleted] = [20, 30].map(|place: usize| portal.truth(&LEADS)[place].id);
    assert_eq!(count(&database).await, 0, "what was before cannot be known");
    let since = "select count(*) from bitrix24.history \
                 where entity = 'leads' and complete_since < now()";
    assert_eq!(value::<i64>(database.pool(), since).await, 1);

    portal.happens(touch(edited, "TITLE", json!("one")));
    portal.happens(touch(edited, "STATUS_ID", json!("NEW")));
    portal.happens(phones(edited, &[]));
    done(&portal, &database, &["sync"]).await;
    let before = lines(&database, edited).await.len();
    done(&portal, &database, &["sync"]).await;
    assert_eq!(lines(&database, edited).await.len(), before, "nothing has changed since");

    portal.happens(touch(edited, "TITLE", json!("two")));
    portal.happens(touch(edited, "STATUS_ID", json!("IN_PROCESS")));
    portal.happens(touch(edited, "OPPORTUNITY", json!("12.50")));
    portal.happens(touch(edited, "OPENED", json!("N")));
    portal.happens(phones(edited, &[("+7 900", "WORK")]));
    done(&portal, &database, &["sync"]).await;
    portal.happens(phones(edited, &[("+7 901", "HOME")]));
    done(&portal, &database, &["sync"]).await;
    // Written back without a line of its own in between: only what was seen is told.
    portal.happens(touch(edited, "TITLE", json!("three")));
    portal.happens(touch(edited, "TITLE", json!("two")));
    done(&portal, &database, &["sync"]).await;
    assert_equal(&portal, database.pool()).await;

    let told = lines(&database, edited).await.split_off(before);
    let told = |field: &str| -> Vec<Line> {
        told.iter().filter(|line| line.1.as_deref() == Some(field)).cloned().collect()
    };
    assert_eq!(told("TITLE"), [line("changed", "TITLE", "one", "two")]);
    assert_eq!(told("STATUS_ID"), [line("changed", "STATUS_ID", "NEW", "IN_PROCESS")]);
    assert_eq!(told("OPPORTUNITY")[0].3.as_deref(), Some("12.5"));
    assert_eq!(told("OPENED").last().and_then(|line| line.3.clone()).as_deref(), Some("false"));
    assert_eq!(
        told("PHONE"),
        [
            line("changed", "PHONE", "", "+7 900"),
            line("changed", "PHONE", "+7 900", ""),
            line("changed", "PHONE", "", "+7 901"),
        ]
    );
    assert_eq!(
        told("PHONE.VALUE_TYPE"),
        [
            line("changed", "PHONE.VALUE_TYPE", "", "WORK"),
            line("changed", "PHONE.VALUE_TYPE", "WORK", ""),
            line("changed", "PHONE.VALUE_TYPE", "", "HOME"),
        ]
    );
    assert!(told("DATE_MODIFY").is_empty() && told("MODIFY_BY_ID").is_empty());
    let dated = "select bool_and(c.date_modify <= l.date_modify and c.seen_at <= l.synced_at \
                    and c.date_modify is not null) \
                 from bitrix24.lead_changes c join bitrix24.leads l on l.id = c.lead_id";
    assert!(value::<bool>(database.pool(), dated).await);

    let created = portal
        .happens(Action::Create { entity: Entity::Leads, count: 1, visible_after: 0.0 })
        .ids[0];
    portal.happens(Action::Delete { entity: Entity::Leads, ids: vec![deleted], count: 1 });
    done(&portal, &database, &["sync"]).await;
    done(&portal, &database, &["sweep"]).await;
    done(&portal, &database, &["sweep"]).await;
    assert_eq!(lines(&database, created).await, [line("created", "", "", "")]);
    assert_eq!(lines(&database, deleted).await, [line("deleted", "", "", "")]);

    // With the history off, nothing is told, and it begins anew when it is on again.
    let quiet = portal.command(&database, &["sync", "leads"]).await;
    assert_eq!(quiet.code, Some(0), "{quiet:#?}");
    assert_eq!(value::<i64>(database.pool(), "select count(*) from bitrix24.history").await, 0);
    let told = count(&database).await;
    portal.happens(touch(edited, "TITLE", json!("unseen")));
    portal.command(&database, &["sync", "leads"]).await;
    assert_eq!(count(&database).await, told);
}

/// How many live leads are in each status, by a query.
async fn by_status(database: &Database, query: &str) -> Vec<(Option<String>, i64)> {
    let query = format!("select status_id, count(*) from {query} group by 1 order by 1");
    sqlx::query_as(AssertSqlSafe(query)).fetch_all(database.pool()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn how_many_were_in_a_status_at_a_moment_is_told_afterwards() {
    let (portal, database) = (leads(60), database().await);
    done(&portal, &database, &["backfill"]).await;
    let mut moments = Vec::new();
    let entity = Entity::Leads;
    for round in 0..4 {
        let now: String = value(database.pool(), "select clock_timestamp()::text").await;
        moments.push((now, by_status(&database, "bitrix24.leads where deleted_at is null").await));
        // The portal's times are whole seconds: what is created next is created later.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        for (place, status) in ["NEW", "CONVERTED", "JUNK", "IN_PROCESS"].iter().enumerate() {
            let id = portal.truth(&LEADS)[place * 7 + round].id;
            portal.happens(touch(id, "STATUS_ID", json!(status)));
        }
        portal.happens(Action::Create { entity, count: 2, visible_after: 0.0 });
        let ids = vec![portal.truth(&LEADS)[10 + round].id];
        portal.happens(Action::Delete { entity, ids, count: 1 });
        done(&portal, &database, &["sync", "leads"]).await;
        done(&portal, &database, &["sweep", "leads"]).await;
        if round == 1 {
            // A tombstone that a later question finds alive again.
            let id = portal.truth(&LEADS)[40].id;
            let bury = format!("update bitrix24.leads set deleted_at = now() where id = {id}");
            sqlx::query(AssertSqlSafe(bury)).execute(database.pool()).await.unwrap();
            let told = format!(
                "insert into bitrix24.lead_changes (lead_id, kind, seen_at) \
                 select id, 'deleted', deleted_at from bitrix24.leads where id = {id}"
            );
            sqlx::query(AssertSqlSafe(told)).execute(database.pool()).await.unwrap();
            let now: String = value(database.pool(), "select clock_timestamp()::text").await;
            moments
                .push((now, by_status(&database, "bitrix24.leads where deleted_at is null").await));
            done(&portal, &database, &["refresh", "leads", &id.to_string()]).await;
            assert!(lines(&database, id).await.contains(&line("revived", "", "", "")));
        }
    }
    assert_equal(&portal, database.pool()).await;
    for (moment, then) in moments {
        let at = format!(
            "bitrix24.lead_status_spans where valid_from <= '{moment}' \
             and (valid_to is null or valid_to > '{moment}')"
        );
        assert_eq!(by_status(&database, &at).await, then, "at {moment}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_commit_neither_loses_nor_doubles_a_line() {
    let (portal, database) = (leads(60), database().await);
    done(&portal, &database, &["backfill"]).await;
    let edited: Vec<i64> = portal.truth(&LEADS).iter().take(12).map(|record| record.id).collect();
    for id in &edited {
        portal.happens(touch(*id, "TITLE", json!(format!("edited {id}"))));
    }
    let mut lock = database.pool().begin().await.unwrap();
    sqlx::query("select from bitrix24.sync_checkpoints for update")
        .execute(&mut *lock)
        .await
        .unwrap();
    let process = start(&portal, &database, &["sync"]);
    eventually("a transaction that waits before its commit", || async {
        value::<bool>(
            database.pool(),
            "select exists (select from pg_stat_activity where datname = current_database() \
             and wait_event_type = 'Lock' and query like 'insert into sync_checkpoints%')",
        )
        .await
    })
    .await;
    process.kill().await;
    lock.rollback().await.unwrap();
    nobody_connected(database.pool()).await;
    assert_eq!(count(&database).await, 0, "the lines go with the rows");
    let_the_lease_run_out(database.pool()).await;

    done(&portal, &database, &["sync"]).await;
    assert_equal(&portal, database.pool()).await;
    for id in edited {
        let told = lines(&database, id).await;
        let title: Vec<_> = told.iter().filter(|line| line.1.as_deref() == Some("TITLE")).collect();
        assert_eq!(title.len(), 1, "{told:?}");
        assert_eq!(title[0].3, Some(format!("edited {id}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_in_another_way_is_nobodys_edit() {
    let (portal, database) = (leads(120), database().await);
    done(&portal, &database, &["backfill"]).await;
    let names = "select count(name) + count(comments) from bitrix24.leads";
    let clear: i64 = value(database.pool(), names).await;
    for privacy in ["hash_fields = [\"NAME\", \"PHONE\"]\nexclude_fields = [\"COMMENTS\"]", ""] {
        let settings = settings(&portal, &database, privacy);
        // What is hidden is shown again by none but a backfill.
        let reveals = privacy.is_empty();
        for command in if reveals { ["backfill", "sync"] } else { ["sync", "backfill"] } {
            let read = Run::b24mirror(&[command]).config(&settings).finish().await;
            assert!(matches!(read.code, Some(0 | 2)), "{read:#?}");
        }
        let full_pass = "select count(*) from bitrix24.backfill_segments \
                         where kind = 'full_pass' and done";
        assert!(value::<i64>(database.pool(), full_pass).await > 0, "nothing was read again");
        assert_eq!(count(&database).await, 0, "with {privacy:?}");
    }
    assert_eq!(value::<i64>(database.pool(), names).await, clear, "all is in clear again");
    assert_equal(&portal, database.pool()).await;

    // Who edits meanwhile is told of.
    let id = portal.truth(&LEADS)[7].id;
    portal.happens(touch(id, "TITLE", json!("edited")));
    let hashed = settings(&portal, &database, "hash_fields = [\"NAME\"]");
    let read = Run::b24mirror(&["backfill"]).config(&hashed).finish().await;
    assert_eq!(read.code, Some(0), "{read:#?}");
    let told = lines(&database, id).await;
    assert!(told.iter().any(|line| line.1.as_deref() == Some("TITLE")), "{told:?}");
    let of_others = format!("select count(*) from bitrix24.lead_changes where lead_id <> {id}");
    assert_eq!(value::<i64>(database.pool(), &of_others).await, 0);
}
