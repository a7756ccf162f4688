-- Gathers a payee's open payables into one payout and reserves their sum: pending from the payee's payable account to the
-- world outside. At most 5,000 at a time, the oldest first; what is left waits for the next payout.
create or replace function payouts.reserve_payout(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_payee uuid := market.arg_uuid(p_args, 'payee_id');
  v_asset bigint := market.arg_int(p_args, 'asset_id');
  v_min numeric := case when market.arg_given(p_args, 'min_amount') then base.parse_amount(p_args ->> 'min_amount') else 0 end;
  v_id uuid := base.derive_id(p_ctx.command_id, 'payout', 0);
  v_journal uuid := base.derive_id(p_ctx.command_id, 'journal', 0);
  v_item ledger.transfer_input;
  v_open record;
  v_state text;
begin
  if v_payee is null or v_asset is null or v_min is null or p_args ->> 'rail' is distinct from 'internal' then
    return base.refusal('UP101', 'agent', p_ctx.actor_id,
      'payee_id must be a uuid, asset_id a number, min_amount empty or whole minor units, rail internal');
  elsif not exists (select from identity.agents a where a.agent_id = v_payee) then
    return base.refusal('UP401', 'agent', p_ctx.actor_id, format('payee %s is not registered', v_payee));
  elsif not exists (select from ledger.assets s where s.asset_id = v_asset) then
    return base.refusal('UP403', 'agent', p_ctx.actor_id, format('there is no asset %s', v_asset));
  end if;
  select coalesce(sum(o.amount), 0) as amount, array_agg(o.payable_id order by o.payable_id) as payables into v_open
    from (select p.payable_id, p.amount from payouts.payables p
           where p.ledger_id = p_ctx.ledger_id and p.payee_id = v_payee and p.asset_id = v_asset
             and not exists (select from payouts.payout_items i
                              where i.ledger_id = p.ledger_id and i.payable_id = p.payable_id and not i.released)
           order by p.payable_id limit 5000) o;
  if v_open.payables is null then
    return base.refusal('UP701', 'agent', v_payee, 'nothing is open for this payee and asset');
  elsif v_open.amount < v_min then
    return base.refusal('UP701', 'agent', v_payee, format('%s is open, less than the least amount of %s to pay out', v_open.amount, v_min));
  end if;
  v_item := market.plain_item(p_ctx, 1, ledger.account_id(p_ctx.ledger_id, v_asset::integer, 'payable', v_payee, null),
    ledger.open_account(p_ctx, v_asset::integer, 'external', null, null), v_asset::integer, v_open.amount, 'payout');
  v_item.kind := 'pending';
  perform market.post(p_ctx, v_journal, array[v_item]);
  v_state := base.move(p_ctx, 'payout', v_id, '', 'reserve_payout');
  insert into payouts.payouts (ledger_id, payout_id, payee_id, asset_id, amount, rail, state, pending_transfer_id, reserved_at, seq)
  values (p_ctx.ledger_id, v_id, v_payee, v_asset, v_open.amount, 'internal', v_state, v_item.transfer_id, p_ctx.at, p_ctx.seq);
  insert into payouts.payout_items (ledger_id, payout_id, payable_id)
  select p_ctx.ledger_id, v_id, u.payable_id from unnest(v_open.payables) as u (payable_id);
  perform market.tell(p_ctx, v_payee, 1::smallint, 'payout', v_id);
  return row('ok', 'payout', v_id, jsonb_build_object('payout_id', v_id, 'payee_id', v_payee, 'asset_id', v_asset,
    'amount', v_open.amount::text, 'rail', 'internal', 'payables', cardinality(v_open.payables),
    'pending_transfer_id', v_item.transfer_id, 'journal_id', v_journal,
    'transitions', jsonb_build_array(base.transition_fact('payout', v_id, '', 'reserve_payout', v_state))), array[v_payee])::base.outcome;
end $$;
comment on function payouts.reserve_payout(base.command_context, jsonb) is
  'Handler of kind reserve_payout. Refuses UP101 malformed, UP401 unknown payee, UP403 unknown asset, UP701 nothing open or below min_amount. Raises UL901 when the books refuse.';
