//! Reads what a pass asks for and decodes it, around everything that a portal can
//! do wrong short of refusing: answers too heavy to deliver, pages without their
//! multi-fields, a single record that the portal cannot deliver at all.

mod product_rows;
mod question;
mod shortened;

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, FixedOffset, Utc};
use serde_json::value::RawValue;

pub(super) use self::question::{Question, Range, ReadPage, Reply};
use self::{product_rows::ProductRows, shortened::Shortened};
use super::{
    SyncError,
    pass::{PAGE_ROWS, PageFacts},
    room::{Memory, Room},
};
use crate::{
    entity::{
        Dialect, Entity, RecordId,
        catalogue::Catalogue,
        decode::{Decoded, Decoder},
        privacy::Privacy,
        product_row,
    },
    portal::{
        Ask, Chain, ChainEnd, Detail, Heard, Lane, Page, Patience, Portal, PortalError, PortalTime,
        ProductRowSource, ScanAsk, Source, Timing,
    },
    retry::{Disposition, RetryPolicy},
};

/// Answers are kept to about this size by asking for fewer pages.
const ANSWER_BYTES: usize = 8 << 20;

/// Reads one entity. Clones share what they know of its fields.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) entity: &'static Entity,
    portal: Portal,
    pub(super) source: Arc<Source>,
    decoder: Arc<Decoder>,
    /// What brings product rows, where they are mirrored.
    product_rows: Option<Arc<ProductRows>>,
    pub(super) retry: RetryPolicy,
    room: Room,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    catalogue: Arc<Catalogue>,
    /// The text that the catalogue was read from; it is parsed only when it differs.
    text: String,
    /// The portal sends user fields that it does not describe.
    lacks_fields_for_good: bool,
    /// What full pages weigh on average, in bytes; the latest count most.
    page_bytes: usize,
    shortened: Option<Shortened>,
}

impl Reader {
    pub(super) fn new(
        entity: &'static Entity,
        dialect: Dialect,
        portal: Portal,
        retry: RetryPolicy,
        room: Room,
    ) -> Self {
        let source = Source::new(portal.clone(), entity, dialect);
        Self {
            entity,
            decoder: Arc::new(Decoder::new(entity, source.dialect())),
            product_rows: None,
            source: Arc::new(source),
            portal,
            retry,
            room,
            known: Arc::default(),
        }
    }

    /// The same with the product rows of the records, if the entity has any.
    pub(super) fn with_product_rows(self) -> Self {
        let mut lists = self.entity.multi_fields.iter().enumerate();
        let product_rows = lists.find_map(|(place, multi)| {
            let source = ProductRowSource::new(self.portal.clone(), multi.product_rows?);
            Some(Arc::new(ProductRows::new(source, place)))
        });
        Self { product_rows, ..self }
    }

    /// The same under rules that say what is left out and what is hashed.
    pub(super) fn keeping(self, privacy: Arc<Privacy>) -> Self {
        let excluded = privacy.rules().excluded();
        let multi_fields = self.entity.multi_fields.iter().map(|multi| multi.field);
        let left_out = multi_fields.filter(|field| excluded.contains(*field)).collect();
        let without_product_rows = excluded.contains(product_row::FIELD);
        let dialect = self.source.dialect();
        let source = Source::clone(&self.source);
        Self {
            source: Arc::new(source.leaving_out(left_out)),
            product_rows: self.product_rows.filter(|_| !without_product_rows),
            decoder: Arc::new(Decoder::keeping(self.entity, dialect, privacy)),
            ..self
        }
    }

    /// How rows come.
    pub(super) fn dialect(&self) -> Dialect {
        self.source.dialect()
    }

    /// What rows are decoded by.
    pub(super) fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The fingerprint of how records become rows.
    pub(super) fn fingerprint(&self) -> i64 {
        let records = match self.decoder.fingerprint() {
            records if self.portal.is_open() => records,
            // Of which kinds user fields are is not known, so once it is, all are read again.
            records => !records,
        };
        if self.product_rows.is_none() {
            return records;
        }
        // Where they are wanted now, every record is read once more to get them.
        xxhash_rust::xxh3::xxh3_64(format!("{records} {}", product_row::FIELD).as_bytes())
            .cast_signed()
    }

