-- Timer: the ticket's time and its grace are over and no output was reported. Nobody's money is taken back while an output
-- is waiting to be judged: those states have no such move.
create or replace function market.expire_order(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_id uuid := market.arg_uuid(p_args, 'order_id');
  v_order market.orders;
  v_due timestamptz;
  v_metered boolean;
begin
  if v_id is null then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'order_id must be a uuid');
  end if;
  select * into v_order from market.orders o where o.ledger_id = p_ctx.ledger_id and o.order_id = v_id;
  if not found then
    return base.refusal('UM403', 'agent', p_ctx.actor_id, format('there is no order %s', v_id));
  elsif v_order.state = 'refunded' and v_order.cause in ('vanished', 'timeout') then
    return market.order_again(v_order);
  end if;
  select v_order.ticket_expires_at + market.ms(s.ticket_grace_ms) into strict v_due from market.settings s where s.ledger_id = p_ctx.ledger_id;
  if v_order.state in ('ordered', 'running') and p_ctx.at <= v_due then
    return base.refusal('UM605', 'order', v_id, format('the order may run until %s', market.utc(v_due)));
  end if;
  -- A provider that metered was at work and too slow; one that never did has vanished.
  v_metered := exists (select from metering.attempts a join metering.rows r on r.ledger_id = a.ledger_id and r.attempt_id = a.attempt_id
                        where a.ledger_id = p_ctx.ledger_id and a.run_ticket_id = v_order.run_ticket_id);
  return market.refund_order(p_ctx, v_order, 'expire_order', case when v_metered then 'timeout' else 'vanished' end);
end $$;
comment on function market.expire_order(base.command_context, jsonb) is
  'Handler of kind expire_order: refunds with cause timeout (it metered) or vanished. Refuses UM101 malformed, UM403 unknown order, UM604 wrong state, UM605 before ticket expiry plus grace.';
