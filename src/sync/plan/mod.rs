//! What a backfill would cost, from a handful of probes: nothing is written, and no COUNT
//! is asked for.
//!
//! Three requests per entity: the newest page, both ends of every part of the ID space,
//! and a few full pages for their weight. The rest is arithmetic and a rehearsal.
//!
//! A gateway takes every one of these questions as a request of its own, and says with each
//! list how many records there are. So it is asked for that number and for the ends of the whole
//! ID space; where it does not say, for those of fewer parts.

mod rehearsal;
mod space;

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

pub use self::rehearsal::{Pace, Rehearsal, rehearse_evenly};
use self::space::Space;
use super::{
    Mirrored, SyncError,
    reader::{Question, Range, Reader},
    room::Room,
};
use crate::{
    entity::{Dialect, RecordId},
    portal::{Ask, Lane, Limits, Patience, Portal},
    retry::RetryPolicy,
};

/// Requests and commands besides the pages: the newest page with the field descriptions
/// before, and the cycle after.
const AROUND: (u64, u64) = (2, 7);

/// Parts of the ID space whose ends are looked at; two commands each, which just fit into one
/// request.
const PARTS: i64 = 24;

/// The same where each command is a request.
const PARTS_OF_A_GATEWAY: i64 = 6;

/// What a record takes in the database, children and indexes included, for each byte of
/// its JSON: 100,000 simulated contacts of 327 MB take 160 MB.
const STORED_PER_BYTE: f64 = 0.5;

/// What a backfill of one entity would cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Plan {
    /// The entity's name.
    pub entity: &'static str,
    /// Records, estimated.
    pub records: i64,
    /// HTTP requests.
    pub requests: u64,
    /// Commands inside them.
    pub commands: u64,
    /// Operating time that the portal will book, in seconds; unknown where it tells none.
    pub operating_seconds: Option<f64>,
    /// From the first request to the last answer, in seconds.
    pub seconds: f64,
    /// What the records will take in the database, in bytes.
    pub database_bytes: u64,
}

/// Plans the backfill of an entity.
///
/// `portal` sends the probes, and may be slower than the limits say; `limits` are those
/// that the backfill will have, with so many chains in flight.
///
/// # Errors
/// What the portal answered to a probe.
pub async fn plan(
    Mirrored { entity, dialect, .. }: Mirrored,
    portal: &Portal,
    retry: RetryPolicy,
    limits: &Limits,
    ways: u32,
) -> Result<Plan, SyncError> {
    let reader = Reader::new(entity, dialect, portal.clone(), retry, Room::default());
    let probes = Probes { reader, portal };
    let ((newest, _), first) = probes.timed(probes.reader.newest(Lane::People)).await?;
    let newest = newest.first().copied().unwrap_or(RecordId::ZERO);
    let request = first.each();
    let space = probes.space(newest).await?;
    let sample = probes.sample(newest).await?;
    let operating = portal.limiter().command_cost(probes.reader.source.method());
    let besides = request * sample.effort.requests;
    let command = sample.effort.took.saturating_sub(besides) / sample.commands.max(1);
    let pace = Pace { command, operating: operating.unwrap_or(command), request };
    let cost = rehearsal::rehearse(&space, limits, pace, ways);
    let commands = cost.commands + AROUND.1;
    #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
    let operating_seconds = operating.map(|cost| cost.as_secs_f64() * commands as f64);
    Ok(Plan {
        entity: entity.name,
        records: space.records(),
        requests: cost.requests + AROUND.0,
        commands,
        operating_seconds,
        seconds: (cost.took + 2 * request).as_secs_f64(),
        database_bytes: sample.stored(space.records()),
    })
}

struct Probes<'a> {
    reader: Reader,
    portal: &'a Portal,
}

/// What an answer took.
#[derive(Clone, Copy)]
struct Effort {
    requests: u32,
    /// Without what the limiter held back.
    took: Duration,
}

impl Effort {
    /// What one request took.
    fn each(self) -> Duration {
        self.took / self.requests.max(1)
    }
}

/// A few full pages.
struct Sample {
    commands: u32,
    rows: usize,
    bytes: usize,
    effort: Effort,
}

impl Probes<'_> {
    /// How the records are spread over the ID space.
    async fn space(&self, newest: RecordId) -> Result<Space, SyncError> {
        if self.reader.dialect() != Dialect::Vibecode {
            let ends = self.reader.ends(Lane::People, &space::parts(newest, PARTS)).await?;
            return Ok(Space::seen(&ends));
        }
        let Some(count) = self.count().await? else {
            let parts = space::parts(newest, PARTS_OF_A_GATEWAY);
            return Ok(Space::seen(&self.reader.ends(Lane::People, &parts).await?));
        };
        let ends = self.reader.ends(Lane::People, &space::parts(newest, 1)).await?;
        Ok(ends.first().map(|ends| Space::counted(ends, count)).unwrap_or_default())
    }

    /// How many records there are, where the source can tell.
    async fn count(&self) -> Result<Option<i64>, SyncError> {
        let ask = Ask { count: true, ..Ask::default() };
        let heard = self.reader.source.read(Lane::People, &ask, Patience::Persist).await?;
        Ok(heard.count.and_then(Result::ok).and_then(|count| i64::try_from(count).ok()))
    }

    /// An answer and what it took.
    async fn timed<T>(
        &self,
        asking: impl Future<Output = Result<T, SyncError>>,
    ) -> Result<(T, Effort), SyncError> {
        let (before, began) = (self.portal.meter(), Instant::now());
        let answer = asking.await?;
        let spent = self.portal.meter().since(&before);
        let requests = u32::try_from(spent.requests).unwrap_or(u32::MAX);
        Ok((answer, Effort { requests, took: began.elapsed().saturating_sub(spent.waited) }))
    }

    /// Two full pages each at the beginning, in the middle and near the end.
    async fn sample(&self, newest: RecordId) -> Result<Sample, SyncError> {
        let places = [0, newest.get() / 2, newest.get() - newest.get() / 20];
        let range = |after: i64| {
            let after = RecordId::new(after).unwrap_or(RecordId::ZERO);
            Range { up_to: Some(newest), pages: 2, ..Range::above(after) }
        };
        let ranges: Vec<Range> = places.into_iter().map(range).collect();
        let commands = ranges.iter().map(|range| range.pages).sum::<usize>();
        let question = Question { ranges, ..Question::default() };
        let (reply, effort) = self.timed(self.reader.read(Lane::People, &question)).await?;
        let pages = || reply.ranges.iter().flatten();
        Ok(Sample {
            commands: u32::try_from(commands).unwrap_or(u32::MAX),
            rows: pages().map(|page| page.facts.rows).sum(),
            bytes: pages().map(|page| page.bytes).sum(),
            effort,
        })
    }
}

impl Sample {
    /// What so many records like these take in the database.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate for people"
    )]
    fn stored(&self, records: i64) -> u64 {
        let each = self.bytes as f64 / self.rows.max(1) as f64;
        (each * records as f64 * STORED_PER_BYTE) as u64
    }
}
