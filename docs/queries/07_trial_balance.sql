-- The trial balance. The row 'total' of each asset must show the same debits and credits. Role: finance.
select t.asset, t.purpose, t.accounts, t.debits_minor, t.credits_minor, t.balance_minor, t.debits_pending_minor
  from finance.trial_balance t
 order by t.ledger_id, t.asset, t.purpose = 'total', t.purpose;
