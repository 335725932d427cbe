//! The parts of the hot path, each alone: from an answer's bytes to rows in PostgreSQL.
//!
//! `cargo bench --bench parts -- [ROW…] [--scale FACTOR]` prints one line of JSON per row and
//! a Markdown table at the end. Every figure is the median of several rounds over the same
//! contacts, on one thread and one connection. What only computes is measured in processor
//! time, which other work on the machine hardly disturbs; what asks the database, in
//! wall-clock time.

#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    hint::black_box,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use b24mirror::{
    entity::{
        CONTACTS, Dialect,
        catalogue::Catalogue,
        decode::{Decoded, Decoder},
        record::Record,
    },
    simulator::{Options, Simulator},
    store::{Acquired, Batch, Generation, Progress, Store, StoreOptions, Written},
};
use serde_json::value::RawValue;
use support::{
    arguments::Arguments,
    contacts::{self, Answer},
    http,
    report::{Report, Row, float, megabytes, thousands},
    server::{Database, Server},
};

/// The rows.
const ROWS: [&str; 4] = ["decode", "hash", "write", "pre-filter"];

/// Contacts in one batch, hence in one transaction: what one request of the portal brings.
const BATCH: usize = 2_500;

/// Rounds of a part that leaves nothing behind.
const ROUNDS: usize = 7;

/// Rounds that each fill a database of their own.
const WRITE_ROUNDS: usize = 3;

/// How long nobody else may take the lease.
const LEASE: Duration = Duration::from_mins(10);

#[expect(clippy::print_stderr, reason = "the last words of a failing benchmark")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let Some(arguments) = Arguments::read()? else { return Ok(()) };
    let mut report = Report::new("parts");
    if !arguments.want_any(&ROWS) {
        return Ok(report.print_table()?);
    }
    let input = Input::read(arguments.scaled(100_000))?;
    let decoder = Decoder::new(&CONTACTS, Dialect::Classic);
    let records = input.decode(&decoder)?;
    for row in [input.measure_decode(&decoder)?, measure_hash(&records)?] {
        if arguments.wants(row.name()) {
            report.add(row)?;
        }
    }
    if arguments.want_any(&ROWS[2..]) {
        let server = Server::start().await?;
        let result = tokio::select! {
            result = measure_store(&server, &records) => result,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        server.stop().await?;
        for row in result? {
            if arguments.wants(row.name()) {
                report.add(row)?;
            }
        }
    }
    Ok(report.print_table()?)
}

/// What the portal sends.
struct Input {
    /// Pages of up to 50 contacts with all fields, as they come.
    pages: Vec<Vec<u8>>,
    contacts: usize,
    catalogue: Catalogue,
}

impl Input {
    fn read(contacts: u64) -> anyhow::Result<Self> {
        let options =
            Options { contacts, leads: 0, bucket: None, operating: None, ..Options::default() };
        let portal = Simulator::start(options)?;
        let webhook = portal.webhook_url();
        let mut pages = Vec::new();
        contacts::read_all(&webhook, |page| pages.push(page))?;
        let fields = http::call(&format!("{webhook}{}", "crm.contact.fields"), None)?;
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&fields)?;
        let fields = fields.get("result").context("the portal does not describe its fields")?;
        let fields = RawValue::from_string(fields.to_string())?;
        let contacts = usize::try_from(contacts)?;
        Ok(Self {
            pages,
            contacts,
            catalogue: Catalogue::parse(&fields, &CONTACTS, Dialect::Classic)?,
        })
    }

    /// Decodes all pages; what cannot be stored at all is left out.
    fn decode(&self, decoder: &Decoder) -> anyhow::Result<Vec<Record>> {
        let mut records = Vec::new();
        for page in &self.pages {
            decode(decoder, &self.catalogue, page, |record| records.push(record))?;
        }
        Ok(records)
    }

    fn measure_decode(&self, decoder: &Decoder) -> anyhow::Result<Row> {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let started = thread_time()?;
            for page in &self.pages {
                decode(decoder, &self.catalogue, page, |record| drop(black_box(record)))?;
            }
            rounds.push(thread_time()?.saturating_sub(started));
        }
        let rate = per_second(self.contacts, rounds)?;
        let bytes = self.pages.iter().map(Vec::len).sum::<usize>() as u64;
        let bytes_per_contact = float(bytes) / float(self.contacts as u64);
        Ok(Row::new(
            "decode",
            "Decode a page's bytes to records, content hash included, per second of processor time",
        )
        .figure("contacts_per_second", rate, "contacts/s")
        .figure(
            "megabytes_per_second",
            rate * megabytes(bytes) / float(self.contacts as u64),
            "MB/s",
        )
        .figure("bytes_per_contact", bytes_per_contact, "bytes per contact"))
    }
}

/// From the bytes of one answer to its records.
fn decode(
    decoder: &Decoder,
    catalogue: &Catalogue,
    answer: &[u8],
    mut each: impl FnMut(Record),
) -> anyhow::Result<()> {
    let answer: Answer<'_> = serde_json::from_slice(answer)?;
    for row in decoder.page(answer.result.iter().map(|row| (*row).into()), catalogue)?.rows {
        if let Decoded::Record(record) = row {
            each(*record);
        }
    }
    Ok(())
}

