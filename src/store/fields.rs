//! The dictionary of a portal's fields.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use super::{Generation, Store, StoreError, field_options};
use crate::entity::{
    Entity,
    catalogue::{Catalogue, Field},
};

#[derive(FromRow)]
struct FieldRow {
    field: String,
    #[sqlx(rename = "type")]
    kind: String,
    label: Option<String>,
    multiple: bool,
    custom: bool,
    read_only: bool,
    status_type: Option<String>,
    items: Option<serde_json::Value>,
    gone_since: Option<DateTime<Utc>>,
}

impl FieldRow {
    fn describes(&self, field: &Field) -> bool {
        self.gone_since.is_none()
            && self.kind == field.kind
            && self.label == field.label
            && self.multiple == field.multiple
            && self.custom == field.custom
            && self.read_only == field.read_only
            && self.status_type == field.status_type
            && self.items == items(field)
    }
}

/// An enumeration's choices; `jsonb` spells them in its own way, so they are compared as values.
fn items(field: &Field) -> Option<serde_json::Value> {
    field.items.as_deref().and_then(|items| serde_json::from_str(items).ok())
}

impl Store {
    /// Brings the stored description of an entity's fields up to date; writes only what
    /// differs. Fields and choices that the portal no longer has are marked, never deleted.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] when the lease is another's; nothing is written then.
    pub async fn save_fields(
        &self,
        generation: Generation,
        entity: &'static Entity,
        catalogue: &Catalogue,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_leased(generation).await?;
        let stored: Vec<FieldRow> = sqlx::query_as(
            "select field, type, label, multiple, custom, read_only, status_type, items, gone_since \
             from fields where entity = $1",
        )
        .bind(entity.name)
        .fetch_all(&mut *transaction)
        .await?;
        let stored: HashMap<&str, &FieldRow> =
            stored.iter().map(|row| (row.field.as_str(), row)).collect();

        let differing: Vec<(&str, &Field)> = catalogue
            .fields()
            .filter(|(name, field)| !stored.get(name).is_some_and(|row| row.describes(field)))
            .collect();
        if !differing.is_empty() {
            let texts = |of: fn(&Field) -> Option<&str>| -> Vec<Option<&str>> {
                differing.iter().map(|(_, field)| of(field)).collect()
            };
            let flags = |of: fn(&Field) -> bool| -> Vec<bool> {
                differing.iter().map(|(_, field)| of(field)).collect()
            };
            sqlx::query(
                "insert into fields (entity, field, type, label, multiple, custom, read_only, \
                    status_type, items) \
                 select $1, * from unnest($2::text[], $3::text[], $4::text[], $5::bool[], \
                    $6::bool[], $7::bool[], $8::text[], $9::jsonb[]) \
                 on conflict (entity, field) do update set \
                    type = excluded.type, label = excluded.label, \
                    multiple = excluded.multiple, custom = excluded.custom, \
                    read_only = excluded.read_only, status_type = excluded.status_type, \
                    items = excluded.items, gone_since = null",
            )
            .bind(entity.name)
            .bind(differing.iter().map(|(name, _)| *name).collect::<Vec<_>>())
            .bind(texts(|field| Some(&field.kind)))
            .bind(texts(|field| field.label.as_deref()))
            .bind(flags(|field| field.multiple))
            .bind(flags(|field| field.custom))
            .bind(flags(|field| field.read_only))
            .bind(texts(|field| field.status_type.as_deref()))
            .bind(differing.iter().map(|(_, field)| items(field)).collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await?;
        }
        let gone: Vec<&str> = stored
            .values()
            .filter(|row| row.gone_since.is_none() && catalogue.field(&row.field).is_none())
            .map(|row| row.field.as_str())
            .collect();
        if !gone.is_empty() {
            sqlx::query(
                "update fields set gone_since = clock_timestamp() \
                 where entity = $1 and field = any($2)",
            )
            .bind(entity.name)
            .bind(gone)
            .execute(&mut *transaction)
            .await?;
        }
        field_options::follow(&mut transaction, entity, catalogue).await?;
        Ok(transaction.commit().await?)
    }
}
