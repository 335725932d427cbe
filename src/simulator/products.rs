//! Product rows: `crm.item.productrow.list` (vendor page `crm-item-productrow-list`).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::dataset::{Rng, mix, salt};
use super::entity::Entity;
use super::fields::Type;
use super::items::array;
use super::php::{Array, Php};
use super::portal::{Answer, Failure, Portal};
use super::query::{Cell, Columns, Sheet};
use super::records::{Body, Record, Text};
use super::truth::canonical_decimal;

/// A product row of a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Product {
    pub(super) id: i64,
    /// Its number in the catalogue; 0 for none.
    pub(super) catalogued: i64,
    pub(super) name: Text,
    /// Decimal texts.
    pub(super) price: String,
    pub(super) quantity: String,
}

/// A product row, for tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrueProduct {
    /// The row's own number.
    pub id: i64,
    /// The record.
    pub owner_id: i64,
    /// What it belongs to: `D`, `L`, …
    pub owner_type: String,
    /// The product in the catalogue; 0 for none.
    pub product_id: i64,
    /// The name as of then.
    pub product_name: String,
    /// Canonical decimal text.
    pub price: String,
    /// Canonical decimal text.
    pub quantity: String,
}

const COLUMNS: Columns = &[
    ("id", Type::Integer),
    ("ownerId", Type::Integer),
    ("ownerType", Type::Text),
    ("productId", Type::Integer),
    ("productName", Type::Text),
    ("price", Type::Double),
    ("quantity", Type::Double),
];

const NAMES: [&str; 6] = [
    "Стол «Онега» 120×60",
    "Монтаж / выезд",
    "Bolt M8 \"zinc\"",
    "Доставка до 5 т",
    "Подписка & поддержка",
    "36122202314 - Эмульсии < 15 %",
];

/// The rows of a new record; none for families without product rows.
pub(super) fn made(entity: Entity, seed: u64, origin: i64) -> Vec<Product> {
    if entity.product_code().is_none() {
        return Vec::new();
    }
    let mut rng = Rng::new(mix(salt(seed, entity, origin), 6));
    let family = i64::try_from(entity.index()).unwrap_or(0);
    (0..i64::try_from(rng.below(6)).unwrap_or(0))
        .map(|place| Product {
            id: origin * 64 + family * 8 + place,
            catalogued: if rng.once_in(4) { 0 } else { rng.between(1, 90_000) },
            name: Cow::Borrowed(rng.of(&NAMES)),
            price: format!("{}.{:02}", rng.between(0, 99_999), rng.between(0, 99)),
            quantity: rng.of(&["1", "2", "0.013", "10.5"]).to_owned(),
        })
        .collect()
}

impl Product {
    fn cells(&self, owner: i64, code: &str) -> Vec<Cell> {
        let number = |text: &str| text.parse().map_or(Cell::Null, Cell::Number);
        vec![
            Cell::Int(self.id),
            Cell::Int(owner),
            Cell::Text(code.to_lowercase()),
            Cell::Int(self.catalogued),
            Cell::Text(self.name.to_lowercase()),
            number(&self.price),
            number(&self.quantity),
        ]
    }

    fn row(&self, owner: i64, code: &str, place: i64) -> Array {
        let number =
            |text: &str| Php::Number(canonical_decimal(text).unwrap_or_else(|| "0".to_owned()));
        Array::default()
            .with("id", self.id)
            .with("ownerId", owner)
            .with("ownerType", code)
            .with("productId", self.catalogued)
            .with("productName", self.name.as_ref())
            .with("price", number(&self.price))
            .with("priceAccount", number(&self.price))
            .with("priceExclusive", number(&self.price))
            .with("priceNetto", number(&self.price))
            .with("priceBrutto", number(&self.price))
            .with("quantity", number(&self.quantity))
            .with("discountTypeId", 2_i64)
            .with("discountRate", 0_i64)
            .with("discountSum", 0_i64)
            .with("taxRate", Php::Null)
            .with("taxIncluded", "Y")
            .with("customized", "Y")
            .with("measureCode", 796_i64)
            .with("measureName", "шт")
            .with("sort", place * 10)
            .with("xmlId", "")
            .with("type", 4_i64)
    }
}

impl Portal {
    pub(super) fn products(&self, entity: Entity, record: &Record) -> Vec<Product> {
        match &record.body {
            Body::Own(facts) => facts.products.clone(),
            Body::Generated { origin, .. } => made(entity, self.options.seed, *origin),
        }
    }

    pub(super) fn product_rows(&mut self, params: &Array) -> Result<Answer, Failure> {
        let (filter, order) = (array(params, "filter")?, array(params, "order")?);
        let (Some(code), Some(owners)) = (filter.get("=ownerType"), filter.get("=ownerId")) else {
            let text = "Required fields: =ownerType, =ownerId";
            return Err(Failure::parameter(text));
        };
        let code = code.to_text().unwrap_or_default();
        let entity = Entity::EVERY.into_iter().find(|own| own.product_code() == Some(&*code));
        let Some(entity) = entity.filter(|own| self.has_family(*own)) else {
            let text = "Invalid filter: field 'ownerType' has invalid value";
            return Err(Failure::new(400, "INVALID_ARG_VALUE", text));
        };
        let mut owners: Vec<i64> = match owners {
            Php::Array(ids) => ids.values().map(Php::to_int).collect(),
            id => vec![id.to_int()],
        };
        owners.sort_unstable();
        owners.dedup();
        let sheet = Sheet::read(COLUMNS, &self.clock, &filter, &order)?;
        let mut rows = Vec::new();
        for owner in owners {
            let Some(record) = self.tables[entity.index()].get(owner) else { continue };
            if !self.is_readable(entity, record) {
                return Err(Failure::new(400, "ACCESS_DENIED", "Access denied"));
            }
            for (product, place) in self.products(entity, record).into_iter().zip(1..) {
                rows.push((product.cells(owner, &code), (product, owner, place)));
            }
        }
        rows.sort_by_key(|(_, (product, ..))| product.id);
        let start = params.get("start").map_or(0, Php::to_int);
        let write = |_: &Self, (product, owner, place): (Product, i64, i64)| {
            product.row(owner, &code, place)
        };
        Ok(self.sheet_page("productRows", &sheet, rows.into_iter(), start, write))
    }

    /// The product rows of live records, by ascending owner and number.
    pub(super) fn true_products(&mut self, entity: Entity) -> Vec<TrueProduct> {
        self.settle();
        let Some(code) = entity.product_code() else {
            return Vec::new();
        };
        let mut rows = Vec::new();
        for record in self.tables[entity.index()].iter() {
            let mut own = self.products(entity, record);
            own.sort_by_key(|product| product.id);
            rows.extend(own.into_iter().map(|product| TrueProduct {
                id: product.id,
                owner_id: record.id,
                owner_type: code.to_owned(),
                product_id: product.catalogued,
                product_name: product.name.to_string(),
                price: canonical_decimal(&product.price).unwrap_or_default(),
                quantity: canonical_decimal(&product.quantity).unwrap_or_default(),
            }));
        }
        rows
    }
}
