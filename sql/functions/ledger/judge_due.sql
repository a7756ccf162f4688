-- Open holds whose time has passed, of an account's debit side, of an account's credit side, or both. Two index lookups: an
-- OR would leave the choice of plan to luck.
create or replace function ledger.judge_due(p_ledger_id integer, p_at timestamptz, p_debit uuid, p_credit uuid, p_except uuid[])
returns table (transfer_id uuid, debit_account_id uuid, credit_account_id uuid, amount numeric, journal_id uuid)
language sql stable security invoker parallel safe set search_path = pg_catalog, pg_temp as $$
  select x.transfer_id, x.debit_account_id, x.credit_account_id, x.amount, t.journal_id
    from (select h.* from ledger.holds h
           where h.ledger_id = p_ledger_id and h.debit_account_id = p_debit and h.state = 'pending' and h.timeout_at <= p_at
          union
          select h.* from ledger.holds h
           where h.ledger_id = p_ledger_id and h.credit_account_id = p_credit and h.state = 'pending' and h.timeout_at <= p_at) as x
    join ledger.transfers t on t.ledger_id = p_ledger_id and t.transfer_id = x.transfer_id
   where x.transfer_id <> all (p_except)
   order by x.timeout_at, x.transfer_id
$$;
comment on function ledger.judge_due(integer, timestamptz, uuid, uuid, uuid[]) is
  'Expired but unwritten holds of a debit account and of a credit account (NULL: leave that side out), oldest timeout first, without those in p_except.';
