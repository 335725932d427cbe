//! The questions of a sweep: pages of keys, given records by their IDs, and a count.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    proof::{CANDIDATES, NoProof, Proven, prove},
    range::Wanted,
};
use crate::{
    entity::RecordId,
    portal::{Ask, Chain, ChainEnd, Heard, Lane, Page, Patience, PortalError, ScanAsk},
    sync::{
        SyncError,
        mirror::Mirror,
        pass::PageFacts,
        reader::{Reader, Remedy, remedy},
    },
};

/// Pages of a listing.
pub(in crate::sync) struct Keys {
    /// At least one, in their order, up to the first short one.
    pub(in crate::sync) pages: Vec<PageFacts>,
    pub(in crate::sync) newest: Option<PageFacts>,
}

/// What one request has proven about candidates.
pub(in crate::sync) struct Round {
    /// When it was asked, by the database's clock.
    pub(in crate::sync) asked_at: DateTime<Utc>,
    pub(in crate::sync) proven: Proven,
    /// Why something of it proves nothing.
    pub(in crate::sync) doubt: Option<String>,
}

impl Round {
    /// A round in which the portal listed no record that could have been a witness.
    pub(in crate::sync) fn without_witness(asked_at: DateTime<Utc>) -> Self {
        let doubt = "the portal lists no record, but does not count zero either".to_owned();
        Self { asked_at, proven: Proven::default(), doubt: Some(doubt) }
    }

    /// Why it proves nothing at all, if it does not.
    pub(in crate::sync) fn doubt(&self) -> Option<String> {
        self.doubt.clone().filter(|_| self.proven.is_empty())
    }
}

impl Mirror {
    /// The longest chain of keys that is worth asking for.
    pub(in crate::sync) fn longest_key_chain(&self, lane: Lane) -> usize {
        let in_time = self.portal().limiter().in_time(lane, self.list_method());
        in_time.clamp(1, self.reader().source.most_pages())
    }

    /// Lists keys; asks until everything has come that was asked for, or at least the first
    /// pages of the chain.
    ///
    /// # Errors
    /// What the portal answered when neither retrying nor a shorter chain helped.
    pub(in crate::sync) async fn list_keys(
        &self,
        lane: Lane,
        wanted: Wanted,
    ) -> Result<Keys, SyncError> {
        let chain = ScanAsk { pages: wanted.pages, ..ScanAsk::keys_above(wanted.after) };
        let newest = ScanAsk { newest_first: true, ..ScanAsk::keys_above(RecordId::ZERO) };
        let scans = [chain].into_iter().chain(wanted.newest.then_some(newest)).collect();
        let mut ask = Ask { scans, ..Ask::default() };
        let mut delays = self.retry().delays();
        let mut attempts = 1;
        loop {
            let chained = ask.scans.iter().any(|scan| scan.pages > 1);
            let Some(heard) = self.hear(lane, &ask, chained).await? else {
                for scan in &mut ask.scans {
                    scan.pages = scan.pages.div_ceil(2);
                }
                continue;
            };
            let mut chains = heard.scans.into_iter();
            let pages_of = |chain| pages_of(self.reader(), chain);
            let chain = chains.next().map_or_else(|| Ok(Vec::new()), pages_of);
            let newest = chains.next().map(pages_of).transpose();
            let failure = match (chain, newest) {
                (Ok(pages), Ok(newest)) if !pages.is_empty() => {
                    let newest = newest.and_then(|pages| pages.into_iter().next());
                    return Ok(Keys { pages, newest });
                }
                (Err(error), _) | (_, Err(error)) => SyncError::from(error),
                (Ok(_), Ok(_)) => return Err(self.unproven("the portal answered no page")),
            };
            match remedy(&failure) {
                Remedy::Again => {}
                Remedy::Retry if attempts < self.retry().attempts() => {
                    attempts += 1;
                    self.rest(delays.next_delay()).await?;
                }
                Remedy::Retry | Remedy::GiveUp => return Err(failure),
            }
        }
    }

