-- The mail address book of the webhook's user. The portal says neither when an entry was changed
-- nor what was removed, so it is read as a whole each time; an entry becomes a tombstone when two
-- complete readings in a row did not show it.
create table mail_recipients (
    id            bigint primary key,
    email         text,
    name          text,
    custom_fields jsonb not null,
    content_hash  bigint not null,
    synced_at     timestamptz not null,
    deleted_at    timestamptz,
    -- As in contact_emails and lead_emails, so that the three can be joined.
    address       text generated always as
        (left(lower(btrim(email, E' \t\r\n')), 320)) stored
);
create index mail_recipients_address on mail_recipients (address);

comment on table mail_recipients is
    'The mail address book of the webhook''s user, tombstones included: filter on deleted_at is null.';
comment on column mail_recipients.id is 'The portal''s ID.';
comment on column mail_recipients.email is 'The address, as it was typed.';
comment on column mail_recipients.name is 'The name; often empty.';
comment on column mail_recipients.custom_fields is
    'Every field that has no column, by its portal name.';
comment on column mail_recipients.content_hash is
    'Fingerprint of the record and its quarantined values; b24mirror compares by it.';
comment on column mail_recipients.synced_at is
    'When this version was asked for, by this database''s clock. Does not move when nothing changed.';
comment on column mail_recipients.deleted_at is
    'When its removal was confirmed, by this database''s clock; null while the portal has it.';
comment on column mail_recipients.address is
    'email without surrounding space, in lower case, at most 320 characters.';

-- Its history is kept as those of records are.
create table mail_recipient_changes (
    id                bigint generated always as identity primary key,
    mail_recipient_id bigint not null,
    kind              text not null check (kind in ('created', 'changed', 'deleted', 'revived')),
    field             text,
    value_id          bigint,
    old_value         text,
    new_value         text,
    seen_at           timestamptz not null,
    date_modify       timestamptz,
    modify_by_id      bigint,
    check ((kind = 'changed') = (field is not null))
);
create index mail_recipient_changes_recipient on mail_recipient_changes (mail_recipient_id, seen_at);
create index mail_recipient_changes_seen on mail_recipient_changes (seen_at);

comment on table mail_recipient_changes is
    'What changed in the mail address book, one line per field; only with `history = true` for '
    'mail_recipients.';
comment on column mail_recipient_changes.id is 'Lines of one entry are in the order of this number.';
comment on column mail_recipient_changes.mail_recipient_id is 'The entry.';
comment on column mail_recipient_changes.kind is
    'created: seen for the first time, by other means than a backfill. changed: one field. '
    'deleted: gone in the portal. revived: there again after it was deleted.';
comment on column mail_recipient_changes.field is
    'The portal''s name of the field that changed, in capitals; null unless the kind is changed.';
comment on column mail_recipient_changes.value_id is 'Always null: entries have no lists of values.';
comment on column mail_recipient_changes.old_value is 'Before, as text. Null: it was empty.';
comment on column mail_recipient_changes.new_value is 'Afterwards, likewise.';
comment on column mail_recipient_changes.seen_at is
    'When the portal was asked, by this database''s clock: synced_at or deleted_at of the version that it made.';
comment on column mail_recipient_changes.date_modify is 'Always null: the portal does not say when an entry was changed.';
comment on column mail_recipient_changes.modify_by_id is 'Always null: the portal does not say who changed it.';
