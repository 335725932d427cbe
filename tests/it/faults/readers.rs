//! People who query while the mirror is written: no error, no table that is empty again,
//! and never a parent with a part of its children.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use b24mirror::{
    simulator::{Action, TrueRecord},
    store::Verdict,
    sync,
};
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    stage::Stage,
    work::{CONTACT, Work, fill, run, whole},
};
use crate::support::{Dice, long};

const READERS: u64 = 20;

/// Contacts whose phones are always replaced together.
const FAMILIES: usize = 60;

/// Phones of each.
const CHILDREN: usize = 4;

/// What must never be seen, whatever is being written.
const QUERIES: [(&str, &str); 4] = [
    (
        "a family with a part of its children, or with those of two generations",
        "select exists (select from bitrix24.contacts c \
            left join bitrix24.contact_phones p on p.contact_id = c.id \
            where c.id = any($1) and c.deleted_at is null \
            group by c.id having count(p.value) <> 4 \
            or count(distinct split_part(p.value, '-', 1)) <> 1)",
    ),
    (
        "a child without its parent",
        "select exists (select from bitrix24.contact_phones p \
            where p.contact_id = any($1) \
            and not exists (select from bitrix24.contacts c where c.id = p.contact_id))",
    ),
    (
        "a family that is gone",
        "select count(*) <> cardinality($1) from bitrix24.contacts \
            where id = any($1) and deleted_at is null",
    ),
    (
        "a table that is empty",
        "select not exists (select from bitrix24.contacts) \
            or not exists (select from bitrix24.contact_phones) \
            or not exists (select from bitrix24.fields) or cardinality($1) = 0",
    ),
];

fn new_phones(stage: &Stage, id: i64, generation: u64) {
    let values =
        (0..CHILDREN).map(|child| (format!("{generation}-{child}"), "WORK".to_owned())).collect();
    let field = "PHONE".to_owned();
    stage.portal.happens(Action::SetMulti { entity: CONTACT, id, field, values });
}

/// Looks at everything again and again; gives what it should not have seen.
async fn read(
    url: String,
    families: Vec<i64>,
    stop: CancellationToken,
    looks: Arc<AtomicU64>,
) -> Result<(), String> {
    let mut connection =
        PgConnection::connect(&url).await.map_err(|error| format!("cannot connect: {error}"))?;
    while !stop.is_cancelled() {
        for (what, query) in QUERIES {
            let seen: bool = sqlx::query_scalar(AssertSqlSafe(query))
                .bind(&families)
                .fetch_one(&mut connection)
                .await
                .map_err(|error| format!("looking for {what}: {error}"))?;
            if seen {
                return Err(format!("saw {what}"));
            }
            looks.fetch_add(1, Ordering::Relaxed);
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_never_see_an_error_an_empty_table_or_half_a_family() {
    let mut stage = Stage::new(21).await;
    let contacts = stage.portal.truth(Stage::entities()[0]);
    let families: Vec<i64> =
        contacts[..FAMILIES].iter().map(|record: &TrueRecord| record.id).collect();
    for id in &families {
        new_phones(&stage, *id, 0);
    }
    fill(&mut stage).await.unwrap();

    let (stop, looks) = (CancellationToken::new(), Arc::<AtomicU64>::default());
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let url = stage.database.url().expose_secret().to_owned();
        readers.spawn(read(url, families.clone(), stop.clone(), Arc::clone(&looks)));
    }
    let changing = async {
        let mut dice = Dice::new(21);
        for generation in 1.. {
            for _ in 0..5 {
                let one = usize::try_from(dice.below(FAMILIES as u64)).unwrap();
                new_phones(&stage, families[one], generation);
            }
            sleep(dice.moment(30)).await;
        }
    };
    let rounds = if long() { 60 } else { 3 };
    let writing = async {
        for _ in 0..rounds {
            for work in [Work::Incremental, Work::Sweep, Work::Incremental, Work::Backfill] {
                let session = stage.session(false).await;
                let outcome = if work == Work::Backfill {
                    // Everything again, over what is there.
                    let again = sync::Work::Backfill { restart: true };
                    session.perform(&again, &Stage::entities(), &[]).await.pop().unwrap()
                } else {
                    work.perform(&session).await
                };
                session.close().await;
                assert_eq!(outcome.verdict, Verdict::Complete, "{}", outcome.line);
            }
            // As every start of a newer program does.
            stage.store.migrate().await.unwrap();
        }
    };
    tokio::select! {
        () = writing => {}
        () = changing => unreachable!("somebody always changes something"),
    }
    stop.cancel();
    for seen in readers.join_all().await {
        assert_eq!(seen, Ok(()));
    }
    let looks = looks.load(Ordering::Relaxed);
    eprintln!("{READERS} readers looked {looks} times");
    assert!(looks > READERS * QUERIES.len() as u64, "{looks}");
    run(Work::Incremental, &stage, false).await;
    whole(&stage).await.unwrap();
}
