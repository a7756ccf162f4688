-- The buyer disputes the output. The money stays in escrow until a verifier has judged.
create or replace function market.reject_output(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_reason text := p_args ->> 'reason';
  v_order market.orders;
  v_refusal base.outcome;
  v_state text;
begin
  if v_reason is null or v_reason not in ('wrong_output', 'over_report', 'missing_output') then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'reason must be wrong_output, over_report or missing_output');
  end if;
  select * into v_order from market.orders o
   where o.ledger_id = p_ctx.ledger_id and o.order_id = market.arg_uuid(p_args, 'order_id');
  v_refusal := market.judged_order_refusal(p_ctx, p_args, v_order);
  if v_refusal.code is not null then
    return v_refusal;
  elsif v_order.state = 'disputed' and v_order.cause = v_reason then
    return market.order_again(v_order);
  end if;
  v_state := base.move(p_ctx, 'order', v_order.order_id, v_order.state, 'reject_output');
  if v_state is null then
    return market.order_state_refusal(v_order, 'reject_output');
  end if;
  update market.orders o set state = v_state, cause = v_reason, judged_at = p_ctx.at
   where o.ledger_id = p_ctx.ledger_id and o.order_id = v_order.order_id;
  perform market.tell(p_ctx, v_order.provider_id, 1::smallint, 'order', v_order.order_id);
  perform market.tell(p_ctx, v_order.buyer_id, 2::smallint, 'order', v_order.order_id);
  return market.order_moved(v_order, 'reject_output', v_state, jsonb_build_object('cause', v_reason),
    array[v_order.provider_id, v_order.buyer_id]);
end $$;
comment on function market.reject_output(base.command_context, jsonb) is
  'Handler of kind reject_output. Refuses UM101 malformed, UM301 not the buyer, UM403 unknown order, UM502 another output, UM604 wrong state.';
