//! Items of smart processes, the kinds of records that a portal's people have made up: every
//! field that the vendor lists for them on its page `universal/object-fields`. A process has those
//! of them that its switches allow.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::{
    Entity, Item,
    column::{
        Column,
        ColumnType::{Date, Decimal, Flag, Integer, Reference, Text, Timestamp},
        column,
    },
    dictionary::{
        ALL_PROCESSES,
        Explained::{self, Stages},
    },
    multi_field::{Link, MultiField},
};

/// The lowest number that the vendor gives to a smart process (vendor page `crm/data-types`).
const FIRST_TYPE: u32 = 128;

/// The items of all smart processes together: the section of the settings, and the tables of
/// which each process has a partition. It is never read as it stands; [`of_type`] declares what is.
pub static SMART_ITEMS: Entity = Entity {
    name: "smart_items",
    singular: "smart_item",
    classic: None,
    item: Some(Item { entity_type_id: ALL_PROCESSES, names: &[] }),
    columns: COLUMNS,
    codes: CODES,
    multi_fields: &[
        MultiField::linked("CONTACT_IDS", "smart_item_contacts", CONTACTS),
        MultiField::linked("OBSERVERS", "smart_item_observers", OBSERVERS),
    ],
};

const CONTACTS: Link = Link::primary("contact_id", "CONTACT_ID");
const OBSERVERS: Link = Link::to("user_id");

/// The stages of all processes: their codes begin with the process and the pipeline
/// (`DT128_9:NEW`), so no two of them are the same.
static CODES: &[(&str, Explained)] =
    &[("STAGE_ID", Stages("DYNAMIC")), ("PREVIOUS_STAGE_ID", Stages("DYNAMIC"))];

/// The items of one smart process, `smart_items_128` for example; `None` where the vendor's
/// number is none of a smart process.
///
/// A declaration follows from its number alone. It is made once and kept for the life of the
/// process, as those of the other entities are: a portal has dozens of smart processes and not
/// thousands, and everything that works on an entity may hold on to its declaration.
#[must_use]
pub fn of_type(entity_type_id: u32) -> Option<&'static Entity> {
    static MADE: Mutex<BTreeMap<u32, &'static Entity>> = Mutex::new(BTreeMap::new());
    if entity_type_id < FIRST_TYPE {
        return None;
    }
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    Some(
        *made.entry(entity_type_id).or_insert_with(|| Box::leak(Box::new(declare(entity_type_id)))),
    )
}

/// The declaration that a name stands for: `smart_items`, or `smart_items_` and a number as it
/// is usually written.
pub(super) fn by_name(name: &str) -> Option<&'static Entity> {
    let rest = name.strip_prefix(SMART_ITEMS.name)?;
    if rest.is_empty() {
        return Some(&SMART_ITEMS);
    }
    let entity = of_type(rest.strip_prefix('_')?.parse().ok()?)?;
    (entity.name == name).then_some(entity)
}

fn declare(entity_type_id: u32) -> Entity {
    let leaked = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let singular = leaked(format!("{}_{entity_type_id}", SMART_ITEMS.singular));
    let contacts = leaked(format!("{singular}_contacts"));
    let observers = leaked(format!("{singular}_observers"));
    let multi_fields = [
        MultiField::linked("CONTACT_IDS", contacts, CONTACTS),
        MultiField::linked("OBSERVERS", observers, OBSERVERS),
    ];
    Entity {
        name: leaked(format!("{}_{entity_type_id}", SMART_ITEMS.name)),
        singular,
        classic: None,
        item: Some(Item { entity_type_id, names: &[] }),
        columns: COLUMNS,
        codes: CODES,
        multi_fields: Box::leak(Box::new(multi_fields)),
    }
}

impl Entity {
    /// The number of the smart process whose items these are, if they are such.
    #[must_use]
    pub fn smart_process(&self) -> Option<u32> {
        let number = self.item?.entity_type_id;
        (number >= FIRST_TYPE).then_some(number)
    }

