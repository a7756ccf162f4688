create or replace view payouts.payout_reconciliation as
with earned as (
  select l.ledger_id, l.payee_id, t.asset_id, sum(l.amount) as amount
    from splits.legs l join splits.settlements t on t.ledger_id = l.ledger_id and t.order_id = l.order_id
   group by l.ledger_id, l.payee_id, t.asset_id),
sent as (
  select p.ledger_id, p.payee_id, p.asset_id, coalesce(sum(p.amount) filter (where p.state = 'confirmed'), 0) as paid,
         coalesce(sum(p.amount) filter (where p.state = 'reserved'), 0) as reserved
    from payouts.payouts p group by p.ledger_id, p.payee_id, p.asset_id),
booked as (
  select a.ledger_id, a.owner_id as payee_id, a.asset_id, sum(a.credits_posted - a.debits_posted - a.debits_pending) as payable,
         sum(a.debits_posted) as debits_posted, sum(a.debits_pending) as debits_pending
    from ledger.accounts a where a.purpose = 'payable' group by a.ledger_id, a.owner_id, a.asset_id)
select ledger_id, payee_id, s.code as asset, s.scale,
       coalesce(e.amount, 0) as earned_minor, coalesce(t.paid, 0) as paid_minor, coalesce(t.reserved, 0) as reserved_minor,
       coalesce(b.payable, 0) as payable_minor,
       coalesce(e.amount, 0) - coalesce(t.paid, 0) - coalesce(t.reserved, 0) - coalesce(b.payable, 0) as difference,
       -- The books must agree with the payouts one by one, not only in sum.
       coalesce(b.debits_posted, 0) - coalesce(t.paid, 0) as paid_difference,
       coalesce(b.debits_pending, 0) - coalesce(t.reserved, 0) as reserved_difference
  from earned e
  full join sent t using (ledger_id, payee_id, asset_id)
  full join booked b using (ledger_id, payee_id, asset_id)
  join ledger.assets s using (asset_id);
comment on view payouts.payout_reconciliation is
  'Per payee and asset: earned (settlement legs) = paid (confirmed payouts) + reserved + payable (the books'' balance). difference, paid_difference and reserved_difference must be 0 on every row. Minor units.';
