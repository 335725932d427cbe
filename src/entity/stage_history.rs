//! Stage histories: every step of a lead, a deal or a smart invoice through its stages, as the
//! vendor's page `crm-stage-history-list` has them.
//!
//! One method lists all of them, told apart by `entityTypeId`, and nothing describes its fields.
//! A step never changes, so the time when it was made stands where others have the time of
//! their modification. The steps of a deleted record go with it, which the sweep finds.

use super::{
    Classic, Column, Entity,
    column::{
        ColumnType::{Integer, Reference, Text, Timestamp},
        column,
    },
    dictionary::Explained::{Directory, Stages},
};

/// The steps of leads.
pub static LEAD_STAGE_HISTORY: Entity = Entity {
    name: "lead_stage_history",
    singular: "lead_stage_step",
    classic: Some(steps_of(1)),
    item: None,
    columns: &[
        column("TYPE_ID", "type_id", Integer),
        column("OWNER_ID", "lead_id", Reference),
        column("CREATED_TIME", "created_time", Timestamp),
        column("STATUS_SEMANTIC_ID", "status_semantic_id", Text),
        column("STATUS_ID", "status_id", Text),
    ],
    codes: &[("STATUS_ID", Directory("STATUS"))],
    multi_fields: &[],
};

/// The steps of deals.
pub static DEAL_STAGE_HISTORY: Entity = Entity {
    name: "deal_stage_history",
    singular: "deal_stage_step",
    classic: Some(steps_of(2)),
    item: None,
    columns: &in_pipelines("deal_id"),
    codes: &[("STAGE_ID", Stages("DEAL_STAGE"))],
    multi_fields: &[],
};

/// The steps of smart invoices.
pub static SMART_INVOICE_STAGE_HISTORY: Entity = Entity {
    name: "smart_invoice_stage_history",
    singular: "smart_invoice_stage_step",
    classic: Some(steps_of(31)),
    item: None,
    columns: &in_pipelines("smart_invoice_id"),
    codes: &[("STAGE_ID", Stages("SMART_INVOICE_STAGE"))],
    multi_fields: &[],
};

/// The columns of steps through pipelines; what the record is called differs.
const fn in_pipelines(owner: &'static str) -> [Column; 6] {
    [
        column("TYPE_ID", "type_id", Integer),
        column("OWNER_ID", owner, Reference),
        column("CREATED_TIME", "created_time", Timestamp),
        column("CATEGORY_ID", "category_id", Integer),
        column("STAGE_SEMANTIC_ID", "stage_semantic_id", Text),
        column("STAGE_ID", "stage_id", Text),
    ]
}

/// The list of the steps of what has this `entityTypeId`.
const fn steps_of(entity_type_id: u32) -> Classic {
    Classic {
        list: "crm.stagehistory.list",
        entity_type_id: Some(entity_type_id),
        in_items: true,
        fields: None,
        modified: "CREATED_TIME",
        lacks: &[],
        implies: &[],
        objects: &[],
    }
}
