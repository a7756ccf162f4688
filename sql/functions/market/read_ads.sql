-- What is on offer. Public: ads are made to be seen.
create or replace function market.read_ads(p_ledger_id integer, p_work_class text, p_limit integer)
returns table (provider_id uuid, beneficial_owner_id uuid, work_class text, region text, device_kind text, device_count integer,
  asset_id integer, price_per_unit numeric, max_concurrency integer, max_work_units bigint, reachable boolean, live_orders integer,
  published_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  return query
  select a.provider_id, a.beneficial_owner_id, a.work_class, a.region, a.device_kind, a.device_count, a.asset_id, a.price_per_unit,
    a.max_concurrency, a.max_work_units, coalesce(p.reachable, false),
    (select count(*) from market.orders o where o.ledger_id = a.ledger_id and o.provider_id = a.provider_id
        and o.state in ('ordered', 'running'))::integer, a.published_at
    from market.capability_ads a
    left join market.presence p on p.ledger_id = a.ledger_id and p.provider_id = a.provider_id
   where a.ledger_id = p_ledger_id and a.active and (p_work_class is null or a.work_class = p_work_class)
   order by a.work_class, a.asset_id, a.price_per_unit, a.provider_id limit p_limit;
end $$;
comment on function market.read_ads(integer, text, integer) is
  'Public: active ads of a work class (NULL: all), cheapest first within class and asset. live_orders are ordered or running.';
