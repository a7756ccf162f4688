-- Debits equal credits per asset, and each payee's earnings are paid, reserved or payable: both queries must find nothing.
select asset, debits_minor, credits_minor, balance_minor
  from finance.trial_balance
 where purpose = 'total' and balance_minor <> 0;

select *
  from finance.payout_reconciliation
 where difference <> 0 or paid_difference <> 0 or reserved_difference <> 0;
