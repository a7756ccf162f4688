-- Unix microseconds: times cross every border as integers. Declared stable, as extract() of a timestamptz is: a function
-- that claims more than its body is never inlined.
create or replace function base.us(p_at timestamptz) returns bigint
language sql stable parallel safe as $$
  select (extract(epoch from p_at) * 1000000)::bigint
$$;
comment on function base.us(timestamptz) is 'Unix microseconds; NULL stays NULL.';
