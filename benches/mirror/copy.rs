//! The ceiling: `COPY` of the mirrored rows into empty tables with the same constraints, over
//! one connection, and the building of the same indexes.

use std::{
    fs::File,
    io::Read as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use b24mirror::{
    entity::CONTACTS,
    reporting::indexes::{Index, indexes},
};
use sqlx::AssertSqlSafe;

use crate::support::server::{Database, Server};

/// The tables that a contact's rows are in, parents first.
const TABLES: [&str; 6] = [
    "contacts",
    "contact_phones",
    "contact_emails",
    "contact_websites",
    "contact_messengers",
    "contact_links",
];

/// What goes to the server in one piece.
const PIECE: usize = 256 << 10;

/// A table's rows in a file.
struct Dump {
    /// The table and its columns, the generated ones excepted.
    target: String,
    file: PathBuf,
}

/// Copies all rows from one database into the empty tables of another. Only the way in counts.
pub(crate) async fn measure(
    server: &Server,
    from: &Database,
    to: &Database,
) -> anyhow::Result<Duration> {
    let mut dumps = Vec::new();
    for table in TABLES {
        dumps.push(dump(server, from, table).await?);
    }
    to.run("checkpoint").await?;
    let started = Instant::now();
    let mut connection = to.pool.acquire().await?;
    let mut piece = vec![0; PIECE];
    for dump in &dumps {
        let mut file = File::open(&dump.file).context("the server's file cannot be read")?;
        let statement = format!("copy {} from stdin", dump.target);
        let mut copy = connection.copy_in_raw(&statement).await?;
        loop {
            let length = file.read(&mut piece)?;
            if length == 0 {
                break;
            }
            copy.send(&piece[..length]).await?;
        }
        copy.finish().await?;
    }
    for Index { name, table, on } in indexes(&CONTACTS) {
        let build = format!("create index \"{name}\" on bitrix24.\"{table}\" {on}");
        sqlx::query(AssertSqlSafe(build)).execute(&mut *connection).await?;
    }
    Ok(started.elapsed())
}

async fn dump(server: &Server, from: &Database, table: &str) -> anyhow::Result<Dump> {
    let columns: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select column_name::text from information_schema.columns \
         where table_schema = 'bitrix24' and table_name = '{table}' and is_generated = 'NEVER' \
         order by ordinal_position"
    )))
    .fetch_all(&from.pool)
    .await?;
    let columns = columns.join(", ");
    let file = server.home.path().join(format!("{table}.copy"));
    from.run(&format!(
        "copy (select {columns} from bitrix24.{table} order by 1, 2) to '{}'",
        file.display()
    ))
    .await?;
    Ok(Dump { target: format!("bitrix24.{table} ({columns})"), file })
}
