-- The shared end of a payout: the reserved money leaves, or is open again.
create or replace function payouts.close_payout(p_ctx base.command_context, p_payout payouts.payouts, p_event text, p_reference text, p_failure text)
returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_state text := base.move(p_ctx, 'payout', p_payout.payout_id, p_payout.state, p_event);
  v_journal uuid := base.derive_id(p_ctx.command_id, 'journal', 0);
begin
  if v_state is null then
    return base.refusal('UP601', 'payout', p_payout.payout_id, format('the payout is %s: %s is not possible', p_payout.state, p_event));
  end if;
  perform market.post(p_ctx, v_journal, array[row(base.derive_id(p_ctx.command_id, 'transfer', 1),
    case p_event when 'confirm_payout' then 'post_pending' else 'void_pending' end, null, null, null, null,
    p_payout.pending_transfer_id, null, false, p_event, 0, null, null)::ledger.transfer_input]);
  update payouts.payouts p set state = v_state, closed_at = p_ctx.at, rail_reference = p_reference, failure = p_failure
   where p.ledger_id = p_ctx.ledger_id and p.payout_id = p_payout.payout_id;
  if p_event = 'fail_payout' then
    update payouts.payout_items i set released = true where i.ledger_id = p_ctx.ledger_id and i.payout_id = p_payout.payout_id;
  end if;
  perform market.tell(p_ctx, p_payout.payee_id, 1::smallint, 'payout', p_payout.payout_id);
  return row('ok', 'payout', p_payout.payout_id, jsonb_build_object('payout_id', p_payout.payout_id, 'payee_id', p_payout.payee_id,
    'asset_id', p_payout.asset_id, 'amount', p_payout.amount::text, 'rail_reference', p_reference, 'failure', p_failure, 'journal_id', v_journal,
    'transitions', jsonb_build_array(base.transition_fact('payout', p_payout.payout_id, p_payout.state, p_event, v_state))),
    array[p_payout.payee_id])::base.outcome;
end $$;
comment on function payouts.close_payout(base.command_context, payouts.payouts, text, text, text) is
  'Moves a payout by confirm_payout or fail_payout, posts or voids its pending transfer, releases its items on failure, tells the payee. Refuses UP601; raises UL901 when the books refuse.';
