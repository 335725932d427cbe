//! What the lists word differently: methods, parameters that go with every call, where the
//! rows are.

use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    entity::{Classic, Dialect, Entity},
    portal::{Answer, PortalError, envelope::PhpMap},
};

/// Where a list's answer has its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::portal) enum RowsIn {
    /// The result is the list.
    Result,
    /// The result holds it under this name.
    Under(&'static str),
}

impl RowsIn {
    /// The way from a result to its rows, as references between commands write it.
    pub(super) fn path(self) -> String {
        match self {
            Self::Result => String::new(),
            Self::Under(name) => format!("[{name}]"),
        }
    }
}

/// How one list is asked.
#[derive(Debug, Clone)]
pub(super) struct Wording {
    pub(super) dialect: Dialect,
    /// The list method.
    pub(super) list: &'static str,
    /// The method that describes the fields, if there is one.
    pub(super) fields: Option<&'static str>,
    /// Where the rows are.
    pub(super) rows: RowsIn,
    /// What goes with every call.
    always: Map<String, Value>,
}

impl Wording {
    /// How an entity is asked for; as items where it has no list of its own.
    pub(super) fn of(entity: &Entity, dialect: Dialect) -> Self {
        match (dialect, entity.classic) {
            (Dialect::Classic, Some(classic)) => Self::classic(classic),
            _ => Self::item(entity.item.map_or(0, |item| item.entity_type_id)),
        }
    }

    fn classic(Classic { list, fields, entity_type_id, in_items, .. }: Classic) -> Self {
        let mut always = Map::new();
        if let Some(id) = entity_type_id {
            always.insert("entityTypeId".to_owned(), json!(id));
        }
        let rows = if in_items { RowsIn::Under("items") } else { RowsIn::Result };
        Self { dialect: Dialect::Classic, list, fields, rows, always }
    }

    /// User fields keep their names: in camel case `UF_CRM_1_23` and `UF_CRM_12_3` look alike
    /// (vendor page `universal/crm-item-list`).
    fn item(entity_type_id: u32) -> Self {
        let mut always = Map::new();
        always.insert("entityTypeId".to_owned(), json!(entity_type_id));
        always.insert("useOriginalUfNames".to_owned(), json!("Y"));
        Self {
            dialect: Dialect::Item,
            list: "crm.item.list",
            fields: Some("crm.item.fields"),
            rows: RowsIn::Under("items"),
            always,
        }
    }

    /// Parameters with those that go with every call.
    pub(super) fn with(&self, params: Value) -> Value {
        match params {
            Value::Object(mut params) => {
                params.extend(self.always.clone());
                Value::Object(params)
            }
            other => other,
        }
    }

    /// The `select` that brings every field. Where nothing describes the fields, only names that
    /// are documented are safe to send. Classic multi-fields have no mask and come only
    /// when named; items bring them with `*`, beside which nothing may be named.
    pub(super) fn everything(
        &self,
        entity: &Entity,
        left_out: &[&'static str],
    ) -> Vec<&'static str> {
        match self.dialect {
            Dialect::Classic if self.fields.is_none() => {
                let columns = entity.columns.iter().map(|column| column.field);
                [self.dialect.id()].into_iter().chain(columns).collect()
            }
            Dialect::Classic => {
                let multi_fields = entity.multi_fields.iter().filter(|multi| multi.is_values());
                let asked = multi_fields.map(|multi| multi.field);
                asked.filter(|field| !left_out.contains(field)).chain(["*", "UF_*"]).collect()
            }
            Dialect::Item | Dialect::Vibecode => vec!["*"],
        }
    }

    /// The descriptions of fields in an answer to [`Self::fields`].
    pub(super) fn described(
        &self,
        method: &str,
        answer: Answer,
    ) -> Result<Box<RawValue>, PortalError> {
        if self.rows == RowsIn::Result {
            return Ok(answer.result);
        }
        let parts = PhpMap::read(Some(&answer.result));
        let fields = parts.and_then(|parts| parts.get("fields").map(|raw| (**raw).to_owned()));
        fields.ok_or_else(|| PortalError::unusable(method, "it describes no fields"))
    }

    /// What there is to know of fields where no method describes them: the declaration says
    /// it all.
    pub(super) fn undescribed() -> Result<Box<RawValue>, PortalError> {
        RawValue::from_string("{}".to_owned())
            .map_err(|error| PortalError::unusable("fields", error.to_string()))
    }
}
