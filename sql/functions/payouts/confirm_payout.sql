-- The rail says that the money has left. Its reference is unique: one movement confirms one payout.
create or replace function payouts.confirm_payout(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_id uuid := market.arg_uuid(p_args, 'payout_id');
  v_reference text := p_args ->> 'rail_reference';
  v_payout payouts.payouts;
begin
  if v_id is null or coalesce(v_reference !~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$', true) then
    return base.refusal('UP101', 'agent', p_ctx.actor_id,
      'payout_id must be a uuid and rail_reference 1 to 64 letters, digits and . _ : / -');
  end if;
  select * into v_payout from payouts.payouts p where p.ledger_id = p_ctx.ledger_id and p.payout_id = v_id;
  if not found then
    return base.refusal('UP402', 'agent', p_ctx.actor_id, format('there is no payout %s', v_id));
  elsif v_payout.state = 'confirmed' then
    if v_payout.rail_reference = v_reference then
      return row('ok', 'payout', v_id, jsonb_build_object('payout_id', v_id, 'state', v_payout.state, 'exists', true), null)::base.outcome;
    end if;
    return base.refusal('UP501', 'payout', v_id, 'the payout was confirmed with another rail_reference');
  elsif exists (select from payouts.payouts p where p.ledger_id = p_ctx.ledger_id and p.rail = v_payout.rail and p.rail_reference = v_reference) then
    return base.refusal('UP502', 'payout', v_id, 'this rail_reference has confirmed another payout');
  end if;
  return payouts.close_payout(p_ctx, v_payout, 'confirm_payout', v_reference, null);
end $$;
comment on function payouts.confirm_payout(base.command_context, jsonb) is
  'Handler of kind confirm_payout. Refuses UP101 malformed, UP402 unknown payout, UP501 confirmed with another reference, UP502 reference used by another payout, UP601 wrong state.';
