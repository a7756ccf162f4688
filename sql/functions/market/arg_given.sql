-- Tells an absent optional argument from a malformed one, so that a typo is refused and not read as "none".
create or replace function market.arg_given(p_args jsonb, p_name text) returns boolean
language sql immutable parallel safe as $$
  select coalesce(p_args ->> p_name, '') <> ''
$$;
comment on function market.arg_given(jsonb, text) is 'true: the argument is there, neither null nor empty.';
