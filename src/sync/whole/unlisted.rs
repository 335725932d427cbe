//! Who is not listed and is there all the same.
//!
//! The vendor calls the list "the latest contacts" and does not say whether that is all of them.
//! Where it is not, whoever is not among the latest any more looks like somebody who has gone.
//! Whoever is searched for by an address is found in either case (vendor page
//! `mail-recipient-listcontacts`), so nobody gets a tombstone who is found like that. One request
//! each, so only so many are searched for at a time; where some were found, the others prove
//! nothing either.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::{
    entity::{RecordId, catalogue::Catalogue, decode::Decoded, json::Raw, record::Value},
    portal::{Lane, MailRecipientSource},
    store::{Progress, Run, Stored},
    sync::{
        SyncError,
        mirror::{Mirror, Tally},
    },
};

/// So many are searched for in one piece of work.
const MOST_SEARCHES: usize = 200;

/// Rows that are read from the database at a time.
const ROWS: usize = 2_400;

/// What was found of those who are not listed.
#[derive(Default)]
pub(super) struct Unlisted {
    /// The database's clock before the first search.
    asked_at: DateTime<Utc>,
    found: BTreeMap<RecordId, Decoded>,
    searched: BTreeSet<RecordId>,
    /// Searches that found more than a page of others.
    crowded: BTreeSet<RecordId>,
}

impl Unlisted {
    /// Whether an entry is there, or may be.
    pub(super) fn stays(&self, id: RecordId) -> bool {
        self.found.contains_key(&id)
            || self.crowded.contains(&id)
            || (!self.found.is_empty() && !self.searched.contains(&id))
    }

    /// Those that are there, or may be.
    pub(super) fn staying(&self, ids: &[RecordId]) -> BTreeSet<RecordId> {
        ids.iter().copied().filter(|id| self.stays(*id)).collect()
    }

    /// What is there, as it was found.
    pub(super) fn found(&self, id: RecordId) -> Option<&Decoded> {
        self.found.get(&id)
    }
}

impl Mirror {
    /// Searches for entries that two readings did not show, and remembers which of them may be
    /// there: no cycle has to look for these.
    pub(super) async fn search(
        &self,
        lane: Lane,
        missing: &[RecordId],
        run: &Run,
    ) -> Result<Unlisted, SyncError> {
        let asked_at = self.now().await?;
        let mut unlisted = Unlisted { asked_at, ..Unlisted::default() };
        // Others each time, where there are too many.
        let turn = usize::try_from(run.id()).unwrap_or(0) % missing.len().max(1);
        let (behind, before) = missing.split_at(turn);
        let mut wanted: Vec<RecordId> = [before, behind].concat();
        // First whoever was listed until now.
        let known = self.unlisted();
        wanted.sort_by_key(|id| known.contains(id));
        wanted.truncate(MOST_SEARCHES);
        let source = MailRecipientSource::new(self.portal().clone());
        for part in wanted.chunks(ROWS) {
            for row in self.rows(part).await?.into_values() {
                let Some(address) = self.address(&row) else { continue };
                let id = row.record.id();
                let searching = async { Ok(source.search(lane, address).await?) };
                let page = self.unless_stopped(searching).await?;
                let raw = page.rows.iter().map(|row| Raw::well_formed(row));
                let decoded = self.reader().decoder().page(raw, &Catalogue::default())?;
                unlisted.searched.insert(id);
                match decoded.rows.into_iter().find(|row| row.id() == Some(id)) {
                    Some(row) => drop(unlisted.found.insert(id, row)),
                    // A part of many addresses: the entry may be on the next page.
                    None if page.rows.len() >= MailRecipientSource::PAGE_ROWS => {
                        unlisted.crowded.insert(id);
                    }
                    None => {}
                }
            }
        }
        if !unlisted.found.is_empty() {
            tracing::debug!(
                entity = self.entity().name,
                searched = unlisted.searched.len(),
                found = unlisted.found.len(),
                "the list shows the latest entries only; others are there as well"
            );
        }
        self.keep_unlisted(unlisted.staying(missing));
        Ok(unlisted)
    }

    /// Stores what was found, which may have changed.
    pub(super) async fn store_found(
        &self,
        unlisted: &Unlisted,
        run: &Run,
    ) -> Result<Tally, SyncError> {
        let rows: Vec<Decoded> = unlisted.found.values().cloned().collect();
        if rows.is_empty() {
            return Ok(Tally::default());
        }
        self.store_part(unlisted.asked_at, rows, Progress::Nothing, Some(run)).await
    }

    /// The address of an entry, if it is stored in clear.
    fn address<'a>(&self, row: &'a Stored) -> Option<&'a str> {
        let place = self.entity().position("EMAIL")?;
        match row.record.values().get(place)? {
            Value::Text(text) if text.contains('@') => Some(text.trim()),
            _ => None,
        }
    }
}
