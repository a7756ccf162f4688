-- The provider names the output of its attempt. From here the buyer's time to judge runs.
create or replace function market.report_output(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_hash bytea := market.arg_hex(p_args, 'output_hash', 32);
  v_order market.orders;
  v_refusal base.outcome;
  v_judge_by timestamptz;
  v_state text;
begin
  if v_hash is null then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'output_hash must be the 32 bytes of the output''s BLAKE3 hash');
  end if;
  select * into v_order from market.orders o
   where o.ledger_id = p_ctx.ledger_id and o.run_ticket_id = market.arg_uuid(p_args, 'run_ticket_id');
  v_refusal := market.attempt_refusal(p_ctx, p_args, v_order);
  if v_refusal.code is not null then
    return v_refusal;
  elsif v_order.output_hash = v_hash then
    return market.order_again(v_order);
  elsif v_order.output_hash is not null then
    return base.refusal('UM502', 'order', v_order.order_id, 'this attempt has already reported another output_hash');
  elsif v_order.state = 'running' and p_ctx.at >= v_order.ticket_expires_at then
    return base.refusal('UM603', 'order', v_order.order_id, 'the run ticket has expired');
  end if;
  v_state := base.move(p_ctx, 'order', v_order.order_id, v_order.state, 'report_output');
  if v_state is null then
    return market.order_state_refusal(v_order, 'report_output');
  end if;
  select p_ctx.at + market.ms(s.acceptance_window_ms) into strict v_judge_by from market.settings s where s.ledger_id = p_ctx.ledger_id;
  update market.orders o set state = v_state, output_hash = v_hash, reported_at = p_ctx.at, judge_by = v_judge_by
   where o.ledger_id = p_ctx.ledger_id and o.order_id = v_order.order_id;
  perform market.tell(p_ctx, v_order.buyer_id, 1::smallint, 'order', v_order.order_id);
  return market.order_moved(v_order, 'report_output', v_state,
    jsonb_build_object('output_hash', encode(v_hash, 'hex'), 'judge_by_us', base.us(v_judge_by)), array[v_order.buyer_id]);
end $$;
comment on function market.report_output(base.command_context, jsonb) is
  'Handler of kind report_output. Refuses UM101 malformed, UM301 another provider''s ticket, UM404 unknown ticket or attempt, UM502 another output was reported, UM603 ticket expired, UM604 wrong state.';
