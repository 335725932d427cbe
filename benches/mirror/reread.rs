//! Reading everything again although nothing has changed.

use crate::{
    mirror,
    portal::{Pace, Portal, Records},
    support::{
        arguments::Arguments,
        report::{Row, float, thousands},
        server::{Database, Server},
    },
};

/// The rows of this group.
pub(crate) const ROWS: [&str; 1] = ["re-read"];

/// Backfills twice, and counts what the second time costs.
pub(crate) async fn measure(arguments: &Arguments, server: &Server) -> anyhow::Result<Vec<Row>> {
    let records = Records { contacts: arguments.scaled(100_000), leads: 0, gaps: 30 };
    let portal = Portal::start(records).await?;
    let database = mirror::migrated(server, "reread", &portal).await?;
    mirror::backfill(&portal, &database, Pace::Unlimited).await?;
    // Autovacuum does this some time after a first load. With checksums on, the first look at
    // a page that it has not seen is logged, whoever looks. Later it must not count dead
    // rows away.
    database.run("vacuum analyze").await?;
    database
        .run(
            "do $$ declare name text; begin \
             for name in select relname from pg_class \
                 where relnamespace = 'bitrix24'::regnamespace and relkind = 'r' loop \
             execute format('alter table bitrix24.%I set (autovacuum_enabled = false)', name); \
             end loop; end $$",
        )
        .await?;
    let dead_before = dead_rows(&database).await?;
    let cost = mirror::backfill_again(&portal, &database, Pace::Unlimited).await?;
    let dead = dead_rows(&database).await?.saturating_sub(dead_before);
    database.discard().await?;

    let count = float(records.contacts);
    let wal = float(cost.wal) / count;
    let hundred_thousands = count / 1e5;
    let what = format!("Reading {} unchanged contacts again", thousands(records.contacts));
    Ok(vec![
        Row::new("re-read", what)
            .figure("wal_bytes_per_contact", wal, "bytes of WAL per contact")
            .figure("dead_rows", float(dead), "dead rows")
            .figure(
                "contacts_per_second",
                count / cost.mirror.wall.as_secs_f64(),
                "contacts/s end to end",
            )
            .figure(
                "mirror_cpu_seconds_per_100000",
                cost.mirror.usage.cpu / hundred_thousands,
                "CPU-s per 100,000 in b24mirror",
            )
            .figure(
                "postgres_cpu_seconds_per_100000",
                cost.postgres_cpu / hundred_thousands,
                "in PostgreSQL",
            )
            .target("at most 10 bytes of WAL per contact, no dead row", wal <= 10.0 && dead == 0),
    ])
}

/// Dead rows of the tables that hold contacts; the books on the work itself do change.
async fn dead_rows(database: &Database) -> anyhow::Result<u64> {
    database.run("select pg_stat_force_next_flush(); select pg_stat_clear_snapshot()").await?;
    database
        .count(
            "select sum(n_dead_tup)::bigint from pg_stat_user_tables \
             where schemaname = 'bitrix24' and relname ~ '^contact'",
        )
        .await
}