    /// Asks whether records are there, each command beside a witness that the portal has
    /// just listed. Gives `None` when the portal lists no record at all.
    ///
    /// # Errors
    /// What the portal answered when retrying did not help. A command that failed by itself
    /// is a doubt and no error.
    pub(in crate::sync) async fn ask_for(
        &self,
        lane: Lane,
        candidates: &[RecordId],
    ) -> Result<Option<Round>, SyncError> {
        let (newest, _) = self.newest(lane).await?;
        if newest.is_empty() {
            return Ok(None);
        }
        let witnesses: Vec<RecordId> =
            newest.into_iter().filter(|id| !candidates.contains(id)).collect();
        let asked_at = self.now().await?;
        let mut round = Round { asked_at, proven: Proven::default(), doubt: None };
        let mut parts: Vec<(&[RecordId], RecordId)> =
            candidates.chunks(CANDIDATES).zip(witnesses.iter().copied().cycle()).collect();
        if parts.is_empty() {
            round.doubt = Some("every record that the portal lists is in question".to_owned());
        }
        while !parts.is_empty() {
            let scan = |(ids, witness): &(&[RecordId], RecordId)| ScanAsk {
                ids: Some(ids.iter().copied().chain([*witness]).collect()),
                ..ScanAsk::keys_above(RecordId::ZERO)
            };
            let ask = Ask { scans: parts.iter().map(scan).collect(), ..Ask::default() };
            let Some(heard) = self.hear(lane, &ask, parts.len() > 1).await? else {
                parts.truncate(parts.len().div_ceil(2));
                continue;
            };
            let mut again = Vec::new();
            for ((ids, witness), chain) in parts.drain(..).zip(heard.scans) {
                match judge(self.reader(), ids, witness, chain)? {
                    Judged::Proven(proven) => round.proven.add(proven),
                    Judged::Doubtful(doubt) => round.doubt = Some(doubt),
                    Judged::HeldBack => again.push((ids, witness)),
                }
            }
            parts = again;
        }
        Ok(Some(round))
    }

    /// How many records the webhook's user may see, if the portal can tell.
    pub(in crate::sync) async fn count_records(
        &self,
        lane: Lane,
    ) -> Result<Option<u64>, SyncError> {
        let ask = Ask { count: true, ..Ask::default() };
        match self.hear(lane, &ask, false).await {
            Ok(heard) => Ok(heard.and_then(|heard| heard.count?.ok())),
            Err(SyncError::Stopping) => Err(SyncError::Stopping),
            // A count over a whole table is more than some portals can do.
            Err(error) => {
                tracing::debug!(entity = self.entity().name, reason = error.reason(), "no count");
                Ok(None)
            }
        }
    }

    /// Whether the portal counts no record either.
    pub(in crate::sync) async fn counts_none(&self, lane: Lane) -> Result<bool, SyncError> {
        Ok(self.count_records(lane).await? == Some(0))
    }

    /// Asks; `None` when the answer was too heavy for the portal and a smaller question can
    /// be asked.
    async fn hear(
        &self,
        lane: Lane,
        ask: &Ask,
        divisible: bool,
    ) -> Result<Option<Heard>, SyncError> {
        let patience = if divisible { Patience::FailFastWhenHeavy } else { Patience::Persist };
        let asking = async {
            match self.reader().source.read(lane, ask, patience).await {
                Err(error) if error.is_heavy() && divisible => Ok(None),
                heard => Ok(Some(heard?)),
            }
        };
        self.unless_stopped(asking).await
    }

    pub(in crate::sync) async fn rest(&self, delay: Duration) -> Result<(), SyncError> {
        self.unless_stopped(async {
            tokio::time::sleep(delay).await;
            Ok(())
        })
        .await
    }

    pub(in crate::sync) fn unproven(&self, why: impl Into<String>) -> SyncError {
        SyncError::Unproven { entity: self.entity().name, why: why.into() }
    }
}

/// What the answer of a command is worth.
enum Judged {
    Proven(Proven),
    /// It failed in a way that may pass, or proves nothing.
    Doubtful(String),
    /// The portal has not looked yet; the limiter knows until when.
    HeldBack,
}

fn judge(
    reader: &Reader,
    candidates: &[RecordId],
    witness: RecordId,
    chain: Chain,
) -> Result<Judged, SyncError> {
    let failure = match pages_of(reader, chain) {
        Ok(pages) => {
            let page = pages.into_iter().next().unwrap_or(PageFacts { rows: 0, keys: Vec::new() });
            let doubtful = |doubt: NoProof| Judged::Doubtful(doubt.to_string());
            return Ok(prove(candidates, witness, &page).map_or_else(doubtful, Judged::Proven));
        }
        Err(error) => SyncError::from(error),
    };
    match remedy(&failure) {
        Remedy::GiveUp => Err(failure),
        Remedy::Again => Ok(Judged::HeldBack),
        Remedy::Retry => Ok(Judged::Doubtful(failure.reason())),
    }
}

/// The pages of a chain; its failure counts only if nothing came before it.
fn pages_of(reader: &Reader, chain: Chain) -> Result<Vec<PageFacts>, PortalError> {
    match chain.end {
        ChainEnd::Failed(error) if chain.pages.is_empty() => Err(error),
        _ => Ok(chain.pages.iter().map(|page| facts(reader, page)).collect()),
    }
}

fn facts(reader: &Reader, page: &Page) -> PageFacts {
    let dialect = reader.dialect();
    let key = |row| Some((dialect.key_of(row)?, dialect.date_of(reader.entity, row)));
    PageFacts { rows: page.len(), keys: page.rows().filter_map(key).collect() }
}