/// The content hash, which is made when a record is put together.
fn measure_hash(records: &[Record]) -> anyhow::Result<Row> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut spent = Duration::ZERO;
        for some in records.chunks(10 * BATCH) {
            let parts: Vec<_> = some
                .iter()
                .map(|record| {
                    let (values, children) = (record.values(), record.children());
                    let (custom, notes) = (record.custom_fields(), record.notes());
                    let id = record.id();
                    (id, values.to_vec(), custom.to_owned(), children.to_vec(), notes.to_vec())
                })
                .collect();
            let started = thread_time()?;
            let joined: Vec<Record> = parts
                .into_iter()
                .map(|(id, values, custom, children, notes)| {
                    Record::new(id, values, custom, children, notes)
                })
                .collect();
            spent += thread_time()?.saturating_sub(started);
            ensure!(joined == some, "a record came out different");
        }
        rounds.push(spent);
    }
    Ok(Row::new("hash", "Content hash, per second of processor time").figure(
        "contacts_per_second",
        per_second(records.len(), rounds)?,
        "contacts/s",
    ))
}

/// Writes all records into an empty schema, and then again, when nothing is new.
async fn measure_store(server: &Server, records: &[Record]) -> anyhow::Result<[Row; 2]> {
    let count = float(records.len() as u64);
    let mut writes = Vec::new();
    let mut mirror = Mirror::create(server, "write_0").await?;
    for round in 1..=WRITE_ROUNDS {
        let before = mirror.database.wal_bytes().await?;
        let (spent, written) = mirror.write_all(records).await?;
        ensure!(written.inserted == records.len() as u64, "not all is new: {written:?}");
        writes.push((spent, mirror.database.wal_bytes().await? - before));
        if round < WRITE_ROUNDS {
            mirror.discard().await?;
            mirror = Mirror::create(server, &format!("write_{round}")).await?;
        }
    }
    let wal = writes.iter().map(|(_, wal)| *wal).min().unwrap_or_default();
    let rate = per_second(records.len(), writes.into_iter().map(|(spent, _)| spent).collect())?;
    let written = Row::new("write", "Write new contacts with children, one connection")
        .figure("contacts_per_second", rate, "contacts/s")
        .figure("wal_bytes_per_contact", float(wal) / count, "bytes of WAL per contact");

    // As autovacuum leaves it; otherwise the first look at each page is logged.
    mirror.database.run("vacuum analyze").await?;
    mirror.database.run("checkpoint").await?;
    let before = mirror.database.wal_bytes().await?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (spent, written) = mirror.write_all(records).await?;
        ensure!(written.unchanged == records.len() as u64, "something has changed: {written:?}");
        rounds.push(spent);
    }
    let wal = float(mirror.database.wal_bytes().await? - before) / count / float(ROUNDS as u64);
    mirror.discard().await?;
    let rate = per_second(records.len(), rounds)?;
    let what = format!("Write stage for {} unchanged contacts", thousands(records.len() as u64));
    let unchanged = Row::new("pre-filter", what)
        .figure("contacts_per_second", rate, "contacts/s")
        .figure("wal_bytes_per_contact", wal, "bytes of WAL per contact")
        .target(
            "at least 100,000 contacts/s, at most 10 bytes of WAL per contact",
            rate >= 100_000.0 && wal <= 10.0,
        );
    Ok([written, unchanged])
}

/// A mirror's schema whose lease is ours.
struct Mirror {
    database: Database,
    store: Store,
    generation: Generation,
}

impl Mirror {
    async fn create(server: &Server, name: &str) -> anyhow::Result<Self> {
        let database = server.database(name).await?;
        let store = Store::connect(&StoreOptions {
            url: database.url.clone(),
            schema: "bitrix24".parse()?,
            max_connections: 2,
            application_name: "b24mirror benchmark".to_owned(),
        })
        .await?;
        store.migrate().await?;
        database.run("checkpoint").await?;
        match store.try_acquire("benchmark", LEASE).await? {
            Acquired::Ours(lease) => Ok(Self { database, store, generation: lease.generation }),
            held @ Acquired::HeldBy { .. } => bail!("the lease is not free: {held:?}"),
        }
    }

    async fn discard(self) -> anyhow::Result<()> {
        self.store.close().await;
        self.database.discard().await
    }

    /// Writes all records, a batch after another; gives the time in the store and the sums.
    async fn write_all(&self, records: &[Record]) -> anyhow::Result<(Duration, Written)> {
        let mut spent = Duration::ZERO;
        let mut sums = Written::default();
        for some in records.chunks(BATCH) {
            let asked_at = self.store.clock().await?;
            let batch = Batch {
                entity: &CONTACTS,
                generation: self.generation,
                asked_at,
                records: some.to_vec(),
                rejects: Vec::new(),
                progress: Progress::Nothing,
                run: None,
            };
            let started = Instant::now();
            let written = self.store.write(batch).await?;
            spent += started.elapsed();
            sums.inserted += written.inserted;
            sums.updated += written.updated;
            sums.unchanged += written.unchanged;
        }
        Ok((spent, sums))
    }
}

/// How long this thread has been on a processor, to a few milliseconds.
fn thread_time() -> anyhow::Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")
        .context("no account of this thread; this benchmark needs Linux")?;
    let nanoseconds = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(nanoseconds))
}

/// The speed of the median round.
fn per_second(contacts: usize, mut rounds: Vec<Duration>) -> anyhow::Result<f64> {
    rounds.sort_unstable();
    let median = rounds.get(rounds.len() / 2).context("nothing was measured")?;
    Ok(float(contacts as u64) / median.as_secs_f64())
}
