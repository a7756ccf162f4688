create or replace view payouts.audit_payouts as
select y.ledger_id, y.payout_id, y.payee_id, 'amount is not the sum of its payables' as problem,
       format('payout %s, payables %s', y.amount, coalesce(sum(p.amount), 0)) as detail
  from payouts.payouts y
  left join payouts.payout_items i on i.ledger_id = y.ledger_id and i.payout_id = y.payout_id
  left join payouts.payables p on p.ledger_id = i.ledger_id and p.payable_id = i.payable_id
 group by y.ledger_id, y.payout_id, y.payee_id, y.amount
having coalesce(sum(p.amount), 0) <> y.amount
union all
select y.ledger_id, y.payout_id, y.payee_id, 'payable of another payee or asset, or released while the payout stands',
       format('payable %s of %s', i.payable_id, p.payee_id)
  from payouts.payouts y
  join payouts.payout_items i on i.ledger_id = y.ledger_id and i.payout_id = y.payout_id
  left join payouts.payables p on p.ledger_id = i.ledger_id and p.payable_id = i.payable_id
 where p.payee_id is distinct from y.payee_id or p.asset_id is distinct from y.asset_id or i.released <> (y.state = 'failed')
union all
select y.ledger_id, y.payout_id, y.payee_id, 'the books do not hold, or end, its pending transfer as its state says',
       format('payout is %s, hold is %s', y.state, h.state)
  from payouts.payouts y
  left join ledger.transfers t on t.ledger_id = y.ledger_id and t.transfer_id = y.pending_transfer_id
  left join ledger.accounts a on a.ledger_id = t.ledger_id and a.account_id = t.debit_account_id
  left join ledger.holds h on h.ledger_id = y.ledger_id and h.transfer_id = y.pending_transfer_id
  left join ledger.transfers e on e.ledger_id = h.ledger_id and e.transfer_id = h.ended_by
 where t.amount is distinct from y.amount or a.owner_id is distinct from y.payee_id or a.purpose is distinct from 'payable'
    or t.asset_id is distinct from y.asset_id
    or h.state is distinct from case y.state when 'reserved' then 'pending' when 'confirmed' then 'posted' else 'voided' end
    or (y.state = 'confirmed' and e.amount is distinct from y.amount)
union all
select r.ledger_id, null, r.payee_id, 'earned is not paid + reserved + payable',
       format('%s: earned %s, paid %s, reserved %s, payable %s', r.asset, r.earned_minor, r.paid_minor, r.reserved_minor, r.payable_minor)
  from payouts.payout_reconciliation r
 where r.difference <> 0 or r.paid_difference <> 0 or r.reserved_difference <> 0
union all
select r.ledger_id, null, r.payee_id, 'open payables are not what the books owe',
       format('%s: open payables %s, books %s', r.asset, coalesce(p.open_minor, 0), r.payable_minor)
  from payouts.payout_reconciliation r
  left join payouts.payable_totals p on p.ledger_id = r.ledger_id and p.payee_id = r.payee_id and p.asset = r.asset
 where coalesce(p.open_minor, 0) <> r.payable_minor;
comment on view payouts.audit_payouts is
  'Empty when healthy. Payouts that disagree with their payables or with the books, and payees whose earned is not paid + reserved + payable.';
