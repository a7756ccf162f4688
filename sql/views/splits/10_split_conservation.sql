create or replace view splits.split_conservation as
select t.ledger_id, t.order_id, s.code as asset, t.paid as paid_minor, coalesce(l.legs, 0) as legs, coalesce(l.amount, 0) as legs_minor,
       coalesce(p.amount, 0) as payables_minor, coalesce(l.moved, 0) as transfers_minor,
       t.paid - coalesce(l.amount, 0) as legs_difference_minor,
       t.paid - coalesce(p.amount, 0) as payables_difference_minor,
       t.paid - coalesce(l.moved, 0) as transfers_difference_minor
  from splits.settlements t
  join ledger.assets s on s.asset_id = t.asset_id
  left join lateral (
    select count(*) as legs, sum(g.amount) as amount, sum(x.amount) as moved from splits.legs g
      left join ledger.transfers x on x.ledger_id = g.ledger_id and x.transfer_id = g.transfer_id and x.journal_id = t.journal_id
     where g.ledger_id = t.ledger_id and g.order_id = t.order_id) l on true
  left join lateral (
    select sum(y.amount) as amount from payouts.payables y where y.ledger_id = t.ledger_id and y.order_id = t.order_id) p on true;
comment on view splits.split_conservation is
  'Per settlement: its legs, their payables and their transfers each sum to what was paid; every *_difference_minor must be 0. Minor units.';
