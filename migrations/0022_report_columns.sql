-- The views for people. What a column of theirs is called is decided once, from the field's
-- label at that time, and kept here for good: people's own queries are built upon it.
create table report_columns (
    entity     text not null,
    name       text not null,
    part       integer not null check (part > 0),
    position   integer generated always as identity,
    field      text not null,
    kind       text not null,
    multiple   boolean not null,
    -- What the names of this field begin with, so that a later type is called alike.
    base       text not null,
    first_seen timestamptz not null default now(),
    primary key (entity, name),
    unique (entity, field, kind, multiple)
);

comment on table report_columns is 'The columns that custom fields have in the report schema.';
comment on column report_columns.entity is 'contacts, leads and so on.';
comment on column report_columns.name is 'The column''s name; never changes.';
comment on column report_columns.part is 'Which of the views for custom fields it is in; 1 is contacts_custom, 2 contacts_custom_2.';
comment on column report_columns.position is 'The order in its view.';
comment on column report_columns.field is 'The portal''s name of the field.';
comment on column report_columns.kind is 'What the column holds of the field: text, number, amount, currency, option and others.';
comment on column report_columns.multiple is 'Whether it holds several values.';
comment on column report_columns.base is 'What the names of the field''s columns begin with.';
comment on column report_columns.first_seen is 'When the column was named, by this database''s clock.';

-- What was last made of each view, so that nothing is made again that is the same.
create table report_views (
    name          text primary key,
    definition    bigint,
    comments      bigint,
    applied_at    timestamptz,
    problem       text,
    problem_since timestamptz,
    check ((problem is null) = (problem_since is null))
);

comment on table report_views is 'The views of the report schema as b24mirror last made them.';
comment on column report_views.name is 'The view.';
comment on column report_views.definition is 'Fingerprint of its definition.';
comment on column report_views.comments is 'Fingerprint of its comments.';
comment on column report_views.applied_at is 'When it was last made, by this database''s clock.';
comment on column report_views.problem is 'Why it could not be brought up to date; null when it could.';
comment on column report_views.problem_since is 'Since when, by this database''s clock.';

-- How the views read custom fields. A value that is not what its field says (one from
-- before the field changed its type, for example) reads as NULL: a report never fails
-- because of one record. Hence a pattern before each cast; what passes it always casts.
-- Those that read one value are plain expressions, which the planner puts in place.

create function report_number(value text) returns numeric
    language sql immutable parallel safe
    return case
        when value ~ '^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,2})?\s*$' and length(value) < 200
        then value::numeric
    end;

create function report_flag(value text) returns boolean
    language sql immutable parallel safe
    return case lower(value)
        when 'true' then true when '1' then true when 'y' then true
        when 'false' then false when '0' then false when 'n' then false
    end;

-- A day of the calendar; the second branch is the leap days.
create function report_day(value text) returns date
    language sql stable parallel safe
    return case
        when value ~ '^(?!0000)(\d{4}-((0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)|(\d\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)([T ]|$)'
        then left(value, 10)::date
    end;

-- An instant, with the offset that makes it one.
create function report_time(value text) returns timestamptz
    language sql stable parallel safe
    return case
        when value ~ '^(?!0000)(\d{4}-((0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)|(\d\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?(Z|[-+](0\d|1[0-4]):?[0-5]\d)$'
        then value::timestamptz
    end;

create function report_amount(value text) returns numeric
    language sql immutable parallel safe
    return report_number(split_part(value, '|', 1));

create function report_currency(value text) returns text
    language sql immutable parallel safe
    return nullif(btrim(split_part(value, '|', 2)), '');

create function report_id(value text) returns bigint
    language sql immutable parallel safe
    return case when value ~ '^\d{1,18}$' then value::bigint end;

-- Several values are an array; a single one is left from when the field took only one.
-- These are calls and no expressions: as subqueries of a view they would be counted so
-- dear that the server compiles the query first, for a minute where fields are many.

