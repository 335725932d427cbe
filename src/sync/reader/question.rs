//! What the reader is asked for, and what it answers.

use std::{sync::Arc, time::Instant};

use chrono::{DateTime, FixedOffset};

use crate::{
    entity::{RecordId, catalogue::Catalogue, decode::Decoded},
    portal::{PortalTime, Probes, Timing},
    sync::{pass::PageFacts, room::Memory},
};

/// A scan's bounds as the reader takes them: one chain of full records.
#[derive(Debug, Clone)]
pub(in crate::sync) struct Range {
    pub(in crate::sync) after: RecordId,
    pub(in crate::sync) up_to: Option<RecordId>,
    pub(in crate::sync) floor: Option<DateTime<FixedOffset>>,
    pub(in crate::sync) ceiling: Option<DateTime<FixedOffset>>,
    /// Chained pages wanted, at least one.
    pub(in crate::sync) pages: usize,
    /// From the upper end down.
    pub(in crate::sync) newest_first: bool,
}

impl Range {
    /// One page above an ID; the rest is added by `..`.
    pub(in crate::sync) const fn above(after: RecordId) -> Self {
        Self { after, up_to: None, floor: None, ceiling: None, pages: 1, newest_first: false }
    }
}

/// One request for full records.
#[derive(Debug, Clone, Default)]
pub(in crate::sync) struct Question {
    pub(in crate::sync) ranges: Vec<Range>,
    /// Ask for the field descriptions too.
    pub(in crate::sync) catalogue: bool,
    /// Ask whether the portal understands our filter on `DATE_MODIFY`.
    pub(in crate::sync) probes: bool,
}

/// The decoded answer; one list of pages per range.
pub(in crate::sync) struct Reply {
    pub(in crate::sync) ranges: Vec<Vec<ReadPage>>,
    pub(in crate::sync) probes: Option<Probes>,
    pub(in crate::sync) time: Option<PortalTime>,
    /// When that clock was heard, where it was not with the whole answer.
    pub(in crate::sync) told_at: Option<Instant>,
    /// The field descriptions, if they were asked for.
    pub(in crate::sync) catalogue: Option<Arc<Catalogue>>,
    /// Where the time went, if several requests were needed in all of them.
    pub(in crate::sync) timing: Timing,
    /// The memory that the pages hold.
    pub(in crate::sync) memory: Memory,
}

/// One decoded page.
pub(in crate::sync) struct ReadPage {
    pub(in crate::sync) facts: PageFacts,
    pub(in crate::sync) rows: Vec<Decoded>,
    /// The size of the page in bytes of JSON.
    pub(in crate::sync) bytes: usize,
}