    /// The entity that has its section in the settings and its columns in the tables of
    /// children: all smart processes share one of each.
    #[must_use]
    pub fn family(&'static self) -> &'static Self {
        if self.smart_process().is_some() { &SMART_ITEMS } else { self }
    }

    /// The column by which children and changes name their record.
    #[must_use]
    pub fn key(&self) -> String {
        let of_process = self.smart_process().is_some();
        format!("{}_id", if of_process { SMART_ITEMS.singular } else { self.singular })
    }

    /// Whether a person who names this one means the other: itself, or a smart process where
    /// all of them are named.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self == other || *self == SMART_ITEMS && other.smart_process().is_some()
    }
}

static COLUMNS: &[Column] = &[
    column("TITLE", "title", Text),
    column("XML_ID", "xml_id", Text),
    column("CATEGORY_ID", "category_id", Integer),
    column("STAGE_ID", "stage_id", Text),
    column("PREVIOUS_STAGE_ID", "previous_stage_id", Text),
    column("CURRENCY_ID", "currency_id", Text),
    column("OPPORTUNITY", "opportunity", Decimal),
    column("IS_MANUAL_OPPORTUNITY", "is_manual_opportunity", Flag),
    column("TAX_VALUE", "tax_value", Decimal),
    column("COMPANY_ID", "company_id", Reference),
    column("CONTACT_ID", "contact_id", Reference),
    column("MYCOMPANY_ID", "mycompany_id", Reference),
    column("BEGINDATE", "begindate", Date),
    column("CLOSEDATE", "closedate", Date),
    column("MOVED_BY_ID", "moved_by_id", Reference),
    column("MOVED_TIME", "moved_time", Timestamp),
    column("SOURCE_ID", "source_id", Text),
    column("SOURCE_DESCRIPTION", "source_description", Text),
    column("OPENED", "opened", Flag),
    column("ASSIGNED_BY_ID", "assigned_by_id", Reference),
    column("CREATED_BY_ID", "created_by_id", Reference),
    column("MODIFY_BY_ID", "modify_by_id", Reference),
    column("DATE_CREATE", "date_create", Timestamp),
    column("DATE_MODIFY", "date_modify", Timestamp),
    column("WEBFORM_ID", "webform_id", Reference),
    column("UTM_SOURCE", "utm_source", Text),
    column("UTM_MEDIUM", "utm_medium", Text),
    column("UTM_CAMPAIGN", "utm_campaign", Text),
    column("UTM_CONTENT", "utm_content", Text),
    column("UTM_TERM", "utm_term", Text),
    column("LAST_ACTIVITY_TIME", "last_activity_time", Timestamp),
    column("LAST_ACTIVITY_BY", "last_activity_by", Reference),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::SMART_INVOICES;

    #[test]
    fn a_process_is_declared_once_and_found_by_its_name() {
        let entity = of_type(1036).unwrap();
        assert!(std::ptr::eq(entity, of_type(1036).unwrap()));
        assert_eq!(Entity::by_name("smart_items_1036"), Some(entity));
        assert_eq!(entity.multi_fields[0].table, "smart_item_1036_contacts");
        assert_eq!((entity.key(), entity.family()), ("smart_item_id".to_owned(), &SMART_ITEMS));
        assert_ne!(entity.fingerprint(), of_type(1038).unwrap().fingerprint());
        assert!(SMART_ITEMS.covers(entity) && entity.covers(entity));
        assert!(!entity.covers(&SMART_ITEMS) && !SMART_ITEMS.covers(&SMART_INVOICES));
    }

    #[test]
    fn other_numbers_and_spellings_are_no_process() {
        for name in [
            "smart_items_127",
            "smart_items_0128",
            "smart_items_+128",
            "smart_items_",
            "smart_items_4294967296",
            "smart_items128",
        ] {
            assert_eq!(Entity::by_name(name), None, "{name}");
        }
        assert_eq!(SMART_INVOICES.smart_process(), None);
        assert_eq!(SMART_INVOICES.key(), "smart_invoice_id");
    }
}
