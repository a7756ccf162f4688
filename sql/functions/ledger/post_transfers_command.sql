-- The operator's own postings. What is wrong with an item is that item's result; what is wrong with the request, or an
-- account that the operator has no business with, refuses the whole command: escrow moves by market transitions only,
-- payables by payouts only, clearing by crossings only.
-- The market's own accounts (equity, external, liquidity) are opened here when an item first names one: nobody else would,
-- and their ids can be computed by anybody (ledger.account_id).
create or replace function ledger.post_transfers_command(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_items ledger.transfer_input[];
  v_count integer;
  v_journal uuid := base.derive_id(p_ctx.command_id, 'journal', 0);
  v_forbidden text;
  v_results text[];
begin
  v_count := case when jsonb_typeof(p_args -> 'items') = 'array' then jsonb_array_length(p_args -> 'items') end;
  if v_count is null or v_count not between 1 and 8190 then
    return base.refusal('UL103', 'agent', p_ctx.actor_id, 'items must be a list of 1 to 8190 transfers: split a longer one');
  end if;
  select array_agg(ledger.post_transfers_command_item(e.item) order by e.n) into v_items
    from jsonb_array_elements(p_args -> 'items') with ordinality as e (item, n);
  v_forbidden := ledger.post_transfers_command_forbidden(p_ctx.ledger_id, p_ctx.rules_version, v_items);
  if v_forbidden is not null then
    return base.refusal('UL301', 'agent', p_ctx.actor_id, v_forbidden);
  end if;
  -- Commands of rules 1 found such accounts missing, and must find them so again.
  if p_ctx.rules_version >= 2 then
    perform ledger.open_account(p_ctx, w.asset_id, w.purpose, null, null)
      from (select s.asset_id, u.purpose, ledger.account_id(p_ctx.ledger_id, s.asset_id, u.purpose, null, null) as account_id
              from ledger.assets s cross join (values ('equity'), ('external'), ('liquidity')) as u (purpose)) as w
     where w.account_id in (select i.debit_account_id from unnest(v_items) as i union all select i.credit_account_id from unnest(v_items) as i);
  end if;
  v_results := ledger.post_transfers(p_ctx, v_journal, v_items);
  return row('ok', 'journal', v_journal, jsonb_build_object('journal_id', v_journal, 'results', to_jsonb(v_results),
    'posted', (select count(*) from unnest(v_results) as x where x = 'ok')), null)::base.outcome;
end $$;
comment on function ledger.post_transfers_command(base.command_context, jsonb) is
  'Handler of kind post_transfers (items: TransferItem). ok, with one result per item in facts.results, even when every item failed. Refuses UL103 number of items, UL301 what is not the operator''s to do.';

-- What no operator may do, whatever its items say.
create or replace function ledger.post_transfers_command_forbidden(
  p_ledger_id integer, p_rules_version integer, p_items ledger.transfer_input[]) returns text
language plpgsql stable security invoker as $$
declare
  v_found record;
begin
  -- Accounts an item names, and those of a hold it would end.
  select i.n, a.purpose into v_found
    from unnest(p_items) with ordinality as i (transfer_id, kind, debit_account_id, credit_account_id, asset_id, amount, pending_id,
           timeout_ms, linked, reason, flags, reverses_id, effective_at, n)
    left join ledger.transfers t on t.ledger_id = p_ledger_id and t.transfer_id = i.pending_id
    join ledger.accounts a on a.ledger_id = p_ledger_id
     and a.account_id in (i.debit_account_id, i.credit_account_id, t.debit_account_id, t.credit_account_id)
   where a.purpose not in ('equity', 'external', 'wallet', 'liquidity')
   order by i.n, a.purpose limit 1;
  if found then
    return format('item %s touches a %s account: only equity, external, wallet and liquidity accounts are the operator''s to post to',
      v_found.n, v_found.purpose);
  end if;
  -- Commands of rules 1 and 2 were allowed what follows, and must be allowed it again.
  if p_rules_version < 3 then
    return null;
  end if;
  -- Refunds and payouts must always arrive. External accounts are known by their ids, as this batch may be about to open one.
  select i.n, case when a.account_id is null then 'external' else a.purpose end as purpose into v_found
    from unnest(p_items) with ordinality as i (transfer_id, kind, debit_account_id, credit_account_id, asset_id, amount, pending_id,
           timeout_ms, linked, reason, flags, reverses_id, effective_at, n)
    cross join lateral (values (i.flags & 4, i.debit_account_id), (i.flags & 8, i.credit_account_id)) as c (closes, account_id)
    left join ledger.accounts a on a.ledger_id = p_ledger_id and a.account_id = c.account_id
   where c.closes <> 0
     and (a.purpose in ('wallet', 'external')
          or c.account_id in (select ledger.account_id(p_ledger_id, s.asset_id, 'external', null, null) from ledger.assets s))
   order by i.n limit 1;
  if found then
    return format('item %s would close a %s account: refunds and payouts must always arrive, so only equity and liquidity accounts can be closed',
      v_found.n, v_found.purpose);
  end if;
  -- Half an exchange taken back would be value out of nothing: the way back is an exchange. Where rules 2 let somebody take
  -- one side back, the other may follow.
  select i.n into v_found
    from unnest(p_items) with ordinality as i (transfer_id, kind, debit_account_id, credit_account_id, asset_id, amount, pending_id,
           timeout_ms, linked, reason, flags, reverses_id, effective_at, n)
    cross join lateral (
      select x.buy_transfer_id as other_id from ledger.exchanges x where x.ledger_id = p_ledger_id and x.sell_transfer_id = i.reverses_id
      union all
      select x.sell_transfer_id from ledger.exchanges x where x.ledger_id = p_ledger_id and x.buy_transfer_id = i.reverses_id) as o
   where not exists (select from ledger.reversals r where r.ledger_id = p_ledger_id and r.reversed_id = o.other_id)
   order by i.n limit 1;
  if found then
    return format('item %s reverses one side of an exchange: exchange back at the recorded rate instead', v_found.n);
  end if;
  return null;
end $$;
comment on function ledger.post_transfers_command_forbidden(integer, integer, ledger.transfer_input[]) is
  'Why the operator may not send this batch: accounts of the market''s own machinery, closing what refunds and payouts need, half an exchange; NULL: it may.';

-- One TransferItem. What cannot be parsed becomes a value that its item is refused for, never an absent one: an absent
-- account of a post means "as in the pending transfer", so dropping a malformed id would widen what was asked.
create or replace function ledger.post_transfers_command_item(p_item jsonb) returns ledger.transfer_input
language sql stable parallel safe as $$
  select row(
    ledger.post_transfers_command_id(p_item ->> 'transfer_id'),
    p_item ->> 'kind',
    ledger.post_transfers_command_id(p_item ->> 'debit_account_id'),
    ledger.post_transfers_command_id(p_item ->> 'credit_account_id'),
    case when p_item -> 'asset_id' in ('0', 'null') then null else coalesce(ledger.parse_asset_id(p_item -> 'asset_id'), case when p_item ? 'asset_id' then -1 end) end,
    case when coalesce(p_item ->> 'amount', '') <> '' then coalesce(base.parse_amount(p_item ->> 'amount'), 'NaN') end,
    ledger.post_transfers_command_id(p_item ->> 'pending_id'),
    case when p_item ->> 'timeout_ms' ~ '^[0-9]{1,18}$' then (p_item ->> 'timeout_ms')::bigint
         when p_item ->> 'timeout_ms' is not null then -1 end,
    coalesce(p_item -> 'linked' = 'true', false),
    'operator',
    ledger.post_transfers_command_flag(p_item -> 'balancing_debit', 1) + ledger.post_transfers_command_flag(p_item -> 'balancing_credit', 2)
      + ledger.post_transfers_command_flag(p_item -> 'closing_debit', 4) + ledger.post_transfers_command_flag(p_item -> 'closing_credit', 8),
    ledger.post_transfers_command_id(p_item ->> 'reverses_id'),
    case when p_item -> 'effective_at_us' not in ('0', 'null')
         then coalesce(case when p_item ->> 'effective_at_us' ~ '^-?[0-9]{1,16}$' then base.from_us((p_item ->> 'effective_at_us')::bigint) end,
                'infinity') end)::ledger.transfer_input
$$;
comment on function ledger.post_transfers_command_item(jsonb) is
  'A TransferItem as JSON to ledger.transfer_input; unparsable ids become the all-ones id, unparsable amounts NaN, unparsable flags reserved ones, unparsable times infinity. Raises nothing.';

create or replace function ledger.post_transfers_command_flag(p_value jsonb, p_bit integer) returns smallint
language sql immutable parallel safe as $$
  select case when p_value is null or p_value in ('false', 'null') then 0 when p_value = 'true' then p_bit else 16 end::smallint
$$;
comment on function ledger.post_transfers_command_flag(jsonb, integer) is 'One flag of an item: its bit, 0, or 16 (no flag there is) for what is no boolean.';

create or replace function ledger.post_transfers_command_id(p_text text) returns uuid
language sql immutable parallel safe as $$
  select case when coalesce(p_text, '') <> '' then coalesce(ledger.parse_id(p_text), 'ffffffff-ffff-ffff-ffff-ffffffffffff') end
$$;
comment on function ledger.post_transfers_command_id(text) is 'Empty: NULL. No uuid: the all-ones id, which every check refuses.';
