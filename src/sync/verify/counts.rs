//! The cheapest level: how many records both sides count in each range of IDs.

use super::{Comparison, RangeCount};
use crate::{
    entity::RecordId,
    portal::{Ask, Lane, Patience},
    sync::{
        SyncError,
        mirror::Mirror,
        reader::{Remedy, remedy},
    },
};

/// Live records of a range. The portal counts as many rows for each command, a few hundred
/// thousand of them in a second (vendor page `huge-data`).
const RANGE: u32 = 20_000;

/// Ranges that are counted in one request.
const RANGES: usize = 10;

impl Comparison<'_> {
    /// Counts both sides, and returns the ranges in which they differ.
    ///
    /// Numbers that differ do not say which records do, and the portal's may be cut off by
    /// its plan. So the IDs of these ranges are compared; numbers alone prove nothing wrong.
    pub(super) async fn count(&mut self) -> Result<Vec<RangeCount>, SyncError> {
        let mirror = self.mirror;
        let cutting =
            async { Ok(mirror.store().live_ranges(mirror.entity(), mirror.sight(), RANGE).await?) };
        let ranges = mirror.unless_stopped(cutting).await?;
        let last = ranges.last().map_or(RecordId::ZERO, |range| range.up_to);
        let mut counts: Vec<RangeCount> = ranges
            .into_iter()
            .map(|range| RangeCount {
                after: range.after,
                up_to: Some(range.up_to),
                portal: 0,
                mirror: u64::try_from(range.live).unwrap_or(0),
            })
            .collect();
        counts.push(RangeCount { after: last, up_to: None, portal: 0, mirror: 0 });
        for part in counts.chunks_mut(RANGES) {
            let asked: Vec<_> = part.iter().map(|range| (range.after, range.up_to)).collect();
            let counted = mirror.count_ranges(self.lane, &asked).await?;
            for (range, counted) in part.iter_mut().zip(counted) {
                range.portal = counted;
                self.report.compared += counted;
            }
        }
        counts.retain(|range| range.portal != range.mirror);
        self.report.ranges.clone_from(&counts);
        Ok(counts)
    }
}

impl Mirror {
    /// How many records the portal counts in each range.
    ///
    /// # Errors
    /// What the portal answered when neither retrying nor asking for less helped.
    async fn count_ranges(
        &self,
        lane: Lane,
        ranges: &[(RecordId, Option<RecordId>)],
    ) -> Result<Vec<u64>, SyncError> {
        let mut counted = Vec::with_capacity(ranges.len());
        let mut longest = ranges.len();
        let mut delays = self.retry().delays();
        let mut attempts = 1;
        while counted.len() < ranges.len() {
            let rest = &ranges[counted.len()..];
            let part = &rest[..longest.clamp(1, rest.len())];
            let ask = Ask { counts: part.to_vec(), ..Ask::default() };
            let several = part.len() > 1;
            let patience = if several { Patience::FailFastWhenHeavy } else { Patience::Persist };
            let asking = async { Ok(self.reader().source.read(lane, &ask, patience).await) };
            let counts = match self.unless_stopped(asking).await? {
                Ok(heard) => heard.counts.into_iter().collect::<Result<Vec<u64>, _>>(),
                Err(error) if error.is_heavy() && several => {
                    longest = part.len().div_ceil(2);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let failure = match counts {
                Ok(counts) => {
                    counted.extend(counts);
                    attempts = 1;
                    continue;
                }
                Err(error) => SyncError::from(error),
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
        Ok(counted)
    }
}
