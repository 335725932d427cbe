//! Failures of the database: connections that break at any message, refusals in any
//! transaction, a database that may only be read for a while. The work goes on by itself
//! or says why it does not; nothing is short, nothing is doubled.

use std::{collections::BTreeMap, time::Duration};

use b24mirror::{simulator::Options, store::Verdict, sync::Ending};
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::sleep;

use super::{
    cutter::{Cut, Cutter, Heard, Word},
    stage::Stage,
    work::{Work, fill, run, whole},
};
use crate::support::{
    Dice, Run, TestPortal, assert_equal, database, long, tables::value, unlimited,
};

/// Messages at which connections are cut in a run of everyday length, beside the COMMITs.
const CUTS: u64 = 8;

async fn statement(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap();
}

/// Notes that were taken twice of the same thing, and runs without an end.
async fn doubled(stage: &Stage) -> i64 {
    let doubled = "select (select count(*) from (select from bitrix24.sync_quarantine \
                           where resolved_at is null \
                           group by entity, record_id, field, reason having count(*) > 1) notes) \
                        + (select count(*) from bitrix24.sync_runs where verdict is null)";
    value(stage.database.pool(), doubled).await
}

async fn complete(stage: &Stage, outcome: &Ending) -> Result<(), String> {
    if outcome.verdict != Verdict::Complete {
        return Err(outcome.line.clone());
    }
    whole(stage).await.map_err(|short| format!("{short}: {}", outcome.line))?;
    match doubled(stage).await {
        0 => Ok(()),
        some => Err(format!("{some} notes or runs are doubled or open: {}", outcome.line)),
    }
}

