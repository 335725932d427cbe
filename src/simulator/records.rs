//! What the portal stores: records, their facts, and the indexes over them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::entity::Entity;
use super::items::ItemRow;
use super::php::Php;
use super::products::Product;
use super::rows::RowParts;

/// A text that is often one of the generator's own.
pub(super) type Text = Cow<'static, str>;

/// The stored value of a documented field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plain {
    Unset,
    Text(Text),
    Int(i64),
    /// Canonical decimal text.
    Decimal(String),
    Flag(bool),
    /// Wall-clock seconds.
    Local(i64),
    /// Days since 1970.
    Day(i64),
    /// Sent exactly so, readable or not.
    Raw(Php),
    /// Its key is left out of rows, as older portals do with newer fields.
    Absent,
}

/// The stored value of a user field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Custom {
    /// The n-th way of saying "nothing" that suits the type.
    Empty,
    /// The portal's own JSON.
    Json(Php),
    Days(Vec<i64>),
    Locals(Vec<i64>),
    Files(Vec<i64>),
}

/// One value of a multi-field.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Multi {
    pub(super) id: i64,
    pub(super) value: Text,
    pub(super) value_type: Text,
}

/// Everything that a record says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Facts {
    /// In the order of the entity's field list.
    pub(super) plain: Vec<Plain>,
    /// In the order of `MULTI`.
    pub(super) multi: [Vec<Multi>; 5],
    /// By the user field's number less one; a missing one is empty.
    pub(super) custom: Vec<Custom>,
    /// Links besides the primary one, which is a documented field.
    pub(super) linked: Vec<i64>,
    /// Users.
    pub(super) observers: Vec<i64>,
    /// Product rows, once a record was written by hand; the generator's are made apart.
    pub(super) products: Vec<Product>,
}

impl Facts {
    /// All that a record is linked to, the primary one first; none without a primary one.
    pub(super) fn links(&self, entity: Entity) -> Vec<i64> {
        let Some(at) = entity.primary_link() else {
            return self.linked.clone();
        };
        let primary = match &self.plain[at] {
            Plain::Int(id) | Plain::Raw(Php::Int(id)) => *id,
            Plain::Raw(Php::Text(text)) => text.parse().unwrap_or(0),
            _ => 0,
        };
        if primary <= 0 {
            return Vec::new();
        }
        let further = self.linked.iter().copied().filter(|id| *id != primary);
        std::iter::once(primary).chain(further).collect()
    }
}

/// Where a record's facts come from.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// The generator makes them on demand from the record's first id, as the
    /// last of `edit` changes left them.
    Generated { origin: i64, edit: u32 },
    /// Written by hand.
    Own(Arc<Facts>),
}

/// A record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: i64,
    /// 0, or a category that the classic lists hide.
    pub(super) category: u8,
    /// Wall-clock seconds.
    pub(super) created: i64,
    /// Wall-clock seconds.
    pub(super) modified: i64,
    pub(super) body: Body,
    /// Multi-field types that once had values, as a bit set.
    pub(super) had: u8,
    pub(super) row: Option<Arc<RowParts>>,
    pub(super) item: Option<Arc<ItemRow>>,
}

impl Record {
    /// Forgets how it was written.
    pub(super) fn forget_rows(&mut self) {
        (self.row, self.item) = (None, None);
    }
}

/// All records of an entity.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: BTreeMap<i64, Record>,
    by_modified: BTreeSet<(i64, i64)>,
    /// The recycle bin, by the id that a record had.
    pub(super) bin: BTreeMap<i64, Record>,
    pub(super) next_id: i64,
    listed: usize,
}

impl Table {
    pub(super) fn get(&self, id: i64) -> Option<&Record> {
        self.rows.get(&id)
    }

    pub(super) fn put(&mut self, record: Record) {
        self.take(record.id);
        self.by_modified.insert((record.modified, record.id));
        self.listed += usize::from(record.category == 0);
        self.next_id = self.next_id.max(record.id + 1);
        self.rows.insert(record.id, record);
    }

    pub(super) fn take(&mut self, id: i64) -> Option<Record> {
        let record = self.rows.remove(&id)?;
        self.by_modified.remove(&(record.modified, id));
        self.listed -= usize::from(record.category == 0);
        Some(record)
    }

    /// Keeps an encoded row until the record changes.
    pub(super) fn remember(&mut self, id: i64, row: Arc<RowParts>) {
        if let Some(record) = self.rows.get_mut(&id) {
            record.row = Some(row);
        }
    }

    /// The same for a row of `crm.item.list`.
    pub(super) fn remember_item(&mut self, id: i64, row: Arc<ItemRow>) {
        if let Some(record) = self.rows.get_mut(&id) {
            record.item = Some(row);
        }
    }

    /// A fresh id.
    pub(super) fn allocate(&mut self) -> i64 {
        let id = self.next_id.max(1);
        self.next_id = id + 1;
        id
    }

    /// Records that the classic lists show.
    pub(super) fn listed(&self) -> usize {
        self.listed
    }

    /// Records of every category.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn range(
        &self,
        range: impl std::ops::RangeBounds<i64>,
    ) -> impl DoubleEndedIterator<Item = &Record> {
        self.rows.range(range).map(|(_, record)| record)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.rows.values()
    }

    /// Ids by modification time, both bounds inclusive.
    pub(super) fn modified_between(
        &self,
        from: i64,
        to: i64,
    ) -> impl DoubleEndedIterator<Item = i64> {
        let bounds = if from <= to { (from, i64::MIN)..=(to, i64::MAX) } else { (0, 0)..=(0, 0) };
        let empty = from > to;
        self.by_modified.range(bounds).filter(move |_| !empty).map(|(_, id)| *id)
    }

    pub(super) fn last_id(&self) -> Option<i64> {
        self.rows.last_key_value().map(|(id, _)| *id)
    }
}
