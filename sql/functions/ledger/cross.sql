-- One ledger's half of value that crosses between two. Each half is a journal that balances by itself, through a clearing
-- account, and the two share their group_id: so neither half locks, reads or waits for the other ledger, and each ledger
-- replays alone. What was sent and has not arrived is the balance of the clearing accounts (finance.crossings);
-- ledger.audit_crossings holds the halves against each other.
create or replace function ledger.cross(p_ctx base.command_context, p_direction text, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_new ledger.crossings := row(p_ctx.ledger_id, ledger.parse_id(p_args ->> 'group_id'), p_direction,
    ledger.cross_peer(p_args -> 'peer_ledger_id'), ledger.parse_id(p_args ->> 'account_id'), ledger.parse_asset_id(p_args -> 'asset_id'),
    base.parse_amount(p_args ->> 'amount'), base.derive_id(p_ctx.command_id, 'transfer', 1), p_ctx.seq, p_ctx.at);
  v_refusal base.outcome := ledger.cross_fault(p_ctx, v_new);
  v_journal uuid := base.derive_id(p_ctx.command_id, 'journal', 0);
  v_clearing uuid;
  v_old ledger.crossings;
  v_differs text;
  v_results text[];
begin
  if v_refusal.code is not null then
    return v_refusal;
  end if;
  select * into v_old from ledger.crossings x where x.ledger_id = p_ctx.ledger_id and x.group_id = v_new.group_id;
  if found then
    v_differs := case when v_old.direction <> v_new.direction then 'direction'
      when v_old.peer_ledger_id <> v_new.peer_ledger_id then 'peer_ledger_id' when v_old.account_id <> v_new.account_id then 'account_id'
      when v_old.asset_id <> v_new.asset_id then 'asset_id' when v_old.amount <> v_new.amount then 'amount' end;
    if v_differs is not null then
      return base.refusal('UL503', 'agent', p_ctx.actor_id, format('group %s crossed here with another %s', v_new.group_id, v_differs));
    end if;
    return row('ok', 'crossing', v_old.group_id, ledger.cross_facts(v_old) || '{"exists": true}', null)::base.outcome;
  end if;
  v_refusal := ledger.cross_refusal(p_ctx, v_new);
  if v_refusal.code is not null then
    return v_refusal;
  end if;
  v_clearing := ledger.open_account(p_ctx, v_new.asset_id, 'clearing', null, ledger.peer_ref(v_new.peer_ledger_id));
  v_results := ledger.post_transfers(p_ctx, v_journal, array[row(v_new.transfer_id, 'plain',
    case p_direction when 'out' then v_new.account_id else v_clearing end, case p_direction when 'out' then v_clearing else v_new.account_id end,
    v_new.asset_id, v_new.amount, null, null, false, case p_direction when 'out' then 'send_across' else 'receive_across' end,
    0, null, null)::ledger.transfer_input]);
  if v_results <> '{ok}' then
    raise exception using errcode = 'UL901', message = format('a crossing that had been checked was refused: %s', v_results[1]);
  end if;
  insert into ledger.crossings select v_new.*;
  return row('ok', 'crossing', v_new.group_id, ledger.cross_facts(v_new) || jsonb_build_object('journal_id', v_journal), null)::base.outcome;
end $$;
comment on function ledger.cross(base.command_context, text, jsonb) is
  'Posts one half of a crossing; p_direction out or in. Same group and content again: ok with "exists". Refuses UL101 amount, UL104 malformed, UL106 account of another asset, UB105 id, UL302 not the operator''s to move, UL402 asset, UL403 account, UL503 same group with other content, UL601 closed, UL701 overflow, UL702 funds; raises UL901 if a checked posting fails.';

create or replace function ledger.cross_peer(p_value jsonb) returns integer
language sql immutable parallel safe as $$
  select case when jsonb_typeof(p_value) = 'number' and p_value #>> '{}' ~ '^[1-9][0-9]{0,9}$'
              then case when (p_value #>> '{}')::bigint <= 2147483647 then (p_value #>> '{}')::integer end end
$$;
comment on function ledger.cross_peer(jsonb) is 'JSON number to the id of a ledger; NULL when it is none. Raises nothing.';

create or replace function ledger.cross_fault(p_ctx base.command_context, p_new ledger.crossings) returns base.outcome
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_fault text := case
    when p_new.group_id is null then 'group_id must be a UUIDv7'
    when p_new.peer_ledger_id is null then 'peer_ledger_id must be the number of a ledger'
    when p_new.peer_ledger_id = p_new.ledger_id then 'peer_ledger_id is this ledger: post a transfer'
    when p_new.account_id is null then 'account_id must be the id of an account'
    when p_new.asset_id is null then 'asset_id must name an asset' end;
begin
  if v_fault is not null then
    return base.refusal('UL104', 'agent', p_ctx.actor_id, v_fault);
  elsif p_new.amount is null or p_new.amount = 0 then
    return base.refusal('UL101', 'agent', p_ctx.actor_id, 'amount must be a whole number of minor units above zero, of at most 28 digits');
  end if;
  return null;
end $$;
comment on function ledger.cross_fault(base.command_context, ledger.crossings) is 'UL104 or UL101 for what is malformed; a NULL outcome: nothing.';

-- Everything that the books would refuse, asked before anything is written.
create or replace function ledger.cross_refusal(p_ctx base.command_context, p_new ledger.crossings) returns base.outcome
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_account ledger.accounts;
  v_clearing ledger.accounts;
begin
  if not base.id_in_window(p_new.group_id, p_ctx.at) then
    return base.refusal('UB105', 'agent', p_ctx.actor_id, 'group_id must be a UUIDv7 made within 24 hours of now');
  elsif not exists (select from ledger.assets s where s.asset_id = p_new.asset_id) then
    return base.refusal('UL402', 'agent', p_ctx.actor_id, 'asset_id names no asset of this ledger');
  end if;
  select * into v_account from ledger.accounts a where a.ledger_id = p_ctx.ledger_id and a.account_id = p_new.account_id;
  if not found then
    return base.refusal('UL403', 'agent', p_ctx.actor_id, format('there is no account %s in this ledger', p_new.account_id));
  elsif v_account.purpose not in ('wallet', 'equity') then
    return base.refusal('UL302', 'agent', p_ctx.actor_id, 'what crosses leaves or enters a wallet or equity');
  elsif v_account.asset_id <> p_new.asset_id then
    return base.refusal('UL106', 'agent', p_ctx.actor_id, 'the account is of another asset: exchange first');
  end if;
  select * into v_clearing from ledger.accounts a where a.ledger_id = p_ctx.ledger_id
    and a.account_id = ledger.account_id(p_ctx.ledger_id, p_new.asset_id, 'clearing', null, ledger.peer_ref(p_new.peer_ledger_id));
  if v_account.closed or v_clearing.closed then
    return base.refusal('UL601', 'agent', p_ctx.actor_id, 'the account, or the clearing account for that ledger, is closed');
  elsif (case p_new.direction
      when 'out' then greatest(v_account.debits_pending + v_account.debits_posted, v_clearing.credits_pending + v_clearing.credits_posted)
      else greatest(v_account.credits_pending + v_account.credits_posted, v_clearing.debits_pending + v_clearing.debits_posted) end)
      + p_new.amount > 9999999999999999999999999999 then
    return base.refusal('UL701', 'agent', p_ctx.actor_id, 'a sum would need more than 28 digits: send less');
  elsif p_new.direction = 'out' and v_account.debits_must_not_exceed_credits
     and ledger.spendable(p_ctx.ledger_id, p_new.account_id, p_ctx.at) < p_new.amount then
    return base.refusal('UL702', 'agent', p_ctx.actor_id, 'the account cannot spare the amount');
  end if;
  return null;
end $$;
comment on function ledger.cross_refusal(base.command_context, ledger.crossings) is
  'UB105, UL402, UL403, UL302, UL106, UL601, UL701 or UL702; a NULL outcome: none.';

create or replace function ledger.cross_facts(p_crossing ledger.crossings) returns jsonb
language sql immutable parallel safe as $$
  select jsonb_build_object('group_id', p_crossing.group_id, 'direction', p_crossing.direction, 'peer_ledger_id', p_crossing.peer_ledger_id,
    'account_id', p_crossing.account_id, 'asset_id', p_crossing.asset_id, 'amount', p_crossing.amount::text, 'transfer_id', p_crossing.transfer_id)
$$;
comment on function ledger.cross_facts(ledger.crossings) is 'Facts of a crossing''s receipt.';
