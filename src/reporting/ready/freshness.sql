select
    e.entity,
    c.completed_at as last_complete_cycle,
    extract(epoch from clock_timestamp() - c.completed_at)::bigint as lag_seconds,
    case e.entity
        when 'contacts' then
            (select max(date_modify) from {data}.contacts where deleted_at is null)
        when 'leads' then
            (select max(date_modify) from {data}.leads where deleted_at is null)
        when 'companies' then
            (select max(date_modify) from {data}.companies where deleted_at is null)
        when 'deals' then
            (select max(date_modify) from {data}.deals where deleted_at is null)
        when 'quotes' then
            (select max(date_modify) from {data}.quotes where deleted_at is null)
        when 'smart_invoices' then
            (select max(date_modify) from {data}.smart_invoices where deleted_at is null)
        when 'lead_stage_history' then
            (select max(created_time) from {data}.lead_stage_history
            where deleted_at is null)
        when 'deal_stage_history' then
            (select max(created_time) from {data}.deal_stage_history
            where deleted_at is null)
        when 'smart_invoice_stage_history' then
            (select max(created_time) from {data}.smart_invoice_stage_history
            where deleted_at is null)
        when 'activities' then
            (select max(last_updated) from {data}.activities where deleted_at is null)
        else
            (select max(s.date_modify) from {data}.smart_items s
                where s.entity_type_id = substring(e.entity from '^smart_items_([0-9]+)$')::bigint
                    and s.deleted_at is null)
    end as last_change,
    changed.finished_at as last_written,
    last.kind as last_run,
    last.finished_at as last_run_at,
    last.verdict as last_verdict,
    case
        when not switch.enabled then 'switched off'
        when c.entity is null then 'never read'
        else coalesce(health.state, 'active')
    end as state,
    case when switch.enabled is distinct from false then health.reason end as reason,
    exists (select from {data}.sync_pauses p where p.entity = e.entity) as paused,
    exists (select from {data}.backfill_segments s where s.entity = e.entity and not s.done)
        as filling,
    sweep.swept_from as deletions_known_until,
    check_round.checked_from as content_checked_since,
    (select count(*) from {data}.sync_quarantine q
        where q.entity = e.entity and q.resolved_at is null) as set_aside
-- Those that are mirrored where nothing is set, and whatever else has been read.
from (
    values ('contacts'), ('leads') union select entity from {data}.sync_checkpoints
) as e (entity)
left join {data}.sync_checkpoints c on c.entity = e.entity
left join {data}.sync_switches switch
    on switch.entity = regexp_replace(e.entity, '^smart_items_[0-9]+$', 'smart_items')
left join {data}.sync_health health on health.entity = e.entity
left join {data}.sweeps sweep on sweep.entity = e.entity
left join {data}.rolling_checks check_round on check_round.entity = e.entity
left join lateral (
    select r.kind, r.finished_at, r.verdict from {data}.sync_runs r
    where r.entity = e.entity and r.finished_at is not null
    order by r.id desc limit 1
) as last on true
left join lateral (
    select r.finished_at from {data}.sync_runs r
    where r.entity = e.entity and r.finished_at is not null
        and r.inserted + r.updated + r.deleted > 0
    order by r.id desc limit 1
) as changed on true
-- Few portals have the mail address book mirrored.
where e.entity <> 'mail_recipients' or c.entity is not null or health.entity is not null
order by e.entity