    /// The longest chain that is worth asking for: as the time and the size of the answer
    /// and the portal's strength allow, at least one page. The limiter cuts it to what fits
    /// when it is sent.
    pub(super) fn longest_chain(&self, lane: Lane) -> usize {
        let in_time = self.portal.limiter().in_time(lane, self.source.method());
        let known = self.known();
        let by_size =
            ANSWER_BYTES.checked_div(known.page_bytes).unwrap_or(self.source.most_pages());
        let by_weight = known.shortened.map_or(usize::MAX, Shortened::pages);
        in_time.min(by_size).min(by_weight).clamp(1, self.source.most_pages())
    }

    /// Asks until at least one page of some range has come, or fails for good.
    ///
    /// # Errors
    /// What the portal answered when retrying, shortening the chain and isolating
    /// the page did not help.
    pub(super) async fn read(&self, lane: Lane, question: &Question) -> Result<Reply, SyncError> {
        let mut reply = self.read_records(lane, question).await?;
        let rows = reply.ranges.iter_mut().flatten().flat_map(|page| &mut page.rows);
        reply.timing += self.bring_product_rows(lane, rows).await?;
        Ok(reply)
    }

    async fn read_records(&self, lane: Lane, question: &Question) -> Result<Reply, SyncError> {
        let mut ask = self.ask(question);
        let mut delays = self.retry.delays();
        let mut attempts = 0;
        let mut timing = Timing::default();
        loop {
            let chained = ask.scans.iter().any(|scan| scan.pages > 1);
            let patience = if chained { Patience::FailFastWhenHeavy } else { Patience::Persist };
            let heard = match self.source.read(lane, &ask, patience).await {
                Ok(heard) => heard,
                Err(error) if error.is_heavy() && chained => {
                    self.shorten(&mut ask, &error);
                    continue;
                }
                // The client has been patient already.
                Err(error) if error.is_heavy() => {
                    return Box::pin(self.isolate(lane, question, error.into())).await;
                }
                Err(error) => return Err(error.into()),
            };
            timing += heard.timing;
            let described = heard.catalogue.is_some();
            // What travels beside the pages may fail by itself; no record is to blame then.
            let beside = self
                .learn(heard.catalogue)
                .and_then(|_| heard.probes.transpose().map_err(SyncError::from));
            let (failure, by_record) = match beside {
                Err(failed) => (failed, false),
                Ok(probes) => {
                    match self.decode(lane, heard.scans).await {
                        Ok((Progress::Pages(ranges), memory)) => {
                            self.carried(ranges.iter().map(Vec::len).sum());
                            let catalogue = described.then(|| self.catalogue());
                            let (time, told_at) = (heard.time, heard.told_at);
                            return Ok(Reply {
                                ranges,
                                probes,
                                time,
                                told_at,
                                catalogue,
                                timing,
                                memory,
                            });
                        }
                        Ok((Progress::Failed(error), _)) => (error.into(), true),
                        // A page that lost its multi-fields is refused for good in the end:
                        // read record by record, it would pass for records without any.
                        Err(refused) => (refused, false),
                    }
                }
            };
            match remedy(&failure) {
                Remedy::Again => {}
                Remedy::Retry if attempts + 1 < self.retry.attempts() => {
                    attempts += 1;
                    tokio::time::sleep(delays.next_delay()).await;
                }
                Remedy::Retry if by_record => {
                    return Box::pin(self.isolate(lane, question, failure)).await;
                }
                Remedy::Retry | Remedy::GiveUp => return Err(failure),
            }
        }
    }

    /// Asks for the field descriptions if nothing is known of the fields yet. They travel
    /// alone here: beside given records, their failure would count as the records'.
    ///
    /// # Errors
    /// What the portal answered when retrying did not help.
    pub(super) async fn describe(&self, lane: Lane) -> Result<(), SyncError> {
        if self.undescribed() {
            let ask = Ask { catalogue: true, ..Ask::default() };
            Box::pin(self.insist(lane, &ask, |heard| self.learn(heard.catalogue))).await?;
        }
        Ok(())
    }

    /// The newest record IDs, highest first, with the clock of the answer; learns the
    /// field descriptions on the way.
    ///
    /// # Errors
    /// What the portal answered when retrying did not help.
    pub(super) async fn newest(
        &self,
        lane: Lane,
    ) -> Result<(Vec<RecordId>, Option<PortalTime>), SyncError> {
        let scan = ScanAsk { newest_first: true, ..ScanAsk::keys_above(RecordId::ZERO) };
        let ask = Ask { scans: vec![scan], catalogue: true, ..Ask::default() };
        self.insist(lane, &ask, |heard| {
            self.learn(heard.catalogue)?;
            Ok((self.listed(heard.scans)?.ids, heard.time))
        })
        .await
    }

