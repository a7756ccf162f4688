-- The provider gives the order up; the buyer gets everything back.
create or replace function market.fail_attempt(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_reason text := p_args ->> 'reason';
  v_order market.orders;
  v_refusal base.outcome;
begin
  if v_reason is null or v_reason not in ('crash', 'input_missing', 'unsupported', 'cancelled') then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'reason must be crash, input_missing, unsupported or cancelled');
  end if;
  select * into v_order from market.orders o
   where o.ledger_id = p_ctx.ledger_id and o.run_ticket_id = market.arg_uuid(p_args, 'run_ticket_id');
  v_refusal := market.attempt_refusal(p_ctx, p_args, v_order);
  if v_refusal.code is not null then
    return v_refusal;
  elsif v_order.state = 'refunded' and v_order.cause = v_reason then
    return market.order_again(v_order);
  end if;
  return market.refund_order(p_ctx, v_order, 'fail_attempt', v_reason);
end $$;
comment on function market.fail_attempt(base.command_context, jsonb) is
  'Handler of kind fail_attempt; attempt_id is empty when the ticket was never redeemed. Refuses UM101 malformed, UM301 another provider''s ticket, UM404 unknown ticket or attempt, UM604 wrong state.';
