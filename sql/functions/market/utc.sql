-- Times in messages are for people. The zone and the format are written out, because a message is part of the receipt and
-- must not depend on the session's settings.
create or replace function market.utc(p_at timestamptz) returns text
language sql stable parallel safe as $$
  select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;
comment on function market.utc(timestamptz) is 'A time as 2026-01-31T12:34:56.789Z, whatever the session''s zone and date style.';