    /// The first and the last IDs, the latter descending, of each range `(after, up_to]`;
    /// at most half as many ranges as a request has commands. Asked once: nothing
    /// depends on it.
    ///
    /// # Errors
    /// What the portal answered.
    pub(super) async fn ends(
        &self,
        lane: Lane,
        ranges: &[(i64, i64)],
    ) -> Result<Vec<(Vec<RecordId>, Vec<RecordId>)>, SyncError> {
        let scans = ranges.iter().flat_map(|(after, up_to)| {
            let after = RecordId::new(*after).unwrap_or(RecordId::ZERO);
            let scan = ScanAsk { up_to: RecordId::new(*up_to), ..ScanAsk::keys_above(after) };
            [scan.clone(), ScanAsk { newest_first: true, ..scan }]
        });
        let ask = Ask { scans: scans.collect(), ..Ask::default() };
        let heard = self.source.read(lane, &ask, Patience::FailFastWhenHeavy).await?;
        let mut ends = Vec::with_capacity(ranges.len());
        let mut chains = heard.scans.into_iter();
        while let (Some(first), Some(last)) = (chains.next(), chains.next()) {
            ends.push((self.listed(vec![first])?.ids, self.listed(vec![last])?.ids));
        }
        Ok(ends)
    }

    /// Asks until every part of the answer is there. The client tries a request again
    /// that failed as a whole; a command that failed inside of one is tried again here.
    async fn insist<T>(
        &self,
        lane: Lane,
        ask: &Ask,
        take: impl Fn(Heard) -> Result<T, SyncError>,
    ) -> Result<T, SyncError> {
        let mut delays = self.retry.delays();
        let mut attempts = 0;
        loop {
            let heard = self.source.read(lane, ask, Patience::Persist).await?;
            let failure = match take(heard) {
                Ok(taken) => return Ok(taken),
                Err(failure) => failure,
            };
            match remedy(&failure) {
                Remedy::Again => {}
                Remedy::Retry if attempts + 1 < self.retry.attempts() => {
                    attempts += 1;
                    tokio::time::sleep(delays.next_delay()).await;
                }
                Remedy::Retry | Remedy::GiveUp => return Err(failure),
            }
        }
    }

    /// Reads a listing; an error if any part of it failed.
    pub(super) fn listed(&self, chains: Vec<Chain>) -> Result<Listing, SyncError> {
        let mut listing = Listing { ids: Vec::new(), nameless: Vec::new() };
        for chain in chains {
            if let ChainEnd::Failed(error) = chain.end {
                return Err(error.into());
            }
            for row in chain.pages.iter().flat_map(Page::rows) {
                match self.dialect().key_of(row) {
                    Some(id) => listing.ids.push(id),
                    None => listing.nameless.push(self.dialect().nameless(self.entity, row)),
                }
            }
        }
        Ok(listing)
    }

