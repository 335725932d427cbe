-- Stage histories, as crm.stagehistory.list brings them. A step never changes, so created_time
-- stands where other tables have date_modify. No foreign keys to the records: each entity is
-- mirrored on its own.

create table lead_stage_history (
    id                 bigint primary key,
    type_id            bigint,
    lead_id            bigint,
    created_time       timestamptz,
    status_semantic_id text,
    status_id          text,
    custom_fields      jsonb not null default '{}',
    content_hash       bigint not null,
    synced_at          timestamptz not null,
    deleted_at         timestamptz
);

create table lead_stage_step_changes (
    id                 bigint generated always as identity primary key,
    lead_stage_step_id bigint not null,
    kind               text not null check (kind in ('created', 'changed', 'deleted', 'revived')),
    field              text,
    value_id           bigint,
    old_value          text,
    new_value          text,
    seen_at            timestamptz not null,
    date_modify        timestamptz,
    modify_by_id       bigint,
    old_is_hash        boolean not null default false,
    new_is_hash        boolean not null default false,
    check ((kind = 'changed') = (field is not null))
);
create index lead_stage_step_changes_step on lead_stage_step_changes (lead_stage_step_id, seen_at);
create index lead_stage_step_changes_seen on lead_stage_step_changes (seen_at);

comment on table lead_stage_history is
    'One row per step of a lead through its stages, tombstones included: filter on deleted_at is null.';
comment on column lead_stage_history.id is
    'The portal''s ID of the step; later steps have higher ones.';
comment on column lead_stage_history.type_id is
    '1 creation, 2 to a stage on the way, 3 to a final stage, 5 to another pipeline.';
comment on column lead_stage_history.lead_id is 'The lead.';
comment on column lead_stage_history.created_time is 'When it came to the stage.';
comment on column lead_stage_history.status_semantic_id is
    'What the stage means: P on the way, S success, F failure.';
comment on column lead_stage_history.status_id is 'The stage that it came to.';
comment on column lead_stage_history.custom_fields is
    'Every field that has no column, by its portal name.';
comment on column lead_stage_history.content_hash is
    'Fingerprint of the step and its quarantined values; b24mirror compares by it.';
comment on column lead_stage_history.synced_at is
    'When this version was asked for, by this database''s clock. Does not move when nothing changed.';
comment on column lead_stage_history.deleted_at is
    'When it was confirmed to be gone, as with its lead, by this database''s clock; null while the portal has it.';

comment on table lead_stage_step_changes is
    'When steps of leads came and went; only with `history = true` for lead_stage_history.';
comment on column lead_stage_step_changes.id is 'Lines of one step are in the order of this number.';
comment on column lead_stage_step_changes.lead_stage_step_id is 'The step.';
comment on column lead_stage_step_changes.kind is
    'created: seen for the first time, by other means than a backfill. changed: one field, which no portal is known to do. deleted: gone in the portal. revived: there again after it was deleted.';
comment on column lead_stage_step_changes.field is
    'The portal''s name of the field that changed. Null unless the kind is changed.';
comment on column lead_stage_step_changes.value_id is 'Always null: steps have no lists of values.';
comment on column lead_stage_step_changes.old_value is 'What it was; null for nothing.';
comment on column lead_stage_step_changes.new_value is 'What it is; null for nothing.';
comment on column lead_stage_step_changes.seen_at is
    'When the answer that shows it was asked for, by this database''s clock.';
comment on column lead_stage_step_changes.date_modify is 'When the step was made, as it says itself.';
comment on column lead_stage_step_changes.modify_by_id is
    'Always null: the portal does not say who made the step.';
comment on column lead_stage_step_changes.old_is_hash is
    'Whether old_value is a hash, because the field was in hash_fields.';
comment on column lead_stage_step_changes.new_is_hash is
    'Whether new_value is a hash, because the field was in hash_fields.';

