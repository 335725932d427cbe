//! How a gateway shows an entity: what its vendor does not document, found out by asking.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json, value::RawValue};

use super::{DIALECT, GatewaySource, MULTI_VALUES};
use crate::{
    entity::{MultiField, RecordId, json::Raw},
    portal::{
        Lane, Patience, PortalError,
        gateway::Parameters,
        source::{Detail, PAGE_ROWS, ScanAsk, list::FAR_AHEAD},
    },
    retry::Disposition,
};

/// How long what was assumed without a record holds.
const UNSETTLED: Duration = Duration::from_mins(1);

/// How a gateway shows an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// The description that this was concluded from.
    pub(super) described: Vec<String>,
    /// What it calls the time of the last modification.
    pub(super) modified: Option<String>,
    /// Whether changes can be asked for by that time.
    pub(super) filterable: bool,
    /// Whether every field is named in questions, because multi-values were not seen to come
    /// by themselves.
    pub(super) names_fields: bool,
    /// Whether there were records to conclude this from.
    settled: bool,
    found_out: Instant,
}

impl Shape {
    /// The `select` that brings so much; `None` for everything that comes by itself.
    pub(super) fn select(&self, detail: Detail) -> Option<Value> {
        match detail {
            Detail::Keys => {
                let keys = std::iter::once("id").chain(self.modified.as_deref());
                Some(keys.collect::<Vec<_>>().into())
            }
            Detail::Full if self.names_fields => {
                let all = self.described.iter().map(String::as_str);
                Some(all.chain([MULTI_VALUES]).collect::<Vec<_>>().into())
            }
            Detail::Full => None,
        }
    }
}

impl GatewaySource {
    /// What is known of the gateway, found out if need be; anew as long as there was no record
    /// to find it out by.
    pub(super) async fn shape(&self, lane: Lane) -> Result<Shape, PortalError> {
        let known = self.known.shape.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let holds = |shape: &Shape| shape.settled || shape.found_out.elapsed() < UNSETTLED;
        if let Some(shape) = known.filter(holds) {
            return Ok(shape);
        }
        let shape = self.find_out(lane).await?;
        let mut known = self.known.shape.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(shape.clone());
        Ok(shape)
    }

    async fn find_out(&self, lane: Lane) -> Result<Shape, PortalError> {
        let path = self.path("fields");
        let answer = self.gateway.call(lane, &path, &Parameters::None, Patience::Persist).await?;
        let described = names(&path, answer.data()?)?;
        let modified = DIALECT.modified_names().iter();
        let modified = modified.copied().find(|name| described.iter().any(|own| own == name));
        let mut shape = Shape {
            modified: modified.map(str::to_owned),
            filterable: false,
            names_fields: false,
            settled: true,
            found_out: Instant::now(),
            described,
        };
        let first = ScanAsk { detail: Detail::Full, ..ScanAsk::keys_above(RecordId::ZERO) };
        let answer = self.ask(lane, &first, &shape, PAGE_ROWS, Patience::Persist).await?;
        let rows = answer.rows()?;
        if rows.is_empty() {
            // Nothing proves anything. What is assumed until then can miss nothing.
            return Ok(Shape { settled: false, names_fields: true, ..shape });
        }
        if let Some(name) = modified {
            shape.filterable = self.understands(lane, name).await?;
        }
        let brings_values = self.entity.multi_fields.iter().any(MultiField::is_values);
        if brings_values && !rows.iter().any(has_multi_values) {
            self.name_fields(lane, &first, &mut shape).await?;
        }
        if !shape.filterable {
            tracing::warn!(
                entity = self.entity.name,
                field = modified,
                every_seconds = self.gateway.full_pass_interval().as_secs(),
                "the gateway cannot be asked for what was modified: new records are found at \
                 once, changes by reading every record again at this interval"
            );
        }
        Ok(shape)
    }

    /// Whether the time of the last modification can be filtered by. A gateway that does not
    /// know the filter refuses it, or drops it: then there are rows of the far future.
    async fn understands(&self, lane: Lane, modified: &str) -> Result<bool, PortalError> {
        let body = json!({
            "filter": { modified: { "$gt": FAR_AHEAD } },
            "order": { "id": "asc" },
            "limit": 1,
            "select": ["id"],
        });
        let path = self.path("search");
        let body = Parameters::body(&body);
        match self.gateway.call(lane, &path, &body, Patience::Persist).await {
            Ok(answer) => Ok(answer.rows()?.is_empty()),
            Err(error) if error.disposition() == Disposition::CallerBug => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Names every field from now on, so that the multi-values come, unless that is refused.
    /// That the first records have none even so proves nothing: they may have no values.
    async fn name_fields(
        &self,
        lane: Lane,
        first: &ScanAsk,
        shape: &mut Shape,
    ) -> Result<(), PortalError> {
        shape.names_fields = true;
        let answer = self.ask(lane, first, shape, PAGE_ROWS, Patience::Persist).await;
        match answer {
            Ok(answer) if answer.rows()?.iter().any(has_multi_values) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.disposition() == Disposition::CallerBug => {
                shape.names_fields = false;
            }
            Err(error) => return Err(error),
        }
        tracing::warn!(
            entity = self.entity.name,
            "the gateway has brought no list of phones, e-mails and the like with the first \
             records; where it brings none, what is stored of them stays as it is"
        );
        Ok(())
    }
}

fn has_multi_values(row: &&RawValue) -> bool {
    Raw::from(*row).fields().any(|(key, _)| key.unescaped() == Some(MULTI_VALUES))
}

/// The names of the fields in a description.
pub(super) fn names(path: &str, fields: &RawValue) -> Result<Vec<String>, PortalError> {
    let fields: Map<String, Value> = serde_json::from_str(fields.get())
        .map_err(|_| PortalError::unusable(path, "it describes no fields"))?;
    Ok(fields.into_iter().map(|(name, _)| name).collect())
}
