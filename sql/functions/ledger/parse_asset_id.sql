-- A JSON number to an asset id. Everything that is not a positive integer of at most 9 digits is NULL.
create or replace function ledger.parse_asset_id(p_value jsonb) returns integer
language sql immutable parallel safe as $$
  select case when jsonb_typeof(p_value) = 'number' and p_value #>> '{}' ~ '^[1-9][0-9]{0,8}$' then (p_value #>> '{}')::integer end
$$;
comment on function ledger.parse_asset_id(jsonb) is 'JSON number to asset id; NULL when it is none. Raises nothing.';
