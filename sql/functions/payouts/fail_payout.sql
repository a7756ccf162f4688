-- The rail refused: the reserve is released and the payables are open again.
create or replace function payouts.fail_payout(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_id uuid := market.arg_uuid(p_args, 'payout_id');
  v_reason text := p_args ->> 'reason';
  v_payout payouts.payouts;
begin
  if v_id is null or coalesce(v_reason !~ '^[a-z0-9_]{1,64}$', true) then
    return base.refusal('UP101', 'agent', p_ctx.actor_id,
      'payout_id must be a uuid and reason a word of a-z, 0-9 and _ (no names, no bank details)');
  end if;
  select * into v_payout from payouts.payouts p where p.ledger_id = p_ctx.ledger_id and p.payout_id = v_id;
  if not found then
    return base.refusal('UP402', 'agent', p_ctx.actor_id, format('there is no payout %s', v_id));
  elsif v_payout.state = 'failed' and v_payout.failure = v_reason then
    return row('ok', 'payout', v_id, jsonb_build_object('payout_id', v_id, 'state', v_payout.state, 'exists', true), null)::base.outcome;
  end if;
  return payouts.close_payout(p_ctx, v_payout, 'fail_payout', null, v_reason);
end $$;
comment on function payouts.fail_payout(base.command_context, jsonb) is
  'Handler of kind fail_payout. Refuses UP101 malformed, UP402 unknown payout, UP601 wrong state.';
