-- Books money that arrived outside: from the market's external account to an agent's wallet. The external reference makes a
-- deposit happen once, whatever key or command it comes with.
create or replace function ledger.deposit(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_agent uuid := ledger.parse_id(p_args ->> 'agent_id');
  v_asset integer := ledger.parse_asset_id(p_args -> 'asset_id');
  v_amount numeric := base.parse_amount(p_args ->> 'amount');
  v_reference text := p_args ->> 'external_reference';
  v_transfer uuid := base.derive_id(p_ctx.command_id, 'transfer', 0);
  v_differs text;
  v_old ledger.deposits;
  v_result text[];
begin
  if v_reference is null or v_reference !~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$' then
    return base.refusal('UL102', 'agent', p_ctx.actor_id,
      'external_reference must be 1 to 64 letters, digits or . _ : / - and begin with a letter or digit');
  end if;
  if v_amount is null or v_amount = 0 then
    return base.refusal('UL101', 'agent', p_ctx.actor_id, 'amount must be a whole number of minor units above zero, of at most 28 digits');
  end if;
  select * into v_old from ledger.deposits o where o.ledger_id = p_ctx.ledger_id and o.external_reference = v_reference;
  if found then
    v_differs := case when v_old.agent_id is distinct from v_agent then 'agent_id' when v_old.asset_id is distinct from v_asset then 'asset_id'
      when v_old.amount <> v_amount then 'amount' end;
    if v_differs is not null then
      return base.refusal('UL501', 'agent', v_old.agent_id, format('this external_reference was booked with another %s', v_differs));
    end if;
    return row('ok', 'agent', v_agent, ledger.deposit_facts(v_old, true), null)::base.outcome;
  end if;
  if v_agent is null or not exists (select from identity.agents g where g.agent_id = v_agent) then
    return base.refusal('UL401', 'agent', p_ctx.actor_id, 'agent_id names no registered agent: register it first');
  end if;
  if v_asset is null or not exists (select from ledger.assets s where s.asset_id = v_asset) then
    return base.refusal('UL402', 'agent', v_agent, 'asset_id names no asset of this ledger');
  end if;
  -- Judged before any account is opened: a refusal must have changed nothing.
  if exists (select from ledger.accounts a where a.ledger_id = p_ctx.ledger_id and a.closed and a.account_id in (
       ledger.account_id(p_ctx.ledger_id, v_asset, 'external', null, null), ledger.account_id(p_ctx.ledger_id, v_asset, 'wallet', v_agent, null))) then
    return base.refusal('UL601', 'agent', v_agent, 'the wallet or the external account is closed');
  end if;
  if exists (select from ledger.accounts a where a.ledger_id = p_ctx.ledger_id
       and a.account_id = ledger.account_id(p_ctx.ledger_id, v_asset, 'external', null, null)
       and a.debits_pending + a.debits_posted + v_amount > 9999999999999999999999999999)
     or exists (select from ledger.accounts a where a.ledger_id = p_ctx.ledger_id
       and a.account_id = ledger.account_id(p_ctx.ledger_id, v_asset, 'wallet', v_agent, null)
       and a.credits_pending + a.credits_posted + v_amount > 9999999999999999999999999999) then
    return base.refusal('UL701', 'agent', v_agent, 'the sum would need more than 28 digits: deposit less');
  end if;
  v_result := ledger.post_transfers(p_ctx, base.derive_id(p_ctx.command_id, 'journal', 0), array[row(v_transfer, 'plain',
    ledger.open_account(p_ctx, v_asset, 'external', null, null), ledger.open_account(p_ctx, v_asset, 'wallet', v_agent, null),
    v_asset, v_amount, null, null, false, 'deposit', 0, null, null)::ledger.transfer_input]);
  if v_result[1] <> 'ok' then
    raise exception using errcode = 'UL901', message = format('a deposit that had been checked was refused: %s', v_result[1]);
  end if;
  insert into ledger.deposits (ledger_id, external_reference, agent_id, asset_id, amount, transfer_id, seq, at)
  values (p_ctx.ledger_id, v_reference, v_agent, v_asset, v_amount, v_transfer, p_ctx.seq, p_ctx.at)
  returning * into v_old;
  return row('ok', 'agent', v_agent, ledger.deposit_facts(v_old, false), null)::base.outcome;
end $$;
comment on function ledger.deposit(base.command_context, jsonb) is
  'Handler of kind deposit (agent_id, asset_id, amount, external_reference). Refuses UL101 amount, UL102 reference, UL401 agent, UL402 asset, UL501 same reference with other content, UL601 closed account, UL701 overflow; raises UL901 if a checked posting fails.';

create or replace function ledger.deposit_facts(p_deposit ledger.deposits, p_exists boolean) returns jsonb
language sql immutable parallel safe as $$
  select jsonb_build_object('agent_id', p_deposit.agent_id, 'asset_id', p_deposit.asset_id, 'amount', p_deposit.amount::text,
    'external_reference', p_deposit.external_reference, 'transfer_id', p_deposit.transfer_id)
    || case when p_exists then '{"exists": true}'::jsonb else '{}'::jsonb end
$$;
comment on function ledger.deposit_facts(ledger.deposits, boolean) is 'Facts of a deposit''s receipt; exists: it had been booked before.';
