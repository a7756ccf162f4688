-- An account's posted balances by event time: as recorded then, and what was told later of events up to then. The second part
-- reads the account's entries in the small indexes of late-told transfers only.
create or replace function ledger.balance_effective_at(p_ledger_id integer, p_account_id uuid, p_at timestamptz,
  out debits_posted numeric, out credits_posted numeric)
language plpgsql stable security invoker parallel safe as $$
declare
  v_seq constant bigint := ledger.seq_at(p_ledger_id, p_at);
begin
  select b.debits_posted + coalesce((
           select sum(t.amount) from ledger.transfers t
            where t.ledger_id = p_ledger_id and t.debit_account_id = p_account_id and t.effective_at is not null
              and t.effective_at <= p_at and t.seq > v_seq), 0),
         b.credits_posted + coalesce((
           select sum(t.amount) from ledger.transfers t
            where t.ledger_id = p_ledger_id and t.credit_account_id = p_account_id and t.effective_at is not null
              and t.effective_at <= p_at and t.seq > v_seq), 0)
    into debits_posted, credits_posted
    from ledger.balance_at(p_ledger_id, p_account_id, v_seq) as b;
end $$;
comment on function ledger.balance_effective_at(integer, uuid, timestamptz) is
  'What had left and arrived by event time p_at, minor units, as far as it is known now. NULLs for an account that was never opened.';
