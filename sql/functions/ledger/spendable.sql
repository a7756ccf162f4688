-- What an account can still pay out. Holds past their timeout are free at once, whether or not their expiry is written yet.
create or replace function ledger.spendable(p_ledger_id integer, p_account_id uuid, p_at timestamptz) returns numeric
language sql stable security invoker parallel safe set search_path = pg_catalog, pg_temp as $$
  select coalesce((
    select a.credits_posted - a.debits_posted - a.debits_pending
      + case when a.debits_pending = 0 then 0 else (
          select coalesce(sum(h.amount), 0) from ledger.holds h
           where h.ledger_id = p_ledger_id and h.debit_account_id = p_account_id and h.state = 'pending' and h.timeout_at <= p_at) end
      from ledger.accounts a where a.ledger_id = p_ledger_id and a.account_id = p_account_id), 0)
$$;
comment on function ledger.spendable(integer, uuid, timestamptz) is
  'Minor units: credits_posted - debits_posted - debits_pending, with holds expired at p_at counted as free. 0 for an account never opened. Raises nothing.';
