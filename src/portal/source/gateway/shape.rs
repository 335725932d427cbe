//! How a gateway shows an entity: what its vendor does not document, found out by asking.

use std::sync::PoisonError;

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

/// How a gateway shows an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// The description that this was concluded from.
    pub(super) described: Vec<String>,
    /// What it calls the time of the last modification.
    pub(super) modified: Option<String>,
    /// Whether changes can be asked for by that time.
    pub(super) filterable: bool,
    /// Whether the multi-values come only when every field is named.
    pub(super) names_fields: bool,
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
    /// What is known of the gateway, found out if need be.
    pub(super) async fn shape(&self, lane: Lane) -> Result<Shape, PortalError> {
        let known = self.known.shape.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(shape) = known {
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
            described,
        };
        if let Some(name) = modified {
            shape.filterable = self.understands(lane, name).await?;
        }
        if self.entity.multi_fields.iter().any(MultiField::is_values) {
            self.find_multi_values(lane, &mut shape).await?;
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

    /// Looks at the first records, without and with a `select` that names everything. One alone
    /// would prove nothing: it may have no values, and then not even an empty list.
    async fn find_multi_values(&self, lane: Lane, shape: &mut Shape) -> Result<(), PortalError> {
        let scan = ScanAsk { detail: Detail::Full, ..ScanAsk::keys_above(RecordId::ZERO) };
        for names_fields in [false, true] {
            shape.names_fields = names_fields;
            let answer = self.ask(lane, &scan, shape, PAGE_ROWS, Patience::Persist).await?;
            let rows = answer.rows()?;
            if rows.is_empty() {
                break;
            }
            let names = |row: &&RawValue| {
                Raw::from(*row).fields().any(|(key, _)| key.unescaped() == Some(MULTI_VALUES))
            };
            if rows.iter().any(names) {
                return Ok(());
            }
        }
        if shape.names_fields {
            tracing::warn!(
                entity = self.entity.name,
                "the gateway brings no list of phones, e-mails and the like; what is stored of \
                 them stays as it is"
            );
        }
        shape.names_fields = false;
        Ok(())
    }
}

/// The names of the fields in a description.
pub(super) fn names(path: &str, fields: &RawValue) -> Result<Vec<String>, PortalError> {
    let fields: Map<String, Value> = serde_json::from_str(fields.get())
        .map_err(|_| PortalError::unusable(path, "it describes no fields"))?;
    Ok(fields.into_iter().map(|(name, _)| name).collect())
}
