//! Contacts: every column that the vendor documents in `crm.contact.fields`, and what only
//! `crm.item.list` brings (vendor page `universal/object-fields`).

use super::{
    Classic, Entity, Item,
    column::{
        Column,
        ColumnType::{Date, File, Flag, Integer, Reference, Text, Timestamp},
        column,
    },
    dictionary::Explained,
    multi_field::{Link, MultiField},
};

/// Contacts. The classic list shows those of the category 0 only.
pub static CONTACTS: Entity = Entity {
    name: "contacts",
    singular: "contact",
    classic: Some(Classic {
        lacks: &["WEBFORM_ID"],
        implies: &[("CATEGORY_ID", 0)],
        ..Classic::described("crm.contact.list", "crm.contact.fields")
    }),
    item: Some(Item { entity_type_id: 3, names: &[] }),
    columns: COLUMNS,
    codes: &[("TYPE_ID", Explained::Directory("CONTACT_TYPE"))],
    multi_fields: &[
        MultiField::phones("contact_phones"),
        MultiField::emails("contact_emails"),
        MultiField::websites("contact_websites"),
        MultiField::messengers("contact_messengers"),
        MultiField::links("contact_links"),
        MultiField::linked(
            "COMPANY_IDS",
            "contact_companies",
            Link::primary("company_id", "COMPANY_ID"),
        ),
        MultiField::linked("OBSERVERS", "contact_observers", Link::to("user_id")),
    ],
};

static COLUMNS: &[Column] = &[
    column("HONORIFIC", "honorific", Text),
    column("NAME", "name", Text),
    column("SECOND_NAME", "second_name", Text),
    column("LAST_NAME", "last_name", Text),
    column("PHOTO", "photo_id", File),
    column("BIRTHDATE", "birthdate", Date),
    column("TYPE_ID", "type_id", Text),
    column("SOURCE_ID", "source_id", Text),
    column("SOURCE_DESCRIPTION", "source_description", Text),
    column("POST", "post", Text),
    column("ADDRESS", "address", Text),
    column("ADDRESS_2", "address_2", Text),
    column("ADDRESS_CITY", "address_city", Text),
    column("ADDRESS_POSTAL_CODE", "address_postal_code", Text),
    column("ADDRESS_REGION", "address_region", Text),
    column("ADDRESS_PROVINCE", "address_province", Text),
    column("ADDRESS_COUNTRY", "address_country", Text),
    column("ADDRESS_COUNTRY_CODE", "address_country_code", Text),
    column("ADDRESS_LOC_ADDR_ID", "address_loc_addr_id", Integer),
    column("COMMENTS", "comments", Text),
    column("OPENED", "opened", Flag),
    column("EXPORT", "export", Flag),
    column("HAS_PHONE", "has_phone", Flag),
    column("HAS_EMAIL", "has_email", Flag),
    column("HAS_IMOL", "has_imol", Flag),
    column("ASSIGNED_BY_ID", "assigned_by_id", Reference),
    column("CREATED_BY_ID", "created_by_id", Reference),
    column("MODIFY_BY_ID", "modify_by_id", Reference),
    column("DATE_CREATE", "date_create", Timestamp),
    column("DATE_MODIFY", "date_modify", Timestamp),
    column("COMPANY_ID", "company_id", Reference),
    column("LEAD_ID", "lead_id", Reference),
    column("ORIGINATOR_ID", "originator_id", Text),
    column("ORIGIN_ID", "origin_id", Text),
    column("ORIGIN_VERSION", "origin_version", Text),
    column("FACE_ID", "face_id", Integer),
    column("UTM_SOURCE", "utm_source", Text),
    column("UTM_MEDIUM", "utm_medium", Text),
    column("UTM_CAMPAIGN", "utm_campaign", Text),
    column("UTM_CONTENT", "utm_content", Text),
    column("UTM_TERM", "utm_term", Text),
    column("LAST_ACTIVITY_TIME", "last_activity_time", Timestamp),
    column("LAST_ACTIVITY_BY", "last_activity_by", Reference),
    column("LAST_COMMUNICATION_TIME", "last_communication_time", Text),
    column("CATEGORY_ID", "category_id", Integer),
    column("WEBFORM_ID", "webform_id", Reference),
];
