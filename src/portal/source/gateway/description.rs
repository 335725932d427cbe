//! What is known of the fields that a gateway shows. The gateway says which ones there are; of
//! a field its page documents a few words alone, such as `number` and `string` (vendor page
//! "Contact fields"). Days, files and the choices of a list are told apart by the portal's own
//! description, so each field is described in the portal's words, where the portal can be
//! asked.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{PoisonError, atomic::Ordering},
    time::Instant,
};

use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};

use super::{DIALECT, GatewaySource, shape::names};
use crate::{
    entity::{Dialect, Entity},
    portal::{
        ApiFailure, Lane, Patience, PortalError,
        envelope::PortalTime,
        gateway::{GatewayAnswer, Parameters},
        source::wording::Wording,
    },
    retry::Disposition,
};

/// The fields by the gateway's names.
type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// A clock, and when it was heard.
type Clock = Option<(PortalTime, Instant)>;

/// What was heard of the fields.
pub(super) struct Described {
    /// The description as the portal's own methods give it, by the gateway's names.
    pub(super) fields: Box<RawValue>,
    /// The clock before any record was asked for.
    pub(super) time: Clock,
}

impl GatewaySource {
    /// The description of the fields; what was concluded from another one is forgotten.
    pub(super) async fn described(
        &self,
        lane: Lane,
        patience: Patience,
    ) -> Result<Described, PortalError> {
        let (portals, time) = self.portals(lane).await?;
        let path = self.path("fields");
        let answer = self.gateway.call(lane, &path, &Parameters::None, patience).await?;
        let time = time.or_else(|| clock_of(&answer));
        let own = answer.data()?;
        let described = names(&path, own)?;
        {
            let mut shape = self.known.shape.lock().unwrap_or_else(PoisonError::into_inner);
            if shape.as_ref().is_some_and(|known| known.described != described) {
                *shape = None;
            }
        }
        let fields = in_the_portals_words(self.entity, own, &portals);
        let fields = fields.map_err(|_| PortalError::unusable(&path, "it describes no fields"))?;
        Ok(Described { fields, time })
    }

    /// The portal's clock. Where the portal cannot be asked it is the gateway's, by which the
    /// vendor's servers go as well; the overlap of cycles is there for what lies between both.
    pub(super) async fn clock(&self, lane: Lane) -> Result<Clock, PortalError> {
        if self.portal.is_open() {
            let answer = self.portal.call(lane, "server.time", &json!({})).await?;
            return Ok(answer.time.map(|time| (time, Instant::now())));
        }
        let answer = self.gateway.call(lane, "me", &Parameters::None, Patience::Persist).await?;
        Ok(clock_of(&answer))
    }

    /// The portal's description of an item's fields, and its clock.
    async fn portals(&self, lane: Lane) -> Result<(Box<RawValue>, Clock), PortalError> {
        let wording = Wording::of(self.entity, Dialect::Item);
        let Some(method) = wording.fields.filter(|_| self.portal.is_open()) else {
            return Ok((RawValue::NULL.to_owned(), None));
        };
        let answer = match self.portal.call(lane, method, &wording.with(json!({}))).await {
            Ok(answer) => answer,
            Err(PortalError::Api(failure)) if lacks_rights(&failure) => {
                if !self.known.in_own_words.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        entity = self.entity.name,
                        error = %failure.description,
                        "the portal may not be asked for its fields, so user fields are kept as \
                         the gateway writes them"
                    );
                }
                return Ok((RawValue::NULL.to_owned(), None));
            }
            Err(error) => return Err(error),
        };
        let time = answer.time.map(|time| (time, Instant::now()));
        Ok((wording.described(method, answer)?, time))
    }
}

/// Whether the webhook is good for other things.
fn lacks_rights(failure: &ApiFailure) -> bool {
    failure.code.is("insufficient_scope") || failure.disposition() == Disposition::StopEntity
}

fn clock_of(answer: &GatewayAnswer) -> Clock {
    let time = |clock| PortalTime { clock, offset_seconds: 0 };
    answer.date.map(|date| (time(date), Instant::now()))
}

