-- The holder foretells the end from what its answers took and what is under way, and others
-- repeat it: they see neither. The limits are part of it.
alter table backfill_segments rename column ends_after to ends_at;
-- While nobody holds the lease the end moves on, and only the time between the two holds.
alter table backfill_segments add column told_at timestamptz;

comment on column backfill_segments.ends_at is 'When the whole backfill was expected to end as this range was last read.';
comment on column backfill_segments.told_at is 'The moment at which the end was expected then.';
