-- Pays the used part of an accepted order from its escrow by the split policy and refunds the rest: one journal, one
-- commit. What is paid for is what was metered, never more than was ordered, never more than is held.
create or replace function market.settle_order(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_id uuid := market.arg_uuid(p_args, 'order_id');
  v_order market.orders;
  v_units bigint;
  v_paid numeric;
  v_split jsonb;
  v_state text;
begin
  if v_id is null then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'order_id must be a uuid');
  end if;
  select * into v_order from market.orders o where o.ledger_id = p_ctx.ledger_id and o.order_id = v_id;
  if not found then
    return base.refusal('UM403', 'agent', p_ctx.actor_id, format('there is no order %s', v_id));
  elsif v_order.buyer_id <> p_ctx.actor_id and not market.key_has_purpose(p_ctx.key_id, 'service') then
    return base.refusal('UM301', 'agent', p_ctx.actor_id, 'only the order''s buyer or the service may settle it');
  elsif v_order.state = 'settled' then
    return market.order_again(v_order);
  end if;
  v_state := base.move(p_ctx, 'order', v_id, v_order.state, 'settle_order');
  if v_state is null then
    return market.order_state_refusal(v_order, 'settle_order');
  end if;
  -- Counters are cumulative and never fall, so the newest row holds the maximum.
  select least(coalesce((select r.work_units from metering.rows r where r.ledger_id = a.ledger_id and r.attempt_id = a.attempt_id
                          order by r.row_seq desc limit 1), 0), v_order.work_units) into strict v_units
    from metering.attempts a where a.ledger_id = p_ctx.ledger_id and a.run_ticket_id = v_order.run_ticket_id;
  v_paid := least(v_units * v_order.price_per_unit, v_order.held);
  v_split := splits.settle(p_ctx, v_order, v_paid);
  update market.orders o
     set state = v_state, paid = v_paid, refunded = o.held - v_paid, billed_units = v_units, closed_at = p_ctx.at, closed_seq = p_ctx.seq
   where o.ledger_id = p_ctx.ledger_id and o.order_id = v_id;
  perform market.tell(p_ctx, v_order.provider_id, 1::smallint, 'closed', v_id);
  perform market.tell(p_ctx, v_order.buyer_id, 2::smallint, 'closed', v_id);
  return market.order_moved(v_order, 'settle_order', v_state, jsonb_build_object('asset_id', v_order.asset_id,
    'billed_units', v_units::text, 'held', v_order.held::text, 'paid', v_paid::text, 'refunded', (v_order.held - v_paid)::text) || v_split,
    array[v_order.provider_id, v_order.buyer_id]);
end $$;
comment on function market.settle_order(base.command_context, jsonb) is
  'Handler of kind settle_order. With no metered unit everything is refunded and the order is settled at 0. Refuses UM101 malformed, UM301 neither buyer nor service, UM403 unknown order, UM604 wrong state. Raises UP901 without a split policy, UL901 when the books refuse.';
