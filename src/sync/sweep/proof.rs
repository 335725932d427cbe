//! What an answer proves about records that the listing did not show.
//!
//! Each command asks for candidates by their IDs, and for one record more: the witness, which
//! the portal has just listed. A list that lost its filter, came empty by a fault or was cut
//! short shows it by what it does with the witness. Such an answer proves nothing.

use std::collections::BTreeSet;

use crate::{
    entity::RecordId,
    sync::pass::{PAGE_ROWS, PageFacts},
};

/// Candidates that one command can ask for beside its witness.
pub(in crate::sync) const CANDIDATES: usize = PAGE_ROWS - 1;

/// What has been proven about the candidates of one command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::sync) struct Proven {
    /// The portal has them no more.
    pub(in crate::sync) gone: Vec<RecordId>,
    /// They are there, although the listing did not show them.
    pub(in crate::sync) there: Vec<RecordId>,
}

impl Proven {
    pub(in crate::sync) const fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.there.is_empty()
    }

    pub(in crate::sync) fn add(&mut self, other: Self) {
        self.gone.extend(other.gone);
        self.there.extend(other.there);
    }
}

/// Why an answer proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::sync) enum NoProof {
    #[error("the portal did not return record {0}, which it had just listed")]
    WitnessMissing(RecordId),
    #[error("the portal returned record {0}, which was not asked for")]
    NotAskedFor(RecordId),
    #[error("the portal returned a record without a usable ID")]
    Nameless,
}

/// Holds an answer against its question.
pub(in crate::sync) fn prove(
    candidates: &[RecordId],
    witness: RecordId,
    answer: &PageFacts,
) -> Result<Proven, NoProof> {
    let asked: BTreeSet<RecordId> = candidates.iter().copied().chain([witness]).collect();
    let returned: BTreeSet<RecordId> = answer.keys.iter().map(|(id, _)| *id).collect();
    if let Some(id) = returned.difference(&asked).next() {
        return Err(NoProof::NotAskedFor(*id));
    }
    if answer.rows != answer.keys.len() {
        return Err(NoProof::Nameless);
    }
    if !returned.contains(&witness) {
        return Err(NoProof::WitnessMissing(witness));
    }
    let (there, gone) = candidates.iter().partition(|id| returned.contains(id));
    Ok(Proven { gone, there })
}

/// Deletions that a sweep may do unasked: small numbers always, larger ones as a share of
/// the live records.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a share of a number of records, cut to whole ones"
)]
pub(in crate::sync) fn allowance(live: i64, max_delete_share: f64) -> i64 {
    const ALWAYS: i64 = 25;
    ALWAYS.max((live as f64 * max_delete_share) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(id: i64) -> RecordId {
        RecordId::new(id).unwrap()
    }

    fn ids(ids: &[i64]) -> Vec<RecordId> {
        ids.iter().map(|n| id(*n)).collect()
    }

    fn page(ids: &[i64]) -> PageFacts {
        PageFacts { rows: ids.len(), keys: ids.iter().map(|n| (id(*n), None)).collect() }
    }

    #[test]
    fn what_does_not_come_beside_its_witness_is_gone() {
        let proven = prove(&ids(&[3, 5, 7]), id(99), &page(&[5, 99])).unwrap();
        assert_eq!(proven, Proven { gone: ids(&[3, 7]), there: ids(&[5]) });
    }

    #[test]
    fn an_answer_without_the_witness_or_with_strangers_proves_nothing() {
        let refused = |page: &PageFacts| prove(&ids(&[3, 5]), id(99), page).unwrap_err();
        assert_eq!(refused(&page(&[])), NoProof::WitnessMissing(id(99)));
        assert_eq!(refused(&page(&[3])), NoProof::WitnessMissing(id(99)));
        assert_eq!(refused(&page(&[1, 2, 99])), NoProof::NotAskedFor(id(1)));
        let nameless = PageFacts { rows: 2, keys: vec![(id(99), None)] };
        assert_eq!(refused(&nameless), NoProof::Nameless);
    }

    #[test]
    fn few_deletions_are_always_allowed_and_many_as_a_share() {
        assert_eq!(allowance(0, 0.02), 25);
        assert_eq!(allowance(1_250, 0.02), 25);
        assert_eq!(allowance(1_000_000, 0.02), 20_000);
        assert_eq!(allowance(1_000, 0.0), 25);
        assert_eq!(allowance(1_000, 1.0), 1_000);
    }

    proptest! {
        #[test]
        fn nothing_that_the_portal_returns_is_ever_gone(
            candidates in prop::collection::btree_set(1i64..60, 0..49),
            witness in 60i64..70,
            returned in prop::collection::vec(1i64..80, 0..60),
            nameless in 0usize..2,
        ) {
            let candidates: Vec<RecordId> = candidates.into_iter().map(id).collect();
            let mut answer = page(&returned);
            answer.rows += nameless;
            if let Ok(proven) = prove(&candidates, id(witness), &answer) {
                prop_assert!(returned.contains(&witness));
                prop_assert!(proven.gone.iter().all(|gone| !returned.contains(&gone.get())));
                prop_assert_eq!(proven.gone.len() + proven.there.len(), candidates.len());
            }
        }
    }
}
