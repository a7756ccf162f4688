-- An RFQ, for its buyer and the providers it invited.
create or replace function market.read_rfq(p_actor uuid, p_ledger_id integer, p_rfq_id uuid)
returns table (rfq_id uuid, buyer_id uuid, work_class text, region text, input_hash bytea, work_units bigint, asset_id integer,
  max_price numeric, max_duration_ms bigint, creator_id uuid, referrer_id uuid, opened_at timestamptz, expires_at timestamptz,
  state text, invited integer, offers integer, order_id uuid)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  return query select * from market.rfq_rows(p_actor, p_ledger_id, array[p_rfq_id]);
end $$;
comment on function market.read_rfq(uuid, integer, uuid) is
  'One RFQ; only its buyer and invited providers see it, and only the buyer sees how many were invited and offered, and the order.';