/// Breaks a connection at one message of the work after the other.
async fn cut_everywhere(work: Work, seed: u64) {
    let database = database().await;
    let cutter = Cutter::to(&database.url()).await;
    let url = cutter.url();
    let mut stage = Stage::with(seed, database, url).await;
    let mut dice = Dice::new(seed);
    fill(&mut stage).await.unwrap();

    // How much there is to say.
    work.prepare(&stage).await;
    let session = stage.session(false).await;
    cutter.arm(None);
    let outcome = work.perform(&session).await;
    let Heard { messages, commits, .. } = cutter.disarm();
    session.close().await;
    complete(&stage, &outcome).await.unwrap();
    assert!(messages > 60 && commits >= 3, "{messages} messages, {commits} commits");

    let both = |word| [(word, Cut::Before), (word, Cut::After)];
    let mut at: Vec<(Word, Cut)> = (1..=commits).map(Word::Commit).flat_map(both).collect();
    if long() {
        at.extend((1..=messages).map(Word::Any).flat_map(both));
    } else {
        at.extend((0..CUTS).flat_map(|_| both(Word::Any(1 + dice.below(messages)))));
    }
    let (mut cuts, mut wrong) = (0, Vec::new());
    for at in &at {
        work.prepare(&stage).await;
        let session = stage.session(false).await;
        cutter.arm(Some(*at));
        let outcome = work.perform(&session).await;
        // What is said varies a little, so the last words may never come.
        cuts += usize::from(cutter.disarm().cut);
        session.close().await;
        if let Err(what) = complete(&stage, &outcome).await {
            wrong.push(format!("{work:?}, {at:?}: {what}"));
            stage.is_equal = false;
            fill(&mut stage).await.unwrap();
        }
    }
    eprintln!("{work:?}: {cuts} connections cut, of {messages} messages and {commits} commits");
    assert!(cuts * 4 >= at.len() * 3, "{cuts} of {}", at.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), at.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_at_any_message_of_a_backfill_costs_nothing() {
    cut_everywhere(Work::Backfill, 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_at_any_message_of_a_cycle_costs_nothing() {
    cut_everywhere(Work::Incremental, 12).await;
}

/// The command itself, from its first word to the database on: what it says before the work
/// begins, and after it, is borne as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_at_any_message_of_a_command_fails_no_command() {
    let database = database().await;
    let cutter = Cutter::to(&database.url()).await;
    let portal = TestPortal::with(Options { contacts: 60, leads: 20, ..unlimited() });
    let settings = format!(
        "[portal]\nwebhook_url = \"{}\"\n[database]\nurl = \"{}\"\n",
        portal.webhook_url(),
        cutter.url().expose_secret(),
    );
    let command = async |arguments: &[&str], at| {
        cutter.arm(at);
        let finished = Run::b24mirror(arguments).config(&settings).finish().await;
        (finished, cutter.disarm())
    };
    let (first, _) = command(&["backfill"], None).await;
    assert_eq!(first.code, Some(0), "{first:#?}");
    let again = ["backfill", "contacts"];
    let (_, Heard { messages, .. }) = command(&again, None).await;

    let mut dice = Dice::new(44);
    let at: Vec<u64> = if long() {
        (1..=messages).collect()
    } else {
        (0..CUTS).map(|_| 1 + dice.below(messages)).chain([2, messages / 2]).collect()
    };
    let mut cuts = 0;
    for word in &at {
        let side = if dice.one_in(2) { Cut::Before } else { Cut::After };
        let (finished, heard) = command(&again, Some((Word::Any(*word), side))).await;
        assert_eq!(finished.code, Some(0), "message {word} of {messages}, {side:?}: {finished:#?}");
        cuts += usize::from(heard.cut);
    }
    assert!(cuts * 4 >= at.len() * 3, "{cuts} of {}", at.len());
    assert_equal(&portal, database.pool()).await;
    // A lease that it had taken itself is no other process, to which work could be handed.
    let handed = "select count(*) from bitrix24.sync_requests";
    assert_eq!(value::<i64>(database.pool(), handed).await, 0);
}

/// What the server may refuse with (appendix "PostgreSQL Error Codes"), and whether the
/// work goes on by itself when it does so a few times.
const REFUSALS: [(&str, bool); 16] = [
    ("53100", true),  // disk full
    ("53200", true),  // out of memory
    ("53300", true),  // too many connections
    ("53400", true),  // a configured limit
    ("25006", true),  // read-only
    ("57014", true),  // statement time-out
    ("57P01", true),  // shutting down
    ("57P02", true),  // another process crashed
    ("57P03", true),  // starting
    ("58030", true),  // an input or output error
    ("55P03", true),  // a lock that is not to be had
    ("40P01", true),  // deadlock
    ("40001", true),  // serialization
    ("XX000", false), // an internal error
    ("P0001", false), // somebody's own trigger
    ("42501", false), // a right was taken away
];

/// The tables that the work writes.
const TABLES: [&str; 6] = [
    "contacts",
    "contact_phones",
    "sync_checkpoints",
    "backfill_segments",
    "sync_runs",
    "sync_quarantine",
];

/// Triggers that refuse as often as they are told to.
async fn refuse(stage: &Stage) {
    let pool = stage.database.pool();
    statement(
        pool,
        "create schema faults; \
         create sequence faults.strikes; \
         create table faults.plan (on_table text, state text, first bigint, last bigint); \
         create function faults.strike() returns trigger language plpgsql as $$ \
         declare p faults.plan; \
         begin \
           select * into p from faults.plan where on_table = tg_table_name; \
           if found and nextval('faults.strikes') between p.first and p.last then \
             raise exception 'refused for a test' using errcode = p.state; \
           end if; \
           return null; \
         end $$",
    )
    .await;
    for table in TABLES {
        let trigger = format!(
            "create trigger strike before insert or update or delete on bitrix24.{table} \
             for each statement execute function faults.strike()"
        );
        statement(pool, &trigger).await;
    }
}

async fn refuse_on(stage: &Stage, table: &str, code: &str, first: u64, last: u64) {
    let plan = format!(
        "truncate faults.plan; select setval('faults.strikes', 1, false); \
         insert into faults.plan values ('{table}', '{code}', {first}, {last})"
    );
    statement(stage.database.pool(), &plan).await;
}

/// How often a refusal struck, and no more of them.
async fn refuse_no_more(stage: &Stage, first: u64) -> bool {
    let pool = stage.database.pool();
    let asked: i64 =
        value(pool, "select case when is_called then last_value else 0 end from faults.strikes")
            .await;
    statement(pool, "truncate faults.plan").await;
    u64::try_from(asked).unwrap() >= first
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_server_refuses_the_work_goes_on_or_says_why_not() {
    let mut stage = Stage::new(13).await;
    refuse(&stage).await;
    fill(&mut stage).await.unwrap();
    let (mut struck, mut cells, mut wrong) = (0, 0, Vec::new());
    let mut endings = BTreeMap::<&str, usize>::new();
    let mut number = 0;
    for (state, passes) in REFUSALS {
        for table in TABLES {
            for work in Work::READING {
                for (first, last) in [(1, 1), (2, 4)] {
                    number += 1;
                    // In turn: every refusal meets every table, every work and each number.
                    if !long() && number % 4 != (number / 24) % 4 {
                        continue;
                    }
                    cells += 1;
                    work.prepare(&stage).await;
                    refuse_on(&stage, table, state, first, last).await;
                    let outcome = run(work, &stage, false).await;
                    let met = refuse_no_more(&stage, first).await;
                    struck += u64::from(met);
                    let verdict = outcome.verdict;
                    *endings.entry(verdict.as_str()).or_default() += 1;
                    let judged = match verdict {
                        Verdict::Complete => complete(&stage, &outcome).await,
                        Verdict::Incomplete if !passes => {
                            let again = run(work, &stage, false).await;
                            complete(&stage, &again).await
                        }
                        _ => Err(outcome.line),
                    };
                    if let Err(what) = judged {
                        wrong.push(format!("{work:?}, {state} on {table} from {first}: {what}"));
                        stage.is_equal = false;
                        fill(&mut stage).await.unwrap();
                    }
                }
            }
        }
    }
    eprintln!("{cells} cells, {struck} of them struck: {endings:?}");
    assert!(wrong.is_empty(), "{} of {cells}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(struck * 2 > cells, "{struck} of {cells}");
}

/// Does the work while the database refuses to be written, until somebody helps it after a
/// while; the program's connections may outlive the help.
async fn outlasts(seed: u64, refuse: &str, relent: &str) {
    for work in Work::READING {
        let mut stage = Stage::new(seed).await;
        fill(&mut stage).await.unwrap();
        work.prepare(&stage).await;
        let session = stage.session(false).await;
        let name: String = value(stage.database.pool(), "select current_database()::text").await;
        let alter = |what: &str| AssertSqlSafe(format!("alter database {name} {what}"));
        // It has begun before, so nothing of that holds for it.
        let mut own = stage.database.pool().acquire().await.unwrap();
        sqlx::raw_sql(alter(refuse)).execute(&mut *own).await.unwrap();
        // It holds for connections that begin from now on.
        let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                   where datname = current_database() and application_name = 'faults'";
        let ended: i64 = sqlx::query_scalar(end).fetch_one(&mut *own).await.unwrap();
        assert!(ended > 0);
        let help = async {
            sleep(Duration::from_secs(3)).await;
            sqlx::raw_sql(alter(relent)).execute(&mut *own).await.unwrap();
        };
        let (outcome, ()) = tokio::join!(work.perform(&session), help);
        session.close().await;
        complete(&stage, &outcome).await.unwrap_or_else(|what| panic!("{work:?}: {what}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_read_only_for_a_while_is_waited_for() {
    outlasts(14, "set default_transaction_read_only = on", "reset default_transaction_read_only")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_time_out_that_is_too_short_for_a_while_is_waited_for() {
    outlasts(15, "set statement_timeout = '1ms'", "reset statement_timeout").await;
}
