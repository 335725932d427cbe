//! Questions about records, in no particular dialect, and what was heard.
//!
//! A question is about ID ranges; the source (`list.rs`, `gateway/`) turns it into calls. The
//! answer is handed on unparsed, split into rows. Whether the rows fit the question
//! (order, bounds, dates) is for the caller to check; a portal may have ignored a filter.

mod dictionaries;
mod gateway;
mod list;
mod mail_recipients;
mod product_rows;
mod wording;

use std::{
    fmt,
    ops::Range,
    time::{Duration, Instant},
};

use chrono::{DateTime, FixedOffset};
use serde_json::value::RawValue;

pub(super) use self::wording::RowsIn;
pub use self::{
    dictionaries::{DictionarySource, HeardDictionaries, Listed},
    gateway::GatewaySource,
    list::ListSource,
    mail_recipients::{MailRecipientSource, RecipientPage},
    product_rows::{ProductRowAsk, ProductRowSource},
};
use super::{
    Lane, Patience, Portal,
    body::Body,
    envelope::{PortalTime, Timing},
    error::PortalError,
};
use crate::entity::{Dialect, Entity, RecordId, json::Raw};

/// Rows on a full page. Fewer mean that nothing follows.
pub const PAGE_ROWS: usize = 50;

/// Commands that the portal runs in one batch.
pub const MAX_COMMANDS: usize = 50;

/// Where the records of one entity come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A list of the portal's own.
    List(ListSource),
    /// A gateway before it.
    Gateway(Box<GatewaySource>),
}

/// How a source finds out what was modified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// It can be asked for what was modified after a moment.
    ByDate,
    /// It cannot: everything has to be read again.
    ByReadingAll {
        /// Between two such readings.
        every: Duration,
    },
}

impl Source {
    /// Reads that entity in that dialect; by a list of the portal's own where it has no
    /// gateway.
    #[must_use]
    pub fn new(portal: Portal, entity: &'static Entity, dialect: Dialect) -> Self {
        match (dialect, portal.gateway().cloned()) {
            (Dialect::Vibecode, Some(gateway)) => {
                Self::Gateway(Box::new(GatewaySource::new(portal, gateway, entity)))
            }
            _ => Self::List(ListSource::new(portal, entity, dialect)),
        }
    }

    /// How rows come.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        match self {
            Self::List(list) => list.dialect(),
            Self::Gateway(_) => Dialect::Vibecode,
        }
    }

    /// The method that lists the records; the portal's operating time is counted by it.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::List(list) => list.method(),
            Self::Gateway(gateway) => gateway.method(),
        }
    }

    /// The longest chain that one request can bring.
    #[must_use]
    pub const fn most_pages(&self) -> usize {
        match self {
            Self::List(_) => MAX_COMMANDS,
            Self::Gateway(_) => GatewaySource::MOST_PAGES,
        }
    }

    /// The same without these multi-fields, where the source can do without.
    #[must_use]
    pub fn leaving_out(self, left_out: Vec<&'static str>) -> Self {
        match self {
            Self::List(list) => Self::List(list.leaving_out(left_out)),
            gateway @ Self::Gateway(_) => gateway,
        }
    }

    /// How it finds out what was modified.
    ///
    /// # Errors
    /// What the source answered when it had to be asked.
    pub async fn changes(&self, lane: Lane) -> Result<Changes, PortalError> {
        match self {
            Self::List(_) => Ok(Changes::ByDate),
            Self::Gateway(gateway) => gateway.changes(lane).await,
        }
    }

    /// Asks everything and walks the answer.
    ///
    /// # Errors
    /// As [`ListSource::read`] and [`GatewaySource::read`].
    pub async fn read(
        &self,
        lane: Lane,
        ask: &Ask,
        patience: Patience,
    ) -> Result<Heard, PortalError> {
        match self {
            Self::List(list) => list.read(lane, ask, patience).await,
            Self::Gateway(gateway) => Box::pin(gateway.read(lane, ask, patience)).await,
        }
    }
}