/// The fields that the gateway names, each as the portal describes it; in the gateway's words
/// where the portal does not know it.
fn in_the_portals_words(
    entity: &Entity,
    own: &RawValue,
    portals: &RawValue,
) -> Result<Box<RawValue>, serde_json::Error> {
    let own: Fields<'_> = serde_json::from_str(own.get())?;
    let portals: Option<Fields<'_>> = serde_json::from_str(portals.get())?;
    let portals: BTreeMap<Cow<'_, str>, &RawValue> = portals
        .iter()
        .flatten()
        .filter_map(|(name, info)| Some((Dialect::Item.field_of(entity, name)?, *info)))
        .collect();
    let described = |(name, info): (Cow<'_, str>, &RawValue)| {
        let field = DIALECT.field_of(entity, &name);
        let info = match field.and_then(|field| portals.get(&field)) {
            Some(portals) => (*portals).to_owned(),
            None => to_raw_value(&plain(info))?,
        };
        Ok((name.into_owned(), info))
    };
    let fields: Result<BTreeMap<String, Box<RawValue>>, serde_json::Error> =
        own.into_iter().map(described).collect();
    to_raw_value(&fields?)
}

/// What can be read of a gateway's own words, whose shape no page shows.
fn plain(info: &RawValue) -> Map<String, Value> {
    let said: Value = serde_json::from_str(info.get()).unwrap_or_default();
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    let mut plain = Map::new();
    plain.insert("type".to_owned(), json!(text("type").or(said.as_str()).unwrap_or_default()));
    let label = ["title", "label"].into_iter().find_map(text);
    plain.extend(label.map(|label| ("title".to_owned(), json!(label))));
    let flags = ["isMultiple", "isReadOnly", "isDynamic"].into_iter();
    plain.extend(
        flags.filter_map(|flag| Some((flag.to_owned(), json!(said.get(flag)?.as_bool()?)))),
    );
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{CONTACTS, catalogue::Catalogue};

    fn catalogue(own: &str, portals: &str) -> Catalogue {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let fields = in_the_portals_words(&CONTACTS, &raw(own), &raw(portals)).unwrap();
        Catalogue::parse(&fields, &CONTACTS, DIALECT).unwrap()
    }

    #[test]
    fn what_a_gateway_shows_is_described_in_the_portals_words() {
        let own = r#"{"id": {"type": "number"}, "updatedAt": {"type": "string"},
            "ufCrm_1700000000": {"type": "string"}, "ufCrmColour": {"type": "string"},
            "invented": {"type": "number", "readonly": true}}"#;
        let portals = r#"{"id": {"type": "integer", "title": "ID"},
            "updatedTime": {"type": "datetime"}, "webformId": {"type": "integer"},
            "UF_CRM_1700000000": {"type": "date", "isDynamic": true},
            "UF_CRM_COLOUR": {"type": "enumeration", "items": [{"ID": "1", "VALUE": "red"}]}}"#;
        let catalogue = catalogue(own, portals);
        let kind = |field: &str| catalogue.field(field).map(|field| field.kind.as_str());
        assert_eq!(kind("ID"), Some("integer"));
        assert_eq!(kind("DATE_MODIFY"), Some("datetime"));
        assert_eq!(kind("UF_CRM_1700000000"), Some("date"));
        assert_eq!(kind("UF_CRM_COLOUR"), Some("enumeration"));
        assert_eq!(kind("INVENTED"), Some("number"));
        assert_eq!(kind("WEBFORM_ID"), None, "what it does not show is not described");
    }

    #[test]
    fn words_of_any_shape_are_no_obstacle() {
        let own = r#"{"id": "number", "name": {"type": ["string"], "label": "First name"},
            "lastName": null, "opened": {"type": "boolean", "title": 7, "isReadOnly": true}}"#;
        for portals in ["null", "{}"] {
            let catalogue = catalogue(own, portals);
            let field = |name: &str| catalogue.field(name).unwrap();
            assert_eq!(field("ID").kind, "number");
            assert_eq!(field("NAME").label.as_deref(), Some("First name"));
            assert_eq!(field("LAST_NAME").kind, "");
            assert!(field("OPENED").read_only);
        }
    }
}
