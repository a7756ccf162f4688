-- What do we owe to whom, and what has the rail not answered yet?
select asset, purpose, accounts, balance_minor
  from finance.trial_balance
 order by asset, purpose;

select *
  from finance.payables
 order by payee_id;
