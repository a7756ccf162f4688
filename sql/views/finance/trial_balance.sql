create or replace view finance.trial_balance as
select a.ledger_id, s.code as asset, s.scale, coalesce(a.purpose, 'total') as purpose, count(*) as accounts,
       sum(a.debits_posted) as debits_minor, sum(a.credits_posted) as credits_minor,
       sum(a.credits_posted) - sum(a.debits_posted) as balance_minor,
       sum(a.debits_pending) as debits_pending_minor, sum(a.credits_pending) as credits_pending_minor
  from ledger.accounts a join ledger.assets s on s.asset_id = a.asset_id
 group by grouping sets ((a.ledger_id, s.code, s.scale, a.purpose), (a.ledger_id, s.code, s.scale));
comment on view finance.trial_balance is
  'Debits and credits per asset and account purpose, with a row ''total'' per asset: there debits = credits, so balance_minor is 0. Minor units.';
