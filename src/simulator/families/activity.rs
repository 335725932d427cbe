//! What people do for a record: calls, mails, meetings, tasks.

use super::super::fields::{Content as C, Field, Type as T, field, read_only};

const OWNERS: [i64; 4] = [1, 2, 3, 4];
const TYPES: [i64; 5] = [1, 2, 3, 4, 6];
const THREE: [i64; 3] = [1, 2, 3];
const DIRECTIONS: [i64; 3] = [0, 1, 2];

/// Activities, by `crm.activity.list` only (vendor page `crm-activity-fields`). The lists
/// that have to be named to come (`COMMUNICATIONS`, `FILES`) are described and never come.
pub(in super::super) const ACTIVITY: &[Field] = &[
    read_only("ID", T::Integer, C::Id),
    activity("OWNER_ID", T::Integer, C::Owner),
    activity("OWNER_TYPE_ID", T::Enumerated("crm_enum_ownertype"), C::Among(&OWNERS)),
    activity("TYPE_ID", T::Enumerated("crm_enum_activitytype"), C::Among(&TYPES)),
    activity("PROVIDER_ID", T::Text, C::OneOf(&["VOXIMPLANT_CALL", "CRM_EMAIL", "CRM_TODO"])),
    activity("PROVIDER_TYPE_ID", T::Text, C::OneOf(&["CALL", "EMAIL", "TODO"])),
    activity("PROVIDER_GROUP_ID", T::Text, C::Rare),
    activity("ASSOCIATED_ENTITY_ID", T::Form, C::Counterpart),
    activity("SUBJECT", T::Text, C::Numbered("Звонок")),
    activity("CREATED", T::DateTime, C::Created),
    activity("LAST_UPDATED", T::DateTime, C::Modified),
    activity("START_TIME", T::DateTime, C::Instant),
    activity("END_TIME", T::DateTime, C::Instant),
    activity("DEADLINE", T::DateTime, C::Instant),
    activity("COMPLETED", T::Flag, C::Sometimes),
    activity("STATUS", T::Enumerated("crm_enum_activitystatus"), C::Among(&THREE)),
    activity("RESPONSIBLE_ID", T::User, C::Assigned),
    activity("PRIORITY", T::Enumerated("crm_enum_activitypriority"), C::Among(&THREE)),
    activity("NOTIFY_TYPE", T::Enumerated("crm_enum_activitynotifytype"), C::Small),
    activity("NOTIFY_VALUE", T::Integer, C::Small),
    activity("DESCRIPTION", T::Text, C::Comments),
    activity("DESCRIPTION_TYPE", T::Enumerated("crm_enum_contenttype"), C::Among(&THREE)),
    activity("DIRECTION", T::Enumerated("crm_enum_activitydirection"), C::Among(&DIRECTIONS)),
    activity("LOCATION", T::Text, C::Note),
    activity("ORIGINATOR_ID", T::Text, C::Origin),
    activity("ORIGIN_ID", T::Text, C::Origin),
    activity("ORIGIN_VERSION", T::Text, C::Rare),
    activity("AUTHOR_ID", T::User, C::Author),
    activity("EDITOR_ID", T::User, C::Editor),
    activity("PROVIDER_DATA", T::Text, C::Rare),
    activity("RESULT_MARK", T::Integer, C::Small),
    activity("RESULT_VALUE", T::Double, C::Money),
    activity("RESULT_SUM", T::Double, C::Money),
    activity("RESULT_CURRENCY_ID", T::Text, C::Rare),
    activity("RESULT_STATUS", T::Integer, C::Small),
    activity("RESULT_STREAM", T::Integer, C::Small),
    activity("RESULT_SOURCE_ID", T::Text, C::Rare),
    activity("AUTOCOMPLETE_RULE", T::Integer, C::Small),
    activity("IS_INCOMING_CHANNEL", T::Flag, C::Sometimes),
    activity("SETTINGS", T::Object, C::Addresses),
    activity("PROVIDER_PARAMS", T::Object, C::Addresses),
    activity("BINDINGS", T::Enumerated("crm_activity_binding"), C::Unlisted),
    activity("COMMUNICATIONS", T::Enumerated("crm_activity_communication"), C::Unlisted),
    activity("FILES", T::Enumerated("diskfile"), C::Unlisted),
];

const fn activity(name: &'static str, kind: T, content: C) -> Field {
    field(name, kind, content).classic_only()
}
