-- Durations cross every border as whole milliseconds.
create or replace function market.ms(p_ms bigint) returns interval
language sql immutable parallel safe as $$
  select p_ms * interval '1 millisecond'
$$;
comment on function market.ms(bigint) is 'Milliseconds as an interval.';
