with weeks as (
    select generate_series(
        date_trunc('week', min(date_create) at time zone {zone}),
        date_trunc('week', now() at time zone {zone}), interval '7 days') as week
    from {data}.contacts
    where deleted_at is null
),
counted as (
    select week::date as week,
        -- Counted in the index, so that nobody has to tell the week of every record.
        (select count(*) from {data}.contacts
            where deleted_at is null
                and date_create >= week at time zone {zone}
                and date_create < (week + interval '7 days') at time zone {zone}) as new_contacts
    from weeks
)
select
    week,
    new_contacts,
    sum(new_contacts) over (order by week)::bigint as contacts_so_far
from counted
order by week
