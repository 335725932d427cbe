//! Records that are read through the VibeCode gateway: `GET /v1/{entity}` where a range of IDs
//! says which, `POST /v1/{entity}/search`, which takes its filters in the body, for everything
//! else, and `GET /v1/{entity}/fields`. The list counts, too; of a search no page says that it
//! does. Whether an address may hold conditions is shown in examples only, so where a list
//! refuses them or brings rows that do not fulfil them, everything is asked for by search.
//!
//! Pages go by ID and never by `offset`, since what is deleted meanwhile would move the rows
//! behind it. One request brings up to 5,000 rows: the gateway reads them from the portal 50
//! at a time. They are handed on as pages of 50, so everything that holds pages against their
//! question works as it does elsewhere. A page ends a chain only by being short: `hasMore`,
//! `truncated` and `total` are hints, for the vendor promises nothing about them above 5,000.
//!
//! What the vendor does not document is found out by asking, before the first records and
//! again when the description of the fields changes: what the time of the last modification is
//! called, whether it can be filtered by, and whether the multi-values come without being
//! named. That the order is kept from one of the inner pages to the next is not promised
//! either. Rows that come in another order are sorted where the answer is complete, and where
//! it is not, the gateway is asked for one of its inner pages at a time from then on.
//!
//! The gateway tells no time but that of its answers' headers, and little of the fields. Both
//! come from the portal itself, where it can be asked.

mod description;
mod shape;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use chrono::{DateTime, FixedOffset};
use serde_json::{Map, Value, json, value::RawValue};

use self::shape::Shape;
use super::{
    Ask, Chain, ChainEnd, Changes, Heard, PAGE_ROWS, Page, Probes, ScanAsk,
    list::{FAR_AHEAD, LONG_AGO, timestamp},
};
use crate::{
    entity::{Dialect, Entity, RecordId, json::Raw},
    portal::{
        Lane, Patience, Portal, PortalError, Timing,
        gateway::{Gateway, GatewayAnswer, Parameters},
    },
    retry::Disposition,
};

const DIALECT: Dialect = Dialect::Vibecode;

/// The most rows that one request brings.
const MOST_ROWS: usize = 5_000;

/// The list of all multi-values.
const MULTI_VALUES: &str = "fm";

/// Reads one entity through a gateway.
#[derive(Debug, Clone)]
pub struct GatewaySource {
    portal: Portal,
    gateway: Gateway,
    entity: &'static Entity,
    known: Arc<Known>,
}

/// What was found out about the gateway.
#[derive(Debug, Default)]
struct Known {
    shape: Mutex<Option<Shape>>,
    /// Rows of several inner pages have come out of order, so one at a time is asked for.
    page_by_page: AtomicBool,
    /// A list has not done what its address asked for.
    search_alone: AtomicBool,
    /// It was told that fields are known in the gateway's words alone.
    in_own_words: AtomicBool,
}

impl GatewaySource {
    /// Reads that entity through that gateway; the portal, where it is open, is asked for its
    /// clock and for what it knows of the fields.
    #[must_use]
    pub fn new(portal: Portal, gateway: Gateway, entity: &'static Entity) -> Self {
        Self { portal, gateway, entity, known: Arc::default() }
    }

