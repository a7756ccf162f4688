-- Arguments are hostile: the readers below give NULL for whatever is missing, malformed or out of bounds, and never raise.
-- No pinned search_path, so that they are inlined into the expression that calls them.
create or replace function market.arg_uuid(p_args jsonb, p_name text) returns uuid
language sql immutable parallel safe as $$
  select case when p_args ->> p_name ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then (p_args ->> p_name)::uuid end
$$;
comment on function market.arg_uuid(jsonb, text) is 'The argument as a uuid; NULL when missing or not in canonical lower-case form.';
