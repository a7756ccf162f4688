-- An agent's orders, as buyer or as provider, newest first.
create or replace function market.read_orders(p_actor uuid, p_ledger_id integer, p_after uuid, p_limit integer)
returns table (order_id uuid, rfq_id uuid, offer_id uuid, buyer_id uuid, provider_id uuid, asset_id integer, work_class text,
  price_per_unit numeric, work_units bigint, held numeric, run_ticket_id uuid, attempt_id uuid, input_hash bytea, output_hash bytea,
  state text, cause text, ordered_at timestamptz, ticket_expires_at timestamptz, started_at timestamptz, reported_at timestamptz,
  judge_by timestamptz, judged_at timestamptz, closed_at timestamptz, metered_units bigint, billed_units bigint, paid numeric,
  refunded numeric, earned numeric)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  v_before uuid := coalesce(p_after, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
begin
  -- Two index ranges and not one OR: each side is read in order and stops at the page.
  return query select * from market.order_rows(p_actor, p_ledger_id, array(
    select u.order_id from (
      (select o.order_id from market.orders o where o.ledger_id = p_ledger_id and o.buyer_id = p_actor and o.order_id < v_before
        order by o.order_id desc limit p_limit)
      union
      (select o.order_id from market.orders o where o.ledger_id = p_ledger_id and o.provider_id = p_actor and o.order_id < v_before
        order by o.order_id desc limit p_limit)) u
    order by u.order_id desc limit p_limit));
end $$;
comment on function market.read_orders(uuid, integer, uuid, integer) is
  'Up to p_limit orders that p_actor bought or provides, newest id first; p_after is the last id of the page before (NULL: the first page).';
