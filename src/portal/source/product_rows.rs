//! Product rows: `crm.item.productrow.list`.
//!
//! The method lists nothing without the records that the rows belong to: `=ownerType` and
//! `=ownerId` are required, of which the latter takes several IDs. So rows are asked for
//! beside records that were just read, some records per command, in the order of the rows'
//! IDs.

use serde_json::json;

use super::{MAX_COMMANDS, Page, RowsIn};
use crate::{
    entity::RecordId,
    portal::{Commands, Lane, Patience, Portal, PortalError, Timing},
};

const METHOD: &str = "crm.item.productrow.list";

/// Reads the product rows of one kind of record.
#[derive(Debug, Clone)]
pub struct ProductRowSource {
    portal: Portal,
    owner_type: &'static str,
}

/// What one command asks for.
#[derive(Debug, Clone)]
pub struct ProductRowAsk {
    /// The records whose rows are wanted; at least one.
    pub owners: Vec<RecordId>,
    /// Only rows with an ID above this one.
    pub after: RecordId,
}

impl ProductRowSource {
    /// The most questions that one request carries.
    pub const MOST: usize = MAX_COMMANDS;

    /// Reads from that portal the rows of records that the vendor's short code names.
    #[must_use]
    pub const fn new(portal: Portal, owner_type: &'static str) -> Self {
        Self { portal, owner_type }
    }

    /// The error for an answer that fits no question.
    #[must_use]
    pub fn unusable(what: &str) -> PortalError {
        PortalError::unusable(METHOD, what)
    }

    /// Asks everything in one request; each question has a page or an error of its own. A
    /// page may hold anything: whether it fits the question is for the caller to check.
    ///
    /// # Errors
    /// What [`Portal::batch`] returns.
    pub async fn read(
        &self,
        lane: Lane,
        asks: &[ProductRowAsk],
        patience: Patience,
    ) -> Result<(Vec<Result<Page, PortalError>>, Timing), PortalError> {
        let mut commands = Commands::new();
        for (place, ask) in asks.iter().enumerate() {
            let owners: Vec<i64> = ask.owners.iter().map(|owner| owner.get()).collect();
            let params = json!({
                "filter": {
                    "=ownerType": self.owner_type,
                    "=ownerId": owners,
                    ">id": ask.after.get(),
                },
                "order": { "id": "ASC" },
                "start": -1,
            });
            commands.push_list(&key(place), METHOD, &params, RowsIn::Under("productRows"))?;
        }
        let mut answer = self.portal.batch(lane, &commands, patience).await?;
        let pages = (0..asks.len()).map(|place| answer.take_page(&key(place))).collect();
        Ok((pages, answer.timing))
    }
}

/// The key of a command: text, so that the answer keeps it.
fn key(place: usize) -> String {
    format!("r{place:02}")
}
