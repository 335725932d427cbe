//! What is excluded or hashed reaches the database in clear nowhere, and leaves it when the
//! settings begin to say so.

use std::collections::BTreeSet;

use b24mirror::{
    entity::{
        CONTACTS,
        privacy::{HashKey, Privacy, PrivacyRules},
    },
    simulator::{Action, Entity, Options, UserFieldType},
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::{
    Database, Finished, Run, TestPortal, database,
    tables::{let_the_lease_run_out, value},
    unlimited,
};

/// In every value that must be stored nowhere, in some capitalisation.
const MARK: &str = "zzmark";

/// The same in phone numbers, which are told by their digits.
const DIGITS: &str = "7916555019";

const RULES: &str = "exclude_fields = [\"COMMENTS\", \"EMAIL\", \"UF_CRM_OUT\", \"BIRTHDATE\"]\n\
                     hash_fields = [\"NAME\", \"POST\", \"PHONE\", \"WEB\", \"UF_CRM_HASH\"]\n";

fn contacts(contacts: u64) -> TestPortal {
    let portal = TestPortal::with(Options { contacts, leads: 0, ..unlimited() });
    for code in ["UF_CRM_OUT", "UF_CRM_HASH"] {
        portal.happens(Action::AddUserField {
            entity: Entity::Contacts,
            code: code.to_owned(),
            kind: UserFieldType::String,
            multiple: false,
        });
    }
    portal
}

fn settings(portal: &TestPortal, database: &Database, rules: &str) -> String {
    let more = format!(
        "[portal.limits]\nrequests_per_second = 1000\nburst = 10000\n\
         [log]\nlevel = \"trace\"\n\
         [entities.leads]\nenabled = false\n[entities.contacts]\nhistory = true\n{rules}"
    );
    portal.settings_with(database, &more)
}

async fn run(
    portal: &TestPortal,
    database: &Database,
    rules: &str,
    arguments: &[&str],
) -> Finished {
    let settings = settings(portal, database, rules);
    let finished = Run::b24mirror(arguments).config(&settings).finish().await;
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
    finished
}

fn touch(portal: &TestPortal, id: i64, field: &str, value: Value) {
    let entity = Entity::Contacts;
    portal.happens(Action::Touch { entity, id, field: field.to_owned(), value, keep_date: false });
}

fn values(portal: &TestPortal, id: i64, field: &str, values: &[&str]) {
    let values = values.iter().map(|value| ((*value).to_owned(), "WORK".to_owned())).collect();
    let entity = Entity::Contacts;
    portal.happens(Action::SetMulti { entity, id, field: field.to_owned(), values });
}

/// Puts marks into everything that is private, readable or not; `round` tells them apart.
fn mark(portal: &TestPortal, ids: &[i64], round: &str) {
    let text = |what: &str| json!(format!("ZZmark {round} {what} Ünï «текст»"));
    for id in ids {
        for field in ["COMMENTS", "NAME", "POST", "UF_CRM_OUT", "UF_CRM_HASH"] {
            touch(portal, *id, field, text(field));
        }
        values(portal, *id, "PHONE", &[&format!("+7 (916) 555-01-9{round}")]);
        values(portal, *id, "EMAIL", &[&format!(" ZZmark{round}@Example.ORG")]);
        values(portal, *id, "WEB", &[&format!("https://zzmark.example/{round}")]);
    }
    // What cannot be read goes into notes.
    touch(portal, ids[0], "POST", json!(["zzmark", round]));
    touch(portal, ids[1], "COMMENTS", json!({ "zzmark": round }));
    touch(portal, ids[2], "NAME", json!(format!("zzmark\u{0}{round}")));
    touch(portal, ids[3], "BIRTHDATE", json!(format!("zzmark {round}")));
    touch(portal, ids[4], "UF_CRM_HASH", json!([format!("zzmark {round}"), "b", 7]));
    touch(portal, ids[5], "UF_CRM_OUT", json!(format!("zzmark\u{0}{round}")));
}

/// In which tables a mark stands.
async fn marked(database: &Database) -> BTreeSet<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class \
         where relnamespace = 'bitrix24'::regnamespace and relkind = 'r'",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();
    let mut marked = BTreeSet::new();
    for table in tables {
        let found = format!(
            "select exists (select from bitrix24.\"{table}\" t where t::text ilike '%{MARK}%' \
             or regexp_replace(t::text, '[^0-9]', '', 'g') like '%{DIGITS}%')"
        );
        if value::<bool>(database.pool(), &found).await {
            marked.insert(table);
        }
    }
    marked
}

