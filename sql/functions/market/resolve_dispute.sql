-- A verifier judges a disputed output at any time, a silently left one only after the buyer's time to judge.
create or replace function market.resolve_dispute(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_id uuid := market.arg_uuid(p_args, 'order_id');
  v_finding text := p_args ->> 'finding';
  v_valid boolean;
  v_order market.orders;
  v_state text;
begin
  if v_id is null or jsonb_typeof(p_args -> 'output_valid') is distinct from 'boolean' then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'order_id must be a uuid and output_valid true or false');
  end if;
  v_valid := (p_args ->> 'output_valid')::boolean;
  if v_finding is null or v_valid is distinct from (v_finding = 'valid')
     or v_finding not in ('valid', 'wrong_output', 'over_report', 'missing_output') then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'finding must be valid when output_valid, else wrong_output, over_report or missing_output');
  end if;
  select * into v_order from market.orders o where o.ledger_id = p_ctx.ledger_id and o.order_id = v_id;
  if not found then
    return base.refusal('UM403', 'agent', p_ctx.actor_id, format('there is no order %s', v_id));
  elsif v_order.state = 'reported' and p_ctx.at <= v_order.judge_by then
    return base.refusal('UM605', 'order', v_id, format('the buyer may judge until %s', market.utc(v_order.judge_by)));
  elsif not v_valid then
    return market.refund_order(p_ctx, v_order, 'judge_invalid', v_finding);
  end if;
  v_state := base.move(p_ctx, 'order', v_id, v_order.state, 'judge_valid');
  if v_state is null then
    return market.order_state_refusal(v_order, 'judge_valid');
  end if;
  update market.orders o set state = v_state, cause = null, judged_at = p_ctx.at
   where o.ledger_id = p_ctx.ledger_id and o.order_id = v_id;
  perform market.tell(p_ctx, v_order.provider_id, 1::smallint, 'order', v_id);
  perform market.tell(p_ctx, v_order.buyer_id, 2::smallint, 'order', v_id);
  return market.order_moved(v_order, 'judge_valid', v_state, jsonb_build_object('finding', v_finding),
    array[v_order.provider_id, v_order.buyer_id]);
end $$;
comment on function market.resolve_dispute(base.command_context, jsonb) is
  'Handler of kind resolve_dispute: accepted, or refunded with the finding as cause. Refuses UM101 malformed, UM403 unknown order, UM604 wrong state, UM605 the buyer may still judge.';
