//! How many records there are, without a COUNT: that alone would take the portal most
//! of a minute on a large table.
//!
//! The ID space is cut into equal parts, and one request asks each for its first and its
//! last page of IDs. So the gaps between parts are seen, however wide, and the density
//! inside a part is known at both of its ends. Good enough for a progress bar.

use std::time::Duration;

use super::mirror::Mirror;
use crate::{entity::RecordId, portal::Lane};

/// Parts of the ID space; two commands each, which just fit into one request.
const PARTS: i64 = 24;

/// A progress bar is not worth more.
const PATIENCE: Duration = Duration::from_secs(20);

impl Mirror {
    /// Estimates the records up to an ID; zero if the portal does not tell in time.
    pub(super) async fn estimate(&self, lane: Lane, up_to: RecordId) -> i64 {
        let width = up_to.get() / PARTS + 1;
        let cuts = (0..PARTS).map(|part| part * width).take_while(|start| *start < up_to.get());
        let parts: Vec<(i64, i64)> =
            cuts.map(|start| (start, (start + width).min(up_to.get()))).collect();
        match tokio::time::timeout(PATIENCE, self.ends(lane, &parts)).await {
            Ok(Ok(ends)) => ends.iter().map(|(first, last)| records_between(first, last)).sum(),
            Ok(Err(_)) | Err(_) => 0,
        }
    }
}

/// The records of a part whose first IDs and last IDs (descending) are known.
fn records_between(first: &[RecordId], last: &[RecordId]) -> i64 {
    let (Some(lowest), Some(highest)) = (first.first(), last.first()) else { return 0 };
    let (Some(low_end), Some(high_end)) = (first.last(), last.last()) else { return 0 };
    let known = first.len() + last.len();
    let between = high_end.get() - low_end.get();
    if between <= 0 {
        // Both pages meet: what they do not share is all there is.
        return i64::try_from(first.iter().filter(|id| !last.contains(id)).count() + last.len())
            .unwrap_or(i64::MAX);
    }
    let spanned = (low_end.get() - lowest.get()) + (highest.get() - high_end.get()) + 2;
    let known = i64::try_from(known).unwrap_or(i64::MAX);
    let inside = i128::from(between - 1) * i128::from(known) / i128::from(spanned.max(1));
    known.saturating_add(i64::try_from(inside).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: impl IntoIterator<Item = i64>) -> Vec<RecordId> {
        ids.into_iter().filter_map(RecordId::new).collect()
    }

    #[test]
    fn a_part_is_as_dense_as_its_ends() {
        let first = ids((1..=50).map(|n| n * 2));
        let last = ids((1..=50).map(|n| 1_002 - n * 2));
        let estimate = records_between(&first, &last);
        assert!((490..=510).contains(&estimate), "{estimate}");
    }

    #[test]
    fn pages_that_meet_are_counted_once() {
        assert_eq!(records_between(&ids([3, 5, 7]), &ids([7, 5, 3])), 3);
        assert_eq!(records_between(&ids([]), &ids([])), 0);
    }
}
