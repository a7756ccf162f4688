-- The people's name of payouts.payout_reconciliation, which the audit views of that domain build on.
create or replace view finance.payout_reconciliation as
select * from payouts.payout_reconciliation;
comment on view finance.payout_reconciliation is
  'Per payee and asset: earned (settlement legs) = paid (confirmed payouts) + reserved + payable (the books'' balance). difference, paid_difference and reserved_difference must be 0 on every row. Minor units.';