create table deal_stage_history (
    id                bigint primary key,
    type_id           bigint,
    deal_id           bigint,
    created_time      timestamptz,
    category_id       bigint,
    stage_semantic_id text,
    stage_id          text,
    custom_fields     jsonb not null default '{}',
    content_hash      bigint not null,
    synced_at         timestamptz not null,
    deleted_at        timestamptz
);

create table deal_stage_step_changes (
    id                 bigint generated always as identity primary key,
    deal_stage_step_id bigint not null,
    kind               text not null check (kind in ('created', 'changed', 'deleted', 'revived')),
    field              text,
    value_id           bigint,
    old_value          text,
    new_value          text,
    seen_at            timestamptz not null,
    date_modify        timestamptz,
    modify_by_id       bigint,
    old_is_hash        boolean not null default false,
    new_is_hash        boolean not null default false,
    check ((kind = 'changed') = (field is not null))
);
create index deal_stage_step_changes_step on deal_stage_step_changes (deal_stage_step_id, seen_at);
create index deal_stage_step_changes_seen on deal_stage_step_changes (seen_at);

comment on table deal_stage_history is
    'One row per step of a deal through its stages, tombstones included: filter on deleted_at is null.';
comment on column deal_stage_history.id is
    'The portal''s ID of the step; later steps have higher ones.';
comment on column deal_stage_history.type_id is
    '1 creation, 2 to a stage on the way, 3 to a final stage, 5 to another pipeline.';
comment on column deal_stage_history.deal_id is 'The deal.';
comment on column deal_stage_history.created_time is 'When it came to the stage.';
comment on column deal_stage_history.category_id is 'The pipeline that the stage belongs to.';
comment on column deal_stage_history.stage_semantic_id is
    'What the stage means: P on the way, S success, F failure.';
comment on column deal_stage_history.stage_id is 'The stage that it came to.';
comment on column deal_stage_history.custom_fields is
    'Every field that has no column, by its portal name.';
comment on column deal_stage_history.content_hash is
    'Fingerprint of the step and its quarantined values; b24mirror compares by it.';
comment on column deal_stage_history.synced_at is
    'When this version was asked for, by this database''s clock. Does not move when nothing changed.';
comment on column deal_stage_history.deleted_at is
    'When it was confirmed to be gone, as with its deal, by this database''s clock; null while the portal has it.';

comment on table deal_stage_step_changes is
    'When steps of deals came and went; only with `history = true` for deal_stage_history.';
comment on column deal_stage_step_changes.id is 'Lines of one step are in the order of this number.';
comment on column deal_stage_step_changes.deal_stage_step_id is 'The step.';
comment on column deal_stage_step_changes.kind is
    'created: seen for the first time, by other means than a backfill. changed: one field, which no portal is known to do. deleted: gone in the portal. revived: there again after it was deleted.';
comment on column deal_stage_step_changes.field is
    'The portal''s name of the field that changed. Null unless the kind is changed.';
comment on column deal_stage_step_changes.value_id is 'Always null: steps have no lists of values.';
comment on column deal_stage_step_changes.old_value is 'What it was; null for nothing.';
comment on column deal_stage_step_changes.new_value is 'What it is; null for nothing.';
comment on column deal_stage_step_changes.seen_at is
    'When the answer that shows it was asked for, by this database''s clock.';
comment on column deal_stage_step_changes.date_modify is 'When the step was made, as it says itself.';
comment on column deal_stage_step_changes.modify_by_id is
    'Always null: the portal does not say who made the step.';
comment on column deal_stage_step_changes.old_is_hash is
    'Whether old_value is a hash, because the field was in hash_fields.';
comment on column deal_stage_step_changes.new_is_hash is
    'Whether new_value is a hash, because the field was in hash_fields.';

create table smart_invoice_stage_history (
    id                bigint primary key,
    type_id           bigint,
    smart_invoice_id  bigint,
    created_time      timestamptz,
    category_id       bigint,
    stage_semantic_id text,
    stage_id          text,
    custom_fields     jsonb not null default '{}',
    content_hash      bigint not null,
    synced_at         timestamptz not null,
    deleted_at        timestamptz
);

