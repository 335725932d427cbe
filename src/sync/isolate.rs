//! A page that the portal cannot deliver, read record by record: what is at fault is
//! found and set aside, and only that.

use std::time::Instant;

use super::{
    SyncError,
    pass::{PAGE_ROWS, PageFacts},
    reader::{Question, ReadPage, Reader, Remedy, Reply, remedy},
    room::Memory,
};
use crate::{
    entity::{
        RecordId,
        decode::Decoded,
        record::{Note, Reason, Reject},
    },
    portal::{Ask, Lane, Patience, ScanAsk, Timing},
};

impl Reader {
    /// The page after each range's start, record by record where it must be.
    ///
    /// # Errors
    /// `failure` when the portal itself is at fault: not even the IDs come.
    pub(super) async fn isolate(
        &self,
        lane: Lane,
        question: &Question,
        failure: SyncError,
    ) -> Result<Reply, SyncError> {
        self.describe(lane).await?;
        let mut ranges = Vec::new();
        let (mut time, mut told_at) = (None, None);
        for range in &question.ranges {
            let scan = ScanAsk {
                up_to: range.up_to,
                modified_after: range.floor,
                modified_up_to: range.ceiling,
                newest_first: range.newest_first,
                ..ScanAsk::keys_above(range.after)
            };
            // A gateway tells the time only where the fields are asked for, or something dated.
            let ask = Ask { scans: vec![scan], catalogue: question.catalogue, ..Ask::default() };
            let Ok(heard) = self.source.read(lane, &ask, Patience::Persist).await else {
                return Err(failure);
            };
            if time.is_none() {
                (time, told_at) = (heard.time, heard.told_at.or_else(|| Some(Instant::now())));
            }
            let Ok(listing) = self.listed(heard.scans) else { return Err(failure) };
            let facts = PageFacts {
                rows: listing.ids.len() + listing.nameless.len(),
                keys: listing.ids.iter().map(|id| (*id, None)).collect(),
            };
            let mut rows = self.piecewise(lane, &listing.ids).await?;
            rows.extend(listing.nameless);
            ranges.push(vec![ReadPage { facts, rows, bytes: 0 }]);
        }
        tracing::warn!(
            entity = self.entity.name,
            error = &failure as &dyn std::error::Error,
            "the portal could not deliver a page; it was read record by record"
        );
        Ok(Reply {
            ranges,
            probes: None,
            time,
            told_at,
            catalogue: None,
            timing: Timing::default(),
            memory: Memory::default(),
        })
    }

    /// Reads given records in as few requests as carry them. What the portal cannot
    /// deliver is found and set aside; who does not come is not there.
    ///
    /// # Errors
    /// What the portal answered when neither retrying nor isolating helped.
    pub(super) async fn given(
        &self,
        lane: Lane,
        ids: &[RecordId],
    ) -> Result<Vec<Decoded>, SyncError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.describe(lane).await?;
        let mut rows = Vec::with_capacity(ids.len());
        let pages = self.longest_chain(lane);
        for group in ids.chunks(PAGE_ROWS * pages) {
            let parts: Vec<&[RecordId]> = group.chunks(PAGE_ROWS).collect();
            for (part, read) in parts.iter().zip(self.chunks_whole(lane, &parts).await?) {
                match read {
                    Some(read) => rows.extend(read),
                    None => rows.extend(self.piecewise(lane, part).await?),
                }
            }
        }
        self.bring_product_rows(lane, &mut rows).await?;
        Ok(rows)
    }

    /// Reads parts until none of them comes without its multi-fields.
    async fn chunks_whole(
        &self,
        lane: Lane,
        parts: &[&[RecordId]],
    ) -> Result<Vec<Option<Vec<Decoded>>>, SyncError> {
        let mut delays = self.retry.delays();
        let mut attempts = 1;
        loop {
            match self.chunks(lane, parts).await {
                Err(SyncError::Mutilated(_)) if attempts < self.retry.attempts() => {
                    attempts += 1;
                    tokio::time::sleep(delays.next_delay()).await;
                }
                read => return read,
            }
        }
    }

    /// Reads records in ever smaller parts, down to the ones that cannot be delivered.
    async fn piecewise(&self, lane: Lane, ids: &[RecordId]) -> Result<Vec<Decoded>, SyncError> {
        let mut rows = Vec::with_capacity(ids.len());
        let mut parts = vec![ids];
        while let Some(part) = parts.pop() {
            let error = match self.chunk(lane, part, Patience::FailFastWhenHeavy).await {
                Ok(read) => {
                    rows.extend(read);
                    continue;
                }
                Err(mutilated @ SyncError::Mutilated(_)) => return Err(mutilated),
                Err(error) => error,
            };
            match (remedy(&error), part) {
                (Remedy::Again, _) => parts.push(part),
                (Remedy::GiveUp, _) => return Err(error),
                (Remedy::Retry, []) => {}
                (Remedy::Retry, [id]) => rows.extend(self.last_try(lane, *id, error).await?),
                (Remedy::Retry, many) => {
                    let (low, high) = many.split_at(many.len() / 2);
                    parts.extend([high, low]);
                }
            }
        }
        Ok(rows)
    }

    /// A single record that did not come: it is set aside only when the portal is
    /// alive, still lists it, and once more does not deliver it.
    async fn last_try(
        &self,
        lane: Lane,
        id: RecordId,
        error: SyncError,
    ) -> Result<Option<Decoded>, SyncError> {
        let scan = ScanAsk { ids: Some(vec![id]), ..ScanAsk::keys_above(RecordId::ZERO) };
        let ask = Ask { scans: vec![scan], ..Ask::default() };
        let Ok(heard) = self.source.read(lane, &ask, Patience::Persist).await else {
            return Err(error);
        };
        match self.listed(heard.scans) {
            Err(_) => return Err(error),
            Ok(listing) if !listing.ids.contains(&id) => return Ok(None),
            Ok(_) => {}
        }
        loop {
            let error = match self.chunk(lane, &[id], Patience::Persist).await {
                Ok(mut rows) => return Ok(rows.pop()),
                Err(error) => error,
            };
            let away = matches!(&error, SyncError::Portal(error) if error.is_unreachable());
            match remedy(&error) {
                Remedy::Again => {}
                Remedy::Retry if !away => return Ok(Some(undeliverable(id, &error))),
                Remedy::Retry | Remedy::GiveUp => return Err(error),
            }
        }
    }
}

fn undeliverable(id: RecordId, error: &SyncError) -> Decoded {
    tracing::error!(
        id = %id,
        error = error as &dyn std::error::Error,
        "the portal lists a record but cannot deliver it; it is in the quarantine"
    );
    let note = Note { field: String::new(), reason: Reason::Undeliverable, raw: error.to_string() };
    Decoded::Reject(Reject { id: Some(id), note })
}
