-- Calls the domain function of a kind of command. A plain CASE: what can be called is what is written here.
create or replace function base.dispatch(p_ctx base.command_context, p_kind text, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return case p_kind
    when 'genesis' then base.genesis(p_ctx, p_args)
    when 'register_agent' then identity.register_agent(p_ctx, p_args)
    when 'revoke_key' then identity.revoke_key(p_ctx, p_args)
    when 'deposit' then ledger.deposit(p_ctx, p_args)
    when 'publish_capability' then market.publish_capability(p_ctx, p_args)
    when 'record_presence' then market.record_presence(p_ctx, p_args)
    when 'open_rfq' then market.open_rfq(p_ctx, p_args)
    when 'cancel_rfq' then market.cancel_rfq(p_ctx, p_args)
    when 'submit_offer' then market.submit_offer(p_ctx, p_args)
    when 'accept_offer' then market.accept_offer(p_ctx, p_args)
    when 'start_attempt' then market.start_attempt(p_ctx, p_args)
    when 'record_metering' then metering.record_metering(p_ctx, p_args)
    when 'report_output' then market.report_output(p_ctx, p_args)
    when 'fail_attempt' then market.fail_attempt(p_ctx, p_args)
    when 'accept_output' then market.accept_output(p_ctx, p_args)
    when 'reject_output' then market.reject_output(p_ctx, p_args)
    when 'resolve_dispute' then market.resolve_dispute(p_ctx, p_args)
    when 'settle_order' then market.settle_order(p_ctx, p_args)
    when 'expire_rfq' then market.expire_rfq(p_ctx, p_args)
    when 'expire_order' then market.expire_order(p_ctx, p_args)
    when 'reserve_payout' then payouts.reserve_payout(p_ctx, p_args)
    when 'confirm_payout' then payouts.confirm_payout(p_ctx, p_args)
    when 'fail_payout' then payouts.fail_payout(p_ctx, p_args)
    when 'post_transfers' then ledger.post_transfers_command(p_ctx, p_args)
    when 'exchange' then ledger.exchange(p_ctx, p_args)
    when 'close_period' then ledger.close_period(p_ctx, p_args)
    when 'send_across' then ledger.send_across(p_ctx, p_args)
    when 'receive_across' then ledger.receive_across(p_ctx, p_args)
    when 'erase_subject' then artifacts.erase_subject(p_ctx, p_args)
    else base.refusal('UB101', 'agent', p_ctx.actor_id, 'unknown kind of command: ' || left(p_kind, 64))
  end;
end $$;
comment on function base.dispatch(base.command_context, text, jsonb) is 'Calls the domain function of a kind. Refuses UB101 for an unknown one.';
