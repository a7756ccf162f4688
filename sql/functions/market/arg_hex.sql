-- A hash, key or nonce of exactly p_bytes bytes.
create or replace function market.arg_hex(p_args jsonb, p_name text, p_bytes integer) returns bytea
language sql immutable parallel safe as $$
  select case when p_args ->> p_name ~ '^[0-9a-f]*$' and length(p_args ->> p_name) = 2 * p_bytes then decode(p_args ->> p_name, 'hex') end
$$;
comment on function market.arg_hex(jsonb, text, integer) is 'The argument''s bytes from lower-case hex; NULL unless exactly p_bytes long.';
