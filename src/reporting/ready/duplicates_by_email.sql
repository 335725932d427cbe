with held as (
    -- In the order of the index, so that nothing has to be sorted or hashed. Where addresses are
    -- stored as their hashes, equal ones still are.
    select * from (
        (select address, contact_id, null::bigint as lead_id
            from {data}.contact_emails where (address like '%@%' or address ~ '^[0-9a-f]{32}$') order by 1)
        union all
        (select address, null, lead_id
            from {data}.lead_emails where (address like '%@%' or address ~ '^[0-9a-f]{32}$') order by 1)
    ) as ordered
    order by address offset 0
),
-- Collecting the holders of a million addresses that have one each would take longer than all the
-- rest. What is asked here costs little, and it names both holders where one contact and one lead
-- share an address, as most do that share one.
shared as materialized (
    select address, min(contact_id) as contact_id, min(lead_id) as lead_id,
        count(*) = 2 and min(contact_id) is not null and min(lead_id) is not null as is_pair
    from held
    group by address
    having count(*) > 1
),
-- Few, so that looking up who holds them costs little as well.
crowds as materialized (
    select address, contact_id is not null as by_contacts, lead_id is not null as by_leads
    from shared
    where not is_pair
),
contacts_in_crowds as materialized (
    select s.address, e.contact_id
    from crowds s
    join {data}.contact_emails e on e.address = s.address
    where s.by_contacts
),
leads_in_crowds as (
    select s.address, e.lead_id
    from crowds s
    join {data}.lead_emails e on e.address = s.address
    where s.by_leads
),
gone_contacts as (select id from {data}.contacts where deleted_at is not null),
-- Leads that may have to be left out: those that belong to a contact, and those that are deleted,
-- with a null in its place.
known_leads as (
    select id, contact_id from {data}.leads where contact_id is not null and deleted_at is null
    union all
    select id, null from {data}.leads where deleted_at is not null
),
-- The planner takes all of these for a handful, and would compare every holder with every deleted
-- record. It cannot do so for a full join, and offset 0 hides that half of each is dropped.
living_contacts as (
    select address, contact_id
    from (
        select c.address, c.contact_id, gone.id as gone_id
        from contacts_in_crowds c
        full join gone_contacts gone on gone.id = c.contact_id
        offset 0
    ) as joined
    where address is not null and gone_id is null
),
living_leads as (
    select address, lead_id, linked_id
    from (
        select l.address, l.lead_id, known.id as known_id, known.contact_id as linked_id
        from leads_in_crowds l
        full join known_leads known on known.id = l.lead_id
        offset 0
    ) as joined
    where address is not null and (known_id is null or linked_id is not null)
),
-- The portal knows already that a lead is its contact.
unlinked_leads as (
    select address, lead_id
    from (
        select l.address, l.lead_id, c.contact_id
        from living_leads l
        full join contacts_in_crowds c on c.address = l.address and c.contact_id = l.linked_id
        offset 0
    ) as joined
    where lead_id is not null and contact_id is null
),
unlinked_pairs as (
    select address, contact_id, lead_id
    from (
        select s.address, s.contact_id, s.lead_id, known.id as known_id,
            known.contact_id as linked_id
        from (select address, contact_id, lead_id from shared where is_pair) as s
        full join known_leads known on known.id = s.lead_id
        offset 0
    ) as joined
    where address is not null and (known_id is null or linked_id <> contact_id)
),
living_pairs as (
    select address, contact_id, lead_id
    from (
        select p.address, p.contact_id, p.lead_id, gone.id as gone_id
        from unlinked_pairs p
        full join gone_contacts gone on gone.id = p.contact_id
        offset 0
    ) as joined
    where address is not null and gone_id is null
),
-- In the order of the answer: an aggregate that has to sort does so anew for every address.
holders as (
    select distinct address, contact_id, lead_id
    from (
        select address, contact_id, null::bigint as lead_id from living_contacts
        union all
        select address, null, lead_id from unlinked_leads
    ) as living
    order by address, contact_id, lead_id
),
found as (
    select
        address,
        count(*) as records,
        count(contact_id) as contacts,
        count(lead_id) as leads,
        (array_agg(contact_id) filter (where contact_id is not null))[1:20] as contact_ids,
        (array_agg(lead_id) filter (where lead_id is not null))[1:20] as lead_ids,
        count(*) > 10 as probably_an_office
    from holders
    group by address
    having count(*) > 1
    union all
    select address, 2, 1, 1, array[contact_id], array[lead_id], false
    from living_pairs
)
select
    f.address,
    f.records,
    f.contacts,
    f.leads,
    f.contact_ids,
    f.lead_ids,
    f.probably_an_office,
    -- Looked up only where they are asked for, and only for the few that are shown.
    case when f.contact_ids is not null then array(
        select coalesce(nullif(btrim(concat_ws(' ', c.name, c.second_name, c.last_name)), ''),
            one.id::text)
        from unnest(f.contact_ids) with ordinality as one (id, place)
        left join {data}.contacts c on c.id = one.id
        order by one.place
    ) end as contact_names,
    case when f.lead_ids is not null then array(
        select coalesce(l.title, nullif(btrim(concat_ws(' ', l.name, l.second_name, l.last_name)),
            ''), one.id::text)
        from unnest(f.lead_ids) with ordinality as one (id, place)
        left join {data}.leads l on l.id = one.id
        order by one.place
    ) end as lead_names
from found f
