-- Text from outside to an id. Judged by pattern first, because a failed cast would raise.
create or replace function ledger.parse_id(p_text text) returns uuid
language sql immutable parallel safe as $$
  select case when p_text ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then p_text::uuid end
$$;
comment on function ledger.parse_id(text) is 'Text to uuid; NULL when it is none. Raises nothing.';
