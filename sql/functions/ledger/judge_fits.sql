-- Does the amount fit the balances? Pending amounts count against limits; expired ones are already taken out.
create or replace function ledger.judge_fits(p_kind text, p_amount numeric, p_timeout_ms bigint,
  p_debits_pending numeric, p_debits_posted numeric, p_debit_limit numeric, p_debit_limited boolean,
  p_credits_pending numeric, p_credits_posted numeric, p_credit_limit numeric, p_credit_limited boolean) returns text
language sql immutable parallel safe as $$
  select case
    when p_kind = 'pending' and p_debits_pending + p_amount > 9999999999999999999999999999 then 'overflows_debits_pending'
    when p_kind = 'pending' and p_credits_pending + p_amount > 9999999999999999999999999999 then 'overflows_credits_pending'
    when p_debits_posted + p_amount > 9999999999999999999999999999 then 'overflows_debits_posted'
    when p_credits_posted + p_amount > 9999999999999999999999999999 then 'overflows_credits_posted'
    when p_debits_pending + p_debits_posted + p_amount > 9999999999999999999999999999 then 'overflows_debits'
    when p_credits_pending + p_credits_posted + p_amount > 9999999999999999999999999999 then 'overflows_credits'
    when p_timeout_ms > 315360000000000 then 'overflows_timeout'
    when p_debit_limited and p_debits_pending + p_debits_posted + p_amount > p_debit_limit then 'exceeds_credits'
    when p_credit_limited and p_credits_pending + p_credits_posted + p_amount > p_credit_limit then 'exceeds_debits'
    else 'ok' end
$$;
comment on function ledger.judge_fits(text, numeric, bigint, numeric, numeric, numeric, boolean, numeric, numeric, numeric, boolean) is
  'Result as far as overflow and limits decide it. p_debit_limit: the debit account''s credits_posted; p_credit_limit: the credit account''s debits_posted. A timeout over 10,000 years overflows.';
