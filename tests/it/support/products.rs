//! Whether the product rows of the mirror are those of the portal.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use b24mirror::{entity::Entity, simulator::TrueProduct};
use sqlx::{AssertSqlSafe, FromRow, PgPool};

use super::{TestPortal, equal::family};

/// A row as the tables have it.
#[derive(FromRow)]
struct Row {
    id: i64,
    owner_id: i64,
    product_id: i64,
    product_name: String,
    price: String,
    quantity: String,
}

/// The rows of live records; those of one without any are none.
pub(crate) async fn mirrored(
    pool: &PgPool,
    entity: &'static Entity,
) -> BTreeMap<(i64, i64), TrueProduct> {
    let code = entity.multi_fields.iter().find_map(|multi| multi.product_rows).unwrap();
    let one = entity.singular;
    // The simulator has one price, and says the rest of a row in every row alike.
    let select = format!(
        "select r.id, r.{one}_id as owner_id, coalesce(r.product_id, 0) as product_id, \
            r.product_name, trim_scale(r.price)::text as price, \
            trim_scale(r.quantity)::text as quantity \
         from bitrix24.{one}_product_rows r join bitrix24.{} t on t.id = r.{one}_id \
         where t.deleted_at is null and r.price_netto = r.price and r.measure_code = 796 \
            and r.measure_name = 'шт' and r.tax_rate is null and r.tax_included and r.type = 4 \
            and r.sort % 10 = 0 and r.discount_type_id = 2 and r.discount_sum = 0",
        entity.name
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(select)).fetch_all(pool).await.unwrap();
    let row = |row: Row| {
        let product = TrueProduct {
            id: row.id,
            owner_id: row.owner_id,
            owner_type: code.to_owned(),
            product_id: row.product_id,
            product_name: row.product_name,
            price: row.price,
            quantity: row.quantity,
        };
        ((row.owner_id, row.id), product)
    };
    rows.into_iter().map(row).collect()
}

/// The first differences in words in the rows of all but some records; empty if there are none.
pub(crate) async fn differences(
    left_out: &BTreeSet<i64>,
    portal: &TestPortal,
    pool: &PgPool,
    entity: &'static Entity,
) -> String {
    let truth: BTreeMap<(i64, i64), TrueProduct> = portal
        .product_rows(family(entity))
        .into_iter()
        .map(|row| ((row.owner_id, row.id), row))
        .collect();
    let mirror = mirrored(pool, entity).await;
    // A record that is gone from the portal may still be in the mirror until a sweep.
    let here: BTreeSet<i64> = portal.ids(family(entity)).into_iter().collect();
    let keys: BTreeSet<_> = truth.keys().chain(mirror.keys()).copied().collect();
    let differing = keys
        .into_iter()
        .filter(|(owner, _)| here.contains(owner) && !left_out.contains(owner))
        .filter(|key| truth.get(key) != mirror.get(key));
    let mut text = String::new();
    for key in differing.take(5) {
        let (theirs, ours) = (truth.get(&key), mirror.get(&key));
        let _ = writeln!(text, "product row {key:?}: {theirs:?} in the portal, {ours:?} here");
    }
    text
}
