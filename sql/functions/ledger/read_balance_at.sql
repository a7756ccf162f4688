-- One account's balances at a moment, on either time axis, for its owner and the operator.
create or replace function ledger.read_balance_at(p_actor uuid, p_ledger_id integer, p_account_id uuid, p_at timestamptz, p_by text)
returns table (debits_pending numeric, debits_posted numeric, credits_pending numeric, credits_posted numeric)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select case when p_by = 'event' then null else r.debits_pending end, case when p_by = 'event' then e.debits_posted else r.debits_posted end,
         case when p_by = 'event' then null else r.credits_pending end, case when p_by = 'event' then e.credits_posted else r.credits_posted end
    from ledger.accounts a
    left join lateral ledger.balance_at(p_ledger_id, a.account_id, ledger.seq_at(p_ledger_id, p_at)) as r on p_by is distinct from 'event'
    left join lateral ledger.balance_effective_at(p_ledger_id, a.account_id, p_at) as e on p_by = 'event'
   where a.ledger_id = p_ledger_id and a.account_id = p_account_id and p_actor is not null
     and (a.owner_id = p_actor or ledger.reads_all(p_actor))
$$;
comment on function ledger.read_balance_at(uuid, integer, uuid, timestamptz, text) is
  'Balances at p_at, minor units. p_by record: as the books stood then; event: posted balances of what had happened by then, pending NULL. One row, or none when it is not the actor''s to see.';
