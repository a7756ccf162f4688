-- The provider redeems its ticket: one ticket, one attempt, on the one key it was issued to.
create or replace function market.start_attempt(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_ticket uuid := market.arg_uuid(p_args, 'run_ticket_id');
  v_attempt uuid := market.arg_uuid(p_args, 'attempt_id');
  v_order market.orders;
  v_old metering.attempts;
  v_state text;
begin
  if v_ticket is null or v_attempt is null then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'run_ticket_id and attempt_id must be uuids');
  end if;
  select * into v_order from market.orders o where o.ledger_id = p_ctx.ledger_id and o.run_ticket_id = v_ticket;
  if not found then
    return base.refusal('UM404', 'agent', p_ctx.actor_id, format('there is no run ticket %s', v_ticket));
  elsif v_order.provider_id <> p_ctx.actor_id then
    return base.refusal('UM301', 'agent', p_ctx.actor_id, 'the run ticket was issued to another provider');
  elsif v_order.provider_key_id <> p_ctx.key_id then
    return base.refusal('UM303', 'order', v_order.order_id, 'the run ticket was issued to another key of this provider');
  end if;
  select * into v_old from metering.attempts a where a.ledger_id = p_ctx.ledger_id and a.run_ticket_id = v_ticket;
  if found then
    if v_old.attempt_id = v_attempt then
      return market.order_again(v_order);
    end if;
    return base.refusal('UM503', 'order', v_order.order_id, format('the run ticket was used by attempt %s', v_old.attempt_id));
  elsif exists (select from metering.attempts a where a.ledger_id = p_ctx.ledger_id and a.attempt_id = v_attempt) then
    return base.refusal('UM501', 'order', v_order.order_id, format('attempt %s exists under another run_ticket_id', v_attempt));
  elsif not base.id_in_window(v_attempt, p_ctx.at) then
    return base.refusal('UB105', 'order', v_order.order_id, 'attempt_id must be a UUIDv7 made within 24 hours of now');
  elsif v_order.state = 'ordered' and p_ctx.at >= v_order.ticket_expires_at then
    return base.refusal('UM603', 'order', v_order.order_id, 'the run ticket has expired');
  end if;
  v_state := base.move(p_ctx, 'order', v_order.order_id, v_order.state, 'start_attempt');
  if v_state is null then
    return market.order_state_refusal(v_order, 'start_attempt');
  end if;
  insert into metering.attempts (ledger_id, attempt_id, run_ticket_id, order_id, provider_id, started_at, seq)
  values (p_ctx.ledger_id, v_attempt, v_ticket, v_order.order_id, v_order.provider_id, p_ctx.at, p_ctx.seq);
  update market.orders o set state = v_state, started_at = p_ctx.at
   where o.ledger_id = p_ctx.ledger_id and o.order_id = v_order.order_id;
  perform market.tell(p_ctx, v_order.buyer_id, 1::smallint, 'order', v_order.order_id);
  return market.order_moved(v_order, 'start_attempt', v_state,
    jsonb_build_object('run_ticket_id', v_ticket, 'attempt_id', v_attempt), array[v_order.buyer_id]);
end $$;
comment on function market.start_attempt(base.command_context, jsonb) is
  'Handler of kind start_attempt. Refuses UM101 malformed, UB105 id out of window, UM301 another provider''s ticket, UM303 another key, UM404 unknown ticket, UM501 attempt id used elsewhere, UM503 ticket already used, UM603 ticket expired, UM604 wrong state.';
