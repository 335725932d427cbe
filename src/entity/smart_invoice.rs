//! Smart invoices: every field that the vendor lists for them on its page `universal/object-fields`,
//! under the names of the classic methods where those have the field.

use super::{
    Entity, Item,
    column::{
        Column,
        ColumnType::{Date, Decimal, Flag, Integer, Reference, Text, Timestamp},
        column,
    },
    dictionary::Explained::Stages,
    multi_field::{Link, MultiField},
};

/// Smart invoices.
pub static SMART_INVOICES: Entity = Entity {
    name: "smart_invoices",
    singular: "smart_invoice",
    classic: None,
    item: Some(Item { entity_type_id: 31, names: &[] }),
    columns: COLUMNS,
    codes: &[
        ("STAGE_ID", Stages("SMART_INVOICE_STAGE")),
        ("PREVIOUS_STAGE_ID", Stages("SMART_INVOICE_STAGE")),
    ],
    multi_fields: &[
        MultiField::linked(
            "CONTACT_IDS",
            "smart_invoice_contacts",
            Link::primary("contact_id", "CONTACT_ID"),
        ),
        MultiField::linked("OBSERVERS", "smart_invoice_observers", Link::to("user_id")),
        MultiField::product_rows("SI", "smart_invoice_product_rows"),
    ],
};

static COLUMNS: &[Column] = &[
    column("ACCOUNT_NUMBER", "account_number", Text),
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
    column("COMMENTS", "comments", Text),
    column("MOVED_BY_ID", "moved_by_id", Reference),
    column("MOVED_TIME", "moved_time", Timestamp),
    column("SOURCE_ID", "source_id", Text),
    column("SOURCE_DESCRIPTION", "source_description", Text),
    column("LOCATION_ID", "location_id", Text),
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
