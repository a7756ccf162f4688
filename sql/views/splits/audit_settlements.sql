create or replace view splits.audit_settlements as
select c.ledger_id, c.order_id, 'legs, payables or transfers do not sum to what was paid' as problem,
       format('paid %s, legs %s, payables %s, transfers %s', c.paid_minor, c.legs_minor, c.payables_minor, c.transfers_minor) as detail
  from splits.split_conservation c
 where c.legs_difference_minor <> 0 or c.payables_difference_minor <> 0 or c.transfers_difference_minor <> 0
union all
select t.ledger_id, t.order_id, 'settlement differs from its order',
       format('settlement %s = %s + %s, order %s = %s + %s', t.held, t.paid, t.refunded, o.held, o.paid, o.refunded)
  from splits.settlements t left join market.orders o on o.ledger_id = t.ledger_id and o.order_id = t.order_id
 where o.held is distinct from t.held or o.paid is distinct from t.paid or o.refunded is distinct from t.refunded
    or o.asset_id is distinct from t.asset_id or o.closed_seq is distinct from t.seq
union all
select l.ledger_id, l.order_id, 'leg without its transfer or payable', format('leg %s (%s): expected %s to %s', l.n, l.role, l.amount, l.payee_id)
  from splits.legs l
  join splits.settlements t on t.ledger_id = l.ledger_id and t.order_id = l.order_id
  left join ledger.transfers x on x.ledger_id = l.ledger_id and x.transfer_id = l.transfer_id
  left join ledger.accounts a on a.ledger_id = x.ledger_id and a.account_id = x.credit_account_id
  left join payouts.payables p on p.ledger_id = l.ledger_id and p.payable_id = l.payable_id
 where x.amount is distinct from l.amount or x.journal_id is distinct from t.journal_id or a.owner_id is distinct from l.payee_id
    or a.purpose is distinct from 'payable' or p.amount is distinct from l.amount or p.payee_id is distinct from l.payee_id
    or p.asset_id is distinct from t.asset_id or p.order_id is distinct from l.order_id or p.leg_n is distinct from l.n
union all
select t.ledger_id, t.order_id, 'role that the policy does not pay', format('policy %s, leg %s: %s', t.policy_id, l.n, l.role)
  from splits.settlements t
  join splits.legs l on l.ledger_id = t.ledger_id and l.order_id = t.order_id
  left join splits.policy_shares s on s.ledger_id = t.ledger_id and s.policy_id = t.policy_id and s.role = l.role and s.n = l.n
 where s.role is null;
comment on view splits.audit_settlements is
  'Empty when healthy. Settlements whose legs, payables and transfers do not sum to what was paid, or that differ from their order or policy.';
