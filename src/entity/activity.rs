//! Activities: what people do for a record, such as calls, e-mails, meetings and tasks. Every
//! field that the vendor lists on its page `crm-activity-fields`. The objects among them stand
//! with the user fields; what a list brings only when it is named (communications, files) and
//! what other methods bring (bindings) is not read.

use super::{
    Classic, Entity,
    column::{
        Column,
        ColumnType::{Decimal, Flag, Integer, Reference, Text, Timestamp},
        column,
    },
    dictionary::Explained::{Currency, User},
};

/// Activities.
pub static ACTIVITIES: Entity = Entity {
    name: "activities",
    singular: "activity",
    classic: Some(Classic {
        modified: "LAST_UPDATED",
        // An e-mail's addresses are among the settings.
        objects: &["SETTINGS", "PROVIDER_PARAMS"],
        ..Classic::described("crm.activity.list", "crm.activity.fields")
    }),
    item: None,
    columns: COLUMNS,
    codes: &[
        ("RESPONSIBLE_ID", User),
        ("AUTHOR_ID", User),
        ("EDITOR_ID", User),
        ("RESULT_CURRENCY_ID", Currency),
    ],
    multi_fields: &[],
};

static COLUMNS: &[Column] = &[
    column("OWNER_TYPE_ID", "owner_type_id", Integer),
    column("OWNER_ID", "owner_id", Reference),
    column("TYPE_ID", "type_id", Integer),
    column("PROVIDER_ID", "provider_id", Text),
    column("PROVIDER_TYPE_ID", "provider_type_id", Text),
    column("PROVIDER_GROUP_ID", "provider_group_id", Text),
    column("ASSOCIATED_ENTITY_ID", "associated_entity_id", Reference),
    column("SUBJECT", "subject", Text),
    column("DESCRIPTION", "description", Text),
    column("DESCRIPTION_TYPE", "description_type", Integer),
    column("DIRECTION", "direction", Integer),
    column("START_TIME", "start_time", Timestamp),
    column("END_TIME", "end_time", Timestamp),
    column("DEADLINE", "deadline", Timestamp),
    column("COMPLETED", "completed", Flag),
    column("STATUS", "status", Integer),
    column("PRIORITY", "priority", Integer),
    column("NOTIFY_TYPE", "notify_type", Integer),
    column("NOTIFY_VALUE", "notify_value", Integer),
    column("LOCATION", "location", Text),
    column("RESPONSIBLE_ID", "responsible_id", Reference),
    column("AUTHOR_ID", "author_id", Reference),
    column("EDITOR_ID", "editor_id", Reference),
    column("CREATED", "created", Timestamp),
    column("LAST_UPDATED", "last_updated", Timestamp),
    column("IS_INCOMING_CHANNEL", "is_incoming_channel", Flag),
    column("PROVIDER_DATA", "provider_data", Text),
    column("RESULT_MARK", "result_mark", Integer),
    column("RESULT_VALUE", "result_value", Decimal),
    column("RESULT_SUM", "result_sum", Decimal),
    column("RESULT_CURRENCY_ID", "result_currency_id", Text),
    column("RESULT_STATUS", "result_status", Integer),
    column("RESULT_STREAM", "result_stream", Integer),
    column("RESULT_SOURCE_ID", "result_source_id", Text),
    column("AUTOCOMPLETE_RULE", "autocomplete_rule", Integer),
    column("ORIGINATOR_ID", "originator_id", Text),
    column("ORIGIN_ID", "origin_id", Text),
    column("ORIGIN_VERSION", "origin_version", Text),
];
