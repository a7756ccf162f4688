-- Timer: nobody was chosen in time.
create or replace function market.expire_rfq(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_id uuid := market.arg_uuid(p_args, 'rfq_id');
  v_rfq market.rfqs;
begin
  if v_id is null then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'rfq_id must be a uuid');
  end if;
  select * into v_rfq from market.rfqs r where r.ledger_id = p_ctx.ledger_id and r.rfq_id = v_id;
  if not found then
    return base.refusal('UM401', 'agent', p_ctx.actor_id, format('there is no RFQ %s', v_id));
  end if;
  if v_rfq.state = 'expired' then
    return row('ok', 'rfq', v_id, jsonb_build_object('rfq_id', v_id, 'state', v_rfq.state, 'exists', true), null)::base.outcome;
  end if;
  if v_rfq.state = 'open' and p_ctx.at < v_rfq.expires_at then
    return base.refusal('UM605', 'rfq', v_id, format('the RFQ is open until %s', market.utc(v_rfq.expires_at)));
  end if;
  return market.close_rfq(p_ctx, v_rfq, 'expire_rfq');
end $$;
comment on function market.expire_rfq(base.command_context, jsonb) is
  'Handler of kind expire_rfq. Refuses UM101 malformed, UM401 unknown, UM601 no longer open, UM605 before its time.';
