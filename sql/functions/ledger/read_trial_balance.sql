-- The trial balance at a moment on either axis, for the operator: debits and credits per asset and purpose.
create or replace function ledger.read_trial_balance(p_actor uuid, p_ledger_id integer, p_at timestamptz, p_by text)
returns table (asset_code text, scale smallint, purpose text, accounts bigint, debits numeric, credits numeric, debits_pending numeric, credits_pending numeric)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.code, s.scale, a.purpose, count(*), sum(b.debits_posted), sum(b.credits_posted), sum(b.debits_pending), sum(b.credits_pending)
    from ledger.balances_at(p_ledger_id, p_at, p_by) as b
    join ledger.accounts a on a.ledger_id = p_ledger_id and a.account_id = b.account_id
    join ledger.assets s on s.asset_id = a.asset_id
   where ledger.reads_all(p_actor) and (p_at is null or a.opened_at <= p_at or p_by = 'event')
   group by s.code, s.scale, a.purpose
   order by s.code, a.purpose
$$;
comment on function ledger.read_trial_balance(uuid, integer, timestamptz, text) is
  'Per asset and purpose of account: how many, and their debits and credits at p_at (NULL: now), minor units; over one asset they are equal. p_by record or event. Nothing for anybody but the operator.';
