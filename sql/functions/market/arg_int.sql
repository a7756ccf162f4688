-- A whole number. Eighteen digits keep sums of two within bigint; whatever needs more is absurd here.
create or replace function market.arg_int(p_args jsonb, p_name text) returns bigint
language sql immutable parallel safe as $$
  select case when jsonb_typeof(p_args -> p_name) = 'number' and p_args ->> p_name ~ '^-?[0-9]{1,18}$' then (p_args ->> p_name)::bigint end
$$;
comment on function market.arg_int(jsonb, text) is 'The argument as a whole number; NULL when missing, not a JSON number, fractional or above 18 digits.';
