-- A backfill reads several ID ranges side by side: open ones are cut where the work can be
-- shared, and an end comes down to the last record that the portal showed below the cut.
comment on column backfill_segments.up_to_id is 'The upper end, included; it comes down when the range is cut.';
comment on column backfill_segments.done is 'Whether nothing of the range is left to read.';
comment on column backfill_segments.busy_ms is 'Working time; what is read side by side counts once, so the sum over all ranges is the backfill''s.';

-- The pace so far says nothing about a budget that is about to be used up.
alter table backfill_segments add column ends_after timestamptz;
comment on column backfill_segments.ends_after is 'When the portal''s limits allow the whole backfill to end at the earliest, as it looked when this range was last read.';
