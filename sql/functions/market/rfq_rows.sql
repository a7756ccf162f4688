-- RFQs as their buyer and the invited see them: one reading for a single RFQ and for a page of them.
create or replace function market.rfq_rows(p_actor uuid, p_ledger_id integer, p_rfq_ids uuid[])
returns table (rfq_id uuid, buyer_id uuid, work_class text, region text, input_hash bytea, work_units bigint, asset_id integer,
  max_price numeric, max_duration_ms bigint, creator_id uuid, referrer_id uuid, opened_at timestamptz, expires_at timestamptz,
  state text, invited integer, offers integer, order_id uuid)
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  return query
  select r.rfq_id, r.buyer_id, r.work_class, r.region, r.input_hash, r.work_units, r.asset_id, r.max_price, r.max_duration_ms,
    r.creator_id, r.referrer_id, r.opened_at, r.expires_at, r.state,
    case when r.buyer_id = p_actor then (select count(*) from market.rfq_invitations i
      where i.ledger_id = r.ledger_id and i.rfq_id = r.rfq_id)::integer end,
    case when r.buyer_id = p_actor then (select count(*) from market.offers f
      where f.ledger_id = r.ledger_id and f.rfq_id = r.rfq_id)::integer end,
    case when r.buyer_id = p_actor then (select o.order_id from market.orders o
      where o.ledger_id = r.ledger_id and o.rfq_id = r.rfq_id) end
  from market.rfqs r
  where r.ledger_id = p_ledger_id and r.rfq_id = any (p_rfq_ids)
    and (r.buyer_id = p_actor or exists (select from market.rfq_invitations i
           where i.ledger_id = r.ledger_id and i.rfq_id = r.rfq_id and i.provider_id = p_actor))
  order by r.rfq_id desc;
end $$;
comment on function market.rfq_rows(uuid, integer, uuid[]) is 'The RFQs among p_rfq_ids that p_actor may see, newest id first.';