/// Everything that is asked in one request.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// The scans; each becomes a chain of pages.
    pub scans: Vec<ScanAsk>,
    /// Whether to bring the portal's description of the fields.
    pub catalogue: bool,
    /// Whether to try the date filter on questions whose answers are known.
    pub probes: bool,
    /// Whether to count the records that the webhook's user may see. A COUNT over the
    /// whole table is dear for the portal.
    pub count: bool,
    /// Ranges of IDs to count records in: above the first, up to the second if there is one.
    pub counts: Vec<(RecordId, Option<RecordId>)>,
}

/// One scan by ID. All bounds hold together.
#[derive(Debug, Clone)]
pub struct ScanAsk {
    /// Only IDs above this one.
    pub after: RecordId,
    /// Only IDs up to this one, itself included.
    pub up_to: Option<RecordId>,
    /// Only these IDs, at most 50. An empty list finds nothing.
    pub ids: Option<Vec<RecordId>>,
    /// Only records modified after this second.
    pub modified_after: Option<DateTime<FixedOffset>>,
    /// Only records modified up to this second, itself included.
    pub modified_up_to: Option<DateTime<FixedOffset>>,
    /// Which fields to bring.
    pub detail: Detail,
    /// From the highest ID down instead of from the lowest up.
    pub newest_first: bool,
    /// The longest chain of pages wanted, at least 1. It is cut to what fits into one
    /// request and into the method's operating time.
    pub pages: usize,
}

impl ScanAsk {
    /// One page of `ID` and `DATE_MODIFY` above an ID; the rest is added by `..`.
    #[must_use]
    pub const fn keys_above(after: RecordId) -> Self {
        Self {
            after,
            up_to: None,
            ids: None,
            modified_after: None,
            modified_up_to: None,
            detail: Detail::Keys,
            newest_first: false,
            pages: 1,
        }
    }
}

/// Which fields a scan brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// All of them, multi-fields and custom fields included.
    Full,
    /// `ID` and `DATE_MODIFY`.
    Keys,
}

/// The answer to an [`Ask`].
#[derive(Debug)]
pub struct Heard {
    /// One chain per scan, in the order of the question.
    pub scans: Vec<Chain>,
    /// The portal's description of the fields, if asked for.
    pub catalogue: Option<Result<Box<RawValue>, PortalError>>,
    /// What the probes showed, if asked for.
    pub probes: Option<Result<Probes, PortalError>>,
    /// How many records there are, if asked for.
    pub count: Option<Result<u64, PortalError>>,
    /// How many records each range has that was to be counted.
    pub counts: Vec<Result<u64, PortalError>>,
    /// The portal's clock when it began to answer.
    pub time: Option<PortalTime>,
    /// When that clock was heard, where the records were asked for only after it.
    pub told_at: Option<Instant>,
    /// Where the time went.
    pub timing: Timing,
}

/// The pages of one scan, in order, up to the first short one or the first error.
#[derive(Debug)]
pub struct Chain {
    /// The pages that can be trusted to follow one another.
    pub pages: Vec<Page>,
    /// Why there are no more.
    pub end: ChainEnd,
}

/// Why a chain ends.
#[derive(Debug)]
pub enum ChainEnd {
    /// Every page was full; more may follow.
    Full,
    /// The last page was short; nothing follows it.
    Short,
    /// The page after the last one failed.
    Failed(PortalError),
}

/// One page: a list of rows, not parsed any further. The pages of an answer share its
/// text, which is freed with the last of them.
pub struct Page {
    text: Body,
    rows: Box<[Range<usize>]>,
}

/// Without the rows: file addresses inside of them carry the webhook's secret.
impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Page {
    /// Takes rows that were found in the text.
    pub(super) fn new(text: &Body, rows: &[&RawValue]) -> Self {
        let rows = rows.iter().map(|row| text.place_of(row.get())).collect();
        Self { text: text.clone(), rows }
    }

    /// The rows, each one JSON text.
    #[must_use]
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Raw<'_>> {
        self.rows.iter().map(|place| Raw::well_formed(self.text.part(place.clone())))
    }

    /// The number of raw rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the page has no rows.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The size of the rows in bytes of JSON.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(Range::len).sum()
    }
}

/// What the probes of the date filter showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probes {
    /// "Modified after 1970" gave rows, as it must wherever there is any record.
    pub past_gave_rows: bool,
    /// "Modified after the far future" gave none, as it must.
    pub future_gave_none: bool,
}
