-- Whom to ask about an RFQ. Deterministic: the cheapest first, then the least loaded, then a hash of (RFQ, provider) that
-- spreads ties evenly. Every beneficial owner is asked once before any is asked twice.
-- Index scans only: orders leave the live index all the time, and only a plain index scan marks their dead entries, so
-- that the next one skips them. A bitmap scan would visit every order since the last vacuum.
create or replace function market.route(p_ledger_id integer, p_rfq_id uuid, p_buyer_id uuid, p_work_class text, p_region text,
  p_asset_id integer, p_work_units bigint, p_max_price numeric, p_limit integer)
returns table (provider_id uuid, rank smallint)
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp set enable_bitmapscan = off set enable_seqscan = off as $$
#variable_conflict use_column
begin
  return query
  with eligible as (
    select a.provider_id, a.beneficial_owner_id, a.price_per_unit, l.live, md5(p_rfq_id::text || a.provider_id::text)::uuid as tie
      from market.capability_ads a
      join market.presence p on p.ledger_id = a.ledger_id and p.provider_id = a.provider_id and p.reachable
      join identity.keys k on k.key_id = a.provider_key_id and k.revoked_at is null
     cross join lateral (
       select count(*) as live from market.orders o
        where o.ledger_id = a.ledger_id and o.provider_id = a.provider_id and o.state in ('ordered', 'running')) l
     where a.ledger_id = p_ledger_id and a.work_class = p_work_class and a.active and a.asset_id = p_asset_id
       and (p_region is null or a.region = p_region)
       and a.max_work_units >= p_work_units and a.price_per_unit * p_work_units <= p_max_price
       and a.provider_id <> p_buyer_id and l.live < a.max_concurrency),
  by_owner as (
    select e.*, row_number() over (partition by e.beneficial_owner_id order by e.price_per_unit, e.live, e.tie) as round
      from eligible e)
  select b.provider_id, (row_number() over (order by b.round, b.price_per_unit, b.live, b.tie))::smallint
    from by_owner b order by b.round, b.price_per_unit, b.live, b.tie limit p_limit;
end $$;
comment on function market.route(integer, uuid, uuid, text, text, integer, bigint, numeric, integer) is
  'Eligible providers of an RFQ, best first (rank from 1): reachable, valid key, active ad of the class, region and asset, price and size within limits, fewer ordered or running orders than max_concurrency, not the buyer. No time and no randomness.';
