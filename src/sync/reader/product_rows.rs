//! Brings the product rows of records that were just read.
//!
//! The rows are asked for after their records, so they are of the same moment or later than
//! the batch claims to be: what changes in between moves the record's own time, and the next
//! cycle reads both again.

use std::collections::{BTreeMap, BTreeSet};

use super::{Reader, Remedy, remedy};
use crate::{
    entity::{
        RecordId,
        decode::Decoded,
        product_row::{FIELD, ProductRow},
        record::{Child, ChildList, Note, Reason},
    },
    portal::{Lane, Page, Patience, PortalError, ProductRowAsk, ProductRowSource, Timing},
    retry::Disposition,
    sync::{SyncError, pass::PAGE_ROWS},
};

/// Records per command: so many that their rows often fill a page, and seldom two.
const OWNERS: usize = 15;

/// Where product rows of an entity come from and go to.
#[derive(Debug)]
pub(super) struct ProductRows {
    source: ProductRowSource,
    /// Their place among the entity's multi-fields.
    place: usize,
}

/// What was found of some records.
#[derive(Default)]
struct Found {
    rows: BTreeMap<RecordId, Vec<Child>>,
    notes: BTreeMap<RecordId, Vec<Note>>,
    /// Records whose rows the portal does not show.
    hidden: BTreeSet<RecordId>,
}

/// A question with how often it has been asked in vain.
struct Open {
    ask: ProductRowAsk,
    failed: u32,
}

impl ProductRows {
    pub(super) const fn new(source: ProductRowSource, place: usize) -> Self {
        Self { source, place }
    }
}

impl Reader {
    /// Gives the records their product rows, where these are mirrored.
    ///
    /// # Errors
    /// What the portal answered when neither retrying nor asking for fewer helped.
    pub(in crate::sync) async fn bring_product_rows<'a>(
        &self,
        lane: Lane,
        rows: impl IntoIterator<Item = &'a mut Decoded>,
    ) -> Result<Timing, SyncError> {
        let Some(product_rows) = &self.product_rows else { return Ok(Timing::default()) };
        let mut records: Vec<_> = rows
            .into_iter()
            .filter_map(|row| match row {
                Decoded::Record(record) => Some(record),
                Decoded::Reject(_) => None,
            })
            .collect();
        // Of a page that came twice, each record counts once.
        let owners: BTreeSet<RecordId> = records.iter().map(|record| record.id()).collect();
        let owners: Vec<RecordId> = owners.into_iter().collect();
        let (mut found, timing) = self.rows_of(lane, product_rows, &owners).await?;
        for record in &mut records {
            let id = record.id();
            let (list, notes) = if found.hidden.contains(&id) {
                let (field, raw) = (FIELD.to_owned(), "null".to_owned());
                let note = Note { field, reason: Reason::ChildrenMissing, raw };
                (ChildList::Untrusted, vec![note])
            } else {
                let rows = found.rows.get(&id).cloned().unwrap_or_default();
                (ChildList::Known(rows), found.notes.remove(&id).unwrap_or_default())
            };
            ***record = record.with_list(product_rows.place, list, notes);
        }
        Ok(timing)
    }

    async fn rows_of(
        &self,
        lane: Lane,
        product_rows: &ProductRows,
        owners: &[RecordId],
    ) -> Result<(Found, Timing), SyncError> {
        let (mut found, mut timing) = (Found::default(), Timing::default());
        let mut open: Vec<Open> =
            owners.chunks(OWNERS).map(|some| Open::first(some.to_vec())).collect();
        let mut most = ProductRowSource::MOST;
        let mut delays = self.retry.delays();
        while !open.is_empty() {
            let asked: Vec<Open> = open.drain(..most.min(open.len())).collect();
            let asks: Vec<ProductRowAsk> = asked.iter().map(|open| open.ask.clone()).collect();
            let several = asks.len() > 1;
            let patience = if several { Patience::FailFastWhenHeavy } else { Patience::Persist };
            let pages = match product_rows.source.read(lane, &asks, patience).await {
                Ok((pages, took)) => {
                    timing += took;
                    pages
                }
                Err(error) if error.is_heavy() && several => {
                    most = asks.len().div_ceil(2);
                    open.extend(asked);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut failed = false;
            for (mut asked, page) in asked.into_iter().zip(pages) {
                let error = match page {
                    Ok(page) => {
                        if found.take(&mut asked.ask, &page)? {
                            open.push(Open { failed: 0, ..asked });
                        }
                        continue;
                    }
                    Err(error) => error,
                };
                let hides =
                    matches!(error.disposition(), Disposition::StopEntity | Disposition::Missing);
                let error = SyncError::from(error);
                let again = match remedy(&error) {
                    Remedy::Again => true,
                    Remedy::Retry if asked.failed + 1 < self.retry.attempts() => {
                        asked.failed += 1;
                        failed = true;
                        true
                    }
                    Remedy::Retry | Remedy::GiveUp => false,
                };
                match asked.ask.owners.as_slice() {
                    _ if again => open.push(asked),
                    // It refuses them all because of one.
                    [_, _, ..] => open.extend(asked.halves()),
                    [owner] if hides => {
                        found.hidden.insert(*owner);
                    }
                    _ => return Err(error),
                }
            }
            if failed {
                tokio::time::sleep(delays.next_delay()).await;
            }
        }
        Ok((found, timing))
    }
}

impl Open {
    const fn first(owners: Vec<RecordId>) -> Self {
        Self { ask: ProductRowAsk { owners, after: RecordId::ZERO }, failed: 0 }
    }

    /// The same question about fewer records each; they go on behind the same row.
    fn halves(self) -> [Self; 2] {
        let ProductRowAsk { mut owners, after } = self.ask;
        let high = owners.split_off(owners.len() / 2);
        [owners, high].map(|owners| Self { ask: ProductRowAsk { owners, after }, failed: 0 })
    }
}

impl Found {
    /// Takes a page in; says whether more may follow, and from where.
    fn take(&mut self, ask: &mut ProductRowAsk, page: &Page) -> Result<bool, PortalError> {
        for raw in page.rows() {
            let row = ProductRow::read(raw)
                .ok_or_else(|| ProductRowSource::unusable("a row does not say whose it is"))?;
            let id = RecordId::new(row.child.id).unwrap_or(RecordId::ZERO);
            if !ask.owners.contains(&row.owner) || id <= ask.after {
                return Err(ProductRowSource::unusable(
                    "it lists other rows than it was asked for",
                ));
            }
            ask.after = id;
            self.rows.entry(row.owner).or_default().push(row.child);
            if let Some(note) = row.note {
                self.notes.entry(row.owner).or_default().push(note);
            }
        }
        Ok(page.len() == PAGE_ROWS)
    }
}
