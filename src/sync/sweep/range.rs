//! The listing as data: what to ask next, what an answer says about an ID range, and where
//! that differs from the mirror.
//!
//! An answer closes the range from the ID that it was asked to start after to the last ID
//! that it lists. Nothing is concluded about IDs beyond it. Above the last of all IDs only
//! an empty page can close the range, and an empty page is also what a fault looks like: it
//! counts only together with a page from the other end, asked for in the same request, that
//! shows nothing above it either.

use chrono::{DateTime, Utc};

use crate::{
    entity::RecordId,
    sync::pass::{EndRule, Mismatch, PAGE_ROWS, PageFacts, Scan},
};

/// A listed record and its modification time, if it has a readable one.
pub(in crate::sync) type Key = (RecordId, Option<DateTime<Utc>>);

/// What to ask for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sync) struct Wanted {
    /// Only IDs above this one.
    pub(in crate::sync) after: RecordId,
    /// Chained pages, at least one.
    pub(in crate::sync) pages: usize,
    /// Whether to ask for the newest page as well.
    pub(in crate::sync) newest: bool,
}

/// What an answer says about the range `(after, up_to]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sync) struct Listed {
    pub(in crate::sync) after: RecordId,
    /// The last ID of which something is known; `None` beyond the last of all.
    pub(in crate::sync) up_to: Option<RecordId>,
    /// Every record that the portal has there.
    pub(in crate::sync) keys: Vec<Key>,
}

/// A listing of every ID, from wherever it has come to.
#[derive(Debug, Clone)]
pub(in crate::sync) struct Listing {
    scan: Scan,
    /// The last page was not full, so the next one is expected to be empty.
    at_end: bool,
    ended: bool,
    /// Full pages that have come although the mirror has nothing above the cursor.
    surplus: usize,
    /// Whether the mirror had nothing above the cursor when it was last asked for.
    beyond: bool,
}

impl Listing {
    pub(in crate::sync) fn above(cursor: RecordId) -> Self {
        let scan = Scan::above(cursor, EndRule::EmptyPage);
        Self { scan, at_end: false, ended: false, surplus: 0, beyond: false }
    }

    /// Everything up to here has been compared.
    pub(in crate::sync) const fn cursor(&self) -> RecordId {
        self.scan.cursor()
    }

    pub(in crate::sync) const fn ended(&self) -> bool {
        self.ended
    }

    /// What to ask for, given how many records the mirror has above the cursor: a command
    /// behind the last page costs the portal a query for nothing.
    pub(in crate::sync) fn wanted(&mut self, own_above: usize, at_most: usize) -> Wanted {
        self.beyond = own_above == 0;
        let newest = self.at_end || self.beyond;
        let pages = match (self.at_end, self.beyond) {
            (true, _) => 1,
            (false, true) => self.surplus,
            (false, false) => own_above.div_ceil(PAGE_ROWS),
        };
        Wanted { after: self.cursor(), pages: pages.clamp(1, at_most.max(1)), newest }
    }

    /// Takes an answer: the pages in their order up to the first short one, and the newest
    /// page if it was asked for. `None` if nothing can be concluded from it yet.
    ///
    /// # Errors
    /// [`Mismatch`] when it answers another question than was asked; nothing is taken.
    pub(in crate::sync) fn take(
        &mut self,
        pages: &[PageFacts],
        newest: Option<&PageFacts>,
    ) -> Result<Option<Listed>, Mismatch> {
        let after = self.cursor();
        let mut scan = self.scan.clone();
        let mut keys = Vec::new();
        let mut short = false;
        for page in pages {
            if page.rows > 0 && page.keys.is_empty() {
                // Behind rows without a usable ID there is no way to ask on.
                return Err(Mismatch::NoWayOn);
            }
            scan.take(page)?;
            keys.extend_from_slice(&page.keys);
            short = page.rows < PAGE_ROWS;
        }
        let top = newest.map(top).transpose()?;
        self.surplus = if self.beyond && !short { self.surplus + pages.len() } else { 0 };
        self.scan = scan;
        self.at_end = short;
        if let Some(last) = keys.last() {
            return Ok(Some(Listed { after, up_to: Some(last.0), keys }));
        }
        // What is above the cursor has appeared since, or was left out by mistake: both
        // are settled by asking again.
        let nothing_above = match top {
            Some(Some(top)) => top <= after,
            // The whole table is empty, which after a listed record is hard to believe.
            Some(None) => after == RecordId::ZERO,
            None => false,
        };
        self.ended = short && nothing_above;
        Ok(self.ended.then_some(Listed { after, up_to: None, keys }))
    }

    /// Ends because the table is empty now, which the portal has said in two ways.
    pub(super) fn end_empty(&mut self) -> Listed {
        self.ended = true;
        Listed { after: self.cursor(), up_to: None, keys: Vec::new() }
    }
}

/// The highest ID of the newest page; `None` if the page is empty.
fn top(newest: &PageFacts) -> Result<Option<RecordId>, Mismatch> {
    if newest.rows > PAGE_ROWS {
        return Err(Mismatch::TooManyRows { rows: newest.rows });
    }
    if newest.rows > newest.keys.len() {
        return Err(Mismatch::NoWayOn);
    }
    for pair in newest.keys.windows(2) {
        if pair[0].0 <= pair[1].0 {
            return Err(Mismatch::NotDescending { id: pair[1].0, after: pair[0].0 });
        }
    }
    Ok(newest.keys.first().map(|(id, _)| *id))
}

/// A record as the mirror has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sync) struct Own {
    pub(in crate::sync) id: RecordId,
    pub(in crate::sync) modified: Option<DateTime<Utc>>,
    /// It is a tombstone.
    pub(in crate::sync) deleted: bool,
    /// Written, or confirmed as deleted, by a question asked after the listing's.
    pub(in crate::sync) newer: bool,
}

/// Where a range of the mirror differs from what the portal listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::sync) struct Difference {
    /// Listed, and missing here, deleted here, or of another modification time.
    pub(in crate::sync) fetch: Vec<RecordId>,
    /// Those of them that are live here.
    pub(in crate::sync) stale: Vec<RecordId>,
    /// Here, and not listed.
    pub(in crate::sync) gone: Vec<RecordId>,
}

impl Difference {
    pub(in crate::sync) fn add(&mut self, other: Self) {
        self.fetch.extend(other.fetch);
        self.stale.extend(other.stale);
        self.gone.extend(other.gone);
    }

    /// Compares two lists of the same range, both in the order of IDs.
    pub(in crate::sync) fn between(listed: &[Key], own: &[Own]) -> Self {
        let mut difference = Self::default();
        let (mut listed, mut own) = (listed.iter().peekable(), own.iter().peekable());
        loop {
            match (listed.peek(), own.peek()) {
                (None, None) => return difference,
                (Some((id, _)), row) if row.is_none_or(|row| *id < row.id) => {
                    difference.fetch.push(*id);
                    listed.next();
                }
                (Some((id, modified)), Some(row)) if *id == row.id => {
                    if !row.newer && (row.deleted || row.modified != *modified) {
                        difference.fetch.push(*id);
                        difference.stale.extend((!row.deleted).then_some(*id));
                    }
                    listed.next();
                    own.next();
                }
                (_, Some(row)) => {
                    if !row.newer && !row.deleted {
                        difference.gone.push(row.id);
                    }
                    own.next();
                }
                (Some(_), None) => {
                    listed.next();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
