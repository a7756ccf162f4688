-- The shared end of an RFQ that nobody ordered from: cancelled by its buyer or expired by the timer.
create or replace function market.close_rfq(p_ctx base.command_context, p_rfq market.rfqs, p_event text) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_state text := base.move(p_ctx, 'rfq', p_rfq.rfq_id, p_rfq.state, p_event);
  v_lapsed record;
begin
  if v_state is null then
    return base.refusal('UM601', 'rfq', p_rfq.rfq_id, format('the RFQ is %s', p_rfq.state));
  end if;
  update market.rfqs r set state = v_state where r.ledger_id = p_ctx.ledger_id and r.rfq_id = p_rfq.rfq_id;
  select l.transitions, l.providers into v_lapsed from market.lapse_offers(p_ctx, p_rfq.rfq_id, null) l;
  perform market.tell(p_ctx, p_rfq.buyer_id, 1::smallint, 'rfq_closed', p_rfq.rfq_id);
  return row('ok', 'rfq', p_rfq.rfq_id, jsonb_build_object('rfq_id', p_rfq.rfq_id, 'state', v_state, 'transitions',
    jsonb_build_array(base.transition_fact('rfq', p_rfq.rfq_id, p_rfq.state, p_event, v_state)) || v_lapsed.transitions),
    v_lapsed.providers || p_rfq.buyer_id)::base.outcome;
end $$;
comment on function market.close_rfq(base.command_context, market.rfqs, text) is
  'Moves an RFQ by cancel_rfq or expire_rfq, lapses its offers, tells buyer and offerers. Refuses UM601 when the move is not legal.';
