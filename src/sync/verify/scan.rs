//! The first look: the portal's list, one answer at a time, held against the rows in the
//! same range of IDs.

use super::{
    Comparison, Level,
    compare::{Shown, suspects_by_content, suspects_by_key},
    confirm::as_shown,
};
use crate::{
    entity::{RecordId, decode::Decoded},
    portal::PAGE_ROWS,
    store::StoredKey,
    sync::{
        SyncError,
        mirror::Mirror,
        pass::PageFacts,
        reader::{Question, Range, ReadPage},
        sweep::{Listed, Listing, Wanted},
    },
};

/// Keys that are read from the database at a time.
const KEYS: u32 = 10_000;

/// Rows that are read whole from the database at a time.
const ROWS: u32 = 500;

impl Comparison<'_> {
    /// Reads the portal's next answer and compares the range of IDs that it covers.
    pub(super) async fn look(
        &mut self,
        listing: &mut Listing,
        longest: usize,
    ) -> Result<(), SyncError> {
        let (mirror, cursor) = (self.mirror, listing.cursor());
        let reach = u32::try_from(longest * PAGE_ROWS).unwrap_or(u32::MAX);
        let counting = async {
            Ok(mirror.store().records_above(mirror.entity(), mirror.sight(), cursor, reach).await?)
        };
        let wanted = listing.wanted(mirror.unless_stopped(counting).await?, longest);
        if self.level == Level::Full {
            self.look_at_content(listing, wanted).await
        } else {
            self.look_at_keys(listing, wanted).await
        }
    }

    async fn look_at_keys(
        &mut self,
        listing: &mut Listing,
        wanted: Wanted,
    ) -> Result<(), SyncError> {
        let keys = self.mirror.list_keys(self.lane, wanted).await?;
        let nameless: usize = keys.pages.iter().map(|page| page.rows - page.keys.len()).sum();
        let taken = self.taken(listing, &keys.pages, keys.newest.as_ref(), wanted, nameless);
        let Some(listed) = taken.await? else { return Ok(()) };
        let mut rest = listed.keys.as_slice();
        let mut rows = Rows::of(&listed);
        while let Some(block) = rows.next(self.mirror, KEYS).await? {
            let here = rest.partition_point(|(id, _)| block.reaches(*id));
            let (part, others) = rest.split_at(here);
            rest = others;
            self.suspects.extend(suspects_by_key(part, &block.keys));
        }
        Ok(())
    }

    async fn look_at_content(
        &mut self,
        listing: &mut Listing,
        wanted: Wanted,
    ) -> Result<(), SyncError> {
        let mut ranges = vec![Range { pages: wanted.pages, ..Range::above(wanted.after) }];
        if wanted.newest {
            ranges.push(Range { newest_first: true, ..Range::above(RecordId::ZERO) });
        }
        let question = Question { ranges, ..Question::default() };
        let reply = self.mirror.ask(self.lane, &question).await?;
        let mut ranges = reply.ranges.into_iter();
        let pages = ranges.next().unwrap_or_default();
        let newest = ranges.next().and_then(|pages| pages.into_iter().next());
        let (facts, rows): (Vec<PageFacts>, Vec<Vec<Decoded>>) =
            pages.into_iter().map(|ReadPage { facts, rows, .. }| (facts, rows)).unzip();
        let newest = newest.map(|page| page.facts);
        let nameless = rows.iter().flatten().filter(|row| row.id().is_none()).count();
        let taken = self.taken(listing, &facts, newest.as_ref(), wanted, nameless);
        let Some(listed) = taken.await? else { return Ok(()) };
        let mut shown: Vec<(RecordId, Shown<'_>)> = rows
            .iter()
            .flatten()
            .filter_map(|row| Some((row.id()?, as_shown(Some(row)))))
            .collect();
        self.mirror.leave_out_forgotten(&mut shown, |(id, _)| *id);
        let mut rest = shown.as_slice();
        let mut rows = Rows::of(&listed);
        while let Some(block) = rows.next(self.mirror, ROWS).await? {
            let here = rest.partition_point(|(id, _)| block.reaches(*id));
            let (part, others) = rest.split_at(here);
            rest = others;
            let ids: Vec<RecordId> = block.keys.iter().map(|key| key.id).collect();
            let stored = self.mirror.rows_of(&ids).await?;
            self.suspects.extend(suspects_by_content(self.mirror.entity(), part, &stored));
        }
        drop(reply.memory);
        Ok(())
    }

    /// Moves the listing over an answer; nothing if it says nothing about any range. What has
    /// been forgotten is not among what it lists.
    async fn taken(
        &mut self,
        listing: &mut Listing,
        pages: &[PageFacts],
        newest: Option<&PageFacts>,
        wanted: Wanted,
        nameless: usize,
    ) -> Result<Option<Listed>, SyncError> {
        let entity = self.mirror.entity().name;
        let mut listed =
            listing.take(pages, newest).map_err(|source| SyncError::Mismatch { entity, source })?;
        if let Some(listed) = &mut listed {
            self.contradicted = 0;
            let left_out = self.mirror.leave_out_forgotten(&mut listed.keys, |(id, _)| *id);
            if self.level == Level::Counts {
                self.report.uncount(left_out.iter().map(|(id, _)| *id));
            } else {
                self.report.compared += listed.keys.len() as u64;
            }
            self.report.nameless += nameless as u64;
            self.tally.read += listed.keys.len() as u64;
        } else if wanted.newest {
            self.contradicted += 1;
            if self.contradicted > self.mirror.retry().attempts() {
                return Err(self.mirror.unproven(
                    "the portal lists nothing above a record, and from the other end it lists \
                     records there",
                ));
            }
            self.mirror.rest(self.mirror.retry().delays().next_delay()).await?;
        }
        Ok(listed)
    }
}

/// The rows in a range of IDs, block by block: the mirror may have many more of them there
/// than the portal.
struct Rows {
    after: RecordId,
    up_to: Option<RecordId>,
    ended: bool,
}

/// Consecutive rows.
struct Block {
    keys: Vec<StoredKey>,
    /// Up to where they are all; `None` for the rest of all IDs.
    up_to: Option<RecordId>,
}

impl Block {
    fn reaches(&self, id: RecordId) -> bool {
        self.up_to.is_none_or(|up_to| id <= up_to)
    }
}

impl Rows {
    const fn of(listed: &Listed) -> Self {
        Self { after: listed.after, up_to: listed.up_to, ended: false }
    }

    /// The next rows, at most so many; `None` behind the last.
    async fn next(&mut self, mirror: &Mirror, limit: u32) -> Result<Option<Block>, SyncError> {
        if self.ended {
            return Ok(None);
        }
        let reading = async {
            let (store, entity) = (mirror.store(), mirror.entity());
            let sight = mirror.sight();
            Ok(store.stored_keys(entity, sight, self.after, self.up_to, limit).await?)
        };
        let keys = mirror.unless_stopped(reading).await?;
        let full = keys.len() >= limit as usize;
        let up_to = match keys.last() {
            Some(last) if full => Some(last.id),
            _ => self.up_to,
        };
        self.ended = !full;
        self.after = up_to.unwrap_or(self.after);
        Ok(Some(Block { keys, up_to }))
    }
}
