//! Our declarations against the portal's own description of its fields.

use std::collections::BTreeMap;

use b24mirror::entity::{ColumnType, Entity, dictionary::Explained};
use serde::Deserialize;

use crate::support::{TestPortal, http};

/// A field as `crm.*.fields` describes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    r#type: String,
    is_multiple: bool,
    #[serde(default)]
    status_type: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    result: BTreeMap<String, Described>,
}

async fn described(portal: &TestPortal, entity: &Entity) -> BTreeMap<String, Described> {
    let address = format!("{}{}", portal.webhook_url(), entity.classic.unwrap().fields.unwrap());
    let (status, body) = http::get(&address).await;
    assert_eq!(status, 200);
    serde_json::from_slice::<Answer>(&body).unwrap().result
}

/// The column type that fits a portal's type.
fn fitting(portal_type: &str) -> ColumnType {
    match portal_type {
        "integer" => ColumnType::Integer,
        "string" | "crm_status" | "crm_currency" => ColumnType::Text,
        "char" => ColumnType::Flag,
        "user" | "crm_company" | "crm_contact" | "crm_lead" => ColumnType::Reference,
        "file" => ColumnType::File,
        "date" => ColumnType::Date,
        "datetime" => ColumnType::Timestamp,
        "double" => ColumnType::Decimal,
        other => panic!("no documented field has the type {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_field_has_a_column_of_its_type_and_every_column_a_field() {
    let portal = TestPortal::small();
    for entity in Entity::BY_DEFAULT {
        let mut described = described(&portal, entity).await;
        described.retain(|name, _| !name.starts_with("UF_") && !name.starts_with("PARENT_ID_"));
        let id = described.remove("ID").unwrap();
        assert_eq!(id.r#type, "integer");

        let fields = described.iter().filter(|(_, field)| !field.is_multiple);
        let documented: BTreeMap<&str, ColumnType> =
            fields.map(|(name, field)| (name.as_str(), fitting(&field.r#type))).collect();
        let mut declared: BTreeMap<&str, ColumnType> =
            entity.columns.iter().map(|column| (column.field, column.kind)).collect();
        assert_eq!(declared.len(), entity.columns.len(), "{} declares a field twice", entity.name);
        let classic = entity.classic.unwrap();
        for field in classic.lacks.iter().chain(classic.implies.iter().map(|(field, _)| field)) {
            declared.remove(field).unwrap();
        }
        assert_eq!(declared, documented, "{}", entity.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_several_values_are_child_tables_or_cannot_be_listed() {
    let portal = TestPortal::small();
    for (entity, write_only) in Entity::BY_DEFAULT.into_iter().zip(["COMPANY_IDS", "CONTACT_IDS"]) {
        let described = described(&portal, entity).await;
        let several =
            described.iter().filter(|(name, field)| field.is_multiple && !name.starts_with("UF_"));
        let (children, others): (Vec<_>, Vec<_>) =
            several.partition(|(_, field)| field.r#type == "crm_multifield");
        let mut children: Vec<&str> = children.iter().map(|(name, _)| name.as_str()).collect();
        let lists = entity.multi_fields.iter().filter(|multi| multi.is_values());
        let mut declared: Vec<&str> = lists.map(|multi| multi.field).collect();
        children.sort_unstable();
        declared.sort_unstable();
        assert_eq!(declared, children, "{}", entity.name);
        let others: Vec<&str> = others.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(others, [write_only], "{}", entity.name);
        assert_eq!(entity.position(write_only), None, "lists do not return {write_only}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_code_is_explained_by_the_dictionary_that_the_portal_names() {
    let portal = TestPortal::small();
    for entity in Entity::BY_DEFAULT {
        let described = described(&portal, entity).await;
        let by_the_portal: BTreeMap<&str, String> = described
            .iter()
            .filter(|(name, field)| !name.starts_with("UF_") && !field.is_multiple)
            .filter_map(|(name, field)| {
                let dictionary = match field.r#type.as_str() {
                    "crm_status" => field.status_type.clone()?,
                    "user" => "a user".to_owned(),
                    "crm_currency" => "a currency".to_owned(),
                    _ => return None,
                };
                Some((name.as_str(), dictionary))
            })
            .collect();
        let by_us: BTreeMap<&str, String> = entity
            .coded()
            .filter_map(|(place, explained)| {
                let dictionary = match explained {
                    Explained::Directory(directory) => directory,
                    Explained::User => "a user",
                    Explained::Currency => "a currency",
                    Explained::Stages(_) => unreachable!("no pipelines have stages here"),
                    // Items alone describe it.
                    Explained::Pipeline(_) => return None,
                };
                Some((entity.columns[place].field, dictionary.to_owned()))
            })
            .collect();
        assert_eq!(by_us, by_the_portal, "{}", entity.name);
    }
}
