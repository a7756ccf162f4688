-- How long a buyer has to judge, and how many providers are asked: what a client needs to plan.
create or replace function market.read_settings(p_ledger_id integer)
returns table (default_providers smallint, max_providers smallint, acceptance_window_ms bigint, ticket_grace_ms bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.default_providers, s.max_providers, s.acceptance_window_ms, s.ticket_grace_ms from market.settings s where s.ledger_id = p_ledger_id
$$;
comment on function market.read_settings(integer) is 'Public: the market''s settings.';
