with contacts as (
    select id, birthdate, date_create, date_modify from {data}.contacts
    where deleted_at is null and (
        birthdate < date '1900-01-01'
        or birthdate > (date_create at time zone 'UTC')::date + 1
        or date_modify < date_create)
    union
    select id, birthdate, date_create, date_modify from {data}.contacts
    where deleted_at is null and date_create > now() + interval '1 day'
    union
    select id, birthdate, date_create, date_modify from {data}.contacts
    where deleted_at is null and date_modify > now() + interval '1 day'
),
leads as (
    select id, birthdate, date_create, date_modify, date_closed, moved_time from {data}.leads
    where deleted_at is null and (
        birthdate < date '1900-01-01'
        or birthdate > (date_create at time zone 'UTC')::date + 1
        or date_modify < date_create
        or date_closed < date_create
        or moved_time < date_create
        or greatest(date_create, date_modify, date_closed, moved_time) > now() + interval '1 day')
),
records as (
    select 'contacts' as entity, id, birthdate, date_create, date_modify,
        null::timestamptz as date_closed, null::timestamptz as moved_time
    from contacts
    union all
    select 'leads', id, birthdate, date_create, date_modify, date_closed, moved_time from leads
)
select
    r.entity,
    r.id,
    found.field,
    found.problem,
    found.value,
    r.date_create
from records r,
    lateral (values
        ('birthdate', 'before 1900', r.birthdate::timestamp, r.birthdate < date '1900-01-01'),
        ('birthdate', 'after the record was created', r.birthdate::timestamp,
            r.birthdate > (r.date_create at time zone 'UTC')::date + 1),
        ('date_create', 'in the future', r.date_create at time zone {zone},
            r.date_create > now() + interval '1 day'),
        ('date_modify', 'in the future', r.date_modify at time zone {zone},
            r.date_modify > now() + interval '1 day'),
        ('date_closed', 'in the future', r.date_closed at time zone {zone},
            r.date_closed > now() + interval '1 day'),
        ('moved_time', 'in the future', r.moved_time at time zone {zone},
            r.moved_time > now() + interval '1 day'),
        ('date_modify', 'before the record was created', r.date_modify at time zone {zone},
            r.date_modify < r.date_create),
        ('date_closed', 'before the record was created', r.date_closed at time zone {zone},
            r.date_closed < r.date_create),
        ('moved_time', 'before the record was created', r.moved_time at time zone {zone},
            r.moved_time < r.date_create)
    ) as found (field, problem, value, is_so)
where found.is_so
order by r.entity, r.id, found.field
