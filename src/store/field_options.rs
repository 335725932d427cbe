//! The choices of enumerations, one row each.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, types::Json};

use super::StoreError;
use crate::entity::{
    Entity,
    catalogue::{Catalogue, Field},
};

/// A choice as its table holds it.
#[derive(Debug, PartialEq, Serialize)]
struct FieldOption {
    field: String,
    id: String,
    label: String,
    sort: i32,
}

/// Brings an entity's choices up to date; writes only what differs. What the portal no
/// longer offers is marked: records that were filled in before still hold it.
pub(super) async fn follow(
    connection: &mut PgConnection,
    entity: &'static Entity,
    catalogue: &Catalogue,
) -> Result<(), StoreError> {
    let options: Vec<FieldOption> =
        catalogue.fields().flat_map(|(name, field)| options(name, field)).collect();
    sqlx::query(
        "insert into field_options (entity, field, id, label, sort) \
         select $1, n.* from jsonb_to_recordset($2) as n \
            (field text, id text, label text, sort integer) \
         left join field_options as o on (o.entity, o.field, o.id) = ($1, n.field, n.id) \
         where o.id is null or o.gone_since is not null \
            or (o.label, o.sort) is distinct from (n.label, n.sort) \
         on conflict (entity, field, id) do update \
            set label = excluded.label, sort = excluded.sort, gone_since = null",
    )
    .bind(entity.name)
    .bind(Json(&options))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "update field_options as o set gone_since = clock_timestamp() \
         where o.entity = $1 and o.gone_since is null and not exists \
            (select from jsonb_to_recordset($2) as n (field text, id text) \
             where (n.field, n.id) = (o.field, o.id))",
    )
    .bind(entity.name)
    .bind(Json(&options))
    .execute(connection)
    .await?;
    Ok(())
}

/// A field's choices in the portal's order, each ID once.
fn options(name: &str, field: &Field) -> Vec<FieldOption> {
    let items = field.items.as_deref().and_then(|items| serde_json::from_str(items).ok());
    let items = match items {
        Some(Value::Array(items)) => items,
        // PHP sends a list with gaps in its numbering so.
        Some(Value::Object(items)) => items.into_iter().map(|(_, item)| item).collect(),
        _ => return Vec::new(),
    };
    let mut seen = BTreeMap::new();
    for item in &items {
        let (Some(id), label) = (text(item.get("ID")), text(item.get("VALUE"))) else { continue };
        let sort = i32::try_from(seen.len()).unwrap_or(i32::MAX);
        seen.entry(id.clone()).or_insert_with(|| FieldOption {
            field: name.to_owned(),
            label: label.unwrap_or_else(|| id.clone()),
            id,
            sort,
        });
    }
    let mut options: Vec<FieldOption> = seen.into_values().collect();
    options.sort_by_key(|option| option.sort);
    options
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(items: &str) -> Field {
        Field {
            kind: "enumeration".to_owned(),
            label: None,
            multiple: false,
            custom: true,
            read_only: false,
            status_type: None,
            items: Some(items.to_owned()),
        }
    }

    #[test]
    fn choices_keep_the_portals_order_and_each_id_counts_once() {
        let items = r#"[{"ID":"9","VALUE":"b"},{"ID":3,"VALUE":"a"},{"ID":"9","VALUE":"c"},
            {"VALUE":"nobody"},{"ID":"4","VALUE":""}]"#;
        let found: Vec<(String, String, i32)> = options("UF_1", &field(items))
            .into_iter()
            .map(|option| (option.id, option.label, option.sort))
            .collect();
        let expected = [("9", "b", 0), ("3", "a", 1), ("4", "4", 2)];
        assert_eq!(found, expected.map(|(id, label, sort)| (id.into(), label.into(), sort)));
    }

    #[test]
    fn a_list_with_gaps_and_none_at_all_are_understood() {
        assert_eq!(options("UF_1", &field(r#"{"2":{"ID":"5","VALUE":"x"}}"#)).len(), 1);
        assert_eq!(options("UF_1", &field("[]")), []);
        assert_eq!(options("UF_1", &field("\"x\"")), []);
    }
}
