-- The people's name of payouts.payable_totals, which the audit views of that domain build on.
create or replace view finance.payables as
select * from payouts.payable_totals;
comment on view finance.payables is
  'What each payee is owed, by payable: open (in no payout), reserved (in a payout that the rail has not answered) and paid. Minor units.';