-- Several values are an array; a single one is left from when the field took only one.
create function report_items(list jsonb) returns jsonb
    language sql immutable parallel safe
    return case when jsonb_typeof(list) = 'array' then list else jsonb_build_array(list) end;

-- Lists of what the field holds. These are calls and no expressions: the planner counts
-- subqueries in a view so dear that the server compiles the query first, which takes it a
-- minute where fields are many.

create function report_numbers(list jsonb) returns numeric[]
    language sql immutable strict parallel safe cost 1
    return array(
        select report_number(v) from jsonb_array_elements_text(report_items(list)) as v);

create function report_flags(list jsonb) returns boolean[]
    language sql immutable strict parallel safe cost 1
    return array(
        select report_flag(v) from jsonb_array_elements_text(report_items(list)) as v);

create function report_days(list jsonb) returns date[]
    language sql stable strict parallel safe cost 1
    return array(
        select report_day(v) from jsonb_array_elements_text(report_items(list)) as v);

create function report_times(list jsonb) returns timestamptz[]
    language sql stable strict parallel safe cost 1
    return array(
        select report_time(v) from jsonb_array_elements_text(report_items(list)) as v);

create function report_amounts(list jsonb) returns numeric[]
    language sql immutable strict parallel safe cost 1
    return array(
        select report_amount(v) from jsonb_array_elements_text(report_items(list)) as v);

create function report_currencies(list jsonb) returns text[]
    language sql immutable strict parallel safe cost 1
    return array(
        select report_currency(v) from jsonb_array_elements_text(report_items(list)) as v);

create function report_ids(list jsonb) returns bigint[]
    language sql immutable strict parallel safe cost 1
    return array(
        select report_id(v) from jsonb_array_elements_text(report_items(list)) as v);

create function report_texts(list jsonb) returns text[]
    language sql immutable strict parallel safe cost 1
    return array(select v from jsonb_array_elements_text(report_items(list)) as v);

-- A code that the dictionary lacks has no label.
create function report_labels(list jsonb, labels jsonb) returns text[]
    language sql immutable parallel safe cost 1
    return case when list is not null then array(
        select labels ->> v from jsonb_array_elements_text(report_items(list)) as v) end;

-- Where nothing but the label is shown, it stands for itself.
create function report_labels_or_codes(list jsonb, labels jsonb) returns text[]
    language sql immutable parallel safe cost 1
    return case when list is not null then array(
        select coalesce(labels ->> v, v)
        from jsonb_array_elements_text(report_items(list)) as v) end;

comment on function report_number(text) is 'The number that the text is, or NULL.';
comment on function report_flag(text) is 'The truth value that the text is, or NULL.';
comment on function report_day(text) is 'The day that the text is or begins with, or NULL.';
comment on function report_time(text) is 'The instant that the text is, or NULL.';
comment on function report_amount(text) is 'The amount of a sum of money such as 100|USD, or NULL.';
comment on function report_currency(text) is 'The currency of a sum of money such as 100|USD, or NULL.';
comment on function report_id(text) is 'The ID that the text is, or NULL.';
comment on function report_items(jsonb) is 'The list, or a list of the one value.';
comment on function report_numbers(jsonb) is 'The numbers of a list.';
comment on function report_flags(jsonb) is 'The truth values of a list.';
comment on function report_days(jsonb) is 'The days of a list.';
comment on function report_times(jsonb) is 'The instants of a list.';
comment on function report_amounts(jsonb) is 'The amounts of a list of sums of money.';
comment on function report_currencies(jsonb) is 'The currencies of a list of sums of money.';
comment on function report_ids(jsonb) is 'The IDs of a list.';
comment on function report_texts(jsonb) is 'The texts of a list.';
comment on function report_labels(jsonb, jsonb) is 'The labels of a list of codes.';
comment on function report_labels_or_codes(jsonb, jsonb) is 'The labels of a list of codes; a code without one stays.';
