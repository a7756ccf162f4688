-- Which providers the log calls reachable: a server that starts has no connection yet, so each of these is stale.
create or replace function market.read_reachable(p_ledger_id integer, p_limit integer)
returns table (provider_id uuid, connection_id uuid)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select p.provider_id, p.connection_id from market.presence p where p.ledger_id = p_ledger_id and p.reachable
   order by p.provider_id limit p_limit
$$;
comment on function market.read_reachable(integer, integer) is
  'Up to p_limit providers whose newest presence says reachable, with the connection that said so.';
