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
  v_forbidden record;
  v_results text[];
begin
  v_count := case when jsonb_typeof(p_args -> 'items') = 'array' then jsonb_array_length(p_args -> 'items') end;
  if v_count is null or v_count not between 1 and 8190 then
    return base.refusal('UL103', 'agent', p_ctx.actor_id, 'items must be a list of 1 to 8190 transfers: split a longer one');
  end if;
  select array_agg(ledger.post_transfers_command_item(e.item) order by e.n) into v_items
    from jsonb_array_elements(p_args -> 'items') with ordinality as e (item, n);
  -- Accounts an item names, and those of a hold it would end.
  select i.n, a.purpose into v_forbidden
    from unnest(v_items) with ordinality as i (transfer_id, kind, debit_account_id, credit_account_id, asset_id, amount, pending_id,
           timeout_ms, linked, reason, flags, reverses_id, effective_at, n)
    left join ledger.transfers t on t.ledger_id = p_ctx.ledger_id and t.transfer_id = i.pending_id
    join ledger.accounts a on a.ledger_id = p_ctx.ledger_id
     and a.account_id in (i.debit_account_id, i.credit_account_id, t.debit_account_id, t.credit_account_id)
   where a.purpose not in ('equity', 'external', 'wallet', 'liquidity')
   order by i.n, a.purpose limit 1;
  if found then
    return base.refusal('UL301', 'agent', p_ctx.actor_id, format(
      'item %s touches a %s account: only equity, external, wallet and liquidity accounts are the operator''s to post to', v_forbidden.n, v_forbidden.purpose));
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
  'Handler of kind post_transfers (items: TransferItem). ok, with one result per item in facts.results, even when every item failed. Refuses UL103 number of items, UL301 an account that is not the operator''s to post to.';

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