fn assert_quiet(finished: &Finished) {
    for text in [&finished.stdout, &finished.stderr] {
        let line = text.lines().find(|line| line.to_lowercase().contains(MARK));
        assert_eq!(line, None, "a value in what is printed or logged");
    }
}

/// The rules with the key of that schema.
async fn privacy(database: &Database) -> Privacy {
    let salt: Vec<u8> = sqlx::query_scalar("select salt from bitrix24.privacy_salt")
        .fetch_one(database.pool())
        .await
        .unwrap();
    Privacy::new(PrivacyRules::default(), HashKey::new(salt.try_into().unwrap()))
}

/// Fails unless every name, job and phone of the mirror is the hash of the portal's.
async fn assert_hashed(portal: &TestPortal, database: &Database) {
    type Row = (i64, Option<String>, Option<String>, Option<Vec<String>>);
    let privacy = privacy(database).await;
    let rows: Vec<Row> = sqlx::query_as(
        "select id, name, post, (select array_agg(coalesce(value, '') order by p.id) \
            from bitrix24.contact_phones p where contact_id = c.id) \
         from bitrix24.contacts c where deleted_at is null",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();
    let truth = portal.truth(&CONTACTS);
    assert_eq!(rows.len(), truth.len());
    for (id, name, post, phones) in rows {
        let record = truth.iter().find(|record| record.id == id).unwrap();
        let hashed =
            |field: &str| record.fields[field].as_str().map(|text| privacy.value(field, text));
        assert_eq!((name, post), (hashed("NAME"), hashed("POST")), "contact {id}");
        let expected: Vec<String> = record.multi_fields["PHONE"]
            .iter()
            .map(|phone| match phone.value.as_str() {
                "" => String::new(),
                value => privacy.value("PHONE", value),
            })
            .collect();
        assert_eq!(phones.unwrap_or_default(), expected, "contact {id}");
    }
    let numbers = "select count(e164) from bitrix24.contact_phones";
    assert_eq!(value::<i64>(database.pool(), numbers).await, 0, "a number tells what was typed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_value_is_in_no_column_of_any_table() {
    let (portal, database) = (contacts(150), database().await);
    let ids: Vec<i64> = portal.truth(&CONTACTS).iter().map(|record| record.id).collect();
    mark(&portal, &ids[20..40], "1");
    run(&portal, &database, "", &["migrate"]).await;
    // One that PostgreSQL refuses is set aside with everything that was to be stored.
    let refuse = format!(
        "alter table bitrix24.contacts add constraint refused check (id <> {}) not valid",
        ids[39]
    );
    sqlx::query(AssertSqlSafe(refuse)).execute(database.pool()).await.unwrap();
    let none = BTreeSet::new();
    assert_quiet(&run(&portal, &database, RULES, &["backfill"]).await);
    assert_eq!(marked(&database).await, none, "after a backfill");
    let refused = "select raw from bitrix24.sync_quarantine where reason = 'refused_by_database'";
    assert!(value::<String>(database.pool(), refused).await.contains("\"ID\":"));

    let open = "alter table bitrix24.contacts drop constraint refused";
    sqlx::query(open).execute(database.pool()).await.unwrap();
    mark(&portal, &ids[30..60], "2");
    assert_quiet(&run(&portal, &database, RULES, &["sync"]).await);
    assert_quiet(&run(&portal, &database, RULES, &["refresh", "--quarantined"]).await);
    assert_eq!(marked(&database).await, none, "after edits");
    let lines = "select count(*) from bitrix24.contact_changes where field = 'POST'";
    assert!(value::<i64>(database.pool(), lines).await > 5);
    let notes: Vec<String> = sqlx::query_scalar(
        "select distinct field from bitrix24.sync_quarantine where resolved_at is null",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();
    assert!(notes.contains(&"POST".to_owned()) && notes.contains(&"NAME".to_owned()), "{notes:?}");
    for left_out in ["COMMENTS", "BIRTHDATE", "EMAIL", "UF_CRM_OUT"] {
        assert!(!notes.contains(&left_out.to_owned()), "{notes:?}");
    }
    let out = "select count(*) from bitrix24.contacts where comments is not null \
               or birthdate is not null or custom_fields ? 'UF_CRM_OUT'";
    assert_eq!(value::<i64>(database.pool(), out).await, 0);
    let emails = "select count(*) from bitrix24.contact_emails";
    assert_eq!(value::<i64>(database.pool(), emails).await, 0);
    assert_hashed(&portal, &database).await;

    // Duplicates are still found, however they are spelled.
    values(&portal, ids[70], "PHONE", &["+7 900 000-11-22"]);
    values(&portal, ids[71], "PHONE", &["7(900)0001122"]);
    run(&portal, &database, RULES, &["sync"]).await;
    let same = format!(
        "select count(distinct value) from bitrix24.contact_phones where contact_id in ({}, {})",
        ids[70], ids[71]
    );
    assert_eq!(value::<i64>(database.pool(), &same).await, 1);
    for level in ["counts", "ids", "full"] {
        run(&portal, &database, RULES, &["verify", "--level", level]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_private_leaves_every_table_at_the_next_start() {
    let (portal, database) = (contacts(120), database().await);
    let ids: Vec<i64> = portal.truth(&CONTACTS).iter().map(|record| record.id).collect();
    mark(&portal, &ids[20..40], "1");
    run(&portal, &database, "", &["backfill"]).await;
    mark(&portal, &ids[20..40], "2");
    // A note that is resolved stays for a while, and so does its value.
    touch(&portal, ids[23], "BIRTHDATE", json!(""));
    let gone = ids[26];
    run(&portal, &database, "", &["sync"]).await;
    portal.happens(Action::Delete { entity: Entity::Contacts, ids: vec![gone], count: 1 });
    run(&portal, &database, "", &["sweep"]).await;
    let tables = ["contact_changes", "contact_emails", "contact_phones", "contact_websites"];
    let mut expected: BTreeSet<String> = tables.map(str::to_owned).into();
    expected.extend(["contacts", "sync_quarantine"].map(str::to_owned));
    assert_eq!(marked(&database).await, expected, "or the test proves nothing");

    // What was stored is put right before anything else; reading it all again comes later.
    let settings = settings(&portal, &database, RULES);
    let quiet = Run::b24mirror(&["sync"]).config(&settings).finish().await;
    assert_eq!(quiet.code, Some(2), "the full pass is still to come: {quiet:#?}");
    assert!(quiet.stderr.contains("fields are excluded or hashed now"), "{quiet:#?}");
    assert_eq!(marked(&database).await, BTreeSet::new());
    let privacy = privacy(&database).await;
    let tombstone = format!("select name from bitrix24.contacts where id = {gone}");
    let name: String = value(database.pool(), &tombstone).await;
    let expected = privacy.value("NAME", "ZZmark 2 NAME Ünï «текст»");
    assert_eq!(name, expected, "a tombstone is hashed as it stands");
    let lines = "select count(*) from bitrix24.contact_changes";
    let before: i64 = value(database.pool(), lines).await;
    let hashed = format!(
        "select count(*) from bitrix24.contact_changes where field = 'NAME' \
         and contact_id = {gone} and new_value = '{expected}'"
    );
    assert_eq!(value::<i64>(database.pool(), &hashed).await, 1);

    // The full pass finds what it would have stored: nothing but user fields and notes.
    run(&portal, &database, RULES, &["backfill"]).await;
    let changed: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select distinct field from (select field from bitrix24.contact_changes \
         order by id offset {before}) as later"
    )))
    .fetch_all(database.pool())
    .await
    .unwrap();
    assert!(changed.iter().all(|field| field == "UF_CRM_HASH"), "{changed:?}");
    assert_eq!(marked(&database).await, BTreeSet::new());
    assert_hashed(&portal, &database).await;
    run(&portal, &database, RULES, &["verify", "--level", "full"]).await;

    // And back: the portal still knows.
    run(&portal, &database, "", &["backfill"]).await;
    run(&portal, &database, "", &["verify", "--level", "full"]).await;
    assert!(marked(&database).await.contains("contacts"));
    let_the_lease_run_out(database.pool()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_about_no_field_is_refused_by_name() {
    let (portal, database) = (contacts(1), database().await);
    for (rules, says) in [
        ("exclude_fields = [\"LASTNAME\"]\n", "did you mean `LAST_NAME`?"),
        ("hash_fields = [\"BIRTHDATE\"]\n", "is no text"),
        ("exclude_fields = [\"DATE_MODIFY\"]\n", "cannot do without"),
        ("exclude_fields = [\"NAME\"]\nhash_fields = [\"NAME\"]\n", "excluded as well"),
    ] {
        let settings = settings(&portal, &database, rules);
        let finished = Run::b24mirror(&["sync"]).config(&settings).finish().await;
        assert_eq!(finished.code, Some(64), "{finished:#?}");
        assert!(finished.stderr.contains(says), "{finished:#?}");
        assert!(finished.stderr.contains("`entities.contacts."), "{finished:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_given_other_settings_reveals_nothing() {
    let (portal, database) = (contacts(120), database().await);
    let ids: Vec<i64> = portal.truth(&CONTACTS).iter().map(|record| record.id).collect();
    mark(&portal, &ids[20..40], "1");
    run(&portal, &database, RULES, &["backfill"]).await;
    let stored = "select excluded::text || hashed::text || applied_at from bitrix24.privacy_rules \
                  where entity = 'contacts'";
    let before: String = value(database.pool(), stored).await;
    let id = ids[21].to_string();
    // One that hides a field and shows another does neither.
    let both = "exclude_fields = [\"EMAIL\", \"UF_CRM_OUT\", \"BIRTHDATE\", \"LAST_NAME\"]\n\
                hash_fields = [\"NAME\", \"POST\", \"PHONE\", \"WEB\", \"UF_CRM_HASH\", \"COMMENTS\"]\n";
    let none = "`entities.contacts.exclude_fields` lacks BIRTHDATE, COMMENTS, EMAIL, UF_CRM_OUT, \
                `entities.contacts.hash_fields` lacks NAME, PHONE, POST, UF_CRM_HASH, WEB;";
    for (rules, lacking, arguments) in [
        ("", none, &["sync"][..]),
        ("", none, &["verify", "--level", "full", "--repair"]),
        ("", none, &["sweep"]),
        ("", none, &["refresh", "contacts", &id]),
        ("", none, &["forget", "contacts", &id, "--yes"]),
        (both, "`entities.contacts.exclude_fields` lacks COMMENTS;", &["sync"]),
    ] {
        let settings = settings(&portal, &database, rules);
        let refused = Run::b24mirror(arguments).config(&settings).finish().await;
        assert_eq!(refused.code, Some(64), "{arguments:?}: {refused:#?}");
        assert!(refused.stderr.contains(lacking), "{arguments:?}: {refused:#?}");
        assert!(refused.stderr.contains("settings of the service"), "{refused:#?}");
        assert_eq!(value::<String>(database.pool(), stored).await, before, "{arguments:?}");
        assert_eq!(marked(&database).await, BTreeSet::new(), "{arguments:?}");
    }
    assert_hashed(&portal, &database).await;
    run(&portal, &database, RULES, &["sync"]).await;

    // To hide more is never put off.
    let more = RULES.replace("\"BIRTHDATE\"", "\"BIRTHDATE\", \"LAST_NAME\"");
    let settings = settings(&portal, &database, &more);
    Run::b24mirror(&["sync"]).config(&settings).finish().await;
    let last_names = "select count(last_name) from bitrix24.contacts";
    assert_eq!(value::<i64>(database.pool(), last_names).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_a_hash_already_is_not_hashed_again() {
    let (portal, database) = (contacts(120), database().await);
    let ids: Vec<i64> = portal.truth(&CONTACTS).iter().map(|record| record.id).collect();
    let (gone, late, odd) = (ids[20], ids[21], ids[22]);
    let rules = "hash_fields = [\"NAME\", \"PHONE\"]\n";
    let rename = |id: i64, name: &str| touch(&portal, id, "NAME", json!(name));
    let phone = |id: i64, number: &str| values(&portal, id, "PHONE", &[number]);
    for id in [gone, late, odd] {
        rename(id, "one");
        phone(id, "+7 916 1");
    }
    run(&portal, &database, "", &["backfill"]).await;
    for id in [gone, late, odd] {
        rename(id, "two");
        phone(id, "+7 916 2");
    }
    run(&portal, &database, "", &["sync"]).await;
    portal.happens(Action::Delete { entity: Entity::Contacts, ids: vec![gone], count: 1 });
    run(&portal, &database, "", &["sweep"]).await;

    run(&portal, &database, rules, &["backfill"]).await;
    rename(late, "three");
    run(&portal, &database, rules, &["sync"]).await;
    // A row that still holds the hash, and changes as it is shown; in another second, by which
    // it is told from one that is only read in another way.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    rename(late, "four");
    run(&portal, &database, "", &["backfill"]).await;
    // And what only looks like a hash.
    let hexadecimal = "0123456789abcdef0123456789abcdef";
    rename(odd, hexadecimal);
    run(&portal, &database, "", &["sync"]).await;
    let settings = settings(&portal, &database, rules);
    let again = Run::b24mirror(&["sync"]).config(&settings).finish().await;
    assert_eq!(again.code, Some(2), "the full pass is still to come: {again:#?}");

    let privacy = privacy(&database).await;
    let hashed = |value: &str| Some(privacy.value("NAME", value));
    let stored: Vec<(i64, Option<String>)> =
        sqlx::query_as("select id, name from bitrix24.contacts where id = any($1) order by id")
            .bind([gone, late, odd])
            .fetch_all(database.pool())
            .await
            .unwrap();
    let expected = [(gone, hashed("two")), (late, hashed("four")), (odd, hashed(hexadecimal))];
    assert_eq!(stored, expected);
    let number = format!("select value from bitrix24.contact_phones where contact_id = {gone}");
    assert_eq!(value::<String>(database.pool(), &number).await, privacy.value("PHONE", "+7 916 2"));
    let mut told = Vec::new();
    for id in [gone, late, odd] {
        let lines: Vec<(Option<String>, Option<String>)> = sqlx::query_as(
            "select old_value, new_value from bitrix24.contact_changes \
             where contact_id = $1 and field = 'NAME' order by id",
        )
        .bind(id)
        .fetch_all(database.pool())
        .await
        .unwrap();
        told.push(lines);
    }
    let line = |old: &str, new: &str| (hashed(old), hashed(new));
    assert_eq!(told[0], [line("one", "two")]);
    assert_eq!(told[1], [line("one", "two"), line("two", "three"), line("three", "four")]);
    assert_eq!(told[2], [line("one", "two"), line("two", hexadecimal)]);
    let marks = "select count(*) from bitrix24.contact_changes \
                 where field in ('NAME', 'PHONE') \
                 and (old_is_hash <> (old_value is not null) or new_is_hash <> (new_value is not null))";
    assert_eq!(value::<i64>(database.pool(), marks).await, 0);
    run(&portal, &database, rules, &["backfill"]).await;
    run(&portal, &database, rules, &["verify", "--level", "full"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_say_what_is_hidden_and_find_duplicates_by_the_hash() {
    let (portal, database) = (contacts(120), database().await);
    let ids: Vec<i64> = portal.truth(&CONTACTS).iter().map(|record| record.id).collect();
    values(&portal, ids[70], "PHONE", &["+7 900 000-11-22"]);
    values(&portal, ids[71], "PHONE", &["7(900)0001122"]);
    run(&portal, &database, RULES, &["backfill"]).await;
    let hash = privacy(&database).await.value("PHONE", "+7 900 000-11-22");
    let twice = format!(
        "select number from bitrix24_report.duplicates_by_phone \
         where contact_ids @> array[{}, {}]::bigint[]",
        ids[70], ids[71]
    );
    assert_eq!(value::<String>(database.pool(), &twice).await, hash);
    let digits = "select count(digits) from bitrix24_report.contact_phones";
    assert_eq!(value::<i64>(database.pool(), digits).await, 0, "those of a hash are nobody's");

    let comment = async |view: &str, column: &str| {
        let comment = format!(
            "select coalesce(col_description('bitrix24_report.{view}'::regclass, attnum), '') \
             from pg_attribute where attrelid = 'bitrix24_report.{view}'::regclass \
             and attname = '{column}'"
        );
        value::<String>(database.pool(), &comment).await
    };
    for (view, column, note) in [
        ("contacts", "name", "Hashed: "),
        ("contacts", "full_name", "NAME: Hashed: "),
        ("contacts", "phones", "Hashed: "),
        ("contacts", "first_email", "Left out: "),
        ("contacts", "comments", "Left out: "),
        ("contact_phones", "value", "Hashed: "),
        ("contact_phones", "contact", "NAME: Hashed: "),
        ("contact_emails", "address", "Left out: "),
        ("contacts_custom", "uf_crm_hash", "Hashed: "),
    ] {
        let says = comment(view, column).await;
        assert!(says.contains(note), "{view}.{column}: {says}");
    }
    let says = comment("contacts", "last_name").await;
    assert!(!says.contains("Hashed") && !says.contains("Left out"), "{says}");

    run(&portal, &database, "", &["backfill"]).await;
    assert!(value::<i64>(database.pool(), digits).await > 0);
    let says = comment("contacts", "name").await;
    assert!(!says.contains("Hashed"), "{says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_are_lifted_are_not_called_new_ones() {
    let (portal, database) = (contacts(30), database().await);
    let hidden = "exclude_fields = [\"COMMENTS\", \"POST\"]\nhash_fields = [\"NAME\"]\n";
    let begun = run(&portal, &database, hidden, &["backfill"]).await;
    let (new, lifted, back) = (
        "fields are excluded or hashed now",
        "fields are neither excluded nor hashed any more",
        "fields that were excluded are stored as hashes from now on",
    );
    let line = |finished: &Finished, what: &str| {
        finished.stderr.lines().find(|line| line.contains(what)).map(str::to_owned)
    };
    assert!(line(&begun, new).unwrap().contains("COMMENTS, POST, NAME"), "{begun:#?}");
    assert_eq!((line(&begun, lifted), line(&begun, back)), (None, None));

    let other = "hash_fields = [\"POST\"]\n";
    let lifting = run(&portal, &database, other, &["backfill"]).await;
    assert!(line(&lifting, lifted).unwrap().contains("COMMENTS, NAME"), "{lifting:#?}");
    assert!(line(&lifting, back).unwrap().contains("POST"), "{lifting:#?}");
    assert_eq!(line(&lifting, new), None);
}
