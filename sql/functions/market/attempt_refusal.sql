-- What every command of a provider about its own attempt must satisfy. The order was looked up by run_ticket_id.
-- An order that was never started has no attempt: then attempt_id must be empty.
create or replace function market.attempt_refusal(p_ctx base.command_context, p_args jsonb, p_order market.orders) returns base.outcome
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_attempt uuid := market.arg_uuid(p_args, 'attempt_id');
begin
  if market.arg_uuid(p_args, 'run_ticket_id') is null or (market.arg_given(p_args, 'attempt_id') and v_attempt is null) then
    return base.refusal('UM101', 'agent', p_ctx.actor_id, 'run_ticket_id and attempt_id must be uuids');
  elsif p_order.order_id is null then
    return base.refusal('UM404', 'agent', p_ctx.actor_id, format('there is no run ticket %s', p_args ->> 'run_ticket_id'));
  elsif p_order.provider_id <> p_ctx.actor_id then
    return base.refusal('UM301', 'agent', p_ctx.actor_id, 'the run ticket was issued to another provider');
  elsif v_attempt is distinct from (select a.attempt_id from metering.attempts a
                                     where a.ledger_id = p_ctx.ledger_id and a.run_ticket_id = p_order.run_ticket_id) then
    return base.refusal('UM404', 'order', p_order.order_id, 'attempt_id is not the attempt that was started under this ticket');
  end if;
  return null;
end $$;
comment on function market.attempt_refusal(base.command_context, jsonb, market.orders) is
  'UM101, UM301 or UM404; a NULL outcome: the actor is the provider, and attempt_id is the attempt under the ticket (or empty and there is none).';
