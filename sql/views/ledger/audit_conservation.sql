-- Whatever left an account arrived in another, per ledger and asset, posted and pending alike.
create or replace view ledger.audit_conservation as
select a.ledger_id, a.asset_id, s.code as asset_code, v.phase, v.debits, v.credits, v.debits - v.credits as difference
  from (select ledger_id, asset_id, sum(debits_posted) as debits_posted, sum(credits_posted) as credits_posted,
               sum(debits_pending) as debits_pending, sum(credits_pending) as credits_pending
          from ledger.accounts group by ledger_id, asset_id) as a
  join ledger.assets s on s.asset_id = a.asset_id
  cross join lateral (values ('posted', a.debits_posted, a.credits_posted), ('pending', a.debits_pending, a.credits_pending))
    as v (phase, debits, credits)
 where v.debits <> v.credits;
comment on view ledger.audit_conservation is
  'Empty when healthy. One row per ledger, asset and phase (posted, pending) whose debits over all accounts are not its credits: minor units, and the difference.';
