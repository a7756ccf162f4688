create or replace view finance.balances as
select a.ledger_id, a.account_id, a.purpose, a.owner_id, a.ref_id, s.code as asset, s.scale,
       a.credits_posted - a.debits_posted as balance_minor, a.debits_pending as reserved_out_minor, a.credits_pending as reserved_in_minor,
       a.credits_posted - a.debits_posted - a.debits_pending as spendable_minor,
       round((a.credits_posted - a.debits_posted) / power(10::numeric, s.scale), s.scale) as balance, a.closed, a.opened_at
  from ledger.accounts a join ledger.assets s on s.asset_id = a.asset_id;
comment on view finance.balances is
  'Every account. balance = credits - debits posted, in units of the asset; *_minor in whole minor units. External accounts are negative by what has come in and not left. spendable_minor counts an expired hold as reserved until its expiry is written.';
