-- A buyer's own RFQs, newest first.
create or replace function market.read_rfqs(p_actor uuid, p_ledger_id integer, p_after uuid, p_limit integer)
returns table (rfq_id uuid, buyer_id uuid, work_class text, region text, input_hash bytea, work_units bigint, asset_id integer,
  max_price numeric, max_duration_ms bigint, creator_id uuid, referrer_id uuid, opened_at timestamptz, expires_at timestamptz,
  state text, invited integer, offers integer, order_id uuid)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  return query select * from market.rfq_rows(p_actor, p_ledger_id, array(
    select r.rfq_id from market.rfqs r
     where r.ledger_id = p_ledger_id and r.buyer_id = p_actor
       and r.rfq_id < coalesce(p_after, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
     order by r.rfq_id desc limit p_limit));
end $$;
comment on function market.read_rfqs(uuid, integer, uuid, integer) is
  'Up to p_limit RFQs of buyer p_actor, newest id first; p_after is the last id of the page before (NULL: the first page).';
