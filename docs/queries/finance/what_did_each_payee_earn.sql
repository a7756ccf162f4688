-- What each payee earned, by role and day; add "where payee_id = ..." for one statement. Role: finance.
select s.payee_id, (s.earned_at at time zone 'UTC')::date as day, s.role, s.asset, count(*) as legs, sum(s.amount) as amount,
       sum(s.amount) filter (where s.payout_state = 'confirmed') as paid
  from finance.statements s
 group by s.payee_id, day, s.role, s.asset
 order by s.payee_id, day, s.role, s.asset;
