-- A sweep finds what was deleted in the portal: it lists every ID and compares ranges of them
-- with the mirror. How far it has come is stored with what it found, so that a killed sweep
-- goes on where it was.
create table sweeps (
    entity        text primary key,
    -- The sweep under way; null when there is none.
    started_at    timestamptz,
    cursor_id     bigint not null default 0,
    listed        boolean not null default false,
    rows_listed   bigint not null default 0,
    asked_at      timestamptz,
    -- Due at once, whatever the schedule says.
    wanted        boolean not null default false,
    -- The last complete one.
    swept_from    timestamptz,
    swept_at      timestamptz,
    -- The last one that would have deleted more than it may unasked.
    refused_run   bigint,
    refused_from  timestamptz,
    refused_at    timestamptz,
    refused_why   text,
    check ((swept_at is null) = (swept_from is null)),
    check ((refused_run is null) = (refused_at is null)),
    check ((refused_run is null) = (refused_from is null)),
    check ((refused_run is null) = (refused_why is null))
);

comment on table sweeps is 'How far the search for deleted records has come, and how the last one ended.';
comment on column sweeps.entity is 'The entity''s name.';
comment on column sweeps.started_at is 'When the sweep under way began, by the database''s clock; null when there is none.';
comment on column sweeps.cursor_id is 'Everything up to this ID has been listed and compared.';
comment on column sweeps.listed is 'Whether the listing has come to its end; what is left is to confirm and to delete.';
comment on column sweeps.rows_listed is 'Records that the portal has listed so far.';
comment on column sweeps.asked_at is 'When the last stored answer was asked for, by the database''s clock.';
comment on column sweeps.wanted is 'Whether the next sweep is due at once, because another user''s webhook may see other records.';
comment on column sweeps.swept_from is 'When the last complete sweep began: what was deleted before is a tombstone.';
comment on column sweeps.swept_at is 'When the last complete sweep ended.';
comment on column sweeps.refused_run is 'The run that refused to delete so many records, until it is accepted or a later sweep is complete.';
comment on column sweeps.refused_from is 'When the refused sweep began.';
comment on column sweeps.refused_at is 'When it was refused.';
comment on column sweeps.refused_why is 'Why, and what to do about it.';

-- Here and not in the portal's list: not deleted yet, for a list may err.
create table sweep_candidates (
    entity       text not null,
    id           bigint not null,
    confirmed_at timestamptz,
    primary key (entity, id)
);

comment on table sweep_candidates is 'Records that the sweep under way did not find in the portal''s list.';
comment on column sweep_candidates.entity is 'The entity''s name.';
comment on column sweep_candidates.id is 'The record.';
comment on column sweep_candidates.confirmed_at is 'When the question was asked whose answer confirmed that it is gone.';

-- What a person may accept is exactly what was refused, whatever later sweeps find.
create table sweep_refusals (
    entity text not null,
    run    bigint not null,
    id     bigint not null,
    primary key (entity, run, id)
);

comment on table sweep_refusals is 'Records that a sweep would have deleted, had they not been so many.';
comment on column sweep_refusals.entity is 'The entity''s name.';
comment on column sweep_refusals.run is 'The run that refused, as in sync_runs.';
comment on column sweep_refusals.id is 'The record.';
