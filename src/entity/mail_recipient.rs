//! The mail address book of the webhook's user: `mail.recipient.listcontacts`.

use super::{
    Classic, Entity,
    column::{Column, ColumnType::Text, column},
};

/// Recipients as `mail.recipient.listcontacts` returns them, with the names of their fields in
/// capitals as the classic lists have them.
pub static MAIL_RECIPIENTS: Entity = Entity {
    name: "mail_recipients",
    singular: "mail_recipient",
    classic: Some(Classic::described("mail.recipient.listcontacts", "mail.recipient.field.list")),
    item: None,
    columns: COLUMNS,
    codes: &[],
    multi_fields: &[],
};

static COLUMNS: &[Column] = &[column("EMAIL", "email", Text), column("NAME", "name", Text)];
