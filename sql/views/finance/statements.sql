create or replace view finance.statements as
select p.ledger_id, p.payee_id, p.payable_id, p.at as earned_at, p.order_id, l.role, s.code as asset, s.scale, p.amount as amount_minor,
       round(p.amount / power(10::numeric, s.scale), s.scale) as amount, y.payout_id, y.state as payout_state,
       case when y.state = 'confirmed' then y.closed_at end as paid_at, y.rail_reference
  from payouts.payables p
  join ledger.assets s on s.asset_id = p.asset_id
  join splits.legs l on l.ledger_id = p.ledger_id and l.order_id = p.order_id and l.n = p.leg_n
  left join payouts.payout_items i on i.ledger_id = p.ledger_id and i.payable_id = p.payable_id and not i.released
  left join payouts.payouts y on y.ledger_id = i.ledger_id and y.payout_id = i.payout_id;
comment on view finance.statements is
  'Every payable of every payee with the payout that carries it; payout columns are NULL while it is open. Filter by payee_id for one statement.';