create table smart_invoice_stage_step_changes (
    id                          bigint generated always as identity primary key,
    smart_invoice_stage_step_id bigint not null,
    kind                        text not null check (kind in ('created', 'changed', 'deleted', 'revived')),
    field                       text,
    value_id                    bigint,
    old_value                   text,
    new_value                   text,
    seen_at                     timestamptz not null,
    date_modify                 timestamptz,
    modify_by_id                bigint,
    old_is_hash                 boolean not null default false,
    new_is_hash                 boolean not null default false,
    check ((kind = 'changed') = (field is not null))
);
create index smart_invoice_stage_step_changes_step on smart_invoice_stage_step_changes (smart_invoice_stage_step_id, seen_at);
create index smart_invoice_stage_step_changes_seen on smart_invoice_stage_step_changes (seen_at);

comment on table smart_invoice_stage_history is
    'One row per step of a smart invoice through its stages, tombstones included: filter on deleted_at is null.';
comment on column smart_invoice_stage_history.id is
    'The portal''s ID of the step; later steps have higher ones.';
comment on column smart_invoice_stage_history.type_id is
    '1 creation, 2 to a stage on the way, 3 to a final stage, 5 to another pipeline.';
comment on column smart_invoice_stage_history.smart_invoice_id is 'The smart invoice.';
comment on column smart_invoice_stage_history.created_time is 'When it came to the stage.';
comment on column smart_invoice_stage_history.category_id is 'The pipeline that the stage belongs to.';
comment on column smart_invoice_stage_history.stage_semantic_id is
    'What the stage means: P on the way, S success, F failure.';
comment on column smart_invoice_stage_history.stage_id is 'The stage that it came to.';
comment on column smart_invoice_stage_history.custom_fields is
    'Every field that has no column, by its portal name.';
comment on column smart_invoice_stage_history.content_hash is
    'Fingerprint of the step and its quarantined values; b24mirror compares by it.';
comment on column smart_invoice_stage_history.synced_at is
    'When this version was asked for, by this database''s clock. Does not move when nothing changed.';
comment on column smart_invoice_stage_history.deleted_at is
    'When it was confirmed to be gone, as with its smart invoice, by this database''s clock; null while the portal has it.';

comment on table smart_invoice_stage_step_changes is
    'When steps of smart invoices came and went; only with `history = true` for smart_invoice_stage_history.';
comment on column smart_invoice_stage_step_changes.id is 'Lines of one step are in the order of this number.';
comment on column smart_invoice_stage_step_changes.smart_invoice_stage_step_id is 'The step.';
comment on column smart_invoice_stage_step_changes.kind is
    'created: seen for the first time, by other means than a backfill. changed: one field, which no portal is known to do. deleted: gone in the portal. revived: there again after it was deleted.';
comment on column smart_invoice_stage_step_changes.field is
    'The portal''s name of the field that changed. Null unless the kind is changed.';
comment on column smart_invoice_stage_step_changes.value_id is 'Always null: steps have no lists of values.';
comment on column smart_invoice_stage_step_changes.old_value is 'What it was; null for nothing.';
comment on column smart_invoice_stage_step_changes.new_value is 'What it is; null for nothing.';
comment on column smart_invoice_stage_step_changes.seen_at is
    'When the answer that shows it was asked for, by this database''s clock.';
comment on column smart_invoice_stage_step_changes.date_modify is 'When the step was made, as it says itself.';
comment on column smart_invoice_stage_step_changes.modify_by_id is
    'Always null: the portal does not say who made the step.';
comment on column smart_invoice_stage_step_changes.old_is_hash is
    'Whether old_value is a hash, because the field was in hash_fields.';
comment on column smart_invoice_stage_step_changes.new_is_hash is
    'Whether new_value is a hash, because the field was in hash_fields.';
