-- The offers of an RFQ: all for its buyer, its own for a provider.
create or replace function market.read_offers(p_actor uuid, p_ledger_id integer, p_rfq_id uuid)
returns table (offer_id uuid, rfq_id uuid, provider_id uuid, provider_key_id bytea, asset_id integer, price_per_unit numeric,
  price numeric, offered_at timestamptz, expires_at timestamptz, state text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  return query
  select f.offer_id, f.rfq_id, f.provider_id, f.provider_key_id, r.asset_id, f.price_per_unit, f.price, f.offered_at, f.expires_at, f.state
    from market.rfqs r join market.offers f on f.ledger_id = r.ledger_id and f.rfq_id = r.rfq_id
   where r.ledger_id = p_ledger_id and r.rfq_id = p_rfq_id and (r.buyer_id = p_actor or f.provider_id = p_actor)
   order by f.price, f.offer_id;
end $$;
comment on function market.read_offers(uuid, integer, uuid) is
  'Offers of an RFQ, cheapest first; the buyer sees all, a provider its own. Prices in minor units.';