    /// The name under which the reading is known; the portal counts no operating time by it.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        "vibecode.search"
    }

    /// The most pages that one request may bring.
    pub(super) const MOST_PAGES: usize = MOST_ROWS / PAGE_ROWS;

    /// Whether changes can be asked for.
    ///
    /// # Errors
    /// What the gateway answered while that was found out.
    pub async fn changes(&self, lane: Lane) -> Result<Changes, PortalError> {
        let shape = self.shape(lane).await?;
        Ok(if shape.filterable {
            Changes::ByDate
        } else {
            Changes::ByReadingAll { every: self.gateway.full_pass_interval() }
        })
    }

    /// Asks everything, one request after the other. A scan that the gateway cannot deliver,
    /// whatever else it can, ends its own chain only.
    ///
    /// # Errors
    /// What [`Gateway::call`] returns, where it concerns more than one scan.
    pub async fn read(
        &self,
        lane: Lane,
        ask: &Ask,
        patience: Patience,
    ) -> Result<Heard, PortalError> {
        let mut heard = Heard {
            scans: Vec::with_capacity(ask.scans.len()),
            catalogue: None,
            probes: None,
            count: None,
            counts: Vec::new(),
            time: None,
            told_at: None,
            timing: Timing::default(),
        };
        // First of all: what happens while the rows are read belongs to the next cycle.
        let dated = ask.scans.iter().any(|scan| scan.modified_after.is_some());
        if ask.catalogue {
            let described = self.described(lane, patience).await;
            (heard.time, heard.told_at) =
                described.as_ref().ok().and_then(|described| described.time).unzip();
            heard.catalogue = Some(described.map(|described| described.fields));
        }
        if dated && heard.time.is_none() {
            (heard.time, heard.told_at) = self.clock(lane).await?.unzip();
        }
        for scan in &ask.scans {
            let chain = self.scan(lane, scan, patience, &mut heard.timing).await?;
            heard.scans.push(chain);
        }
        if ask.probes && self.changes(lane).await? == Changes::ByDate {
            heard.probes = Some(self.probe(lane, patience).await);
        }
        if ask.count {
            let everything = (RecordId::ZERO, None);
            heard.count = Some(self.count(lane, everything, patience).await);
        }
        for range in &ask.counts {
            heard.counts.push(self.count(lane, *range, patience).await);
        }
        Ok(heard)
    }

    /// Reads a chain by one request.
    async fn scan(
        &self,
        lane: Lane,
        scan: &ScanAsk,
        patience: Patience,
        timing: &mut Timing,
    ) -> Result<Chain, PortalError> {
        let shape = self.shape(lane).await?;
        let most =
            if self.known.page_by_page.load(Ordering::Relaxed) { 1 } else { Self::MOST_PAGES };
        let limit = PAGE_ROWS * scan.pages.clamp(1, most);
        match self.ask(lane, scan, &shape, limit, patience).await {
            Ok(answer) => {
                timing.waited += answer.waited;
                self.chain(lane, scan, (&shape, limit), &answer, patience).await
            }
            // Another scan may go through; a heavy answer is asked for in smaller parts.
            Err(error) if !error.is_heavy() && may_pass(&error) => {
                Ok(Chain { pages: Vec::new(), end: ChainEnd::Failed(error) })
            }
            Err(error) => Err(error),
        }
    }

    /// Asks for rows by a list or a search, whichever can be asked.
    async fn ask(
        &self,
        lane: Lane,
        scan: &ScanAsk,
        shape: &Shape,
        limit: usize,
        patience: Patience,
    ) -> Result<GatewayAnswer, PortalError> {
        let order = if scan.newest_first { "desc" } else { "asc" };
        let mut question = Map::new();
        question.insert("filter".to_owned(), self.filter(scan, shape)?);
        question.insert("order".to_owned(), json!({ "id": order }));
        question.insert("limit".to_owned(), json!(limit));
        if let Some(select) = shape.select(scan.detail) {
            question.insert("select".to_owned(), select);
        }
        let is_range =
            scan.ids.is_none() && scan.modified_after.is_none() && scan.modified_up_to.is_none();
        if is_range {
            let range = (scan.after, scan.up_to);
            if let Some(answer) = self.list(lane, &question, range, patience).await? {
                return Ok(answer);
            }
        }
        let body = Parameters::body(&Value::Object(question));
        self.gateway.call(lane, &self.path("search"), &body, patience).await
    }

    /// Asks for a range of IDs by a list; `None` where lists do not do what they are asked for.
    async fn list(
        &self,
        lane: Lane,
        question: &Map<String, Value>,
        (after, up_to): (RecordId, Option<RecordId>),
        patience: Patience,
    ) -> Result<Option<GatewayAnswer>, PortalError> {
        if self.known.search_alone.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let query = Parameters::query(question);
        let answer = match self.gateway.call(lane, self.entity.name, &query, patience).await {
            Ok(answer) => answer,
            Err(error) if error.disposition() == Disposition::CallerBug => {
                self.distrust_lists();
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let lies_within = |id: RecordId| id > after && up_to.is_none_or(|last| id <= last);
        if answer.rows()?.iter().filter_map(|row| id_of(row)).all(lies_within) {
            return Ok(Some(answer));
        }
        self.distrust_lists();
        Ok(None)
    }

    fn distrust_lists(&self) {
        if !self.known.search_alone.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                entity = self.entity.name,
                "the gateway's list does not do what its address asks for; everything is asked \
                 for by search from now on"
            );
        }
    }

    fn filter(&self, scan: &ScanAsk, shape: &Shape) -> Result<Value, PortalError> {
        let mut filter = Map::new();
        let mut id = ids(scan.after, scan.up_to);
        if let Some(wanted) = &scan.ids {
            let mut wanted: Vec<i64> = wanted.iter().map(|id| id.get()).collect();
            if wanted.is_empty() {
                // An empty list might drop the condition; no record has the ID 0.
                wanted.push(0);
            }
            id.insert("$in".to_owned(), json!(wanted));
            if scan.after == RecordId::ZERO {
                id.remove("$gt");
            }
        }
        filter.insert("id".to_owned(), Value::Object(id));
        let bounds = [("$gt", scan.modified_after), ("$lte", scan.modified_up_to)];
        let bounds: Map<String, Value> = bounds
            .into_iter()
            .filter_map(|(key, date)| Some((key.to_owned(), at(date?))))
            .collect();
        if !bounds.is_empty() {
            let modified = shape.modified.clone().filter(|_| shape.filterable);
            let modified = modified.ok_or_else(|| PortalError::Inexpressible {
                method: self.path("search"),
                what: "the gateway cannot be asked for changes by their time".to_owned(),
            })?;
            filter.insert(modified, Value::Object(bounds));
        }
        Ok(Value::Object(filter))
    }

    /// Makes a chain of the rows that came.
    async fn chain(
        &self,
        lane: Lane,
        scan: &ScanAsk,
        (shape, limit): (&Shape, usize),
        answer: &GatewayAnswer,
        patience: Patience,
    ) -> Result<Chain, PortalError> {
        let mut rows = answer.rows()?;
        if rows.len() > limit {
            return Err(PortalError::unusable(
                &self.path("search"),
                format!("{} rows came although {limit} were asked for", rows.len()),
            ));
        }
        let full = rows.len() == limit;
        if limit > PAGE_ROWS && !in_order(&rows, scan.newest_first) {
            if full || answer.goes_on {
                self.distrust_order();
                let first = self.ask(lane, scan, shape, PAGE_ROWS, patience).await?;
                let rows = first.rows()?;
                self.refuse_gap(&first, rows.len(), PAGE_ROWS)?;
                return Ok(chain_of(first.pages(&rows), &first));
            }
            // It is all there is, so only the order was lost.
            put_in_order(&mut rows, scan.newest_first);
        }
        self.refuse_gap(answer, rows.len(), limit)?;
        // Where more follow although fewer came than were asked for, only whole pages count.
        if !full && answer.goes_on {
            rows.truncate(rows.len() / PAGE_ROWS * PAGE_ROWS);
        }
        Ok(chain_of(answer.pages(&rows), answer))
    }

    /// A short page ends a list, so there is none where the answer itself says that more follow.
    fn refuse_gap(
        &self,
        answer: &GatewayAnswer,
        rows: usize,
        limit: usize,
    ) -> Result<(), PortalError> {
        if rows >= PAGE_ROWS || !answer.goes_on {
            return Ok(());
        }
        let what = format!("it brought {rows} of {limit} records and says that more follow");
        Err(PortalError::unusable(&self.path("search"), what))
    }

    fn distrust_order(&self) {
        if !self.known.page_by_page.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                entity = self.entity.name,
                "the gateway does not keep the order of IDs from page to page; it is asked for \
                 {PAGE_ROWS} records at a time from now on"
            );
        }
    }

    async fn probe(&self, lane: Lane, patience: Patience) -> Result<Probes, PortalError> {
        let shape = self.shape(lane).await?;
        let modified_after = |date| {
            let modified_after = DateTime::parse_from_rfc3339(date).ok();
            ScanAsk { modified_after, ..ScanAsk::keys_above(RecordId::ZERO) }
        };
        let past = self.ask(lane, &modified_after(LONG_AGO), &shape, 1, patience).await?;
        let future = self.ask(lane, &modified_after(FAR_AHEAD), &shape, 1, patience).await?;
        Ok(Probes {
            past_gave_rows: !past.rows()?.is_empty(),
            future_gave_none: future.rows()?.is_empty(),
        })
    }

    async fn count(
        &self,
        lane: Lane,
        range: (RecordId, Option<RecordId>),
        patience: Patience,
    ) -> Result<u64, PortalError> {
        let mut question = Map::new();
        question.insert("limit".to_owned(), json!(1));
        question.insert("select".to_owned(), json!(["id"]));
        let listed = if range == (RecordId::ZERO, None) {
            // Without conditions, which an address may not be able to hold.
            let query = Parameters::query(&question);
            Some(self.gateway.call(lane, self.entity.name, &query, patience).await?)
        } else {
            question.insert("filter".to_owned(), json!({ "id": ids(range.0, range.1) }));
            // The one row shows whether the condition was heard: the last one, if there is an end.
            let order = if range.1.is_some() { "desc" } else { "asc" };
            question.insert("order".to_owned(), json!({ "id": order }));
            self.list(lane, &question, range, patience).await?
        };
        let path = self.path("search");
        let counted = listed.filter(|answer| answer.total.is_some());
        let answer = if let Some(answer) = counted {
            answer
        } else {
            let body = Parameters::body(&Value::Object(question));
            self.gateway.call(lane, &path, &body, patience).await?
        };
        let uncounted = || PortalError::unusable(&path, "it does not say how many there are");
        let total = answer.total.ok_or_else(uncounted)?;
        // The number may be where counting has ended.
        let suspicious = usize::try_from(total).is_ok_and(|total| total == MOST_ROWS);
        if suspicious && !self.are_all(lane, range, patience).await? {
            return Err(PortalError::unusable(&path, "it may not have counted to the end"));
        }
        Ok(total)
    }

    /// Whether a range has no more records than one answer can hold.
    async fn are_all(
        &self,
        lane: Lane,
        (after, up_to): (RecordId, Option<RecordId>),
        patience: Patience,
    ) -> Result<bool, PortalError> {
        let shape = self.shape(lane).await?;
        let keys = |after| ScanAsk { up_to, ..ScanAsk::keys_above(after) };
        let first = self.ask(lane, &keys(after), &shape, MOST_ROWS, patience).await?;
        let last = first.rows()?.iter().filter_map(|row| id_of(row)).max().unwrap_or(after);
        let next = self.ask(lane, &keys(last), &shape, 1, patience).await?;
        Ok(next.rows()?.is_empty())
    }

    fn path(&self, action: &str) -> String {
        format!("{}/{action}", self.entity.name)
    }
}

