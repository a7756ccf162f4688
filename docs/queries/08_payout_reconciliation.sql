-- Earned = paid + reserved + payable, per payee. Any row that this returns is an alarm. Role: finance.
select r.payee_id, r.asset, r.earned_minor, r.paid_minor, r.reserved_minor, r.payable_minor, r.difference
  from finance.payout_reconciliation r
 where r.difference <> 0 or r.paid_difference <> 0 or r.reserved_difference <> 0;

-- The largest sums that wait to be paid out.
select p.payee_id, p.asset, p.open_payables, p.open_minor, p.reserved_minor, p.oldest_open_at
  from finance.payables p
 order by p.open_minor desc
 limit 20;
