-- The buyer accepts the output. Settlement is a command of its own.
create or replace function market.accept_output(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_order market.orders;
  v_refusal base.outcome;
  v_state text;
begin
  select * into v_order from market.orders o
   where o.ledger_id = p_ctx.ledger_id and o.order_id = market.arg_uuid(p_args, 'order_id');
  v_refusal := market.judged_order_refusal(p_ctx, p_args, v_order);
  if v_refusal.code is not null then
    return v_refusal;
  elsif v_order.state in ('accepted', 'settled') then
    return market.order_again(v_order);
  end if;
  v_state := base.move(p_ctx, 'order', v_order.order_id, v_order.state, 'accept_output');
  if v_state is null then
    return market.order_state_refusal(v_order, 'accept_output');
  end if;
  update market.orders o set state = v_state, judged_at = p_ctx.at
   where o.ledger_id = p_ctx.ledger_id and o.order_id = v_order.order_id;
  perform market.tell(p_ctx, v_order.provider_id, 1::smallint, 'order', v_order.order_id);
  return market.order_moved(v_order, 'accept_output', v_state, '{}', array[v_order.provider_id]);
end $$;
comment on function market.accept_output(base.command_context, jsonb) is
  'Handler of kind accept_output. Refuses UM101 malformed, UM301 not the buyer, UM403 unknown order, UM502 another output, UM604 wrong state.';