/// Whether a failure may concern this one question only.
fn may_pass(error: &PortalError) -> bool {
    matches!(error.disposition(), Disposition::Retry | Disposition::RetryFew)
        && matches!(error, PortalError::Vibecode(_))
}

/// The condition on IDs.
fn ids(after: RecordId, up_to: Option<RecordId>) -> Map<String, Value> {
    let mut id = Map::new();
    id.insert("$gt".to_owned(), json!(after.get()));
    if let Some(up_to) = up_to {
        id.insert("$lte".to_owned(), json!(up_to.get()));
    }
    id
}

fn at(date: DateTime<FixedOffset>) -> Value {
    json!(timestamp(date))
}

/// The ID of a row, for its place among the others; rows without one do not count.
fn id_of(row: &RawValue) -> Option<RecordId> {
    DIALECT.key_of(Raw::from(row))
}

fn in_order(rows: &[&RawValue], newest_first: bool) -> bool {
    let ids = rows.iter().filter_map(|row| id_of(row));
    if newest_first { ids.is_sorted_by(|one, next| one >= next) } else { ids.is_sorted() }
}

fn put_in_order(rows: &mut [&RawValue], newest_first: bool) {
    rows.sort_by_cached_key(|row| {
        let id = id_of(row).map_or(0, RecordId::get);
        if newest_first { -id } else { id }
    });
}

/// A list goes on behind a full page, however many were asked for: the gateway may allow fewer.
/// It ends with a short page, an empty one where nothing came.
fn chain_of(mut pages: Vec<Page>, answer: &GatewayAnswer) -> Chain {
    if pages.last().is_some_and(|last| last.len() == PAGE_ROWS) {
        return Chain { pages, end: ChainEnd::Full };
    }
    if pages.is_empty() {
        pages.push(answer.no_page());
    }
    Chain { pages, end: ChainEnd::Short }
}