    /// Everything that the portal has told of the entity's fields.
    pub(super) fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.known().catalogue)
    }

    fn ask(&self, question: &Question) -> Ask {
        let scans = question
            .ranges
            .iter()
            .map(|range| ScanAsk {
                up_to: range.up_to,
                modified_after: range.floor,
                modified_up_to: range.ceiling,
                detail: Detail::Full,
                pages: range.pages.max(1),
                newest_first: range.newest_first,
                ..ScanAsk::keys_above(range.after)
            })
            .collect();
        // Before the first answer nothing can be decoded rightly without it.
        let catalogue = question.catalogue || self.undescribed();
        Ask { scans, catalogue, probes: question.probes, ..Ask::default() }
    }

    fn shorten(&self, ask: &mut Ask, error: &PortalError) {
        for scan in &mut ask.scans {
            scan.pages = scan.pages.div_ceil(2);
        }
        let pages = ask.scans.iter().map(|scan| scan.pages).sum();
        self.known().shortened = Some(Shortened::to(pages));
        tracing::warn!(
            entity = self.entity.name,
            error = error as &dyn std::error::Error,
            "the answer was too heavy for the portal; asking for half as many pages"
        );
    }

    fn carried(&self, pages: usize) {
        let most = self.source.most_pages();
        let mut known = self.known();
        known.shortened = known.shortened.and_then(|shortened| shortened.carried(pages, most));
    }

    /// Decodes what came, in memory of its own. A page with a field that the catalogue does
    /// not describe is decoded again with a new one: types decide how custom fields are kept.
    async fn decode(
        &self,
        lane: Lane,
        chains: Vec<Chain>,
    ) -> Result<(Progress, Memory), SyncError> {
        let bytes = chains.iter().flat_map(|chain| &chain.pages).map(Page::bytes).sum();
        let mut memory = self.room.memory(bytes).await;
        let (mut decoded, mut chains) = self.decode_aside(chains).await?;
        let stale = decoded.iter().flatten().any(|(_, stale)| *stale);
        if stale && !self.known().lacks_fields_for_good {
            // The question waits for its turn in this lane, and more urgent answers must
            // not wait for the memory meanwhile.
            drop((memory, decoded));
            let described = self.refresh_catalogue(lane).await?;
            memory = self.room.memory(bytes).await;
            (decoded, chains) = self.decode_aside(chains).await?;
            if described {
                return Ok((Progress::of(decoded, None), memory));
            }
        }
        let failed = chains.into_iter().find_map(|chain| match chain.end {
            ChainEnd::Failed(error) => Some(error),
            ChainEnd::Full | ChainEnd::Short => None,
        });
        Ok((Progress::of(decoded, failed), memory))
    }

    async fn decode_aside(&self, chains: Vec<Chain>) -> Result<(Sheets, Vec<Chain>), SyncError> {
        let reader = self.clone();
        let decoding = move || {
            let catalogue = reader.catalogue();
            let page = |page: &Page| reader.page(page, &catalogue);
            let chain = |chain: &Chain| chain.pages.iter().map(page).collect();
            let decoded: Result<Sheets, SyncError> = chains.iter().map(chain).collect();
            decoded.map(|decoded| (decoded, chains))
        };
        self.room.decode(decoding).await
    }

    /// Decodes one page; says whether the catalogue is too old for it.
    fn page(&self, page: &Page, catalogue: &Catalogue) -> Result<(ReadPage, bool), SyncError> {
        let bytes = page.bytes();
        {
            let mut known = self.known();
            if page.len() == PAGE_ROWS {
                known.page_bytes = match known.page_bytes {
                    0 => bytes,
                    known => known - known / 64 + bytes / 64,
                };
            }
        }
        let decoded = self.decoder.page(page.rows(), catalogue)?;
        let keys = decoded
            .rows
            .iter()
            .filter_map(|row| match row {
                Decoded::Record(record) => {
                    Some((record.id(), record.timestamp(self.entity, self.entity.modified())))
                }
                Decoded::Reject(reject) => reject.id.map(|id| (id, None)),
            })
            .collect();
        let facts = PageFacts { rows: page.len(), keys };
        Ok((ReadPage { facts, rows: decoded.rows, bytes }, decoded.catalogue_is_stale))
    }

    /// Reads the given records in one page, once. What their fields are must be known.
    pub(super) async fn chunk(
        &self,
        lane: Lane,
        ids: &[RecordId],
        patience: Patience,
    ) -> Result<Vec<Decoded>, SyncError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let scan = ScanAsk {
            ids: Some(ids.to_vec()),
            detail: Detail::Full,
            ..ScanAsk::keys_above(RecordId::ZERO)
        };
        let ask = Ask { scans: vec![scan], ..Ask::default() };
        let heard = self.source.read(lane, &ask, patience).await?;
        match self.decode(lane, heard.scans).await?.0 {
            Progress::Pages(ranges) => self.asked_for(ids, ranges.into_iter().flatten()),
            Progress::Failed(error) => Err(error.into()),
        }
    }

    /// Reads the given records in one request, a page for each part. A part that did not
    /// come is `None`, and the others stand. What their fields are must be known.
    pub(super) async fn chunks(
        &self,
        lane: Lane,
        parts: &[&[RecordId]],
    ) -> Result<Vec<Option<Vec<Decoded>>>, SyncError> {
        let scan = |part: &&[RecordId]| ScanAsk {
            ids: Some(part.to_vec()),
            detail: Detail::Full,
            ..ScanAsk::keys_above(RecordId::ZERO)
        };
        let scans = parts.iter().map(scan).collect();
        let ask = Ask { scans, ..Ask::default() };
        let none = || Ok(parts.iter().map(|_| None).collect());
        let heard = match self.source.read(lane, &ask, Patience::FailFastWhenHeavy).await {
            Ok(heard) => heard,
            Err(error) if error.is_heavy() => return none(),
            Err(error) => return Err(error.into()),
        };
        match self.decode(lane, heard.scans).await?.0 {
            Progress::Pages(ranges) => parts
                .iter()
                .zip(ranges)
                .map(|(part, pages)| {
                    // A part of nothing but what has gone is an empty page, not none.
                    if pages.is_empty() { Ok(None) } else { self.asked_for(part, pages).map(Some) }
                })
                .collect(),
            Progress::Failed(_) => none(),
        }
    }

    /// The rows of pages that were asked for by IDs.
    fn asked_for(
        &self,
        ids: &[RecordId],
        pages: impl IntoIterator<Item = ReadPage>,
    ) -> Result<Vec<Decoded>, SyncError> {
        let rows: Vec<Decoded> = pages.into_iter().flat_map(|page| page.rows).collect();
        match rows.iter().filter_map(Decoded::id).find(|id| !ids.contains(id)) {
            Some(id) => Err(SyncError::NotAskedFor { entity: self.entity.name, id }),
            None => Ok(rows),
        }
    }

    /// Asks for the field descriptions because a row has a field that they lack.
    /// Returns whether they had changed; if not, there is no use in asking again.
    async fn refresh_catalogue(&self, lane: Lane) -> Result<bool, SyncError> {
        let ask = Ask { catalogue: true, ..Ask::default() };
        let asked = self.insist(lane, &ask, |heard| self.learn(heard.catalogue)).await;
        let changed = asked.map_err(|error| match error {
            // No record is to blame, whatever the portal says.
            SyncError::Portal(source) => {
                SyncError::Undescribed { entity: self.entity.name, source }
            }
            other => other,
        })?;
        self.known().lacks_fields_for_good = !changed;
        Ok(changed)
    }

    /// Takes the field descriptions in; returns whether they are new.
    fn learn(&self, answer: Option<Result<Box<RawValue>, PortalError>>) -> Result<bool, SyncError> {
        let Some(raw) = answer.transpose()? else { return Ok(false) };
        let mut known = self.known();
        let new = known.text != raw.get();
        if new {
            known.catalogue = Arc::new(Catalogue::parse(&raw, self.entity, self.dialect())?);
            raw.get().clone_into(&mut known.text);
            known.lacks_fields_for_good = false;
        }
        Ok(new)
    }

    /// Whether nothing is known of the fields yet: no full record can be decoded rightly.
    pub(super) fn undescribed(&self) -> bool {
        self.known().text.is_empty()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Nothing panics while holding it, and half-learnt facts would do no harm.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The decoded pages of each chain, and whether the catalogue was too old for them.
type Sheets = Vec<Vec<(ReadPage, bool)>>;

enum Progress {
    Pages(Vec<Vec<ReadPage>>),
    Failed(PortalError),
}

impl Progress {
    /// A failure counts only if nothing else came.
    fn of(decoded: Sheets, failed: Option<PortalError>) -> Self {
        if let Some(error) = failed.filter(|_| decoded.iter().all(Vec::is_empty)) {
            return Self::Failed(error);
        }
        let pages = |chain: Vec<_>| chain.into_iter().map(|(page, _)| page).collect();
        Self::Pages(decoded.into_iter().map(pages).collect())
    }
}

/// What helps against a failure that came inside an answer.
pub(super) enum Remedy {
    /// Ask the same again at once: the limiter knows until when to hold it back.
    Again,
    /// Ask a few times more, then record by record.
    Retry,
    GiveUp,
}

pub(super) fn remedy(failure: &SyncError) -> Remedy {
    match failure {
        SyncError::Mutilated(_) => Remedy::Retry,
        SyncError::Portal(error) => match error.disposition() {
            Disposition::WaitPortal | Disposition::WaitMethod => Remedy::Again,
            Disposition::Retry | Disposition::RetryFew => Remedy::Retry,
            _ => Remedy::GiveUp,
        },
        _ => Remedy::GiveUp,
    }
}

/// What a page of keys lists.
pub(super) struct Listing {
    pub(super) ids: Vec<RecordId>,
    /// Rows without a usable ID.
    pub(super) nameless: Vec<Decoded>,
}

/// An instant for a filter, if there is one.
pub(super) fn bound(
    instant: Option<DateTime<Utc>>,
    offset_seconds: i32,
) -> Option<DateTime<FixedOffset>> {
    instant.map(|instant| super::cycle::in_offset(instant, offset_seconds))
}

#[cfg(all(test, feature = "simulator"))]
mod tests;
