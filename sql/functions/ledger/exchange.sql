-- Moves value from one asset to another. No transfer can do that, so it is two, linked: what is sold goes into the liquidity
-- account of its asset, what is bought comes out of the liquidity account of the other. Each asset is conserved by itself,
-- and the rate between them is on record with where it came from.
-- Liquidity is the market's own and is never lent: it must have been posted there before.
create or replace function ledger.exchange(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_refusal base.outcome := ledger.exchange_fault(p_ctx, p_args);
  v_id uuid := ledger.parse_id(p_args ->> 'exchange_id');
  v_from uuid := ledger.parse_id(p_args ->> 'from_account_id');
  v_to uuid := ledger.parse_id(p_args ->> 'to_account_id');
  v_sell numeric := base.parse_amount(p_args ->> 'sell_amount');
  v_rate numeric := ledger.exchange_rate(p_args ->> 'rate');
  v_buy numeric;
  v_journal uuid := base.derive_id(p_ctx.command_id, 'journal', 0);
  v_sell_asset integer;
  v_buy_asset integer;
  v_old ledger.exchanges;
  v_results text[];
begin
  if v_refusal.code is not null then
    return v_refusal;
  end if;
  select * into v_old from ledger.exchanges x where x.ledger_id = p_ctx.ledger_id and x.exchange_id = v_id;
  if found then
    return ledger.exchange_again(p_ctx, v_old, v_from, v_to, v_sell, v_rate, p_args ->> 'rate_source');
  end if;
  if not base.id_in_window(v_id, p_ctx.at) then
    return base.refusal('UB105', 'agent', p_ctx.actor_id, 'exchange_id must be a UUIDv7 made within 24 hours of now');
  end if;
  select min(a.asset_id) filter (where a.account_id = v_from), min(a.asset_id) filter (where a.account_id = v_to)
    into v_sell_asset, v_buy_asset
    from ledger.accounts a where a.ledger_id = p_ctx.ledger_id and a.account_id in (v_from, v_to);
  v_buy := trunc(v_sell * v_rate);
  v_refusal := ledger.exchange_refusal(p_ctx, v_from, v_to, v_sell_asset, v_buy_asset, v_sell, v_buy,
    coalesce(base.parse_amount(p_args ->> 'min_buy_amount'), 0));
  if v_refusal.code is not null then
    return v_refusal;
  end if;
  insert into ledger.exchanges (ledger_id, exchange_id, sell_transfer_id, buy_transfer_id, sell_asset_id, buy_asset_id, sell_amount,
    buy_amount, rate, rate_source, seq, at)
  values (p_ctx.ledger_id, v_id, base.derive_id(p_ctx.command_id, 'transfer', 1), base.derive_id(p_ctx.command_id, 'transfer', 2),
    v_sell_asset, v_buy_asset, v_sell, v_buy, v_rate, p_args ->> 'rate_source', p_ctx.seq, p_ctx.at)
  returning * into v_old;
  v_results := ledger.post_transfers(p_ctx, v_journal, array[
    row(v_old.sell_transfer_id, 'plain', v_from, ledger.open_account(p_ctx, v_sell_asset, 'liquidity', null, null), v_sell_asset, v_sell,
      null, null, true, 'exchange', 0, null, null)::ledger.transfer_input,
    row(v_old.buy_transfer_id, 'plain', ledger.open_account(p_ctx, v_buy_asset, 'liquidity', null, null), v_to, v_buy_asset, v_buy,
      null, null, false, 'exchange', 0, null, null)::ledger.transfer_input]);
  if v_results <> '{ok,ok}' then
    raise exception using errcode = 'UL901', message = format('an exchange that had been checked was refused: %s', array_to_string(v_results, ', '));
  end if;
  return row('ok', 'exchange', v_id, ledger.exchange_facts(v_old, v_from, v_to, v_journal), null)::base.outcome;
end $$;
comment on function ledger.exchange(base.command_context, jsonb) is
  'Handler of kind exchange (exchange_id, from_account_id, to_account_id, sell_amount, rate, rate_source, min_buy_amount). buy_amount = sell_amount x rate, rounded down. Refuses UL101 amount, UL104 malformed, UL105 rate, UL106 one asset, UL107 rounds to nothing, UB105 id, UL302 not the operator''s to move, UL403 account, UL502 same id with other content, UL601 closed, UL701 overflow, UL702 funds, UL703 liquidity, UL704 below min_buy_amount; raises UL901 if a checked posting fails.';

-- A rate as text: up to 28 digits on either side of the point, above zero. The pattern comes first: a cast would take NaN,
-- exponents and blanks.
create or replace function ledger.exchange_rate(p_text text) returns numeric
language sql immutable parallel safe as $$
  select case when p_text ~ '^[0-9]{1,28}([.][0-9]{1,28})?$' then nullif(p_text::numeric, 0) end
$$;
comment on function ledger.exchange_rate(text) is 'Text to an exact rate; NULL unless it is a decimal above zero of at most 28 digits before and after the point.';

create or replace function ledger.exchange_fault(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_fault text := case
    when ledger.parse_id(p_args ->> 'exchange_id') is null then 'exchange_id must be a UUIDv7'
    when ledger.parse_id(p_args ->> 'from_account_id') is null then 'from_account_id must be the id of an account'
    when ledger.parse_id(p_args ->> 'to_account_id') is null then 'to_account_id must be the id of an account'
    when coalesce(p_args ->> 'rate_source', '') !~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$'
      then 'rate_source must be 1 to 64 letters, digits or . _ : / - and begin with a letter or digit' end;
begin
  if v_fault is not null then
    return base.refusal('UL104', 'agent', p_ctx.actor_id, v_fault);
  elsif coalesce(base.parse_amount(p_args ->> 'sell_amount'), 0) = 0
     or (coalesce(p_args ->> 'min_buy_amount', '') <> '' and base.parse_amount(p_args ->> 'min_buy_amount') is null) then
    return base.refusal('UL101', 'agent', p_ctx.actor_id,
      'sell_amount, and min_buy_amount where it is given, must be whole minor units above zero, of at most 28 digits');
  elsif ledger.exchange_rate(p_args ->> 'rate') is null then
    return base.refusal('UL105', 'agent', p_ctx.actor_id,
      'rate must be a decimal above zero with at most 28 digits before and after the point: minor units bought for one minor unit sold');
  end if;
  return null;
end $$;
comment on function ledger.exchange_fault(base.command_context, jsonb) is 'UL104, UL101 or UL105 for what is malformed; a NULL outcome: nothing.';

-- Everything that the books would refuse, asked before anything is written.
create or replace function ledger.exchange_refusal(p_ctx base.command_context, p_from uuid, p_to uuid, p_sell_asset integer,
  p_buy_asset integer, p_sell numeric, p_buy numeric, p_min_buy numeric) returns base.outcome
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_in uuid := ledger.account_id(p_ctx.ledger_id, p_sell_asset, 'liquidity', null, null);
  v_out uuid := ledger.account_id(p_ctx.ledger_id, p_buy_asset, 'liquidity', null, null);
begin
  if p_sell_asset is null or p_buy_asset is null then
    return base.refusal('UL403', 'agent', p_ctx.actor_id, format('there is no account %s in this ledger', case when p_sell_asset is null then p_from else p_to end));
  elsif exists (select from ledger.accounts a where a.ledger_id = p_ctx.ledger_id and a.account_id in (p_from, p_to)
                  and a.purpose not in ('wallet', 'equity')) then
    return base.refusal('UL302', 'agent', p_ctx.actor_id, 'both accounts of an exchange must be wallets or equity');
  elsif p_sell_asset = p_buy_asset then
    return base.refusal('UL106', 'agent', p_ctx.actor_id, 'both accounts are of one asset: post a transfer');
  elsif p_buy = 0 then
    return base.refusal('UL107', 'agent', p_ctx.actor_id, 'what this buys rounds down to nothing: sell more');
  elsif exists (select from ledger.accounts a where a.ledger_id = p_ctx.ledger_id and a.account_id in (p_from, p_to, v_in, v_out) and a.closed) then
    return base.refusal('UL601', 'agent', p_ctx.actor_id, 'one of the accounts, or a liquidity account of their assets, is closed');
  elsif p_buy > 9999999999999999999999999999
     or exists (select from ledger.accounts a where a.ledger_id = p_ctx.ledger_id
                 and (a.account_id in (p_from, v_out) and a.debits_pending + a.debits_posted
                        + case a.account_id when p_from then p_sell else p_buy end > 9999999999999999999999999999
                   or a.account_id in (p_to, v_in) and a.credits_pending + a.credits_posted
                        + case a.account_id when p_to then p_buy else p_sell end > 9999999999999999999999999999)) then
    return base.refusal('UL701', 'agent', p_ctx.actor_id, 'a sum would need more than 28 digits: exchange less');
  elsif p_buy < p_min_buy then
    return base.refusal('UL704', 'agent', p_ctx.actor_id, format('this rate buys %s, less than min_buy_amount', p_buy));
  elsif exists (select from ledger.accounts a where a.ledger_id = p_ctx.ledger_id and a.account_id = p_from and a.debits_must_not_exceed_credits)
     and ledger.spendable(p_ctx.ledger_id, p_from, p_ctx.at) < p_sell then
    return base.refusal('UL702', 'agent', p_ctx.actor_id, 'the account that sells cannot spare sell_amount');
  elsif ledger.spendable(p_ctx.ledger_id, v_out, p_ctx.at) < p_buy then
    return base.refusal('UL703', 'agent', p_ctx.actor_id, format('the liquidity of the asset bought cannot give %s: fund it by post_transfers, or exchange less', p_buy));
  end if;
  return null;
end $$;
comment on function ledger.exchange_refusal(base.command_context, uuid, uuid, integer, integer, numeric, numeric, numeric) is
  'UL403, UL302, UL106, UL107, UL601, UL701, UL704, UL702 or UL703; a NULL outcome: none. NULL asset: no such account.';

create or replace function ledger.exchange_again(p_ctx base.command_context, p_old ledger.exchanges, p_from uuid, p_to uuid,
  p_sell numeric, p_rate numeric, p_rate_source text) returns base.outcome
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when d.field is null
    then row('ok', 'exchange', p_old.exchange_id, ledger.exchange_facts(p_old, s.debit_account_id, b.credit_account_id, s.journal_id)
      || '{"exists": true}', null)::base.outcome
    else base.refusal('UL502', 'agent', p_ctx.actor_id, format('exchange %s was made with another %s', p_old.exchange_id, d.field)) end
  from ledger.transfers s
  join ledger.transfers b on b.ledger_id = s.ledger_id and b.transfer_id = p_old.buy_transfer_id
  cross join lateral (select case
    when s.debit_account_id <> p_from then 'from_account_id'
    when b.credit_account_id <> p_to then 'to_account_id'
    when p_old.sell_amount <> p_sell then 'sell_amount'
    when p_old.rate <> p_rate then 'rate'
    when p_old.rate_source <> p_rate_source then 'rate_source' end as field) as d
 where s.ledger_id = p_old.ledger_id and s.transfer_id = p_old.sell_transfer_id
$$;
comment on function ledger.exchange_again(base.command_context, ledger.exchanges, uuid, uuid, numeric, numeric, text) is
  'Same content again: ok with "exists". Other content: UL502, naming the first field that differs (min_buy_amount is not compared: it is not kept).';

create or replace function ledger.exchange_facts(p_exchange ledger.exchanges, p_from uuid, p_to uuid, p_journal_id uuid) returns jsonb
language sql immutable parallel safe as $$
  select jsonb_build_object('exchange_id', p_exchange.exchange_id, 'from_account_id', p_from, 'to_account_id', p_to,
    'sell_asset_id', p_exchange.sell_asset_id, 'sell_amount', p_exchange.sell_amount::text, 'sell_transfer_id', p_exchange.sell_transfer_id,
    'buy_asset_id', p_exchange.buy_asset_id, 'buy_amount', p_exchange.buy_amount::text, 'buy_transfer_id', p_exchange.buy_transfer_id,
    'rate', p_exchange.rate::text, 'rate_source', p_exchange.rate_source, 'journal_id', p_journal_id)
$$;
comment on function ledger.exchange_facts(ledger.exchanges, uuid, uuid, uuid) is 'Facts of an exchange''s receipt.';
