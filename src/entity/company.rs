//! Companies: every field that the vendor lists for them on its page `universal/object-fields`,
//! under the names of the classic methods where those have the field.

use super::{
    Entity, Item,
    column::{
        Column,
        ColumnType::{Decimal, File, Flag, Integer, Reference, Text, Timestamp},
        column,
    },
    dictionary::Explained::Directory,
    multi_field::{Link, MultiField},
};

/// Companies.
pub static COMPANIES: Entity = Entity {
    name: "companies",
    singular: "company",
    classic: None,
    item: Some(Item { entity_type_id: 4, names: &[("COMPANY_TYPE", "typeId")] }),
    columns: COLUMNS,
    codes: &[
        ("COMPANY_TYPE", Directory("COMPANY_TYPE")),
        ("INDUSTRY", Directory("INDUSTRY")),
        ("EMPLOYEES", Directory("EMPLOYEES")),
    ],
    multi_fields: &[
        MultiField::phones("company_phones"),
        MultiField::emails("company_emails"),
        MultiField::websites("company_websites"),
        MultiField::messengers("company_messengers"),
        MultiField::links("company_links"),
        MultiField::linked("CONTACT_IDS", "company_contacts", Link::to("contact_id")),
        MultiField::linked("OBSERVERS", "company_observers", Link::to("user_id")),
    ],
};

static COLUMNS: &[Column] = &[
    column("TITLE", "title", Text),
    column("COMPANY_TYPE", "company_type", Text),
    column("LOGO", "logo_id", File),
    column("CATEGORY_ID", "category_id", Integer),
    column("INDUSTRY", "industry", Text),
    column("EMPLOYEES", "employees", Text),
    column("CURRENCY_ID", "currency_id", Text),
    column("REVENUE", "revenue", Decimal),
    column("ADDRESS_LEGAL", "address_legal", Text),
    column("BANKING_DETAILS", "banking_details", Text),
    column("COMMENTS", "comments", Text),
    column("IS_MY_COMPANY", "is_my_company", Flag),
    column("LEAD_ID", "lead_id", Reference),
    column("HAS_PHONE", "has_phone", Flag),
    column("HAS_EMAIL", "has_email", Flag),
    column("HAS_IMOL", "has_imol", Flag),
    column("ORIGINATOR_ID", "originator_id", Text),
    column("ORIGIN_ID", "origin_id", Text),
    column("ORIGIN_VERSION", "origin_version", Text),
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
